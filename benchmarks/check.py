"""Measure what ``lossproof check`` costs, beside tools that people already run.

    python benchmarks/check.py                                     # the libraries that are installed here
    python benchmarks/check.py --library timm=/path/to/timm --json figures.json
    python benchmarks/check.py --peers-venv /path/to/venv          # also torchfix and torch-preflight, if it has them

Only ratios within one run mean anything: machines differ, and so does one machine from hour to hour. So every round
runs each command once, in turn, and what is printed are medians over the rounds. Cost is CPU time, user and system, of
a command and all processes that it started; peak memory is that of the largest of them.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

DEFAULT_LIBRARIES = ("transformers", "timm", "monai", "torch")
BARS = {"cold": 1.5, "warm": 0.1, "edit": 0.2}
PEAK_MB = 400
STARTUP = 4.0
PEER = 100
STARTUP_ROUNDS = 15
COLUMNS = ("ruff", "ast", "cold", "warm", "edit", "other")

PARSE_EVERYTHING = """
import ast, gc, os, sys, warnings
gc.disable()
warnings.simplefilter("ignore")
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name.endswith(".py"):
            with open(os.path.join(folder, name), "rb") as stream:
                data = stream.read()
            try:
                ast.parse(data)
            except (SyntaxError, ValueError):
                pass
"""
PLAIN = "x = 1\n"
TRAINING = "import torch.nn.functional as F\n\n\ndef loss(x, y):\n    return F.mse_loss(x, y)\n"


class Failed(Exception):
    """A command that was to be measured did not do its work."""


@dataclass
class Run:
    """What one run of a command cost."""

    cpu: float
    wall: float
    peak_mb: float
    finished: bool = True


@dataclass
class Tree:
    """One library and every run over it, by the name of the measurement."""

    name: str
    files: int
    lines: int
    edited: str
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def add(self, measurement: str, run: Run) -> None:
        self.runs.setdefault(measurement, []).append(run)

    def cpu(self, measurement: str) -> float | None:
        runs = self.runs.get(measurement)
        return statistics.median(run.cpu for run in runs) if runs else None

    def ratio(self, measurement: str, to: str = "ruff") -> float | None:
        """The median of the ratios within each round, which is steadier than the ratio of the medians."""
        mine, theirs = self.runs.get(measurement), self.runs.get(to)
        if not mine or not theirs:
            return None
        return statistics.median(a.cpu / b.cpu for a, b in zip(mine, theirs, strict=True))

    @property
    def peak_mb(self) -> float:
        return max(run.peak_mb for name in ("cold", "warm", "edit", "other") for run in self.runs.get(name, []))


@dataclass
class Peer:
    """Another checker of training code, run once."""

    name: str
    tree: str
    run: Run
    ratio: float


@dataclass
class Start:
    """A one-file check beside an interpreter that does nothing."""

    name: str
    python: float
    lossproof: float
    ratio: float
    wall_ratio: float
    peak_mb: float


# --- running commands ---


def environment() -> dict[str, str]:
    """Ours, but with bytecode kept: some containers turn that off, and then every start compiles the tool again."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(command: Sequence[str], cwd: Path, accept: Sequence[int] = (0, 1), timeout: float | None = None) -> Run:
    """Run a command with its output thrown away. ``wait4`` counts the processes that it waited for too."""
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout, stop) if timeout else None
        if timer:
            timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        if timer:
            timer.cancel()
        process.returncode = code = os.waitstatus_to_exitcode(status)
        if code not in accept and not late.is_set():
            errors.seek(0)
            said = errors.read()[-1000:].decode("utf-8", "replace").strip()
            raise Failed(f"{' '.join(command)} exited with {code}\n{said}")
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / unit, not late.is_set())


def program(name: str) -> str | None:
    """A tool of this environment, or else of the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def lossproof(*arguments: str) -> list[str]:
    """The installed command if this environment has it, as a person would start it."""
    script = Path(sys.executable).parent / "lossproof"
    start = [str(script)] if script.exists() else [sys.executable, "-m", "lossproof"]
    return [*start, "check", "--isolated", *arguments]


# --- trees ---


def installed(names: Sequence[str]) -> dict[str, Path]:
    """Where packages lie, without importing them."""
    found = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            found[name] = Path(next(iter(spec.submodule_search_locations)))
    return found


def copied(source: Path, folder: Path) -> Path:
    """The Python files of a library in a folder of their own: nothing around them counts, and one can be edited."""

    def unwanted(where: str, names: list[str]) -> list[str]:
        return [
            n for n in names if n == "__pycache__" or not (n.endswith(".py") or os.path.isdir(os.path.join(where, n)))
        ]

    return Path(shutil.copytree(source, folder / source.name, ignore=unwanted))


def sources(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*.py") if path.is_file())


def to_edit(files: Sequence[Path]) -> tuple[Path, Path | None]:
    """The file that says most of losses, which is the dearest to change, and one that has nothing to do with any."""
    speaks, silent = files[0], []
    most = -1
    for path in files:
        data = path.read_bytes().lower()
        count = data.count(b"loss")
        if count > most:
            speaks, most = path, count
        if count == 0 and b"torch" not in data:
            silent.append(path)
    silent.sort(key=lambda path: path.stat().st_size)
    return speaks, silent[len(silent) // 2] if silent else None


@contextlib.contextmanager
def kept_as_they_are(files: Sequence[Path]) -> Iterator[None]:
    """Undo the edits of a round, times of modification included."""
    before = [(path, path.read_bytes(), path.stat()) for path in files]
    try:
        yield
    finally:
        for path, data, status in before:
            path.write_bytes(data)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def append_comment(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"\n# one more line\n")


def edit_a_function(path: Path) -> None:
    """A statement more at the head of the longest function: an edit that no hash of comments can look through."""
    text = path.read_text(encoding="utf-8")
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef) and len(n.body) > 1]
    if not functions:
        append_comment(path)
        return
    first = max(functions, key=lambda n: (n.end_lineno or 0) - n.lineno).body[1]
    lines = text.split("\n")
    lines.insert(first.lineno - 1, " " * first.col_offset + "one_more = 1")
    path.write_text("\n".join(lines), encoding="utf-8")


# --- measurements ---


def measure_tree(name: str, source: Path, rounds: int, say: Callable[[str], None]) -> Tree:
    """Every measurement of one library, interleaved."""
    ruff = program("ruff")
    with tempfile.TemporaryDirectory(prefix="lossproof-bench-") as temporary:
        here = Path(temporary, "tree")
        here.mkdir()
        copy = copied(source, here)
        files = sources(copy)
        if not files:
            raise Failed(f"{source} holds no Python file")
        loss, other = to_edit(files)
        lines = sum(path.read_bytes().count(b"\n") for path in files)
        tree = Tree(name, len(files), lines, loss.relative_to(here).as_posix())
        for number in range(rounds):
            say(f"{name}: round {number + 1} of {rounds}")
            cache = str(Path(temporary, f"cache-{number}"))
            if ruff:
                alone = ("--select", "ALL", "--no-cache", "--isolated", "--statistics", "-q")
                tree.add("ruff", run([ruff, "check", *alone, copy.name], here))
            tree.add("ast", run([sys.executable, "-c", PARSE_EVERYTHING, copy.name], here))
            tree.add("cold", run(lossproof("--no-cache", "-q", copy.name), here))
            cached = lossproof("--cache-dir", cache, "-q", copy.name)
            run(cached, here)
            tree.add("warm", run(cached, here))
            with kept_as_they_are([loss, other] if other else [loss]):
                edit_a_function(loss)
                tree.add("edit", run(cached, here))
                if other:
                    append_comment(other)
                    tree.add("other", run(cached, here))
        return tree


def measure_start(name: str, content: str, rounds: int) -> Start:
    """A file alone in a folder, checked as anybody would: with the cache on."""
    with tempfile.TemporaryDirectory(prefix="lossproof-bench-") as temporary:
        here = Path(temporary, "project")
        here.mkdir()
        (here / "t.py").write_text(content, encoding="utf-8")
        bare = [sys.executable, "-c", "pass"]
        check = lossproof("--cache-dir", str(Path(temporary, "cache")), "t.py")
        for command in (bare, check, check):  # compiles the bytecode
            run(command, here, accept=(0,))
        pairs = [(run(bare, here, (0,)), run(check, here, (0,))) for _ in range(rounds)]
        return Start(
            name,
            statistics.median(python.cpu for python, _ in pairs),
            statistics.median(ours.cpu for _, ours in pairs),
            statistics.median(ours.cpu / python.cpu for python, ours in pairs),
            statistics.median(ours.wall / python.wall for python, ours in pairs),
            max(ours.peak_mb for _, ours in pairs),
        )


def measure_peers(venv: Path, tree: Tree, source: Path, timeout: float, say: Callable[[str], None]) -> list[Peer]:
    """Each peer once, on the smallest tree: they take minutes where the others take a moment."""
    peers = []
    with tempfile.TemporaryDirectory(prefix="lossproof-bench-") as temporary:
        here = Path(temporary)
        copy = copied(source, here)
        for name, arguments in (("torchfix", ["--select", "ALL"]), ("torch-preflight", ["check"])):
            command = venv / "bin" / name
            if not command.exists():
                continue
            say(f"{name} on {tree.name}")
            cost = run([str(command), *arguments, copy.name], here, accept=range(256), timeout=timeout)
            peers.append(Peer(name, tree.name, cost, cost.cpu / (tree.cpu("cold") or 1)))
    return peers


# --- the report ---


def verdict(value: float | None, bar: float, *, at_least: bool = False) -> str:
    if value is None:
        return "not measured"
    return "met" if (value >= bar if at_least else value <= bar) else "MISSED"


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.3f}{unit}" if value < 0.1 else f"{value:.2f}{unit}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )


def report(trees: Sequence[Tree], starts: Sequence[Start], peers: Sequence[Peer]) -> str:
    """Figures first, then each bar and whether it is met."""
    parts = []
    if trees:
        head = [
            "CPU seconds",
            "files",
            "lines",
            "ruff ALL",
            "ast.parse",
            "cold",
            "warm",
            "edit",
            "other edit",
            "peak MB",
        ]
        rows = [
            [t.name, str(t.files), str(t.lines), *(number(t.cpu(c)) for c in COLUMNS), f"{t.peak_mb:.0f}"]
            for t in trees
        ]
        parts.append(table(head, rows))
        rows = [
            [t.name]
            + [f"{number(t.ratio(m))} {verdict(t.ratio(m), bar)}" for m, bar in BARS.items()]
            + [number(t.ratio("other")), f"{t.peak_mb:.0f} {verdict(t.peak_mb, PEAK_MB)}"]
            for t in trees
        ]
        head = [
            "ratio to ruff ALL",
            *(f"{m} <= {bar}" for m, bar in BARS.items()),
            "other edit",
            f"peak MB <= {PEAK_MB}",
        ]
        parts.append(table(head, rows))
    rows = [
        [s.name, f"{s.python * 1000:.1f}", f"{s.lossproof * 1000:.1f}", number(s.ratio), number(s.wall_ratio)]
        for s in starts
    ]
    rows[0][3] += " " + verdict(starts[0].ratio, STARTUP)
    parts.append(
        table(["start-up, ms of CPU", "python -c pass", "one-file check", f"ratio <= {STARTUP:g}", "wall"], rows)
    )
    if peers:
        rows = []
        for p in peers:
            least = "" if p.run.finished else "more than "
            rows.append(
                [p.name, p.tree, number(p.run.cpu), f"{least}{p.ratio:.0f} {verdict(p.ratio, PEER, at_least=True)}"]
            )
        parts.append(table(["peer", "tree", "CPU seconds", f"times lossproof cold >= {PEER}"], rows))
    return "\n\n".join(parts)


def versions() -> dict[str, str]:
    """What was measured, and with what."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in ("lossproof", "ruff"):
        command = program(name)
        if command:
            done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, env=environment())
            found[name] = done.stdout.split()[-1]
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--library",
        action="append",
        metavar="NAME=PATH",
        help=f"a tree to measure, may be repeated (default: those installed of {', '.join(DEFAULT_LIBRARIES)})",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each command (default: 3)")
    parser.add_argument("--peers-venv", type=Path, metavar="DIR", help="a virtual environment with the peers")
    parser.add_argument("--peers-timeout", type=float, default=900, metavar="SECONDS", help="default: 900")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run to a file")
    parser.add_argument("--quick", action="store_true", help="one round, and only of the smallest tree")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    for each in options.library or ():
        if not Path(each.partition("=")[2]).is_dir():
            parser.error(f"--library {each}: not NAME=FOLDER")
    return options


def main() -> int:
    options = arguments()
    libraries = {name: Path(path) for name, _, path in (each.partition("=") for each in options.library or ())}
    libraries = libraries or installed(DEFAULT_LIBRARIES)
    libraries = {name: path.resolve() for name, path in libraries.items()}
    by_size = sorted(libraries, key=lambda name: len(sources(libraries[name])))
    if options.quick:
        by_size = by_size[:1]

    def say(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    if program("ruff") is None:
        say("ruff is not installed: no ratios to it")
    try:
        starts = [
            measure_start("a plain file", PLAIN, STARTUP_ROUNDS),
            measure_start("a file with a loss", TRAINING, STARTUP_ROUNDS),
        ]
        trees = [measure_tree(name, libraries[name], 1 if options.quick else options.rounds, say) for name in by_size]
        peers = []
        if options.peers_venv and trees:
            smallest = trees[0]
            peers = measure_peers(options.peers_venv, smallest, libraries[smallest.name], options.peers_timeout, say)
    except Failed as problem:
        say(f"benchmark: {problem}")
        return 2
    if not trees:
        say("no library to measure: install one of them, or name a folder with --library NAME=PATH")
    about = versions()
    print("  ".join(f"{name} {version}" for name, version in about.items()), end="\n\n")
    print(report(trees, starts, peers))
    if options.json:
        record = {"versions": about, "trees": trees, "starts": starts, "peers": peers}
        options.json.write_text(json.dumps(record, default=asdict, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
