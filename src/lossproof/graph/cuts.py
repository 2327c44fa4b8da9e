"""Calls that take a value out of the graph, and which values have been taken out.

The graph of a loss cannot show what is no longer part of it: a ``detach``, an ``item`` or an ``argmax`` leaves a
constant behind. ``lossproof.recording()`` sees the call, and remembers here what came from it for as long as the
tensor lives.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossproof.graph.place import Call, Note

_MOST = 4
"""How many cuts are remembered of one value."""


@dataclass(frozen=True)
class Cut:
    """A call that took a value out of the graph, or lets no gradient through."""

    call: Call
    how: str
    """``detach``; ``number`` (``item``, ``float``, ``tolist``); ``numpy``; ``rewrapped`` (``torch.tensor`` of a
    tensor); ``no-grad`` (under ``torch.no_grad()``); ``no-derivative`` (``argmax``, a comparison, a cast to integers);
    ``flat`` (``round``, ``sign``: the graph goes on, and the gradient is zero everywhere)."""
    kind: str
    """The operator that had made the value: ``Softmax``."""
    shape: tuple[int, ...] = ()
    """That of the value."""

    @property
    def note(self) -> Note:
        """Where it was called."""
        return self.call.note()


_SOURCES: dict[int, tuple[weakref.ref[Any], tuple[Cut, ...]]] = {}


def remember(value: Any, cuts: tuple[Cut, ...]) -> None:
    """A tensor or array that came from some cuts, by way of whatever."""
    key = id(value)
    _SOURCES[key] = (weakref.ref(value, lambda _: _SOURCES.pop(key, None)), cuts[:_MOST])


def behind(value: Any) -> tuple[Cut, ...]:
    """The cuts that a value came from, as far as a recording saw them."""
    found = _SOURCES.get(id(value))
    return found[1] if found is not None and found[0]() is value else ()


def any_remembered() -> bool:
    return bool(_SOURCES)
