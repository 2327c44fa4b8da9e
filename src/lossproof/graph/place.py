"""Where in the user's code an operator was called, as far as anybody noted it.

The note lies in the node's own metadata: it lives as long as the graph and needs no table beside it. It comes from
``lossproof.recording()``, or from PyTorch's anomaly mode, which keeps a traceback there. An operator without a note
(one call of ``F.cross_entropy`` makes two) has the note of the nearest operator that reads its result.
"""

from __future__ import annotations

import re
import sysconfig
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from lossproof.finding import Location

if TYPE_CHECKING:
    from lossproof.graph.walk import Op

NOTE = "lossproof"
"""The key of a note in a node's metadata."""
NO_FILE = "<autograd graph>"
_FRAME = re.compile(r'\s*File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.*))?')
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_LEVELS = 12
"""How many consumers up a note is looked for: the operators of one call lie close together."""


@dataclass(frozen=True)
class Note:
    """One call of an operator: the user's own frame, the function that was called, its plain arguments."""

    path: str
    line: int
    function: str
    """The function that the frame runs."""
    called: str = ""
    """What was called: ``torch.nn.functional.binary_cross_entropy``, ``Tensor.div``."""
    numbers: tuple[tuple[str, Any], ...] = ()
    """Arguments that are plain numbers, by position or name: an epsilon that is added leaves no other trace."""


def is_library(path: str) -> bool:
    """Whether a file belongs to Python, torch or another installed package rather than to the user."""
    return path.startswith("<") or path.startswith(_LIBRARIES)


def note(op: Op) -> Note | None:
    """The note of an operator itself."""
    metadata = op.node.metadata
    found = metadata.get(NOTE)
    if found is not None:
        return found if isinstance(found, Note) else None
    lines = metadata.get("traceback_")
    return _last_of_user(lines) if lines else None


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
    return Location(found.path, found.line, 1, found.line, 1, message)


def neighbours(op: Op) -> str:
    """An operator by what it reads and what reads it, for where no line is known: ``Linear → Sigmoid → Log``."""
    below = op.input(0)
    chain = [below.kind] if below is not None else []
    chain.append(op.kind)
    chain += [reader.kind for reader in op.consumers[:1]]
    return " → ".join("leaf" if kind == "AccumulateGrad" else kind for kind in chain)


def _last_of_user(lines: list[str]) -> Note | None:
    for text in reversed(lines):
        found = _FRAME.match(text)
        if found and not is_library(found["path"]):
            return Note(str(PurePath(found["path"])), int(found["line"]), found["function"] or "")
    return None
