"""Activations that reach a loss, seen in the graph: which, through what, and the figures that are told."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph import activations  # noqa: E402
from lossproof.graph.facts import ActivationIntoLoss  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402

Tensor = torch.Tensor


def facts(loss: Tensor) -> list[ActivationIntoLoss]:
    return list(activations.facts(Graph(loss)))


def rules(loss: Tensor) -> list[str]:
    found = lossproof.audit(loss)
    assert not [each for each in found.unseen if "stopped" in each]
    return [each.rule for each in found]


def leaf(*values: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_elements_that_send_nothing_back_are_counted_and_those_on_the_wrong_side() -> None:
    x, y = leaf(20.0, 30.0, -110.0, 0.5, 17.0), torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    (fact,) = facts(F.binary_cross_entropy(x.sigmoid(), y))
    assert (fact.dead, fact.figures["wrong"], fact.elements) == (4, 3, 5)
    x.grad = None
    F.binary_cross_entropy(x.sigmoid(), y).backward()
    assert x.grad is not None
    assert int((x.grad == 0).sum()) == 4


@pytest.mark.parametrize(("dtype", "dead"), [(torch.float32, 0), (torch.bfloat16, 2), (torch.float64, 0)])
def test_the_number_format_decides_what_rounds(dtype: torch.dtype, dead: int) -> None:
    x = leaf(7.0, 8.0, 2.0, dtype=dtype)
    (fact,) = facts(F.binary_cross_entropy(x.sigmoid().float(), torch.zeros(3)))
    assert (fact.dead, fact.elements) == (dead, 3)


def test_what_a_clamp_holds_sends_nothing_back_either() -> None:
    x = leaf(10.0, -10.0, 1.0, 3.0)
    (fact,) = facts(F.binary_cross_entropy(x.sigmoid().clamp(0.05, 0.95), torch.zeros(4)))
    assert fact.dead == 3
    assert [hop.message for hop in fact.hops] == ["sigmoid applied here", "through Clamp"]


def test_only_elements_that_reach_the_loss_count() -> None:
    x = leaf(50.0, 50.0, 1.0, 2.0)
    (fact,) = facts(F.binary_cross_entropy(x.sigmoid()[1:], torch.zeros(3)))
    assert (fact.dead, fact.elements) == (1, 3)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "permuted": lambda p: p.t().contiguous(),
    "stacked": lambda p: torch.stack([p, p]),
    "cast": lambda p: p.half().float(),
    "padded": lambda p: p.expand(3, -1, -1),
    "written in place": lambda p: _written(p),
    "chosen": lambda p: p[torch.tensor([0, 2])],
    "split": lambda p: torch.cat(p.split(2)),
    "masked": lambda p: p.masked_select(torch.ones(4, 3, dtype=torch.bool)),
    "no number made a number": lambda p: p.nan_to_num(0.5),
}


def _written(p: Tensor) -> Tensor:
    out = torch.zeros(4, 3)
    for row in range(4):
        out[row] = p[row]
    return out


@pytest.mark.parametrize("way", WAYS)
def test_a_sigmoid_is_one_through_whatever_moves_it(way: str) -> None:
    p = WAYS[way](logits(4, 3).sigmoid())
    assert rules(F.binary_cross_entropy(p, torch.ones_like(p))) == ["LP101"]


BY_HAND: dict[str, Callable[[Tensor], Tensor]] = {
    "1 / (1 + exp(-x))": lambda x: 1 / (1 + torch.exp(-x)),
    "(1 + exp(-x)) ** -1": lambda x: (1 + torch.exp(-x)).reciprocal(),
    "e / (1 + e)": lambda x: (lambda e: e / (1 + e))(x.exp()),
    "ones / (ones + exp(-x))": lambda x: torch.ones_like(x) / (torch.ones_like(x) + torch.exp(-x)),
    "exp(logsigmoid)": lambda x: F.logsigmoid(x).exp(),
}


@pytest.mark.parametrize("form", BY_HAND)
def test_a_sigmoid_by_hand_is_one(form: str) -> None:
    p = BY_HAND[form](logits(4))
    assert "LP101" in rules(F.binary_cross_entropy(p, torch.ones(4)))


@pytest.mark.parametrize("form", [lambda x: 1 / (2 + torch.exp(-x)), lambda x: 0.5 / (1 + torch.exp(-x))])
def test_what_only_looks_like_a_sigmoid_is_none(form: Callable[[Tensor], Tensor]) -> None:
    assert "LP101" not in rules(F.binary_cross_entropy(form(logits(4)), torch.ones(4)))


def test_a_double_softmax_has_its_floor_and_its_ceiling() -> None:
    x = torch.tensor([[1000.0] + [0.0] * 9], requires_grad=True)
    (fact,) = facts(F.cross_entropy(x.softmax(1), torch.tensor([0])))
    assert (fact.loss, fact.activation, fact.figures["classes"]) == ("cross-entropy", "softmax", 10)
    assert fact.figures["floor"] == pytest.approx(math.log(math.e + 9) - 1)
    assert fact.figures["believed"] == pytest.approx(fact.figures["most"], abs=1e-6)
    assert "0.232" in lossproof.audit(F.cross_entropy(x.softmax(1), torch.tensor([0])))[0].message


SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(1),
    "exp of log-softmax": lambda x: x.log_softmax(1).exp(),
    "by hand": lambda x: (lambda e: e / e.sum(1, keepdim=True))((x - x.amax(1, keepdim=True)).exp()),
    "gumbel": lambda x: F.gumbel_softmax(x, dim=1),
    "clamped": lambda x: x.softmax(1).clamp(min=1e-8),
}


@pytest.mark.parametrize("form", SOFTMAXES)
@pytest.mark.parametrize("judge", ["indices", "smoothed", "soft", "none", "sum", "weighted"])
def test_a_double_softmax_in_every_form_of_cross_entropy(form: str, judge: str) -> None:
    p, y = SOFTMAXES[form](logits(6, 4)), torch.tensor([0, 1, 2, 3, 0, 1])
    loss = {
        "indices": lambda: F.cross_entropy(p, y, ignore_index=3),
        "smoothed": lambda: F.cross_entropy(p, y, label_smoothing=0.1),
        "soft": lambda: F.cross_entropy(p, torch.full((6, 4), 0.25)),
        "none": lambda: F.cross_entropy(p, y, reduction="none"),
        "sum": lambda: F.cross_entropy(p, y, reduction="sum"),
        "weighted": lambda: F.cross_entropy(p, y, weight=torch.arange(1.0, 5.0)),
    }[judge]()
    found = [each for each in lossproof.audit(loss) if each.rule == "LP102"]
    assert len(found) == 1
    assert "0.475" in found[0].message


def test_scores_of_a_loss_that_applies_the_sigmoid_itself() -> None:
    x = leaf(-100.0, 0.0, 100.0)
    (fact,) = facts(F.binary_cross_entropy_with_logits(x.sigmoid(), torch.ones(3)))
    assert (fact.activation, fact.elements) == ("sigmoid", 3)
    assert fact.figures["least"] == pytest.approx(0.5)
    assert fact.figures["most"] == pytest.approx(0.7310586)


def test_an_exact_zero_or_one_of_a_composed_probability_is_counted() -> None:
    x = leaf(40.0, 0.0, -200.0)
    (fact,) = facts(F.binary_cross_entropy(x.sigmoid() * x.sigmoid(), torch.ones(3)))
    assert (fact.loss, fact.dead, fact.elements) == ("bce", 2, 3)
    assert rules(F.binary_cross_entropy(x.sigmoid() * x.sigmoid(), torch.ones(3))) == ["LP107"]


def test_log_softmax_twice_is_told_but_not_after_classes_were_taken_out() -> None:
    x, y = logits(6, 4), torch.zeros(6).long()
    assert rules(F.cross_entropy(x.log_softmax(1), y)) == ["LP111"]
    assert rules(F.cross_entropy(x.log_softmax(1)[:, :3], y)) == []
    assert rules(F.cross_entropy(x.log_softmax(0), y)) == []


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: F.cross_entropy(x, torch.zeros(6).long()),
        lambda x: F.nll_loss(x.log_softmax(1), torch.zeros(6).long()),
        lambda x: F.binary_cross_entropy_with_logits(x, torch.zeros(6, 4)),
        lambda x: F.mse_loss(x.softmax(1), torch.zeros(6, 4)),
        lambda x: (x.softmax(1) @ x.t()).log_softmax(1).mean(),
        lambda x: F.multi_margin_loss(x.softmax(1), torch.zeros(6).long()),
        lambda x: F.soft_margin_loss(x, torch.ones(6, 4)),
    ],
)
def test_sound_forms_are_silent(loss: Callable[[Tensor], Tensor]) -> None:
    found = facts(loss(logits(6, 4)))
    assert [(fact.loss, fact.activation) for fact in found] == []


@pytest.mark.parametrize("shape", [(0,), (0, 3), ()])
def test_empty_and_single_values_are_no_trouble(shape: tuple[int, ...]) -> None:
    x = logits(*shape)
    assert "LP101" in rules(F.binary_cross_entropy(x.sigmoid(), torch.ones(shape)))
    assert "LP103" in rules(F.binary_cross_entropy_with_logits(x.sigmoid(), torch.ones(shape))) or 0 in shape


def test_nothing_is_changed() -> None:
    x = logits(6, 4)
    loss = F.cross_entropy(x.softmax(1), torch.zeros(6).long())
    state, before = torch.get_rng_state(), loss.item()
    lossproof.audit(loss)
    assert torch.equal(torch.get_rng_state(), state)
    assert loss.item() == before
    assert x.grad is None
    loss.backward()  # the graph is still there
    assert x.grad is not None


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda x: x.softmax(1) / 2, 0.5),
        (lambda x: x.softmax(1) * 2.0, 2.0),
        (lambda x: (x.softmax(1) + x.roll(1, 0).softmax(1)) / 2, 1.0),
        (lambda x: torch.stack([x.softmax(1)] * 3).mean(0), 1.0),
    ],
)
def test_probabilities_that_are_scaled_or_averaged_have_their_own_ceiling(
    make: Callable[[Tensor], Tensor], most: float
) -> None:
    (fact,) = facts(F.cross_entropy(make(logits(6, 4)), torch.zeros(6).long()))
    assert fact.activation == "softmax"
    assert fact.figures["most"] == pytest.approx(math.exp(most) / (math.exp(most) + 3))
    assert fact.figures["believed"] <= fact.figures["most"]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.softmax(1) * 30,
        lambda x: x.softmax(1) - x.roll(1, 0).softmax(1),
        lambda x: x.softmax(1) + x,
        lambda x: x.softmax(1) * x.sum(),
        lambda x: x.softmax(1) @ torch.ones(4, 4),
    ],
)
def test_what_is_made_of_probabilities_and_is_none(make: Callable[[Tensor], Tensor]) -> None:
    assert facts(F.cross_entropy(make(logits(6, 4)), torch.zeros(6).long())) == []


def test_cross_entropy_by_hand_of_probabilities() -> None:
    p, y = logits(6, 4).softmax(1), torch.zeros(6, 1).long()
    (fact,) = facts((p.logsumexp(1) - p.gather(1, y).squeeze(1)).mean())
    assert (fact.loss, fact.activation) == ("cross-entropy", "softmax")
    assert facts((p.logsumexp(1) - logits(6)).mean()) == []
