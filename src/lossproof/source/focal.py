"""Focal terms: a log-likelihood times a power of how far its probability is from certain.

What makes a term focal is its form, ``(1 - p) ** gamma * log(p)``, whatever it is called and however many helpers it is
spread over. So a loss is multiplied out into terms, each a list of factors; a term with a power of ``1 - p`` beside a
log-likelihood is focal, and its other factors, its exponent and what ``p`` was computed from are what rules ask about.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Generator, Iterator
from itertools import product

from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator, children
from lossproof.source.facts import FocalCall, FocalLoss, Setting
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower
from lossproof.source.origins import Origins, Place, called, known
from lossproof.source.patterns import Pattern
from lossproof.source.slices import METRIC_CLASS, Slices
from lossproof.source.syntax import Function, dotted
from lossproof.source.tensor_ops import MASK_NAME, as_tensor
from lossproof.source.torch_names import KEEP, LOSS_FUNCTION
from lossproof.source.values import (
    Cls,
    Const,
    Func,
    Inst,
    Lib,
    Map,
    Ref,
    Seq,
    T,
    Thunk,
    Value,
    alternatives,
    constant,
    number,
)

MAX_TERMS = 16
MAX_VARIANTS = 6
MAX_FACTORS = 14
MAX_STEPS = 700
MAX_CONTEXTS = 8
MAX_CALLS = 6
SHORT = 12  # lines
MAX_ASSIGNED = 4

_POWER = Pattern(r"\*\*|\bpow\b|pow\(|power\(|square\(")
# What a focal term cannot do without: a likelihood somewhere in the file, and one minus something in the function.
_SPEAKS = Pattern(r"log_softmax|logsigmoid|entropy|nll|bce|BCE|\blog\(|loss|Loss|LogSoftmax")
_COMPLEMENT = Pattern(
    r"(?<![\w.])1(?:\.0*1?0*)?[ \t]*-|ones_like|\+[ \t]*1(?:\.0)?\b|sub\([ \t]*1|expm1|rsub|add\(1|abs\(|_one\b"
)
_LIKELY = Pattern(
    r"log_softmax|logsigmoid|entropy|nll|bce|BCE|\blog\(|\bexp\(|expm1|igmoid|oftmax|(?:loss|crit|ce|base|fn|func)\w*\("
)
_POWERS = {"pow", "pow_", "float_power", "power", "square", "square_"}
# Names in what is raised that speak of a probability or of its rest.
_REST = Pattern(
    r"prob|sigm|softmax|^rsub$|expm1|ones_like|^one|_one$|minus|uncert|confid|compl|modul|focal|^q$|^p$|^p_?t|_pt$"
    r"|^p[01]$|^rest$",
    re.I,
)
_LOSSY = Pattern(r"loss|crit|focal|objective|build|make|get", re.I)
_BUILDS = Pattern(r"^(?!zip|len).*(?:loss|crit|focal|objective|build|make|get|creat|instantiat|from_)", re.I)
_SPREAD = Pattern(r"(?<=[(,])\s*\*\*\w+")
_REDUCTION = {"mean", "sum", "nanmean", "nansum"}
_PRODUCT = {"mul", "mul_", "multiply"}
_SUM = {"add", "add_", "sub", "sub_"}
_NEGATION = {"neg", "neg_", "negative"}
_KEPT = KEEP | {"clamp", "clamp_", "clamp_min", "clamp_max", "contiguous", "masked_fill", "masked_select", "data"}
_LOGARITHM = {"log", "log_softmax", "logsigmoid", "log1p", "log_sigmoid", "logsumexp", "softplus"}
# A factor that says by its name that it only scales: used to stay silent, never to accuse.
_SCALE = Pattern(r"weight|scale|lambda|lamb?da?|coef|ratio|factor|norm|temp|^w$|^w_|_w$|^s$|mult", re.I)
_ALPHA = Pattern(r"alpha|balance", re.I)
_LABEL = Pattern(r"target|label|^gt|_gt$|^y$|^t$|y_true|truth|one_?hot|pos|neg|mask|valid|true", re.I)
_SETTING = Pattern(r"gamma|alpha|focus", re.I)
_LIKELIHOOD = {"ce", "nll", "bce", "bce_logits"}

# Focal losses of libraries: the places of alpha and gamma, their defaults, whether saturation is guarded.
LIBRARY: dict[str, tuple[int, int, float | None, float | None, bool]] = {
    "torchvision.ops.sigmoid_focal_loss": (2, 3, 0.25, 2.0, False),
    "torchvision.ops.focal_loss.sigmoid_focal_loss": (2, 3, 0.25, 2.0, False),
    "fvcore.nn.sigmoid_focal_loss": (2, 3, -1.0, 2.0, False),
    "fvcore.nn.sigmoid_focal_loss_jit": (2, 3, -1.0, 2.0, False),
    "fvcore.nn.focal_loss.sigmoid_focal_loss": (2, 3, -1.0, 2.0, False),
    "kornia.losses.FocalLoss": (0, 1, None, 2.0, True),
    "kornia.losses.focal_loss": (2, 3, None, 2.0, True),
    "kornia.losses.BinaryFocalLossWithLogits": (0, 1, None, 2.0, True),
    "kornia.losses.binary_focal_loss_with_logits": (2, 3, None, 2.0, True),
    "monai.losses.FocalLoss": (3, 2, None, 2.0, True),
    "monai.losses.focal_loss.FocalLoss": (3, 2, None, 2.0, True),
    "segmentation_models_pytorch.losses.FocalLoss": (1, 2, None, 2.0, False),
    "segmentation_models_pytorch.losses.focal.FocalLoss": (1, 2, None, 2.0, False),
    "pytorch_toolbelt.losses.BinaryFocalLoss": (0, 1, None, 2.0, False),
    "pytorch_toolbelt.losses.CrossEntropyFocalLoss": (99, 0, None, 2.0, False),
    "pytorch_toolbelt.losses.focal_loss_with_logits": (3, 2, 0.25, 2.0, False),
    "mmdet.models.losses.FocalLoss": (2, 1, 0.25, 2.0, True),
    "mmdet.models.FocalLoss": (2, 1, 0.25, 2.0, True),
    "mmcv.ops.sigmoid_focal_loss": (3, 2, 0.25, 2.0, True),
    "catalyst.contrib.losses.FocalLossBinary": (99, 99, 0.25, 2.0, False),
    "focal_loss.focal_loss.FocalLoss": (99, 0, None, None, False),
    "pytorch_metric_learning.losses.FocalLoss": (99, 99, None, 2.0, False),
}
_HUB: tuple[int, int, float | None, float | None, bool] = (99, 99, None, 2.0, False)
_LIBRARY_WORDS = frozenset(name.rpartition(".")[2] for name in LIBRARY) | {"partial", "load"}


class Factor:
    """One factor of a term. ``inner``: under the reduction; ``power``: of a power, what is raised and to what."""

    __slots__ = ("frame", "inner", "node", "power")

    def __init__(
        self,
        frame: Frame,
        node: Node,
        inner: bool = False,
        power: tuple[tuple[Frame, Node], tuple[Frame, Node]] | None = None,
    ) -> None:
        self.frame = frame
        self.node = node
        self.inner = inner
        self.power = power


Term = list[Factor]
Variant = list[Term]


class Focals:
    """Finds the focal terms of a function's results and losses, in the contexts that decide their settings."""

    def __init__(self, ev: Evaluator, contexts: Contexts, origins: Origins, slices: Slices) -> None:
        self.ev = ev
        self.contexts = contexts
        self.origins = origins
        self.slices = slices
        self._steps = 0
        self._helpers: set[Function] = set()

    # ---- which functions

    @staticmethod
    def concern(source: str) -> bool:
        """Whether a file can hold a focal term, build one or call a library's, by its text."""
        if any(word in source for word in ("gamma", "alpha", "ocal")):
            return True
        if _POWER.search(source) is None or _SPEAKS.search(source) is None:
            return False
        return _COMPLEMENT.search(source) is not None

    def facts(self, function: Function) -> Iterator[FocalLoss | FocalCall]:
        yield from self._library_calls(function)
        yield from self._by_setting(function)
        if not _may_raise(function):
            return
        if function.cls is not None and METRIC_CLASS.search(function.cls.name):
            return
        yield from self._of_function(function, 0)

    def _of_function(self, function: Function, level: int) -> Iterator[FocalLoss]:
        roots = self._roots(function)
        found = False
        helper = False
        frame = self.ev.open_frame(function)
        for root in roots:
            if not self._raises(root):
                continue
            focal, raised = yield from self._judged(frame, root)
            found = found or focal
            helper = helper or raised
        if helper and not found and level < 2 and function not in self._helpers:
            # Only the modulating factor: what it is multiplied with stands where it is called.
            self._helpers.add(function)
            for caller in {id(c.function): c.function for c, _, _ in self.contexts.callers(function)}.values():
                if caller is not function:
                    yield from self._of_function(caller, level + 1)

    def _by_setting(self, function: Function) -> Iterator[FocalLoss]:
        """A focal loss that is built or called by another name than its own: ``LOSSES[kind](gamma=0)``, ``partial``."""
        source = function.module.source
        speaks = "oss" in source or "ocal" in source or "crit" in source
        for call in function.calls:
            word = str(getattr(call.func, "attr", None) or getattr(call.func, "id", ""))
            if not call.keywords and word != "partial":
                if speaks and call.args and _BUILDS.search(word) is not None:
                    yield from self._of_built(function, call)
                continue
            spread = speaks and any(k.arg is None for k in call.keywords)
            if word != "partial" and not spread and not any(k.arg and _SETTING.search(k.arg) for k in call.keywords):
                continue
            if word not in ("", "partial", "cls") and _LOSSY.search(word) is None:
                continue
            node = lower(function).by_call.get(id(call))
            if node is None:
                continue
            self.ev.begin()
            frame = self.ev.open_frame(function)
            callee = self.ev.value(frame, node.args[0])
            if isinstance(call.func, (ast.Subscript, ast.Call)) and isinstance(callee, T):
                yield from self._of_object(frame, node)  # a registry knows what this is
                continue
            if spread and not any(isinstance(v, (Cls, Func)) for _, v in alternatives(callee)):
                continue
            if word != "partial" and isinstance(callee, (Cls, Func)):
                name = callee.info.name if isinstance(callee, Cls) else callee.function.name
                if name == word:
                    continue  # found from the loss itself
            frames = [f for f in self.contexts.expand(frame) if not f.open] if spread and frame.open else []
            for one in frames[:MAX_CONTEXTS] or [frame]:
                self.ev.refill()
                positional, named = self.ev.arguments(one, node)
                callee = self.ev.value(one, node.args[0])
                if word == "partial" and positional and isinstance(callee, Ref):
                    callee = self.ev.force(positional.pop(0))
                for _, v in alternatives(callee):
                    yield from self._as_called(v, one, node, positional, named)

    def _of_built(self, function: Function, call: ast.Call) -> Iterator[FocalLoss]:
        """``create(SPEC)``: an object whose class a registry knows and whose settings a table holds."""
        node = lower(function).by_call.get(id(call))
        if node is None or any(a.op in ("const", "list", "tuple") for a in node.args[1]):
            return
        self.ev.begin()
        frame = self.ev.open_frame(function)
        if not any(isinstance(v, Map) for a in node.args[1] for _, v in alternatives(self.ev.value(frame, a))):
            return
        yield from self._of_object(frame, node)

    def _of_object(self, frame: Frame, node: Node) -> Iterator[FocalLoss]:
        """The focal terms of the object that a call makes."""
        for _, made in alternatives(self.ev.value(frame, node)):
            forward = self.ev.forward_of(made) if isinstance(made, Inst) else None
            if forward is None or not _may_raise(forward.function):
                continue
            inner = Frame(forward.function, None, made, forward.closure, None, 1)
            for root in self._roots(inner.function):
                if self._raises(root):
                    yield from self._focal(inner, root)[0]

    def _as_called(
        self,
        callee: Value,
        frame: Frame,
        node: Node,
        positional: list[Value | Thunk],
        named: dict[str, Value | Thunk],
    ) -> Iterator[FocalLoss]:
        inner: Frame | None = None
        if isinstance(callee, Func) and _may_raise(callee.function):
            inner = self.ev.enter(callee, positional, named, frame, node)
        elif isinstance(callee, Cls):
            made = self.ev.construct(callee, positional, named, frame, node)
            forward = self.ev.forward_of(made) if isinstance(made, Inst) else None
            if forward is not None and _may_raise(forward.function):
                inner = Frame(forward.function, None, made, forward.closure, None, 1)
        if inner is not None:
            for root in self._roots(inner.function):
                if self._raises(root):
                    yield from self._focal(inner, root)[0]

    def _roots(self, function: Function) -> list[Node]:
        ir = lower(function)
        roots = [n for n, _ in ir.returns]
        roots.extend(self.slices.started(function))
        roots.extend(s.value for s in ir.stores)
        roots.extend(a.value for a in ir.accumulations)
        if function is function.module.body:
            roots.extend(n for name, n in ir.final.items() if "loss" in name.lower())
        kept: list[Node] = []
        for root in roots:
            if all(root is not k for k in kept):
                kept.append(root)
        return kept

    def _raises(self, root: Node) -> bool:
        """Whether a power, or a call that may hold one, is part of a value."""
        stack: list[Node] = [root]
        seen: set[int] = set()
        while stack and len(seen) < 400:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.op == "bin" and node.args[0] == "**":
                return True
            if node.op == "call":
                return True
            stack.extend(children(node))
        return False

    # ---- one value, in one context

    def _judged(self, frame: Frame, root: Node) -> Generator[FocalLoss, None, tuple[bool, bool]]:
        """The facts of a value; returns whether a focal term was found and whether a power of ``1 - p`` was."""
        facts, raised = self._focal(frame, root)
        if not facts:
            return False, raised
        wider = self._wider(frame) if self.contexts.is_open(frame) else []
        if wider:
            facts = [f for other in wider for f in self._focal(other, root)[0]]
        yield from facts
        return True, True

    def _wider(self, frame: Frame) -> list[Frame]:
        found: list[Frame] = []
        waiting, level = [frame], 0
        while waiting and level < 3:
            following: list[Frame] = []
            for one in waiting:
                self.ev.refill()
                outer = self.contexts.outer(one)
                if not outer:
                    found.append(one)
                following.extend(outer)
            waiting, level = following[:MAX_CONTEXTS], level + 1
        return (found + waiting)[:MAX_CONTEXTS] if (found + waiting) != [frame] else []

    def _focal(self, frame: Frame, root: Node) -> tuple[list[FocalLoss], bool]:
        self.ev.begin()
        self._steps = 0
        facts: list[FocalLoss] = []
        raised = False
        for variant in self._expand(frame, root, 0)[:MAX_VARIANTS]:
            powers = [(t, f) for t in variant for f in t if f.power is not None and self._uncertainty(f)]
            raised = raised or bool(powers)
            focal = [(t, f) for t, f in powers if self._has_likelihood(t, f)]
            if focal:
                facts.extend(self._fact(variant, focal))
        return facts, raised

    def _fact(self, variant: Variant, focal: list[tuple[Term, Factor]]) -> Iterator[FocalLoss]:
        scales = self._blind(variant, focal)
        balances = self._balancing(focal)
        many = len({self._exponent_word(f) for _, f in focal}) > 1
        told: set[int] = set()
        for _, factor in focal:
            if id(factor.node) in told or factor.power is None:
                continue
            told.add(id(factor.node))
            base, gamma = factor.power
            fact = FocalLoss(self.ev, factor.frame, factor.node, ())
            fact.alone = not many
            fact.settings = self._settings("gamma", *gamma)
            fact.guarded, source = self._certainty(*base)
            for place in scales:
                for setting in self._settings("alpha", place.frame, place.node):
                    setting.used = (place.frame, place.node)
                    fact.scales.append(setting)
            for place in balances:
                fact.balances.extend(self._settings("alpha", place.frame, place.node))
            if source is not None:
                fact.spoiled = self._spoiled(*source, False, 0)
            scales, balances = [], []
            yield fact

    @staticmethod
    def _exponent_word(factor: Factor) -> object:
        assert factor.power is not None
        node = factor.power[1][1]
        return node.args[0] if node.op == "const" else _word_of(node) or id(node)

    def _settings(self, name: str, frame: Frame, node: Node) -> list[Setting]:
        """What a number is, with every place that it may have been written at; one place where its value is known."""
        value = self.ev.value(frame, node)
        options = [number(v) for _, v in alternatives(value)]
        places = self.origins.of(frame, node, outward=False)
        word = _word_of(node) or name
        if self._changes(frame, node):
            return [Setting(word, None, places[0])]
        if len(options) == 1 and options[0] is not None:
            written = [p for p in places if p.value is None and p.node.op == "const"]
            return [Setting(word, options[0], (written or places)[0])]
        t = as_tensor(value)
        if len(options) == 1 and t.lo is not None and t.lo == t.hi:
            return [Setting(word, t.lo, places[0])]
        option = value.get("option") if isinstance(value, T) else None
        default = self.contexts.number_of(frame.function.module, option) if isinstance(option, str) else None
        if default is not None:
            holder, at = default
            written_there = Place(self.ev.open_frame(holder), Node("const", (at.value,), at, None))
            return [Setting(word, number(Const(at.value)), written_there)]
        configured = self._configured(frame, node) if name == "alpha" else None
        if configured is not None:
            setting = Setting(word, configured[1], configured[2])
            setting.default = True
            return [setting]
        return [Setting(word, None, places[0])]

    def _configured(self, frame: Frame, node: Node) -> tuple[str, float, Place] | None:
        """A number that a configuration may hold, else the one that is written there: its key, the number, the place.

        ``cfg.get("alpha", 0.25)``, ``cfg["alpha"] if "alpha" in cfg else 0.25``, ``getattr(cfg, "alpha", 0.25)``
        """
        if node.op not in ("attr", "param", "name", "free", "call", "phi"):
            return None
        key = ""
        found: float | None = None
        place_of: Place | None = None
        for place in self.origins.of(frame, node, outward=False):
            if place.value is not None:
                return None
            inner = place.node
            if inner.op == "call":
                word, operands = self._word(place.frame, inner)
                if word == "float" and len(operands) == 1 and operands[0] is not node:
                    return self._configured(place.frame, operands[0])
                if word not in ("get", "pop", "getattr") or len(operands) != 3:
                    return None
                name, default = constant(self.ev.value(place.frame, operands[1])), operands[2]
                amount = number(self.ev.value(place.frame, default))
                if not isinstance(name, str) or amount is None:
                    return None
                key, found, place_of = name, amount, Place(place.frame, default)
            elif inner.op == "sub":
                name = constant(self.ev.value(place.frame, inner.args[1]))
                if not isinstance(name, str):
                    return None
                key = key or name
            elif inner.op == "attr":
                key = key or str(inner.args[1])
            elif inner.op == "const" and number(Const(inner.args[0])) is not None and found is None:
                found, place_of = number(Const(inner.args[0])), place
            else:
                return None
        return (key, found, place_of) if key and found is not None and place_of is not None else None

    def _changes(self, frame: Frame, node: Node) -> bool:
        """Whether a setting is an attribute that is set again during training."""
        if node.op != "attr":
            return False
        name = node.args[1]
        modules = {frame.function.module}
        for _, obj in alternatives(self.ev.value(frame, node.args[0])):
            if isinstance(obj, Inst):
                if any(len(c.info.stores().get(name, ())) > 1 for c in self.ev.mro(obj.cls)):
                    return True
                if obj.ctor is not None and obj.ctor.site is not None:
                    modules.add(obj.ctor.site[0].function.module)
        return any(
            attr == name and base != function.first_param
            for module in modules
            for function in module.functions
            for base, attr in function.attribute_stores
        )

    # ---- what the probability is taken from

    def _spoiled(self, frame: Frame, node: Node, latent: bool, depth: int) -> list[tuple[str, Place, bool]]:
        """Why ``exp(-x)`` is not the probability of the right class."""
        frame, node = self._positive(frame, node)
        if depth > 6:
            return []
        if node.op == "phi" and node.args[0] is not None:
            found = []
            for branch in node.args[1:]:
                found.extend(
                    self._spoiled(frame, branch, latent or self._optional_test(frame, node.args[0]), depth + 1)
                )
            return found
        if node.op == "bin" and node.args[0] in ("*", "/"):
            left, right = node.args[1:]
            if node.args[0] == "/":
                return self._spoiled(frame, left, latent, depth + 1)
            for one, other in ((left, right), (right, left)):
                if self._likelihood(frame, one):
                    more = [("weighted", Place(frame, node), latent)] if self._weighs(frame, other) else []
                    return [*more, *self._spoiled(frame, one, latent, depth + 1)]
            return []
        if node.op == "call":
            word, operands = self._word(frame, node)
            if word in _PRODUCT and len(operands) > 1 and self._likelihood(frame, operands[0]):
                more = [("weighted", Place(frame, node), latent)] if self._weighs(frame, operands[1]) else []
                return [*more, *self._spoiled(frame, operands[0], latent, depth + 1)]
            if word in _REDUCTION and operands:
                dims = (
                    node.args[1] if node.args[0].op == "attr" and operands[0] is node.args[0].args[0] else operands[1:]
                )
                if not dims and not any(k in ("dim", "axis") for k, _ in node.args[2]):
                    return [("reduced", Place(frame, node), latent)] if self._likelihood(frame, operands[0]) else []
                return self._spoiled(frame, operands[0], latent, depth + 1) if word == "mean" else []
        return self._settled_loss(frame, node, latent)

    def _settled_loss(self, frame: Frame, node: Node, latent: bool) -> list[tuple[str, Place, bool]]:
        found: list[tuple[str, Place, bool]] = []
        options = [v for _, v in alternatives(self.ev.value(frame, node))]
        place = Place(frame, node)
        for v in options:
            given = v.get("given") if isinstance(v, T) else None
            if not isinstance(v, T) or given is None or v.get("loss") not in _LIKELIHOOD:
                continue
            if _reduces(given) and len(options) == 1:
                found.append(("reduced", place, latent))
            for name in ("weight", "pos_weight"):
                weight = given.get(name)
                if weight is None or (isinstance(weight, Const) and weight.v is None):
                    continue
                t = as_tensor(weight)
                if v.get("loss") in ("bce", "bce_logits") and name == "weight":
                    if t.tags & {"bool", "mask"} or MASK_NAME.search(t.sym):
                        continue
                if t.lo == t.hi == 1.0:
                    continue
                found.append(("weighted", place, latent or len(options) > 1 or _optional(t)))
            smoothing = number(given.get("label_smoothing"))
            if smoothing is not None and smoothing > 0:
                found.append(("smoothed", place, latent))
        return found

    def _weighs(self, frame: Frame, node: Node) -> bool:
        """Whether a factor of a loss is a weight for its class (a mask only takes elements out)."""
        sort = self._sort(Factor(frame, node))
        if sort in ("number", "setting"):
            return True
        if sort != "aware":
            return False
        frame, node, _ = self._peel_outside(frame, node)
        if node.op == "sub" or (
            node.op == "call" and self._word(frame, node)[0] in ("gather", "index_select", "where")
        ):
            return True
        return node.op == "bin" and node.args[0] == "+"  # ``alpha * y + (1 - alpha) * (1 - y)``

    def _peel_outside(self, frame: Frame, node: Node) -> tuple[Frame, Node, bool]:
        while (
            node.op == "call" and node.args[0].op == "attr" and node.args[0].args[1] in ("to", "float", "view", "cuda")
        ):
            node = node.args[0].args[0]
        return frame, node, False

    def _optional_test(self, frame: Frame, test: Node) -> bool:
        return self.ev.decide(frame, test)[0] is None

    # ---- multiplying out

    def _expand(self, frame: Frame, node: Node, depth: int) -> list[Variant]:
        """The alternatives of a value, each a sum of terms, each a product of factors."""
        self._steps += 1
        whole: list[Variant] = [[[Factor(frame, node)]]]
        if self._steps > MAX_STEPS or depth > 40:
            return whole
        op = node.op
        if op == "bin":
            return self._expand_operator(frame, node, whole, depth)
        if op == "un" and node.args[0] == "-":
            return self._expand(frame, node.args[1], depth + 1)
        if op == "phi":
            test, yes, no = node.args
            truth = self.ev.decide(frame, test)[0] if test is not None else None
            options: list[Variant] = []
            if truth is not False:
                options.extend(self._expand(frame, yes, depth + 1))
            if truth is not True:
                options.extend(self._expand(frame, no, depth + 1))
            return options[: MAX_VARIANTS * 2]
        if op == "loop":
            return self._added([self._expand(frame, part, depth + 1) for part in node.args])
        if op in ("list", "append", "tuple"):
            return self._added([self._expand(frame, p, depth + 1) for p in node.args if isinstance(p, Node)] or [whole])
        if op == "comp":
            return self._expand(frame, node.args[1], depth + 1)
        if op == "dict":
            return self._added([self._expand(frame, v, depth + 1) for v in node.args[1]] or [whole])
        if op == "inplace":
            return self._expand(frame, node.args[1], depth + 1)
        if op in ("setitem", "setattr"):
            return self._expand(frame, node.args[0], depth + 1)
        if op == "sub":
            inner = self._expand(frame, node.args[0], depth + 1)
            return inner if self._holds_power(inner) else whole
        if op == "unpack":
            for place in self.origins.of(frame, node, outward=False):
                if place.value is None and place.node is not node:
                    return self._expand(place.frame, place.node, depth + 1)
            return whole
        if op == "param":
            given = frame.base().args.get(node.args[0])
            if hasattr(given, "node"):
                return self._expand(given.frame, given.node, depth + 1)  # type: ignore[union-attr]
            return whole
        if op == "call":
            return self._expand_call(frame, node, whole, depth)
        return whole

    def _expand_operator(self, frame: Frame, node: Node, whole: list[Variant], depth: int) -> list[Variant]:
        word, left, right = node.args
        if word == "*":
            return self._multiplied(self._expand(frame, left, depth + 1), self._expand(frame, right, depth + 1))
        if word == "/":
            return self._expand(frame, left, depth + 1)
        if word in "+-":
            if _one(left) or _one(right) or not self._may_split(frame, node):
                return whole
            return self._added([self._expand(frame, left, depth + 1), self._expand(frame, right, depth + 1)])
        if word == "**":
            return [[[Factor(frame, node, power=((frame, left), (frame, right)))]]]
        return whole

    def _may_split(self, frame: Frame, node: Node) -> bool:
        """Whether a sum is one of terms of the loss, not of numbers."""
        left, right = node.args[1:]
        return not all(n.op == "const" for n in (left, right))

    def _expand_call(self, frame: Frame, node: Node, whole: list[Variant], depth: int) -> list[Variant]:
        word, operands = self._word(frame, node)
        if word in _REDUCTION and operands:
            return _inside(self._expand(frame, operands[0], depth + 1))
        if word in _PRODUCT and len(operands) > 1:
            return self._multiplied(
                self._expand(frame, operands[0], depth + 1), self._expand(frame, operands[1], depth + 1)
            )
        if word in ("div", "div_") and operands:
            return self._expand(frame, operands[0], depth + 1)
        if word in _NEGATION and operands:
            return self._expand(frame, operands[0], depth + 1)
        if word in _SUM and len(operands) > 1:
            if any(_one(o) for o in operands[:2]):
                return whole
            return self._added([self._expand(frame, o, depth + 1) for o in operands[:2]])
        if word in ("pow", "pow_", "float_power") and len(operands) > 1:
            return [[[Factor(frame, node, power=((frame, operands[0]), (frame, operands[1])))]]]
        if word == "square" and operands:
            two = Node("const", (2,), node.at, node.guard)
            return [[[Factor(frame, node, power=((frame, operands[0]), (frame, two)))]]]
        if word == "where" and len(operands) == 3:
            return self._added([self._expand(frame, o, depth + 1) for o in operands[1:]])
        if word in ("stack", "cat", "total") and operands:
            return (
                _inside(self._expand(frame, operands[0], depth + 1))
                if word == "total"
                else self._expand(frame, operands[0], depth + 1)
            )
        if word in LOSS_FUNCTION or self._criterion(frame, node):
            return self._expand_loss(frame, node, whole, depth)
        if word in _KEPT and operands:
            inner = self._expand(frame, operands[0], depth + 1)
            return inner
        if len(frame.chain()) <= MAX_CALLS:
            options: list[Variant] = []
            for target, positional, named in self.contexts.targets(frame, node):
                inner_frame = self.ev.enter(target, positional, named, frame, node)
                if inner_frame is None:
                    continue
                for returned, guard in inner_frame.ir.returns:
                    if self.ev.reachable(inner_frame, guard)[0]:
                        options.extend(self._expand(inner_frame, returned, depth + 1))
            if options:
                return options[: MAX_VARIANTS * 2]
        if operands and word not in _LOGARITHM and not word.startswith("exp"):
            # A helper that cannot be seen (it reduces, it masks) is handed the loss.
            inner = self._expand(frame, operands[0], depth + 1)
            if self._holds_power(inner):
                return _inside(inner)
        return whole

    def _expand_loss(self, frame: Frame, node: Node, whole: list[Variant], depth: int) -> list[Variant]:
        """``nll_loss((1 - p) ** g * log_p, y)``, ``bce(x, y, weight=(1 - p) ** g)``: the loss is itself a factor."""
        _, args, keywords = node.args
        given = dict(keywords)
        inputs = [
            a for a in (args[0] if args else given.get("input"), given.get("weight"), *args[2:3]) if a is not None
        ]
        for i, inner in enumerate(inputs):
            expanded = self._expand(frame, inner, depth + 1)
            if self._holds_power(expanded):
                weight = given.get("weight") if i == 0 else None
                rest: list[Variant] = [[[Factor(frame, node)]]]
                if weight is not None:
                    rest = self._multiplied(rest, [[[Factor(frame, weight)]]])
                return _inside(self._multiplied(expanded, rest))
        return whole

    def _criterion(self, frame: Frame, node: Node) -> bool:
        """Whether a library's criterion object is called."""
        callee = self.ev.value(frame, node.args[0])
        return any(isinstance(v, Lib) and v.name.startswith("torch.nn.") for _, v in alternatives(callee))

    def _word(self, frame: Frame, node: Node) -> tuple[str, list[Node]]:
        return called(self.ev, frame, node)

    def _multiplied(self, left: list[Variant], right: list[Variant]) -> list[Variant]:
        found: list[Variant] = []
        for a, b in product(left, right):
            terms = [[*x, *y][:MAX_FACTORS] for x, y in product(a, b)]
            found.append(terms[:MAX_TERMS])
            if len(found) >= MAX_VARIANTS * 2:
                break
        return found

    @staticmethod
    def _added(parts: list[list[Variant]]) -> list[Variant]:
        found: list[Variant] = [[]]
        for part in parts:
            found = [[*a, *b][:MAX_TERMS] for a, b in product(found, part)][: MAX_VARIANTS * 2]
        return found

    @staticmethod
    def _holds_power(variants: list[Variant]) -> bool:
        return any(f.power is not None for v in variants for t in v for f in t)

    # ---- what is what

    def _peel(self, frame: Frame, node: Node, depth: int = 0) -> tuple[Frame, Node, bool]:
        """An expression without casts, clamps and the calls that bring it; and whether one of them guards its edge."""
        guarded = False
        for _ in range(24):
            if node.op == "param":
                given = frame.base().args.get(node.args[0])
                if not hasattr(given, "node"):
                    break
                frame, node = given.frame, given.node  # type: ignore[union-attr]
                continue
            if node.op == "inplace":
                node = node.args[1]
                continue
            if node.op == "phi":
                truth = self.ev.decide(frame, node.args[0])[0] if node.args[0] is not None else None
                if truth is None:
                    break
                node = node.args[1] if truth else node.args[2]
                continue
            if node.op == "sub":
                node = node.args[0]
                continue
            if node.op == "bin" and node.args[0] in "+-" and (_tiny(node.args[1]) or _tiny(node.args[2])):
                guarded = True
                node = node.args[1] if _tiny(node.args[2]) else node.args[2]
                continue
            if node.op != "call":
                break
            word, operands = self._word(frame, node)
            if word in ("detach", "detach_") and operands:
                guarded = True
            elif word.startswith(("clamp", "maximum")) or word == "abs":
                guarded = guarded or word != "abs"
            elif word not in _KEPT and word != "data":
                entered = self._returned(frame, node)
                if entered is None:
                    break
                frame, node = entered
                continue
            if not operands:
                break
            node = operands[0]
        return frame, node, guarded

    def _returned(self, frame: Frame, node: Node) -> tuple[Frame, Node] | None:
        """The one thing that a helper of the project returns."""
        if len(frame.chain()) > MAX_CALLS:
            return None
        found: list[tuple[Frame, Node]] = []
        for target, positional, named in self.contexts.targets(frame, node):
            inner = self.ev.enter(target, positional, named, frame, node)
            for returned, guard in inner.ir.returns if inner is not None else ():
                if inner is not None and self.ev.reachable(inner, guard)[0]:
                    found.append((inner, returned))
        return found[0] if len(found) == 1 else None

    def _uncertainty(self, factor: Factor) -> bool:
        """Whether what is raised is ``1 - p``, or ``p`` itself for the other class."""
        assert factor.power is not None
        (frame, node), _ = factor.power
        frame, node, _ = self._peel(frame, node)
        if self._complement(frame, node) is not None:
            return True
        t = as_tensor(self.ev.value(frame, node))
        if t.act in ("sigmoid", "softmax", "probability"):
            return True
        # ``|y - p|`` is one minus the probability of the right class.
        if node.op == "bin" and node.args[0] == "-":
            return any(as_tensor(self.ev.value(frame, n)).act in ("sigmoid", "softmax") for n in node.args[1:])
        return False

    def _complement(self, frame: Frame, node: Node) -> tuple[Frame, Node] | None:
        """The ``p`` of ``1 - p``, however that is written."""
        if node.op == "bin":
            word, left, right = node.args
            if word == "-" and self._is_one(frame, left):
                return frame, right
            if word == "+":
                for one, other in ((left, right), (right, left)):
                    if self._is_one(frame, one) and other.op == "un" and other.args[0] == "-":
                        return frame, other.args[1]
        if node.op == "un" and node.args[0] == "-":
            inner = node.args[1]
            if inner.op == "call" and self._word(frame, inner)[0] == "expm1":
                return frame, inner
            if inner.op == "bin" and inner.args[0] == "-" and self._is_one(frame, inner.args[2]):
                return frame, inner.args[1]
        if node.op == "call":
            word, operands = self._word(frame, node)
            if word in ("sub", "rsub") and len(operands) > 1:
                one, other = operands[:2] if word == "sub" else operands[1::-1]
                if self._is_one(frame, one):
                    return frame, other
            if word in ("neg", "neg_") and operands and operands[0].op == "call":
                if self._word(frame, operands[0])[0] == "expm1":
                    return frame, operands[0]
            if word in ("add", "add_") and len(operands) > 1 and self._is_one(frame, operands[1]):
                inner = operands[0]
                if inner.op == "call" and self._word(frame, inner)[0] in _NEGATION:
                    return frame, self._word(frame, inner)[1][0]
                if inner.op == "un" and inner.args[0] == "-":
                    return frame, inner.args[1]
        return None

    def _is_one(self, frame: Frame, node: Node) -> bool:
        if _one(node):
            return True
        if node.op in ("call", "name", "attr", "param"):
            t = as_tensor(self.ev.value(frame, node))
            return t.lo == t.hi == 1.0
        return False

    def _has_likelihood(self, term: Term, power: Factor) -> bool:
        for factor in term:
            if factor is power or factor.power is not None:
                continue
            if self._likelihood(factor.frame, factor.node):
                return True
        # ``1 - exp(-x)`` beside the same ``x``: whatever computes it, it is a likelihood.
        source = self._exponent(*power.power[0]) if power.power is not None else None
        if source is None:
            return False
        return any(self._peel(f.frame, f.node)[1] is source[1] for f in term if f is not power)

    def _likelihood(self, frame: Frame, node: Node) -> bool:
        for _, v in alternatives(self.ev.value(frame, node)):
            if isinstance(v, T):
                kind = v.get("loss")
                if v.act in ("log", "log_softmax", "logsigmoid", "softplus") or kind in _LIKELIHOOD:
                    return True
        frame, node, _ = self._peel(frame, node)
        if node.op == "un" and node.args[0] == "-":
            return self._likelihood(frame, node.args[1])
        if node.op == "call":
            word, operands = self._word(frame, node)
            if word in _LOGARITHM or LOSS_FUNCTION.get(word) in _LIKELIHOOD:
                return True
            if word in _REDUCTION and operands:
                return self._likelihood(frame, operands[0])
        return False

    def _exponent(self, frame: Frame, node: Node) -> tuple[Frame, Node] | None:
        """The ``x`` of ``1 - exp(-x)``: the loss that the probability is taken from."""
        frame, node, _ = self._peel(frame, node)
        rest = self._complement(frame, node)
        if rest is not None:
            frame, node, _ = self._peel(*rest)
        if node.op != "call":
            return None
        word, operands = self._word(frame, node)
        if word not in ("exp", "expm1", "exp_") or not operands:
            return None
        return self._positive(frame, operands[0])

    def _positive(self, frame: Frame, node: Node) -> tuple[Frame, Node]:
        """An expression without its sign."""
        for _ in range(8):
            frame, node, _ = self._peel(frame, node)
            if node.op == "un" and node.args[0] == "-":
                node = node.args[1]
                continue
            if node.op == "bin" and node.args[0] == "*":
                left, right = node.args[1:]
                other = right if _minus_one(left) else left if _minus_one(right) else None
                if other is not None:
                    node = other
                    continue
            if node.op == "call":
                word, operands = self._word(frame, node)
                if word in _NEGATION and operands:
                    node = operands[0]
                    continue
            break
        return frame, node

    def _certainty(self, frame: Frame, node: Node) -> tuple[bool, tuple[Frame, Node] | None]:
        """Whether ``1 - p`` is kept away from zero (or no gradient passes), and the loss that ``p`` is taken from."""
        frame, node, guarded = self._peel(frame, node)
        rest = self._complement(frame, node)
        if node.op == "bin" and rest is not None and node.args[1].op == "const" and node.args[1].args[0] != 1:
            guarded = True  # ``1.000001 - p``
        if rest is not None:
            inner_frame, inner, more = self._peel(*rest)
            guarded = guarded or more or _switched_off(node) or _switched_off(inner)
            t = as_tensor(self.ev.value(inner_frame, inner))
            if t.hi is not None and t.hi < 1.0:
                guarded = True
        if as_tensor(self.ev.value(frame, node)).positive and rest is not None and guarded:
            guarded = True
        return guarded, self._exponent(frame, node)

    # ---- one alpha for all

    def _blind(self, variant: Variant, focal: list[tuple[Term, Factor]]) -> list[Place]:
        """The settings that multiply every term alike; none where a factor may tell the classes apart."""
        terms = [t for t in variant if any(f.power is not None for f in t) or self._speaks(t)]
        common: dict[tuple[object, ...], Place] | None = None
        for term in terms:
            here: dict[tuple[object, ...], Place] = {}
            reduced = any(f.inner for f in term if f.power is not None)
            for factor in term:
                if factor.power is not None:
                    continue
                sort = self._sort(factor)
                if sort == "aware":
                    return []
                if sort != "setting" and sort != "number":
                    continue
                word = _word_of(factor.node)
                if _SCALE.search(word) and not _ALPHA.search(word):
                    configured = self._configured(factor.frame, factor.node)
                    if configured is None or not _ALPHA.search(configured[0]):
                        continue
                    word = configured[0]
                if reduced and not factor.inner and not _ALPHA.search(word):
                    continue  # a weight on the whole
                here[self._identity(factor)] = Place(factor.frame, factor.node)
            common = here if common is None else {k: v for k, v in common.items() if k in here}
            if not common:
                return []
        return list((common or {}).values())

    def _balancing(self, focal: list[tuple[Term, Factor]]) -> list[Place]:
        """The ``alpha`` of ``alpha * y + (1 - alpha) * (1 - y)``, or of a ``where``: each class has its term."""
        found: dict[tuple[object, ...], Place] = {}
        for term, power in focal:
            for factor in term:
                if factor.power is not None:
                    continue
                frame, node, _ = self._peel(factor.frame, factor.node)
                rest = self._complement(frame, node)
                if rest is None or rest[1].op not in ("attr", "param", "name", "free"):
                    continue
                key = self._identity(Factor(*self._peel(*rest)[:2]))
                if key in found or number(self.ev.value(*rest)) is None:
                    continue
                for other, raised in focal:
                    if other is term or raised.frame is not power.frame:
                        continue
                    if raised is not power and not self._of_two_classes((term, power), (other, raised)):
                        continue  # two losses that are mixed
                    apart = [self._peel(f.frame, f.node)[:2] for f in other if f.power is None]
                    if any(self._identity(Factor(*f)) == key for f in apart):
                        found[key] = Place(*rest)
        return list(found.values())

    def _of_two_classes(self, one: tuple[Term, Factor], other: tuple[Term, Factor]) -> bool:
        """Whether two terms are one for each class: labels choose them, or what is raised is ``1 - p`` and ``p``."""
        if all(any(f.node.op != "const" and self._sort(f) == "mask" for f in term) for term, _ in (one, other)):
            return True
        bases = [self._peel(*power.power[0])[:2] for _, power in (one, other) if power.power is not None]
        for base, rest in (bases, bases[::-1]):
            complement = self._complement(*base)
            if complement is not None and self._peel(*complement)[1] is rest[1]:
                return True
        return False

    def _identity(self, factor: Factor) -> tuple[object, ...]:
        node = factor.node
        if node.op == "attr":
            return ("attr", node.args[1])
        if node.op in ("param", "name", "free"):
            return ("name", node.args[0])
        if node.op == "const" and isinstance(node.args[0], (int, float)):
            return ("const", abs(node.args[0]))
        return ("node", id(node))

    def _speaks(self, term: Term) -> bool:
        return any(self._likelihood(f.frame, f.node) for f in term)

    def _sort(self, factor: Factor) -> str:
        """What a factor is: a ``likelihood``, ``number``, ``setting``, ``mask``, or ``aware`` of the classes."""
        frame, node = factor.frame, factor.node
        if node.op == "const":
            v = node.args[0]
            usable = isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < abs(v) < 1
            return "number" if usable else "mask"
        if self._likelihood(frame, node):
            weight = self._class_weight(frame, node)
            return "aware" if weight else "likelihood"
        value = self.ev.value(frame, node)
        options = [v for _, v in alternatives(value)]
        numbers = [number(v) for v in options]
        if options and all(n is not None for n in numbers):
            if len(options) > 1 and node.op in ("sub", "call", "phi"):
                return "aware"
            return "mask" if all(n in (1.0, -1.0) for n in numbers) else "setting"
        if any(isinstance(v, (Seq, Inst)) for v in options):
            return "aware"
        t = as_tensor(value)
        if t.lo is not None and t.lo == t.hi == 1.0:
            return "mask"
        if t.lo is not None and t.lo == t.hi and self._wrapped_number(frame, node):
            return "setting"
        if "bool" in t.tags or "mask" in t.tags or "target" in t.tags:
            return "mask"
        word = _word_of(node)
        complement = node.op == "bin" and node.args[0] == "-" and _one(node.args[1])
        if complement:
            word = _word_of(node.args[2])
            inner = self._sort(Factor(frame, node.args[2]))
            return "aware" if inner in ("setting", "number") else inner
        if node.op == "call" and self._word(frame, node)[0] in ("one_hot", "eq", "ne", "float", "long", "sign"):
            return "mask"
        if node.op == "cmp" or MASK_NAME.search(word):
            return "mask"
        if self._annotated_number(frame, node):
            return "setting"
        configured = self._configured(frame, node)
        if configured is not None:
            return "setting" if 0 < configured[1] < 1 else "mask"
        option = value.get("option") if isinstance(value, T) else None
        if isinstance(option, str) and self.contexts.number_of(frame.function.module, option) is not None:
            return "setting"
        if node.op == "param" and _LABEL.search(word):
            return "mask"
        if "data" in t.tags and _LABEL.search(word):
            return "mask"
        return "aware"

    def _wrapped_number(self, frame: Frame, node: Node) -> bool:
        """``torch.tensor(0.25)``: a tensor, but one number."""
        for place in self.origins.of(frame, node, outward=False):
            if place.value is not None or place.node.op != "call" or not place.node.args[1]:
                return False
            if number(self.ev.value(place.frame, place.node.args[1][0])) is None:
                return False
            if self._word(place.frame, place.node)[0] not in ("tensor", "as_tensor", "scalar_tensor", "FloatTensor"):
                return False
        return True

    def _annotated_number(self, frame: Frame, node: Node) -> bool:
        """A parameter that says it is a number, and has to be given."""
        for place in self.origins.of(frame, node, outward=False):
            if place.value is not None or place.node.op != "param":
                return False
            param = next((p for p in place.frame.base().ir.params if p.name == place.node.args[0]), None)
            annotation = param.annotation if param is not None else None
            if param is None or param.default is not None or getattr(annotation, "id", "") != "float":
                return False
        return True

    def _class_weight(self, frame: Frame, node: Node) -> bool:
        """Whether the likelihood already weighs its classes."""
        for _, v in alternatives(self.ev.value(frame, node)):
            given = (v.get("given") if isinstance(v, T) else None) or {}
            for name in ("weight", "pos_weight"):
                weight = given.get(name)
                if weight is not None and not (isinstance(weight, Const) and weight.v is None):
                    if not (isinstance(weight, T) and _optional(weight)):
                        return True
        return False

    # ---- libraries

    def _library_calls(self, function: Function) -> Iterator[FocalCall]:
        for call in function.calls:
            word = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
            if word not in _LIBRARY_WORDS:
                continue
            node = lower(function).by_call.get(id(call))
            if node is None:
                continue
            self.ev.begin()
            frame = self.ev.open_frame(function)
            name, args = "", list(node.args[1])
            for _, v in alternatives(self.ev.value(frame, node.args[0])):
                if isinstance(v, Ref):
                    name = v.name
            if name == "functools.partial" and args:
                first = self.ev.value(frame, args.pop(0))
                name = first.name if isinstance(first, Ref) else ""
            if name == "torch.hub.load":
                texts = [constant(self.ev.value(frame, a)) for a in (*args, *(v for _, v in node.args[2]))]
                if not any(isinstance(t, str) and "focal" in t.lower() for t in texts):
                    continue
                entry = _HUB
            elif name in LIBRARY:
                entry = LIBRARY[name]
            else:
                continue
            given = {k: v for k, v in node.args[2] if k is not None}
            settings: list[Setting] = []
            for setting, place in (("alpha", entry[0]), ("gamma", entry[1])):
                at = given.get(setting) or (args[place] if place < len(args) else None)
                for origin in self.origins.of(frame, at) if at is not None else ():
                    value = number(known(origin, self.ev))
                    if value is not None:
                        settings.append(Setting(setting, value, origin))
            word = "FocalLoss" if name == "torch.hub.load" else name.rpartition(".")[2]
            two_sided = "sigmoid" in name or "inary" in name or name.startswith("segmentation")
            yield FocalCall(self.ev, frame, node, word, entry[4], two_sided, settings)


def _reduces(given: dict[str, Value]) -> bool:
    """Whether a loss comes down to one number, as far as its settings tell."""
    flag = constant(given.get("reduce"))
    if "reduce" in given and flag is not True:
        return False
    if "reduction" not in given:
        return "**" not in given
    return constant(given["reduction"]) in ("mean", "sum", "elementwise_mean", "batchmean")


def _optional(weight: T) -> bool:
    """A parameter that is ``None`` unless somebody gives it."""
    if weight.get("param") is None:
        return False
    function, name = weight.get("param")
    param = next((p for p in lower(function).params if p.name == name), None)
    return param is not None and param.default is not None


def _may_raise(function: Function) -> bool:
    node = function.node
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", None)
    module = function.module
    if last is None or node.__class__.__name__ == "Module":
        return not module.functions[1:] or any(
            getattr(c.func, "attr", getattr(c.func, "id", "")) in ("pow", "backward") for c in function.calls
        )
    module.line_text(first)
    assert module.lines is not None
    words = node.body[0] if isinstance(node.body, list) else None
    if isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant) and words.end_lineno is not None:
        first = words.end_lineno + 1  # what is only said of it does not count
    text = "\n".join(module.lines[first - 1 : last])
    if "pow" not in text and "square(" not in text and ("**" not in text or "**" not in _SPREAD.sub("", text)):
        return False
    if _COMPLEMENT.search(text) is None:
        return False
    if last - first > SHORT and _LIKELY.search(text) is None:
        return False  # a helper that only modulates is short
    if function.cls is not None and any(dotted(b).endswith("Optimizer") for b in function.cls.node.bases):
        return False
    return _raises_a_rest(node)


def _raises_a_rest(function: ast.AST) -> bool:
    """Whether something that may be ``1 - p`` is raised to a power, by the look of it.

    An exponent that is not written there may be gamma. ``x ** 2`` is everywhere: then ``x`` has to look like a rest.
    """
    parts = list(ast.walk(function))
    assigned: dict[str, list[ast.AST]] | None = None
    for part in parts:
        base: ast.AST
        exponent: ast.AST | None = None
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
            base, exponent = part.left, part.right
        elif isinstance(part, ast.Call):
            word = getattr(part.func, "attr", None) or getattr(part.func, "id", "")
            if word not in _POWERS:
                continue
            if isinstance(part.func, ast.Attribute) and dotted(part.func.value) not in ("torch", "np", "math"):
                operands: list[ast.AST] = [part.func.value, *part.args]
            else:
                operands = list(part.args)
            given = {k.arg: k.value for k in part.keywords}
            base = operands[0] if operands else given.get("input", part)
            exponent = operands[1] if len(operands) > 1 else given.get("exponent")
            if exponent is None and word == "square":
                exponent = ast.Constant(2)
        else:
            continue
        if isinstance(base, ast.Constant):
            continue
        if not isinstance(exponent, ast.Constant):
            return True
        if assigned is None:
            assigned = {}
            for other in parts:
                if isinstance(other, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr)) and other.value:
                    for target in other.targets if isinstance(other, ast.Assign) else [other.target]:
                        names = target.elts if isinstance(target, ast.Tuple) else [target]
                        whole = other.value
                        each = whole.elts if isinstance(whole, ast.Tuple) and len(whole.elts) == len(names) else None
                        for i, name in enumerate(names):
                            assigned.setdefault(dotted(name), []).append(each[i] if each is not None else whole)
        if _looks_like_a_rest(base, assigned):
            return True
    return False


def _looks_like_a_rest(base: ast.AST, assigned: dict[str, list[ast.AST]]) -> bool:
    stack, seen = [(base, 0)], set[str]()
    while stack:
        part, depth = stack.pop()
        if isinstance(part, ast.BinOp) and isinstance(part.op, (ast.Sub, ast.Add)):
            if _about_one(part.left) or (isinstance(part.op, ast.Add) and _about_one(part.right)):
                return True
        elif isinstance(part, ast.UnaryOp) and isinstance(part.operand, ast.BinOp) and _about_one(part.operand.right):
            return True  # ``-(p - 1)``
        elif isinstance(part, (ast.Name, ast.Attribute)):
            name = part.id if isinstance(part, ast.Name) else part.attr
            if _REST.search(name) is not None or (depth < 2 and name in ("abs", "sub")):
                return True
            text = dotted(part)
            if text and text not in seen and depth < MAX_ASSIGNED:
                seen.add(text)
                stack.extend((value, depth + 1) for value in assigned.get(text, ()))
        if isinstance(part, ast.Subscript):
            stack.append((part.value, depth))
        else:
            stack.extend((child, depth) for child in ast.iter_child_nodes(part))
    return False


def _about_one(e: ast.AST) -> bool:
    value = e.value if isinstance(e, ast.Constant) else None
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1.0 <= value <= 1.001


def _inside(variants: list[Variant]) -> list[Variant]:
    for variant in variants:
        for term in variant:
            for factor in term:
                factor.inner = True
    return variants


def _one(node: Node) -> bool:
    """One, or one and a little that guards."""
    if node.op != "const" or isinstance(node.args[0], bool) or not isinstance(node.args[0], (int, float)):
        return False
    return 1.0 <= node.args[0] <= 1.001


def _tiny(node: Node) -> bool:
    if node.op == "const":
        v = node.args[0]
        return isinstance(v, float) and 0 < abs(v) <= 1e-2
    return _word_of(node).lower().startswith(("eps", "smooth"))


def _minus_one(node: Node) -> bool:
    if node.op == "un" and node.args[0] == "-":
        return _one(node.args[1])
    return node.op == "const" and node.args[0] == -1


def _word_of(node: Node) -> str:
    """What an expression is called where it is used."""
    if node.op == "attr":
        return str(node.args[1])
    if node.op in ("param", "name", "free"):
        return str(node.args[0])
    if node.op == "call" and node.args[0].op == "attr":
        return _word_of(node.args[0].args[0])
    return ""


def _switched_off(node: Node) -> bool:
    guard = node.guard
    while guard is not None:
        test = guard.test
        if guard.polarity is None and test is not None and test.op == "call":
            name = test.args[0].args[-1] if test.args[0].op in ("attr", "name") else ""
            if name in ("no_grad", "inference_mode"):
                return True
        guard = guard.parent
    return False


__all__ = ["Focals"]
