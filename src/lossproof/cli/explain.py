"""Show what a rule is about, and what to do."""

from __future__ import annotations

import argparse
import os
from functools import partial

from lossproof import cachedir
from lossproof.cli import output
from lossproof.problem import CannotRun
from lossproof.report import page
from lossproof.rules import registry
from lossproof.selection import resolve

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from lossproof.rules.registry import Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lossproof explain``."""
    parser.add_argument("rules", nargs="*", metavar="RULE", help="a code (LP101), a prefix (LP1) or a name")
    parser.add_argument("--all", action="store_true", help="list every rule")
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text", help="default: text")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colours (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Print the pages."""
    known = registry.all_rules()
    if not args.rules and not args.all:
        raise CannotRun("name a rule, as in lossproof explain LP101, or list them with --all")
    codes = sorted(known) if args.all else sorted(code for each in args.rules for code in resolve(each, known)[1])
    rules = [known[code] for code in dict.fromkeys(codes)]
    out = output.standard_output()
    if args.format == "json":
        out.write(page.as_json(rules, one=not args.all and len(rules) == 1))
    elif args.format == "markdown":
        out.write(page.as_markdown(rules))
    elif args.all:
        out.write(page.as_table(rules))
    else:
        coloured = output.colour(args, out)
        page.write(rules, out, colour=coloured, remarks=partial(_measured_here, invite=coloured))
    return 0


def _measured_here(rule: Rule, *, invite: bool) -> str:
    """What the rule's experiments showed when they were last run on this machine, or how to run them."""
    how = f"`lossproof prove {rule.code}` measures this on your machine.\n" if invite and rule.evidence else ""
    if not os.path.isdir(os.path.join(cachedir.default(), "evidence")):
        return how
    from lossproof.evidence.kept import quoted
    from lossproof.evidence.registry import of_rule
    from lossproof.report.proofs import measured_here

    shown = [(experiment.id, quoted(experiment.id)) for experiment in of_rule(rule.code)]
    known = [(name, outcome) for name, outcome in shown if outcome is not None]
    return measured_here(known) if known else how
