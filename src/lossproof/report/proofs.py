"""What experiments have shown: a table for a terminal, the same words for a pipe, records for a program."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from lossproof.report.place import printable

if TYPE_CHECKING:
    from lossproof.evidence.experiment import Experiment, Outcome
    from lossproof.evidence.prove import Proof

_STYLES = {"holds": "green", "depends": "yellow", "does-not-hold": "bold red", "could not run": "bold red"}


def as_json(proofs: Sequence[Proof]) -> str:
    """An array, a record a proof."""
    return json.dumps([proof.as_dict() for proof in proofs], indent=2, ensure_ascii=False) + "\n"


def claims_as_json(experiments: Sequence[Experiment]) -> str:
    """The claims alone, as none of them was tested."""
    records = [
        {"id": each.id, "claim": each.claim, "folk": each.folk, "family": each.family, "rules": list(each.rules)}
        for each in experiments
    ]
    return json.dumps(records, indent=2, ensure_ascii=False) + "\n"


def claims(experiments: Sequence[Experiment]) -> str:
    """A line a claim: the id, the rules that lean on it, and what it says."""
    names = max((len(each.id) for each in experiments), default=0)
    codes = max((len(", ".join(each.rules)) for each in experiments), default=0)
    return "".join(f"{each.id:<{names}}  {', '.join(each.rules):<{codes}}  {each.claim}\n" for each in experiments)


def write(proofs: Sequence[Proof], out: TextIO, *, colour: bool, width: int | None = None) -> None:
    """The proofs and what they come to; a table where ``rich`` may draw one."""
    if colour:
        try:
            _draw(proofs, out, width)
        except ImportError:
            colour = False
    if not colour:
        for proof in proofs:
            out.write("\n".join(_plain(proof)) + "\n\n")
    for line in summary(proofs):
        out.write(printable(line) + "\n")


def summary(proofs: Sequence[Proof]) -> list[str]:
    """How many claims hold, where that was measured, and what follows for the rules where one does not."""
    counts = {name: sum(_verdict(proof) == name for proof in proofs) for name in _STYLES}
    said = [
        f"{counts['holds']} {'holds' if counts['holds'] == 1 else 'hold'}",
        *([f"{counts['depends']} on a condition"] if counts["depends"] else []),
        *([f"{counts['does-not-hold']} not here"] if counts["does-not-hold"] else []),
        *([f"{counts['could not run']} could not run"] if counts["could not run"] else []),
    ]
    seconds = sum(proof.seconds for proof in proofs)
    count = f"{len(proofs)} claim{'' if len(proofs) == 1 else 's'}"
    lines = [f"{count} measured in {seconds:.1f} s: {', '.join(said)}."]
    if proofs:
        lines.append(f"{proofs[0].environment}.")
    for proof in proofs:
        if proof.verdict == "does-not-hold" and proof.experiment.rules:
            codes = " and ".join(proof.experiment.rules) + (
                " advise" if len(proof.experiment.rules) > 1 else " advises"
            )
            name = proof.experiment.id
            lines.append(f"{name} does not hold here: what {codes} because of it does not apply as written.")
    return lines


def measured_here(outcomes: Sequence[tuple[str, Outcome]]) -> str:
    """A page's addition: what the experiments behind it showed on this machine, in Markdown."""
    lines = ["## Measured on this machine"]
    for name, outcome in outcomes:
        condition = f" It holds {outcome.condition}." if outcome.condition else ""
        lines.append(f"- `{name}` {_WORDS[outcome.verdict]}: {outcome.measured}{condition}")
        if outcome.verdict == "does-not-hold":
            lines.append("  **What is advised above because of it does not apply here as written.**")
    return "\n".join(lines) + "\n"


_WORDS = {"holds": "holds", "depends": "depends", "does-not-hold": "**does not hold**"}


def _verdict(proof: Proof) -> str:
    return proof.verdict or "could not run"


def _said(proof: Proof) -> str:
    if proof.outcome is None:
        return proof.error
    condition = f" It holds {proof.outcome.condition}." if proof.outcome.condition else ""
    return proof.outcome.measured + condition


def _plain(proof: Proof) -> Iterator[str]:
    experiment = proof.experiment
    yield printable(f"{_verdict(proof)}: {experiment.claim}")
    if experiment.folk:
        yield printable(f"  often said: {experiment.folk}")
    yield printable(f"  measured: {_said(proof)}")
    yield printable(f"  {experiment.id}{''.join(f', {code}' for code in experiment.rules)}")


def _draw(proofs: Sequence[Proof], out: TextIO, width: int | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_lines=False, pad_edge=False, padding=(0, 2, 1, 0), expand=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim", ratio=2)
    table.add_column("measured here", ratio=3)
    for proof in proofs:
        experiment, verdict = proof.experiment, _verdict(proof)
        claim = Text(experiment.claim)
        if experiment.folk:
            claim.append(f"\noften said: {experiment.folk}", "italic dim")
        claim.append("\n" + " ".join((experiment.id, *experiment.rules)), "dim")
        table.add_row(Text(verdict, _STYLES[verdict]), claim, Text(_said(proof)))
    console = Console(file=out, force_terminal=True, color_system="standard", no_color=False, width=width)
    console.print(table)
