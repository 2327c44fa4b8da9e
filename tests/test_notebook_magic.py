"""``%load_ext lossproof``: findings under the cell that just ran."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("IPython")

MODEL = """\
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        return self.fc(x).sigmoid()
"""
LOSS = """\
import torch.nn.functional as F

def step(x, y):
    loss = F.binary_cross_entropy(Net()(x), y)
    loss.backward()
"""
GOOD = LOSS.replace("binary_cross_entropy(", "mse_loss(")


class Shell:
    """A session, and what it shows."""

    def __init__(self, shell: Any, shown: list[Any]) -> None:
        self.shell = shell
        self.shown = shown

    def run(self, cell: str) -> list[Any]:
        """What stands under the cell. It need not work: torch may be missing."""
        del self.shown[:]
        self.shell.run_cell(cell, store_history=False)
        return list(self.shown)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(cache_size=0)
    made.history_manager.enabled = False
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda *given: shown.extend(given))
    made.run_line_magic("load_ext", "lossproof")
    yield Shell(made, shown)
    made.run_line_magic("unload_ext", "lossproof")
    made.atexit_operations()
    atexit.unregister(made.atexit_operations)
    manager = made.history_manager
    if getattr(manager, "save_thread", None) is not None:
        manager.save_thread.stop()
    if hasattr(getattr(manager, "db", None), "close"):
        manager.db.close()
    InteractiveShell.clear_instance()


def test_findings_under_the_cell(shell: Shell) -> None:
    assert shell.run("x = 1") == []
    assert shell.run(MODEL) == []
    (found,) = shell.run(LOSS)
    assert "line 4: error LP101 sigmoid-before-bce" in repr(found)
    assert "cell run 2, line 5: sigmoid applied here" in repr(found)
    page = found._repr_html_()
    assert "<b>LP101</b>" in page
    assert "<code>binary_cross_entropy</code>" in page
    assert shell.run("y = 2") == []


def test_a_cell_elsewhere_that_brings_it_about(shell: Shell) -> None:
    shell.run(MODEL.replace(".sigmoid()", ""))
    assert shell.run(LOSS) == []
    (found,) = shell.run(MODEL)
    assert "LP101" in repr(found)


def test_a_cell_that_did_not_run_is_not_read(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run(MODEL)
    assert shell.run(LOSS + "(") == []
    assert shell.run("%no_such_magic\n") == []
    assert shell.run(GOOD) == []
    assert len(shell.run("%no_such_magic\n" + LOSS)) == 1
    assert "lossproof:" not in capsys.readouterr().out


def test_the_project_around_it_and_its_settings(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.lossproof]\n")
    (tmp_path / "nets.py").write_text(MODEL)
    assert len(shell.run("from nets import Net\n" + LOSS)) == 1
    (tmp_path / "pyproject.toml").write_text("[tool.lossproof]\nignore = ['LP101']\n")
    assert shell.run("from nets import Net\n" + LOSS) == []


def test_trouble_is_one_line_said_once(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lossproof.toml").write_text("select = 1\n")
    assert shell.run(LOSS) == []
    assert shell.run(LOSS) == []
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lossproof:")]
    assert len(said) == 1
    assert "select must be a list of strings" in said[0]
