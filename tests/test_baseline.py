"""What is known stays quiet while the code around it moves, and wakes when it changes."""

from __future__ import annotations

import json

import pytest

from lossproof.check import Options, check_paths
from lossproof.problem import CannotRun

pytestmark = pytest.mark.usefixtures("fake_engine")

SOURCE = "a = fault_LP101(x)\nb = fault_LP201(x)\n"


def check(*paths: str, **options):
    return check_paths(paths or ["."], Options(baseline="known.json", **options))


def test_written_then_quiet(project):
    project({"t.py": SOURCE})
    written = check(update_baseline=True)
    assert (written.baseline_written, written.findings) == (2, [])
    report = check()
    assert (report.findings, report.known, report.stale) == ([], 2, 0)


def test_the_file_holds_no_line_numbers(project):
    root = project({"t.py": SOURCE, "z.py": SOURCE})
    check(update_baseline=True)
    content = json.loads((root / "known.json").read_text())
    assert [(entry["path"], entry["rule"], entry["line"]) for entry in content["findings"]] == [
        ("t.py", "LP101", "a = fault_LP101(x)"),
        ("t.py", "LP201", "b = fault_LP201(x)"),
        ("z.py", "LP101", "a = fault_LP101(x)"),
        ("z.py", "LP201", "b = fault_LP201(x)"),
    ]
    assert len({entry["fingerprint"] for entry in content["findings"]}) == 4


def test_code_may_move_and_be_indented(project):
    project({"t.py": SOURCE})
    check(update_baseline=True)
    project({"t.py": "# new\n\nif True:\n    b = fault_LP201(x)\n    a = fault_LP101(x)\n"})
    assert check().findings == []


@pytest.mark.parametrize("source", ["a = fault_LP101(y)\n", "a = fault_LP102(x)\n"])
def test_a_changed_line_wakes_it(project, source):
    project({"t.py": SOURCE})
    check(update_baseline=True)
    project({"t.py": source + "b = fault_LP201(x)\n"})
    report = check()
    assert [finding.line for finding in report.findings] == [1]
    assert report.stale == 1


def test_the_same_line_once_more_is_new(project):
    root = project({"t.py": "a = fault_LP101(x)\na = fault_LP101(x)\n"})
    check(update_baseline=True)
    assert json.loads((root / "known.json").read_text())["findings"][0]["count"] == 2
    assert check().findings == []
    project({"t.py": "a = fault_LP101(x)\n" * 3})
    assert [finding.line for finding in check().findings] == [3]
    project({"t.py": "a = fault_LP101(x)\n"})
    assert check().stale == 1


def test_only_what_was_looked_at_can_be_stale(project):
    root = project({"t.py": SOURCE, "u.py": SOURCE})
    check(update_baseline=True)
    assert check("t.py").stale == 0
    assert check(select=["LP1"]).stale == 0
    (root / "u.py").unlink()
    assert check("t.py").stale == 2


def test_a_refresh_keeps_what_was_not_looked_at(project):
    root = project({"t.py": SOURCE, "u.py": SOURCE, "v.py": SOURCE})
    check(update_baseline=True)
    project({"t.py": "a = fault_LP101(x)\n"})
    (root / "v.py").unlink()
    check("t.py", update_baseline=True)
    listed = json.loads((root / "known.json").read_text())["findings"]
    assert [(entry["path"], entry["rule"]) for entry in listed] == [
        ("t.py", "LP101"),
        ("u.py", "LP101"),
        ("u.py", "LP201"),
    ]
    check("u.py", update_baseline=True, select=["LP2"])
    assert check("u.py").findings == []


def test_it_means_the_same_from_everywhere(project, monkeypatch):
    root = project({"sub/t.py": SOURCE})
    check(update_baseline=True)
    monkeypatch.chdir(root / "sub")
    assert check_paths(["."], Options(baseline="../known.json")).findings == []


def test_suppressed_findings_stay_out_of_it(project):
    root = project({"t.py": "a = fault_LP101(x)  # noqa\n"})
    check(update_baseline=True)
    assert json.loads((root / "known.json").read_text())["findings"] == []


def test_writing_twice_gives_the_same_bytes(project):
    root = project({"t.py": SOURCE, "ü.py": "é = fault_LP101('ü')\n"})
    check(update_baseline=True)
    first = (root / "known.json").read_bytes()
    check(update_baseline=True)
    assert (root / "known.json").read_bytes() == first
    assert sorted(path.name for path in root.iterdir()) == ["known.json", "setup.py", "t.py", "ü.py"]


def test_notebooks_too(project):
    def notebook(*cells):
        return json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells]})

    project({"n.ipynb": notebook("x = 1", "a = fault_LP101(x)")})
    check(update_baseline=True)
    project({"n.ipynb": notebook("a = fault_LP101(x)", "b = fault_LP101(x)")})
    assert [finding.location.cell for finding in check().findings] == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such baseline; write one with --update-baseline"),
        ("", "not a baseline"),
        ("[]", "not a baseline"),
        ("{}", "not a baseline"),
        ('{"version": 99, "findings": []}', "baseline version 99"),
        ('{"version": 1, "findings": [1]}', "not a baseline"),
        ('{"version": 1, "findings": [{"path": "a"}]}', "not a baseline"),
    ],
)
def test_a_file_that_is_no_baseline(project, content, message):
    project({"t.py": SOURCE} | ({"known.json": content} if content is not None else {}))
    with pytest.raises(CannotRun, match=f"known.json: {message}"):
        check()


def test_an_update_needs_a_place(project):
    project({"t.py": SOURCE})
    with pytest.raises(CannotRun, match="--update-baseline needs --baseline"):
        check_paths(["."], Options(update_baseline=True))
