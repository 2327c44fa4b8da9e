"""A verdict is computed from what was measured: on another torch it comes out otherwise.

Each case changes torch so that a claim is no longer so, and sees the verdict change with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.evidence.experiment import DEPENDS, DOES_NOT_HOLD, Setting
from lossproof.evidence.prove import prove

Patch = Callable[[pytest.MonkeyPatch], None]
BCE, WITH_LOGITS, CE, NLL = (
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.cross_entropy,
    F.nll_loss,
)
LOG, SQRT, EXP, CLAMP = torch.log, torch.sqrt, torch.exp, Tensor.clamp


def put(where: Any, name: str, value: Any) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(where, name, value)


def both(*patches: Patch) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for each in patches:
            each(monkeypatch)

    return patch


def log_with_a_floor(x: Tensor) -> Tensor:
    return LOG(x.clamp(min=1e-30) + 1e-20)


def root_with_a_floor(x: Tensor) -> Tensor:
    return SQRT(x + 1e-20)


def clipping_that_drops(parameters: list[Tensor], *_: Any) -> None:
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.nan_to_num_(0.0, 0.0, 0.0)


def tensor_in_double(self: Setting, values: Any, dtype: Any = None, *, grad: bool = False) -> Tensor:
    return torch.tensor(values, dtype=torch.float64 if isinstance(values, float) else None).requires_grad_(grad)


def refuses(*_: Any, **__: Any) -> Tensor:
    raise TypeError("softmax() missing 1 required argument: 'dim'")


CASES: dict[str, tuple[Patch, str]] = {
    # BCE that is given the logit back, in a precision that keeps it
    "bce-dead-gradient": (
        both(
            put(Tensor, "sigmoid", lambda x: torch.special.expit(x.double())),
            put(F, "binary_cross_entropy", lambda p, y, **k: WITH_LOGITS(p.logit(), y.double(), **k)),
        ),
        DOES_NOT_HOLD,
    ),
    "bce-never-nan": (
        put(F, "binary_cross_entropy", lambda p, y, **_: -(y * p.log() + (1 - y) * (1 - p).log())),
        DOES_NOT_HOLD,
    ),
    "bce-half-precision": (
        both(put(Tensor, "sigmoid", lambda x: x), put(F, "binary_cross_entropy", WITH_LOGITS)),
        DOES_NOT_HOLD,
    ),
    "bce-hand-written-sigmoid": (put(torch, "exp", lambda x: EXP(x.clamp(max=10))), DOES_NOT_HOLD),
    "bce-moderate-logits": (put(F, "binary_cross_entropy", lambda p, y: BCE(p, 1 - y)), DOES_NOT_HOLD),
    "bce-does-not-recover": (
        both(put(Tensor, "sigmoid", lambda x: x), put(F, "binary_cross_entropy", WITH_LOGITS)),
        DOES_NOT_HOLD,
    ),
    # cross entropy that takes probabilities
    "double-softmax": (put(F, "cross_entropy", lambda p, y, **k: NLL(log_with_a_floor(p), y, **k)), DOES_NOT_HOLD),
    "double-softmax-learning": (put(Tensor, "softmax", Tensor.log_softmax), DOES_NOT_HOLD),
    "double-softmax-adam": (put(F, "cross_entropy", lambda p, y: CE(20 * p, y)), DOES_NOT_HOLD),
    "softmax-keeps-the-choice": (put(Tensor, "softmax", lambda x, dim: torch.softmax(-x, dim)), DOES_NOT_HOLD),
    "double-sigmoid": (put(Tensor, "sigmoid", lambda x: 5 * x), DOES_NOT_HOLD),
    "nll-unbounded": (put(F, "nll_loss", CE), DOES_NOT_HOLD),
    "kl-div-collapse": (put(F, "kl_div", lambda p, t, **_: (p - t).square().sum()), DOES_NOT_HOLD),
    "log-of-activation": (put(Tensor, "log", lambda x: log_with_a_floor(x + 1e-9)), DOES_NOT_HOLD),
    "bce-on-probabilities": (put(F, "binary_cross_entropy", lambda p, y: (p - y).square().sum()), DOES_NOT_HOLD),
    "swapped-arguments": (
        put(F, "binary_cross_entropy_with_logits", lambda x, y, **k: (x - y).square().mean()),
        DOES_NOT_HOLD,
    ),
    "softmax-over-batch": (put(Tensor, "log_softmax", lambda x, dim: torch.log_softmax(x, 1)), DOES_NOT_HOLD),
    "softmax-without-dim": (put(F, "softmax", refuses), DEPENDS),
    "one-class-cross-entropy": (put(F, "cross_entropy", WITH_LOGITS), DOES_NOT_HOLD),
    "log-softmax-idempotent": (put(Tensor, "log_softmax", lambda x, dim: x.softmax(dim)), DOES_NOT_HOLD),
    "zero-denominator": (put(Tensor, "clamp", lambda x, min: CLAMP(x, min=max(min, 1e-3))), DOES_NOT_HOLD),
    "log-of-zero": (put(torch, "log", log_with_a_floor), DOES_NOT_HOLD),
    "clamp-silences": (put(Tensor, "clamp", lambda x, *a, **k: F.softplus(x)), DOES_NOT_HOLD),
    "root-at-zero": (
        both(put(torch, "sqrt", root_with_a_floor), put(Tensor, "sqrt", root_with_a_floor)),
        DOES_NOT_HOLD,
    ),
    "clamp-to-the-edge": (put(Tensor, "sqrt", root_with_a_floor), DOES_NOT_HOLD),
    "exp-overflow": (put(torch, "exp", lambda x: EXP(x.clamp(max=10))), DOES_NOT_HOLD),
    "vanishing-epsilon": (put(Setting, "tensor", tensor_in_double), DOES_NOT_HOLD),
    "where-gradient": (put(torch, "log", log_with_a_floor), DOES_NOT_HOLD),
    "guarded-distances": (put(Tensor, "sqrt", root_with_a_floor), DOES_NOT_HOLD),
    "lower-rate-keeps-nan": (put(Tensor, "sqrt", root_with_a_floor), DOES_NOT_HOLD),
    "clipping-spreads-nan": (put(torch.nn.utils, "clip_grad_norm_", clipping_that_drops), DOES_NOT_HOLD),
}


@pytest.mark.parametrize("name", CASES)
def test_on_another_torch_the_verdict_changes(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOSSPROOF_CACHE_DIR", str(tmp_path))
    patch, expected = CASES[name]
    with monkeypatch.context() as context:
        patch(context)
        (proof,) = prove([name])
    assert proof.error == ""
    assert proof.verdict == expected
