"""The lines of the files that findings lie in: read again only when something has to be shown or compared."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

from lossproof.source.discover import SourceFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lossproof.source.memory import Memory
    from lossproof.source.notebook import LineMap

# Compiled when first used: a clean file is never split.
_CODING = rb"(?m)^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)"
_NEWLINE = r"\r\n|\r|\n"


class Text:
    """One file as text; for a notebook, the joined code and the way back to its cells."""

    __slots__ = ("lines", "map", "text")

    def __init__(self, text: str, map: LineMap | None = None) -> None:
        self.map = map
        self.lines = re.split(_NEWLINE, text)
        self.text = "\n".join(self.lines)

    def line(self, number: int, cell: int | None = None) -> str:
        """A line by its number from 1; empty when there is none."""
        if cell is not None and self.map is not None:
            try:
                if self.map.locate(self.map.line_of(cell, number)) != (cell, number):
                    return ""
                number = self.map.line_of(cell, number)
            except ValueError:
                return ""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


class Texts:
    """Texts by the path that findings show."""

    def __init__(self, files: Iterable[SourceFile] = (), memory: Memory | None = None) -> None:
        self._files = {file.display: file for file in files}
        self._texts: dict[str, Text] = {}
        self._memory = memory

    def __getitem__(self, path: str) -> Text:
        text = self._texts.get(path)
        if text is None:
            file = self._files.get(path)
            if self._memory is not None and file is not None:
                text = self._memory.derived(file.path, "text", lambda: self._load(path))
            else:
                text = self._load(path)
            self._texts[path] = text
        return text

    def release(self) -> None:
        """The memory belongs to the next check now; what is at hand stays."""
        self._memory = None

    def _load(self, path: str) -> Text:
        try:
            data = (self._files.get(path) or SourceFile(path, path)).read()
            if path.endswith(".ipynb"):
                from lossproof.source.notebook import to_python

                return Text(*to_python(data))
        except (OSError, ValueError):
            return Text("")
        return Text(decode(data))


def decode(data: bytes) -> str:
    """Text by the rules of Python: a byte-order mark, a coding comment in the first two lines, else UTF-8."""
    return data.removeprefix(codecs.BOM_UTF8).decode(encoding(data), "replace")


def encoding(data: bytes) -> str:
    """The name of the codec that a file is written in."""
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8"
    declared = re.search(_CODING, b"\n".join(data[:400].splitlines()[:2]))
    if declared is None:
        return "utf-8"
    name = declared[1].decode("ascii", "replace")
    try:
        b" ".decode(name, "replace")
    except LookupError:  # no codec, or none of text
        return "utf-8"
    return name
