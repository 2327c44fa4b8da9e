"""Where classes are weighed: what a loss or a sampler weighs a class with, and how that grows with its count."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lossproof.source.counts import Counts
from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import ClassWeight
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower
from lossproof.source.origins import Origins, called
from lossproof.source.patterns import Pattern
from lossproof.source.slices import LOSS_FUNCTION_NAME, is_loss_class
from lossproof.source.syntax import Function
from lossproof.source.torch_names import loss_kind
from lossproof.source.values import Cls, Func, Lib, Ref, alternatives

_TAKERS = {
    "CrossEntropyLoss", "NLLLoss", "cross_entropy", "nll_loss", "BCEWithLogitsLoss", "binary_cross_entropy_with_logits",
    "MultiMarginLoss", "multi_margin_loss", "MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss", "NLLLoss2d",
    "WeightedRandomSampler", "BCELoss", "binary_cross_entropy",
}  # fmt: skip
_OF_CLASSES = {"ce", "nll", "multi_margin", "multilabel_soft_margin"}
_OWN = ("class_weights", "class_weight", "cls_weights", "weights", "weight", "alpha", "pos_weight")
SAMPLER = "WeightedRandomSampler"


class ClassWeights:
    def __init__(self, ev: Evaluator, origins: Origins) -> None:
        self.ev = ev
        self.origins = origins
        self.counts = Counts(ev, origins)

    @staticmethod
    def concern(source: str) -> bool:
        """Whether a file can weigh classes, by its text."""
        return any(word in source for word in _HINTS)

    def facts(self, function: Function) -> Iterator[ClassWeight]:
        for call in function.calls:
            word = str(getattr(call.func, "attr", None) or getattr(call.func, "id", ""))
            keywords = {k.arg for k in call.keywords}
            lossy = word in ("", "partial", "cls") or _LOSSY.search(word) is not None
            if not (word in _TAKERS or (lossy and (keywords & _GIVEN or None in keywords))):
                continue
            if not call.args and not call.keywords:
                continue
            node = lower(function).by_call.get(id(call))
            if node is None:
                continue
            self.ev.begin()
            frame = self.ev.open_frame(function)
            for kind, at in self._weights(frame, node, word):
                yield from self._fact(frame, node, kind, at)
        if any(attr in ("weight", "pos_weight") for _, attr in function.attribute_stores):
            yield from self._stored(function)
        yield from self._multiplied(function)

    def _fact(self, frame: Frame, node: Node, kind: str, at: Node) -> Iterator[ClassWeight]:
        shares = self.counts.elements(frame, at) if kind == "elements" else self.counts.shares(frame, at, _written(at))
        for share in shares:
            yield ClassWeight(self.ev, frame, node, kind, share, at)

    def _stored(self, function: Function) -> Iterator[ClassWeight]:
        """``criterion.pos_weight = …`` after it was built."""
        frame = self.ev.open_frame(function)
        for store in lower(function).stores:
            if store.attr not in ("weight", "pos_weight") or store.value.op in ("param", "const"):
                continue
            self.ev.begin()
            owner = [v for _, v in alternatives(self.ev.value(frame, store.obj))]
            kinds = {loss_kind(v.name) for v in owner if isinstance(v, Lib)}
            if store.attr == "pos_weight" and "bce_logits" in kinds:
                yield from self._fact(frame, store.value, "pos_weight", store.value)
            elif store.attr == "weight" and kinds & _OF_CLASSES:
                yield from self._fact(frame, store.value, "weight", store.value)

    def _multiplied(self, function: Function) -> Iterator[ClassWeight]:
        """``frequencies[target] * cross_entropy(…)``: a weight that is multiplied in by hand."""
        if not any(
            (getattr(c.func, "attr", None) or getattr(c.func, "id", "")) in _LIKELIHOODS for c in function.calls
        ):
            return
        frame = self.ev.open_frame(function)
        for op in lower(function).ops:
            if op.args[0] != "*" or not any(n.op == "sub" for n in op.args[1:]):
                continue
            for one, other in ((op.args[1], op.args[2]), (op.args[2], op.args[1])):
                if one.op != "sub" or one.args[1].op in ("const", "slice", "tuple"):
                    continue
                self.ev.begin()
                value = [v for _, v in alternatives(self.ev.value(frame, other))]
                if not any(getattr(v, "act", "") in ("loss", "log_softmax", "log", "logsigmoid") for v in value):
                    continue
                for share in self.counts.shares(frame, one, _written(one)):
                    if not share.named:
                        yield ClassWeight(self.ev, frame, op, "weight", share, one)

    # ---- which argument

    def _weights(self, frame: Frame, node: Node, word: str) -> Iterator[tuple[str, Node]]:
        func, args, keywords = node.args
        given = {k: v for k, v in keywords if k is not None}
        for name, value in keywords:
            if name is None:
                given = {**self._spread(frame, value), **given}
        callee = [v for _, v in alternatives(self.ev.value(frame, func))]
        args = list(args)
        if word == "partial" and args:
            callee = [v for _, v in alternatives(self.ev.value(frame, args.pop(0)))]
        for v in callee:
            if isinstance(v, (Ref, Lib)):
                yield from self._of_library(v.name, args, given)
                return
            if isinstance(v, Cls) and is_loss_class(v.info.name):
                if not any(_takes(m) for m in v.info.methods.values()):
                    yield from self._own(given)
                return
            if isinstance(v, Func) and LOSS_FUNCTION_NAME.search(v.function.name):
                if not _takes(v.function):
                    yield from self._own(given)
                return

    def _of_library(self, name: str, args: list[Node], given: dict[str, Node]) -> Iterator[tuple[str, Node]]:
        if name.endswith("." + SAMPLER):
            at = given.get("weights") or (args[0] if args else None)
            if at is not None:
                yield "sampler", at
            return
        kind = loss_kind(name)
        if kind == "bce_logits" and "pos_weight" in given:
            yield "pos_weight", given["pos_weight"]
        if kind in ("bce", "bce_logits") and "weight" in given:
            yield "elements", given["weight"]
        if kind in _OF_CLASSES:
            layer = name.rpartition(".")[2][:1].isupper()
            place = (0 if layer else 2) if kind in ("ce", "nll") else 99
            at = given.get("weight") or (args[place] if place < len(args) else None)
            if at is not None:
                yield "weight", at

    @staticmethod
    def _own(given: dict[str, Node]) -> Iterator[tuple[str, Node]]:
        for name in _OWN:
            if name in given:
                yield ("pos_weight" if name == "pos_weight" else "weight"), given[name]

    def _spread(self, frame: Frame, node: Node) -> dict[str, Node]:
        """The entries of ``**settings``, where that is a dictionary of this function."""
        found: dict[str, Node] = {}
        for place in self.origins.of(frame, node, outward=False):
            if place.value is None and place.frame is frame and place.node.op == "dict":
                for key, value in zip(*place.node.args, strict=True):
                    if key is not None and key.op == "const" and isinstance(key.args[0], str):
                        found[key.args[0]] = value
            elif place.value is None and place.frame is frame and place.node.op == "call":
                if called(self.ev, frame, place.node)[0] == "dict":
                    found.update({k: v for k, v in place.node.args[2] if k is not None})
        return found


_LOSSY = Pattern(r"loss|entropy|crit|focal|bce|(?-i:CE)|nll", re.I)
_GIVEN = frozenset(_OWN)
_HINTS = (*_TAKERS, "weight=", "weights=", "alpha=", "bincount", "value_counts", "Counter(", "histc", "return_counts")
_LIKELIHOODS = {
    "cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy", "log_softmax",
    "logsigmoid",
}  # fmt: skip


def _takes(function: Function) -> bool:
    """Whether a function hands a weight on to a library's loss, where it is found."""
    for call in function.calls:
        word = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
        if word in _TAKERS and (any(k.arg in ("weight", "pos_weight") for k in call.keywords) or call.args):
            return True
    return False


def _written(node: Node) -> str:
    if node.op == "attr":
        return str(node.args[1])
    if node.op in ("param", "name", "free"):
        return str(node.args[0])
    return ""


__all__ = ["ClassWeights"]
