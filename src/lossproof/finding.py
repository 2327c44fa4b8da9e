"""The one vocabulary: what any eye of lossproof says about a training objective.

A problem has the same code and the same form whichever eye saw it, so reports, editors and agents
need to understand one type. Nothing here imports anything else of lossproof.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

CONFIDENCES = ("proven", "likely", "possible")
EYES = ("source", "graph", "run", "production")


class Severity(str, Enum):
    """What happens if you ship this.

    ``ERROR``: it learns the wrong thing, goes non-finite, or stops learning where it is most wrong.
    ``WARNING``: right today, but fragile, wasteful, or a choice that nobody made.
    ``INFO``: needs a measurement, or a habit to reconsider.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Location:
    """A stretch of source, with a remark on what happens there.

    Lines and columns count from 1, columns in characters; ``end_column`` is one past the last
    character. In a notebook ``line`` counts inside the cell and ``cell`` is the cell's number from 1.
    """

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    message: str = ""
    cell: int | None = None


@dataclass(frozen=True)
class Edit:
    """New text for a stretch of source, as ``Location`` counts it; where the stretch is empty it is an insertion."""

    location: Location
    text: str


@dataclass(frozen=True)
class Shift:
    """What a fix made logits of, and was an activated value: a parameter of a function, or what it returns."""

    path: str
    function: str
    parameter: str
    """Empty for the result."""
    key: tuple[str | int, ...]
    """Where in the value: ``()`` is all of it, ``("score",)`` an entry, ``("*", 0)`` the first of each element."""
    activation: str
    dim: int | None = None


@dataclass(frozen=True)
class Remedy:
    """How a finding is mended: one line for a person, and whether a command can do it.

    ``fixable`` is ``safe`` where what the program computes on moderate values is unchanged and its other callers are
    served, ``unsafe`` where the objective changes for the better, else ``no``. ``edits`` belong together: all of them
    or none. ``note`` says what they change, or why there are none. ``shifts`` says which functions take or give
    something else on purpose.
    """

    hint: str = ""
    fixable: str = "no"
    edits: tuple[Edit, ...] = ()
    note: str = ""
    shifts: tuple[Shift, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One problem, at one place, with the path that leads to it.

    ``related`` is ordered: it begins where the cause is (the sigmoid) and ends at the hop before the
    finding's own location (the loss).
    """

    rule: str
    name: str
    severity: Severity
    message: str
    location: Location
    related: tuple[Location, ...] = ()
    confidence: str = "proven"
    remedy: Remedy = field(default_factory=Remedy)
    evidence: str = ""
    eye: str = "source"

    @property
    def path(self) -> str:
        return self.location.path

    @property
    def line(self) -> int:
        return self.location.line

    @property
    def sort_key(self) -> tuple[str, int, int, int, str]:
        where = self.location
        return (where.path, where.cell or 0, where.line, where.column, self.rule)

    def as_dict(self) -> dict[str, Any]:
        """The finding as the JSON contract has it (see DESIGN, "Findings")."""
        where = self.location
        record: dict[str, Any] = {
            "rule": self.rule,
            "name": self.name,
            "severity": self.severity.value,
            "message": self.message,
            "path": where.path,
            "line": where.line,
            "column": where.column,
            "end_line": where.end_line,
            "end_column": where.end_column,
            "related": [_related(hop) for hop in self.related],
            "confidence": self.confidence,
            "fixable": self.remedy.fixable,
            "hint": self.remedy.hint,
            "evidence": self.evidence,
            "eye": self.eye,
        }
        if where.cell is not None:
            record["cell"] = where.cell
        if self.remedy.note or self.remedy.edits:
            record["fix"] = {"note": self.remedy.note, "edits": [_edit(edit) for edit in self.remedy.edits]}
        return record


def _edit(edit: Edit) -> dict[str, Any]:
    where = edit.location
    record: dict[str, Any] = {
        "path": where.path,
        "line": where.line,
        "column": where.column,
        "end_line": where.end_line,
        "end_column": where.end_column,
        "text": edit.text,
    }
    if where.cell is not None:
        record["cell"] = where.cell
    return record


def _related(hop: Location) -> dict[str, Any]:
    record: dict[str, Any] = {
        "path": hop.path,
        "line": hop.line,
        "column": hop.column,
        "message": hop.message,
    }
    if hop.cell is not None:
        record["cell"] = hop.cell
    return record
