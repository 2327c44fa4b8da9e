"""Verdicts on trainings, reductions, rare classes and feature networks: on another torch they come out otherwise.

As in ``test_evidence_verdicts``: each case changes torch so that a claim is no longer so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossproof.evidence import descent, registry
from lossproof.evidence.experiment import DEPENDS, DOES_NOT_HOLD, HOLDS
from lossproof.evidence.prove import prove

Patch = Callable[[pytest.MonkeyPatch], None]
FAMILIES = ("reduction", "imbalance", "multitask", "perceptual", "loop")
CE, WITH_LOGITS, MSE, L1, BATCH_NORM = (
    F.cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.mse_loss,
    F.l1_loss,
    F.batch_norm,
)
SUM, EXP, PDIST, SET = Tensor.sum, torch.exp, torch.pdist, nn.Module.__setattr__
FREEZE = nn.Module.requires_grad_
GRAD = torch.autograd.grad


def put(where: Any, name: str, value: Any) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(where, name, value)


def both(*patches: Patch) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for each in patches:
            each(monkeypatch)

    return patch


def refuses(*_: Any, **__: Any) -> Tensor:
    raise RuntimeError("shapes differ")


def sum_of_each_image(x: Tensor, *axes: Any, **options: Any) -> Tensor:
    if axes and isinstance(axes[0], tuple):
        axes = (tuple(axis for axis in axes[0] if axis != 0),)
    return SUM(x, *axes, **options)


def mean_of_the_diagonal(x: Tensor) -> Tensor:
    one = x.diagonal() if x.dim() == 2 and x.shape[0] == x.shape[1] else x
    return one.sum() / one.numel()


def mean_of_what_is_there(x: Tensor) -> Tensor:
    return x.sum() / (x != 0).sum().clamp(min=1)


def no_batch_statistics(x: Tensor, mean: Tensor, var: Tensor, *others: Any) -> Tensor:
    weight, bias, _, *rest = others
    return BATCH_NORM(x, mean, var, weight, bias, False, *rest)


def freezes_by_attribute(module: nn.Module, name: str, value: Any) -> None:
    if name == "requires_grad":
        module.requires_grad_(value)
    else:
        SET(module, name, value)


def everything_reached(loss: Tensor, parameters: list[Tensor], **settings: Any) -> list[Tensor]:
    found = GRAD(loss, parameters, **settings)
    return [torch.ones_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


UNWEIGHTED = put(F, "binary_cross_entropy_with_logits", lambda z, y, pos_weight=None, **k: WITH_LOGITS(z, y, **k))
UNFOCUSED = put(Tensor, "__pow__", lambda x, _: torch.ones_like(x))
ADAM_STANDS_STILL = put(Tensor, "addcdiv_", lambda x, *_, **__: x)
EVERY_IMAGE_APART = put(Tensor, "sum", sum_of_each_image)

CASES: dict[str, Patch] = {
    # reduction
    "batch-dice": EVERY_IMAGE_APART,
    "batch-dice-neighbours": put(Tensor, "sum", lambda x: x[0]),
    "broadcast-mean": put(Tensor, "mean", mean_of_the_diagonal),
    "broadcast-warnings": both(
        put(F, "kl_div", refuses), put(F, "poisson_nll_loss", refuses), put(Tensor, "square", refuses)
    ),
    "dice-empty-mask": put(torch, "sigmoid", lambda x: 0.001 * torch.special.expit(x)),
    "empty-mask": put(Tensor, "mean", mean_of_what_is_there),
    "graph-cut": put(torch, "round", lambda x: x),
    "kept-graph": put(Tensor, "__radd__", lambda x, total: total + x.item()),
    "loss-decides": put(F, "mse_loss", L1),
    "masked-mean": put(Tensor, "mean", mean_of_what_is_there),
    "small-objects": EVERY_IMAGE_APART,
    "straight-through": put(Tensor, "round", lambda x: x),
    "sum-or-mean": put(F, "cross_entropy", lambda z, y, **_: CE(z, y)),
    "unreached-parameters": put(torch.autograd, "grad", everything_reached),
    # imbalance
    "accuracy-paradox": UNWEIGHTED,
    "balanced-twice": UNWEIGHTED,
    "class-weight": UNWEIGHTED,
    "focal-alpha": put(F, "binary_cross_entropy_with_logits", lambda z, y, **_: z.square()),
    "focal-easy-share": UNFOCUSED,
    "focal-gamma": put(torch, "sigmoid", lambda z: torch.special.expit(z).clamp(max=0.999)),
    "focal-grid": put(descent, "_EPSILON", 1.0),
    "focal-mislabelled": UNFOCUSED,
    "focal-or-weights": UNWEIGHTED,
    "focal-pt": put(F, "cross_entropy", lambda z, y, **_: CE(z, y, reduction="none")),
    "pos-weight-threshold": UNWEIGHTED,
    "sampler-or-weight": UNWEIGHTED,
    "stale-prior": UNWEIGHTED,
    # multitask
    "alternating-objectives": put(Tensor, "sub_", lambda x, slope, alpha: x.add_(slope, alpha=-0.01 * alpha)),
    "conflict-or-not": put(F, "normalize", lambda z: 10 * z),
    "equal-losses": both(
        put(F, "cross_entropy", lambda z, y: 0.1 * CE(z, y) + 0.9 * CE(z, y).detach()),
        put(F, "mse_loss", lambda a, b: 4 * MSE(a, b) - 3 * MSE(a, b).detach()),
    ),
    "loss-share": put(F, "l1_loss", lambda a, b: L1(a, b) / 5000),
    "optimizer-balance": put(F, "mse_loss", lambda a, b: MSE(a, b) / 1000),
    "raw-target": put(Tensor, "std", lambda x: 1e-3),
    "unbounded-term": put(torch, "pdist", lambda z: PDIST(z).tanh()),
    "uncertainty-weighting": put(torch, "exp", F.softplus),
    "unheld-weights": put(torch, "exp", lambda x: torch.ones_like(x) + 0 * x),
    "weights-later": put(F, "mse_loss", lambda a, b: MSE(a, b) / 1000),
    # perceptual
    "feature-layer-index": put(nn, "MaxPool2d", nn.Identity),
    "frozen-or-not": put(nn.Module, "__setattr__", freezes_by_attribute),
    "judge-in-train-mode": put(F, "batch_norm", no_batch_statistics),
    "scores-as-features": put(F, "adaptive_avg_pool2d", lambda x, _: x[:, :, :1, :1]),
    "trainable-judge": ADAM_STANDS_STILL,
    "unfrozen-cost": put(nn.Module, "requires_grad_", lambda module, *_: FREEZE(module, False)),
    "unnormalized-input": ADAM_STANDS_STILL,
    # loop
    "gradients-never-cleared": put(nn.Module, "zero_grad", lambda *_, **__: None),
    "lower-learning-rate": put(Tensor, "round", lambda x: x),
    "mean-of-means": put(Tensor, "split", lambda x, sizes: x.chunk(len(sizes))),
    "never-cleared-forgiven": put(Tensor, "norm", lambda x: SUM(x) * 0 + 1),
    "overnight-drop": put(F, "dropout", lambda x, *_: x),
    "train-mode-at-inference": put(F, "batch_norm", no_batch_statistics),
    "training-in-eval-mode": put(F, "dropout", lambda x, *_: x),
    "unscaled-accumulation": put(Tensor, "chunk", lambda x, parts: [x[: len(x) // parts]] * parts),
    # elsewhere
    "class-probabilities": put(F, "cross_entropy", lambda z, y, **k: CE(z, y, **k) * (1.1 if y.dim() == 2 else 1.0)),
    "log-of-difference": put(torch, "log", lambda x: x),
    "signed-log-ratio": put(torch, "log", lambda x: x - 1),
}


def test_every_experiment_of_these_families_has_a_case() -> None:
    wanted = {name for name, experiment in registry.all_experiments().items() if experiment.family in FAMILIES}
    assert wanted <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_on_another_torch_the_verdict_changes(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOSSPROOF_CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as context:
        CASES[name](context)
        (changed,) = prove([name])
    assert changed.error == ""
    assert changed.verdict == DOES_NOT_HOLD, changed.outcome
    assert changed.outcome is not None
    assert changed.outcome.measured.endswith(".")


def test_they_hold_on_this_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same command after the patches are gone; every experiment by itself is in ``test_evidence``."""
    monkeypatch.setenv("LOSSPROOF_CACHE_DIR", str(tmp_path))
    quick = ["batch-dice", "empty-mask", "focal-gamma", "feature-layer-index", "mean-of-means", "focal-easy-share"]
    assert {proof.verdict for proof in prove(quick)} == {HOLDS, DEPENDS}
