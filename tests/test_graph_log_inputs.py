"""Losses that take log-probabilities, seen in the graph: what they are given, over which axis, in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph import log_inputs  # noqa: E402
from lossproof.graph.facts import GraphFact  # noqa: E402
from lossproof.graph.loss_facts import (  # noqa: E402
    DivergenceInput,
    NllInput,
    OneColumn,
    SwappedArguments,
    WrongAxis,
)
from lossproof.graph.walk import Graph  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:reduction")
Tensor = torch.Tensor


def facts(loss: Tensor) -> list[GraphFact]:
    return list(log_inputs.facts(Graph(loss)))


def table(*shape: int, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.linear(drawn, torch.eye(shape[-1], requires_grad=True) * scale)


def given(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


Y = torch.tensor([0, 1, 2, 0, 1, 2])


def test_probabilities_before_nll_have_their_range() -> None:
    p = table(6, 3).softmax(1)
    (fact,) = facts(F.nll_loss(p, Y))
    assert isinstance(fact, NllInput)
    assert (fact.what, fact.classes, fact.rows, fact.normalized) == ("softmax", 3, 6, 0)
    assert (fact.least, fact.most) == (p.min().item(), p.max().item())


def test_raw_scores_before_nll_have_their_largest() -> None:
    z = table(6, 3)
    (fact,) = facts(F.nll_loss(z, Y, reduction="sum"))
    assert isinstance(fact, NllInput)
    assert (fact.what, fact.most) == ("raw", z.max().item())


def test_probabilities_are_known_by_their_rows_where_their_operator_is_not() -> None:
    z = table(6, 3)
    p = (z * z + 0.1) / (z * z + 0.1).sum(1, keepdim=True)
    (fact,) = facts(F.nll_loss(p, Y))
    assert isinstance(fact, NllInput)
    assert fact.what == "probabilities"


SOUND: dict[str, Callable[[], Tensor]] = {
    "log-softmax": lambda: F.nll_loss(table(6, 3).log_softmax(1), Y),
    "guarded logarithm": lambda: F.nll_loss((table(6, 3).softmax(1) + 1e-8).log(), Y),
    "half": lambda: F.nll_loss(table(6, 3).half().log_softmax(1).float(), Y),
    "mean of experts": lambda: F.nll_loss(
        torch.logsumexp(torch.stack([table(6, 3).log_softmax(1)] * 2), 0) - 0.6931, Y
    ),
    "pixels": lambda: F.nll_loss(table(2, 4, 4, 3).log_softmax(3).permute(0, 3, 1, 2), torch.zeros(2, 4, 4).long()),
    "one example": lambda: F.nll_loss(table(3).log_softmax(0), torch.tensor(1)),
    "a few of the classes": lambda: F.nll_loss(table(6, 9).log_softmax(1)[:, :3], Y),
    "sequence": lambda: F.nll_loss(table(2, 3, 5).log_softmax(2).reshape(6, 5), Y),
    "unnormalized potentials": lambda: F.nll_loss(F.logsigmoid(table(6, 3)), Y),
    "divergence": lambda: F.kl_div(table(6, 3).log_softmax(1), given(6, 3).softmax(1), reduction="batchmean"),
    "divergence of logs": lambda: F.kl_div(table(6, 3).log_softmax(1), given(6, 3).log_softmax(1), log_target=True),
    "reverse divergence": lambda: F.kl_div(given(6, 3).log_softmax(1), table(6, 3).softmax(1), reduction="sum"),
    "unhinged": lambda: (torch.ones(6, 3) - F.one_hot(Y, 3) * table(6, 3).softmax(1)).sum(),
    "soft targets over classes first": lambda: -(given(3, 6).softmax(0) * table(3, 6).log_softmax(0)).sum(),
    "both ways": lambda: -(table(6, 6).log_softmax(0).diagonal() + table(6, 6).log_softmax(1).diagonal()).mean(),
    "a batch of one": lambda: F.cross_entropy(table(1, 1), torch.zeros(1).long()),
    "learned target": lambda: F.binary_cross_entropy_with_logits(given(6), table(6).sigmoid()),
    "regression": lambda: F.mse_loss(given(6, 3), table(6, 3)),
    "scores of a constant": lambda: (given(6, 3).log_softmax(1) * table(6, 3)).sum(),
}


@pytest.mark.parametrize("form", SOUND)
def test_sound_forms_are_silent(form: str) -> None:
    assert facts(SOUND[form]()) == []


@pytest.mark.parametrize(
    ("make", "shape", "dim"),
    [
        (lambda: F.nll_loss(table(6, 3).log_softmax(0), Y), (6, 3), 0),
        (lambda: F.nll_loss(table(6, 3).log_softmax(-2), Y), (6, 3), 0),
        (lambda: F.nll_loss(table(2, 3, 5).log_softmax(1).reshape(6, 5), Y), (2, 3, 5), 1),
        (lambda: F.nll_loss(table(6, 3).softmax(0).log(), Y), (6, 3), 0),
        (lambda: -(given(6, 3).softmax(1) * table(6, 3).log_softmax(0)).sum(), (6, 3), 0),
        (lambda: F.cross_entropy(table(6, 3).softmax(0), Y), (6, 3), 0),
    ],
)
def test_a_softmax_over_the_wrong_axis(make: Callable[[], Tensor], shape: tuple[int, ...], dim: int) -> None:
    found = [fact for fact in facts(make()) if isinstance(fact, WrongAxis)]
    assert [(fact.shape, fact.dim, fact.classes) for fact in found] == [(shape, dim, 1)]


def test_what_the_rows_add_up_to_is_told() -> None:
    z = table(6, 3)
    (fact,) = facts(F.nll_loss(z.log_softmax(0), Y))
    assert isinstance(fact, WrongAxis)
    sums = z.softmax(0).sum(1)
    assert (fact.least, fact.most) == (pytest.approx(sums.min().item()), pytest.approx(sums.max().item()))


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda: F.cross_entropy(table(6, 1), torch.zeros(6).long()), 6),
        (lambda: F.cross_entropy(table(6, 1), torch.ones(6, 1)), 6),
        (lambda: F.cross_entropy(table(2, 1, 4), torch.zeros(2, 4).long()), 8),
    ],
)
def test_a_single_class(make: Callable[[], Tensor], rows: int) -> None:
    (fact,) = facts(make())
    assert isinstance(fact, OneColumn)
    assert fact.rows == rows


@pytest.mark.parametrize("reduction", ["none", "mean", "sum", "batchmean"])
@pytest.mark.parametrize("noted", [True, False])
def test_probabilities_in_kl_div(reduction: str, noted: bool) -> None:
    p, t = table(6, 3).softmax(1), given(6, 3).softmax(1)
    if noted:
        with lossproof.recording():
            loss = F.kl_div(p, t, reduction=reduction)
    else:
        loss = F.kl_div(p, t, reduction=reduction)
    (fact,) = facts(loss)
    assert isinstance(fact, DivergenceInput)
    assert (fact.what, fact.named) == ("softmax", noted)
    confidence = lossproof.audit(loss)[0].confidence
    assert confidence == ("proven" if noted else "likely")


def test_logarithms_as_the_target_are_counted() -> None:
    t = given(6, 3).log_softmax(1)
    with lossproof.recording():
        loss = F.kl_div(table(6, 3).log_softmax(1), t, reduction="sum")
    (fact,) = facts(loss)
    assert isinstance(fact, DivergenceInput)
    assert (fact.what, fact.negative, fact.elements) == ("log-target", 18, 18)
    assert loss.isnan()


@pytest.mark.parametrize(
    ("make", "loss"),
    [
        (lambda: F.binary_cross_entropy_with_logits((given(6) > 0).float(), table(6)), "bce-with-logits"),
        (lambda: F.binary_cross_entropy((given(6) > 0).float(), table(6).sigmoid()), "bce"),
        (lambda: F.cross_entropy(F.one_hot(Y, 3).float(), table(6, 3)), "cross-entropy"),
        (lambda: F.cross_entropy(F.one_hot(Y, 3).float(), table(6, 3).softmax(1)), "cross-entropy"),
        (lambda: F.kl_div(given(6, 3).softmax(1), table(6, 3).log_softmax(1), reduction="sum"), "kl-div"),
    ],
)
def test_arguments_in_the_wrong_order(make: Callable[[], Tensor], loss: str) -> None:
    found = [fact for fact in facts(make()) if isinstance(fact, SwappedArguments)]
    assert [fact.loss for fact in found] == [loss]


def test_labels_in_the_wrong_place_are_counted() -> None:
    y = torch.tensor([1.0, 0, 0, 1, 1, 0])
    (fact,) = facts(F.binary_cross_entropy_with_logits(y, table(6)))
    assert isinstance(fact, SwappedArguments)
    assert (fact.positives, fact.elements) == (3, 6)
