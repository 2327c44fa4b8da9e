"""From the functions of a file to facts: every loss call, in every context that matters.

A call is first looked at with no caller known. If what reaches the loss then depends on a parameter, on
how the object was built or on a variable around a nested function, the callers are asked, one context
after another, a few levels up. Calls of the project's own losses are entered.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import Fact, LossCall, combine
from lossproof.source.frames import Frame
from lossproof.source.lower import Guard, Node, lower
from lossproof.source.syntax import Function, ParsedModule, dotted, last
from lossproof.source.tensor_ops import ARITHMETIC_METHOD, REDUCTIONS
from lossproof.source.torch_names import KEEP, LOSS_FUNCTION, LOSS_LAYER, OTHER_LOSS, loss_kind
from lossproof.source.values import (
    UNKNOWN,
    Atoms,
    Func,
    Inst,
    Lib,
    Partial,
    Ref,
    Seq,
    T,
    Thunk,
    Value,
    alternatives,
)

LOSSISH = re.compile(
    r"loss|crit(?!ic)|cost|objective|entropy|nll|bce|kld|kl_|_kl|focal|dice|(?<![a-z])ce$|^ce(?![a-z])|(?-i:CE)"
    r"|fn$|func$|^(kl|mse|l1|l2|rec|recon|adv)$",
    re.I,
)
LOSS_NAME = re.compile(r"loss|criterion|objective", re.I)
KNOWN_LOSS = set(LOSS_FUNCTION) | set(LOSS_LAYER) | {name.rpartition(".")[2] for name in OTHER_LOSS}
BACKWARD = {"backward", "manual_backward", "scale_loss"}
# Frameworks whose trainers take a model and a loss. (skorch is none: it takes the logarithm itself.)
HANDED_OVER = {"ignite", "fastai", "poutyne", "catalyst", "torchbearer", "pytorch_toolbelt"}
TRAINER_MAKERS = {"create_supervised_trainer", "Learner", "Model", "Trial", "train", "vision_learner", "Experiment"}
MAX_LEVELS = 4
MAX_CONTEXTS = 40
MAX_CALL_DEPTH = 8
# Nodes looked at, for one call in all its contexts and for all calls of a function: code that is too
# entangled to follow stays unknown instead of holding up the rest.
MAX_STEPS_A_CALL = 30_000
MAX_STEPS_A_FUNCTION = 80_000
NO_GRADIENT = ("no_grad", "inference_mode")


class Investigation:
    """Walks functions and hands facts to ``emit``."""

    def __init__(self, ev: Evaluator, contexts: Contexts, emit: Callable[[Fact], None]) -> None:
        self.ev = ev
        self.contexts = contexts
        self.emit = emit
        self.unresolved: list[Fact] = []
        self._candidates: dict[Function, list[Node]] = {}
        self._pending: dict[Function, list[Node]] = {}
        self._budget = 0
        self._limit = 0

    def module(self, module: ParsedModule) -> None:
        for function in module.functions:
            self.function(function)

    def function(self, function: Function) -> None:
        began = self.ev.spent
        for node in self.candidates(function):
            self._budget = MAX_CONTEXTS
            self._limit = self.ev.spent + MAX_STEPS_A_CALL
            self.examine(node, self.ev.open_frame(function), 0)
            if self.ev.spent - began > MAX_STEPS_A_FUNCTION:
                return

    # ---- which calls to look at

    def candidates(self, function: Function) -> list[Node]:
        """Calls that may be losses: by what they name, or because a backward pass starts from them."""
        known = self._candidates.get(function)
        if known is not None:
            return known
        names = {last(c.func) for c in function.calls}
        trains = bool(names & BACKWARD) or function.name in ("training_step", "compute_loss")
        lossy = LOSS_NAME.search(function.qualname) is not None
        criteria = _Criteria.around(function)
        wanted = []
        for call in function.calls:
            name = last(call.func)
            count = len(call.args) + len(call.keywords)
            if (
                name in KNOWN_LOSS
                or (count >= 2 and name in TRAINER_MAKERS)
                or (count >= 2 and not name and (trains or lossy or _makes_a_loss(call.func)))
                or (count and LOSSISH.search(name))
                or (trains and name not in PLAIN)
                or (count >= 2 and (lossy or criteria.may_be(function, call.func)) and name not in PLAIN)
            ):
                wanted.append(id(call))
        found: list[Node] = []
        if wanted or function.name == "<lambda>":
            ir = lower(function)
            if function.name == "<lambda>":
                found = list(ir.calls)
            else:
                found = [ir.by_call[i] for i in wanted if i in ir.by_call]
        self._candidates[function] = found
        return found

    def pending(self, function: Function) -> list[Node]:
        """The calls in a function that say more once the caller is known."""
        known = self._pending.get(function)
        if known is not None:
            self.ev.ledger.recall(("pending", function))
            return known
        self._pending[function] = []
        found = []
        with self.ev.ledger.entry(("pending", function)):
            self.ev.ledger.mask |= function.rests
            frame = self.ev.open_frame(function)
            for node in self.candidates(function):
                self.ev.begin()
                # A lambda is looked at only from where it is called.
                if function.name == "<lambda>" or not self._settled(node, frame):
                    found.append(node)
        self._pending[function] = found
        return found

    def _settled(self, node: Node, frame: Frame) -> bool:
        possible, atoms = self.surroundings(frame, node)
        if not possible:
            # A flag may have decided so; another caller may set it otherwise.
            return False
        facts = self.loss_calls(frame, node, atoms)
        if facts:
            return all(f.decided and not _conditional(f) for f in facts) and not self.contexts.overridden(frame)
        callee = node.args[0]
        value = self.ev.value(frame, callee)
        return not any(isinstance(v, (T, Func, Inst, Partial)) for _, v in alternatives(value))

    # ---- one call, in one context

    def examine(self, node: Node, frame: Frame, level: int) -> None:
        self.ev.begin()
        if self._budget <= 0 or self.ev.spent > self._limit:
            return
        self._budget -= 1
        if not self._may_be_loss(frame, node):
            return
        possible, atoms = self.surroundings(frame, node)
        if not possible:
            return
        facts = self.loss_calls(frame, node, atoms)
        if facts:
            undecided = any(not f.decided or _conditional(f) for f in facts) or self.contexts.overridden(frame)
            if undecided and level < MAX_LEVELS and self.contexts.is_open(frame):
                outer = self.contexts.outer(frame)
                if outer:
                    for wider in outer:
                        self.examine(node, wider, level + 1)
                    return
            for fact in facts:
                self.emit(fact)
                if not fact.decided:
                    self.unresolved.append(fact)
            return
        entered = False
        if len(frame.chain()) <= MAX_CALL_DEPTH:
            for func, positional, named in self.contexts.targets(frame, node):
                entered = True
                waiting = self.pending(func.function)
                if not waiting:
                    continue
                chosen = self.contexts.chosen
                inner = self.ev.enter(func, positional, named, frame, node)
                if inner is not None:
                    inner.atoms = chosen
                    for call in waiting:
                        self.examine(call, inner, level)
        if not entered and level < MAX_LEVELS and self._callee_is_unknown(frame, node) and self.contexts.is_open(frame):
            for wider in self.contexts.outer(frame):
                self.examine(node, wider, level + 1)

    def _may_be_loss(self, frame: Frame, node: Node) -> bool:
        """Whether what is called is a loss, may hold one or is unknown: a call of anything else is not looked into."""
        func = node.args[0]
        owner = func.args[0] if func.op == "attr" and func.args[1] in ("forward", "__call__") else func
        for _, callee in alternatives(self.ev.value(frame, owner)):
            if isinstance(callee, (Lib, Ref)):
                if loss_kind(callee.name) is not None or callee.name.partition(".")[0] in HANDED_OVER:
                    return True
            elif isinstance(callee, Func):
                if self.pending(callee.function):
                    return True
            else:
                return True
        return False

    def _callee_is_unknown(self, frame: Frame, node: Node) -> bool:
        callee = node.args[0]
        if callee.op == "attr":
            obj = self.ev.value(frame, callee.args[0])
            if any(isinstance(v, T) and not v.act and "data" not in v.tags for _, v in alternatives(obj)):
                return True
        value = self.ev.value(frame, callee)
        return any(isinstance(v, T) for _, v in alternatives(value))

    def surroundings(self, frame: Frame, node: Node) -> tuple[bool, Atoms]:
        """Whether a call can be reached in its context, with gradients on; and under which conditions."""
        atoms: Atoms = ()
        at: Node | None = node
        place: Frame | None = frame
        while place is not None and at is not None:
            possible, more = self.ev.reachable(place, at.guard)
            if not possible or self.without_gradient(place, at.guard):
                return False, ()
            atoms = combine(combine(atoms, more), place.base().atoms)
            site = place.base().site
            place, at = site if site is not None else (None, None)
        return True, atoms

    def without_gradient(self, frame: Frame, guard: Guard | None) -> bool:
        while guard is not None:
            if guard.polarity is None and guard.test is not None and guard.test.op == "call":
                name = dotted(guard.test.at.func) if hasattr(guard.test.at, "func") else ""
                last = name.rpartition(".")[2]
                if last in NO_GRADIENT:
                    return True
                if last == "set_grad_enabled" and guard.test.args[1] and guard.test.args[1][0].op == "const":
                    return guard.test.args[1][0].args[0] is False
            guard = guard.parent
        return any(d.rpartition(".")[2] in NO_GRADIENT for d in frame.function.decorators)

    def _handed_over(
        self,
        frame: Frame,
        node: Node,
        atoms: Atoms,
        positional: list[Value | Thunk],
        named: dict[str, Value | Thunk],
    ) -> list[LossCall]:
        """A model and a loss given to a framework's trainer, which will apply the one to the other."""
        given = [self.ev.force(v) for v in (*positional, *named.values())]
        losses: list[tuple[str, str, dict[str, Value]]] = []
        for value in given:
            if isinstance(value, (Lib, Ref)):
                kind = loss_kind(value.name)
                if kind is not None:
                    settings = value.kwargs if isinstance(value, Lib) else {}
                    losses.append((kind, value.name.rpartition(".")[2], settings))
        models = [v for v in given if isinstance(v, (Inst, Seq))]
        if len(losses) != 1 or not models:
            return []
        kind, word, settings = losses[0]
        x = self.ev.call(models[0], [T(tags=frozenset({"data"}))], {}, frame, node)
        target = T(tags=frozenset({"data"}))
        return [LossCall(self.ev, frame, node, atoms, kind, word, x, target, settings, self.loss_calls)]

    def loss_calls(self, frame: Frame, node: Node, atoms: Atoms) -> list[LossCall]:
        """The losses that a call may be, with their arguments."""
        func = node.args[0]
        callees: list[tuple[Atoms, Value]] = list(alternatives(self.ev.value(frame, func)))
        if func.op == "attr" and func.args[1] in ("forward", "__call__"):
            callees = list(alternatives(self.ev.value(frame, func.args[0])))
        found = []
        arguments: tuple[list[Value | Thunk], dict[str, Value | Thunk]] | None = None
        for inner, callee in callees:
            extra: list[Value] = []
            settings: dict[str, Value] = {}
            while isinstance(callee, Partial):
                extra = [*callee.args, *extra]
                settings.update(callee.kwargs)
                callee = callee.func
            if isinstance(callee, Ref) and callee.name.partition(".")[0] in HANDED_OVER:
                arguments = arguments or self.ev.arguments(frame, node)
                found.extend(self._handed_over(frame, node, combine(atoms, inner), *arguments))
                continue
            if isinstance(callee, Inst):
                # A subclass of a torch loss that adds no forward of its own.
                container = None if self.ev.forward_of(callee) is not None else self.ev.as_library_container(callee)
                callee = container if container is not None else callee
            if isinstance(callee, Lib):
                kind = loss_kind(callee.name)
                settings = {**callee.kwargs, **settings}
                for position, name in enumerate(("weight",)):
                    if kind in ("ce", "bce", "nll", "bce_logits") and position < len(callee.args):
                        settings.setdefault(name, callee.args[position])
                word = callee.name.rpartition(".")[2]
            elif isinstance(callee, Ref):
                word = callee.name.rpartition(".")[2]
                kind = loss_kind(callee.name) if word[:1].islower() else None
            else:
                continue
            if kind is None:
                continue
            if arguments is None:
                arguments = self.ev.arguments(frame, node)
            args: list[Value | Thunk] = [*extra, *arguments[0]]
            kwargs: dict[str, Value | Thunk] = {**settings, **arguments[1]}
            given = args[0] if args else kwargs.get("input", kwargs.get("inputs", kwargs.get("pred", UNKNOWN)))
            x = self.ev.force(given)
            y = args[1] if len(args) > 1 else kwargs.get("target", kwargs.get("targets", UNKNOWN))
            known = {k: self.ev.glance(v) for k, v in kwargs.items() if k not in ("input", "target")}
            if isinstance(x, Seq):
                x = UNKNOWN
            context = combine(atoms, inner)
            found.append(LossCall(self.ev, frame, node, context, kind, word, x, y, known, self.loss_calls, callee))
        return found


def _conditional(fact: LossCall) -> bool:
    """Whether the input is one thing or another by a flag that a caller may know."""
    options = alternatives(fact.input)
    return len(options) > 1 and any(a and not all(x.choice for x in a) for a, _ in options)


def _makes_a_loss(callee: ast.AST) -> bool:
    """``nn.CrossEntropyLoss()(x, y)``, ``getattr(F, name)(x, y)``, ``losses["cls"](x, y)``."""
    if isinstance(callee, ast.Call):
        name = last(callee.func)
        return name in KNOWN_LOSS or name == "getattr" or LOSSISH.search(name) is not None
    if isinstance(callee, ast.Subscript):
        return LOSSISH.search(last(callee.value)) is not None
    return not isinstance(callee, ast.Attribute)


@dataclass(frozen=True)
class _Criteria:
    """Whether the file's own level, and the class that a function stands in, build criteria."""

    in_file: bool
    in_class: bool

    @classmethod
    def around(cls, function: Function) -> _Criteria:
        methods = () if function.cls is None else function.cls.methods.values()
        builders = {holder for name in LOSS_LAYER for _, holder in function.module.call_index.get(name, ())}
        return cls(function.module.body in builders, any(method in builders for method in methods))

    def may_be(self, function: Function, callee: ast.expr) -> bool:
        """``self.x(a, b)`` or ``x(a, b)`` where the class or the file keeps criteria: it may be one by any name."""
        if isinstance(callee, ast.Name):
            return self.in_file and callee.id not in function.module.top
        if not self.in_class or not isinstance(callee, ast.Attribute) or function.cls is None:
            return False
        if not isinstance(callee.value, ast.Name) or callee.value.id != function.first_param:
            return False
        return callee.attr in function.cls.stores()


PLAIN = KEEP | REDUCTIONS | set(ARITHMETIC_METHOD) | {
    "warning_once", "warning", "warn", "replace", "clamp", "clip", "scatter_add_", "scatter_", "index_put_", "where",
    "linspace", "arange", "full", "register_buffer", "setattr", "getattr", "hasattr", "super",
    "ValueError", "pad", "dict",
    "softmax", "sigmoid", "relu", "log_softmax", "matmul", "einsum", "bmm", "split", "chunk", "unbind", "as_tensor",
    "print", "len", "range", "zero_grad", "step", "backward", "to", "cuda", "cpu", "item", "detach", "eval", "append",
    "format", "size", "view", "float", "long", "mean", "sum", "max", "min", "join", "write",
    "add_scalar", "update", "save",
    "load", "state_dict", "load_state_dict", "parameters", "str", "int", "enumerate", "zip", "tqdm",
    "Variable", "squeeze",
    "unsqueeze", "isinstance", "info", "log", "get", "items", "keys", "values", "time", "sqrt", "exp", "reshape",
    "clip_grad_norm_", "randn", "rand", "zeros", "ones", "tensor", "cat", "stack", "argmax", "numpy", "permute",
}  # fmt: skip
