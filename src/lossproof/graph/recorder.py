"""Notes of where each operator was called, for one step at a time: ``with lossproof.recording(): loss = …``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch.overrides import TorchFunctionMode

from lossproof.graph import cuts
from lossproof.graph.cuts import Cut
from lossproof.graph.place import MACHINERY, NOTE, USER, Call, standing
from lossproof.graph.random_state import RandomState
from lossproof.graph.walk import kind_of

MOST_CUTS = 1000
"""How many cuts one recording keeps; ``cut_count`` goes on counting."""
_MOST_NUMBERS = 256

_PLAIN = (int, float)
_Parts = tuple[Any, ...]


def _both(*names: str) -> frozenset[Any]:
    """Functions and methods of these names, and those that work in place."""
    found = []
    for name in names:
        found += [getattr(home, each, None) for home in (torch, torch.Tensor) for each in (name, f"{name}_")]
    return frozenset(each for each in found if each is not None)


_NUMBERS = frozenset((torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.__float__, torch.Tensor.__int__))
_ARRAYS = frozenset[Any]((torch.Tensor.numpy, torch.Tensor.__array__))
_DETACHES = frozenset((*_both("detach"), vars(torch._C.TensorBase)["data"].__get__))
_WRAPS = frozenset((torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy))
_FLAT = _both("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "floor_divide", "__floordiv__")
_UNREAD = frozenset(
    getattr(torch.Tensor, name).__get__
    for name in ("shape", "grad_fn", "dtype", "device", "requires_grad", "is_leaf", "grad", "_base", "layout", "names")
    if hasattr(torch.Tensor, name)
)
"""Looking at a tensor is no operator."""


class recording(TorchFunctionMode):
    """Note for each operator of the forward pass the user's own line; the note lives and dies with the graph.

    Use it around the forward pass of one step, then ask ``audit`` or ``autopsy``::

        with lossproof.recording():
            loss = criterion(model(x), y)
        lossproof.audit(loss)

    ``cuts`` has the calls that took a value which needed a gradient out of the graph. The values themselves, the random
    state and the graph are as they would be without it. It sees what runs in its own thread, and a compiled region, a
    scripted function or a custom ``autograd.Function`` as a whole.

    Cost: a few microseconds a call of torch. See ``docs/performance.md`` for the figures beside the anomaly mode, which
    notes full tracebacks and costs more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cuts: list[Cut] = []
        """Bounded by ``MOST_CUTS``, in the order of the calls."""
        self.cut_count = 0
        self.trouble: Exception | None = None
        """The last thing that kept a note from being taken."""
        self._numbers: dict[float, tuple[Cut, ...]] = {}
        """Numbers that were read from tensors: one that comes back as an operand is no accident."""
        self._began: RandomState | None = None

    def __enter__(self) -> recording:
        # A step with dropout can be made again only from where it began.
        self._began = RandomState()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.compiler.is_compiling():  # the compiler reads this method, too
            return result
        if func not in _UNREAD:
            try:
                self._see(func, args, kwargs or {}, result)
            except Exception as error:  # a note is lost, the user's step is not
                self.trouble = error
        return result

    def _see(self, func: Callable[..., Any], args: _Parts, kwargs: Mapping[str, Any], result: Any) -> None:
        if isinstance(result, torch.Tensor):
            self._made(func, args, kwargs, (result,))
        elif isinstance(result, (tuple, list)) and not isinstance(result, torch.Size):
            made = tuple(each for each in result if isinstance(each, torch.Tensor))
            if made:
                self._made(func, args, kwargs, made)
            elif func in _NUMBERS:
                self._left(func, args, kwargs, "number", None)
        elif result is None:
            if args and isinstance(args[0], torch.Tensor):  # ``x[0] = y``
                self._made(func, args, kwargs, (args[0],))
        elif func in _NUMBERS:
            self._left(func, args, kwargs, "number", result)
        elif func in _ARRAYS:
            self._left(func, args, kwargs, "numpy", result)

    def _made(
        self, func: Callable[..., Any], args: _Parts, kwargs: Mapping[str, Any], made: tuple[torch.Tensor, ...]
    ) -> None:
        tracked = False
        fresh: list[dict[Any, Any]] = []
        for each in made:
            node = each.grad_fn
            if node is not None:
                tracked = True
                metadata: dict[Any, Any] = node.metadata  # type: ignore[assignment]  # a property
                if NOTE not in metadata:
                    fresh.append(metadata)
        if args and made[0] is args[0] and (base := made[0]._base) is not None and base.grad_fn is not None:
            metadata = base.grad_fn.metadata
            if NOTE not in metadata:
                fresh.append(metadata)
        if not tracked:
            self._untracked(func, args, kwargs, made)
            return
        if fresh:
            sources = self._sources(args, kwargs) if self._numbers or cuts.any_remembered() else ()
            call = self._call(func, args, kwargs, sources)
            if call is not None:
                for metadata in fresh:
                    metadata[NOTE] = call
                if len(made) == 1 and made[0].dim() == 0:
                    call.keep(made[0])
                if func in _FLAT:
                    self._cut(call, "flat", args, kwargs)

    def _untracked(
        self, func: Callable[..., Any], args: _Parts, kwargs: Mapping[str, Any], made: tuple[torch.Tensor, ...]
    ) -> None:
        """Results without a history: a cut, where an operand had one."""
        sources: tuple[Cut, ...] = ()
        if any(each.grad_fn is not None for each in _tensors(args, kwargs)):
            name = getattr(func, "__name__", "")
            if name.endswith("_like") or name.startswith("new_"):
                return
            how = "detach" if func in _DETACHES else "rewrapped" if func in _WRAPS else "no-derivative"
            if how == "no-derivative" and not torch.is_grad_enabled():
                how = "no-grad"
            call = self._call(func, args, kwargs, ())
            if call is not None:
                sources = (self._cut(call, how, args, kwargs),)
        elif self._numbers or cuts.any_remembered():
            sources = self._sources(args, kwargs)
        if sources:
            for each in made:
                cuts.remember(each, sources)

    def _left(self, func: Callable[..., Any], args: _Parts, kwargs: Mapping[str, Any], how: str, result: Any) -> None:
        """Results that are no tensors."""
        if any(each.grad_fn is not None for each in _tensors(args, kwargs)):
            call = self._call(func, args, kwargs, ())
            found: tuple[Cut, ...] = () if call is None else (self._cut(call, how, args, kwargs),)
        else:
            found = self._sources(args, kwargs)
        if found and how == "numpy":
            cuts.remember(result, found)
        elif found and isinstance(result, float) and not result.is_integer():
            self._numbers[result] = found
            if len(self._numbers) > _MOST_NUMBERS:
                del self._numbers[next(iter(self._numbers))]

    def _call(
        self, func: Callable[..., Any], args: _Parts, kwargs: Mapping[str, Any], sources: tuple[Cut, ...]
    ) -> Call | None:
        return _call(func, args, kwargs, sources, self._began)

    def _cut(self, call: Call, how: str, args: _Parts, kwargs: Mapping[str, Any]) -> Cut:
        found = [each for each in _tensors(args, kwargs) if each.requires_grad]
        source = next((each for each in found if each.grad_fn is not None), found[0])
        kind = "leaf" if source.grad_fn is None else kind_of(source.grad_fn)
        cut = Cut(call, how, kind, tuple(source.shape))
        self.cut_count += 1
        if len(self.cuts) < MOST_CUTS:
            self.cuts.append(cut)
        return cut

    def _sources(self, args: _Parts, kwargs: Mapping[str, Any]) -> tuple[Cut, ...]:
        """The cuts that the operands came from."""
        found: dict[Cut, None] = {}
        for each in _flat((*args, *kwargs.values())):
            if isinstance(each, float):
                found.update(dict.fromkeys(self._numbers.get(each, ())))
            elif isinstance(each, torch.Tensor) or type(each).__name__ == "ndarray":
                found.update(dict.fromkeys(cuts.behind(each)))
        return tuple(found)


def _flat(parts: Iterable[Any]) -> Iterator[Any]:
    for each in parts:
        if isinstance(each, (tuple, list)):
            yield from each
        else:
            yield each


def _tensors(args: _Parts, kwargs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    return (each for each in _flat((*args, *kwargs.values())) if isinstance(each, torch.Tensor))


def _call(
    func: Callable[..., Any],
    args: _Parts,
    kwargs: Mapping[str, Any],
    sources: tuple[Cut, ...],
    began: RandomState | None,
) -> Call | None:
    """A note at the innermost frame of the best standing: the user's file, else a run string, else a package."""
    frame: FrameType | None = sys._getframe(4)
    best, rank = None, MACHINERY
    while frame is not None:
        found = standing(frame.f_code.co_filename)
        if found < rank:
            best, rank = frame, found
            if rank == USER:
                break
        frame = frame.f_back
    if best is None:
        return None
    numbers: list[tuple[str, Any]] = []
    data: list[tuple[str, ReferenceType[torch.Tensor], int]] = []
    for key, each in (*((str(place), each) for place, each in enumerate(args)), *kwargs.items()):
        if isinstance(each, _PLAIN):
            numbers.append((key, each))
        elif isinstance(each, torch.Tensor) and not each.requires_grad:
            if (number := _constant(each)) is not None:
                numbers.append((key, number))
            elif each.dim():
                data.append((key, ref(each), each._version))
    return Call(best.f_code, best.f_lasti, func, tuple(numbers), sources, tuple(data), began)


def _constant(each: torch.Tensor) -> float | None:
    """A number that was put into a tensor of no dimension: ``torch.tensor(1e-8)``. On the host, so nothing waits."""
    if each.dim() == 0 and not each.requires_grad and each.device.type == "cpu" and each.dtype.is_floating_point:
        return float(each)
    return None
