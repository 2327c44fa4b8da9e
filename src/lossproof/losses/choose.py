"""Which loss for which task: measured properties of the targets in, a choice with its reasons out.

``describe_targets`` measures what the decision hangs on; ``recommend`` walks the decision tree of the field and says at
each turn why. What cannot be measured from targets (wrong labels, an order of the classes, what a mistake costs) is
asked for as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lossproof.losses.checks import LossArgumentError, in_range, wrong

TASKS = ("binary", "multi-class", "multi-label", "segmentation", "regression", "counts", "ranking", "embedding")
IMBALANCED = 10.0
"""From this ratio of the most frequent to the rarest class on, the choice looks at imbalance."""
LONG_TAILED = 50.0
HEAVY = 0.01
"""Share of targets beyond four robust standard deviations from which on outliers decide; a normal distribution has
0.006 %."""


@dataclass(frozen=True)
class Targets:
    """What was measured of a set of targets.

    ``kind`` is ``binary``, ``multi-class``, ``multi-label``, ``segmentation``, ``regression`` or ``counts``. ``counts``
    is how often each class (label, pixel class) occurs; ``ratio`` the most frequent over the rarest that occurs.
    ``outliers`` is the share beyond four robust standard deviations (1.4826 times the median absolute deviation);
    ``dispersion`` the variance over the mean of counts; ``empty`` the share of images without any foreground,
    ``foreground`` the share of its pixels.
    """

    kind: str
    examples: int
    counts: tuple[int, ...] = ()
    ratio: float = 1.0
    unseen: tuple[int, ...] = ()
    outliers: float = 0.0
    dispersion: float = 1.0
    scale: float = 1.0
    """The robust standard deviation of numbers."""
    span: float = 1.0
    """The largest over the smallest of positive numbers."""
    spread: float = 1.0
    """For several columns, the largest standard deviation over the smallest."""
    positive: bool = False
    empty: float = 0.0
    foreground: float = 1.0


@dataclass(frozen=True)
class Recommendation:
    """A choice: the name of the loss in ``lossproof.losses``, code that builds it, why, what else, what to watch."""

    loss: str
    code: str
    because: tuple[str, ...]
    alternatives: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [self.loss, "", self.code, "", "Because"]
        lines += [f"  - {each}" for each in self.because]
        for title, each in (("Or", self.alternatives), ("Watch", self.watch)):
            if each:
                lines += ["", title, *(f"  - {line}" for line in each)]
        return "\n".join(lines)


def describe_targets(targets: Tensor, *, ignore_index: int | None = None, classes: int | None = None) -> Targets:
    """Measure what the choice of a loss hangs on.

    Args:
        targets: of the training set: class indices ``(N,)`` or ``(N, H, W)``, 0 and 1 ``(N,)`` or ``(N, labels)`` or
            ``(N, C, H, W)``, numbers ``(N,)`` or ``(N, columns)``, counts as integers of floating-point dtype.
        ignore_index: a value that does not count.
        classes: how many classes there are, where the targets alone do not show the last ones.

    Raises:
        LossArgumentError: no targets, or NaN among them.
    """
    if not isinstance(targets, Tensor):
        targets = torch.as_tensor(targets)
    if targets.numel() == 0:
        raise wrong("targets", "hold at least one target", "none")
    if targets.dtype.is_floating_point and not bool(torch.isfinite(targets).all()):
        raise wrong("targets", "be finite", f"{int((~torch.isfinite(targets)).sum())} that are NaN or Inf")
    examples = int(targets.shape[0]) if targets.dim() else 1
    known = targets if ignore_index is None else targets[targets != ignore_index]
    if known.numel() == 0:
        raise wrong("targets", "hold at least one that is not ignored", "none")
    whole = not targets.dtype.is_floating_point or bool((known == known.round()).all())
    low, high = float(known.min()), float(known.max())
    two = whole and low >= 0 and high <= 1
    integers = not targets.dtype.is_floating_point
    if two and targets.dim() == 2 and targets.shape[1] > 1:
        return _labels("multi-label", targets, ignore_index, examples)
    if targets.dim() >= 3 and (integers or two):
        return _masks(targets, ignore_index, classes, examples)
    if two and (classes is None or classes == 2):
        ones = int((known == 1).sum())
        return _frequencies("binary", (known.numel() - ones, ones), examples)
    if integers:
        if low < 0:
            raise wrong("targets", "be class indices of at least 0 (or name `ignore_index`)", f"{int(low)}")
        counts = torch.bincount(known.flatten().long(), minlength=classes or 0)
        return _frequencies("multi-class", tuple(int(each) for each in counts), examples)
    return _numbers(known if targets.dim() == 1 else targets, whole and low >= 0, examples)


def recommend(
    *,
    task: str | None = None,
    targets: Targets | Tensor | None = None,
    imbalance: float | None = None,
    outliers: float | None = None,
    ordinal: bool = False,
    noisy_labels: float = 0.0,
    soft_targets: bool = False,
    easy_examples: float | None = None,
    calibrated: bool = False,
) -> Recommendation:
    """Choose a loss, and say why.

    Args:
        task: one of ``binary``, ``multi-class``, ``multi-label``, ``segmentation``, ``regression``, ``counts``,
            ``ranking``, ``embedding``; by default what ``targets`` shows.
        targets: the training targets, or what ``describe_targets`` measured of them.
        imbalance: ratio of the most frequent to the rarest class, at least 1, where it is not measured from
            ``targets``.
        outliers: share of targets far from the rest, in [0, 1], likewise.
        ordinal: whether the classes have an order.
        noisy_labels: the share of labels that are believed wrong, in [0, 1).
        soft_targets: whether targets are probabilities.
        easy_examples: the share of training examples that a trained model already gets right with confidence above 0.9,
            in [0, 1]: what decides whether focusing can do anything.
        calibrated: whether predicted probabilities are used as such (not only their order).
    """
    measured = describe_targets(targets) if isinstance(targets, Tensor) else targets
    kind = task or (measured.kind if measured is not None else None)
    if kind is None:
        raise LossArgumentError("Parameter `task` should be given where there are no `targets`. Found neither.")
    if kind not in TASKS:
        raise wrong("task", "be one of " + ", ".join(map(repr, TASKS)), repr(kind))
    in_range("noisy_labels", noisy_labels, 0.0, 1.0)
    if imbalance is not None:
        in_range("imbalance", imbalance, 1.0)
    known = measured or Targets(kind, 0)
    ratio = known.ratio if imbalance is None else imbalance
    far = known.outliers if outliers is None else outliers
    if kind in ("binary", "multi-label"):
        return _binary(kind, known, ratio, easy_examples, calibrated)
    if kind == "multi-class":
        return _classes(known, ratio, ordinal, noisy_labels, soft_targets, easy_examples, calibrated)
    if kind == "segmentation":
        return _segmentation(known)
    if kind == "regression":
        return _regression(known, far)
    if kind == "counts":
        return _count_model(known)
    return _relative(kind)


def _binary(kind: str, known: Targets, ratio: float, easy: float | None, calibrated: bool) -> Recommendation:
    because = ["yes-or-no answers from logits: the gradient is σ(x) - t however wrong the prediction is"]
    name, settings = "binary_cross_entropy_with_logits", {}
    alternatives, watch = [], []
    if ratio >= IMBALANCED:
        because.append(f"the classes differ {ratio:.4g} times in frequency")
        if calibrated:
            because.append(
                "probabilities are used as such, and pos_weight would shift them: weigh nothing, move the threshold"
            )
            watch.append("precision and recall at a threshold chosen on validation data; accuracy says nothing here")
        elif easy is not None and easy > 0.5:
            name, settings = "binary_focal_loss", {"gamma": 2.0}
            because.append(f"{easy:.0%} of the examples are easy: there is something to silence")
            watch.append("the share of the loss that easy examples still carry")
        elif kind == "multi-label" and ratio >= LONG_TAILED:
            name, settings = "asymmetric_loss", {"gamma_neg": 4.0, "gamma_pos": 1.0, "clip": 0.05}
            because.append("many labels, few of them on: negatives drown positives")
        else:
            if kind == "binary" and len(known.counts) == 2 and known.counts[1]:
                settings = {"pos_weight": round(known.counts[0] / known.counts[1], 4)}
                because.append("pos_weight = negatives / positives gives both classes the same total weight")
            else:
                settings = {"pos_weight": float(f"{ratio:.4g}")}
            watch.append("pos_weight moves the threshold: put the prior back before probabilities are read")
        if name != "binary_focal_loss":
            alternatives.append("binary_focal_loss, if most examples turn out easy (measure it: easy_examples=)")
    return Recommendation(name, _call(name, settings), tuple(because), tuple(alternatives), tuple(watch), settings)


def _classes(
    known: Targets, ratio: float, ordinal: bool, noisy: float, soft: bool, easy: float | None, calibrated: bool
) -> Recommendation:
    classes = len(known.counts)
    if ordinal:
        because = ["the classes have an order, and cross entropy does not know that 4 is nearer to 5 than 1 is"]
        code = (
            f"loss = lossproof.losses.corn_loss(logits, target)  # logits: (N, {classes - 1 if classes else 'K - 1'})"
        )
        return Recommendation("corn_loss", code, tuple(because), ("coral_loss, with one shared direction",))
    because = ["one class out of several, from logits"]
    name: str = "cross_entropy"
    settings: dict[str, Any] = {}
    alternatives, watch = [], []
    if soft:
        because.append("targets are probabilities, which cross entropy takes as they are")
    elif noisy >= 0.1:
        name, settings = "generalized_cross_entropy_loss", {"q": 0.4 if noisy < 0.3 else 0.7}
        because.append(f"{noisy:.0%} of the labels may be wrong, and cross entropy learns each of them in the end")
        alternatives.append("cross_entropy with label_smoothing=0.1, if it is less than a tenth")
        watch.append("training loss of the examples you know to be right")
    elif ratio >= IMBALANCED:
        because.append(f"the classes differ {ratio:.4g} times in frequency")
        if easy is not None and easy > 0.5 and ratio < LONG_TAILED:
            name, settings = "focal_loss", {"gamma": 2.0}
            because.append(f"{easy:.0%} of the examples are easy: there is something to silence")
        elif calibrated:
            because.append("probabilities are used as such: train them as they are, and decide with the costs")
        else:
            name = "logit_adjusted_loss"
            because.append(
                "adjusting the logits by the class frequencies is consistent for the balanced error; weights are not"
            )
            alternatives.append("cross_entropy(weight=class_balanced_weight(counts))")
        watch.append("recall of each class; accuracy says nothing here")
    if known.unseen:
        watch.append(f"classes {list(known.unseen)} never occur in the targets: they cannot be learnt")
    call = _call(name, settings, counts=name == "logit_adjusted_loss")
    return Recommendation(name, call, tuple(because), tuple(alternatives), tuple(watch), settings)


def _segmentation(known: Targets) -> Recommendation:
    settings: dict[str, Any] = {}
    because = [
        "overlap is what is scored, and Dice has no gradient where every pixel is confidently wrong: "
        "cross entropy beside it has"
    ]
    watch = ["the score of each image and class, not of the pooled batch"]
    alternatives = []
    if known.foreground < 0.05:
        because.append(
            f"the foreground is {known.foreground:.2%} of the pixels, which cross entropy alone would overlook"
        )
        alternatives.append("tversky_loss(alpha=0.3, beta=0.7), if misses cost more than false alarms")
    if known.empty > 0:
        settings["empty"] = "penalize"
        because.append(f"{known.empty:.0%} of the images have no foreground: what they cost must be said")
        watch.append("false positives on the images without foreground")
    name = "dice_cross_entropy_loss"
    return Recommendation(name, _call(name, settings), tuple(because), tuple(alternatives), tuple(watch), settings)


def _regression(known: Targets, far: float) -> Recommendation:
    watch, alternatives = [], []
    settings: dict[str, Any] = {}
    if known.positive and known.span > 100:
        name = "log_ratio_loss"
        because = [
            f"the targets are positive and span a factor of {known.span:.3g}: an error of 10 % should cost the same "
            "everywhere",
            "predict the logarithm, and nothing has to be guarded",
        ]
        alternatives.append("gaussian_nll_loss on the logarithms, for an uncertainty as well")
    elif far >= HEAVY:
        name = "huber_loss"
        because = [
            f"{far:.1%} of the targets lie beyond four robust standard deviations: squared, they would outweigh the "
            "rest"
        ]
        settings["delta"] = float(f"{1.345 * known.scale:.4g}")
        alternatives += ["l1_loss, for the median", "robust_loss(shape_alpha=0), if the outliers are errors"]
        watch.append("the residuals: delta is meant in their units (1.345 times their robust standard deviation)")
    else:
        name = "mse_loss"
        because = ["no heavy tail: the square is efficient, and its optimum is the mean"]
        alternatives += [
            "huber_loss, should outliers come",
            "quantile_loss, where a mistake upwards costs other than one downwards",
        ]
    if known.spread > 10:
        watch.append(
            f"the columns differ {known.spread:.3g} times in standard deviation: fit a TargetScaler, or the largest is "
            "all that is learnt"
        )
    return Recommendation(name, _call(name, settings), tuple(because), tuple(alternatives), tuple(watch), settings)


def _count_model(known: Targets) -> Recommendation:
    if known.dispersion > 1.5:
        name = "negative_binomial_nll_loss"
        because = [f"counts whose variance is {known.dispersion:.3g} times their mean; Poisson's is 1"]
        code = f"loss = lossproof.losses.{name}(log_rate, target, log_dispersion)"
    else:
        name = "poisson_nll_loss"
        because = ["counts whose variance is near their mean; predict the logarithm of the rate"]
        code = f"loss = lossproof.losses.{name}(log_rate, target)"
    return Recommendation(name, code, tuple(because), ("mse_loss on sqrt(count), for large counts",))


def _relative(kind: str) -> Recommendation:
    if kind == "ranking":
        return Recommendation(
            "lambdarank_loss",
            "loss = lossproof.losses.lambdarank_loss(scores, relevance, where=real_items)",
            ("the order within a query is what counts, and NDCG says how much",),
            ("bpr_loss, for clicks without grades", "listnet_loss, for few items with graded relevance"),
        )
    return Recommendation(
        "info_nce_loss",
        "loss = lossproof.losses.info_nce_loss(embeddings, others)",
        ("pairs that belong together, against all others of the batch",),
        ("supervised_contrastive_loss, with class labels", "triplet_loss, with small batches and mined negatives"),
        ("the batch size: a guess costs log N",),
    )


def _call(name: str, settings: dict[str, Any], *, counts: bool = False) -> str:
    arguments = [
        "logits" if "entropy" in name or "focal" in name or counts or "asym" in name else "prediction",
        "target",
    ]
    arguments += ["counts"] if counts else []
    arguments += [f"{key}={value!r}" for key, value in settings.items()]
    return f"loss = lossproof.losses.{name}({', '.join(arguments)})"


def _frequencies(kind: str, counts: tuple[int, ...], examples: int, **more: Any) -> Targets:
    there = [each for each in counts if each]
    unseen = tuple(place for place, each in enumerate(counts) if not each)
    return Targets(kind, examples, counts, max(there) / min(there) if there else 1.0, unseen, **more)


def _labels(kind: str, targets: Tensor, ignore_index: int | None, examples: int) -> Targets:
    known = torch.ones_like(targets, dtype=torch.bool) if ignore_index is None else targets != ignore_index
    on = ((targets == 1) & known).sum(0)
    off = known.sum(0) - on
    ratios = [float(b) / float(a) for a, b in zip(on, off, strict=True) if a]
    unseen = tuple(place for place, each in enumerate(on) if not each)
    return Targets(kind, examples, tuple(int(each) for each in on), max([1.0, *ratios]), unseen)


def _masks(targets: Tensor, ignore_index: int | None, classes: int | None, examples: int) -> Targets:
    flat = targets.reshape(examples, -1)
    known = torch.ones_like(flat, dtype=torch.bool) if ignore_index is None else flat != ignore_index
    front = (flat > 0) & known
    counts = torch.bincount(flat[known].long(), minlength=classes or 0)
    return _frequencies(
        "segmentation",
        tuple(int(each) for each in counts),
        examples,
        empty=float((~front.any(1)).double().mean()),
        foreground=float(front.sum()) / max(int(known.sum()), 1),
    )


def _numbers(targets: Tensor, whole: bool, examples: int) -> Targets:
    y = targets.double().reshape(targets.shape[0], -1) if targets.dim() else targets.double().reshape(1, 1)
    middle = y.median(0).values
    deviation = 1.4826 * (y - middle).abs().median(0).values
    std = y.std(0, correction=0)
    width = torch.where(deviation > 0, deviation, std)
    far = float(((y - middle).abs() > 4 * torch.where(width > 0, width, 1.0)).double().mean())
    low, high = float(y.min()), float(y.max())
    kind = "counts" if whole and float(y.mean()) < 100 and high > 1 else "regression"
    moving = std[std > 0]
    return Targets(
        kind,
        examples,
        outliers=far,
        dispersion=float(y.var() / y.mean()) if kind == "counts" and float(y.mean()) > 0 else 1.0,
        scale=float(width.mean()) or 1.0,
        span=high / low if low > 0 else 1.0,
        spread=float(moving.max() / moving.min()) if moving.numel() else 1.0,
        positive=low > 0,
    )
