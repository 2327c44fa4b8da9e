"""``lossproof.autopsy``: what exactly went non-finite in one live loss, where, in which rows, and what to do."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import nn

    from lossproof.graph.figures import Figures

    Names = nn.Module | Mapping[str, nn.Module | torch.Tensor]


@dataclass(frozen=True)
class Autopsy:
    """What was found. ``cause`` is None where loss and gradients are finite; ``print`` shows all of it as text."""

    cause: str | None = None
    """``bad-input``, ``bad-target``, ``zero-denominator``, ``log-domain``, ``exp-overflow``, ``half-overflow``,
    ``gradient-only``, ``diverged``, ``bad-weights``, ``bad-optimizer-state``; ``unknown`` where nothing can say."""
    symptom: str | None = None
    """``non-finite-loss``, ``non-finite-gradient``, ``non-finite-weights``, ``non-finite-step``."""
    value: str = ""
    """``nan``, ``inf`` or ``-inf``."""
    where: str | None = None
    """``forward``, ``backward``, or ``outside``: it came in with data, weights or the optimizer's state."""
    op: str | None = None
    """The first operator with finite operands and a result that is not (that read it, where it came from outside)."""
    path: str | None = None
    line: int | None = None
    called: str = ""
    """What the user's line called, where it was recorded."""
    rows: tuple[int, ...] = ()
    """Samples at fault: indices along the batch's first dimension."""
    batch: int = 0
    """How many samples the batch has; 0 where nothing says it."""
    columns: tuple[int, ...] = ()
    """Classes or features at fault, where not all are."""
    inputs: tuple[Figures, ...] = ()
    """The operator's operands."""
    because: tuple[str, ...] = ()
    """What was measured."""
    immediate: tuple[str, ...] = ()
    durable: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    probability: float = 0.0
    neighbours: str = ""
    """The operator between those beside it, for where no line is known."""
    replayed: bool = False
    """Whether the step was made again to see this."""
    unseen: tuple[str, ...] = ()
    """What could not be looked into."""
    looked_at: int = field(default=0, repr=False)
    """How many leaves' gradients were finite."""

    @property
    def healthy(self) -> bool:
        return self.cause is None

    def as_dict(self) -> dict[str, Any]:
        """In the shape of ``lossproof diagnose --format json``."""
        if self.cause is None:
            return {"symptom": None, "first_bad_op": None, "causes": [], "unseen": list(self.unseen)}
        return {
            "symptom": "non-finite-loss",
            "of": self.symptom,
            "value": self.value,
            "first_bad_op": {
                "op": self.op,
                "path": self.path,
                "line": self.line,
                "rows": list(self.rows),
                "columns": list(self.columns),
                "where": self.where,
                "inputs": [each.as_dict() for each in self.inputs],
            },
            "causes": [
                {
                    "cause": self.cause,
                    "probability": self.probability,
                    "because": list(self.because),
                    "immediate": list(self.immediate),
                    "durable": list(self.durable),
                    "watch": list(self.watch),
                }
            ],
            "replayed": self.replayed,
            "unseen": list(self.unseen),
        }

    def __str__(self) -> str:
        from lossproof.report.autopsy import text

        return text(self)

    def _repr_html_(self) -> str:
        from lossproof.report.autopsy import html

        return html(self)


def autopsy(
    loss: torch.Tensor,
    *,
    names: Names | None = None,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    replay: Callable[[], torch.Tensor] | None = None,
) -> Autopsy:
    """Say which operator made ``loss`` or its gradients non-finite, in which rows, why, and what to do.

    Args:
        loss: one tensor with a graph, before ``backward()`` (or after ``backward(retain_graph=True)``).
        names: the model, or a mapping from names to modules or tensors, so that parameters are called by their names.
        optimizer: what trains, one or several: the state is looked at as well.
        replay: makes the loss again. Called at most once, and only where the graph does not hold what is needed. Where
            the step was recorded it starts from the random state in which the recording began, so that dropout is the
            same; random states, and the buffers of ``names``, are put back afterwards.

    The graph is read, and missing values are computed from what it holds. Where the loss is finite its gradients are
    computed too: nothing is accumulated in ``.grad``, and no hook runs.

    Raises:
        CannotRun: ``loss`` is not a tensor, has no graph, or its graph has been freed; the message says what to do.
    """
    from lossproof.graph.causes import advice
    from lossproof.graph.post_mortem import examine
    from lossproof.report.autopsy import rows_said

    death = examine(loss, names=names, optimizer=optimizer, replay=replay)
    unseen, verdict = tuple(death.unseen), death.verdict
    if verdict is None:
        return Autopsy(unseen=unseen, looked_at=death.leaves)
    what = advice(verdict.cause, verdict.variant)
    words = {"op": death.op or "the operator", "rows": rows_said(death.rows.rows) or "the samples at fault"}
    return Autopsy(
        cause=verdict.cause,
        symptom=death.symptom,
        value=death.value,
        where=death.where,
        op=death.op,
        path=death.path,
        line=death.line,
        called=death.called,
        rows=death.rows.rows,
        batch=death.rows.of,
        columns=death.rows.columns,
        inputs=death.inputs,
        because=verdict.because,
        immediate=tuple(_filled(each, words) for each in what.immediate),
        durable=tuple(_filled(each, words) for each in what.durable),
        watch=what.watch,
        probability=verdict.probability,
        neighbours=death.neighbours,
        replayed=death.replayed,
        unseen=unseen,
        looked_at=death.leaves,
    )


def _filled(text: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        text = text.replace("{" + name + "}", word)
    return text


class _Callable(ModuleType):
    """Lets ``lossproof.autopsy`` be the module and the function at once."""

    __call__ = staticmethod(autopsy)


sys.modules[__name__].__class__ = _Callable
