"""Numbers at the edge, in the graph of a live loss: what is said, with which figures, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import lossproof  # noqa: E402


def leaf(*numbers: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(numbers, dtype=dtype, requires_grad=True)


def only(loss: torch.Tensor, rule: str) -> lossproof.Finding:
    """The one finding of a rule; what it costs the loss (LP803) may be told beside it."""
    found = [each for each in lossproof.audit(loss) if each.rule != "LP803" or rule == "LP803"]
    assert [each.rule for each in found] == [rule], [each.message for each in found]
    return found[0]


def silent(loss: torch.Tensor) -> bool:
    audit = lossproof.audit(loss)
    assert not audit, [each.message for each in audit]
    return not audit.unseen


# ---- division


def test_a_zero_in_a_denominator_with_its_rows() -> None:
    target = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    found = only((torch.ones(3, 2, requires_grad=True) / target).mean(), "LP201")
    assert found.severity.value == "error"
    assert "3 of 6 denominators are 0 (rows 1, 2 of 3): the loss is infinite or NaN" in found.message


def test_a_count_of_nothing() -> None:
    found = only(leaf(1, 2).sum() / torch.zeros(5, dtype=torch.bool).sum(), "LP201")
    assert "the denominator is 0" in found.message


def test_a_denominator_next_to_zero_is_a_warning_with_its_share() -> None:
    found = only((leaf(1, 2, 3, 4) / torch.tensor([1.0, 2.0, 1e-9, 4.0])).mean(), "LP201")
    assert found.severity.value == "warning"
    assert "the smallest 1.0e-09 (row 2): it carries more than 99.9 %" in found.message


def test_small_denominators_among_equals_are_a_matter_of_units() -> None:
    assert silent((leaf(1e-9, 2e-9, 3e-9) / torch.tensor([1e-9, 2e-9, 3e-9])).mean())


def test_one_small_denominator_among_many_does_not_carry_the_gradient() -> None:
    scale = torch.linspace(1e-6, 1, 200_000)
    assert silent((torch.ones(200_000, requires_grad=True) / scale).mean())


def test_a_slope_that_overflows_in_float16_though_the_denominator_is_not_zero() -> None:
    found = only((leaf(1, 1, dtype=torch.float16) / leaf(1e-3, 1, dtype=torch.float16)).sum(), "LP201")
    assert "so small (1.0e-03)" in found.message


def test_normalizing_a_vector_of_zeros_is_told_and_a_dead_relu_is_not() -> None:
    rows = torch.cat([torch.zeros(1, 3), torch.ones(3, 3)]).requires_grad_()
    assert only((F.normalize(rows) - 1).pow(2).mean(), "LP201").severity.value == "warning"
    dead = torch.cat([-torch.ones(1, 3), torch.ones(3, 3)]).requires_grad_()
    assert silent((F.normalize(dead.relu()) - 1).pow(2).mean())


def test_the_deviation_of_one() -> None:
    with pytest.warns(UserWarning, match="degrees of freedom"):
        loss = torch.ones(3, 1, requires_grad=True).std(1).mean()
    assert "over 1 element divides by 0 degrees of freedom" in only(loss, "LP201").message


# ---- logarithm


@pytest.mark.parametrize("log", [torch.log, torch.log2, torch.log10])
def test_a_logarithm_of_what_is_not_positive(log: Callable[[torch.Tensor], torch.Tensor]) -> None:
    message = only(log(leaf(1, 0, -0.5)).mean(), "LP202").message
    assert "1 of 3 operands are below 0, the lowest -0.5, and 1 is 0 (rows 1, 2)" in message


def test_log1p_has_its_edge_at_minus_one() -> None:
    assert "exactly -1 (row 1)" in only(torch.log1p(leaf(0, -1)).mean(), "LP202").message
    assert silent(torch.log1p(leaf(0, -0.5)).mean())


def test_a_difference_next_to_zero_is_told_and_a_density_is_not() -> None:
    assert only(torch.log(leaf(1e-10, 1, 2)).mean(), "LP202").severity.value == "warning"
    z = leaf(-30, 0, 1)
    assert silent(torch.log(torch.exp(z)).mean())
    two_steps = lossproof.audit(torch.log(1 - torch.sigmoid(leaf(15, 0, 1)) + 1e-8).mean())
    assert [each.rule for each in two_steps] == ["LP106"]


# ---- roots, powers, arcs


def test_a_root_at_zero_and_the_remedies() -> None:
    x = torch.zeros(4, 2, requires_grad=True)
    found = only(x.pow(2).sum(1).sqrt().mean(), "LP203")
    assert "4 of 4 operands of the square root are at 0" in found.message
    assert "the value is finite and the gradient infinite or NaN" in found.message
    assert silent((x.pow(2).sum(1) + 1e-12).sqrt().mean())
    assert silent(torch.linalg.vector_norm(x, dim=1).mean())


def test_a_root_next_to_zero_is_told_where_nothing_keeps_it_above() -> None:
    assert only(leaf(1e-20, 1, 2).sqrt().mean(), "LP203").severity.value == "warning"
    assert silent((leaf(0, 1, 2) + 1e-20).sqrt().mean())
    assert silent(leaf(1e-30, 1, 2).clamp(min=1e-20).sqrt().mean())


def test_a_clamp_passes_the_gradient_at_its_bound_and_stops_it_beyond() -> None:
    assert silent(leaf(-1, 4).clamp(min=0).sqrt().mean())
    assert only(leaf(0, 4).clamp(min=0).sqrt().mean(), "LP203")
    assert silent(leaf(0, -1, 4).relu().sqrt().mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_arc_at_its_end_in_every_format(dtype: torch.dtype) -> None:
    assert "1 of 2 operands of the `acos`" in only(leaf(1, 0, dtype=dtype).acos().mean(), "LP203").message
    assert silent(leaf(0.5, 0, dtype=dtype).acos().mean())


def test_one_rounding_step_from_the_end_of_an_arc() -> None:
    found = only(leaf(1 - 2**-24, 0).acos().mean(), "LP203")
    assert found.severity.value == "warning"
    assert "0.99999994" in found.message
    assert silent(leaf(1 - 2**-24, 0).clamp(-1 + 1e-6, 1 - 1e-6).acos().mean())


@pytest.mark.parametrize(
    ("power", "rule"), [(0.5, "LP203"), (0.75, "LP203"), (1.5, None), (2, None), (-1, "LP201"), (0, None)]
)
def test_a_power_at_zero(power: float, rule: str | None) -> None:
    loss = (leaf(0, 1) ** power).mean()
    assert only(loss, rule) if rule else silent(loss)


# ---- exp


def test_an_exponent_too_large_close_to_it_and_far_from_it() -> None:
    far = only(leaf(89, 1).exp().mean(), "LP204")
    assert "the largest 89 (row 0): `exp` overflows at 88.72 in float32" in far.message
    assert only(leaf(80, 1).exp().mean(), "LP204").severity.value == "warning"
    assert silent(leaf(60, 1).exp().mean())
    assert "11.09 in float16" in only(leaf(12, dtype=torch.float16).exp().mean(), "LP204").message


def test_a_softmax_written_out_over_a_layer() -> None:
    logits = nn.Linear(4, 3)(torch.randn(5, 4))
    e = logits.exp()
    assert "a softmax written with `exp`" in only((e / e.sum(1, keepdim=True)).pow(2).mean(), "LP204").message
    shifted = (logits - logits.amax(1, keepdim=True)).exp()
    assert silent((shifted / shifted.sum(1, keepdim=True)).pow(2).mean())


# ---- epsilons


def test_a_bound_that_rounds_to_one() -> None:
    p = leaf(1, 0.5, 0.2)
    found = only(p.clamp(1e-8, 1 - 1e-8).mean(), "LP205")
    assert found.severity.value == "warning"
    assert "`1 - 1e-08` is exactly 1 in float32" in found.message
    assert "1 of 3 values is there now (row 0)" in found.message
    guarded = (1 - leaf(0.5, 0.2).clamp(1e-8, 1 - 1e-8)).log().mean()
    assert only(guarded, "LP205").severity.value == "error"
    assert silent(leaf(0.5, dtype=torch.float64).clamp(1e-8, 1 - 1e-8).mean())


def test_a_number_that_is_added_is_known_from_the_recording() -> None:
    with lossproof.recording():
        loss = (leaf(1, 2, dtype=torch.float16) / (leaf(1, 3, dtype=torch.float16) + 1e-8)).sum()
    assert "`1e-08` is 0 in float16" in only(loss, "LP205").message
    with lossproof.recording():
        loss = (1 + 1e-9 - leaf(0.5, 0.25)).log().sum()
    assert "`1 + 1e-09` is exactly 1 in float32" in only(loss, "LP205").message


def test_without_a_recording_an_operand_that_is_still_zero_shows_it() -> None:
    x = leaf(0, 2, dtype=torch.float16)
    found = [each.rule for each in lossproof.audit((1 / (x.abs() + 1e-8)).sum())]
    assert "LP205" in found
    fine = [each.rule for each in lossproof.audit((leaf(1, 1) / (leaf(0, 2).abs() + 1e-8)).sum())]
    assert "LP205" not in fine


def test_the_epsilon_of_an_optimizer() -> None:
    net = nn.Linear(3, 1).half()
    loss = net(torch.ones(2, 3).half()).sum()
    (found,) = lossproof.audit(loss, optimizer=torch.optim.Adam(net.parameters()))
    assert "`eps=1e-08` of Adam is 0 in float16, the format of 2 of its parameters" in found.message
    assert not lossproof.audit(loss, optimizer=torch.optim.Adam(net.parameters(), eps=1e-4))
    assert not lossproof.audit(loss, optimizer=torch.optim.SGD(net.parameters(), lr=0.1))


# ---- guards that come too late


LATE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "where": lambda x: torch.where(x > 0, x.log(), 0.0),
    "masked_fill": lambda x: x.log().masked_fill(x <= 0, 0.0),
    "nan_to_num": lambda x: x.log().nan_to_num(0.0, 0.0, 0.0),
    "selection": lambda x: x.log()[x > 0],
    "put": lambda x: x.log().index_put((x <= 0,), torch.tensor(0.0)),
    "mask": lambda x: x.log() * (x > 0),
    "factor behind a root": lambda x: x.sqrt() * (x > 0).float(),
    "quotient": lambda x: torch.where(x != 0, 1 / x, 0.0),
    "overflow": lambda x: torch.where(x < 1, (100 * x).exp(), x),
    "xlogy": lambda x: torch.xlogy(x, x),
}


@pytest.mark.parametrize("form", LATE)
def test_a_guard_that_comes_too_late(form: str) -> None:
    x = leaf(0, 2, 0.5)
    message = only(LATE[form](x).sum(), "LP206").message
    assert "1 of 3 operands there have a derivative that is not finite" in message
    assert "(row 1)" in message if form == "overflow" else "(row 0)" in message


def test_the_first_of_two_wheres_is_the_guard() -> None:
    x = leaf(0, 2)
    assert silent(torch.where(x > 0, torch.where(x > 0, x, 1.0).log(), 0.0).sum())
    assert silent(x[x > 0].log().sum())


def test_a_guard_behind_a_sum_over_the_row_counts_for_the_row() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 1.0]], requires_grad=True)
    rows = x.log().sum(1)
    assert "(row 1 of 2)" in only(rows[torch.tensor([True, False])].mean(), "LP206").message


def test_missing_targets_behind_nansum() -> None:
    target = torch.tensor([1.0, float("nan"), 2.0])
    assert "`nansum` comes after" in only(((leaf(1, 2, 3) - target) ** 2).nansum(), "LP206").message
    kept = ~target.isnan()
    assert silent(((leaf(1, 2, 3)[kept] - target[kept]) ** 2).sum())


# ---- a loss that is no number, outputs that learn nothing


def test_a_loss_that_is_no_number() -> None:
    found = only(F.mse_loss(leaf(1, 2), torch.tensor([float("nan"), 1.0])), "LP803")
    assert "the loss is NaN" in found.message
    assert "lossproof.autopsy(loss)" in found.message
    many = F.mse_loss(leaf(1, 2, 3), torch.tensor([float("nan"), 1.0, float("inf")]), reduction="none")
    assert "of 3 losses 1 NaN and 1 infinite" in only(many, "LP803").message


def test_saturated_and_wrong_is_told_saturated_and_right_is_not() -> None:
    x = leaf(20, 2, -1)
    found = only(F.mse_loss(x.sigmoid(), torch.zeros(3)), "LP804")
    assert found.severity.value == "warning"
    assert "1 of 3 outputs that are wrong (of 3) lies in the flat part of `sigmoid` (row 0)" in found.message
    assert silent(F.mse_loss(x.sigmoid(), torch.tensor([1.0, 0.0, 0.0])))


def test_an_output_that_is_dead_in_every_row() -> None:
    x = (torch.ones(8, 3) * torch.tensor([1.0, -1.0, 2.0])).requires_grad_()
    found = only(F.l1_loss(x.relu(), torch.full((8, 3), 0.5)), "LP804")
    assert found.severity.value == "error"
    assert "column 1 in every row of the batch" in found.message


def test_features_that_are_compared_are_no_outputs() -> None:
    layer = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU())
    picture = torch.rand(2, 3, 9, 9, requires_grad=True)
    assert silent(F.mse_loss(layer(picture), layer(torch.rand(2, 3, 9, 9)).detach()))


def test_logits_that_are_cut_before_a_loss_on_logits() -> None:
    z = torch.full((6, 1), -30.0, requires_grad=True)
    found = only(F.binary_cross_entropy_with_logits(z.clamp(-10, 10), torch.ones(6, 1)), "LP804")
    assert "6 of 6 outputs that are wrong (of 6) lie in the flat part of `clamp`" in found.message
    assert silent(F.binary_cross_entropy_with_logits(z.clamp(-10, 10), torch.zeros(6, 1)))
    classes = torch.full((6, 3), -9.0, requires_grad=True)
    assert only(F.cross_entropy(classes.relu(), torch.tensor([0, 1, 2, 0, 1, -100])), "LP804")


def test_what_is_cut_on_purpose_is_left_alone() -> None:
    ratio, gain = leaf(1.5, 0.5, 1), torch.tensor([1.0, -1.0, 1.0])
    assert silent(-torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean())
    value, wanted = leaf(1.5, 0.5), torch.ones(2)
    assert silent(torch.max((value - wanted) ** 2, (value.clamp(-0.2, 0.2) - wanted) ** 2).mean())
    assert silent(F.relu(1 - leaf(3, 0.5)).mean())


def test_a_softmax_counts_rows() -> None:
    logits = torch.tensor([[300.0, 0.0], [1.0, 0.0]], requires_grad=True)
    found = only(F.mse_loss(logits.softmax(1), torch.tensor([[0.0, 1.0], [0.0, 1.0]])), "LP804")
    assert "1 of 2 rows that are wrong" in found.message


# ---- whatever the tensors are


def test_shapes_and_formats_that_hold_nothing_or_cannot_be_read() -> None:
    assert silent((torch.zeros(0, 3, requires_grad=True) / torch.zeros(0, 3)).sum())
    assert "the operand is exactly 0" in only(torch.tensor(0.0, requires_grad=True).log(), "LP202").message
    numbers = torch.ones(3, dtype=torch.complex64, requires_grad=True)
    assert silent((numbers / torch.ones(3, dtype=torch.complex64)).log().abs().sum())
    assert (
        lossproof.audit((torch.zeros(3, device="meta", requires_grad=True) / torch.zeros(3, device="meta")).sum()) == []
    )


def test_views_and_casts_between() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    late = torch.where(x.t().reshape(-1) > 0, x.t().sqrt().reshape(-1), 0.0)
    assert only(late.double().sum(), "LP206")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = nn.Linear(3, 2)(x)
        loss = (z / (z - z.detach())).float().nan_to_num(0.0, 0.0, 0.0).sum()
    assert only(loss, "LP206")


def test_a_subclass_is_read_as_what_it_is() -> None:
    class Picture(torch.Tensor):
        pass

    x = torch.ones(2, requires_grad=True).as_subclass(Picture)
    assert only((x / torch.zeros(2).as_subclass(Picture)).sum(), "LP201")


def test_a_second_derivative() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(x.norm(dim=1).sum(), x, create_graph=True)
    loss = (slope.norm(dim=1) - 1).pow(2).mean()
    assert only(loss, "LP206")
    assert torch.autograd.grad(loss, x)[0].isnan().all()


def test_nothing_is_changed() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    x = leaf(0, 20, 2)
    loss = torch.where(x > 0, x.log(), 0.0).sum() + F.mse_loss(x.sigmoid(), torch.zeros(3)) + (x / (x + 1e-8)).sum()
    lossproof.audit(loss)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.grad is None
    assert torch.is_grad_enabled()
    loss.backward()
