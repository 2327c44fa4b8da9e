"""Every fix is applied, compared with what a person would have written, and run beside the code that it mends.

A fixture is a folder ``tests/fixtures/fixes/<rule>/<name>`` with the project ``before`` and ``after``, and a
``probe.py`` whose ``probe(load, kind)`` imports a module of the project by ``load("train")``, computes the objective on
``moderate`` or ``extreme`` inputs, and gives the value and the leaf whose gradient is looked at (None for none).
If there is a ``readers(load)`` too, what it gives is what everybody else makes of the project's outputs: predictions,
metrics, files. No fix may change it, safe or not.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lossproof.check import Options
from lossproof.mend import mend

torch = pytest.importorskip("torch")

HERE = Path(__file__).parent / "fixtures" / "fixes"
CASES = sorted(path.parent for path in HERE.glob("*/*/probe.py"))


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.py"))}


def rules(case: Path) -> list[str]:
    return [case.parent.name]


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(request.param / "before", folder)
    return folder


@pytest.mark.parametrize(
    ("project", "case"), [(c, c) for c in CASES], ids=[f"{c.parent.name}-{c.name}" for c in CASES], indirect=["project"]
)
def test_a_fix_gives_what_a_person_would_have_written(project: Path, case: Path) -> None:
    options = Options(cache=False, select=rules(case))
    safe = mend([project], options)
    whole = mend([project], options, unsafe=True)
    assert whole.fixed, "nothing was mended"
    assert whole.failed == []
    whole.write()
    expected = tree(case / "after")
    assert tree(project) == expected
    again = mend([project], options, unsafe=True)
    assert again.fixed == [], "mending what is mended changes it again"
    kinds = {finding.remedy.fixable for finding in whole.fixed}
    assert kinds == ({"safe"} if len(safe.fixed) == len(whole.fixed) else kinds)
    compare(case / "before", case / "after", case, safe="unsafe" not in kinds)


def leaves(value: Any) -> list[Any]:
    """Whatever readers give, as one row of numbers and texts."""
    if isinstance(value, torch.Tensor):
        return [float(item) for item in value.detach().flatten()]
    if isinstance(value, dict):
        value = list(value.items())
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, (list, tuple)) else [value]


def compare(before: Path, after: Path, case: Path, *, safe: bool) -> None:
    """Moderate inputs: a safe fix changes nothing. Extreme ones: finite, with a gradient that is there."""
    space = load_probe(case)
    probe = space["probe"]
    value, _ = run(before, probe, "moderate")
    mended, _ = run(after, probe, "moderate")
    assert torch.isfinite(mended).all()
    if safe:
        torch.testing.assert_close(mended, value, rtol=1e-5, atol=1e-5)
    if "readers" in space:
        assert leaves(read(after, space["readers"])) == pytest.approx(leaves(read(before, space["readers"])), abs=1e-5)
    extreme, leaf = run(after, probe, "extreme")
    assert torch.isfinite(extreme).all(), f"the mended objective is not finite: {extreme}"
    if leaf is not None:
        (gradient,) = torch.autograd.grad(extreme.sum(), leaf)
        assert torch.isfinite(gradient).all(), "the mended gradient is not finite"
        assert gradient.abs().max() > 0, "the mended gradient is zero"


def load_probe(case: Path) -> dict[str, Callable[..., Any]]:
    space: dict[str, Any] = {}
    exec(compile((case / "probe.py").read_text(), str(case / "probe.py"), "exec"), space)
    return space


def run(folder: Path, probe: Callable[[Any, str], Any], kind: str) -> tuple[Any, Any]:
    with quietly(), importing_from(folder) as load:
        value, leaf = probe(load, kind)
        return torch.as_tensor(value), leaf


def read(folder: Path, readers: Callable[[Any], Any]) -> Any:
    with quietly(), importing_from(folder) as load:
        return readers(load)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Of some faults PyTorch itself warns, and of some ways to export."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class importing_from:
    """Modules of a folder, imported anew and forgotten afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __enter__(self) -> Callable[[str], ModuleType]:
        self.known = set(sys.modules)
        sys.path.insert(0, self.folder)
        importlib.invalidate_caches()
        return importlib.import_module

    def __exit__(self, *_: object) -> None:
        sys.path.remove(self.folder)
        for name in [n for n in sys.modules if n not in self.known]:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(self.folder):
                del sys.modules[name]
