"""Operators made again: from the values of their operands to what they gave, as a pure function.

Autograd keeps what derivatives need, and that is seldom all that a question needs. Most of what is missing between two
kept values is arithmetic, views and reductions, and can be computed again from what lies below. No rule here draws a
random number, writes into a tensor or touches a module: dropout has become a product with a kept mask by the time it is
in a graph. An operator without a rule is unknown, and so is whatever rests on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from lossproof.graph import replay_rare

if TYPE_CHECKING:
    from lossproof.graph.walk import Op

Rule = Callable[["Op", Sequence[torch.Tensor], int], "torch.Tensor | None"]
REDUCTIONS = ("none", "mean", "sum")


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Rule:
    return lambda op, ins, output: function(ins[0])


def _binary(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Rule:
    return lambda op, ins, output: function(ins[0], ins[1])


def _to_shape(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    shape = op.shape(output)
    return None if shape is None else ins[0].reshape(shape)


def _expand(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    shape = op.shape(output)
    return None if shape is None else ins[0].expand(shape)


def _reduce(function: Callable[..., torch.Tensor]) -> Rule:
    def made(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
        dims = _dims(op)
        if dims is None:
            return function(ins[0])
        return function(ins[0], dim=dims, keepdim=bool(op.saved("keepdim")))

    return made


def _dims(op: Op) -> tuple[int, ...] | None:
    dims = op.dims()
    if dims is not None:
        return dims
    dim = op.dim()
    return None if dim is None else (dim,)


def _spread(function: Callable[..., torch.Tensor]) -> Rule:
    def made(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
        correction = op.saved("correction")
        return function(
            ins[0],
            dim=_dims(op),
            correction=1 if correction is None else correction,
            keepdim=bool(op.saved("keepdim")),
        )

    return made


def _picked(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    """Max, min, median, topk, sort: the indices that were picked are kept."""
    indices = op.tensor("indices")
    if indices is None:
        whole = _WHOLE.get(op.kind)
        return None if whole is None else whole(ins[0])
    dim = op.dim()
    if dim is None or output != 0:
        return None
    if ins[0].dim() == 0:
        return ins[0]
    keep = op.saved("keepdim")
    if keep is not None and not keep:
        return ins[0].gather(dim, indices.unsqueeze(dim)).squeeze(dim)
    return ins[0].gather(dim, indices)


_WHOLE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Max": torch.max,
    "Min": torch.min,
    "Median": torch.median,
}


def _slice(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim, start, end, step = op.dim(), op.dim("start"), op.dim("end"), op.dim("step")
    if dim is None or step is None:
        return None
    index: list[Any] = [slice(None)] * ins[0].dim()
    index[dim] = slice(start, end, step)
    return ins[0][tuple(index)]


def _select(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim, index = op.dim(), op.dim("index")
    return None if dim is None or index is None else ins[0].select(dim, index)


def _index(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    indices = op.saved("indices")
    if indices is None:
        return None
    return ins[0][tuple(slice(None) if each is None else each for each in indices)]


def _index_put(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    indices = op.saved("indices")
    if indices is None:
        return None
    return torch.index_put(ins[0], tuple(indices), ins[1], accumulate=bool(op.saved("accumulate")))


def _cat(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim = op.dim()
    return None if dim is None else torch.cat(list(ins), dim)


def _stack(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim = op.dim()
    return None if dim is None else torch.stack(list(ins), dim)


def _split(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim = op.dim()
    size = op.saved("split_size") if "Sizes" not in op.kind else op.saved("split_sizes")
    if dim is None or size is None:
        return None
    return torch.split(ins[0], size if isinstance(size, int) else list(size), dim)[output]


def _unbind(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim = op.dim()
    return None if dim is None else ins[0].unbind(dim)[output]


def _transpose(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    first, second = op.dim("dim0"), op.dim("dim1")
    return None if first is None or second is None else ins[0].transpose(first, second)


def _permute(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dims = op.dims("dims")
    return None if dims is None else ins[0].permute(dims)


def _gather(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim, index = op.dim(), op.tensor("index")
    if dim is None or index is None:
        return None
    return ins[0].gather(dim, index) if op.kind == "Gather" else ins[0].index_select(dim, index)


def _masked(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    mask = op.tensor("mask")
    return None if mask is None else ins[0].masked_select(mask)


def _scatter(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim, index = op.dim(), op.tensor("index")
    if dim is None or index is None or len(ins) < 2:
        return None
    if op.kind == "IndexAdd":
        return torch.index_add(ins[0], dim, index, ins[1], alpha=op.saved("alpha") or 1)
    return (torch.scatter_add if op.kind == "ScatterAdd" else torch.scatter)(ins[0], dim, index, ins[1])


def _to_copy(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dtype = op.dtype(output)
    return None if dtype is None else ins[0].to(dtype)


def _add(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return torch.add(ins[0], ins[1], alpha=_scalar(op, "alpha"))


def _sub(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return torch.sub(ins[0], ins[1], alpha=_scalar(op, "alpha"))


def _scalar(op: Op, name: str, usual: float = 1) -> Any:
    found = op.saved(name)
    return usual if found is None else found


def _div(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return torch.div(ins[0], ins[1], rounding_mode=op.saved("rounding_mode"))


def _clamp(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    low = op.saved("min") if op.kind != "ClampMax" else None
    high = op.saved("max") if op.kind != "ClampMin" else None
    return ins[0] if low is None and high is None else torch.clamp(ins[0], low, high)


def _softmax(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim = op.dim()
    if dim is None:
        return None
    return (torch.softmax if op.kind == "Softmax" else torch.log_softmax)(ins[0], dim)


def _cumulate(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dim = op.dim()
    functions: dict[str, Callable[..., torch.Tensor]]
    functions = {"Cumsum": torch.cumsum, "Cumprod": torch.cumprod, "Logcumsumexp": torch.logcumsumexp}
    return None if dim is None else functions[op.kind](ins[0], dim)


def _logsumexp(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dims = _dims(op)
    return None if dims is None else torch.logsumexp(ins[0], dims, bool(op.saved("keepdim")))


def _vector_norm(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    norm: Callable[..., torch.Tensor] = torch.linalg.vector_norm
    return norm(ins[0], _scalar(op, "ord", 2), _dims(op), bool(op.saved("keepdim")))


def _addmm(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    functions: dict[str, Callable[..., torch.Tensor]] = {
        "Addmm": torch.addmm,
        "Baddbmm": torch.baddbmm,
        "Addmv": torch.addmv,
    }
    return functions[op.kind](ins[0], ins[1], ins[2], beta=_scalar(op, "beta"), alpha=_scalar(op, "alpha"))


def _addc(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    function: Callable[..., torch.Tensor] = torch.addcmul if op.kind == "Addcmul" else torch.addcdiv
    return function(ins[0], ins[1], ins[2], value=_scalar(op, "value"))


def _lerp(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    weight = op.saved("weight")
    return None if weight is None else torch.lerp(ins[0], ins[1], weight)


def _convolution(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    bias = ins[2] if len(ins) > 2 else None
    return torch.convolution(
        ins[0],
        ins[1],
        bias,
        op.saved("stride"),
        op.saved("padding"),
        op.saved("dilation"),
        bool(op.saved("transposed")),
        op.saved("output_padding"),
        op.saved("groups"),
    )


def _layer_norm(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    mean, inverse = op.tensor("result1"), op.tensor("result2")
    if mean is None or inverse is None or output != 0:
        return None
    made = (ins[0].float() - mean) * inverse
    weight, bias = op.tensor("weight"), op.tensor("bias")
    made = made if weight is None else made * weight
    made = made if bias is None else made + bias
    return made.to(ins[0].dtype)


def _batch_norm(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    if output != 0:
        return None
    train = bool(op.saved("training"))
    mean, variance = (None, None) if train else (op.tensor("running_mean"), op.tensor("running_var"))
    bias = ins[2] if len(ins) > 2 else None
    return F.batch_norm(ins[0], mean, variance, op.tensor("weight"), bias, train, 0.0, _scalar(op, "eps", 1e-5))


def _group_norm(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    bias = ins[2] if len(ins) > 2 else None
    return F.group_norm(ins[0], op.saved("group"), op.tensor("weight"), bias, _scalar(op, "eps", 1e-5))


def _max_pool(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    if output != 0:
        return None
    return F.max_pool2d(
        ins[0],
        op.saved("kernel_size"),
        op.saved("stride") or None,
        op.saved("padding"),
        op.saved("dilation"),
        bool(op.saved("ceil_mode")),
    )


def _avg_pool(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    return F.avg_pool2d(
        ins[0],
        op.saved("kernel_size"),
        op.saved("stride") or None,
        op.saved("padding"),
        bool(op.saved("ceil_mode")),
        bool(op.saved("count_include_pad")),
        op.saved("divisor_override"),
    )


def _adaptive(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    shape = op.shape(output)
    return None if shape is None else F.adaptive_avg_pool2d(ins[0], (shape[-2], shape[-1]))


def _embedding(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    indices = op.tensor("indices")
    return None if indices is None else F.embedding(indices, ins[0])


def _pad(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return F.pad(ins[0], op.saved("pad"))


def _where(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    condition = op.tensor("condition")
    return None if condition is None else torch.where(condition, ins[0], ins[1])


def _activation(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    x = ins[0]
    if op.kind == "Gelu":
        return F.gelu(x, approximate=str(op.saved("approximate") or "none"))
    if op.kind == "LeakyRelu":
        return F.leaky_relu(x, _scalar(op, "negative_slope", 0.01))
    if op.kind == "Elu":
        alpha, scale, inner = _scalar(op, "alpha"), _scalar(op, "scale"), _scalar(op, "input_scale")
        bent: torch.Tensor = torch.where(x > 0, x, alpha * torch.expm1(x * inner)) * scale
        return bent
    if op.kind == "Softplus":
        return F.softplus(x, _scalar(op, "beta"), _scalar(op, "threshold", 20))
    if op.kind == "Hardtanh":
        return F.hardtanh(x, _scalar(op, "min_val", -1), _scalar(op, "max_val"))
    if op.kind == "Glu":
        dim = op.dim()
        return F.glu(x, -1 if dim is None else dim)
    return None


def _flip(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    dims = op.dims("dims")
    if dims is None:
        return None
    return ins[0].flip(dims) if op.kind == "Flip" else ins[0].roll(op.saved("shifts"), dims)


def _triangle(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return (torch.tril if op.kind == "Tril" else torch.triu)(ins[0], op.dim("diagonal") or 0)


def _repeat(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return ins[0].repeat(op.saved("repeats"))


def _prod(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    dim = op.dim()
    return ins[0].prod() if dim is None else ins[0].prod(dim, bool(op.saved("keepdim")))


def _cdist(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor:
    return torch.cdist(ins[0], ins[1], _scalar(op, "p", 2.0))


def elements(op: Op, ins: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """A loss of one operator, an element each, before it is reduced; None for what is no such loss."""
    function = LOSSES.get(op.kind)
    return None if function is None else function(op, ins)


def _target(op: Op, ins: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return ins[1] if len(ins) > 1 else op.tensor("target")


def _pointwise(function: Callable[..., torch.Tensor], *names: str) -> Callable[[Op, Sequence[torch.Tensor]], Any]:
    def made(op: Op, ins: Sequence[torch.Tensor]) -> torch.Tensor | None:
        target = _target(op, ins)
        if target is None:
            return None
        options = {name: op.saved(name) for name in names}
        return function(ins[0], target, reduction="none", **options)

    return made


def _nll(op: Op, ins: Sequence[torch.Tensor]) -> torch.Tensor | None:
    target = op.tensor("target")
    if target is None:
        return None
    ignore = op.saved("ignore_index")
    return F.nll_loss(ins[0], target, op.tensor("weight"), ignore_index=_signed(ignore), reduction="none")


def _signed(number: Any) -> int:
    return int(number) - 2**64 if int(number) >= 2**63 else int(number)


def _ctc(op: Op, ins: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return op.tensor("result0")


LOSSES: dict[str, Callable[[Any, Sequence[torch.Tensor]], Any]] = {
    "BinaryCrossEntropy": _pointwise(F.binary_cross_entropy, "weight"),
    "BinaryCrossEntropyWithLogits": _pointwise(F.binary_cross_entropy_with_logits, "weight", "pos_weight"),
    "CtcLoss": _ctc,
    "HuberLoss": _pointwise(F.huber_loss, "delta"),
    "MseLoss": _pointwise(F.mse_loss),
    "NllLoss": _nll,
    "NllLoss2D": _nll,
    "SmoothL1Loss": _pointwise(F.smooth_l1_loss, "beta"),
    "SoftMarginLoss": _pointwise(F.soft_margin_loss),
}


def _loss(op: Op, ins: Sequence[torch.Tensor], output: int) -> torch.Tensor | None:
    if output != 0:
        return None
    if op.kind == "CtcLoss":
        return op.tensor("result0")
    each = elements(op, ins)
    reduction = op.saved("reduction")
    if each is None or reduction not in (0, 1, 2):
        return None
    if reduction == 0:
        return each
    if reduction == 2:
        return each.sum()
    weight = op.tensor("total_weight")
    return each.mean() if weight is None else each.sum() / weight


RULES: dict[str, Rule] = {
    **replay_rare.RULES,
    **dict.fromkeys(("Alias", "Clone", "Contiguous", "Copy", "Identity", "Detach"), lambda op, ins, output: ins[0]),
    **dict.fromkeys(
        ("View", "Reshape", "ReshapeAlias", "UnsafeView", "Flatten", "Unflatten", "Squeeze", "Unsqueeze", "ViewAs"),
        _to_shape,
    ),
    **dict.fromkeys(("Max", "Min", "Median", "Topk", "Sort", "Kthvalue", "Mode"), _picked),
    **dict.fromkeys(("Split", "SplitWithSizes", "UnsafeSplit"), _split),
    **dict.fromkeys(("Gather", "IndexSelect"), _gather),
    **dict.fromkeys(("Scatter", "ScatterAdd", "IndexAdd"), _scatter),
    **dict.fromkeys(("Clamp", "ClampMin", "ClampMax"), _clamp),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("Cumsum", "Cumprod", "Logcumsumexp"), _cumulate),
    **dict.fromkeys(("Addmm", "Baddbmm", "Addmv"), _addmm),
    **dict.fromkeys(("Addcmul", "Addcdiv"), _addc),
    **dict.fromkeys(("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"), _batch_norm),
    **dict.fromkeys(("Gelu", "LeakyRelu", "Elu", "Softplus", "Hardtanh", "Glu"), _activation),
    **dict.fromkeys(("Flip", "Roll"), _flip),
    **dict.fromkeys(("Tril", "Triu"), _triangle),
    **dict.fromkeys(LOSSES, _loss),
    "Abs": _unary(torch.abs),
    "Acos": _unary(torch.acos),
    "Acosh": _unary(torch.acosh),
    "AdaptiveAvgPool2D": _adaptive,
    "Add": _add,
    "Amax": _reduce(torch.amax),
    "Amin": _reduce(torch.amin),
    "Asin": _unary(torch.asin),
    "Atan": _unary(torch.atan),
    "Atan2": _binary(torch.atan2),
    "Atanh": _unary(torch.atanh),
    "AvgPool2D": _avg_pool,
    "Bmm": _binary(torch.bmm),
    "Cat": _cat,
    "Cdist": _cdist,
    "ConstantPadNd": _pad,
    "Convolution": _convolution,
    "Cos": _unary(torch.cos),
    "Cosh": _unary(torch.cosh),
    "Digamma": _unary(torch.digamma),
    "Div": _div,
    "Dot": _binary(torch.dot),
    "Embedding": _embedding,
    "Erf": _unary(torch.erf),
    "Erfinv": _unary(torch.erfinv),
    "Exp": _unary(torch.exp),
    "Exp2": _unary(torch.exp2),
    "Expand": _expand,
    "Expm1": _unary(torch.expm1),
    "Hardsigmoid": _unary(F.hardsigmoid),
    "Hardswish": _unary(F.hardswish),
    "Index": _index,
    "IndexPut": _index_put,
    "Lerp": _lerp,
    "Lgamma": _unary(torch.lgamma),
    "LinalgVectorNorm": _vector_norm,
    "Log": _unary(torch.log),
    "Log10": _unary(torch.log10),
    "Log1P": _unary(torch.log1p),
    "Log2": _unary(torch.log2),
    "LogSigmoid": _unary(F.logsigmoid),
    "Logaddexp": _binary(torch.logaddexp),
    "Logit": lambda op, ins, output: torch.logit(ins[0], op.saved("eps")),
    "Logsumexp": _logsumexp,
    "MaskedSelect": _masked,
    "MaxPool2DWithIndices": _max_pool,
    "Maximum": _binary(torch.maximum),
    "Mean": _reduce(torch.mean),
    "Minimum": _binary(torch.minimum),
    "Mish": _unary(F.mish),
    "Mm": _binary(torch.mm),
    "Mul": _binary(torch.mul),
    "Mv": _binary(torch.mv),
    "NanToNum": _unary(torch.nan_to_num),
    "Nansum": _reduce(torch.nansum),
    "NativeGroupNorm": _group_norm,
    "NativeLayerNorm": _layer_norm,
    "Neg": _unary(torch.neg),
    "Permute": _permute,
    "Pow": _binary(torch.pow),
    "PreluKernel": _binary(lambda x, weight: torch.where(x > 0, x, x * weight)),
    "Prod": _prod,
    "Reciprocal": _unary(torch.reciprocal),
    "Relu": _unary(torch.relu),
    "Repeat": _repeat,
    "Rsqrt": _unary(torch.rsqrt),
    "Rsub": lambda op, ins, output: ins[1] - ins[0] * _scalar(op, "alpha") if len(ins) > 1 else None,
    "Select": _select,
    "Sgn": _unary(torch.sgn),
    "Sigmoid": _unary(torch.sigmoid),
    "Silu": _unary(F.silu),
    "Sin": _unary(torch.sin),
    "Sinh": _unary(torch.sinh),
    "Slice": _slice,
    "Sqrt": _unary(torch.sqrt),
    "Stack": _stack,
    "Std": _spread(torch.std),
    "Sub": _sub,
    "Sum": _reduce(torch.sum),
    "T": _unary(torch.t),
    "Tan": _unary(torch.tan),
    "Tanh": _unary(torch.tanh),
    "ToCopy": _to_copy,
    "Transpose": _transpose,
    "Unbind": _unbind,
    "Var": _spread(torch.var),
    "Where": _where,
    "Xlogy": _binary(torch.xlogy),
}
"""By the kind of the operator."""


def again(op: Op, ins: Sequence[torch.Tensor], output: int = 0) -> torch.Tensor | None:
    """What the operator gives for these operands; None where there is no rule or it does not fit."""
    rule = RULES.get(op.kind)
    if rule is None:
        return None
    try:
        with torch.no_grad():
            return rule(op, ins, output)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, NotImplementedError):
        return None
