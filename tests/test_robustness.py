# ruff: noqa: E501 (a source under test is one string)
"""Any file whatever: it is read or a warning says why not, in bounded time, and the files beside it do not suffer.

Every case stands in a project with ``witness.py``, a plain fault that must be found whatever lies beside it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lossproof.check import Options, Report, check_paths
from lossproof.source.engine import matters

BOUND = 30
"""Seconds. A case takes a fraction of one; only a hang takes this long."""

WITNESS = """\
import torch.nn.functional as F

def train(net, x, y):
    return F.cross_entropy(net(x).softmax(dim=1), y)
"""
HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F  # cross_entropy\n"

Content = str | bytes
Look = Callable[..., Report]


class Hang(BaseException):
    """No ``Exception``: the engine survives those, and this one must get through."""


@contextmanager
def bounded(seconds: int = BOUND) -> Iterator[None]:
    """A hang becomes a failure that shows where it hung."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise Hang(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def look(project: Callable[..., Path]) -> Look:
    """Check a project of odd files; the witness is found, or the test ends here. The report comes back without it."""

    def run(files: dict[str, Content], **options: object) -> Report:
        root = project()
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return inspect(root, **options)

    return run


def inspect(root: Path, **options: object) -> Report:
    (root / "witness.py").write_text(WITNESS, encoding="utf-8")
    with bounded():
        report = check_paths(["."], Options(cache=False, jobs=1, **options))  # type: ignore[arg-type]
    mine = [f for f in report.findings if f.path == "witness.py"]
    assert [(f.rule, f.line, f.location.column) for f in mine] == [("LP102", 4, 12)]
    assert not any("went wrong inside lossproof" in warning for warning in report.warnings), report.warnings
    report.findings = [f for f in report.findings if f.path != "witness.py"]
    return report


def notebook(*cells: str) -> str:
    listed = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": cell} for cell in cells]
    return json.dumps({"cells": listed, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


# ---- files that cannot be read as Python: a warning that names the file, nothing else

UNREADABLE: dict[str, tuple[Content, str]] = {
    "syntax error": (HEAD + "def loss(:\n    pass\n", "line 4"),
    "unclosed bracket": (HEAD + "loss = F.cross_entropy(a, b\n", "not Python"),
    "unterminated string": (HEAD + 'loss = """never ends\n', "not Python"),
    "wrong indentation": (HEAD + "def f():\n        a = 1\n    loss = 2\n", "line 6"),
    "tabs and spaces": (HEAD + "def f():\n\tif loss:\n        pass\n", "not Python"),
    "merge conflict": (HEAD + "<<<<<<< HEAD\nloss = 1\n=======\nloss = 2\n>>>>>>> other\n", "line 4"),
    "python 2 exec and backticks": (HEAD + "exec 'loss = 1' in {}\nx = `loss`\nprint 'a' % loss\n", "not Python"),
    "python 2 octal and long": (HEAD + "loss = 0777L\n", "line 4"),
    "another language": ("#include <torch/torch.h>\nint main() { auto cross_entropy = 1; }\n", "not Python"),
    "a template": (HEAD + "loss = {% if a %}1{% endif %}\n{{ cookiecutter.name }} {\n", "not Python"),
    "null bytes": (HEAD.encode() + b"loss = 1\x00\n", "null bytes"),
    "only null bytes and a word": (b"\x00" * 1000 + b"torch cross_entropy" + b"\x00" * 1000, "null bytes"),
    "a picture": (b"\x89PNG\r\n\x1a\n\xff\xfe torch cross_entropy \xfc\x80", "not Python"),
    "a yield that is assigned to": (HEAD + "loss = (yield = 3)\n", "not Python"),
    "brackets 3,000 deep": (HEAD + "loss = " + "[" * 3000 + "]" * 3000 + "\n", "not Python|too deeply"),
    "blocks 300 deep": (
        HEAD + "".join("  " * i + "if loss:\n" for i in range(300)) + "  " * 300 + "pass\n",
        "not Python",
    ),
    "a number of 10,000 digits": (HEAD + "loss = " + "9" * 10_000 + "\n", "not Python|digits"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_python_is_a_warning_that_says_so(look: Look, name: str) -> None:
    content, reason = UNREADABLE[name]
    report = look({"odd.py": content})
    assert not report.findings
    if sys.version_info < (3, 11) and not report.warnings:
        pytest.skip("this interpreter reads it")
    assert len(report.warnings) == 1
    warning = report.warnings[0]
    assert warning.startswith("odd.py: ")
    assert any(part in warning for part in reason.split("|")), warning
    assert "\n" not in warning


# ---- files that are Python of some kind: what is wrong in them is found where it is

FAULT = "def step(net, x, y):\n    return F.cross_entropy(net(x).softmax(1), y)\n"
GREEK = "def step(net, x, y):\n    λ = 'größe', F.cross_entropy(net(x).softmax(1), y)\n    return λ[1]\n"

READABLE: dict[str, tuple[Content, tuple[int, int] | None]] = {
    "plain": (HEAD + FAULT, (5, 12)),
    "byte-order mark": (b"\xef\xbb\xbf" + (HEAD + FAULT).encode(), (5, 12)),
    "byte-order mark on the line itself": (
        b"\xef\xbb\xbfimport torch.nn.functional as F; F.cross_entropy(net(x).softmax(1), y).backward()\n",
        (1, 34),
    ),
    "windows lines": ((HEAD + FAULT).replace("\n", "\r\n").encode(), (5, 12)),
    "old macintosh lines": ((HEAD + GREEK).replace("\n", "\r").encode(), (5, 18)),
    "mixed lines": ((HEAD + FAULT).replace("\n", "\r\n", 2).encode(), (5, 12)),
    "form feeds and odd separators": (HEAD + "\f\ns = 'a\x0bb\x1cc\u2028d\x85e'\n" + FAULT, (7, 12)),
    "no newline at the end": ((HEAD + FAULT).rstrip(), (5, 12)),
    "characters of several bytes": (HEAD + GREEK, (5, 18)),
    "latin-1 cookie": (("# -*- coding: latin-1 -*-\n" + HEAD + GREEK.replace("λ", "µ")).encode("latin-1"), (6, 18)),
    "latin-1 without a cookie": ((HEAD + "# größe\n" + FAULT).encode("latin-1"), (6, 12)),
    "cookie of no codec": (("# coding: klingon\n" + HEAD + FAULT).encode(), (6, 12)),
    "cookie of no text codec": (("# coding: base64\n" + HEAD + FAULT).encode(), (6, 12)),
    "cookie of rot13": (("# coding: rot13\n" + HEAD + FAULT).encode(), (6, 12)),
    "lone surrogate": ((HEAD + "s = '\\ud800'\n" + FAULT).encode(), (6, 12)),
    "invalid escapes": (HEAD + "s = '\\d \\w'\n" + FAULT, (6, 12)),
    "python 2 print": (HEAD + "print 'loss'\n" + FAULT, (6, 12)),
    "tabs": ((HEAD + FAULT).replace("    ", "\t"), (5, 9)),
    "a decorator": (HEAD + "@torch.jit.script\n" + FAULT, (6, 12)),
    "empty": ("", None),
    "only a comment": ("# torch cross_entropy", None),
    "only a newline": ("\n", None),
    "utf-16": ((HEAD + FAULT).encode("utf-16"), None),
    "utf-32": ((HEAD + FAULT).encode("utf-32"), None),
}


@pytest.mark.parametrize("name", READABLE)
def test_what_is_python_is_read_however_it_is_written(look: Look, name: str) -> None:
    content, place = READABLE[name]
    report = look({"odd.py": content})
    found = [(f.rule, f.line, f.location.column) for f in report.findings]
    assert found == ([("LP102", *place)] if place is not None else [])
    assert all(w.startswith("odd.py: ") for w in report.warnings)
    if place is not None:
        assert not report.warnings


# ---- the file system


def test_a_directory_named_like_a_file(project: Callable[..., Path]) -> None:
    root = project({"odd.py/inner.py": HEAD + FAULT})
    report = inspect(root)
    assert [f.path for f in report.findings] == ["odd.py/inner.py"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links")
def test_symbolic_links_in_a_circle(project: Callable[..., Path]) -> None:
    root = project({"package/odd.py": HEAD + FAULT})
    (root / "package" / "again").symlink_to(root, target_is_directory=True)
    (root / "one.py").symlink_to(root / "two.py")
    (root / "two.py").symlink_to(root / "one.py")
    (root / "gone.py").symlink_to(root / "nowhere.py")
    report = inspect(root)
    assert [f.path for f in report.findings] == ["package/odd.py"]
    assert all(w.startswith(("one.py", "two.py", "gone.py")) for w in report.warnings)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(project: Callable[..., Path]) -> None:
    root = project({"odd.py": HEAD + FAULT})
    (root / "odd.py").chmod(0)
    report = inspect(root)
    assert report.warnings == ["odd.py: Permission denied"]


def test_a_file_that_cannot_be_read(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for those who test as root: the system refuses, whatever its reason."""
    from lossproof.source.discover import SourceFile

    root = project({"odd.py": HEAD + FAULT})
    read = SourceFile.read

    def refuse(self: SourceFile) -> bytes:
        if self.path.endswith("odd.py"):
            raise PermissionError(13, "Permission denied", self.path)
        return read(self)

    monkeypatch.setattr(SourceFile, "read", refuse)
    report = inspect(root)
    assert not report.findings
    assert report.warnings == ["odd.py: Permission denied"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_waited_for(project: Callable[..., Path]) -> None:
    root = project()
    os.mkfifo(root / "odd.py")
    assert not inspect(root).findings


def test_odd_names(look: Look) -> None:
    names = ["a b.py", "ü.py", "-.py", "x.y.py", "0.py", "class.py", "__init__.py", ".py", "%s.py", "a\nb.py"]
    if sys.platform == "win32":
        names = names[:-1]
    report = look(dict.fromkeys(names, HEAD + FAULT))
    assert {f.path for f in report.findings} >= set(names) - {".py"}


# ---- notebooks


def test_a_notebook_with_magics(look: Look) -> None:
    report = look(
        {
            "odd.ipynb": notebook(
                "%matplotlib inline\n!pip install torch\n" + HEAD,
                "%%bash\nrm loss",
                "%time\nfiles = !ls\n" + FAULT,
                "this is not python loss",
            )
        }
    )
    assert [(f.rule, f.location.cell, f.line, f.location.column) for f in report.findings] == [("LP102", 3, 4, 12)]


@pytest.mark.parametrize(
    "content",
    [b'{"torch": "cross_entropy"', b'["torch cross_entropy"]', b'"torch cross_entropy"', b'{"cells": "torch cross_entropy"}', b"\xff\xfe torch cross_entropy", b"[" * 100_000 + b"torch cross_entropy"],
)  # fmt: skip
def test_a_malformed_notebook(look: Look, content: bytes) -> None:
    report = look({"odd.ipynb": content})
    assert not report.findings
    assert [w.partition(":")[0] for w in report.warnings] == ["odd.ipynb"]


# ---- sheer size


def test_a_generated_file_of_five_megabytes(look: Look) -> None:
    lines = [HEAD, "TABLE = {\n"]
    lines += [f"    {i!r}: ('name_{i}', [{i}, {i + 1}], 'loss'),\n" for i in range(60_000)]
    lines += ["}\n"]
    lines += [f"def loss_{i}(a, b):\n    c = a + b * {i}\n    return F.mse_loss(c, b)\n\n" for i in range(20_000)]
    text = "".join(lines)
    assert len(text) > 3_500_000
    text += f"# {97 * chr(46)}\n" * ((5_000_000 - len(text)) // 100)
    assert not look({"odd.py": text}).warnings


SIZES: dict[str, str] = {
    "an expression of 5,000 terms": "loss = " + " + ".join(f"a{i % 7} / b" for i in range(5_000)) + "\nloss.backward()\n",
    "a string of 5,000 parts": "loss = " + " + ".join("'torch'" for _ in range(5_000)) + "\n",
    "a chain of 1,000 calls": "loss = F.cross_entropy(x" + ".view(-1)" * 1_000 + ", y)\n",
    "calls 150 deep": "loss = F.cross_entropy(" + "f(" * 150 + "x" + ")" * 150 + ", y)\n",
    "a chain of 2,000 attributes": "loss = F.cross_entropy(x" + ".a" * 2_000 + ", y)\n",
    "a comparison of 2,000 links": "loss = " + " < ".join(["a"] * 2_000) + "\n",
    "a list of 50,000": "weights = [" + "1.0, " * 50_000 + "]\nloss = F.cross_entropy(x, y, weight=torch.tensor(weights))\n",
    "5,000 assignments to one name": "def f(x, y):\n" + "    x = x + 1\n" * 5_000 + "    return F.cross_entropy(x, y)\n",
    "2,000 branches": "def f(x, y, k):\n    if k == 0:\n        x = x.relu()\n"
    + "".join(f"    elif k == {i}:\n        x = x + {i}\n" for i in range(1, 2_000))
    + "    return F.cross_entropy(x, y)\n",
    "200 branches in a row": "def f(x, y, k):\n"
    + "".join(f"    if k > {i}:\n        x = x + {i}\n    else:\n        x = x * {i}\n" for i in range(200))
    + "    return F.cross_entropy(x, y)\n",
    "90 loops in one another's way": "def f(x, y, k):\n    a = b = c = x\n"
    + "".join("    for i in k:\n        a, b, c = b + c, c * a, a - b\n" for _ in range(90))
    + "    return F.cross_entropy(a, y)\n",
    "loops 18 deep": "def f(x, y, k):\n"
    + "".join("    " * (i + 1) + f"for i{i} in k:\n" for i in range(18))
    + "    " * 19 + "x = x * y + i3\n    return F.cross_entropy(x, y)\n",
    "a network of 3,000 layers": "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    + "".join(f"        self.l{i} = nn.Linear(3, 3)\n" for i in range(3_000))
    + "    def forward(self, x):\n"
    + "".join(f"        x = self.l{i}(x)\n" for i in range(3_000))
    + "        return x\n\ndef step(x, y):\n    return F.cross_entropy(N()(x), y)\n",
    "calls 300 deep, one function each": "def f0(x):\n    return x\n"
    + "".join(f"def f{i}(x):\n    return f{i - 1}(x)\n" for i in range(1, 300))
    + "def step(x, y):\n    return F.cross_entropy(f299(x), y)\n",
    "a binary tree of 30 calls": "def f0(x):\n    return x\n"
    + "".join(f"def f{i}(x):\n    return f{i - 1}(x) + f{i - 1}(x * {i})\n" for i in range(1, 30))
    + "def step(x, y):\n    return F.cross_entropy(f29(x), y)\n",
    "300 classes, each the base of the next": "class C0(nn.Module):\n    def forward(self, x):\n        return x\n"
    + "".join(f"class C{i}(C{i - 1}):\n    def forward(self, x):\n        return super().forward(x)\n" for i in range(1, 300))
    + "def step(x, y):\n    return F.cross_entropy(C299()(x), y)\n",
    "300 callers of one loss": "def loss_of(x, y, k):\n    return F.cross_entropy(x if k else x.relu(), y)\n"
    + "".join(f"def s{i}(x, y):\n    return loss_of(x, y, {i})\n" for i in range(300)),
    "functions 60 deep": "".join("    " * i + f"def f{i}(x):\n" for i in range(60))
    + "    " * 60 + "return F.cross_entropy(x, x)\n",
    "a chain of 400 lambdas": "loss = " + "lambda x: " * 80 + "F.cross_entropy(x, x)\n",
    "a dictionary of 5,000 losses": "LOSSES = {" + ", ".join(f"'{i}': nn.CrossEntropyLoss()" for i in range(5_000))
    + "}\ndef step(x, y, k):\n    return LOSSES[k](x, y)\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_size_alone_is_neither_a_fault_nor_a_hang(look: Look, name: str) -> None:
    report = look({"odd.py": HEAD + SIZES[name]})
    # An interpreter may refuse so much nesting; then the warning says so.
    assert all("nested too deeply" in w or "too many" in w for w in report.warnings)
    assert {f.rule for f in report.findings} <= {"LP201"}


# ---- code that turns on itself

CIRCLES: dict[str, dict[str, str]] = {
    "a class that is its own base": {"odd.py": "class A(A):\n    pass\nclass B(B, nn.Module):\n    def forward(self, x):\n        return super().forward(x)\ndef f(x, y):\n    return F.cross_entropy(B()(A()(x)), y)\n"},
    "a class whose base is its own attribute": {"odd.py": "class A(A.B.C):\n    pass\nclass B(C.x):\n    pass\nclass C(B.x):\n    pass\ndef f(x, y):\n    return F.cross_entropy(A.apply(B()(x), C.x), y)\n"},
    "two classes that are each other's base": {"odd.py": "class A(B):\n    pass\nclass B(A):\n    pass\nclass C(A, B):\n    def f(self, x, y):\n        return F.cross_entropy(self.net(x), y)\nC().f(1, 2)\n"},
    "bases across files in a circle": {
        "a.py": "from b import B\nclass A(B):\n    def loss(self, x, y):\n        return self.criterion(self(x), y)\n",
        "b.py": "from a import A\nclass B(A):\n    def forward(self, x):\n        return super().forward(x)\nB().loss(1, 2)\n",
    },
    "a module that imports itself": {"odd.py": "import odd\nfrom odd import *\nfrom odd import loss\nfrom . import odd as o\ndef f(x, y):\n    return odd.f(o.f(x, y), loss)\nF.cross_entropy(odd.f(1, 2), loss)\n"},
    "modules that import each other": {
        "a.py": "from b import f\nfrom b import thing as other\nthing = other\ndef g(x):\n    return f(x)\n",
        "b.py": "from a import g\nfrom a import other as thing\ndef f(x):\n    return g(x)\nF.cross_entropy(f(thing), thing)\n",
    },
    "modules that import everything of each other": {
        "a.py": "from b import *\nfrom c import *\nloss = F.cross_entropy(value, target)\n",
        "b.py": "from c import *\nfrom a import *\nloss = F.cross_entropy(value, target)\n",
        "c.py": "from a import *\nfrom b import *\nloss = F.cross_entropy(value, target)\n",
    },
    "a package that is its own parent": {
        "p/__init__.py": "from .q import *\nfrom . import q\nfrom .. import p\n",
        "p/q.py": "from . import *\nfrom .. import *\nfrom .q import q\nfrom ............ import z\nloss = F.cross_entropy(q(1), z)\n",
    },
    "functions that call each other": {"odd.py": "def a(x):\n    return b(x).relu()\ndef b(x):\n    return c(x) + a(x)\ndef c(x):\n    return a(x) if x else b(x)\ndef loss(x, y):\n    return F.cross_entropy(a(x), y) + loss(b(x), y)\n"},
    "a function that calls itself with itself": {"odd.py": "def f(g, x):\n    return g(f, f(g, x))\nloss = F.cross_entropy(f(f, f), f)\n(lambda u: u(u))(lambda u: u(u))\n"},
    "a combinator": {"odd.py": "Y = lambda f: (lambda x: f(lambda v: x(x)(v)))(lambda x: f(lambda v: x(x)(v)))\nloss = F.cross_entropy(Y(lambda s: lambda n: s(n))(1), 2)\n"},
    "a module with __getattr__": {"lazy.py": "def __getattr__(name):\n    return __getattr__(name + '_')\n", "odd.py": "import lazy\nfrom lazy import anything\nloss = F.cross_entropy(lazy.net(anything), lazy.a.b.c())\n"},
    "a class with __getattr__": {"odd.py": "class A:\n    def __getattr__(self, n):\n        return getattr(self, n)\n    def __call__(self, *a, **k):\n        return self(*a, **k)\n    def __getitem__(self, i):\n        return self[i]\n    def __iter__(self):\n        return iter(self)\na = A()\nloss = F.cross_entropy(a(a.b, *a, **a[1]), a[0][1].c(a))\n"},
    "a loop that is its own input": {"odd.py": "def f(x, y, n):\n    for _ in n:\n        x, y = y, x\n        z = x\n        while z:\n            z = f(z, x, y)\n            x = z[x](y)\n    return F.cross_entropy(x, z)\n"},
    "an attribute that is its own value": {"odd.py": "class A(nn.Module):\n    def __init__(self):\n        self.a = self.b\n        self.b = self.c(self.a)\n        self.c = self\n        self.me = self.me or self\n        self.net = self.net.to(1)\n    def forward(self, x):\n        self.a = self.c.c.c(self.b)\n        return self(self.me.me(x))\ndef s(x, y):\n    return F.cross_entropy(A().me.me.c(x), y)\n"},
    "names that are each other": {"odd.py": "a = b\nb = c\nc = a\nx, y = y, x\nloss = F.cross_entropy(a, x)\n"},
    "a decorator that returns itself": {"odd.py": "def deco(f):\n    return deco\n@deco\n@deco(deco)\ndef loss(x, y):\n    return F.cross_entropy(loss(x, y), y)\n@loss\nclass A(loss):\n    @loss\n    def f(self):\n        return self.f()\nF.cross_entropy(A().f(), loss)\n"},
    "a property of itself": {"odd.py": "class A:\n    @property\n    def out(self):\n        return self.out.out\n    @out.setter\n    def out(self, v):\n        self.out = v\n    def loss(self, y):\n        return F.cross_entropy(self.out, y)\n"},
    "a list that holds itself": {"odd.py": "xs = []\nxs.append(xs)\nxs[0] = xs\nd = {}\nd['d'] = d\nd.update(d)\ndef s(y):\n    for x in xs:\n        xs.extend(xs)\n        x[0][0].append(x)\n    return F.cross_entropy(d['d']['d'](xs[0][0]), y)\n"},
    "a partial of itself": {"odd.py": "from functools import partial\nf = partial(f, f)\ng = partial(partial, partial)\nloss = F.cross_entropy(f(1), g(g)(g))\n"},
    "a default that is the function": {"odd.py": "def f(x, g=lambda: f):\n    return g()(x)\ndef h(x=h):\n    return h(x)\nloss = F.cross_entropy(f(1), h())\n"},
    "metaclasses": {"odd.py": "class M(type):\n    def __call__(cls, *a):\n        return cls(*a)\n    def __getattr__(cls, n):\n        return cls\nclass A(metaclass=M):\n    pass\nclass B(type('X', (A,), {}), metaclass=type(A)):\n    pass\nloss = F.cross_entropy(A(1)(2), B.c.d())\nM('N', (M,), {'f': M})\n"},
    "a class made in a function, of itself": {"odd.py": "def make(base=None):\n    class A(base or make()):\n        def forward(self, x):\n            return make(A)(x)\n    return A\nloss = F.cross_entropy(make()()(1), make(make())()(2))\n"},
    "a tower of super": {"odd.py": "class A(nn.Module):\n    def forward(self, x):\n        return super(A, self).forward(super().forward(x))\nclass B(A):\n    def forward(self, x):\n        return super(A, self).forward(A.forward(self, B.forward(self, x)))\nloss = F.cross_entropy(B()(1), super().x)\n"},
    "a sequential of itself": {"odd.py": "net = nn.Sequential()\nnet = nn.Sequential(*net, net)\nnet.append(net)\nnet.add_module('net', net)\nnet = nn.Sequential(*[net for _ in net], *net.children())\nloss = F.cross_entropy(net[0][-1](net(1)), net)\n"},
    "a value raised to itself": {"odd.py": "a = 10 ** 10 ** 10\nb = 1 << 10 ** 12\nc = 'x' * 10 ** 12\nd = [0] * 10 ** 12\ne = 2 ** -(10 ** 400)\nf = 1e308 * 10 ** 400\ng = 1 / 0\nh = 1 % 0 // 0\ni = 7 ** 7 ** 7 ** 7\nj = ('%' + 'd') % (10 ** 5000)\nloss = F.cross_entropy(torch.ones(1) * a * b, torch.zeros(3) / e ** f, weight=c * d, eps=a)\nloss2 = torch.log(x + 10 ** 10 ** 8).sum() / (10 ** -400)\n"},
    "ranges without end": {"odd.py": "xs = list(range(10 ** 15))\nys = [i for i in range(10 ** 15)]\nnet = nn.Sequential(*[nn.Linear(3, 3) for i in range(10 ** 9)])\nzs = 'a' * 9 ** 9\nloss = F.cross_entropy(net(xs[5]), ys[-1] + zs)\nn = nn.ModuleList([nn.ReLU()] * 10 ** 9)\n"},
}  # fmt: skip


@pytest.mark.parametrize("name", CIRCLES)
def test_what_turns_on_itself_ends(look: Look, name: str) -> None:
    report = look({path: HEAD + text for path, text in CIRCLES[name].items()})
    assert not report.warnings
    assert {str(f.severity) for f in report.findings} <= {"info"}, report.findings


# ---- every kind of statement that the language has

SYNTAX: dict[str, tuple[tuple[int, int], str]] = {
    "match": (
        (3, 10),
        """
        class P:
            x: int
        def f(v, x, y):
            match v:
                case {"a": [1, *rest], **more} if (z := more): x = z
                case P(x=1, y=[a, b, *_]) | [P(), a, b]: x = a
                case "s" | None | True | -1 | 1j: pass
                case str() as s: x = s
                case (1, 2) as t: return F.cross_entropy(t, y)
                case _: x = rest
            return F.cross_entropy(x, y)
        """,
    ),
    "exception groups": ((3, 11), "def f(x, y):\n    try:\n        x = x[1]\n    except* (A, B) as e:\n        x = e\n    except* C:\n        pass\n    return F.cross_entropy(x, y)\n"),
    "type parameters": ((3, 12), "type L[T] = list[T]\nclass N[T: int, *Ts, **P](nn.Module):\n    def forward[S](self, x: S) -> L[S]:\n        return x\ndef f[T](x: T, y):\n    return F.cross_entropy(N[int]()(x), y)\n"),
    "nested f-strings": ((3, 12), "def f(x, y):\n    name = f'{f'{x!r:>{y}}'}{'\\n'.join(f\"{x['a']}\")}'\n    return F.cross_entropy(x, y)\n"),
    "type parameter defaults": ((3, 13), "class N[T = int](nn.Module):\n    pass\ndef f[T = None](x: T, y):\n    return F.cross_entropy(x, y)\n"),
    "template strings": ((3, 14), "def f(x, y):\n    t = t'{x}'\n    return F.cross_entropy(x, t)\n"),
    "everything else": (
        (3, 10),
        """
        from __future__ import annotations
        import a.b.c as abc, os.path
        from .. import x as y
        async def train(net, xs, *args, y: int = 3, z=..., **kw) -> None:
            global G, H
            async for x, *rest in xs:
                async with a as b, c as (d, e), f:
                    loss = await criterion(net(x), y)
                    yield (await loss)
                else_ = [i async for i in x if await i for j in await i]
            else:
                return
            del x[1:2, ..., ::3], y.z, kw["a"]
        def f(x, /, y, *, z=lambda *a, **k: (yield)):
            nonlocal_ = 1
            def g():
                nonlocal nonlocal_, x
                nonlocal_ += (x := x @ y)
                return x
            while (n := g()) is not None and not n or ~n:
                if n in x: continue
                elif n not in y: break
                else: pass
            else:
                x @= y; x //= y; x **= y; x >>= y; x <<= y; x &= y; x ^= y; x |= y; x %= y
            a, (b, *c), [d, e] = q = *x, 1, *y
            a[b].c, x.y[1:, None] = 1, 2
            for a.b, c[d] in x: assert x, (yield from y)
            with open(x) as a[0], b: raise X from Y
            try: pass
            except: raise
            else: pass
            finally: return F.cross_entropy(x if y else z, {**a, 'b': 1}['b'], *a, **b)
        x: int
        y: list[int] = [*a, *b]
        (z): int = 3
        a.b: float = 1.0
        {*a, *b}; {**a}; [*a]; (*a, *b); {k: v for k, v in x}; {k for k in x}; (k for k in x)
        print(*a, sep='', **{}); -+~x; x if y else z; lambda: 0; ...; b'' b''; 1_0j; f'{x=!r:{y}}'
        class A(B, *C, metaclass=M, **D):
            x = x
            @property
            def y(self): return self.y
            class E: z = A
            for i in range(3): locals()[i] = i
            if True:
                def f(self): return F.cross_entropy(self.f(), self.E.z)
        loss = F.cross_entropy(A()(x), y)
        loss.backward()
        """,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SYNTAX)
def test_every_statement_of_the_language(look: Look, name: str) -> None:
    version, text = SYNTAX[name]
    if sys.version_info < version:
        pytest.skip(f"needs Python {version[0]}.{version[1]}")
    text = textwrap.dedent(text)
    head = "" if "__future__" in text else HEAD
    report = look({"odd.py": head + text + ("\nimport torch\nimport torch.nn.functional as F\n" if not head else "")})
    assert not report.warnings
    assert not report.findings


# Calls with too few, too many and odd arguments: the engine knows these names, the code does not know their signatures.
NAMES = (
    *("F.cross_entropy", "F.binary_cross_entropy", "F.nll_loss", "F.kl_div", "F.softmax", "F.log_softmax", "F.normalize"),
    *("nn.CrossEntropyLoss", "nn.BCELoss", "nn.Sequential", "nn.ModuleList", "nn.ModuleDict", "nn.DataParallel", "nn.Linear"),
    *("torch.where", "torch.clamp", "torch.log", "torch.div", "torch.cat", "torch.stack", "torch.einsum", "torch.sum"),
    *("torch.tensor", "torch.zeros", "torch.full", "torch.no_grad", "torch.compile", "torch.split", "torch.chunk"),
    *("torch.max", "torch.pow", "torch.masked_select", "torch.finfo", "torch.sqrt", "torch.acos", "torch.exp"),
    *("getattr", "setattr", "isinstance", "range", "zip", "enumerate", "map", "filter", "sorted", "reversed", "list"),
    *("dict", "tuple", "set", "max", "min", "sum", "abs", "len", "str", "int", "float", "bool", "round", "super", "type"),
    *("next", "iter", "vars", "partial", "reduce", "import_module", "namedtuple", "deepcopy", "math.log", "np.log"),
)  # fmt: skip
METHODS = (
    *("view", "clamp", "clamp_min", "masked_fill", "sum", "mean", "softmax", "log", "pow", "div", "div_", "index_select"),
    *("gather", "split", "chunk", "unbind", "to", "type", "max", "min", "any", "all", "size", "new_zeros", "where", "get"),
    *("items", "values", "keys", "pop", "append", "extend", "insert", "update", "setdefault", "format", "join", "apply"),
    *("backward", "item", "detach", "forward", "named_parameters", "add_module", "register_buffer", "copy", "norm", "std"),
    *("nan_to_num", "flatten", "unsqueeze", "permute", "expand", "repeat", "scatter_", "argmax", "topk", "sort", "_replace"),
)  # fmt: skip
ARGUMENTS = (
    "",
    "x",
    "x, y, z, w, v, u, t, s",
    "*x",
    "**x",
    "None",
    "dim=None",
    "[], {}, ()",
    "x, dim='a', out=1",
    "x[()]",
    "lambda: 0",
)


@pytest.mark.parametrize(
    "receiver", ["x", "x.softmax(1)", "self", "[]", "{}", "()", "None", "'s'", "nn", "3", "(x > 0)", "net"]
)
def test_known_names_called_in_every_wrong_way(look: Look, receiver: str) -> None:
    lines = [
        HEAD,
        "from functools import partial, reduce\nfrom collections import namedtuple\nimport math, numpy as np\n",
    ]
    lines += ["from importlib import import_module\nfrom copy import deepcopy\nnet = nn.Sequential()\n"]
    for i, arguments in enumerate(ARGUMENTS):
        for name in NAMES:
            word = name.replace(".", "_")
            if receiver == "x":
                lines.append(
                    f"def loss_{word}_{i}(x, y):\n    return F.mse_loss({name}({arguments}), y) / {name}({arguments})\n"
                )
        for name in METHODS:
            lines.append(
                f"def loss_m_{name}_{i}(self, x, y):\n    z = {receiver} .{name}({arguments})\n    return F.cross_entropy(z, y) + z\n"
            )
    lines.append(
        "def loss_i(x, y):\n    z = x[()], x[:], x[...], x[None], x[1:2, ...], x[x > 0], x[[]], ()[0], [][-1], {}[1], ''[5]\n"
    )
    lines.append("    return F.cross_entropy(z[3], y) + z[4].mean() + sum(z) / z[99]\n")
    assert not look({"odd.py": "".join(lines)}).warnings


# ---- all of it at once, through the command


def test_the_command_survives_all_of_it(project: Callable[..., Path]) -> None:
    root = project()
    for at, (content, _) in enumerate([*UNREADABLE.values(), *READABLE.values()]):
        (root / f"file{at}.py").write_bytes(content if isinstance(content, bytes) else content.encode())
    for at, files in enumerate(CIRCLES.values()):
        folder = root / f"circle{at}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(HEAD + text, encoding="utf-8")
    (root / "deep.py").write_text("x = " + "(" * 100_000 + ")" * 100_000 + " # torch cross_entropy", encoding="utf-8")
    (root / "terms.py").write_text("# torch cross_entropy\nx = " + "1 + " * 200_000 + "1\n", encoding="utf-8")
    (root / "minus.py").write_text("# torch cross_entropy\nx = " + "-" * 200_000 + "1\n", encoding="utf-8")
    (root / "attributes.py").write_text("# torch cross_entropy\nx = a" + ".b" * 200_000 + "\n", encoding="utf-8")
    (root / "witness.py").write_text(WITNESS, encoding="utf-8")
    command = [sys.executable, "-m", "lossproof", "check", ".", "--format", "json", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "went wrong inside lossproof" not in done.stderr
    assert '"witness.py"' in done.stdout


def test_a_fault_of_its_own_is_a_warning(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of defence: whatever breaks while a function is looked at, the others are looked at."""
    from lossproof.source.investigate import Investigation

    function = Investigation.function

    def stumble(self: Investigation, what: object) -> None:
        if getattr(what, "name", "") == "stumble":
            raise KeyError("oops")
        function(self, what)  # type: ignore[arg-type]

    monkeypatch.setattr(Investigation, "function", stumble)
    root = Path.cwd()
    (root / "odd.py").write_text(
        HEAD + "def stumble(x, y):\n    return F.cross_entropy(x, y)\n" + FAULT, encoding="utf-8"
    )
    (root / "witness.py").write_text(WITNESS, encoding="utf-8")
    report = check_paths(["."], Options(cache=False, jobs=1))
    assert [(f.path, f.rule) for f in report.findings] == [("odd.py", "LP102"), ("witness.py", "LP102")]
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("odd.py: ")
    assert "went wrong inside lossproof" in report.warnings[0]
    assert "KeyError" in report.warnings[0]


def test_the_odd_files_are_looked_at_at_all() -> None:
    """A file that the prefilter drops would prove nothing."""
    for text in (*SIZES.values(), *(t for files in CIRCLES.values() for t in files.values() if "F." in t)):
        assert matters((HEAD + text).encode())


@pytest.mark.slow
def test_everything_that_is_installed_here_is_survived() -> None:
    """Ten thousand files that nobody wrote for this test; every third package."""
    import sysconfig

    site = Path(sysconfig.get_path("purelib"))
    packages = sorted(path for path in site.iterdir() if path.is_dir() and not path.name.endswith((".dist-info", "__")))
    for package in packages[::3]:
        with bounded(300):
            report = check_paths([package], Options(cache=False, jobs=1, respect_gitignore=False))
        assert not any("went wrong inside lossproof" in warning for warning in report.warnings), report.warnings
