"""Logarithms and exponentials of activations, written in log space: ``log(sigmoid(x))`` as ``logsigmoid(x)``.

The logarithm is followed back through names, indexing and guards to the activation. What the activation was applied to
takes its place, if that is still to be had there; where it has no name it is given one. Assignments that nobody reads
any more go.
"""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.edits import Unfixable
from lossproof.source.values import number
from lossproof.source.written import Call, Reading, Written, closed, repeatable

_CLAMPS = {"clamp", "clip", "clamp_min", "clamp_max"}
# What picks, moves or casts elements: the logarithm may as well be taken before.
_MOVES = {
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "contiguous", "float", "double",
    "expand", "expand_as", "view_as", "gather", "index_select", "take_along_dim", "masked_select", "clone", "detach",
    "t", "to", "type_as", "cpu", "cuda", "select", "narrow", "diagonal",
}  # fmt: skip
# A guard below this does not show in moderate values.
SMALL_EPSILON = 1e-6
SMALL_BOUND = 1e-3


class Form:
    """The log-space form of one logarithm."""

    def __init__(self, reading: Reading, place: Any, *, by_name: bool = False) -> None:
        self.reading = reading
        self.place = place
        # Whether what the activation was applied to gets a name although it could be written again.
        self.by_name = by_name
        self.text = ""
        self.safe = True
        # The activation, the expressions that are evaluated anew, and the names on the way.
        self.leaf: Any = None
        self.source: Any = None
        self.taken: list[Any] = []
        self.passed: list[tuple[ast.expr, ast.expr]] = []

    def inside(self, at: Any) -> bool:
        node = at
        while node is not None:
            if node is self.place:
                return True
            node = self.reading.tree.parent(node)
        return False

    def build(self, operand: Written, negated: bool = False) -> Form:
        self.text = self._complement(operand) if negated else self._log(operand)
        return self

    # ---- the forms

    def _follow(self, w: Written) -> Written:
        if not w.named:
            return w
        behind = w.behind()
        if behind is None or self.reading.tree.parent(behind.at) is None:
            raise Unfixable(f"what `{self.reading.text(w.at)}` was made of is not within reach here")
        self.passed.append((w.at, behind.at))
        return behind

    def _log(self, w: Written) -> str:
        w = self._follow(w)
        reading = self.reading
        call = reading.call(w)
        if call is not None:
            if call.name == "sigmoid":
                return self._logsigmoid(call, negative=False)
            if call.name == "softmax":
                return self._log_softmax(call)
            if call.name == "exp" and any(
                t.act in ("log_softmax", "logsigmoid") for t in reading.tensors(call.operand)
            ):
                return self._exponent(call)
            if call.name == "where":
                return self._by_class(call)
            inner = self._through(w, call)
            if inner is not None:
                return self._within(w, inner, self._log(inner))
        if w.node.op == "sub" and isinstance(w.at, ast.Subscript):
            inner = Written(w.at.value, w.node.args[0])
            self.taken.append(w.at.slice)
            return self._within(w, inner, self._log(inner))
        sides = w.sides()
        if sides is not None and w.node.args[0] == "+":
            for one, other in (sides, sides[::-1]):
                if self._epsilon(one):
                    return self._log(other)
        if sides is not None and w.node.args[0] == "-":
            left = reading.number(sides[0])
            if left is not None and abs(left - 1.0) <= SMALL_BOUND:
                self._bound(abs(left - 1.0), SMALL_EPSILON)
                return self._complement(sides[1])
        if sides is not None and w.node.args[0] == "/":
            found = softmax_of(reading, sides[0], sides[1])
            if found is not None:
                self._names(Written(sides[0].at, sides[0].node))
                denominator = self._follow(sides[1])
                self._names(denominator)
                return self._written_out(w, *found)
        raise Unfixable("the logarithm is not taken of the activation alone")

    def _by_class(self, call: Call) -> str:
        """``where(y == 1, p, 1 - p)``: the logit or its opposite."""
        reading = self.reading
        yes, no = call.argument(0, "input", "self"), call.argument(1, "other")
        if yes is None or no is None or (not self.inside(call.at) and not repeatable(call.operand.at)):
            raise Unfixable("the logarithm is not taken of the activation alone")
        self.taken.append(call.operand.at)
        for p, rest, positive in ((yes, no, True), (no, yes, False)):
            below = rest.behind() if rest.named else rest
            sides = below.sides() if below is not None else None
            found, other = self._sigmoid(p), self._sigmoid(sides[1]) if sides is not None else None
            if found is None or other is None or sides is None or below is None or below.node.args[0] != "-":
                continue
            if found.operand.node is not other.operand.node or reading.number(sides[0]) != 1.0:
                continue
            if not repeatable(found.operand.at):
                raise Unfixable("what the activation was applied to has no name")
            self._end(found.at, found.operand.at)
            text, opposite = reading.text(self.source), reading.negated(self.source)
            pair = f"{text}, {opposite}" if positive else f"{opposite}, {text}"
            name = reading.patch.name(reading.function, "torch.nn.functional.logsigmoid")
            where = reading.patch.name(reading.function, "torch.where")
            return f"{name}({where}({reading.text(call.operand.at)}, {pair}))"
        raise Unfixable("the logarithm is not taken of the activation alone")

    def _sigmoid(self, w: Written) -> Call | None:
        inner = w.behind() if w.named else w
        call = self.reading.call(inner) if inner is not None else None
        if call is None or inner is None or call.name != "sigmoid":
            return None
        if w.named:
            self.passed.append((w.at, inner.at))
        return call

    def _complement(self, w: Written) -> str:
        """``log(1 - p)``"""
        w = self._follow(w)
        call = self.reading.call(w)
        if call is not None:
            if call.name == "sigmoid":
                return self._logsigmoid(call, negative=True)
            if call.name == "softmax":
                raise Unfixable("`1 - softmax(x)` has no form in log space")
            inner = self._through(w, call)
            if inner is not None:
                return self._within(w, inner, self._complement(inner))
        if w.node.op == "sub" and isinstance(w.at, ast.Subscript):
            inner = Written(w.at.value, w.node.args[0])
            self.taken.append(w.at.slice)
            return self._within(w, inner, self._complement(inner))
        sides = w.sides()
        if sides is not None and w.node.args[0] == "-" and self.reading.number(sides[0]) == 1.0:
            return self._log(sides[1])
        raise Unfixable("the logarithm is not taken of the activation alone")

    def _through(self, w: Written, call: Call) -> Written | None:
        """The inside of a guard or of what only picks elements."""
        if call.name in _CLAMPS:
            low, high = call.argument(0, "min"), call.argument(1, "max")
            if call.name == "clamp_max":
                low, high = None, call.argument(0, "max")
            if low is not None and not _none(low):
                self._bound(self.reading.number(low), SMALL_BOUND)
            if high is not None and not _none(high):
                bound = self.reading.number(high)
                self._bound(None if bound is None else max(1.0 - bound, 0.0), SMALL_BOUND)
            return call.operand
        if call.name in ("maximum", "max") and call.argument(0, "other") is not None:
            floor = call.argument(0, "other")
            self._bound(self.reading.number(floor), SMALL_BOUND)
            return call.operand
        if call.name in _MOVES:
            self.taken.extend(a.at for a in [*call.args, *call.named.values()])
            return call.operand
        return None

    def _within(self, w: Written, inner: Written, text: str) -> str:
        """The new form of the inside, with what was done to it; guards go."""
        call = self.reading.call(w)
        if call is not None and (call.name in _CLAMPS or call.name in ("maximum", "max")):
            return text
        if not closed(text):
            text = f"({text})"
        return self.reading.substituted(w.at, inner.at, text)

    def _epsilon(self, w: Written) -> bool:
        value = self.reading.number(w)
        if value is None:
            values = self.reading.tensors(w)
            if not values or not all("num" in t.tags or _small_name(t.sym) for t in values):
                return False
            self.safe = False
            return True
        if not 0.0 <= value <= 1e-2:
            return False
        self._bound(value, SMALL_EPSILON)
        return True

    def _bound(self, size: float | None, most: float) -> None:
        if size is None or size > most:
            self.safe = False

    # ---- the ends

    def _end(self, leaf: Any, argument: Any, *others: Any) -> None:
        self.leaf = leaf
        self.source = argument
        self.taken.extend(others)

    def _logsigmoid(self, call: Call, *, negative: bool) -> str:
        reading = self.reading
        self._end(call.at, call.operand.at)
        name = reading.patch.name(reading.function, "torch.nn.functional.logsigmoid")
        return f"{name}({self._argument(negative)})"

    def _argument(self, negative: bool) -> str:
        reading = self.reading
        if self._needs_name():
            return f"-{self._name()}" if negative else self._name()
        return reading.negated(self.source) if negative else reading.text(self.source)

    def _log_softmax(self, call: Call) -> str:
        reading, at = self.reading, call.at
        self._end(at, call.operand.at, *(a.at for a in [*call.args, *call.named.values()]))
        if call.layer is not None:
            axis = number(call.layer.arg(0, "dim"))
            if call.layer.name.endswith("Softmax2d"):
                axis = -3
            if axis is None:
                raise Unfixable("the axis of the softmax is not known here")
            name = reading.patch.name(reading.function, "torch.nn.functional.log_softmax")
            return f"{name}({self._argument(False)}, dim={int(axis)})"
        source = reading.text(self.source)
        argument = self._argument(False)
        if call.method:
            assert isinstance(at.func, ast.Attribute)
            receiver = argument if closed(argument) else f"({argument})"
            _, end = reading.tree.span(at.func)
            return f"{receiver}.log_softmax{reading.tree.between(end, reading.tree.span(at)[1])}"
        if isinstance(at.func, ast.Attribute) and at.func.attr == "softmax":
            name = f"{reading.text(at.func.value)}.log_softmax"
        else:
            name = reading.patch.name(reading.function, "torch.nn.functional.log_softmax")
        _, end = reading.tree.span(at.func)
        first, last = reading.tree.span(self.source)
        if argument == source:
            return name + reading.tree.between(end, reading.tree.span(at)[1])
        return name + reading.tree.between(end, first) + argument + reading.tree.between(last, reading.tree.span(at)[1])

    def _exponent(self, call: Call) -> str:
        self._end(call.at, call.operand.at)
        return self._argument(False)

    def _written_out(self, w: Written, exponent: Written, axis: str) -> str:
        reading = self.reading
        self._end(w.at, exponent.at)
        name = reading.patch.name(reading.function, "torch.nn.functional.log_softmax")
        return f"{name}({self._argument(False)}, dim={axis})"

    def _names(self, w: Written) -> None:
        """The names that are read on the way and are not read any more."""
        for side in w.sides() or ():
            self._names(side)
        call = self.reading.call(w)
        if call is not None and call.name == "sum" and call.operand.named:
            self._follow(call.operand)
        elif w.named and w.node.op == "call":
            self._follow(w)

    def _needs_name(self) -> bool:
        return not self.inside(self.source) and (self.by_name or not repeatable(self.source))

    def _name(self) -> str:
        self.reading.hoistable(self.source)
        statement = self.reading.tree.parent(self.leaf)
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        return self.reading.has(f"{target.id}_logits" if isinstance(target, ast.Name) else "logits")

    def reachable(self) -> None:
        """Refuse where something of what is evaluated anew has changed since."""
        for at in self.taken:
            if not self.inside(at):
                self.reading.reaches(at, self.place)
        if not self.inside(self.source) and not self._needs_name():
            self.reading.reaches(self.source, self.place)


def _none(w: Written) -> bool:
    return isinstance(w.at, ast.Constant) and w.at.value is None


def _small_name(name: str) -> bool:
    return "eps" in name.lower()


def softmax_of(reading: Reading, above: Written, below: Written, *, picked: bool = False) -> tuple[Written, str] | None:
    """The exponent and the axis of ``exp(x) / exp(x).sum(axis, keepdim=True)``, with or without an epsilon below."""
    numerator = above.behind()
    call = reading.call(numerator) if numerator is not None else None
    if call is None or call.name != "exp":
        return None
    denominator = below.behind()
    sides = denominator.sides() if denominator is not None else None
    if denominator is not None and sides is not None and denominator.node.args[0] == "+":
        for one, other in (sides, sides[::-1]):
            value = reading.number(one)
            if value is not None and 0.0 <= value <= SMALL_EPSILON:
                denominator = other.behind()
                break
    total = reading.call(denominator) if denominator is not None else None
    if total is None or total.name != "sum":
        return None
    if total.operand.node is not call.operand.node and not _same_exp(reading, total.operand, call.operand, numerator):
        return None
    axis, keep = total.argument(0, "dim", "axis"), total.argument(1, "keepdim", "keepdims")
    kept = keep is not None and isinstance(keep.at, ast.Constant) and keep.at.value is True
    number_of = reading.number(axis)
    if axis is None or kept == picked or number_of is None or number_of != int(number_of):
        return None
    # A name for the axis stays: another caller may mean another one by it.
    named = isinstance(axis.at, (ast.Name, ast.Attribute))
    return call.operand, reading.text(axis.at) if named else str(int(number_of))


def _same_exp(reading: Reading, summed: Written, exponent: Written, numerator: Written | None) -> bool:
    if numerator is not None and summed.node is numerator.node:
        return True
    inner = summed.behind()
    call = reading.call(inner) if inner is not None else None
    if call is None or call.name != "exp":
        return False
    alike = call.operand.node is exponent.node
    return alike or (repeatable(exponent.at) and ast.dump(call.operand.at) == ast.dump(exponent.at))


# ---- exponentials


def tame(reading: Reading, w: Written) -> tuple[str, str]:
    """Rewrite a form that is known to overflow: a softmax, a sigmoid, a softplus or a log of a sum of exponentials."""
    form = _bounded(reading, w)
    _put(reading, form)
    _tidy(reading, [form])
    return "safe", f"`{form.made}` computes the same and does not overflow"


def is_bounded(reading: Reading, w: Written) -> bool:
    """Whether an expression has a bounded form here."""
    try:
        _bounded(reading, w)
    except Unfixable:
        return False
    return True


def _bounded(reading: Reading, w: Written) -> Bounded:
    form = Bounded(reading, w.at)
    call = reading.call(w)
    if call is not None and call.name in ("log", "log1p", "log2", "log10") and not call.named and not call.args:
        form.logarithm(call)
    elif w.sides() is not None and w.node.args[0] == "/":
        form.quotient(w)
    else:
        raise Unfixable("no bounded form of this expression is known")
    form.reachable()
    return form


class Bounded(Form):
    """The bounded form of an expression with exponentials."""

    made = ""

    def logarithm(self, call: Call) -> None:
        reading = self.reading
        w = self._follow(call.operand)
        if call.name == "log1p":
            exponent = self._exponential(w)
            if exponent is None:
                raise Unfixable("no bounded form of this expression is known")
            self._write("torch.nn.functional.softplus", exponent)
        else:
            total = w
            sides = w.sides() if w.node.args[:1] == ("+",) else None
            for one, other in (sides, sides[::-1]) if sides is not None else ():
                exponent = self._exponential(other) if reading.number(one) == 1.0 else None
                if exponent is not None:
                    self._write("torch.nn.functional.softplus", exponent)
                    break
                value = reading.number(one)
                if value is not None and 0.0 <= value <= SMALL_EPSILON:
                    total = self._follow(other)
            if not self.text:
                self._logsumexp(total)
        base = {"log2": "2", "log10": "10"}.get(call.name)
        if base is not None:
            self.text = f"{self.text} / {reading.patch.name(reading.function, 'math.log')}({base})"

    def _logsumexp(self, total: Written) -> None:
        reading = self.reading
        call = reading.call(total)
        exponent = self._exponential(call.operand) if call is not None and call.name == "sum" else None
        if call is None or exponent is None or "dtype" in call.named:
            raise Unfixable("no bounded form of this expression is known")
        self.taken.extend(a.at for a in [*call.args, *call.named.values()])
        rest = [reading.text(a.at) for a in call.args]
        rest += [f"{k}={reading.text(a.at)}" for k, a in call.named.items()]
        name = reading.patch.name(reading.function, "torch.logsumexp")
        self._end(exponent.at, exponent.operand.at)
        self.made = "logsumexp"
        argument = self._argument(False)
        if not rest:
            argument = argument if closed(argument) else f"({argument})"
            self.text = f"{name}({argument}.flatten(), dim=0)"
        else:
            self.text = f"{name}({argument}, {', '.join(rest)})"

    def quotient(self, w: Written) -> None:
        reading = self.reading
        sides = w.sides()
        assert sides is not None
        above, below = sides
        exponent = self._logistic(above, below)
        if exponent is not None:
            at, negative = exponent
            self._end(w.at, at)
            self.made = "sigmoid"
            self.text = f"{reading.patch.name(reading.function, 'torch.sigmoid')}({self._argument(negative)})"
            return
        inner, wrapped = self._picked(above)
        found = softmax_of(reading, inner, below, picked=wrapped)
        if found is None:
            raise Unfixable("no bounded form of this expression is known")
        numerator, denominator = self._follow(inner), self._follow(below)
        self._names(denominator)
        self._end(numerator.at, found[0].at)
        self.made = "softmax"
        name = reading.patch.name(reading.function, "torch.softmax")
        text = f"{name}({self._argument(False)}, dim={found[1]})"
        self.text = reading.substituted(above.at, inner.at, text) if wrapped else text

    def _picked(self, above: Written) -> tuple[Written, bool]:
        """``e.diag()`` and ``e.gather(1, y).squeeze(1)``: one element of each row."""
        w, wrapped = above, False
        for _ in range(3):
            call = self.reading.call(w)
            if call is None or not call.method or call.name not in ("diag", "diagonal", "gather", "squeeze"):
                break
            self.taken.extend(a.at for a in [*call.args, *call.named.values()])
            w, wrapped = call.operand, True
        return w, wrapped

    def _logistic(self, above: Written, below: Written) -> tuple[Any, bool] | None:
        """The argument of ``1 / (1 + exp(-x))`` or of ``exp(x) / (1 + exp(x))``, and whether its sign is turned."""
        reading = self.reading
        denominator = below.behind()
        sides = denominator.sides() if denominator is not None and denominator.node.args[:1] == ("+",) else None
        for one, other in (sides, sides[::-1]) if sides is not None else ():
            inner = other.behind()
            call = reading.call(inner) if inner is not None else None
            if reading.number(one) != 1.0 or call is None or call.name != "exp":
                continue
            if reading.number(above) == 1.0:
                for w in (below, other):
                    if w.named:
                        self._follow(w)
                return call.operand.at, True
            numerator = above.behind()
            if numerator is not None and _same_exp(reading, other, call.operand, numerator):
                same = reading.call(numerator)
                if same is not None and same.name == "exp":
                    for w in (above, below, other):
                        if w.named:
                            self._follow(w)
                    return call.operand.at, False
        return None

    def _exponential(self, w: Written) -> Call | None:
        inner = w.behind()
        call = self.reading.call(inner) if inner is not None else None
        if call is None or call.name != "exp":
            return None
        self._follow(w)
        return call

    def _write(self, canonical: str, exponential: Call) -> None:
        self._end(exponential.at, exponential.operand.at)
        self.made = canonical.rpartition(".")[2]
        self.text = f"{self.reading.patch.name(self.reading.function, canonical)}({self._argument(False)})"


# ---- logarithms as a whole


def fuse_logs(reading: Reading, log: Written) -> tuple[str, str]:
    """Rewrite a logarithm of an activation, and those beside it of the same one."""
    first = _form(reading, log)
    forms = [first]
    if first.passed:
        for node in reading.frame.ir.calls:
            if node.at is log.at:
                continue
            call = reading.call(Written(node.at, node))
            if call is None or call.name not in ("log", "log1p", "log2", "log10", "log_"):
                continue
            try:
                other = _form(reading, Written(node.at, node))
            except Unfixable:
                continue
            if other.leaf is first.leaf:
                forms.append(other)
    if len(forms) > 1 and not isinstance(first.source, (ast.Name, ast.Attribute)):
        forms = _by_name(reading, forms)
    for form in forms:
        _put(reading, form)
    _tidy(reading, forms)
    safe = all(form.safe for form in forms)
    if safe:
        return "safe", "computed in log space: the same value, and exact where the activation rounds to 0 or 1"
    return "unsafe", "computed in log space: the guard's bound goes, and with it the bound on the worst mistakes"


def _by_name(reading: Reading, forms: list[Form]) -> list[Form]:
    """One name for what would be written several times."""
    nodes = {node.at: node for node in reading.frame.ir.calls}
    try:
        return [_form(reading, Written(form.place, nodes[form.place]), by_name=True) for form in forms]
    except (Unfixable, KeyError):
        return forms


def _form(reading: Reading, log: Written, *, by_name: bool = False) -> Form:
    call = reading.call(log)
    if call is None or call.named:
        raise Unfixable("the logarithm is taken in a way that is not understood")
    if call.name.endswith("_"):
        raise Unfixable("the logarithm changes its operand in place")
    form = Form(reading, log.at, by_name=by_name)
    if call.name == "log1p":
        inner = form._follow(call.operand)
        if inner.node.op != "un" or inner.node.args[0] != "-" or not isinstance(inner.at, ast.UnaryOp):
            raise Unfixable("the logarithm is not taken of the activation alone")
        form.build(Written(inner.at.operand, inner.node.args[1]), negated=True)
    else:
        form.build(call.operand)
    try:
        form.reachable()
    except Unfixable:
        # ``p = sigmoid(p)``: under a name of its own it is still there.
        if by_name or form.inside(form.source) or not reading.scope.only_rebound(form.source):
            raise
        return _form(reading, log, by_name=True)
    base = {"log2": "2", "log10": "10"}.get(call.name)
    if base is not None:
        form.text = f"{form.text} / {reading.patch.name(reading.function, 'math.log')}({base})"
        if not reading.tree.delimited(log.at):
            form.text = f"({form.text})"
    return form


def _put(reading: Reading, form: Form) -> None:
    text = form.text
    if not closed(text) and not text.startswith("(") and not reading.tree.delimited(form.place):
        text = f"({text})"
    reading.put(form.place, text)


def _tidy(reading: Reading, forms: list[Form]) -> None:
    """Give a name to what the activation was applied to, where one is needed; drop what nobody reads any more."""
    needs_name = any(form._needs_name() for form in forms)
    source = forms[0].source
    dead = _unread(reading, forms)
    statement = reading.patch.statement(reading.module, forms[0].leaf)
    if needs_name:
        name = forms[0]._name()
        if statement in dead and statement.value is forms[0].leaf:
            dead.remove(statement)
            reading.patch.replace(reading.module, statement.targets[0], name)
            reading.put(statement.value, reading.text(source))
        else:
            statement = reading.hoistable(source)
            reading.patch.insert_before(reading.module, statement, f"{name} = {_one_line(reading, source)}")
            reading.put(source, name)
    moved = any("#" in form.text for form in forms)
    for gone in dead:
        try:
            reading.patch.delete(reading.module, gone, comments=not moved)
        except Unfixable:
            continue


def _one_line(reading: Reading, at: Any) -> str:
    reading.plain(at)
    text = reading.text(at)
    return f"({text})" if "\n" in text and not isinstance(at, (ast.Call, ast.Subscript)) else text


def _unread(reading: Reading, forms: list[Form]) -> list[Any]:
    """The assignments on the way from the activation that only the rewritten logarithms read."""
    tree, scope = reading.tree, reading.scope
    statements: list[Any] = []
    for form in forms:
        for _, behind in form.passed:
            statement = tree.parent(behind)
            plain = isinstance(statement, ast.Assign) and len(statement.targets) == 1
            if plain and isinstance(statement.targets[0], ast.Name) and statement not in statements:
                statements.append(statement)
    changed = True
    while changed:
        changed = False
        for statement in statements:
            name = statement.targets[0].id
            bound = all(tree.parent(b) in statements for b in scope.bindings(name))
            read = [n for n in scope.loads.get(name, ()) if not any(form.inside(n) for form in forms)]
            read = [n for n in read if not any(_inside(tree, n, s) for s in statements)]
            kept = any(
                isinstance(n, ast.Name) and n.id == name
                for form in forms
                for at in [*form.taken, *(() if form._needs_name() else (form.source,))]
                for n in ast.walk(at)
            )
            # What is written anew may read it still.
            if not bound or read or kept or scope.seen_inside(name) or not _harmless(statement, forms):
                statements.remove(statement)
                changed = True
                break
    return statements


def _harmless(statement: Any, forms: list[Form]) -> bool:
    return statement.value is forms[0].leaf or repeatable(statement.value) or _of_library(statement.value)


def _of_library(at: Any) -> bool:
    """A call of a function of a module (``torch.clamp``) on what may be written twice."""
    return isinstance(at, ast.Call) and isinstance(at.func, ast.Attribute) and all(repeatable(a) for a in at.args)


def _inside(tree: Any, node: Any, outer: Any) -> bool:
    while node is not None:
        if node is outer:
            return True
        node = tree.parent(node)
    return False
