# ruff: noqa: E501 (a source under test is one string)
"""How the source eye walks: what a finding says of the way from the activation to the loss, and where it stays silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lossproof.check import Options, Report, check_paths
from lossproof.finding import Finding, Location

HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
Make = Callable[..., Path]


def check(project: Make, files: dict[str, str], target: str = ".", **options: object) -> Report:
    project({name: text if name.endswith(".ipynb") else HEAD + text for name, text in files.items()})
    report = check_paths([target], Options(cache=False, jobs=1, **options))  # type: ignore[arg-type]
    assert not report.warnings
    return report


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, [(f.rule, f.path, f.line) for f in report.findings]
    return report.findings[0]


def spot(files: dict[str, str], place: Location) -> str:
    """The text that a location covers: the columns are right when this is what one would point at."""
    lines = (HEAD + files[place.path]).split("\n")
    assert place.line == place.end_line
    return lines[place.line - 1][place.column - 1 : place.end_column - 1]


# ---- traces


def test_the_trace_begins_at_the_activation_and_crosses_files(project: Make) -> None:
    files = {
        "heads.py": "class Head(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.out = nn.Linear(4, 1)\n"
        "    def forward(self, x):\n        return torch.sigmoid(self.out(x))\n",
        "model.py": "from heads import Head\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.head = Head()\n    def forward(self, x):\n        return self.head(x)\n",
        "losses.py": "def objective(p, y):\n    return F.binary_cross_entropy(p, y)\n",
        "train.py": "from losses import objective\nfrom model import Net\ndef train(loader):\n    net = Net()\n"
        "    for x, y in loader:\n        objective(net(x), y).backward()\n",
    }
    found = only(check(project, files))
    assert (found.rule, found.path, found.confidence) == ("LP101", "losses.py", "proven")
    assert spot(files, found.location) == "F.binary_cross_entropy(p, y)"
    hops = [(place.path, spot(files, place)) for place in found.related]
    assert hops[0] == ("heads.py", "torch.sigmoid(self.out(x))")
    assert ("model.py", "self.head(x)") in hops
    assert hops.index(("model.py", "self.head(x)")) < hops.index(("train.py", "net(x)"))
    assert all(place.message for place in found.related)


def test_a_finding_is_shown_once_for_all_its_contexts(project: Make) -> None:
    calls = "".join(f"def train{i}(net, x, y):\n    loss_of(net(x).sigmoid(), y).backward()\n" for i in range(5))
    found = only(check(project, {"a.py": "def loss_of(p, y):\n    return F.binary_cross_entropy(p, y)\n" + calls}))
    assert (found.rule, found.line) == ("LP101", 5)


def test_only_what_is_asked_for_is_reported_but_all_is_followed(project: Make) -> None:
    files = {
        "model.py": "def predict(net, x):\n    return net(x).softmax(1)\n",
        "train.py": "from model import predict\ndef train(net, x, y):\n    return F.cross_entropy(predict(net, x), y)\n",
        "other.py": "def f(net, x, y):\n    return F.cross_entropy(net(x).softmax(1), y)\n",
    }
    found = only(check(project, files, target="train.py"))
    assert (found.path, found.related[0].path) == ("train.py", "model.py")


# ---- where things are


@pytest.mark.parametrize(
    "line",
    [
        "loss = F.cross_entropy(net(x).softmax(1), y)",
        "größe = 'ünï', F.cross_entropy(net(x).softmax(1), y)",
        "日本語 = F.cross_entropy(net(x).softmax(1), y)",
        "s = '😀😀', F.cross_entropy(net(x).softmax(1), y), '😀'",
    ],
)
def test_columns_count_characters(project: Make, line: str) -> None:
    files = {"a.py": f"def step(net, x, y):\n    {line}\n"}
    found = only(check(project, files))
    assert spot(files, found.location) == "F.cross_entropy(net(x).softmax(1), y)"
    assert spot(files, found.related[0]) == "net(x).softmax(1)"


def test_a_call_over_several_lines_ends_where_it_ends(project: Make) -> None:
    text = "def step(net, x, y):\n    return F.cross_entropy(\n        net(x).softmax(1),  # größe\n        y,\n    )\n"
    where = only(check(project, {"a.py": text})).location
    assert (where.line, where.column, where.end_line, where.end_column) == (5, 12, 8, 6)


def test_findings_in_a_notebook_are_by_cell(project: Make) -> None:
    cells = [
        ("markdown", "# Training"),
        ("code", "%matplotlib inline\n" + HEAD),
        ("code", "class Net(nn.Module):\n    def forward(self, x):\n        return x.softmax(1)\n"),
        ("code", "!ls\nnet = Net()\nfor x, y in loader:\n    F.cross_entropy(net(x), y).backward()"),
    ]
    listed = [{"cell_type": kind, "metadata": {}, "source": source, "outputs": []} for kind, source in cells]
    found = only(check(project, {"a.ipynb": json.dumps({"cells": listed, "nbformat": 4, "metadata": {}})}))
    assert (found.location.cell, found.line, found.location.column) == (4, 4, 5)
    assert (found.related[0].cell, found.related[0].line, found.related[0].column) == (3, 3, 16)


# ---- how sure


def test_what_is_always_so_is_proven_and_what_a_choice_decides_is_likely(project: Make) -> None:
    always = "def step(net, x, y):\n    return F.cross_entropy(net(x).softmax(1), y)\n"
    assert only(check(project, {"a.py": always})).confidence == "proven"
    choice = (
        "class A(nn.Module):\n    def forward(self, x):\n        return x.softmax(1)\n"
        "class B(nn.Module):\n    def forward(self, x):\n        return x * 2\n"
        "def step(args, x, y):\n    net = A() if args.net == 'a' else B()\n    return F.cross_entropy(net(x), y)\n"
    )
    assert only(check(project, {"a.py": choice})).confidence == "likely"


def test_an_unknown_flag_that_only_switches_the_activation_is_silent(project: Make) -> None:
    text = "def step(net, x, y, flag):\n    p = net(x)\n    if flag:\n        p = p.softmax(1)\n    return F.cross_entropy(p, y)\n"
    assert not check(project, {"a.py": text}).findings


NET = """\
class Net(nn.Module):
    def __init__(self, activate):
        super().__init__()
        self.fc = nn.Linear(4, 1)
        self.activate = activate
    def forward(self, x):
        x = self.fc(x)
        if self.activate:
            x = x.sigmoid()
        return x
"""


@pytest.mark.parametrize(
    ("given", "faulty"), [("True", True), ("False", False), ("1", True), ("0", False), ("None", False)]
)
def test_a_constant_decides_which_branch_is_taken(project: Make, given: str, faulty: bool) -> None:
    text = (
        NET
        + f"def train(x, y):\n    net = Net({given})\n    F.binary_cross_entropy_with_logits(net(x), y).backward()\n"
    )
    assert [f.rule for f in check(project, {"a.py": text}).findings] == (["LP103"] if faulty else [])


def test_a_flag_that_chooses_both_activation_and_loss_is_one_flag(project: Make) -> None:
    """The sigmoid of one branch must not be paired with the loss of the other."""
    text = (
        "def train(net, x, y, activate):\n    p = net(x)\n    if activate:\n        p = p.sigmoid()\n"
        "    if activate:\n        loss = F.mse_loss(p, y)\n    else:\n"
        "        loss = F.binary_cross_entropy_with_logits(p, y)\n    loss.backward()\n"
    )
    assert not check(project, {"a.py": text}).findings
    crossed = text.replace("    if activate:\n        loss", "    if not activate:\n        loss")
    assert only(check(project, {"a.py": crossed})).rule == "LP103"


@pytest.mark.parametrize(
    "dead",
    [
        "if False:\n        p = p.softmax(1)",
        "if not True:\n        p = p.softmax(1)",
        "if 0 > 1:\n        p = p.softmax(1)",
        "p = p.softmax(1) if False else p",
        "mode = 'raw'\n    if mode == 'probability':\n        p = p.softmax(1)",
        "if True:\n        pass\n    else:\n        p = p.softmax(1)",
    ],
)
def test_what_no_run_reaches_is_no_fault(project: Make, dead: str) -> None:
    text = f"def step(net, x, y):\n    p = net(x)\n    {dead}\n    return F.cross_entropy(p, y)\n"
    assert not check(project, {"a.py": text}).findings


@pytest.mark.parametrize(
    "where",
    [
        "with torch.no_grad():\n        loss = F.cross_entropy(net(x).softmax(1), y)",
        "with torch.inference_mode():\n        loss = F.cross_entropy(net(x).softmax(1), y)",
        "if False:\n        loss = F.cross_entropy(net(x).softmax(1), y)",
    ],
)
def test_a_loss_that_trains_nothing_is_left_alone(project: Make, where: str) -> None:
    assert not check(project, {"a.py": f"def step(net, x, y):\n    {where}\n"}).findings


def test_a_gate_inside_the_network_is_not_its_output(project: Make) -> None:
    text = "def step(a, b, x, y):\n    gate = a(x).softmax(1)\n    return F.cross_entropy(b(gate * x), y)\n"
    assert not check(project, {"a.py": text}).findings


def test_the_value_that_was_last_assigned_counts(project: Make) -> None:
    wrong = "def step(net, x, y):\n    p = net(x)\n    p = p.softmax(1)\n    return F.cross_entropy(p, y)\n"
    right = "def step(net, x, y):\n    p = net(x).softmax(1)\n    show(p)\n    p = net(x)\n    return F.cross_entropy(p, y)\n"
    assert [f.rule for f in check(project, {"a.py": wrong}).findings] == ["LP102"]
    assert not check(project, {"a.py": right}).findings


# ---- every form that a function and a class can have


@pytest.mark.parametrize(
    "text",
    [
        "criterion = lambda out, y: F.cross_entropy(out.softmax(1), y)\ndef f(net, x, y):\n    criterion(net(x), y).backward()\n",
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.criterion = lambda o, y: F.cross_entropy(o.softmax(1), y)\n"
        "    def step(self, x, y):\n        return self.criterion(self(x), y)\n",
        "def make():\n    def inner(o, y):\n        return F.cross_entropy(o.softmax(1), y)\n    return inner\n",
        "async def f(net, xs, y):\n    async for x in xs:\n        F.cross_entropy(net(x).softmax(1), y).backward()\n",
        "class A:\n    @staticmethod\n    def f(o, y):\n        return F.cross_entropy(o.softmax(1), y)\n",
        "class A:\n    @classmethod\n    def f(cls, o, y):\n        return F.cross_entropy(o.softmax(1), y)\n",
        "def f(net, x, y):\n    if (p := net(x).softmax(1)) is not None:\n        return F.cross_entropy(p, y)\n",
        "def f(net, x, y):\n    try:\n        p = net(x).softmax(1)\n    finally:\n        pass\n    return F.cross_entropy(p, y)\n",
        "for x, y in loader:\n    F.cross_entropy(net(x).softmax(1), y).backward()\n",
        "losses = [F.cross_entropy(o.softmax(1), y) for o, y in pairs]\nsum(losses).backward()\n",
    ],
    ids=["lambda", "lambda in an attribute", "nested", "async", "static", "class method", "walrus", "try", "script", "comprehension"],
)  # fmt: skip
def test_a_fault_is_found_in_every_form_of_function(project: Make, text: str) -> None:
    assert only(check(project, {"a.py": text})).rule == "LP102"


# ---- silence is not proof


def test_what_could_not_be_followed_is_said_when_asked(project: Make) -> None:
    files = {"a.py": "def step(x, y):\n    return F.cross_entropy(unknown(x), y)\n"}
    assert not check(project, files).unresolved
    report = check(project, files, show_unresolved=True)
    assert [spot(files, place) for place in report.unresolved] == ["F.cross_entropy(unknown(x), y)"]
    assert not report.findings


def test_what_was_followed_is_not_called_unresolved(project: Make) -> None:
    text = "def step(x, y):\n    net = nn.Sequential(nn.Linear(4, 3))\n    return F.cross_entropy(net(x), y)\n"
    report = check(project, {"a.py": text}, show_unresolved=True)
    assert not report.findings
    assert not report.unresolved
