"""What stays the same about a finding when the code around it moves: its rule, its file and the text of its line."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from lossproof.finding import Finding
from lossproof.source.texts import Texts


def posix(path: str) -> str:
    """A path as machines exchange it."""
    import os

    return path.replace("\\", "/") if os.sep == "\\" else path


def line_text(finding: Finding, texts: Texts) -> str:
    """The stripped text of the line that the finding begins in."""
    return texts[finding.path].line(finding.line, finding.location.cell).strip()


def fingerprint(rule: str, path: str, text: str) -> str:
    """Sixteen hexadecimal digits for a rule, a posix path and a stripped line: no line number in it."""
    return hashlib.sha256("\0".join((rule, path, text)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def numbered(findings: Iterable[Finding], texts: Texts) -> Iterator[tuple[Finding, str, int]]:
    """Each finding with its fingerprint and a number from 1 among those that share it."""
    seen: Counter[str] = Counter()
    for finding in findings:
        mark = fingerprint(finding.rule, posix(finding.path), line_text(finding, texts))
        seen[mark] += 1
        yield finding, mark, seen[mark]
