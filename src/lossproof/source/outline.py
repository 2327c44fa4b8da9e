"""The parts of a file that can change apart: its outermost functions and methods, and all that is outside of them.

An outline has a hash for each part, so that an edit shows which parts it touched, and it turns a line into a place
within its part and back, so that a finding can follow when lines above it come or go.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter

from lossproof.source import ledger
from lossproof.source.ledger import Ledger
from lossproof.source.syntax import Function, ParsedModule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Anchor = tuple[str, int, int]


class Outline:
    """``parts``: name to first line, last line, hash. ``lines``: the code lines outside of them, in order."""

    def __init__(
        self, outside: str, lines: list[int], parts: dict[str, tuple[int, int, str]], attributes: dict[str, str]
    ) -> None:
        self.outside = outside
        self.lines = lines
        self.parts = parts
        self.attributes = attributes
        self._order = sorted((first, last, name) for name, (first, last, _) in parts.items())
        self._firsts = [first for first, _, _ in self._order]

    def record(self) -> list[Any]:
        return [self.outside, self.lines, self.parts, self.attributes]

    @classmethod
    def of_record(cls, record: list[Any]) -> Outline:
        outside, lines, parts, attributes = record
        return cls(outside, lines, {name: tuple(part) for name, part in parts.items()}, attributes)

    def changed(self, path: str, other: Outline) -> set[str]:
        """The keys of the parts that are not the same in another outline of the same file."""
        found = {ledger.text(path)}
        if self.outside != other.outside:
            found.add(ledger.outside(path))
        for name in {*self.parts, *other.parts}:
            mine, theirs = self.parts.get(name), other.parts.get(name)
            if mine is None or theirs is None or mine[2] != theirs[2]:
                found.add(ledger.part(path, name))
        for name in {*self.attributes, *other.attributes}:
            if self.attributes.get(name) != other.attributes.get(name):
                found.add(ledger.attributes(path, name))
        return found

    def every_key(self, path: str) -> set[str]:
        nothing = Outline("", [], {}, {})
        return self.changed(path, nothing)

    def anchor(self, first: int, last: int) -> Anchor | None:
        """Lines as a place within a part; None where they belong to no single one."""
        index = bisect_right(self._firsts, first) - 1
        if index >= 0:
            start, end, name = self._order[index]
            if first <= end:
                return (name, first - start, last - start) if last <= end else None
        one, other = self._rank(first), self._rank(last)
        return ("", one, other) if one is not None and other is not None else None

    def _rank(self, line: int) -> int | None:
        index = bisect_left(self.lines, line)
        return index if index < len(self.lines) and self.lines[index] == line else None

    def place(self, anchor: Anchor) -> tuple[int, int] | None:
        """Where a place within a part is in this file."""
        name, first, last = anchor
        if name:
            part = self.parts.get(name)
            return (part[0] + first, part[0] + last) if part is not None else None
        if last >= len(self.lines):
            return None
        return self.lines[first], self.lines[last]


def enter(module: ParsedModule, book: Ledger) -> None:
    """Give every function of a freshly parsed file the bit of the part that it belongs to."""
    outside = book.bit(ledger.outside(module.path))
    module.body.rests = outside
    whole = module.path.endswith(".ipynb")
    names: Counter[str] = Counter()
    for function in module.functions[1:]:
        parent = function.parent
        if whole or parent is None:
            function.rests = outside
        elif parent is module.body:
            function.rests = book.bit(ledger.part(module.path, _name(function, names))) | outside
        else:
            function.rests = parent.rests
    for info in module.classes:
        around = info.owner.rests if info.owner is not None else outside
        info.rests = around if whole else around | book.bit(ledger.attributes(module.path, info.qualname))


def outline(module: ParsedModule) -> Outline:
    """The outline of a parsed file. A notebook is one part: what matters there may stand in any cell."""
    if module.path.endswith(".ipynb"):
        return Outline(_hash(module.source), [], {}, {})
    module.line_text(1)
    text = module.lines or []
    names: Counter[str] = Counter()
    parts: dict[str, tuple[int, int, str]] = {}
    covered: list[tuple[int, int]] = []
    rest: list[str] = []
    for function in module.functions[1:]:
        if function.parent is not module.body:
            continue
        node = function.node
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        last = node.end_lineno
        parts[_name(function, names)] = (first, last, _hash("\n".join(text[first - 1 : last])))
        covered.append((first, last))
        # Decorators, parameters and defaults are read by whoever only looks at the class or the module.
        rest.extend(text[first - 1 : max(node.lineno, node.body[0].lineno - 1)])
    lines: list[int] = []
    position = 1
    for first, last in [*sorted(covered), (len(text) + 1, len(text) + 1)]:
        for number in range(position, first):
            line = text[number - 1].strip()
            if line and line[0] != "#":
                lines.append(number)
                rest.append(text[number - 1])
        position = max(position, last + 1)
    attributes: dict[str, str] = {}
    for info in module.classes:
        said = repr(info.stores())
        attributes[info.qualname] = _hash(attributes.get(info.qualname, "") + said)
    return Outline(_hash("\n".join(rest)), lines, parts, attributes)


def _name(function: Function, names: Counter[str]) -> str:
    """A name that tells apart what is defined twice (a property and its setter, two branches)."""
    names[function.qualname] += 1
    count = names[function.qualname]
    return function.qualname if count == 1 else f"{function.qualname}#{count}"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
