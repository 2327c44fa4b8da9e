"""A softmax, a softplus or a log-sum-exp that is written with ``exp``, of what a layer gives and nothing bounds.

Where the exponent is what an ``nn.Linear`` or a convolution gave, or that times a number, nothing keeps it small. A
maximum that was subtracted, a cosine over a temperature, a product of normalized vectors are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph.chain import SHAPE_ONLY
from lossproof.graph.hazards import LARGEST
from lossproof.graph.numeric_facts import WrittenOut
from lossproof.graph.plain import each, plain

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op

_LAYERS = frozenset(("Addmm", "Convolution"))
_SCALED = SHAPE_ONLY | {"Mul", "Div", "Neg"}


def facts(graph: Graph) -> Iterator[WrittenOut]:
    yield from each(graph, graph.of("Exp"), _written)


def _written(op: Op) -> Iterator[WrittenOut]:
    form = _form(op)
    result = plain(op.saved("result"))
    if form is None or result is None or not _raw(op):
        return
    largest = float(result.amax())
    if 0 < largest < math.inf:
        yield WrittenOut(
            op, form, math.log(largest), LARGEST.get(result.dtype, 88.72), str(result.dtype).removeprefix("torch.")
        )


def _raw(exp: Op) -> bool:
    below = exp.input(0)
    for _ in range(20):
        if below is None or below.kind in _LAYERS:
            return below is not None
        edges = [edge for edge in below.inputs if edge is not None]
        if below.kind not in _SCALED or len(edges) != 1:
            return False
        below = edges[0].op
    return False


def _form(exp: Op) -> str | None:
    for reader in exp.consumers:
        if reader.kind == "Log1P":
            return "softplus"
        if reader.kind == "Add" and reader.inputs.count(None) == 1:
            if any(each_.kind == "Log" for each_ in reader.consumers):
                return "softplus"
        if reader.kind == "Sum":
            over = [reader]
            while over:
                op = over.pop()
                for above in op.consumers:
                    if above.kind == "Log":
                        return "logsumexp"
                    if above.kind == "Div" and above.input(1) is op and above.input(0) is exp:
                        return "softmax"
                    if above.kind in SHAPE_ONLY or (above.kind == "Add" and above.inputs.count(None) == 1):
                        over.append(above)
    return None
