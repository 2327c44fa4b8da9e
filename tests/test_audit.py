"""The graph eye: what one live loss shows, whatever the code hid."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import lossproof  # noqa: E402


def rules(loss: torch.Tensor, **more: object) -> list[str]:
    return [finding.rule for finding in lossproof.audit(loss, **more)]


def test_a_sigmoid_before_bce_is_seen_through_views_and_clamps() -> None:
    x = torch.full((8, 1), 30.0, requires_grad=True)
    with lossproof.recording():
        loss = F.binary_cross_entropy(x.sigmoid().squeeze(1).clamp(0, 1), torch.zeros(8))
    (found,) = lossproof.audit(loss)
    assert (found.rule, found.eye, found.severity.value) == ("LP101", "graph", "error")
    assert "8 of 8 elements" in found.message
    assert found.path == __file__
    assert found.related[0].message == "sigmoid applied here"


def test_the_sound_form_is_silent() -> None:
    x = torch.randn(8, requires_grad=True)
    assert rules(F.binary_cross_entropy_with_logits(x, torch.zeros(8))) == []


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ([1], "each loss on its own"),
        (1.5, "left the graph"),
        (torch.ones(1, requires_grad=True), "leaf"),
        (torch.ones(1), "no_grad"),
    ],
)
def test_what_is_no_loss_is_refused_with_what_to_do(loss: object, said: str) -> None:
    with pytest.raises(lossproof.CannotRun, match=said):
        lossproof.audit(loss)  # type: ignore[arg-type]


def test_a_freed_graph_is_said_to_be_freed() -> None:
    x = torch.randn(8, requires_grad=True)
    loss = F.binary_cross_entropy(x.sigmoid(), torch.zeros(8))
    loss.backward()
    with pytest.raises(lossproof.CannotRun, match="freed"):
        lossproof.audit(loss)


def test_a_long_chain_needs_no_deep_stack() -> None:
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + x
    assert rules(y.sum()) == []
