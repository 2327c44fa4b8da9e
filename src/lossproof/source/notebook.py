"""A Jupyter notebook as one Python text, with the way back to cells and lines.

The code cells are laid end to end. What IPython understands and Python does not (``%magic``, ``!shell``, ``help?``) is
replaced so that no line moves: a finding in line 40 of the text is a finding in line 3 of cell 5.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from bisect import bisect_right
from typing import Any

_KEEPS_BODY = frozenset(("capture", "memit", "prun", "time", "timeit", "wandb"))
_MAGIC = re.compile(r"[ \t]*(?:[%!?]|[,;/](?=[A-Za-z_]))")
_HELP = re.compile(r"[ \t]*[A-Za-z_][\w.]*\?{1,2}[ \t]*$")
_ASSIGNED = re.compile(r"([ \t]*[\w.,\[\] \t]+=[ \t]*)[%!](?!=)")
_TIMED = re.compile(r"([ \t]*)%time[ \t]+(?=[^\s-])")
_TOKEN = re.compile(
    r"""(?P<long>(?P<quotes>\"{3}|'{3}))|(?P<short>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"""|(?P<comment>\#.*)|(?P<open>[(\[{])|(?P<close>[)\]}])"""
)


class LineMap:
    """From a line of the joined text to a cell (counted from 1 over all cells) and the line in it, and back."""

    __slots__ = ("_cells", "_starts", "broken")

    def __init__(self, starts: list[int], cells: list[int], broken: tuple[int, ...] = ()) -> None:
        self._starts = starts
        self._cells = cells
        self.broken = broken
        """Cells that are no Python even without their magics; they were left out."""

    def locate(self, line: int) -> tuple[int, int]:
        """The cell and the line in that cell. Lines past the end belong to the last cell."""
        at = max(bisect_right(self._starts, line) - 1, 0)
        if not self._starts:
            return 1, line
        return self._cells[at], line - self._starts[at] + 1

    __getitem__ = locate

    def line_of(self, cell: int, line: int) -> int:
        """The line of the joined text."""
        return self._starts[self._cells.index(cell)] + line - 1


def to_python(data: bytes) -> tuple[str, LineMap]:
    """The notebook's code and where each line of it came from. ``ValueError`` says what is wrong with the file."""
    starts: list[int] = []
    numbers: list[int] = []
    broken: list[int] = []
    lines: list[str] = []
    for number, source in _code_cells(data):
        cell = neutralise(source)
        if not _parses(cell):
            broken.append(number)
            cell = ["" for _ in cell]
        starts.append(len(lines) + 1)
        numbers.append(number)
        lines += cell
    text = "\n".join(lines) + "\n" if lines else ""
    return text, LineMap(starts, numbers, tuple(broken))


def neutralise(source: str) -> list[str]:
    """The lines of a cell, with what only IPython understands made harmless, each on the line where it was."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[-1] == "" and len(lines) > 1:
        lines.pop()
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        name = lines[first][2:].split(maxsplit=1)
        if not name or name[0] not in _KEEPS_BODY:
            return ["" for _ in lines]
        lines[first] = ""
    state = _State()
    out: list[str] = []
    continued = False
    for line in lines:
        if continued:
            continued = line.endswith("\\")
            out.append("")
            continue
        plain = _without_magic(line) if state.at_statement else None
        if plain is None:
            state.read(line)
            out.append(line)
        else:
            continued = line.endswith("\\")
            out.append(plain)
    return out


def _without_magic(line: str) -> str | None:
    """A harmless stand-in for a line that is a magic; None for a line that is none."""
    timed = _TIMED.match(line)
    if timed:  # the statement runs here: keep it, in its columns
        gap = timed.end() - timed.end(1)
        return f"{timed[1]}if 1{' ' * (gap - 5)}:{line[timed.end() :]}" if gap >= 5 else None
    if _MAGIC.match(line) or _HELP.match(line):
        return line[: len(line) - len(line.lstrip())] + "pass"
    assigned = _ASSIGNED.match(line)
    return f"{assigned[1]}None" if assigned else None


class _State:
    """Whether the next line begins a statement, or lies inside brackets, a long string or a continued line."""

    __slots__ = ("continued", "depth", "quotes")

    def __init__(self) -> None:
        self.depth = 0
        self.quotes = ""
        self.continued = False

    @property
    def at_statement(self) -> bool:
        return not (self.depth or self.quotes or self.continued)

    def read(self, line: str) -> None:
        at = 0
        while at < len(line):
            if self.quotes:
                end = re.compile(rf"(?:\\.|(?!{self.quotes})[^\\])*{self.quotes}").match(line, at)
                if end is None:
                    return
                self.quotes = ""
                at = end.end()
                continue
            token = _TOKEN.search(line, at)
            if token is None:
                break
            at = token.end()
            if token["long"]:
                self.quotes = token["quotes"]
            elif token["open"]:
                self.depth += 1
            elif token["close"]:
                self.depth = max(self.depth - 1, 0)
        self.continued = not self.quotes and line.endswith("\\")


def _code_cells(data: bytes) -> list[tuple[int, str]]:
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not a notebook: not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise ValueError("not a notebook: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not a notebook: invalid JSON ({error})") from None
    if not isinstance(notebook, dict):
        raise ValueError("not a notebook: a JSON object was expected")
    if not _is_python(notebook.get("metadata")):
        return []
    cells = notebook.get("cells")
    if cells is None:  # format 3 and older
        sheets = notebook.get("worksheets")
        if not isinstance(sheets, list):
            raise ValueError("not a notebook: it has no cells")
        listed = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        cells = [cell for each in listed if isinstance(each, list) for cell in each]
    if not isinstance(cells, list):
        raise ValueError("not a notebook: its cells are not a list")
    found: list[tuple[int, str]] = []
    for number, cell in enumerate(cells, start=1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            if isinstance(source, list):
                source = "".join(part for part in source if isinstance(part, str))
            if not isinstance(source, str):
                raise ValueError(f"not a notebook: the source of cell {number} is not text")
            found.append((number, source.encode("utf-8", "replace").decode("utf-8")))
    return found


def _is_python(metadata: Any) -> bool:
    """Whether the kernel runs Python. A notebook that does not say is taken to."""
    if not isinstance(metadata, dict):
        return True
    for key, name in (("kernelspec", "language"), ("language_info", "name")):
        about = metadata.get(key)
        language = about.get(name) if isinstance(about, dict) else None
        if isinstance(language, str) and language:
            return language.lower() in ("python", "ipython")
    return True


def _parses(lines: list[str]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse("\n".join(lines) + "\n")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True
