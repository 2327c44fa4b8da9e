"""The project under examples/ is what its README says: five faults, a patch that mends four, and it trains."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lossproof.check import Options, Report, check_paths

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A copy that may be changed, at the same place below its root."""
    return shutil.copytree(DIGITS, tmp_path / "examples" / "digits", ignore=shutil.ignore_patterns("__pycache__"))


def mend(copy: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    patch = copy / "mend.patch"
    root = copy.parent.parent
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run(["git", "apply", "--unidiff-zero", str(patch)], cwd=root, check=True, capture_output=True)


def check(folder: Path) -> Report:
    return check_paths([folder], Options(cache=False, jobs=1))


def codes(report: Report) -> list[str]:
    assert not report.warnings
    return sorted(finding.rule for finding in report.findings)


def test_it_has_the_five_faults_that_its_readme_explains(digits: Path) -> None:
    found = codes(check(digits))
    assert found == ["LP101", "LP102", "LP201", "LP301", "LP501"]
    explained = re.findall(r"^### .*\((LP\d{3})\)$", (DIGITS / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(explained) == found


def test_the_faults_that_cross_files_show_every_hop(digits: Path) -> None:
    for finding in check(digits).findings:
        if finding.rule in ("LP101", "LP102"):
            files = [Path(place.path).name for place in finding.related]
            assert files[0] == "heads.py", "it begins where the activation is"
            assert len({*files, Path(finding.path).name}) >= 2


def test_after_the_patch_only_the_sum_is_left_to_measure(digits: Path) -> None:
    mend(digits)
    assert codes(check(digits)) == ["LP501"]


def test_the_patch_fits_both_ways(digits: Path) -> None:
    mend(digits)
    root = digits.parent.parent
    subprocess.run(["git", "apply", "--reverse", "--unidiff-zero", str(digits / "mend.patch")], cwd=root, check=True)
    for path in DIGITS.rglob("*.py"):
        assert (digits / path.relative_to(DIGITS)).read_text("utf-8") == path.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.skipif(find_spec("torch") is None or find_spec("sklearn") is None, reason="needs torch and scikit-learn")
def test_it_trains(digits: Path, mended: bool) -> None:
    if mended:
        mend(digits)
    command = [sys.executable, "-m", "reader.train", "--epochs", "2", "--device", "cpu"]
    done = subprocess.run(command, cwd=digits, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r" +\d", line)]
    assert [row[0] for row in rows] == ["1", "2"]
    assert float(rows[1][1]) < float(rows[0][1]), "the loss falls"
