"""The five tasks run, the plain sum is one task's, and balance makes them learn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

SCRIPT = Path(__file__).parent.parent / "examples" / "five_tasks" / "train.py"


def test_five_tasks_run() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--epochs", "2"], capture_output=True, text=True, timeout=300, check=True
    )
    shares = {row[0]: float(row[1]) for row in re.findall(r"^(\w+) +[\d.]+ +([\d.]+)%", done.stdout, re.M)}
    assert shares["ink"] > 95
    assert "ink decides the step" in done.stdout
    metrics = done.stdout.partition("Held-out")[2]
    digit = [float(each) for each in re.search(r"^digit(.*)$", metrics, re.M)[1].split()]  # type: ignore[index]
    untrained, plain, _, standardized, _ = digit
    assert standardized > max(plain, untrained)
