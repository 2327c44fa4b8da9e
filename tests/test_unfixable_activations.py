"""Where an activation may not be moved by a command: the reason is said, and the code is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossproof.check import Options
from lossproof.mend import mend

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

"""
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        return torch.sigmoid(self.fc(x)).squeeze(1)

"""
STEPS = """
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
TRAIN = (
    """
def train(x, y):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = F.binary_cross_entropy(net(x), y)
"""
    + STEPS
)
# name: (rule, what the reason says, the programs by file)
CASES: dict[str, tuple[str, str, dict[str, str]]] = {
    "an activation that a caller chooses": (
        "LP101",
        "chosen elsewhere",
        {
            "main.py": HEAD
            + """
def block(i, o, act=nn.ReLU):
    return nn.Sequential(nn.Linear(i, o), act())

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = block(4, 8)
        self.b = block(8, 1, nn.Sigmoid)

    def forward(self, x):
        return self.b(self.a(x)).squeeze(1)
"""
            + TRAIN
        },
    ),
    "an activation from a table": (
        "LP102",
        "chosen elsewhere",
        {
            "main.py": HEAD
            + """
ACTIVATIONS = {"softmax": nn.Softmax(dim=1)}

class Net(nn.Module):
    def __init__(self, act="softmax"):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.act = ACTIVATIONS[act]

    def forward(self, x):
        return self.act(self.fc(x))

def train(x, y):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = F.cross_entropy(net(x), y)
"""
            + STEPS
        },
    ),
    "a model that nobody is seen to give, and two networks": (
        "LP101",
        "may be the same network",
        {
            "main.py": HEAD + NET + TRAIN,
            "other.py": HEAD
            + """
class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        return self.fc(x)
""",
            "report.py": """
from main import Net
from other import Other

def report(model, x):
    return (model(x) > 0.5).sum()
""",
        },
    ),
    "one branch only": (
        "LP101",
        "`p * mask` stands between",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, x, mask=None):
        p = torch.sigmoid(self.fc(x)).squeeze(1)
        if mask is None:
            return p
        return p * mask
"""
            + TRAIN
        },
    ),
    "handed to unknown code": (
        "LP101",
        "is given the network",
        {
            "main.py": HEAD
            + NET
            + TRAIN
            + """
def infer(x, pool):
    from engine import run
    return run(Net(), x)
"""
        },
    ),
    "mapped over batches": (
        "LP101",
        "is given the network",
        {
            "main.py": HEAD
            + NET
            + TRAIN
            + "\ndef infer(batches):\n    net = Net()\n    return list(map(net, batches))\n"
        },
    ),
    "a hook that listens": (
        "LP101",
        "does with the output is not seen",
        {
            "main.py": HEAD
            + NET
            + TRAIN
            + "\ndef listen(log):\n    net = Net()\n    net.register_forward_hook(log)\n    return net\n"
        },
    ),
    "layers that are counted": (
        "LP101",
        "single layers",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0), nn.Sigmoid())

    def forward(self, x):
        return self.net(x)

    def logits(self, x):
        return self.net[:-1](x)
"""
            + TRAIN
        },
    ),
    "a criterion of a class of its own": (
        "LP101",
        "which loss it is, is chosen elsewhere",
        {
            "main.py": HEAD
            + NET
            + """
class Weighted(nn.BCELoss):
    def __init__(self):
        super().__init__(reduction="sum")

def train(x, y):
    net = Net()
    criterion = Weighted()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = criterion(net(x), y)
"""
            + STEPS
        },
    ),
    "a criterion that is given something else too": (
        "LP101",
        "also reaches the loss",
        {
            "main.py": HEAD
            + NET
            + """
criterion = nn.BCELoss()

def train(x, y):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = criterion(net(x), y)
"""
            + STEPS
            + "\ndef prior(y):\n    return criterion(torch.full((6,), 0.3), y)\n"
        },
    ),
    "interpolated between": (
        "LP101",
        "interpolate",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x):
        p = torch.sigmoid(self.conv(x))
        return F.interpolate(p, scale_factor=2)
"""
            + TRAIN
        },
    ),
    "kept on the object and read in another method": (
        "LP101",
        "kept in `self.prob`",
        {
            "main.py": HEAD
            + NET
            + """
class Learner:
    def __init__(self):
        self.net = Net()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def forward(self, x):
        self.prob = self.net(x)

    def backward(self, y):
        loss = F.binary_cross_entropy(self.prob, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def step(self, x, y):
        self.forward(x)
        self.backward(y)
"""
        },
    ),
    "one of two losses by a setting": (
        "LP101",
        "which loss it is",
        {
            "main.py": HEAD
            + NET
            + """
def loss_by_name(name):
    return {"bce": F.binary_cross_entropy, "mse": F.mse_loss}[name]

def train(x, y, name="bce"):
    net = Net()
    criterion = loss_by_name("bce")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = criterion(net(x), y)
"""
            + STEPS
        },
    ),
    "a flag that leaves the activation out": (
        "LP101",
        "reaches the loss as well",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, x, logits=False):
        z = self.fc(x).squeeze(1)
        if logits:
            return z
        return torch.sigmoid(z)
"""
            + TRAIN
        },
    ),
    "exported beside other outputs": (
        "LP103",
        "exports the network",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        h = self.fc(x).squeeze(1)
        return torch.sigmoid(h), h

def train(x, y):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    p, _ = net(x)
    loss = F.binary_cross_entropy_with_logits(p, y)
"""
            + STEPS
            + "\ndef export(x):\n    torch.onnx.export(Net(), x, 'net.onnx')\n"
        },
    ),
    "a softmax whose axes are turned": (
        "LP102",
        "other axes",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return F.softmax(self.fc(x), dim=2).permute(0, 2, 1)

def train(x, y):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = F.cross_entropy(net(x), y)
"""
            + STEPS
            + "\ndef predict(x):\n    return Net()(x).max(1).values\n"
        },
    ),
    "an axis that is a setting": (
        "LP102",
        "axis",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self, axis):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.axis = axis

    def forward(self, x):
        return F.softmax(self.fc(x), dim=self.axis)

def train(x, y, axis):
    net = Net(axis)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = F.cross_entropy(net(x), y)
"""
            + STEPS
            + "\ndef predict(x, axis):\n    return Net(axis)(x).max(1).values\n"
        },
    ),
    "an activation that is registered": (
        "LP101",
        "is registered",
        {
            "main.py": HEAD
            + """
ENDINGS = {}

def register(name):
    def keep(function):
        ENDINGS[name] = function
        return function
    return keep

@register("chance")
def chance(x):
    return torch.sigmoid(x)

class Net(nn.Module):
    def __init__(self, ending="chance"):
        super().__init__()
        self.fc = nn.Linear(4, 1)
        self.ending = ENDINGS[ending]

    def forward(self, x):
        return self.ending(self.fc(x)).squeeze(1)
"""
            + TRAIN
        },
    ),
    "another value before the first turn": (
        "LP102",
        "before the first turn",
        {
            "main.py": HEAD
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(7, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        h, last, outs = x.new_zeros(len(x), 5), x.new_zeros(len(x), 3), []
        for t in range(x.size(1)):
            h = self.cell(torch.cat([x[:, t], last], 1), h)
            last = F.softmax(self.fc(h), dim=1)
            outs.append(last)
        return torch.stack(outs, 1)

def train(x, y):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = F.cross_entropy(net(x).flatten(0, 1), y.flatten())
"""
            + STEPS
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reason_is_said_and_the_code_is_left_alone(name: str, tmp_path: Path) -> None:
    rule, reason, files = CASES[name]
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    mended = mend([tmp_path], Options(cache=False, select=[rule]), unsafe=True)
    assert mended.report.findings, "the fault is not found"
    notes = [finding.remedy.note for finding in mended.report.findings]
    assert {finding.remedy.fixable for finding in mended.report.findings} == {"no"}
    assert mended.changes == []
    assert all(reason in note for note in notes), notes
