"""Operators that leave open what kind of value passes through them: a sigmoid that was squeezed is still a sigmoid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Op

SHAPE_ONLY = frozenset(
    (
        "Alias",
        "AsStrided",
        "BackwardHookFunction",
        "Broadcast",
        "Cat",
        "Chunk",
        "Clone",
        "Contiguous",
        "Copy",
        "CopySlices",
        "Diagonal",
        "Expand",
        "Flatten",
        "Flip",
        "Gather",
        "Index",
        "IndexSelect",
        "MaskedSelect",
        "Movedim",
        "Mt",
        "Narrow",
        "Permute",
        "Repeat",
        "Reshape",
        "ReshapeAlias",
        "Roll",
        "Scatter",
        "Select",
        "Slice",
        "Split",
        "SplitWithSizes",
        "Squeeze",
        "Stack",
        "Swapaxes",
        "T",
        "Take",
        "TakeAlongDim",
        "Tile",
        "ToCopy",
        "Transpose",
        "Unbind",
        "Unflatten",
        "UnsafeSplit",
        "UnsafeView",
        "Unsqueeze",
        "View",
        "ViewAs",
    )
)
"""What moves, picks, joins or casts elements and changes no value."""
KEEPS_KIND = SHAPE_ONLY | {"Clamp", "ClampMin", "ClampMax", "NanToNum"}
"""What keeps a probability a probability, and logits logits."""


_PATH = 64
"""How many operators of a path are told: an output that was written in place a thousand times is one story."""


class _Step:
    """An operator with the one that read it: a path that costs the same however long it gets."""

    __slots__ = ("above", "op")

    def __init__(self, op: Op, above: _Step | None) -> None:
        self.op = op
        self.above = above

    def passed(self) -> tuple[Op, ...]:
        path: list[Op] = []
        step = self.above
        while step is not None and len(path) < _PATH:
            path.append(step.op)
            step = step.above
        return tuple(reversed(path))


_FAR = 2000
"""How many operators are passed in search of a source; what lies further is not known."""


def behind(
    edge: Edge | None, through: frozenset[str] = KEEPS_KIND, far: int = _FAR
) -> Iterator[tuple[Op, tuple[Op, ...]]]:
    """The operators that a value really comes from, each with those passed on the way (nearest the value first).

    Past ``far`` operators the next ones come as they are, so that the answer is never taken for complete.
    """
    return iter(()) if edge is None else _behind(edge.op, through, far, True)


def _behind(start: Op, through: frozenset[str], far: int, shared: bool) -> Iterator[tuple[Op, tuple[Op, ...]]]:
    stack = [_Step(start, None)]
    seen: set[int] = set()
    while stack:
        step = stack.pop()
        op = step.op
        if op.index in seen:
            continue
        seen.add(op.index)
        if op.kind not in through or len(seen) > far:
            yield op, step.passed()
        elif shared and op.kind == "CopySlices":
            # An output that was written step by step, and is read step by step: what it is made of is found out once.
            memo, key = op.graph.memo, ("behind", op.index, through, far)
            if key not in memo:
                memo[key] = [source for source, _ in _behind(op, through, far, False)]
            above = (*step.passed(), op)
            for source in memo[key]:
                if source.index not in seen:
                    seen.add(source.index)
                    yield source, above
        else:
            stack += [_Step(below.op, step) for below in reversed(op.inputs) if below is not None]


def readers(op: Op, through: frozenset[str] = KEEPS_KIND, far: int = _FAR) -> Iterator[Op]:
    """The operators that really read a value: those above it, past what keeps its kind."""
    stack = list(reversed(op.consumers))
    seen: set[int] = set()
    while stack and len(seen) <= far:
        above = stack.pop()
        if above.index in seen:
            continue
        seen.add(above.index)
        if above.kind in through:
            stack += reversed(above.consumers)
        else:
            yield above
