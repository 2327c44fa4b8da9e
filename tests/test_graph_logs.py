"""Logarithms of activations in two steps, seen in the graph, with what has rounded away already."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph import logs  # noqa: E402
from lossproof.graph.loss_facts import LogOfActivation  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402

Tensor = torch.Tensor


def facts(loss: Tensor) -> list[LogOfActivation]:
    return list(logs.facts(Graph(loss)))


def leaf(*values: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], str, bool]] = {
    "plain": (lambda x: x.sigmoid().log(), "log(sigmoid)", False),
    "softmax": (lambda x: x.softmax(0).log(), "log(softmax)", False),
    "log2": (lambda x: x.softmax(0).log2(), "log(softmax)", False),
    "complement": (lambda x: (1 - x.sigmoid()).log(), "log(1 - sigmoid)", False),
    "complement of ones": (lambda x: (torch.ones(4) - x.sigmoid()).log(), "log(1 - sigmoid)", False),
    "log1p": (lambda x: torch.log1p(-x.sigmoid()), "log(1 - sigmoid)", False),
    "epsilon": (lambda x: (x.sigmoid() + 1e-7).log(), "log(sigmoid)", True),
    "clamp": (lambda x: x.sigmoid().clamp(1e-6, 1 - 1e-6).log(), "log(sigmoid)", True),
    "clamp and complement": (lambda x: (1 - x.sigmoid().clamp(1e-6, 1 - 1e-6)).log(), "log(1 - sigmoid)", True),
    "complement and epsilon": (lambda x: (1 - x.sigmoid() + 1e-7).log(), "log(1 - sigmoid)", True),
    "an epsilon that vanished": (lambda x: (1 - x.sigmoid().clamp(1e-9, 1 - 1e-9)).log(), "log(1 - sigmoid)", False),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_and_its_guard(form: str) -> None:
    make, name, guarded = FORMS[form]
    (fact,) = facts(make(leaf(0.5, -1.0, 2.0, 3.0)).sum())
    assert (fact.form, fact.guarded, fact.elements, fact.zeros) == (name, guarded, 4, 0)


def test_what_has_rounded_to_zero_is_counted() -> None:
    (fact,) = facts((1 - leaf(20.0, 17.0, 1.0).sigmoid()).log().sum())
    assert (fact.zeros, fact.least, fact.guarded) == (2, 0.0, False)
    found = lossproof.audit((1 - leaf(20.0, 17.0, 1.0).sigmoid()).log().sum())
    assert any("2 of 3 elements have rounded to 0" in each.message for each in found)


def test_what_lies_at_the_guard_is_counted() -> None:
    (fact,) = facts((leaf(-20.0, -30.0, 1.0).sigmoid() + 1e-7).log().sum())
    assert (fact.floored, fact.guarded) == (2, True)
    (fact,) = facts(leaf(-20.0, -30.0, 1.0).sigmoid().clamp(min=1e-7).log().sum())
    assert (fact.floored, fact.guarded) == (2, True)


def test_the_probability_of_the_right_class_of_two() -> None:
    p, y = leaf(0.5, -1.0, 2.0, 3.0).sigmoid(), torch.tensor([1.0, 0, 1, 0])
    for pt in (torch.where(y > 0, p, 1 - p), p * y + (1 - p) * (1 - y)):
        (fact,) = facts(pt.log().sum())
        assert (fact.form, fact.elements) == ("log(pt)", 4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: x.log_softmax(0).sum(),
        lambda x: F.logsigmoid(x).sum(),
        lambda x: (1 + x.sigmoid()).log().sum(),
        lambda x: torch.log1p(x.sigmoid()).sum(),
        lambda x: x.softmax(0).mean().log(),
        lambda x: (x.sigmoid() * x.sigmoid().roll(1)).log().sum(),
        lambda x: (0.5 * x.sigmoid() + 0.25).log().sum(),
        lambda x: torch.distributions.Bernoulli(probs=x.sigmoid()).log_prob(torch.ones(4)).sum(),
        lambda x: torch.distributions.Categorical(probs=x.softmax(0)).entropy(),
        lambda x: F.softplus(x).log().sum(),
    ],
)
def test_sound_forms_are_silent(loss: Callable[[Tensor], Tensor]) -> None:
    assert facts(loss(leaf(0.5, -1.0, 2.0, 3.0))) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats(dtype: torch.dtype) -> None:
    (fact,) = facts((1 - leaf(9.0, 1.0, dtype=dtype).sigmoid()).log().sum())
    assert fact.zeros == (0 if dtype is torch.float64 else 1)
