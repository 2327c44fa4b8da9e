"""Class weights beside the targets of the batch: said only where the batch shows clearly that they are turned over."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from lossproof.graph import class_weights  # noqa: E402
from lossproof.graph.objective_facts import ClassWeights  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402


def facts(loss: torch.Tensor) -> list[ClassWeights]:
    return list(class_weights.facts(Graph(loss)))


def binary(ones: int, zeros: int, dtype: torch.dtype = torch.float32, **weights: object) -> list[ClassWeights]:
    target = torch.cat([torch.ones(ones), torch.zeros(zeros)]).to(dtype)[:, None]
    logits = torch.zeros_like(target).requires_grad_()
    return facts(F.binary_cross_entropy_with_logits(logits, target, **weights))  # type: ignore[arg-type]


def classes(counts: list[int], weight: list[float], **more: object) -> list[ClassWeights]:
    target = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    logits = torch.zeros(len(target), len(weight), requires_grad=True)
    return facts(F.cross_entropy(logits, target, torch.tensor(weight), **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_positives_by_negatives(dtype: torch.dtype) -> None:
    (found,) = binary(10, 190, dtype, pos_weight=torch.tensor(0.0625, dtype=dtype))
    assert (found.kind, found.weights, found.counts, found.column) == ("pos_weight", (0.0625,), (190, 10), None)


@pytest.mark.parametrize(
    ("ones", "zeros", "weight"),
    [
        (10, 190, 19.0),  # as it should be
        (10, 190, 1.0),
        (10, 190, 0.5),  # a choice
        (10, 190, 0.001),  # whatever that is
        (95, 105, 0.9),  # about as many
        (2, 6, 0.3),  # too few to tell
        (0, 5, 0.1),
        (0, 0, 0.1),
        (190, 10, 0.05),
    ],
)
def test_what_may_be_meant(ones: int, zeros: int, weight: float) -> None:
    assert binary(ones, zeros, pos_weight=torch.tensor([weight])) == []


def test_where_positives_are_the_frequent_class() -> None:
    (found,) = binary(190, 10, pos_weight=torch.tensor([19.0]))
    assert found.counts == (10, 190)


def test_the_worst_of_several_columns() -> None:
    target = torch.zeros(200, 3)
    target[:10, 0], target[:40, 1], target[:100, 2] = 1, 1, 1
    logits = torch.zeros(200, 3, requires_grad=True)
    weight = torch.tensor([0.05, 0.25, 1.0])
    (found,) = facts(F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight))
    assert (found.column, found.counts) == (0, (190, 10))
    assert found.weights == (pytest.approx(0.05),)
    assert facts(F.binary_cross_entropy_with_logits(logits, target, pos_weight=1 / weight)) == []
    # one column of several may be a choice
    weight = torch.tensor([0.05, 4.0, 1.0])
    assert facts(F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)) == []


def test_weights_for_each_element() -> None:
    target = torch.cat([torch.ones(10), torch.zeros(190)])
    for loss in (F.binary_cross_entropy_with_logits, lambda z, y, w: F.binary_cross_entropy(z.sigmoid(), y, w)):
        logits = torch.zeros(200, requires_grad=True)
        (found,) = facts(loss(logits, target, torch.where(target == 1, 0.05, 0.95)))
        assert (found.kind, found.counts) == ("weight", (190, 10))
        assert found.weights == (pytest.approx(0.95), pytest.approx(0.05))
        assert facts(loss(logits, target, torch.where(target == 1, 0.95, 0.05))) == []
        assert facts(loss(logits, target, torch.linspace(0.05, 1, 200))) == []


def test_soft_targets_are_no_counts() -> None:
    target = torch.full((200, 1), 0.1)
    logits = torch.zeros(200, 1, requires_grad=True)
    assert facts(F.binary_cross_entropy_with_logits(logits, target, pos_weight=torch.tensor(0.1))) == []


def test_weights_that_grow_with_the_counts() -> None:
    (found,) = classes([600, 250, 100, 50], [0.6, 0.25, 0.1, 0.05])
    assert (found.kind, found.counts) == ("weight", (600, 250, 100, 50))
    assert found.weights == tuple(pytest.approx(each) for each in (0.6, 0.25, 0.1, 0.05))
    (found,) = classes([180, 20], [0.9, 0.1])
    assert found.counts == (180, 20)


@pytest.mark.parametrize(
    ("counts", "weight"),
    [
        ([600, 250, 100, 50], [1 / 6, 0.4, 1.0, 2.0]),
        ([600, 250, 100, 50], [1.0, 1.0, 1.0, 1.0]),
        ([250, 250, 250, 250], [0.6, 0.25, 0.1, 0.05]),  # drawn evenly
        ([3, 2, 2, 1], [0.6, 0.25, 0.1, 0.05]),
        ([600, 250, 100, 50], [1.0, 5.0, 1.0, 0.1]),
        ([900, 40, 30, 30], [0.1, 1.0, 1.0, 1.0]),
        ([180, 20], [0.1, 0.9]),
        ([0, 0, 0], [0.6, 0.25, 0.1]),
    ],
)
def test_weights_that_may_be_meant(counts: list[int], weight: list[float]) -> None:
    assert classes(counts, weight) == []


def test_ignored_targets_do_not_count() -> None:
    (found,) = classes([600, 250, 100, 50, 9000], [0.6, 0.25, 0.1, 0.05], ignore_index=4)
    assert found.counts == (600, 250, 100, 50)
