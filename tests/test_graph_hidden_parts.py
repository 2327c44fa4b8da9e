"""Faults beside a part of the graph that nobody kept: a compiled model, attention of torch's own, dropped operands."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph.causes import ADVICE  # noqa: E402


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_a_denominator_of_zero_behind_a_compiled_model_is_not_the_models_fault() -> None:
    model = torch.compile(nn.Linear(4, 1), backend="aot_eager")
    y = torch.tensor([2.0, 1.0, 0.0, 4.0])
    with lossproof.recording():
        loss = (model(torch.randn(4, 4)).squeeze(1) / y).mean()
    found = lossproof.autopsy(loss)
    assert (found.cause, found.op, found.rows) == ("zero-denominator", "div", (2,)), str(found)


def test_the_rows_of_a_missing_label_that_no_operator_kept_are_followed() -> None:
    y = torch.randn(8, 1)
    y[4] = float("nan")
    level = torch.tensor([0.1, 0.5, 0.9])
    difference = y - nn.Linear(4, 3)(torch.randn(8, 4))
    found = lossproof.autopsy(torch.maximum(level * difference, (level - 1) * difference).mean())
    assert (found.cause, found.op, found.rows) == ("bad-target", "sub", (4,)), str(found)


def test_the_rows_of_an_input_of_a_checkpointed_part_are_followed() -> None:
    first = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    x = torch.randn(4, 4)
    x[1] = float("nan")
    found = lossproof.autopsy(nn.Linear(4, 1)(checkpoint(first, x, use_reentrant=False)).mean())
    assert (found.cause, found.rows) == ("bad-input", (1,)), str(found)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("row", [0, 2])
def test_attention_of_torch_puts_the_sequence_first_and_its_rows_are_samples(batch_first: bool, row: int) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    x = torch.randn(3, 5, 16)
    x[row, 3, 4] = float("nan")
    with lossproof.recording():
        loss = layer(x if batch_first else x.transpose(0, 1)).square().mean()
    found = lossproof.autopsy(loss)
    assert (found.cause, found.rows, found.batch) == ("bad-input", (row,), 3), str(found)
    assert found.path == __file__


def test_the_rows_of_keys_in_cross_attention_are_samples() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    keys = torch.randn(3, 5, 16)
    keys[1, 2] = float("nan")
    query = nn.Linear(16, 16)(torch.randn(3, 4, 16))
    found = lossproof.autopsy(attention(query, keys, keys)[0].square().mean())
    assert (found.cause, found.rows) == ("bad-input", (1,)), str(found)


class Careless(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient / 0


def test_a_custom_backward_is_told_as_such_and_not_called_after_its_reader() -> None:
    with lossproof.recording():
        loss = Careless.apply(nn.Linear(4, 2)(torch.randn(3, 4))).mean()
    found = lossproof.autopsy(loss)
    assert (found.cause, found.where, found.called) == ("gradient-only", "backward", ""), str(found)
    assert "backward of careless" in found.durable[0]


def test_a_shift_of_probabilities_by_a_margin_is_no_guard() -> None:
    """As in the asymmetric loss: `logsigmoid(-x)` would be another function."""
    p = nn.Linear(8, 4)(torch.randn(16, 8)).sigmoid()
    assert not lossproof.audit(-(1 - p + 0.05).clamp(max=1).log().mean())
    assert [each.rule for each in lossproof.audit(-(1 - p + 1e-6).log().mean())] == ["LP106"]


def test_no_figure_is_quoted_of_a_nan() -> None:
    scores = nn.Linear(4, 3)(torch.randn(3, 4)) + torch.tensor([[200.0], [0.0], [0.0]])
    powers = scores.exp()
    p = powers / powers.sum(1, keepdim=True)
    found = lossproof.audit(-(p[:, 0] + 1e-8).log().mean())
    assert "LP204" in [each.rule for each in found]
    assert not [each.message for each in found if "is nan" in each.message]


@pytest.mark.parametrize("key", ADVICE, ids="-".join)
def test_advice_is_made_of_whole_sentences(key: tuple[str, str]) -> None:
    advice = ADVICE[key]
    for each in (*advice.immediate, *advice.durable):
        assert each.endswith((".", "…")), each
        assert "  " not in each
        assert "mask.where," not in each
        assert "agradient" not in each


def test_several_optimizers_are_looked_at_and_what_is_none_is_refused() -> None:
    model, head = nn.Linear(4, 2), nn.Linear(2, 1)
    first, second = torch.optim.SGD(model.parameters()), torch.optim.Adam(head.parameters())
    head(model(torch.randn(3, 4))).mean().backward()
    second.step()
    second.zero_grad()
    loss = head(model(torch.randn(3, 4))).mean()
    assert lossproof.autopsy(loss, optimizer=[first, second]).healthy
    second.state[head.weight]["exp_avg"][0, 0] = float("nan")
    assert lossproof.autopsy(loss, optimizer=[first, second]).cause == "bad-optimizer-state"
    with pytest.raises(lossproof.CannotRun, match="param_groups"):
        lossproof.autopsy(loss, optimizer="adam")  # type: ignore[arg-type]
    with pytest.raises(lossproof.CannotRun, match="names is list"):
        lossproof.autopsy(loss, names=[model])  # type: ignore[arg-type]


def test_a_division_that_is_masked_away_is_not_blamed_for_what_a_hidden_part_made() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
            return torch.where(torch.arange(3) == 1, torch.nan, x)

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    out = Broken.apply(nn.Linear(4, 1)(torch.randn(3, 4)).squeeze(1))
    count = torch.tensor([2.0, 1.0, 0.0])
    loss = torch.where(count > 0, out / count, torch.zeros(3)).mean()
    found = lossproof.autopsy(loss)
    assert (found.cause, found.op) == ("unknown", "broken"), str(found)


def test_weights_that_broadcast_are_not_called_targets() -> None:
    error = (nn.Linear(4, 1)(torch.randn(8, 4)) - torch.randn(8, 1)).square()
    (found,) = lossproof.audit((torch.rand(8) * error).mean())
    assert found.rule == "LP303"
    assert "mean of the weights" in found.message
    assert "targets" not in found.message


def test_one_is_and_two_are() -> None:
    amount = torch.tensor([2.0, 0.0, 5.0])
    found = lossproof.autopsy((nn.Linear(4, 1)(torch.ones(3, 4)).squeeze(1) / amount).mean())
    assert found.because == ("1 of 3 denominators is exactly 0: the quotient is infinite",)
    assert found.immediate == ("Skip row 1: the denominator is 0 there.",)


class LogOfDropped(torch.autograd.Function):
    """A custom function whose inside drops elements, and takes the logarithm of what is left."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dropped: list[torch.Tensor]) -> torch.Tensor:
        kept = torch.nn.functional.dropout(x, 0.5)
        dropped.append(kept == 0)
        return torch.log(kept).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, None


def test_a_replay_starts_from_the_random_numbers_of_the_recorded_step() -> None:
    """From those of now other elements would be dropped, and other rows be named."""
    torch.manual_seed(3)
    x = torch.ones(8, requires_grad=True)
    dropped: list[torch.Tensor] = []

    def step() -> torch.Tensor:
        return LogOfDropped.apply(x, dropped) * 1

    with lossproof.recording():
        loss = step()
    torch.rand(5)
    state = torch.get_rng_state()
    found = lossproof.autopsy(loss, replay=step)
    assert (found.op, found.cause) == ("log", "log-domain")
    assert list(found.rows) == dropped[0].nonzero().flatten().tolist()
    torch.testing.assert_close(dropped[1], dropped[0])
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_a_replay_that_comes_out_finite_says_so_and_what_would_make_it_the_same() -> None:
    x = torch.ones(8, requires_grad=True)

    def step() -> torch.Tensor:
        return LogOfDropped.apply(x, []) * 1

    torch.manual_seed(3)
    loss = step()
    torch.manual_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "dropout", lambda x, _: x)
        found = lossproof.autopsy(loss, replay=step)
    assert not found.replayed
    assert any("its loss is finite" in each and "record the step" in each for each in found.unseen)
