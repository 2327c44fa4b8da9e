"""``lossproof.audit``: the graph behind one live loss, through the graph eye and the rules."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from torch import nn

    from lossproof.finding import Finding
    from lossproof.graph.facts import GraphFact
    from lossproof.graph.walk import Graph

    Names = nn.Module | Mapping[str, nn.Module | torch.Tensor]


class Audit(list["Finding"]):
    """What was found, the worst first; it prints itself with the code of every hop."""

    unseen: tuple[str, ...] = ()
    """What could not be looked into, a sentence each: silence about it is no proof."""
    operators: int = 0
    """How many operators were looked at."""

    def __str__(self) -> str:
        from lossproof.report.audit import render

        return render(self, self.unseen, self.operators)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How IPython and notebooks show it."""
        printer.text(str(self))


def audit(loss: torch.Tensor, *, names: Names | None = None, optimizer: torch.optim.Optimizer | None = None) -> Audit:
    """Say what is wrong with the objective that made ``loss``, by its autograd graph.

    Args:
        loss: one tensor with a graph, of any shape, before ``backward()`` (or after ``backward(retain_graph=True)``).
        names: the model, or a mapping from names to modules or tensors, so that parameters are called by their names
            and what the loss does not reach is told.
        optimizer: what will train: feature networks and loss weights are judged by whether it holds them.

    Nothing is run, changed or kept: tensors that the graph holds are read where they lie. Lines of code are named where
    ``lossproof.recording()`` or PyTorch's anomaly mode was on when the loss was made.

    Raises:
        CannotRun: ``loss`` is not a tensor, has no graph, or its graph has been freed; the message says what to do.
    """
    import torch

    from lossproof.graph import gather
    from lossproof.graph.known import Known
    from lossproof.graph.walk import Graph

    graph = Graph(loss, Known(names, optimizer))
    found: dict[tuple[Any, ...], Finding] = {}
    with torch.no_grad():
        for fact in gather.facts(graph):
            for finding in _judged(fact, graph):
                found.setdefault((finding.rule, finding.location, finding.message), finding)
    result = Audit(sorted(found.values(), key=_rank))
    result.unseen = tuple(graph.unseen)
    result.operators = sum(op.leaf is None for op in graph)
    return result


def _judged(fact: GraphFact, graph: Graph) -> Iterator[Finding]:
    from lossproof.graph.gather import STOPPED
    from lossproof.problem import CannotRun
    from lossproof.rules.judge import judge_graph

    try:
        yield from judge_graph(fact)
    except CannotRun:
        raise
    except Exception as error:  # one finding is lost, the others are not
        graph.cannot_see(f"{STOPPED} at {fact.sort}: {type(error).__name__}: {error}")


def _rank(finding: Finding) -> tuple[int, tuple[str, int, int, int, str]]:
    return (("error", "warning", "info").index(finding.severity.value), finding.sort_key)


class _Callable(ModuleType):
    """Lets ``lossproof.audit`` be the module and the function at once."""

    __call__ = staticmethod(audit)


sys.modules[__name__].__class__ = _Callable
