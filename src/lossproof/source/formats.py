"""Which number format a step is computed in, as far as the code says."""

from __future__ import annotations

from typing import Any

from lossproof.source.facts import Operation
from lossproof.source.syntax import dotted
from lossproof.source.values import Ref, T, Value, alternatives

# What autocast computes in float32 whatever comes in.
FULL = {
    "sum",
    "mean",
    "pow",
    "exp",
    "log",
    "log1p",
    "norm",
    "softmax",
    "log_softmax",
    "loss",
    "logsumexp",
    "square",
    "prod",
}


def number_format(fact: Operation, t: T) -> str | None:
    """The format that a tensor is in, as far as the code says: ``""`` is float32, ``None`` is wider."""
    if "f64" in t.tags or "num" in t.tags:
        return None
    for name in ("half", "bf16"):
        if name in t.tags:
            return name
    return _autocast(fact) if _of_a_layer(t) else ""


def _of_a_layer(t: T, depth: int = 6) -> bool:
    """Whether a value comes from a layer through operations that autocast leaves in the layer's format."""
    via = t.get("via")
    if depth == 0 or (via is not None and via[0] in FULL):
        return False
    if via is None or via[0] in ("linear", "conv"):
        return t.act == "affine"
    parts = [p for p in via[1:] if isinstance(p, T) and "const" not in p.tags]
    return bool(parts) and all(_of_a_layer(p, depth - 1) for p in parts)


def _autocast(fact: Operation) -> str:
    """The format of the autocast region around a step or around one of the calls that lead to it."""
    frame: Any = fact.frame
    node: Any = fact.node
    while frame is not None and node is not None:
        guard = node.guard
        while guard is not None:
            test = guard.test
            if guard.polarity is None and test is not None and test.op == "call":
                name = dotted(test.at.func) if hasattr(test.at, "func") else ""
                if name.rpartition(".")[2] == "autocast":
                    given = [fact.ev.value(frame, n) for n in (*test.args[1], *(v for _, v in test.args[2]))]
                    return _cast_to(name, given)
            guard = guard.parent
        site = frame.base().site
        frame, node = site if site is not None else (None, None)
    return ""


def _cast_to(name: str, given: list[Value]) -> str:
    flat = [v for value in given for _, v in alternatives(value)]
    if any(getattr(v, "v", None) is False for v in flat):
        return ""
    names = [v.name for v in flat if isinstance(v, Ref)]
    if "torch.bfloat16" in names or ".cpu" in name or any(getattr(v, "v", None) == "cpu" for v in flat):
        return "bf16"
    known = "torch.float16" in names or "torch.half" in names
    return "half" if known or not any(isinstance(v, T) for v in flat) else ""
