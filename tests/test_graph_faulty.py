"""Losses with one fault: an audit finds it, with a recording and without one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import lossproof  # noqa: E402
from lossproof.graph.gather import STOPPED  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent / "fixtures" / "graph" / "stand_ins"))
try:
    from faulty_losses import CASES, TOLD
finally:
    del sys.path[0]
    for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # others look for the real one


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_fault_is_found(name: str) -> None:
    rule, make = CASES[name]
    for recorded in (True, False):
        torch.manual_seed(0)
        TOLD.clear()
        if recorded:
            with lossproof.recording():
                loss = make()
        else:
            loss = make()
        found = lossproof.audit(loss, **TOLD)
        assert rule in [each.rule for each in found]
        assert all(each.line > 0 for each in found) is recorded
        assert not [each for each in found.unseen if each.startswith(STOPPED)]
        if recorded:
            assert {Path(each.path).name for each in found} == {"faulty_losses.py"}
