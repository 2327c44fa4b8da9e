"""The kept answer of an unchanged tree: the same findings, nothing parsed, and never a wrong answer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from lossproof.check import Options, check_paths

FAULTY = """\
import torch
import torch.nn.functional as F


def step(model, x, y):
    loss = F.binary_cross_entropy(torch.sigmoid(model(x)), y)
    loss.backward()
    return loss
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (root / "train.py").write_text(FAULTY)
    (root / "notes.py").write_text("x = 1\n")
    old = time.time() - 60
    for path in root.iterdir():
        os.utime(path, (old, old))
    monkeypatch.chdir(root)
    return root


def run(project: Path, tmp_path: Path) -> tuple[list[tuple[str, int, str]], int]:
    report = check_paths([str(project)], Options(cache_dir=str(tmp_path / "cache")))
    return [(f.path, f.line, f.rule) for f in report.findings], report.files_parsed


def kept(tmp_path: Path) -> Path:
    return next((tmp_path / "cache").glob("tree-*.json"))


def test_a_second_run_parses_nothing_and_says_the_same(project: Path, tmp_path: Path) -> None:
    first, parsed = run(project, tmp_path)
    assert first == [("train.py", 6, "LP101")]
    assert parsed > 0
    assert run(project, tmp_path) == (first, 0)


def test_a_mended_file_is_looked_at_again(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path)
    (project / "train.py").write_text(
        FAULTY.replace("torch.sigmoid(model(x))", "model(x)").replace("entropy(", "entropy_with_logits(")
    )
    assert run(project, tmp_path)[0] == []


def test_an_edit_of_the_same_size_and_time_is_seen_by_its_content(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path)
    status = (project / "train.py").stat()
    (project / "train.py").write_text(FAULTY.replace("torch.sigmoid", "torch.sigmoiD"))
    os.utime(project / "train.py", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert run(project, tmp_path)[0] == []


def test_touching_a_file_keeps_the_answer(project: Path, tmp_path: Path) -> None:
    first, _ = run(project, tmp_path)
    os.utime(project / "train.py")
    assert run(project, tmp_path) == (first, 0)


def test_an_edit_that_no_rule_looks_at_keeps_the_answer_only_if_nothing_rests_on_it(
    project: Path, tmp_path: Path
) -> None:
    first, _ = run(project, tmp_path)
    (project / "notes.py").write_text(FAULTY)
    assert [f[0] for f in run(project, tmp_path)[0]] == ["notes.py", "train.py"]
    assert first == [("train.py", 6, "LP101")]


def test_a_new_file_is_seen(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path)
    (project / "more.py").write_text(FAULTY)
    assert [f[0] for f in run(project, tmp_path)[0]] == ["more.py", "train.py"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"stamp": 1}', "\x00\x01", '{"stamp": [], "files": [], "findings": [{}]}'],
)
def test_a_corrupt_cache_is_no_cache(project: Path, tmp_path: Path, content: str) -> None:
    first, _ = run(project, tmp_path)
    kept(tmp_path).write_text(content)
    assert run(project, tmp_path)[0] == first


def test_damaged_entries_are_no_cache(project: Path, tmp_path: Path) -> None:
    first, _ = run(project, tmp_path)
    entry = json.loads(kept(tmp_path).read_text())
    entry["findings"] = [{"rule": "LP999"}]
    kept(tmp_path).write_text(json.dumps(entry))
    assert run(project, tmp_path)[0] == first


def test_a_folder_that_cannot_be_written_to_does_no_harm(project: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert run(project, tmp_path)[0] == [("train.py", 6, "LP101")]
