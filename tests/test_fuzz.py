"""Broken, half-edited and meaningless code, grown from the fixtures: never an exception, always the same answer.

What a person types passes through thousands of states that no test author thinks of. Each example takes a fixture
apart by lines and tokens and checks what is left, as the editor does after every keystroke.
"""

from __future__ import annotations

import ast
import copy
import gc
import io
import keyword
import random
import re
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossproof.rules.judge import judge
from lossproof.source.discover import SourceFile
from lossproof.source.engine import Analysis, analyse

SOURCE = Path(__file__).parent / "fixtures" / "source"
TEXTS = [path.read_text("utf-8") for path in sorted(SOURCE.rglob("*.py"))]
_TOKEN = re.compile(
    r"[A-Za-z_]\w*|\d+(?:\.\d*)?(?:e-?\d+)?|\s+|\"[^\"\n]*\"|'[^'\n]*'|[-+*/<>=!]=|\*\*|//|->|.", re.DOTALL
)
_WORDS = sorted({t for text in TEXTS for t in _TOKEN.findall(text) if t.isidentifier() and not keyword.iskeyword(t)})
ODD = (
    "self",
    "None",
    "()",
    "[]",
    "lambda: 0",
    "*",
    "**",
    "...",
    "0",
    "-1",
    "1e400",
    "x[()]",
    "''",
    "super()",
    "yield",
    "del",
)


def check(*texts: str) -> Analysis:
    files = [SourceFile(f"/nowhere/file{i}.py", f"file{i}.py", text.encode()) for i, text in enumerate(texts)]
    return analyse("/nowhere", files, frozenset(f.path for f in files), show_unresolved=True, judge=judge)


def survives(*texts: str) -> None:
    found = check(*texts)
    for warning in found.warnings:
        assert "went wrong inside lossproof" not in warning, f"{warning}\n" + "\n# ----\n".join(texts)
    for finding in found.findings:
        for place in (finding.location, *finding.related):
            lines = texts[int(place.path[4:-3])].split("\n")
            assert 1 <= place.line <= place.end_line <= len(lines)
            assert 1 <= place.column <= len(lines[place.line - 1]) + 1
            assert 1 <= place.end_column <= len(lines[place.end_line - 1]) + 1


# ---- ways to spoil a text; each is given the text and a random generator


def drop_line(text: str, r: random.Random) -> str:
    lines = text.split("\n")
    del lines[r.randrange(len(lines))]
    return "\n".join(lines)


def double_line(text: str, r: random.Random) -> str:
    lines = text.split("\n")
    at = r.randrange(len(lines))
    return "\n".join([*lines[:at], lines[at], *lines[at:]])


def swap_lines(text: str, r: random.Random) -> str:
    lines = text.split("\n")
    a, b = r.randrange(len(lines)), r.randrange(len(lines))

    # Each keeps the other's indentation, so that the result is often Python.
    def moved(line: str, place: str) -> str:
        return place[: len(place) - len(place.lstrip())] + line.lstrip()

    lines[a], lines[b] = moved(lines[b], lines[a]), moved(lines[a], lines[b])
    return "\n".join(lines)


def drop_token(text: str, r: random.Random) -> str:
    tokens = _TOKEN.findall(text) or [""]
    del tokens[r.randrange(len(tokens))]
    return "".join(tokens)


def swap_words(text: str, r: random.Random) -> str:
    tokens = _TOKEN.findall(text)
    words = [i for i, t in enumerate(tokens) if t.isidentifier() and not keyword.iskeyword(t)] or [0, 0]
    a, b = r.choice(words), r.choice(words)
    if tokens:
        tokens[a], tokens[b] = tokens[b], tokens[a]
    return "".join(tokens)


def rename(text: str, r: random.Random) -> str:
    """One name becomes another everywhere: names meet that never should."""
    names = sorted({t for t in _TOKEN.findall(text) if t.isidentifier() and not keyword.iskeyword(t)}) or ["x"]
    old, new = r.choice(names), r.choice(names if r.random() < 0.6 else _WORDS)
    return re.sub(rf"\b{old}\b", new, text)


def replace_token(text: str, r: random.Random) -> str:
    tokens = _TOKEN.findall(text) or [""]
    solid = [i for i, t in enumerate(tokens) if not t.isspace()] or [0]
    tokens[r.choice(solid)] = r.choice(ODD) if r.random() < 0.5 else r.choice(_WORDS)
    return "".join(tokens)


def splice(text: str, r: random.Random) -> str:
    """The beginning of one file and the end of another."""
    lines, other = text.split("\n"), r.choice(TEXTS).split("\n")
    return "\n".join([*lines[: r.randrange(len(lines) + 1)], *other[r.randrange(len(other)) :]])


def cut(text: str, r: random.Random) -> str:
    """As far as somebody has typed."""
    return text[: r.randrange(len(text) + 1)]


def rewrite(text: str, r: random.Random) -> str:
    """Another tree, not another text: operands, arguments and bodies change places, and it still is Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return text
    expressions = [
        n for n in ast.walk(tree) if isinstance(n, (ast.Call, ast.BinOp, ast.Subscript, ast.Tuple, ast.Attribute))
    ]
    if not expressions:
        return text
    parts = [
        n for n in ast.walk(tree) if isinstance(n, ast.expr) and isinstance(getattr(n, "ctx", ast.Load()), ast.Load)
    ]
    for _ in range(3):
        node, part = r.choice(expressions), copy.deepcopy(r.choice(parts))
        if isinstance(node, ast.Call):
            node.args.insert(r.randrange(len(node.args) + 1), part) if r.random() < 0.5 else setattr(node, "func", part)
        elif isinstance(node, ast.BinOp):
            setattr(node, r.choice(("left", "right")), part)
        elif isinstance(node, ast.Subscript):
            node.slice = part
        elif isinstance(node, ast.Attribute):
            node.value = part
        elif isinstance(node.ctx, ast.Load):
            node.elts.append(part)
    try:
        return ast.unparse(tree)
    except (RecursionError, ValueError, AttributeError):
        return text


WAYS: tuple[Callable[[str, random.Random], str], ...] = (
    *(
        drop_line,
        double_line,
        swap_lines,
        drop_token,
        swap_words,
        rename,
        rename,
        replace_token,
        splice,
        cut,
        rewrite,
        rewrite,
    ),
)


def spoiled(seed: int, most: int = 4) -> str:
    r = random.Random(seed)
    text = r.choice(TEXTS)
    for _ in range(r.randrange(1, most + 1)):
        text = r.choice(WAYS)(text, r)
    return text


seeds = st.integers(0, 2**32 - 1)
quietly = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@settings(quietly, max_examples=150)
@given(seeds)
def test_spoiled_code_is_survived(seed: int) -> None:
    survives(spoiled(seed))


@settings(quietly, max_examples=40)
@given(seeds)
def test_spoiled_files_beside_each_other_are_survived(seed: int) -> None:
    """Files that import one another by accident: every fixture has a model.py, and here they are strangers."""
    survives(*(spoiled(seed + i, 2) for i in range(4)))


@settings(quietly, max_examples=40)
@given(seeds)
def test_the_answer_does_not_depend_on_chance(seed: int) -> None:
    """Not on the order of the files, nor on what was asked before."""
    text = spoiled(seed, 2)
    first, second = check(text), check(text)
    assert first.findings == second.findings
    assert first.warnings == second.warnings


@pytest.mark.parametrize("way", sorted({way.__name__ for way in WAYS}))
def test_every_way_of_spoiling_still_gives_python_now_and_then(way: str) -> None:
    """A fuzzer that only makes syntax errors tests the parser of Python."""
    spoil = globals()[way]
    fine = 0
    for seed in range(30):
        r = random.Random(seed)
        try:
            ast.parse(spoil(r.choice(TEXTS), r))
            fine += 1
        except (SyntaxError, ValueError):
            pass
    assert fine >= 2


def test_renaming_everything_changes_nothing() -> None:
    """A name of a variable is no evidence: with each local name replaced, the plain faults are found as before."""
    text = (SOURCE.parent / "source" / "LP102" / "positive").rglob("*.py")
    for path in sorted(text)[:5]:
        source = path.read_text("utf-8")
        before = [(f.rule, f.line) for f in check(source).findings]
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        own = {
            t.string
            for t in tokens
            if t.type == tokenize.NAME and t.string in ("x", "y", "model", "net", "out", "logits")
        }
        for name in own:
            source = re.sub(rf"\b{name}\b", f"{name}_q", source)
        assert [(f.rule, f.line) for f in check(source).findings] == before


@pytest.mark.slow
def test_ten_thousand_spoiled_files() -> None:
    for seed in range(10_000):
        survives(spoiled(seed))
        if seed % 500 == 0:
            gc.collect()
