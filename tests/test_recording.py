"""The recorder: every operator's own line in the user's code, and the calls that take a value out of the graph."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.overrides import _get_current_function_mode_stack  # noqa: E402

import lossproof  # noqa: E402
from lossproof.graph import place  # noqa: E402
from lossproof.graph.place import INSTALLED, MACHINERY, TYPED, USER, note, noted  # noqa: E402
from lossproof.graph.recorder import MOST_CUTS  # noqa: E402
from lossproof.graph.values import value  # noqa: E402
from lossproof.graph.walk import Graph, Op  # noqa: E402

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def here() -> int:
    return sys._getframe(1).f_lineno


def only(loss: torch.Tensor, kind: str) -> Op:
    (op,) = Graph(loss).of(kind)
    return op


def shown(op: Op) -> str:
    """The stretch of this file that an operator's note names."""
    found = note(op)
    assert found is not None
    assert found.path == __file__
    assert found.line == found.end_line
    return LINES[found.line - 1][found.column - 1 : found.end_column - 1]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.linspace(-1, 2, 12).reshape(3, 4).requires_grad_()


# ---- where


def test_the_note_is_the_expression_itself(x: torch.Tensor) -> None:
    with lossproof.recording() as seen:
        loss = (x.exp() / (x.sum() + 1e-8)).log().mean()
    assert seen.trouble is None
    if sys.version_info >= (3, 11):
        assert shown(only(loss, "Exp")) == "x.exp()"
        assert shown(only(loss, "Div")) == "x.exp() / (x.sum() + 1e-8)"
        assert shown(only(loss, "Log")) == "(x.exp() / (x.sum() + 1e-8)).log()"
    assert note(only(loss, "Add")).numbers == (("1", 1e-8),)


def test_columns_count_characters(x: torch.Tensor) -> None:
    with lossproof.recording():
        loss = ("größer, 大きい" and x.log1p()).sum()
    if sys.version_info >= (3, 11):
        assert shown(only(loss, "Log1P")) == "x.log1p()"


def test_an_expression_over_lines_stands_where_it_begins(x: torch.Tensor) -> None:
    with lossproof.recording():
        line = here() + 1
        loss = F.cross_entropy(
            x,
            torch.tensor([0, 1, 2]),
            label_smoothing=0.1,
        )
    found = noted(next(Graph(loss).of("LogSoftmax")))
    assert found is not None
    assert (found.line, found.called) == (line, "torch.nn.functional.cross_entropy")
    assert found.number("label_smoothing") == 0.1


def test_modules_show_the_line_that_calls_them_from_the_users_code(x: torch.Tensor) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    with lossproof.recording():
        loss = Net()(x).sum()
    found = note(only(loss, "Sigmoid"))
    assert found is not None
    assert (found.function, LINES[found.line - 1].strip()) == ("forward", "return self.layers(x)")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda y: y.relu_(), "Relu"),
        (lambda y: y.add_(1), "Add"),
        (lambda y: y.__setitem__(0, 3.0), "CopySlices"),
        (lambda y: y[1:].mul_(2), "CopySlices"),
        (lambda y: y.unbind(0), "Unbind"),
        (lambda y: y.max(1), "Max"),
        (lambda y: torch.topk(y, 2), "Topk"),
        (lambda y: torch.linalg.svd(y), "LinalgSvd"),
    ],
)
def test_operators_in_place_and_of_many_results_are_noted(x: torch.Tensor, make: object, kind: str) -> None:
    with lossproof.recording() as seen:
        y = x * 2
        made = make(y)  # type: ignore[operator]
        loss = sum(each.sum() for each in made if each.is_floating_point()) if isinstance(made, tuple) else y.sum()
    assert seen.trouble is None
    assert note(only(loss, kind)) is not None


@pytest.mark.parametrize(
    ("make", "key", "number"),
    [
        (lambda x: x + 1e-8, "1", 1e-8),
        (lambda x: 1e-8 + x, "1", 1e-8),
        (lambda x: x + torch.tensor(0.25), "1", 0.25),
        (lambda x: x.clamp(min=1e-7), "min", 1e-7),
        (lambda x: torch.clamp(x, 1e-7, 1), "1", 1e-7),
        (lambda x: F.normalize(x, eps=1e-4), "eps", 1e-4),
        (lambda x: nn.CosineSimilarity(eps=1e-3)(x, x), "3", 1e-3),
        (lambda x: F.layer_norm(x, (4,), eps=1e-2), "eps", 1e-2),
        (lambda x: x**0.5, "1", 0.5),
    ],
)
def test_numbers_are_kept(x: torch.Tensor, make: object, key: str, number: float) -> None:
    with lossproof.recording():
        loss = make(x)  # type: ignore[operator]
    found = note(Graph(loss).root)
    assert found is not None
    assert found.number(key) == number


def test_the_graph_of_a_gradient_stands_where_it_was_asked_for(x: torch.Tensor) -> None:
    with lossproof.recording():
        (grad,) = torch.autograd.grad(x.sigmoid().sum(), x, create_graph=True)
        loss = (grad.norm(dim=1) - 1).square().mean()
    found = noted(only(loss, "SigmoidBackward"))
    assert found is not None
    assert "torch.autograd.grad" in LINES[found.line - 1]


# ---- whose code


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (__file__, USER),
        ("train.py", USER),
        ("<stdin>", USER),
        ("<ipython-input-3-0ff1ce>", USER),
        ("<python-input-0>", USER),
        ("<doctest model[2]>", USER),
        ("/tmp/ipykernel_42/1234.py", USER),
        ("<string>", TYPED),
        ("/opt/env/lib/python3.11/site-packages/lightning/loop.py", INSTALLED),
        (nn.__file__, MACHINERY),
        (textwrap.__file__, MACHINERY),
        (place.__file__, MACHINERY),
        (str(Path(sys.executable).parent / "torchrun"), MACHINERY),
        ("<frozen runpy>", MACHINERY),
        ("<eval_with_key>.3", MACHINERY),
        ("<__array_function__ internals>", MACHINERY),
    ],
)
def test_whose_a_file_is(path: str, expected: int) -> None:
    assert place.standing(path) == expected


def test_an_environment_inside_the_project_is_not_the_project(tmp_path: Path) -> None:
    assert place.standing(str(tmp_path / ".venv/lib/python3.11/site-packages/kit/loss.py")) == INSTALLED
    assert place.standing(str(tmp_path / "src/kit/loss.py")) == USER


CODE = """
import torch, lossproof
x = torch.ones(3, requires_grad=True)
with lossproof.recording():
    loss = x.log().sum()
from lossproof.graph.place import note
from lossproof.graph.walk import Graph
found = note(Graph(loss).root)
print(found.path, found.line)
"""


def run(*arguments: str, stdin: str = "", cwd: Path | None = None, packages: Path | None = None) -> str:
    paths = [str(packages) if packages else "", os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_code_without_a_file_is_named_as_python_names_it() -> None:
    assert run("-c", CODE) == "<string> 5"
    assert run("-", stdin=CODE) == "<stdin> 5"


def test_a_file_stands_before_the_string_that_it_runs_and_the_package_that_it_calls(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "kit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def loss(x):\n    return x.log().sum()\n")
    (tmp_path / "train.py").write_text(
        CODE.replace("x.log().sum()", "eval('kit.loss(x)')").replace("import torch", "import kit, torch")
    )
    assert run("train.py", cwd=tmp_path, packages=package.parent).endswith("train.py 5")
    (package / "__main__.py").write_text(
        CODE.replace("x.log().sum()", "kit.loss(x)").replace("import torch", "import kit, torch")
    )
    path, line = run("-m", "kit", cwd=tmp_path, packages=package.parent).rsplit(" ", 1)
    assert (Path(path).name, line) == ("__init__.py", "2")


def test_the_anomaly_mode_gives_lines_as_well(x: torch.Tensor) -> None:
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        line = here() + 1
        loss = nn.Sigmoid()(x).sum()
    found = note(only(loss, "Sigmoid"))
    assert found is not None
    assert (found.path, found.line) == (__file__, line)


# ---- leaves no trace


def test_values_random_numbers_and_graph_are_as_without(x: torch.Tensor) -> None:
    def step() -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        torch.manual_seed(0)
        loss = F.dropout(x @ torch.randn(4, 2), 0.5).square().mean()
        (grad,) = torch.autograd.grad(loss, x, retain_graph=True)
        return loss, grad, [op.kind for op in Graph(loss)]

    plain = step()
    with lossproof.recording():
        noted_ = step()
    assert torch.equal(plain[0], noted_[0])
    assert torch.equal(plain[1], noted_[1])
    assert plain[2] == noted_[2]


def test_an_error_inside_leaves_nothing_behind(x: torch.Tensor) -> None:
    with pytest.raises(ZeroDivisionError), lossproof.recording():
        _ = x.sum() / (1 // 0)
    assert _get_current_function_mode_stack() == []
    with pytest.raises(RuntimeError, match="size"), lossproof.recording():
        x + torch.ones(5)
    assert _get_current_function_mode_stack() == []


def test_trouble_with_a_note_is_not_the_users(x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("note")

    monkeypatch.setattr(lossproof.recording, "_see", broken)
    with lossproof.recording() as seen:
        loss = x.sum()
    assert isinstance(seen.trouble, KeyError)
    assert float(loss.detach()) == pytest.approx(6.0)


def test_it_nests_and_enters_again(x: torch.Tensor) -> None:
    seen = lossproof.recording()
    with seen, lossproof.recording(), seen:
        loss = x.exp().sum()
    with seen:
        loss = loss.log()
    assert [note(op) is not None for op in Graph(loss)] == [True, True, True, False]
    assert _get_current_function_mode_stack() == []


def test_threads_have_their_own(x: torch.Tensor) -> None:
    made: list[torch.Tensor] = []

    def work() -> None:
        with lossproof.recording():
            made.append(x.exp().sum())

    with lossproof.recording():
        outside = threading.Thread(target=lambda: made.append(x.log().sum()))
        outside.start()
        outside.join()
    inside = threading.Thread(target=work)
    inside.start()
    inside.join()
    assert note(Graph(made[0]).root) is None
    assert noted(Graph(made[1]).ops[-1]) is not None


def test_a_part_that_ran_in_threads_stands_at_the_line_that_gathered_it(x: torch.Tensor) -> None:
    """As ``DataParallel`` does it: replicas run in threads, and their results are joined."""

    def replicas(module: nn.Module, parts: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        made: dict[int, torch.Tensor] = {}
        threads = [
            threading.Thread(target=lambda number=number, part=part: made.update({number: module(part)}))
            for number, part in enumerate(parts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [made[number] for number in sorted(made)]

    with lossproof.recording() as seen:
        line = here() + 1
        loss = torch.cat(replicas(nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()), x.detach().chunk(3))).sum()
    assert seen.trouble is None
    for op in Graph(loss).of("Sigmoid"):
        found = noted(op)
        assert found is not None
        assert found.line == line


def test_notes_live_as_long_as_the_graph(x: torch.Tensor) -> None:
    with lossproof.recording() as seen:
        y = x.exp()
        z = y.detach()
        w = z * 2
    ends = [weakref.ref(each) for each in (y, z, w)]
    assert len(seen.cuts) == 1
    del y, z, w
    gc.collect()
    assert [end() for end in ends] == [None] * 3


# ---- parts that are one node


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_parts_run_and_the_rest_is_noted(backend: str) -> None:
    torch._dynamo.reset()
    layer = nn.Linear(4, 4)
    part = torch.compile(lambda y: torch.sigmoid(layer(y)) + 1e-8, backend=backend)
    with lossproof.recording() as seen:
        loss = part(torch.ones(2, 4)).log().sum()
    assert seen.trouble is None
    found = note(only(loss, "Log"))
    assert found is not None
    assert ".log()" in LINES[found.line - 1]
    torch._dynamo.reset()


def test_custom_functions_checkpoints_and_functorch(x: torch.Tensor) -> None:
    from torch.utils.checkpoint import checkpoint

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, y: torch.Tensor) -> torch.Tensor:
            return y * 2

        @staticmethod
        def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:
            return g * 2

    for make in (
        lambda: Twice.apply(x).sum(),
        lambda: checkpoint(torch.sigmoid, x, use_reentrant=False).sum(),
        lambda: checkpoint(torch.sigmoid, x, use_reentrant=True).sum(),
        lambda: torch.vmap(lambda row: row.softmax(0))(x).sum(),
        lambda: torch.func.grad(lambda y: y.pow(2).sum())(x).sum(),
    ):
        with lossproof.recording() as seen:
            loss = make()
        assert seen.trouble is None
        root = note(Graph(loss).root)
        assert root is not None
        assert ".sum()" in LINES[root.line - 1]
        loss.backward()


# ---- cuts


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (lambda p: p.detach(), "detach"),
        (lambda p: p.data, "detach"),
        (lambda p: p.mean().item(), "number"),
        (lambda p: p.tolist(), "number"),
        (lambda p: p.detach().numpy(), "detach"),
        (lambda p: p.argmax(1), "no-derivative"),
        (lambda p: p > 0.5, "no-derivative"),
        (lambda p: p.long(), "no-derivative"),
        (lambda p: p.round(), "flat"),
        (lambda p: p.sign(), "flat"),
    ],
)
def test_what_cuts_the_graph_is_kept(x: torch.Tensor, make: object, how: str) -> None:
    with lossproof.recording() as seen:
        make(x.sigmoid())  # type: ignore[operator]
    assert seen.trouble is None
    (cut,) = seen.cuts
    assert cut.how == how
    assert cut.kind in ("Sigmoid", "Mean")
    assert "lambda p" in LINES[cut.note.line - 1]


def test_a_leaf_that_is_rounded(x: torch.Tensor) -> None:
    with lossproof.recording() as seen:
        x.round().sum()
    assert (seen.trouble, [(cut.how, cut.kind) for cut in seen.cuts]) == (None, [("flat", "leaf")])


def test_a_tensor_wrapped_anew_and_code_without_gradients(x: torch.Tensor) -> None:
    with lossproof.recording() as seen:
        y = x.sigmoid()
        with pytest.warns(UserWarning, match="To copy construct"):
            torch.tensor(y)
        with torch.no_grad():
            y * 2
    assert [cut.how for cut in seen.cuts] == ["rewrapped", "no-grad"]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.zeros_like(p),
        lambda p: torch.rand_like(p),
        lambda p: p.new_zeros(3),
        lambda p: (p.shape, p.dim(), p.size(0), p.device, p.requires_grad, repr(p), str(p.dtype)),
        lambda p: F.dropout(p, 0.5),
        lambda p: torch.ones(3).detach().argmax().item(),
        lambda p: p.sum().backward(),
    ],
)
def test_what_takes_nothing_out_is_no_cut(x: torch.Tensor, make: object) -> None:
    with lossproof.recording() as seen:
        make(x.sigmoid())  # type: ignore[operator]
    assert (seen.trouble, seen.cuts, seen.cut_count) == (None, [], 0)


def test_an_operand_that_was_cut_is_named_by_its_reader(x: torch.Tensor) -> None:
    with lossproof.recording():
        p = x.softmax(1)
        hard = F.one_hot(p.argmax(1), 4).float()
        scale = p.max().item()
        loss = ((p - hard) * p.detach() * scale).sum()
    graph = Graph(loss)
    sub = note(next(graph.of("Sub")))
    assert sub is not None
    assert [(cut.how, cut.note.called) for cut in sub.cuts] == [("no-derivative", "torch.Tensor.argmax")]
    found = [cut.how for op in graph.of("Mul") for cut in note(op).cuts]  # type: ignore[union-attr]
    assert found == ["number", "detach"]


def test_cuts_are_bounded(x: torch.Tensor) -> None:
    with lossproof.recording() as seen:
        y = x * 2
        for _ in range(MOST_CUTS + 10):
            y.detach()
    assert (len(seen.cuts), seen.cut_count) == (MOST_CUTS, MOST_CUTS + 10)


def test_a_loss_that_was_cut_off_is_refused_with_the_line(x: torch.Tensor) -> None:
    with lossproof.recording():
        line = here() + 1
        guess = x.softmax(1).argmax(1)
        loss = (guess.float() - torch.ones(3)).abs().mean()
    with pytest.raises(lossproof.CannotRun, match=f"`argmax` at {__file__}:{line}"):
        lossproof.audit(loss)


def test_results_that_are_one_number_are_kept_until_they_change(x: torch.Tensor) -> None:
    with lossproof.recording():
        loss = x.square().mean()
        whole = loss * 2
        whole += x.sum()
        corner = x.exp()[0, 0]
    graph = Graph(whole)
    assert place.kept(graph.root).item() == pytest.approx(float(whole.detach()))  # type: ignore[union-attr]
    assert place.kept(next(graph.of("Mean"))).item() == pytest.approx(float(loss.detach()))  # type: ignore[union-attr]
    assert place.kept(next(graph.of("Mul"))) is None  # changed in place
    assert place.kept(Graph(corner).root) is None  # a view of something larger
    total = x.square().mean() + x.exp().mean()
    assert [value(edge) for edge in Graph(total).root.inputs] == [None, None]
    with lossproof.recording():
        total = x.square().mean() + x.exp().mean()
    assert all(value(edge) is not None for edge in Graph(total).root.inputs)
