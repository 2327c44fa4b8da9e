"""A fundamental conflict is told from one of balance, on families where the answer is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
from conflict_families import EXPECTED, family, probed  # noqa: E402
from torch import nn  # noqa: E402

from lossproof import balance as B  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Thousands of steps of next to nothing: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", sorted(set(EXPECTED) - {"crossing and scale", "crossing, noisy", "scale, noisy"}))
def test_the_verdict_is_right_where_the_answer_is_known(kind: str) -> None:
    """`python tests/conflict_families.py` counts how often it is, over twenty of each."""
    found = probed(kind, 0)
    assert found.verdict in EXPECTED[kind], str(found)
    if found.verdict == "fundamental":
        assert found.cosine.high < -0.3
        assert "choose" in str(found)


def test_neither_the_model_nor_the_random_numbers_are_touched() -> None:
    model, objectives = family("shared, noisy", 0)
    before = model.x.detach().clone()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    B.conflict(model, objectives, steps=3, seeds=2)
    torch.testing.assert_close(torch.rand(3), expected)
    torch.testing.assert_close(model.x.detach(), before)
    assert model.x.grad is None


@pytest.mark.parametrize("kind", ["shared", "crossing"])
def test_runs_that_have_not_converged_decide_nothing(kind: str) -> None:
    model, objectives = family(kind, 0)
    found = B.conflict(model, objectives, steps=10, rate=0.05, seeds=2)
    assert found.verdict == "undecided"
    assert "alone still falls" in str(found)
    assert "more steps" in str(found)


def test_a_run_that_blows_up_decides_nothing() -> None:
    model = nn.Linear(1, 1)

    def objectives(model: nn.Module) -> dict[str, torch.Tensor]:
        return {"a": model.weight.square().sum(), "b": -torch.log(model.weight.sum() - model.weight.sum())}

    found = B.conflict(model, objectives, steps=2, seeds=2)
    assert found.verdict == "undecided"
    assert "not finite" in found.because


def test_the_probe_asks_for_two_objectives_and_an_interval() -> None:
    model, objectives = family("shared", 0)
    with pytest.raises(B.TaskError, match="two losses"):
        B.conflict(model, lambda m: {"a": objectives(m)["a"]})
    with pytest.raises(B.TaskError, match="at least 2"):
        B.conflict(model, objectives, seeds=1)
