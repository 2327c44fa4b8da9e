"""Measure what a pause in typing costs in ``lossproof lsp``: from the change of a buffer to its diagnostics.

    python benchmarks/lsp.py                        # a made-up project of 1,000 files, 100 of them about losses
    python benchmarks/lsp.py --project PATH         # a copy of a project of your own

The server is a process of its own, spoken to over standard input and output as an editor does. Its cache is warm. Cost
is the CPU time, user and system, of that process from the moment before the change is sent to the moment when the
diagnostics have come back; one more column has all that the server does until it rests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR_MS = 150
PACKAGES = 20
PLAIN = 45
TICK = 1 / os.sysconf("SC_CLK_TCK")

MODEL = '''\
"""The network of {name}."""

import torch
from torch import nn

from {name}.blocks_{b} import scale_{b}


class {Name}Block(nn.Module):
    def __init__(self, width, out, dropout=0.1):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, out)
        self.dropout = nn.Dropout(dropout)
        self.act = nn.GELU()

    def forward(self, x):
        x = self.norm(x)
        x = self.dropout(self.act(self.inner(x)))
        return self.outer(x)


class {Name}Encoder(nn.Module):
    def __init__(self, width=64, depth={depth}):
        super().__init__()
        self.stem = nn.Linear(16, width)
        self.blocks = nn.ModuleList([{Name}Block(width, width) for _ in range(depth)])

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x


class {Name}Net(nn.Module):
    def __init__(self, classes={classes}, width=64):
        super().__init__()
        self.encoder = {Name}Encoder(width)
        self.head = {Name}Block(width, classes)
        self.score = nn.Linear(width, 1)

    def forward(self, x):
        features = scale_{b}(self.encoder(x))
        return {{"classes": {classes_out}, "score": {score_out}}}
'''
LOSSES = '''\
"""The objectives of {name}."""

import torch
import torch.nn.functional as F


def {n1}_loss(output, target, weight=None):
    return F.cross_entropy(output, target, weight=weight)


def {n2}_loss(output, target):
    return F.{bce}(output.squeeze(-1), target)


def overlap_loss(mask, truth, smooth=1.0):
    mask, truth = mask.flatten(1), truth.flatten(1)
    overlap = (mask * truth).sum(1)
    return (1 - (2 * overlap + smooth) / (mask.sum(1) + truth.sum(1) + smooth)).mean()


def relative_error(output, target):
    return ((output - target).abs() / {floor}).mean()


def build_criterion(name="both"):
    weights = {{"both": 0.5, "first": 0.0}}
    return {Name}Objective(weights[name])


class {Name}Objective(torch.nn.Module):
    def __init__(self, score_weight=0.5):
        super().__init__()
        self.score_weight = score_weight

    def forward(self, output, target):
        first = {n1}_loss(output["classes"], target["label"])
        second = {n2}_loss(output["score"], target["score"])
        return first + self.score_weight * second
'''
TRAINER = '''\
"""Training of {name}."""

import torch

from {name}.metrics import accuracy


class {Name}Trainer:
    def __init__(self, model, objective, optimizer, device="cpu", clip=1.0):
        self.model = model.to(device)
        self.objective = objective
        self.optimizer = optimizer
        self.device = device
        self.clip = clip
        self.history = []

    def step(self, batch):
        x, target = batch
        output = self.model(x.to(self.device))
        loss = self.objective(output, target)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.item(), output

    def fit(self, loader, epochs):
        for epoch in range(epochs):
            self.model.train()
            total = 0.0
            for batch in loader:
                value, output = self.step(batch)
                total += value
            self.history.append(total / max(len(loader), 1))

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        right = [accuracy(self.model(x)["classes"], target["label"]) for x, target in loader]
        return sum(right) / max(len(right), 1)
'''
MAIN = '''\
"""The command of {name}."""

import argparse

import torch
from torch.utils.data import DataLoader

from {name}.losses import build_criterion
from {name}.model import {Name}Net
from {name}.module_00 import load_00
from {name}.trainer import {Name}Trainer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--criterion", default="both")
    args = parser.parse_args()
    model = {Name}Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    trainer = {Name}Trainer(model, build_criterion(args.criterion), optimizer)
    loader = DataLoader(load_00("train"), batch_size=32, shuffle=True)
    trainer.fit(loader, args.epochs)
    print(trainer.evaluate(loader))


if __name__ == "__main__":
    main()
'''
METRICS = '''\
"""Figures about {name}."""

import torch


@torch.no_grad()
def accuracy(scores, labels):
    return (scores.argmax(-1) == labels).float().mean().item()


@torch.no_grad()
def mean_loss(losses):
    return torch.stack(losses).mean().item()
'''
BLOCKS = '''\
"""Small parts of {name}."""

import torch


def scale_{b}(x, factor=1.0):
    return x * factor


def center_{b}(x):
    return x - x.mean(-1, keepdim=True)
'''
CELL = '''\
def {verb}_{noun}_{k}({noun}s, limit={limit}, strict=False):
    """{Verb} every {noun}, {limit} at most."""
    found = []
    for index, {noun} in enumerate({noun}s):
        if index >= limit:
            break
        if not {noun}:
            if strict:
                raise ValueError(f"{noun} {{index}} is empty")
            continue
        key = {noun}.get("{field}", index) if isinstance({noun}, dict) else index
        found.append((key, str({noun}).strip().lower()))
    return dict(sorted(found))


'''
VERBS = ("collect", "parse", "merge", "split", "load", "store", "index", "clean", "render", "count")
NOUNS = ("record", "entry", "sample", "table", "folder", "image", "token", "label", "header", "row")


def make_project(root: Path, seed: int = 0) -> None:
    """Write 1,000 files: in each of 20 packages five that have to do with a loss, and plain ones of all sizes."""
    chance = random.Random(seed)
    (root / "pyproject.toml").write_text("[project]\nname = 'made-up'\n")
    for number in range(PACKAGES):
        name = f"task_{number:02}"
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        faulty = number % 5 == 0
        words = {
            "name": name,
            "Name": f"Task{number:02}",
            "b": f"{number:02}",
            "depth": 2 + number % 4,
            "classes": 3 + number % 7,
            "classes_out": "self.head(features).softmax(-1)" if faulty else "self.head(features)",
            "score_out": "self.score(features).sigmoid()" if faulty else "self.score(features)",
            "bce": "binary_cross_entropy" if faulty else "binary_cross_entropy_with_logits",
            "n1": NOUNS[number % len(NOUNS)],
            "n2": VERBS[(number * 3) % len(VERBS)],
            "floor": "target" if faulty else "target.abs().clamp(min=1e-3)",
        }
        for file, text in (
            ("model", MODEL), ("losses", LOSSES), ("trainer", TRAINER), ("main", MAIN), ("metrics", METRICS),
            (f"blocks_{number:02}", BLOCKS),
        ):  # fmt: skip
            (folder / f"{file}.py").write_text(text.format(**words))
        for k in range(PLAIN - 2):
            parts = ['"""Plain helpers."""\n\nimport json\nimport os\n\n\n']
            for cell in range(chance.choice((2, 4, 6, 10, 16))):
                verb, noun = chance.choice(VERBS), chance.choice(NOUNS)
                parts.append(
                    CELL.format(
                        verb=verb, noun=noun, k=cell, Verb=verb.title(), limit=chance.randrange(10, 999), field=noun[:3]
                    )
                )
            parts.append(f"def load_{k:02}(split):\n    return json.loads(os.environ.get(split.upper(), '[]'))\n")
            (folder / f"module_{k:02}.py").write_text("".join(parts))


EDITS = {
    "an expression in a model": ("model.py", "x = x + block(x)", "x = x + block(x) * {}"),
    "an activation in a model": ("model.py", "return self.outer(x)", "return self.outer(x).sigmoid() * {}"),
    "a weight in a loss": ("losses.py", "+ self.score_weight * second", "+ {} * self.score_weight * second"),
    "a statement in a trainer": ("trainer.py", "total += value", "total += value * {}"),
    "an option in a main script": ("main.py", "lr=args.lr)", "lr=args.lr * {})"),
    "a comment above all": ("trainer.py", "import torch\n", "# {}\nimport torch\n"),
    "a line in a plain file": ("module_07.py", "import os\n", "import os\n\nNUMBER = {}\n"),
}


def cpu_ms(pid: int) -> float:
    """CPU time of a process in milliseconds: the kernel counts nanoseconds in ``schedstat``, ticks in ``stat``."""
    try:
        total = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e6
    except (OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * TICK * 1000


def rested(pid: int) -> float:
    """CPU time when the process has nothing left to do."""
    before = cpu_ms(pid)
    while True:
        time.sleep(0.15)
        now = cpu_ms(pid)
        if now - before < 0.5:
            return now
        before = now


def edits_of(root: Path, rounds: int, chance: random.Random) -> list[tuple[str, Path, str]]:
    """What is edited, where, and the text afterwards."""
    found: list[tuple[str, Path, str]] = []
    for number in range(rounds):
        for name, (file, old, new) in EDITS.items():
            for folder in chance.sample(sorted(root.glob("task_*")), 2):
                text = (folder / file).read_text()
                assert old in text, (file, old)
                found.append((name, folder / file, text.replace(old, new.format(number + 1), 1)))
    return found


def own_edits(root: Path, rounds: int, chance: random.Random) -> list[tuple[str, Path, str]]:
    """In a project that was not made for this: a statement in a function, and a comment, in files with losses."""
    from lossproof.source.engine import matters

    files = [path for path in sorted(root.rglob("*.py")) if matters(path.read_bytes())]
    found: list[tuple[str, Path, str]] = []
    for path in chance.sample(files, min(len(files), 20 * rounds)):
        text = path.read_text(encoding="utf-8", errors="replace")
        places = [m.end() for m in re.finditer(r"^( +)return\b", text, re.M)]
        if places:
            at = text.rfind("\n", 0, chance.choice(places)) + 1
            margin = re.match(r" *", text[at:])
            statement = f"{margin[0] if margin else ''}unused = 1\n"
            found.append(("a statement in a file with losses", path, text[:at] + statement + text[at:]))
        found.append(("a comment above all", path, f"# note\n{text}"))
    return found


def measure(root: Path, edits: list[tuple[str, Path, str]], cache: str) -> dict[str, list[tuple[float, float]]]:
    """CPU milliseconds until the diagnostics, and until the server rests, by the kind of edit."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from lsp_client import Client

    client = Client(env={"LOSSPROOF_CACHE_DIR": cache}, cwd=root)
    figures: dict[str, list[tuple[float, float]]] = {}
    try:
        client.hello(root, options={"debounce": 20, "diagnostics": "open"})
        pid = client.process.pid
        opened: set[Path] = set()
        for name, path, after in edits:
            uri = path.as_uri()
            before = path.read_text(encoding="utf-8", errors="replace")
            if path not in opened:
                opened.add(path)
                client.open(uri, before)
                client.published(uri, 1)
            for version, text in ((2, before + "\n"), (3, after), (4, before)):
                start = rested(pid)
                client.change(uri, version, {"text": text})
                client.published(uri, version)
                done = cpu_ms(pid)
                if version == 3:
                    figures.setdefault(name, []).append((done - start, rested(pid) - start))
            client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
            opened.discard(path)
        client.goodbye()
    finally:
        client.kill()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", metavar="PATH", help="measure on a copy of this folder instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(temporary).resolve() / "project", f"{temporary}/cache"
        chance = random.Random(1)
        if arguments.project:
            shutil.copytree(arguments.project, root, ignore=shutil.ignore_patterns(".git", "__pycache__"))
            (root / "pyproject.toml").touch()
            edits = own_edits(root, arguments.rounds, chance)
        else:
            root.mkdir()
            make_project(root)
            edits = edits_of(root, arguments.rounds, chance)
        environment = {**os.environ, "LOSSPROOF_CACHE_DIR": cache}
        subprocess.run(
            [sys.executable, "-m", "lossproof", "check", "-q", "--exit-zero", "-o", os.devnull],
            cwd=root, env=environment, check=True,
        )  # fmt: skip
        files = sum(1 for _ in root.rglob("*.py"))
        lines = sum(path.read_bytes().count(b"\n") for path in root.rglob("*.py"))
        figures = measure(root, edits, cache)
    print(f"{files:,} files, {lines:,} lines; CPU milliseconds of the server\n")
    print("| edit | times | median | 90 % | worst | until it rests |\n|---|--:|--:|--:|--:|--:|")
    everything = [pair for pairs in figures.values() for pair in pairs]
    for name, pairs in [*figures.items(), ("**all**", everything)]:
        until = sorted(first for first, _ in pairs)
        rest = statistics.median(last for _, last in pairs)
        most = until[min(len(until) * 9 // 10, len(until) - 1)]
        print(f"| {name} | {len(until)} | {statistics.median(until):.0f} | {most:.0f} | {until[-1]:.0f} | {rest:.0f} |")
    median = statistics.median(first for first, _ in everything)
    print(f"\nThe bar is {BAR_MS} ms: {'met' if median <= BAR_MS else 'missed'} by the median.")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
