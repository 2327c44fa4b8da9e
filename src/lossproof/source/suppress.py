"""Comments that silence a finding, and the report of those that silence nothing.

``# lossproof: ignore[LP101] reason`` holds for its statement, or, alone on a line, for the statement below.
``# lossproof: ignore-file[LP101] reason`` holds for the file, ``# noqa: LP101`` and ``# noqa`` for the statement.
A list may name codes (``LP101``), prefixes (``LP1``) and names (``sigmoid-before-bce``); none means every rule.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterable, Iterator
from io import StringIO

from lossproof.finding import Finding
from lossproof.source.texts import Text

_OURS = re.compile(
    r"#\s*lossproof:\s*ignore(?P<file>-file)?\b(?!-)\s*(?:\[(?P<codes>[^\]]*)\])?\s*(?P<reason>[^#]*)", re.I
)
_CODE = r"[A-Za-z]+[0-9]+[A-Za-z0-9]*"
_NOQA = re.compile(rf"#\s*noqa\b(?:\s*:\s*(?P<codes>{_CODE}(?:[,\s]+{_CODE})*))?(?P<colon>\s*:)?", re.I)
_MARK = re.compile(rb"#[ \t]*lossproof:[ \t]*ignore|#[ \t]*noqa[ \t]*:[^\r\n]*\bLP", re.I)
_ANY = re.compile(r"lossproof|noqa", re.I)
_OTHER_EYES = ("LP8", "LP9")


class Suppression:
    """One code of one comment, and whether it has silenced anything. ``code`` is empty when it means every rule."""

    __slots__ = ("cell", "code", "first", "last", "line", "marker", "path", "reason", "used", "whole_file")

    def __init__(
        self, code: str, line: int, first: int, last: int, *, marker: str, whole_file: bool = False, reason: str = ""
    ) -> None:
        self.code = code
        self.line = line
        self.first = first
        self.last = last
        self.marker = marker
        self.whole_file = whole_file
        self.reason = reason
        self.used = False
        self.path = ""
        self.cell: int | None = None

    def covers(self, finding: Finding, first: int, last: int) -> bool:
        """Whether it silences a finding that reaches from line ``first`` to line ``last``."""
        if not self.whole_file and not (self.first <= last and first <= self.last):
            return False
        wanted = self.code.upper()
        return not wanted or finding.rule.startswith(wanted) or finding.name.upper() == wanted

    @property
    def reportable(self) -> bool:
        """Whether silence here is worth a word: not for what other tools, or the other eyes, may need."""
        if self.marker == "noqa" and not self.code.upper().startswith("LP"):
            return False
        return not self.code.upper().startswith(_OTHER_EYES)

    def __str__(self) -> str:
        where = self.path if self.cell is None else f"{self.path}:cell {self.cell}"
        what = f"{self.code} is not found here" if self.code else "nothing is found here"
        return f"{where}:{self.line}: unused suppression: {what}"


def may_hold(data: bytes) -> bool:
    """Whether the bytes can hold a suppression that would be reported if it were unused."""
    return (b"lossproof:" in data or b"noqa" in data) and _MARK.search(data) is not None


def find(text: Text, path: str = "") -> list[Suppression]:
    """Every suppression of a file, one for each code that it names."""
    found: list[Suppression] = []
    if _ANY.search(text.text) is None:
        return found
    for line, comment, first, last, alone in _comments(text.text):
        for suppression in _read(comment, line, first, last, alone):
            suppression.path = path
            if text.map is not None:
                suppression.cell, suppression.line = text.map.locate(line)
            found.append(suppression)
    return found


def apply(findings: Iterable[Finding], suppressions: list[Suppression], text: Text) -> list[Finding]:
    """The findings of one file that no comment silences. Marks what each comment was good for."""
    kept: list[Finding] = []
    for finding in findings:
        first, last = finding.location.line, max(finding.location.end_line, finding.location.line)
        if finding.location.cell is not None and text.map is not None:
            try:
                first, last = (text.map.line_of(finding.location.cell, line) for line in (first, last))
            except ValueError:
                kept.append(finding)
                continue
        hits = [suppression for suppression in suppressions if suppression.covers(finding, first, last)]
        for hit in hits:
            hit.used = True
        if not hits:
            kept.append(finding)
    return kept


def _read(comment: str, line: int, first: int, last: int, alone: bool) -> Iterator[Suppression]:
    """What one comment asks for. ``first`` to ``last`` is the statement that it belongs to."""
    for match in _OURS.finditer(comment):
        codes = _codes(match["codes"]) if match["codes"] is not None else [""]
        for code in codes:
            whole = match["file"] is not None
            yield Suppression(
                code, line, first, last, marker="lossproof", whole_file=whole, reason=match["reason"].strip()
            )
    noqa = _NOQA.search(comment)
    if noqa and not alone and not (noqa["colon"] and noqa["codes"] is None):
        for code in _codes(noqa["codes"]) if noqa["codes"] else [""]:
            yield Suppression(code, line, first, last, marker="noqa")


def _codes(listed: str) -> list[str]:
    return [code for code in re.split(r"[,\s]+", listed.strip()) if code]


def _comments(source: str) -> Iterator[tuple[int, str, int, int, bool]]:
    """Each comment with its line, the statement that it belongs to, and whether it has a line to itself."""
    try:
        yield from _tokenized(source)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        for number, line in enumerate(source.splitlines(), start=1):
            at = line.find("#")
            if at >= 0:
                alone = not line[:at].strip()
                yield number, line[at:], number, number + alone, alone


def _tokenized(source: str) -> list[tuple[int, str, int, int, bool]]:
    found: list[tuple[int, str, int, int, bool]] = []
    pending: list[tuple[int, str, bool]] = []
    first = 0  # the first line of the statement being read; 0 between statements
    skipped = (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            pending.append((token.start[0], token.string, alone and not first))
        elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            last = token.start[0]
            found += [
                (line, comment, first or line, last if first else line, alone) for line, comment, alone in pending
            ]
            pending = []
            first = 0
        elif token.type not in skipped and not first:
            first = token.start[0]
    return found
