"""What a check comes to, in a line or a few."""

from __future__ import annotations

from collections import Counter

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from lossproof.check import Report

_WORDS = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "info": ("info", "infos")}


def summary(report: Report) -> str:
    """One line: what was found, in how many files, in what time."""
    took = f"({report.seconds:.2f} s)"
    files = plural(report.files_checked, "file")
    if report.baseline_written is not None:
        return f"Wrote {plural(report.baseline_written, 'finding')} to the baseline; checked {files} {took}."
    if not report.findings:
        return f"All clean: nothing found in {files} {took}."
    counts = Counter(finding.severity.value for finding in report.findings)
    parts = [
        f"{counts[severity]} {one if counts[severity] == 1 else many}"
        for severity, (one, many) in _WORDS.items()
        if counts[severity]
    ]
    return f"Found {', '.join(parts)} in {files} {took}."


def remarks(report: Report) -> list[str]:
    """What else a person should know before they take silence for proof."""
    said: list[str] = []
    hidden = []
    if report.suppressed:
        hidden.append(f"{report.suppressed} suppressed by comments")
    if report.known and report.baseline_written is None:
        hidden.append(f"{report.known} known to the baseline")
    if hidden:
        said.append(f"Not shown: {', '.join(hidden)}.")
    safe, unsafe = (sum(f.remedy.fixable == kind for f in report.findings) for kind in ("safe", "unsafe"))
    if safe or unsafe:
        more = f" ({unsafe} more with --unsafe-fixes)" if unsafe and safe else ""
        said.append(f"--fix mends {safe or unsafe}{more}." if safe else f"--fix --unsafe-fixes mends {unsafe}.")
    if report.show_unresolved:
        if report.unresolved:
            values = plural(len(report.unresolved), "value")
            said.append(f"Not followed: {values} on the way to a loss; silence there proves nothing.")
        else:
            said.append("Every value on the way to a loss was followed.")
    if report.unused:
        said.append(f"{plural(len(report.unused), 'suppression')} without effect.")
    if report.stale:
        many = report.stale != 1
        said.append(
            f"{report.stale} {'entries' if many else 'entry'} of the baseline no longer match{'' if many else 'es'}; "
            "refresh with --update-baseline."
        )
    return said


def plural(count: int, word: str) -> str:
    """``1 file``, ``3 files``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
