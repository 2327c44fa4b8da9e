"""The examiner: small projects with known faults, and small projects with none.

``tests/fixtures/source/<rule>/<kind>/<case>/`` is a project of its own. *positive*: the plain form of the fault;
*hidden*: the same fault where only the flow of values shows it; *clean*: what looks wrong and is right.

A line that a finding begins on says so: ``# expect: LP101``, or ``# expect: LP101, LP202``. ``# allow: LP204`` names
what may be found there too: it is true, but it is not what the case is about.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lossproof.check import Options, check_paths
from lossproof.finding import Finding

SOURCE = Path(__file__).parent / "fixtures" / "source"
KINDS = ("positive", "hidden", "clean")
_MARK = re.compile(r"#\s*(expect|allow):\s*(LP\d{3}(?:\s*,\s*LP\d{3})*)")
_RULE = re.compile(r"LP\d{3}$")

Place = tuple[str, int, str]
"""A path relative to the case, a line, a rule."""


@dataclass(frozen=True)
class Case:
    folder: Path
    rule: str | None
    """The rule that the case is about; None where the comments alone say it (the red flags)."""
    kind: str

    @property
    def name(self) -> str:
        return self.folder.relative_to(SOURCE).as_posix()

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.py"))


@dataclass
class Marks:
    expected: set[Place] = field(default_factory=set)
    allowed: set[Place] = field(default_factory=set)

    def __or__(self, other: Marks) -> Marks:
        return Marks(self.expected | other.expected, self.allowed | other.allowed)


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (each for each in sorted(path.iterdir()) if each.is_dir() and each.name != "__pycache__")


def _cases() -> Iterator[Case]:
    for family in _folders(SOURCE):
        if _RULE.match(family.name):
            for kind in KINDS:
                for folder in _folders(family / kind):
                    yield Case(folder, family.name, kind)
        else:
            for group in _folders(family):
                for folder in _folders(group):
                    yield Case(folder, None, "red flag")


CASES = list(_cases())
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def _marks(case: Case, below: Path) -> Marks:
    marks = Marks()
    for file in case.files:
        path = file.relative_to(below).as_posix()
        for number, text in enumerate(file.read_text("utf-8").splitlines(), 1):
            for word, codes in _MARK.findall(text):
                into = marks.expected if word == "expect" else marks.allowed
                into.update((path, number, code.strip()) for code in codes.split(","))
    return marks


def _places(findings: Iterable[Finding], below: Path) -> dict[Place, Finding]:
    return {
        (Path(os.path.abspath(finding.path)).relative_to(below).as_posix(), finding.line, finding.rule): finding
        for finding in findings
    }


def _required(case: Case, marks: Marks) -> set[Place]:
    return {place for place in marks.expected if case.rule is None or place[2] == case.rule}


def _matters(case: Case, finding: Finding) -> bool:
    """Whether a finding that nobody wrote down is a false alarm here."""
    return case.kind == "clean" or finding.rule == case.rule or finding.severity.value != "info"


def _lines(title: str, places: Iterable[Place], below: Path, found: dict[Place, Finding]) -> list[str]:
    out = []
    for path, line, rule in sorted(places):
        text = (below / path).read_text("utf-8").splitlines()[line - 1].strip()
        out.append(f"{title} {rule} at {path}:{line}: {text}")
        finding = found.get((path, line, rule))
        if finding is not None:
            out.append(f"           [{finding.severity}, {finding.confidence}] {finding.message}")
            out += [f"           via {hop.path}:{hop.line}: {hop.message}" for hop in finding.related]
    return out


@each_case
def test_case(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    # A case is a whole project: nothing around it may help or mislead.
    monkeypatch.setattr("lossproof.source.discover.project_root", lambda folders: str(case.folder))

    report = check_paths([case.folder], Options(cache=False, jobs=1, respect_gitignore=False))

    found = _places(report.findings, case.folder)
    marks = _marks(case, case.folder)
    missed = _required(case, marks) - found.keys()
    unexpected = {place for place, finding in found.items() if _matters(case, finding)} - marks.expected - marks.allowed
    assert not report.warnings
    complaint = [
        *_lines("missed    ", missed, case.folder, found),
        *_lines("unexpected", unexpected, case.folder, found),
    ]
    assert not complaint, "\n".join([case.name, *complaint])


def test_a_tree_of_projects_gives_what_each_gives_alone(tmp_path: Path) -> None:
    """Twenty folders have a ``model.py``: each import means the one beside it."""
    # A project of its own: names would else be looked up in the repository around it, which has other fixtures.
    tree = tmp_path / "tree"
    shutil.copytree(SOURCE, tree)
    (tree / "setup.py").touch()
    report = check_paths([tree], Options(cache=False, jobs=1, respect_gitignore=False))

    found = _places(report.findings, tree)
    complaint = []
    for case in CASES:
        marks = _marks(case, SOURCE)
        here = {place: f for place, f in found.items() if place[0].startswith(case.name + "/")}
        unexpected = {place for place, f in here.items() if _matters(case, f)} - marks.expected - marks.allowed
        complaint += _lines("missed    ", _required(case, marks) - here.keys(), SOURCE, found)
        complaint += _lines("unexpected", unexpected, SOURCE, found)
    assert not complaint, "\n".join(complaint)


@each_case
def test_case_is_well_formed(case: Case) -> None:
    marks = _marks(case, case.folder)
    assert case.files, f"{case.name} has no Python file"
    for file in case.files:
        ast.parse(file.read_text("utf-8"), str(file))
    expected = {rule for _, _, rule in marks.expected}
    if case.kind == "clean":
        assert not expected, f"{case.name} is clean, yet expects {sorted(expected)}"
    elif case.rule is not None:
        assert case.rule in expected, f"{case.name} expects no {case.rule}"
    else:
        assert expected, f"{case.name} expects nothing"


@pytest.mark.parametrize("family", sorted({case.rule for case in CASES if case.rule}))
def test_every_rule_is_examined_in_all_three_ways(family: str) -> None:
    kinds = {case.kind for case in CASES if case.rule == family}
    assert kinds == set(KINDS)
