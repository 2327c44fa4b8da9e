"""Focal terms in the graph: the figures, the forms they are written in, and what only looks like one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from lossproof.graph import focal  # noqa: E402
from lossproof.graph.objective_facts import FocalTerm  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402


def terms(loss: torch.Tensor) -> list[FocalTerm]:
    return list(focal.facts(Graph(loss)))


def term(loss: torch.Tensor) -> FocalTerm:
    (found,) = terms(loss)
    return found


@pytest.fixture
def z() -> torch.Tensor:
    """Logits of two classes for six elements, from sure to sure and wrong."""
    first = torch.tensor([40.0, 4.0, 1.0, 0.0, -1.0, -20.0])
    return torch.stack([first, torch.zeros(6)], dim=1).requires_grad_()


Y = torch.zeros(6, dtype=torch.long)


def plain(z: torch.Tensor, y: torch.Tensor = Y, **more: object) -> torch.Tensor:
    return F.cross_entropy(z, y, reduction="none", **more)  # type: ignore[arg-type]


def test_the_figures_of_a_term(z: torch.Tensor) -> None:
    ce = plain(z)
    found = term(((1 - torch.exp(-ce)) ** 3 * ce).mean())
    factor = (1 - torch.softmax(z.detach().double(), 1)[:, 0]) ** 3
    assert (found.gamma, found.elements, found.alone) == (3, 6, True)
    assert found.sure == 1  # 40: exp(-ce) is exactly 1
    assert found.silenced == int((factor < 0.01).sum()) == 2
    assert found.factor == pytest.approx(float(factor.mean()), rel=1e-5)
    assert (found.scale, found.spoiled) == (None, None)


def test_the_forms_that_a_factor_is_written_in(z: torch.Tensor) -> None:
    def by_log(z: torch.Tensor) -> torch.Tensor:
        log_p = F.log_softmax(z, 1).gather(1, Y[:, None]).squeeze(1)
        return (-((1 - log_p.exp()) ** 2) * log_p).mean()

    def by_power(z: torch.Tensor) -> torch.Tensor:
        ce = plain(z)
        return torch.pow(1.0 - (-ce).exp(), 2).mul(ce).sum()

    def two_sided(z: torch.Tensor) -> torch.Tensor:
        x, y = z[:, 0], torch.tensor([1.0, 0, 1, 0, 1, 0])
        p = torch.sigmoid(x)
        pt = p * y + (1 - p) * (1 - y)
        return (F.binary_cross_entropy_with_logits(x, y, reduction="none") * (1 - pt) ** 2).mean()

    def chosen(z: torch.Tensor) -> torch.Tensor:
        x, y = z[:, 0], torch.tensor([1.0, 0, 1, 0, 1, 0])
        p = torch.sigmoid(x)
        factor = (1 - torch.where(y == 1, p, 1 - p)).pow(2)
        return (factor * F.binary_cross_entropy_with_logits(x, y, reduction="none")).mean()

    def one_hot(z: torch.Tensor) -> torch.Tensor:
        log_p = F.log_softmax(z, 1)
        hot = F.one_hot(Y, 2)
        pt = (log_p.exp() * hot).sum(1)
        return -((1 - pt) ** 2 * (log_p * hot).sum(1)).mean()

    for form in (by_log, by_power, two_sided, chosen, one_hot):
        found = term(form(z))
        assert (found.gamma, found.elements, found.scale, found.spoiled) == (2, 6, None, None), form.__name__


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_number_formats(z: torch.Tensor, dtype: torch.dtype) -> None:
    x = z.detach().to(dtype).requires_grad_()
    log_p = F.log_softmax(x, 1).gather(1, Y[:, None])
    found = term(-((1 - log_p.exp()) ** 0.5 * log_p).mean())
    assert (found.gamma, found.elements) == (0.5, 6)
    assert found.sure == 1


def test_nothing_of_the_kind(z: torch.Tensor) -> None:
    ce = plain(z)
    p = z.softmax(1)
    for loss in (
        ((1 - p) ** 2).mean(),  # a Brier score
        ((1 - torch.exp(-ce)) ** 2).mean(),  # no cross entropy is multiplied
        ((z[:, 0] - 1) ** 2 * ce).mean(),
        (p[:, 0] ** 2 * ce).mean(),
        (torch.exp(-ce) * ce).mean(),
        ((1 - torch.exp(-ce)) ** torch.ones(6, requires_grad=True) * ce).mean(),  # a learnable exponent
    ):
        assert terms(loss) == []


def test_no_elements(z: torch.Tensor) -> None:
    ce = plain(z[:0], Y[:0])
    found = term(((1 - torch.exp(-ce)) ** 2 * ce).sum())
    assert (found.elements, found.sure, found.factor) == (0, 0, 0.0)


# ---- one number for all classes


def test_one_number_is_the_product_of_all_that_multiply_every_element(z: torch.Tensor) -> None:
    ce = plain(z)
    factor = (1 - torch.exp(-ce)) ** 2
    assert term((0.25 * factor * ce).mean()).scale == 0.25
    assert term((factor * ce * 0.25).mean()).scale == 0.25
    assert term((factor * (0.5 * ce) * 0.5).mean()).scale == 0.25
    assert term((-0.25 * factor * -ce).mean()).scale == -0.25
    assert term((torch.tensor(0.25) * factor * ce).mean()).scale == 0.25


def test_a_weight_for_each_class_is_no_such_number(z: torch.Tensor) -> None:
    ce = plain(z)
    factor = (1 - torch.exp(-ce)) ** 2
    assert term((torch.tensor([0.25, 0.75])[Y] * factor * ce).mean()).scale is None
    assert term((0.5 * torch.tensor([0.25, 0.75])[Y] * factor * ce).mean()).scale is None
    assert term(0.25 * (factor * ce).mean()).scale is None
    assert term((-1 * factor * -ce).mean()).scale is None
    weighted = plain(z, weight=torch.tensor([1.0, 3.0]))
    assert term((0.25 * factor * weighted).mean()).scale is None


# ---- the probability of something else


def test_a_mean_in_the_place_of_each_element(z: torch.Tensor) -> None:
    for ce in (F.cross_entropy(z, Y), F.cross_entropy(z, Y, reduction="sum"), plain(z).mean(), plain(z).sum()):
        spoiled = term((1 - torch.exp(-ce)) ** 2 * ce).spoiled
        assert spoiled is not None
        assert (spoiled.how, spoiled.elements) == ("reduced", 6)


def test_ignored_targets_are_not_counted(z: torch.Tensor) -> None:
    y = torch.tensor([0, 0, 7, 7, 7, 0])
    ce = F.cross_entropy(z, y, ignore_index=7)
    spoiled = term((1 - torch.exp(-ce)) ** 2 * ce).spoiled
    assert spoiled is not None
    assert spoiled.elements == 3
    ce = F.cross_entropy(z, torch.tensor([0, 7, 7, 7, 7, 7]), ignore_index=7)
    assert term((1 - torch.exp(-ce)) ** 2 * ce).spoiled is None


def test_weights_and_the_element_that_they_change_most(z: torch.Tensor) -> None:
    ce = plain(z, weight=torch.tensor([4.0, 1.0]))
    spoiled = term(((1 - torch.exp(-ce)) ** 2 * ce).mean()).spoiled
    assert spoiled is not None
    assert (spoiled.how, spoiled.weights) == ("weighted", (1.0, 4.0))
    p = torch.softmax(z.detach().double(), 1)[:, 0]
    row = int((p - p**4).argmax())
    assert spoiled.example == (row, pytest.approx(float(p[row]), rel=1e-5), pytest.approx(float(p[row] ** 4), rel=1e-5))


def test_a_number_in_front_of_the_cross_entropy(z: torch.Tensor) -> None:
    ce = plain(z)
    spoiled = term(((1 - torch.exp(-0.5 * ce)) ** 2 * ce).mean()).spoiled
    assert spoiled is not None
    assert (spoiled.how, spoiled.weights) == ("weighted", (0.5, 0.5))
    assert term(((1 - torch.exp(-1 * ce)) ** 2 * ce).mean()).spoiled is None


def test_smoothed_labels_and_images(z: torch.Tensor) -> None:
    for x, y in ((z, Y), (z.reshape(1, 2, 3, 2), torch.zeros(1, 3, 2, dtype=torch.long))):
        ce = plain(x, y, label_smoothing=0.1)
        spoiled = term(((1 - torch.exp(-ce)) ** 2 * ce).mean()).spoiled
        assert spoiled is not None
        assert spoiled.how == "smoothed"
        ce = F.cross_entropy(x, y, label_smoothing=0.1)
        spoiled = term((1 - torch.exp(-ce)) ** 2 * ce).spoiled
        assert spoiled is not None
        assert (spoiled.how, spoiled.elements) == ("reduced", 6)
