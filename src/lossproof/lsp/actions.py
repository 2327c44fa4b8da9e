"""What can be done about a finding: mend it, mend all that is safe, or silence it with a reason."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

from lsprotocol import types
from pygls.workspace import TextDocument

from lossproof.finding import Edit, Finding, Location
from lossproof.lsp.diagnostics import Shown
from lossproof.lsp.places import Places
from lossproof.lsp.positions import Lines, characters, units
from lossproof.lsp.suppression import suppression
from lossproof.mend import Change, edited
from lossproof.source.notebook import neutralise
from lossproof.source.texts import decode

FIX_ALL = "source.fixAll.lossproof"
QUICK_FIX = types.CodeActionKind.QuickFix
_NEWLINE = re.compile(r"\r\n|\r|\n")

Edits = dict[str, tuple[int | None, list[types.TextEdit]]]


class Impossible(Exception):
    """An edit that this editor cannot be asked to make."""


def wanted(kind: str, only: Iterable[str] | None) -> bool:
    """Whether an editor that asks for these kinds (or their families) asks for this one."""
    return only is None or any(kind == each or kind.startswith(f"{each}.") for each in only)


def for_finding(shown: Shown, finding: Finding, places: Places, *, versions: bool) -> list[types.CodeAction]:
    """The quick fixes of one finding, the best first."""
    found: list[types.CodeAction] = []
    remedy = finding.remedy
    if remedy.edits:
        try:
            _must_parse(finding, places)
            edits = _edits(remedy.edits, places)
        except (Impossible, OSError, ValueError, SyntaxError):
            edits = {}
        if edits:
            what = remedy.note or remedy.hint
            safe = remedy.fixable == "safe"
            title = f"Fix {finding.rule}: {what}" if safe else f"Fix {finding.rule} (unsafe): {what}"
            found.append(_action(title, QUICK_FIX, workspace_edit(edits, versions), [shown], preferred=safe))
    silence = _silence(finding, places)
    if silence:
        title = f"Suppress {finding.rule} for this line, with a reason"
        found.append(_action(title, QUICK_FIX, workspace_edit(silence, versions), [shown], preferred=False))
    return found


def remove_comment(shown: Shown, uri: str, document: TextDocument, *, versions: bool) -> types.CodeAction:
    """Take out a suppression that suppresses nothing, with the blanks before it."""
    where = shown.diagnostic.range
    encoding = document.position_codec.encoding
    line = Lines(document.source)[where.start.line]
    before = line[: characters(line, where.start.character, encoding)].rstrip()
    start = types.Position(where.start.line, units(before, encoding))
    edit = types.TextEdit(types.Range(start, where.end), "")
    edits: Edits = {uri: (document.version, [edit])}
    return _action("Remove the unused suppression", QUICK_FIX, workspace_edit(edits, versions), [shown], preferred=True)


def changes(made: Iterable[Change], places: Places) -> Edits:
    """Whole files before and after, as edits of the lines that differ."""
    found: Edits = {}
    for change in made:
        file = places.opened.get(change.path)
        if change.path.endswith(".ipynb"):
            if file is None or file.cells is None:
                raise Impossible(change.display)
            pairs = zip(_cells(change.before), _cells(change.after), strict=True)
            for cell, (before, after) in zip(file.cells, pairs, strict=True):
                if before != after:
                    found[cell.uri] = (cell.version, _line_edits(before, after, places))
            continue
        uri = file.uri if file is not None else places.uri(_start_of(change.display))
        version = file.version if file is not None else None
        found[uri] = (version, _line_edits(decode(change.before), decode(change.after), places))
    return found


def workspace_edit(edits: Edits, versions: bool) -> types.WorkspaceEdit:
    """All edits together; with the versions of the texts that they are for, if the editor knows what that means."""
    if not versions:
        return types.WorkspaceEdit(changes={uri: list(texts) for uri, (_, texts) in edits.items()})
    return types.WorkspaceEdit(
        document_changes=[
            types.TextDocumentEdit(types.OptionalVersionedTextDocumentIdentifier(uri=uri, version=version), list(texts))
            for uri, (version, texts) in edits.items()
        ]
    )


def _action(
    title: str, kind: str, edit: types.WorkspaceEdit, shown: list[Shown], *, preferred: bool
) -> types.CodeAction:
    return types.CodeAction(
        title=title,
        kind=kind,
        diagnostics=[each.diagnostic for each in shown],
        edit=edit,
        is_preferred=preferred or None,
    )


def _must_parse(finding: Finding, places: Places) -> None:
    by_path: dict[str, list[Edit]] = {}
    for edit in finding.remedy.edits:
        by_path.setdefault(edit.location.path, []).append(edit)
    for shown, edits in by_path.items():
        edited(shown, places.checked.data(shown), edits)


def _edits(edits: Iterable[Edit], places: Places) -> Edits:
    found: Edits = {}
    for edit in edits:
        where = edit.location
        cell = places.cell(where)
        if where.cell is not None and cell is None:
            raise Impossible("a notebook that is not open")
        uri = places.uri(where)
        file = places.opened.get(places.checked.path(where.path))
        version = cell.version if cell is not None else file.version if file is not None else None
        newline = "\n" if cell is not None else _newline(decode(places.checked.data(where.path)))
        text = edit.text if newline == "\n" else edit.text.replace("\n", newline)
        found.setdefault(uri, (version, []))[1].append(types.TextEdit(places.range(where), text))
    return found


def _silence(finding: Finding, places: Places) -> Edits:
    where = finding.location
    file = places.opened.get(places.checked.path(where.path))
    cell = places.cell(where)
    if file is None or (where.cell is not None and cell is None):
        return {}
    lines = neutralise(cell.text) if cell is not None else _NEWLINE.split(file.text)
    found = suppression(lines, where.line, finding.rule)
    if found is None:
        return {}
    line, start, end, text = found
    first = types.Position(line, units(lines[line][:start], places.encoding))
    last = types.Position(line, units(lines[line][:end], places.encoding))
    target = cell or file
    return {target.uri: (target.version, [types.TextEdit(types.Range(first, last), text)])}


def _line_edits(before: str, after: str, places: Places) -> list[types.TextEdit]:
    one, other = Lines(before), Lines(after)
    a, b = (
        [lines.text[s:e] for s, e in zip(lines.starts, [*lines.starts[1:], len(lines.text)], strict=True)]
        for lines in (one, other)
    )
    found: list[types.TextEdit] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            start = one.starts[i] if i < len(a) else len(before)
            end = one.starts[j] if j < len(a) else len(before)
            span = types.Range(one.position(start, places.encoding), one.position(end, places.encoding))
            found.append(types.TextEdit(span, "".join(b[k:m])))
    return found


def _cells(data: bytes) -> list[str]:
    cells = json.loads(data.decode("utf-8-sig"))["cells"]
    return ["".join(cell["source"]) if isinstance(cell["source"], list) else cell["source"] for cell in cells]


def _newline(text: str) -> str:
    ends = _NEWLINE.findall(text)
    return max(set(ends), key=ends.count) if ends else "\n"


def _start_of(shown: str) -> Location:
    return Location(shown, 1, 1, 1, 1)
