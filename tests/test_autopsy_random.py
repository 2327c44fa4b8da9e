"""Random programs: autopsy finds something exactly where PyTorch's own backward gives something non-finite.

Each program is a few operators over small tensors that hold edges on purpose: zeros, negatives, ones, large numbers,
now and then an infinity or a NaN. What really happened is noted while the program runs, and by ``backward()``.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import lossproof  # noqa: E402
from lossproof.graph.spoken import operator  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402

INF = float("inf")
UNARY: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    torch.exp,
    torch.log,
    torch.sqrt,
    torch.rsqrt,
    torch.sigmoid,
    torch.tanh,
    torch.relu,
    torch.neg,
    torch.abs,
    torch.reciprocal,
    torch.acos,
    torch.log1p,
    torch.square,
    torch.nan_to_num,
    torch.nn.functional.softplus,
    torch.nn.functional.logsigmoid,
    lambda x: x**1.5,
    lambda x: x**0.5,
    lambda x: x - 1,
    lambda x: 2 * x,
    lambda x: x + 1e-8,
    lambda x: 1 - x,
    lambda x: x.clamp(min=0),
    lambda x: x.clamp(-1, 1),
    lambda x: x.softmax(-1),
    lambda x: x.log_softmax(-1),
    lambda x: x.transpose(0, 1),
    lambda x: x.reshape(-1).reshape(x.shape),
    lambda x: torch.where(x > 0, x, torch.zeros(())),
    lambda x: x.masked_fill(x > 1, -INF),
    lambda x: x.masked_fill(x < 0, 0.0),
    lambda x: x / x.sum(-1, keepdim=True),
    lambda x: x / x.norm(dim=-1, keepdim=True),
    lambda x: x - x.logsumexp(-1, keepdim=True),
    lambda x: x.cumsum(0),
    lambda x: torch.cat([x[:1], x[1:] * 3]),
    lambda x: x.std(-1, keepdim=True).expand(x.shape),
    lambda x: x * torch.tensor([0.0, 1.0, 2.0]),
)
BINARY: tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], ...] = (
    torch.add,
    torch.sub,
    torch.mul,
    torch.div,
    torch.maximum,
    torch.minimum,
    torch.matmul,
    lambda x, y: torch.where(x > y, x, y),
    lambda x, y: torch.stack([x, y]).mean(0),
    lambda x, y: x.pow(2) + y.pow(2),
)
ENDS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    torch.mean,
    torch.sum,
    lambda x: x.square().mean(),
    lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 1, 2])),
    lambda x: torch.nn.functional.mse_loss(x, torch.zeros(3, 3)),
    lambda x: x.amax(1).mean(),
    lambda x: x[x > 0].mean(),
    lambda x: x.logsumexp(1).sum(),
)
VALUES = (0.0, 0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 100.0, 1e-6, 1e20)


def program(seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A loss, and its leaves."""
    draw = random.Random(seed)
    values = [*VALUES, *((float("nan"), INF) if draw.random() < 0.1 else ())]
    leaves = [torch.tensor([[draw.choice(values) for _ in range(3)] for _ in range(3)]).requires_grad_() for _ in "ab"]
    pool = list(leaves)
    for _ in range(draw.randint(1, 7)):
        if draw.random() < 0.7:
            pool.append(draw.choice(UNARY)(draw.choice(pool[-3:])))
        else:
            pool.append(draw.choice(BINARY)(pool[-1], draw.choice(pool)))
    return draw.choice(ENDS)(pool[-1]), leaves


def really_bad(loss: torch.Tensor, leaves: list[torch.Tensor]) -> bool:
    if not bool(torch.isfinite(loss)):
        return True
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    return any(each is not None and not bool(torch.isfinite(each).all()) for each in gradients)


@pytest.mark.parametrize("block", range(4))
def test_autopsy_agrees_with_what_pytorch_does(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        loss, leaves = program(seed)
        if loss.grad_fn is None:
            continue
        found = lossproof.autopsy(loss)
        assert (found.cause is not None) == really_bad(loss, leaves), f"program {seed}\n{found}"
        if found.cause is not None and found.where != "outside":
            assert found.op in {operator(op) for op in Graph(loss)}, f"program {seed}\n{found}"
