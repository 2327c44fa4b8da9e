"""Tensors that can be read with ordinary arithmetic, and figures about them.

What autograd saved may be anything: complex, sparse, nested, on no device at all, wrapped by ``torch.func``, a subclass
with arithmetic of its own. ``plain`` hands out what a comparison and a sum can be asked of, and None for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op

T = TypeVar("T")
LIMIT_ROWS = 1000


def plain(tensor: object) -> torch.Tensor | None:
    """A strided tensor of real floating-point numbers with at least one element; None for anything else."""
    found = any_plain(tensor)
    if found is None or not found.is_floating_point() or found.numel() == 0:
        return None
    return found.float() if found.dtype.itemsize == 1 else found


def any_plain(tensor: object) -> torch.Tensor | None:
    """As ``plain``, of any number format and any size: masks and indices too."""
    if not isinstance(tensor, torch.Tensor):
        return None
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta or tensor.is_complex():
        return None
    if type(tensor) is not torch.Tensor and not isinstance(tensor, torch.nn.Parameter):
        if is_traceable_wrapper_subclass(tensor) or type(tensor).__torch_dispatch__ is not _NO_DISPATCH:
            return None
        tensor = tensor.as_subclass(torch.Tensor)
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return None
    return tensor.detach()


_NO_DISPATCH = torch.Tensor.__torch_dispatch__


def rows(mask: torch.Tensor) -> tuple[int, ...]:
    """Indices along the first dimension that have a marked element; none where there is no such dimension."""
    if mask.dim() == 0:
        return ()
    marked = mask if mask.dim() == 1 else mask.flatten(1).any(1)
    return tuple(marked.nonzero().flatten()[:LIMIT_ROWS].tolist())


def finite(tensor: torch.Tensor) -> bool:
    """Whether all of a tensor is: NaN and infinity survive a sum, which is cheaper than to look at each element."""
    if tensor.numel() == 1:
        return math.isfinite(float(tensor))
    return bool(torch.isfinite(tensor.sum(dtype=torch.float64 if tensor.dtype is torch.float64 else torch.float32)))


def each(graph: Graph, ops: Iterator[Op], ask: Callable[[Op], Iterator[T]]) -> Iterator[T]:
    """What is found at each operator; of one that cannot be read it is remembered that it could not."""
    for op in ops:
        try:
            found = list(ask(op))
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, AttributeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            graph.cannot_see(f"{op.kind}: what it saved could not be read ({reason})")
            continue
        yield from found
