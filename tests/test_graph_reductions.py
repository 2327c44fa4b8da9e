"""How a loss is reduced, seen in the graph: sums over the batch, crossed shapes, masks and what they are divided by."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph import broadcast, masks, overlap  # noqa: E402
from lossproof.graph.loss_facts import CrossedShapes, MaskedMean, PooledOverlap  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings("ignore:Using a target size")


def given(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(*shape: int) -> Tensor:
    """What a layer gave: not a leaf, and nobody wrote its axes."""
    return F.linear(given(*shape, seed=5), torch.eye(shape[-1]).requires_grad_())


# ---- overlap


def image(*shape: int) -> Tensor:
    return F.conv2d(given(*shape, seed=7), torch.ones(shape[1], shape[1], 1, 1, requires_grad=True)).sigmoid()


def target() -> Tensor:
    t = torch.zeros(4, 1, 5, 5)
    t[0, 0, 0, 0] = 1
    t[2, 0] = 1
    t[3, 0, :2, :2] = 1
    return t


def dice(p: Tensor, t: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    def add(x: Tensor) -> Tensor:
        return x.sum() if dims is None else x.sum(dims)

    return (1 - (2 * add(p * t) + 1) / (add(p) + add(t) + 1)).mean()


def pooled(loss: Tensor) -> list[PooledOverlap]:
    return list(overlap.facts(Graph(loss)))


def test_what_the_batch_is_made_of_is_told() -> None:
    (fact,) = pooled(dice(image(4, 1, 5, 5), target()))
    assert (fact.shape, fact.largest, fact.empty) == ((4, 1, 5, 5), 2, 1)
    assert fact.share == pytest.approx(25 / 30)


POOLED: dict[str, Callable[[], Tensor]] = {
    "flat": lambda: dice(image(4, 1, 5, 5).view(-1), target().view(-1)),
    "without channels": lambda: dice(image(4, 1, 5, 5).squeeze(1), target().squeeze(1)),
    "rows that are added": lambda: dice(image(4, 1, 5, 5).flatten(1), target().flatten(1)),
    "axes that are named": lambda: dice(image(4, 1, 5, 5), target(), (0, 1, 2, 3)),
    "per class": lambda: dice(image(4, 2, 5, 5).softmax(1), target().expand(4, 2, 5, 5), (0, 2, 3)),
    "one class of several": lambda: dice(image(4, 2, 5, 5).softmax(1)[:, 1], target()[:, 0]),
    "squares": lambda: (lambda p, t: 1 - 2 * (p * t).sum() / (p.pow(2).sum() + t.pow(2).sum()))(
        image(4, 1, 5, 5), target()
    ),
    "half": lambda: dice(image(4, 1, 5, 5).half(), target().half()),
    "union in one": lambda: (lambda p, t: 1 - (p * t).sum() / (p + t - p * t).sum())(image(4, 1, 5, 5), target()),
}


@pytest.mark.parametrize("form", POOLED)
def test_a_ratio_over_the_batch(form: str) -> None:
    assert len(pooled(POOLED[form]())) == 1


SEPARATE: dict[str, Callable[[], Tensor]] = {
    "axes of a sample": lambda: dice(image(4, 1, 5, 5), target(), (1, 2, 3)),
    "rows": lambda: dice(image(4, 1, 5, 5).flatten(1), target().flatten(1), (1,)),
    "a loop": lambda: torch.stack([dice(p, t) for p, t in zip(image(4, 1, 5, 5), target(), strict=True)]).mean(),
    "a loop over numbers": lambda: sum(dice(image(4, 1, 5, 5)[i], target()[i]) for i in range(4)),  # type: ignore[misc]
    "a batch of one": lambda: dice(image(1, 1, 5, 5), target()[:1]),
    "f1 of a table": lambda: dice(made(8, 3).sigmoid(), (given(8, 3) > 0).float()),
    "a learned mean": lambda: (lambda w: (w * target()).sum() / w.sum())(image(4, 1, 5, 5)),
    "cosine": lambda: (lambda p, t: (p * t).sum() / (p.norm() * t.norm()))(image(4, 1, 5, 5), target()),
}


@pytest.mark.parametrize("form", SEPARATE)
def test_a_ratio_of_one_sample_is_none(form: str) -> None:
    assert pooled(SEPARATE[form]()) == []


# ---- shapes


def crossed(loss: Tensor) -> list[CrossedShapes]:
    return list(broadcast.facts(Graph(loss)))


CROSSED: dict[str, Callable[[], Tensor]] = {
    "mse": lambda: F.mse_loss(made(6, 1), given(6)),
    "mse unreduced": lambda: F.mse_loss(made(6, 1), given(6), reduction="none"),
    "huber": lambda: F.huber_loss(made(6, 1), given(6), reduction="sum"),
    "smooth": lambda: F.smooth_l1_loss(given(6), made(6, 1)),
    "squared": lambda: ((made(6, 1) - given(6)) ** 2).mean(),
    "product with itself": lambda: (lambda d: d * d)(given(6) - made(6, 1)).sum() / 6,
    "absolute": lambda: F.l1_loss(made(6, 1), given(6)),
    "relative": lambda: ((made(6, 1) - given(6)) / (given(6).abs() + 1)).abs().mean(),
    "double": lambda: ((made(6, 1).double() - given(6).double()) ** 2).mean(),
    "bfloat16": lambda: ((made(6, 1).bfloat16() - given(6).bfloat16()) ** 2).mean(),
    "weights": lambda: (F.cross_entropy(made(6, 3), torch.zeros(6).long(), reduction="none") * given(6, 1)).mean(),
}


@pytest.mark.parametrize("form", CROSSED)
def test_a_column_meets_a_row(form: str) -> None:
    (fact,) = crossed(CROSSED[form]())
    assert fact.result == (6, 6)
    assert {fact.left, fact.right} == {(6,), (6, 1)}
    assert fact.written is (form in ("mse", "mse unreduced", "huber", "smooth"))


@pytest.mark.parametrize("judge", [F.mse_loss, F.smooth_l1_loss, F.huber_loss, F.l1_loss])
def test_under_autocast(judge: Callable[[Tensor, Tensor], Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = judge(made(6, 1), given(6))
    assert [(fact.left, fact.right) for fact in crossed(loss)] == [((6, 1), (6,))]


def test_a_row_meets_a_column() -> None:
    (fact,) = crossed(F.mse_loss(made(6, 1).squeeze(1), given(6, 1)))
    assert (fact.left, fact.right) == ((6,), (6, 1))


def test_images_without_their_channel() -> None:
    (fact,) = crossed(F.mse_loss(image(4, 1, 5, 5), given(4, 5, 5)))
    assert (fact.left, fact.right, fact.result) == ((4, 1, 5, 5), (4, 5, 5), (4, 4, 5, 5))


ALIKE: dict[str, Callable[[], Tensor]] = {
    "same shapes": lambda: F.mse_loss(made(6, 1), given(6, 1)),
    "one row": lambda: F.mse_loss(made(1, 1), given(1)),
    "quantiles": lambda: ((made(6, 6) - given(6, 1)) ** 2).mean(),
    "quantiles of a loss": lambda: F.mse_loss(made(6, 6), given(6, 1)),
    "a full matrix": lambda: ((made(6, 1) - given(6, 6)) ** 2).mean(),
    "a row of numbers": lambda: F.mse_loss(made(6, 6), given(6)),
    "pairs": lambda: (lambda s: ((s[:, None] - s[None]) ** 2).mean())(made(6, 1).squeeze(1)),
    "pairs of two": lambda: (made(6, 1) - made(6, 1).t()).abs().mean(),
    "a number": lambda: ((made(6, 1) - 2) ** 2).mean(),
    "a constant": lambda: ((made(6, 1) - torch.ones(6)) ** 2).mean(),
    "an outer product": lambda: (made(6, 1) * given(6)).softmax(1).mean(),
    "written out": lambda: (made(6, 1).squeeze(1).unsqueeze(1) - given(6)).abs().mean(),
}


@pytest.mark.parametrize("form", ALIKE)
def test_shapes_that_are_meant(form: str) -> None:
    assert crossed(ALIKE[form]()) == []


# ---- masks


def masked(loss: Tensor) -> list[tuple[str, int, int]]:
    return [(fact.how, fact.kept, fact.elements) for fact in masks.facts(Graph(loss))]


MASK = torch.tensor([1.0, 1, 0, 1, 0, 0])
Z: Callable[[], Tensor] = lambda: made(6, 1).squeeze(1)  # noqa: E731


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda: (F.mse_loss(Z(), given(6), reduction="none") * MASK).mean(), ("mean", 3, 6)),
        (lambda: (F.mse_loss(Z(), given(6), reduction="none") * MASK.bool()).mean(), ("mean", 3, 6)),
        (lambda: (F.mse_loss(Z(), given(6), reduction="none") * MASK).sum() / 6, ("division", 3, 6)),
        (lambda: ((made(6, 4) - given(6, 4)).abs() * MASK[:, None]).mean(), ("mean", 12, 24)),
        (lambda: ((made(6, 4) - given(6, 4)).pow(2).mean(1) * MASK).mean(), ("mean", 3, 6)),
        (lambda: (((Z() - given(6)) * MASK) ** 2).mean(), ("mean", 3, 6)),
        (lambda: F.mse_loss(Z() * MASK, given(6) * MASK), ("both", 3, 6)),
        (lambda: F.l1_loss(Z() * MASK, given(6) * MASK), ("mean", 3, 6)),
        (lambda: torch.where(MASK > 0, (Z() - given(6)) ** 2, 0.0).mean(), ("mean", 3, 6)),
        (lambda: ((Z() - given(6)) ** 2).masked_fill(MASK == 0, 0).mean(), ("mean", 3, 6)),
        (
            lambda: F.cross_entropy(made(6, 3), torch.tensor([0, 1, -100, 2, -100, 0]), reduction="none").mean(),
            ("ignored", 4, 6),
        ),
        (lambda: F.cross_entropy(made(6, 3), torch.full((6,), -100)), ("all-ignored", 0, 6)),
        (lambda: ((Z() - given(6)) ** 2)[MASK > 1].mean(), ("empty", 0, 6)),
        (lambda: F.mse_loss(Z()[MASK > 1], given(6)[MASK > 1]), ("empty", 0, 6)),
        (lambda: ((Z() - given(6)) ** 2 * (MASK > 1)).sum() / (MASK > 1).sum(), ("empty", 0, 6)),
    ],
)
def test_what_a_masked_loss_is_divided_by(loss: Callable[[], Tensor], found: tuple[str, int, int]) -> None:
    assert masked(loss()) == [found]


@pytest.mark.parametrize(
    "loss",
    [
        lambda: (F.mse_loss(Z(), given(6), reduction="none") * MASK).sum() / MASK.sum(),
        lambda: (F.mse_loss(Z(), given(6), reduction="none") * torch.ones(6)).mean(),
        lambda: (F.mse_loss(Z(), given(6), reduction="none") * given(6).abs()).mean(),
        lambda: ((made(6, 4) - given(6, 4)).pow(2) * MASK[:, None]).sum() / 6,
        lambda: (MASK * F.logsigmoid(Z())).mean() + ((1 - MASK) * F.logsigmoid(-Z())).mean(),
        lambda: ((Z() - given(6)) ** 2 * MASK).mean() + ((Z() - 1.0) ** 2 * (1 - MASK)).mean(),
        lambda: ((made(6, 4) - given(6, 4)) ** 2 * F.one_hot(torch.arange(6) % 4, 4)).mean(),
        lambda: F.dropout((Z() - given(6)) ** 2).mean(),
        lambda: ((Z() - given(6)) ** 2)[MASK > 0].mean(),
        lambda: (made(6, 4) * MASK[:, None]).mean(),
        lambda: F.cross_entropy(made(6, 3), torch.tensor([0, 1, -100, 2, -100, 0])),
        lambda: F.mse_loss(Z() * MASK, given(6)),
    ],
)
def test_masks_that_are_divided_out_and_what_is_no_mask(loss: Callable[[], Tensor]) -> None:
    assert masked(loss()) == []


def test_the_message_says_by_how_much_the_loss_is_too_small() -> None:
    found = lossproof.audit((F.mse_loss(Z(), given(6), reduction="none") * MASK).mean())
    assert [(each.rule, each.severity.value) for each in found] == [("LP304", "warning")]
    assert "3 of 6 elements are kept" in found[0].message
    assert "0.5 times" in found[0].message
    assert isinstance(
        next(iter(masks.facts(Graph((F.mse_loss(Z(), given(6), reduction="none") * MASK).mean())))), MaskedMean
    )
