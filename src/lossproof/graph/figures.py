"""What a tensor holds, in figures: the range of what is finite, and how much is NaN, infinite or zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lossproof.graph.walk import readable


@dataclass(frozen=True)
class Figures:
    """One tensor at one operator. ``minimum``, ``maximum`` and ``mean`` are over the finite elements alone."""

    name: str
    """What the operator calls it: ``numerator``, ``denominator``, ``input``, ``target`` …"""
    role: str
    """Where it comes from: ``parameter fc.weight``, ``data``, ``result of exp`` …"""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    zero: int = 0
    elements: int = 0
    seen: bool = True
    """False where the graph does not hold the tensor: then only the shape is known, if that."""

    @property
    def finite(self) -> bool:
        return self.nan == self.posinf == self.neginf == 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "role": self.role,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "min": self.minimum,
            "max": self.maximum,
            "mean": self.mean,
            "nan": self.nan,
            "posinf": self.posinf,
            "neginf": self.neginf,
            "zero": self.zero,
            "elements": self.elements,
            "seen": self.seen,
        }


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as dense real numbers, without history, subclass or sparsity, so that arithmetic on it is ordinary."""
    found = tensor.detach()
    if type(found) is not torch.Tensor:
        found = found.as_subclass(torch.Tensor)
    if found.layout != torch.strided:
        found = found.coalesce().values() if found.layout == torch.sparse_coo else found.to_dense()
    if found.is_complex():
        found = torch.view_as_real(found.resolve_conj())
    if found.is_floating_point() and found.element_size() < 2:
        found = found.float()
    return found


def may_be_bad(tensor: torch.Tensor) -> bool:
    """Whether its dtype can hold a NaN, and its elements can be read."""
    return (tensor.is_floating_point() or tensor.is_complex()) and readable(tensor)


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether every element is finite. One sum decides it: a NaN and an infinity survive it."""
    if not may_be_bad(tensor) or tensor.numel() == 0:
        return True
    found = plain(tensor)
    wide = torch.float32 if found.element_size() < 4 else found.dtype
    if bool(torch.isfinite(found.sum(dtype=wide))):
        return True
    return bool(torch.isfinite(found).all())


def bad(tensor: torch.Tensor) -> torch.Tensor:
    """A mask of what is not finite."""
    if not may_be_bad(tensor):
        return torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    if tensor.is_complex() and tensor.layout == torch.strided:
        return ~torch.isfinite(tensor.detach())
    return ~torch.isfinite(plain(tensor))


def figures(name: str, role: str, tensor: torch.Tensor | None, shape: tuple[int, ...] | None = None) -> Figures:
    if tensor is None or not readable(tensor):
        return Figures(name, role, shape or (), seen=False)
    dtype = str(tensor.dtype).removeprefix("torch.")
    found = plain(tensor)
    size = tuple(tensor.shape)
    if not found.is_floating_point():
        if found.numel() == 0 or found.dtype == torch.bool:
            return Figures(name, role, size, dtype, zero=int((found == 0).sum()), elements=found.numel())
        low, high = torch.aminmax(found)
        mean = float(found.double().mean())
        zeros = int((found == 0).sum())
        return Figures(name, role, size, dtype, float(low), float(high), mean, zero=zeros, elements=found.numel())
    finite = torch.isfinite(found)
    nan = int(torch.isnan(found).sum())
    posinf = int((found == float("inf")).sum())
    neginf = found.numel() - int(finite.sum()) - nan - posinf
    good = found[finite]
    if good.numel() == 0:
        return Figures(name, role, size, dtype, None, None, None, nan, posinf, neginf, 0, found.numel())
    low, high = torch.aminmax(good)
    return Figures(
        name,
        role,
        size,
        dtype,
        float(low),
        float(high),
        float(good.double().mean()),
        nan,
        posinf,
        neginf,
        int((good == 0).sum()),
        found.numel(),
    )
