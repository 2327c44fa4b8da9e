"""``lossproof.autopsy``: injected faults of ten causes, each with its operator, line, rows and cause."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import lossproof  # noqa: E402

NAN, INF = float("nan"), float("inf")


class Fault(NamedTuple):
    make: Callable[[], torch.Tensor]
    cause: str
    op: str
    where: str
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    sure: bool = True


FAULTS: list[Fault] = []


def fault(
    cause: str,
    op: str,
    where: str = "forward",
    rows: tuple[int, ...] = (),
    columns: tuple[int, ...] = (),
) -> Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]:
    """The line of the fault carries ``# here``."""

    def add(make: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        FAULTS.append(Fault(make, cause, op, where, rows, columns))
        return make

    return add


def line_of(make: Callable[[], torch.Tensor]) -> int:
    lines, start = inspect.getsourcelines(make)
    return next(start + number for number, text in enumerate(lines) if "# here" in text)


def net(inputs: int = 8, outputs: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


def batch(rows: int = 6, columns: int = 8) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------------------------------- bad-input


@fault("bad-input", "addmm", "outside", (2,), (3,))
def nan_in_a_feature() -> torch.Tensor:
    x, model = batch(), net()
    x[2, 3] = NAN
    h = F.linear(x, model[0].weight, model[0].bias)  # here
    return F.cross_entropy(model[2](h.relu()), torch.tensor([0, 1, 2, 3, 0, 1]))


@fault("bad-input", "convolution", "outside", (1,))
def infinite_pixel() -> torch.Tensor:
    x = torch.rand(3, 1, 6, 6)
    x[1, 0, 2, 2] = INF
    h = F.conv2d(x, torch.randn(4, 1, 3, 3, requires_grad=True))  # here
    return F.adaptive_avg_pool2d(h, 1).flatten(1).square().mean()


@fault("bad-input", "layer_norm", "outside", (0,))
def nan_before_a_norm() -> torch.Tensor:
    x, norm, model = batch(), nn.LayerNorm(8), net()
    x[0] = NAN
    h = norm(x)  # here
    return model(h).square().mean()


@fault("bad-input", "addmm", "outside", (4,), (0,))
def infinite_feature_that_tanh_hides() -> torch.Tensor:
    x, model = batch(), net()
    x[4, 0] = -INF
    h = model[0](x)  # here
    return F.mse_loss(model[2](h.tanh()), torch.zeros(6, 4))


# --------------------------------------------------------------------------------------------- bad-target


@fault("bad-target", "mse_loss", "outside", (4,), (1,))
def infinite_target() -> torch.Tensor:
    y = torch.zeros(6, 4)
    y[4, 1] = INF
    return F.mse_loss(net()(batch()), y)  # here


@fault("bad-target", "sub", "outside", (5,))
def missing_label_in_a_hand_written_loss() -> torch.Tensor:
    y = torch.zeros(6)
    y[5] = NAN
    error = net(outputs=1)(batch()).squeeze(1) - y  # here
    return (error**2).mean()


@fault("bad-target", "binary_cross_entropy_with_logits", "outside", (0,))
def missing_label_in_bce() -> torch.Tensor:
    y = torch.zeros(6)
    y[0] = NAN
    return F.binary_cross_entropy_with_logits(net(outputs=1)(batch()).squeeze(1), y)  # here


@fault("bad-target", "nll_loss", "forward", (3,))
def target_names_a_masked_class() -> torch.Tensor:
    logits = net()(batch())
    allowed = torch.ones(6, 4, dtype=torch.bool)
    allowed[3, 2] = False
    logits = logits.masked_fill(~allowed, -INF)
    return F.cross_entropy(logits, torch.tensor([0, 1, 2, 2, 0, 1]))  # here


@fault("bad-target", "ctc_loss", "forward", (1,))
def target_longer_than_its_input() -> torch.Tensor:
    logits = torch.randn(4, 2, 5, requires_grad=True).log_softmax(2)
    targets = torch.tensor([[1, 2, 0, 0, 0], [1, 2, 3, 4, 1]])
    return F.ctc_loss(logits, targets, torch.tensor([4, 4]), torch.tensor([2, 5]))  # here


# --------------------------------------------------------------------------------------- zero-denominator


@fault("zero-denominator", "div", "forward", (1, 4))
def relative_error_of_zero() -> torch.Tensor:
    truth = torch.tensor([1.0, 0.0, 2.0, 3.0, 0.0, 1.0])
    pred = net(outputs=1)(batch()).squeeze(1)
    ratio = (pred - truth) / truth  # here
    return ratio.abs().mean()


@fault("zero-denominator", "div", "forward", (2,))
def normalized_by_hand() -> torch.Tensor:
    x = batch()
    x[2] = 0
    h = F.linear(x, torch.eye(8, requires_grad=True))
    unit = h / h.pow(2).sum(1, keepdim=True).sqrt()  # here
    return unit.sum()


@fault("zero-denominator", "mean", "forward")
def mean_of_nothing() -> torch.Tensor:
    each = (net()(batch()) ** 2).sum(1)
    keep = torch.zeros(6, dtype=torch.bool)
    return each[keep].mean()  # here


@fault("zero-denominator", "nll_loss", "forward")
def every_target_ignored() -> torch.Tensor:
    return F.cross_entropy(net()(batch()), torch.full((6,), -100))  # here


@fault("zero-denominator", "softmax", "forward", (3,))
def row_masked_from_end_to_end() -> torch.Tensor:
    h = net(outputs=8)(batch())
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[3] = True
    scores = (h @ h.t()).masked_fill(mask, -INF)
    return (scores.softmax(-1) @ h).square().mean()  # here


@fault("zero-denominator", "softmax", "forward", (1,))
def padding_only_sample_in_attention() -> torch.Tensor:
    q = nn.Linear(8, 8)(torch.randn(3, 5, 8))
    bias = torch.zeros(3, 1, 5)
    bias[1] = -INF
    weights = torch.softmax(q @ q.transpose(1, 2) / 8**0.5 + bias, dim=-1)  # here
    return (weights @ q).mean()


@fault("zero-denominator", "sub", "forward", (0,))
def masked_categorical_policy() -> torch.Tensor:
    allowed = torch.tensor([[False] * 4, *[[True] * 4] * 5])
    logits = net()(batch()).masked_fill(~allowed, -INF)
    policy = torch.distributions.Categorical(logits=logits, validate_args=False)  # here
    return -policy.log_prob(torch.zeros(6)).mean()


@fault("zero-denominator", "std", "forward", (0,))
def spread_of_one() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return net(outputs=1)(batch(rows=1)).std()  # here


@fault("zero-denominator", "div", "forward")
def dice_of_two_empty_masks() -> torch.Tensor:
    p = net()(batch()).relu() * 0
    truth = torch.zeros(6, 4)
    dice = 2 * (p * truth).sum() / (p.sum() + truth.sum())  # here
    return 1 - dice


# --------------------------------------------------------------------------------------------- log-domain


@fault("log-domain", "log", "forward", (2,), (0,))
def log_of_a_probability_that_is_zero() -> torch.Tensor:
    logits = torch.zeros(4, 3)
    logits[2, 0] = -200
    p = (logits + torch.zeros(3, requires_grad=True)).softmax(1)
    return -p.log().mean()  # here


@fault("log-domain", "log", "forward", (1,))
def log_of_a_negative() -> torch.Tensor:
    variance = torch.tensor([1.0, -0.5, 2.0], requires_grad=True)
    return (0.5 * torch.log(variance) + 1 / variance).mean()  # here


@fault("log-domain", "sqrt", "forward", (0,))
def root_of_a_cancelled_variance() -> torch.Tensor:
    x = torch.tensor([[1000.1, 1000.101, 1000.102], [1.0, 2.0, 3.0]], requires_grad=True)
    spread = (x**2).mean(1) - x.mean(1) ** 2
    return torch.sqrt(spread).sum()  # here


@fault("log-domain", "acos", "forward", (1,))
def angle_of_an_unclamped_cosine() -> torch.Tensor:
    cosine = torch.tensor([0.3, 1.0001, -0.2], requires_grad=True)
    return torch.acos(cosine).mean()  # here


@fault("log-domain", "pow", "forward", (2,))
def fractional_power_of_a_negative() -> torch.Tensor:
    x = torch.tensor([1.0, 2.0, -3.0], requires_grad=True)
    return (x**1.5).mean()  # here


# ------------------------------------------------------------------------------------------- exp-overflow


@fault("exp-overflow", "exp", "forward", (0,))
def hand_written_softmax() -> torch.Tensor:
    logits = torch.tensor([[100.0, 0.0], [1.0, 2.0]], requires_grad=True)
    e = logits.exp()  # here
    return -(e / e.sum(1, keepdim=True)).log()[:, 0].mean()


@fault("exp-overflow", "exp", "forward", (1,))
def softplus_by_hand() -> torch.Tensor:
    x = torch.tensor([1.0, 89.0, -4.0], requires_grad=True)
    return torch.log(1 + torch.exp(x)).mean()  # here


@fault("exp-overflow", "exp", "forward", (3,))
def poisson_rate() -> torch.Tensor:
    log_rate = torch.tensor([0.0, 1.0, 2.0, 95.0], requires_grad=True)
    return F.poisson_nll_loss(log_rate, torch.ones(4))  # here


# ------------------------------------------------------------------------------------------ half-overflow


@fault("half-overflow", "pow", "forward", (1,))
def square_in_half() -> torch.Tensor:
    x = torch.tensor([3.0, 300.0, 1.0], dtype=torch.float16, requires_grad=True)
    return (x**2).mean()  # here


@fault("half-overflow", "sum", "forward")
def sum_in_half() -> torch.Tensor:
    x = torch.full((1000,), 100.0, dtype=torch.float16, requires_grad=True)
    return (x * 1.0).sum()  # here


@fault("half-overflow", "to", "forward", (2,))
def cast_to_half() -> torch.Tensor:
    x = torch.tensor([1.0, 2.0, 70000.0], requires_grad=True)
    return (x * 1.0).half().mean()  # here


@fault("half-overflow", "mm", "forward", (0,))
def product_in_half() -> torch.Tensor:
    x = torch.tensor([[300.0, 300.0], [1.0, 1.0]], dtype=torch.float16)
    w = torch.full((2, 2), 150.0, dtype=torch.float16, requires_grad=True)
    return (x @ w).mean()  # here


# ------------------------------------------------------------------------------------------ gradient-only


@fault("gradient-only", "sqrt", "backward", (0, 2))
def root_at_zero() -> torch.Tensor:
    x = torch.tensor([0.0, 1.0, 0.0, 4.0], requires_grad=True)
    return x.clamp(min=0).sqrt().mean()  # here


@fault("gradient-only", "sqrt", "backward", (1,))
def length_by_hand() -> torch.Tensor:
    x = batch(3, 4)
    x[1] = 0
    h = F.linear(x, torch.eye(4, requires_grad=True))
    return ((h**2).sum(1).sqrt() - 1).square().mean()  # here


@fault("gradient-only", "log", "backward", (1,))
def the_where_trap() -> torch.Tensor:
    x = torch.tensor([1.0, 0.0, 2.0], requires_grad=True)
    return torch.where(x > 0, x.log(), torch.zeros(3)).mean()  # here


@fault("gradient-only", "acos", "backward", (1,))
def arc_at_the_edge() -> torch.Tensor:
    x = torch.tensor([0.5, 1.0, -0.2], requires_grad=True)
    return x.clamp(-1, 1).acos().mean()  # here


@fault("gradient-only", "pow", "backward", (2,))
def focal_with_a_small_gamma() -> torch.Tensor:
    p = torch.tensor([0.3, 0.6, 1.0], requires_grad=True)
    return ((1 - p) ** 0.5 * -p.log()).mean()  # here


@fault("gradient-only", "div", "backward", (0,))
def division_masked_afterwards() -> torch.Tensor:
    n = torch.tensor([0.0, 2.0], requires_grad=True)
    ratio = torch.ones(2) / n  # here
    return ratio.masked_fill(torch.tensor([True, False]), 0.0).sum()


# ------------------------------------------------------------------------------------------------ diverged


@fault("diverged", "mse_loss", "forward", (0, 1, 2, 3, 4, 5))
def weights_ran_away() -> torch.Tensor:
    model = net()
    with torch.no_grad():
        model[2].weight.fill_(1e30)
    return F.mse_loss(model(batch()), torch.zeros(6, 4))  # here


@fault("diverged", "addmm", "forward", (0, 1, 2, 3, 4, 5))
def product_of_huge_activations() -> torch.Tensor:
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(1e30)
        model[2].weight.fill_(1e20)
    h = model[0](batch()).abs()
    return model[2](h).mean()  # here


# --------------------------------------------------------------------------------------------- bad-weights


@fault("bad-weights", "addmm", "outside")
def corrupted_weight() -> torch.Tensor:
    model = net()
    with torch.no_grad():
        model[2].weight[1, 5] = NAN
    h = model[:2](batch())
    return F.cross_entropy(model[2](h), torch.zeros(6, dtype=torch.long))  # here


@fault("bad-weights", "batch_norm", "outside")
def poisoned_running_statistics() -> torch.Tensor:
    model, norm = net(), nn.BatchNorm1d(4).eval()
    norm.running_var[2] = NAN
    h = model(batch())
    return norm(h).square().mean()  # here


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.make.__name__)
def test_an_injected_fault_is_told_with_operator_line_rows_and_cause(fault: Fault) -> None:
    with lossproof.recording():
        loss = fault.make()
    found = lossproof.autopsy(loss)
    assert (found.cause, found.op, found.where) == (fault.cause, fault.op, fault.where), str(found)
    assert found.rows == fault.rows, str(found)
    assert found.path == __file__
    assert found.line == line_of(fault.make)
    assert not fault.columns or found.columns == fault.columns
    assert found.because
    assert found.immediate
    assert found.durable
    assert "{" not in "".join((*found.immediate, *found.durable)).replace("{-1", "")


def test_the_table_has_thirty_faults_of_all_causes_that_one_loss_shows() -> None:
    assert len(FAULTS) >= 30
    assert {fault.cause for fault in FAULTS} == {
        "bad-input",
        "bad-target",
        "zero-denominator",
        "log-domain",
        "exp-overflow",
        "half-overflow",
        "gradient-only",
        "diverged",
        "bad-weights",
    }


# ------------------------------------------------------------------------------------------------- healthy

HEALTHY: list[Callable[[], torch.Tensor]] = []


def healthy(make: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    HEALTHY.append(make)
    return make


@healthy
def causal_attention() -> torch.Tensor:
    h = nn.Linear(8, 8)(torch.randn(2, 5, 8))
    future = torch.ones(5, 5, dtype=torch.bool).triu(1)
    scores = (h @ h.transpose(1, 2)).masked_fill(future, -INF)
    return (scores.softmax(-1) @ h).square().mean()


@healthy
def attention_with_an_added_bias() -> torch.Tensor:
    h = nn.Linear(8, 8)(torch.randn(2, 5, 8))
    bias = torch.zeros(5, 5).masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -INF)
    return (torch.softmax(h @ h.transpose(1, 2) + bias, -1) @ h).square().mean()


@healthy
def fused_attention_with_padding() -> torch.Tensor:
    h = nn.Linear(8, 8)(torch.randn(2, 1, 5, 8))
    keep = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    keep[0, :, :, 3:] = False
    return F.scaled_dot_product_attention(h, h, h, attn_mask=keep).mean()


@healthy
def transformer_with_padding() -> torch.Tensor:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    return layer(torch.randn(2, 5, 8), src_key_padding_mask=padding)[~padding].square().mean()


@healthy
def nansum_over_missing_labels() -> torch.Tensor:
    y = torch.zeros(6, 4)
    y[2] = NAN
    pred = net()(batch())
    known = ~torch.isnan(y)
    return ((pred - torch.where(known, y, torch.zeros(()))) ** 2 * known).nansum() / known.sum()


@healthy
def labels_that_are_missing_are_left_out() -> torch.Tensor:
    y = torch.zeros(6, 4)
    y[2] = NAN
    pred = net()(batch())
    keep = ~torch.isnan(y)
    return F.mse_loss(pred[keep], y[keep])


@healthy
def log_space_forward_algorithm() -> torch.Tensor:
    emission = net()(batch()).log_softmax(1)
    transition = torch.full((4, 4), -INF)
    transition[torch.arange(4), torch.arange(4)] = 0.0
    transition[0, 1:] = -1.0
    alpha = emission[0]
    for step in emission[1:]:
        alpha = torch.logsumexp(alpha[:, None] + transition, 0) + step
    return -torch.logsumexp(alpha, 0)


@healthy
def logsumexp_of_minus_infinity() -> torch.Tensor:
    x = net()(batch())
    x = x.masked_fill(torch.tensor([True, False, False, True]), -INF)
    return x.logsumexp(1).mean()


@healthy
def ctc_that_forgives() -> torch.Tensor:
    logits = torch.randn(4, 2, 5, requires_grad=True).log_softmax(2)
    targets = torch.tensor([[1, 2, 0, 0, 0], [1, 2, 3, 4, 1]])
    return F.ctc_loss(logits, targets, torch.tensor([4, 4]), torch.tensor([2, 5]), zero_infinity=True)


@healthy
def entropy_by_xlogy() -> torch.Tensor:
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    q = net(outputs=2)(batch(2)).softmax(1)
    return (torch.xlogy(p, p) - p * q.log()).sum(1).mean()


@healthy
def packed_sequences() -> torch.Tensor:
    x = torch.randn(3, 5, 8)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2]), batch_first=True)
    output, _ = nn.GRU(8, 6, batch_first=True)(packed)
    padded, lengths = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    mask = torch.arange(5)[None] < lengths[:, None]
    return (padded.square().mean(2) * mask).sum() / mask.sum()


@healthy
def autocast() -> torch.Tensor:
    model = net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(batch())
    return F.cross_entropy(out.float(), torch.zeros(6, dtype=torch.long))


@healthy
def masked_before_the_logarithm() -> torch.Tensor:
    x = net()(batch())
    ok = x > 0
    return torch.where(ok, torch.where(ok, x, torch.ones(())).log(), torch.zeros(())).mean()


@healthy
def length_by_torch() -> torch.Tensor:
    h = F.linear(torch.zeros(3, 4), torch.eye(4, requires_grad=True))
    return h.norm(dim=1).mean() + torch.cdist(h, h).mean()


@healthy
def root_behind_a_relu() -> torch.Tensor:
    x = torch.tensor([-1.0, 4.0], requires_grad=True)
    return x.relu().sqrt().mean()  # relu's slope of 0 takes the infinite one away


@healthy
def triplet_with_normalized_embeddings() -> torch.Tensor:
    h = F.normalize(net()(batch()), dim=1)
    return F.triplet_margin_loss(h[:2], h[2:4], h[4:])


@healthy
def some_targets_ignored() -> torch.Tensor:
    return F.cross_entropy(net()(batch()), torch.tensor([0, -100, 1, -100, 2, 3]), label_smoothing=0.1)


@healthy
def top_k_sampling_scores() -> torch.Tensor:
    logits = net()(batch())
    low = logits < logits.topk(2, dim=1).values[:, -1:]
    return F.cross_entropy(logits.masked_fill(low, -INF), logits.argmax(1))


@healthy
def gaussian_likelihood() -> torch.Tensor:
    mean, log_variance = net()(batch()).chunk(2, 1)
    return torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(torch.zeros(6, 2)).neg().mean()


@healthy
def batch_norm_network() -> torch.Tensor:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )
    return F.binary_cross_entropy_with_logits(model(torch.rand(4, 1, 6, 6)), torch.ones(4, 2))


@healthy
def gradient_penalty() -> torch.Tensor:
    x = batch().requires_grad_()
    (slope,) = torch.autograd.grad(net(outputs=1)(x).sum(), x, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


@healthy
def not_a_scalar() -> torch.Tensor:
    return F.cross_entropy(net()(batch()), torch.zeros(6, dtype=torch.long), reduction="none")


@pytest.mark.parametrize("make", HEALTHY, ids=lambda each: each.__name__)
def test_a_healthy_loss_is_left_in_peace(make: Callable[[], torch.Tensor]) -> None:
    torch.manual_seed(0)
    found = lossproof.autopsy(make())
    assert found.cause is None, str(found)
    assert found.healthy
    assert str(found).startswith("finite loss, finite gradients")
    assert found.as_dict()["symptom"] is None


# ----------------------------------------------------------------------------------------------- scorecard


class Small(nn.Module):
    """An embedding-free transformer block with a head: what a triage has to find its way in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.mix, self.norm, self.leave = (
            nn.Linear(8, 16),
            nn.Linear(16, 48),
            nn.LayerNorm(16),
            nn.Linear(16, 4),
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.enter(x).relu())
        q, k, v = self.mix(h).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 4
        weights = scores.masked_fill(~mask[:, None], -INF).softmax(-1)
        return self.leave(h + weights @ v)


def small(
    *, x: tuple[int, ...] = (), masked: int | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Small, torch.Tensor, torch.Tensor]:
    model = Small().to(dtype)
    data, mask = torch.randn(4, 5, 8, dtype=dtype), torch.ones(4, 5, dtype=torch.bool)
    mask[0, 3:] = False
    if x:
        data[x] = NAN
    if masked is not None:
        mask[masked] = False
    return model, data, mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_triage_of_one_network_in_every_precision(dtype: torch.dtype) -> None:
    def told(loss: torch.Tensor, **more: object) -> tuple[str | None, str | None, tuple[int, ...]]:
        found = lossproof.autopsy(loss, **more)
        return found.cause, found.op, found.rows

    model, data, mask = small(dtype=dtype)
    assert told(model(data, mask).square().mean()) == (None, None, ())  # a causal or padding mask is healthy

    model, data, mask = small(x=(2, 1, 3), dtype=dtype)
    assert told(model(data, mask).square().mean()) == ("bad-input", "addmm", (2,))

    model, data, mask = small(masked=3, dtype=dtype)
    assert told(model(data, mask).square().mean()) == ("zero-denominator", "softmax", (3,))

    model, data, mask = small(dtype=dtype)
    target = torch.zeros(4, 5, 4, dtype=dtype)
    target[1, 2, 3] = INF
    assert told(F.mse_loss(model(data, mask), target)) == ("bad-target", "mse_loss", (1,))

    model, data, mask = small(dtype=dtype)
    out = model(data, mask)
    out = out * torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=dtype)[:, None, None]
    assert told(-out.abs().log().mean()) == ("log-domain", "log", (2,))
    assert told(out.abs().sqrt().mean()) == ("gradient-only", "sqrt", (2,))
    pooled = out.mean(1)
    assert told((pooled / pooled.square().sum(1, keepdim=True).sqrt()).mean()) == ("zero-denominator", "div", (2,))

    with torch.no_grad():
        model.mix.weight[5, 5] = NAN
    found = lossproof.autopsy(model(data, mask).square().mean(), names=model)
    assert (found.cause, found.where) == ("bad-weights", "outside")
    assert "1 of 768 elements of parameter mix.weight" in found.because[0]


def test_a_run_that_diverged_is_told_from_bad_data() -> None:
    model, data, mask = small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e18)
    loss = model(data, mask).square().mean()
    assert not torch.isfinite(loss)
    found = lossproof.autopsy(loss, names=model)
    assert found.cause == "diverged"
    assert "the weights have run away" in found.because[1]


# ------------------------------------------------------------------------------------------------ manners


def test_nothing_is_touched() -> None:
    model, calls = net(), []
    hook = model[0].weight.register_hook(lambda gradient: calls.append(1))
    out = model(batch())
    out.register_hook(lambda gradient: calls.append(2))
    model.register_full_backward_hook(lambda *each: calls.append(3))
    loss = out.square().mean()
    before = torch.get_rng_state()
    found = lossproof.autopsy(loss)
    assert found.healthy
    assert found.looked_at == 4
    assert found.unseen == ()
    assert calls == []
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    hook.remove()
    loss.backward()
    assert model[0].weight.grad is not None


def test_an_optimizers_state_is_looked_at() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    F.cross_entropy(model(batch()), torch.zeros(6, dtype=torch.long)).backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.state[model[2].bias]["exp_avg"][1] = NAN
    loss = F.cross_entropy(model(batch()), torch.zeros(6, dtype=torch.long))
    assert lossproof.autopsy(loss).healthy
    found = lossproof.autopsy(loss, optimizer=optimizer, names=model)
    assert (found.cause, found.symptom, found.where) == ("bad-optimizer-state", "non-finite-step", "outside")
    assert "1 of 4 elements of exp_avg of parameter 2.bias" in found.because[0]
    loss.backward()
    optimizer.step()
    after = lossproof.autopsy(model(batch()).square().mean(), optimizer=optimizer, names=model)
    assert after.cause == "bad-optimizer-state"
    assert "parameter 2.bias" in after.because[0]


def test_an_eps_that_float16_cannot_hold() -> None:
    model = net().half()
    optimizer = torch.optim.Adam(model.parameters())
    loss = model(batch().half()).float().square().mean()
    found = lossproof.autopsy(loss, optimizer=optimizer)
    assert found.cause == "bad-optimizer-state"
    assert "eps=1e-08 is exactly 0 in float16" in found.because[0]
    assert lossproof.autopsy(loss, optimizer=torch.optim.Adam(model.parameters(), eps=1e-4)).healthy


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        return (x - 1).log()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def test_a_custom_function_is_named_and_seen_through_when_the_step_can_be_made_again() -> None:
    x = torch.tensor([[2.0], [0.5], [3.0]], requires_grad=True)

    def step() -> torch.Tensor:
        return Hidden.apply(x).mean()

    found = lossproof.autopsy(step())
    assert (found.cause, found.op) == ("unknown", "hidden")
    again = lossproof.autopsy(step(), replay=step)
    assert (again.cause, again.op, again.rows, again.replayed) == ("log-domain", "log", (1,), True)
    assert again.path == __file__


def test_a_step_that_cannot_be_repeated_says_so() -> None:
    x = torch.tensor([[2.0], [0.5], [3.0]], requires_grad=True)
    found = lossproof.autopsy(Hidden.apply(x).mean(), replay=lambda: (x * 1).mean())
    assert any("its loss is finite" in said for said in found.unseen)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_region_is_said_not_to_be_seen(reentrant: bool) -> None:
    x = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = torch.utils.checkpoint.checkpoint(lambda y: y.sqrt(), x, use_reentrant=reentrant).sum()
    found = lossproof.autopsy(loss)
    assert found.cause is None
    assert found.unseen
    assert x.grad is None


def test_parameters_that_were_changed_since_are_said_to_be() -> None:
    model = net()
    loss = model(batch()).square().mean()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(NAN)
    found = lossproof.autopsy(loss)
    assert any("changed" in said for said in found.unseen)


def test_a_nan_that_was_written_outside_autograd_is_said_to_be() -> None:
    hidden = net()(batch()).clone()
    hidden.data[2, 1] = NAN
    found = lossproof.autopsy((hidden * 2).mean())
    assert (found.cause, found.where) == ("unknown", "outside")
    assert "outside autograd" in found.because[0]


def test_tensors_without_values_are_refused_or_gone_around() -> None:
    ragged = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], requires_grad=True, layout=torch.jagged)
    assert lossproof.autopsy(ragged.sin().values().sum()).healthy
    assert lossproof.autopsy((ragged * 0).log().values().sum()).cause is not None
    for loss in (ragged.sin(), nn.Linear(2, 1, device="meta")(torch.ones(1, 2, device="meta"))):
        with pytest.raises(lossproof.CannotRun, match="no values"):
            lossproof.autopsy(loss)


def test_a_freed_graph_is_said_to_be_freed() -> None:
    loss = net()(batch()).square().mean()
    loss.backward()
    with pytest.raises(lossproof.CannotRun, match="freed"):
        lossproof.autopsy(loss)


def test_it_renders_itself_and_speaks_the_shape_of_diagnose() -> None:
    with lossproof.recording():
        loss = infinite_target()
    found = lossproof.autopsy(loss, names=net())
    text = str(found)
    for part in ("the loss is inf", "bad-target", "rows      4  (1 of 6)", "1 inf", "now", "for good"):
        assert part in text
    assert "<table>" in found._repr_html_()
    told = json.loads(json.dumps(found.as_dict()))
    assert told["symptom"] == "non-finite-loss"
    assert told["first_bad_op"]["rows"] == [4]
    assert told["causes"][0]["cause"] == "bad-target"


def test_a_target_that_only_the_recording_saw_is_read_while_it_lives() -> None:
    y = torch.zeros(6, 4)
    y[3, 2] = INF
    with lossproof.recording():
        by_hand = (y - net()(batch())).abs().mean()
        composed = F.l1_loss(net()(batch()), y)
    for loss in (by_hand, composed):
        found = lossproof.autopsy(loss)
        assert (found.cause, found.op, found.rows, found.columns) == ("bad-target", "sub", (3,), (2,))
        assert found.probability > 0.85
        assert any(each.posinf == 1 for each in found.inputs)
    y.zero_()  # changed since: it says nothing any more
    assert lossproof.autopsy(by_hand).inputs[0].seen is False


def test_a_network_with_module_hooks_is_seen_through() -> None:
    model = net()
    for module in model:
        module.register_full_backward_hook(lambda *each: None)
    loss = (model(batch()) * 0).log().mean()
    assert (lossproof.autopsy(loss).cause, lossproof.autopsy(loss).op) == ("log-domain", "log")
    x = batch()
    x[4] = NAN
    assert lossproof.autopsy(model(x).mean()).rows == (4,)


def test_a_hook_that_mends_a_gradient_is_not_run_and_that_is_said() -> None:
    x = torch.zeros(3, requires_grad=True)
    x.register_hook(torch.nan_to_num)
    found = lossproof.autopsy(x.sqrt().sum())
    assert found.cause == "gradient-only"
    assert any("hooks of parameters are not run" in said for said in found.unseen)


def test_a_gradient_that_was_left_there_is_told() -> None:
    model = net()
    (model(batch()).mean() * NAN).backward()
    found = lossproof.autopsy(model(batch()).square().mean(), names=model)
    assert (found.cause, found.symptom) == ("bad-optimizer-state", "non-finite-step")
    assert "optimizer.zero_grad()" in found.immediate[0]


def test_a_long_chain_needs_no_deep_stack() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x
    for _ in range(5_000):
        y = y + x
    loss = (y - 5_001).log().sum()
    found = lossproof.autopsy(loss)
    assert (found.cause, found.op) == ("log-domain", "log")


def test_a_budget_of_no_memory_gives_the_same_answer() -> None:
    from lossproof.graph.blame import search
    from lossproof.graph.known_values import Known
    from lossproof.graph.walk import Edge, Graph

    x = torch.tensor([1.0, 0.0], requires_grad=True)
    loss = (-(x * 2 + x).neg().neg().log()).neg().mean()
    graph = Graph(loss)
    known = Known(graph, budget=1)
    origin = search(known, Edge(graph.root, 0), torch.ones((), dtype=torch.bool), nan=False)
    assert (origin.op.kind, origin.birth) == ("Log", "made")


# ------------------------------------------------------------------------------------------------- advice


def gradient_of(make: Callable[[torch.Tensor], torch.Tensor], values: list[float]) -> tuple[bool, bool]:
    """Whether the value and the gradient are finite."""
    x = torch.tensor(values, requires_grad=True)
    loss = make(x).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    return bool(torch.isfinite(loss)), bool(torch.isfinite(gradient).all())


ROW = torch.tensor([True, True])


@pytest.mark.parametrize(
    ("make", "values", "finite"),
    [
        (lambda b: 1 / b.clamp_min(1e-6), [0.0, 2.0], (True, True)),
        (lambda b: torch.where(b > 0, 1 / b, torch.zeros(())), [0.0, 2.0], (True, False)),
        (lambda b: 1 / torch.where(b > 0, b, torch.ones(())), [0.0, 2.0], (True, True)),
        (lambda x: torch.where(x > 0, x.log(), torch.zeros(())), [0.0, 2.0], (True, False)),
        (lambda x: torch.where(x > 0, x, torch.ones(())).log(), [0.0, 2.0], (True, True)),
        (lambda x: x.clamp(min=0).sqrt(), [0.0, 2.0], (True, False)),
        (lambda x: (x + 1e-8).sqrt(), [0.0, 2.0], (True, True)),
        (lambda x: x.clamp_min(1e-8).sqrt(), [-1.0, 2.0], (True, True)),
        (lambda x: torch.linalg.vector_norm(x), [0.0, 0.0], (True, True)),
        (lambda x: x.clamp(-1, 1).acos(), [1.0, 0.0], (True, False)),
        (lambda x: x.clamp(-1 + 1e-6, 1 - 1e-6).acos(), [1.0, 0.0], (True, True)),
        (lambda x: (x * ~ROW).sum() / (~ROW).sum().clamp_min(1), [1.0, 2.0], (True, True)),
        (lambda x: x.masked_fill(ROW, -INF).softmax(0), [1.0, 2.0], (False, True)),
        (lambda x: x.masked_fill(ROW, -INF).softmax(0).masked_fill(ROW, 0), [1.0, 2.0], (True, True)),
        (lambda x: (x - INF).softmax(0).masked_fill(ROW, 0), [1.0, 2.0], (True, False)),
        (lambda x: x.masked_fill(ROW, torch.finfo(x.dtype).min).softmax(0), [1.0, 2.0], (True, True)),
        (lambda x: torch.special.xlogy(torch.zeros(2), x), [0.0, 2.0], (True, False)),
        (lambda x: (torch.tensor([0.0, 1.0]) * x.log().masked_fill(x == 0, 0))[1:], [0.0, 2.0], (True, False)),
        (lambda x: torch.zeros(2) * (x - torch.tensor([INF, 0])).masked_fill(ROW, 0), [0.0, 2.0], (True, True)),
    ],
)
def test_what_the_advice_claims_is_so(
    make: Callable[[torch.Tensor], torch.Tensor], values: list[float], finite: tuple[bool, bool]
) -> None:
    assert gradient_of(make, values) == finite
