"""Losses of the families imbalance, many objectives and perceptual, each with one fault, as people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models, transforms

R = torch.randn
CASES: dict[str, tuple[str, Callable[[], torch.Tensor]]] = {}
TOLD: dict[str, Any] = {}
"""What the last case tells the audit beside its loss."""


def case(rule: str) -> Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]:
    def add(make: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        CASES[make.__name__] = (rule, make)
        return make

    return add


def lin(before: int, after: int) -> nn.Linear:
    return nn.Linear(before, after)


@case("LP402")
def kornia_like_reduced() -> torch.Tensor:

    class FocalLoss(nn.Module):
        def __init__(s, gamma=2, size_average=True):
            super().__init__()
            s.gamma = gamma
            s.size_average = size_average

        def forward(s, i, t):
            logpt = -F.cross_entropy(i, t)
            pt = torch.exp(logpt)
            loss = -((1 - pt) ** s.gamma) * logpt
            return loss

    return FocalLoss()(lin(8, 4)(R(16, 8)), torch.randint(0, 4, (16,)))


@case("LP402")
def weighted_module() -> torch.Tensor:
    ce = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5, 5, 1]), reduction="none")
    i = lin(8, 4)(R(16, 8))
    loss = ce(i, torch.randint(0, 4, (16,)))
    p = torch.exp(-loss)
    return (torch.pow(1 - p, 2) * loss).mean()


@case("LP402")
def bce_mean() -> torch.Tensor:
    z = lin(8, 1)(R(16, 8))
    y = torch.rand(16, 1).round()
    bce = F.binary_cross_entropy_with_logits(z, y, reduction="mean")
    pt = torch.exp(-bce)
    return 0.25 * (1 - pt) ** 2 * bce


@case("LP402")
def seg_weighted() -> torch.Tensor:
    z = nn.Conv2d(3, 4, 1)(R(2, 3, 6, 6))
    y = torch.randint(0, 4, (2, 6, 6))
    logpt = -F.cross_entropy(z, y, weight=torch.tensor([0.1, 1, 1, 2]), reduction="none", ignore_index=255)
    pt = logpt.exp()
    return (-((1 - pt) ** 2) * logpt).mean()


@case("LP402")
def amp_weighted() -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        z = lin(8, 4)(R(16, 8))
        ce = F.cross_entropy(
            z.float(), torch.randint(0, 4, (16,)), weight=torch.tensor([1.0, 5, 5, 1]), reduction="none"
        )
        p = torch.exp(-ce)
        return ((1 - p) ** 2 * ce).mean()


@case("LP401")
def alpha_scalar_segmentation() -> torch.Tensor:
    z = nn.Conv2d(3, 4, 1)(R(2, 3, 6, 6))
    lp = F.log_softmax(z, 1)
    y = torch.randint(0, 4, (2, 6, 6))
    lp = lp.gather(1, y[:, None]).squeeze(1)
    p = lp.exp()
    return (-0.25 * (1 - p) ** 2 * lp).mean()


@case("LP401")
def alpha_sum() -> torch.Tensor:
    z = lin(8, 1)(R(16, 8)).view(-1)
    y = torch.rand(16).round()
    b = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    pt = torch.exp(-b)
    F_ = 0.8 * (1 - pt) ** 2 * b
    return torch.sum(F_) / 16


@case("LP401")
def alpha_on_probability_bce() -> torch.Tensor:
    z = lin(8, 1)(R(16, 8)).view(-1)
    y = torch.rand(16).round()
    b = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    p = torch.sigmoid(z)
    pt = torch.where(y == 1, p, 1 - p)
    f = 0.25 * (1 - pt).pow(2)
    return (f * b).mean()


@case("LP404")
def gamma6() -> torch.Tensor:
    z = lin(8, 4)(R(16, 8))
    loss = F.cross_entropy(z, torch.randint(0, 4, (16,)), reduction="none")
    return ((1 - torch.exp(-loss)) ** 6 * loss).mean()


@case("LP404")
def gamma0_sigmoid() -> torch.Tensor:
    z = lin(8, 1)(R(16, 8))
    y = torch.rand(16, 1).round()
    p = z.sigmoid()
    pt = p * y + (1 - p) * (1 - y)
    return -((1 - pt) ** 0 * torch.log(pt)).mean()


@case("LP404")
def gamma_half_extreme() -> torch.Tensor:
    z = 60 * lin(8, 4)(R(64, 8))
    lp = F.log_softmax(z, 1).gather(1, torch.randint(0, 4, (64, 1)))
    return (-((1 - lp.exp()) ** 0.7) * lp).sum()


@case("LP403")
def pixel_posw() -> torch.Tensor:
    z = nn.Conv2d(3, 1, 1)(R(2, 3, 16, 16))
    y = (torch.rand(2, 1, 16, 16) > 0.95).float()
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor(0.05))(z, y)


@case("LP403")
def seg_freq() -> torch.Tensor:
    z = nn.Conv2d(3, 4, 1)(R(2, 3, 16, 16))
    y = torch.multinomial(torch.tensor([0.7, 0.2, 0.07, 0.03]), 512, True).view(2, 16, 16)
    return F.cross_entropy(z, y, weight=torch.tensor([0.7, 0.2, 0.07, 0.03]))


@case("LP403")
def two_class() -> torch.Tensor:
    y = (torch.rand(200) > 0.9).long()
    return F.cross_entropy(lin(8, 2)(R(200, 8)), y, weight=torch.tensor([0.9, 0.1]))


@case("LP501")
def dict_sum() -> torch.Tensor:
    h = lin(8, 9)(R(32, 8))
    loss = {"c": F.cross_entropy(h[:, :5], torch.randint(0, 5, (32,))), "r": F.mse_loss(h[:, 5:], 100 * R(32, 4))}
    return sum(loss.values())


@case("LP501")
def ce_plus_manual_mse() -> torch.Tensor:
    h = lin(8, 9)(R(32, 8))
    d = ((h[:, 5:] - 50 * R(32, 4)) ** 2).mean()
    return d + F.cross_entropy(h[:, :5], torch.randint(0, 5, (32,)))


@case("LP501")
def accumulate() -> torch.Tensor:
    h = lin(8, 9)(R(32, 8))
    t = 0
    t = t + F.binary_cross_entropy_with_logits(h[:, 0], torch.ones(32))
    t = t + F.smooth_l1_loss(h[:, 1:], 200 * R(32, 8))
    t = t + 0.0001 * sum(p.pow(2).sum() for p in [nn.Parameter(R(3))])
    return t


@case("LP501")
def inplace_add() -> torch.Tensor:
    h = lin(8, 9)(R(32, 8))
    loss = F.cross_entropy(h[:, :5], torch.randint(0, 5, (32,)))
    loss += F.mse_loss(h[:, 5:], 100 * R(32, 4))
    return loss


@case("LP501")
def bf16() -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        h = lin(8, 9)(R(32, 8))
        return F.cross_entropy(h[:, :5].float(), torch.randint(0, 5, (32,))) + F.mse_loss(
            h[:, 5:].float(), 100 * R(32, 4)
        )


@case("LP502")
def diversity() -> torch.Tensor:
    h = lin(8, 4)(R(16, 8))
    loss = F.cross_entropy(h, torch.randint(0, 4, (16,)))
    div = torch.cdist(h, h).mean()
    return loss - 0.1 * div


@case("LP502")
def triplet_no_margin() -> torch.Tensor:
    n = lin(8, 4)
    a, p, g = (n(R(8, 8)), n(R(8, 8)), n(R(8, 8)))
    return F.mse_loss(a, p) - F.mse_loss(a, g)


@case("LP502")
def neg_l2() -> torch.Tensor:
    h = lin(8, 4)(R(16, 8))
    g = lin(8, 4)(R(16, 8))
    loss = F.mse_loss(h, R(16, 4))
    loss = loss + -1 * torch.norm(h - g, dim=1).mean()
    return loss


@case("LP502")
def neg_std() -> torch.Tensor:
    h = lin(8, 4)(R(16, 8))
    return F.cross_entropy(h, torch.randint(0, 4, (16,))) - h.std(0).sum()


@case("LP503")
def sigma_module() -> torch.Tensor:

    class AWL(nn.Module):
        def __init__(s, n):
            super().__init__()
            s.params = nn.Parameter(torch.ones(n))

        def forward(s, *x):
            t = 0
            for i, loss in enumerate(x):
                t += 0.5 / s.params[i] ** 2 * loss + torch.log(1 + s.params[i] ** 2)
            return t

    m = lin(8, 2)
    c = AWL(2)
    TOLD["names"] = {"awl": c, "m": m}
    TOLD["optimizer"] = torch.optim.Adam(m.parameters())
    h = m(R(16, 8))
    return c(F.mse_loss(h[:, 0], R(16)), F.l1_loss(h[:, 1], R(16)))


@case("LP503")
def softmax_weights() -> torch.Tensor:
    w = nn.Parameter(torch.ones(3))
    m = lin(8, 3)
    TOLD["optimizer"] = torch.optim.SGD(m.parameters(), 0.1)
    h = m(R(16, 8))
    ls = [F.mse_loss(h[:, i], R(16)) for i in range(3)]
    ws = F.softmax(w, 0)
    return sum((a * b for a, b in zip(ws, ls, strict=False)))


@case("LP601")
def trainable_vgg_bn() -> torch.Tensor:
    v = models.vgg16_bn().features[:13].eval()
    n = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    y = nn.Conv2d(3, 3, 3, padding=1)(torch.rand(2, 3, 16, 16))
    t = torch.rand(2, 3, 16, 16)
    return F.l1_loss(y, t) + 0.1 * F.l1_loss(v(n(y)), v(n(t)))


@case("LP601")
def trainable_resnet_held() -> torch.Tensor:
    r = models.resnet18().eval()
    b = nn.Sequential(*list(r.children())[:5])
    g = nn.Conv2d(3, 3, 3, padding=1)
    TOLD["optimizer"] = torch.optim.Adam([*g.parameters(), *b.parameters()])
    y = g(torch.rand(2, 3, 32, 32))
    return F.mse_loss(b(y), b(torch.rand(2, 3, 32, 32)))


@case("LP602")
def logits_l2() -> torch.Tensor:
    v = models.vgg19().eval().requires_grad_(False)
    y = nn.Conv2d(3, 3, 3, padding=1)(torch.rand(2, 3, 16, 16))
    n = nn.InstanceNorm2d(3)
    return torch.mean((v(n(y)) - v(n(torch.rand(2, 3, 16, 16)))) ** 2)


@case("LP603")
def lpips_unscaled() -> torch.Tensor:
    v = models.vgg16().features[:4].eval().requires_grad_(False)
    y = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())(torch.rand(2, 3, 16, 16))
    t = torch.rand(2, 3, 16, 16) * 2 - 1
    a, b = (v(y), v(t))
    a = a / (a.norm(dim=1, keepdim=True) + 1e-10)
    b = b / (b.norm(dim=1, keepdim=True) + 1e-10)
    return ((a - b) ** 2).sum(1).mean()


@case("LP603")
def gray_repeat() -> torch.Tensor:
    v = models.vgg16().features[:4].eval().requires_grad_(False)
    y = torch.sigmoid(nn.Conv2d(1, 1, 3, padding=1)(torch.rand(2, 1, 16, 16))).repeat(1, 3, 1, 1)
    return F.l1_loss(v(y), v(torch.rand(2, 3, 16, 16)))


@case("LP603")
def zero_one_from_tanh() -> torch.Tensor:
    v = models.vgg16().features[:4].eval().requires_grad_(False)
    y = (nn.Conv2d(3, 3, 3, padding=1)(torch.rand(2, 3, 16, 16)).tanh() + 1) / 2
    return F.l1_loss(v(y), v(torch.rand(2, 3, 16, 16)))


@case("LP605")
def bn_train() -> torch.Tensor:
    v = models.vgg16_bn().features[:13].requires_grad_(False)
    y = torch.sigmoid(nn.Conv2d(3, 3, 3, padding=1)(torch.rand(2, 3, 16, 16)))
    n = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    t = torch.rand(2, 3, 16, 16)
    return F.mse_loss(y, t) + 0.1 * F.mse_loss(v(n(y)), v(n(t)).detach())
