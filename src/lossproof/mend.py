"""``lossproof check --fix``: fixes applied until nothing more can be mended, in memory first.

Each pass takes the fixes that do not touch one another, checks that what comes out still parses, and looks again with
the changed text in the place of the file. Nothing is written before the last pass; then each file is replaced whole.
"""

from __future__ import annotations

import ast
import codecs
import difflib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from lossproof.check import Options, Report, check_paths
from lossproof.finding import Edit, Finding
from lossproof.fingerprint import fingerprint, line_text, posix
from lossproof.problem import CannotRun
from lossproof.report.place import place
from lossproof.source.discover import SourceFile
from lossproof.source.texts import decode, encoding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lossproof.verify import Proof

MOST_PASSES = 12
_NEWLINE = re.compile(r"\r\n|\r|\n")


class Change:
    """A file before and after."""

    def __init__(self, path: str, display: str, before: bytes, after: bytes) -> None:
        self.path = path
        self.display = display
        self.before = before
        self.after = after

    def diff(self) -> str:
        """A unified diff, as ``patch`` and ``git apply`` read it. Of a notebook, that of its file."""
        old = decode(self.before).splitlines(keepends=True)
        new = decode(self.after).splitlines(keepends=True)
        name = self.display.replace(os.sep, "/")
        lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
        return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


class Made:
    """A finding whose fix was made, with the files as they were when its edits were."""

    def __init__(self, finding: Finding, olds: dict[str, bytes], key: str = "") -> None:
        self.finding = finding
        self.olds = olds
        self.key = key
        """What tells this finding again after other fixes have moved it."""


class Mended:
    """What was mended and what is left."""

    def __init__(self, report: Report, fixed: list[Finding], changes: list[Change], failed: list[str]) -> None:
        self.report = report
        """The findings that are left, in the changed files."""
        self.fixed = fixed
        self.changes = changes
        self.failed = failed
        """Why a fix that was offered was not made."""
        self.made: list[Made] = []
        """The fixes with the files that their edits were for."""
        self.proofs: list[Proof] = []
        """What running them has shown, where a person asked for it."""

    def write(self) -> None:
        """Put the changed files in place. A file that changed meanwhile is left alone, with a remark.

        Nothing is written where one of them may not be: ``CannotRun`` says which.
        """
        from lossproof.atomic import write_bytes_atomically

        for change in self.changes:
            target = os.path.realpath(change.path)
            read_only = os.path.exists(target) and not (os.access(target, os.W_OK) and os.stat(target).st_mode & 0o222)
            if read_only or not os.access(os.path.dirname(target), os.W_OK):
                raise CannotRun(f"{change.display}: cannot write: it is read-only (nothing was changed)")
        for change in self.changes:
            try:
                now = SourceFile(change.path, change.display).read()
            except OSError:
                now = b""
            if now != change.before:
                self.failed.append(f"{change.display}: changed while it was being mended; left as it is")
                continue
            write_bytes_atomically(change.path, change.after)


def mend(
    paths: Sequence[str | os.PathLike[str]],
    options: Options,
    *,
    unsafe: bool = False,
    verify: bool = False,
    check: Callable[[Options], Report] | None = None,
    only: Callable[[Finding], bool] | None = None,
) -> Mended:
    """Apply every safe fix (and every unsafe one, if told) that the findings of a check offer; writes nothing.

    ``verify`` runs what the fixes changed, before and after, and leaves out those that fail. It executes the project.
    ``check`` looks in another way than ``check_paths`` does; ``only`` says which findings are to be mended.
    """
    look = check or (lambda options: check_paths(paths, options))
    mended = _mend(look, options, unsafe, only, frozenset())
    if verify:
        from lossproof.verify import verified

        mended = verified(mended, lambda without: _mend(look, options, unsafe, only, without))
    return mended


def _mend(
    look: Callable[[Options], Report],
    options: Options,
    unsafe: bool,
    only: Callable[[Finding], bool] | None,
    without: frozenset[str],
) -> Mended:
    overlay: dict[str, bytes] = dict(options.overlay)
    given = dict(overlay)
    before: dict[str, tuple[SourceFile, bytes]] = {}
    failed: list[str] = []
    made: list[Made] = []
    barred: set[tuple[Edit, ...]] = set()
    options.overlay = overlay
    one_shot, options.one_shot = options.one_shot, False
    report = look(options)
    for _ in range(MOST_PASSES):
        barred.update(
            f.remedy.edits for f in report.findings if without and f.remedy.edits and _key(f, report) in without
        )
        chosen = _chosen(report.findings if only is None else filter(only, report.findings), unsafe, barred)
        if not chosen:
            break
        trials = [chosen]
        while trials:
            trial = trials.pop()
            kept = dict(overlay)
            mends = _pass(report, trial, overlay, before, barred, failed)
            after = look(options)
            wrong = _unmended(report.findings, after.findings, [each.finding for each in mends])
            if not wrong:
                made += mends
                report = after
                if len(chosen) > len(trial):
                    break  # the places of the others have moved: look again
                continue
            # One of them did not do what it promised: none of this trial stays, and each is tried alone.
            overlay.clear()
            overlay.update(kept)
            if len(mends) > 1:
                barred.difference_update(each.finding.remedy.edits for each in mends)
                trials.extend([each.finding] for each in reversed(mends))
            else:
                failed += [f"{place(each.finding.location)}: {each.finding.rule} not mended: {wrong}" for each in mends]
    options.one_shot, options.overlay = one_shot, given
    changes = [
        Change(path, file.display, data, overlay.get(path, data))
        for path, (file, data) in sorted(before.items())
        if overlay.get(path, data) != data
    ]
    mended = Mended(report, [each.finding for each in made], changes, failed)
    mended.made = made
    return mended


def _key(finding: Finding, report: Report) -> str:
    """What tells a finding again in another run: its rule, its file, the text of its line, its column."""
    line = line_text(finding, report.texts)
    return f"{fingerprint(finding.rule, posix(finding.path), line)}:{finding.location.column}"


def _unmended(before: list[Finding], after: list[Finding], made: list[Finding]) -> str:
    """What is still, or newly, wrong after some fixes; empty if each has done what it promised."""
    left = Counter((f.rule, f.path) for f in after)
    known = Counter((f.rule, f.path) for f in before)
    promised = Counter((f.rule, f.path) for f in made)
    for key, count in promised.items():
        if left[key] > known[key] - count:
            return "the finding would still be there"
    grave = {(f.rule, f.path) for f in after if f.severity.value != "info"}
    for rule, path in sorted(grave):
        if left[rule, path] > known[rule, path]:
            return f"{rule} would come up in {path} instead"
    return ""


def _chosen(findings: Iterable[Finding], unsafe: bool, barred: set[tuple[Edit, ...]]) -> list[Finding]:
    """Findings whose fixes can be made in one pass: no two of them touch, unless they are the same edit."""
    taken: dict[str, list[Edit]] = {}
    chosen: list[Finding] = []
    for finding in findings:
        remedy = finding.remedy
        if not remedy.edits or remedy.edits in barred or not (remedy.fixable == "safe" or unsafe):
            continue
        if any(_touch(edit, other) for edit in remedy.edits for other in taken.get(edit.location.path, ())):
            continue
        chosen.append(finding)
        for edit in remedy.edits:
            ours = taken.setdefault(edit.location.path, [])
            if edit not in ours:
                ours.append(edit)
    return chosen


def _touch(one: Edit, other: Edit) -> bool:
    if one == other:
        return False
    a, b = one.location, other.location
    if a.cell != b.cell:
        return False
    first, last = (a.line, a.column), (a.end_line, a.end_column)
    start, end = (b.line, b.column), (b.end_line, b.end_column)
    return first <= end and start <= last


def _pass(
    report: Report,
    chosen: list[Finding],
    overlay: dict[str, bytes],
    before: dict[str, tuple[SourceFile, bytes]],
    barred: set[tuple[Edit, ...]],
    failed: list[str],
) -> list[Made]:
    """Apply one pass to the overlay; a finding whose edits leave a file that does not parse is left out."""
    files = {file.display: file for file in report.files}
    while chosen:
        edits: dict[str, list[Edit]] = {}
        for finding in chosen:
            for edit in finding.remedy.edits:
                ours = edits.setdefault(edit.location.path, [])
                if edit not in ours:
                    ours.append(edit)
        changed: dict[str, tuple[SourceFile, bytes, bytes]] = {}
        wrong = ""
        for display, ours in edits.items():
            file = files.get(display)
            try:
                if file is None:
                    raise ValueError("the file is not among those checked")
                old = overlay[file.path] if file.path in overlay else file.read()
                changed[display] = (file, old, edited(display, old, ours))
            except (OSError, ValueError, SyntaxError) as error:
                wrong = display
                failed.append(f"{display}: not mended: {error}")
                break
        if not wrong:
            olds = {display: old for display, (_, old, _) in changed.items()}
            for file, old, new in changed.values():
                before.setdefault(file.path, (file, old))
                overlay[file.path] = new
            barred.update(f.remedy.edits for f in chosen)
            return [Made(finding, olds, _key(finding, report)) for finding in chosen]
        out = [f for f in chosen if any(e.location.path == wrong for e in f.remedy.edits)]
        barred.update(f.remedy.edits for f in out)
        chosen = [f for f in chosen if f not in out]
    return []


def edited(name: str, data: bytes, edits: Iterable[Edit]) -> bytes:
    """A file's bytes after some edits: same encoding, byte-order mark and line ends. ``ValueError`` says why not."""
    if name.endswith(".ipynb"):
        return _edited_notebook(data, list(edits))
    codec = encoding(data)
    text = decode(data)
    if text.encode(codec, "replace") != data.removeprefix(codecs.BOM_UTF8):
        raise ValueError("its bytes do not match its encoding")
    new = _replaced(text, edits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ast.parse(new)
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    return mark + new.encode(codec)


def _replaced(text: str, edits: Iterable[Edit]) -> str:
    """Text with some stretches replaced, from the last to the first."""
    starts = [0, *(match.end() for match in _NEWLINE.finditer(text))]
    ends = _NEWLINE.findall(text)
    newline = max(set(ends), key=ends.count) if ends else "\n"

    def offset(line: int, column: int) -> int:
        if line > len(starts):
            return len(text)
        return min(starts[line - 1] + column - 1, len(text))

    spans = [
        (offset(w.line, w.column), offset(w.end_line, w.end_column), number, edit.text)
        for number, edit in enumerate(edits)
        for w in (edit.location,)
    ]
    for start, end, _, new in sorted(spans, reverse=True):
        lines = new if newline == "\n" else new.replace("\n", newline)
        if end == len(text) and start == end and new.startswith("\n") and text.endswith(newline):
            start = end = len(text)
        text = text[:start] + lines + text[end:]
    return text


def _edited_notebook(data: bytes, edits: list[Edit]) -> bytes:
    """Edits in the cells of a notebook; the rest of the file keeps its form."""
    text = data.decode("utf-8-sig")
    notebook = json.loads(text)
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        raise ValueError("notebooks of before format 4 are not mended")
    by_cell: dict[int, list[Edit]] = {}
    for edit in edits:
        by_cell.setdefault(edit.location.cell or 0, []).append(edit)
    for number, ours in by_cell.items():
        cell = cells[number - 1]
        source = cell["source"]
        whole = "".join(source) if isinstance(source, list) else source
        new = _replaced(whole, ours)
        cell["source"] = new.splitlines(keepends=True) if isinstance(source, list) else new
    indent = _indent(text)
    separators = None if indent is not None or ": " in text[:200] else (",", ":")
    written = json.dumps(notebook, indent=indent, ensure_ascii=text.isascii(), separators=separators)
    return (written + ("\n" if text.endswith("\n") else "")).encode("utf-8")


def _indent(text: str) -> int | str | None:
    match = re.match(r"\{\r?\n([ \t]+)", text)
    if match is None:
        return None
    return match[1] if "\t" in match[1] else len(match[1])
