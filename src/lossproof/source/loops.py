"""What becomes of the gradients from turn to turn of a training loop: never cleared, erased, summed and not averaged.

A backward pass adds to what is there. So between one step of an optimizer and the next the gradients of its parameters
have to be cleared, after the step and before the next backward pass; and where several passes are summed on purpose,
each loss is to be divided by their number. Here a run (``training.py``) is read for what it does instead. What cannot
be looked into may have cleared them: then nothing is told.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lossproof.source.evaluate import children
from lossproof.source.facts import Accumulated, Uncleared
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower
from lossproof.source.patterns import Pattern
from lossproof.source.syntax import Function, dotted
from lossproof.source.training import Branch, Event, Item, Loop, Path, Thing, Trainings, flat
from lossproof.source.values import Const, Hop, Inst, Lib, Ref, Thunk, alternatives

_HINTS = {"backward", "manual_backward"}
_COUNT_NAME = Pattern(r"accum|steps?$|micro|every|iters?$|interval|freq|grad", re.I)
_SIZE_CALL = {"len", "size", "numel", "sum", "mean", "count", "norm", "max", "float"}
# Calls that give back what they were given, or a sum of it.
_HANDS_ON = {"scale", "scale_loss", "mean", "sum", "stack", "cat", "add", "div", "mul", "abs", "reduce", "all_reduce"}
MAX_WALK = 300

Placed = tuple[Event, Path]


class TrainingLoops:
    def __init__(self, trainings: Trainings) -> None:
        self.trainings = trainings
        self.ev = trainings.ev
        self.contexts = trainings.contexts

    def facts(self, function: Function) -> Iterator[Uncleared | Accumulated]:
        if not any((getattr(c.func, "attr", "")) in _HINTS for c in function.calls):
            return
        if function.cls is not None and any(dotted(b).endswith("autograd.Function") for b in function.cls.node.bases):
            return
        told: set[tuple[str, int]] = set()
        for tree in self.trainings.trees(function):
            for fact in self._faults(tree):
                key = (fact.sort, id(fact.node.at))
                if fact.backward.frame.function is function and key not in told:
                    told.add(key)
                    yield fact

    def _faults(self, tree: Sequence[Item]) -> Iterator[Uncleared | Accumulated]:
        events = list(flat(tree))
        for event, path in events:
            if event.kind != "step":
                continue
            loop = self._loop_of(path, events)
            if loop is None:
                continue
            inside = [(e, p) for e, p in events if any(part is loop for part, _ in p)]
            yield from self._uncleared(event, path, loop, inside, events)
            yield from self._accumulated(event, path, loop, inside)

    @staticmethod
    def _loop_of(path: Path, events: Sequence[Placed]) -> Loop | None:
        """The innermost loop around a step in which a backward pass is made."""
        for part, _ in reversed(path):
            if isinstance(part, Loop) and any(e.kind == "backward" and any(q is part for q, _ in p) for e, p in events):
                return part
        return None

    # ---- LP701

    def _uncleared(
        self, step: Event, path: Path, loop: Loop, inside: list[Placed], events: Sequence[Placed]
    ) -> Iterator[Uncleared]:
        passes = [(e, p) for e, p in inside if e.kind == "backward"]
        if any(e.kind == "opaque" for e, _ in inside):
            return
        clears = [(e, p) for e, p in inside if e.kind == "clear"]
        if step.detail == "by hand":
            if any(e.kind in ("graded", "scaled") for e, _ in inside) or self._rebound(step, loop):
                return
        covering = [(e, p) for e, p in clears if not self._elsewhere(e, step)]
        if covering and self._partly(step, path, loop, covering):
            mine = self._own_pass(step, path, inside)
            if mine is not None and mine.node is not None and not self._engine_of(mine, step):
                fact = Uncleared(self.ev, mine, step, covering[0][0], "other")
                self._turn(fact, path, loop, inside)
                yield fact
            return
        if not covering:
            if any(e.kind == "fresh" for e, _ in inside) or any(e.kind == "graded" for e, _ in inside):
                return
            mine = self._own_pass(step, path, inside)
            if mine is None or mine.node is None or self._engine_of(mine, step):
                return
            outside = next(
                (
                    e
                    for e, p in events
                    if e.kind == "clear" and not any(q is loop for q, _ in p) and not self._elsewhere(e, step)
                ),
                None,
            )
            why = "outside" if outside is not None else "other" if clears else "never"
            fact = Uncleared(self.ev, mine, step, outside or (clears[0][0] if clears else None), why)
            self._turn(fact, path, loop, inside)
            yield fact
            return
        erased = self._erased(step, path, inside)
        if erased is not None and passes:
            yield Uncleared(self.ev, passes[-1][0], step, erased, "erased")

    @staticmethod
    def _turn(fact: Uncleared, path: Path, loop: Loop, inside: list[Placed]) -> None:
        """What else happens in the turn: the other passes before the step, the other steps."""
        step = fact.step
        order = next((i for i, (e, _) in enumerate(inside) if e is step), 0)
        since = next((i + 1 for i in range(order - 1, -1, -1) if inside[i][0].kind == "step"), 0)
        passes = [(e, p) for e, p in inside[since:order] if e.kind == "backward"]
        if passes:
            fact.passes = [e for e, _ in passes]
            shared = [{(id(q), arm) for q, arm in p} for _, p in passes]
            fact.conditional = any(
                isinstance(q, Branch) and any((id(q), arm) not in s for s in shared) for q, arm in path
            )
        mine = step.thing
        for e, _ in inside:
            if e.kind == "step" and e is not step:
                other = e.thing
                fact.others = fact.others or not (mine is not None and other is not None and mine.same(other))

    def _partly(self, step: Event, path: Path, loop: Loop, covering: list[Placed]) -> bool:
        """Whether several optimizers are stepped one by one, and what is cleared is surely none of one of them."""
        below = path[next(i for i, (part, _) in enumerate(path) if part is loop) + 1 :]
        each = [part for part, _ in below if isinstance(part, Loop)]
        if len(each) != 1 or step.thing is None or not _lists(each[0]):
            return False
        if len(step.thing.values) < 2 or not all(isinstance(v, Lib) for v in step.thing.values):
            return False
        for v in step.thing.values:
            one = Thing(step.thing.text, frozenset(self.trainings.tokens([v])), (v,))
            one.models = self.trainings.models_of(one)
            if not one.models or not one.tokens:
                return False
            if all(self._surely_elsewhere(e, one) for e, _ in covering):
                return True
        return False

    def _surely_elsewhere(self, clear: Event, optimizer: Thing) -> bool:
        """Whether a clearing is of networks that an optimizer is known not to hold."""
        if clear.thing is None or not clear.thing.tokens or clear.thing.same(optimizer):
            return False
        mine = optimizer.models
        its = self.trainings.models_of(clear.thing) or clear.thing.tokens
        if its & mine:
            return False
        if all(t[0] == "param" for t in its | mine):
            return len({t[1] for t in its | mine}) == 1
        # Networks that are made side by side, none of them out of the other.
        if not all(t[0] in ("inst", "lib") for t in its | mine):
            return False
        made = {id(call): call for call in self._maker_calls(optimizer)}
        if not all(t[-1] in made for t in its | mine):
            return False
        parts = [part for t in its for part in ast.walk(made[t[-1]])]
        if {id(part) for part in parts} & {t[-1] for t in mine}:
            return False
        its_parts = {part.id for part in parts if isinstance(part, ast.Name)}
        calls = [v.at for v in optimizer.values if isinstance(v, Lib) and isinstance(v.at, ast.Call)]
        given = [part for call in calls for a in call.args for part in ast.walk(a)]
        return not any(isinstance(part, ast.Name) and part.id in its_parts for part in given)

    def _maker_calls(self, optimizer: Thing) -> list[ast.Call]:
        holder = next((self.trainings.holder(v) for v in optimizer.values if isinstance(v, Lib)), None)
        return holder.calls if holder is not None else []

    def _elsewhere(self, clear: Event, step: Event) -> bool:
        """Whether a clearing is surely of other parameters than those that are stepped."""
        if clear.thing is None or step.thing is None:
            return False
        one, other = clear.thing, step.thing
        if one.same(other):
            return False
        mine = other.models
        its = self.trainings.models_of(one)
        if mine and its:
            return not mine & its and len({t[0] for t in mine | its}) == 1
        return one.surely_other(other) and _optimizer_like(one.text) == _optimizer_like(other.text)

    def _engine_of(self, backward: Event, step: Event) -> bool:
        """``engine.backward(loss)``, ``engine.step()``: it may clear by itself."""
        if backward.detail != "engine" or step.thing is None or backward.node is None:
            return False
        owner = backward.at.func.value
        return dotted(owner) == step.thing.text

    @staticmethod
    def _rebound(step: Event, loop: Loop) -> bool:
        """A parameter that is made anew in every turn has no gradient of the last one."""
        name = (step.thing.text if step.thing is not None else "").partition(".")[0]
        return any(
            isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in part.targets)
            for part in ast.walk(loop.at)
        )

    @staticmethod
    def _own_pass(step: Event, path: Path, inside: list[Placed]) -> Event | None:
        """The backward pass before a step, in the order of the turn."""
        before = None
        for e, _ in inside:
            if e is step and before is not None:
                return before
            if e.kind == "backward":
                before = e
        return before

    @staticmethod
    def _erased(step: Event, path: Path, inside: list[Placed]) -> Event | None:
        """The clearing between a backward pass and its step, if there is one."""
        order = [i for i, (e, _) in enumerate(inside) if e is step]
        if not order:
            return None
        i = order[0]
        arms = {(id(part), arm) for part, arm in path}
        for e, p in [*reversed(inside[:i]), *reversed(inside[i + 1 :])]:
            if any((id(part), not arm) in arms for part, arm in p):
                continue  # the other branch
            if e.kind in ("backward", "graded", "opaque", "yield") or (e.kind == "forward" and e.detail == "perhaps"):
                return None
            if e.kind == "step" and step.thing is not None and e.thing is not None and e.thing.same(step.thing):
                return None
            if e.kind == "clear":
                sure = (
                    e.thing is not None
                    and step.thing is not None
                    and (e.thing.same(step.thing) or (step.thing.models and step.thing.models <= e.thing.tokens))
                )
                unconditional = all((id(part), arm) in arms for part, arm in p)
                return e if sure and unconditional else None
        return None

    # ---- LP702

    def _accumulated(self, step: Event, path: Path, loop: Loop, inside: list[Placed]) -> Iterator[Accumulated]:
        below = path[next(i for i, (part, _) in enumerate(path) if part is loop) + 1 :]
        if any(e.kind in ("graded", "scaled", "opaque") for e, _ in inside):
            return
        arm = next(((b, a) for b, a in below if isinstance(b, Branch) and b.test is not None), None)
        passes = [(e, p) for e, p in inside if e.kind == "backward"]
        clears = [(e, p) for e, p in inside if e.kind == "clear" and not self._elsewhere(e, step)]
        if not clears:
            return
        loose = False
        where: Frame = step.frame
        if arm is not None:
            branch, side = arm
            if any(any(q is branch and s == side for q, s in p) for _, p in passes):
                return
            if not all(any(q is branch and s == side for q, s in p) for _, p in clears):
                # Cleared under a test of its own is the same plan; cleared in every turn is another.
                if not all(self._periodic_arm(p, loop) for _, p in clears):
                    return
            found = self.period(branch.frame, branch.test)
            if found is None:
                return
            where, count = found
        else:
            found = self._micro_batches(step, path, loop, passes)
            if found is None:
                return
            where, count = found
            loose = not (isinstance(count, (ast.Name, ast.Attribute, ast.Constant))) or where is not step.frame
        known = self._constant(where, count)
        if known is not None and known <= 1:
            return
        for e, p in passes:
            if e.node is None or e.loss is None or self._engine_divides(e):
                continue
            if any(isinstance(q, Branch) and q.test is not None and self.period(q.frame, q.test) for q, _ in p):
                continue
            if loose and any(
                isinstance(c, ast.BinOp) and isinstance(c.op, ast.Div)
                for function in {e.frame.function, step.frame.function}
                for c in ast.walk(function.node)
            ):
                continue  # divided by something that may be their number
            if not self._scaled(e.frame, e.loss, where, count, known):
                fact = Accumulated(self.ev, e, step, _text(count), known, where.function.module, count)
                fact.count_in = where.function
                yield fact
                return

    def _periodic_arm(self, path: Path, loop: Loop) -> bool:
        return any(isinstance(q, Branch) and q.test is not None and self.period(q.frame, q.test) for q, _ in path)

    def _micro_batches(self, step: Event, path: Path, loop: Loop, passes: list[Placed]) -> tuple[Frame, Any] | None:
        """``for _ in range(k): … backward()`` inside the turn, with a batch of its own each."""
        for _, p in passes:
            inner = [q for q, _ in p if isinstance(q, Loop)]
            if not inner or inner[-1] is loop or inner[-1].at is loop.at:
                continue
            at = inner[-1].at
            if not isinstance(at, ast.For) or any(q is inner[-1] for q, _ in path):
                continue
            source = at.iter
            if isinstance(source, ast.Call) and dotted(source.func) == "range" and len(source.args) == 1:
                fetches = any(
                    isinstance(c, ast.Call)
                    and (dotted(c.func).rpartition(".")[2] in ("next", "get_batch", "next_batch"))
                    for c in ast.walk(at)
                )
                if fetches or re.search(r"accum|micro", ast.unparse(source), re.I):
                    return inner[-1].frame, source.args[0]
            found = self._pieces(inner[-1].frame, source, source)
            if found is not None:
                return found
        return None

    def _pieces(self, frame: Frame, source: Any, turned: Any, depth: int = 0) -> tuple[Frame, Any] | None:
        """How many pieces of a batch are gone through: ``xs.chunk(k)``; of ``xs.split(size)``, as many as there are."""
        for part in ast.walk(source):
            if not isinstance(part, ast.Call) or not isinstance(part.func, ast.Attribute):
                continue
            name = part.func.attr
            if name not in ("chunk", "tensor_split", "split"):
                continue
            numbers = part.args[1:] if dotted(part.func).startswith("torch.") else part.args
            axis = [*numbers[1:], *(k.value for k in part.keywords if k.arg == "dim")]
            if not numbers or any(not isinstance(a, ast.Constant) or a.value != 0 for a in axis):
                continue
            if name != "split":
                return frame, numbers[0]
            if not self._of_a_batch(frame, part):
                continue
            text = f"len({turned.id if isinstance(turned, ast.Name) else ast.unparse(part)})"
            count = ast.copy_location(ast.parse(text, mode="eval").body, part)
            return frame, ast.fix_missing_locations(count)
        if depth > 2:
            return None
        for part in ast.walk(source):
            if isinstance(part, ast.Name):
                given = frame.base().args.get(part.id)
                if isinstance(given, Thunk) and isinstance(given.node.at, ast.expr):
                    found = self._pieces(given.frame, given.node.at, turned, depth + 1)
                else:
                    made = _assigned(frame.function, part.id)
                    found = self._pieces(frame, made, turned, depth + 1) if made is not None else None
                if found is not None:
                    return found
        return None

    def _of_a_batch(self, frame: Frame, call: ast.Call) -> bool:
        """Whether ``….split(size)`` is that of a tensor: not a text's, a folder's, a library's."""
        size = call.args[-1] if call.args else None
        if isinstance(size, (ast.List, ast.Tuple, ast.JoinedStr)) or (
            isinstance(size, ast.Constant) and not isinstance(size.value, int)
        ):
            return False
        if dotted(call.func).startswith("torch."):
            return True
        node = frame.ir.by_call.get(id(call))
        if node is None or node.args[0].op != "attr":
            return False
        values = self.trainings.values(frame, node.args[0].args[0])
        return not any(isinstance(v, (Lib, Ref, Inst, Const)) for v in values)

    def period(self, frame: Frame, test: Any, depth: int = 0) -> tuple[Frame, Any] | None:
        """The ``k`` of a test that holds every k-th turn."""
        for part in ast.walk(test):
            if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod) and not isinstance(part.left, ast.Constant):
                return frame, part.right
        for part in ast.walk(test):
            if isinstance(part, ast.Compare) and len(part.ops) == 1 and isinstance(part.ops[0], (ast.Eq, ast.GtE)):
                if self._counter(frame, part.left):
                    return frame, part.comparators[0]
        if depth > 3:
            return None
        # A name, or a helper, that stands for such a test.
        for part in ast.walk(test):
            if isinstance(part, ast.Name):
                source = _assigned(frame.function, part.id)
                if source is not None and source is not test:
                    found = self.period(frame, source, depth + 1)
                    if found is not None:
                        return found
                given = frame.base().args.get(part.id)
                if isinstance(given, Thunk) and isinstance(given.node.at, ast.expr):
                    found = self.period(given.frame, given.node.at, depth + 1)
                    if found is not None:
                        return found
            elif isinstance(part, ast.Call):
                node = frame.ir.by_call.get(id(part))
                if node is None or dotted(part.func) in ("len", "range", "isinstance"):
                    continue
                self.ev.begin()
                for func, positional, named in self.contexts.targets(frame, node):
                    inner = self.ev.enter(func, positional, named, frame, node)
                    if inner is None:
                        continue
                    for value, _ in inner.ir.returns:
                        if isinstance(value.at, ast.expr):
                            found = self.period(inner, value.at, depth + 1)
                            if found is not None:
                                return found
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                found = self._property(frame, part, depth)
                if found is not None:
                    return found
        return None

    def _property(self, frame: Frame, part: ast.Attribute, depth: int) -> tuple[Frame, Any] | None:
        me = frame.base().me
        if not isinstance(me, Inst) or not isinstance(part.value, ast.Name):
            return None
        if part.value.id != frame.function.first_param:
            return None
        method = self.ev.class_member(me.cls, part.attr)
        function = getattr(method, "function", None)
        if isinstance(function, Function) and "property" in function.decorators:
            inner = Frame(function, {}, me, None, None, frame.depth + 1)
            for value, _ in lower(function).returns:
                if isinstance(value.at, ast.expr):
                    return self.period(inner, value.at, depth + 1)
        return None

    @staticmethod
    def _counter(frame: Frame, e: Any) -> bool:
        """Whether an expression is a count that goes up by one and is set back."""
        text = dotted(e)
        if not text:
            return False
        places: list[Any] = [frame.function.node]
        if frame.function.cls is not None and "." in text:
            places = [m.node for m in frame.function.cls.methods.values()]
        up = back = False
        for place in places:
            for part in ast.walk(place):
                if isinstance(part, ast.AugAssign) and dotted(part.target) == text and isinstance(part.op, ast.Add):
                    up = True
                if isinstance(part, ast.Assign) and any(dotted(t) == text for t in part.targets):
                    back = back or (isinstance(part.value, ast.Constant) and part.value.value == 0)
        return up and back

    def _constant(self, frame: Frame, e: Any) -> float | None:
        if isinstance(e, ast.Constant) and isinstance(e.value, (int, float)):
            return float(e.value)
        if isinstance(e, ast.Name):
            given = frame.base().args.get(e.id)
            if isinstance(given, Thunk):
                self.ev.begin()
                value = self.ev.force(given)
                if isinstance(value, Const) and isinstance(value.v, (int, float)):
                    return float(value.v)
            source = _assigned(frame.function, e.id)
            if source is None:
                source = _assigned(frame.function.module.body, e.id)
            if isinstance(source, ast.Constant) and isinstance(source.value, (int, float)):
                return float(source.value)
        return None

    def _engine_divides(self, event: Event) -> bool:
        """``accelerator.backward(loss)`` divides by itself where it was told how often."""
        if event.detail != "engine":
            return False
        node = event.node
        assert node is not None
        receiver = node.args[0].args[0]
        for v in self.trainings.values(event.frame, receiver):
            if isinstance(v, Lib) and v.name.rpartition(".")[2] in ("Accelerator", "Fabric"):
                if not any("accum" in k for k in v.kwargs) and "**" not in v.kwargs:
                    return False
        return True

    def _scaled(self, frame: Frame, root: Node, where: Frame, count: Any, known: float | None) -> bool:
        """Whether the loss is divided on its way, by what the passes are counted by or by what may be that."""
        words = _words(count)
        stack: list[tuple[Frame, Node, int]] = [(frame, root, 0)]
        seen: set[tuple[int, int]] = set()
        self.ev.begin()
        while stack and len(seen) < MAX_WALK:
            at, node, depth = stack.pop()
            if (id(at), id(node)) in seen:
                continue
            seen.add((id(at), id(node)))
            op = node.op
            if op == "bin":
                sign = node.args[0]
                if sign in ("/", "//") and self._may_be(at, node.args[2], words, known, False):
                    return True
                if sign == "*" and any(self._may_be(at, n, words, known, True) for n in node.args[1:]):
                    return True
                stack.extend((at, n, depth) for n in node.args[1:])
            elif op in ("phi", "loop"):
                stack.extend((at, n, depth) for n in node.args[1 if op == "phi" else 0 :] if isinstance(n, Node))
            elif op == "call":
                if self._call_scales(at, node, words, known, stack, depth):
                    return True
            elif op == "param":
                given = at.base().args.get(node.args[0])
                if isinstance(given, Thunk):
                    stack.append((given.frame, given.node, depth))
            elif op == "attr":
                stack.extend((f, n, depth) for f, n in self._stores(at, node))
                if node.args[1] in ("loss", "data"):
                    stack.append((at, node.args[0], depth))
            elif op in (
                "unpack",
                "sub",
                "inplace",
                "un",
                "enter",
                "tuple",
                "list",
                "append",
                "setitem",
                "dict",
                "iter",
            ):
                stack.extend((at, n, depth) for n in children(node))
        return len(seen) >= MAX_WALK

    def _call_scales(
        self,
        at: Frame,
        node: Node,
        words: set[str],
        known: float | None,
        stack: list[tuple[Frame, Node, int]],
        depth: int,
    ) -> bool:
        func, args, keywords = node.args
        name = (
            getattr(node.at.func, "attr", None) or getattr(node.at.func, "id", "")
            if isinstance(node.at, ast.Call)
            else ""
        )
        if name in ("div", "div_", "true_divide", "divide") and any(
            self._may_be(at, n, words, known, False) for n in args
        ):
            return True
        if name in ("mul", "mul_", "multiply") and any(self._may_be(at, n, words, known, True) for n in args):
            return True
        if name == "sum" and not args and not keywords:
            return True  # a sum over samples: that of the passes is the sum over all
        if any(k == "reduction" and n.op == "const" and n.args[0] == "sum" for k, n in keywords):
            return True
        callee = self.trainings.values(at, func)
        for v in callee:
            if isinstance(v, Lib) and getattr(v.kwargs.get("reduction"), "v", None) == "sum":
                return True
        entered = False
        if depth < 5:
            for target, positional, named in self.contexts.targets(at, node):
                inner = self.ev.enter(target, positional, named, at, node)
                if inner is not None:
                    entered = True
                    stack.extend((inner, n, depth + 1) for n, _ in inner.ir.returns)
        if func.op == "attr":
            stack.append((at, func.args[0], depth))
        if not entered or name in ("scale", "scale_loss"):
            for n in (*args, *(n for _, n in keywords)):
                if n.op == "bin" or name in _HANDS_ON:
                    stack.append((at, n, depth))
            if any(k is not None and "accum" in k for k, _ in keywords):
                return True
            if not entered and any(_words(n.at) & words for n in args if isinstance(n.at, (ast.Name, ast.Attribute))):
                return True  # an unknown helper that is told how many there are
        return False

    def _may_be(self, frame: Frame, node: Node, words: set[str], known: float | None, factor: bool) -> bool:
        """Whether a divisor (or a factor) is, or may be, the number of passes."""
        self.ev.begin()
        for _, v in alternatives(self.ev.value(frame, node)):
            if isinstance(v, Const) and isinstance(v.v, (int, float)) and not isinstance(v.v, bool):
                value = float(v.v)
                if known is None:
                    return value != 1.0 and not factor
                return abs(value * known - 1) < 1e-6 if factor else value == known
        if factor and node.op == "bin" and node.args[0] in ("/", "**"):
            return self._may_be(frame, node.args[2], words, known, False)
        e = node.at
        if not isinstance(e, ast.expr):
            return not factor
        if _words(e) & words:
            return True
        if node.op == "param":
            given = frame.base().args.get(node.args[0])
            if isinstance(given, Thunk):
                return self._may_be(given.frame, given.node, words, known, factor)
            if _COUNT_NAME.search(str(node.args[0])):
                return True
        if any(_COUNT_NAME.search(w) for w in _words(e)) and (not factor or "scale" in " ".join(_words(e))):
            return True
        if factor:
            return "scale" in " ".join(_words(e)).lower() or "accum" in " ".join(_words(e)).lower()
        if node.op == "call":
            name = getattr(e.func, "attr", None) or getattr(e.func, "id", "") if isinstance(e, ast.Call) else ""
            return name not in _SIZE_CALL
        return node.op in ("name", "attr", "param", "free", "sub")

    def _stores(self, frame: Frame, node: Node) -> list[tuple[Frame, Node]]:
        """What the methods of a class store in the attribute that a loss is read from."""
        cls = frame.function.cls
        found: list[tuple[Frame, Node]] = []
        if cls is None:
            return found
        for method in cls.methods.values():
            for store in lower(method).stores:
                if store.attr == node.args[1]:
                    here = frame if method is frame.function else Frame(method, None, frame.base().me, None, None, 1)
                    found.append((here, store.value))
        return found[:4]


def _lists(loop: Loop) -> bool:
    """``for o in (one, two)``: a turn for each of what is written there."""
    generators = getattr(loop.at, "generators", None)
    source: Any = generators[0].iter if generators else getattr(loop.at, "iter", None)
    if isinstance(source, ast.Name):
        source = _assigned(loop.frame.function, source.id)
    return isinstance(source, (ast.Tuple, ast.List)) and len(source.elts) > 1


def _optimizer_like(text: str) -> bool:
    return "opt" in text.lower()


def _text(e: Any) -> str:
    text = ast.unparse(e)
    return text if len(text) <= 40 else "k"


def _words(e: Any) -> set[str]:
    """The last names in an expression: ``args.accum_steps`` is ``accum_steps``."""
    found: set[str] = set()
    for part in ast.walk(e):
        if isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.add(part.value)
    return found - {"self", "args", "cfg", "config", "opt", "hparams", "int", "max", "params", "torch", "float", "len"}


def _assigned(function: Function, name: str) -> Any:
    """The expression that a name is given in a function, where there is one such place."""
    found = [
        part.value
        for part in ast.walk(function.node)
        if isinstance(part, ast.Assign)
        and len(part.targets) == 1
        and isinstance(part.targets[0], ast.Name)
        and part.targets[0].id == name
    ]
    return found[0] if len(found) == 1 else None


def hop(event: Event, message: str) -> Hop:
    return Hop(event.frame.function.module, event.at, message)
