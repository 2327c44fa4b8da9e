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


def behind(edge: Edge | None, through: frozenset[str] = KEEPS_KIND) -> Iterator[tuple[Op, tuple[Op, ...]]]:
    """The operators that a value really comes from, each with those passed on the way (nearest the value first)."""
    stack: list[tuple[Op, tuple[Op, ...]]] = [] if edge is None else [(edge.op, ())]
    seen: set[int] = set()
    while stack:
        op, passed = stack.pop()
        if op.index in seen:
            continue
        seen.add(op.index)
        if op.kind not in through:
            yield op, passed
            continue
        stack += [(below.op, (*passed, op)) for below in reversed(op.inputs) if below is not None]
