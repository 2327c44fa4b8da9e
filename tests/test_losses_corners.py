"""What is particular to a loss: known values, empty masks, long tails, frozen networks, guards that count, the
chooser."""

from __future__ import annotations

import math
import pickle

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from lossproof import losses as L  # noqa: E402

D = torch.float64


# --- focal ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("probability", "factor"), [(0.95, 0.0025), (0.75, 0.0625), (0.55, 0.2025)])
def test_focal_silences_by_the_known_factors(probability: float, factor: float) -> None:
    """(1 - p)² for p = 0.95, 0.75 and 0.55, in the binary and the multi-class form."""
    logit = torch.tensor([math.log(probability / (1 - probability))], dtype=D)
    entropy = -math.log(probability)
    binary = L.binary_focal_loss(logit, torch.ones(1, dtype=D))
    two = L.focal_loss(torch.stack([logit, torch.zeros_like(logit)], 1), torch.zeros(1, dtype=torch.long))
    assert binary.item() == pytest.approx(factor * entropy, rel=1e-9)
    assert two.item() == pytest.approx(factor * entropy, rel=1e-9)


def test_one_alpha_for_all_classes_is_refused() -> None:
    with pytest.raises(L.LossArgumentError, match="only rescales the loss"):
        L.focal_loss(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), alpha=0.25)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("gamma", [0.25, 0.5, 0.9])
def test_focal_below_one_is_finite_where_the_prediction_is_right(gamma: float, dtype: torch.dtype) -> None:
    x = torch.tensor([[4.0, 0.0], [20.0, 0.0], [1e4, 0.0]], dtype=dtype, requires_grad=True)
    L.focal_loss(x, torch.zeros(3, dtype=torch.long), gamma=gamma).backward()
    assert torch.isfinite(x.grad).all()
    z = torch.tensor([4.0, 20.0, 1e4], dtype=dtype, requires_grad=True)
    for target in (torch.ones(3), torch.full((3,), 1.0, dtype=torch.int64), torch.full((3,), 0.999)):
        (slope,) = torch.autograd.grad(L.binary_focal_loss(z, target, gamma=gamma), z)
        assert torch.isfinite(slope).all()


@given(
    st.lists(st.floats(-60, 60), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    st.integers(0, 2**12 - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_fused_and_the_plain_focal_agree(values: list[float], gamma: float, bits: int) -> None:
    x = torch.tensor(values, dtype=D)
    t = torch.tensor([(bits >> place) & 1 for place in range(len(values))])
    hard = x.clone().requires_grad_()
    plain = x.clone().requires_grad_()
    first = L.binary_focal_loss(hard, t, gamma=gamma, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(plain, t.double(), reduction="none")
    missed = torch.sigmoid(torch.where(t == 1, -plain, plain))
    second = (entropy * missed.clamp_min(1e-300) ** gamma).sum()
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(torch.autograd.grad(first, hard)[0], torch.autograd.grad(second, plain)[0])


def test_focal_alpha_from_counts_gives_both_classes_the_same_weight() -> None:
    alpha = L.focal_alpha(5, 95)
    assert alpha.item() == pytest.approx(0.95)
    assert (5 * alpha).item() == pytest.approx((95 * (1 - alpha)).item())
    assert 0.5 < L.focal_alpha(5, 95, beta=0.99).item() < 0.95
    with pytest.raises(L.LossArgumentError, match="counts"):
        L.focal_alpha(0, 0)


# --- overlap ----------------------------------------------------------------------------------------------------------

NOTHING = torch.full((1, 1, 8, 8), -20.0)
EVERYTHING = torch.full((1, 1, 8, 8), 20.0)
EMPTY = torch.zeros(1, 1, 8, 8)


@pytest.mark.parametrize("loss", [L.dice_loss, L.jaccard_loss, L.tversky_loss, L.generalized_dice_loss])
def test_false_positives_on_an_empty_mask_cost_something(loss: object) -> None:
    """The fault of several libraries: everything predicted on an image without the object, and the loss is 0."""
    x = EVERYTHING.clone().requires_grad_()
    value = loss(x, EMPTY)  # type: ignore[operator]
    assert value.item() == pytest.approx(1.0, abs=1e-3)
    assert loss(NOTHING, EMPTY).item() == pytest.approx(0.0, abs=1e-3)  # type: ignore[operator]
    middle = torch.zeros(1, 1, 8, 8, requires_grad=True)
    loss(middle, EMPTY).backward()  # type: ignore[operator]
    assert (middle.grad > 0).all()


def test_what_an_empty_mask_costs_is_said() -> None:
    x = torch.cat([EVERYTHING, EVERYTHING])
    t = torch.cat([EMPTY, torch.ones_like(EMPTY)])
    assert L.dice_loss(x, t, empty="skip").item() == pytest.approx(0.0, abs=1e-6)
    assert L.dice_loss(x, t, empty="penalize").item() == pytest.approx(0.5, abs=1e-6)
    assert L.dice_loss(NOTHING, EMPTY, empty="ratio", smooth=1.0).item() == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(L.LossArgumentError, match=r"`empty` should be one of 'penalize', 'skip', 'ratio'"):
        L.dice_loss(x, t, empty="zero")


def test_small_objects_count_as_much_as_large_ones_by_default() -> None:
    """One image is right on a large object, the other misses a small one."""
    t = torch.zeros(2, 1, 32, 32)
    t[0, 0, :30] = 1
    t[1, 0, :2, :2] = 1
    x = torch.full_like(t, -20.0)
    x[0][t[0] == 1] = 20.0
    assert L.dice_loss(x, t).item() == pytest.approx(0.5, abs=0.01)
    assert L.dice_loss(x, t, per_sample=False).item() < 0.01


def test_channels_can_be_weighed_and_background_left_out() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    each = L.dice_loss(x, y, reduction="none")
    weight = torch.tensor([0.0, 1.0, 3.0])
    torch.testing.assert_close(L.dice_loss(x, y, weight=weight), (each * weight).sum() / (2 * weight.sum()))
    torch.testing.assert_close(L.dice_loss(x, y, include_background=False), each[:, 1:].mean())
    with pytest.raises(L.LossArgumentError, match="each of the 3 channels"):
        L.dice_loss(x, y, weight=torch.ones(2))


def test_class_indices_for_one_channel_are_refused_with_what_to_do() -> None:
    with pytest.raises(L.LossArgumentError, match=r"unsqueeze\(1\)"):
        L.dice_loss(torch.randn(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_tversky_prices_what_it_says(alpha: float) -> None:
    x = torch.tensor([[[20.0, 20.0, -20.0, -20.0]]])
    t = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    expected = 1 - 1 / (1 + alpha * 1 + (1 - alpha) * 1)
    assert L.tversky_loss(x, t, alpha=alpha, beta=1 - alpha).item() == pytest.approx(expected, abs=1e-5)


def test_signed_distance_is_negative_inside_and_boundary_loss_follows_it() -> None:
    pytest.importorskip("scipy")
    mask = torch.zeros(1, 1, 9, 9)
    mask[0, 0, 3:6, 3:6] = 1
    distance = L.signed_distance(mask)
    assert distance[0, 0, 4, 4] == -1
    assert distance[0, 0, 0, 4] == 3
    right, wrong = torch.where(mask == 1, 20.0, -20.0), torch.where(mask == 1, -20.0, 20.0)
    assert L.boundary_loss(right, distance) < L.boundary_loss(wrong, distance)
    assert (L.signed_distance(torch.zeros(1, 1, 3, 3)) == 0).all()


# --- cross entropy ----------------------------------------------------------------------------------------------------


def test_half_precision_of_many_targets_is_finite() -> None:
    """65,536 float16 targets: torch's own cross entropy is NaN with a gradient of exactly 0 there, on the CPU."""
    x = torch.randn(1, 3, 256, 256).half().requires_grad_()
    value = L.cross_entropy(x, torch.randint(0, 3, (1, 256, 256)))
    value.backward()
    assert 0.5 < value.item() < 5
    assert (x.grad != 0).any()


def test_chunks_give_the_same_in_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossproof.losses import classes

    monkeypatch.setattr(classes, "_PIECE", 64)
    x = torch.randn(20, 30, dtype=D, requires_grad=True)
    y = torch.randint(0, 30, (20,))
    y[3] = -100
    value = L.cross_entropy(x, y, chunked=True, weight=torch.rand(30, dtype=D))
    expected = L.cross_entropy(x, y, weight=torch.rand(30, dtype=D) * 0 + 1)
    assert value.isfinite()
    (slope,) = torch.autograd.grad(L.cross_entropy(x, y, chunked=True), x)
    (other,) = torch.autograd.grad(expected, x)
    torch.testing.assert_close(slope, other)


def test_soft_targets_are_those_of_torch() -> None:
    x, share = torch.randn(5, 4, dtype=D), torch.rand(5, 4, dtype=D).softmax(1)
    weight = torch.rand(4, dtype=D)
    for more in ({}, {"label_smoothing": 0.1}, {"weight": weight}, {"weight": weight, "label_smoothing": 0.3}):
        torch.testing.assert_close(L.cross_entropy(x, share, **more), F.cross_entropy(x, share, **more))


def test_mixed_examples_are_the_mixed_loss() -> None:
    x, a, b = torch.randn(5, 4, dtype=D), torch.arange(5) % 4, torch.arange(5).flip(0) % 4
    mixed = 0.3 * F.one_hot(a, 4).double() + 0.7 * F.one_hot(b, 4).double()
    torch.testing.assert_close(L.mixed_cross_entropy(x, a, b, 0.3), F.cross_entropy(x, mixed))
    share = torch.rand(5, dtype=D)
    assert L.mixed_cross_entropy(x, a, b, share, reduction="none").shape == (5,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.randn(4, 3), torch.zeros(4, 3)[:3]), r"to be probabilities. Found \(3, 3\)"),
        ((torch.randn(4, 3), torch.zeros(4, 3, dtype=torch.long)), r"have the shape \(4,\)"),
        ((torch.randn(4, 3), torch.zeros(4, dtype=torch.bool)), "integer dtype"),
        ((torch.tensor(1.0), torch.tensor(0)), "a dimension for the classes"),
    ],
)
def test_targets_that_do_not_fit_are_refused(arguments: tuple[torch.Tensor, torch.Tensor], said: str) -> None:
    with pytest.raises(L.LossArgumentError, match=said):
        L.cross_entropy(*arguments)


# --- long tails -------------------------------------------------------------------------------------------------------


def test_class_balanced_weights_lie_between_none_and_the_inverse_frequency() -> None:
    counts = torch.tensor([1000, 100, 10, 0])
    inverse = L.class_balanced_weight(counts, beta=1.0)
    torch.testing.assert_close(inverse[:2] / inverse[1], torch.tensor([0.1, 1.0]))
    none = L.class_balanced_weight(counts, beta=0.0)
    torch.testing.assert_close(none, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    between = L.class_balanced_weight(counts, beta=0.99)
    exact = [(1 - 0.99) / (1 - 0.99**n) for n in (1000, 100, 10)]
    torch.testing.assert_close(between[:3], torch.tensor([3 * each / sum(exact) for each in exact]))


def test_logit_adjustment_makes_the_frequent_class_earn_it() -> None:
    counts = torch.tensor([99.0, 1.0])
    x = torch.zeros(2, 2)
    values = L.logit_adjusted_loss(x, torch.tensor([0, 1]), counts, reduction="none")
    assert values[1] > 4 > 0.1 > values[0]


# --- regression -------------------------------------------------------------------------------------------------------


def test_the_sound_log_ratio_does_not_fall_without_bound() -> None:
    target = torch.ones(3)
    values = [L.log_ratio_loss(torch.full((3,), x), target).item() for x in (-50.0, 0.0, 50.0)]
    assert values[1] == 0
    assert values[0] == values[2] == pytest.approx(2500)
    with pytest.raises(RuntimeError, match="more than 0"):
        L.log_ratio_loss(torch.zeros(3), torch.tensor([1.0, 0.0, 1.0]))


def test_a_quantile_loss_finds_the_quantile() -> None:
    torch.manual_seed(0)
    y = torch.randn(4000)
    guesses = torch.linspace(-3, 3, 601)
    losses = torch.stack([L.quantile_loss(guess.expand_as(y), y, 0.9) for guess in guesses])
    assert guesses[losses.argmin()].item() == pytest.approx(y.quantile(0.9).item(), abs=0.02)
    several = L.quantile_loss(torch.zeros(5, 3), torch.ones(5), [0.1, 0.5, 0.9], reduction="none")
    torch.testing.assert_close(several[0], torch.tensor([0.1, 0.5, 0.9]))
    with pytest.raises(L.LossArgumentError, match=r"`quantiles` should lie in \(0, 1\)"):
        L.quantile_loss(torch.zeros(5), torch.ones(5), 1.0)


def test_weights_of_two_everywhere_change_nothing() -> None:
    x, y = torch.randn(5, 2), torch.randn(5, 2)
    torch.testing.assert_close(L.mse_loss(x, y, weight=torch.full((5, 1), 2.0)), L.mse_loss(x, y))


def test_scaled_targets_come_back() -> None:
    y = torch.stack([torch.randn(50) * 100 + 7, torch.full((50,), 3.0)], 1)
    scaler = L.TargetScaler((2,)).fit(y)
    z = scaler(y)
    assert abs(z[:, 0].mean().item()) < 1e-5
    assert z[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert (z[:, 1] == 0).all()
    torch.testing.assert_close(scaler.inverse(z), y)
    again = L.TargetScaler((2,))
    again.load_state_dict(scaler.state_dict())
    torch.testing.assert_close(again(y), z)
    with pytest.raises(L.LossArgumentError, match="finite"):
        L.TargetScaler().fit(torch.tensor([1.0, float("nan")]))


# --- order, embeddings, preference ------------------------------------------------------------------------------------


def test_ordinal_predictions_count_the_thresholds_that_are_passed() -> None:
    x = torch.tensor([[5.0, 5.0, -5.0], [-5.0, -5.0, -5.0], [5.0, 5.0, 5.0]])
    assert L.coral_class(x).tolist() == [2, 0, 3]
    assert L.corn_class(x).tolist() == [2, 0, 3]
    near = L.coral_loss(x[:1], torch.tensor([1]))
    far = L.coral_loss(x[:1], torch.tensor([0]))
    assert far > near
    with pytest.raises(RuntimeError, match=r"\[0, K - 1\]"):
        L.coral_loss(x, torch.tensor([0, 1, 4]))


def test_equal_and_zero_embeddings_have_finite_gradients() -> None:
    same = torch.ones(3, 4, requires_grad=True)
    L.triplet_loss(same, same.detach(), same.detach()).backward()
    assert torch.isfinite(same.grad).all()
    zero = torch.zeros(3, 4, requires_grad=True)
    for value in (
        L.info_nce_loss(zero, zero),
        L.nt_xent_loss(zero, zero),
        L.supervised_contrastive_loss(zero, torch.tensor([0, 0, 1])),
        L.vicreg_loss(zero, zero),
        L.barlow_twins_loss(zero, zero),
    ):
        (slope,) = torch.autograd.grad(value, zero)
        assert torch.isfinite(value)
        assert torch.isfinite(slope).all()


def test_a_small_temperature_costs_no_digits() -> None:
    """Views at cosine -0.9 and a temperature of 0.02: a capped logarithm elsewhere gives 44.6 for 48.8, and half the
    slope."""
    angle = math.acos(-0.9)
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[math.cos(angle), math.sin(angle)], [0.0, 1.0]])
    single = L.nt_xent_loss(a, b, temperature=0.02, reduction="none")
    double = L.nt_xent_loss(a.double(), b.double(), temperature=0.02, reduction="none")
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5)


def test_one_row_has_nothing_to_be_told_apart_from() -> None:
    for loss in (L.info_nce_loss, L.nt_xent_loss, L.n_pairs_loss, L.vicreg_loss, L.barlow_twins_loss):
        with pytest.raises(L.LossArgumentError, match="at least two rows"):
            loss(torch.randn(1, 4), torch.randn(1, 4))


def test_vicreg_is_its_three_terms() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(6, 3, dtype=D), torch.randn(6, 3, dtype=D)
    expected = 25 * F.mse_loss(a, b)
    for z in (a, b):
        covariance = torch.cov(z.T)
        expected = expected + 25 * F.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean() / 2
        expected = expected + (covariance**2).sum() / 3 - (covariance.diagonal() ** 2).sum() / 3
    torch.testing.assert_close(L.vicreg_loss(a, b), expected)


def test_barlow_twins_is_zero_for_equal_views_without_correlation() -> None:
    a = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=D)
    assert L.barlow_twins_loss(a, a, epsilon=1e-12).item() == pytest.approx(0, abs=1e-9)
    assert L.barlow_twins_loss(a, -a, epsilon=1e-12).item() == pytest.approx(8, abs=1e-6)


def test_lambdarank_asks_most_of_what_moves_ndcg_most() -> None:
    y = torch.tensor([[3.0, 1.0, 0.0, 0.0]])
    x = torch.tensor([[0.0, 1.0, 2.0, 3.0]], requires_grad=True)
    value = L.lambdarank_loss(x, y)
    value.backward()
    assert x.grad[0, 0] < x.grad[0, 1] < 0
    right = L.lambdarank_loss(-x.detach() * 5, y)
    assert right < value
    assert L.lambdarank_loss(x, torch.zeros(1, 4)).item() == 0
    padded = torch.cat([x.detach(), torch.full((1, 2), float("nan"))], 1).requires_grad_()
    mask = torch.tensor([[True] * 4 + [False] * 2])
    again = L.lambdarank_loss(padded, torch.cat([y, torch.zeros(1, 2)], 1), where=mask)
    torch.testing.assert_close(again, value)
    (slope,) = torch.autograd.grad(again, padded)
    assert torch.isfinite(slope).all()


def test_the_logarithm_of_an_answer_is_that_of_its_tokens() -> None:
    logits = torch.randn(2, 5, 7, dtype=D)
    labels = torch.randint(0, 7, (2, 5))
    mask = torch.tensor([[False, False, True, True, True], [False, True, True, False, False]])
    found = L.sequence_log_probability(logits, labels, mask)
    for row in range(2):
        expected = sum(
            torch.log_softmax(logits[row, at - 1], 0)[labels[row, at]] for at in range(1, 5) if mask[row, at]
        )
        torch.testing.assert_close(found[row], expected)
    labels[~mask] = -100
    torch.testing.assert_close(L.sequence_log_probability(logits, labels, mask), found)


def test_preference_references_take_no_gradient() -> None:
    values = [torch.randn(4, requires_grad=True) for _ in range(4)]
    L.dpo_loss(*values).backward()
    assert values[0].grad is not None
    assert values[2].grad is None
    with pytest.raises(L.LossArgumentError, match="have the shape of `chosen_logps`"):
        L.dpo_loss(values[0], values[1][:3], values[2], values[3])


def test_a_teacher_that_is_certain_is_no_nan() -> None:
    x = torch.randn(2, 3, requires_grad=True)
    teacher = torch.tensor([[1e4, 0.0, -1e4], [float("-inf"), 0.0, 0.0]])
    value = L.distillation_loss(x, teacher, temperature=1.0)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(x.grad).all()


# --- perceptual -------------------------------------------------------------------------------------------------------


def vgg(*blocks: int, batch_norm: bool = False) -> nn.Module:
    """The features of a VGG, as torchvision builds them, with few channels."""
    layers: list[nn.Module] = []
    channels = 3
    for block, depth in enumerate(blocks):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, 4 * (block + 1), 3, padding=1))
            channels = 4 * (block + 1)
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.MaxPool2d(2))
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    network.classifier = nn.Linear(8, 5)
    return network


@pytest.mark.parametrize(
    ("blocks", "batch_norm", "name", "index"),
    [
        ((2, 2, 3, 3, 3), False, "relu3_3", 15),
        ((2, 2, 3, 3, 3), False, "pool3", 16),
        ((2, 2, 4, 4, 4), False, "relu5_4", 35),
        ((2, 2, 3, 3, 3), True, "relu3_3", 22),
        ((2, 2, 4, 4, 4), True, "relu4_1", 29),
    ],
)
def test_layers_of_a_vgg_have_their_right_index(
    blocks: tuple[int, ...], batch_norm: bool, name: str, index: int
) -> None:
    assert L.vgg_layers(vgg(*blocks, batch_norm=batch_norm).features)[name] == str(index)


def test_a_perceptual_network_stays_frozen_and_in_eval_mode() -> None:
    torch.manual_seed(0)
    original = vgg(2, 2, batch_norm=True).train()
    loss = L.PerceptualLoss(original, {"relu1_2": 1.0, "relu2_1": 0.5}, style_weight=10.0)
    loss.train()
    assert not any(module.training for module in loss.network.modules())
    assert not list(filter(lambda p: p.requires_grad, loss.parameters()))
    assert all(p.requires_grad for p in original.parameters())
    image, aim = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(2, 3, 16, 16, requires_grad=True)
    value = loss(image, aim)
    value.backward()
    assert image.grad.abs().sum() > 0
    assert aim.grad is None
    assert loss(image, image).item() == 0


def test_kept_features_are_not_overwritten_in_place() -> None:
    """The output of a convolution in front of an in-place ReLU is the convolution's, negative values and all."""
    torch.manual_seed(0)
    network = vgg(2)
    images = torch.rand(1, 3, 8, 8)
    loss = L.PerceptualLoss(network, ["conv1_1"], mean=None, std=None)
    torch.testing.assert_close(loss.features(images)["conv1_1"], network.features[0](images))
    assert (loss.features(images)["conv1_1"] < 0).any()


def test_a_layer_that_is_not_there_is_named_with_its_neighbours() -> None:
    with pytest.raises(L.LossArgumentError, match=r"relu1_2"):
        L.PerceptualLoss(vgg(2), ["relu1_3"])
    backbone = nn.Sequential()
    backbone.add_module("stem", nn.Conv2d(3, 4, 3))
    with pytest.raises(L.LossArgumentError, match="stem"):
        L.PerceptualLoss(backbone, ["stam"])
    assert set(L.PerceptualLoss(backbone, ["stem"]).features(torch.rand(1, 3, 8, 8))) == {"stem"}


# --- modules ----------------------------------------------------------------------------------------------------------


def test_every_function_has_its_module_and_gives_the_same() -> None:
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    alpha = torch.rand(4)
    module = L.FocalLoss(gamma=1.5, alpha=alpha)
    torch.testing.assert_close(module(x, y), L.focal_loss(x, y, gamma=1.5, alpha=alpha))
    assert "alpha" in dict(module.named_buffers())
    assert repr(module) == "FocalLoss(gamma=1.5, alpha=(4,))"
    assert "(1 - p_y)^γ" in L.FocalLoss.__doc__
    again = pickle.loads(pickle.dumps(module))
    torch.testing.assert_close(again(x, y), module(x, y))
    counts = torch.tensor([10.0, 20.0, 5.0, 1.0])
    torch.testing.assert_close(L.LDAMLoss(counts)(x, y), L.ldam_loss(x, y, counts))
    torch.testing.assert_close(L.QuantileLoss(0.3)(x, x + 1), L.quantile_loss(x, x + 1, 0.3))
    weight = torch.rand(5, 4)
    torch.testing.assert_close(L.MSELoss()(x, x + 1, weight=weight), L.mse_loss(x, x + 1, weight=weight))
    with pytest.raises(TypeError, match="gama"):
        L.FocalLoss(gama=2.0)


@pytest.mark.parametrize("name", sorted(name for name in L.__all__ if name.endswith("_loss")))
def test_every_function_says_what_it_takes_and_where_it_is_from(name: str) -> None:
    text = getattr(L, name).__doc__
    assert "``" in text.splitlines()[0] or "``" in text
    assert "Args:" in text
    assert "shape" in text or "(N" in text or "as in" in text


# --- primitives -------------------------------------------------------------------------------------------------------


def test_guards_are_exact_where_nothing_is_wrong_and_count_where_it_is() -> None:
    L.guarded(reset=True)
    value = torch.tensor([2.0, 0.0, -1.0, 1e-30], requires_grad=True)
    logarithm = L.safe_log(value)
    assert logarithm[0].item() == pytest.approx(math.log(2))
    (slope,) = torch.autograd.grad(logarithm.sum(), value)
    assert torch.isfinite(logarithm).all()
    assert (slope > 0).all()
    quotient = L.safe_div(torch.ones(3), torch.tensor([2.0, 0.0, 1e-30]))
    assert quotient.tolist() == pytest.approx([0.5, 0.0, 1e30])
    root = L.safe_sqrt(torch.tensor([4.0, 0.0, -1.0], requires_grad=True), name="distance")
    assert root.tolist() == [2.0, 0.0, 0.0]
    assert L.guarded() == {"distance": 2, "safe_div": 1, "safe_log": 3}
    assert L.guarded(reset=True)
    assert L.guarded() == {}


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20))
@settings(max_examples=80, deadline=None)
def test_guards_are_finite_with_finite_gradients(values: list[float]) -> None:
    x = torch.tensor(values, requires_grad=True)
    for guard in (L.safe_log, L.safe_sqrt):
        y = guard(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert torch.isfinite(y).all()
        assert torch.isfinite(slope).all()
        order = x.detach().argsort()
        assert (y.detach()[order].diff() >= 0).all()


def test_the_masked_mean_of_nothing_is_zero_and_hears_no_nan() -> None:
    x = torch.tensor([[1.0, float("nan")], [3.0, 5.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, True]])
    value = L.masked_mean(x, mask)
    assert value.item() == 3
    value.backward()
    assert torch.isfinite(x.grad).all()
    assert L.masked_mean(x, torch.zeros(2, 2, dtype=torch.bool)).item() == 0
    assert L.masked_mean(x, mask, dim=1).tolist() == [1.0, 4.0]
    with pytest.raises(L.LossArgumentError, match="bool"):
        L.masked_mean(x, mask.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, D], ids=str)
def test_the_epsilon_of_a_dtype_survives_in_it(dtype: torch.dtype) -> None:
    epsilon = L.dtype_epsilon(dtype)
    one = torch.ones((), dtype=dtype)
    assert one + epsilon > one
    assert torch.tensor(epsilon, dtype=dtype) > 0
    assert torch.isfinite(torch.log(torch.tensor(epsilon, dtype=dtype)))


def test_a_loss_of_ones_own_begins_with_checks() -> None:
    x = torch.randn(3)
    assert L.checked(x, name="input") is x
    with pytest.raises(L.LossArgumentError, match=r"`target` should have the shape \(3,\)"):
        L.checked(torch.randn(3, 1), name="target", like=x)
    with pytest.raises(RuntimeError, match="`input` should be finite"):
        L.checked(torch.tensor([float("nan")]), name="input")


# --- the chooser ------------------------------------------------------------------------------------------------------


def targets(kind: str) -> torch.Tensor:
    torch.manual_seed(0)
    return {
        "even": torch.randint(0, 2, (400,)),
        "rare": (torch.rand(4000) < 0.01).long(),
        "classes": torch.randint(0, 5, (400,)),
        "tail": torch.cat([torch.zeros(900), torch.ones(90), torch.full((10,), 2)]).long(),
        "labels": (torch.rand(400, 20) < 0.01).float(),
        "masks": (torch.rand(4, 32, 32) < 0.02).long(),
        "normal": torch.randn(500),
        "heavy": torch.distributions.StudentT(1.5).sample((500,)),
        "prices": torch.exp(torch.randn(500) * 3 + 5),
        "poisson": torch.poisson(torch.full((500,), 3.0)),
        "bursts": torch.poisson(torch.full((500,), 3.0) * torch.exp(torch.randn(500))),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "more", "loss"),
    [
        ("even", {}, "binary_cross_entropy_with_logits"),
        ("rare", {}, "binary_cross_entropy_with_logits"),
        ("rare", {"easy_examples": 0.9}, "binary_focal_loss"),
        ("rare", {"easy_examples": 0.1}, "binary_cross_entropy_with_logits"),
        ("classes", {}, "cross_entropy"),
        ("classes", {"ordinal": True}, "corn_loss"),
        ("classes", {"noisy_labels": 0.3}, "generalized_cross_entropy_loss"),
        ("tail", {}, "logit_adjusted_loss"),
        ("tail", {"calibrated": True}, "cross_entropy"),
        ("labels", {}, "asymmetric_loss"),
        ("masks", {}, "dice_cross_entropy_loss"),
        ("normal", {}, "mse_loss"),
        ("heavy", {}, "huber_loss"),
        ("prices", {}, "log_ratio_loss"),
        ("poisson", {}, "poisson_nll_loss"),
        ("bursts", {}, "negative_binomial_nll_loss"),
    ],
)
def test_the_choice_follows_what_is_measured(kind: str, more: dict[str, object], loss: str) -> None:
    choice = L.recommend(targets=targets(kind), **more)
    assert choice.loss == loss
    assert hasattr(L, loss)
    assert choice.because
    assert loss in str(choice)


def test_the_code_of_a_choice_runs() -> None:
    import lossproof

    choice = L.recommend(targets=targets("rare"))
    assert choice.settings["pos_weight"] == pytest.approx(float((targets("rare") == 0).sum() / targets("rare").sum()))
    scope = {"lossproof": lossproof, "logits": torch.randn(4000), "target": targets("rare")}
    exec(choice.code, scope)
    assert torch.isfinite(scope["loss"])


def test_what_cannot_be_described_is_refused() -> None:
    for wrong, said in (
        (torch.tensor([]), "at least one"),
        (torch.tensor([1.0, float("nan")]), "finite"),
        (torch.tensor([-1, 2, 3]), "class indices"),
    ):
        with pytest.raises(L.LossArgumentError, match=said):
            L.describe_targets(wrong)
    with pytest.raises(L.LossArgumentError, match="`task` should be given"):
        L.recommend()
    with pytest.raises(L.LossArgumentError, match="'embedding'"):
        L.recommend(task="clustering")


def test_targets_are_described_as_they_are() -> None:
    rare = L.describe_targets(targets("tail"))
    assert (rare.kind, rare.counts, rare.ratio) == ("multi-class", (900, 90, 10), 90.0)
    mask = torch.zeros(4, 8, 8, dtype=torch.long)
    mask[0, :4] = 1
    mask[1, :4] = 255
    seen = L.describe_targets(mask, ignore_index=255)
    assert seen.kind == "segmentation"
    assert seen.empty == 0.75
    assert seen.foreground == pytest.approx(32 / (256 - 32))
    assert L.describe_targets(torch.tensor([0, 1, 1, 3]), classes=5).unseen == (2, 4)


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "target", "said"),
    [
        (L.binary_focal_loss, torch.tensor([0.0, 2.0]), r"`target` should lie in \[0, 1\]. Found values from 0 to 2"),
        (L.binary_cross_entropy_with_logits, torch.tensor([0.0, -1.0]), r"Found values from -1 to 0"),
        (L.asymmetric_loss, torch.tensor([0.0, float("nan")]), r"Found values from nan to nan"),
    ],
)
def test_targets_out_of_range_are_told_with_what_was_found(loss: object, target: torch.Tensor, said: str) -> None:
    with pytest.raises(L.LossArgumentError, match=said):
        loss(torch.randn(2), target)  # type: ignore[operator]


def test_a_class_that_is_not_there_is_told_with_the_range() -> None:
    for loss in (L.cross_entropy, L.focal_loss, L.generalized_cross_entropy_loss):
        with pytest.raises(L.LossArgumentError, match=r"`target` should lie in \[0, 2\]. Found values from 0 to 3"):
            loss(torch.randn(2, 3), torch.tensor([0, 3]))
    with pytest.raises(L.LossArgumentError, match=r"\[0, 2\]"):
        L.dice_loss(torch.randn(1, 3, 2, 2), torch.full((1, 2, 2), 255))
    assert L.dice_loss(torch.randn(1, 3, 2, 2), torch.full((1, 2, 2), 255), ignore_index=255).item() == 0
