"""More operators made again: resizing, padding, pooling, transforms and decompositions (see ``replay.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from lossproof.graph.walk import Op

Rule = Callable[["Op", Sequence[torch.Tensor], int], "torch.Tensor | None"]
_MODES = {
    "UpsampleNearest1D": "nearest",
    "UpsampleNearest2D": "nearest",
    "UpsampleNearest3D": "nearest",
    "UpsampleLinear1D": "linear",
    "UpsampleBilinear2D": "bilinear",
    "UpsampleBicubic2D": "bicubic",
    "UpsampleTrilinear3D": "trilinear",
}
_PADS = {"ReflectionPad": "reflect", "ReplicationPad": "replicate"}
_SAMPLING = ("bilinear", "nearest", "bicubic")
_BORDERS = ("zeros", "border", "reflection")


def _resized(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    mode = _MODES[op.kind]
    aligned = None if mode == "nearest" else bool(op.saved("align_corners"))
    size = op.saved("output_size") or (op.shape(output) or ())[2:]
    return F.interpolate(ins[0], size=size, mode=mode, align_corners=aligned)


def _padded(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    mode = next(mode for kind, mode in _PADS.items() if op.kind.startswith(kind))
    return F.pad(ins[0], op.saved("padding"), mode=mode)


def _pooled(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    if output != 0:
        return None
    pool: Callable[..., torch.Tensor] = F.max_pool3d
    return pool(
        ins[0],
        op.saved("kernel_size"),
        op.saved("stride") or None,
        op.saved("padding"),
        op.saved("dilation"),
        bool(op.saved("ceil_mode")),
    )


def _adaptive(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    shape = op.shape(output)
    if shape is None or output != 0:
        return None
    pool: Callable[..., torch.Tensor] = F.adaptive_max_pool2d if "Max" in op.kind else F.adaptive_avg_pool3d
    return pool(ins[0], shape[-2:] if op.kind.endswith("2D") else shape[-3:])


def _sampled(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    grid = op.tensor("grid")
    if grid is None:
        return None
    mode, border = _SAMPLING[op.saved("interpolation_mode")], _BORDERS[op.saved("padding_mode")]
    return F.grid_sample(ins[0], grid, mode, border, bool(op.saved("align_corners")))


def _dropped(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    mask, rate = op.tensor("result1"), op.saved("p")
    if mask is None or output != 0 or rate is None:
        return None
    return ins[0] * mask / (1 - rate) if rate < 1 else ins[0] * 0


def _diagonal(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    function: Callable[..., torch.Tensor] = torch.diagonal if op.kind == "Diagonal" else torch.diag_embed
    return function(ins[0], op.dim("offset") or 0, op.dim("dim1") or 0, op.dim("dim2") or 0)


def _unfolded(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return ins[0].unfold(op.dim("dimension") or 0, op.saved("size"), op.saved("step"))


def _columns(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return F.unfold(ins[0], op.saved("kernel_size"), op.saved("dilation"), op.saved("padding"), op.saved("stride"))


def _cumulated(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    indices, dim = op.tensor("indices"), op.dim()
    return None if indices is None or dim is None or output != 0 else ins[0].gather(dim, indices)


def _forward_transform(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    function: Callable[..., torch.Tensor] = torch._fft_r2c if op.kind == "FftR2C" else torch._fft_c2c
    last = bool(op.saved("onesided")) if op.kind == "FftR2C" else bool(op.saved("forward"))
    return function(ins[0], list(op.dims() or ()), op.saved("normalization"), last)


def _slogdet(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    found: Any = torch.linalg.slogdet(ins[0])
    made: torch.Tensor | None = found[output] if output < 2 else None
    return made


def _bag(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    indices, offsets = op.tensor("indices"), op.tensor("offsets")
    if indices is None or offsets is None or output != 0:
        return None
    mode = ("sum", "mean", "max")[op.saved("mode")]
    return F.embedding_bag(indices, ins[0], offsets, mode=mode)


def _with(function: Callable[..., torch.Tensor], *names: str) -> Rule:
    return lambda op, ins, output: function(ins[0], *(op.saved(name) for name in names))


RULES: dict[str, Rule] = {
    **dict.fromkeys(_MODES, _resized),
    **dict.fromkeys([f"{kind}{size}D" for kind in _PADS for size in (1, 2, 3)], _padded),
    **dict.fromkeys(("AdaptiveMaxPool2D", "AdaptiveAvgPool3D"), _adaptive),
    **dict.fromkeys(("Diagonal", "DiagEmbed"), _diagonal),
    **dict.fromkeys(("Cummax", "Cummin"), _cumulated),
    **dict.fromkeys(("FftR2C", "FftC2C"), _forward_transform),
    "Angle": _with(torch.angle),
    "Ceil": _with(torch.ceil),
    "Celu": _with(F.celu, "alpha"),
    "EmbeddingBag": _bag,
    "Erfc": _with(torch.erfc),
    "Floor": _with(torch.floor),
    "Frac": _with(torch.frac),
    "GridSampler2D": _sampled,
    "Hardshrink": _with(F.hardshrink, "lambd"),
    "Hypot": lambda op, ins, output: torch.hypot(ins[0], ins[1]),
    "Im2Col": _columns,
    "LinalgSlogdet": _slogdet,
    "MaxPool3DWithIndices": _pooled,
    "NativeDropout": _dropped,
    "PixelShuffle": _with(F.pixel_shuffle, "upscale_factor"),
    "Round": _with(torch.round),
    "Sign": _with(torch.sign),
    "Sinc": _with(torch.sinc),
    "Softshrink": _with(F.softshrink, "lambd"),
    "Trace": _with(torch.trace),
    "Trunc": _with(torch.trunc),
    "Unfold": _unfolded,
    "ViewAsComplex": _with(torch.view_as_complex),
    "ViewAsReal": _with(torch.view_as_real),
}
