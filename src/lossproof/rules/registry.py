"""What a rule is, and how the rules are found.

A rule is one file in a family folder beside this one; it defines ``RULE``. Adding the file is all it
takes: nothing lists the rules a second time.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from lossproof.finding import Finding, Severity

_FILE = re.compile(r"lp\d{3}_\w+\.py$")


@dataclass(frozen=True)
class Rule:
    """One problem with a training objective.

    ``page`` is the documentation in Markdown, with the sections *What it does*, *Why is this bad*,
    *Measured*, *Wrong*, *Right*, *Remedies*, *When to ignore it* and *References*; the code blocks
    under *Wrong* and *Right* are run through the checker by the tests, or through the audit where the rule
    has no ``check``. ``hint`` is the one-line
    remedy shown under a finding. ``facts`` names the sorts of facts of the source eye that ``check``
    reads, ``graph`` those of the graph eye that ``audit`` reads.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    hint: str
    page: str
    evidence: str = ""
    facts: str = ""
    check: Callable[[Any], Iterator[Finding]] | None = None
    graph: str = ""
    audit: Callable[[Any], Iterator[Finding]] | None = None


@cache
def all_rules() -> dict[str, Rule]:
    """Every rule by its code, in the order of the codes."""
    here = os.path.dirname(os.path.abspath(__file__))
    found: dict[str, Rule] = {}
    for family in sorted(entry.name for entry in os.scandir(here) if entry.is_dir()):
        for name in sorted(os.listdir(os.path.join(here, family))):
            if _FILE.match(name):
                module = importlib.import_module(f"lossproof.rules.{family}.{name[:-3]}")
                rule: Rule = module.RULE
                if rule.code in found:
                    raise RuntimeError(f"two rules claim the code {rule.code}: {found[rule.code].name}, {rule.name}")
                found[rule.code] = rule
    return dict(sorted(found.items()))
