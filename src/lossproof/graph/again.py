"""The step made again, with every operator looked at: for what the graph of the first one does not hold.

Only where the caller says how to make the loss again. Every operator is seen below autograd, so custom functions,
``no_grad`` parts and the preparation of data are seen too. Random states are put back afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lossproof.graph.figures import Figures, all_finite, bad, figures, may_be_bad, plain
from lossproof.graph.place import is_library
from lossproof.graph.random_state import RandomState, beginning_with

_FILLS = frozenset(
    (
        "masked_fill",
        "masked_fill_",
        "where",
        "fill_",
        "full",
        "full_like",
        "new_full",
        "scatter",
        "scatter_",
        "copy_",
        "_to_copy",
        "index_put",
        "index_put_",
        "constant_pad_nd",
        "empty",
        "empty_like",
        "new_empty",
        "zeros",
        "clone",
        "detach",
        "lift_fresh",
        "scalar_tensor",
        "triu",
        "tril",
        "eq",
        "isnan",
    )
)


@dataclass
class Seen:
    """An operator that made something non-finite of what was not."""

    op: str
    path: str
    line: int
    nan: bool
    inputs: tuple[Figures, ...]
    rows: tuple[int, ...] = ()
    of: int = 0
    eaten: bool = False
    """Whether an operand was infinite: the infinity was born earlier."""


@dataclass
class Watch(TorchDispatchMode):
    """Looks at what each operator is given and gives."""

    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        fine = [all_finite(each) if _readable(each) else True for each in before]
        nan_before = any(not ok and bool(torch.isnan(plain(each)).any()) for each, ok in zip(before, fine, strict=True))
        shown = _shown(before) if len(self.seen) < 32 else ()
        result = func(*args, **kwargs)
        for each in tree_leaves(result):
            if not isinstance(each, torch.Tensor) or not _readable(each) or all_finite(each):
                continue
            nan = bool(torch.isnan(plain(each)).any())
            name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else str(func)
            born = (nan and not nan_before) or (not nan and all(fine) and name not in _FILLS)
            if born and len(self.seen) < 32 and not name.startswith(("empty", "new_empty")):
                path, line = _user()
                wrong = bad(each)
                rows = wrong.reshape(wrong.shape[0], -1).any(1).nonzero().flatten().tolist() if wrong.dim() else []
                self.seen.append(
                    Seen(name, path, line, nan, shown, tuple(rows), wrong.shape[0] if wrong.dim() else 0, not all(fine))
                )
            break
        return result


def _readable(tensor: torch.Tensor) -> bool:
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and may_be_bad(tensor)


def _shown(tensors: list[torch.Tensor]) -> tuple[Figures, ...]:
    """The figures of the operands, while they are still what they were."""
    return tuple(figures(f"operand {n}", "value", each) for n, each in enumerate(tensors[:4]) if _readable(each))


def _user() -> tuple[str, int]:
    frame: Any = sys._getframe(2)
    while frame is not None and (is_library(frame.f_code.co_filename) or "/lossproof/" in frame.f_code.co_filename):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def make_again(
    step: Callable[[], Any], modules: list[torch.nn.Module], began: RandomState | None
) -> tuple[Any, list[Seen]]:
    """Run the step under watch, from the random state in which it began; the loss, and what was born in it."""
    watch = Watch()
    with beginning_with(began), _buffers_kept(modules), torch.enable_grad(), watch:
        loss = step()
    return loss, watch.seen


def first(seen: list[Seen], nan: bool) -> Seen | None:
    """The birth that explains a NaN, or an infinity: a NaN made of infinities goes back to what made those."""
    wanted = next((each for each in seen if each.nan is nan), None)
    if wanted is None:
        return seen[0] if seen else None
    if wanted.eaten:
        earlier = next((each for each in seen[: seen.index(wanted)] if not each.nan), None)
        return earlier or wanted
    return wanted


@contextmanager
def _buffers_kept(modules: list[torch.nn.Module]) -> Iterator[None]:
    """The buffers of the modules (running statistics) are put back."""
    kept = [(buffer, buffer.detach().clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
