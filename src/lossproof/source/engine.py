"""The source eye as a whole: which files matter, what is found in them, and what is kept for the next run."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Sequence

from lossproof.finding import Finding, Location
from lossproof.rules.registry import Rule, all_rules
from lossproof.source.discover import SourceFile
from lossproof.source.facts import Fact, location

# Cheap tests first: most files mention none of these.
_TORCH = b"torch"
_LOSS = (b"oss", b"entropy", b"kl_div", b"backward", b"criterion")
_IMPLICIT_DIM = re.compile(rb"oft(?:max|min)\((?:[^(),]|\((?:[^()]|\([^()]*\))*\))*\)")
# A function that ends in one number, or says by its name that it is an objective.
_OBJECTIVE = re.compile(rb"return [^\n]*(?:mean|sum)\(|def \w*(?:nll|elbo|kld|dice|jaccard|tversky|penalty|regulari[sz])")
_LOSS_DEF = re.compile(rb"def \w*loss\w*\(|class \w*Loss\w*\(")
_OTHER_FRAMEWORK = re.compile(rb"import (?:tensorflow|keras|jax|numpy|mxnet|paddle|cupy)|from (?:tensorflow|keras|jax|mxnet|paddle)")
RECURSION = 12_000


class Analysis:
    """What the source eye found."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.unresolved: list[Location] = []
        self.warnings: list[str] = []
        self.files_seen = 0
        self.files_parsed = 0


def matters(data: bytes) -> bool:
    """Whether a file can hold anything that a rule would look at."""
    if _TORCH not in data and b"lightning" not in data:
        # A trainer need not import torch to run a loss that somebody hands it.
        if b".backward(" in data or b"training_step" in data or b"compute_loss" in data:
            return True
        # A loss that is plain arithmetic on what it is given imports nothing, or nothing of another framework.
        return _LOSS_DEF.search(data) is not None and _OTHER_FRAMEWORK.search(data) is None
    if any(word in data for word in _LOSS) or _OBJECTIVE.search(data) is not None:
        return True
    return b"oft" in data and _IMPLICIT_DIM.search(data) is not None


def analyse(
    root: str,
    files: Sequence[SourceFile],
    targets: Collection[str],
    *,
    cache_dir: str | None = None,
    jobs: int = 1,
    show_unresolved: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Find the faults in ``targets``, resolving names among all ``files``."""
    from lossproof.source.session import Session

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, RECURSION))
    try:
        session = Session(root, files)
        return session.run(targets, show_unresolved, progress)
    finally:
        sys.setrecursionlimit(limit)


def judge(fact: Fact, rules: dict[str, list[Rule]]) -> list[Finding]:
    """What the rules say of a fact."""
    found: list[Finding] = []
    for rule in rules.get(fact.sort, ()):
        if rule.check is not None:
            found.extend(rule.check(fact))
    return found


def rules_by_fact() -> dict[str, list[Rule]]:
    table: dict[str, list[Rule]] = {}
    for rule in all_rules().values():
        if rule.check is not None:
            for sort in rule.facts.split():
                table.setdefault(sort, []).append(rule)
    return table


__all__ = ["Analysis", "analyse", "judge", "location", "matters", "rules_by_fact"]
