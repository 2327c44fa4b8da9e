"""What experiments have shown here, kept for whoever quotes it: a page, an answer, a message.

A result counts for the lossproof, the experiment, the torch and the device that it was measured with. To look one up
costs no import of torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from lossproof import cachedir
from lossproof.evidence.experiment import Experiment, Outcome
from lossproof.evidence.registry import all_experiments
from lossproof.problem import CannotRun

if TYPE_CHECKING:
    from lossproof.evidence.prove import Proof

_REMEDIES = ("losses", "balance")


def quoted(id: str, *, device: str = "cpu") -> Outcome | None:
    """What the experiment showed when it was last run here; None where it was not, or could not."""
    experiment = all_experiments().get(id)
    if experiment is None:
        return None
    try:
        with open(_path(experiment, device), encoding="utf-8") as stream:
            return Outcome.from_dict(json.load(stream))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(proofs: Sequence[Proof]) -> None:
    """Keep what was shown. Where nothing can be written, nothing is."""
    base = cachedir.prepare(cachedir.default())
    if base is None:
        return
    from lossproof.atomic import write_atomically

    for proof in proofs:
        path = _path(proof.experiment, proof.environment.device)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if proof.outcome is None:
                if os.path.exists(path):
                    os.unlink(path)
            else:
                write_atomically(path, json.dumps(proof.outcome.as_dict()))
        except (OSError, CannotRun):
            return


def _path(experiment: Experiment, device: str) -> str:
    words = (_code(experiment.family), _torch(), device)
    name = hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]
    return os.path.join(cachedir.default(), "evidence", f"{experiment.id}-{name}.json")


def _torch() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


@cache
def _code(family: str) -> str:
    """A hash of all code that an experiment of the family may run, and of this version's number."""
    from lossproof import __version__

    here = os.path.dirname(os.path.abspath(__file__))
    mark = hashlib.sha256(__version__.encode())
    remedies = (path for each in _REMEDIES for path in _below(os.path.join(os.path.dirname(here), each)))
    for path in (*_within(here), *_within(os.path.join(here, family)), *remedies):
        with open(path, "rb") as stream:
            mark.update(hashlib.sha256(stream.read()).digest())
    return mark.hexdigest()


def _within(folder: str) -> list[str]:
    return sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".py"))


def _below(folder: str) -> Iterator[str]:
    for inner, _, _ in sorted(os.walk(folder)):
        yield from _within(inner)
