"""Where training loops, focal losses, class weights and feature networks are not mended, the finding says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossproof.check import Options, check_paths

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
VGG = "from torchvision import models\n"
BUFFERS = (
    '        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))\n'
    '        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))\n'
)
FORWARD = """
    def forward(self, a, b):
        return F.l1_loss(self.net((a - self.mean) / self.std), self.net((b - self.mean) / self.std))
"""
PLAIN = "\n    def forward(self, a, b):\n        return F.l1_loss(self.net(a), self.net(b))\n"
LOSS = "\n\nclass PerceptualLoss(nn.Module):\n    def __init__(self%s):\n        super().__init__()\n"
WEIGHER = """

class Weigher(nn.Module):
    def __init__(self%s):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(2))

    def forward(self, loss_a, loss_b):
        return torch.exp(-self.log_vars[0]) * loss_a + torch.exp(-self.log_vars[1]) * loss_b + self.log_vars.sum()
"""
STEP = """    for x, y, z in loader:
        a, b = model(x)
        loss = weigher(F.cross_entropy(a, y), F.mse_loss(b, z))
        opt.zero_grad()
        loss.backward()
        opt.step()
"""

CASES = {
    "LP701 another optimizer each time": (
        "\ndef train(model, loader, make):\n    for x, y in loader:\n        F.cross_entropy(model(x), y).backward()\n"
        "        make.optimizers().step()\n",
        "the result of a call",
    ),
    "LP701 in a comprehension": (
        "\ndef train(model, loader):\n"
        "    opts = [torch.optim.SGD(m.parameters(), lr=0.1) for m in model.children()]\n"
        "    for x, y in loader:\n        F.cross_entropy(model(x), y).backward()\n        [o.step() for o in opts]\n",
        "inside an expression",
    ),
    "LP701 erased by a helper": (
        "\ndef forget(optimizer):\n    optimizer.zero_grad()\n\n\ndef train(model, loader):\n"
        "    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n    for x, y in loader:\n"
        "        F.cross_entropy(model(x), y).backward()\n        forget(optimizer)\n        optimizer.step()\n",
        "in another function",
    ),
    "LP701 gradients are looked at": (
        "\ndef train(x, y):\n    w = torch.zeros(3, requires_grad=True)\n    for step in range(9):\n"
        "        loss = F.mse_loss(x @ w, y)\n        loss.backward()\n        with torch.no_grad():\n"
        "            w -= 0.1 * w.grad\n        print(w.grad.norm())\n",
        "used for something else",
    ),
    "LP702 the helper does not know": (
        "\ndef push(loss):\n    loss.backward()\n\n\ndef train(model, loader, optimizer, accum=4):\n"
        "    for i, (x, y) in enumerate(loader):\n        push(F.cross_entropy(model(x), y))\n"
        "        if (i + 1) % accum == 0:\n            optimizer.step()\n            optimizer.zero_grad()\n",
        "does not know how many",
    ),
    "LP702 a call gives the number": (
        "\ndef train(model, loader, optimizer, plan):\n    for i, (x, y) in enumerate(loader):\n"
        "        F.cross_entropy(model(x), y).backward()\n        if (i + 1) % plan.steps() == 0:\n"
        "            optimizer.step()\n            optimizer.zero_grad()\n",
        "the result of a call",
    ),
    "LP401 many classes": (
        "\ndef focal_loss(logits, target, alpha=0.25, gamma=2.0):\n"
        '    ce = F.cross_entropy(logits, target, reduction="none")\n'
        "    return (alpha * (1 - torch.exp(-ce)) ** gamma * ce).mean()\n",
        "many classes",
    ),
    "LP401 after the mean": (
        "\nclass FocalLoss(nn.Module):\n    def __init__(self, alpha=0.25):\n        super().__init__()\n"
        "        self.alpha = alpha\n\n    def forward(self, x, y):\n"
        '        bce = F.binary_cross_entropy_with_logits(x, y, reduction="none")\n'
        "        focal = ((1 - torch.exp(-bce)) ** 2 * bce).mean()\n        return self.alpha * focal\n",
        "applied to the mean",
    ),
    "LP401 labels without a name": (
        "\ndef focal_loss(logits, labels, alpha=0.25):\n"
        '    bce = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 3).float(), reduction="none")\n'
        "    return (alpha * (1 - torch.exp(-bce)) ** 2 * bce).mean()\n",
        "have no name",
    ),
    "LP402 the reduction is a setting": (
        '\nclass Focal(nn.Module):\n    def __init__(self, reduction="mean"):\n        super().__init__()\n'
        "        self.reduction = reduction\n\n    def forward(self, logits, target):\n"
        "        ce = F.cross_entropy(logits, target, reduction=self.reduction)\n"
        "        return (1 - torch.exp(-ce)) ** 2 * ce\n",
        "the reduction is a setting",
    ),
    "LP402 the mean is shown": (
        "\ndef focal(logits, target, gamma=2.0):\n    ce = F.cross_entropy(logits, target)\n    print(ce.item())\n"
        "    return (1 - torch.exp(-ce)) ** gamma * ce\n",
        "used for something else",
    ),
    "LP402 computed twice": (
        '\ndef focal(net, x, target, w):\n    ce = F.cross_entropy(net(x), target, weight=w, reduction="none")\n'
        "    return ((1 - torch.exp(-ce)) ** 2 * ce).mean()\n",
        "computed twice",
    ),
    "LP402 ignored targets": (
        "\ndef focal(logits, target, gamma=2.0):\n    ce = F.cross_entropy(logits, target, ignore_index=255)\n"
        "    return (1 - torch.exp(-ce)) ** gamma * ce\n",
        "set in another way",
    ),
    "LP403 only by its name": (
        "\ndef build(class_freq):\n    return nn.CrossEntropyLoss(weight=torch.tensor(class_freq))\n",
        "only known from their name",
    ),
    "LP403 may be none": (
        "\nclass Loss(nn.Module):\n    def __init__(self, labels=None):\n        super().__init__()\n"
        "        self.w = None\n        counts = torch.bincount(labels).float()\n"
        "        self.w = counts / counts.sum()\n        print(self.w)\n\n"
        "    def forward(self, x, y):\n        return F.cross_entropy(x, y, weight=self.w)\n",
        "may be None",
    ),
    "LP404 nothing is focused": (
        "\ndef focal_loss(logits, target, gamma=0.0):\n"
        '    ce = F.cross_entropy(logits, target, reduction="none")\n'
        "    return ((1 - torch.exp(-ce)) ** gamma * ce).mean()\n",
        "",
    ),
    "LP503 built after the optimizer": (
        WEIGHER % "" + "\n\ndef train(model, loader):\n    opt = torch.optim.Adam(model.parameters())\n"
        "    weigher = Weigher()\n" + STEP,
        "built after the optimizer",
    ),
    "LP503 holds the model": (
        WEIGHER % ", net" + "\n\ndef train(model, loader):\n    weigher = Weigher(model)\n"
        "    opt = torch.optim.Adam(model.parameters())\n" + STEP,
        "nothing may be in it twice",
    ),
    "LP503 moved after it was made": (
        "\ndef train(model, loader):\n    w = nn.Parameter(torch.zeros(2)).cuda()\n"
        "    opt = torch.optim.Adam(model.parameters())\n    for x, y, z in loader:\n        a, b = model(x)\n"
        "        loss_a = F.cross_entropy(a, y)\n        loss_b = F.mse_loss(b, z)\n"
        "        loss = torch.exp(-w[0]) * loss_a + torch.exp(-w[1]) * loss_b + w.sum()\n"
        "        opt.zero_grad()\n        loss.backward()\n        opt.step()\n",
        "moved after they were made",
    ),
    "LP601 a flag decides": (
        VGG + LOSS % ", trainable=False" + "        self.net = models.vgg16(pretrained=True).features[:9].eval()\n"
        "        if trainable:\n            print('fine-tuned')\n" + BUFFERS + FORWARD,
        "decide whether it is trained",
    ),
    "LP601 thawed again": (
        VGG + LOSS % "" + "        self.net = models.vgg16(pretrained=True).features[:9].eval()\n"
        "        for p in self.net.parameters():\n            p.requires_grad = True\n" + BUFFERS + FORWARD,
        "asked for their gradients elsewhere",
    ),
    "LP601 a trunk for several": (
        VGG + "\n\ndef trunk():\n    return models.vgg16(pretrained=True).features[:9]\n"
        + LOSS % "" + "        self.net = trunk().eval()\n" + BUFFERS + FORWARD
        + "\n\ndef encoder():\n    return nn.Sequential(trunk(), nn.Conv2d(128, 3, 1))\n",
        "others get their networks",
    ),
    "LP603 the range is not said": (
        VGG + LOSS % ""
        + "        self.net = models.vgg16(pretrained=True).features[:9].eval().requires_grad_(False)\n"
        + "        self.layers = [0, 1]\n" + PLAIN,
        "the range of the images is not seen",
    ),
    "LP603 layer by layer": (
        VGG + LOSS % ""
        + "        self.net = models.vgg16(pretrained=True).features[:9].eval().requires_grad_(False)\n"
        + "\n    def maps(self, x):\n        found = []\n        for layer in self.net:\n            x = layer(x)\n"
        + "            found.append(x)\n        return found\n\n    def forward(self, a, b):\n"
        + "        return sum(F.l1_loss(p, q) for p, q in zip(self.maps(a), self.maps(b)))\n",
        "layer by layer",
    ),
    "LP604 the number is computed": (
        VGG + LOSS % "" + "        layers = models.vgg16(pretrained=True).features.eval().requires_grad_(False)\n"
        "        self.relu3_3 = layers[: 2 * 8 + 1]\n" + BUFFERS + FORWARD.replace("self.net", "self.relu3_3"),
        "the number is computed",
    ),
    "LP605 a train of its own base": (
        VGG + LOSS.replace("(nn.Module)", "(nn.Module)") % ", net"
        + "        self.net = net\n        self.net.eval()\n" + BUFFERS + FORWARD
        + "\n\ndef fit(loader):\n    vgg = models.vgg16_bn(pretrained=True).features[:13].requires_grad_(False)\n"
        "    loss = PerceptualLoss(vgg)\n    for x, y in loader:\n        loss.train()\n"
        "        loss(x, y).backward()\n",
        "not the one that builds it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_no_fix_is_offered(tmp_path: Path, name: str) -> None:
    code = name.split()[0]
    text, reason = CASES[name]
    (tmp_path / "train.py").write_text(HEAD + text)
    report = check_paths([tmp_path], Options(cache=False, select=[code]))
    found = [f for f in report.findings if f.rule == code]
    assert found, "the rule finds nothing here"
    for finding in found:
        assert finding.remedy.fixable == "no"
        assert not finding.remedy.edits
        assert reason in finding.remedy.note
