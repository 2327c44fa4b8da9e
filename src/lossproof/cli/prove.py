"""Run the experiments behind what lossproof says, here and now.

Without arguments: the headline claims. A CLAIM is an id (double-softmax), the beginning of one, a family (numerics),
or a rule (LP102, LP2, sigmoid-before-bce). Exit code 0: each holds, or holds on a condition that is stated; 1: one does
not hold here; 2: one could not be run.
"""

from __future__ import annotations

import argparse

from lossproof.cli import output
from lossproof.problem import CannotRun

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from lossproof.evidence.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lossproof prove``."""
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="an id or its beginning, a family, or a rule")
    parser.add_argument("--all", action="store_true", help="every experiment there is")
    parser.add_argument("--rule", action="append", default=[], metavar="RULE", help="what a rule leans on")
    parser.add_argument("--list", action="store_true", help="list the claims, run nothing")
    parser.add_argument("--json", action="store_true", help="an array for programs")
    parser.add_argument("--device", metavar="DEVICE", help="where to measure, as torch names it (default: cpu)")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colours (default: auto)")


def run(args: argparse.Namespace) -> int:
    """List the claims, or measure them."""
    from lossproof.report import proofs as report

    chosen = _chosen(args)
    out = output.standard_output()
    if args.list:
        out.write(report.claims_as_json(chosen) if args.json else report.claims(chosen))
        return 0
    from lossproof.cli.progress import Bar
    from lossproof.evidence.prove import prove

    bar = Bar.for_terminal(args.json, "Measuring")
    try:
        proofs = prove([experiment.id for experiment in chosen], device=args.device, progress=bar)
    finally:
        if bar is not None:
            bar.close()
    if args.json:
        out.write(report.as_json(proofs))
    else:
        report.write(proofs, out, colour=output.colour(args, out))
        if not (args.claims or args.rule or args.all):
            out.write("More: lossproof prove --all, lossproof prove CLAIM; what there is: lossproof prove --list\n")
    if any(proof.error for proof in proofs):
        return 2
    return int(any(proof.verdict == "does-not-hold" for proof in proofs))


def _chosen(args: argparse.Namespace) -> list[Experiment]:
    from lossproof.evidence import registry

    if args.all and (args.claims or args.rule):
        raise CannotRun("--all is every claim already: leave it out, or the names")
    found = registry.resolve_all([_word(word) for word in args.claims])
    for word in args.rule:
        leaning = [experiment for code in sorted(_codes(word)) for experiment in registry.of_rule(code)]
        if not leaning:
            raise CannotRun(f"no experiment is about {word}. See lossproof prove --list.")
        found += leaning
    if found:
        return list({experiment.id: experiment for experiment in found}.values())
    return list(registry.all_experiments().values()) if args.all or args.list else registry.headlines()


def _word(word: str) -> str:
    """The code of a rule that is called by its name."""
    from lossproof.rules.registry import all_rules

    return next((code for code, rule in all_rules().items() if rule.name == word.strip().lower()), word)


def _codes(word: str) -> frozenset[str]:
    from lossproof.rules.registry import all_rules
    from lossproof.selection import resolve

    return resolve(word, all_rules())[1]
