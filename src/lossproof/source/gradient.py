"""Where the gradient of a loss stops: which of its terms carry one, and what cut the others off.

The flow of a node says three things of what it is made from: whether something in it surely carries
gradient, which open values (parameters of unknown callers) reach it uncut, and where a gradient that came
in was cut. A term is at fault only where a cut is all that is left of the prediction.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import GradientCut
from lossproof.source.frames import Frame
from lossproof.source.investigate import NO_GRADIENT, Investigation
from lossproof.source.lower import Node, lower
from lossproof.source.slices import LOSS_CLASS_NAME, METRIC_CLASS, Slices
from lossproof.source.syntax import Function, last
from lossproof.source.torch_names import (
    KEEP,
    LAYER_OPERATION,
    SAME_OPERATION,
    TRANSPARENT_WRAPPER,
    layer,
    loss_kind,
    operation,
)
from lossproof.source.values import Cls, Const, Inst, Lib, Map, Mod, Partial, Ref, Seq, T, Thunk, Value, alternatives

# How a gradient is cut: decisions have a gradient of zero everywhere, the others take the graph away.
DECISION = {
    "argmax": "argmax", "argmin": "argmax", "argsort": "argmax", "round": "round", "floor": "round", "ceil": "round",
    "trunc": "round", "round_": "round", "floor_": "round", "ceil_": "round", "sign": "sign", "sgn": "sign",
    "heaviside": "sign", "long": "integer", "int": "integer", "bool": "integer", "short": "integer", "byte": "integer",
    "gt": "threshold", "ge": "threshold", "lt": "threshold", "le": "threshold", "eq": "threshold", "ne": "threshold",
    "one_hot": "one_hot", "bincount": "count", "histc": "count", "count_nonzero": "count", "unique": "count",
    "bucketize": "count", "searchsorted": "count", "multinomial": "draw", "bernoulli": "draw", "nonzero": "count",
    "floor_divide": "round", "logical_and": "threshold", "logical_or": "threshold", "logical_not": "threshold",
    "isclose": "threshold", "equal": "threshold",
}  # fmt: skip
LEAVE = {"detach": "detach", "detach_": "detach", "item": "item", "tolist": "item", "numpy": "numpy"}
HARD = {"argmax", "round", "sign", "threshold", "one_hot", "count", "draw", "integer"}
_ACTIVATION = {"sigmoid", "softmax", "log_softmax", "logsigmoid"}
_NOTHING = {
    "size", "numel", "nelement", "dim", "ndimension", "stride", "zeros", "ones", "zeros_like", "ones_like", "rand",
    "randn",
    "randn_like", "rand_like", "randint", "arange", "linspace", "eye", "full", "full_like", "empty", "empty_like",
    "new_zeros",
    "new_ones", "new_full", "new_empty", "new_tensor", "isnan", "isinf", "isfinite", "any", "all", "is_cuda",
    "get_device",
    "randperm", "manual_seed", "device", "is_floating_point", "normal",
}  # fmt: skip
_REWRAP = {"tensor", "FloatTensor", "Tensor", "DoubleTensor", "LongTensor", "scalar_tensor", "HalfTensor", "new_tensor"}
_STATIC_ATTRIBUTE = {"shape", "device", "dtype", "ndim", "grad", "requires_grad", "training", "is_cuda", "layout"}
_TENSOR_METHOD = KEEP | {
    "sum", "mean", "max", "min", "abs", "pow", "sqrt", "exp", "log", "log1p", "log2", "clamp", "clamp_min",
    "clamp_max", "norm", "std", "var", "add",
    "sub", "mul", "div", "neg", "square", "sigmoid", "softmax", "log_softmax", "relu", "tanh", "matmul", "mm", "bmm",
    "dot",
    "amax", "amin", "logsumexp", "prod", "cumsum", "sort", "topk", "chunk", "split", "unbind", "where", "rsqrt", "sin",
    "cos", "reciprocal", "add_", "sub_", "mul_", "div_", "clamp_", "masked_fill", "masked_fill_", "index_select",
    "median",
    "flatten", "nanmean", "nansum", "scatter", "scatter_", "scatter_add", "scatter_add_", "maximum", "minimum", "cross",
    "mv", "erf", "logsigmoid", "softplus", "T", "to_sparse", "xlogy", "lerp", "astype", "copy", "fill_", "expand_as",
    "log_",
}  # fmt: skip
_TAKE_OUT = {*LEAVE, "cpu", "float", "to", "mean", "reduce_mean"}
_NUMBERS = {"num", "const", "size"}
_PAIRED = {"max", "min", "topk", "sort", "median", "mode", "kthvalue"}
_GIVEN = re.compile(r"target|label|(^|_)gts?($|_)|true|truth|teacher|mask|real|ref|^y|weight|^t$", re.I)
_PREDICTED = re.compile(r"pred|logit|out|score|prob|recon|fake|student|input|hat|feat|emb|query|anchor|^[pxz]$", re.I)
# What is handed to a function that trains, but is no batch.
_MADE = re.compile(r"loss|logit|pred|output|score|grad|param|feat|embed|latent|hidden", re.I)
MAX_STEPS = 2_500
MAX_CALLS = 8


class Cut:
    """A place where a gradient ends; ``of`` is what came in."""

    __slots__ = ("frame", "how", "node", "of")

    def __init__(self, frame: Frame, node: Node, how: str, of: Flow) -> None:
        self.frame = frame
        self.node = node
        self.how = how
        self.of = of


class Flow:
    __slots__ = ("cuts", "grad", "opens")

    def __init__(self, grad: bool = False, opens: frozenset[str] = frozenset(), cuts: tuple[Cut, ...] = ()) -> None:
        self.grad = grad
        self.opens = opens
        self.cuts = cuts

    @property
    def alive(self) -> bool:
        return self.grad or bool(self.opens)


NOTHING = Flow()
GRADIENT = Flow(True)


def union(flows: list[Flow]) -> Flow:
    kept = [f for f in flows if f is not NOTHING]
    if not kept:
        return NOTHING
    if len(kept) == 1:
        return kept[0]
    cuts: dict[int, Cut] = {id(c.node): c for f in kept for c in f.cuts}
    return Flow(any(f.grad for f in kept), frozenset().union(*[f.opens for f in kept]), tuple(cuts.values())[:8])


class Gradients:
    def __init__(self, ev: Evaluator, contexts: Contexts, investigation: Investigation, slices: Slices) -> None:
        self.ev = ev
        self.contexts = contexts
        self.investigation = investigation
        self.slices = slices
        self._known: dict[tuple[int, Node, int], Flow] = {}
        self._frames: list[Frame] = []
        self._steps = 0
        self._trains: dict[Function, bool] = {}

    # ---- which losses

    def facts(self, function: Function) -> Iterator[GradientCut]:
        roots = [(n, True) for n in self.slices.started(function)]
        if not roots and self._objective(function):
            roots.extend((n, False) for n, _ in lower(function).returns)
        else:
            roots.extend((n, False) for n in self._rewraps(function))
        if not roots or any(d.rpartition(".")[2] in NO_GRADIENT for d in function.decorators):
            return
        frame = self.ev.open_frame(function)
        told: set[int] = set()
        for root, started in roots:
            self._known.clear()
            self._frames.clear()
            self._steps = 0
            self.ev.begin()
            for cut in self._faults(frame, root):
                if not started and len(roots) > 1 and id(cut.node) in _taken_out(root):
                    continue  # one of several answers is a number for a report
                if id(cut.node) not in told:
                    told.add(id(cut.node))
                    yield GradientCut(self.ev, cut.frame, cut.node, (), cut.how)

    def carries(self, frame: Frame, node: Node) -> bool:
        """Whether a value may carry gradient: nothing is seen to have cut all of it."""
        self._known.clear()
        self._frames.clear()
        self._steps = 0
        flow = self.flow(frame, node)
        return flow.alive or not flow.cuts

    def _rewraps(self, function: Function) -> list[Node]:
        """What a module's ``forward`` returns, where a tensor made anew is asked to require gradient."""
        if (
            function.name != "forward"
            or function.cls is None
            or not any(
                last(c.func) in _REWRAP and any(k.arg == "requires_grad" for k in c.keywords) for c in function.calls
            )
        ):
            return []
        return [n for n, _ in lower(function).returns]

    def _objective(self, function: Function) -> bool:
        """A criterion's ``forward``, or a training step: its result is surely trained on."""
        if function.name in ("training_step", "compute_loss"):
            return function.cls is not None
        cls = function.cls
        return (
            cls is not None
            and function.name == "forward"
            and LOSS_CLASS_NAME.search(cls.name) is not None
            and METRIC_CLASS.search(cls.name) is None
            and self.ev.library_base(Cls(cls)).startswith(("torch.nn.", "pytorch_lightning", "lightning"))
        )

    def _faults(self, frame: Frame, root: Node) -> Iterator[Cut]:
        leaves: list[tuple[Frame, Node, Flow]] = []
        for where, node in self._terms(frame, root, set(), 0):
            leaves.append((where, node, self.flow(where, node)))
            if self._steps > MAX_STEPS:
                return
        whole = not any(f.alive for _, _, f in leaves)
        for where, node, flow in leaves:
            cut = self._fault(where, node, flow, whole)
            if cut is not None:
                yield cut

    def _fault(self, frame: Frame, node: Node, flow: Flow, whole: bool) -> Cut | None:
        if flow.grad or not flow.cuts:
            return None
        alive = [c for c in flow.cuts if c.of.alive]
        alive.sort(key=lambda c: (not c.of.grad, getattr(c.node.at, "lineno", 0)))
        if not alive:
            return None
        # Where several end in one, that one took the last of it (a weight or a target that came along is none of it).
        inner = {id(c.node) for outer in alive if not _given_alone(outer.of) for c in outer.of.cuts}
        alive = [c for c in alive if id(c.node) not in inner] or alive
        cut = alive[0]
        if flow.opens:
            # What is left uncut must be the target: the prediction is what was activated and then decided.
            if cut.how not in HARD or not (cut.of.grad or _only_predicted(cut.of)):
                return None
            if any(o.startswith("self.") or _PREDICTED.search(o) for o in flow.opens):
                return None
            return cut
        if _given_alone(cut.of):
            return None
        if whole:
            return cut
        if cut.how in HARD or cut.how in ("numpy", "rewrap"):
            return cut
        if cut.how == "item" and _averaged(cut.node):
            return cut
        # A constant beside the loss (a maximum that was subtracted, a straight-through step) is no term of it.
        return cut if self._of_loss(cut) or self._loss_node(frame, node) else None

    def _of_loss(self, cut: Cut) -> bool:
        func = cut.node.args[0] if cut.node.op == "call" else None
        if func is None:
            return False
        operand = func.args[0] if func.op == "attr" and not cut.node.args[1] else (cut.node.args[1] or (None,))[0]
        if operand is None or (operand.op == "bin" and operand.args[0] == "-"):
            return False
        if operand.op == "call" and self._project(cut.frame, operand):
            return any(
                self.slices.is_loss_function(f.function) for f, _, _ in self.contexts.targets(cut.frame, operand)
            )
        return self._loss_node(cut.frame, operand)

    def _loss_node(self, frame: Frame, node: Node) -> bool:
        return any(isinstance(v, T) and v.act == "loss" for _, v in alternatives(self.ev.value(frame, node)))

    # ---- the terms of a sum

    def _terms(self, frame: Frame, node: Node, seen: set[tuple[int, Node]], depth: int) -> Iterator[tuple[Frame, Node]]:
        key = (id(frame), node)
        if key in seen or len(seen) > 300:
            return
        seen.add(key)
        op = node.op
        if op == "bin" and node.args[0] in ("+", "-"):
            for part in node.args[1:]:
                yield from self._terms(frame, part, seen, depth)
            return
        if op == "bin" and node.args[0] in ("*", "/"):
            left, right = node.args[1:]
            if node.args[0] == "*" and self.flow(frame, left) is NOTHING:
                yield from self._terms(frame, right, seen, depth)
                return
            if self.flow(frame, right) is NOTHING:
                yield from self._terms(frame, left, seen, depth)
                return
        if op == "un" and node.args[0] == "-":
            yield from self._terms(frame, node.args[1], seen, depth)
            return
        if op == "phi":
            for branch in node.args[1:]:
                yield from self._terms(frame, branch, seen, depth)
            return
        if op == "loop":
            for part in node.args:
                yield from self._terms(frame, part, seen, depth)
            return
        if op in ("inplace", "setattr"):
            yield from self._terms(frame, node.args[0], seen, depth)
            return
        if op in ("list", "append", "tuple") and depth:
            for part in node.args:
                yield from self._terms(frame, part, seen, depth)
            return
        if op == "call":
            func = node.args[0]
            if func.op == "attr" and func.args[1] in ("requires_grad_", "to", "cuda", "float", "squeeze"):
                obj = self.ev.value(frame, func.args[0])
                if all(isinstance(v, T) for _, v in alternatives(obj)):
                    yield from self._terms(frame, func.args[0], seen, depth)
                    return
            summed = func.op == "name" and func.args[0] == "sum" and node.args[1]
            if summed and node.args[1][0].op in ("list", "append", "loop"):
                yield from self._terms(frame, node.args[1][0], seen, depth + 1)
                return
            entered = False
            if depth < MAX_CALLS and not self.investigation.without_gradient(frame, node.guard):
                for inner in self._inside(frame, node):
                    if inner is None:
                        break
                    for returned, guard in inner.ir.returns:
                        possible, _ = self.ev.reachable(inner, guard)
                        first = _first(returned)
                        if possible and first is not None:
                            entered = True
                            yield from self._terms(inner, first, seen, depth + 1)
            if entered:
                return
        if op in ("tuple", "dict"):
            first = _first(node)
            if first is not None and first is not node:
                yield from self._terms(frame, first, seen, depth)
            return
        if op == "const":
            return
        yield frame, node

    def _project(self, frame: Frame, node: Node) -> bool:
        return any(True for _ in self.contexts.targets(frame, node))

    def _inside(self, frame: Frame, node: Node) -> list[Frame | None]:
        """The frames of the project's helpers that a call runs; ``None`` for a network or a dead end."""
        found: list[Frame | None] = []
        for target, positional, named in self.contexts.targets(frame, node):
            function = target.function
            network = function.name in ("forward", "__call__") and isinstance(target.me, Inst)
            if network and not self.slices.is_loss_function(function) and self._learns(target.me):
                found.append(None)
                continue
            if any(d.rpartition(".")[2] in NO_GRADIENT for d in function.decorators):
                found.append(None)
                continue
            inner = self.ev.enter(target, positional, named, frame, node) if frame.depth < 20 else None
            if inner is not None:
                self._frames.append(inner)
            found.append(inner)
        return found[:4]

    def _learns(self, me: Value | None) -> bool:
        return isinstance(me, Inst) and bool(self.ev.library_base(me.cls)) and self.slices.has_layers(me)

    # ---- the flow of one node

    def flow(self, frame: Frame, node: Node, index: int = -1) -> Flow:
        key = (id(frame), node, index)
        known = self._known.get(key)
        if known is not None:
            return known
        self._steps += 1
        if self._steps > MAX_STEPS:
            return GRADIENT
        self._known[key] = NOTHING
        result = self._flow(frame, node, index)
        silent = node.op in ("call", "bin", "un") and result.alive
        if silent and self.investigation.without_gradient(frame, node.guard):
            changed = _changed_in_place(node)
            if changed is not None:
                # ``w -= lr * w.grad``: a step by hand, and ``w`` remains the leaf that it was.
                self._known[key] = self.flow(frame, changed)
                return self._known[key]
            result = Flow(False, frozenset(), (*result.cuts, Cut(frame, node, "no_grad", result)))
        self._known[key] = result
        return result

    def _flow(self, frame: Frame, node: Node, index: int) -> Flow:
        op, args = node.op, node.args
        if op in ("const", "func", "class", "import", "fstr", "name", "enter"):
            if op == "name":
                return self._of_value(self.ev.value(frame, node), "", frame)
            return NOTHING
        if op == "param":
            return self._param(frame, node, index)
        if op == "free":
            return self._free(frame, node)
        if op == "attr":
            return self._attr(frame, node)
        if op == "bin":
            both = union([self.flow(frame, args[1]), self.flow(frame, args[2])])
            if args[0] in ("//", "&", "|", "^"):
                return self._cut(frame, node, "round" if args[0] == "//" else "threshold", both)
            return both
        if op == "un":
            return NOTHING if args[0] == "not" else self.flow(frame, args[1])
        if op == "cmp":
            if args[0][0] in ("is", "is not", "in", "not in"):
                return NOTHING
            compared = [self.flow(frame, args[1]), *[self.flow(frame, a) for a in args[2]]]
            return self._cut(frame, node, "threshold", union(compared))
        if op == "sub":
            inner = args[0]
            key = args[1].args[0] if args[1].op == "const" else None
            if isinstance(key, int) and not isinstance(key, bool):
                return self.flow(frame, inner, key if key >= 0 else -1)
            return self.flow(frame, inner)
        if op in ("tuple", "list"):
            if 0 <= index < len(args) and all(a.op != "star" for a in args):
                return self.flow(frame, args[index])
            return union([self.flow(frame, a) for a in args])
        if op == "phi":
            truth, _, _ = self.ev.decide(frame, args[0])
            branches = args[1:] if truth is None else (args[1],) if truth else (args[2],)
            return union([self.flow(frame, b, index) for b in branches])
        if op == "loop":
            return union([self.flow(frame, a, index) for a in args])
        if op == "iter":
            inside = self.flow(frame, args[0], index)
            if inside.opens and not inside.grad and self._trains_here(frame):
                return Flow(False, frozenset(), inside.cuts)
            return inside
        if op == "unpack":
            source, position, _, star = args
            return self.flow(frame, source, position if star < 0 else -1)
        if op == "comp":
            return self.flow(frame, args[1])
        if op == "dict":
            return union([self.flow(frame, v) for v in args[1]])
        if op == "setattr":
            return self.flow(frame, args[0], index)
        if op in ("append", "insert", "extend", "inplace"):
            return union([self.flow(frame, a) for a in args])
        if op == "setitem":
            return union([self.flow(frame, args[0]), self.flow(frame, args[2])])
        if op == "star":
            return self.flow(frame, args[0])
        if op == "set":
            return union([self.flow(frame, a) for a in args])
        if op == "bool":
            return union([self.flow(frame, a) for a in args[1]])
        if op == "call":
            return self._call(frame, node, index)
        return GRADIENT

    def _cut(self, frame: Frame, node: Node, how: str, inner: Flow) -> Flow:
        if not inner.alive:
            if how == "numpy" and any(c.how in ("detach", "data", "item") for c in inner.cuts):
                # Detached in order to leave: the number comes back as a tensor without a graph.
                return Flow(False, frozenset(), tuple(Cut(c.frame, c.node, "numpy", c.of) for c in inner.cuts))
            return inner
        return Flow(False, frozenset(), (*inner.cuts, Cut(frame, node, how, inner)))

    def _trains_here(self, frame: Frame) -> bool:
        function = frame.function
        known = self._trains.get(function)
        if known is None:
            known = function.name in ("training_step", "compute_loss") or bool(self.slices.started(function))
            self._trains[function] = known
        return known

    def _of_value(self, value: Value, name: str, frame: Frame) -> Flow:
        """What is not made here: parameters carry gradient, numbers do not, the rest is open."""
        found: list[Flow] = []
        for _, v in alternatives(value):
            if isinstance(v, (Seq, Map)):
                every = v.every() if isinstance(v, Seq) else [*v.items.values(), *filter(None, [v.rest])]
                found.extend(self._of_value(x, name, frame) for x in every[:8])
            elif isinstance(v, T):
                if "parameter" in v.tags or v.act or "pred" in v.tags:
                    found.append(GRADIENT)
                elif v.tags & _NUMBERS or (v.tags & {"fresh", "numpy"} and not name.startswith("self.")):
                    continue
                elif name:
                    found.append(Flow(False, frozenset({name})))
        return union(found)

    def _param(self, frame: Frame, node: Node, index: int) -> Flow:
        name = node.args[0]
        base = frame.base()
        given = base.args.get(name)
        if isinstance(given, Thunk):
            return self.flow(given.frame, given.node, index)
        if given is not None:
            return self._of_value(given, name, frame)
        if not base.open or (name == base.function.first_param and base.function.cls is not None):
            return NOTHING
        if self._trains_here(base) and not _MADE.search(name):
            return NOTHING  # the batch
        if any(isinstance(v, (Inst, Lib, Const)) for _, v in alternatives(self.ev.value(frame, node))):
            return NOTHING
        return Flow(False, frozenset({name}))

    def _free(self, frame: Frame, node: Node) -> Flow:
        name = node.args[0]
        closure = frame.base().closure
        function = frame.function.parent
        while function is not None and function is not function.module.body:
            if closure is None:
                closure = self.ev.open_frame(function)
            found = closure.ir.final.get(name)
            if found is not None:
                return self.flow(closure, found)
            closure, function = closure.closure, function.parent
        return self._of_value(self.ev.value(frame, node), name, frame)

    def _attr(self, frame: Frame, node: Node) -> Flow:
        obj, name = node.args
        if name in _STATIC_ATTRIBUTE:
            return NOTHING
        if name == "indices":
            return self._cut(frame, node, "argmax", self.flow(frame, obj))
        owner = [v for _, v in alternatives(self.ev.value(frame, obj))]
        if any(isinstance(v, (Inst, Mod, Ref)) for v in owner):
            if obj.op == "param":
                return self._of_value(self.ev.value(frame, node), f"self.{name}", frame)
            if any(isinstance(v, (Mod, Ref)) for v in owner):
                return NOTHING
            return GRADIENT
        if any(isinstance(v, Lib) for v in owner):
            return GRADIENT
        if name == "data":
            return self._cut(frame, node, "data", self.flow(frame, obj))
        return self.flow(frame, obj)

    # ---- calls

    def _call(self, frame: Frame, node: Node, index: int) -> Flow:
        ev = self.ev
        func, _, keywords = node.args
        if any(k == "requires_grad" and v.op == "const" and v.args[0] is True for k, v in keywords):
            made = self._operation(frame, node, _word(func), index)
            anew = _word(func) in _REWRAP or (_word(func) == "Variable" and not _reads_gradient(frame.function))
            return made if made.cuts and not made.alive and anew else GRADIENT
        if func.op == "attr":
            name = SAME_OPERATION.get(func.args[1], func.args[1])
            owner = [v for _, v in alternatives(ev.value(frame, func.args[0]))]
            if owner and all(isinstance(v, (Ref, Mod)) for v in owner):
                pass
            elif owner and all(isinstance(v, (T, Const, Seq, Map)) for v in owner):
                return self._method(frame, node, name, index, owner)
        inner = self._inside(frame, node)
        if inner:
            return self._returned(frame, node, inner, index)
        callee = [v for _, v in alternatives(ev.value(frame, func))]
        found: list[Flow] = []
        for v in callee:
            found.append(self._callee(frame, node, v, index))
        return union(found) if callee else GRADIENT

    def _callee(self, frame: Frame, node: Node, callee: Any, index: int) -> Flow:
        while isinstance(callee, Partial):
            callee = callee.func
        if isinstance(callee, Ref):
            return self._library(frame, node, callee.name, index)
        if isinstance(callee, Lib):
            if loss_kind(callee.name) is not None:
                return self._loss(frame, node)
            word = layer(callee.name)
            op = LAYER_OPERATION.get(word or "", "")
            if op in _ACTIVATION or (op and op not in ("linear", "conv", "norm_layer")):
                return self._operation(frame, node, op, index)
            return GRADIENT
        if isinstance(callee, Cls) and self.ev.library_base(callee).startswith("torch.utils.data."):
            return NOTHING
        return GRADIENT

    def _arguments(self, frame: Frame, node: Node) -> list[Flow]:
        return [self.flow(frame, a) for a in (*node.args[1], *(v for _, v in node.args[2]))]

    def _returned(self, frame: Frame, node: Node, inner: list[Frame | None], index: int) -> Flow:
        found: list[Flow] = []
        for entered in inner:
            if entered is None:
                silent = any(
                    d.rpartition(".")[2] in NO_GRADIENT
                    for f, _, _ in self.contexts.targets(frame, node)
                    for d in f.function.decorators
                )
                given = union(self._arguments(frame, node)) if silent else GRADIENT
                if silent and (given.alive or not given.cuts):
                    given = self._cut(frame, node, "no_grad", GRADIENT)
                found.append(given)
                continue
            if entered.ir.yields:
                found.append(GRADIENT)
                continue
            for returned, guard in entered.ir.returns:
                possible, _ = self.ev.reachable(entered, guard)
                if possible:
                    found.append(self.flow(entered, returned, index))
        return union(found)

    def _method(self, frame: Frame, node: Node, name: str, index: int, owner: list[Value]) -> Flow:
        obj = node.args[0].args[0]
        inner = self.flow(frame, obj)
        if name in LEAVE:
            return self._cut(frame, node, LEAVE[name], inner)
        if name == "requires_grad_":
            return inner if inner.alive else GRADIENT
        if name in _NOTHING:
            return NOTHING
        if index == 1 and name in _PAIRED:
            return self._cut(frame, node, "argmax", inner)
        if name in DECISION:
            return self._cut(frame, node, DECISION[name], union([inner, *self._arguments(frame, node)]))
        if any(isinstance(v, (Seq, Map)) for v in owner):
            return inner
        if name in ("type", "to"):
            return inner
        if name in _TENSOR_METHOD:
            whole = union([inner, *self._arguments(frame, node)])
            return self._activated(whole) if name in _ACTIVATION else whole
        return GRADIENT

    def _library(self, frame: Frame, node: Node, name: str, index: int) -> Flow:
        if loss_kind(name) is not None and name.rpartition(".")[2][:1].islower():
            return self._loss(frame, node)
        if name.startswith("builtins."):
            word = name[9:]
            if word in ("float", "int", "round"):
                how = "item" if word != "round" else "round"
                return self._cut(frame, node, how, union(self._arguments(frame, node)))
            if word in ("len", "range", "isinstance", "print", "str", "id", "hasattr", "type"):
                return NOTHING
            if word == "zip" and 0 <= index < len(node.args[1]):
                return self.flow(frame, node.args[1][index])
            if word == "enumerate" and index in (0, 1):
                return self.flow(frame, node.args[1][0]) if index and node.args[1] else NOTHING
            if word in ("getattr", "super", "object", "vars", "eval", "map", "filter", "next"):
                return GRADIENT
            return union(self._arguments(frame, node))
        if name.startswith("numpy."):
            return self._cut(frame, node, "numpy", union(self._arguments(frame, node)))
        if name.startswith("math."):
            return self._cut(frame, node, "item", union(self._arguments(frame, node)))
        if name in TRANSPARENT_WRAPPER:
            return GRADIENT if name.endswith("Parameter") else union(self._arguments(frame, node))
        if name.startswith(("torch.utils.data.", "torchvision.datasets.", "torchvision.transforms.")):
            return NOTHING
        op = operation(name)
        if op is not None:
            return self._operation(frame, node, op, index)
        return GRADIENT if name.startswith("torch.") else union(self._arguments(frame, node))

    def _operation(self, frame: Frame, node: Node, op: str, index: int) -> Flow:
        if op in _NOTHING:
            return NOTHING
        inner = self._arguments(frame, node)
        if op == "where" and len(inner) >= 3:
            sides = union(inner[1:])
            return sides if sides.alive else union(inner)
        whole = union(inner)
        if op in _REWRAP:
            return self._cut(frame, node, "rewrap", whole)
        if op in LEAVE:
            return self._cut(frame, node, LEAVE[op], whole)
        if op in DECISION or (index == 1 and op in _PAIRED):
            return self._cut(frame, node, DECISION.get(op, "argmax"), whole)
        return self._activated(whole) if op in _ACTIVATION else whole

    @staticmethod
    def _activated(inner: Flow) -> Flow:
        """An activation is applied to predictions: what is open before it is one."""
        return Flow(True, frozenset(), inner.cuts) if inner.alive else inner

    def _loss(self, frame: Frame, node: Node) -> Flow:
        """A loss of the library: its input is the prediction, its target may be anything."""
        args, keywords = node.args[1], dict(node.args[2])
        x = args[0] if args else keywords.get("input")
        if x is None or x.op == "star":
            return GRADIENT
        prediction = self.flow(frame, x)
        target = union([self.flow(frame, n) for n in (args[1:2] or [v for k, v in keywords.items() if k == "target"])])
        if prediction.alive:
            return Flow(True, frozenset(), union([prediction, target]).cuts)
        cuts = [c for c in prediction.cuts if c.how in HARD]
        predicted = any(_PREDICTED.search(o) or o.startswith("self.") for o in target.opens)
        if target.opens and not target.grad and cuts and not predicted:
            named = set().union(*[c.of.opens for c in cuts])
            if not named or not all(_GIVEN.search(n) for n in named):
                return Flow(False, frozenset(), prediction.cuts)
        return union([prediction, target])


def _only_predicted(flow: Flow) -> bool:
    """Whether what was decided is the prediction, as far as its names and its place say."""
    named = bool(flow.opens) and all(_PREDICTED.search(o) and not _GIVEN.search(o) for o in flow.opens)
    return named and len(flow.opens) == 1


def _reads_gradient(function: Function) -> bool:
    """``feature.grad``: what was cut off is carried on by hand."""
    return any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in ast.walk(function.node))


def _given_alone(flow: Flow) -> bool:
    return not flow.grad and bool(flow.opens) and all(_GIVEN.search(o) for o in flow.opens)


def _averaged(node: Node) -> bool:
    """``float((z ** 2).mean())``, ``penalty.sum().item()``: a term, not a factor that keeps numbers small."""
    func = node.args[0]
    operand = func.args[0] if func.op == "attr" and not node.args[1] else (node.args[1] or (None,))[0]
    return operand is not None and operand.op == "call" and _word(operand.args[0]) in ("mean", "sum")


def _taken_out(root: Node) -> set[int]:
    """The steps at the end of ``loss.detach().cpu().numpy()``, which only take a value out."""
    node = _first(root) or root
    found: set[int] = set()
    while node.op == "call" and node.args[0].op == "attr" and node.args[0].args[1] in _TAKE_OUT:
        found.add(id(node))
        node = node.args[0].args[0]
    return found


def _word(func: Node) -> str:
    name = func.args[1] if func.op == "attr" else func.args[0] if func.op in ("name", "free") else ""
    return name if isinstance(name, str) else getattr(func.at, "attr", None) or getattr(func.at, "id", "") or ""


def _changed_in_place(node: Node) -> Node | None:
    """``w`` in ``w -= g`` and in ``w.sub_(g)``."""
    if node.op == "bin":
        return node.args[1] if isinstance(node.at, ast.AugAssign) else None
    func = node.args[0] if node.op == "call" else None
    if func is None or func.op != "attr" or not func.args[1].endswith("_") or func.args[1].startswith("_"):
        return None
    return func.args[0]  # type: ignore[no-any-return]


def _first(node: Node) -> Node | None:
    """The loss in what a loss function returns: the first of a tuple, the entry that says so."""
    if node.op == "tuple":
        return _first(node.args[0]) if node.args else None
    if node.op == "dict":
        keys, values = node.args
        for key, value in zip(keys, values, strict=True):
            if key is not None and key.op == "const" and key.args[0] in ("loss", "total_loss", "total"):
                return value if isinstance(value, Node) else None
        return None
    return node


__all__ = ["Cut", "Flow", "Gradients"]
