"""What kind of value an operator gives: a sigmoid, a softmax, logarithms of either, the raw output of a layer.

An activation is known by its operator, and by its arithmetic where it was written by hand: ``1 / (1 + exp(-x))``,
``exp(x) / exp(x).sum()``, ``log_softmax(x).exp()``. What is not known has no kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.graph.chain import KEEPS_KIND, SHAPE_ONLY, behind

if TYPE_CHECKING:
    import torch

    from lossproof.graph.walk import Edge, Op

SIGMOID, SOFTMAX, LOG_SOFTMAX, LOG_SIGMOID, RAW = "sigmoid", "softmax", "log-softmax", "log-sigmoid", "raw"
_BY_NAME = {"Sigmoid": SIGMOID, "Softmax": SOFTMAX, "LogSoftmax": LOG_SOFTMAX, "LogSigmoid": LOG_SIGMOID}
LAYERS = frozenset(
    (
        "Addmm",
        "Addbmm",
        "Baddbmm",
        "Bmm",
        "Convolution",
        "ConvolutionOverrideable",
        "Linear",
        "MkldnnConvolution",
        "MkldnnLinear",
        "Mm",
        "Mv",
        "CudnnConvolution",
    )
)
"""Where the raw output of a layer comes from."""
_NEURONS = frozenset(("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Selu", "Tanh", "Hardtanh"))
NORMS = frozenset(("NativeBatchNorm", "NativeLayerNorm", "NativeGroupNorm", "CudnnBatchNorm", "FusedRmsNorm"))


def kind(op: Op) -> str | None:
    """The kind of what an operator gives."""
    known = _BY_NAME.get(op.kind)
    if known is not None:
        return known
    if op.kind == "Exp":
        logs = {_BY_NAME.get(source.kind) for source, _ in behind(op.inputs[0], SHAPE_ONLY)}
        return {LOG_SOFTMAX: SOFTMAX, LOG_SIGMOID: SIGMOID}.get(logs.pop() or "") if len(logs) == 1 else None
    if op.kind == "Div":
        return SOFTMAX if _share_of_exponentials(op) else SIGMOID if _logistic(op) else None
    if op.kind == "Mul" and op.inputs[1:] in ((None,), ()):
        below = op.input(0)
        return kind(below) if below is not None and below.kind == "Reciprocal" and op.number("other") == 1.0 else None
    if op.kind == "Reciprocal":
        return SIGMOID if _inverse_of_one_plus_exp(op) else None
    if op.kind in LAYERS or op.kind in _NEURONS or op.kind in NORMS:
        return RAW
    return None


def kinds(
    edge: Edge | None, through: frozenset[str] = KEEPS_KIND
) -> tuple[set[str | None], list[tuple[Op, tuple[Op, ...]]]]:
    """The kinds of all that a value is made of, with the operators and the ways from them."""
    ways = list(behind(edge, through))
    return {kind(op) for op, _ in ways}, ways


def _share_of_exponentials(op: Op) -> bool:
    """``e / e.sum(dim)``."""
    top, bottom = op.input(0), op.input(1)
    if top is None or bottom is None or top.kind != "Exp":
        return False
    return any(
        total.kind == "Sum" and total.input(0) is top and total.saved("dim") is not None
        for total, _ in behind(op.inputs[1], SHAPE_ONLY | {"Add"})
    )


def _logistic(op: Op) -> bool:
    """``1 / (1 + exp(-x))`` of tensors, ``exp(x) / (1 + exp(x))``."""
    exp = _exp_plus(op.input(1))
    if exp is None or (op.inputs[0] is not None and op.input(0) is not exp):
        return False
    top, bottom, e = (_first(tensor) for tensor in (op.tensor("self"), op.tensor("other"), exp.tensor("result")))
    if top is None or bottom is None or e is None:
        return False
    return _near(bottom, e + 1) and (_near(top, 1.0) or op.inputs[0] is not None)


def _exp_plus(op: Op | None) -> Op | None:
    """The exponential in ``exp(x) + constant``."""
    if op is None or op.kind != "Add" or len([edge for edge in op.inputs if edge is not None]) != 1:
        return None
    exp = op.input(0) or op.input(1)
    return exp if exp is not None and exp.kind == "Exp" else None


def _inverse_of_one_plus_exp(op: Op) -> bool:
    exp = _exp_plus(op.input(0))
    if exp is None:
        return False
    e, r = _first(exp.tensor("result")), _first(op.tensor("result"))
    return e is not None and r is not None and _near(1 / (1 + e), r)


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-2 * max(abs(a), abs(b))


def _first(tensor: torch.Tensor | None) -> float | None:
    if tensor is None or tensor.numel() == 0 or tensor.is_complex():
        return None
    return float(tensor[(0,) * tensor.dim()])
