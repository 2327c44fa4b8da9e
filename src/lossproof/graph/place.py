"""Where in the user's code an operator was called, as far as anybody noted it.

The note lies in the node's own metadata: it lives as long as the graph and needs no table beside it. It comes from
``lossproof.recording()``, or from PyTorch's anomaly mode, which keeps a traceback there. An operator without a note
(one call of ``F.cross_entropy`` makes two) has the note of the nearest operator that reads its result.
"""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import PurePath
from types import CodeType
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

import torch

from lossproof.finding import Location

if TYPE_CHECKING:
    from lossproof.graph.cuts import Cut
    from lossproof.graph.random_state import RandomState
    from lossproof.graph.walk import Graph, Op

NOTE = "lossproof"
"""The key of a note in a node's metadata."""
NO_FILE = "<autograd graph>"
USER, TYPED, INSTALLED, MACHINERY = range(4)
"""Whose a file is: the user's, code that was made from a string, an installed package, torch or Python itself."""
_FRAME = re.compile(r'\s*File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.*))?')
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_TORCH = os.path.dirname(os.path.abspath(torch.__file__))
_MACHINERY = tuple(
    os.path.normcase(os.path.join(folder, ""))
    for folder in dict.fromkeys(
        (_OWN, _TORCH, *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "scripts")))
    )
)
_PACKAGES = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_TYPED_IN = ("<ipython-input", "<stdin>", "<console>", "<python-input", "<doctest ", "<cell ", "<input>")
"""What people typed themselves, at a prompt or into a notebook."""
_FROM_STRING = ("<string>", "<unknown>", "<exec>")
"""``exec``, ``eval`` and ``python -c``: the code is somebody's, the file is not known."""
_LEVELS = 24
"""How many consumers up a note is looked for: the operators of one call lie close together."""


@dataclass(frozen=True)
class Note:
    """One call of an operator: the user's own frame, the function that was called, its plain arguments."""

    path: str
    line: int
    function: str
    """The function that the frame runs."""
    called: str = ""
    """What was called: ``torch.nn.functional.binary_cross_entropy``, ``torch.Tensor.div``."""
    numbers: tuple[tuple[str, Any], ...] = ()
    """Arguments that are plain numbers, by position or name: an epsilon that is added leaves no other trace."""
    column: int = 1
    end_line: int = 0
    end_column: int = 0
    """As ``Location`` counts them; 0 where Python does not say."""
    cuts: tuple[Cut, ...] = ()
    """Operands that had been taken out of the graph before, as far as it was seen."""

    def number(self, *keys: str) -> float | None:
        """The first of some arguments that is a number: ``note.number("eps", "3")``."""
        given = dict(self.numbers)
        return next((float(given[key]) for key in keys if key in given), None)

    def at(self, message: str = "") -> Location:
        return Location(
            self.path, self.line, self.column, self.end_line or self.line, self.end_column or self.column, message
        )


class Call:
    """A note as it is taken while the step runs: what is at hand, nothing worked out."""

    __slots__ = ("_data", "_note", "_value", "_version", "began", "code", "cuts", "func", "last", "numbers")

    def __init__(
        self,
        code: CodeType,
        last: int,
        func: Any,
        numbers: tuple[tuple[str, Any], ...],
        cuts: tuple[Cut, ...],
        data: tuple[tuple[str, ReferenceType[torch.Tensor], int], ...] = (),
        began: RandomState | None = None,
    ) -> None:
        self.code = code
        self.last = last
        self.func = func
        self.numbers = numbers
        self.cuts = cuts
        self._data = data
        self.began = began
        self._note: Note | None = None
        self._value: torch.Tensor | None = None
        self._version = 0

    def keep(self, value: torch.Tensor) -> None:
        """Keep a result that is one number, without its history: a few bytes, and nothing waits for it."""
        if value._base is None:
            self._value = value.detach()
            self._version = value._version

    @property
    def value(self) -> torch.Tensor | None:
        """The number that was kept, unless it was changed in place since."""
        return self._value if self._value is not None and self._value._version == self._version else None

    @property
    def data(self) -> dict[str, torch.Tensor]:
        """Operands without a history (a target, a mask) by position or name, where they are alive and unchanged."""
        found = ((key, reference(), version) for key, reference, version in self._data)
        return {key: each.detach() for key, each, version in found if each is not None and each._version == version}

    def note(self) -> Note:
        if self._note is None:
            self._note = self._worked_out()
        return self._note

    def _worked_out(self) -> Note:
        line, end_line, column, end_column = _position(self.code, self.last)
        code = self.code
        return Note(
            code.co_filename,
            line,
            code.co_name,
            _called(self.func),
            self.numbers,
            column,
            end_line,
            end_column,
            self.cuts,
        )


def standing(path: str) -> int:
    """Whose a file is: ``USER`` before ``TYPED`` before ``INSTALLED`` before ``MACHINERY``."""
    found = _STANDINGS.get(path)
    if found is None:
        found = _STANDINGS[path] = _standing(path)
    return found


_STANDINGS: dict[str, int] = {}


def _standing(path: str) -> int:
    if path.startswith("<"):
        if path.startswith(_TYPED_IN):
            return USER
        return TYPED if path.startswith(_FROM_STRING) else MACHINERY
    whole = os.path.normcase(os.path.abspath(path))
    packaged = any(folder in whole for folder in _PACKAGES)
    for folder in _MACHINERY:
        # Other packages lie below the standard library's folder where there is no virtual environment.
        if whole.startswith(folder) and (not packaged or "packages" in folder):
            return MACHINERY
    return INSTALLED if packaged else USER


def is_library(path: str) -> bool:
    """Whether a file belongs to Python, torch or another installed package rather than to the user."""
    return standing(path) >= INSTALLED


def note(op: Op) -> Note | None:
    """The note of an operator itself."""
    metadata = op.node.metadata
    found = metadata.get(NOTE)
    if isinstance(found, Call):
        return found.note()
    lines = metadata.get("traceback_")
    return _last_of_user(lines) if lines else None


def kept(op: Op) -> torch.Tensor | None:
    """The result of an operator that is one number, where a recording kept it."""
    found = op.node.metadata.get(NOTE)
    return found.value if isinstance(found, Call) else None


def began(graph: Graph) -> RandomState | None:
    """The random state in which the recording began that noted an operator of the graph; None where none did."""
    for op in graph:
        found = op.node.metadata.get(NOTE)
        if isinstance(found, Call):
            return found.began
    return None


def data(op: Op, *keys: str) -> torch.Tensor | None:
    """An operand that needed no gradient and that no operator kept, where a recording saw it and it still lives.

    ``keys`` are its positions and names in a call of the operator itself. Inside of a larger function (``l1_loss``) it
    is the only operand of that call that has the shape of the result.
    """
    found = op.node.metadata.get(NOTE)
    if isinstance(found, Call):
        given = found.data
        return next((given[key] for key in keys if key in given), None)
    level = [op]
    for _ in range(_LEVELS):
        level = [reader for each in level for reader in each.consumers][:_LEVELS]
        for each in level:
            found = each.node.metadata.get(NOTE)
            if isinstance(found, Call):
                fitting = [tensor for tensor in found.data.values() if tuple(tensor.shape) == op.shape()]
                return fitting[0] if len(fitting) == 1 else None
    return None


def noted(op: Op) -> Note | None:
    """The note of an operator, or of the nearest one that reads what it gave."""
    level = [op]
    for _ in range(_LEVELS):
        for each in level:
            found = note(each)
            if found is not None:
                return found
        level = [reader for each in level for reader in each.consumers][:_LEVELS]
    return None


def location(op: Op, message: str = "") -> Location:
    """Where an operator was called; ``NO_FILE`` where nobody noted it."""
    found = noted(op)
    if found is None:
        return Location(NO_FILE, 0, 0, 0, 0, message or neighbours(op))
    return found.at(message)


def neighbours(op: Op) -> str:
    """An operator by what it reads and what reads it, for where no line is known: ``Linear → Sigmoid → Log``."""
    below = op.input(0)
    chain = [below.kind] if below is not None else []
    chain.append(op.kind)
    chain += [reader.kind for reader in op.consumers[:1]]
    return " → ".join("leaf" if kind == "AccumulateGrad" else kind for kind in chain)


def _last_of_user(lines: list[str]) -> Note | None:
    """The innermost frame of the best standing in a traceback of the anomaly mode."""
    best: re.Match[str] | None = None
    rank = MACHINERY
    for text in reversed(lines):
        found = _FRAME.match(text)
        if found and standing(found["path"]) < rank:
            best, rank = found, standing(found["path"])
            if rank == USER:
                break
    return None if best is None else Note(str(PurePath(best["path"])), int(best["line"]), best["function"] or "")


def _position(code: CodeType, last: int) -> tuple[int, int, int, int]:
    """Line, end line, column and end column of an instruction, as ``Location`` counts them."""
    if hasattr(code, "co_positions"):
        line, end_line, column, end_column = next(islice(code.co_positions(), last // 2, None), (None,) * 4)
        if line is not None:
            if end_line is None or column is None or end_column is None:
                return line, line, 1, 1
            path = code.co_filename
            return line, end_line, _characters(path, line, column) + 1, _characters(path, end_line, end_column) + 1
    held = (number for start, end, number in code.co_lines() if start <= last < end and number is not None)
    first = next(held, code.co_firstlineno)
    return first, first, 1, 1


def _characters(path: str, line: int, size: int) -> int:
    """How many characters the first bytes of a line are; Python counts in bytes."""
    text = linecache.getline(path, line)
    return size if text.isascii() else len(text.encode()[:size].decode(errors="ignore"))


def _called(func: Any) -> str:
    """The full name of a function of torch; its plain name where torch does not list it."""
    name = _names().get(func) if getattr(func, "__hash__", None) else None
    if name:
        return name
    name = getattr(func, "__name__", "")
    module = getattr(func, "__module__", "") or ""
    return f"{module}.{name}" if module.startswith("torch") else name


@cache
def _names() -> dict[Any, str]:
    from torch.overrides import get_overridable_functions, resolve_name

    found: dict[Any, str] = {}
    for functions in get_overridable_functions().values():
        for func in functions:
            name = resolve_name(func)
            if name:
                found[func] = name
    return found
