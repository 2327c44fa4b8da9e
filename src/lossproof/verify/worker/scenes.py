"""Shapes that belong together: what a prediction, its target and its mask look like in the usual tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """One hypothesis about what a function is given."""

    name: str
    pred: Shape
    target: Shape
    target_kind: str = "binary"
    """``index``, ``binary``, ``positive``, ``distribution`` or ``signed``."""
    pred_kind: str = "logits"
    """``logits``, ``prob`` (each by itself), ``distribution`` (over dim 1), ``logp`` or ``positive``."""
    mask: Shape = ()
    optional: bool = True
    """Whether what may be left out is given."""
    input: Shape = ()
    input_kind: str = "signed"
    """What the model takes, where there is one: ``signed``, or ``index:20`` for tokens."""
    flags: tuple[tuple[str, object], ...] = ()
    """Switches (parameters with a default) that are set otherwise, to reach a branch."""
    named: tuple[tuple[str, Shape, str], ...] = ()
    """Targets that go by the name of one of several outputs, with shape and kind."""

    @property
    def classes(self) -> int:
        if len(self.pred) > 2 and self.target_kind == "index" and self.target == self.pred[:-1]:
            return self.pred[-1]
        return self.pred[1] if len(self.pred) > 1 else 4

    @property
    def batch(self) -> int:
        return self.pred[0] if self.pred else 6

    def title(self) -> str:
        shape = "x".join(map(str, self.pred)) or "scalar"
        return f"{self.name} {shape}"


_CLASS = [
    Scene("classes", (6, 4), (6,), "index", mask=(6,)),
    Scene("classes, kept", (6, 4), (6, 1), "index", mask=(6,)),
    Scene("classes of pixels", (3, 4, 5, 7), (3, 5, 7), "index", mask=(3, 5, 7)),
    Scene("classes of tokens", (3, 5, 4), (3, 5), "index", mask=(3, 5)),
    Scene("classes of tokens, transposed", (3, 4, 5), (3, 5), "index", mask=(3, 5)),
]
_SAME = [
    Scene("labels", (6, 4), (6, 4), mask=(6, 4)),
    Scene("flat", (7,), (7,), mask=(7,)),
    Scene("column", (6, 1), (6, 1), mask=(6, 1)),
    Scene("maps", (3, 1, 5, 7), (3, 1, 5, 7), mask=(3, 1, 5, 7)),
    Scene("maps of classes", (3, 4, 5, 7), (3, 4, 5, 7), mask=(3, 4, 5, 7)),
    Scene("sequence", (3, 5), (3, 5), mask=(3, 5)),
    Scene("sequence of vectors", (3, 5, 4), (3, 5, 4), mask=(3, 5)),
    Scene("column against flat", (6, 1), (6,), mask=(6,)),
    Scene("maps against planes", (3, 1, 5, 7), (3, 5, 7), mask=(3, 5, 7)),
    Scene("rows with a mask", (6, 4), (6, 4), mask=(6,)),
    Scene("maps with a plane mask", (3, 4, 5, 7), (3, 4, 5, 7), mask=(3, 1, 5, 7)),
    Scene("volumes", (2, 1, 3, 4, 5), (2, 1, 3, 4, 5), mask=(2, 1, 3, 4, 5)),
]
_PAIRS = Scene("pairs", (6, 6), (6, 6), mask=(6, 6))
_TARGETS = ("binary", "positive", "distribution", "signed")
_PREDS = ("logits", "prob", "distribution", "positive", "logp")


def scenes(names: set[str], rank: int | None, *, bounded: bool = False) -> list[Scene]:
    """Hypotheses, the likely first. ``names``: what the function mentions; ``rank``: the dimensions it counts on.

    ``bounded``: it treats a prediction as a number from 0 to 1.
    """
    lower = {name.lower() for name in names}

    def mentions(*parts: str) -> bool:
        return any(part in name for part in parts for name in lower)

    classy = mentions("cross_entropy", "crossentropy", "nll_loss", "nllloss", "one_hot", "gather", "multi_margin")
    binary = mentions("binary_cross", "bce", "logsigmoid", "sigmoid")
    if binary and not mentions("nll", "one_hot", "gather") and not (lower & {"cross_entropy", "crossentropyloss"}):
        classy = False
    first, then = (_CLASS, _SAME) if classy else (_SAME, _CLASS)
    shapes = [*first, *then]
    if lower & {"diag", "diagonal", "eye", "fill_diagonal_", "triu_indices"}:
        shapes.insert(0, _PAIRS)
    if rank is not None:
        shapes.sort(key=lambda scene: len(scene.pred) != rank)
    kinds = list(_PREDS)
    if bounded:
        kinds = ["prob", *(kind for kind in kinds if kind != "prob")]
    targets = list(_TARGETS)
    if mentions("mse", "l1_loss", "smooth_l1", "huber"):
        targets = ["positive", "signed", "binary", "distribution"]
    found = []
    for kind in kinds:
        for target in targets:
            for scene in shapes:
                if scene.target_kind == "index":
                    if classy and target == targets[0]:
                        found.append(replace(scene, pred_kind=kind))
                elif target == "distribution" and len(scene.pred) < 2:
                    continue
                else:
                    found.append(replace(scene, pred_kind=kind, target_kind=target))
    if not classy:
        found += [replace(scene, pred_kind=kind) for kind in kinds for scene in _CLASS]
    scalar = Scene("scalar", (), ())
    found += [
        replace(scalar, pred_kind=kind, target_kind=target)
        for kind in ("logits", "positive")
        for target in _TARGETS[:2]
    ]
    return found
