"""Sound losses of many families: an audit finds nothing in them, and an autopsy no cause."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import lossproof  # noqa: E402
from lossproof.graph.gather import STOPPED  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent / "fixtures" / "graph" / "stand_ins"))
try:
    from healthy_losses import CASES
finally:
    del sys.path[0]
    for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # others look for the real one


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_a_sound_loss_is_left_alone(name: str) -> None:
    torch.manual_seed(0)
    with lossproof.recording() as seen:
        loss = CASES[name]()
    found = lossproof.audit(loss)
    assert [(each.rule, each.message) for each in found] == []
    assert not [each for each in found.unseen if each.startswith(STOPPED)]
    assert seen.trouble is None
    assert lossproof.autopsy(loss).cause is None
