"""What a run does to the state of its training, in the order in which it does it.

Gradients, the mode of a network and the turn of an optimizer are not values: they are changed by calls, in whichever
helper, method or other file those stand. Here a function is told as a tree of such *events*, with the loops and the
branches around them and with the project's own functions put in where they are called. ``loops.py`` and ``modes.py``
read the tree.

What is called and cannot be looked into is an event too (``opaque``) where it is handed something that it could change.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator
from lossproof.source.frames import Frame
from lossproof.source.lower import Node
from lossproof.source.patterns import Pattern
from lossproof.source.syntax import Function, ParsedModule, dotted
from lossproof.source.values import Cls, Const, Func, Inst, Lib, Ref, Seq, T, Value, alternatives

MAX_CALLS = 500
MAX_DEPTH = 8
MAX_ROOTS = 6

NO_GRADIENT = {"no_grad", "inference_mode", "enable_no_grad"}
_CLEARS = Pattern(
    r"(?:zero|clear|reset|empty)_?(?:out_?)?(?:the_?|all_?|model_?|param(?:eter)?s?_?)*grad(?:ient)?s?\b", re.I
)
# What has a ``step`` and is no optimizer.
_NO_OPTIMIZER = Pattern(
    r"sched|lr_|_lr$|^lr|warm|prof|env|meter|timer|ema|bar$|progress|policy|swa|anneal|decay|sampler|simul|writer"
    r"|logger|tracker|counter|engine|teacher|agent|runner|trainer|game|world|early|stopp|ddim|ddpm|diffusion|noise"
    r"|solver_|loop|pbar|callback|monitor|beta|temperature|curric|clock|mask|prun",
    re.I,
)
_OPTIMIZER = Pattern(
    r"(?:Adam\w*|SGD\w*|RMSprop|RMSProp|Adagrad|Adadelta|Adafactor|LBFGS|Rprop|ASGD|LAMB|Lamb|LARS|Lion\w*|Ranger\w*"
    r"|RAdam|NAdam|AdaBelief|AdaBound|Prodigy|Muon|Sophia\w*|Shampoo|AdaHessian|NovoGrad|DAdapt\w*|Rprop|SparseAdam"
    r"|create_optimizer\w*|DistributedOptimizer|ZeroRedundancyOptimizer)$"
)
_OPTIMIZER_NAME = Pattern(r"optim|^opt$|^opt_|_opt$|solver|^locals$", re.I)
_SCALER = Pattern(r"scaler", re.I)
_LIGHTNING = ("pytorch_lightning.", "lightning.")
_QUIET_CALLS = {
    "print", "len", "range", "enumerate", "zip", "tqdm", "trange", "isinstance", "int", "float", "str",
    "list", "dict", "set", "tuple", "max", "min", "sum", "abs", "round", "sorted", "item", "detach", "cpu",
    "numpy", "tolist", "to", "cuda", "long", "view", "reshape", "mean", "squeeze", "unsqueeze", "permute",
    "size", "format", "join", "append", "extend", "add_scalar", "set_postfix", "set_description", "write",
    "log", "info", "debug", "warning", "time", "perf_counter", "clip_grad_norm_", "clip_grad_value_",
    "unscale_", "backward_hooks", "state_dict", "save", "makedirs", "exists", "argmax", "eq", "topk",
    "softmax", "sigmoid", "zeros", "ones", "randn", "rand", "arange", "tensor", "stack", "cat", "get_lr",
    "get_last_lr", "keys", "values", "items", "getattr", "hasattr", "parameters", "named_parameters",
    "manual_seed", "empty_cache", "synchronize", "requires_grad_",
}  # fmt: skip
_HOOK = Pattern(r"^(?:on_|after_|before_|call_hook|run_hook|fire|trigger|dispatch|notify|emit)", re.I)


class Thing:
    """An object that events are about: an optimizer, a network. ``tokens`` say which one it is, as far as is known."""

    __slots__ = ("models", "text", "tokens", "values")

    def __init__(self, text: str, tokens: frozenset[Any], values: tuple[Value, ...]) -> None:
        self.text = text
        self.tokens = tokens
        self.values = values
        # For an optimizer: what is known of the networks that it was built for.
        self.models: frozenset[Any] = frozenset()

    def same(self, other: Thing) -> bool:
        return bool(self.tokens & other.tokens)

    def surely_other(self, other: Thing) -> bool:
        """Whether two things are known to be different ones, of the same sort."""
        if not self.tokens or not other.tokens or self.tokens & other.tokens:
            return False
        kinds = {t[:2] if t[0] in ("param", "self") else t[:1] for t in self.tokens | other.tokens}
        return len(kinds) == 1

    def __repr__(self) -> str:
        return f"<{self.text}>"


class Event:
    """``backward``, ``step``, ``clear``, ``mode``, ``forward``, ``load``, ``fresh``, ``graded`` (a gradient is
    assigned), ``scaled`` (changed in place), ``opaque``, ``yield``."""

    __slots__ = ("at", "detail", "frame", "kind", "loss", "node", "quiet", "thing")

    def __init__(
        self,
        kind: str,
        frame: Frame,
        at: Any,
        thing: Thing | None = None,
        detail: Any = None,
        node: Node | None = None,
        quiet: bool = False,
    ) -> None:
        self.kind = kind
        self.frame = frame
        self.at = at
        self.thing = thing
        self.detail = detail
        self.node = node
        self.quiet = quiet
        self.loss: Node | None = None

    def __repr__(self) -> str:
        return f"{self.kind}@{getattr(self.at, 'lineno', '?')}({self.thing or ''} {self.detail or ''})"


class Loop:
    __slots__ = ("at", "body", "frame")

    def __init__(self, frame: Frame, at: Any, body: list[Item]) -> None:
        self.frame = frame
        self.at = at
        self.body = body

    def __repr__(self) -> str:
        return f"Loop@{getattr(self.at, 'lineno', '?')}{self.body}"


class Branch:
    """Two ways; ``test`` is the expression that chooses, or None."""

    __slots__ = ("frame", "no", "test", "yes")

    def __init__(self, frame: Frame, test: Any, yes: list[Item], no: list[Item]) -> None:
        self.frame = frame
        self.test = test
        self.yes = yes
        self.no = no

    def __repr__(self) -> str:
        return f"If{self.yes}/{self.no}"


Item = Event | Loop | Branch
# The loops and branch arms around an event, the outermost first.
Path = tuple[tuple[Any, bool], ...]


def flat(items: Sequence[Item], path: Path = ()) -> Iterator[tuple[Event, Path]]:
    """All events, in the order of the code, each with what is around it."""
    for item in items:
        if isinstance(item, Event):
            yield item, path
        elif isinstance(item, Loop):
            yield from flat(item.body, (*path, (item, True)))
        else:
            yield from flat(item.yes, (*path, (item, True)))
            yield from flat(item.no, (*path, (item, False)))


def comes_through(event: Event, function: Function) -> bool:
    """Whether an event happens in a function, or in what it calls."""
    return any(frame.function is function for frame in event.frame.chain())


class Trainings:
    """Tells functions as trees of events."""

    def __init__(self, ev: Evaluator, contexts: Contexts) -> None:
        self.ev = ev
        self.contexts = contexts
        self._roots: dict[Function, list[Function]] = {}
        self._trees: dict[Function, list[list[Item]]] = {}
        self._mentions: dict[ParsedModule, dict[tuple[str, bool], list[Function]]] = {}
        self._alone: dict[Function, list[list[Item]]] = {}
        self._holders: dict[int, Function | None] = {}
        self.calls = 0
        # A decorator's inner function, what it calls the function that it wraps, and what that one does.
        self._spliced: tuple[Function, str, list[Item]] | None = None

    # ---- where a run begins

    def trees(self, function: Function) -> list[list[Item]]:
        """The runs that come through a function, each from the outermost caller that is known."""
        found: list[list[Item]] = []
        for root in self.roots(function):
            known = self._trees.get(root)
            if known is not None:
                self.ev.ledger.recall(("training", root))
            else:
                known = self._trees[root] = []
                with self.ev.ledger.entry(("training", root)):
                    for frame in self._opened(root):
                        self.calls = 0
                        tree = self.tree(frame)
                        if root.name == "training_step" and root.cls is not None:
                            if self.ev.library_base(Cls(root.cls)).startswith(_LIGHTNING):
                                tree = [Loop(frame, root.node, tree)]  # the framework calls it for every batch
                        known.append(tree)
            found.extend(known)
        if not any(comes_through(e, function) for tree in found for e, _ in flat(tree)):
            found = [*found, *self.alone(function)]
        return found

    def alone(self, function: Function) -> list[list[Item]]:
        """A function by itself: it is called from somewhere, and the way from there is lost."""
        key = ("alone", function)
        known = self._alone.get(function)
        if known is not None:
            self.ev.ledger.recall(key)
            return known
        self._alone[function] = known = []
        with self.ev.ledger.entry(key):
            for frame in self._opened(function)[:1]:
                self.calls = 0
                known.append(self.tree(frame))
        return known

    def roots(self, function: Function) -> list[Function]:
        known = self._roots.get(function)
        if known is not None:
            self.ev.ledger.recall(("roots", function))
            return known
        found: list[Function] = []
        self._roots[function] = found
        with self.ev.ledger.entry(("roots", function)):
            stack, seen = [(function, 0)], {function}
            while stack and len(found) < MAX_ROOTS:
                inner, depth = stack.pop()
                self.ev.ledger.mask |= inner.rests
                self.ev.begin()
                callers: list[Function] = []
                if depth < 6 and inner is not inner.module.body:
                    callers = [frame.function for frame, _, _ in self.contexts.callers(inner)]
                    if not callers and inner.parent is not None and inner.parent is not inner.module.body:
                        if inner.cls is None:
                            callers = [inner.parent]  # a closure that is handed on
                callers = [c for c in callers if not c.module.is_test]
                if not callers and inner is not inner.module.body:
                    callers = self._mentioning(inner)
                if not callers:
                    found.append(inner)
                for caller in callers:
                    if caller not in seen:
                        seen.add(caller)
                        stack.append((caller, depth + 1))
        return found

    def _mentioning(self, function: Function) -> list[Function]:
        """The functions of its file that hand a function on without calling it."""
        if function.name.startswith("<") or function.name in ("forward", "__init__", "__call__", "training_step"):
            return []
        module = function.module
        if module not in self._mentions:
            self._mentions[module] = _mentions(module)
        holders = self._mentions[module].get((function.name, function.cls is not None), ())
        return [other for other in holders if other is not function and other.parent is not function][:3]

    def _opened(self, root: Function) -> list[Frame]:
        frame = self.ev.open_frame(root)
        if root.cls is None or root.is_static:
            return [frame]
        self.ev.begin()
        closed = self.contexts.expand(frame)
        return closed[:3] or [frame]

    def tree(self, frame: Frame) -> list[Item]:
        return self._body(frame, False, 0)

    # ---- statements

    def _block(self, frame: Frame, statements: Sequence[ast.stmt], quiet: bool, depth: int) -> list[Item]:
        out: list[Item] = []
        for i, s in enumerate(statements):
            kind = s.__class__
            if kind is ast.If:
                assert isinstance(s, ast.If)
                out.extend(self._expression(frame, s.test, quiet, depth))
                yes = self._block(frame, s.body, quiet, depth)
                no = self._block(frame, s.orelse, quiet, depth)
                rest = statements[i + 1 :]
                # What follows a branch that leaves happens only on the other one.
                if _leaves(s.body):
                    no += self._block(frame, rest, quiet, depth)
                elif s.orelse and _leaves(s.orelse):
                    yes += self._block(frame, rest, quiet, depth)
                else:
                    self._add(out, Branch(frame, s.test, yes, no))
                    continue
                self._add(out, Branch(frame, s.test, yes, no))
                return out
            if kind is ast.For or kind is ast.AsyncFor:
                out.extend(self._expression(frame, s.iter, quiet, depth))  # type: ignore[attr-defined]
                self._add(out, Loop(frame, s, self._block(frame, s.body, quiet, depth)))  # type: ignore[attr-defined]
                out.extend(self._block(frame, s.orelse, quiet, depth))  # type: ignore[attr-defined]
            elif kind is ast.While:
                assert isinstance(s, ast.While)
                body = self._expression(frame, s.test, quiet, depth) + self._block(frame, s.body, quiet, depth)
                self._add(out, Loop(frame, s, body))
            elif kind is ast.With or kind is ast.AsyncWith:
                out.extend(self._with(frame, s, quiet, depth))
            elif kind is ast.Try or kind.__name__ == "TryStar":
                out.extend(self._block(frame, s.body, quiet, depth))  # type: ignore[attr-defined]
                for handler in s.handlers:  # type: ignore[attr-defined]
                    self._add(out, Branch(frame, None, self._block(frame, handler.body, quiet, depth), []))
                out.extend(self._block(frame, s.orelse, quiet, depth))  # type: ignore[attr-defined]
                out.extend(self._block(frame, s.finalbody, quiet, depth))  # type: ignore[attr-defined]
            elif kind is ast.Match:
                assert isinstance(s, ast.Match)
                out.extend(self._expression(frame, s.subject, quiet, depth))
                for case in s.cases:
                    self._add(out, Branch(frame, None, self._block(frame, case.body, quiet, depth), []))
            elif kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
                continue
            else:
                value = getattr(s, "value", None)
                if value is not None:
                    out.extend(self._expression(frame, value, quiet, depth))
                out.extend(self._stored(frame, s, quiet))
                if kind in (ast.Return, ast.Raise, ast.Continue, ast.Break):
                    break
        return out

    @staticmethod
    def _add(out: list[Item], item: Loop | Branch) -> None:
        parts = item.body if isinstance(item, Loop) else [*item.yes, *item.no]
        if parts:
            out.append(item)

    def _with(self, frame: Frame, s: Any, quiet: bool, depth: int) -> list[Item]:
        out: list[Item] = []
        after: list[Item] = []
        for item in s.items:
            e = item.context_expr
            name = dotted(e.func).rpartition(".")[2] if isinstance(e, ast.Call) else ""
            if name in NO_GRADIENT:
                quiet = True
                continue
            if name == "set_grad_enabled" and e.args:
                quiet = quiet or (isinstance(e.args[0], ast.Constant) and not e.args[0].value)
                continue
            if name == "enable_grad":
                quiet = False
                continue
            entered = self._manager(frame, e, quiet, depth) if isinstance(e, ast.Call) else None
            if entered is None:
                out.extend(self._expression(frame, e, quiet, depth))
                continue
            before, last, still = entered
            out.extend(before)
            after = last + after
            quiet = quiet or still
        return out + self._block(frame, s.body, quiet, depth) + after

    def _manager(
        self, frame: Frame, call: ast.Call, quiet: bool, depth: int
    ) -> tuple[list[Item], list[Item], bool] | None:
        """A context manager of the project's own: what it does before and after, and whether it stops gradients."""
        node = frame.ir.by_call.get(id(call))
        if node is None or self.calls >= MAX_CALLS or depth >= MAX_DEPTH:
            return None
        self.ev.begin()
        for func, positional, named in self.contexts.targets(frame, node):
            function = func.function
            if any(d.endswith("contextmanager") for d in function.decorators):
                self.calls += 1
                inner = self.ev.enter(func, positional, named, frame, node)
                if inner is None:
                    return None
                items = self._block(inner, function.node.body, quiet, depth + 1)
                return _split(items)
        value = self.ev.value(frame, node)
        for _, v in alternatives(value):
            if isinstance(v, Inst):
                parts: list[list[Item]] = []
                for name in ("__enter__", "__exit__"):
                    method = self.ev.class_member(v.cls, name)
                    if not isinstance(method, Func):
                        return None
                    inner = Frame(method.function, None, v, None, None, frame.depth + 1)
                    parts.append(self._block(inner, method.function.node.body, quiet, depth + 1))
                return parts[0], parts[1], quiet
        return None

    def _stored(self, frame: Frame, s: Any, quiet: bool) -> list[Item]:
        """Gradients that are assigned, and parameters that are changed by hand."""
        out: list[Item] = []
        targets = s.targets if isinstance(s, ast.Assign) else [s.target] if hasattr(s, "target") else []
        for target in targets:
            base = target.value if isinstance(target, ast.Subscript) else target
            if isinstance(base, ast.Attribute) and base.attr == "data" and isinstance(base.value, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Attribute) and base.attr == "grad":
                empty = isinstance(s, ast.Assign) and (
                    isinstance(s.value, ast.Constant)
                    or (isinstance(s.value, ast.Call) and dotted(s.value.func).rpartition(".")[2].startswith("zeros"))
                )
                kind = "clear" if empty else "graded" if isinstance(s, ast.Assign) else "scaled"
                out.append(Event(kind, frame, s, quiet=quiet))
            if isinstance(target, ast.Attribute) and target.attr == "training":
                # ``for m in net.modules(): m.training = False``; of which network it is a part is not asked.
                out.append(Event("mode", frame, s, Thing("", frozenset(), ()), "open", quiet=quiet))
        if isinstance(s, ast.AugAssign) and isinstance(s.op, (ast.Sub, ast.Add)):
            target = _bare(s.target)
            if target is not None and _reads_gradient(s.value, target):
                out.append(Event("step", frame, s, self.named(frame, s.target), "by hand", quiet=quiet))
        if isinstance(s, ast.Delete) and any(isinstance(t, ast.Attribute) and t.attr == "grad" for t in s.targets):
            out.append(Event("clear", frame, s, quiet=quiet))
        return out

    # ---- expressions

    def _expression(self, frame: Frame, e: Any, quiet: bool, depth: int) -> list[Item]:
        if isinstance(e, ast.IfExp):
            out = self._expression(frame, e.test, quiet, depth)
            yes, no = (self._expression(frame, part, quiet, depth) for part in (e.body, e.orelse))
            self._add(out, Branch(frame, e.test, yes, no))
            return out
        if isinstance(e, ast.BoolOp):
            out = self._expression(frame, e.values[0], quiet, depth)
            for part in e.values[1:]:
                self._add(out, Branch(frame, None, self._expression(frame, part, quiet, depth), []))
            return out
        calls: list[Any] = []
        stack: list[Any] = [e]
        while stack:
            part = stack.pop()
            kind = part.__class__
            if kind is ast.Call or kind is ast.Yield:
                calls.append(part)
            elif kind in _COMPREHENSIONS:
                calls.append(part)
                stack.append(part.generators[0].iter)
                continue
            elif kind is ast.Lambda or kind is ast.Constant or kind is ast.Name:
                continue
            stack.extend(ast.iter_child_nodes(part))
        found: list[Item] = []
        for call in reversed(calls):
            if call.__class__ is ast.Yield:
                found.append(Event("yield", frame, call, quiet=quiet))
            elif call.__class__ is not ast.Call:
                parts = [call.key, call.value] if isinstance(call, ast.DictComp) else [call.elt]
                parts = [*(t for g in call.generators for t in g.ifs), *(g.iter for g in call.generators[1:]), *parts]
                self._add(
                    found, Loop(frame, call, [e for p in parts for e in self._expression(frame, p, quiet, depth)])
                )
            else:
                found.extend(self._call(frame, call, quiet, depth))
        return found

    def _call(self, frame: Frame, call: ast.Call, quiet: bool, depth: int) -> list[Item]:
        callee = call.func
        name = callee.attr if isinstance(callee, ast.Attribute) else callee.id if isinstance(callee, ast.Name) else ""
        if name == "setattr" and len(call.args) > 1 and _is_word(call.args[1], "training"):
            return [Event("mode", frame, call, Thing("", frozenset(), ()), "open", quiet=quiet)]
        node = frame.ir.by_call.get(id(call))
        if node is None:
            return []
        owner = callee.value if isinstance(callee, ast.Attribute) else None
        if isinstance(callee, ast.Call) and dotted(callee.func) == "getattr" and len(callee.args) > 1:
            owner = callee.args[0]
            name = self._word(frame, node.args[0]) or ""
            if not name:
                return [Event("mode", frame, call, self.named(frame, owner), "open", node, quiet)]
        if isinstance(callee, ast.IfExp):
            # ``(net.train if training else net.eval)()``
            for way in (callee.body, callee.orelse):
                if isinstance(way, ast.Attribute) and way.attr in ("eval", "train"):
                    return [Event("mode", frame, call, Thing("", frozenset(), ()), "open", node, quiet)]
        spliced = self._spliced
        if spliced is not None and owner is None and name == spliced[1] and frame.function is spliced[0]:
            return spliced[2]
        if name in _QUIET_CALLS:
            return []
        receiver = node.args[0].args[0] if node.args[0].op == "attr" else None
        special = self._special(frame, call, node, name, owner, receiver, quiet, depth)
        if special is not None:
            return special
        return self._other(frame, call, node, name, owner, quiet, depth)

    def _word(self, frame: Frame, getattr_call: Node) -> str | None:
        """The name in ``getattr(network, name)()``, where it is known."""
        if getattr_call.op != "call" or len(getattr_call.args[1]) < 2:
            return None
        given: Node = getattr_call.args[1][1]
        found = {v.v if isinstance(v, Const) else None for v in self.values(frame, given)}
        only = found.pop() if len(found) == 1 else None
        return only if isinstance(only, str) else None

    def _special(
        self,
        frame: Frame,
        call: ast.Call,
        node: Node,
        name: str,
        owner: Any,
        receiver: Node | None,
        quiet: bool,
        depth: int,
    ) -> list[Item] | None:
        """The calls that mean something to a training by their name, if they do here."""
        if name in ("backward", "manual_backward") and owner is not None:
            if "dist_autograd" in dotted(owner) or dotted(owner).startswith("torch.distributed"):
                return []  # gradients are kept by context, not added to those of before
            inner = self._inlined(frame, node, quiet, depth)
            if inner is not None and any(e.kind == "backward" for e, _ in flat(inner)):
                return inner
            event = Event("backward", frame, call, None, None, node, quiet)
            event.loss, event.detail = _root_of(frame, call, node, receiver, name)
            return [event]
        if name in ("step", "optimizer_step"):
            return self._step(frame, call, node, name, owner, receiver, quiet, depth)
        if _CLEARS.search(name):
            inner = self._inlined(frame, node, quiet, depth)
            if inner is not None and any(e.kind == "clear" for e, _ in flat(inner)):
                return inner
            if inner and owner is None:
                return inner
            whose = owner if owner is not None else (call.args[0] if call.args else None)
            thing = self.named(frame, whose) if whose is not None and inner is None else None
            return [Event("clear", frame, call, thing, None, node, quiet)]
        if name in ("zero_", "detach_", "fill_", "mul_", "div_", "copy_", "add_", "sub_", "addcdiv_", "clamp_"):
            return self._on_gradient(frame, call, name, owner, quiet)
        if name in ("eval", "train") and owner is not None:
            return self._mode(frame, call, node, name, owner, quiet, depth)
        if name == "apply" and owner is not None and self._switched(frame, call, node, quiet, depth):
            return [Event("mode", frame, call, self.named(frame, owner), "open", node, quiet)]
        if name == "map" and owner is None and self._switched(frame, call, node, quiet, depth):
            return [Event("mode", frame, call, Thing("", frozenset(), ()), "open", node, quiet)]
        if name == "load_state_dict" and owner is not None:
            return [Event("load", frame, call, self.named(frame, owner), None, node, quiet)]
        if name.startswith("_foreach_zero"):
            return [Event("clear", frame, call, None, None, node, quiet)]
        if _OPTIMIZER.search(name):
            return [Event("fresh", frame, call, Thing(name, frozenset({("lib", id(call))}), ()), None, node, quiet)]
        return None

    def _step(
        self,
        frame: Frame,
        call: ast.Call,
        node: Node,
        name: str,
        owner: Any,
        receiver: Node | None,
        quiet: bool,
        depth: int,
    ) -> list[Item]:
        if owner is None and name == "step":
            return self._other(frame, call, node, name, owner, quiet, depth)
        argument = call.args[0] if len(call.args) == 1 else None
        if name == "optimizer_step" and argument is not None and (owner is None or dotted(owner) in ("xm", "self")):
            return [Event("step", frame, call, self.optimizer(frame, argument), None, node, quiet)]
        values = self.values(frame, receiver) if receiver is not None else ()
        if argument is not None and self._scaler(values, owner):
            return [Event("step", frame, call, self.optimizer(frame, argument), None, node, quiet)]
        inner = self._inlined(frame, node, quiet, depth)
        if inner is not None:
            derives = any(isinstance(v, Inst) and _optimizes(self.ev.library_base(v.cls)) for v in values)
            if derives and not any(e.kind == "step" for e, _ in flat(inner)):
                return [*inner, Event("step", frame, call, self.optimizer(frame, owner), None, node, quiet)]
            return inner
        if not self._is_optimizer(values, owner):
            return []
        out: list[Item] = []
        detail: Any = None
        for given in [*call.args, *(k.value for k in call.keywords)]:
            closure = self._closure(frame, call, given, node, quiet, depth)
            if closure is None and isinstance(given, (ast.Constant,)):
                continue
            if closure is None and not any(isinstance(v, Lib) for v in values):
                return []  # ``scheduler.step(loss)``
            if closure:
                again = any(isinstance(v, Lib) and v.name.endswith("LBFGS") for v in values)
                detail = "closure"
                self._add(out, Loop(frame, call, closure)) if again else out.extend(closure)
        thing = self.optimizer(frame, owner)
        return [*out, Event("step", frame, call, thing, detail, node, quiet)]

    def _closure(
        self, frame: Frame, call: ast.Call, given: Any, node: Node, quiet: bool, depth: int
    ) -> list[Item] | None:
        index = next((i for i, a in enumerate(call.args) if a is given), None)
        inner = node.args[1][index] if index is not None and index < len(node.args[1]) else None
        if inner is None:
            inner = next(
                (n for k, n in node.args[2] if any(w.arg == k and w.value is given for w in call.keywords)), None
            )
        if inner is None:
            return None
        for v in self.values(frame, inner):
            if isinstance(v, Func) and depth < MAX_DEPTH:
                self.calls += 1
                entered = self.ev.enter(v, [], {}, frame, node)
                if entered is not None:
                    return self._body(entered, quiet, depth + 1)
        return None

    def _scaler(self, values: Sequence[Value], owner: Any) -> bool:
        if any(isinstance(v, Lib) and v.name.endswith("GradScaler") for v in values):
            return True
        if any(isinstance(v, (Inst, Lib)) for v in values):
            return False
        return _SCALER.search(_last(owner)) is not None

    def _is_optimizer(self, values: Sequence[Value], owner: Any) -> bool:
        known = [v for v in values if isinstance(v, (Lib, Inst, Seq, Const, Ref, Func, Cls))]
        if known:
            return any(isinstance(v, Lib) and _optimizes(v.name) for v in known)
        return _NO_OPTIMIZER.search(_last(owner)) is None

    def _on_gradient(self, frame: Frame, call: ast.Call, name: str, owner: Any, quiet: bool) -> list[Item]:
        base = owner
        while isinstance(base, ast.Attribute) and base.attr in ("data",):
            base = base.value
        if isinstance(base, ast.Call) and dotted(base.func).endswith("detach"):
            base = base.func.value  # type: ignore[attr-defined]
        if isinstance(base, ast.Attribute) and base.attr == "grad":
            kind = "clear" if name in ("zero_", "fill_") else "graded" if name == "copy_" else "scaled"
            return [Event(kind, frame, call, quiet=quiet)]
        target = _bare(owner)
        if name in ("zero_", "fill_") and target is not None and "grad" in target.lower():
            return [Event("clear", frame, call, quiet=quiet)]
        if name in ("add_", "sub_", "copy_", "addcdiv_") and target is not None:
            if any(_reads_gradient(a, target) for a in call.args):
                return [Event("step", frame, call, self.named(frame, owner), "by hand", quiet=quiet)]
        return []

    def _mode(
        self, frame: Frame, call: ast.Call, node: Node, name: str, owner: Any, quiet: bool, depth: int
    ) -> list[Item]:
        receiver = node.args[0].args[0] if node.args[0].op == "attr" else None
        values = self.values(frame, receiver) if receiver is not None else ()
        instances = [v for v in values if isinstance(v, Inst)]
        if dotted(owner) == "super()" or (isinstance(owner, ast.Call) and dotted(owner.func) == "super"):
            return []
        if instances and not any(self._is_network(v) for v in instances):
            inner = self._inlined(frame, node, quiet, depth)
            return inner if inner is not None else []
        if any(isinstance(v, (Ref, Const)) for v in values):
            if dotted(owner).endswith("Module"):  # ``nn.Module.eval(net)``
                return [Event("mode", frame, call, Thing("", frozenset(), ()), "open", node, quiet)]
            return []
        arguments = [*call.args, *(k.value for k in call.keywords)]
        if len(arguments) > 1:
            return self._other(frame, call, node, name, owner, quiet, depth)
        mode: Any = name
        if arguments:
            mode = "open"
            if isinstance(arguments[0], ast.Constant) and name == "train":
                mode = "train" if arguments[0].value else "eval"
            elif name == "eval" or not instances:
                inner = self._inlined(frame, node, quiet, depth)
                if inner is not None:
                    return inner
        return [Event("mode", frame, call, self.named(frame, owner), mode, node, quiet)]

    def _switched(self, frame: Frame, call: ast.Call, node: Node, quiet: bool, depth: int) -> bool:
        """Whether ``net.apply(f)`` switches the mode of what ``net`` is made of: ``lambda m: m.eval()``."""
        for given in call.args:
            if isinstance(given, ast.Attribute) and given.attr in ("eval", "train"):
                return True  # ``nn.Module.eval``
            items = self._closure(frame, call, given, node, quiet, depth)
            if items and any(e.kind == "mode" for e, _ in flat(items)):
                return True
        return False

    def _other(
        self, frame: Frame, call: ast.Call, node: Node, name: str, owner: Any, quiet: bool, depth: int
    ) -> list[Item]:
        callee = call.func
        first = dotted(callee).partition(".")[0]
        imported = frame.function.module.imports.get(first)
        if imported is not None and is_library(imported):
            return self._cleared_by_word(frame, call, node, quiet)
        if self.calls >= MAX_CALLS:
            return [Event("opaque", frame, call, quiet=quiet)]
        self.calls += 1
        self.ev.begin()
        value = self.ev.value(frame, node.args[0])
        networks = [v for _, v in alternatives(value) if self._is_network(v)]
        if networks:
            thing = self._thing(frame, callee, tuple(v for _, v in alternatives(value)))
            return [Event("forward", frame, call, thing, None, node, quiet)]
        if isinstance(callee, ast.Attribute) and name in ("forward", "__call__"):
            values = self.values(frame, node.args[0].args[0]) if node.args[0].op == "attr" else ()
            if any(self._is_network(v) for v in values):
                return [Event("forward", frame, call, self._thing(frame, owner, values), None, node, quiet)]
        if any(isinstance(v, Cls) for _, v in alternatives(value)):
            return self._built(frame, node, quiet, depth)
        inner = self._inlined(frame, node, quiet, depth)
        if inner is not None:
            return inner
        found = self._cleared_by_word(frame, call, node, quiet)
        if found:
            return found
        reason = self._hidden(frame, call, name, owner)
        if reason:
            found.append(Event("opaque", frame, call, None, reason, quiet=quiet))
        if all(isinstance(v, T) for _, v in alternatives(value)):
            values = tuple(v for _, v in alternatives(value))
            found.append(Event("forward", frame, call, self._thing(frame, callee, values), "perhaps", node, quiet))
        return found

    def _built(self, frame: Frame, node: Node, quiet: bool, depth: int) -> list[Item]:
        """What an object's constructor does."""
        if depth >= MAX_DEPTH or self.calls >= MAX_CALLS:
            return []
        for v in self.values(frame, node):
            if isinstance(v, Inst) and v.ctor is not None and v.ctor.site is not None and v.ctor.site[1] is node:
                if v.ctor.function.name == "__init__" and (not self._is_network(v) or _switches(v.ctor.function)):
                    return self._body(v.ctor, quiet, depth + 1)
        return []

    def _cleared_by_word(self, frame: Frame, call: ast.Call, node: Node, quiet: bool) -> list[Item]:
        """``optimizer.first_step(zero_grad=True)``"""
        if any(k.arg is not None and _CLEARS.search(k.arg) for k in call.keywords):
            return [Event("clear", frame, call, None, None, node, quiet)]
        return []

    def _hidden(self, frame: Frame, call: ast.Call, name: str, owner: Any) -> str:
        """What a call that cannot be looked into is handed that it could change: ``self`` or an ``optimizer``."""
        me = frame.function.first_param if frame.function.cls is not None else None
        given = [*call.args, *(k.value for k in call.keywords)]
        if me is not None and any(isinstance(g, ast.Name) and g.id == me for g in given):
            return "self"
        if isinstance(owner, ast.Name) and owner.id == me and self._unknown_base(frame):
            return "self"
        if isinstance(owner, ast.Call) and dotted(owner.func) == "super" and self._unknown_base(frame):
            return "self"
        if _HOOK.search(name) is not None:
            return "self"
        return "optimizer" if any(_OPTIMIZER_NAME.search(_last(g)) for g in given) else ""

    def _unknown_base(self, frame: Frame) -> bool:
        me = frame.base().me
        if not isinstance(me, Inst):
            return True
        known = ("torch.", "builtins", "abc.", *_LIGHTNING)
        return not all(
            isinstance(b, (Cls, Ref)) and (not isinstance(b, Ref) or b.name.startswith(known))
            for c in self.ev.mro(me.cls)
            for b in self.ev.bases(c)
        )

    def _is_network(self, v: Value) -> bool:
        if isinstance(v, Inst):
            base = self.ev.library_base(v.cls)
            return base.startswith(("torch.nn.", "pytorch_lightning.", "lightning.", "transformers.", "timm."))
        if isinstance(v, Lib):
            return not v.name.startswith(("torch.utils", "torch.optim", "torchvision.transforms", "builtins"))
        return isinstance(v, Seq) and v.kind not in ("list", "tuple", "set")

    def _inlined(self, frame: Frame, node: Node, quiet: bool, depth: int) -> list[Item] | None:
        """What the project's own function does; None where it is not known which that is."""
        if depth >= MAX_DEPTH or self.calls >= MAX_CALLS:
            return None
        self.ev.begin()
        choices: list[list[Item]] = []
        for func, positional, named in self.contexts.targets(frame, node):
            function = func.function
            if function.name == "forward" and isinstance(func.me, Inst):
                continue
            self.calls += 1
            if len(choices) >= 3 or self.calls >= MAX_CALLS:
                break
            inner = self.ev.enter(func, positional, named, frame, node)
            choices.append([] if inner is None else self._body(inner, quiet, depth + 1))
        if not choices:
            return None
        merged = choices[0]
        for other in choices[1:]:
            merged = [Branch(frame, None, merged, other)] if merged or other else []
        return merged

    def _body(self, frame: Frame, quiet: bool, depth: int) -> list[Item]:
        quiet = quiet or any(d.rpartition(".")[2] in NO_GRADIENT for d in frame.function.decorators)
        body = frame.function.node.body
        if not isinstance(body, list):
            return self._expression(frame, body, quiet, depth)
        items = self._block(frame, body, quiet, depth)
        for decorator in reversed(getattr(frame.function.node, "decorator_list", ())):
            items = self._wrapped(frame, decorator, items, quiet, depth)
        return items

    def _wrapped(self, frame: Frame, decorator: Any, items: list[Item], quiet: bool, depth: int) -> list[Item]:
        """What a decorator of the project's own does around a function."""
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not isinstance(name, ast.Name) or depth >= MAX_DEPTH:
            return items
        found = self.ev.global_value(frame.function.module, name.id)
        if not isinstance(found, Func):
            return items
        outer = found.function
        self.ev.ledger.mask |= outer.rests
        inner = [f for f in outer.module.functions if f.parent is outer]
        if isinstance(decorator, ast.Call) and inner:
            outer, inner = inner[0], [f for f in outer.module.functions if f.parent is inner[0]]
        if len(inner) != 1 or outer.first_param is None:
            return items
        wrapper = self.ev.open_frame(inner[0])
        kept, self._spliced = self._spliced, (inner[0], outer.first_param, items)
        try:
            return self._block(wrapper, inner[0].node.body, quiet, depth + 1)
        finally:
            self._spliced = kept

    # ---- things

    def values(self, frame: Frame, node: Node | None) -> tuple[Value, ...]:
        if node is None:
            return ()
        self.ev.begin()
        return tuple(v for _, v in alternatives(self.ev.value(frame, node)))

    def named(self, frame: Frame, e: Any) -> Thing:
        """What an expression stands for."""
        node = self._node_of(frame, e)
        return self._thing(frame, e, self.values(frame, node))

    def optimizer(self, frame: Frame, e: Any) -> Thing:
        thing = self.named(frame, e)
        models: set[Any] = set()
        for v in thing.values:
            found = self._built_for(v) if isinstance(v, Lib) else None
            if not found:
                return thing
            models |= found
        thing.models = frozenset(models)
        return thing

    def models_of(self, thing: Thing) -> frozenset[Any]:
        """The networks that an optimizer is for; a network is its own."""
        if not any(isinstance(v, Lib) and _optimizes(v.name) for v in thing.values):
            return thing.tokens if thing.values and all(self._is_network(v) for v in thing.values) else frozenset()
        models: set[Any] = set()
        for v in thing.values:
            models |= (self._built_for(v) or set()) if isinstance(v, Lib) else set()
        return frozenset(models)

    def _node_of(self, frame: Frame, e: Any) -> Node | None:
        return _node_in(frame, e)

    def _thing(self, frame: Frame, e: Any, values: tuple[Value, ...]) -> Thing:
        while isinstance(e, ast.Attribute) and e.attr == "module":
            e = e.value
        text = ast.unparse(e) if isinstance(e, (ast.Name, ast.Attribute, ast.Subscript)) else ""
        tokens: set[Any] = set()
        for v in values:
            tokens |= self._tokens(v)
        if not tokens and text:
            base = frame.base()
            me = frame.function.first_param if frame.function.cls is not None else None
            if me and text.startswith(me + ".") and isinstance(base.me, Inst):
                tokens.add(("self", id(base.me.cls.info), text[len(me) + 1 :]))
            else:
                tokens.add(("text", id(frame.function), text))
        return Thing(text, frozenset(tokens), values)

    def tokens(self, values: Sequence[Value]) -> set[Any]:
        return {token for v in values for token in self._tokens(v)}

    def _tokens(self, v: Value) -> set[Any]:
        if isinstance(v, Lib):
            return {("lib", id(v.at))} if v.at is not None else set()
        if isinstance(v, Inst):
            site = v.ctor.site if v.ctor is not None else None
            return {("inst", id(v.cls.info), id(site[1].at) if site is not None else 0)}
        if isinstance(v, Seq):
            found: set[Any] = set()
            for part in [*v.head, *([v.rest] if v.rest is not None else []), *v.tail]:
                for _, inner in alternatives(part):
                    if isinstance(inner, (Lib, Inst)):
                        found |= self._tokens(inner)
            return found
        if isinstance(v, T):
            param = v.get("param")
            if param is not None and not v.act:
                return {("param", id(param[0]), param[1])}
        return set()

    def _built_for(self, optimizer: Lib) -> set[Any] | None:
        """The networks whose parameters an optimizer was given, where the line that builds it says so."""
        call = optimizer.at
        holder = self.holder(optimizer)
        if holder is None or not isinstance(call, ast.Call) or not call.args:
            return None
        frame = self.ev.open_frame(holder)
        found: set[Any] = set()
        for part in ast.walk(call.args[0]):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                if part.func.attr in ("parameters", "named_parameters"):
                    owner: Any = part.func.value
                    while isinstance(owner, ast.Attribute) and not (
                        isinstance(owner.value, ast.Name) and owner.value.id == holder.first_param
                    ):
                        owner = owner.value
                    found |= self.named(frame, owner).tokens
        return found or None

    def holder(self, made: Lib) -> Function | None:
        key = id(made.at)
        if key not in self._holders:
            self._holders[key] = None
            if made.module is not None and isinstance(made.at, ast.Call):
                last = dotted(made.at.func).rpartition(".")[2]
                for call, function in made.module.call_index.get(last, ()):
                    if call is made.at:
                        self._holders[key] = function
        return self._holders[key]


_LIBRARIES = {
    "torch", "torchvision", "torchaudio", "numpy", "os", "sys", "time", "math", "random", "json", "logging", "tqdm",
    "argparse", "pathlib", "collections", "itertools", "functools", "copy", "matplotlib", "sklearn", "pandas", "wandb",
    "scipy", "PIL", "cv2", "datetime", "typing", "re", "shutil", "warnings", "gc", "einops", "yaml", "pickle", "apex",
    "transformers", "datasets", "evaluate", "rich", "click", "hydra", "omegaconf", "gym", "gymnasium", "tensorboardX",
}  # fmt: skip


def _mentions(module: ParsedModule) -> dict[tuple[str, bool], list[Function]]:
    """Which functions of a file say the name of another one, as a name (False) or as an attribute (True)."""
    defined = {function.name for function in module.functions}
    found: dict[tuple[str, bool], list[Function]] = {}
    for function in module.functions:
        body = function.node.body
        stack: list[Any] = list(body) if isinstance(body, list) else [body]
        while stack:
            part = stack.pop()
            kind = part.__class__
            if kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
                continue
            name = part.id if kind is ast.Name else part.attr if kind is ast.Attribute else ""
            if name in defined:
                holders = found.setdefault((name, kind is ast.Attribute), [])
                if holders[-1:] != [function]:
                    holders.append(function)
            stack.extend(ast.iter_child_nodes(part))
    return found


def is_library(imported: tuple[str, str | None, int]) -> bool:
    """Whether what a file imports comes from a library that trains nothing by itself."""
    return imported[2] == 0 and imported[0].partition(".")[0] in _LIBRARIES


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _switches(function: Function) -> bool:
    """Whether a network's constructor does more than to build layers."""
    return any(getattr(c.func, "attr", "") in ("load_state_dict", "eval", "train") for c in function.calls)


def _optimizes(name: str) -> bool:
    if name.startswith(("torch.optim.lr_scheduler", "torch.optim.swa_utils")):
        return False
    return name.startswith("torch.optim.") or _OPTIMIZER.search(name) is not None


def _leaves(body: Sequence[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], (ast.Return, ast.Raise, ast.Continue, ast.Break))


def _is_word(e: Any, word: str) -> bool:
    return isinstance(e, ast.Constant) and e.value == word


def _last(e: Any) -> str:
    while isinstance(e, (ast.Subscript, ast.Call)):
        e = e.value if isinstance(e, ast.Subscript) else e.func
    return e.attr if isinstance(e, ast.Attribute) else e.id if isinstance(e, ast.Name) else ""


def _bare(e: Any) -> str | None:
    """``w``, ``self.w``, ``w.data``: what a parameter that is changed by hand is called."""
    while isinstance(e, (ast.Attribute, ast.Subscript)) and (isinstance(e, ast.Subscript) or e.attr == "data"):
        e = e.value
    text = dotted(e)
    return text or None


def _reads_gradient(e: Any, target: str) -> bool:
    return any(
        isinstance(part, ast.Attribute) and part.attr == "grad" and _bare(part.value) == target for part in ast.walk(e)
    )


def _split(items: list[Item]) -> tuple[list[Item], list[Item], bool]:
    """A context manager's events before and after its ``yield``, and whether gradients are off there."""
    for i, item in enumerate(items):
        if isinstance(item, Event) and item.kind == "yield":
            return items[:i], items[i + 1 :], item.quiet
    return items, [], False


def _root_of(
    frame: Frame, call: ast.Call, node: Node, receiver: Node | None, name: str
) -> tuple[Node | None, str | None]:
    """The loss of a backward pass, and who is told to run it (``accelerator.backward(loss)``)."""
    arguments = node.args[1]
    if name == "manual_backward":
        return (arguments[0] if arguments else None), None
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    first = call.args[0] if call.args else None
    if receiver is not None and arguments and first is not None and not isinstance(first, ast.Constant):
        # What a name was given by a call may be a tensor; then its gradient is not called a loss.
        built = (
            receiver.op == "call" and isinstance(owner, (ast.Name, ast.Attribute)) and "loss" in _last(first).lower()
        )
        if receiver.op in ("name", "free", "attr", "param", "import") or built:
            if _engine_like(owner, first):
                return arguments[0], "engine"
    return receiver, None


def _engine_like(owner: Any, first: Any) -> bool:
    # ``loss.backward(gradient)`` against ``engine.backward(loss)``
    word = _last(owner)
    return "loss" not in word.lower() and "err" not in word.lower()


def _node_in(frame: Frame, e: Any) -> Node | None:
    """The node of an expression that stands in a function's code, as the receiver of a call or its argument."""
    return _index(frame).get(id(e))


def _index(frame: Frame) -> dict[int, Node]:
    function = frame.function
    kept = _INDEXED.get(id(function))
    if kept is not None and kept[0] is function:
        return kept[1]
    table: dict[int, Node] = {}
    for node in frame.ir.calls:
        call = node.at
        if not isinstance(call, ast.Call):
            continue
        func = node.args[0]
        table[id(call.func)] = func
        if isinstance(call.func, ast.Attribute) and func.op == "attr":
            table[id(call.func.value)] = func.args[0]
        for given, value in zip(call.args, node.args[1], strict=False):
            table[id(given)] = value
        for keyword, (_, value) in zip(call.keywords, node.args[2], strict=False):
            table[id(keyword.value)] = value
        table[id(call)] = node
    if len(_INDEXED) > 500:
        _INDEXED.clear()
    _INDEXED[id(function)] = (function, table)
    return table


_INDEXED: dict[int, tuple[Function, dict[int, Node]]] = {}
