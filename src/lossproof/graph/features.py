"""Pretrained networks that only measure: an image that is being made goes in, and what comes out is compared.

Which network it is shows in its first layers: their sizes are those of VGG, ResNet or AlexNet. Networks that merely
look alike (a discriminator, a face encoder, a generator in a cycle) differ in a stride, an activation or what is done
with their output; where that does not tell them apart, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.chain import SHAPE_ONLY
from lossproof.graph.objective_facts import FeatureBranch

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

_POOLS = frozenset(("MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "MkldnnAdaptiveAvgPool2D"))
_LAYERS = frozenset(("Convolution", "Relu", "NativeBatchNorm", "Add", "Addmm", "Mean", "Mul", "NativeDropout"))
_SCALES = frozenset(("Bmm", "Mm", "Div", "LinalgVectorNorm", "Pow", "Sum", "Sqrt", "ClampMin"))
_INSIDE = SHAPE_ONLY | _POOLS | _LAYERS | _SCALES
"""What such a network is built of, and what is made of its features before they are compared: grams, unit vectors."""
_COMPARES = frozenset(("MseLoss", "SmoothL1Loss", "HuberLoss", "Sub", "Rsub"))
_RESIZES = frozenset(
    (
        "UpsampleBilinear2D", "UpsampleBicubic2D", "UpsampleNearest2D", "UpsampleNearestExact2D",
        "UpsampleBilinear2DAa", "UpsampleBicubic2DAa", "ConstantPadNd", "ReflectionPad2D", "ReplicationPad2D",
    )
)  # fmt: skip
_CHANNELS = 32
"""The least number of channels of a feature map: images that are compared have 3."""
_IMAGENET = 1000
_DEEP = 64


def facts(graph: Graph) -> Iterator[FeatureBranch]:
    networks: dict[int, list[tuple[Op, str]]] = {}
    for op in graph.of("Convolution"):
        called = _called(op)
        weight = op.tensor("weight")
        if called is not None and weight is not None:
            networks.setdefault(weight.data_ptr(), []).append((op, called))
    for firsts in networks.values():
        found = _network(graph, [op for op, _ in firsts], firsts[0][1])
        if found is not None:
            yield found


def _called(op: Op) -> str | None:
    """Whose first layer a convolution is."""
    weight = op.tensor("weight")
    if weight is None or op.saved("transposed") is not False:
        return None
    shape, stride = tuple(weight.shape), tuple(op.saved("stride") or ())
    biased = tuple(op.saved("bias_sym_sizes_opt") or ()) == shape[:1]
    if shape == (64, 3, 7, 7) and stride == (2, 2) and not biased:
        following = _single(_single(op, "NativeBatchNorm"), "Relu")
        return "ResNet" if _single(following, "MaxPool2DWithIndices") is not None else None
    if shape == (64, 3, 11, 11) and stride == (4, 4) and biased:
        return "AlexNet" if _single(op, "Relu") is not None else None
    if shape == (64, 3, 3, 3) and stride == (1, 1) and biased:
        for relu in (_single(op, "Relu"), _single(_single(op, "NativeBatchNorm"), "Relu")):
            second = _single(relu, "Convolution")
            other = None if second is None else second.tensor("weight")
            if second is not None and other is not None and tuple(other.shape) == (64, 64, 3, 3):
                if tuple(second.saved("stride") or ()) == (1, 1) and _relus(second):
                    return "VGG"
    return None


def _single(op: Op | None, kind: str) -> Op | None:
    """The operator of a kind that reads another one."""
    return None if op is None else next((reader for reader in op.consumers if reader.kind == kind), None)


def _relus(op: Op) -> bool:
    """Whether a rectifier follows, where anything but a comparison does."""
    readers = {reader.kind for reader in op.consumers} - _COMPARES
    return readers <= {"Relu", "NativeBatchNorm"}


def _network(graph: Graph, firsts: list[Op], called: str) -> FeatureBranch | None:
    inside: dict[int, Op] = {}
    compares: list[tuple[Op, Edge]] = []
    level = list(firsts)
    while level:
        op = level.pop()
        if op.index in inside:
            continue
        inside[op.index] = op
        for reader in op.consumers:
            if reader.kind in _COMPARES:
                compares += [(reader, edge) for edge in reader.inputs if edge is not None and edge.op is op]
            elif reader.kind in _INSIDE:
                level.append(reader)
    compared = [(op, edge) for op, edge in compares if _is_features(op, edge, inside)]
    if not compared:
        return None
    parameters = {
        id(edge.op.leaf): edge.op
        for op in inside.values()
        if op.kind in ("Convolution", "NativeBatchNorm", "Addmm")
        for edge in map(_unwrapped, op.inputs)
        if edge is not None and edge.op.leaf is not None and not _is_image(op, edge)
    }
    made = [op for op in firsts if _is_made(op, set(parameters))]
    if not made:
        return None
    if parameters and len(made) == len(firsts):
        return None  # trainable, and nothing real goes through it here: an encoder that is trained with the rest
    trained = None if graph.known.held is None else sum(key in graph.known.held for key in parameters)
    scores = [edge for _, edge in compared if _is_scores(edge)]
    return FeatureBranch(
        compared[-1][0],
        called,
        trained,
        len(parameters),
        _IMAGENET if len(scores) == len(compared) else 0,
        tuple(_live(inside)),
        _plain(made) if called != "ResNet" else None,
    )


def _operands(op: Op) -> list[Edge]:
    return [each for each in op.inputs if each is not None]


def _unwrapped(edge: Edge | None) -> Edge | None:
    """A parameter behind the transposition of a linear layer or a cast."""
    while edge is not None and edge.op.kind in ("T", "ToCopy"):
        edge = edge.op.inputs[0]
    return edge


def _is_image(op: Op, edge: Edge) -> bool:
    return op.kind == "Convolution" and bool(op.inputs) and op.inputs[0] is not None and op.inputs[0].op is edge.op


def _is_features(op: Op, edge: Edge, inside: dict[int, Op]) -> bool:
    """Whether a comparison is of features with features: with a constant, or with another branch of the network."""
    shape = edge.shape
    if not shape or len(shape) < 2 or shape[1] < _CHANNELS:
        return False
    others = [each for each in op.inputs if each is not None and each is not edge]
    return all(each.op.index in inside for each in others)


def _is_scores(edge: Edge) -> bool:
    op: Op | None = edge.op
    for _ in range(_DEEP):
        if op is None or op.kind not in SHAPE_ONLY:
            break
        op = op.input(0)
    shape = edge.shape
    return op is not None and op.kind == "Addmm" and shape is not None and shape[-1] == _IMAGENET


def _is_made(first: Op, parameters: set[int]) -> bool:
    """Whether the image comes from something that is trained, other than the network itself."""
    edge = first.inputs[0]
    level = [] if edge is None else [edge.op]
    seen: set[int] = set()
    made = False
    while level:
        op = level.pop()
        if op.index in seen:
            continue
        seen.add(op.index)
        if op.leaf is not None:
            if id(op.leaf) in parameters:
                return False
            made = True
        level += [each.op for each in op.inputs if each is not None]
    return made


def _live(inside: dict[int, Op]) -> Iterator[str]:
    if any(op.kind == "NativeBatchNorm" and op.saved("training") is True for op in inside.values()):
        yield "batch normalization"
    if any(op.kind == "NativeDropout" or _is_dropout(op) for op in inside.values()):
        yield "dropout"


def _is_dropout(op: Op) -> bool:
    """A multiplication by zeros and one other number, which is more than 1."""
    mask = op.tensor("other") if op.kind == "Mul" and len(_operands(op)) == 1 else None
    if mask is None or mask.numel() < 2 or not mask.is_floating_point():
        return False
    top = mask.max()
    return float(top) > 1 and bool(((mask == 0) | (mask == top)).all()) and bool((mask == 0).any())


def _plain(firsts: list[Op]) -> tuple[float, float] | None:
    """The range that images are known to have where they enter as they were made; None where it is not known."""
    for first in firsts:
        edge = first.inputs[0]
        for _ in range(_DEEP):
            if edge is None or not (edge.op.kind in SHAPE_ONLY or edge.op.kind in _RESIZES):
                break
            edge = next(iter(_operands(edge.op)), None)
        if edge is None:
            continue
        found = _range(edge.op) or _stretched(edge, first)
        if found is not None:
            return found
    return None


def _range(op: Op) -> tuple[float, float] | None:
    """Between what an activation or a clamp keeps its results."""
    if op.kind == "Sigmoid":
        return 0.0, 1.0
    if op.kind == "Tanh":
        return -1.0, 1.0
    names = {"Clamp": ("min", "max"), "Hardtanh": ("min_val", "max_val")}.get(op.kind)
    if names is None:
        return None
    low, high = (op.number(name) for name in names)
    return (low, high) if low is not None and high is not None and (low, high) in _USUAL else None


_USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


def _stretched(edge: Edge, first: Op) -> tuple[float, float] | None:
    """The same after additions and multiplications by numbers, which are worked out from what went in and came out."""
    op: Op | None = edge.op
    for _ in range(_DEEP):
        if op is None or op.kind in ("Sigmoid", "Tanh") or len(_operands(op)) != 1:
            break
        if op.kind not in ("Add", "Sub", "Rsub", "Mul", "Div"):
            return None
        op = op.input(0)
    ends = None if op is None else _range(op)
    before = None if op is None else op.tensor("result")
    after = first.tensor("input")
    if ends is None or before is None or after is None or before.shape != after.shape or before.numel() < 2:
        return None
    slack = 8 * torch.finfo(after.dtype).eps  # a half-precision image is a few hundredths off
    before, after = before.double(), after.double()
    low, high = torch.aminmax(before)
    if not float(high - low) > max(1e-6, 4 * slack):
        return None
    flat, values = before.reshape(-1), after.reshape(-1)
    at_low, at_high = values[flat.argmin()], values[flat.argmax()]
    slope = (at_high - at_low) / (high - low)
    shift = at_low - slope * low
    if float((slope * before + shift - after).abs().max()) > max(1e-3, slack) * max(1.0, float(after.abs().max())):
        return None  # not the same for every channel: that is a normalization
    found = [float(slope * end + shift) for end in ends]
    for usual in _USUAL:
        near = max(0.01, 2 * slack) * (usual[1] - usual[0])
        if all(abs(a - b) < near for a, b in zip(found, usual, strict=True)):
            return usual
    return None
