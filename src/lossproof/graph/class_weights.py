"""Weights that a loss was given for its classes, beside the targets that it was given with them.

A batch is a sample: nothing is said unless it shows clearly that one class is rarer, and the weights are about the
inverse of what they should be. A weight that merely leans to one side may be somebody's choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.objective_facts import ClassWeights

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op

_CLEAR = 3.0
"""Standard deviations by which the counts have to differ."""
_NEAR = math.log(3.0)
"""How far a weight may be from the exact inverse, as a factor, beside the uncertainty of the batch."""
_ALIKE = 0.9
"""The least correlation between the logarithms of weights and counts."""
_SPREAD = math.log(1.5)


def facts(graph: Graph) -> Iterator[ClassWeights]:
    for op in graph.of("BinaryCrossEntropyWithLogits", "BinaryCrossEntropy"):
        yield from _binary(op)
    for op in graph.of("NllLoss", "NllLoss2D"):
        yield from _classes(op)


def _binary(op: Op) -> Iterator[ClassWeights]:
    target = op.tensor("target")
    if target is None or not target.numel() or not target.is_floating_point() or not _is_binary(target):
        return
    positive = target > 0.5
    pos_weight = op.tensor("pos_weight") if op.kind.endswith("Logits") else None
    if pos_weight is not None and pos_weight.numel():
        yield from _positives(op, pos_weight, positive)
    weight = op.tensor("weight")
    if weight is not None and weight.shape == target.shape:
        pair = [_constant(weight[part]) for part in (~positive, positive)]
        if pair[0] and pair[1]:
            found = int(positive.sum())
            counts = (positive.numel() - found, found)
            if _inverted(pair[1] / pair[0], *counts):
                yield ClassWeights(op, "weight", (pair[0], pair[1]), counts)


def _positives(op: Op, weight: torch.Tensor, positive: torch.Tensor) -> Iterator[ClassWeights]:
    if weight.numel() == 1:
        found = int(positive.sum())
        counts = (positive.numel() - found, found)
        if _inverted(float(weight), *counts):
            yield ClassWeights(op, "pos_weight", (float(weight),), counts)
        return
    if positive.dim() < 1 or weight.dim() != 1 or positive.shape[-1] != weight.shape[0]:
        return
    rows = positive.reshape(-1, weight.shape[0])
    ones = rows.sum(0).tolist()
    values = weight.tolist()
    turned = [
        column
        for column, (each, found) in enumerate(zip(values, ones, strict=True))
        if _inverted(each, len(rows) - found, found)
    ]
    clear = [column for column, found in enumerate(ones) if _is_clear(len(rows) - found, found)]
    if turned and len(turned) >= 0.8 * len(clear):
        worst = min(turned, key=lambda column: -abs(math.log(values[column])))
        counts = (len(rows) - ones[worst], ones[worst])
        yield ClassWeights(op, "pos_weight", (values[worst],), counts, worst)


def _classes(op: Op) -> Iterator[ClassWeights]:
    weight, target = op.tensor("weight"), op.tensor("target")
    if weight is None or target is None or weight.dim() != 1 or not target.numel() or not bool((weight > 0).all()):
        return
    inside = target[(target != op.dim("ignore_index")) & (target >= 0) & (target < weight.numel())]
    counts = torch.bincount(inside.reshape(-1), minlength=weight.numel()).tolist()
    values = weight.tolist()
    if len(values) == 2:
        if _inverted(values[1] / values[0], *counts):
            yield ClassWeights(op, "weight", tuple(values), tuple(counts))
    elif len(values) > 2 and _grow_together(values, counts):
        yield ClassWeights(op, "weight", tuple(values), tuple(counts))


def _inverted(weight: float, negatives: int, positives: int) -> bool:
    """Whether the weight of positives is about positives / negatives, and those are clearly of unequal number."""
    if not weight > 0 or not math.isfinite(weight) or not _is_clear(negatives, positives):
        return False
    should = math.log((negatives + 0.5) / (positives + 0.5))
    unsure = 2 * math.sqrt(1 / (negatives + 0.5) + 1 / (positives + 0.5))
    return (
        abs(should) > math.log(2)
        and abs(math.log(weight)) > _SPREAD
        and math.log(weight) * should < 0
        and abs(math.log(weight) + should) < _NEAR + min(unsure, 1.0)
    )


def _is_clear(negatives: int, positives: int) -> bool:
    total = negatives + positives
    return total > 0 and abs(negatives - positives) > _CLEAR * math.sqrt(total)


def _grow_together(weights: list[float], counts: list[int]) -> bool:
    """Whether the weights of several classes grow with their counts, which clearly differ."""
    most = max(range(len(weights)), key=weights.__getitem__)
    least = min(range(len(weights)), key=weights.__getitem__)
    if math.log(weights[most] / weights[least]) < _SPREAD or counts[most] < max(counts):
        return False
    if counts[most] <= counts[least] or not _is_clear(counts[least], counts[most]):
        return False
    x = [math.log(count + 0.5) for count in counts]
    y = [math.log(weight) for weight in weights]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    both = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    size = math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))
    return size > 0 and both / size > _ALIKE


def _is_binary(target: torch.Tensor) -> bool:
    return bool(((target == 0) | (target == 1)).all())


def _constant(part: torch.Tensor) -> float | None:
    """The number that all of a tensor is, nearly."""
    if not part.numel():
        return None
    low, high = (float(each) for each in torch.aminmax(part))
    return low if low > 0 and high <= low * 1.001 else None
