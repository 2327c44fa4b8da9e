"""What the symbols of libraries do when they are called, indexed, iterated or asked for an attribute.

PyTorch's operations are in ``tensor_ops``; this file knows the rest: built-ins, containers, layers,
wrappers, data loaders, and how they hand values on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lossproof.source import instantiated, tensor_ops
from lossproof.source.lower import Node
from lossproof.source.torch_names import (
    KEEP,
    LAYER_OPERATION,
    LOSS_FUNCTION,
    LOSS_LAYER,
    RETURNS_SELF,
    TRANSPARENT_WRAPPER,
    canonical,
    layer,
    loss_kind,
    operation,
)
from lossproof.source.values import (
    NONE,
    UNKNOWN,
    Cls,
    Const,
    Func,
    Hop,
    Inst,
    Lib,
    Map,
    Meth,
    Mod,
    Partial,
    Ref,
    Seq,
    T,
    Union,
    Value,
    alternatives,
    constant,
    join,
    number,
)

if TYPE_CHECKING:
    from lossproof.source.evaluate import Evaluator
    from lossproof.source.frames import Frame

BUILTINS = {
    "len", "range", "enumerate", "zip", "list", "tuple", "dict", "set", "sorted", "reversed", "map", "filter", "sum",
    "min", "max", "abs", "float", "int", "str", "bool", "getattr", "setattr", "hasattr", "isinstance", "type", "print",
    "super", "iter", "next", "callable", "id", "round", "pow", "any", "all", "open", "vars", "eval",
    "globals", "locals",
    "frozenset", "object", "property", "staticmethod", "classmethod", "issubclass", "repr", "divmod", "slice", "exec",
}  # fmt: skip

# What undefined names mean in code that was pasted without its imports.
CUSTOMARY = {
    "torch": "torch",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "np": "numpy",
    "torchvision": "torchvision",
}

MAP_METHODS = {"get", "items", "keys", "values", "pop", "update", "copy", "setdefault", "to", "cuda"}
CONTAINERS = {"Sequential": "sequential", "ModuleList": "modulelist", "ParameterList": "modulelist"}
NAMESPACES = ("Namespace", "SimpleNamespace", "EasyDict", "edict", "AttrDict", "DotMap", "Munch", "Box", "ConfigDict")
_OUTPUT = frozenset({"output"})
PASS_THROUGH = ("tqdm", "trange", "tqdm_notebook", "track", "islice", "progress_bar", "cycle", "Prefetcher", "prefetch")
_ACTIVATION_LAYERS = {
    "Sigmoid", "Softmax", "LogSoftmax", "Softmax2d", "LogSigmoid", "Tanh", "ReLU", "Identity", "Softplus", "GELU",
    "LeakyReLU", "ELU", "SiLU", "Hardsigmoid",
}  # fmt: skip
# A module, with its parameters handed in.
_STATELESS = {
    "torch.func.functional_call",
    "torch.nn.utils.stateless.functional_call",
    "torch.nn.utils.functional_call",
}
# Distributions whose entropy has no upper bound.
CONTINUOUS = {
    f"torch.distributions.{name}"
    for name in ("Normal", "MultivariateNormal", "Laplace", "LogNormal", "Gamma", "Cauchy")
}
CONTINUOUS |= {f"torch.distributions.normal.{name}" for name in ("Normal",)}
_ACTIVATION_WORDS = {"sigmoid", "softmax", "log_softmax", "logsigmoid", "tanh", "relu", "identity", "softplus"}


def is_activation(value: Value) -> bool:
    if isinstance(value, Lib):
        return (layer(value.name) or "") in _ACTIVATION_LAYERS
    if isinstance(value, Ref):
        return value.name.rpartition(".")[2] in _ACTIVATION_WORDS | _ACTIVATION_LAYERS
    return False


def forgets_input(obj: Lib) -> bool:
    """A layer whose output is a raw score whatever comes in."""
    word = layer(obj.name)
    if word is None:
        return False
    return LAYER_OPERATION.get(word) in ("linear", "conv", "norm_layer") or word in ("LSTM", "GRU", "RNN")


def is_layer(name: str) -> bool:
    return (layer(name) or "") in LAYER_OPERATION


def exports(module: str, name: str) -> bool:
    """Whether ``from module import *`` of a library plausibly brings a name."""
    if module == "torch.nn":
        return name in LAYER_OPERATION or name in LOSS_LAYER or name in CONTAINERS or name in ("Module", "functional")
    if module == "torch.nn.functional":
        return name in LOSS_FUNCTION or name in _ACTIVATION_WORDS or name in KEEP
    if module == "torch":
        return name in ("nn", "sigmoid", "softmax", "log", "exp", "sqrt", "mean", "sum", "clamp", "Tensor", "tensor")
    return False


def ref_attribute(dotted: str) -> Value:
    if dotted in ("math.pi", "numpy.pi", "torch.pi"):
        return Const(math.pi)
    if dotted in ("math.e", "numpy.e"):
        return Const(math.e)
    if dotted in ("math.inf", "numpy.inf", "torch.inf"):
        return T(lo=math.inf, hi=math.inf)
    return Ref(canonical(dotted))


# ---- calls


def call(
    ev: Evaluator, name: str, args: list[Value], kwargs: dict[str, Value], frame: Frame | None, node: Node | None
) -> Value:
    """A library function or class, called."""
    if name.startswith("builtins."):
        return builtin(ev, name[9:], args, kwargs, frame, node)
    if name in TRANSPARENT_WRAPPER:
        inner = args[0] if args else next(iter(kwargs.values()), None)
        if inner is None:
            return Ref("builtins.identity")
        if name == "torch.nn.Parameter" or name.endswith(".Parameter"):
            return T(tags=frozenset({"parameter"}))  # where it starts says nothing of where it goes
        return inner
    if name == "functools.reduce" and len(args) >= 2:
        steps = ev.as_sequence(args[1])
        if steps is not None and steps.rest is None and len(steps.head + steps.tail) <= 32:
            parts = list(steps.head + steps.tail)
            total = args[2] if len(args) > 2 else parts.pop(0) if parts else UNKNOWN
            for part in parts:
                total = ev.call(args[0], [total, part], {}, frame, node)
            return total
        return UNKNOWN
    if name == "functools.partial" and args:
        return Partial(args[0], tuple(args[1:]), dict(kwargs))
    kind = loss_kind(name)
    if kind is not None and name.rpartition(".")[2][:1].islower():
        return loss_result(kind, args, kwargs, frame, node, {})
    if layer(name) is not None or (kind is not None):
        return construct(ev, name, args, kwargs, frame, node)
    op = operation(name)
    if op is not None and not op[:1].isupper():
        hop = _hop(frame, node)
        receiver = args[0] if args else kwargs.get("input", kwargs.get("tensors", kwargs.get("self", UNKNOWN)))
        result = tensor_ops.apply(op, receiver, args[1:], _renamed(kwargs), hop)
        if result is not None:
            if "dtype" in kwargs:
                result = _cast(result, kwargs["dtype"])
            return result
    if op in ("FloatTensor", "LongTensor", "Tensor", "DoubleTensor", "HalfTensor", "ByteTensor", "BoolTensor") and args:
        return tensor_ops.rewrapped(args[0])
    top, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    if top == "numpy":
        result = tensor_ops.apply(
            rest.replace("absolute", "abs"), args[0] if args else UNKNOWN, args[1:], _renamed(kwargs), _hop(frame, node)
        )
        if isinstance(result, T):
            return result.but(tags=result.tags | {"numpy", "detached"})
        return T(tags=frozenset({"numpy", "detached"})) if not isinstance(result, Seq) else result
    if top == "math" and args:
        return _math(last, args)
    if top == "einops" and args:
        return args[0] if last in ("rearrange", "repeat") else UNKNOWN
    if name in ("collections.OrderedDict", "collections.defaultdict", "collections.UserDict"):
        if name.endswith("defaultdict"):
            return Map({})
        return builtin(ev, "dict", args, kwargs, frame, node)
    if name in ("collections.namedtuple", "typing.NamedTuple") and len(args) >= 2:
        return Lib("namedtuple", tuple(args), kwargs, None, None)
    if name.endswith("OmegaConf.create") and args and isinstance(args[0], Map):
        return args[0]
    if name in instantiated.NAMES and frame is not None and (args or "config" in kwargs):
        settings = args[0] if args else kwargs["config"]
        made = instantiated.instantiated(ev, settings, args[1:], kwargs, frame, node)
        if made is not None:
            return made
    if last in NAMESPACES:
        inner_map = args[0] if args and isinstance(args[0], Map) else Map({})
        return Map({**inner_map.items, **kwargs}, inner_map.rest)
    if last in PASS_THROUGH and args:
        return args[0]
    if name in ("importlib.import_module",) and args and isinstance(constant(args[0]), str) and frame is not None:
        return ev.import_value(frame.function.module, str(constant(args[0])), None, 0)
    if name == "torch.utils.checkpoint.checkpoint" and args:
        return ev.call(args[0], args[1:], {}, frame, node)
    if name in _STATELESS and len(args) > 2:
        given = ev.as_sequence(args[2]) if isinstance(args[2], Seq) else None
        more = list(given.head + given.tail) if given is not None and given.rest is None else [args[2]]
        return ev.call(args[0], more, dict(kwargs), frame, node)
    if name in ("torch.vmap", "torch.func.vmap", "torch.jit.ignore", "torch.jit.export") and args:
        return args[0]
    if name == "torch.cuda.amp.custom_fwd" and args:
        return args[0]
    if name == "types.MethodType" and len(args) == 2 and isinstance(args[0], Func):
        return Func(args[0].function, args[0].closure, args[1])
    if name == "torch.autograd.grad":
        return Seq("tuple", (), T(tags=_OUTPUT))
    if name == "operator.itemgetter":
        return UNKNOWN
    if name == "copy.deepcopy" and args:
        return args[0]
    if top == "sklearn":
        found = _sklearn(last, args, kwargs)
        if found is not None:
            return found
    if last[:1].isupper() or _is_model_factory(name) or name == "dataclasses.field":
        module = frame.function.module if frame is not None else None
        return Lib(name, tuple(args), dict(kwargs), module, node.at if node is not None else None)
    if (
        last in ("clone", "device_put", "to_device", "wrap_model", "prepare_model", "convert_model", "setup_model")
        and args
    ):
        return args[0]
    return T(info={"from": name})


def _is_model_factory(name: str) -> bool:
    return name.startswith(("torchvision.models.", "timm.create_model", "timm.models.", "torch.hub.load"))


def _renamed(kwargs: dict[str, Value]) -> dict[str, Value]:
    if "axis" in kwargs:
        return {**kwargs, "dim": kwargs["axis"]}
    if "a_min" in kwargs or "a_max" in kwargs:
        return {**kwargs, "min": kwargs.get("a_min", NONE), "max": kwargs.get("a_max", NONE)}
    return kwargs


def _cast(value: Value, dtype: Value) -> Value:
    name = dtype.name if isinstance(dtype, Ref) else ""
    if name in ("torch.float16", "torch.half"):
        return tensor_ops.distribute(lambda t: t.tagged("half"), value)
    if name == "torch.bfloat16":
        return tensor_ops.distribute(lambda t: t.tagged("bf16"), value)
    if name in ("torch.float64", "torch.double", "torch.float32", "torch.float"):
        return (
            tensor_ops.apply(
                "double" if name in ("torch.float64", "torch.double") else "float", value, [], {}, _hop(None, None)
            )
            or value
        )
    return value


def _hop(frame: Frame | None, node: Node | None) -> Callable[[str], Hop]:
    if frame is None or node is None:
        return lambda message: Hop(None, None, message)  # type: ignore[arg-type]
    module = frame.function.module
    return lambda message: Hop(module, node.at, message)


def _math(last: str, args: list[Value]) -> Value:
    v = number(args[0])
    if v is not None:
        try:
            return Const(float(getattr(math, last)(*[number(a) for a in args])))
        except (TypeError, ValueError, AttributeError, ArithmeticError):
            return T(tags=frozenset({"num"}))
    return T(tags=frozenset({"num"}))


def _sklearn(last: str, args: list[Value], kwargs: dict[str, Value]) -> Value | None:
    features = T(tags=frozenset({"data", "numpy"}), info={"ndim": 2})
    target = T(tags=frozenset({"data", "numpy", "target"}), info={"ndim": 1})
    if last.startswith(("load_", "make_", "fetch_")):
        if last.startswith("make_") or constant(kwargs.get("return_X_y")) is True:
            return Seq("tuple", (features, target))
        return Map({"data": features, "target": target}, UNKNOWN)
    if last == "train_test_split":
        return Seq("tuple", tuple(x for a in args for x in (a, a)))
    return None


def construct(
    ev: Evaluator, name: str, args: list[Value], kwargs: dict[str, Value], frame: Frame | None, node: Node | None
) -> Value:
    """A library's class, instantiated."""
    word = layer(name)
    if word in CONTAINERS:
        kind = CONTAINERS[word]
        if word == "Sequential" and len(args) == 1 and isinstance(args[0], Map):
            return Seq(kind, tuple(args[0].items.values()), args[0].rest)
        if word != "Sequential" or (len(args) == 1 and isinstance(args[0], (Seq, Union)) and _listlike(args[0])):
            if not args:
                return Seq(kind, ())
            inner = ev.as_sequence(args[0])
            return Seq(kind, inner.head, inner.rest, inner.tail) if inner is not None else Seq(kind, (), UNKNOWN)
        return Seq(kind, tuple(args))
    if word == "ModuleDict":
        return args[0] if args and isinstance(args[0], Map) else Map({}, UNKNOWN if args else None)
    module = frame.function.module if frame is not None else None
    return Lib(name, tuple(args), dict(kwargs), module, node.at if node is not None else None)


def _listlike(value: Value) -> bool:
    return all(isinstance(v, Seq) and v.kind in ("list", "tuple") for _, v in alternatives(value))


def call_object(
    ev: Evaluator, obj: Lib, args: list[Value], kwargs: dict[str, Value], frame: Frame | None, node: Node | None
) -> Value:
    """A library object, called: a layer, a loss module, a model from a model zoo."""
    kind = loss_kind(obj.name)
    if kind is not None:
        return loss_result(kind, args, kwargs, frame, node, _criterion_settings(kind, obj))
    word = layer(obj.name)
    hop = _hop(frame, node)
    if word is not None:
        return call_layer(ev, obj, word, args, kwargs, hop)
    if obj.name == "namedtuple":
        names = obj.args[1]
        text = constant(names)
        fields = text.replace(",", " ").split() if isinstance(text, str) else []
        if isinstance(names, Seq):
            fields = [str(constant(n)) for n in names.every()]
        items: dict[Any, Value] = {}
        for i, field in enumerate(fields):
            value = args[i] if i < len(args) else kwargs.get(field, UNKNOWN)
            items[field] = value
            items[i] = value
        return Map(items)
    for head in ("fc", "classifier", "head", "heads", "last_linear", "_fc"):
        if "." + head in obj.kwargs:
            return ev.call(obj.kwargs["." + head], [T("affine", tags=frozenset({"pred"}))], {}, frame, node)
    if (
        obj.name.startswith("torchvision.models.")
        and ".segmentation." not in obj.name
        and ".detection." not in obj.name
    ):
        return _zoo_scores(obj)
    if obj.name == "timm.create_model":
        return _zoo_scores(obj)
    return T(info={"called": obj})


def _zoo_scores(obj: Lib) -> T:
    """What a classifier of a model zoo gives: as many columns as it was asked for."""
    asked = constant(obj.kwargs.get("num_classes"))
    width = asked if isinstance(asked, int) and asked > 0 else None
    return T("affine", tags=frozenset({"pred"}), info={"width": width} if width is not None else None)


def call_layer(
    ev: Evaluator, obj: Lib, word: str, args: list[Value], kwargs: dict[str, Value], hop: Callable[[str], Hop]
) -> Value:
    op = LAYER_OPERATION.get(word)
    x = args[0] if args else kwargs.get("input", UNKNOWN)
    if op is None:
        if word in ("LSTM", "GRU", "RNN"):
            output = T("affine", tags=frozenset({"pred"}), info={"ndim": 3})
            return Seq("tuple", (output, Seq("tuple", (output, output)) if word == "LSTM" else output))
        if word == "MultiheadAttention":
            return Seq("tuple", (T("affine", tags=frozenset({"pred"})), T("softmax", 0.0, 1.0)))
        if word.startswith(("Transformer", "LSTMCell", "GRUCell", "RNNCell")):
            return T("affine", tags=frozenset({"pred"}))
        if word == "AdaptiveLogSoftmaxWithLoss":
            return UNKNOWN
        return T(tags=tensor_ops.inherit(tensor_ops.as_tensor(x)))
    if op in ("linear", "conv"):
        position = 0 if word.startswith("Lazy") else 1
        names = ("out_features", "out_channels", "embedding_dim")
        out = obj.arg(position, next((n for n in names if n in obj.kwargs), names[0]))
        size = constant(out)
        known = tensor_ops.as_tensor(x)
        info: dict[str, Any] = {"channels": size} if isinstance(size, int) and op == "conv" else {}
        if op == "conv" and word[-2:] in ("1d", "2d", "3d"):
            info["ndim"] = int(word[-2]) + 2
        if op == "linear" and word != "Embedding":
            info["width"] = size if isinstance(size, int) else None
            info["ndim"] = known.get("ndim")
        # The layer's own weights carry gradient, whatever was done to its input.
        return T(
            "affine", tags=(tensor_ops.inherit(known) - {"detached", "data", "param", "numpy"}) | {"pred"}, info=info
        )
    if op in ("softmax", "log_softmax"):
        kwargs = dict(kwargs)
        dim = obj.arg(0, "dim")
        if word == "Softmax2d":
            dim = Const(1)
        if dim is not None:
            kwargs["dim"] = dim
    result = tensor_ops.apply(op, x, [], kwargs, hop)
    if result is None:
        return UNKNOWN
    if op in ("sigmoid", "softmax", "log_softmax", "logsigmoid") and obj.module is not None and obj.at is not None:
        built = Hop(obj.module, obj.at, f"`nn.{word}` built here")

        def traced(t: T) -> T:
            return t.but(trace=(built, *t.trace)) if t.trace else t

        return tensor_ops.distribute(traced, result)
    return result


_WEIGHTED_FIRST = ("ce", "nll", "bce", "bce_logits")


def _criterion_settings(kind: str, obj: Lib) -> dict[str, Value]:
    """What a criterion was built with, and what was set on it afterwards."""
    settings = {k: v for k, v in obj.kwargs.items() if not k.startswith(".")}
    if obj.args and kind in _WEIGHTED_FIRST:
        settings.setdefault("weight", obj.args[0])
    settings.update({k[1:]: v for k, v in obj.kwargs.items() if k.startswith(".")})
    return settings


def loss_result(
    kind: str,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame | None,
    node: Node | None,
    settings: dict[str, Value],
) -> T:
    """The value of a loss function: a non-negative number for most, of which the kind is remembered."""
    reduction = constant(kwargs.get("reduction", settings.get("reduction")))
    if constant(kwargs.get("reduce", settings.get("reduce"))) is False:
        reduction = "none"
    x = args[0] if args else kwargs.get("input", UNKNOWN)
    nonnegative = kind not in ("kl", "poisson", "gaussian", "nll")
    given = {**settings, **{k: v for k, v in kwargs.items() if k not in ("input", "target")}}
    if len(args) > 2 and kind in _WEIGHTED_FIRST:
        given.setdefault("weight", args[2])
    weight = given.get("weight")
    smoothing = kwargs.get("label_smoothing", settings.get("label_smoothing"))
    info = {
        "loss": kind,
        "reduction": reduction or "mean",
        "via": ("loss", tensor_ops.as_tensor(x)),
        "weight": weight,
        "label_smoothing": smoothing,
        "given": given,
        "ignores": "ignore_index" in kwargs or "ignore_index" in settings,
    }
    tags = frozenset({"loss"}) | tensor_ops.inherit(tensor_ops.as_tensor(x))
    return T("loss", 0.0 if nonnegative else None, tags=tags, info=info)


# ---- built-ins


def builtin(
    ev: Evaluator,
    name: str,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame | None,
    node: Node | None,
) -> Value:
    first = args[0] if args else UNKNOWN
    if name == "identity":
        return first
    if name == "len":
        if isinstance(first, Seq) and first.rest is None:
            return Const(len(first.head) + len(first.tail))
        return T(lo=0.0, tags=frozenset({"num", "size"}))
    if name == "range":
        bounds = [constant(a) for a in args]
        if args and all(isinstance(b, int) for b in bounds):
            span = range(*bounds) if bounds[-1] != 0 or len(bounds) < 3 else range(0)
            if len(span) <= 32:
                return Seq("list", tuple(Const(i) for i in span))
        return Seq("list", (), T(lo=0.0, tags=frozenset({"num"})))
    if name == "enumerate":
        inner = ev.as_sequence(first)
        start = constant(args[1]) if len(args) > 1 else constant(kwargs.get("start"))
        offset = start if isinstance(start, int) else 0
        if inner is not None and inner.rest is None:
            return Seq(
                "list", tuple(Seq("tuple", (Const(i + offset), v)) for i, v in enumerate(inner.head + inner.tail))
            )
        return Seq("list", (), Seq("tuple", (T(lo=0.0, tags=frozenset({"num"})), ev_element(ev, first))))
    if name == "zip":
        inners = [ev.as_sequence(a) for a in args]
        rows = [s.head + s.tail for s in inners if s is not None and s.rest is None]
        if rows:
            # Beside a sequence of known length an unknown one gives an unknown item a row: the pairs stay pairs.
            length = min(len(row) for row in rows)
            columns = [
                s.head + s.tail if s is not None and s.rest is None else (ev_element(ev, a),) * length
                for s, a in zip(inners, args, strict=True)
            ]
            return Seq("list", tuple(Seq("tuple", row) for row in zip(*columns, strict=False)))
        return Seq("list", (), Seq("tuple", tuple(ev_element(ev, a) for a in args)))
    if name in ("list", "tuple", "sorted", "reversed", "set", "frozenset", "iter"):
        if not args:
            return Seq("list" if name != "tuple" else "tuple", ())
        inner = ev.as_sequence(first)
        if inner is not None:
            kind = "tuple" if name == "tuple" else "list"
            if name == "reversed":
                return Seq(kind, tuple(reversed(inner.tail)), inner.rest, tuple(reversed(inner.head)))
            if name == "sorted" and inner.rest is None and len(inner.head) > 1:
                return Seq(kind, (), join([((), v) for v in inner.every()]))
            return Seq(kind, inner.head, inner.rest, inner.tail)
        if isinstance(first, Inst):
            container = ev.as_library_container(first)
            if isinstance(container, Seq):
                return Seq("list", container.head, container.rest, container.tail)
        return Seq("list", (), ev_element(ev, first)) if not isinstance(first, (Lib, Ref)) else first
    if name == "dict":
        items: dict[Any, Value] = {}
        rest: Value | None = None
        if isinstance(first, Map):
            items.update(first.items)
            rest = first.rest
        elif isinstance(first, Seq):
            for pair in first.head + first.tail:
                key = constant(pair.at(0)) if isinstance(pair, Seq) else None
                value = pair.at(1) if isinstance(pair, Seq) else None
                if isinstance(key, (str, int)) and value is not None:
                    items[key] = value
                else:
                    rest = value or UNKNOWN
            rest = first.rest if rest is None else rest
        items.update({k: v for k, v in kwargs.items() if k != "**"})
        return Map(items, rest)
    if name == "next":
        return ev_element(ev, first)
    if name == "getattr" and len(args) >= 2 and frame is not None and node is not None:
        return _getattr(ev, args, frame, node)
    if name == "map" and len(args) >= 2:
        inner = ev.as_sequence(args[1])
        if inner is not None:
            return Seq(
                "list",
                tuple(ev.call(first, [v], {}, frame, node) for v in inner.head),
                ev.call(first, [inner.rest], {}, frame, node) if inner.rest is not None else None,
                tuple(ev.call(first, [v], {}, frame, node) for v in inner.tail),
            )
        return Seq("list", (), ev.call(first, [UNKNOWN], {}, frame, node))
    if name == "filter" and len(args) == 2:
        return args[1]
    if name == "sum":
        inner = ev.as_sequence(first)
        if inner is not None and inner.every():
            hop = _hop(frame, node)
            if inner.rest is None:
                total = (inner.head + inner.tail)[0]
                for v in (inner.head + inner.tail)[1:]:
                    total = tensor_ops.binary("+", total, v, hop)
                return total
            part = tensor_ops.as_tensor(inner.rest)
            tags = tensor_ops.inherit(part) | (part.tags & {"loss"})
            return T(
                lo=0.0 if part.nonnegative else None, tags=tags, info={"loss": part.get("loss"), "via": ("total", part)}
            )
        known = tensor_ops.as_tensor(first)
        return T(tags=tensor_ops.inherit(known), info={"via": ("total", known)})
    if name in ("min", "max"):
        parts = args if len(args) > 1 else (ev.as_sequence(first) or Seq("list", (), UNKNOWN)).every()
        ts = [tensor_ops.as_tensor(p) for p in parts]
        if not ts:
            return UNKNOWN
        result = ts[0]
        for t in ts[1:]:
            result = tensor_ops.extremum(name == "max", result, t)
        if all("num" in t.tags for t in ts):
            result = result.tagged("num")
        return result
    if name in ("float", "int", "round"):
        exact = number(first)
        if exact is not None and math.isfinite(exact):
            return Const(exact if name == "float" else int(exact))
        t = tensor_ops.as_tensor(first)
        via = {"via": ("item", t)} if "num" not in t.tags else None
        tags = tensor_ops.inherit(t) | {"num", "detached", "item"}
        return T("", t.lo, t.hi, t.lo_open, t.hi_open, tags, info=via)
    if name == "abs":
        return tensor_ops.apply("abs", first, [], {}, _hop(frame, node)) or UNKNOWN
    if name == "pow" and len(args) == 2:
        return tensor_ops.binary("**", first, args[1], _hop(frame, node))
    if name == "str":
        return first if isinstance(first, Const) and isinstance(first.v, str) else UNKNOWN
    if name == "isinstance" and len(args) == 2:
        return _isinstance(ev, first, args[1])
    if name == "callable":
        return Const(True) if isinstance(first, (Inst, Func, Cls, Lib, Partial)) else UNKNOWN
    if name == "type":
        return first.cls if isinstance(first, Inst) else UNKNOWN
    if name == "vars" and isinstance(first, Map):
        return first
    if name in ("hasattr", "bool", "any", "all"):
        return T(lo=0.0, hi=1.0, tags=frozenset({"bool", "num"}))
    if name == "print" or name == "setattr":
        return NONE
    if name == "eval" and isinstance(constant(first), str) and frame is not None:
        text = str(constant(first))
        if text.isidentifier():
            return ev.global_value(frame.function.module, text)
        head, _, tail = text.partition(".")
        base = ev.global_value(frame.function.module, head)
        if isinstance(base, Ref) and tail and all(p.isidentifier() for p in tail.split(".")):
            return ref_attribute(f"{base.name}.{tail}")
        return UNKNOWN
    if name == "globals" and frame is not None:
        module = frame.function.module
        return Map({n: ev.global_value(module, n) for n in module.top}, UNKNOWN)
    if name in ("property", "staticmethod", "classmethod"):
        return first
    return UNKNOWN


def ev_element(ev: Evaluator, value: Value) -> Value:
    return join([(a, ev.element_of(v)) for a, v in alternatives(value)])


def _getattr(ev: Evaluator, args: list[Value], frame: Frame, node: Node) -> Value:
    obj, key = args[0], args[1]
    if isinstance(key, Union):
        return join([(a, _getattr(ev, [obj, k, *args[2:]], frame, node)) for a, k in key.alts])
    name = constant(key)
    if isinstance(name, str):
        if isinstance(obj, Inst):
            found = ev.instance_attribute(obj, name, frame, node)
            if found is not None:
                return found
            return args[2] if len(args) > 2 else T(sym=name)
        if isinstance(obj, T) and len(args) > 2 and not obj.act:
            return args[2] if isinstance(args[2], Const) and isinstance(args[2].v, bool) else T(sym=name)
        return join([(a, ev.attribute(frame, o, name, node)) for a, o in alternatives(obj)])
    if isinstance(obj, Inst):
        return ev.computed_attribute(obj, None) or UNKNOWN
    if isinstance(obj, (Ref, Mod)):
        usual = ev.usual(frame.function.module, key)
        return _getattr(ev, [obj, usual, *args[2:]], frame, node) if usual is not None else UNKNOWN
    return UNKNOWN


def _isinstance(ev: Evaluator, value: Value, kinds: Value) -> Value:
    names = []
    for kind in kinds.every() if isinstance(kinds, Seq) else [kinds]:
        names.append(kind.name if isinstance(kind, Ref) else kind.info if isinstance(kind, Cls) else "?")
    if isinstance(value, Union):
        truths = [_isinstance(ev, v, kinds) for _, v in value.alts]
        if all(isinstance(t, Const) for t in truths) and len({constant(t) for t in truths}) == 1:
            return truths[0]
        return T(tags=frozenset({"bool", "num"}))
    unknown = T(tags=frozenset({"bool", "num"}))
    if isinstance(value, Inst):
        infos = [c.info for c in ev.mro(value.cls)]
        if any(n in infos for n in names if not isinstance(n, str)):
            return Const(True)
        base = ev.library_base(value.cls)
        if base in names:
            return Const(True)
        if all(not isinstance(n, str) or n.startswith("builtins.") for n in names):
            return Const(False)
        return unknown
    own = ""
    if isinstance(value, Seq):
        own = {"tuple": "builtins.tuple", "list": "builtins.list", "set": "builtins.set"}.get(
            value.kind, "torch.nn.Sequential"
        )
    elif isinstance(value, Map):
        own = "builtins.dict"
    elif isinstance(value, Lib):
        own = value.name
    elif isinstance(value, Const) and value.v is not None:
        own = "builtins." + type(value.v).__name__
    elif isinstance(value, T) and (value.act or value.trace):
        own = "torch.Tensor"
    if not own:
        return unknown
    if own in names:
        return Const(True)
    plain = [n for n in names if isinstance(n, str)]
    if all(n.startswith(("builtins.", "torch.nn.")) or n == "torch.Tensor" for n in plain) and "?" not in plain:
        if own.startswith("torch.nn.") and any(
            n in ("torch.nn.Module",) or n.startswith("torch.nn.modules") for n in plain
        ):
            return unknown
        return Const(False)
    return unknown


# ---- attributes, methods, items of library objects and tensors


def attribute(ev: Evaluator, obj: Lib, name: str) -> Value:
    if "." + name in obj.kwargs:
        return obj.kwargs["." + name]
    if name in obj.kwargs and obj.name.rpartition(".")[2][:1].isupper() and layer(obj.name) is None:
        return obj.kwargs[name]
    if name == "module":
        return obj
    if name == "training":
        return Const(True)
    if obj.name.startswith("torch.distributions.") and name in ("scale", "loc", "stddev", "mean"):
        return obj.arg(1, "scale") or UNKNOWN if name in ("scale", "stddev") else obj.arg(0, "loc") or UNKNOWN
    if name == "probs" and obj.name.startswith("torch.distributions."):
        return _probabilities(obj)
    if name == "dataset" and obj.name.endswith("DataLoader"):
        return obj.arg(0, "dataset") or UNKNOWN
    return T(sym=name)


def _probabilities(obj: Lib) -> Value:
    """The probabilities of a distribution: those that it was given, or made of its logits."""
    given = obj.arg(0, "probs")
    if given is not None and not (isinstance(given, Const) and given.v is None):
        return given
    act = {"Categorical": "softmax", "OneHotCategorical": "softmax", "Bernoulli": "sigmoid"}.get(
        obj.name.rpartition(".")[2], ""
    )
    logits = obj.arg(1, "logits")
    if not act or logits is None or obj.module is None:
        return T(sym="probs")
    place = Hop(obj.module, obj.at, "`probs` of this distribution")
    return tensor_ops.apply(act, logits, [], {"dim": Const(-1)}, lambda _: place) or T(sym="probs")


def tensor_attribute(t: T, name: str) -> Value:
    if t.get("options"):
        return T(sym=name, info={"option": name})
    if name in ("T", "mT", "H"):
        return tensor_ops.shape_change("transpose", t, [])
    if name in ("real", "imag"):
        spectrum = (t.get("via") or ("",))[0] in ("stft", "fft")
        return T(tags=tensor_ops.inherit(t), info={"via": ("fft", t)}) if spectrum or name == "imag" else t
    if name == "data":
        return t.tagged("detached", "data_attr")
    if name == "shape":
        return Seq("tuple", (), T(lo=0.0, tags=frozenset({"num", "size"})))
    if name in ("ndim", "itemsize"):
        return T(lo=0.0, tags=frozenset({"num", "size"}))
    if name == "grad":
        return UNKNOWN
    if name in ("device", "dtype", "requires_grad"):
        return T(sym=name)
    if name == "values" and "numpy" not in t.tags:
        return t
    return T(sym=name, tags=t.tags & frozenset({"data"}))


def call_method(
    ev: Evaluator,
    obj: Value,
    name: str,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame | None,
    node: Node | None,
) -> Value:
    """A method of a tensor, container, constant or library object."""
    if isinstance(obj, T):
        op = _method_operation(name)
        if op in ("to", "type") and (args or kwargs):
            return _cast(obj, args[-1] if args else kwargs.get("dtype", UNKNOWN))
        if op == "where" and args:
            other = args[1] if len(args) > 1 else kwargs.get("other", UNKNOWN)
            return tensor_ops.where(args[0], obj, other)
        result = tensor_ops.apply(op, obj, args, _renamed(kwargs), _hop(frame, node))
        if result is not None:
            if "dtype" in kwargs:
                result = _cast(result, kwargs["dtype"])
            return result
        if str(obj.get("from", "")).startswith("pandas."):
            if name in (
                "dropna",
                "reset_index",
                "copy",
                "sample",
                "fillna",
                "sort_values",
                "head",
                "tail",
                "astype",
                "query",
            ):
                return obj
            if name in ("pop", "get") and isinstance(constant(args[0] if args else None), str):
                return ev.item(obj, args[0], frame, node)
        if name == "to_numpy":
            return obj.but(tags=obj.tags | {"numpy", "detached"})
        if name in ("values", "items", "keys") and not args:
            return Seq("list", (), UNKNOWN)
        return T(
            info={"called": Meth(obj, name)},
            tags=(obj.tags & tensor_ops.INHERITED) | (_OUTPUT if args else frozenset()),
        )
    if isinstance(obj, Const):
        return _string_method(obj, name, args)
    if isinstance(obj, Map):
        return _map_method(ev, obj, name, args, frame, node)
    if isinstance(obj, Seq):
        return _sequence_method(ev, obj, name, args, kwargs, frame, node)
    if isinstance(obj, Lib):
        if "." + name in obj.kwargs:
            return ev.call(obj.kwargs["." + name], args, dict(kwargs), frame, node)
        if name == "entropy" and obj.name in CONTINUOUS:
            return T("entropy", info={"via": ("entropy", tensor_ops.as_tensor(obj.arg(1, "scale")))})
        if name in RETURNS_SELF:
            return obj
        if name in ("forward", "__call__", "module", "_orig_mod"):
            return call_object(ev, obj, args, kwargs, frame, node)
        if name in ("prepare", "setup", "prepare_model", "prepare_data_loader", "setup_dataloaders", "setup_module"):
            # Accelerate, Fabric: what goes in comes out wrapped.
            return args[0] if len(args) == 1 else Seq("tuple", tuple(args))
        if name in ("scale", "reduce", "gather", "unwrap_model", "gather_for_metrics") and args:
            return args[0]
        if name in ("parse_args", "parse_known_args"):
            options = T(sym="args", info={"options": True})
            return options if name == "parse_args" else Seq("tuple", (options, UNKNOWN))
        return T(info={"called": Meth(obj, name)})
    return UNKNOWN


def _method_operation(name: str) -> str:
    from lossproof.source.torch_names import SAME_OPERATION

    return SAME_OPERATION.get(name, name)


def _string_method(obj: Const, name: str, args: list[Value]) -> Value:
    open_one = next((i for i, a in enumerate(args) if isinstance(a, Union)), None)
    if name == "format" and open_one is not None:
        rest = args[open_one + 1 :]
        options = alternatives(args[open_one])
        return join([(atoms, _string_method(obj, name, [*args[:open_one], v, *rest])) for atoms, v in options])
    if name == "join" and len(args) == 1 and isinstance(args[0], Seq) and args[0].rest is None:
        parts = [constant(v) for v in args[0].every()]
        return Const(str(obj.v).join(parts)) if all(isinstance(p, str) for p in parts) else UNKNOWN
    values = [constant(a) for a in args]
    if name == "format" and any(v is None for v in values):
        return UNKNOWN
    if isinstance(obj.v, str) and name in (
        "lower", "upper", "strip", "startswith", "endswith", "replace", "split", "title", "capitalize", "removesuffix",
        "removeprefix", "partition", "rpartition", "rsplit", "format",
    ):  # fmt: skip
        try:
            result = getattr(obj.v, name)(*values)
        except (TypeError, ValueError, LookupError):
            return UNKNOWN
        if isinstance(result, (list, tuple)):
            return Seq("list" if isinstance(result, list) else "tuple", tuple(Const(r) for r in result))
        return Const(result)
    return UNKNOWN


def _map_method(ev: Evaluator, obj: Map, name: str, args: list[Value], frame: Frame | None, node: Node | None) -> Value:
    if name in obj.items and not args:
        return ev.call(obj.items[name], [], {}, frame, node)
    if name in obj.items and name not in MAP_METHODS:
        return ev.call(obj.items[name], args, {}, frame, node)
    if name in ("get", "pop", "setdefault") and args:
        key = constant(args[0])
        table = node.args[0].args[0] if node is not None and node.op == "call" and node.args[0].op == "attr" else None
        if isinstance(key, (str, int)):
            found = obj.items.get(key)
            if found is not None:
                return found
            if obj.rest is None:
                put = ev.registered(key, frame, table) if isinstance(key, str) and frame is not None else None
                return put or (args[1] if len(args) > 1 else NONE)
            return UNKNOWN
        return ev.item(obj, args[0], frame, node)
    if name == "items":
        pairs = tuple(Seq("tuple", (Const(k), v)) for k, v in obj.items.items())
        rest = Seq("tuple", (UNKNOWN, obj.rest)) if obj.rest is not None else None
        return Seq("list", pairs, rest)
    if name == "values":
        return Seq("list", tuple(obj.items.values()), obj.rest)
    if name == "keys":
        return Seq("list", tuple(Const(k) for k in obj.items), T() if obj.rest is not None else None)
    if name in ("copy", "to", "cuda", "train", "eval", "float", "half"):
        return obj
    if isinstance(obj.rest, T) and obj.rest.get("entries") is not None:
        return call_method(ev, obj.rest.get("entries"), name, args, {}, frame, node)
    return UNKNOWN


def _sequence_method(
    ev: Evaluator,
    obj: Seq,
    name: str,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame | None,
    node: Node | None,
) -> Value:
    if name in RETURNS_SELF or name == "copy":
        return obj
    if name in ("forward", "__call__", "module", "_orig_mod"):
        return ev.fold(obj, args, frame, node)
    if name in ("children", "modules", "named_children", "parameters"):
        if name == "children":
            return Seq("list", obj.head, obj.rest, obj.tail)
        return UNKNOWN
    if name == "pop":
        found = obj.at(-1 if not args else constant(args[0]) if isinstance(constant(args[0]), int) else 10**9)
        return found if found is not None else (obj.rest or UNKNOWN)
    if name in ("append", "extend", "insert") and frame is not None:
        return obj if name == "insert" else NONE
    if name in ("numel", "size", "index", "count"):
        return T(lo=0.0, tags=frozenset({"num", "size"}))
    return UNKNOWN


def iterated(ev: Evaluator, obj: Lib) -> Seq | None:
    """What iterating over a library object gives."""
    last = obj.name.rpartition(".")[2]
    if last in ("DataLoader", "InfiniteDataLoader", "MultiEpochsDataLoader"):
        dataset = obj.arg(0, "dataset")
        return Seq("list", (), batch_of(ev, dataset) if dataset is not None else T(tags=frozenset({"data"})))
    if last == "TensorDataset":
        return Seq("list", (), batch_of(ev, obj))
    return None


def batch_of(ev: Evaluator, dataset: Value) -> Value:
    """A batch that a ``DataLoader`` collates from a dataset's samples."""
    if isinstance(dataset, Lib):
        last = dataset.name.rpartition(".")[2]
        if last == "TensorDataset":
            parts = [tensor_ops.as_tensor(a) for a in dataset.args]
            return Seq("tuple", tuple(t.but(tags=t.tags | {"data"}, trace=(), act="") for t in parts))
        if last in ("Subset", "ConcatDataset"):
            inner = dataset.arg(0, "dataset")
            return batch_of(ev, inner) if inner is not None else UNKNOWN
        return T(tags=frozenset({"data"}))
    if isinstance(dataset, Inst):
        found = ev.class_member(dataset.cls, "__getitem__")
        if isinstance(found, Func):
            index = T(lo=0.0, tags=frozenset({"num"}))
            sample = ev.call(Func(found.function, found.closure, dataset), [index], {}, None, None)
            return _collated(sample)
    if isinstance(dataset, Seq) and dataset.every():
        first = dataset.every()[0]
        return batch_of(ev, first) if isinstance(first, (Lib, Inst)) else T(tags=frozenset({"data"}))
    return T(tags=frozenset({"data"}))


def _collated(sample: Value) -> Value:
    if isinstance(sample, Seq):
        return Seq(sample.kind, tuple(_collated(v) for v in sample.every()))
    if isinstance(sample, Map):
        return Map({k: _collated(v) for k, v in sample.items.items()}, sample.rest)
    if isinstance(sample, T):
        rank, width = sample.get("ndim"), sample.get("width")
        if rank is None and "num" in sample.tags:
            rank = 0
        info = {"ndim": rank + 1 if rank is not None else None, "width": width if rank else None}
        return T("", sample.lo, sample.hi, tags=(sample.tags & {"target"}) | {"data"}, info=info)
    if isinstance(sample, Const) and isinstance(sample.v, (int, float)):
        return T(tags=frozenset({"data"}), info={"ndim": 1})
    return T(tags=frozenset({"data"}))


def subscript(ev: Evaluator, obj: Lib, index: Value) -> Value:
    name = constant(index)
    if isinstance(name, str) and name in obj.kwargs:
        return obj.kwargs[name]
    if obj.name.endswith("TensorDataset"):
        return batch_of(ev, obj)
    return T(tags=frozenset({"data"})) if "ataset" in obj.name or "oader" in obj.name else UNKNOWN


def entered(value: Value) -> Value:
    return value if isinstance(value, (Lib, Map)) else UNKNOWN


def field_default(ev: Evaluator, value: Value) -> Value:
    """The default of a dataclass field: ``field(default=…)`` or ``field(default_factory=…)``."""
    if isinstance(value, T) and value.get("from") == "dataclasses.field":
        return UNKNOWN
    if isinstance(value, Lib) and value.name == "dataclasses.field":
        if "default" in value.kwargs:
            return value.kwargs["default"]
        if "default_factory" in value.kwargs:
            return ev.call(value.kwargs["default_factory"], [], {}, None, None)
    return value
