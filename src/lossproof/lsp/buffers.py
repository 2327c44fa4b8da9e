"""What a check sees of the open files: their text, or the last one that was Python.

In the middle of a line a file is not Python, and nothing can be said about it. A check then goes on with the text
before, so that neither its own findings nor those in the files that use it come and go with every bracket.
"""

from __future__ import annotations

from collections.abc import Iterable

from lossproof.lsp.documents import Opened, file_bytes, notebook_bytes
from lossproof.source.notebook import neutralise
from lossproof.source.syntax import parse


class Buffers:
    """Remembers of each open file what it last said."""

    def __init__(self) -> None:
        # Text to its bytes: the same object as long as the text is the same, so that nobody has to compare.
        self._good: dict[str, tuple[object, bytes]] = {}
        self._good_cells: dict[str, str] = {}

    def overlay(self, opened: Iterable[Opened]) -> tuple[dict[str, bytes], set[str]]:
        """The bytes to check by path, and the addresses of what is not Python at the moment."""
        overlay: dict[str, bytes] = {}
        stale: set[str] = set()
        seen: set[str] = set()
        for file in opened:
            seen.add(file.path)
            data = self._notebook(file, stale, seen) if file.cells is not None else self._text(file, stale)
            overlay[file.path] = data
        for kept in (self._good, self._good_cells):
            for name in kept.keys() - seen:
                del kept[name]
        return overlay, stale

    def _text(self, file: Opened, stale: set[str]) -> bytes:
        good = self._good.get(file.path)
        if good is not None and good[0] == file.text:
            return good[1]
        if good is not None and not _is_python(file.text):
            stale.add(file.uri)
            return good[1]
        data = file_bytes(file.text)
        if good is None and not _is_python(file.text):
            return data
        self._good[file.path] = (file.text, data)
        return data

    def _notebook(self, file: Opened, stale: set[str], seen: set[str]) -> bytes:
        cells: list[tuple[bool, str]] = []
        for cell in file.cells or ():
            seen.add(cell.uri)
            text = cell.text
            good = self._good_cells.get(cell.uri)
            if cell.code and text != good:
                if _is_python("\n".join(neutralise(text)) + "\n"):
                    self._good_cells[cell.uri] = text
                elif good is not None:
                    stale.add(cell.uri)
                    text = good
            cells.append((cell.code, text))
        known = self._good.get(file.path)
        if known is not None and known[0] == cells:
            return known[1]
        data = notebook_bytes(cells)
        self._good[file.path] = (cells, data)
        return data


def _is_python(text: str) -> bool:
    try:
        parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
