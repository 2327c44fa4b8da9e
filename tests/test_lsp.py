"""The language server, spoken to over standard input and output as an editor does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pygls")

from lsp_client import Client, at

from lossproof.check import Options, check_paths
from lossproof.finding import Edit, Location, Remedy
from lossproof.lsp import actions
from lossproof.lsp.diagnostics import diagnostics
from lossproof.lsp.documents import Opened
from lossproof.lsp.places import Places
from lossproof.lsp.project import Checked, Project
from lossproof.lsp.settings import Settings

MODEL = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        return torch.sigmoid(self.fc(x))
"""
TRAIN = """\
import torch.nn.functional as F
from model import Net


def train(loader, optimizer):
    model = Net()
    for x, y in loader:
        loss = F.binary_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
KEPT = """\
def train(model, loader, criterion, optimizer):
    total = 0.0
    kept = []
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss  # of the epoch
        kept.append(loss)
    return total, kept
"""
ALONE = """\
import torch
import torch.nn.functional as F


def step(net, x, y):
    loss = F.cross_entropy(torch.softmax(net(x), dim=1), y)
    loss.backward()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (folder / "model.py").write_text(MODEL)
    (folder / "train.py").write_text(TRAIN)
    return folder


class Session:
    """A client at hand: to start a server takes longer than most tests, so those that need nothing special share one.

    It then opens the test's folder in place of the last one's, as a person does who goes on to other work.
    """

    shared: Client | None = None

    def __init__(self, folder: Path) -> None:
        self._environment = {"LOSSPROOF_CACHE_DIR": str(folder / "cache"), "LOSSPROOF_TRACEBACK": "1"}
        self._client: Client | None = None
        self._alone = False

    def hello(self, *folders: Path, **how: Any) -> Any:
        self._alone = bool(how) or len(folders) != 1
        if self._alone or Session.shared is None:
            self._client = Client(env=self._environment)
            answer = self._client.hello(*folders, **how)
            if not self._alone:
                Session.shared = self._client
            return answer
        self._client = Session.shared
        self._client.received.clear()
        self._client.enter(folders[0])
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def end(self) -> None:
        """Nothing that was said or printed may be a traceback."""
        client = self._client
        if client is None:
            return
        if self._alone or client.process.poll() is not None:
            Session.shared = None if client is Session.shared else Session.shared
            client.kill()
        else:
            client.close_all()
        assert "Traceback" not in json.dumps(client.received)
        assert "Traceback" not in client.errors.decode()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.end()


@pytest.fixture(scope="module", autouse=True)
def _no_server_left() -> Iterator[None]:
    yield
    if Session.shared is not None:
        Session.shared.kill()
        assert b"Traceback" not in Session.shared.errors
        Session.shared = None


def codes(diagnostics: list[dict[str, Any]]) -> list[str]:
    return [each["code"] for each in diagnostics]


def applied(text: str, edits: list[dict[str, Any]]) -> str:
    """What an editor makes of edits (the texts here are ASCII)."""
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)

    def offset(place: dict[str, int]) -> int:
        return min(starts[place["line"]] + place["character"], len(text))

    for edit in sorted(edits, key=lambda e: offset(e["range"]["start"]), reverse=True):
        first, last = offset(edit["range"]["start"]), offset(edit["range"]["end"])
        text = text[:first] + edit["newText"] + text[last:]
    return text


def edits_of(action: dict[str, Any], uri: str) -> list[dict[str, Any]]:
    (change,) = [c for c in action["edit"]["documentChanges"] if c["textDocument"]["uri"] == uri]
    found: list[dict[str, Any]] = change["edits"]
    return found


def test_a_finding_shows_its_way(client: Session, root: Path) -> None:
    client.hello(root, options={})
    train, model = (root / "train.py").as_uri(), (root / "model.py").as_uri()
    client.open(train, TRAIN)
    (found,) = client.published(train, 1)
    assert (found["code"], found["severity"], found["source"]) == ("LP101", 1, "lossproof")
    assert found["range"] == at(7, 15, 50)
    assert [(h["location"]["uri"], h["location"]["range"]["start"]["line"]) for h in found["relatedInformation"]] == [
        (model, 10),
        (train, 7),
    ]
    assert found["relatedInformation"][0]["message"] == "sigmoid applied here"
    assert found["data"]["name"] == "sigmoid-before-bce"
    page = found["codeDescription"]["href"]
    assert page.startswith("file:///")
    assert "sigmoid-before-bce" in Path(page.removeprefix("file://")).read_text()
    assert client.goodbye() == 0


def test_an_editor_that_knows_no_related_places_gets_them_in_the_message(client: Session, root: Path) -> None:
    client.hello(root, publishDiagnostics={})
    train = (root / "train.py").as_uri()
    client.open(train, TRAIN)
    (found,) = client.published(train, 1)
    assert "model.py:11:16: sigmoid applied here" in found["message"].replace(str(root) + os.sep, "")


def test_an_edit_in_one_file_is_seen_in_another(client: Session, root: Path) -> None:
    client.hello(root)
    train, model = (root / "train.py").as_uri(), (root / "model.py").as_uri()
    client.open(train, TRAIN)
    assert codes(client.published(train, 1)) == ["LP101"]
    client.open(model, MODEL)
    client.settle(train)
    client.change(model, 2, {"text": MODEL.replace("torch.sigmoid(self.fc(x))", "self.fc(x)")})
    assert client.published(train) == []
    client.change(model, 3, {"text": MODEL})
    assert codes(client.published(train)) == ["LP101"]
    client.change(model, 4, {"text": "# a line more\n" + MODEL})
    hop = client.published(train)[0]["relatedInformation"][0]
    assert hop["location"]["range"]["start"]["line"] == 11


def test_findings_of_closed_files_are_shown_if_wanted(client: Session, root: Path) -> None:
    client.hello(root)
    train = (root / "train.py").as_uri()
    assert codes(client.published(train)) == ["LP101"]
    client.notify("workspace/didChangeConfiguration", {"settings": {"lossproof": {"diagnostics": "open"}}})
    assert client.published(train) == []


def test_half_a_line_takes_nothing_away(client: Session, root: Path) -> None:
    client.hello(root)
    train, model = (root / "train.py").as_uri(), (root / "model.py").as_uri()
    client.open(train, TRAIN)
    client.open(model, MODEL)
    client.settle(train)
    said = len(client.received)
    client.change(train, 2, {"text": TRAIN + "x = ("})
    client.change(model, 2, {"text": MODEL + "y = ["})
    assert client.actions(train, {"range": at(7, 20)}) == []  # which waits for the check
    assert [m for m in client.received[said:] if m.get("method") == "textDocument/publishDiagnostics"] == []
    client.change(train, 3, {"text": "\n" + TRAIN + "x = ()\n"})
    (found,) = client.published(train, 3)
    assert found["range"]["start"]["line"] == 8


@pytest.mark.parametrize(("encodings", "column"), [(None, 42), (["utf-16"], 42), (["utf-8"], 48), (["utf-32"], 39)])
def test_columns_are_counted_as_agreed(client: Session, root: Path, encodings: list[str] | None, column: int) -> None:
    text = TRAIN.replace("        loss = F", '        note = "😀😀😀é"; loss = F')
    assert "loss = F.binary" in text
    answer = client.hello(root, encodings=encodings)
    assert answer["capabilities"]["positionEncoding"] == (encodings or ["utf-16"])[0]
    train = (root / "train.py").as_uri()
    client.open(train, text)
    (found,) = client.published(train, 1)
    start = text.split("\n")[7].index("F.binary")
    units = {"utf-8": 3 * 3 + 1, "utf-32": 0}.get((encodings or ["utf-16"])[0], 3)
    assert found["range"]["start"]["character"] == start + units
    # An edit behind the emoji, in the same units.
    span = found["range"]
    client.change(train, 2, {"range": span, "text": "F.binary_cross_entropy_with_logits(model.fc(x), y)"})
    assert client.published(train, 2) == []


def test_odd_line_ends_do_not_lead_an_edit_astray(client: Session, root: Path) -> None:
    text = TRAIN.replace("\n\n\ndef", "\n# \u2028 \x85\n\x0c\ndef").replace("\n", "\r\n")
    client.hello(root)
    train = (root / "train.py").as_uri()
    client.open(train, text)
    (found,) = client.published(train, 1)
    line = found["range"]["start"]["line"]
    assert line == 7
    change = {"range": at(line, 15, 37), "text": "F.binary_cross_entropy_with_logits"}
    client.change(train, 2, change)
    (found,) = client.published(train, 2)
    assert found["code"] == "LP103"


def test_only_the_newest_text_counts(client: Session, root: Path) -> None:
    client.hello(root, options={"debounce": 200})
    train = (root / "train.py").as_uri()
    client.open(train, TRAIN)
    client.published(train, 1)
    for version in range(2, 30):
        client.change(train, version, {"text": TRAIN + f"# {version}\n"})
    client.published(train, 29)
    versions = [
        m["params"].get("version") for m in client.received if m.get("method") == "textDocument/publishDiagnostics"
    ]
    assert len([version for version in versions if version and version > 1]) < 5


def test_hover_has_the_rule_and_its_evidence(client: Session, root: Path) -> None:
    client.hello(root)
    train, model = (root / "train.py").as_uri(), (root / "model.py").as_uri()
    client.open(train, TRAIN)
    client.open(model, MODEL)
    client.settle(train)
    for uri, line, character in ((train, 7, 20), (model, 10, 20)):
        place = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}
        text = client.request("textDocument/hover", place)["contents"]["value"]
        assert text.startswith("**LP101** sigmoid-before-bce")
        assert "**Measured**" in text
        assert f"[model.py:11:16]({model}#L11)" in text
    nowhere = {"textDocument": {"uri": train}, "position": {"line": 0, "character": 0}}
    assert client.request("textDocument/hover", nowhere) is None


def test_a_quick_fix(client: Session, root: Path) -> None:
    (root / "kept.py").write_text(KEPT)
    client.hello(root)
    uri = (root / "kept.py").as_uri()
    client.open(uri, KEPT)
    found = client.published(uri, 1)
    assert codes(found) == ["LP305", "LP305"]
    fix, suppress = client.actions(uri, found[0], ["quickfix"])
    assert fix["title"].startswith("Fix LP305: ")
    assert fix["isPreferred"]
    assert fix["diagnostics"][0]["code"] == "LP305"
    assert fix["edit"]["documentChanges"][0]["textDocument"] == {"uri": uri, "version": 1}
    assert suppress["title"] == "Suppress LP305 for this line, with a reason"
    text = applied(KEPT, edits_of(fix, uri))
    assert text != KEPT
    client.change(uri, 2, {"text": text})
    assert codes(client.published(uri, 2)) == ["LP305"]


def test_a_quick_fix_in_another_file(client: Session, root: Path) -> None:
    client.hello(root)
    train, model = (root / "train.py").as_uri(), (root / "model.py").as_uri()
    client.open(train, TRAIN)
    (found,) = client.published(train, 1)
    fix = client.actions(train, found, ["quickfix"])[0]
    assert fix["title"].startswith("Fix LP101: ")
    changes = {each["textDocument"]["uri"]: each["textDocument"]["version"] for each in fix["edit"]["documentChanges"]}
    assert changes == {model: None, train: 1}
    mended = applied(MODEL, edits_of(fix, model))
    assert "sigmoid" not in mended
    client.open(model, mended)
    client.change(train, 2, {"text": applied(TRAIN, edits_of(fix, train))})
    assert client.published(train, 2) == []


@pytest.mark.parametrize("resolves", [True, False])
def test_fix_all(client: Session, root: Path, resolves: bool) -> None:
    (root / "kept.py").write_text(KEPT)
    client.hello(root, **({} if resolves else {"codeAction": {}}))
    uri = (root / "kept.py").as_uri()
    client.open(uri, KEPT)
    found = client.published(uri, 1)
    (action,) = client.actions(uri, found[0], ["source.fixAll"])
    assert action["kind"] == "source.fixAll.lossproof"
    if resolves:
        assert "edit" not in action
        action = client.request("codeAction/resolve", action)
    text = applied(KEPT, edits_of(action, uri))
    client.change(uri, 2, {"text": text})
    assert client.published(uri, 2) == []
    assert "# of the epoch" in text


SILENCED = [
    ("loss = F.{0}", "loss = F.{0}  # lossproof: ignore[LP101] TODO: say why"),
    ("loss = F.{0}  # type: ignore", "loss = F.{0}  # type: ignore  # lossproof: ignore[LP101] TODO: say why"),
    ("loss = F.{0}  # lossproof: ignore[LP9] x", "loss = F.{0}  # lossproof: ignore[LP9, LP101] x"),
    ("loss = F.{0}   ", "loss = F.{0}  # lossproof: ignore[LP101] TODO: say why"),
    (
        's = """\n        """; loss = F.{0}',
        's = """\n        """; loss = F.{0}  # lossproof: ignore[LP101] TODO: say why',
    ),
    (
        'loss = F.{0} + len("""a\n        b""")',
        'loss = F.{0} + len("""a\n        b""")  # lossproof: ignore[LP101] TODO: say why',
    ),
    (
        "loss = F.{0} + \\\n            0",
        "loss = F.{0} + \\\n            0  # lossproof: ignore[LP101] TODO: say why",
    ),
]


def test_a_suppression_with_a_reason(client: Session, root: Path) -> None:
    call = "binary_cross_entropy(model(x), y)"
    client.hello(root)
    uri = (root / "train.py").as_uri()
    client.open(uri, TRAIN)
    version = 1
    for line, expected in SILENCED:
        before = TRAIN.replace(f"loss = F.{call}", line.format(call))
        client.change(uri, version + 1, {"text": before})
        found = [each for each in client.published(uri, version + 1) if each["code"] == "LP101"]
        (action,) = [a for a in client.actions(uri, found[0], ["quickfix"]) if a["title"].startswith("Suppress")]
        text = applied(before, edits_of(action, uri))
        assert text == TRAIN.replace(f"loss = F.{call}", expected.format(call))
        version += 2
        client.change(uri, version, {"text": text})
        assert "LP101" not in codes(client.published(uri, version))


def test_a_suppression_of_nothing_is_greyed_and_can_go(client: Session, root: Path) -> None:
    text = "x = 1  # lossproof: ignore[LP101] once\n" + ALONE
    client.hello(root)
    uri = (root / "other.py").as_uri()
    client.open(uri, text)
    unused = client.published(uri, 1)[-1]
    assert (unused["code"], unused["tags"], unused["range"]) == ("unused-suppression", [1], at(0, 7, 38))
    (action,) = client.actions(uri, unused, ["quickfix"])
    assert applied(text, edits_of(action, uri)) == "x = 1\n" + ALONE


def test_the_configuration_is_read_again_when_it_is_saved(client: Session, root: Path) -> None:
    client.hello(root)
    train, settings = (root / "train.py").as_uri(), root / "pyproject.toml"
    client.open(train, TRAIN)
    assert codes(client.published(train, 1)) == ["LP101"]
    event = {"changes": [{"uri": settings.as_uri(), "type": 2}]}
    settings.write_text("[tool.lossproof]\nignore = ['LP101']\n")
    client.notify("workspace/didChangeWatchedFiles", event)
    assert client.published(train) == []
    settings.write_text("[tool.lossproof]\nignroe = ['LP101']\n")
    client.notify("workspace/didChangeWatchedFiles", event)
    said = client.wait(lambda m: m.get("method") == "window/showMessage")["params"]["message"]
    assert "unknown setting 'ignroe'" in said
    settings.write_text("")
    client.notify("workspace/didChangeWatchedFiles", event)
    assert codes(client.published(train)) == ["LP101"]
    watched = next(r for r in client.requests if r["method"] == "client/registerCapability")
    globs = [w["globPattern"] for w in watched["params"]["registrations"][0]["registerOptions"]["watchers"]]
    assert "**/pyproject.toml" in globs


def test_files_that_come_and_go_on_disk(client: Session, root: Path) -> None:
    client.hello(root)
    train, other = (root / "train.py").as_uri(), root / "other.py"
    client.open(train, TRAIN)
    client.published(train, 1)
    other.write_text(ALONE)
    client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": other.as_uri(), "type": 1}]})
    assert codes(client.published(other.as_uri())) == ["LP102"]
    other.unlink()
    client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": other.as_uri(), "type": 3}]})
    assert client.published(other.as_uri()) == []


def test_an_excluded_file_stays_unchecked(client: Session, root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool.lossproof]\nextend-exclude = ['old']\n")
    (root / ".gitignore").write_text("scratch_*.py\n")
    (root / ".git").mkdir()
    (root / "old").mkdir()
    client.hello(root)
    for name in ("old/alone.py", "scratch_1.py", "build/x.py"):
        client.open((root / name).as_uri(), ALONE)
        assert client.published((root / name).as_uri(), 1) == []
    client.open((root / "new.py").as_uri(), ALONE)
    assert codes(client.published((root / "new.py").as_uri(), 1)) == ["LP102"]


def test_a_file_that_was_never_saved_is_part_of_the_project(client: Session, root: Path) -> None:
    (root / "model.py").unlink()
    client.hello(root)
    train, model = (root / "train.py").as_uri(), (root / "model.py").as_uri()
    client.open(train, TRAIN)
    client.published(train, 1)
    client.open(model, MODEL)
    assert codes(client.published(train)) == ["LP101"]
    client.notify("textDocument/didClose", {"textDocument": {"uri": model}})
    client.settle(train)
    assert client.diagnostics[train] == []
    client.open("untitled:Untitled-1", ALONE)
    assert codes(client.published("untitled:Untitled-1", 1)) == ["LP102"]


def test_without_a_folder(client: Session, root: Path) -> None:
    client.hello()
    train = (root / "train.py").as_uri()
    client.open("untitled:Untitled-1", ALONE)
    assert codes(client.published("untitled:Untitled-1", 1)) == ["LP102"]
    client.open(train, TRAIN)
    (found,) = client.published(train, 1)
    assert found["relatedInformation"][0]["location"]["uri"] == (root / "model.py").as_uri()
    client.notify("textDocument/didClose", {"textDocument": {"uri": train}})
    assert client.published(train) == []


def test_a_file_outside_of_the_open_folder(client: Session, root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "setup.py").write_text("")
    (elsewhere / "alone.py").write_text(ALONE)
    (elsewhere / "second.py").write_text(ALONE)
    client.hello(root)
    uri = (elsewhere / "alone.py").as_uri()
    client.open(uri, ALONE)
    assert codes(client.published(uri, 1)) == ["LP102"]
    client.settle(uri)
    assert (elsewhere / "second.py").as_uri() not in client.diagnostics


def test_several_folders_each_with_its_settings(client: Session, root: Path, tmp_path: Path) -> None:
    second, third = tmp_path / "second", tmp_path / "third"
    for folder, settings in ((second, "[tool.lossproof]\nignore = ['LP1']\n"), (third, "")):
        folder.mkdir()
        (folder / "pyproject.toml").write_text(settings)
        (folder / "train.py").write_text(TRAIN)
        (folder / "model.py").write_text(MODEL)
    client.hello(root, second)
    one, other, last = ((folder / "train.py").as_uri() for folder in (root, second, third))
    client.open(one, TRAIN)
    assert codes(client.published(one, 1)) == ["LP101"]
    client.open(other, TRAIN)
    assert client.published(other, 1) == []
    event = {"added": [{"uri": third.as_uri(), "name": "third"}], "removed": [{"uri": root.as_uri(), "name": "x"}]}
    client.notify("workspace/didChangeWorkspaceFolders", {"event": event})
    assert codes(client.published(last)) == ["LP101"]


NOTEBOOK = "notebook.ipynb"


def open_notebook(client: Session, path: Path, sources: list[str]) -> list[str]:
    """Open it as VS Code does; a source that begins with #md is no code. The addresses of the cells."""
    kinds = ["markdown" if text.startswith("#md") else "python" for text in sources]
    uris = [f"vscode-notebook-cell:{path}#{number}" for number in range(len(sources))]
    cells = [{"kind": 1 + (kind == "python"), "document": uri} for kind, uri in zip(kinds, uris, strict=True)]
    texts = [
        {"uri": uri, "languageId": kind, "version": 1, "text": text}
        for uri, kind, text in zip(uris, kinds, sources, strict=True)
    ]
    notebook = {"uri": path.as_uri(), "notebookType": "jupyter-notebook", "version": 1, "cells": cells}
    client.notify("notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": texts})
    return uris


def test_a_notebook(client: Session, root: Path) -> None:
    path = root / NOTEBOOK
    client.hello(root)
    sources = ["#md a title", MODEL, "%matplotlib inline\n" + TRAIN.replace("from model import Net\n", "")]
    _, first, last = open_notebook(client, path, sources)
    (found,) = client.published(last, 1)
    assert found["range"]["start"]["line"] == 7
    assert found["relatedInformation"][0]["location"]["uri"] == first
    *_, action = client.actions(last, found, ["quickfix"])
    assert edits_of(action, last)[0]["newText"].endswith("# lossproof: ignore[LP101] TODO: say why")

    def typed(uri: str, version: int, change: dict[str, Any]) -> None:
        cells = {"textContent": [{"document": {"uri": uri, "version": version}, "changes": [change]}]}
        document = {"uri": path.as_uri(), "version": version}
        client.notify("notebookDocument/didChange", {"notebookDocument": document, "change": {"cells": cells}})

    typed(first, 2, {"range": at(10, 15, 40), "text": "self.fc(x)"})
    assert client.published(last) == []
    typed(first, 3, {"text": MODEL})
    assert codes(client.published(last)) == ["LP101"]
    typed(first, 4, {"text": MODEL + "("})
    assert client.actions(first, {"range": at(0, 0)}) == []
    assert codes(client.diagnostics[last]) == ["LP101"]
    # A cell less.
    structure = {"array": {"start": 1, "deleteCount": 1}, "didClose": [{"uri": first}]}
    document = {"uri": path.as_uri(), "version": 5}
    change = {"cells": {"structure": structure}}
    client.notify("notebookDocument/didChange", {"notebookDocument": document, "change": change})
    assert client.published(last) == []


def test_a_notebook_that_is_not_open(client: Session, root: Path) -> None:
    cells = [{"cell_type": "code", "source": "x = 1"}, {"cell_type": "code", "source": ALONE}]
    path = root / NOTEBOOK
    path.write_text(json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}))
    client.hello(root)
    (found,) = client.published(path.as_uri())
    assert found["message"].startswith("cell 2, line 6: ")
    assert found["range"] == at(0, 0)
    _, last = open_notebook(client, path, ["x = 1", ALONE])
    assert codes(client.published(last, 1)) == ["LP102"]
    assert client.diagnostics[path.as_uri()] == [] or client.published(path.as_uri()) == []


def test_diagnostics_on_demand(client: Session, root: Path) -> None:
    answer = client.hello(root, options={"pull": True}, diagnostic={})
    assert answer["capabilities"]["diagnosticProvider"]["interFileDependencies"]
    train, model = (root / "train.py").as_uri(), (root / "model.py").as_uri()
    client.open(train, TRAIN)
    client.open(model, MODEL)

    def pull() -> list[str]:
        answer = client.request("textDocument/diagnostic", {"textDocument": {"uri": train}})
        assert answer["kind"] == "full"
        return codes(answer["items"])

    assert pull() == ["LP101"]
    client.change(model, 2, {"text": MODEL.replace("torch.sigmoid(self.fc(x))", "self.fc(x)")})
    client.wait(lambda m: m.get("method") == "workspace/diagnostic/refresh")
    assert pull() == []
    assert client.diagnostics.get(train, []) == []


def test_settings_of_the_editor(client: Session, root: Path) -> None:
    client.hello(root, options={"ignore": ["LP101"], "diagnostics": "sometimes"})
    said = next(m for m in client.received if m.get("method") == "window/showMessage")["params"]["message"]
    assert "lossproof.diagnostics cannot be 'sometimes'" in said
    train = (root / "train.py").as_uri()
    client.open(train, TRAIN)
    assert client.published(train, 1) == []
    client.notify("workspace/didChangeConfiguration", {"settings": {"lossproof": {"select": ["ALL"]}}})
    assert codes(client.published(train)) == ["LP101"]
    client.notify("workspace/didChangeConfiguration", {"settings": {"lossproof": {"enable": False}}})
    assert client.published(train) == []


def test_questions_about_nothing_get_no_traceback(client: Session, root: Path) -> None:
    client.hello(root)
    nowhere = {"textDocument": {"uri": (root / "none.py").as_uri()}, "position": {"line": 900, "character": 900}}
    assert client.request("textDocument/hover", nowhere) is None
    assert client.actions((root / "none.py").as_uri(), {"range": at(3, 3)}) == []
    train = (root / "train.py").as_uri()
    client.open(train, "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace") + TRAIN)
    client.published(train, 1)
    number = client.start("no/suchMethod", {})
    assert "error" in client.wait(lambda m: m.get("id") == number)


def test_the_server_ends_with_its_editor(client: Session, root: Path) -> None:
    client.hello(root, options={})
    client.published((root / "train.py").as_uri())
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(30) == 0


def test_the_cache_is_shared_with_the_command_line(client: Session, root: Path, tmp_path: Path) -> None:
    def checked() -> str:
        environment = {**os.environ, "LOSSPROOF_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "lossproof", "check", "-v"]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    client.hello(root, options={})
    train = (root / "train.py").as_uri()
    client.open(train, TRAIN)
    client.settle(train)
    text = TRAIN.replace("model = Net()", "model = Net().train()")
    client.change(train, 2, {"text": text})
    client.published(train, 2)
    (root / "train.py").write_text(text)
    client.notify("textDocument/didSave", {"textDocument": {"uri": train}})
    client.published(train, 2)
    client.settle(train)
    client.goodbye()
    said = checked()
    assert "LP101" in said
    assert "0 parsed" in said


def test_without_pygls_the_command_says_what_to_install() -> None:
    program = "import sys; sys.modules['pygls'] = None; from lossproof.cli import main; sys.exit(main(['lsp']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'lossproof: the language server needs pygls: pip install "lossproof[lsp]"\n'


def test_a_file_typed_letter_by_letter(client: Session, root: Path) -> None:
    (root / "train.py").unlink()
    client.hello(root)
    train = (root / "train.py").as_uri()
    client.open(train, "")
    line = column = 0
    for version, letter in enumerate(TRAIN, start=2):
        client.change(train, version, {"range": at(line, column), "text": letter})
        line, column = (line + 1, 0) if letter == "\n" else (line, column + 1)
    (found,) = client.published(train, len(TRAIN) + 1)
    assert (found["code"], found["range"]) == ("LP101", at(7, 15, 50))


def places_of(root: Path, opened: dict[str, Opened]) -> Places:
    report = check_paths([root], Options(cache=False, select=["LP101"]))
    return Places(Checked(Project(str(root), Settings()), report, {}, {}), opened, None)


@pytest.mark.parametrize("versions", [True, False])
def test_a_fix_in_two_files(root: Path, versions: bool) -> None:
    train = str(root / "train.py")
    (root / "model.py").write_bytes(MODEL.replace("\n", "\r\n").encode())
    opened = {train: Opened(train, (root / "train.py").as_uri(), 7, TRAIN)}
    places = places_of(root, opened)
    (finding,) = places.checked.report.findings
    hop = finding.related[0]
    edits = (
        Edit(replace(hop, message=""), "self.fc(x)"),
        Edit(Location(hop.path, 1, 1, 1, 1), "import os\n"),
        Edit(Location(finding.path, 8, 16, 8, 38), "F.binary_cross_entropy_with_logits"),
    )
    for fixable, title in (("safe", "Fix LP101: logits"), ("unsafe", "Fix LP101 (unsafe): logits")):
        mended = replace(finding, remedy=Remedy("help", fixable, edits, "logits"))
        shown = next(iter(diagnostics(places, related=True).values()))[0]
        fix, _ = actions.for_finding(shown, mended, places, versions=versions)
        assert fix.title == title
        assert bool(fix.is_preferred) is (fixable == "safe")
        assert fix.edit is not None
        if versions:
            changes = fix.edit.document_changes or []
            assert [(c.text_document.uri, c.text_document.version) for c in changes] == [
                ((root / "model.py").as_uri(), None),
                ((root / "train.py").as_uri(), 7),
            ]
            assert [e.new_text for e in changes[0].edits] == ["self.fc(x)", "import os\r\n"]
        else:
            assert sorted(fix.edit.changes or {}) == [(root / n).as_uri() for n in ("model.py", "train.py")]


def test_a_fix_that_would_not_parse_is_not_offered(root: Path) -> None:
    train = str(root / "train.py")
    places = places_of(root, {train: Opened(train, (root / "train.py").as_uri(), 1, TRAIN)})
    (finding,) = places.checked.report.findings
    shown = next(iter(diagnostics(places, related=True).values()))[0]
    remedy = Remedy("help", "safe", (Edit(Location(finding.path, 8, 16, 8, 38), "F.x("),), "note")
    (only,) = actions.for_finding(shown, replace(finding, remedy=remedy), places, versions=True)
    assert only.title.startswith("Suppress")
