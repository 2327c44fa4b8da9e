"""Many objectives at once: shares are measured right, weights do what they say, and no task is hurt unseen."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from lossproof import balance as B  # noqa: E402
from lossproof.balance.aggregate import AGGREGATORS, on_unit_rows  # noqa: E402

D = torch.float64


class Net(nn.Module):
    """A trunk, and a head for each task."""

    def __init__(self, heads: int = 3) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(heads))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk(x)


def step(scales: tuple[float, ...] = (1.0, 5000.0, 0.3), seed: int = 0) -> tuple[Net, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    net = Net(len(scales))
    return net, losses(net, scales)


def losses(net: Net, scales: tuple[float, ...], seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(16, 6, generator=generator), torch.randn(16, len(scales), generator=generator)
    z = net(x)
    return {
        f"t{i}": scale * F.mse_loss(head(z)[:, 0], y[:, i])
        for i, (scale, head) in enumerate(zip(scales, net.heads, strict=True))
    }


# --- what is given ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a": 1.0}, r"'a' should be a tensor, and is float \(\.item"),
        ({"a": torch.ones(3, requires_grad=True) * 2}, r"'a' should be one number, and has the shape \(3,\)"),
        ({"a": torch.tensor(1.0)}, r"'a' has no graph"),
        ({}, "no loss"),
        (torch.ones((), requires_grad=True), "one tensor"),
        ({"b": torch.ones((), requires_grad=True) * 1}, r"'b' not known"),
        ({"a": torch.ones((), requires_grad=True) * float("nan")}, r"loss of task 'a' is not finite: nan"),
    ],
)
def test_what_cannot_be_balanced_is_named(given: object, said: str) -> None:
    with pytest.raises(B.TaskError, match=said):
        B.Fixed(["a"])(given)  # type: ignore[arg-type]


def test_two_tasks_of_one_name_and_negative_weights_are_refused() -> None:
    with pytest.raises(B.TaskError, match="one name: task 'a'"):
        B.Fixed(["a", "b", "a"])
    with pytest.raises(B.TaskError, match="falls without bound"):
        B.Fixed({"a": 1.0, "b": -0.1})
    with pytest.raises(B.TaskError, match="no floor"):
        B.minus(torch.ones((), requires_grad=True) * 2)


def test_a_loss_that_is_not_finite_can_be_left_out() -> None:
    good = torch.ones((), requires_grad=True)
    total = B.Fixed(["a", "b"], non_finite="skip")({"a": good * 2, "b": good * float("inf")})
    assert total.item() == 2
    with pytest.raises(B.TaskError, match="no task has a finite loss"):
        B.Fixed(["b"], non_finite="skip")({"b": good * float("inf")})


def test_a_task_may_be_missing_from_a_step() -> None:
    net, given = step()
    for balancer in (
        B.InverseScale(list(given)),
        B.DynamicAverage(list(given)),
        B.RandomWeights(list(given)),
        B.Famo(list(given)),
        B.GradNorm(list(given)),
        B.GradientBalancer(list(given)),
        B.Uncertainty(dict.fromkeys(given, "regression")),
        B.Tuner(list(given)),
        B.Alternation(list(given)),
    ):
        balancer(losses(net, (1.0, 5000.0, 0.3))).backward()
        some = {name: loss for name, loss in losses(net, (1.0, 5000.0, 0.3)).items() if name != "t1"}
        balancer(some).backward()


# --- measuring --------------------------------------------------------------------------------------------------------


def test_shares_are_those_of_losses_and_of_gradients_at_what_is_shared() -> None:
    net, given = step()
    seen = B.measure(given)
    values = torch.stack([loss.detach() for loss in given.values()])
    trunk = list(net.trunk.parameters())
    norms = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)]).norm()
            for loss in given.values()
        ]
    )
    for place, name in enumerate(given):
        assert seen.loss_share[name].mean == pytest.approx(float(values[place] / values.sum()), rel=1e-5)
        assert seen.gradient_share[name].mean == pytest.approx(float(norms[place] / norms.sum()), rel=1e-4)
    assert seen.dominant == "t1"
    assert "t1 decides the step" in str(seen)
    assert all(p.grad is None for p in net.parameters())


def test_several_batches_give_intervals() -> None:
    net, _ = step()
    seeds = iter(range(6))
    seen = B.measure(lambda: losses(net, (1.0, 1.0, 1.0), seed=next(seeds)), batches=6)
    assert seen.batches == 6
    share = seen.gradient_share["t0"]
    assert share.low < share.mean < share.high
    assert seen.dominant is None


def test_opposed_tasks_are_seen_to_conflict(tmp_path: object) -> None:
    p = nn.Parameter(torch.ones(4))
    given = {"up": (p - 2).pow(2).sum(), "down": (p + 2).pow(2).sum()}
    seen = B.measure(given)
    assert seen.cosine["up", "down"].mean == pytest.approx(-1)
    assert seen.conflicts == [("up", "down")]
    pytest.importorskip("matplotlib")
    path = tmp_path / "shares.svg"  # type: ignore[operator]
    seen.plot(path)
    assert "<svg" in path.read_text()


# --- weights from losses ----------------------------------------------------------------------------------------------


def test_inverse_scales_make_five_tasks_weigh_the_same() -> None:
    scales = (1.0, 5000.0, 50.0, 0.3, 200.0)
    p = torch.ones((), requires_grad=True)
    balancer = B.InverseScale(5, calibrate=3)
    for _ in range(3):
        total = balancer([p * scale for scale in scales])
    assert total.item() == pytest.approx(5)
    weights = balancer.weights({f"task{i}": p * scale for i, scale in enumerate(scales)})
    assert float(weights["task1"]) == pytest.approx(1 / 5000)
    later = balancer([p * scale / 2 for scale in scales])
    assert later.item() == pytest.approx(2.5), "after calibration the weights stand still"


@pytest.mark.parametrize("kind", ["regression", "classification", "absolute"])
def test_uncertainty_weights_find_their_optimum(kind: str) -> None:
    """At the optimum of s the weight is 1/L up to the form's own factor: regression ½/L, classification ½/L, absolute
    1/L."""
    balancer = B.Uncertainty({"a": kind, "b": kind})
    p = torch.ones((), requires_grad=True)
    optimizer = torch.optim.Adam(balancer.parameters(), lr=0.05)
    balancer.check(optimizer)
    for _ in range(600):
        optimizer.zero_grad()
        balancer({"a": p * 4.0, "b": p * 0.25}).backward()
        optimizer.step()
    weights = balancer.weights({"a": p, "b": p})
    half = 1.0 if kind == "absolute" else 0.5
    assert float(weights["a"]) == pytest.approx(half / 4.0, rel=0.02)
    assert float(weights["b"]) == pytest.approx(half / 0.25, rel=0.02)


def test_learnable_weights_that_nobody_holds_are_told_of_loudly() -> None:
    net, given = step((1.0, 2.0))
    balancer = B.Uncertainty(dict.fromkeys(given, "regression"))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with pytest.raises(B.TaskError, match="does not hold the weights"):
        balancer.check(optimizer)

    def train() -> None:
        for _ in range(25):
            balancer(losses(net, (1.0, 2.0))).backward()
            optimizer.step()

    with pytest.warns(UserWarning, match="LP503"):
        train()


def test_dynamic_average_raises_what_falls_slowest() -> None:
    p = torch.ones((), requires_grad=True)
    balancer = B.DynamicAverage(["slow", "fast"], temperature=1.0)
    for slow, fast in ((1.0, 1.0), (0.9, 0.5)):
        balancer({"slow": p * slow, "fast": p * fast})
        balancer.end_epoch()
    weights = balancer.weights({"slow": p, "fast": p})
    expected = 2 * torch.softmax(torch.tensor([0.9, 0.5]), 0)
    assert [float(each) for each in weights.values()] == pytest.approx(expected.tolist())


def test_random_weights_leave_the_trainings_random_numbers_alone() -> None:
    p = torch.ones((), requires_grad=True)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    balancer = B.RandomWeights(["a", "b"], seed=1)
    first = balancer({"a": p * 1, "b": p * 2}).item()
    torch.testing.assert_close(torch.rand(3), expected)
    saved = copy.deepcopy(balancer.state_dict())
    second = balancer({"a": p * 1, "b": p * 2}).item()
    balancer.load_state_dict(saved)
    assert balancer({"a": p * 1, "b": p * 2}).item() == second != first


def test_famo_raises_what_did_not_fall() -> None:
    p = torch.ones((), requires_grad=True)
    balancer = B.Famo(["a", "b"])
    for _ in range(40):
        balancer({"a": p * 1.0, "b": p * 1.0})
        balancer.update({"a": torch.tensor(1.0), "b": torch.tensor(0.5)})
    weights = balancer.weights({"a": p, "b": p})
    assert weights["a"] > 0.6 > weights["b"]
    with pytest.raises(B.TaskError, match="comes after"):
        B.Famo(["a"]).update({"a": torch.tensor(1.0)})


def test_the_tuner_raises_what_lags_keeps_a_log_and_stops() -> None:
    p = torch.ones((), requires_grad=True)
    tuner = B.Tuner({"good": "max", "slow": "max", "error": "min"}, best={"error": 0.0}, patience=2)
    given = {"good": p * 10.0, "slow": p * 0.1, "error": p * 100.0}
    assert tuner(given).item() == pytest.approx(3)
    tuner.end_round({"good": 0.5, "slow": 0.2, "error": 4.0})
    made = tuner.end_round({"good": 0.7, "slow": 0.2, "error": 3.0})
    raised = {each.task: each.after / each.before for each in made}
    assert raised == pytest.approx({"good": 1.0, "slow": 2.0, "error": 1.0})
    assert "slow" in str(made[1])
    assert "while others learnt" in str(made[1])
    for metrics in ({"good": 0.8, "slow": 0.4, "error": 2.0}, {"good": 0.85, "slow": 0.6, "error": 1.0}):
        tuner.end_round(metrics)
    assert tuner.done
    again = B.Tuner({"good": "max", "slow": "max", "error": "min"})
    again.load_state_dict(tuner.state_dict())
    assert again.done
    assert again.log == tuner.log
    with pytest.raises(B.TaskError, match="lacks task 'slow'"):
        tuner.end_round({"good": 1.0, "error": 0.0})


# --- weights from gradients -------------------------------------------------------------------------------------------


def gram(rows: torch.Tensor) -> torch.Tensor:
    return rows.double() @ rows.double().T


def cosines(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    update = weights @ rows.double()
    return rows.double() @ update / (rows.double().norm(dim=1) * update.norm()).clamp_min(1e-300)


@given(st.integers(2, 5), st.integers(0, 10_000), st.floats(0, 4))
@settings(max_examples=60, deadline=None)
def test_normalized_upgrad_hurts_no_task_at_any_ratio_of_scales(number: int, seed: int, decades: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(number, 8, generator=generator, dtype=D)
    rows = rows * 10 ** (decades * torch.rand(number, 1, generator=generator, dtype=D))
    weights = on_unit_rows(gram(rows), AGGREGATORS["upgrad"])
    assert (cosines(rows, weights) > -1e-4).all()


def test_from_unit_rows_the_known_case_is_fair_at_every_ratio() -> None:
    """g1 = s u, g2 = -u + v, g3 = w: from unit rows the worst cosine is the same whatever s is."""
    u, v, w = torch.eye(3, dtype=D)
    for scale in (1.0, 10.0, 100.0, 1e3, 5e4):
        rows = torch.stack([scale * u, -u + v, w])
        worst = cosines(rows, on_unit_rows(gram(rows), AGGREGATORS["upgrad"])).min().item()
        assert worst == pytest.approx(0.304, abs=0.001)


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_every_aggregator_takes_what_comes(name: str) -> None:
    aggregate = AGGREGATORS[name]
    torch.manual_seed(0)
    one = torch.randn(1, 5, dtype=D)
    assert cosines(one, aggregate(gram(one))).item() == pytest.approx(1)
    same = one.repeat(3, 1)
    assert (cosines(same, aggregate(gram(same))) > 0.999).all()
    zero = torch.cat([one, torch.zeros(1, 5, dtype=D)])
    assert torch.isfinite(aggregate(gram(zero))).all()
    opposed = torch.cat([one, -one])
    assert torch.isfinite(aggregate(gram(opposed))).all()


@pytest.mark.parametrize("name", ["mgda", "config", "upgrad", "cagrad", "mean"])
def test_the_order_of_tasks_does_not_matter(name: str) -> None:
    torch.manual_seed(1)
    rows = torch.randn(4, 7, dtype=D)
    order = torch.tensor([2, 0, 3, 1])
    straight = AGGREGATORS[name](gram(rows))[order]
    torch.testing.assert_close(straight, AGGREGATORS[name](gram(rows[order])), rtol=1e-3, atol=1e-4)


def test_mgda_is_the_shortest_vector_of_the_hull() -> None:
    rows = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=D)
    weights = AGGREGATORS["mgda"](gram(rows))
    torch.testing.assert_close(weights, torch.tensor([0.2, 0.8], dtype=D), rtol=1e-6, atol=1e-6)


def test_config_has_one_cosine_to_all() -> None:
    torch.manual_seed(0)
    rows = torch.randn(4, 9, dtype=D) * torch.tensor([[1.0], [10.0], [100.0], [0.1]], dtype=D)
    seen = cosines(rows, AGGREGATORS["config"](gram(rows)))
    torch.testing.assert_close(seen, seen[:1].expand(4))
    assert seen[0] > 0


def test_pcgrad_of_two_is_the_textbooks() -> None:
    a, b = torch.tensor([1.0, 0.0], dtype=D), torch.tensor([-1.0, 1.0], dtype=D)
    rows = torch.stack([a, b])
    expected = ((a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)) / 2
    torch.testing.assert_close(AGGREGATORS["pcgrad"](gram(rows)) @ rows, expected)


@pytest.mark.parametrize("name", ["upgrad", "mgda", "pcgrad", "config", "cagrad"])
def test_torchjd_agrees_where_it_is_installed(name: str) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    kinds = {
        "upgrad": "UPGrad",
        "mgda": "MGDA",
        "pcgrad": "PCGrad",
        "config": "ConFIG",
        "cagrad": "CAGrad",
    }
    try:
        peer = getattr(aggregation, kinds[name])(**({"c": 0.5} if name == "cagrad" else {}))
    except ImportError:
        pytest.skip("needs a solver")
    torch.manual_seed(0)
    rows = torch.randn(2 if name == "pcgrad" else 4, 9)
    expected = peer(rows)
    seen = (AGGREGATORS[name](gram(rows)) @ rows.double()).float()
    assert F.cosine_similarity(seen, expected, dim=0) > 0.99
    if name == "mgda":
        assert seen.norm() <= expected.norm() * 1.001


def test_a_step_gives_the_shared_the_weighted_and_the_heads_their_own_gradient() -> None:
    net, given = step()
    trunk = list(net.trunk.parameters())
    rows = [torch.autograd.grad(loss, trunk, retain_graph=True) for loss in given.values()]
    own = [
        torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
        for loss, head in zip(given.values(), net.heads, strict=True)
    ]
    balancer = B.GradientBalancer(list(given), aggregate="upgrad")
    balancer(given).backward()
    weights = balancer.weight
    for place, p in enumerate(trunk):
        expected = sum(w * row[place].double() for w, row in zip(weights, rows, strict=True))
        torch.testing.assert_close(p.grad.double(), expected, rtol=1e-4, atol=1e-6)
    for head, grads in zip(net.heads, own, strict=True):
        for p, grad in zip(head.parameters(), grads, strict=True):
            torch.testing.assert_close(p.grad, grad)


def test_gradients_at_the_features_pass_the_trunk_once() -> None:
    net, _ = step()
    passes = []
    net.trunk[0].weight.register_hook(lambda grad: passes.append(1))
    x = torch.randn(16, 6)
    z = net(x)
    given = {
        f"t{i}": scale * head(z).pow(2).mean()
        for i, (scale, head) in enumerate(zip((1, 100, 3), net.heads, strict=True))
    }
    balancer = B.GradientBalancer(3, aggregate="config")
    balancer.tasks = tuple(given)
    balancer(given, features=z).backward()
    assert len(passes) == 1
    assert all(p.grad is not None for p in net.parameters())


def test_the_gradients_of_a_plain_mean_are_those_of_backward() -> None:
    net, given = step((1.0, 2.0, 3.0))
    other = copy.deepcopy(net)
    B.GradientBalancer(list(given), aggregate="mean", normalize=False)(given).backward()
    (sum(losses(other, (1.0, 2.0, 3.0)).values()) / 3).backward()
    for p, q in zip(net.trunk.parameters(), other.trunk.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_a_row_of_nan_is_named_or_left_out() -> None:
    p, q = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))

    def given() -> dict[str, torch.Tensor]:
        z = p + q
        return {"fine": (z - 3).pow(2).sum(), "edge": torch.sqrt(p.pow(2).sum()) + z.sum()}

    with pytest.raises(B.TaskError, match="gradient of task 'edge'"):
        B.GradientBalancer(["fine", "edge"])(given())
    balancer = B.GradientBalancer(["fine", "edge"], non_finite="skip")
    balancer(given()).backward()
    assert torch.isfinite(p.grad).all()
    assert torch.isfinite(q.grad).all()
    assert (q.grad != 0).all()


def test_on_a_schedule_the_last_weights_hold() -> None:
    net, given = step()
    balancer = B.GradientBalancer(list(given), every=3)
    balancer(given).backward()
    weights = balancer.weight.clone()
    balancer(losses(net, (7.0, 1.0, 1.0), seed=5)).backward()
    torch.testing.assert_close(balancer.weight, weights)
    balancer(losses(net, (7.0, 1.0, 1.0), seed=5)).backward()
    balancer(losses(net, (7.0, 1.0, 1.0), seed=5)).backward()
    assert not torch.allclose(balancer.weight, weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_gradients_are_summed_in_single(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.full((300,), 5.0, dtype=dtype))
    given = {"a": (p * p).sum() * 4, "b": (p * 2).sum() / 10}  # the squared norm of the first is 480,000
    balancer = B.GradientBalancer(["a", "b"])
    balancer(given).backward()
    assert torch.isfinite(p.grad).all()
    assert p.grad.dtype == dtype


def test_gradnorm_brings_the_norms_together() -> None:
    net, _ = step()
    scales = (1.0, 300.0, 0.3)
    balancer = B.GradNorm(3, alpha=0.0, rate=0.1, shared=net.trunk[0].weight)
    balancer.tasks = ("t0", "t1", "t2")
    for _ in range(150):
        balancer(losses(net, scales))
    weights = balancer.weights(losses(net, scales))
    seen = B.measure(losses(net, scales), shared=net.trunk[0].weight)
    weighted = [float(weights[name]) * seen.gradient_norm[name].mean for name in weights]
    assert max(weighted) / min(weighted) < 1.5
    saved = balancer.state_dict()
    again = B.GradNorm(3)
    again.load_state_dict(saved)
    torch.testing.assert_close(again.log_weight, balancer.log_weight)


def test_accumulation_and_a_scaler_see_one_backward_pass() -> None:
    net, given = step()
    balancer = B.GradientBalancer(list(given), every=1)
    balancer(given).backward()
    once = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for _ in range(2):
        (balancer(losses(net, (1.0, 5000.0, 0.3))) * 0.5).backward()
    for p, grad in zip(net.parameters(), once, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_a_compiled_trunk_works() -> None:
    net, _ = step()
    compiled = torch.compile(net.trunk, backend="aot_eager")
    z = compiled(torch.randn(8, 6))
    given = {f"t{i}": head(z).pow(2).mean() for i, head in enumerate(net.heads)}
    B.GradientBalancer(list(given), shared=net.trunk)(given).backward()
    assert all(p.grad is not None for p in net.parameters())


# --- trade-offs -------------------------------------------------------------------------------------------------------


def test_alternation_takes_turns_and_draws_by_probability() -> None:
    p = torch.ones((), requires_grad=True)
    given = {"a": p * 1.0, "b": p * 10.0}
    turns = B.Alternation({"a": 2, "b": 1})
    assert [turns(given).item() for _ in range(6)] == [1, 1, 10, 1, 1, 10]
    drawn = B.Alternation({"a": 0.8, "b": 0.2}, by="probability")
    share = sum(drawn(given).item() == 10 for _ in range(500)) / 500
    assert 0.13 < share < 0.27
    with pytest.raises(B.TaskError, match="whole numbers"):
        B.Alternation({"a": 0.5, "b": 0.5})


def test_a_schedule_goes_linearly_between_its_points() -> None:
    schedule = B.Schedule({0: {"a": 1.0, "b": 0.0}, 10: {"a": 1.0, "b": 1.0}, 20: {"a": 0.0, "b": 1.0}})
    assert schedule.at(0) == {"a": 1.0, "b": 0.0}
    assert schedule.at(5) == {"a": 1.0, "b": 0.5}
    assert schedule.at(15) == {"a": 0.5, "b": 1.0}
    assert schedule.at(99) == {"a": 0.0, "b": 1.0}


def test_a_constraint_settles_at_its_bound() -> None:
    """Minimize (x - 3)² subject to x ≤ 1, and subject to x² ≥ 4 from x = 0.5: the optimum lies on the bound."""
    for bounds, start, expected in (({"at_most": {"g": 1.0}}, 0.0, 1.0), ({"at_least": {"g": 2.0}}, 0.0, 3.0)):
        x = nn.Parameter(torch.tensor(start))
        balancer = B.Constraint("f", **bounds, rate=0.05, damping=1.0)
        optimizer = torch.optim.SGD([x], lr=0.02)
        track = []
        for _ in range(1500):
            optimizer.zero_grad()
            balancer({"f": (x - 3) ** 2, "g": x * 1.0}).backward()
            optimizer.step()
            track.append(x.item())
        assert x.item() == pytest.approx(expected, abs=0.02)
        assert max(track[-200:]) - min(track[-200:]) < 0.02, "it does not jump over the bound"


def test_minus_is_held_at_its_floor() -> None:
    x = torch.tensor(0.3, requires_grad=True)
    assert B.minus(x * 1.0, floor=1.0).item() == pytest.approx(0.7)
    assert B.minus(x * 10, floor=1.0).item() == 0


def test_a_sweep_finds_the_front_and_its_knee() -> None:
    x = nn.Parameter(torch.tensor(0.0))

    def train(balancer: B.Balancer) -> dict[str, torch.Tensor]:
        optimizer = torch.optim.Adam([x], lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            balancer({"a": (x - 1) ** 2, "b": (x + 1) ** 2}).backward()
            optimizer.step()
        return {"a": (x - 1) ** 2, "b": (x + 1) ** 2}

    front = B.sweep(train, ("a", "b"))
    assert len(front.efficient) == len(front.shares)
    assert front.shares[front.knee] == 0.5
    for share, (a, b) in zip(front.shares, front.points, strict=True):
        best = 2 * share - 1
        assert (a, b) == pytest.approx(((best - 1) ** 2, (best + 1) ** 2), abs=0.02)
    assert "knee" in str(front)
