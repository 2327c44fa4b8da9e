"""The audit against what the backward pass really does: hundreds of small losses, made at random.

Each is a chain of what people put before, at and behind a dangerous operator. An error of the numeric rules has to mean
that the loss or a gradient is not finite, and the other way round.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import lossproof  # noqa: E402

NUMERIC = {"LP201", "LP202", "LP203", "LP204", "LP206", "LP803"}
NUMBERS = (0.0, 0.0, 1.0, -1.0, 0.5, 2.0, -0.3, 1e-3, 3.0, 0.9)
Step = Callable[[torch.Tensor], torch.Tensor]
BEFORE: dict[str, Step] = {
    "abs": torch.abs,
    "cat": lambda x: torch.cat([x, x]),
    "clamp at 0": lambda x: x.clamp(min=0),
    "clamp at epsilon": lambda x: x.clamp(min=1e-3),
    "clamp_min": lambda x: x.clamp_min(0.0),
    "column": lambda x: x[..., :1],
    "complement": lambda x: 1 - (5 * x).sigmoid(),
    "difference": lambda x: x.unsqueeze(0) - x.unsqueeze(1),
    "expand": lambda x: x.sum(-1, keepdim=True).expand_as(x),
    "flip": lambda x: x.flip(0),
    "gather": lambda x: x.gather(x.dim() - 1, torch.zeros_like(x, dtype=torch.long)),
    "hardtanh": F.hardtanh,
    "index": lambda x: x[[0, -1]],
    "leaky": F.leaky_relu,
    "masked": lambda x: x.masked_fill(x <= 0, 1.0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "mean": lambda x: x.mean(0),
    "neg": torch.neg,
    "permute": lambda x: x[None].permute(2, 0, 1),
    "put": lambda x: x.clone().index_put((x <= 0,), torch.tensor(1.0, dtype=x.dtype)),
    "relu": torch.relu,
    "relu6": F.relu6,
    "row": lambda x: x[0],
    "scaled": lambda x: x * torch.ones_like(x).detach(),
    "select": lambda x: x[x > 0],
    "sigmoid": lambda x: (50 * x).sigmoid(),
    "softmax": lambda x: (200 * x).softmax(-1),
    "softplus": F.softplus,
    "square": lambda x: x**2,
    "square and epsilon": lambda x: x**2 + 1e-6,
    "std": lambda x: x.std(-1),
    "sum": lambda x: x.sum(1),
    "t": lambda x: x.t(),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "view": lambda x: x.reshape(-1),
    "where": lambda x: torch.where(x > 0, x, torch.ones_like(x)),
}
AT: dict[str, Step] = {
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "atanh": torch.atanh,
    "div": lambda x: 1.5 / x,
    "div by itself": lambda x: (x + 1) / x,
    "div by data": lambda x: x / x.detach().abs().round(),
    "exp": lambda x: (x * 30).exp(),
    "hypot": lambda x: torch.hypot(x, x),
    "length": lambda x: (x**2).sum(-1).sqrt(),
    "log": torch.log,
    "log1p": torch.log1p,
    "logit": torch.logit,
    "normalize": lambda x: x / x.sum(-1, keepdim=True),
    "power -1": lambda x: x**-1,
    "power 0.5": lambda x: x**0.5,
    "power 1.5": lambda x: x**1.5,
    "power by tensor": lambda x: x ** torch.tensor(0.5, dtype=x.dtype),
    "power to itself": lambda x: torch.pow(x.abs(), x),
    "reciprocal": torch.reciprocal,
    "rsqrt": torch.rsqrt,
    "sqrt": torch.sqrt,
    "two to the": lambda x: 2.0 ** (x * 60),
    "x log x": lambda x: x * x.log(),
    "xlogy": lambda x: torch.xlogy(x, x),
}
BEHIND: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "abs": lambda y, x: y.abs(),
    "amin": lambda y, x: y.amin(-1),
    "clamp": lambda y, x: y.clamp(-10, 10),
    "exp": lambda y, x: (-y.abs()).exp(),
    "factor": lambda y, x: y * (x > 0).to(y.dtype),
    "first": lambda y, x: y[0],
    "mask": lambda y, x: y * (x > 0),
    "masked_fill": lambda y, x: y.masked_fill(~y.isfinite(), 0.0),
    "maximum": lambda y, x: torch.maximum(y, torch.zeros_like(y)),
    "mean": lambda y, x: y.mean(-1),
    "nan_to_num": lambda y, x: y.nan_to_num(0.0, 0.0, 0.0),
    "nansum": lambda y, x: y.nansum(-1),
    "put": lambda y, x: y.clone().index_put((~y.isfinite(),), torch.tensor(0.0, dtype=y.dtype)),
    "relu": lambda y, x: y.relu(),
    "rows": lambda y, x: y.sum(-1)[y.sum(-1).isfinite()],
    "select": lambda y, x: y[x > 0],
    "view": lambda y, x: y.reshape(-1),
    "where finite": lambda y, x: torch.where(y.isfinite(), y, torch.zeros_like(y)),
    "where positive": lambda y, x: torch.where(x > 0, y, torch.zeros_like(y)),
}


def made(seed: int) -> tuple[torch.Tensor, list[torch.Tensor], str] | None:
    """A loss with its leaves; None where the pieces do not fit together."""
    rng = random.Random(seed)
    dtype = rng.choice([torch.float32, torch.float32, torch.float64, torch.bfloat16])
    rows, columns = rng.choice([1, 2, 4]), rng.choice([1, 2, 3])
    numbers = [rng.choice(NUMBERS) for _ in range(rows * columns)]
    leaf = torch.tensor(numbers, dtype=dtype).reshape(rows, columns).requires_grad_()
    weight = torch.ones((), dtype=dtype, requires_grad=True)
    said = [str(dtype), str(leaf.tolist())]
    x = leaf * weight if rng.random() < 0.5 else leaf
    try:
        for name in rng.sample(sorted(BEFORE), rng.choice([0, 1, 1, 2])):
            x = BEFORE[name](x)
            said.append(name)
        at = rng.choice(sorted(AT))
        y = AT[at](x)
        said.append(f"[{at}]")
        for name in rng.sample(sorted(BEHIND), rng.choice([0, 1, 1, 2])):
            y = BEHIND[name](y, x if x.shape == y.shape else y)
            said.append(name)
    except (IndexError, RuntimeError):
        return None
    if y.numel() == 0 or not y.requires_grad:
        return None
    return y.sum() if rng.random() < 0.5 else y.mean(), [leaf, weight], ", ".join(said)


def broken(loss: torch.Tensor, leaves: list[torch.Tensor]) -> bool:
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return not all(bool(each.isfinite().all()) for each in (loss, *gradients) if each is not None)


@pytest.mark.parametrize("start", range(0, 500, 125))
def test_an_error_means_a_broken_loss_or_gradient_and_none_means_that_both_are_sound(start: int) -> None:
    seen = 0
    for seed in range(start, start + 125):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = made(seed)
        if case is None:
            continue
        loss, leaves, said = case
        audit = lossproof.audit(loss)
        told = {each.rule for each in audit if each.severity.value == "error"} & NUMERIC
        elsewhere = any(each.rule == "LP106" for each in audit)
        assert broken(loss, leaves) if told else elsewhere or not broken(loss, leaves), (
            f"{seed}: {said}: {sorted(told)}"
        )
        assert not audit.unseen, f"{seed}: {said}: {audit.unseen}"
        seen += 1
    assert seen > 75
