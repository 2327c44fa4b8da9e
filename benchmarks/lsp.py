"""Measure what a pause in typing costs in ``lossproof lsp``: from the change of a buffer to its diagnostics.

    python benchmarks/lsp.py                        # a made-up project of 1,000 files, 100 of which have to do with losses
    python benchmarks/lsp.py --project PATH         # a copy of a project of your own

The server is a process of its own, spoken to over standard input and output as an editor does. Its cache is warm. Cost is
the CPU time, user and system, of that process from the moment before the change is sent to the moment when the
diagnostics have come back; one more column says what the server does afterwards, before it rests.
"""

from __future__ import annotations

import os
import random
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
