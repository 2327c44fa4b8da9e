"""Fixes that take an activation out of one function for a loss in another; see ``verify_cases.py``."""

# ruff: noqa: E501

from __future__ import annotations

from verify_cases import HEAD, Case

from lossproof.finding import Shift

LOSSES = (
    HEAD
    + """
def trait_loss(answers, truth):
    return F.binary_cross_entropy(answers, truth)
"""
)
NET = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self, features=8, classes=4):
        super().__init__()
        self.fc = nn.Linear(features, classes)

    def forward(self, x):
        return torch.sigmoid(self.fc(x))
"""
)
RUN = (
    HEAD
    + """from losses import trait_loss
from net import Net


def main(path):
    x, y = torch.load(path)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    trait_loss(model(x), y).backward()
    optimizer.step()
"""
)
FILES = {"losses.py": LOSSES, "net.py": NET, "run.py": RUN}
BARE = ("net.py", "torch.sigmoid(self.fc(x))", "self.fc(x)")
BCE = "F.binary_cross_entropy(answers, truth)"
TAKES = Shift("losses.py", "trait_loss", "answers", (), "sigmoid")
GIVES = Shift("net.py", "Net.forward", "", (), "sigmoid")
ENTRIES = {
    "losses.py": HEAD
    + """
def objective(outputs, batch):
    fit = F.mse_loss(outputs["size"], batch["size"])
    return fit + F.binary_cross_entropy(outputs["score"], batch["target"])
"""
}
LOGITS = {**FILES, "losses.py": LOSSES.replace("cross_entropy", "cross_entropy_with_logits")}
CLASSES = {
    **FILES,
    "losses.py": LOSSES.replace("binary_cross_entropy", "cross_entropy"),
    "net.py": NET.replace("sigmoid(self.fc(x))", "softmax(self.fc(x), dim=1)"),
}
SCORES = {
    "t.py": HEAD
    + """
def scores(x, weight):
    hidden = torch.tanh(x)
    return hidden, torch.sigmoid(hidden @ weight.t())


def main(path):
    x, y, w = torch.load(path)
    F.binary_cross_entropy(scores(x, w)[1], y).backward()
"""
}

BOTH = {
    "t.py": HEAD
    + """
class Tagger(nn.Module):
    def __init__(self, features=8, classes=4):
        super().__init__()
        self.fc = nn.Linear(features, classes)

    def forward(self, x, target):
        probs = torch.sigmoid(self.fc(x))
        return F.binary_cross_entropy(probs, target), probs
"""
}
BOTH_EDITS = [
    ("t.py", "torch.sigmoid(self.fc(x))", "self.fc(x)"),
    ("t.py", "entropy(probs", "entropy_with_logits(probs"),
]

MOVED: dict[str, Case] = {
    "helper_takes_logits": Case(
        "LP101", FILES, [BARE, ("losses.py", BCE, "F.binary_cross_entropy_with_logits(answers, truth)")], ("losses.py", BCE),
        [("net.py", "torch.sigmoid")], shifts=[TAKES, GIVES], says="`trait_loss`: .* same.*extreme: .*gradient 0, now .* with gradient 0[.]",
    ),
    "helper_takes_logits_and_doubles": Case(
        "LP101", FILES, [BARE, ("losses.py", BCE, "2 * F.binary_cross_entropy_with_logits(answers, truth)")], ("losses.py", BCE),
        [("net.py", "torch.sigmoid")], shifts=[TAKES, GIVES], verdict="failed", says="`trait_loss`: moderate",
    ),
    "helper_takes_logits_and_is_as_it_was": Case(
        "LP101", FILES, [BARE, ("losses.py", BCE, "F.binary_cross_entropy(answers.sigmoid(), truth)")], ("losses.py", BCE),
        [("net.py", "torch.sigmoid")], shifts=[TAKES, GIVES], verdict="failed", says="extreme: .* before and after",
    ),
    "helper_takes_a_dictionary": Case(
        "LP101", ENTRIES, [("losses.py", "F.binary_cross_entropy(outputs", "F.binary_cross_entropy_with_logits(outputs")], ("losses.py", "F.binary"),
        shifts=[Shift("losses.py", "objective", "outputs", ("score",), "sigmoid")], says="`objective`: .* same.*extreme: .*gradient 0[.]",
    ),
    "helper_that_took_logits_all_along": Case(
        "LP103", LOGITS, [BARE], ("losses.py", "F.binary"), [("net.py", "torch.sigmoid")], safe=False, shifts=[TAKES, GIVES],
        says="`trait_loss`: .* became",
    ),
    "helper_with_cross_entropy": Case(
        "LP102", CLASSES, [("net.py", "torch.softmax(self.fc(x), dim=1)", "self.fc(x)")], ("losses.py", "F.cross"), [("net.py", "torch.softmax")],
        safe=False, says="`trait_loss`: .* became",
        shifts=[Shift("losses.py", "trait_loss", "answers", (), "softmax", 1), Shift("net.py", "Net.forward", "", (), "softmax", 1)],
    ),
    "scores_are_logits": Case(
        "LP101", SCORES, [("t.py", "torch.sigmoid(hidden @ weight.t())", "hidden @ weight.t()"), ("t.py", "F.binary_cross_entropy(", "F.binary_cross_entropy_with_logits(")],
        ("t.py", "F.binary"), [("t.py", "torch.sigmoid")], shifts=[Shift("t.py", "scores", "", (1,), "sigmoid")], verdict="not run", says="main",
    ),
    "loss_and_logits": Case(
        "LP101", BOTH, BOTH_EDITS, ("t.py", "F.binary"), shifts=[Shift("t.py", "Tagger.forward", "", (1,), "sigmoid")],
        says="`Tagger.forward`: .* same",
    ),
    "loss_and_what_was_said_to_be_probabilities": Case(
        "LP101", BOTH, BOTH_EDITS, ("t.py", "F.binary"), verdict="failed", says=r"result\[1\]: .* became",
    ),
}  # fmt: skip

LOOP = {
    "net.py": NET.replace("classes=4", "classes=1"),
    "evaluate.py": """import torch


@torch.no_grad()
def evaluate(model, loader, criterion):
    model.eval()
    total, right = 0.0, 0
    for x, y in loader:
        probs = model(x).squeeze(1)
        total += criterion(probs, y).item()
        right += ((probs > 0.5) == y.bool()).sum().item()
    return total, right
""",
    "main.py": HEAD
    + """from net import Net
from evaluate import evaluate


def train(loader, val):
    model = Net()
    criterion = nn.BCELoss()
    opt = torch.optim.Adam(model.parameters())
    for x, y in loader:
        opt.zero_grad()
        model.train()
        loss = criterion(model(x).squeeze(1), y)
        loss.backward()
        opt.step()
        print(evaluate(model, val, criterion))
    torch.onnx.export(model, torch.zeros(1, 8), "m.onnx")
""",
}
TASKS = {
    "losses.py": LOSSES,
    "net.py": HEAD
    + """
class Reader(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.digit = nn.Linear(width * 36, 10)
        self.traits = nn.Linear(width * 36, 6)

    def forward(self, sheet):
        features = torch.relu(self.conv(sheet)).flatten(1)
        return {"digit": torch.softmax(self.digit(features), dim=1), "traits": torch.sigmoid(self.traits(features))}
""",
    "engine.py": HEAD
    + """from losses import trait_loss
from net import Reader


class Trainer:
    def __init__(self, model, device="cpu"):
        self.model = model
        self.device = device
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(model.parameters())

    def compute_losses(self, batch):
        sheet, digit, traits = (part.to(self.device) for part in batch)
        output = self.model(sheet)
        return self.criterion(output["digit"], digit) + trait_loss(output["traits"], traits)

    def train_epoch(self, batches):
        for batch in batches:
            self.optimizer.zero_grad()
            self.compute_losses(batch).backward()
            self.optimizer.step()


def main(batches):
    Trainer(Reader()).train_epoch(batches)
""",
}
PROJECTS: dict[str, tuple[dict[str, str], str, list[str]]] = {
    "validation in the training loop": (LOOP, "LP101", [r"LP101: verified: `train`: \d+ inputs same"]),
    "a loss in a helper, several outputs": (
        TASKS, "LP101,LP102", [r"LP101: verified: `trait_loss`.* same", r"LP102: verified: `Trainer.compute_losses`: \d+ inputs finite"]
    ),
}  # fmt: skip
