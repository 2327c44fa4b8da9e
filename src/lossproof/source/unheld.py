"""Learnable weights of losses, and whether an optimizer holds them.

``exp(-s) * loss + s`` learns ``s`` only where ``s`` is among the parameters of an optimizer. So what multiplies losses
and is a parameter is looked for, then who builds it, then the optimizers that are built beside it (in the function, in
the class, in what they are handed to). Everything that such an optimizer is given is walked; where the weights are met
on the way, or where what is given cannot be seen, nothing is said.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator, children
from lossproof.source.facts import UnheldWeights
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower
from lossproof.source.origins import Origins, known
from lossproof.source.patterns import Pattern
from lossproof.source.slices import Slices
from lossproof.source.syntax import ClassInfo, Function, dotted
from lossproof.source.torch_names import LAYER_OPERATION
from lossproof.source.values import Cls, Func, Hop, Inst, Ref, T, Thunk, alternatives

_MAKERS = {"Parameter", "ParameterList", "ParameterDict", "register_parameter"}
_LOSSY = Pattern(r"loss|criterion|entropy|mse|nll|bce|\berr|task|objective|\bl\d?\b|\bl_\w+", re.I)
_OPTIMIZER = Pattern(
    r"^(?:torch\.optim\.(?!lr_scheduler|swa_utils)|torch_optimizer\.|apex\.optimizers\.|bitsandbytes\.optim\.|timm\.optim\."
    r"|transformers\.(?:optimization\.)?(?:AdamW|Adafactor)$|lion_pytorch\.|adabelief_pytorch\.|pytorch_optimizer\.)"
)
_LISTED = {"parameters", "named_parameters", "trainable_parameters", "get_parameters", "param_groups"}
MAX_WALK = 260
MAX_OPTIMIZERS = 8


class Unheld:
    def __init__(self, ev: Evaluator, contexts: Contexts, origins: Origins, slices: Slices) -> None:
        self.ev = ev
        self.contexts = contexts
        self.origins = origins
        self.slices = slices

    @staticmethod
    def concern(source: str) -> bool:
        """Whether a file can make learnable weights, by its text."""
        return any(
            word in source
            for word in (".Parameter", "Parameter(", "_parameter(", "requires_grad=True", "ParameterList")
        )

    def facts(self, function: Function) -> Iterator[UnheldWeights]:
        info = function.cls
        if info is not None and function.name == "__init__":
            yield from self._of_class(info, function)
        elif info is None or function.name not in info.methods:
            yield from self._of_function(function)

    # ---- weights in a class

    def _of_class(self, info: ClassInfo, init: Function) -> Iterator[UnheldWeights]:
        names = _learned(info)
        weighing = [n for n in names if self._weighs_in(info, n)]
        if not weighing:
            return
        self.ev.begin()
        cls = Cls(info)
        base = self.ev.library_base(cls)
        module = base.startswith(("torch.nn.", "pytorch_lightning.", "lightning."))
        node = self._stored_node(info, weighing[0])
        if node is None:
            return
        frame = self.ev.open_frame(init)
        made = Hop(info.module, node.at, f"`{weighing[0]}` is made here")
        if self._own_optimizers(info) or not module:
            # A trainer, or a Lightning module: it builds the optimizer itself.
            for fact in self._in_scope(frame, node, weighing[0], made, info, {id(node)}):
                fact.attributes = tuple(weighing)
                yield fact
            return
        if _is_network(info):
            return  # the model's own: whoever takes its parameters takes these
        for caller, call, _ in self.contexts.instantiations(info):
            yield from self._built(caller, call, weighing[0], made, 0)

    def _built(self, caller: Frame, call: Node, name: str, made: Hop, depth: int) -> Iterator[UnheldWeights]:
        function = caller.function
        owner = function.cls
        returned = any(_holds(n, call) for n, _ in lower(function).returns if n.op != "attr")
        if returned and depth < 2:
            for outer, site, _ in self.contexts.callers(function):
                yield from self._built(outer, site, name, made, depth + 1)
            return
        kept = [s.attr for s in lower(function).stores if owner is not None and _holds(s.value, call)]
        for fact in self._in_scope(caller, call, name, made, owner if kept else None, {id(call)}):
            fact.attributes = tuple(kept[:1])
            yield fact

    def _weighs_in(self, info: ClassInfo, name: str) -> bool:
        for method in info.methods.values():
            me = method.first_param

            def refers(node: Node, me: str | None = me) -> bool:
                return (
                    node.op == "attr"
                    and node.args[1] == name
                    and node.args[0].op == "param"
                    and node.args[0].args[0] == me
                )

            if not any(s == name for s in _mentioned(method)):
                continue
            if self._weighs(method, refers) or self._helps(method, refers):
                return True
        return False

    def _weighs(self, function: Function, refers: Callable[[Node], bool]) -> bool:
        """Whether something multiplies a loss in a function."""
        ir = lower(function)
        products = [(op, op.args[1], op.args[2]) for op in ir.ops if op.args[0] in ("*", "/")]
        for call in ir.calls:
            func = call.args[0]
            if func.op == "attr" and func.args[1] in ("mul", "dot", "mul_", "matmul"):
                operands = [func.args[0], *call.args[1]] if len(call.args[1]) < 2 else list(call.args[1])
                if len(operands) > 1:
                    products.append((call, operands[0], operands[1]))
        for op, left, right in products:
            for one, other in ((left, right), (right, left)):
                if _contains(one, refers) and (not _contains(other, refers) or _both(op)):
                    if self._is_loss(function, op, one, other):
                        return True
        return False

    def _helps(self, function: Function, refers: Callable[[Node], bool]) -> bool:
        """Whether it is handed to a helper that multiplies a loss with it: ``self.weighted(loss, self.sigma)``."""
        for call in lower(function).calls:
            if not any(_contains(n, refers) for n in (*call.args[1], *(v for _, v in call.args[2]))):
                continue
            self.ev.refill()
            frame = self.ev.open_frame(function)
            for target, positional, named in self.contexts.targets(frame, call):
                inner = self.ev.enter(target, positional, named, frame, call)
                for name, given in inner.args.items() if inner is not None and target.function is not function else ():
                    if not isinstance(given, Thunk) or not _contains(given.node, refers):
                        continue

                    def is_given(node: Node, name: str = name) -> bool:
                        return node.op == "param" and node.args[0] == name

                    if self._weighs(target.function, is_given):
                        return True
        return False

    def _is_loss(self, function: Function, op: Node, one: Node, other: Node) -> bool:
        at = op.at
        text = ""
        try:
            text = ast.unparse(at) if isinstance(at, ast.AST) else ""
        except (ValueError, RecursionError):
            return False
        if _LOSSY.search(text) or any(_LOSSY.search(word) for word in _leaves(other)):
            return True
        self.ev.refill()
        frame = self.ev.open_frame(function)
        for place in self.origins.of(frame, other):
            self.ev.refill()
            for _, v in alternatives(known(place, self.ev)):
                if isinstance(v, T) and ("loss" in v.tags or v.act == "loss"):
                    return True
        return False

    def _stored_node(self, info: ClassInfo, name: str) -> Node | None:
        for method in info.methods.values():
            for store in lower(method).stores:
                if store.attr == name:
                    return store.value
        return None

    @staticmethod
    def _own_optimizers(info: ClassInfo) -> bool:
        return any("ptim" in dotted(c.func) for m in info.methods.values() for c in m.calls) or (
            "configure_optimizers" in info.methods
        )

    # ---- weights in a function

    def _of_function(self, function: Function) -> Iterator[UnheldWeights]:
        calls = [c for c in function.calls if _makes(c)]
        if not calls or not any("ptim" in dotted(c.func) or _optimizer_word(c) for c in function.calls):
            return
        frame = self.ev.open_frame(function)
        ir = lower(function)
        roots = self.slices.started(function)
        for call in calls:
            node = ir.by_call.get(id(call))
            if node is None:
                continue
            if not any(_holds(root, node, 300) for root in roots):
                continue

            def refers(other: Node, node: Node = node) -> bool:
                return other is node

            self.ev.begin()
            if not self._weighs(function, refers) or _reads_gradient(function):
                continue
            made = Hop(function.module, node.at, "made here")
            word = next((k for k, v in ir.final.items() if _holds(v, node) and v.op != "phi"), "")
            yield from self._in_scope(frame, node, word, made, None, {id(node)})

    # ---- who optimizes

    def _in_scope(
        self, frame: Frame, node: Node, name: str, made: Hop, owner: ClassInfo | None, wanted: set[int]
    ) -> Iterator[UnheldWeights]:
        """``node`` is what holds the weights, in ``frame``; ``owner`` the class whose attribute it became."""
        places: list[tuple[Frame, Node]] = []
        self._optimizers(frame, places, 0)
        if owner is not None:
            me = self.ev.open_instance(owner)
            for method in owner.methods.values():
                if method is not frame.function and any(
                    "ptim" in dotted(c.func) or _optimizer_word(c) for c in method.calls
                ):
                    self._optimizers(self.ev.open_frame(method), places, 0)
            if not places and self.ev.library_base(me.cls).startswith("transformers.") and _hugging_face(owner):
                fact = UnheldWeights(self.ev, frame, node, name, made)
                fact.trainer = "the Trainer"
                yield fact
                return
        if not places:
            return
        for where, call in places[:MAX_OPTIMIZERS]:
            held = self._held(where, call, wanted, owner)
            if held is not False:
                return  # held, or not to be seen
        if self._added(frame, wanted, owner):
            return
        where, call = places[0]
        fact = UnheldWeights(self.ev, where, call, name, made)
        fact.built = Hop(frame.function.module, node.at, "built here")
        fact.holder, fact.owner = (frame, node), owner
        yield fact

    def _optimizers(self, frame: Frame, found: list[tuple[Frame, Node]], depth: int) -> None:
        for call in frame.ir.calls:
            if len(found) >= MAX_OPTIMIZERS:
                return
            if not call.args[1] and not call.args[2]:
                continue
            func = call.args[0]
            self.ev.refill()
            for _, v in alternatives(self.ev.value(frame, func)):
                by_name = isinstance(v, Ref) and _OPTIMIZER.match(v.name) and v.name.rpartition(".")[2][:1].isupper()
                if by_name or self._any_of_torch(frame, func):
                    found.append((frame, call))
                elif isinstance(v, Func) and depth < 2 and _mentions_optimizer(v.function):
                    positional, named = self.ev.arguments(frame, call)
                    inner = self.ev.enter(v, positional, named, frame, call)
                    if inner is not None:
                        self._optimizers(inner, found, depth + 1)
                elif isinstance(v, Cls) and depth < 2 and self._own_optimizers(v.info):
                    positional, named = self.ev.arguments(frame, call)
                    made = self.ev.construct(v, positional, named, frame, call)
                    if isinstance(made, Inst):
                        for method in v.info.methods.values():
                            if any("ptim" in dotted(c.func) for c in method.calls):
                                inner = (
                                    made.ctor
                                    if method.name == "__init__" and made.ctor is not None
                                    else Frame(method, None, made, v.closure, None, 1)
                                )
                                self._optimizers(inner, found, depth + 1)

    def _any_of_torch(self, frame: Frame, func: Node) -> bool:
        """``getattr(torch.optim, name)``, whatever the name is."""
        if func.op != "call" or func.args[0].op != "name" or func.args[0].args[0] != "getattr" or not func.args[1]:
            return False
        owner = self.ev.value(frame, func.args[1][0])
        return any(isinstance(v, Ref) and v.name == "torch.optim" for _, v in alternatives(owner))

    def _added(self, frame: Frame, wanted: set[int], owner: ClassInfo | None) -> bool:
        """``optimizer.add_param_group({"params": criterion.parameters()})``"""
        functions = {frame.function} | (set(owner.methods.values()) if owner is not None else set())
        for function in functions:
            for call in lower(function).calls:
                func = call.args[0]
                if func.op == "attr" and func.args[1] in ("add_param_group", "extend", "append", "register_parameter"):
                    if self._held(self.ev.open_frame(function), call, wanted, owner) is True:
                        return True
        return False

    def _held(self, frame: Frame, call: Node, wanted: set[int], owner: ClassInfo | None) -> bool | None:
        """Whether what an optimizer is given holds the weights; ``None`` where it cannot be seen."""
        listed = False
        stack: list[tuple[Frame, Node]] = [
            (frame, a) for a in (*call.args[1], *(v for k, v in call.args[2] if k != "lr"))
        ]
        seen: set[tuple[int, Node]] = set()
        while stack:
            where, node = stack.pop()
            if (id(where), node) in seen:
                continue
            seen.add((id(where), node))
            if len(seen) > MAX_WALK:
                return None
            if id(node) in wanted:
                return True
            op = node.op
            if op == "call":
                func = node.args[0]
                if func.op == "attr" and func.args[1] in _LISTED:
                    listed = True
                    if self._whole_self(where, func.args[0], owner):
                        return True
                    stack.append((where, func.args[0]))
                    continue
                if any(self._whole_self(where, a, owner) for a in node.args[1]):
                    return True
                targets = list(self.contexts.targets(where, node)) if len(where.chain()) < 6 else []
                if func.op == "attr" and not targets:
                    stack.append((where, func.args[0]))
                for target, positional, named in targets[:2]:
                    inner = self.ev.enter(target, positional, named, where, node)
                    if inner is not None:
                        stack.extend((inner, returned) for returned, _ in inner.ir.returns)
                        stack.extend((inner, y) for y in inner.ir.yields)
                stack.extend((where, n) for n in (*node.args[1], *(v for _, v in node.args[2])))
                continue
            if op == "param" and _takes_all(where, str(node.args[0])):
                site = where.base().site
                if site is None:
                    return None
                caller, made = site
                stack.extend((caller, n) for n in (*made.args[1], *(v for _, v in made.args[2])))
                continue
            if op in ("attr", "param", "name", "free"):
                places = [p for p in self.origins.of(where, node) if p.node is not node]
                for place in places:
                    if place.value is None:
                        stack.append((place.frame, place.node))
                if op == "attr" and not places:
                    stack.append((where, node.args[0]))
                continue
            stack.extend((where, c) for c in children(node))
        if not listed:
            return None
        return False

    def _whole_self(self, frame: Frame, node: Node, owner: ClassInfo | None) -> bool:
        """The object itself, with all that it holds."""
        if owner is None:
            return False
        if node.op == "param" and node.args[0] == frame.function.first_param and frame.function.cls is not None:
            return frame.function.cls is owner
        if node.op in ("attr", "name", "param", "free"):
            for _, v in alternatives(self.ev.value(frame, node)):
                if isinstance(v, Inst) and v.cls.info is owner:
                    return True
        return False


def _takes_all(frame: Frame, name: str) -> bool:
    """``*modules``, ``**modules``"""
    return any(p.name == name and p.kind in ("var", "varkw") for p in frame.base().ir.params)


def _learned(info: ClassInfo) -> list[str]:
    """The attributes of a class that are parameters of a handful of numbers."""
    found: list[str] = []
    for method in info.methods.values():
        me = method.first_param
        if me is None or not any(_makes(c) for c in method.calls):
            continue
        for statement in ast.walk(method.node):
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                made = [c for c in ast.walk(statement.value) if isinstance(c, ast.Call) and _makes(c)]
                if not made or any(_wide(c) for c in made):
                    continue
                for target in targets:
                    if (
                        isinstance(target, ast.Attribute)
                        and isinstance(target.value, ast.Name)
                        and target.value.id == me
                    ):
                        found.append(target.attr)
            elif (
                isinstance(statement, ast.Call)
                and dotted(statement.func) == f"{me}.register_parameter"
                and statement.args
            ):
                key = statement.args[0]
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    found.append(key.value)
    return list(dict.fromkeys(found))


def _makes(call: ast.Call) -> bool:
    word = dotted(call.func).rpartition(".")[2]
    if word in _MAKERS:
        return not any(k.arg == "requires_grad" and _is_false(k.value) for k in call.keywords)
    return any(
        k.arg == "requires_grad" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )


def _is_false(e: ast.expr) -> bool:
    return isinstance(e, ast.Constant) and e.value is False


def _wide(call: ast.Call) -> bool:
    """A parameter of two dimensions is no weight of losses."""
    for inner in ast.walk(call):
        if isinstance(inner, ast.Call) and dotted(inner.func).rpartition(".")[2] in (
            "randn", "zeros", "ones", "empty", "rand", "full", "Tensor", "FloatTensor",
        ):  # fmt: skip
            sizes = [a for a in inner.args if not isinstance(a, ast.Starred)]
            if sizes and isinstance(sizes[0], (ast.Tuple, ast.List)):
                sizes = list(sizes[0].elts)
            if len(sizes) > 1 and dotted(inner.func).rpartition(".")[2] != "full":
                return True
    return False


def _mentioned(function: Function) -> Iterator[str]:
    for node in ast.walk(function.node):
        if isinstance(node, ast.Attribute):
            yield node.attr


def _is_network(info: ClassInfo) -> bool:
    for method in info.methods.values():
        for call in method.calls:
            word = dotted(call.func).rpartition(".")[2]
            if LAYER_OPERATION.get(word) in ("linear", "conv", "norm_layer") or word in ("Sequential", "LSTM", "GRU"):
                return True
    return False


def _contains(node: Node, refers: Callable[[Node], bool]) -> bool:
    stack, seen = [node], 0
    while stack and seen < 40:
        n = stack.pop()
        seen += 1
        if refers(n):
            return True
        if n.op == "loop":
            stack.extend(n.args[:1])
            continue
        stack.extend(children(n))
    return False


def _leaves(node: Node) -> list[str]:
    """The names that an expression starts from."""
    found: list[str] = []
    stack, seen = [node], 0
    while stack and seen < 20:
        n = stack.pop()
        seen += 1
        if n.op in ("param", "name", "free"):
            found.append(str(n.args[0]))
        elif n.op == "attr":
            found.append(str(n.args[1]))
        stack.extend(children(n) if n.op != "loop" else n.args[:1])
    return found


def _both(op: Node) -> bool:
    """``w * l for w, l in zip(weights, losses)``: both sides come out of one loop."""
    return any(n.op in ("unpack", "iter") for n in op.args[1:] if isinstance(n, Node))


def _holds(root: Node, wanted: Node, limit: int = 60) -> bool:
    stack: list[Node] = [root]
    seen: set[int] = set()
    while stack and len(seen) < limit:
        node = stack.pop()
        if node is wanted:
            return True
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack.extend(children(node))
    return False


def _optimizer_word(call: ast.Call) -> bool:
    word = dotted(call.func).rpartition(".")[2]
    return word in (
        "Adam",
        "AdamW",
        "SGD",
        "RMSprop",
        "Adagrad",
        "NAdam",
        "RAdam",
        "LBFGS",
        "Adadelta",
        "Adamax",
        "Lion",
    )


def _mentions_optimizer(function: Function) -> bool:
    return any("ptim" in dotted(c.func) or _optimizer_word(c) for c in function.calls)


def _reads_gradient(function: Function) -> bool:
    """``delta.grad``, ``autograd.grad(…)``: what is changed by hand needs no optimizer."""
    return any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in ast.walk(function.node))


def _hugging_face(info: ClassInfo) -> bool:
    return not any(
        name in info.methods for name in ("create_optimizer", "create_optimizer_and_scheduler", "get_parameters")
    )


__all__ = ["Unheld"]
