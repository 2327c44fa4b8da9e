"""A large project is worked through in parts, by short-lived processes: the same answer, whatever happens to one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lossproof.check import Options, Report, check_paths
from lossproof.source import session
from lossproof.source.investigate import Investigation

MODEL = """\
import torch
from torch import nn


class Net{0}(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        return torch.sigmoid(self.fc(x))
"""
TRAIN = """\
import torch.nn.functional as F
from model_{0} import Net{0}


def train_{0}(loader, optimizer):
    model = Net{0}()
    for x, y in loader:
        loss = F.binary_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    for number in range(8):
        (root / f"model_{number}.py").write_text(MODEL.format(number))
        (root / f"train_{number}.py").write_text(TRAIN.format(number))
    monkeypatch.setattr(session, "LARGE_PROJECT", 1_000)
    monkeypatch.setattr(session, "PART", 600)
    return root


def check(root: Path, jobs: int, cache: Path | None = None) -> Report:
    return check_paths([str(root)], Options(cache=cache is not None, cache_dir=str(cache), jobs=jobs))


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_parts_make_the_whole(project: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    shared = check(project, jobs)
    assert [(f.rule, os.path.basename(f.path)) for f in shared.findings] == [
        ("LP101", f"train_{number}.py") for number in range(8)
    ]
    monkeypatch.setattr(session, "LARGE_PROJECT", 10_000_000)
    assert check(project, jobs).findings == shared.findings
    assert shared.files_parsed == 16


def test_the_run_after_an_edit(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    check(project, 2, cache)
    model = project / "model_3.py"
    model.write_text(model.read_text().replace("torch.sigmoid(self.fc(x))", "self.fc(x)"))
    again = check(project, 2, cache)
    assert again.findings == check(project, 2).findings
    assert len(again.findings) == 7
    assert again.files_parsed < 8


def test_a_process_that_dies_is_told_of_and_the_rest_is_checked(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, function = os.getpid(), Investigation.function

    def dies(self: Investigation, subject: object) -> None:
        if getattr(subject, "name", "") == "train_2" and os.getpid() != here:
            os._exit(9)
        function(self, subject)  # type: ignore[arg-type]

    monkeypatch.setattr(Investigation, "function", dies)
    cache = tmp_path / "cache"
    report = check(project, 2, cache)
    assert len(report.findings) == 7
    assert len(report.warnings) == 1
    assert "ended too early" in report.warnings[0]
    assert "train_2.py" in report.warnings[0]
    # An answer with a hole in it is not kept.
    monkeypatch.setattr(Investigation, "function", function)
    assert len(check(project, 2, cache).findings) == 8
