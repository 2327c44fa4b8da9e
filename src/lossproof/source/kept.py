"""Losses that are kept with their graph: what a loop adds up, or a list collects, from step to step.

The gradient of such a sum is never asked for, or was already taken; but as long as the sum lives, so does
the graph of every step in it. Here the sums are found and what is known of their terms is told.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from typing import Any

from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator, children
from lossproof.source.facts import KeptLoss
from lossproof.source.frames import Frame
from lossproof.source.gradient import Gradients
from lossproof.source.investigate import NO_GRADIENT, Investigation
from lossproof.source.lower import Node, lower
from lossproof.source.slices import Slices
from lossproof.source.syntax import Function
from lossproof.source.values import Inst, Lib, Seq, T, alternatives

_PLAIN = {
    "cpu", "cuda", "clone", "mean", "sum", "squeeze", "view", "reshape", "to", "float", "unsqueeze", "div", "mul",
    "contiguous",
}  # fmt: skip
_FEEDS = {"update", "add", "append", "add_value", "accumulate", "log", "__call__", "push"}
MAX_WALK = 400


class KeptLosses:
    """Finds the sums of a function that keep losses, and of the meters that it feeds."""

    def __init__(
        self,
        ev: Evaluator,
        contexts: Contexts,
        investigation: Investigation,
        slices: Slices,
        gradients: Gradients,
        trainers: Set[str],
    ) -> None:
        self.ev = ev
        # The names of the functions, in all files, that start a backward pass.
        self.trainers = trainers
        self.contexts = contexts
        self.investigation = investigation
        self.slices = slices
        self.gradients = gradients
        self._sources: dict[Function, set[int]] = {}

    def facts(self, function: Function) -> Iterator[KeptLoss]:
        names = {getattr(c.func, "attr", None) or getattr(c.func, "id", "") for c in function.calls}
        trains = bool(names & {"backward", "manual_backward"}) or function.name == "training_step"
        validates = "eval" in names
        if not (trains or validates or names & self.trainers) or self._switched_off(function):
            return
        ir = lower(function)
        frame = self.ev.open_frame(function)
        for node, value, target in _kept(function):
            if self.investigation.without_gradient(frame, node.guard) and node.op == "bin":
                continue
            if self._feeds_backward(function, node, target):
                continue
            yield from self._judged(frame, node, value, trains, validates)
        if trains:
            for call in ir.calls:
                if (call.args[1] or call.args[2]) and self._may_keep(call):
                    yield from self._through_meter(frame, call)

    # ---- what is kept

    def _judged(self, frame: Frame, node: Node, value: Node, trains: bool, validates: bool) -> Iterator[KeptLoss]:
        ev = self.ev
        ev.begin()
        possible, atoms = ev.reachable(frame, node.guard)
        if not possible or self._without_gradient_around(frame) or not self._grows(frame, node):
            return
        for where, term in self._terms(frame, value):
            if self.investigation.without_gradient(where, term.guard) or not self.gradients.carries(where, term):
                continue
            known = [v for _, v in alternatives(ev.value(where, term))]
            if not known or any(not isinstance(v, T) or _free(v) for v in known):
                continue
            is_loss = (trains or validates) and any(isinstance(v, T) and "loss" in v.tags for v in known)
            if is_loss or self._trained_on(where, term):
                yield KeptLoss(ev, frame, node, atoms, trains, _written(node, value))
                return

    def _grows(self, frame: Frame, node: Node) -> bool:
        """Whether an ``append`` is a list's (a meter of the project's own does what its method says)."""
        if node.op != "call":
            return True
        owner = [v for _, v in alternatives(self.ev.value(frame, node.args[0].args[0]))]
        if any(isinstance(v, (Inst, Lib)) for v in owner):
            return False
        return node.args[0].args[1] != "add" or any(isinstance(v, Seq) for v in owner)

    def _terms(self, frame: Frame, value: Node) -> list[tuple[Frame, Node]]:
        """The value without the factors and casts around it; a helper's result is what it returns."""
        found: list[tuple[Frame, Node]] = []
        stack, seen = [(frame, value, 0)], 0
        while stack and seen < 60:
            where, node, depth = stack.pop()
            seen += 1
            if node.op == "bin" and node.args[0] in ("*", "/"):
                stack.extend((where, n, depth) for n in node.args[1:])
                continue
            if node.op == "call":
                func = node.args[0]
                if func.op == "attr" and func.args[1] in _PLAIN:
                    stack.append((where, func.args[0], depth))
                    continue
            if node.op in ("list", "tuple"):
                stack.extend((where, n, depth) for n in node.args)
                continue
            if node.op == "param":
                given = where.base().args.get(node.args[0])
                inner = getattr(given, "node", None)
                if inner is not None and depth < 4:
                    stack.append((given.frame, inner, depth + 1))  # type: ignore[union-attr]
                    continue
            found.append((where, node))
        return found

    def _trained_on(self, frame: Frame, term: Node) -> bool:
        """Whether a backward pass was started from this very value, or from a sum that it is part of."""
        if term.op in ("const", "param", "name", "free"):
            return False
        if id(term) in self._backward_terms(frame.function):
            return True
        if term.op != "call":
            return False
        for func, _, _ in self.contexts.targets(frame, term):
            inner = lower(func.function)
            started = self._backward_terms(func.function)
            if started and inner.returns and all(id(n) in started for n, _ in inner.returns):
                return True
        return False

    def _backward_terms(self, function: Function) -> set[int]:
        """The losses that a function starts a backward pass from, and the terms that they are sums of."""
        known = self._sources.get(function)
        if known is None:
            known = self._sources[function] = set()
            if not any((getattr(c.func, "attr", "")) in ("backward", "manual_backward") for c in function.calls):
                return known
            stack = list(self.slices.started(function))
            while stack and len(known) < MAX_WALK:
                node = stack.pop()
                if id(node) in known or node.op in ("const", "param", "name", "free"):
                    continue
                known.add(id(node))
                if node.op == "bin" and node.args[0] in ("+", "-", "*", "/"):
                    stack.extend(node.args[1:])
                elif node.op in ("phi", "loop"):
                    stack.extend(a for a in node.args if isinstance(a, Node))
        return known

    # ---- what is no fault

    def _feeds_backward(self, function: Function, node: Node, target: ast.AST) -> bool:
        """Whether a later backward pass starts from the sum, here or where it is handed to."""
        roots = list(self.slices.started(function))
        if self.slices.is_loss_function(function):
            roots.extend(n for n, _ in lower(function).returns)
        for call in lower(function).calls:
            if call.args[0].op == "attr" and call.args[0].args[1] in ("step", "grad"):
                roots.extend(call.args[1])  # ``inner.step(loss)``, ``autograd.grad(loss, …)``
        attribute = _attribute(target)
        if _reaches(roots, node, attribute):
            return True
        if attribute:
            for other in function.module.functions:
                if other is function:
                    continue
                started = list(self.slices.started(other))
                if self.slices.is_loss_function(other) and other.cls is function.cls and other.name != "forward":
                    started.extend(n for n, _ in lower(other).returns)
                if started and _reaches(started, None, attribute):
                    return True
            return False
        returns = [n for n, _ in lower(function).returns]
        if returns and _reaches(returns, node, ""):
            return self._result_is_trained_on(function)
        return False

    def _result_is_trained_on(self, function: Function) -> bool:
        for caller, call, _ in self.contexts.callers(function):
            roots = list(self.slices.started(caller.function))
            if self.slices.is_loss_function(caller.function):
                roots.extend(n for n, _ in lower(caller.function).returns)
            if roots and _reaches(roots, call, ""):
                return True
        return False

    def _without_gradient_around(self, frame: Frame) -> bool:
        """Whether every known caller has switched gradients off (or the function itself has)."""
        if any(d.rpartition(".")[2] in NO_GRADIENT for d in frame.function.decorators):
            return True
        callers = self.contexts.callers(frame.function)
        return any(
            self.investigation.without_gradient(caller, call.guard) or self._switched_off(caller.function)
            for caller, call, _ in callers
        )

    @staticmethod
    def _switched_off(function: Function) -> bool:
        """``torch.set_grad_enabled(False)`` as a statement, or the flag of old that did the same."""
        for holder in (function, function.module.body):
            for call in holder.calls:
                name = getattr(call.func, "attr", "")
                if name in ("set_grad_enabled", "_set_grad_enabled") or any(k.arg == "volatile" for k in call.keywords):
                    return True
        return any(d.rpartition(".")[2] in NO_GRADIENT for d in function.decorators)

    # ---- meters

    @staticmethod
    def _may_keep(call: Node) -> bool:
        func = call.args[0]
        return func.op == "attr" and func.args[1] in _FEEDS

    def _through_meter(self, frame: Frame, call: Node) -> Iterator[KeptLoss]:
        """``meter.update(loss)``: the sum stands in a method of the project's own meter."""
        ev = self.ev
        ev.begin()
        if self.investigation.without_gradient(frame, call.guard):
            return
        for func, positional, named in self.contexts.targets(frame, call):
            function = func.function
            if function.cls is None or self._switched_off(function):
                continue
            inner: Frame | None = None
            for node, value, target in _kept(function):
                if not _attribute(target) or self._feeds_backward(function, node, target):
                    continue
                if self.investigation.without_gradient(ev.open_frame(function), node.guard):
                    continue
                inner = inner or ev.enter(func, positional, named, frame, call)
                if inner is not None:
                    yield from self._judged(inner, node, value, True, False)


def _kept(function: Function) -> Iterator[tuple[Node, Node, Any]]:
    """``(sum, term, target)`` for every sum that grows: by ``+=``, ``x = x + …`` or ``append``."""
    ir = lower(function)
    told: set[int] = set()
    for kept in ir.accumulations:
        told.add(id(kept.node))
        if kept.node.op == "bin" and kept.node.args[0] != "+":
            continue
        if isinstance(kept.target, ast.Name) and kept.node.op == "bin" and kept.node.args[1].op != "loop":
            continue  # no loop around it: one step's own sum
        yield kept.node, kept.value, kept.target
    for node, value, target in _kept_in_attributes(function):
        if id(node) not in told:
            told.add(id(node))
            yield node, value, target
    for node in ir.ops:
        if node.args[0] != "+" or id(node) in told:
            continue
        for side, other in ((node.args[1], node.args[2]), (node.args[2], node.args[1])):
            phi = _scaled_loop(side)
            if phi is not None and any(_arrives(back, node) for back in phi.args[1:]):
                yield node, other, None
                break


def _kept_in_attributes(function: Function) -> Iterator[tuple[Node, Node, Any]]:
    """``self.total = self.total + loss``, ``self.average = 0.9 * self.average + 0.1 * loss``"""
    me = function.first_param if function.cls is not None and not function.is_static else None
    for store in lower(function).stores if me is not None else ():
        node = store.value
        if node.op != "bin" or node.args[0] != "+" or not isinstance(node.at, ast.BinOp):
            continue
        for side, other in ((node.args[1], node.args[2]), (node.args[2], node.args[1])):
            before = side
            while before.op == "bin" and before.args[0] == "*":
                before = next((n for n in before.args[1:] if n.op in ("attr", "bin")), before.args[1])
            if before.op == "attr" and before.args[1] == store.attr and _is_me(before.args[0], me):
                yield node, other, before.at
                break


def _is_me(node: Node, me: str | None) -> bool:
    return node.op == "param" and node.args[0] == me


def _written(node: Node, value: Node) -> Any:
    """The expression that is added or appended, as it stands there (a name's node is what it was bound to)."""
    at = node.at
    if isinstance(at, ast.AugAssign):
        return at.value
    if isinstance(at, ast.BinOp):
        return at.right if node.args[2] is value else at.left
    return at.args[0]


def _scaled_loop(node: Node) -> Node | None:
    """The loop variable in ``x`` or ``momentum * x``."""
    if node.op == "bin" and node.args[0] == "*":
        return next((n for n in node.args[1:] if n.op == "loop"), None)
    return node if node.op == "loop" else None


def _arrives(back: Node, node: Node) -> bool:
    """Whether what the loop carries on is this sum itself, on some path."""
    stack, seen = [back], 0
    while stack and seen < 20:
        n = stack.pop()
        seen += 1
        if n is node:
            return True
        if n.op == "phi":
            stack.extend(n.args[1:])
    return False


def _free(value: Any) -> bool:
    """A value that holds no graph."""
    return isinstance(value, T) and bool(value.tags & {"num", "detached", "numpy", "size"})


def _reaches(roots: list[Node], node: Node | None, attribute: str) -> bool:
    """Whether a root is computed from a sum (or from the attribute that holds it)."""
    stack = list(roots)
    seen: set[int] = set()
    while stack and len(seen) < MAX_WALK * 5:
        n = stack.pop()
        if id(n) in seen:
            continue
        seen.add(id(n))
        if node is not None and (n is node or n.at is node.at):
            return True
        if attribute and n.op == "attr" and n.args[1] == attribute:
            return True
        stack.extend(children(n))
    return False


def _attribute(target: Any) -> str:
    """``self.x``, ``self.x[k]``: the attribute that the sum is kept in."""
    while isinstance(target, ast.Subscript):
        target = target.value
    return target.attr if isinstance(target, ast.Attribute) else ""
