"""Where no fix of a numeric rule is right, none is offered, and the finding says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossproof.check import Options, check_paths

TRAIN = """

def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        loss = objective_loss(model(x), y)
        loss.backward()
        optimizer.step()
"""
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)

"""
HEAD = "import math\n\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\n" + NET
FIT = """

def fit(loader):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    for x, y in loader:
        optimizer.zero_grad()
        loss = objective_loss(model(x), y)
        loss.backward()
        optimizer.step()
"""

CASES = {
    # The activation is applied in another function: the logits are not within reach.
    "LP106 logits elsewhere": (
        "def objective_loss(p, y):\n    return -(y * torch.log(p)).sum(1).mean()\n\n\n"
        "def step(model: Net, optimizer, x, y):\n    loss = objective_loss(torch.softmax(model(x), dim=1), y)\n"
        "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n",
        "not within reach",
    ),
    "LP106 logits changed since": (
        "def objective_loss(x, y):\n    p = torch.softmax(x, dim=1)\n    x += 1\n"
        "    return -(y * torch.log(p)).sum(1).mean() + x.mean()\n" + FIT,
        "`x` is changed",
    ),
    "LP106 logits changed in place": (
        "def objective_loss(x, y):\n    p = torch.softmax(x, dim=1)\n    x[0] = 0\n"
        "    return -(y * torch.log(p)).sum(1).mean()\n" + FIT,
        "`x` is changed",
    ),
    "LP106 complement of a softmax": (
        "def objective_loss(x, y):\n    return -(y * torch.log(1 - torch.softmax(x, dim=1))).sum(1).mean()\n" + FIT,
        "no form in log space",
    ),
    "LP201 raw output below": (
        "def objective_loss(out, y):\n    return (y / out).mean()\n" + FIT,
        "a raw output passes through zero",
    ),
    "LP202 raw output": (
        "def objective_loss(out, y):\n    return (torch.log(out) - y).abs().mean()\n" + FIT,
        "far below zero",
    ),
    "LP202 difference": (
        "def objective_loss(a, b):\n    return torch.log(a - b).mean()\n" + TRAIN,
        "far below zero",
    ),
    "LP202 log1p of what may be above one": (
        "def objective_loss(scores):\n    return -torch.log1p(-scores).mean()\n\n\n"
        "def train(encoder, graph, optimizer):\n    for _ in range(200):\n        z = encoder(graph.x, graph.edges)\n"
        "        loss = objective_loss((z[graph.src] * z[graph.dst]).sum(dim=-1))\n"
        "        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n",
        "more than 1",
    ),
    "LP202 in place": (
        "def objective_loss(rate, y):\n    rate = F.relu(rate)\n    rate.log_()\n    return (rate * y).mean()\n"
        + TRAIN,
        "in place",
    ),
    "LP203 power above one of a raw output": (
        "def objective_loss(out, y):\n    return ((out - y) ** 1.5).mean()\n" + FIT,
        "can be negative",
    ),
    "LP203 root of a raw output": (
        "def objective_loss(out, y):\n    return (torch.sqrt(out) - y).abs().mean()\n" + FIT,
        "far below zero",
    ),
    "LP204 bare exponential": (
        "def objective_loss(out, y):\n    return (torch.exp(out) - y).abs().mean()\n" + FIT,
        "no bounded form",
    ),
    "LP204 exponential read elsewhere too": (
        "def objective_loss(out, y):\n    e = torch.exp(out)\n    return torch.sigmoid(e - y).mean() + e.sum()\n" + FIT,
        "no bounded form",
    ),
    "LP205 epsilon under a name elsewhere": (
        "ONE = 1 + 1e-8\n\n\ndef objective_loss(p, y):\n    return -torch.log(ONE - p).mean()\n" + TRAIN,
        "stands elsewhere",
    ),
    "LP206 read elsewhere too": (
        "def objective_loss(x, y):\n    r = torch.sqrt(x)\n    safe = torch.where(x > 0, r, torch.zeros_like(r))\n"
        "    return (safe + r).mean()\n" + TRAIN,
        "used elsewhere",
    ),
    "LP206 condition made of the result": (
        "def objective_loss(x, y):\n    r = torch.log(x)\n    x = x + y\n"
        "    return torch.where(x > 0, r, torch.zeros_like(r)).mean()\n" + TRAIN,
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_no_fix_is_offered(tmp_path: Path, name: str) -> None:
    code = name.split()[0]
    text, reason = CASES[name]
    (tmp_path / "train.py").write_text(HEAD + "\n" + text)
    report = check_paths([tmp_path], Options(cache=False, select=[code]))
    found = [f for f in report.findings if f.rule == code]
    if not reason:
        assert all(f.remedy.fixable == "no" for f in found)
        return
    assert found, "the rule finds nothing here"
    for finding in found:
        assert finding.remedy.fixable == "no"
        assert not finding.remedy.edits
        assert reason in finding.remedy.note
