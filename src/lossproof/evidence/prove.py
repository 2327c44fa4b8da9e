"""Runs experiments and says where: nothing that they do is felt by whoever called."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossproof.evidence.experiment import Experiment, Outcome, Setting
from lossproof.evidence.registry import all_experiments, resolve_all
from lossproof.problem import CannotRun

if TYPE_CHECKING:
    import torch

THREADS = 1  # the figures must not depend on how many cores there are


@dataclass(frozen=True)
class Environment:
    """What a measurement was made with."""

    torch: str
    device: str
    device_name: str
    dtype: str
    threads: int
    python: str

    def as_dict(self) -> dict[str, str | int]:
        return dict(vars(self))

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads != 1 else ''}" if self.device == "cpu" else ""
        where = self.device if self.device_name == self.device else f"{self.device} ({self.device_name})"
        return f"torch {self.torch}, {where}, {self.dtype} unless said otherwise{threads}, Python {self.python}"


@dataclass(frozen=True)
class Proof:
    """What became of an experiment: an outcome, or the error that it ended with."""

    experiment: Experiment
    outcome: Outcome | None
    environment: Environment
    seconds: float
    error: str = ""

    @property
    def verdict(self) -> str | None:
        """None where the experiment could not be run."""
        return None if self.outcome is None else self.outcome.verdict

    def as_dict(self) -> dict[str, Any]:
        """The proof as the JSON contract has it (see DESIGN, "The contracts")."""
        experiment, outcome = self.experiment, self.outcome
        record: dict[str, Any] = {
            "id": experiment.id,
            "claim": experiment.claim,
            "verdict": self.verdict,
            "measured": outcome.measured if outcome is not None else "",
            "condition": outcome.condition if outcome is not None else "",
            "figures": dict(outcome.figures) if outcome is not None else {},
            "timed": list(outcome.timed) if outcome is not None else [],
            "folk": experiment.folk,
            "family": experiment.family,
            "rules": list(experiment.rules),
            "environment": self.environment.as_dict(),
            "seconds": round(self.seconds, 3),
        }
        if self.error:
            record["error"] = self.error
        return record


def prove(
    ids: Sequence[str] | None = None,
    *,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Proof]:
    """Run experiments, all of them if none is named, and keep what they showed for whoever quotes it.

    ``ids`` may also be beginnings of ids, families and codes of rules. An experiment that raises does not keep the
    others from running.
    """
    wanted = list(all_experiments().values()) if ids is None else resolve_all(ids)
    place = _device(device)
    environment = _environment(place)
    proofs = []
    for done, experiment in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        proofs.append(_run(experiment, place, environment))
    from lossproof.evidence import kept

    kept.keep(proofs)
    return proofs


def _run(experiment: Experiment, device: torch.device, environment: Environment) -> Proof:
    began = time.perf_counter()
    try:
        with _apart(device):
            outcome = experiment.measure(Setting(device))
    except Exception as error:
        said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return Proof(experiment, None, environment, time.perf_counter() - began, said)
    return Proof(experiment, outcome, environment, time.perf_counter() - began)


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Torch as it comes, whatever the caller has set; and afterwards as the caller has set it."""
    import warnings

    import torch

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        devices = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if hasattr(torch, "get_default_device") and torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in {"cpu", device.type}:
            if kind in ("cpu", "cuda"):
                stack.enter_context(torch.autocast(kind, enabled=False))
        _set(stack, torch.get_num_threads, torch.set_num_threads, THREADS)
        _set(stack, torch.get_default_dtype, torch.set_default_dtype, torch.float32)
        _set(stack, torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")
        _set(stack, torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False)
        _set(stack, torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0)
        torch.manual_seed(0)
        yield


def _set(stack: ExitStack, get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> None:
    before = get()
    if before != value:
        put(value)
        stack.callback(put, before)


def _device(name: str | None) -> torch.device:
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = "torch is not installed here: pip install torch"
        if not isinstance(error, ModuleNotFoundError):
            reason = f"torch cannot be loaded here: {str(error).strip().splitlines()[0]}"
        raise CannotRun(f"prove measures with torch, and {reason}") from None
    try:
        device = torch.device(name or "cpu")
        torch.zeros(1, device=device).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).strip().splitlines()[0].lower()
        if said.startswith("expected one of"):
            said = "torch knows no such device (cpu, cuda, cuda:1, mps, …)"
        raise CannotRun(f"cannot measure on {name!r}: {said}") from None
    return device


def _environment(device: torch.device) -> Environment:
    import torch

    return Environment(
        torch=torch.__version__,
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype="float32",
        threads=THREADS,
        python=platform.python_version(),
    )
