"""The light path stays light: checking a clean file loads nothing that it does not need."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

HEAVY = {
    "torch", "numpy", "rich", "libcst", "pygls", "mcp", "jinja2", "duckdb", "shtab", "pathspec", "tomllib", "tomli",
    "multiprocessing", "concurrent", "asyncio", "xml", "difflib", "tempfile", "logging", "unittest",
    "pathlib", "urllib", "subprocess", "lossproof.report.text", "lossproof.report.json", "lossproof.report.sarif",
    "lossproof.selection", "lossproof.baseline", "lossproof.source.suppress",
}  # fmt: skip

PROGRAM = """
import sys
before = set(sys.modules)
if {fake}:
    import fake_engine
    fake_engine.install()
    before |= set(sys.modules) - {{"lossproof", "lossproof.finding"}}
from lossproof.cli import main
code = main({arguments!r})
import json
print(json.dumps([code, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""
ENGINE = importlib.util.find_spec("lossproof.source.engine") is not None


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command and the modules that it loaded, packages included."""
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(fake=not ENGINE, arguments=list(arguments))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": here},
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, {part for name in modules for part in (name, name.split(".")[0])}


def test_a_clean_file_costs_no_library(project):
    project({"t.py": "x = 1\n"})
    code, modules = loaded("check", "t.py", "--format", "concise")
    assert code == 0
    assert sorted(modules & HEAVY) == []


def test_a_clean_training_file_costs_no_library(project):
    project({"t.py": "import torch\nimport torch.nn.functional as F\n\n\ndef f(x, y):\n    return F.mse_loss(x, y)\n"})
    code, modules = loaded("check", "t.py", "--format", "concise")
    assert code == 0
    assert sorted(modules & HEAVY) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["check", "--help"],
        ["explain", "LP101"],
        ["explain", "--all"],
        ["lsp", "--help"],
        ["prove", "--help"],
        ["prove", "--list"],
    ],
)
def test_words_cost_no_library(project, arguments):
    project()
    _, modules = loaded(*arguments)
    assert sorted(modules & {"torch", "numpy", "rich", "libcst", "pygls", "shtab", "multiprocessing"}) == []


def test_importing_the_package_costs_nothing():
    program = "import sys; before = set(sys.modules); import lossproof; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "lossproof." not in done.stdout
    assert "torch" not in done.stdout
