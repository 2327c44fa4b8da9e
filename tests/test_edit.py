"""The run after an edit says what a run from nothing says, and looks again only at what the edit can have touched."""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from lossproof.check import Options, Report, check_paths
from lossproof.source import cache as kept_answer
from lossproof.source import memory as kept_in_memory
from lossproof.source import session
from lossproof.source.memory import Memory

ROOT = Path(__file__).parent.parent
CASES = (
    "LP101/positive/two_files", "LP101/hidden/criterion_dict", "LP101/hidden/lightning_module",
    "LP102/hidden/trainer_class", "LP102/hidden/registry", "LP103/hidden/own_focal_class",
    "LP201/hidden/guard_checks_the_other_mask", "LP301/clean/dice_as_metric", "LP305/hidden/lightning_outputs",
)  # fmt: skip

HELPER = """\
import torch.nn.functional as F


def objective(scores, y):
    return F.binary_cross_entropy(scores, y)


def unused(x):
    return x
"""
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
from helper import objective
from model import Net


def train(loader, optimizer):
    model = Net()
    for x, y in loader:
        loss = objective(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
ALONE = """\
import torch
import torch.nn.functional as F


def one_step(net, x, y):
    loss = F.cross_entropy(torch.softmax(net(x), dim=1), y)
    loss.backward()
"""


def check(root: Path, cache: Path | None) -> Report:
    options = Options(cache=cache is not None, cache_dir=str(cache), show_unresolved=True, jobs=1)
    return check_paths([str(root)], options)


def said(report: Report) -> tuple[object, ...]:
    findings = [(f.rule, f.message, f.severity, f.location, f.related) for f in report.findings]
    return findings, report.unresolved, report.warnings


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    for name, text in (("helper", HELPER), ("model", MODEL), ("train", TRAIN), ("alone", ALONE)):
        (root / f"{name}.py").write_text(text)
    return root


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_lines_move_with_what_stands_above_them(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = check(project, cache)
    rewrite(project / "model.py", "import torch\n", "# what this is\n\nimport torch\n")
    after = check(project, cache)
    assert said(after) == said(check(project, None))
    assert [f.rule for f in after.findings] == [f.rule for f in before.findings] == ["LP102", "LP101"]
    hops = [hop.line for f in after.findings for hop in f.related if hop.path.endswith("model.py")]
    assert hops == [13]


def test_only_the_dependents_are_looked_at(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check(project, cache)
    rewrite(project / "alone.py", "dim=1", "dim=-1")
    again = check(project, cache)
    assert again.files_parsed == 1
    assert said(again) == said(check(project, None))


def test_a_mended_model_silences_the_loss_in_another_file(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check(project, cache)
    rewrite(project / "model.py", "torch.sigmoid(self.fc(x))", "self.fc(x)")
    assert [f.rule for f in check(project, cache).findings] == ["LP102"]
    rewrite(project / "model.py", "self.fc(x)", "torch.sigmoid(self.fc(x))")
    assert [f.rule for f in check(project, cache).findings] == ["LP102", "LP101"]


def test_a_new_caller_in_an_old_file_is_seen(project: Path, tmp_path: Path) -> None:
    (project / "train.py").write_text("def train():\n    loss = None\n    loss.backward()\n")
    cache = tmp_path / "cache"
    assert [f.rule for f in check(project, cache).findings] == ["LP102"]
    (project / "train.py").write_text(TRAIN)
    assert [f.rule for f in check(project, cache).findings] == ["LP102", "LP101"]


def test_a_new_file_and_a_deleted_one(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check(project, cache)
    (project / "other.py").write_text(ALONE)
    assert [f.rule for f in check(project, cache).findings] == ["LP102", "LP101", "LP102"]
    (project / "other.py").unlink()
    (project / "model.py").unlink()
    assert said(check(project, cache)) == said(check(project, None))


def test_a_file_that_breaks_and_is_mended(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check(project, cache)
    rewrite(project / "model.py", "def forward(self, x):", "def forward(self, x:")
    broken = check(project, cache)
    assert said(broken) == said(check(project, None))
    assert len(broken.warnings) == 1
    (project / "model.py").write_text(MODEL)
    assert [f.rule for f in check(project, cache).findings] == ["LP102", "LP101"]


def test_a_notebook(project: Path, tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "source": MODEL}, {"cell_type": "code", "source": TRAIN.replace("from model", "#")}]
    notebook = project / "train.ipynb"
    notebook.write_text(json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}))
    (project / "train.py").unlink()
    cache = tmp_path / "cache"
    check(project, cache)
    cells.insert(0, {"cell_type": "code", "source": "x = 1\n"})
    notebook.write_text(json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}))
    assert said(check(project, cache)) == said(check(project, None))


def test_a_file_that_is_edited_during_the_run_is_not_taken_for_what_was_read(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    assemble = session.Session._assemble

    def edited_meanwhile(self: session.Session) -> None:
        assemble(self)
        rewrite(project / "alone.py", "dim=1", "dim=2 - 3")
        rewrite(project / "model.py", "torch.sigmoid(self.fc(x))", "self.fc(x)")

    monkeypatch.setattr(session.Session, "_assemble", edited_meanwhile)
    monkeypatch.setattr(kept_answer, "RACY_NS", 0)  # as if the run had taken long
    assert [f.rule for f in check(project, cache).findings] == ["LP102", "LP101"]
    monkeypatch.setattr(session.Session, "_assemble", assemble)
    assert [f.rule for f in check(project, cache).findings] == ["LP102"]


def test_a_project_that_outgrows_a_small_one(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SMALL_PROJECT", 1_000)
    (project / "start.py").write_text("import train\nfrom model import Net\ntrain.train([], Net())\n")
    (project / "table.py").write_text("x = 1\n")
    cache = tmp_path / "cache"
    check(project, cache)
    for text in ("x = 1\n" * 1_000, "x = 1\n"):
        (project / "table.py").write_text(text)
        assert said(check(project, cache)) == said(check(project, None))


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"stamp": 1}', "null"])
def test_a_damaged_record_costs_time_only(project: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    check(project, cache)
    next(cache.glob("units-*.json")).write_text(damage)
    rewrite(project / "alone.py", "dim=1", "dim=-1")
    assert said(check(project, cache)) == said(check(project, None))


def test_the_record_of_another_run_is_not_taken(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check(project, cache)
    record = next(cache.glob("units-*.json"))
    old = record.read_bytes()
    rewrite(project / "model.py", "torch.sigmoid(self.fc(x))", "self.fc(x)")
    check(project, cache)
    record.write_bytes(old)
    rewrite(project / "alone.py", "dim=1", "dim=-1")
    assert said(check(project, cache)) == said(check(project, None))


@pytest.mark.parametrize("seed", range(4))
def test_random_edits(tmp_path: Path, seed: int) -> None:
    """Whatever is edited, one edit after another: the same as a run from nothing."""
    root, cache = tmp_path / "project", tmp_path / "cache"
    shutil.copytree(ROOT / "examples" / "digits", root / "digits")
    for case in CASES:
        source = ROOT / "tests" / "fixtures" / "source" / case
        if source.exists():
            shutil.copytree(source, root / case.replace("/", "_"))
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    chance = random.Random(seed)
    assert check(root, cache).findings
    files = sorted(root.rglob("*.py"))
    for _ in range(6):
        path = chance.choice(files)
        edited = edit(path.read_text(), chance)
        path.write_text(edited)
        os.utime(path, (0, 1_000_000 + chance.randrange(1_000_000)))
        assert said(check(root, cache)) == said(check(root, None)), path


@pytest.mark.parametrize("seed", range(4))
def test_random_edits_of_buffers(tmp_path: Path, seed: int) -> None:
    """As an editor's server checks: files and unsaved buffers, with the last run in memory."""
    root, cache = tmp_path / "project", tmp_path / "cache"
    shutil.copytree(ROOT / "examples" / "digits", root / "digits")
    for case in CASES:
        source = ROOT / "tests" / "fixtures" / "source" / case
        if source.exists():
            shutil.copytree(source, root / case.replace("/", "_"))
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    chance = random.Random(seed)
    memory = Memory()
    overlay: dict[str, bytes] = {}

    def recalled(memory: Memory | None) -> Report:
        options = Options(
            memory=memory, overlay=overlay, cache=memory is not None, cache_dir=str(cache), show_unresolved=True, jobs=1
        )
        return check_paths([str(root)], options)

    assert recalled(memory).findings
    if seed % 2:
        memory = Memory()  # the next one begins with what the cache folder holds
    files = sorted(root.rglob("*.py"))
    for step in range(8):
        path = chance.choice(files)
        text = overlay[str(path)].decode() if str(path) in overlay else path.read_text()
        kind = chance.choice(["buffer", "buffer", "broken", "disk", "saved", "closed"])
        if kind in ("buffer", "broken"):
            overlay[str(path)] = (edit(text, chance) + ("\nx = (" if kind == "broken" else "")).encode()
        elif kind == "disk":
            path.write_text(edit(path.read_text(), chance))
            os.utime(path, (0, 1_000_000 + step))
        elif kind == "saved":
            path.write_text(text)
            overlay.pop(str(path), None)
        else:
            overlay.pop(str(path), None)
        one, other = recalled(memory), recalled(None)
        assert said(one) == said(other), (kind, path)
        assert [str(each) for each in one.unused] == [str(each) for each in other.unused]


def test_cells_that_move_while_the_code_stays(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "setup.py").write_text("")
    path = root / "train.ipynb"
    head, tail = ALONE.split("\n\n\n")
    memory = Memory()

    def cells_of(*sources: str) -> list[int | None]:
        cells = [{"cell_type": "code", "source": text} for text in sources]
        overlay = {str(path): json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}).encode()}
        report = check_paths([str(root)], Options(memory=memory, overlay=overlay, cache=False, jobs=1))
        return [finding.location.cell for finding in report.findings]

    path.write_text("{}")
    assert cells_of(head + "\n\n\n" + tail) == [1]
    assert cells_of(head + "\n\n", tail) == [2]
    assert cells_of(head + "\n\n\n" + tail) == [1]


def test_too_many_names_begin_anew(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_in_memory, "MOST_BITS", 10)
    memory = Memory()
    options = Options(memory=memory, cache=False, jobs=1, show_unresolved=True)
    for number in range(60):
        (project / "alone.py").write_text(f"{ALONE}\n\ndef name_{number}(x):\n    return other_{number}(x)\n")
        assert said(check_paths([str(project)], options)) == said(check(project, None))
    assert len(memory.parsed.bits) < 3 * 60


def edit(text: str, chance: random.Random) -> str:
    """One edit such as people make: a comment, a statement more or less, another name, an activation."""
    lines = text.split("\n")
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    kind = chance.choice(["comment", "inside", "statement", "gone", "activation", "rename"])
    if kind == "comment" or not functions:
        lines.insert(0, "# a comment")
    else:
        function = chance.choice(functions)
        first = function.body[0]
        margin = " " * first.col_offset
        simple = [n for n in ast.walk(function) if isinstance(n, (ast.Assign, ast.Expr)) and n.lineno == n.end_lineno]
        returns = [n for n in ast.walk(function) if isinstance(n, ast.Return) and n.lineno == n.end_lineno and n.value]
        if kind == "inside":
            lines.insert(first.lineno - 1, f"{margin}# a comment")
        elif kind == "statement":
            lines.insert(first.lineno - 1, f"{margin}unused = 1")
        elif kind == "gone" and simple:
            node = chance.choice(simple)
            lines[node.lineno - 1] = " " * node.col_offset + "pass"
        elif kind == "activation" and returns:
            node = chance.choice(returns)
            if node.col_offset == len(lines[node.lineno - 1]) - len(lines[node.lineno - 1].lstrip()):
                value = ast.unparse(node.value)  # type: ignore[arg-type]
                lines[node.lineno - 1] = f"{' ' * node.col_offset}return ({value}).sigmoid()"
        elif kind == "rename":
            lines[function.lineno - 1] = lines[function.lineno - 1].replace(f"def {function.name}", "def renamed")
    changed = "\n".join(lines)
    try:
        ast.parse(changed)
    except SyntaxError:
        return "# a comment\n" + text
    return changed
