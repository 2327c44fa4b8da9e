"""What the loss does not reach: terms without a gradient, and parameters that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import lossproof  # noqa: E402

Tensor = torch.Tensor
Y = torch.tensor([0, 1, 2, 0])


def told(make: Callable[[Tensor], Tensor]) -> list[lossproof.Finding]:
    torch.manual_seed(0)
    with lossproof.recording():
        loss = make(nn.Linear(5, 3)(torch.randn(4, 5)))
    return [each for each in lossproof.audit(loss) if each.rule == "LP302"]


DEAD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "the whole loss": (lambda z: F.mse_loss(z.round(), torch.ones(4, 3)), "proven"),
    "a term of floors": (lambda z: F.cross_entropy(z, Y) + z.floor().mean(), "proven"),
    "a term of signs": (lambda z: F.cross_entropy(z, Y) - 0.1 * (z.sign() * 2).abs().mean(), "proven"),
    "a detached term": (lambda z: F.cross_entropy(z, Y) + 0.1 * z.detach().norm(), "likely"),
    "data": (lambda z: F.cross_entropy(z, Y) + z.data.abs().mean(), "likely"),
    "a number": (lambda z: F.cross_entropy(z, Y) + z.norm().item(), "likely"),
    "a new tensor": (lambda z: F.cross_entropy(z, Y) + torch.tensor(z.norm().item()), "likely"),
    "accuracy": (lambda z: F.cross_entropy(z, Y) + (z.argmax(1) != Y).float().mean(), "likely"),
    "stacked": (lambda z: torch.stack([F.cross_entropy(z, Y), (z > 0).float().mean()]).sum(), "likely"),
}


@pytest.mark.parametrize("form", DEAD)
def test_a_term_that_trains_nothing(form: str) -> None:
    make, confidence = DEAD[form]
    (found,) = told(make)
    assert (found.severity.value, found.confidence) == ("error", confidence)
    assert found.path == __file__


@pytest.mark.parametrize(
    "make",
    [
        lambda z: F.cross_entropy(z, Y) + (z - z.round()).abs().mean(),
        lambda z: F.mse_loss(z + (z.round() - z).detach(), torch.ones(4, 3)),
        lambda z: (z * z.sign()).mean() + F.cross_entropy(z, Y),
        lambda z: F.cross_entropy(z, Y, reduction="none").mul(z.detach().softmax(1).amax(1)).mean(),
        lambda z: F.mse_loss(z, z.detach().roll(1, 0)) + 1.0,
        lambda z: F.cross_entropy(z, Y) + (z.mean() - z.mean().detach()),
        lambda z: F.cross_entropy(z, Y) / F.cross_entropy(z, Y).detach(),
        lambda z: F.cross_entropy(z, z.argmax(1)),
        lambda z: F.cross_entropy(z, Y) + 0.5,
    ],
)
def test_stop_gradients_that_are_meant(make: Callable[[Tensor], Tensor]) -> None:
    assert told(make) == []


def test_a_cut_names_its_line_and_where_it_was_added() -> None:
    torch.manual_seed(0)
    with lossproof.recording():
        z = nn.Linear(5, 3)(torch.randn(4, 5))
        side = z.detach().norm()
        loss = F.cross_entropy(z, Y) + side
    (found,) = lossproof.audit(loss)[:1]
    assert found.rule == "LP302"
    (related,) = found.related
    assert related.line == found.line + 1


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
        self.kind = nn.Linear(4, 3)
        self.size = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.body(x)
        return self.kind(z), self.size(z)


def unreached(loss: Tensor, **more: object) -> list[tuple[str, str]]:
    found = lossproof.audit(loss, **more)  # type: ignore[arg-type]
    return [(each.severity.value, each.message) for each in found if each.rule == "LP306"]


def test_a_forgotten_head_is_named_as_a_whole_with_its_numbers() -> None:
    net = Two()
    kind, size = net(torch.randn(4, 5))
    loss = F.cross_entropy(kind, Y)
    ((severity, message),) = unreached(loss, names=net)
    assert severity == "info"
    assert "4 of 8 trainable parameters (25 of 64 numbers): size;" in message
    ((severity, message),) = unreached(loss, names=net, optimizer=torch.optim.SGD(net.parameters(), 0.1))
    assert severity == "warning"
    assert "the optimizer holds them" in message
    assert unreached(loss, names=net, optimizer=torch.optim.SGD(net.kind.parameters(), 0.1)) == []
    assert unreached(loss + size.mean(), names=net) == []
    assert unreached(loss) == []


def test_single_parameters_and_several_models_are_named() -> None:
    a, b = nn.Linear(5, 3), nn.BatchNorm1d(3)
    loss = F.cross_entropy(F.linear(torch.randn(4, 5), a.weight), Y)
    ((_, message),) = unreached(loss, names={"front": a, "norm": b, "scale": nn.Parameter(torch.ones(1))})
    assert "4 of 5 trainable parameters (10 of 25 numbers): front.bias, norm, scale;" in message


def test_frozen_and_tied_parameters_and_compiled_parts_are_no_trouble() -> None:
    net = Two()
    net.size.requires_grad_(False)
    assert unreached(F.cross_entropy(net(torch.randn(4, 5))[0], Y), names=net) == []
    part = nn.Linear(5, 3)
    compiled = torch.compile(part, backend="aot_eager")
    assert unreached(F.cross_entropy(compiled(torch.randn(4, 5)), Y), names=part) == []


def test_what_a_reentrant_checkpoint_reaches_is_not_known() -> None:
    from torch.utils.checkpoint import checkpoint

    net = nn.Linear(5, 3)
    x = torch.randn(4, 5, requires_grad=True)
    found = lossproof.audit(F.cross_entropy(checkpoint(net, x, use_reentrant=True), Y), names=net)
    assert list(found) == []
    assert any("which parameters" in each for each in found.unseen)


def test_a_single_parameter_of_a_module_that_is_used_is_a_note() -> None:
    net = nn.Linear(5, 3)
    loss = F.cross_entropy(F.linear(torch.randn(4, 5), net.weight), Y)
    ((severity, message),) = unreached(loss, names=net, optimizer=torch.optim.SGD(net.parameters(), 0.1))
    assert severity == "info"
    assert "1 of 2 trainable parameters (3 of 18 numbers): bias;" in message
