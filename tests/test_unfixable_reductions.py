"""Where no command may mend: what stands in the way is said, and the code is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossproof.check import Options
from lossproof.finding import Finding
from lossproof.mend import mend

TRAIN = """

def train(loader, optimizer):
    for x, y in loader:
        loss = step(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
CASES: dict[str, tuple[str, str, str]] = {
    # ---- LP301
    "a caller that squeezes": (
        "LP301",
        "a caller squeezes",
        """
import torch
from torch import nn

net = nn.Conv2d(1, 1, 3, padding=1)

def dice_loss(pred, target):
    pred = pred.view(-1)
    target = target.view(-1)
    overlap = (pred * target).sum()
    return 1 - (2 * overlap + 1) / (pred.sum() + target.sum() + 1)

def step(x, y):
    return dice_loss(net(x).squeeze().sigmoid(), y.squeeze())
""",
    ),
    "a helper that flattens": (
        "LP301",
        "a helper of the project",
        """
import torch
from torch import nn

net = nn.Conv2d(1, 1, 3, padding=1)

def flatten(x):
    return x.contiguous().view(-1)

def dice_loss(pred, target):
    pred, target = flatten(torch.sigmoid(pred)), flatten(target)
    overlap = (pred * target).sum()
    return 1 - (2 * overlap + 1) / (pred.sum() + target.sum() + 1)

def step(x, y):
    return dice_loss(net(x), y)
""",
    ),
    # ---- LP111
    "label smoothing in another function": (
        "LP111",
        "label smoothing",
        """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return F.log_softmax(self.fc(x), dim=1)

net = Net()

def step(x, y):
    return F.cross_entropy(net(x), y, label_smoothing=0.1)
""",
    ),
    "class probabilities": (
        "LP111",
        "class probabilities",
        """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return F.log_softmax(self.fc(x), dim=1)

net = Net()

def step(x, y_onehot):
    return F.cross_entropy(net(x), y_onehot)
""",
    ),
    "a criterion that gets logits too": (
        "LP111",
        "something else than log-probabilities",
        """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.aux = nn.Linear(4, 3)

    def forward(self, x):
        return F.log_softmax(self.fc(x), dim=1), self.aux(x)

net = Net()
criterion = nn.CrossEntropyLoss()

def step(x, y):
    main, aux = net(x)
    return criterion(main, y) + 0.4 * criterion(aux, y)
""",
    ),
    # ---- LP104
    "probabilities that others read": (
        "LP104",
        "used elsewhere",
        """
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return F.softmax(self.fc(x), dim=1)

net = Net()

def confidence(x):
    return net(x).max(dim=1).values.mean()

def step(x, y):
    return F.nll_loss(net(x), y)
""",
    ),
    "a sigmoid": (
        "LP104",
        "a distribution over the classes",
        """
import torch
import torch.nn.functional as F
from torch import nn

net = nn.Linear(4, 3)

def step(x, y):
    return F.nll_loss(torch.sigmoid(net(x)), y)
""",
    ),
    # ---- LP105
    "a sigmoid before kl_div": (
        "LP105",
        "a distribution over the classes",
        """
import torch
import torch.nn.functional as F
from torch import nn

net = nn.Linear(4, 3)

def step(x, y):
    return F.kl_div(torch.sigmoid(net(x)), y, reduction="batchmean")
""",
    ),
    # ---- LP108
    "arguments in a list": (
        "LP108",
        "not written out",
        """
import torch.nn.functional as F
from torch import nn

net = nn.Linear(4, 1)

def step(x, y):
    both = (y.float(), net(x).squeeze(1))
    return F.binary_cross_entropy_with_logits(*both)
""",
    ),
    # ---- LP109
    "an axis by a default": (
        "LP109",
        "decided elsewhere",
        """
import torch.nn.functional as F
from torch import nn

net = nn.Linear(4, 3)

def normalized(scores, dim=0):
    return F.log_softmax(scores, dim=dim)

def step(x, y):
    return F.nll_loss(normalized(net(x)), y)
""",
    ),
    # ---- LP301
    "a sum that is reported": (
        "LP301",
        "used for something else",
        """
import torch

def dice_loss(pred, target, log):
    intersection = (pred * target).sum()
    log.append(intersection)
    return 1 - (2 * intersection + 1) / (pred.sum() + target.sum() + 1)

def step(x, y):
    return dice_loss(x.sigmoid(), y, [])
""",
    ),
    "flattened by the caller": (
        "LP301",
        "flattened before",
        """
import torch

def dice_loss(pred, target):
    intersection = (pred * target).sum()
    return 1 - (2 * intersection + 1) / (pred.sum() + target.sum() + 1)

def step(x, y):
    return dice_loss(x.sigmoid().view(-1), y.view(-1))
""",
    ),
    "a flattened tensor that is indexed": (
        "LP301",
        "used for something else",
        """
import torch

def dice_loss(pred, target):
    pred = pred.view(-1)
    target = target.view(-1)
    worst = pred[target.argmax()]
    intersection = (pred * target).sum()
    return 1 - (2 * intersection + 1) / (pred.sum() + target.sum() + 1) + worst

def step(x, y):
    return dice_loss(x.sigmoid(), y)
""",
    ),
    "einsum": (
        "LP301",
        "not understood",
        """
import torch

def dice_loss(p, onehot):
    inter = torch.einsum("bkwh,bkwh->k", p, onehot)
    union = torch.einsum("bkwh->k", p) + torch.einsum("bkwh->k", onehot)
    return 1 - ((2 * inter + 1e-6) / (union + 1e-6)).mean()

def step(x, y):
    return dice_loss(x.softmax(1), y)
""",
    ),
    # ---- LP304
    "a mask from a helper": (
        "LP304",
        "another function",
        """
import torch
import torch.nn.functional as F

def apply_mask(x, lengths):
    steps = x.new_ones(x.shape).cumsum(dim=1)
    return x * (steps <= lengths[:, None]).float()

def masked_loss(x, y, lengths):
    err = F.l1_loss(x, y, reduction="none").mean(dim=-1)
    return apply_mask(err, lengths).mean()

def step(x, y):
    return masked_loss(x, y, y.sum(1))
""",
    ),
    "a criterion that reduces": (
        "LP304",
        "where the criterion is built",
        """
import torch
from torch import nn

criterion = nn.L1Loss()

def hole_loss(output, image, hole):
    hole = (hole > 0.5).float()
    return criterion(output * hole, image * hole)

def step(x, y):
    image, hole = y
    return hole_loss(x, image, hole)
""",
    ),
    "a mask that was changed since": (
        "LP304",
        "not at hand",
        """
import torch
import torch.nn.functional as F

def masked_loss(x, y, mask):
    error = F.l1_loss(x, y, reduction="none") * mask
    mask = mask.cumsum(1)
    return error.mean()

def step(x, y):
    return masked_loss(x, y, (y > 0).float())
""",
    ),
}


def check(tmp_path: Path, rule: str, text: str) -> list[Finding]:
    (tmp_path / "train.py").write_text(text.lstrip() + TRAIN)
    mended = mend([tmp_path], Options(cache=False, select=[rule]), unsafe=True)
    assert mended.fixed == []
    assert mended.changes == []
    return mended.report.findings


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_shown_right_is_left_alone_with_a_reason(tmp_path: Path, name: str) -> None:
    rule, reason, text = CASES[name]
    found = check(tmp_path, rule, text)
    assert found, "nothing was found"
    for finding in found:
        assert finding.remedy.fixable == "no"
        assert finding.remedy.note.startswith("not mended by a command: ")
        assert reason in finding.remedy.note
