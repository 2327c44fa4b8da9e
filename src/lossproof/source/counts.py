"""How a weight depends on how often each class occurs: does it grow with the count, or fall?

An expression is taken apart into powers of four things: the counts of the classes (a vector), the number of positives,
of negatives, and of all. ``pos / neg`` is ``{"pos": 1, "neg": -1}``, ``total / (k * counts)`` is ``{"total": 1,
"class": -1}``. What else a weight may be stays unknown. Structure says what is counted; only where a number comes from
outside does its name have to do, and then that is remembered.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from lossproof.source.evaluate import Evaluator, children
from lossproof.source.frames import Frame
from lossproof.source.lower import Node
from lossproof.source.origins import Origins, called
from lossproof.source.patterns import Pattern
from lossproof.source.values import constant, number

MAX_DEPTH = 24

_NOT = Pattern(r"weight|loss|ratio|scale|idx|index|inv|pos_?enc|position|posit?ion|pose|post|log", re.I)
_POSITIVE = Pattern(
    r"^_?(?:n|num|no|nb|cnt|count|counts|total|sum|number_of|len)?_?(?:pos|positives?|n1|p)(?:itives?)?"
    r"_?(?:count|counts|cnt|num|n|samples|total|sum|pixels|examples|labels)?$",
    re.I,
)
_NEGATIVE = Pattern(
    r"^_?(?:n|num|no|nb|cnt|count|counts|total|sum|number_of|len)?_?(?:neg|negatives?|n0)(?:atives?)?"
    r"_?(?:count|counts|cnt|num|n|samples|total|sum|pixels|examples|labels)?$",
    re.I,
)
_COUNTS = Pattern(
    r"^(?:\w*_)?(?:counts?|cnts?|freqs?|frequency|frequencies|histogram|priors?|proportions?|distribution)$"
    r"|(?:num|n|samples?|images|instances)_per_(?:cls|class|label|category)|(?:cls|class)_(?:num|sizes?|prior|dist)(?:_list|s)?"
    r"|^label_dist",
    re.I,
)
_TOTAL = Pattern(r"^_?(?:n|total|num_?(?:samples|examples|total|all)|n_?(?:samples|total|all)|total_\w+)$", re.I)
_LABELS = Pattern(r"label|target|^ys?$|^y_|^gts?$|mask|truth|annot|class", re.I)
_CASTS = {
    "tensor", "as_tensor", "FloatTensor", "Tensor", "from_numpy", "array", "asarray", "float", "to", "cuda", "cpu",
    "numpy", "astype", "double", "clone", "detach", "list", "tuple", "values", "tolist", "item", "int", "view",
    "reshape", "squeeze", "unsqueeze", "clamp", "clamp_min", "clip", "maximum", "Series", "Parameter", "stack",
    "sort_index", "to_numpy", "float32", "round", "half", "type", "contiguous", "expand", "to_list", "fmax",
    "nan_to_num", "type_as", "DoubleTensor", "fillna", "repeat", "copy", "items", "to_dict", "dict",
    "requires_grad_", "flatten", "ravel", "float64", "max_keep", "identity",
}  # fmt: skip
_COUNTING = {"bincount", "histc", "histogram", "value_counts", "Counter", "unique_counts"}
_SIZES = {"numel", "size", "nelement", "__len__"}


class Share:
    """Powers of the counts in a weight; ``soft``: damped by a root or a logarithm; ``named``: a name was believed."""

    __slots__ = ("at", "named", "powers", "soft", "vector")

    def __init__(
        self, powers: dict[str, float], soft: bool = False, named: bool = False, vector: bool = False, at: Any = None
    ) -> None:
        self.powers = {k: v for k, v in powers.items() if v}
        self.soft = soft
        self.named = named
        self.vector = vector
        # The place where one count was put in relation to another: (frame, node).
        self.at = at

    @property
    def pure(self) -> bool:
        """A number that no count is part of."""
        return not self.powers

    def times(self, other: Share, sign: int = 1) -> Share:
        powers = dict(self.powers)
        for k, v in other.powers.items():
            powers[k] = powers.get(k, 0) + sign * v
        return Share(
            powers,
            self.soft or other.soft,
            self.named or other.named,
            self.vector or other.vector,
            self.at or other.at,
        )

    def but(self, powers: dict[str, float], soft: bool = False) -> Share:
        return Share(powers, self.soft or soft, self.named, self.vector, self.at)

    def flipped(self) -> Share:
        return self.but({k: -v for k, v in self.powers.items()})

    def towards(self, sort: str) -> float:
        """Above zero where the weight grows with the frequency of what it weighs."""
        get = self.powers.get
        if sort in ("pos_weight", "elements"):
            return get("pos", 0) - get("neg", 0) + get("class", 0)
        return get("class", 0) + (get("pos", 0) if self.vector else 0)


class Counts:
    def __init__(self, ev: Evaluator, origins: Origins) -> None:
        self.ev = ev
        self.origins = origins
        self._steps = 0

    def shares(self, frame: Frame, node: Node, word: str) -> list[Share]:
        """What a weight is, for each of the places that it may come from."""
        self.ev.begin()
        found: list[Share] = []
        for place in self.origins.of(frame, node):
            if place.value is not None:
                continue
            self._steps = 0
            share = self._share(place.frame, place.node, word if place.node is node else _word(place.node) or word, 0)
            if share is not None and not share.pure:
                if share.at is None:
                    share.at = (place.frame, place.node)
                found.append(share)
        return found

    def _share(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        self._steps += 1
        if depth > MAX_DEPTH or self._steps > 300:
            return None
        handler = getattr(self, "_" + node.op, None)
        found: Share | None = handler(frame, node, word, depth + 1) if handler is not None else None
        if found is not None:
            if found.pure and node.op in ("list", "tuple") and _COUNTS.search(word) and not _NOT.search(word):
                return Share({"class": 1}, named=True, vector=True)
            return found
        if node.op in ("param", "attr", "name", "free", "phi", "loop", "unpack", "call", "sub"):
            followed = self._followed(frame, node, word, depth + 1)
            if followed is not None:
                return followed
        return self._by_name(_word(node) or word) if node.op not in ("call", "bin") else None

    def _followed(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        found: list[Share] = []
        for place in self.origins.of(frame, node):
            if place.value is not None or place.node is node:
                continue
            if place.node.op == "const" and place.node.args[0] is None:
                continue
            share = self._share(place.frame, place.node, _word(node) or word, depth)
            if share is None:
                return None
            found.append(share)
        if not found or any(s.powers != found[0].powers for s in found):
            return None
        return found[0]

    def _by_name(self, word: str) -> Share | None:
        if not word or _NOT.search(word):
            return None
        if _POSITIVE.search(word) and len(word) > 1:
            return Share({"pos": 1}, named=True)
        if _NEGATIVE.search(word):
            return Share({"neg": 1}, named=True)
        if _COUNTS.search(word):
            return Share({"class": 1}, named=True, vector=True)
        if _TOTAL.search(word):
            return Share({"total": 1}, named=True)
        return None

    # ---- by form

    def _const(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        return Share({}) if isinstance(node.args[0], (int, float)) else None

    def _bin(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        op, left, right = node.args
        first, second = _sides(node.at)
        a = self._share(frame, left, first, depth)
        if op == "**":
            return self._raised(frame, a, left, right, second, depth)
        b = self._share(frame, right, second, depth)
        if a is None or b is None:
            # A number of which nothing is known changes nothing (``n_classes * counts``).
            other = a or b
            unknown = right if b is None else left
            if other is None or op not in ("*", "/") or not self._is_setting(frame, unknown):
                return None
            a, b = a or Share({}), b or Share({})
        if op == "*":
            return a.times(b)
        if op in ("/", "//"):
            made = a.times(b, -1)
            if made.at is None and (a.powers or b.powers):
                made.at = (frame, node)
            return made
        if op == "+":
            return self._sum(a, b)
        return self._difference(a, b) if op == "-" else None

    def _is_setting(self, frame: Frame, node: Node) -> bool:
        value = self.ev.value(frame, node)
        if number(value) is not None:
            return True
        word = _word(node)
        if node.op == "call" and not _LABELS.search(word):
            return called(self.ev, frame, node)[0] == "len"
        return bool(re.search(r"class|num|^k$|^c$|^n$|beta|scale|factor|alpha|lambda", word, re.I))

    @staticmethod
    def _sum(a: Share, b: Share) -> Share | None:
        if a.pure or b.pure:
            return b if a.pure else a
        if {*a.powers.items(), *b.powers.items()} == {("pos", 1), ("neg", 1)}:
            return Share({"total": 1}, named=a.named or b.named)
        return a if a.powers == b.powers else None

    @staticmethod
    def _difference(a: Share, b: Share) -> Share | None:
        if b.pure:
            return a
        opposite = {"pos": "neg", "neg": "pos"}
        only = [k for k in b.powers if k in opposite]
        whole = a.pure or set(a.powers) == {"total"}
        if whole and "class" in b.powers:
            return b.but({"class": -b.powers["class"]})
        if whole and len(only) == 1 and b.powers[only[0]] == 1 and not b.vector:
            return b.but({**{k: v for k, v in b.powers.items() if k != only[0]}, opposite[only[0]]: 1})
        if whole and len(only) == 1 and b.vector:
            return b.but({"neg" if only[0] == "pos" else "pos": 1, **({"total": -1} if a.pure else {})})
        return None

    def _raised(self, frame: Frame, a: Share | None, left: Node, right: Node, word: str, depth: int) -> Share | None:
        exponent = number(self.ev.value(frame, right))
        if a is not None and not a.pure:
            if exponent is None:
                minus = right.op == "un" and right.args[0] == "-"
                return a.flipped() if minus else (a.but(a.powers, True) if self._is_setting(frame, right) else None)
            return a.but({k: v * exponent for k, v in a.powers.items()}, abs(exponent) < 1)
        b = self._share(frame, right, word, depth)
        if b is None or b.pure:
            return Share({}) if a is not None and a.pure and b is not None else None
        base = number(self.ev.value(frame, left))
        if (base is not None and 0 < base < 1) or (base is None and "beta" in _word(left).lower()):
            return b.flipped()  # ``beta ** n``
        return b if base is not None and base > 1 else None

    def _un(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        op, inner = node.args
        share = self._share(frame, inner, word, depth)
        return share.flipped() if op == "-" and share is not None else None

    def _sub(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        obj, index = node.args
        if obj.op == "attr" and obj.args[1] == "shape":
            return Share({"total": 1})
        if index.op in ("slice", "tuple", "cmp"):
            return None
        at = getattr(node.at, "value", None)
        key = constant(self.ev.value(frame, index))
        if isinstance(key, str):
            return self._followed(frame, node, key, depth) or self._by_name(key)
        share = self._share(frame, obj, _name(at), depth)
        if share is None or share.pure:
            return None
        if "class" in share.powers and isinstance(key, int) and not isinstance(key, bool):
            sort = {0: "neg", 1: "pos"}.get(key, "class")
            power = share.powers["class"]
            return Share(
                {**{k: v for k, v in share.powers.items() if k != "class"}, sort: power}, share.soft, share.named
            )
        return share

    def _iter(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        share = self._share(frame, node.args[0], _name(getattr(node.at, "iter", None)), depth)
        return share if share is not None and share.vector else None

    def _unpack(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        source, index, count, _ = node.args
        if source.op == "call":
            name, operands = called(self.ev, frame, source)
            if name == "unique" and index == count - 1:
                return Share({"class": 1}, vector=True)
        if source.op == "iter":
            inner = source.args[0]
            if inner.op == "call" and called(self.ev, frame, inner)[0] in ("items", "enumerate") and index == 1:
                operands = called(self.ev, frame, inner)[1]
                share = self._share(frame, operands[0], _word(operands[0]), depth)
                return share if share is not None and share.vector else None
        return None

    def _comp(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        return self._each(frame, node.args[1], depth)

    def _each(self, frame: Frame, item: Node, depth: int) -> Share | None:
        """What is made of every class, or of every column, in turn."""
        share = self._share(frame, item, "", depth)
        if share is None:
            return None
        if share.powers == {"total": 1} and item.op == "call" and called(self.ev, frame, item)[0] == "len":
            if not _repeats(item):
                return None
            share = share.but({"class": 1})  # the length of each
            share.named = True
        if not set(share.powers) & {"class", "pos", "neg"}:
            return None
        share.vector = True
        return share

    def _list(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        items = [
            self._share(frame, item, _name(e), depth) for item, e in zip(node.args, _elements(node.at), strict=False)
        ]
        if len(items) != len(node.args) or not items or any(i is None for i in items):
            return None
        if len(items) == 1:
            return items[0]
        known = [i for i in items if i is not None]
        if all(i.pure for i in known):
            return Share({})
        if len(known) == 2:
            first, second = known[0].powers, known[1].powers
            signs = {
                first.get("neg", 0) - first.get("pos", 0) + first.get("class", 0),
                second.get("pos", 0) - second.get("neg", 0) + second.get("class", 0),
            }
        else:
            signs = {i.powers.get("pos", 0) + i.powers.get("neg", 0) + i.powers.get("class", 0) for i in known}
        sign = max(signs) if min(signs) >= 0 else min(signs) if max(signs) <= 0 else 0
        if not sign:
            return None
        if all(i.powers in ({"neg": 1}, {"pos": 1}, {"class": 1}) for i in known):
            sign = 1
        soft, named = any(i.soft for i in known), any(i.named for i in known)
        at = next((i.at for i in known if i.at is not None), None)
        return Share({"class": sign}, soft, named, True, at)

    _tuple = _list

    def _dict(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        items = [self._share(frame, v, "", depth) for v in node.args[1]]
        if not items or any(i is None or "class" not in i.powers for i in items):
            return None
        return items[0]

    def _attr(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        if node.args[1] in ("values", "data", "T"):
            return self._share(frame, node.args[0], word, depth)
        return None

    def _inplace(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        return self._share(frame, node.args[1], word, depth)

    def _loop(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        """What a loop counts up, from zeros."""
        for part in node.args[1:]:
            if part.op == "setitem":
                share = self._setitem(frame, part, word, depth)
                if share is not None and share.powers == {"class": 1}:
                    return share
            elif part.op == "append":
                share = self._each(frame, part.args[1], depth)
                if share is not None:
                    return share
        return None

    def _setitem(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        """``weights[weights == 0] = 1``: the rest is what it was."""
        stored = node.args[2]
        if (
            stored.op == "bin"
            and stored.args[0] == "+"
            and stored.args[2].op == "const"
            and stored.args[2].args[0] == 1
        ):
            if stored.args[1].op == "sub" and node.args[1].op != "const":
                return Share({"class": 1}, vector=True)  # ``counts[y] += 1``
        value = self._share(frame, stored, "", depth)
        return self._share(frame, node.args[0], word, depth) if value is not None and value.pure else None

    def _call(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        name, operands = called(self.ev, frame, node)
        if name == "" or (not operands and name not in _COUNTING):
            return None
        words = _operand_words(node, operands)
        if name in _COUNTING:
            normalized = any(
                k in ("normalize", "density") and constant(self.ev.value(frame, v)) is True for k, v in node.args[2]
            )
            return Share({"class": 1, **({"total": -1} if normalized else {})}, vector=True)
        if name in ("compute_class_weight", "compute_sample_weight"):
            return Share({"class": -1}, vector=True)
        if name in ("count_nonzero",):
            return self._counted(frame, operands[0], words[0], depth) or Share({"pos": 1})
        if name == "count" and len(operands) > 1:
            return self._of_class(frame, operands[1])
        if name == "len":
            return self._length(frame, operands[0], words[0], depth)
        if name in ("size", "count") and _grouped(operands[0]):
            return Share({"class": 1}, vector=True)
        if name in _SIZES:
            return Share({"total": 1})
        if name in ("sum", "total", "nansum", "mean"):
            return self._reduced(frame, node, name, operands, words, depth)
        if name in ("max", "min", "amax", "amin", "median"):
            if len(operands) == 2:
                shares = [self._share(frame, o, w, depth) for o, w in zip(operands, words, strict=True)]
                kept = [s for s in shares if s is not None and not s.pure]
                return kept[0] if len(kept) == 1 else None
            share = self._share(frame, operands[0], words[0], depth)
            return Share({}) if share is not None else None
        if name == "get":
            made = Node("sub", (operands[0], operands[1]), node.at, node.guard) if len(operands) > 1 else None
            return self._sub(frame, made, word, depth) if made is not None else None
        first = self._share(frame, operands[0], words[0], depth) if operands else None
        if (
            name in ("div", "div_", "true_divide", "mul", "mul_", "multiply", "add", "sub", "pow", "power")
            and len(operands) > 1
        ):
            if name in ("pow", "power"):
                return self._raised(frame, first, operands[0], operands[1], words[1], depth)
            second = self._share(frame, operands[1], words[1], depth)
            if first is None or second is None:
                return None
            if name.startswith(("div", "true")):
                made_share = first.times(second, -1)
                made_share.at = made_share.at or (frame, node)
                return made_share
            if name.startswith("mul"):
                return first.times(second)
            return self._sum(first, second) if name == "add" else self._difference(first, second)
        if first is None:
            return None
        if name in ("reciprocal", "reciprocal_"):
            return first.flipped()
        if name in ("neg", "neg_", "negative"):
            return first.flipped()
        if name == "sqrt":
            return first.but({k: v * 0.5 for k, v in first.powers.items()}, True)
        if name == "rsqrt":
            return first.but({k: v * -0.5 for k, v in first.powers.items()}, True)
        if name in ("log", "log1p", "log2", "log10"):
            return first.but({k: v * 0.5 for k, v in first.powers.items()}, True)
        if name in ("exp", "softmax", "normalize"):
            return first.but(first.powers, name != "normalize")
        return first if name in _CASTS else None

    # ---- a weight for each element

    def elements(self, frame: Frame, node: Node) -> list[Share]:
        """How positives weigh against negatives: ``where(y == 1, a, b)``, ``a * y + b * (1 - y)``, ``w[y == 1] = a``"""
        self.ev.begin()
        found: list[Share] = []
        for place in self.origins.of(frame, node):
            if place.value is not None:
                continue
            self._steps = 0
            sides = self._two_sides(place.frame, place.node)
            if sides is None:
                continue
            one, other = (self._share(place.frame, side, "", 0) for side in sides)
            if one is None or other is None or (one.pure and other.pure):
                continue
            share = one.times(other, -1)
            share.at = (place.frame, place.node)
            found.append(share)
        return found

    def _two_sides(self, frame: Frame, node: Node) -> tuple[Node, Node] | None:
        if node.op == "call":
            word, operands = called(self.ev, frame, node)
            if word in _CASTS and operands:
                return self._two_sides(frame, operands[0])
            if word != "where" or len(operands) != 3:
                return None
            test = self._counted(frame, operands[0], "", 0)
            if test is None or test.powers not in ({"pos": 1}, {"neg": 1}):
                return None
            return (operands[1], operands[2]) if "pos" in test.powers else (operands[2], operands[1])
        if node.op == "setitem":
            return self._written_into(frame, node)
        if node.op != "bin" or node.args[0] != "+":
            return None
        parts = [self._class_term(frame, n) for n in node.args[1:]]
        known = {sort: weight for part in parts if part is not None for sort, weight in [part]}
        return (known["pos"], known["neg"]) if len(known) == 2 else None

    def _written_into(self, frame: Frame, node: Node) -> tuple[Node, Node] | None:
        """``w[y == 1] = a`` and ``w[y == 0] = b``, or one of them into a tensor that was filled with the other."""
        sides: dict[str, Node] = {}
        while node.op == "setitem":
            counted = self._counted(frame, node.args[1], "", 0)
            if counted is not None and counted.powers in ({"pos": 1}, {"neg": 1}):
                sides.setdefault("pos" if "pos" in counted.powers else "neg", node.args[2])
            node = node.args[0]
        fill = _fill(node)
        if len(sides) == 1 and fill is not None:
            sides.setdefault("pos", fill)
            sides.setdefault("neg", fill)
        return (sides["pos"], sides["neg"]) if len(sides) == 2 else None

    def _class_term(self, frame: Frame, node: Node) -> tuple[str, Node] | None:
        """The class that ``a * y`` or ``b * (1 - y)`` is the weight of, and the weight."""
        if node.op != "bin" or node.args[0] != "*":
            return None
        names = _sides(node.at)
        for one, other, word in ((node.args[2], node.args[1], names[1]), (node.args[1], node.args[2], names[0])):
            counted = self._counted(frame, one, "", 0)
            if counted is not None and counted.powers in ({"pos": 1}, {"neg": 1}):
                return ("pos" if "pos" in counted.powers else "neg"), other
            if one.op in ("param", "name", "attr", "call") and _LABELS.search(word):
                return "pos", other
        return None

    # ---- what is counted

    def _counted(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        """What a sum over comparisons counts."""
        for place in self.origins.of(frame, node) if node.op != "cmp" else ():
            if place.value is None and place.node is not node and place.node.op in ("cmp", "un", "bin", "call"):
                return self._counted(place.frame, place.node, word, depth) if depth < MAX_DEPTH else None
        if node.op == "cmp":
            ops, _, rights = node.args
            if len(ops) != 1:
                return None
            if ops[0] in ("==", "!="):
                share = self._of_class(frame, rights[0])
                if share is not None and ops[0] == "!=":
                    flip = {"pos": "neg", "neg": "pos"}
                    return Share({flip[k]: v for k, v in share.powers.items() if k in flip})
                return share
            bound = number(self.ev.value(frame, rights[0]))
            if bound is not None and 0 <= bound <= 1:
                return Share({"pos": 1}) if ops[0] in (">", ">=") else Share({"neg": 1})
        if node.op == "un" and node.args[0] == "~":
            return Share({"neg": 1}) if _LABELS.search(_name(getattr(node.at, "operand", None))) else None
        if node.op == "bin" and node.args[0] == "-" and node.args[1].op == "const" and node.args[1].args[0] == 1:
            return Share({"neg": 1}) if _LABELS.search(_sides(node.at)[1]) else None
        if node.op == "call":
            name, operands = called(self.ev, frame, node)
            if name == "eq" and len(operands) > 1:
                return self._of_class(frame, operands[1])
            if name in _CASTS and operands:
                return self._counted(frame, operands[0], word, depth + 1) if depth < MAX_DEPTH else None
            if name == "logical_not":
                return Share({"neg": 1})
        return None

    def _of_class(self, frame: Frame, node: Node) -> Share | None:
        value = constant(self.ev.value(frame, node))
        if value is None:
            return Share({"class": 1}, vector=False) if node.op in ("iter", "param", "unpack") else None
        if value is True or value == 1:
            return Share({"pos": 1})
        return Share({"neg": 1}) if value is False or value == 0 else None

    def _length(self, frame: Frame, node: Node, word: str, depth: int) -> Share | None:
        """``len(labels[labels == 1])``, ``len(positives)``"""
        if node.op == "sub":
            counted = self._counted(frame, node.args[1], "", depth)
            if counted is not None:
                return counted
        for place in self.origins.of(frame, node):
            if place.value is None and place.node.op == "sub" and place.node is not node:
                counted = self._counted(place.frame, place.node.args[1], "", depth)
                if counted is not None:
                    return counted
        named = self._by_name(word)
        if named is not None and set(named.powers) & {"pos", "neg"}:
            return named
        share = self._share(frame, node, word, depth) if node.op != "call" else None
        if share is not None and share.vector:
            return Share({})  # the number of classes
        return Share({"total": 1})

    def _reduced(
        self, frame: Frame, node: Node, name: str, operands: list[Node], words: list[str], depth: int
    ) -> Share | None:
        if not operands:
            return None
        inner = operands[0]
        counted = self._counted(frame, inner, words[0], depth)
        if counted is not None:
            return counted.times(Share({"total": 1}), -1) if name == "mean" else counted
        share = self._share(frame, inner, words[0], depth)
        if share is not None and not share.pure:
            if share.powers.get("class") == 1:
                return (
                    Share({"total": 1 + share.powers.get("total", 0)}, named=share.named)
                    if name != "mean"
                    else Share({})
                )
            return Share({})
        if share is None and name != "mean" and inner.op == "sub" and _repeats(inner.args[1]):
            return Share({"pos": 1}, named=True)  # ``df[column].sum()``, a column in turn
        labels = _LABELS.search(words[0]) is not None
        one_hot = inner.op == "call" and called(self.ev, frame, inner)[0] == "one_hot"
        if share is None and (labels or one_hot):
            axis = any(k in ("dim", "axis") for k, _ in node.args[2]) or len(operands) > 1
            divisor = {"total": -1} if name == "mean" else {}
            return Share({"class" if one_hot else "pos": 1, **divisor}, vector=axis)
        return None


def _fill(node: Node) -> Node | None:
    """What a new tensor was filled with: ``ones_like(y)``, ``ones_like(y) * b``, ``full_like(y, b)``."""
    if node.op == "bin" and node.args[0] == "*":
        for one, other in (node.args[1:], node.args[:0:-1]):
            inner = _fill(one)
            if inner is not None and inner.op == "const" and inner.args[0] == 1.0:
                return other  # type: ignore[no-any-return]
        return None
    word = node.args[0].args[-1] if node.op == "call" and node.args[0].op in ("attr", "name") else ""
    if word in ("ones_like", "ones", "new_ones"):
        return Node("const", (1.0,), node.at, node.guard)
    if word in ("full_like", "full") and len(node.args[1]) > 1:
        return node.args[1][1]  # type: ignore[no-any-return]
    return None


def _grouped(node: Node) -> bool:
    """``table.groupby("label")``, perhaps with a column taken."""
    while node.op in ("sub", "attr"):
        node = node.args[0]
    return node.op == "call" and node.args[0].op == "attr" and node.args[0].args[1] == "groupby"


def _repeats(node: Node) -> bool:
    """Whether an expression changes from one turn of a loop to the next."""
    stack, seen = [node], 0
    while stack and seen < 60:
        one = stack.pop()
        seen += 1
        if one.op == "iter":
            return True
        stack.extend(children(one))
    return False


def _sides(at: Any) -> tuple[str, str]:
    if isinstance(at, ast.BinOp):
        return _name(at.left), _name(at.right)
    if isinstance(at, ast.AugAssign):
        return _name(at.target), _name(at.value)
    return "", ""


def _elements(at: Any) -> list[Any]:
    elements = list(getattr(at, "elts", ()))
    return elements or [None] * 64


def _operand_words(node: Node, operands: list[Node]) -> list[str]:
    at = node.at
    words: list[str] = []
    if isinstance(at, ast.Call):
        given = [_name(a) for a in at.args]
        if len(operands) > len(node.args[1]) and isinstance(at.func, ast.Attribute):
            given.insert(0, _name(at.func.value))
        words = given
    return (words + [""] * len(operands))[: max(len(operands), 1)]


def _name(e: Any) -> str:
    """What an expression is called as it is written."""
    if isinstance(e, ast.Name):
        return e.id
    if isinstance(e, ast.Attribute):
        return e.attr if e.attr not in ("values", "shape", "data") else _name(e.value)
    if isinstance(e, ast.Subscript):
        if isinstance(e.slice, ast.Constant) and isinstance(e.slice.value, str):
            return e.slice.value
        return _name(e.value)
    if isinstance(e, ast.Call) and isinstance(e.func, ast.Attribute):
        return _name(e.func.value)
    return ""


def _word(node: Node) -> str:
    if node.op == "attr":
        return str(node.args[1])
    if node.op in ("param", "name", "free"):
        return str(node.args[0])
    if node.op == "sub":
        return _name(node.at)
    if node.op == "unpack":
        return _name(node.at)
    return ""


__all__ = ["Counts", "Share"]
