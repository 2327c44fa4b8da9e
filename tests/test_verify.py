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
from verify_cases_more import MORE

from lossproof.finding import Edit, Finding, Location, Remedy, Severity
from lossproof.mend import Made, edited
from lossproof.verify import Proof, process, prove
from lossproof.verify.plan import File

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
    root: str,
    roots: Sequence[str],
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
    units: Any,
    seconds: float = 0,
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


ALL = {**CASES, **MORE}


@pytest.mark.parametrize("name", ALL)
def test_right_fixes_pass_and_wrong_ones_are_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", here)
    case = ALL[name]
    found = proof(case, tmp_path)
    print(found.line())
    assert found.verdict == case.verdict, found.line()
    assert re.search(case.says, found.line()), found.line()


# ---- the command, in a process of its own

METER = {
    "train.py": """import torch
import torch.nn.functional as F
from torch import nn


def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss
    return total / len(loader)


def main():
    model = nn.Linear(8, 4)
    optimizer = torch.optim.Adam(model.parameters())
    print(train(model, [(torch.randn(4, 8), torch.zeros(4).long())], optimizer))


print("imported", file=open("/tmp/must-not-be-written", "w"))
"""
}


def lossproof(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from lossproof.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_a_fix_is_verified_and_made(project: Callable[..., Path]) -> None:
    root = project(METER)
    done = lossproof("check", "--fix", "--verify", "--format", "json", "--select", "LP305")
    assert json.loads(done.stdout) == []
    assert re.search(r"train\.py:13 LP305: verified: `train`: \d+ inputs same", done.stderr), done.stderr
    assert ".detach()" in (root / "train.py").read_text()
    assert done.returncode == 0
    assert not Path("/tmp/must-not-be-written").exists()


def test_without_verify_nothing_is_run(project: Callable[..., Path]) -> None:
    project(METER)
    done = lossproof("check", "--diff", "--select", "LP305")
    assert "verified" not in done.stderr
    assert lossproof("check", "--verify").returncode == 2


def test_a_fix_that_fails_is_not_made_and_the_others_are(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two fixes, one of which has been tampered with."""
    from lossproof import mend as module
    from lossproof.cli import main

    second = (
        METER["train.py"]
        .replace("def train", "def fit")
        .replace("(train(", "(fit(")
        .replace("F.cross_entropy(model", "2 * F.cross_entropy(model")
    )
    root = project({"train.py": METER["train.py"], "other.py": second})
    monkeypatch.setattr(process, "run", here_in(root.parent))
    real = module.edited

    def tampered(name: str, data: bytes, edits: Any) -> bytes:
        return (
            real(name, data, edits).replace(b".detach()", b".detach() * 2")
            if name == "other.py"
            else real(name, data, edits)
        )

    monkeypatch.setattr(module, "edited", tampered)
    code = main(["check", "--fix", "--verify", "--select", "LP305", "--no-cache", "--format", "concise"])
    said = capsys.readouterr().err
    assert "train.py:13 LP305: verified" in said
    assert re.search(r"other\.py:13 LP305: failed: `fit`: moderate: .* became", said), said
    assert ".detach()" in (root / "train.py").read_text()
    assert (root / "other.py").read_text() == second
    assert code == 1


def here_in(folder: Path) -> Callable[..., dict[str, Any]]:
    count = iter(range(100))

    def run(root: str, *given: Any) -> dict[str, Any]:
        return here(str(folder / f"copy{next(count)}"), *given)

    return run


HARM = """
import os, time, subprocess, socket
import torch


def writes(values, mask):
    open(os.path.expanduser("/tmp/lossproof-harm"), "w").write("x")
    return (values * mask).sum() / mask.sum()


def starts(values, mask):
    subprocess.run(["touch", "/tmp/lossproof-harm"])
    return (values * mask).sum() / mask.sum()


def calls_out(values, mask):
    socket.create_connection(("127.0.0.1", 9))
    return (values * mask).sum() / mask.sum()


def dies(values, mask):
    os._exit(3)
    return (values * mask).sum() / mask.sum()


def hangs(values, mask):
    while True:
        try:
            time.sleep(1)
        except Exception:
            pass
    return (values * mask).sum() / mask.sum()


def fine(values, mask):
    return (values * mask).sum() / mask.sum()


if __name__ == "__main__":
    open("/tmp/lossproof-harm", "w")
"""


def test_code_that_does_more_than_compute_is_stopped(tmp_path: Path) -> None:
    data = HARM.encode()
    after = HARM.replace("mask.sum()", "mask.sum().clamp(min=1)")
    ones = []
    for number, line in enumerate(HARM.splitlines(), 1):
        if "return" in line:
            at = line.index("mask.sum()") + 1
            edit = Edit(Location("harm.py", number, at, number, at + 10), "mask.sum().clamp(min=1)")
            place = Location("harm.py", number, 5, number, len(line) + 1)
            ones.append(
                Made(
                    Finding("LP304", "x", Severity.ERROR, "x", place, remedy=Remedy("", "safe", (edit,))),
                    {"harm.py": data},
                )
            )
    began = time.monotonic()
    found = prove(str(tmp_path), {"harm.py": data}, [File("harm.py", data, after.encode())], ones, seconds=20)
    said = [proof.line().partition(": ")[2] for proof in found]
    assert re.match(r"not run: `writes`: it wants to write", said[0])
    assert re.match(r"not run: `starts`: it wants to start another program", said[1])
    assert re.match(r"not run: `calls_out`: it needs the network", said[2])
    assert re.match(r"not run: `dies`: the process that runs it died \(exit code 3\)", said[3])
    assert re.match(r"not run: `hangs`: takes (too long|longer than)", said[4])
    assert re.match(r"verified: `fine`: \d+ inputs same.*empty mask: nan, now 0", said[5])
    assert not Path("/tmp/lossproof-harm").exists()
    assert time.monotonic() - began < 120


def test_no_torch_is_said_plainly(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from lossproof.problem import CannotRun

    root = project({"t.py": HARM})
    monkeypatch.setattr(process, "interpreter", lambda root: sys.executable)
    monkeypatch.setattr(
        process, "_START", process._START.replace("import lossproof", "sys.modules['torch'] = None; import lossproof")
    )
    unit = {"id": "t.py::fine"}
    with pytest.raises(CannotRun, match="needs torch"):
        process.run(str(root), [""], {"t.py": HARM.encode()}, {"t.py": HARM.encode()}, [unit])
