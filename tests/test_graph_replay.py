"""Operators made again give what they gave, and a mask taken down holds whatever had a part."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from lossproof.graph import replay  # noqa: E402
from lossproof.graph.figures import all_finite, bad, figures  # noqa: E402
from lossproof.graph.known_values import Known  # noqa: E402
from lossproof.graph.reach import down  # noqa: E402
from lossproof.graph.walk import Edge, Graph  # noqa: E402

X, Y, Z = "x", "y", "z"
Make = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
DATA = torch.tensor([[0.2, 0.7, 0.4], [0.9, 0.1, 0.3], [0.6, 0.5, 0.8], [0.35, 0.45, 0.15]])
LABELS = torch.tensor([0, 1, 2, 0])

CASES: dict[str, Make] = {
    "abs": lambda x, y, z: (x - 1 * y).abs(),
    "acos": lambda x, y, z: y.acos(),
    "add": lambda x, y, z: torch.add(x, y, alpha=3),
    "addcmul": lambda x, y, z: torch.addcmul(x, y, y, value=0.5),
    "addmm": lambda x, y, z: torch.addmm(z[0, :3], x, z[:3, :3], beta=2, alpha=0.5),
    "amax": lambda x, y, z: x.amax(1, keepdim=True),
    "atan2": lambda x, y, z: torch.atan2(x, y),
    "avg_pool": lambda x, y, z: F.avg_pool2d(x[None], 2),
    "batch_norm": lambda x, y, z: F.batch_norm(x, None, None, z[0, :3], z[1, :3], training=True),
    "batch_norm_eval": lambda x, y, z: F.batch_norm(x, torch.ones(3), torch.full((3,), 2.0), training=False),
    "bce": lambda x, y, z: F.binary_cross_entropy(y, DATA, weight=torch.tensor([1.0, 2.0, 3.0])),
    "bce_with_logits": lambda x, y, z: F.binary_cross_entropy_with_logits(x, DATA, pos_weight=torch.tensor(3.0)),
    "bmm": lambda x, y, z: torch.bmm(x[None], z[None, :3]),
    "cat": lambda x, y, z: torch.cat([x, y], 1),
    "cdist": lambda x, y, z: torch.cdist(x, y),
    "clamp": lambda x, y, z: x.clamp(-0.5, 0.5),
    "conv": lambda x, y, z: F.conv1d(x.t()[None], z[None, :3, :2], z[0, :1], stride=2, padding=1),
    "conv_transpose": lambda x, y, z: F.conv_transpose1d(x.t()[None], z[:3, None, :2]),
    "cross_entropy": lambda x, y, z: F.cross_entropy(x, LABELS, weight=torch.tensor([1.0, 2.0, 3.0])),
    "cumsum": lambda x, y, z: x.cumsum(1),
    "cumprod": lambda x, y, z: x.cumprod(0),
    "diagonal": lambda x, y, z: x.diagonal(1),
    "div": lambda x, y, z: x / y,
    "div_number": lambda x, y, z: x / 3,
    "elu": lambda x, y, z: F.elu(x),
    "embedding": lambda x, y, z: F.embedding(torch.tensor([[0, 2], [1, 1]]), x),
    "exp": lambda x, y, z: x.exp(),
    "expand": lambda x, y, z: x[:, None].expand(4, 2, 3),
    "fft": lambda x, y, z: torch.view_as_real(torch.fft.rfft(x)),
    "flip": lambda x, y, z: x.flip(1),
    "gather": lambda x, y, z: x.gather(1, LABELS[:, None]),
    "gelu": lambda x, y, z: F.gelu(x, approximate="tanh"),
    "glu": lambda x, y, z: F.glu(z, 1),
    "grid_sample": lambda x, y, z: F.grid_sample(z[None, None], torch.zeros(1, 2, 2, 2), align_corners=False),
    "group_norm": lambda x, y, z: F.group_norm(z[None], 2),
    "hardtanh": lambda x, y, z: F.hardtanh(x, -0.3, 0.4),
    "huber": lambda x, y, z: F.huber_loss(x, DATA, delta=0.3),
    "index": lambda x, y, z: x[torch.tensor([0, 2])],
    "index_mask": lambda x, y, z: x[DATA > 0.5],
    "index_select": lambda x, y, z: x.index_select(1, torch.tensor([2, 0])),
    "interpolate": lambda x, y, z: F.interpolate(z[None, None], scale_factor=2, mode="bilinear"),
    "layer_norm": lambda x, y, z: F.layer_norm(x, (3,), z[0, :3], z[1, :3]),
    "leaky_relu": lambda x, y, z: F.leaky_relu(x, 0.2),
    "lerp": lambda x, y, z: torch.lerp(x, y, 0.3),
    "log": lambda x, y, z: y.log(),
    "log_sigmoid": lambda x, y, z: F.logsigmoid(x),
    "log_softmax": lambda x, y, z: x.log_softmax(0),
    "logaddexp": lambda x, y, z: torch.logaddexp(x, y),
    "logsumexp": lambda x, y, z: x.logsumexp((0, 1)),
    "max": lambda x, y, z: x.max(1).values,
    "max_of_all": lambda x, y, z: x.max(),
    "max_pool": lambda x, y, z: F.max_pool2d(z[None, None], 2),
    "maximum": lambda x, y, z: torch.maximum(x, y),
    "mean": lambda x, y, z: x.mean((0,), keepdim=True),
    "mm": lambda x, y, z: x @ z[:3],
    "mse": lambda x, y, z: F.mse_loss(x, DATA, reduction="sum"),
    "mul": lambda x, y, z: x * y,
    "mul_number": lambda x, y, z: x * 2.5,
    "mv": lambda x, y, z: x @ z[0, :3],
    "nansum": lambda x, y, z: x.nansum(1),
    "neg": lambda x, y, z: -x,
    "norm": lambda x, y, z: x.norm(p=3, dim=1),
    "nll_none": lambda x, y, z: F.nll_loss(x, LABELS, ignore_index=1, reduction="none"),
    "pad": lambda x, y, z: F.pad(x, (1, 2)),
    "pad_reflect": lambda x, y, z: F.pad(x[None], (1, 1), mode="reflect"),
    "permute": lambda x, y, z: x.permute(1, 0),
    "pow": lambda x, y, z: y**1.5,
    "pow_of_number": lambda x, y, z: 2.0**x,
    "pow_of_tensors": lambda x, y, z: y**x,
    "prelu": lambda x, y, z: F.prelu(x, z[0, :1]),
    "prod": lambda x, y, z: x.prod(1),
    "reciprocal": lambda x, y, z: 1 / y,
    "relu": lambda x, y, z: x.relu(),
    "repeat": lambda x, y, z: x.repeat(2, 1),
    "roll": lambda x, y, z: x.roll(1, 0),
    "rsqrt": lambda x, y, z: y.rsqrt(),
    "scatter_add": lambda x, y, z: y.scatter_add(1, LABELS[:, None], x[:, :1]),
    "select": lambda x, y, z: x.select(1, -1),
    "silu": lambda x, y, z: F.silu(x),
    "slice": lambda x, y, z: x[1:4:2],
    "smooth_l1": lambda x, y, z: F.smooth_l1_loss(x, DATA, beta=0.5),
    "soft_margin": lambda x, y, z: F.soft_margin_loss(x, DATA.sign()),
    "softmax": lambda x, y, z: x.softmax(-1),
    "softplus": lambda x, y, z: F.softplus(x, 2, 5),
    "split": lambda x, y, z: x.split([1, 3])[1],
    "sqrt": lambda x, y, z: y.sqrt(),
    "squeeze": lambda x, y, z: x[:, None].squeeze(1),
    "stack": lambda x, y, z: torch.stack([x, y], 1),
    "std": lambda x, y, z: x.std(1, correction=0),
    "sub": lambda x, y, z: torch.sub(x, y, alpha=2),
    "sum": lambda x, y, z: x.sum(1),
    "tanh": lambda x, y, z: x.tanh(),
    "to": lambda x, y, z: x.to(torch.bfloat16),
    "topk": lambda x, y, z: x.topk(2, dim=1).values,
    "transpose": lambda x, y, z: x.transpose(0, 1),
    "triu": lambda x, y, z: x.triu(1),
    "unbind": lambda x, y, z: x.unbind(1)[2],
    "unfold": lambda x, y, z: x.unfold(0, 2, 1),
    "var": lambda x, y, z: x.var(),
    "view": lambda x, y, z: x.view(2, 6),
    "where": lambda x, y, z: torch.where(DATA > 0.5, x, y),
    "xlogy": lambda x, y, z: torch.special.xlogy(DATA, y),
    "xlogy_of_number": lambda x, y, z: torch.special.xlogy(2.0, y),
}


class OnlyLeaves(Known):
    """Knows the leaves alone, so that everything has to be made again."""

    def _kept(self, edge: Edge) -> torch.Tensor | None:
        return None if edge.op.leaf is None else edge.op.leaf.detach()


def leaves() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(4, 3, generator=draw).requires_grad_()
    y = (torch.rand(4, 3, generator=draw) * 0.9 + 0.05).requires_grad_()
    z = torch.randn(4, 4, generator=draw).requires_grad_()
    return x, y, z


@pytest.mark.parametrize("name", CASES)
def test_what_is_made_again_is_what_it_was(name: str) -> None:
    made = CASES[name](*leaves())
    graph = Graph(made)
    again, assumed = OnlyLeaves(graph).value(Edge(graph.root, made.output_nr))
    assert again is not None, graph.root.kind
    assert not assumed
    assert again.dtype == made.dtype
    torch.testing.assert_close(again, made.detach(), equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_a_mask_taken_down_holds_whatever_had_a_part(name: str) -> None:
    """Truth by autograd: an operand's element had a part where the masked elements have a slope in it."""
    made = CASES[name](*leaves())
    if made.is_complex():
        return
    graph = Graph(made)
    mask = torch.rand(made.shape, generator=torch.Generator().manual_seed(5)) < 0.4
    op = graph.root
    slopes = op.node(
        *(mask.to(made.dtype) if place == made.output_nr else None for place in range(len(op.node._input_metadata)))
    )
    slopes = slopes if isinstance(slopes, tuple) else (slopes,)
    for place, slope in enumerate(slopes):
        edge = op.inputs[place] if place < len(op.inputs) else None
        if slope is None or edge is None:
            continue
        found = down(op, mask, place, made.output_nr)
        assert found is not None
        assert tuple(found.shape) == edge.shape
        had_part = slope.sum_to_size(edge.shape) != 0
        assert bool((found | ~had_part).all())


def test_every_rule_is_in_the_table_under_a_name_that_autograd_uses() -> None:
    seen = {op.kind for make in CASES.values() for op in Graph(make(*leaves()))}
    assert len(seen & set(replay.RULES)) > 75


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_figures_are_over_what_is_finite(dtype: torch.dtype) -> None:
    inf = float("inf")
    found = figures("x", "data", torch.tensor([1.0, -2.0, 0.0, 4.0, float("nan"), inf, inf, -inf], dtype=dtype))
    assert (found.minimum, found.maximum, found.mean) == (-2.0, 4.0, 0.75)
    assert (found.nan, found.posinf, found.neginf, found.zero, found.elements) == (1, 2, 1, 1, 8)
    assert not found.finite


def test_a_sum_that_overflows_is_not_taken_for_an_infinity() -> None:
    assert all_finite(torch.full((4,), 3e38))
    assert all_finite(torch.full((4,), 65504.0, dtype=torch.float16))
    assert not all_finite(torch.tensor([1.0, float("nan")]))


def test_odd_tensors_are_read_without_a_fuss() -> None:
    assert all_finite(torch.tensor([], dtype=torch.float32))
    assert all_finite(torch.tensor([1, 2]))
    assert not all_finite(torch.tensor([complex(0, float("inf"))]))
    assert bad(torch.tensor([complex(0, float("inf")), 1j])).tolist() == [True, False]
    assert all_finite(torch.zeros(2, 2).to_sparse())
    assert figures("x", "data", torch.tensor([True, False])).zero == 1
    assert figures("x", "data", torch.tensor([3, 4])).mean == 3.5
    assert figures("x", "data", torch.nn.Parameter(torch.ones(2))).maximum == 1.0
    assert not figures("x", "data", None, (3,)).seen
