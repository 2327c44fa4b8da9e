"""Losses as sound code has them, of many families: no eye may have a word to say about any of them.

Each is as small as it can be and keeps the form that its kind is written in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models, transforms

R = torch.randn
CASES: dict[str, Callable[[], torch.Tensor]] = {}


def case(make: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    CASES[make.__name__] = make
    return make


def lin(before: int, after: int) -> nn.Linear:
    return nn.Linear(before, after)


@case
def vae() -> torch.Tensor:
    x = torch.rand(16, 8)
    mu, lv = lin(8, 8)(x).chunk(2, 1)
    z = mu + (0.5 * lv).exp() * R(16, 4)
    return (
        F.binary_cross_entropy_with_logits(lin(4, 8)(z), x, reduction="sum")
        - 0.5 * (1 + lv - mu.pow(2) - lv.exp()).sum()
    )


@case
def vae_dist() -> torch.Tensor:
    x = torch.rand(16, 8)
    mu, lv = lin(8, 8)(x).chunk(2, 1)
    q = torch.distributions.Normal(mu, lv.exp())
    z = q.rsample()
    return ((lin(4, 8)(z) - x) ** 2).sum(1).mean() + torch.distributions.kl_divergence(
        q, torch.distributions.Normal(torch.zeros(16, 4), torch.ones(16, 4))
    ).sum(1).mean()


@case
def vqvae() -> torch.Tensor:
    x = R(16, 8)
    z = lin(8, 4)(x)
    cb = nn.Embedding(12, 4)
    q = cb(torch.cdist(z, cb.weight).argmin(1))
    st = z + (q - z).detach()
    return F.mse_loss(lin(4, 8)(st), x) + F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())


@case
def wgan_gp() -> torch.Tensor:
    D = nn.Sequential(lin(8, 16), nn.LeakyReLU(0.2), lin(16, 1))
    real, fake = (R(16, 8), R(16, 8))
    e = torch.rand(16, 1)
    m = (e * real + (1 - e) * fake).requires_grad_()
    (g,) = torch.autograd.grad(D(m), m, torch.ones(16, 1), create_graph=True, retain_graph=True)
    return D(fake).mean() - D(real).mean() + 10 * ((g.norm(2, 1) - 1) ** 2).mean()


@case
def wgan_g() -> torch.Tensor:
    D = nn.Sequential(lin(8, 16), nn.LeakyReLU(0.2), lin(16, 1))
    return -D(lin(4, 8)(R(16, 4))).mean()


@case
def cyclegan() -> torch.Tensor:

    def g():
        return nn.Sequential(
            nn.Conv2d(3, 64, 7, padding=3),
            nn.InstanceNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 3, 7, padding=3),
            nn.Tanh(),
        )

    G, H = (g(), g())
    D = nn.Sequential(nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 4, 1, 1))
    x = R(1, 3, 12, 12).tanh()
    f = G(x)
    p = D(f)
    return F.mse_loss(p, torch.ones_like(p)) + 10 * F.l1_loss(H(f), x) + 5 * F.l1_loss(G(x), x)


@case
def srgan_perceptual() -> torch.Tensor:
    vgg = models.vgg19().features[:9].eval()
    for q in vgg.parameters():
        q.requires_grad = False
    n = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    y = nn.Conv2d(3, 3, 3, padding=1)(torch.rand(2, 3, 16, 16))
    t = torch.rand(2, 3, 16, 16)
    return F.l1_loss(y, t) + 0.006 * F.mse_loss(vgg(n(y.clamp(0, 1))), vgg(n(t)))


@case
def style_leaf() -> torch.Tensor:
    vgg = models.vgg19().features[:9].eval().requires_grad_(False)
    img = ((torch.rand(1, 3, 16, 16) - 0.45) / 0.225).requires_grad_()
    c = vgg((torch.rand(1, 3, 16, 16) - 0.45) / 0.225)

    def gram(x):
        b, c, h, w = x.shape
        f = x.view(b, c, -1)
        return f @ f.transpose(1, 2) / (c * h * w)

    return 1000.0 * F.mse_loss(gram(vgg(img)), gram(c)) + F.mse_loss(vgg(img), c)


@case
def simclr() -> torch.Tensor:
    z = F.normalize(lin(8, 4)(R(16, 8)), dim=1)
    s = z @ z.T / 0.1
    s = s.masked_fill(torch.eye(16).bool(), -1000000000.0)
    return F.cross_entropy(s, torch.arange(16).roll(8))


@case
def byol() -> torch.Tensor:
    p = F.normalize(lin(8, 4)(R(16, 8)), dim=-1)
    z = F.normalize(R(16, 4), dim=-1)
    return (2 - 2 * (p * z).sum(-1)).mean()


@case
def barlow() -> torch.Tensor:
    a, b = (lin(8, 4)(R(16, 8)), lin(8, 4)(R(16, 8)))
    a = (a - a.mean(0)) / a.std(0)
    b = (b - b.mean(0)) / b.std(0)
    c = a.T @ b / 16
    on = (torch.diagonal(c) - 1).pow(2).sum()
    off = c[~torch.eye(4).bool()].pow(2).sum()
    return on + 0.005 * off


@case
def vicreg() -> torch.Tensor:
    a, b = (lin(8, 4)(R(16, 8)), lin(8, 4)(R(16, 8)))
    std = (a.var(0) + 0.0001).sqrt()
    return (
        25 * F.mse_loss(a, b)
        + 25 * F.relu(1 - std).mean()
        + ((a - a.mean(0)).T @ (a - a.mean(0)) / 15).fill_diagonal_(0).pow(2).sum() / 4
    )


@case
def triplet() -> torch.Tensor:
    n = lin(8, 4)
    return F.triplet_margin_loss(n(R(8, 8)), n(R(8, 8)), n(R(8, 8)))


@case
def arcface() -> torch.Tensor:
    W = nn.Parameter(R(10, 4))
    x = F.normalize(lin(8, 4)(R(16, 8)))
    c = F.linear(x, F.normalize(W))
    y = torch.randint(0, 10, (16,))
    th = torch.acos(c.clamp(-1 + 1e-07, 1 - 1e-07))
    o = F.one_hot(y, 10)
    return F.cross_entropy(64 * (torch.cos(th + 0.5) * o + c * (1 - o)), y)


@case
def mdn() -> torch.Tensor:
    h = lin(8, 9)(R(16, 8))
    pi = F.log_softmax(h[:, :3], 1)
    mu = h[:, 3:6]
    s = F.softplus(h[:, 6:]) + 0.001
    y = R(16, 1)
    return -torch.logsumexp(pi + torch.distributions.Normal(mu, s).log_prob(y), 1).mean()


@case
def flow() -> torch.Tensor:
    x = R(16, 4)
    s, t = lin(2, 4)(x[:, :2]).chunk(2, 1)
    y = x[:, 2:] * s.tanh().exp() + t
    z = torch.cat([x[:, :2], y], 1)
    return (0.5 * z.pow(2).sum(1) - s.tanh().sum(1)).mean()


@case
def ppo() -> torch.Tensor:
    lp = F.log_softmax(lin(8, 4)(R(16, 8)), 1)
    a = lp.gather(1, torch.randint(0, 4, (16, 1))).squeeze()
    r = (a - a.detach() - 0.05).exp()
    adv = R(16)
    v = lin(8, 1)(R(16, 8)).squeeze()
    ent = -(lp.exp() * lp).sum(1).mean()
    return -torch.min(r * adv, r.clamp(0.8, 1.2) * adv).mean() + 0.5 * F.mse_loss(v, R(16)) - 0.01 * ent


@case
def ppo_gauss() -> torch.Tensor:
    mu = lin(8, 2)(R(16, 8))
    ls = nn.Parameter(torch.zeros(2))
    d = torch.distributions.Normal(mu, ls.exp())
    lp = d.log_prob(R(16, 2)).sum(1)
    return -(lp * R(16)).mean() - 0.01 * d.entropy().mean() + 0.5 * F.mse_loss(lin(8, 1)(R(16, 8)), R(16, 1))


@case
def sac_actor() -> torch.Tensor:
    mu, ls = lin(8, 4)(R(16, 8)).chunk(2, 1)
    d = torch.distributions.Normal(mu, ls.clamp(-5, 2).exp())
    u = d.rsample()
    a = u.tanh()
    lp = (d.log_prob(u) - torch.log(1 - a.pow(2) + 1e-06)).sum(1)
    q = nn.Sequential(lin(2, 8), nn.ReLU(), lin(8, 1))(a).squeeze()
    return (0.2 * lp - q).mean()


@case
def dice_bce() -> torch.Tensor:
    z = nn.Conv2d(3, 1, 1)(R(4, 3, 8, 8))
    y = (torch.rand(4, 1, 8, 8) > 0.5).float()
    p = z.sigmoid()
    i = (p * y).sum((1, 2, 3))
    return (
        F.binary_cross_entropy_with_logits(z, y) + (1 - (2 * i + 1) / (p.sum((1, 2, 3)) + y.sum((1, 2, 3)) + 1)).mean()
    )


@case
def distill() -> torch.Tensor:
    s = lin(8, 5)(R(16, 8))
    t = R(16, 5)
    return 0.5 * F.kl_div(
        F.log_softmax(s / 4, 1), F.softmax(t / 4, 1), reduction="batchmean"
    ) * 16 + 0.5 * F.cross_entropy(s, torch.randint(0, 5, (16,)))


@case
def mmd() -> torch.Tensor:
    x, y = (lin(8, 4)(R(16, 8)), R(16, 4))

    def k(a, b):
        return torch.exp(-torch.cdist(a, b).pow(2) / 2)

    return k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()


@case
def crps_ensemble() -> torch.Tensor:
    e = lin(8, 6)(R(16, 8))
    y = R(16, 1)
    return (e - y).abs().mean(1).mean() - 0.5 * (e[:, :, None] - e[:, None, :]).abs().mean((1, 2)).mean()


@case
def diffusion() -> torch.Tensor:
    x = R(4, 3, 8, 8)
    n = R(4, 3, 8, 8)
    return F.mse_loss(nn.Conv2d(3, 3, 3, padding=1)(x + n), n)


@case
def detr_weights() -> torch.Tensor:
    z = lin(8, 6)(R(50, 8))
    y = torch.full((50,), 5)
    y[:4] = torch.arange(4)
    w = torch.ones(6)
    w[5] = 0.1
    b = lin(8, 4)(R(4, 8)).sigmoid()
    return F.cross_entropy(z, y, w) + 5 * F.l1_loss(b, torch.rand(4, 4))


@case
def mlm() -> torch.Tensor:
    z = lin(8, 50)(R(4, 10, 8))
    y = torch.randint(0, 50, (4, 10))
    y[torch.rand(4, 10) > 0.15] = -100
    y[0, 0] = 1
    return F.cross_entropy(z.view(-1, 50), y.view(-1))


@case
def label_smooth_weighted() -> torch.Tensor:
    return F.cross_entropy(
        lin(8, 4)(R(64, 8)), torch.randint(0, 4, (64,)), weight=torch.tensor([1.0, 2, 1, 3]), label_smoothing=0.1
    )


@case
def center_loss() -> torch.Tensor:
    c = nn.Parameter(R(4, 3))
    f = lin(8, 3)(R(16, 8))
    y = torch.randint(0, 4, (16,))
    return F.cross_entropy(lin(3, 4)(f), y) + 0.003 * (f - c[y]).pow(2).sum(1).mean()


@case
def orthogonal_reg() -> torch.Tensor:
    w = lin(8, 8)
    return (
        F.cross_entropy(w(R(16, 8)), torch.randint(0, 8, (16,)))
        + 0.01 * (w.weight @ w.weight.T - torch.eye(8)).pow(2).sum()
    )


@case
def lstm_lm() -> torch.Tensor:
    e = nn.Embedding(20, 8)
    r = nn.LSTM(8, 8, batch_first=True)
    t = torch.randint(0, 20, (4, 9))
    return F.cross_entropy(lin(8, 20)(r(e(t[:, :-1]))[0]).transpose(1, 2), t[:, 1:])


@case
def transformer_lm() -> torch.Tensor:
    e = nn.Embedding(20, 8)
    m = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    t = torch.randint(0, 20, (4, 9))
    mask = nn.Transformer.generate_square_subsequent_mask(8)
    return F.cross_entropy(lin(8, 20)(m(e(t[:, :-1]), mask=mask)).transpose(1, 2), t[:, 1:])


@case
def ctc() -> torch.Tensor:
    return F.ctc_loss(
        F.log_softmax(lin(8, 5)(R(12, 3, 8)), 2), torch.randint(1, 5, (3, 4)), torch.full((3,), 12), torch.full((3,), 4)
    )


@case
def fm() -> torch.Tensor:
    v = nn.Parameter(R(8, 4) * 0.1)
    x = R(16, 8)
    inter = 0.5 * ((x @ v).pow(2) - x.pow(2) @ v.pow(2)).sum(1)
    return F.binary_cross_entropy_with_logits(inter, torch.rand(16).round())


@case
def ae_bn() -> torch.Tensor:
    n = nn.Sequential(lin(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), lin(16, 8))
    x = R(16, 8)
    return F.mse_loss(n(x), x)


@case
def elastic() -> torch.Tensor:
    n = lin(8, 1)
    return F.mse_loss(n(R(16, 8)), R(16, 1)) + 0.001 * n.weight.abs().sum() + 0.001 * n.weight.pow(2).sum()


@case
def pixel_weighted() -> torch.Tensor:
    z = nn.Conv2d(3, 1, 1)(R(2, 3, 8, 8))
    y = (torch.rand(2, 1, 8, 8) > 0.9).float()
    w = torch.where(y == 1, 9.0, 1.0)
    return F.binary_cross_entropy_with_logits(z, y, weight=w)


@case
def ssd() -> torch.Tensor:
    c = lin(8, 4)(R(40, 8))
    b = lin(8, 4)(R(40, 8))
    y = torch.zeros(40).long()
    y[:10] = torch.randint(1, 4, (10,))
    ce = F.cross_entropy(c, y, reduction="none")
    neg = ce[10:].topk(15).values
    return (ce[:10].sum() + neg.sum()) / 10 + F.smooth_l1_loss(b[:10], R(10, 4), reduction="sum") / 10


@case
def siamese_contrastive() -> torch.Tensor:
    n = lin(8, 4)
    a, b = (n(R(16, 8)), n(R(16, 8)))
    d = F.pairwise_distance(a, b)
    y = torch.rand(16).round()
    return (y * d.pow(2) + (1 - y) * F.relu(1 - d).pow(2)).mean()


@case
def moe_balance() -> torch.Tensor:
    g = lin(8, 4)(R(16, 8)).softmax(1)
    o = (g[:, :, None] * torch.stack([lin(8, 3)(R(16, 8)) for _ in range(4)], 1)).sum(1)
    return F.cross_entropy(o, torch.randint(0, 3, (16,))) + 0.01 * 4 * (g.mean(0) * g.detach().mean(0)).sum()


@case
def hsic_bottleneck() -> torch.Tensor:
    x = lin(8, 4)(R(16, 8))
    k = torch.exp(-torch.cdist(x, x))
    H = torch.eye(16) - 1 / 16
    y = torch.exp(-torch.cdist(R(16, 2), R(16, 2)))
    return F.mse_loss(lin(4, 1)(x), R(16, 1)) - 0.1 * torch.trace(k @ H @ y @ H) / 225


@case
def lagrangian() -> torch.Tensor:
    lam = nn.Parameter(torch.ones(1))
    h = lin(8, 1)(R(16, 8))
    g = h.mean() - 0.1
    return F.mse_loss(h, R(16, 1)) + F.relu(lam).squeeze() * g - 0.01 * lam.pow(2).sum()


@case
def mcd() -> torch.Tensor:
    h = lin(8, 4)(R(16, 8))
    a, b = (lin(4, 3)(h), lin(4, 3)(h))
    return (
        F.cross_entropy(a, torch.randint(0, 3, (16,)))
        + F.cross_entropy(b, torch.randint(0, 3, (16,)))
        - (a.softmax(1) - b.softmax(1)).abs().mean()
    )


@case
def gauss_nll() -> torch.Tensor:
    h = lin(8, 2)(R(16, 8))
    mu, s = (h[:, 0], h[:, 1].exp())
    y = R(16)
    return -(-0.5 * ((y - mu) / s) ** 2 - torch.log(s)).mean()


@case
def neg_elbo() -> torch.Tensor:
    x = R(16, 4)
    mu, lv = lin(4, 4)(x).chunk(2, 1)
    z = mu + R(16, 2) * (lv / 2).exp()
    logp = -((lin(2, 4)(z) - x) ** 2).sum(1) / 2
    kl = 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1)
    return -(logp - kl).mean()


@case
def beta_vae_tc() -> torch.Tensor:
    x = R(16, 4)
    z = lin(4, 2)(x)
    lq = -0.5 * (z**2).sum(1)
    lqz = torch.logsumexp(-0.5 * ((z[:, None] - z[None]) ** 2).sum(2), 1)
    return F.mse_loss(lin(2, 4)(z), x) + 5 * (lq - lqz).abs().mean()


@case
def infonce_mi() -> torch.Tensor:
    a = lin(8, 4)(R(16, 8))
    b = lin(8, 4)(R(16, 8))
    t = a @ b.T
    return -(t.diag().mean() - torch.logsumexp(t.flatten(), 0) + math.log(256))


@case
def vrex() -> torch.Tensor:
    n = lin(8, 2)
    ls = torch.stack([F.cross_entropy(n(R(16, 8)), torch.randint(0, 2, (16,))) for _ in range(3)])
    return ls.mean() + 10 * ls.var()


@case
def irm() -> torch.Tensor:
    n = lin(8, 1)
    s = torch.ones(1, requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(n(R(16, 8)) * s, torch.rand(16, 1).round())
    (g,) = torch.autograd.grad(loss, s, create_graph=True)
    return loss + 100 * g.pow(2).sum()


@case
def dqn() -> torch.Tensor:
    q = lin(8, 4)(R(16, 8)).gather(1, torch.randint(0, 4, (16, 1)))
    return F.smooth_l1_loss(q, R(16, 1))


@case
def cql() -> torch.Tensor:
    q = lin(8, 4)(R(16, 8))
    d = q.gather(1, torch.randint(0, 4, (16, 1)))
    return F.mse_loss(d, R(16, 1)) + (torch.logsumexp(q, 1) - d.squeeze()).mean()


@case
def dpo() -> torch.Tensor:
    lp = F.logsigmoid(lin(8, 1)(R(16, 8))).squeeze()
    lr = F.logsigmoid(lin(8, 1)(R(16, 8))).squeeze()
    return -F.logsigmoid(0.1 * (lp - lr - R(16))).mean()


@case
def soft_focal_nogamma_learn() -> torch.Tensor:
    z = lin(8, 3)(R(16, 8))
    y = torch.randint(0, 3, (16,))
    ce = F.cross_entropy(z, y, reduction="none")
    w = (1 - torch.exp(-ce)).detach() ** 2
    return (w * ce).mean()


@case
def mean_teacher() -> torch.Tensor:
    s = lin(8, 3)
    t = lin(8, 3)
    x = R(16, 8)
    with torch.no_grad():
        tp = t(x).softmax(1)
    return F.cross_entropy(s(x)[:4], torch.randint(0, 3, (4,))) + 10 * F.mse_loss(s(x).softmax(1), tp)


@case
def nerf() -> torch.Tensor:
    c = nn.Sequential(lin(6, 16), nn.ReLU(), lin(16, 4))(R(64, 8, 6))
    sg = F.relu(c[..., 3])
    a = 1 - torch.exp(-sg * 0.1)
    T = torch.cumprod(torch.cat([torch.ones(64, 1), 1 - a + 1e-10], 1), 1)[:, :-1]
    w = a * T
    return ((w[..., None] * c[..., :3].sigmoid()).sum(1) - torch.rand(64, 3)).pow(2).mean()


@case
def yolo_like() -> torch.Tensor:
    o = nn.Conv2d(3, 7, 1)(R(2, 3, 4, 4))
    obj = (torch.rand(2, 4, 4) > 0.8).float()
    loss = F.binary_cross_entropy_with_logits(o[:, 0], obj)
    b = (
        F.mse_loss(o[:, 1:3].sigmoid(), torch.rand(2, 2, 4, 4), reduction="none").sum(1) * obj
    ).sum() / obj.sum().clamp(min=1)
    return loss + 5 * b


@case
def maskrcnn_sum() -> torch.Tensor:
    z = lin(8, 5)(R(32, 8))
    b = lin(8, 4)(R(32, 8))
    m = nn.Conv2d(3, 1, 1)(R(4, 3, 8, 8))
    return (
        F.cross_entropy(z, torch.randint(0, 5, (32,)))
        + F.smooth_l1_loss(b, R(32, 4))
        + F.binary_cross_entropy_with_logits(m, torch.rand(4, 1, 8, 8).round())
    )


@case
def siamese_resnet() -> torch.Tensor:
    r = models.resnet18()
    f = nn.Sequential(*list(r.children())[:6], nn.Flatten())
    a, b = (f(torch.rand(4, 3, 32, 32)), f(torch.rand(4, 3, 32, 32)))
    return F.mse_loss(a, b) + F.relu(1 - F.pairwise_distance(a, b.roll(1, 0))).mean()


@case
def unet_vgg_encoder() -> torch.Tensor:
    e = models.vgg16().features[:9]
    d = nn.Sequential(nn.ConvTranspose2d(64, 16, 2, 2), nn.ReLU(), nn.Conv2d(16, 2, 1))
    return F.cross_entropy(d(e(torch.rand(2, 3, 16, 16))), torch.randint(0, 2, (2, 16, 16)))


@case
def stn_classifier() -> torch.Tensor:
    first = nn.Conv2d(3, 3, 3, padding=1)
    v = models.vgg16()
    return F.cross_entropy(v(first(torch.rand(2, 3, 32, 32))), torch.tensor([1, 2]))


@case
def lpips_ok() -> torch.Tensor:
    v = models.vgg16().features[:9].eval().requires_grad_(False)
    sh, sc = (
        torch.tensor([-0.03, -0.088, -0.188])[None, :, None, None],
        torch.tensor([0.458, 0.448, 0.45])[None, :, None, None],
    )
    y = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())(torch.rand(2, 3, 16, 16))
    t = torch.rand(2, 3, 16, 16) * 2 - 1

    def f(x):
        return (lambda h: h / (h.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))(v((x - sh) / sc))

    return F.l1_loss(y, t) + ((f(y) - f(t)) ** 2).sum(1).mean()


@case
def grad_accum() -> torch.Tensor:
    return F.cross_entropy(lin(8, 3)(R(16, 8)), torch.randint(0, 3, (16,))) / 4


@case
def posw_cap() -> torch.Tensor:
    y = (torch.rand(400, 1) < 0.02).float()
    return F.binary_cross_entropy_with_logits(lin(8, 1)(R(400, 8)), y, pos_weight=torch.tensor([10.0]))


@case
def weighted_dict() -> torch.Tensor:
    h = lin(8, 9)(R(32, 8))
    w = {"a": 1.0, "b": 0.01}
    losses = {"a": F.cross_entropy(h[:, :5], torch.randint(0, 5, (32,))), "b": F.mse_loss(h[:, 5:], 100 * R(32, 4))}
    return sum(w[k] * losses[k] for k in losses)


@case
def hinge_gan() -> torch.Tensor:
    D = nn.Sequential(lin(8, 16), nn.ReLU(), lin(16, 1))
    return F.relu(1 - D(R(16, 8))).mean() + F.relu(1 + D(R(16, 8))).mean()
