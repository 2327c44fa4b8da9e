"""A stretch of source with its line numbers and an underline, in columns that line up on a real terminal.

Wide characters take two cells, combining ones none, a tab up to the next stop; a line that was never meant for eyes is
cut to the part that matters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from lossproof.finding import Location
    from lossproof.source.texts import Text

Segment = tuple[str, str]  # text, style
Line = list[Segment]

_TAB = 4
_WIDEST = 140
_MOST_LINES = 4


def excerpt(text: Text, where: Location, style: str, *, bar: str = "|", context: int = 1) -> Iterator[Line]:
    """The lines of a location, the ones before it, and carets under it with its message."""
    first, last = where.line, max(where.end_line, where.line)
    shown = min(last, first + _MOST_LINES - 1)
    before = [number for number in range(max(first - context, 1), first) if text.line(number, where.cell).strip()]
    gutter = len(str(shown))
    for number in before:
        line, _ = expand(text.line(number, where.cell), [])
        yield [(f"{number:>{gutter}} {bar} ", "dim"), (_cut(line, 0, 0)[0], "dim")]
    for number in range(first, shown + 1):
        raw = text.line(number, where.cell)
        begin = where.column - 1 if number == first else len(raw) - len(raw.lstrip())
        end = where.end_column - 1 if number == last else len(raw.rstrip())
        line, (left, right) = expand(raw, [begin, max(end, begin)])
        line, left, right = _cut(line, left, right)
        yield [(f"{number:>{gutter}} {bar} ", "dim"), (line, "")]
        if number == first:
            carets: Line = [(f"{'':>{gutter}} {bar} ", "dim"), (" " * left + "^" * max(right - left, 1), style)]
            if where.message:
                carets.append((f" {where.message}", style))
            yield carets
    if shown < last:
        yield [(f"{'':>{gutter}} {bar} ", "dim"), (f"... {last - shown} more lines", "dim")]


def expand(line: str, columns: list[int]) -> tuple[str, list[int]]:
    """The line as it is shown, and where the given character positions come to stand, in cells."""
    out: list[str] = []
    cells: list[int] = []
    at = 0
    for char in line:
        cells.append(at)
        if char == "\t":
            step = _TAB - at % _TAB
            out.append(" " * step)
        elif unicodedata.category(char) in ("Cc", "Cf", "Cs"):
            step = 1
            out.append("\ufffd")
        else:
            step = width(char)
            out.append(char)
        at += step
    cells.append(at)
    return "".join(out), [cells[min(max(column, 0), len(cells) - 1)] for column in columns]


def width(char: str) -> int:
    """How many cells of a terminal a character takes."""
    if char.isascii():
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _cut(line: str, left: int, right: int) -> tuple[str, int, int]:
    """The part of an overlong line around the cells from ``left`` to ``right``."""
    total = sum(map(width, line))
    if total <= _WIDEST:
        return line, left, right
    start = max(min(left - 20, total - _WIDEST + 6), 0)
    start = 0 if start < 4 else start
    kept: list[str] = []
    at = 0
    for char in line:
        if start <= at < start + _WIDEST - 6:
            kept.append(char)
        at += width(char)
    head = "..." if start else ""
    tail = "..." if start + _WIDEST - 6 < total else ""
    shift = len(head) - start
    limit = len(head) + sum(map(width, kept))
    return head + "".join(kept) + tail, left + shift, max(min(right + shift, limit), left + shift)
