"""One fault, two eyes: the fixtures below ``tests/fixtures/graph`` are read by the checker and run under the audit.

``RULE/both``: both eyes find the rule, at the line marked ``# expect: RULE`` (``# expect-source: RULE`` and
``# expect-graph: RULE`` where one stands at the setting and the other at the operator). ``RULE/hidden``: the code hides
it from the source eye, and the graph shows it. ``RULE/clean``: the audit finds nothing at all. Each file defines
``loss()``, and may define ``names(loss)`` and ``optimizer(loss)`` for what ``audit`` is told beside the loss, after
``loss()`` was called.
"""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import lossproof  # noqa: E402
from lossproof.graph.gather import STOPPED  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Using a target size")
HERE = Path(__file__).parent / "fixtures" / "graph"
EXPECT = re.compile(r"# expect(?:-(source|graph))?: (LP\d{3})")


def cases(sort: str) -> list[Any]:
    paths = sorted(HERE.glob(f"LP*/{sort}/*.py"))
    assert paths
    return [pytest.param(path, id=f"{path.parent.parent.name}-{path.stem}") for path in paths]


def alone(path: Path, folder: Path) -> Path:
    """A copy that is a project of its own: the source eye would read the whole repository with it."""
    return Path(shutil.copy(path, folder))


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that the fixtures use and the tests do not install."""
    monkeypatch.syspath_prepend(str(HERE / "stand_ins"))


def audited(path: Path) -> list[lossproof.Finding]:
    torch.manual_seed(0)
    with lossproof.recording():
        module = runpy.run_path(str(path))
        loss = module["loss"]()
    more = {key: module[key](loss) for key in ("names", "optimizer") if key in module}
    found = lossproof.audit(loss, **more)
    assert not [each for each in found.unseen if each.startswith(STOPPED)]
    return found


@pytest.mark.parametrize("path", cases("both"))
def test_both_eyes_find_the_same_fault(path: Path, tmp_path: Path) -> None:
    rule, path = path.parent.parent.name, alone(path, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    marks = [(number, eye, code) for number, line in enumerate(lines, 1) for eye, code in EXPECT.findall(line)]
    by_eye = {
        eye: [n for n, marked, code in marks if code == rule and marked in ("", eye)] for eye in ("source", "graph")
    }
    assert all(by_eye.values()), "no line is marked"
    read = lossproof.check([path], cache=False).findings
    assert [finding.line for finding in read if finding.rule == rule] == by_eye["source"]
    seen = [finding for finding in audited(path) if finding.rule == rule]
    assert {finding.line for finding in seen} == set(by_eye["graph"])
    assert {(finding.eye, finding.path) for finding in seen} == {("graph", str(path))}


@pytest.mark.parametrize("path", cases("hidden"))
def test_the_graph_shows_what_the_code_hides(path: Path, tmp_path: Path) -> None:
    rule, path = path.parent.parent.name, alone(path, tmp_path)
    assert rule not in {finding.rule for finding in lossproof.check([path], cache=False).findings}
    assert rule in {finding.rule for finding in audited(path)}


@pytest.mark.parametrize("path", cases("clean"))
def test_the_audit_is_silent_on_what_is_sound(path: Path) -> None:
    assert [(finding.rule, finding.message) for finding in audited(path)] == []
