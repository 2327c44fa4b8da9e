"""Why a value can sit at the edge of an operation's domain.

Each function answers with a reason that a reader can check, or ``None``: known to be safe, or not known
to be unsafe. A tensor parameter is data; a scalar parameter (a temperature, a count) is a setting.
"""

from __future__ import annotations

import ast
import re

from lossproof.source.complements import count_everything
from lossproof.source.syntax import Function, dotted
from lossproof.source.tensor_ops import PROBABILITIES, same
from lossproof.source.values import Meth, T

# Names that say "this is a setting or a count": used to stay silent, never to accuse.
_SETTING = re.compile(
    r"^(t|temp|temperature|tau|scale|scaling|sigma\d?|beta\d?|gamma|alpha|lambda_?\w*|lam|n|k|num\w*|\w*_num|n_\w+|count|"
    r"batch_size|bs|eps\w*|epsilon|smooth\w*|norm\w*|avg_factor|normali[sz]er|size|length\w*|\w*_len|\w*_lengths?|\w+_num_\w+|dim|factor|std\w*|var|"
    r"variance|s|m|margin|step\w*|epoch\w*|total\w*|world_size|weight_sum|denom\w*|stride|ratio|period|warmup\w*|c|nb\w*|"
    r"accum\w*|\w*_steps|div|divisor|bandwidth\w*|h|w|height|width|max_\w+|min_\w+|rate|lr|freq\w*|mean_?std|"
    r"\w*_scale|scale\d|\w*_factor|\w*_temperature|inv_\w+|diameter\w*|\w*_size|cfg|config|args|opt|loss_weight|\w*_weight)$",
    re.I,
)
_TARGET = re.compile(r"target|label|^gt|_gt$|ground|truth|^y$|y_true|mask|^tgt|annot", re.I)
_TENSOR_METHOD = {
    "view", "sum", "mean", "shape", "size", "dim", "float", "pow", "log", "exp", "clamp", "squeeze", "unsqueeze", "abs",
    "sqrt", "flatten", "reshape", "permute", "contiguous", "detach", "max", "min", "device", "dtype", "t", "transpose",
    "numel", "new_zeros", "type_as", "to", "argmax", "long", "sigmoid", "softmax", "backward", "clone",
    "norm", "std", "var",
    "cpu", "cuda", "requires_grad", "expand", "repeat", "gather", "ndim", "T", "masked_fill", "nelement",
}  # fmt: skip
_PRODUCTS = {"matmul", "mm", "bmm", "einsum", "dot", "mv", "tensordot", "outer"}
_NOT_A_TENSOR = {"ndarray", "float", "int", "bool", "str", "dict", "list", "Callable", "None"}


def is_setting_name(name: str) -> bool:
    return len(name) > 1 and _SETTING.match(name) is not None


def is_data(t: T) -> bool:
    """Whether a value that nothing is known of is at least a tensor of data, not a setting."""
    if t.tags & {"num", "size", "const", "parameter", "fresh"} and "item" not in t.tags:
        return False
    param = t.get("param")
    if param is not None:
        held = t.get("held")
        if held is not None and not _SETTING.match(param[1]) and is_tensor_param(*held):
            return not _annotated_number(*param)
        return is_tensor_param(*param)
    via = t.get("via")
    if via is not None:
        return any(isinstance(p, T) and is_data(p) for p in via[1:])
    return bool(t.tags & {"data", "pred", "output"}) and not (t.sym and _SETTING.match(t.sym))


def is_tensor_param(function: Function, name: str) -> bool:
    arguments = getattr(function.node, "args", None)
    if not isinstance(arguments, ast.arguments):
        return False
    if function.name == "__init__" and _annotation(arguments, name) != "Tensor":
        return False  # what an object is built with are settings
    if _SETTING.match(name):
        # One letter says little: ``t`` is a temperature here and the target there.
        return len(name) == 1 and used_as_tensor(function, name)
    positional = arguments.posonlyargs + arguments.args
    names = [a.arg for a in positional]
    last = _annotation(arguments, name)
    if last in ("Tensor", "FloatTensor"):
        return True
    if last in _NOT_A_TENSOR:
        return False
    if name in names:
        position = names.index(name)
        first_default = len(names) - len(arguments.defaults)
        if position >= first_default:
            default = arguments.defaults[position - first_default]
            if not (isinstance(default, ast.Constant) and default.value is None):
                return False
        offset = 1 if function.cls is not None and not function.is_static else 0
        if 0 <= position - offset < 2 and position < first_default:
            return True
    return used_as_tensor(function, name)


def _annotation(arguments: ast.arguments, name: str) -> str:
    every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    annotation = next((a.annotation for a in every if a.arg == name), None)
    if annotation is None:
        return ""
    text = dotted(annotation) or (annotation.value if isinstance(annotation, ast.Constant) else "")
    return str(text).rpartition(".")[2]


def _annotated_number(function: Function, name: str) -> bool:
    arguments = getattr(function.node, "args", None)
    return isinstance(arguments, ast.arguments) and _annotation(arguments, name) in _NOT_A_TENSOR


def used_as_tensor(function: Function, name: str) -> bool:
    body = function.node.body if isinstance(function.node.body, list) else [function.node.body]
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
                if node.attr in _TENSOR_METHOD:
                    return True
            elif isinstance(node, ast.Call) and node.args and dotted(node.func).partition(".")[0] in ("torch", "F"):
                first = node.args[0].operand if isinstance(node.args[0], ast.UnaryOp) else node.args[0]
                if isinstance(first, ast.Name) and first.id == name:
                    return True
    return False


def is_target(t: T, depth: int = 3) -> bool:
    """Whether a value comes from the targets alone, so that no gradient runs through it."""
    via = t.get("via")
    if "detached" in t.tags:
        inherited = [p for p in via[1:] if isinstance(p, T)] if via is not None else []
        if not any("detached" in p.tags for p in inherited):
            return True
        # One detached operand does not detach the others.
        return depth > 0 and all(is_target(p, depth - 1) for p in inherited if "const" not in p.tags)
    if "fresh" in t.tags:
        return True
    if t.tags & {"pred", "output"}:
        return False
    param = t.get("param")
    if param is not None:
        return _TARGET.search(param[1]) is not None or _runs_backward(param[0])
    if "data" in t.tags and via is not None and via[0] == "part":
        return True  # a part of a batch, whatever the loss calls it
    if t.sym:
        return _TARGET.search(t.sym) is not None
    if via is not None and depth:
        parts = [p for p in via[1:] if isinstance(p, T) and "const" not in p.tags]
        return bool(parts) and all(is_target(p, depth - 1) for p in parts)
    return "data" in t.tags


def _runs_backward(function: Function) -> bool:
    """A training step is handed the batch: no gradient runs to its parameters."""
    called = {getattr(c.func, "attr", "") for c in function.calls}
    return "backward" in called and bool(called & {"step", "zero_grad"})


def name_of(t: T) -> str:
    if t.sym:
        return f"`{t.sym}`"
    return "it"


def zero_reason(t: T, depth: int = 6) -> str | None:
    """Why a denominator can be zero."""
    if t.nonzero or depth == 0 or t.tags & {"guarded", "filled", "parameter"}:
        return None
    if t.hi is not None and t.hi < 0:
        return None
    if "num" in t.tags and not t.tags & {"item", "count"}:
        return None
    if t.lo is not None and t.lo == t.hi:
        return None
    via = t.get("via")
    if "numpy" in t.tags:
        return None
    if via is None:
        if t.act == "loss":
            return None
        if t.act == "relu":
            return "a ReLU gives exact zeros"
        if t.act == "affine":
            return "a raw output can pass through zero"
        if t.act == "norm" or isinstance(t.get("called"), Meth):
            return None  # what a method answers may well be a count or a scale
        return f"{name_of(t)} can hold zeros" if is_data(t) else None
    op = via[0]
    first = via[1] if len(via) > 1 and isinstance(via[1], T) else None
    if op in ("norm", "vector_norm", "std"):
        return _flat_reason(op, first, depth - 1) if first is not None else None
    if op in ("var", "cdist", "logsumexp", "matmul", "loss", "linear", "total"):
        return None
    if op == "where":
        return None
    if op == "part":
        return f"{name_of(t)} can hold zeros" if is_data(t) else None
    if op in ("bincount", "histc"):
        return "what does not occur in the batch has a count of 0" if is_data(t) else None
    if op == "sum" or op == "nansum":
        assert first is not None
        if "count" in t.tags:
            return "nothing may be selected: the count can be 0"
        if t.lo == 0.0 and not t.lo_open and is_data(first):
            return "the sum of values that can all be 0" if zero_reason(first, depth - 1) is not None else None
        if first.get("param") is not None and is_data(first):
            return f"the sum of {name_of(first)} can be 0"
        if first.act in ("affine",):
            return "a sum of raw outputs can pass through zero"
        inner = first.get("via")
        if inner is not None and inner[0] == "mul" and is_data(first) and first.act not in ("softmax", "probability"):
            return "the sum of a product can be 0"
        if inner is not None and inner[0] == "add" and zero_reason(first, depth - 1) is None:
            return None  # an epsilon in every element
        if "data" in first.tags and is_data(first):
            return f"the sum of {name_of(first)} can be 0"
        return None
    if op == "add":
        parts = [p for p in via[1:] if isinstance(p, T)]
        if any(p.positive and not p.tags & {"num"} for p in parts) or any(p.positive for p in parts):
            return None
        if any("num" in p.tags or (p.get("param") is not None and not is_data(p)) or _setting(p) for p in parts):
            return None  # an epsilon that we cannot read
        if len(parts) == 2 and count_everything(parts[0], parts[1]):
            return None  # what is counted and what is not are never both empty
        squares = [p.get("via") for p in parts]
        if all(s is not None and s[0] in ("pow", "square") and _width(s[1]) for s in squares):
            return None  # the diagonal of a box
        reasons = [zero_reason(p, depth - 1) for p in parts]
        return reasons[0] if reasons and all(reasons) else None
    if op == "sub":
        a, b = via[1], via[2]
        if a.lo is not None and a.lo == a.hi and b.lo is not None and b.hi is not None:
            closed = b.hi == a.lo and not b.hi_open
            return "it reaches zero at the end of its range" if closed else None
        if _is_reduction(a, "max") and _is_reduction(b, "min"):
            return "maximum and minimum are equal for a constant input"
        if _is_reduction(a, "maximum") and _is_reduction(b, "minimum"):
            return None  # the extent of two intervals together
        if a.lo == a.hi == 1.0:
            return "the difference is zero where the operand is 1" if is_data(b) and b.hi is None else None
        if "const" in a.tags or "const" in b.tags:
            return None
        if _overlap_sum(a) and is_data(t):
            return "the union is empty where both masks are"
        if _is_reduction(a, "add") or _is_reduction(a, "sub"):
            return None  # two areas less what they share: more than a difference can be said of
        return "the difference can be zero" if is_data(a) and is_data(b) else None
    if op in ("mul", "div"):
        if op == "mul" and _width(via[1]) and _width(via[2]):
            return None  # the area of a box
        for part in via[1:2] if op == "div" else via[1:]:
            reason = zero_reason(part, depth - 1) if isinstance(part, T) else None
            if reason is not None:
                return reason
        return None
    if op in (
        "abs",
        "neg",
        "pow",
        "square",
        "sqrt",
        "mean",
        "item",
        "clamp",
        "relu",
        "floor",
        "round",
        "trunc",
        "ceil",
    ):
        if op == "pow" and isinstance(via[2], T) and via[2].hi is not None and via[2].hi <= 0:
            return None
        if op == "clamp" and t.lo == 0.0 and not t.lo_open:
            return "a clamp at 0 lets zeros through"
        if op == "relu":
            return "a ReLU gives exact zeros"
        if op == "mean" and first is not None and (first.act in ("affine",) or "count" in t.tags or first.lo == 0.0):
            return "the mean can be 0" if is_data(first) else None
        return zero_reason(first, depth - 1) if first is not None else None
    if op in ("max", "min"):
        return "the extremum can be 0" if first is not None and is_data(first) and not first.nonzero else None
    if op in ("prod", "not"):
        return None
    if t.lo == 0.0 and not t.lo_open and is_data(t):
        return "it can be exactly 0"
    return None


# Reasons that hold for some data only: a row of zeros, two equal points, a box without an area.
NORM_OF_ZEROS = "a row of zeros has the norm 0"
NO_SPREAD = "equal values have the standard deviation 0"
EMPTY_BOXES = "the union is empty where both boxes have no area"
RARE = frozenset({NORM_OF_ZEROS, NO_SPREAD, EMPTY_BOXES})


def _flat_reason(op: str, t: T, depth: int) -> str | None:
    """Why a norm or a spread can be exactly 0. The raw output of a layer with weights is not."""
    if op == "std":
        if _rectified(t):
            return "a feature that a ReLU cuts off in the whole batch has the standard deviation 0"
        return NO_SPREAD if _handed_in(t) else None
    if _rectified(t):
        return "a ReLU can give a row of zeros, and its norm is 0"
    if "numpy" in t.tags or zero_reason(t, depth) is None:
        return None
    return NORM_OF_ZEROS if _handed_in(t) else None


def _rectified(t: T, depth: int = 3) -> bool:
    via = t.get("via")
    if t.act == "relu" or depth == 0 or via is None:
        return t.act == "relu"
    return via[0] in ("relu", "part") and isinstance(via[1], T) and (via[0] == "relu" or _rectified(via[1], depth - 1))


def _handed_in(t: T, depth: int = 4) -> bool:
    """What a loss is given and nothing else is known of, or the difference of two such; not what a network made."""
    if t.act or t.tags & {"pred", "output", "num", "guarded", "filled", "parameter", "fresh"}:
        return False
    via = t.get("via")
    if via is None:
        return is_data(t)
    parts = [p for p in via[1:] if isinstance(p, T)]
    if depth == 0 or via[0] not in ("sub", "part", "abs", "neg", "mul", "stack"):
        return False
    return bool(parts) and all(_handed_in(p, depth - 1) for p in parts)


def shared_area(union: T, shared: T) -> bool:
    """``inter / (a + b - inter)``: 0 / 0 where neither of two boxes has an area."""
    via = union.get("via")
    if via is None or via[0] != "sub" or not isinstance(via[1], T) or not same(via[2], shared):
        return False
    areas = via[1].get("via")
    return areas is not None and areas[0] == "add" and all(isinstance(p, T) and _area(p) for p in areas[1:])


def _area(t: T) -> bool:
    via = t.get("via")
    if via is None:
        return not t.positive and not t.tags & {"pred", "output", "num", "size", "const", "numpy"}
    if via[0] not in ("mul", "prod"):
        return False
    return all(_extent(p) for p in via[1:] if isinstance(p, T))


def _extent(t: T) -> bool:
    """``x2 - x1``, cut off at 0 or not, without a pixel or an epsilon added."""
    via = t.get("via")
    if t.positive or via is None:
        return False
    if via[0] == "sub":
        return not any("const" in p.tags or "num" in p.tags for p in via[1:] if isinstance(p, T))
    return via[0] in ("clamp", "maximum") and any(isinstance(p, T) and _is_reduction(p, "sub") for p in via[1:])


def _product(t: T, depth: int = 10) -> bool:
    """Whether a value is made with a product of matrices, whose sign says nothing."""
    via = t.get("via")
    if via is None or depth == 0:
        return False
    if via[0] in _PRODUCTS:
        return True
    return any(isinstance(p, T) and _product(p, depth - 1) for p in via[1:])


def _setting(t: T) -> bool:
    if not t.sym or _SETTING.match(t.sym) is None:
        return False
    return t.get("param") is None or not is_data(t)


def _is_reduction(t: T, word: str) -> bool:
    via = t.get("via")
    return via is not None and via[0] == word


def _width(t: object) -> bool:
    """A difference of coordinates, cut off at 0."""
    via = t.get("via") if isinstance(t, T) else None
    if via is None or via[0] not in ("clamp", "maximum"):
        return False
    return any(isinstance(p, T) and _is_reduction(_less_a_constant(p), "sub") for p in via[1:])


def _less_a_constant(t: T) -> T:
    """``x2 - x1`` in ``x2 - x1 + 1``: boxes that count their last pixel."""
    via = t.get("via")
    if via is None or via[0] != "add":
        return t
    return next((a for a, b in ((via[1], via[2]), (via[2], via[1])) if "const" in b.tags), t)


def _overlap_sum(t: T) -> bool:
    via = t.get("via")
    return via is not None and via[0] == "add" and all(_is_reduction(p, "sum") for p in via[1:] if isinstance(p, T))


def nonpositive_reason(t: T, depth: int = 6) -> str | None:
    """Why the argument of a logarithm can be zero or negative."""
    if t.positive or depth == 0 or t.tags & {"guarded", "filled", "parameter"}:
        return None
    if "num" in t.tags and not t.tags & {"item"}:
        return None
    if "numpy" in t.tags:
        return None
    via = t.get("via")
    if t.act in ("sigmoid", "softmax", "exp", "softplus", "norm"):
        return None
    if t.act == "affine" and (via is None or via[0] not in ("add", "sub", "mul", "div")):
        if via is not None and via[0] in _PRODUCTS and not any(can_be_negative(p) for p in via[1:] if isinstance(p, T)):
            return None  # a filter bank times magnitudes
        return "a raw output can be zero or negative"
    if t.act == "relu":
        return "a ReLU gives exact zeros"
    if via is None:
        if t.act == "loss":
            return None
        return f"nothing keeps {name_of(t)} above zero" if is_data(t) and not _setting(t) else None
    op = via[0]
    first = via[1] if len(via) > 1 and isinstance(via[1], T) else None
    if op in ("where", "logsumexp", "loss", "norm", "std", "var", "cdist"):
        return None
    if op == "part":
        return f"nothing keeps {name_of(t)} above zero" if is_data(t) else None
    if op == "add":
        parts = [p for p in via[1:] if isinstance(p, T)]
        if any("num" in p.tags or _setting(p) or (p.get("param") is not None and not is_data(p)) for p in parts):
            other = [p for p in parts if not ("num" in p.tags or _setting(p))]
            if len(other) == 1 and other[0].lo is None and other[0].act == "affine" and not _product(other[0]):
                return "a raw output can be negative"
            if len(other) == 1 and other[0].hi is not None and other[0].hi <= 0:
                return "the argument can be negative"
            return None
        reasons = [nonpositive_reason(p, depth - 1) for p in parts]
        if reasons and all(reasons):
            return reasons[0]
        return None
    if op == "sub":
        a, b = via[1], via[2]
        if a.lo is not None and a.lo == a.hi:
            if b.hi is not None and (b.hi < a.lo or (b.hi == a.lo and b.hi_open)):
                return None
            if b.tags & {"guarded", "filled"}:
                return None
            if b.hi is not None and b.hi == a.lo:
                return "it reaches zero at the end of its range"
            if b.hi is None and b.act == "affine":
                return "the difference can be negative"
            if b.act == "loss" and a.lo > 1 and _of_probabilities(b):
                return None  # an error of probabilities is at most 1
            return "nothing keeps it above zero" if is_data(b) else None
        if t.lo is not None and t.lo == 0.0 and not t.lo_open and is_data(t):
            return "the difference can be zero"
        return "the difference can be zero or negative" if is_data(a) and is_data(b) else None
    if op in ("mul", "div"):
        if t.nonnegative:
            for part in via[1:2] if op == "div" else via[1:]:
                if isinstance(part, T) and not part.positive:
                    reason = nonpositive_reason(part, depth - 1)
                    if reason is not None:
                        return reason
            return None
        if op == "div" and _share(via[1], via[2]):
            return None
        reasons = [nonpositive_reason(p, depth - 1) for p in via[1:] if isinstance(p, T)]
        known = [r for r in reasons if r is not None]
        return known[0] if known else None
    if op in (
        "abs",
        "square",
        "relu",
        "clamp",
        "mean",
        "sum",
        "sqrt",
        "item",
        "max",
        "min",
        "pow",
        "softmax",
        "prod",
        "neg",
        "cumsum",
    ):
        if op == "clamp":
            if t.lo is not None and t.lo == 0.0 and not t.lo_open:
                return "a clamp at 0 lets zeros through"
            if t.lo is None and first is not None:
                return nonpositive_reason(first, depth - 1)
            return None
        if op in ("abs", "square", "pow") and t.lo == 0.0 and not t.lo_open:
            return "it is exactly 0 where the operand is 0" if first is not None and is_data(first) else None
        if op == "sum" and "count" in t.tags:
            return "nothing may be selected: the count can be 0"
        if op == "neg":
            return "the argument can be negative" if first is not None and first.nonnegative else None
        return nonpositive_reason(first, depth - 1) if first is not None else None
    if t.lo == 0.0 and not t.lo_open and is_data(t):
        return "it can be exactly 0"
    return None


def _of_probabilities(loss: T) -> bool:
    via = loss.get("via")
    return via is not None and isinstance(via[1], T) and via[1].act in PROBABILITIES


def _share(a: T, b: T) -> bool:
    """``a / (a + c)``: a share of a whole; who writes this has positive numbers."""
    via = b.get("via")
    return via is not None and via[0] in ("add", "sum") and any(isinstance(p, T) and same(p, a) for p in via[1:])


def can_be_negative(t: T, depth: int = 6) -> bool:
    """Evidence that a value has either sign: a covariance, a raw output, and what is made from these."""
    if t.nonnegative or depth == 0 or t.tags & {"num", "const", "guarded", "filled", "clamped", "numpy", "parameter"}:
        return False
    via = t.get("via")
    if via is None:
        return t.act == "affine"
    op = via[0]
    parts = [p for p in via[1:] if isinstance(p, T)]
    if op == "sub":
        a, b = via[1], via[2]
        # A variance written as E[x^2] - E[x]^2 and a sum of squares less a product are not negative by nature.
        return is_data(a) and is_data(b) and not _even(b) and not _even(a)
    if op == "add":
        return any(can_be_negative(p, depth - 1) for p in parts) and not any(
            is_data(p) and p.nonnegative for p in parts
        )
    if op in ("mul", "div", "sum", "mean", "stack", "part", "max", "min", "avg_pool"):
        return any(can_be_negative(p, depth - 1) for p in (parts[:1] if op == "div" else parts))
    return False


def _even(t: T) -> bool:
    via = t.get("via")
    if via is None:
        return False
    if via[0] in ("mul", "pow", "square"):
        return via[0] != "mul" or same(via[1], via[2])
    return via[0] in ("conv", "avg_pool", "mean", "sum") and isinstance(via[1], T) and _even(via[1])


def root_reason(t: T, depth: int = 5) -> str | None:
    """Why a root or a fractional power is taken at a point where its gradient is infinite."""
    if t.positive or t.tags & {"guarded", "filled", "parameter", "numpy"} or depth == 0:
        return None
    if "num" in t.tags:
        return None
    if is_target(t):
        return None
    via = t.get("via")
    if t.act == "relu" and (via is None or via[0] in ("relu", "relu6", "hardsigmoid")):
        return None  # its backward writes 0 over what the root sends back
    if t.act == "loss":
        return "the loss is 0 at a perfect fit"
    if via is None:
        if t.act == "norm":
            return None
        if t.act == "affine":
            return "a raw output can be zero or negative"
        return f"nothing keeps {name_of(t)} above zero" if is_data(t) and not _setting(t) else None
    op = via[0]
    first = via[1] if len(via) > 1 and isinstance(via[1], T) else None
    if op == "var":
        return "the variance of equal values is 0" if first is not None and is_data(first) else None
    if op in ("where", "std", "norm", "cdist"):
        return None
    if op == "part":
        return f"nothing keeps {name_of(t)} above zero" if is_data(t) else None
    if op == "stack":
        return root_reason(first, depth - 1) if first is not None else None
    if op == "add":
        parts = [p for p in via[1:] if isinstance(p, T)]
        for one, other in ((parts[0], parts[-1]), (parts[-1], parts[0])):
            negated = other.get("via")
            if one.lo == one.hi == 1.0 and negated is not None and negated[0] == "neg" and is_data(negated[1]):
                return "the difference can be zero or negative"
        if any("num" in p.tags or _setting(p) or (p.get("param") is not None and not is_data(p)) for p in parts):
            return None
        reasons = [root_reason(p, depth - 1) for p in parts]
        return reasons[0] if reasons and all(reasons) else None
    if op == "loss":
        return "the loss is 0 at a perfect fit"
    if op == "clamp":
        if t.lo == 0.0 and not t.lo_open:
            return "a clamp at 0 lets zeros through, and the gradient of the root there is infinite"
        return root_reason(first, depth - 1) if t.lo is None and first is not None else None
    if op == "maximum":
        return "a maximum with 0 lets zeros through" if t.lo == 0.0 else None
    if op in ("sub",):
        if t.lo is not None and t.lo == 0.0 and is_data(t):
            return "the difference can be exactly 0"
        a, b = via[1], via[2]
        if "const" in a.tags and b.hi is not None and b.hi_open and a.lo is not None and b.hi <= a.lo:
            return None
        return "the difference can be zero or negative" if is_data(a) or is_data(b) else None
    if op in ("mul", "div"):
        for part, other in ((via[1], via[2]), (via[2], via[1]))[: 1 if op == "div" else 2]:
            if isinstance(part, T) and not part.positive:
                reason = root_reason(part, depth - 1)
                if reason is not None:
                    return reason
                if part.act == "relu" and isinstance(other, T) and other.tags & {"pred", "output", "parameter"}:
                    return "a ReLU gives exact zeros: what it is scaled with gets a gradient of zero times infinity"
        if t.lo == 0.0 and via[0] == "mul" and via[1] is via[2]:
            return "a square is exactly 0 where both sides agree"
        return None
    if op in ("sum", "mean", "square", "pow", "abs", "squeeze", "exp", "prod", "matmul", "neg"):
        if op == "matmul":
            return None
        if op == "neg" and first is not None and first.act == "log" and is_data(first):
            return "it is 0 where the logarithm's argument is 1"
        if t.lo == 0.0 and not t.lo_open:
            base = first
            while base is not None and base.get("via") is not None and base.get("via")[0] in ("sum", "mean"):
                base = base.get("via")[1]
            return (
                "a sum of squares is exactly 0 where both sides agree" if base is not None and is_data(base) else None
            )
        return root_reason(first, depth - 1) if first is not None and op in ("sum", "mean", "abs") else None
    if t.lo == 0.0 and not t.lo_open and is_data(t):
        return "it can be exactly 0"
    return None
