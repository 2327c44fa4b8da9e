"""The graph eye: what one live loss shows, whatever the code hid."""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph.gather import STOPPED  # noqa: E402


def rules(loss: torch.Tensor, **more: object) -> list[str]:
    return [finding.rule for finding in lossproof.audit(loss, **more)]


def test_a_sigmoid_before_bce_is_seen_through_views_and_clamps() -> None:
    x = torch.full((8, 1), 30.0, requires_grad=True)
    with lossproof.recording():
        loss = F.binary_cross_entropy(x.sigmoid().squeeze(1).clamp(0, 1), torch.zeros(8))
    (found,) = lossproof.audit(loss)
    assert (found.rule, found.eye, found.severity.value) == ("LP101", "graph", "error")
    assert "8 of 8 elements" in found.message
    assert found.path == __file__
    assert found.related[0].message == "sigmoid applied here"


def test_the_sound_form_is_silent() -> None:
    x = torch.randn(8, requires_grad=True)
    assert rules(F.binary_cross_entropy_with_logits(x, torch.zeros(8))) == []


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ([1], "each loss on its own"),
        (1.5, "left the graph"),
        (torch.ones(1, requires_grad=True), "leaf"),
        (torch.ones(1), "no_grad"),
    ],
)
def test_what_is_no_loss_is_refused_with_what_to_do(loss: object, said: str) -> None:
    with pytest.raises(lossproof.CannotRun, match=said):
        lossproof.audit(loss)  # type: ignore[arg-type]


def test_a_freed_graph_is_said_to_be_freed() -> None:
    x = torch.randn(8, requires_grad=True)
    loss = F.binary_cross_entropy(x.sigmoid(), torch.zeros(8))
    loss.backward()
    with pytest.raises(lossproof.CannotRun, match="freed"):
        lossproof.audit(loss)


def test_a_long_chain_needs_no_deep_stack() -> None:
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + x
    assert rules(y.sum()) == []


# ---- use that was not meant


@pytest.fixture
def x() -> torch.Tensor:
    return torch.linspace(-2, 2, 12).reshape(3, 4).requires_grad_()


class Output(dict):  # type: ignore[type-arg]
    """As libraries return it: a mapping with the loss in it."""


def test_what_holds_the_loss_is_refused_with_where_it_is(x: torch.Tensor) -> None:
    for given in (Output(loss=x.sum()), type("Out", (tuple,), {"loss": x.sum()})()):
        with pytest.raises(lossproof.CannotRun, match="pass its `loss`"):
            lossproof.audit(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "nothing was returned"),
        (torch.ones(3).numpy(), r"left the graph \(.numpy"),
        ({"a": 1}, "dict"),
        ("loss", "this is str"),
        (torch.nn.Linear(1, 1), "this is Linear"),
        (torch.nn.Parameter(torch.ones(1)), "leaf"),
        (torch.ones(3) > 2, "no_grad"),
    ],
)
def test_what_is_no_tensor_with_a_graph_is_refused(given: object, said: str) -> None:
    with pytest.raises(lossproof.CannotRun, match=said):
        lossproof.audit(given)  # type: ignore[arg-type]


def test_names_and_optimizer_that_are_none_are_refused(x: torch.Tensor) -> None:
    for wrong in ([x], 3, {"a": 3}, "model"):
        with pytest.raises(lossproof.CannotRun, match="names"):
            lossproof.audit(x.sum(), names=wrong)  # type: ignore[arg-type]
    with pytest.raises(lossproof.CannotRun, match="param_groups"):
        lossproof.audit(x.sum(), optimizer=[x])  # type: ignore[arg-type]


def quiet(loss: torch.Tensor) -> lossproof.audit.Audit:
    """The audit, which must not have met anything that it could not cope with."""
    found = lossproof.audit(loss)
    assert not [each for each in found.unseen if each.startswith(STOPPED)]
    return found


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_number_format(dtype: torch.dtype) -> None:
    x = torch.linspace(-40, 40, 8, dtype=dtype).requires_grad_()
    (found,) = quiet(F.binary_cross_entropy(x.sigmoid(), torch.ones(8, dtype=dtype)))
    assert found.rule == "LP101"


def test_shapes_that_are_no_batch(x: torch.Tensor) -> None:
    for y in (x, x[:0], x[0, 0], x[None, None]):
        found = [each.rule for each in quiet(F.binary_cross_entropy(y.sigmoid(), torch.ones_like(y)))]
        assert found == ["LP101", *(["LP803"] if y.numel() == 0 else [])], "the mean of nothing is NaN"
    assert quiet(F.binary_cross_entropy(x.sigmoid(), torch.ones(3, 4), reduction="none"))
    assert quiet(F.binary_cross_entropy(x.sigmoid(), torch.ones(3, 4), weight=torch.zeros(3, 4)))


def test_numbers_that_are_no_losses(x: torch.Tensor) -> None:
    complex_ = (x.to(torch.complex64) * 1j).sigmoid()
    for loss in (complex_, complex_.abs().sum(), x.to_sparse(), torch.sparse.sum(x.to_sparse())):
        assert quiet(loss) == []


def test_a_nan_that_was_made_outside_the_graph(x: torch.Tensor) -> None:
    target = torch.ones(3, 4)
    target[1] = float("nan")
    assert "LP101" in [
        found.rule
        for found in quiet(F.mse_loss(x.sigmoid(), target) + F.binary_cross_entropy(x.sigmoid(), x.detach().sigmoid()))
    ]
    quiet(x.sum() * float("nan"))


def test_tensors_without_values_are_said_not_to_be_read() -> None:
    from torch._subclasses import FakeTensorMode

    x = torch.randn(3, device="meta", requires_grad=True)
    found = quiet(F.binary_cross_entropy(x.sigmoid(), torch.ones(3, device="meta")))
    assert (found[0].rule, "no values" in found.unseen[0]) == ("LP101", True)
    with FakeTensorMode():
        x = torch.randn(3, requires_grad=True)
        assert "no values" in quiet(F.binary_cross_entropy(x.sigmoid(), torch.ones(3))).unseen[0]
    jagged = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged, requires_grad=True)
    quiet(jagged.sigmoid().sum())


def test_inside_and_after_functorch(x: torch.Tensor) -> None:
    def inside(row: torch.Tensor) -> torch.Tensor:
        loss = F.binary_cross_entropy(row.sigmoid(), torch.ones(4))
        with pytest.raises(lossproof.CannotRun, match=r"inside torch\.vmap"):
            lossproof.audit(loss)
        return loss

    assert [found.rule for found in quiet(torch.vmap(inside)(x).mean())] == ["LP101"]


def test_a_tensor_subclass(x: torch.Tensor) -> None:
    class Named(torch.Tensor):
        pass

    y = x.as_subclass(Named)
    assert [found.rule for found in quiet(F.binary_cross_entropy(y.sigmoid(), torch.ones(3, 4)))] == ["LP101"]


def test_what_was_changed_in_place_is_said(x: torch.Tensor) -> None:
    y = x.sigmoid()
    loss = F.binary_cross_entropy(y, torch.ones(3, 4))
    with torch.no_grad():
        y.mul_(0.5)
    found = quiet(loss)
    assert any("changed in place" in each for each in found.unseen)


def test_nothing_is_changed(x: torch.Tensor) -> None:
    loss = F.binary_cross_entropy(F.dropout(x.sigmoid(), 0.1), torch.ones(3, 4))
    before = torch.get_rng_state()
    lossproof.audit(loss)
    assert torch.equal(torch.get_rng_state(), before)
    assert x.grad is None
    loss.backward()
    assert x.grad is not None


# ---- parts that autograd does not show


class Squash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, y: torch.Tensor) -> torch.Tensor:
        return y.sigmoid()

    @staticmethod
    def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:
        return g


def test_a_custom_function_is_gone_around(x: torch.Tensor) -> None:
    found = quiet(F.binary_cross_entropy(Squash.apply(x), torch.ones(3, 4)) + bce(x))
    assert [each.rule for each in found if each.rule == "LP101"] == ["LP101"]
    assert any(each.startswith("Squash: a custom autograd.Function") for each in found.unseen)


def bce(x: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy(x.sigmoid(), torch.ones_like(x))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_parts(x: torch.Tensor, reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    calls = []

    def part(y: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return y.sigmoid()

    found = quiet(F.binary_cross_entropy(checkpoint(part, x, use_reentrant=reentrant), torch.ones(3, 4)))
    assert len(calls) == 1  # nothing was run again
    assert bool(found) is not reentrant
    if reentrant:
        assert any("checkpoint" in each for each in found.unseen)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_parts(x: torch.Tensor, backend: str) -> None:
    torch._dynamo.reset()
    inside = quiet(torch.compile(bce, backend=backend)(x))
    beside = quiet(F.binary_cross_entropy(torch.compile(torch.relu, backend=backend)(x).sigmoid(), torch.ones(3, 4)))
    torch._dynamo.reset()
    assert [each.rule for each in beside] == ["LP101"]
    if backend == "aot_eager":
        assert inside == []
        assert any("torch.compile" in each for each in inside.unseen)


def test_backward_hooks_of_modules_hide_nothing(x: torch.Tensor) -> None:
    layer = torch.nn.Sigmoid()
    layer.register_full_backward_hook(lambda *_: None)
    found = quiet(F.binary_cross_entropy(layer(x), torch.ones(3, 4)))
    assert ([each.rule for each in found], found.unseen) == (["LP101"], ())


def test_the_graph_of_a_gradient(x: torch.Tensor) -> None:
    (grad,) = torch.autograd.grad(bce(x), x, create_graph=True)
    assert "LP101" in [found.rule for found in quiet(grad.norm(dim=1).sub(1).square().mean() + bce(x))]


def test_losses_that_were_stacked_and_averaged(x: torch.Tensor) -> None:
    losses = [bce(x), F.mse_loss(x, torch.ones(3, 4))]
    for loss in (
        sum(losses),
        torch.stack(losses),
        torch.stack(losses).mean(),
        torch.cat([each[None] for each in losses]),
    ):
        assert "LP101" in [found.rule for found in quiet(loss)]  # type: ignore[arg-type]


# ---- size, and how it prints


def test_a_graph_of_a_hundred_thousand_operators_takes_seconds() -> None:
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(33_334):
        y = (y + x).sigmoid() * y
    start = time.process_time()
    assert lossproof.audit(y.sum()).operators > 100_000
    assert time.process_time() - start < 10


def test_it_prints_itself_with_the_code(x: torch.Tensor) -> None:
    with lossproof.recording():
        y = x.sigmoid()
        loss = F.binary_cross_entropy(y, torch.ones(3, 4))
    text = str(lossproof.audit(loss))
    assert "error LP101 sigmoid-before-bce" in text
    assert "│         y = x.sigmoid()" in text
    assert "sigmoid applied here" in text
    assert "help: return the logits" in text
    assert text.endswith("1 error in the graph of this loss (2 operators).")


def test_it_prints_what_it_has_no_line_for_and_what_it_did_not_see(x: torch.Tensor) -> None:
    text = str(lossproof.audit(bce(Squash.apply(x))))
    assert "<autograd graph> Sigmoid → BinaryCrossEntropy  error LP101" in text
    assert "no line is known: make the loss inside `with lossproof.recording():`" in text
    assert "not seen: Squash: a custom autograd.Function" in text
    assert str(lossproof.audit(x.sum())) == "Nothing found in the graph of this loss (1 operator)."
