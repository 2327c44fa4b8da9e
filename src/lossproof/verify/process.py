"""The subprocess: where it runs, what it may use, and what becomes of it when the code on trial kills it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lossproof.problem import CannotRun

MEMORY = 12 << 30
SECONDS_ALONE = 60.0
"""Without a sign of life for so long, a unit is given up."""
MOST_RESTARTS = 4
MOST_BYTES = 40_000_000
LARGEST_FILE = 2_000_000

_START = (
    "import sys; sys.path.insert(0, {home!r}); import lossproof.verify.worker.main as m; "
    "sys.path.remove({home!r}); m.main()"
)
_KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "SYSTEMROOT",
    "WINDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "CONDA_PREFIX",
)

_QUIET = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "MPLBACKEND": "agg",
}


def interpreter(root: str) -> str:
    """A Python that has torch: this one, else the active or the project's own environment."""
    if importlib.util.find_spec("torch") is not None:
        return sys.executable
    for folder in (
        os.environ.get("VIRTUAL_ENV"),
        os.environ.get("CONDA_PREFIX"),
        os.path.join(root, ".venv"),
        os.path.join(root, "venv"),
    ):
        for tail in ("bin/python", "Scripts/python.exe", "python.exe"):
            path = os.path.join(folder, tail) if folder else ""
            if path and os.path.isfile(path):
                return path
    return sys.executable


def run(
    root: str,
    roots: Sequence[str],
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
    units: Sequence[Mapping[str, Any]],
    seconds: float = SECONDS_ALONE,
) -> dict[str, dict[str, Any]]:
    """Run the units; what was measured by the unit's id. ``before`` and ``after`` hold the project's Python files."""
    results: dict[str, dict[str, Any]] = {}
    left = list(units)
    with tempfile.TemporaryDirectory(prefix="lossproof-", ignore_cleanup_errors=True) as folder:
        for side, files in (("before", before), ("after", after)):
            _write(os.path.join(folder, side), files)
        scratch = os.path.join(folder, "scratch")
        for _ in range(MOST_RESTARTS):
            if not left:
                break
            os.makedirs(scratch, exist_ok=True)
            job = {
                "before": os.path.join(folder, "before"),
                "after": os.path.join(folder, "after"),
                "scratch": scratch,
                "roots": list(roots),
                "memory": MEMORY,
                "seconds": int(seconds) * 4,
                "units": left,
                "ran": [id for id, result in results.items() if result["status"] == "ran"],
            }
            current = ended = ""
            complete = False
            with _started(interpreter(root), scratch) as child:
                for record in _records(child, json.dumps(job).encode(), seconds):
                    if "torch" in record:
                        raise CannotRun(
                            f"--verify runs the code and needs torch, which {interpreter(root)} does not have: "
                            "run lossproof with the Python of the project"
                        )
                    if "started" in record:
                        current = record["started"]
                    elif "unit" in record:
                        results[record["unit"]] = record["result"]
                        current = ""
                    if "ended" in record:
                        ended = record["ended"] or ended
                        complete = complete or not record["ended"]
            left = [unit for unit in left if unit["id"] not in results]
            if not left or complete:
                break
            if not current:
                for unit in left:
                    results[unit["id"]] = {
                        "status": "not run",
                        "reason": ended or "the process that runs it did not start",
                    }
                break
            results[current] = {"status": "not run", "reason": ended or "the process that runs it died"}
            left = [unit for unit in left if unit["id"] != current]
            shutil.rmtree(scratch, ignore_errors=True)
    return results


def _write(folder: str, files: Mapping[str, bytes]) -> None:
    total = 0
    for name, data in files.items():
        path = os.path.normpath(os.path.join(folder, name))
        if not path.startswith(folder + os.sep) or len(data) > LARGEST_FILE:
            continue
        total += len(data)
        if total > MOST_BYTES:
            break
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)


@contextlib.contextmanager
def _started(python: str, scratch: str) -> Iterator[subprocess.Popen[bytes]]:
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), scratch) | _QUIET
    child = subprocess.Popen(
        [python, "-I", "-B", "-X", "utf8", "-c", _START.format(home=home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=scratch,
        env=environment,
        start_new_session=os.name == "posix",
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _records(child: subprocess.Popen[bytes], job: bytes, seconds: float) -> Iterator[dict[str, Any]]:
    """The lines of the child as they come; a child that says nothing for too long is ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    last = [time.monotonic()]
    late = threading.Event()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            if time.monotonic() - last[0] > seconds:
                late.set()
                child.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with contextlib.suppress(OSError):
            child.stdin.write(job)
            child.stdin.close()
        for line in child.stdout:
            last[0] = time.monotonic()
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record
    finally:
        done.set()
        watcher.join()
    if late.is_set():
        yield {"ended": f"takes longer than {seconds:.0f} s"}
        return
    code = child.wait()
    if code:
        yield {"ended": f"the process that runs it died (exit code {code})"}
