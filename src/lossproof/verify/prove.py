"""Fixes, proven by running them; those that fail the proof are taken back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from lossproof.verify import process
from lossproof.verify.judge import judge
from lossproof.verify.plan import File, Plan, inside
from lossproof.verify.proof import FAILED, Proof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lossproof.mend import Made, Mended

MOST_ROUNDS = 6


def prove(
    root: str,
    project: Mapping[str, bytes],
    files: Sequence[File],
    made: Iterable[Made],
    *,
    places: Mapping[str, str] | None = None,
    seconds: float = process.SECONDS_ALONE,
) -> list[Proof]:
    """Run what some fixes changed. ``project``: the Python files before, by the path that findings show.

    ``places`` says where a file lies in the project, where that is another path.
    """
    python = {name: data for name, data in project.items() if name.endswith(".py")}
    plan = Plan(files, made, python, places or {})
    before = {plan.place(name): data for name, data in python.items()}
    after = dict(before)
    for file in files:
        before[plan.place(file.display)] = file.before
        after[plan.place(file.display)] = file.after
    results: dict[str, dict[str, object]] = {}
    units = plan.records()
    if units:
        results = process.run(root, plan.roots, before, after, units, seconds)
    return [judge(task, plan.units, results) for task in plan.tasks]


def verified(mended: Mended, again: Callable[[frozenset[str]], Mended]) -> Mended:
    """The same without the fixes that fail. ``again`` mends anew and leaves out the fixes of these keys."""
    barred: frozenset[str] = frozenset()
    failures: dict[str, Proof] = {}
    proofs = prove_mended(mended)
    for _ in range(MOST_ROUNDS):
        wrong = {made.key: proof for made, proof in zip(mended.made, proofs, strict=True) if proof.verdict == FAILED}
        if not wrong:
            break
        failures.update(wrong)
        barred |= frozenset(wrong)
        mended = again(barred)
        proofs = prove_mended(mended)
    else:
        # Something fails whatever is left out: better nothing than something wrong.
        barred |= {made.key for made in mended.made}
        mended, proofs = again(barred), []
    # Where two fixes share a function, one may have failed for the other's fault.
    shared = [key for key, proof in failures.items() if _shares(proof, failures.values())]
    for key in shared[:MOST_ROUNDS]:
        other = again(barred - {key})
        theirs = prove_mended(other)
        if len(other.made) > len(mended.made) and all(proof.verdict != FAILED for proof in theirs):
            mended, proofs, barred = other, theirs, barred - {key}
            del failures[key]
    mended.proofs = [*failures.values(), *proofs]
    return mended


def _shares(proof: Proof, others: Iterable[Proof]) -> bool:
    return any(other is not proof and set(other.units) & set(proof.units) for other in others)


def prove_mended(mended: Mended) -> list[Proof]:
    """A proof for each fix that was made, in that order."""
    if not mended.made:
        return []
    changed = {change.display: change for change in mended.changes}
    project: dict[str, bytes] = {}
    for file in mended.report.files:
        if file.display.endswith(".py"):
            change = changed.get(file.display)
            try:
                project[file.display] = change.before if change is not None else file.read()
            except OSError:
                continue
    root = mended.report.root
    places = {file.display: inside(os.path.relpath(file.path, root)) for file in mended.report.files}
    files = [File(change.display, change.before, change.after) for change in mended.changes]
    return prove(root, project, files, mended.made, places=places)
