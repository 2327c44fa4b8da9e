"""``check --fix`` and ``--diff``: what happens to the files, whatever they are written in."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossproof.check import Options
from lossproof.cli import main
from lossproof.mend import mend

SAFE = """\
import torch
import torch.nn.functional as F
from torch import nn

net = nn.Linear(4, 3)


def step(x, y):
    return F.cross_entropy(F.log_softmax(net(x), dim=1), y)
"""
SAFE_MENDED = SAFE.replace("F.log_softmax(net(x), dim=1)", "net(x)")
UNSAFE = SAFE.replace("F.cross_entropy(F.log_softmax", "F.nll_loss(F.softmax")
UNSAFE_MENDED = UNSAFE.replace("F.softmax", "F.log_softmax")

HALF_NORMALIZED = """\
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models


class PerceptualLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = models.vgg16(weights="DEFAULT").features[:16].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, output, target):
        return F.mse_loss(self.net((output - self.mean) / self.std), self.net(target))
"""


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["check", *arguments, "--no-cache", "--isolated"])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# ---- the text of a file


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SAFE.replace("\n", "\r\n"), SAFE_MENDED.replace("\n", "\r\n")),
        (SAFE.replace("\n", "\r"), SAFE_MENDED.replace("\n", "\r")),
        ("\ufeff" + SAFE, "\ufeff" + SAFE_MENDED),
        (SAFE.rstrip("\n"), SAFE_MENDED.rstrip("\n")),
        (SAFE.replace("    return", "\treturn"), SAFE_MENDED.replace("    return", "\treturn")),
        (SAFE + "\x0c\nx = 1\n", SAFE_MENDED + "\x0c\nx = 1\n"),
        (SAFE.replace("y)\n", "y)  # ö → ∂\n"), SAFE_MENDED.replace("y)\n", "y)  # ö → ∂\n")),
        (SAFE.replace("net", "nüt"), SAFE_MENDED.replace("net", "nüt")),
        (SAFE.replace("return F", "'ø😀'; return F"), SAFE_MENDED.replace("return F", "'ø😀'; return F")),
        (SAFE + "\n\n\n# the end", SAFE_MENDED + "\n\n\n# the end"),
    ],
    ids=["crlf", "cr", "mark", "no end", "tabs", "form feed", "comment", "identifier", "emoji", "blank lines"],
)
def test_only_what_is_mended_changes(here: Path, run: Any, before: str, after: str) -> None:
    path = here / "train.py"
    path.write_bytes(before.encode())
    code, _, _ = run("--fix", "--select", "LP111", ".")
    assert path.read_bytes() == after.encode()
    assert code == 0


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "utf-8", "koi8-r"])
def test_a_file_keeps_its_encoding(here: Path, run: Any, codec: str) -> None:
    word = "слой" if codec == "koi8-r" else "größe"
    text = f"# -*- coding: {codec} -*-\n" + SAFE.replace("y)\n", f"y)  # {word}\n").replace("net(x)", "net( x)")
    path = here / "train.py"
    path.write_bytes(text.encode(codec))
    assert run("--fix", "--select", "LP111", ".")[0] == 0
    assert path.read_bytes() == text.replace("F.log_softmax(net( x), dim=1)", "net( x)").encode(codec)


def test_bytes_that_are_none_of_the_encoding_are_left_alone(here: Path, run: Any) -> None:
    path = here / "train.py"
    data = SAFE.encode() + b"# caf\xe9\n"
    path.write_bytes(data)
    code, _, _ = run("--fix", "--select", "LP111", ".")
    assert path.read_bytes() == data
    assert code in (0, 1, 2)


# ---- notebooks


def notebook(cells: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": ["# Größe\n"]},
            *(
                {"cell_type": "code", "execution_count": 7, "metadata": {"x": [1]}, "outputs": [{"n": 1}], "source": c}
                for c in cells
            ),
        ],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
        **more,
    }


@pytest.mark.parametrize("indent", [1, 4, None])
@pytest.mark.parametrize("listed", [True, False])
def test_a_notebook_changes_in_its_cells_alone(here: Path, run: Any, indent: int | None, listed: bool) -> None:
    top, _, bottom = SAFE.partition("\n\nnet")
    parts = ["%matplotlib inline\n" + top, "net" + bottom]
    cells = [p.splitlines(keepends=True) if listed else p for p in parts]
    before = notebook(cells)
    path = here / "train.ipynb"
    path.write_text(json.dumps(before, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    assert run("--fix", "--select", "LP111", ".")[0] == 0
    text = path.read_text(encoding="utf-8")
    after = json.loads(text)
    source = after["cells"][2]["source"]
    assert "".join(source) == parts[1].replace("F.log_softmax(net(x), dim=1)", "net(x)")
    assert isinstance(source, list) is listed
    after["cells"][2]["source"] = before["cells"][2]["source"]
    assert after == before
    assert text.endswith("}\n")
    assert "Größe" in text
    assert text == json.dumps(json.loads(text), indent=indent, ensure_ascii=False) + "\n"


def test_an_import_is_added_to_the_cell_of_the_imports(here: Path, run: Any) -> None:
    cells = ["import torch\nfrom torch import nn", "net = nn.Linear(4, 3)\nkl = nn.KLDivLoss(reduction='batchmean')",
             "def step(x, y):\n    return kl(net(x), y)"]  # fmt: skip
    path = here / "train.ipynb"
    path.write_text(json.dumps(notebook(cells)))
    run("--fix", "--unsafe-fixes", "--select", "LP105", ".")
    after = [c["source"] for c in json.loads(path.read_text())["cells"][1:]]
    assert after[:2] == cells[:2]
    assert after[2] == "def step(x, y):\n    return kl(nn.functional.log_softmax(net(x), dim=-1), y)"


# ---- the command


def test_a_diff_is_what_git_applies(here: Path, run: Any) -> None:
    folder = here / "a b"
    folder.mkdir()
    files = {
        here / "one.py": SAFE.encode(),
        folder / "zwei.py": UNSAFE.rstrip("\n").encode(),
        here / "crlf.py": SAFE.replace("\n", "\r\n").encode(),
    }
    for path, data in files.items():
        path.write_bytes(data)
    code, out, _ = run("--diff", "--unsafe-fixes", "--select", "LP111,LP104", ".")
    assert code == 1
    assert {path: path.read_bytes() for path in files} == files, "--diff changes nothing"
    git = ["git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "-"]
    subprocess.run(["git", "init", "-q", "."], check=True)
    subprocess.run(git, input=out.encode(), check=True)
    applied = {path: path.read_bytes() for path in files}
    for path, data in files.items():
        path.write_bytes(data)
    run("--fix", "--unsafe-fixes", "--select", "LP111,LP104", ".")
    assert applied == {path: path.read_bytes() for path in files}
    assert applied != files


def test_exit_codes(here: Path, run: Any) -> None:
    path = here / "train.py"
    path.write_text(SAFE)
    select = ("--select", "LP111,LP104")
    assert run("--diff", *select, ".")[0] == 1
    assert run("--diff", "--exit-zero", *select, ".")[0] == 0
    assert run("--fix", *select, ".")[0] == 0
    assert run("--diff", *select, ".")[0] == 0
    path.write_text(UNSAFE)
    assert run("--fix", *select, ".")[0] == 1, "what is left is a finding"
    assert run("--fix", "--exit-zero", *select, ".")[0] == 0
    assert run("--fix", *select, "nowhere.py")[0] == 2


def test_a_diff_with_nothing_to_mend_still_tells_of_the_finding(here: Path, run: Any) -> None:
    (here / "train.py").write_text(UNSAFE)
    code, out, err = run("--diff", "--select", "LP104", ".")
    assert (code, out) == (1, "")
    assert "Nothing to mend. 1 finding would be left: --show-fixes says why." in err


@pytest.mark.parametrize("option", ["--diff", "--fix"])
def test_what_is_left_is_listed_with_the_reason(here: Path, run: Any, option: str) -> None:
    (here / "train.py").write_text(UNSAFE)
    _, _, err = run(option, "--show-fixes", "--select", "LP104", ".")
    assert "LP104 nll-without-log-softmax not mended: its fix is unsafe: --unsafe-fixes makes it" in err
    (here / "train.py").write_text(HALF_NORMALIZED)
    _, _, err = run(option, "--unsafe-fixes", "--show-fixes", "--select", "LP603", ".")
    assert "not mended: one of the two images is normalized already" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--unsafe-fixes"],
        ["--show-fixes"],
        ["--diff", "--format", "json"],
        ["--diff", "--output", "patch.txt"],
    ],
)
def test_options_that_would_do_nothing_are_refused(here: Path, run: Any, arguments: list[str]) -> None:
    (here / "train.py").write_text(UNSAFE)
    code, out, err = run(*arguments, ".")
    assert (code, out) == (2, "")
    assert "--diff" in err
    assert not (here / "patch.txt").exists()


def test_unsafe_fixes_are_made_when_asked_for(here: Path, run: Any) -> None:
    path = here / "train.py"
    path.write_text(UNSAFE)
    run("--fix", "--select", "LP104", ".")
    assert path.read_text() == UNSAFE
    _, _, err = run("--fix", "--unsafe-fixes", "--show-fixes", "--select", "LP104", ".")
    assert path.read_text() == UNSAFE_MENDED
    assert "(unsafe)" in err


def test_standard_input_goes_to_standard_output(here: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in ((SAFE, SAFE_MENDED), ("x = 1\n", "x = 1\n"), (SAFE.replace("\n", "\r\n"), None)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        _, out, _ = run("--fix", "--select", "LP111", "--stdin-filename", "train.py", "-")
        assert out.replace("\r\n", "\n") == (expected or SAFE_MENDED)
    assert not (here / "train.py").exists()


def test_what_is_suppressed_is_not_mended(here: Path, run: Any) -> None:
    path = here / "train.py"
    for comment in ("# lossproof: ignore[LP111] meant", "# noqa: LP111", "# noqa"):
        text = SAFE.replace("y)\n", f"y)  {comment}\n").replace("def step(x, y)  " + comment, "def step(x, y)")
        path.write_text(text)
        run("--fix", "--select", "LP111", ".")
        assert path.read_text() == text


def test_a_file_that_changed_meanwhile_is_left_alone(here: Path) -> None:
    one, two = here / "one.py", here / "two.py"
    one.write_text(SAFE)
    two.write_text(SAFE)
    mended = mend([here], Options(cache=False, select=["LP111"]))
    one.write_text(SAFE + "\n# more\n")
    mended.write()
    assert one.read_text() == SAFE + "\n# more\n"
    assert two.read_text() == SAFE_MENDED
    assert len(mended.failed) == 1
    assert "one.py" in mended.failed[0]
    assert "changed" in mended.failed[0]


def test_a_file_that_went_away_meanwhile_stays_away(here: Path) -> None:
    path = here / "one.py"
    path.write_text(SAFE)
    mended = mend([here], Options(cache=False, select=["LP111"]))
    path.unlink()
    mended.write()
    assert not path.exists()
    assert mended.failed


def test_a_read_only_file_stops_it_before_anything_is_written(here: Path, run: Any) -> None:
    one, two = here / "one.py", here / "two.py"
    one.write_text(SAFE)
    two.write_text(SAFE)
    two.chmod(0o444)
    code, _, err = run("--fix", "--select", "LP111", ".")
    assert code == 2
    assert "two.py: cannot write" in err
    assert one.read_text() == two.read_text() == SAFE
    assert sorted(p.name for p in here.iterdir()) == ["one.py", "two.py"]


def test_a_disk_that_is_full_leaves_no_half_files(here: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / "one.py"
    path.write_text(SAFE)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, _, err = run("--fix", "--select", "LP111", ".")
    assert code == 2
    assert "no space left" in err.lower()
    assert path.read_text() == SAFE
    assert [p.name for p in here.iterdir()] == ["one.py"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_stays_a_link(here: Path, run: Any, tmp_path: Path) -> None:
    real = tmp_path / "real.py"
    real.write_text(SAFE)
    real.chmod(0o750)
    link = here / "train.py"
    link.symlink_to(real)
    run("--fix", "--select", "LP111", "train.py")
    assert link.is_symlink()
    assert real.read_text() == SAFE_MENDED
    assert real.stat().st_mode & 0o777 == 0o750


def test_fixes_that_touch_are_made_one_after_the_other(here: Path, run: Any) -> None:
    path = here / "train.py"
    path.write_text(
        SAFE.replace("F.cross_entropy(F.log_softmax(net(x), dim=1), y)", "F.nll_loss(F.softmax(net(x).view(-1, 3)), y)")
    )
    assert run("--fix", "--unsafe-fixes", "--select", "LP104,LP109", ".")[0] == 0
    assert "F.nll_loss(F.log_softmax(net(x).view(-1, 3), dim=1), y)" in path.read_text()


def test_two_findings_with_one_remedy_are_mended_together(here: Path, run: Any) -> None:
    (here / "train.py").write_text(
        SAFE.replace("net = nn.Linear(4, 3)", "net = nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1))\n"
                     "criterion = nn.CrossEntropyLoss()").replace(
            "F.cross_entropy(F.log_softmax(net(x), dim=1), y)", "criterion(net(x), y) + criterion(net(-x), y)")
    )  # fmt: skip
    code, _, err = run("--fix", "--select", "LP111", ".")
    assert code == 0
    assert "Mended 2 findings" in err
    assert "criterion = nn.NLLLoss()" in (here / "train.py").read_text()


# ---- names

KL = """
def step(x, y):
    kl = KLDivLoss(reduction="batchmean")
    return kl(net(x), y)
"""


@pytest.mark.parametrize(
    ("top", "call", "imported"),
    [
        ("import torch.nn.functional as F\nfrom torch.nn import KLDivLoss, Linear\n", "F.log_softmax", ""),
        ("from torch.nn import functional as fn, KLDivLoss, Linear\n", "fn.log_softmax", ""),
        ("from torch.nn import KLDivLoss, Linear\nfrom torch.nn.functional import log_softmax as ls\n", "ls", ""),
        ("from torch.nn import KLDivLoss, Linear\n", "F.log_softmax", "import torch.nn.functional as F"),
        ("from torch.nn import KLDivLoss, Linear\nF = 3\n", "torch.nn.functional.log_softmax", "import torch"),
        ('"""What it is for."""\nfrom torch.nn import (\n    KLDivLoss,\n    Linear,\n)\n', "F.log_softmax",
         "import torch.nn.functional as F"),
        ("import torch\nfrom torch.nn import KLDivLoss, Linear\n", "torch.nn.functional.log_softmax", ""),
    ],
)  # fmt: skip
def test_a_name_is_spelled_as_the_file_spells_it(here: Path, run: Any, top: str, call: str, imported: str) -> None:
    path = here / "train.py"
    path.write_text(top + "\nnet = Linear(4, 3)\n" + KL)
    assert run("--fix", "--unsafe-fixes", "--select", "LP105", ".")[0] == 0
    text = path.read_text()
    assert f"{call}(net(x), dim=-1)" in text
    assert not imported or imported in text.splitlines()
    assert text.replace(f"{call}(net(x), dim=-1)", "net(x)").replace(imported + "\n", "", 1 if imported else 0) == (
        top + "\nnet = Linear(4, 3)\n" + KL
    )


# ---- whatever the formatting

FAULTS = [
    ("LP111", "F.cross_entropy(F.log_softmax(net(x), dim=1), y)"),
    ("LP111", "F.cross_entropy(net(x * 2).log_softmax(1), y, reduction='sum')"),
    ("LP104", "F.nll_loss(torch.softmax(net(x), dim=1), y)"),
    ("LP104", "F.nll_loss(net(x), y)"),
    ("LP105", "F.kl_div(F.softmax(net(x), dim=1), p, reduction='batchmean')"),
    ("LP108", "F.kl_div(F.softmax(t, dim=1), F.log_softmax(net(x), dim=1), reduction='batchmean')"),
    ("LP109", "F.nll_loss(F.log_softmax(net(x).view(-1, 3)), y)"),
    ("LP109", "F.nll_loss(net(x).view(-1, 3).log_softmax(dim=0), y)"),
    ("LP303", "((net(x)[:, :1] - t[:, 0].view(-1)) ** 2).mean()"),
    ("LP304", "(F.smooth_l1_loss(net(x), t, reduction='none') * mask).mean()"),
    ("LP304", "(F.l1_loss(net(x), t, reduction='none') * mask).sum() / mask.sum()"),
    ("LP304", "(net(x)[mask > 0] - t[mask > 0]).abs().mean()"),
    ("LP301", "(1 - (2 * (net(x).sigmoid() * mask).sum() + 1) / (net(x).sigmoid().sum() + mask.sum() + 1))"),
]
GAPS = ["", "", "", " ", "\n        ", "  # note {n}\n        ", "\n        # note {n}\n    "]


@st.composite
def programs(draw: st.DrawFn) -> tuple[str, list[str]]:
    lines, rules, count = [], [], 0
    for _ in range(draw(st.integers(1, 3))):
        rule, expression = draw(st.sampled_from(FAULTS))
        rules.append(rule)
        if draw(st.booleans()):
            expression = f"({expression})"
        text, depth = "", 0
        tokens = [t for t in tokenize.generate_tokens(io.StringIO(expression).readline) if t.string.strip()]
        for token in tokens:
            depth += (token.string in "([") - (token.string in ")]")
            text += token.string
            if depth > 0:
                count += 1
                text += draw(st.sampled_from(GAPS)).format(n=count)
        weight = draw(st.sampled_from(["", "0.5 * ", "2 + ", "-"]))
        lines.append(f"    loss = loss + ({weight}{text}){draw(st.sampled_from(['', '  # a term']))}")
    body = "\n".join(lines)
    return (
        "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n"
        "net = nn.Linear(4, 3)\n\n\ndef training_step(x, y, t, p, mask):\n    loss = torch.zeros(())\n"
        f"{body}\n    return loss\n"
    ), rules


def comments(text: str) -> Counter[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(t.string.strip() for t in tokens if t.type == tokenize.COMMENT)


def value(text: str) -> Any:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    exec(compile(text, "train.py", "exec"), space)
    x, t = torch.randn(6, 4), torch.randn(6, 3)
    y, p = torch.randint(0, 3, (6,)), torch.randn(6, 3).softmax(1)
    return space["training_step"](x, y, t, p, (torch.rand(6, 3) > 0.4).float()).detach()


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs())
def test_any_formatting_is_kept_and_what_comes_out_runs(tmp_path: Path, program: tuple[str, list[str]]) -> None:
    text, rules = program
    path = tmp_path / "train.py"
    path.write_text(text)
    options = Options(cache=False, select=rules)
    safe = mend([tmp_path], options)
    assert safe.failed == []
    safe.write()
    once = path.read_text()
    ast.parse(once)
    assert not comments(text) - comments(once)
    close = pytest.importorskip("torch").testing.assert_close
    close(value(once), value(text), rtol=1e-5, atol=1e-5, equal_nan=True)
    unsafe = mend([tmp_path], options, unsafe=True)
    assert unsafe.failed == []
    unsafe.write()
    twice = path.read_text()
    assert not comments(text) - comments(twice)
    assert value(twice).shape == ()
    assert value(twice).isfinite()
    assert not [f for f in unsafe.report.findings if f.remedy.fixable != "no"]
    again = mend([tmp_path], options, unsafe=True)
    assert again.fixed == []


def test_a_named_file_that_is_no_python_is_told(here: Path, run: Any) -> None:
    (here / "a.py").write_text("def f(:\n")
    (here / "b.py").write_text("import torch\ndef f(:\n    loss.backward()\n")
    (here / "c.py").write_text("x = 1\n")
    code, _, err = run("a.py", "b.py", "c.py")
    assert code == 0
    assert err.count("a.py: not Python that this interpreter can read") == 1
    assert err.count("b.py: not Python that this interpreter can read") == 1
    assert "c.py" not in err
    assert "a.py" not in run("--quiet", "a.py")[2]
