"""Sums of losses in the graph: terms with values, what is pushed up without an end, and weights that never move."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph import sums  # noqa: E402
from lossproof.graph.known import Known  # noqa: E402
from lossproof.graph.objective_facts import LossWeights, Maximized, SumOfLosses  # noqa: E402
from lossproof.graph.terms import terms  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402


def of(sort: type, loss: torch.Tensor, known: Known | None = None) -> list:  # type: ignore[type-arg]
    return [fact for fact in sums.facts(Graph(loss, known)) if isinstance(fact, sort)]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.linspace(-1, 2, 12).reshape(4, 3).requires_grad_()


Y = torch.tensor([0, 1, 2, 0])
FAR = torch.full((4, 3), 30.0)


# ---- the terms


def test_the_factor_of_each_term(x: torch.Tensor) -> None:
    a, b, c = x.exp().sum(), x.sin().mean(), x.square().mean()
    found = {term.op.kind: term.factor for term in terms(Graph(2 * a - b / 4 + torch.add(c, a, alpha=0) * 3))}
    assert found["Sin"] == -0.25
    assert found["Pow"] == 3.0
    found = {term.op.kind: term.factor for term in terms(Graph(-(1 - torch.stack([a, b, -c]).mean())))}
    assert found == {"Exp": pytest.approx(1 / 3), "Sin": pytest.approx(1 / 3), "Pow": pytest.approx(-1 / 3)}


def test_a_factor_that_is_no_number_is_unknown(x: torch.Tensor) -> None:
    weight = torch.rand(4, 3)
    (term,) = terms(Graph((weight * x.exp()).sum()))
    assert (term.op.kind, term.factor) == ("Exp", None)
    (term,) = terms(Graph(x.exp().sum() / 0))
    assert term.factor is None


def test_a_very_long_sum_needs_no_deep_stack(x: torch.Tensor) -> None:
    total = torch.zeros(())
    for _ in range(5000):
        total = total + x.mean()
    assert len(list(terms(Graph(total)))) > 1000


# ---- unlike losses


@pytest.mark.parametrize("recorded", [False, True])
def test_the_value_of_each_term(x: torch.Tensor, recorded: bool) -> None:
    def losses() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return F.cross_entropy(x, Y), F.mse_loss(x, FAR), ((x - FAR) ** 2).mean()

    if recorded:
        with lossproof.recording():
            ce, mse, square = losses()
            total = ce + mse + square
    else:
        ce, mse, square = losses()
        total = ce + mse + square
    (found,) = of(SumOfLosses, total)
    values = [(each.kind, pytest.approx(each.value, rel=1e-6)) for each in found.addends]
    assert sorted(values, key=lambda each: each[0]) == [
        ("cross entropy", float(ce.detach())),
        ("squared error", float(mse.detach())),
        ("squared error", float(square.detach())),
    ]


def test_the_ways_to_add(x: torch.Tensor) -> None:
    ce, mse = F.cross_entropy(x, Y), F.mse_loss(x, FAR)
    in_place = F.cross_entropy(x, Y)
    in_place += mse
    for total in (
        ce + mse,
        sum([ce, mse]),
        sum({"a": ce, "b": mse}.values()),
        torch.stack([ce, mse]).sum(),
        torch.stack((ce, mse)).mean(),
        (ce + mse) / 2,
        in_place,
        ce + mse + 1e-4 * sum(p.pow(2).sum() for p in [nn.Parameter(torch.ones(3))]),
    ):
        (found,) = of(SumOfLosses, total)
        assert {each.family for each in found.addends} == {"log", "square"}


def test_sums_that_somebody_weighed_or_that_are_level(x: torch.Tensor) -> None:
    ce, mse = F.cross_entropy(x, Y), F.mse_loss(x, FAR)
    weight = nn.Parameter(torch.zeros(()))
    for total in (
        ce + 0.01 * mse,
        ce + mse * weight.exp() + weight,
        (torch.tensor([1.0, 0.01]) * torch.stack([ce, mse])).sum(),
        ce + F.mse_loss(x, x.detach() + 1),  # of one size
        mse + F.mse_loss(x, 10 * FAR),  # of one kind
        ce + mse * float("nan"),
        ce + (mse + 1).log(),
        ce + x.square().mean() * 100,
    ):
        assert of(SumOfLosses, total) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_number_formats(x: torch.Tensor, dtype: torch.dtype) -> None:
    z = x.detach().to(dtype).requires_grad_()
    (found,) = of(SumOfLosses, F.cross_entropy(z, Y) + F.mse_loss(z, FAR.to(dtype)))
    assert found.addends[0].value == pytest.approx(float(F.mse_loss(x, FAR).detach()), rel=1e-2)


# ---- without an end


def test_terms_that_are_pushed_up(x: torch.Tensor) -> None:
    ce = F.cross_entropy(x, Y)
    a, b = nn.Linear(3, 2)(x.detach()), nn.Linear(3, 2)(x.detach())
    for term, kind in (
        (F.mse_loss(a, b), "a squared error"),
        ((a - b).abs().mean(), "an absolute difference"),
        ((a - b).pow(2).sum(1).mean(), "a squared distance"),
        ((a - b).pow(2).sum(1).sqrt().mean(), "a squared distance"),
        ((a - b).norm(dim=1).mean(), "a norm"),
        (torch.cdist(a, b).mean(), "a distance"),
        (a.var(dim=0).sum(), "a variance"),
        (a.std(), "a standard deviation"),
    ):
        (found,) = of(Maximized, ce - 0.5 * term)
        assert found.kind == kind
        if found.value is not None:
            assert found.value == pytest.approx(-0.5 * float(term.detach()), rel=1e-5)
        assert of(Maximized, ce + 0.5 * term) == []
        assert of(Maximized, (ce - term).relu()) == []


def test_what_has_an_end_or_is_a_difference_of_the_same(x: torch.Tensor) -> None:
    ce, h = F.cross_entropy(x, Y), nn.Linear(3, 2)(x.detach())
    a, b = h.tanh(), h.sigmoid()
    for loss in (
        ce - F.mse_loss(a, b),
        ce - F.mse_loss(F.normalize(h), F.normalize(h.flip(0))),
        h.square().mean() - h.mean().square(),
        torch.cdist(h, FAR[:, :2]).mean() - 0.5 * torch.cdist(h, h).mean(),
        F.mse_loss(h, FAR[:, :2]) - F.mse_loss(h, -FAR[:, :2]),
        ce - F.cosine_similarity(h, FAR[:, :2]).mean(),
        -F.mse_loss(h, FAR[:, :2]),  # an attack, or a reward
        ce - h.mean(),
        ce - 0.01 * nn.Parameter(torch.ones(1)).square().sum(),
    ):
        assert of(Maximized, loss) == []


# ---- weights


def test_learnable_weights_by_name_and_value(x: torch.Tensor) -> None:
    weights, net = nn.Parameter(torch.tensor([0.5, 2.0])), nn.Linear(3, 2)
    h = net(x.detach())
    losses = torch.stack([F.mse_loss(h[:, 0], FAR[:, 0]), F.l1_loss(h[:, 1], FAR[:, 1])])
    alone = Known({"criterion.weights": weights}, torch.optim.SGD(net.parameters(), 0.1))
    for total in (
        (weights * losses).sum(),
        (torch.exp(-weights) * losses + weights).sum(),
        weights[0] * losses[0] + weights[1] * losses[1],
        losses[0] / (2 * weights[0] ** 2) + weights[0].log(),
        (losses * weights.softmax(0)).mean(),
        F.softplus(weights)[0] * losses[0] + losses[1],
    ):
        (found,) = of(LossWeights, total, alone)
        assert (found.name, found.values) == ("criterion.weights", (0.5, 2.0))
        both = Known(None, [torch.optim.SGD(net.parameters(), 0.1), torch.optim.SGD([weights], 0.1)])
        assert of(LossWeights, total, both) == []
        assert of(LossWeights, total) == []
        copies = torch.optim.SGD([each.detach().clone() for each in net.parameters()], 0.1)
        assert of(LossWeights, total, Known(None, copies)) == []  # as a half-precision optimizer holds them


def test_parameters_that_weigh_no_loss(x: torch.Tensor) -> None:
    scale, net = nn.Parameter(torch.tensor(2.0)), nn.Linear(3, 3)
    known = Known(None, torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1))
    for loss in (
        F.cross_entropy(net(x) * scale, Y),
        F.mse_loss(net(x) + scale, FAR),
        (net(x) - scale).square().mean(),
        F.cross_entropy(net(x), Y) + scale.square(),
    ):
        assert of(LossWeights, loss, known) == []
