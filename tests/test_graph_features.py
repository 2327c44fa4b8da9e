"""Networks that only measure, seen in the graph: which they are, who trains them, what enters, what is compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from lossproof.graph import features  # noqa: E402
from lossproof.graph.known import Known  # noqa: E402
from lossproof.graph.objective_facts import FeatureBranch  # noqa: E402
from lossproof.graph.walk import Graph  # noqa: E402

STAND_INS = Path(__file__).parent / "fixtures" / "graph" / "stand_ins"


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in for torchvision's models."""
    monkeypatch.syspath_prepend(str(STAND_INS))
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torchvision"}
    import torchvision.models

    yield torchvision.models
    for name in list(sys.modules):
        if name.partition(".")[0] == "torchvision":
            del sys.modules[name]
    sys.modules.update(before)


def facts(loss: torch.Tensor, known: Known | None = None) -> list[FeatureBranch]:
    return list(features.facts(Graph(loss, known)))


def image(size: int = 16) -> torch.Tensor:
    return nn.Conv2d(3, 3, 3, padding=1)(torch.rand(2, 3, size, size))


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def test_which_network_it_is(models: Any) -> None:
    resnet = models.resnet18()
    for network, called in (
        (models.vgg16().features[:9], "VGG"),
        (models.vgg16().features[:3], "VGG"),
        (models.vgg16_bn().features[:13], "VGG"),
        (nn.Sequential(*list(resnet.children())[:5]), "ResNet"),
        (nn.Sequential(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)), "AlexNet"),
    ):
        body = frozen(network)
        (found,) = facts(F.l1_loss(body(image(32)), body(torch.rand(2, 3, 32, 32))))
        assert (found.called, found.trained, found.trainable, found.classes, found.live) == (called, None, 0, 0, ())


def test_networks_that_look_alike() -> None:
    made, real = image(32).tanh(), torch.rand(2, 3, 32, 32)

    def start(*layers: nn.Module) -> nn.Module:
        return frozen(nn.Sequential(*layers))

    for network in (
        start(nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 64, 4, 2, 1)),
        start(nn.Conv2d(3, 64, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 64, 3, 2, 1)),
        start(nn.Conv2d(3, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1)),
        start(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(), nn.Conv2d(64, 64, 3, 1, 1)),
        start(nn.Conv2d(3, 64, 7, 1, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        start(nn.Conv2d(1, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1)),
    ):
        channels = network[0].in_channels  # type: ignore[index]
        assert facts(F.l1_loss(network(made[:, :channels]), network(real[:, :channels]))) == []


def test_what_is_compared_decides(models: Any) -> None:
    body = frozen(models.vgg16().features[:9])
    a, b = body(image()), body(torch.rand(2, 3, 16, 16))
    head = nn.Conv2d(64, 3, 1)

    def gram(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        return flat @ flat.mT / flat[0].numel()

    for loss in (
        F.mse_loss(a, b),
        F.smooth_l1_loss(a, b),
        (a - b).abs().sum(),
        (b - a).norm(),
        F.mse_loss(gram(a), gram(b)),
    ):
        assert len(facts(loss)) == 1
    for loss in (
        F.cross_entropy(a.mean((2, 3)), torch.tensor([1, 2])),
        a.square().mean(),
        F.mse_loss(head(a), torch.rand(2, 3, 8, 8)),
    ):
        assert facts(loss) == []


def test_who_trains_it(models: Any) -> None:
    body, net = models.vgg16().features[:4], nn.Conv2d(3, 3, 3, padding=1)
    real = torch.rand(2, 3, 16, 16)
    loss = F.l1_loss(body(net(real)), body(real))
    for optimizer, trained in (
        (None, None),
        (torch.optim.SGD(net.parameters(), 0.1), 0),
        (torch.optim.SGD([*net.parameters(), *body.parameters()], 0.1), 4),
    ):
        (found,) = facts(loss, Known(None, optimizer))
        assert (found.trainable, found.trained) == (4, trained)
    with torch.no_grad():
        wanted = body(real)
    assert facts(F.l1_loss(body(net(real)), wanted)) == []  # as an encoder is trained on codes
    code = body(real)
    decoder = nn.Conv2d(64, 3, 1)
    assert facts(F.mse_loss(body(decoder(code)), code)) == []  # the network made the image as well
    assert facts(F.mse_loss(body(real), body(real.flip(3)))) == []  # nothing is made


def test_what_enters(models: Any) -> None:
    body = frozen(models.vgg16().features[:4])
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    raw = image()
    for made, found in (
        (raw.sigmoid(), (0, 1)),
        (raw.tanh(), (-1, 1)),
        (raw.clamp(0, 1), (0, 1)),
        (F.hardtanh(raw), (-1, 1)),
        (raw.tanh() * 0.5 + 0.5, (0, 1)),
        ((raw.tanh() + 1) / 2, (0, 1)),
        (255 * raw.sigmoid(), (0, 255)),
        (F.interpolate(raw.sigmoid(), size=(20, 20), mode="bilinear"), (0, 1)),
        (raw[:, :1].sigmoid().expand(-1, 3, -1, -1), (0, 1)),
        ((raw.sigmoid() - mean) / std, None),
        ((raw.sigmoid() - 0.45) / 0.225, None),
        (raw, None),
        (raw.clamp(min=0), None),
        (F.instance_norm(raw), None),
    ):
        (fact,) = facts(F.mse_loss(body(made), torch.zeros(body(made).shape)))
        assert fact.plain == found


def test_what_is_live(models: Any) -> None:
    for network, live in (
        (models.vgg16_bn().features[:13], ("batch normalization",)),
        (models.vgg16(), ("dropout",)),
        (models.vgg16_bn(), ("batch normalization", "dropout")),
        (models.vgg16().features, ()),
    ):
        network.requires_grad_(False)
        (found,) = facts(F.mse_loss(network(image()), network(torch.rand(2, 3, 16, 16))))
        assert found.live == live
        frozen(network)
        (found,) = facts(F.mse_loss(network(image()), network(torch.rand(2, 3, 16, 16))))
        assert found.live == ()
        assert found.classes == (1000 if isinstance(network, models.VGG) else 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_number_formats(models: Any, dtype: torch.dtype) -> None:
    body = frozen(models.vgg16_bn().features[:6]).to(dtype).train()
    net = nn.Conv2d(3, 3, 1).to(dtype)
    x = torch.rand(2, 3, 8, 8, dtype=dtype)
    (found,) = facts(F.l1_loss(body((net(x).tanh() + 1) / 2), body(x)))
    assert (found.plain, found.live) == ((0, 1), ("batch normalization",))


def test_under_autocast(models: Any) -> None:
    body = frozen(models.vgg16().features[:4])
    with torch.autocast("cpu", torch.bfloat16):
        made = image().sigmoid()
        (found,) = facts(F.l1_loss(body(made).float(), body(torch.rand(2, 3, 16, 16)).float()))
    assert found.plain == (0, 1)
