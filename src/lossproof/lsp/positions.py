"""From characters, as findings count them, to the units that an editor counts in, and back.

An editor counts lines and columns from 0, the columns in code units of the encoding agreed on (mostly UTF-16). Lines
end where Python and the protocol say, which is not everywhere that ``str.splitlines`` thinks.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from lsprotocol.types import Position, PositionEncodingKind

_NEWLINE = re.compile(r"\r\n|\r|\n")

Encoding = PositionEncodingKind | str | None


class Lines:
    """A text by its lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in _NEWLINE.finditer(text))]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> str:
        """A line by its number from 0, without its end."""
        if not 0 <= number < len(self.starts):
            return ""
        end = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.text)
        return self.text[self.starts[number] : end].rstrip("\r\n")

    def offset(self, position: Position, encoding: Encoding) -> int:
        """The place in the text; what lies beyond a line or the text is its end."""
        if position.line >= len(self.starts):
            return len(self.text)
        return self.starts[position.line] + characters(self[position.line], position.character, encoding)

    def position(self, offset: int, encoding: Encoding) -> Position:
        line = bisect_right(self.starts, offset) - 1
        return Position(line, units(self[line][: offset - self.starts[line]], encoding))


def units(text: str, encoding: Encoding) -> int:
    """How many code units a stretch of a line has."""
    if text.isascii() or encoding == PositionEncodingKind.Utf32:
        return len(text)
    if encoding == PositionEncodingKind.Utf8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def characters(line: str, count: int, encoding: Encoding) -> int:
    """How many characters of a line so many code units are."""
    if line.isascii() or encoding == PositionEncodingKind.Utf32:
        return min(count, len(line))
    seen = 0
    for index, character in enumerate(line):
        if seen >= count:
            return index
        seen += units(character, encoding)
    return len(line)
