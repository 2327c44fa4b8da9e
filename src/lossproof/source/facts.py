"""What the source eye hands to the rules. Facts know no rule.

A ``LossCall`` is one call of a loss function, in one context, with what is known of its arguments. An
``Operation`` is one arithmetic step inside something that computes a training loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lossproof.finding import Finding, Location, Remedy, Severity
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.values import Atoms, Hop, T, Thunk, Union, Value, alternatives, combine, consistent

if TYPE_CHECKING:
    from lossproof.rules.registry import Rule
    from lossproof.source.counts import Share
    from lossproof.source.evaluate import Evaluator
    from lossproof.source.frames import Frame
    from lossproof.source.lower import Node
    from lossproof.source.origins import Place
    from lossproof.source.syntax import ClassInfo, Function, ParsedModule
    from lossproof.source.training import Event


Fix = Callable[[Patch], tuple[str, str]]
"""Puts edits into a patch; gives ``safe`` or ``unsafe`` and, in a line, what changes. May raise ``Unfixable``."""


def location(module: ParsedModule, at: Any, message: str = "") -> Location:
    """A node's place, with columns in characters and notebook lines turned back to their cell."""
    line, end_line = at.lineno, getattr(at, "end_lineno", None) or at.lineno
    column = _characters(module.line_text(line), at.col_offset) + 1
    end_offset = getattr(at, "end_col_offset", None)
    end_column = column if end_offset is None else _characters(module.line_text(end_line), end_offset) + 1
    cell = None
    if module.line_map is not None:
        cell, first = module.line_map.locate(line)
        end_line = first + (end_line - line)
        line = first
    return Location(module.display, line, column, end_line, end_column, message, cell)


def _characters(text: str, offset: int) -> int:
    if text.isascii():
        return offset
    return len(text.encode("utf-8")[:offset].decode("utf-8", "ignore"))


class Fact:
    """Something at a place in the code, in one calling context."""

    __slots__ = ("atoms", "ev", "frame", "node")
    # What a rule names in ``facts`` to be asked.
    sort = ""

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms) -> None:
        self.ev = ev
        self.frame = frame
        self.node = node
        self.atoms = atoms

    @property
    def module(self) -> ParsedModule:
        return self.frame.function.module

    def value(self, node: Node) -> Value:
        return self.ev.value(self.frame, node)

    def written(self, at: Any) -> str:
        """An expression as it stands in the code, where that is short enough to be quoted."""
        if at is None or getattr(at, "end_lineno", None) != getattr(at, "lineno", 0):
            return ""
        line = self.module.line_text(at.lineno).encode("utf-8")
        text = line[at.col_offset : at.end_col_offset].decode("utf-8", "replace").strip()
        return f"`{text}`" if 0 < len(text) <= 48 and "`" not in text else ""

    def finding(
        self,
        rule: Rule,
        message: str,
        *,
        because: T | None = None,
        hops: tuple[Hop, ...] = (),
        severity: Severity | None = None,
        confidence: str = "proven",
        at: Any = None,
        place: Location | None = None,
        hint: str | None = None,
        fix: Fix | None = None,
    ) -> Finding:
        trace = hops or (because.trace if because is not None else ())
        if place is None:
            place = location(self.module, at if at is not None else self.node.at, "")
        related = tuple(_distinct([location(h.module, h.at, h.message) for h in trace if h.module is not None], place))
        callers = self._callers() if not trace or not _touches(trace, self.module) else ()
        return Finding(
            rule.code,
            rule.name,
            severity or rule.severity,
            message,
            place,
            related + tuple(c for c in callers if c not in related),
            confidence,
            self._remedy(hint if hint is not None else rule.hint, fix if self._is_first(rule, place) else None),
            rule.evidence,
            "source",
        )

    def _is_first(self, rule: Rule, place: Location) -> bool:
        """Whether this is what will be told of the place: a loss is found again in each of its contexts."""
        if self.sort != "loss":
            return True
        key = (rule.code, place.path, place.cell, place.line, place.column)
        told = self.ev.project.told
        first = key not in told
        told.add(key)
        return first

    def _remedy(self, hint: str, fix: Fix | None) -> Remedy:
        """What a command can do about it. Whatever goes wrong in a fix, the finding stands."""
        if fix is None or not self.ev.project.fixes:
            return Remedy(hint)
        patch = Patch(self.ev.ledger)
        steps, nesting, spent = self.ev.steps, self.ev.nesting, self.ev.spent
        try:
            kind, note = fix(patch)
            edits = patch.edits()
        except Unfixable as reason:
            return Remedy(hint, note=f"not mended by a command: {reason}")
        except Exception:  # a fault of ours in a fix must not cost the finding
            return Remedy(hint)
        finally:
            # What a fix looks up must not cost the search for faults.
            self.ev.steps, self.ev.nesting, self.ev.spent = steps, nesting, spent
        return Remedy(hint, kind, edits, note, tuple(patch.shifts)) if edits else Remedy(hint)

    def _callers(self) -> tuple[Location, ...]:
        """The calls through which this context was reached, the outermost first."""
        found = []
        frame = self.frame.base()
        while frame.site is not None:
            caller, node = frame.site
            found.append(location(caller.function.module, node.at, f"`{frame.function.qualname}` is called here"))
            frame = caller.base()
        return tuple(reversed(found))


def _touches(trace: tuple[Hop, ...], module: ParsedModule) -> bool:
    return any(h.module is module for h in trace)


def _distinct(places: list[Location], last: Location) -> list[Location]:
    kept: list[Location] = []
    for place in places:
        here = (place.path, place.cell, place.line, place.column, place.end_line, place.end_column)
        if any(here == (k.path, k.cell, k.line, k.column, k.end_line, k.end_column) for k in kept):
            continue
        kept.append(place)
    return kept


class LossCall(Fact):
    """A call of a loss. ``kind`` is ``bce``, ``bce_logits``, ``ce``, ``nll``, ``kl``, ``mse`` …"""

    __slots__ = ("_target", "callee", "input", "kind", "peers", "settings", "word")
    sort = "loss"

    def __init__(
        self,
        ev: Evaluator,
        frame: Frame,
        node: Node,
        atoms: Atoms,
        kind: str,
        word: str,
        input: Value,
        target: Value | Thunk,
        settings: dict[str, Value],
        peers: Callable[[Frame, Node, Atoms], list[LossCall]],
        callee: Value | None = None,
    ) -> None:
        super().__init__(ev, frame, node, atoms)
        self.kind = kind
        # Finds the losses that another call may be.
        self.peers = peers
        # The function or the criterion object, where it was called as such.
        self.callee = callee
        self.word = word
        self.input = input
        self._target = target
        self.settings = settings

    @property
    def target(self) -> Value:
        """Looked at only when a rule asks, and only as far as is near at hand."""
        return self.ev.glance(self._target)

    def inputs(self) -> list[tuple[Atoms, T]]:
        """The alternatives of the input that can occur where this call stands."""
        return possible(self.input, self.atoms)

    def targets(self) -> list[tuple[Atoms, T]]:
        return possible(self.target, self.atoms)

    def bad(self, *acts: str) -> tuple[T, str] | None:
        """The activated alternative that reaches the loss, and how sure that is; ``None`` if it is not.

        An activation that some flag switches, where the flag is not known and other settings are right,
        is not reported: silence beats a guess.
        """
        options = self.inputs()
        wrong = [(a, t) for a, t in options if t.act in acts]
        if not wrong:
            return None
        fine = [(a, t) for a, t in options if t.act not in acts]
        if not fine:
            return wrong[0][1], "proven"
        for atoms, t in wrong:
            open_flags = [x for x in atoms if not x.choice and not any(x.same(y) for y in self.atoms)]
            if not open_flags:
                return t, "likely"
        return None

    @property
    def decided(self) -> bool:
        """Whether what reaches the loss is known (a caller could not tell more)."""
        options = alternatives(self.input)
        return bool(options) and all(isinstance(v, T) and (v.act or "detached" in v.tags) for _, v in options)


def _first(expression: Any) -> str:
    """The first name of ``a.b.c``."""
    while expression.__class__.__name__ == "Attribute":
        expression = expression.value
    return getattr(expression, "id", "")


def possible(value: Value, atoms: Atoms) -> list[tuple[Atoms, T]]:
    found = []
    for inner, v in alternatives(value):
        if isinstance(v, T) and consistent(inner, atoms):
            found.append((inner, v))
        elif not isinstance(v, (T, Union)) and consistent(inner, atoms):
            found.append((inner, T(info={"object": v})))
    return found


class GradientCut(Fact):
    """A place where the gradient of a loss's term ends; ``how`` names what ends it."""

    __slots__ = ("how",)
    sort = "cut"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms, how: str) -> None:
        super().__init__(ev, frame, node, atoms)
        self.how = how


class KeptLoss(Fact):
    """A loss that is kept with its graph; ``trains``: in the loop that trains on it. ``kept`` is the expression."""

    __slots__ = ("kept", "trains")
    sort = "kept"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms, trains: bool, kept: Any) -> None:
        super().__init__(ev, frame, node, atoms)
        self.trains = trains
        self.kept = kept

    def carriers(self, caller: Frame, call: Node) -> list[Any]:
        """The arguments of a meter's call that are losses with their graph."""
        _, positional, named = call.args
        given = [*zip(call.at.args, positional, strict=False)]
        given += [(k.value, node) for k, (_, node) in zip(call.at.keywords, named, strict=False)]
        return [at for at, node in given if any(map(_has_graph, alternatives(self.ev.value(caller, node))))]


def _has_graph(option: tuple[Atoms, Value]) -> bool:
    value = option[1]
    return isinstance(value, T) and "loss" in value.tags and not value.tags & {"detached", "num"}


class FocalLoss(Fact):
    """A focal term, ``(1 - p) ** gamma * log(p)``, in one context; ``node`` is the power.

    ``settings`` are what ``gamma`` is, with where that was written; ``alone``: no other exponent stands in the loss.
    ``guarded``: ``1 - p`` cannot become zero, or no gradient comes through it. ``scales`` multiply every term alike.
    ``spoiled`` says why ``p`` is not the probability of the class (``reduced``, ``weighted``, ``smoothed``), where, and
    whether only if somebody asks for it. ``balances``: what one class is weighed with, and the other with one minus it.
    """

    __slots__ = ("alone", "balances", "guarded", "scales", "settings", "spoiled")
    sort = "focal"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms) -> None:
        super().__init__(ev, frame, node, atoms)
        self.settings: list[Setting] = []
        self.alone = True
        self.guarded = False
        self.scales: list[Setting] = []
        self.balances: list[Setting] = []
        self.spoiled: list[tuple[str, Place, bool]] = []


class FocalCall(Fact):
    """A library's focal loss and what it is given. ``guards``: saturated probabilities keep a finite gradient."""

    __slots__ = ("guards", "settings", "two_sided", "word")
    sort = "focal_call"

    def __init__(
        self, ev: Evaluator, frame: Frame, node: Node, word: str, guards: bool, two_sided: bool, settings: list[Setting]
    ) -> None:
        super().__init__(ev, frame, node, ())
        self.word = word
        self.guards = guards
        self.two_sided = two_sided
        self.settings = settings


class Setting:
    """A number that somebody chose: its value where it is known, where it was written, and who uses it.

    ``default``: a configuration may say otherwise.
    """

    __slots__ = ("default", "name", "place", "used", "value")

    def __init__(self, name: str, value: float | None, place: Place) -> None:
        self.name = name
        self.value = value
        self.place = place
        # Where it is a factor, or an exponent.
        self.used: tuple[Frame, Node] | None = None
        self.default = False


class BalancedTwice(Fact):
    """A loss that weighs the classes (``setting``) of batches in which ``sampler`` has already evened them out.

    ``reason``: what the weights are, inverse ``counts``, ``damped`` ones, a ``number`` somebody wrote, or ``unseen``.
    """

    __slots__ = ("built", "reason", "sampler", "setting", "sure")
    sort = "balanced_twice"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms) -> None:
        super().__init__(ev, frame, node, atoms)
        # Where the criterion was built, if it is an object.
        self.built: Hop | None = None
        self.sampler: Hop | None = None
        self.setting = ""
        self.reason = "unseen"
        self.sure = True


class ClassWeight(Fact):
    """What a loss (``weight``, ``pos_weight``) or a ``sampler`` weighs classes with, and how that depends on counts.

    ``elements``: a weight for each element, one for positives and one for negatives; its share is their quotient.

    ``given`` is the node of the weight, at the call.
    """

    __slots__ = ("given", "kind", "share")
    sort = "class_weight"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, kind: str, share: Share, given: Node) -> None:
        super().__init__(ev, frame, node, ())
        self.kind = kind
        self.given = given
        self.share = share


class UnheldWeights(Fact):
    """Learnable weights of losses (``name``, made at ``made``) that the optimizer built at ``node`` does not hold.

    ``built`` is where what holds them was built; ``trainer`` names who optimizes where no optimizer is built.
    ``holder`` is the call that makes what holds them, in its frame; ``owner`` keeps them as its ``attributes``.
    """

    __slots__ = ("attributes", "built", "holder", "made", "name", "owner", "trainer")
    sort = "unheld"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, name: str, made: Hop) -> None:
        super().__init__(ev, frame, node, ())
        self.name = name
        self.made = made
        self.built: Hop | None = None
        self.trainer = ""
        self.holder: tuple[Frame, Node] | None = None
        self.owner: ClassInfo | None = None
        self.attributes: tuple[str, ...] = ()


class FeatureNetwork(Fact):
    """A pretrained network whose features of two images a loss compares.

    ``made``: the call that builds it, in ``maker``. ``applied`` are the calls of it, ``compared`` the comparison (its
    place may be unknown). ``frozen``: it is, or may be; ``useless_freeze`` is where somebody tried. ``optimized`` is
    an optimizer that holds it. ``whole``: the classifier's output is compared. ``mode`` is ``train …`` or ``undone …``
    with what depends on it; ``undone``: somebody calls ``train()`` on what holds it.
    """

    __slots__ = (
        "applied",
        "arch",
        "compared",
        "frozen",
        "made",
        "maker",
        "mode",
        "mode_hop",
        "normalized",
        "optimized",
        "partly",
        "plain",
        "pretrained",
        "undone",
        "useless_freeze",
        "whole",
    )
    sort = "network"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms, maker: ParsedModule, made: Any) -> None:
        super().__init__(ev, frame, node, atoms)
        self.maker = maker
        self.made = made
        self.arch = ""
        self.pretrained = True
        self.applied: list[tuple[ParsedModule, Any]] = []
        self.compared: tuple[ParsedModule, Any] | None = None
        self.frozen = False
        self.useless_freeze: Hop | None = None
        self.optimized: Hop | None = None
        self.whole = False
        self.normalized = True
        # Whether one of the two images is.
        self.partly = False
        # The image that is not, as it is written where the network is applied, if one alone is not.
        self.plain = ""
        self.mode = ""
        self.mode_hop: Hop | None = None
        self.undone = False

    @property
    def called(self) -> str:
        """The network as a reader knows it."""
        return {"vgg": "VGG", "resnet": "ResNet"}.get(self.arch, self.arch) or "the network"

    def built(self) -> Location:
        return location(self.maker, self.made)

    def hops(self, *more: Hop | None, made: bool = True) -> tuple[Hop, ...]:
        """The places that show the fault: where it is built, what is done to it, where its features are compared."""
        found = [Hop(self.maker, self.made, f"{self.called} is built here")] if made else []
        found += [hop for hop in more if hop is not None]
        if self.compared is not None and self.compared[1] is not None:
            found.append(Hop(*self.compared, "its features of two images are compared here"))
        elif self.applied:
            found.append(Hop(*self.applied[0], "it is applied here"))
        return tuple(found)


class FeatureLayer(Fact):
    """A layer of a VGG network that is called ``layer``, but is ``actual``; ``right`` would be the number to pick.

    ``end``: the number is the end of a slice, which is one more than the index of the last layer in it. ``beside`` are
    the other wrong numbers of the same table: place, number and what it should be.
    """

    __slots__ = ("actual", "arch", "beside", "end", "layer", "number", "right")
    sort = "layer"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms) -> None:
        super().__init__(ev, frame, node, atoms)
        self.arch = ""
        self.layer = ""
        self.number = 0
        self.actual = ""
        self.right = 0
        self.end = False
        self.beside: list[tuple[Any, int, int]] = []


class Uncleared(Fact):
    """A backward pass whose gradients are not cleared as they should be. ``why``: ``never``; ``outside`` the loop; of
    ``other`` parameters only; ``erased`` before the step. ``clear`` is the clearing that there is, ``step`` the step.

    ``passes`` are all backward passes since the step before, in the turn; ``conditional``: the step is not made with
    each of them; ``others``: other optimizers are stepped in the turn.
    """

    __slots__ = ("backward", "clear", "conditional", "others", "passes", "step", "why")
    sort = "uncleared"

    def __init__(self, ev: Evaluator, backward: Event, step: Event, clear: Event | None, why: str) -> None:
        assert backward.node is not None
        super().__init__(ev, backward.frame, backward.node, ())
        self.backward = backward
        self.step = step
        self.clear = clear
        self.why = why
        self.passes = [backward]
        self.conditional = False
        self.others = False


class Accumulated(Fact):
    """A backward pass whose gradients are summed over ``count`` passes, of a loss that is not divided by it."""

    __slots__ = ("backward", "count", "count_at", "count_in", "count_module", "known", "step")
    sort = "accumulated"

    def __init__(
        self,
        ev: Evaluator,
        backward: Event,
        step: Event,
        count: str,
        known: float | None,
        count_module: ParsedModule,
        count_at: Any,
    ) -> None:
        assert backward.node is not None
        super().__init__(ev, backward.frame, backward.node, ())
        self.backward = backward
        self.step = step
        self.count = count
        self.known = known
        self.count_module = count_module
        self.count_at = count_at
        # The function that the count is written in.
        self.count_in: Function | None = None


class WrongMode(Fact):
    """A network that runs in the other mode than what is done with it needs.

    ``why``: ``never`` switched; ``train`` mode was switched on; ``loaded`` and never switched; ``resumed`` training in
    eval mode. ``cause`` is the event that left it so, ``sure`` whether it is known to hold layers that depend on it.
    """

    __slots__ = ("cause", "forward", "sure", "why")
    sort = "mode"

    def __init__(self, ev: Evaluator, forward: Event, why: str, cause: Event | None, sure: bool) -> None:
        assert forward.node is not None
        super().__init__(ev, forward.frame, forward.node, ())
        self.forward = forward
        self.why = why
        self.cause = cause
        self.sure = sure


class SoftmaxCall(Fact):
    """A softmax whose axis nobody named; ``name`` is its canonical name."""

    __slots__ = ("name",)
    sort = "softmax"

    def __init__(self, ev: Evaluator, frame: Frame, node: Node, atoms: Atoms, name: str) -> None:
        super().__init__(ev, frame, node, atoms)
        self.name = name


class Operation(Fact):
    """An arithmetic step in something that computes a training loss.

    ``op`` is ``div``, ``log``, ``sqrt``, ``pow``, ``exp``, ``acos``, ``asin``, ``where`` …; ``operand`` is what
    can be at fault (the denominator of a division), ``others`` the rest.
    """

    __slots__ = (
        "behind",
        "cut",
        "floored",
        "op",
        "operand",
        "operand_node",
        "others",
        "reduced_after",
        "spine",
        "word",
    )
    sort = "operation"

    def __init__(
        self,
        ev: Evaluator,
        frame: Frame,
        node: Node,
        atoms: Atoms,
        op: str,
        word: str,
        operand: Value,
        operand_node: Node | None,
        others: tuple[Value, ...] = (),
    ) -> None:
        super().__init__(ev, frame, node, atoms)
        self.op = op
        self.word = word
        self.operand = operand
        self.operand_node = operand_node
        self.others = others
        # For a guard: the steps whose results it is meant to repair.
        self.behind: list[Operation] = []
        # Whether no gradient comes back through this step; whether a maximum keeps its result finite.
        self.cut = False
        self.floored = False
        # Whether the result is a term of the loss itself, not the inside of one.
        self.spine = False
        self.reduced_after = False

    def quoted(self) -> str:
        """The operand as it is written at this step (its node may be where a name got its value)."""
        at = self.node.at
        kind = at.__class__.__name__
        if kind == "BinOp":
            return self.written(at.right if self.op == "div" else at.left)
        if kind == "AugAssign":
            return self.written(at.value if self.op == "div" else at.target)
        if kind == "Call":
            method = at.func.__class__.__name__ == "Attribute" and self.module.imports.get(_first(at.func)) is None
            if method and self.op != "div":
                return self.written(at.func.value)
            if at.args:
                return self.written(at.args[-1] if self.op == "div" else at.args[0])
        return ""

    def operands(self) -> list[T]:
        return [t for _, t in possible(self.operand, self.atoms)]

    def result(self) -> Value:
        return self.ev.value(self.frame, self.node)


__all__ = [
    "Accumulated",
    "BalancedTwice",
    "ClassWeight",
    "Fact",
    "FeatureLayer",
    "FeatureNetwork",
    "FocalCall",
    "FocalLoss",
    "GradientCut",
    "KeptLoss",
    "LossCall",
    "Operation",
    "Setting",
    "SoftmaxCall",
    "Uncleared",
    "UnheldWeights",
    "WrongMode",
    "combine",
    "location",
    "possible",
]
