"""Fixes are run before they are made: right ones pass, wrong ones are caught, the rest is said to be not run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from verify_cases import CASES, Case

from lossproof.finding import Edit, Finding, Location, Remedy, Severity
from lossproof.mend import edited
from lossproof.verify import Proof, process, prove
from lossproof.verify.plan import File, Made

pytest.importorskip("torch")


def where(path: str, text: str, part: str) -> Location:
    """Where a part of a text is, which is there once (a place) or more often (its first)."""
    at = text.index(part)
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    last = at + len(part)
    end_line = text.count("\n", 0, last) + 1
    return Location(path, line, column, end_line, last - (text.rfind("\n", 0, last) + 1) + 1)


def made(case: Case) -> tuple[Made, list[File]]:
    edits = []
    for path, old, new in case.edits:
        assert case.files[path].count(old) == 1, (path, old)
        edits.append(Edit(where(path, case.files[path], old), new))
    finding = Finding(
        case.rule, "a-fault", Severity.ERROR, "a fault", where(case.at[0], case.files[case.at[0]], case.at[1]),
        tuple(where(path, case.files[path], part) for path, part in case.hops),
        remedy=Remedy("mend it", "safe" if case.safe else "unsafe", tuple(edits)),
    )  # fmt: skip
    files = []
    for path in dict.fromkeys(path for path, _, _ in case.edits):
        data = case.files[path].encode()
        files.append(File(path, data, edited(path, data, [e for e in edits if e.location.path == path])))
    return Made(finding, {f.display: f.before for f in files}, case.at[1]), files


def here(
    root: str, roots: Sequence[str], before: Mapping[str, bytes], after: Mapping[str, bytes], units: Any, seconds: float = 0
) -> dict[str, Any]:
    """The worker in this process: torch is imported once for all cases."""
    from lossproof.verify.worker.imports import Side
    from lossproof.verify.worker.trial import Trial

    sides = []
    for name, files in (("before", before), ("after", after)):
        process._write(f"{root}/{name}", files)
        sides.append(Side(f"{root}/{name}", roots))
    results: dict[str, Any] = {}
    for unit in units:
        if unit["unless"] and all(any(results[i]["status"] == "ran" for i in ids) for ids in unit["unless"]):
            continue
        results[unit["id"]] = json.loads(json.dumps(Trial(unit, (sides[0], sides[1])).run()))
    return results


def proof(case: Case, root: Path) -> Proof:
    one, files = made(case)
    (found,) = prove(str(root), {p: t.encode() for p, t in case.files.items()}, files, [one])
    return found


@pytest.mark.parametrize("name", CASES)
def test_right_fixes_pass_and_wrong_ones_are_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", here)
    case = CASES[name]
    found = proof(case, tmp_path)
    print(found.line())
    assert found.verdict == case.verdict, found.line()
    assert re.search(case.says, found.line()), found.line()
