"""Arithmetic steps of a loss, as ``Operation`` facts: what is divided, logged, rooted, and what stands behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator, children
from lossproof.source.facts import Operation
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower
from lossproof.source.slices import Slices, Step
from lossproof.source.syntax import Function
from lossproof.source.tensor_ops import holding, same
from lossproof.source.torch_names import SAME_OPERATION, operation
from lossproof.source.values import (
    UNKNOWN,
    Atoms,
    Const,
    Inst,
    Lib,
    Map,
    Mod,
    Ref,
    Seq,
    T,
    Thunk,
    Value,
    alternatives,
    combine,
    number,
)

UNARY = {
    "log": "log", "log2": "log", "log10": "log", "log1p": "log1p", "sqrt": "sqrt", "rsqrt": "rsqrt", "exp": "exp",
    "acos": "acos", "arccos": "acos", "asin": "acos", "arcsin": "acos", "reciprocal": "div", "clamp": "clamp",
    "log_": "log", "sqrt_": "sqrt", "exp_": "exp", "reciprocal_": "div", "rsqrt_": "rsqrt", "clip": "clamp",
    "clamp_": "clamp", "clamp_min": "clamp", "clamp_max": "clamp", "clamp_max_": "clamp",
    "clamp_min_": "clamp", "mean": "mean", "nanmean": "late", "nansum": "late",
}  # fmt: skip
BINARY = {
    "div": "div",
    "true_divide": "div",
    "divide": "div",
    "div_": "div",
    "pow": "pow",
    "float_power": "pow",
    "pow_": "pow",
}
LATE = {"nan_to_num": "late", "nan_to_num_": "late", "where": "where", "masked_fill": "late", "masked_fill_": "late"}
MAX_OUTER = 8
# Callers asked what a function's parameters are.
MAX_NAMING = 3
# What a package keeps under this name is measured, not minimized, also where a loss is reported beside it.
_METRICS = re.compile(r"(?:^|/)metrics?/", re.I)
_GUARDS = ("where", "late", "mask", "select")


class Operations:
    """Walks the slices of a function and makes a fact of every step that a rule may ask about."""

    def __init__(self, ev: Evaluator, contexts: Contexts) -> None:
        self.ev = ev
        self.contexts = contexts
        self.slices = Slices(ev, contexts)

    def facts(self, function: Function) -> Iterator[Operation]:
        if not self.slices.roots(function):
            return
        frame = self.ev.open_frame(function)
        steps = list(self.slices.steps(frame))
        steps.extend(self._named_by_callers(frame, steps))
        behind = {id(step.node): self._behind(step) for step in steps}
        covered = {id(fact.node) for facts in behind.values() for fact in facts}
        spine = self._spine(function)
        partial_sums = _partial_sums([step.node for step in steps])
        floored = {id(n) for step in steps for n in self._floored(step)}
        for step in steps:
            if _METRICS.search(self.slices.path_of(step.frame.function)):
                continue
            for fact in self._facts(step):
                fact.cut = step.cut
                fact.floored = id(step.node) in floored
                if fact.op in _GUARDS:
                    fact.behind = behind.get(id(fact.node), [])
                elif id(fact.node) in covered:
                    continue
                self._place(fact, spine)
                yield fact
            if id(step.node) not in partial_sums:
                for fact in self._sums(step):
                    self._place(fact, spine)
                    yield fact

    def _named_by_callers(self, frame: Frame, steps: list[Step]) -> list[Step]:
        """What a training function calls by a name that only its callers resolve: a similarity, a distance."""
        if not self.slices.unnamed or not self.contexts.is_open(frame):
            return []
        known = {step.frame.function for step in steps}
        found: dict[Node, Step] = {}
        for outer in self.contexts.outer(frame)[:MAX_NAMING]:
            for step in self.slices.steps(outer):
                if step.frame.function not in known:
                    found.setdefault(step.node, step)
        return list(found.values())

    def _floored(self, step: Step) -> list[Node]:
        """The calls whose result a maximum with a constant keeps finite."""
        if step.node.op != "call":
            return []
        name, operand, args = self.torch_call(step.frame, step.node)
        if name != "maximum" or operand is None:
            return []
        given = [operand, *args]
        values = [self.ev.value(step.frame, n) for n in given]
        bounded = [v.lo is not None or bool(v.tags & {"const", "fresh"}) for v in values if isinstance(v, T)]
        return [n for n in given if n.op == "call"] if any(bounded) else []

    @staticmethod
    def _place(fact: Operation, spine: dict[int, bool]) -> None:
        fact.spine = id(fact.node) in spine
        fact.reduced_after = spine.get(id(fact.node), False)

    def again(self, fact: Operation) -> list[Operation]:
        """The same step in the contexts of the known callers (a guard may stand there)."""
        if not self.contexts.is_open(fact.frame):
            return []
        found: list[Operation] = []
        for frame in self._outermost(fact.frame):
            if self._demonstration(frame):
                continue
            step = Step(frame, fact.node)
            chosen = self._chosen(frame)
            for wider in self._facts(step):
                if wider.op == fact.op:
                    wider.atoms = combine(wider.atoms, chosen)
                    wider.behind = self._behind(step) if wider.op in _GUARDS else []
                    for inner in wider.behind:
                        inner.atoms = combine(inner.atoms, chosen)
                    wider.cut, wider.floored = fact.cut, fact.floored
                    found.append(wider)
        return found

    def shown(self, fact: Operation) -> list[Operation]:
        """A logarithm of what only a caller shows to be an activation, in the contexts that show it."""
        if fact.op not in ("log", "log1p") or any(t.act or t.lo is not None for t in fact.operands()):
            return []
        return [f for f in self.again(fact) if any(t.act in ("softmax", "sigmoid") for t in f.operands())]

    def _chosen(self, frame: Frame) -> Atoms:
        """The conditions under which the calls that lead here run these functions and no others."""
        found: Atoms = ()
        for inner in frame.chain():
            site = inner.site
            for target, _, _ in self.contexts.targets(*site) if site is not None else ():
                if target.function is inner.function:
                    found = combine(found, self.contexts.chosen)
                    break
        return found

    def _outermost(self, frame: Frame) -> list[Frame]:
        """The contexts of the callers, and of theirs (a guard may stand a few calls away)."""
        frames = self.contexts.outer(frame, True)[:MAX_OUTER]
        for _ in range(2):
            following: list[Frame] = []
            for inner in frames:
                wider = self.contexts.outer(inner, True) if inner.chain()[-1].open else []
                following.extend(wider or [inner])
            if len(following) > MAX_OUTER or all(a is b for a, b in zip(following, frames, strict=False)):
                break
            frames = following
        return frames

    def _spine(self, function: Function) -> dict[int, bool]:
        """The additions between the terms of a loss and what is trained on; whether their result is reduced after."""
        found: dict[int, bool] = {}
        stack = [(node, False) for node in self.slices.roots(function)]
        frame = self.ev.open_frame(function)
        while stack and len(found) < 200:
            node, reduced = stack.pop()
            if id(node) in found:
                continue
            found[id(node)] = reduced
            below: list[Node] = []
            if node.op == "bin" and node.args[0] in ("+", "-", "*", "/"):
                below = list(node.args[1:])
            elif node.op in ("phi", "loop", "inplace"):
                below = [a for a in node.args if isinstance(a, Node)]
            elif node.op in ("tuple", "un"):
                below = children(node)
            elif node.op == "call":
                func = node.args[0]
                if func.op == "attr" and func.args[1] in ("mean", "sum"):
                    stack.append((func.args[0], True))
                elif func.op == "attr" and func.args[1] == "squeeze":
                    below = [func.args[0]]
                for target, _, _ in self.contexts.targets(frame, node):
                    if self.slices.is_loss_function(target.function):
                        below.extend(n for n, _ in lower(target.function).returns)
            stack.extend((n, reduced) for n in below)
        return found

    def _demonstration(self, frame: Frame) -> bool:
        """A call at the end of a file with random numbers: it says nothing of what comes in a training run."""
        chain = frame.chain()
        if len(chain) < 2 or chain[-1].function is not chain[-1].function.module.body:
            return False
        given = [v for a in chain[-2].args.values() for _, v in alternatives(self.ev.force(a))]
        tensors = [v for v in given if isinstance(v, T) and "num" not in v.tags]
        return any("fresh" in v.tags for v in tensors) and all("fresh" in v.tags or not v.tags for v in tensors)

    def _facts(self, step: Step) -> Iterator[Operation]:
        frame, node = step.frame, step.node
        self.ev.begin()
        possible, atoms = self.ev.reachable(frame, node.guard)
        if not possible:
            return
        if node.op == "bin":
            yield from self._binary(frame, node, atoms)
        elif node.op == "call":
            yield from self._call(frame, node, atoms)
        elif node.op == "setitem":
            obj, key, value = node.args
            yield self._make(frame, node, atoms, "late", "assignment", obj, (key, value))
        elif node.op == "sub":
            yield self._make(frame, node, atoms, "select", "indexing", node.args[0], (node.args[1],))

    def _binary(self, frame: Frame, node: Node, atoms: Atoms) -> Iterator[Operation]:
        op, left, right = node.args
        if op == "/":
            made = self._make(frame, node, atoms, "div", "/", right, (left,))
            if not any(isinstance(v, Lib) and v.name.startswith("pathlib.") for _, v in alternatives(made.others[0])):
                yield made
        elif op == "**":
            yield self._make(frame, node, atoms, "pow", "**", left, (right,))
        elif op == "*":
            yield self._make(frame, node, atoms, "mask", "*", left, (right,))
        elif op in ("+", "-"):
            yield self._make(frame, node, atoms, "add" if op == "+" else "sub", op, left, (right,))

    def _make(
        self, frame: Frame, node: Node, atoms: Atoms, op: str, word: str, operand: Node, others: tuple[Node, ...]
    ) -> Operation:
        value = self.ev.value(frame, operand)
        rest = tuple(self.ev.value(frame, o) for o in others)
        return Operation(self.ev, frame, node, atoms, op, word, value, operand, rest)

    def _call(self, frame: Frame, node: Node, atoms: Atoms) -> Iterator[Operation]:
        name, operand, args = self.torch_call(frame, node)
        if name is None or operand is None:
            return
        rest = [self.ev.value(frame, a) for a in args]
        value = self.ev.value(frame, operand)
        if name in UNARY:
            op = UNARY[name]
            if op == "clamp":
                low = next(
                    (self.ev.value(frame, v) for k, v in node.args[2] if k == "min"), rest[0] if rest else UNKNOWN
                )
                high = next(
                    (self.ev.value(frame, v) for k, v in node.args[2] if k == "max"),
                    rest[1] if len(rest) > 1 else UNKNOWN,
                )
                if name.startswith("clamp_max"):
                    low, high = UNKNOWN, rest[0] if rest else high
                yield Operation(self.ev, frame, node, atoms, op, name, value, operand, (low, high))
                return
            yield Operation(self.ev, frame, node, atoms, op, name, value, operand, tuple(rest))
        elif name in BINARY and args:
            if BINARY[name] == "div":
                yield Operation(self.ev, frame, node, atoms, "div", name, rest[0], args[0], (value,))
            else:
                yield Operation(self.ev, frame, node, atoms, "pow", name, value, operand, tuple(rest))
        elif name == "sub" and len(args) == 1 and not node.args[2]:
            yield Operation(self.ev, frame, node, atoms, "sub", name, value, operand, tuple(rest))
        elif name in LATE:
            if name == "where":
                if len(args) >= 2:
                    yield Operation(self.ev, frame, node, atoms, "where", name, value, operand, tuple(rest))
            else:
                yield Operation(self.ev, frame, node, atoms, "late", name, value, operand, tuple(rest))
        else:
            yield Operation(self.ev, frame, node, atoms, "other", name, value, operand, tuple(rest))

    def torch_call(self, frame: Frame, node: Node) -> tuple[str | None, Node | None, list[Node]]:
        return torch_call(self.ev, frame, node)

    def _behind(self, step: Step) -> list[Operation]:
        """Steps whose result a guard behind them replaces: one fault, said once, at the guard."""
        found: list[Operation] = []
        operands = late_operands(self, step)
        if not operands:
            return []
        tested = self._tested(step)
        for operand in operands:
            for inner in self._dangerous_below(step.frame, operand):
                for fact in self._facts(inner):
                    if fact.op not in ("div", "log", "log1p", "sqrt", "rsqrt", "acos", "pow"):
                        continue
                    if tested is None or any(stems_from(t, p) for t in fact.operands() for p in tested):
                        found.append(fact)
        return found

    def _tested(self, step: Step) -> list[T] | None:
        """What the test of a guard compares; ``None`` where it replaces whatever came out as NaN."""
        node = step.node
        tests: list[Value] = []
        if node.op == "call":
            name, operand, args = self.torch_call(step.frame, node)
            if name not in ("where", "masked_fill", "masked_fill_") or operand is None or not args:
                return None
            tests = [self.ev.value(step.frame, operand if name == "where" else args[0])]
        elif node.op in ("setitem", "sub"):
            if _tests_itself(node.args[1], node.args[0]):
                return None
            tests = [self.ev.value(step.frame, node.args[1])]
        elif node.op == "bin":
            tests = [self.ev.value(step.frame, n) for n in node.args[1:]]
        found: list[T] = []
        for test in tests:
            if not isinstance(test, T):
                continue
            if _finds_nan(test):
                return None
            comparisons = [*holding(test, True), *holding(test, False)]
            found.extend(p for _, left, right, _ in comparisons for p in (left, right) if not p.tags & {"const", "num"})
        return found

    def _dangerous_below(self, frame: Frame, root: Node) -> list[Step]:
        """Divisions, logarithms, roots that a value is made of, up to the next reduction; across calls both ways."""
        found: list[Step] = []
        stack: list[tuple[Frame, Node, int]] = [(frame, root, 0)]
        seen: set[tuple[int, int]] = set()
        while stack and len(seen) < 200:
            at, node, depth = stack.pop()
            if (id(at), id(node)) in seen:
                continue
            seen.add((id(at), id(node)))
            if node.op == "param":
                given = at.base().args.get(node.args[0])
                if isinstance(given, Thunk):
                    stack.append((given.frame, given.node, depth))
            elif node.op == "bin":
                if node.args[0] in ("/", "**"):
                    found.append(Step(at, node))
                stack.extend((at, n, depth) for n in node.args[1:])
            elif node.op == "un":
                stack.append((at, node.args[1], depth))
            elif node.op in ("loop", "phi"):
                stack.extend((at, a, depth) for a in node.args if isinstance(a, Node))
            elif node.op in ("inplace", "setitem", "sub"):
                stack.append((at, node.args[0], depth))
                if node.op == "inplace":
                    stack.append((at, node.args[1], depth))
            elif node.op == "call":
                func = node.args[0]
                name = func.args[1] if func.op == "attr" else func.args[0] if func.op in ("name", "free") else ""
                if name in _REDUCE:
                    continue
                if name in _DANGEROUS:
                    found.append(Step(at, node))
                if depth < 2 and name not in _DANGEROUS:
                    entered = False
                    for target, positional, named in self.contexts.targets(at, node):
                        entered = True
                        inner = self.ev.enter(target, positional, named, at, node)
                        if inner is not None and not isinstance(target.me, Inst):
                            stack.extend((inner, n, depth + 1) for n, _ in inner.ir.returns)
                    if entered:
                        continue
                if func.op == "attr":
                    stack.append((at, func.args[0], depth))
                stack.extend((at, n, depth) for n in node.args[1])
        return found

    def _sums(self, step: Step) -> Iterator[Operation]:
        """A sum, in the contexts of the callers where only they know which losses are added."""
        found = list(self._sum(step))
        unknown = [t for fact in found for t in fact.others if isinstance(t, T) and t.get("called") is not None]
        if unknown and self.contexts.is_open(step.frame):
            wider = [
                f for frame in self.contexts.outer(step.frame)[:MAX_OUTER] for f in self._sum(Step(frame, step.node))
            ]
            if wider:
                yield from wider
                return
        yield from found

    def _setting(self, frame: Frame, node: Node) -> bool:
        """A number that a parameter of the function or of the constructor holds."""
        if number(self.ev.value(frame, node)) is None:
            return False
        if node.op == "param":
            return True
        me = frame.base().me
        if node.op != "attr" or node.args[0].op != "param" or not isinstance(me, Inst) or me.ctor is None:
            return False
        stored = me.ctor.ir.final.get(f"{me.ctor.function.first_param}.{node.args[1]}")
        return stored is not None and stored.op == "param"

    def _term(self, frame: Frame, node: Node) -> Value:
        """A term of a sum; a call of something unknown that compares two things is a loss of its own kind."""
        value = self.ev.value(frame, node)
        if node.op == "bin" and node.args[0] == "*" and isinstance(value, T):
            if any(self._setting(frame, side) for side in node.args[1:]):
                # A coefficient that can be set is a weight, whatever it is set to.
                return value.but(tags=value.tags | {"loss"}, act="", info={"terms": ()})
        if isinstance(value, T) and node.op == "call" and len(node.args[1]) == 2:
            called = value.get("called")
            if isinstance(called, T) and called.sym:
                return value.but(info={**(value.info or {}), "unknown_loss": called.sym})
        return value

    def _sum(self, step: Step) -> Iterator[Operation]:
        """A whole sum of terms, as one fact: ``a + b + c``, ``sum(losses)``."""
        frame, node = step.frame, step.node
        terms: list[Value] = []
        if node.op == "bin" and node.args[0] in ("+", "-"):
            terms = [self._term(frame, n) for n in summands(node)]
        elif node.op == "call" and node.args[1]:
            func = node.args[0]
            callee = self.ev.value(frame, func) if func.op in ("name", "free") else None
            if isinstance(callee, Ref) and callee.name == "builtins.sum":
                sequence = self.ev.as_sequence(self.ev.value(frame, node.args[1][0]))
                terms = list(sequence.every()) if sequence is not None else []
        if node.op == "call" and not terms:
            name, operand, others = self.torch_call(frame, node)
            if name == "add" and operand is not None and len(node.args[1]) <= 2 and not node.args[2]:
                terms = [self._term(frame, operand), *[self._term(frame, a) for a in others]]
            elif name in ("sum", "mean") and operand is not None:
                wrapped = self.ev.value(frame, operand)
                parts = wrapped.get("stacked") if isinstance(wrapped, T) else None
                terms = list(parts) if parts else []
        if len(terms) > 1:
            possible, atoms = self.ev.reachable(frame, node.guard)
            if possible:
                yield Operation(self.ev, frame, node, atoms, "sum_of_losses", "+", UNKNOWN, None, tuple(terms))


def torch_call(ev: Evaluator, frame: Frame, node: Node) -> tuple[str | None, Node | None, list[Node]]:
    """The operation of a call, its first operand and the rest, function or method alike."""
    func, args, keywords = node.args
    if func.op == "attr":
        obj = ev.value(frame, func.args[0])
        name = SAME_OPERATION.get(func.args[1], func.args[1])
        kinds = [v for _, v in alternatives(obj)]
        if all(isinstance(v, (Ref, Mod)) for v in kinds):
            callee = ev.value(frame, func)
            if isinstance(callee, Ref):
                op = operation(callee.name)
                first = args[0] if args else next((v for k, v in keywords if k in ("input", "condition")), None)
                return op, first, list(args[1:]) + [v for k, v in keywords if k in ("other", "exponent", "value")]
            return None, None, []
        if any(isinstance(v, (T, Const)) for v in kinds) and not any(
            isinstance(v, (Inst, Lib, Seq, Map)) for v in kinds
        ):
            rest = list(args) + [v for k, v in keywords if k in ("other", "exponent", "value")]
            if name == "where" and rest:
                return name, rest[0], [func.args[0], *rest[1:]]
            return name, func.args[0], rest
        return None, None, []
    callee = ev.value(frame, func)
    if isinstance(callee, Ref):
        op = operation(callee.name)
        if callee.name == "builtins.pow":
            op = "pow"
        if op is not None:
            first = args[0] if args else next((v for k, v in keywords if k == "input"), None)
            return op, first, list(args[1:])
    return None, None, []


def stems_from(t: T, tested: T, depth: int = 6) -> bool:
    """Whether a value is what was tested, or is zero where that is (a power, a product, a sum of it)."""
    if same(t, tested):
        return True
    via = t.get("via")
    if via is None or depth == 0 or via[0] not in _KEEPS_ZERO:
        # A sum that is tested below its root, and the other way round.
        below = tested.get("via")
        return (
            below is not None
            and below[0] in ("abs", "mul", "sum", "pow")
            and depth > 0
            and any(isinstance(p, T) and same(p, t) for p in below[1:])
        )
    return any(isinstance(p, T) and stems_from(p, tested, depth - 1) for p in via[1:])


def summands(node: Node) -> list[Node]:
    """The terms of a chain of additions (the first operand of a subtraction is one too)."""
    if node.op == "bin" and node.args[0] == "+":
        return [*summands(node.args[1]), *summands(node.args[2])]
    if node.op == "bin" and node.args[0] == "-":
        return summands(node.args[1])
    return [node]


def _partial_sums(nodes: list[Node]) -> set[int]:
    """The sums that are a part of another: in its expression, or of some of its terms once more (for a report)."""
    sums = [node for node in nodes if _is_sum(node)]
    found = {id(part) for node in sums for part in node.args[1:] if _is_sum(part)}
    whole = [(node, frozenset(_terms(node))) for node in sums if id(node) not in found]
    found.update(id(node) for node, terms in whole if any(terms < others for _, others in whole))
    return found


def _is_sum(node: Node) -> bool:
    return node.op == "bin" and node.args[0] in ("+", "-")


def _terms(node: Node) -> Iterator[int]:
    stack = [node]
    while stack:
        part = stack.pop()
        if _is_sum(part):
            stack.extend(part.args[1:])
        else:
            yield id(part)


def late_operands(operations: Operations, step: Step) -> list[Node]:
    """The values that a guard behind them is meant to repair."""
    node = step.node
    if node.op == "call":
        name, operand, args = operations.torch_call(step.frame, node)
        if name == "where" and len(args) >= 2:
            return [args[0], args[1]]
        if name in LATE or name in ("nansum", "nanmean"):
            return [operand] if operand is not None else []
    if node.op in ("setitem", "sub"):
        key = operations.ev.value(step.frame, node.args[1])
        if _tests_itself(node.args[1], node.args[0]) or (isinstance(key, T) and "bool" in key.tags):
            return [node.args[0]]
    if node.op == "bin" and node.args[0] == "*":
        for side, other in ((node.args[1], node.args[2]), (node.args[2], node.args[1])):
            value = operations.ev.value(step.frame, other)
            if isinstance(value, T) and "bool" in value.tags and value.get("compare") is not None:
                if _about(operations, step.frame, side, value):
                    return [side]
    return []


def _about(operations: Operations, frame: Frame, side: Node, mask: T) -> bool:
    """Whether a mask tests what the masked expression is computed from."""
    tested = [p for p in mask.get("compare")[1:] if isinstance(p, T) and "const" not in p.tags]
    stack, seen = [side], 0
    while stack and seen < 60:
        node = stack.pop()
        seen += 1
        for _, v in alternatives(operations.ev.value(frame, node)):
            if isinstance(v, T) and any(same(v, p) for p in tested):
                return True
        if node.op in ("bin", "un", "call", "sub", "attr"):
            stack.extend(children(node))
    return False


def _finds_nan(test: T, depth: int = 4) -> bool:
    via = test.get("via")
    if via is None or depth == 0:
        return False
    if via[0] in ("isnan", "isinf", "isfinite"):
        return True
    return via[0] in ("not", "&", "|", "mul") and any(isinstance(p, T) and _finds_nan(p, depth - 1) for p in via[1:])


def _tests_itself(key: Node, obj: Node) -> bool:
    """``x[torch.isfinite(x)]``, ``x[x != x] = 0``."""
    stack, seen = [key], 0
    while stack and seen < 30:
        node = stack.pop()
        seen += 1
        if node is obj:
            return True
        if node.op == "call":
            stack.extend([node.args[0], *node.args[1]])
        elif node.op in ("un", "cmp", "bin", "attr"):
            for arg in node.args:
                if isinstance(arg, Node):
                    stack.append(arg)
                elif isinstance(arg, tuple):
                    stack.extend(a for a in arg if isinstance(a, Node))
    return False


_KEEPS_ZERO = {"abs", "pow", "square", "mul", "div", "neg", "sum", "sqrt", "clamp", "maximum", "part", "mean", "add"}
_REDUCE = {"sum", "mean", "max", "min", "norm", "amax", "amin", "prod"}
_DANGEROUS = {
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "acos",
    "asin",
    "arccos",
    "arcsin",
    "div",
    "pow",
    "reciprocal",
    "true_divide",
}
