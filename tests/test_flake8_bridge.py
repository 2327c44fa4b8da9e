"""The findings within flake8."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("flake8")

SETTINGS = """\
[flake8]
extend-select = LP
max-line-length = 120
jobs = 1
"""
MODEL = """\
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        return self.fc(x).sigmoid()
"""
TRAIN = """\
import torch.nn.functional as F
from model import Net


def step(x, y):
    loss = F.binary_cross_entropy(Net()(x), y)
    loss.backward()
"""


def flake8(root: Path, *arguments: str, given: str = "") -> list[str]:
    command = [sys.executable, "-m", "flake8", "--config", str(root / "flake8.ini"), *arguments]
    done = subprocess.run(command, cwd=root, input=given, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_file_is_checked_within_its_project(project: Callable[..., Path]) -> None:
    root = project({"flake8.ini": SETTINGS, "model.py": MODEL, "train.py": TRAIN})
    (found,) = flake8(root, ".")
    assert found.startswith("./train.py:6:12: LP101 sigmoid-before-bce: the output of a sigmoid reaches")
    assert flake8(root, "model.py") == []
    assert len(flake8(root, "train.py")) == 1


def test_both_ways_to_silence_it(project: Callable[..., Path]) -> None:
    text = TRAIN.replace("x), y)", "x), y)  # {}")
    files = {"a.py": text.format("noqa: LP101"), "b.py": text.format("lossproof: ignore[LP101] as published")}
    root = project({"flake8.ini": SETTINGS, "model.py": MODEL, **files})
    assert flake8(root, ".") == []
    assert flake8(root, "--extend-ignore", "LP1", ".") == []


def test_standard_input(project: Callable[..., Path]) -> None:
    root = project({"flake8.ini": SETTINGS, "model.py": MODEL})
    (found,) = flake8(root, "-", given=TRAIN)
    assert ":6:12: LP101 " in found


def test_a_mistake_in_the_settings_is_said_once(project: Callable[..., Path]) -> None:
    files = {"flake8.ini": SETTINGS, "model.py": MODEL, "train.py": TRAIN}
    root = project({**files, "pyproject.toml": "[tool.lossproof]\nselekt = []\n"})
    (found,) = flake8(root, ".")
    assert "LP000 could not run" in found


def test_the_plugin_is_announced() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert '[project.entry-points."flake8.extension"]\nLP = "lossproof.flake8_bridge:Plugin"' in text
