"""How the rules of this family speak of a place and of a number."""

from __future__ import annotations

from typing import Any

from lossproof.finding import Location
from lossproof.source.facts import Fact, location
from lossproof.source.frames import Frame
from lossproof.source.origins import Place
from lossproof.source.values import Hop


def hop_of(place: Place, message: str) -> Hop:
    frame, at = _site(place)
    return Hop(frame.function.module, at, message)


def place_of(place: Place, fact: Fact) -> Location:
    """Where a setting was written, or the fact's own place if that cannot be shown."""
    if place.value is None and place.node.op in ("const", "un"):
        return location(place.frame.function.module, place.node.at)
    if place.through:
        frame, node = place.through[-1]
        return location(frame.function.module, node.at)
    return location(fact.module, fact.node.at)


def _site(place: Place) -> tuple[Frame, Any]:
    if place.node.op in ("param", "unknown") and place.through:
        frame, node = place.through[-1]
        return frame, node.at
    if place.node.op == "param":
        arguments = place.frame.function.node.args
        for arg in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            if arg.arg == place.node.args[0]:
                return place.frame, arg
    return place.frame, place.node.at


def shown(value: float) -> str:
    return f"{value:g}"
