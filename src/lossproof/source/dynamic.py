"""Methods that are picked by a name: ``getattr(loss, self.reduction)()``."""

from __future__ import annotations

from lossproof.source.lower import Node


def fetched(func: Node) -> tuple[Node, Node] | None:
    """The object and the name of ``getattr(x, name)``, where that is what is called."""
    if func.op != "call" or len(func.args[1]) < 2:
        return None
    inner = func.args[0]
    if inner.op not in ("name", "free") or inner.args[0] != "getattr":
        return None
    return func.args[1][0], func.args[1][1]
