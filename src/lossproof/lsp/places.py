"""Where findings are, in the editor's terms: addresses of files and cells, and ranges."""

from __future__ import annotations

import re

from lsprotocol.types import Location as Place
from lsprotocol.types import Position, Range

from lossproof.finding import Location
from lossproof.lsp.documents import Cell, Opened, uri_of
from lossproof.lsp.positions import Encoding, units
from lossproof.lsp.project import Checked


class Places:
    """Speaks of one check's places to one editor."""

    def __init__(self, checked: Checked, opened: dict[str, Opened], encoding: Encoding) -> None:
        self.checked = checked
        self.opened = opened
        self.encoding = encoding

    def uri(self, where: Location) -> str:
        """The file, or the cell if its notebook is open."""
        path = self.checked.path(where.path)
        file = self.opened.get(path)
        if file is None:
            return uri_of(path)
        cell = self.cell(where)
        return cell.uri if cell is not None else file.uri

    def cell(self, where: Location) -> Cell | None:
        file = self.opened.get(self.checked.path(where.path))
        if file is None or file.cells is None or where.cell is None or not 0 < where.cell <= len(file.cells):
            return None
        return file.cells[where.cell - 1]

    def range(self, where: Location) -> Range:
        if where.cell is not None and self.cell(where) is None:
            return Range(Position(0, 0), Position(0, 0))  # a place in a cell is none in the notebook's file
        start = self._position(where, where.line, where.column)
        end = self._position(where, where.end_line, where.end_column)
        return Range(start, end if (end.line, end.character) >= (start.line, start.character) else start)

    def place(self, where: Location) -> Place:
        return Place(self.uri(where), self.range(where))

    def comment(self, shown: str, line: int, cell: int | None, pattern: re.Pattern[str]) -> Location:
        """The comment in a line that looks like this."""
        text = self.checked.report.texts[shown].line(line, cell)
        found = pattern.search(text)
        start, end = found.span() if found is not None else (0, len(text))
        return Location(shown, line, start + 1, line, len(text[:end].rstrip()) + 1, cell=cell)

    def _position(self, where: Location, line: int, column: int) -> Position:
        text = self.checked.report.texts[where.path].line(line, where.cell)
        return Position(line - 1, units(text[: column - 1], self.encoding))


def holds(outer: Range, position: Position) -> bool:
    first, last = outer.start, outer.end
    here = (position.line, position.character)
    return (first.line, first.character) <= here <= (last.line, last.character)


def overlaps(one: Range, other: Range) -> bool:
    return holds(one, other.start) or holds(other, one.start)
