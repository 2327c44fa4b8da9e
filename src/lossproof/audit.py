"""``lossproof.audit``: the graph behind one live loss, through the graph eye and the rules."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from lossproof.finding import Finding

    Names = nn.Module | Mapping[str, nn.Module | torch.Tensor]


class Audit(list["Finding"]):
    """What was found, the worst first. ``unseen`` says what could not be looked into, a sentence each."""

    unseen: tuple[str, ...] = ()


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
    from lossproof.graph import gather
    from lossproof.graph.walk import Graph
    from lossproof.rules.judge import judge_graph

    graph = Graph(loss)
    found: dict[tuple[Any, ...], Finding] = {}
    for fact in gather.facts(graph):
        for finding in judge_graph(fact):
            found.setdefault((finding.rule, finding.location, finding.message), finding)
    result = Audit(sorted(found.values(), key=_rank))
    result.unseen = tuple(graph.unseen)
    return result


def _rank(finding: Finding) -> tuple[int, tuple[str, int, int, int, str]]:
    return (("error", "warning", "info").index(finding.severity.value), finding.sort_key)


class _Callable(ModuleType):
    """Lets ``lossproof.audit`` be the module and the function at once."""

    __call__ = staticmethod(audit)


sys.modules[__name__].__class__ = _Callable
