"""Tensors for a role in a scene: moderate ones from a seed, or extreme ones of a named kind."""

from __future__ import annotations

import importlib
import zlib
from typing import Any

from lossproof.verify.worker.roles import words
from lossproof.verify.worker.scenes import Scene, Shape

torch: Any = importlib.import_module("torch")

PREDICTIONS = frozenset(
    ("pred", "logits", "prob", "logp", "positive", "embed", "logvar", "cosine", "loss", "input", "batch", "loader")
)
CASES: dict[str, frozenset[str]] = {
    "logits of 30": PREDICTIONS,
    "logits of 100": PREDICTIONS,
    "logits of 1000": PREDICTIONS,
    "certain and right": PREDICTIONS,
    "certain and wrong": PREDICTIONS,
    "zeros": PREDICTIONS,
    "ones": PREDICTIONS,
    "equal vectors": PREDICTIONS,
    "tiny": PREDICTIONS,
    "zero targets": frozenset(("target", "batch", "loader")),
    "one targets": frozenset(("target", "batch", "loader")),
    "empty mask": frozenset(("mask", "batch", "loader")),
    "empty mask, zero targets": frozenset(("mask",)),
}
"""Extreme inputs, and the roles one of which has to be there for them to differ from moderate ones."""


class Values:
    """Makes the tensors of one call. The same arguments give the same tensors, whatever was made before."""

    def __init__(self, scene: Scene, seed: int, case: str = "", *, bool_mask: bool = False) -> None:
        self.scene = scene
        self.seed = seed
        self.case = case
        self.bool_mask = bool_mask
        self.leaves: list[tuple[str, Any]] = []
        self._first: dict[str, str] = {}
        self.turn = 0
        """Which batch of a loader this is."""

    def tensor(self, role: str, name: str) -> Any:
        if self.scene.named and role != "input":
            held = set(words(name))
            for output, shape, kind in self.scene.named:
                if held & set(words(output)):
                    return self._made(name, shape, kind)
        made = getattr(self, f"_{role}")(name)
        if (
            role in ("pred", "logits", "prob", "logp", "positive", "embed", "logvar", "cosine", "loss")
            and made.is_floating_point()
        ):
            leaf = made.detach().requires_grad_()
            self.leaves.append((name, leaf))
            return leaf.clone()  # may be written into
        return made

    # ---- each role

    def _pred(self, name: str) -> Any:
        kind = self.scene.pred_kind
        return getattr(self, "_logits" if kind == "logits" else f"_{kind}")(name)

    def _logits(self, name: str) -> Any:
        shape = self.scene.pred
        plain = self._normal(name, shape) * 1.5
        plain = plain + 0.15 * plain.sign()  # what is near zero is not moderate
        return self._extreme(plain, name, low=None)

    def _prob(self, name: str) -> Any:
        plain = 0.03 + 0.94 * self._uniform(name, self.scene.pred)
        case = self.case
        if case in ("certain and right", "certain and wrong", "equal vectors"):
            return self._certain(plain, case, 0.0, 1.0)
        if case == "zeros":
            return torch.zeros_like(plain)
        if case == "ones":
            return torch.ones_like(plain)
        if case == "tiny":
            return plain * 1e-12
        return plain

    def _distribution(self, name: str) -> Any:
        shape = self.scene.pred
        logits = self._normal(name, shape) * 1.5
        if self.case in ("certain and right", "certain and wrong", "equal vectors"):
            return self._certain(logits.softmax(1 if len(shape) > 1 else 0), self.case, 0.0, 1.0)
        if self.case.startswith("logits"):
            logits = logits * float(self.case.rpartition(" ")[2])
        return logits.softmax(1 if len(shape) > 1 else 0) if shape else logits.abs()

    def _logp(self, name: str) -> Any:
        shape = self.scene.pred
        logits = self._normal(name, shape) * 1.5
        if self.case.startswith("logits"):
            logits = logits * float(self.case.rpartition(" ")[2])
        return logits.log_softmax(1) if len(shape) > 1 else -logits.abs()

    def _positive(self, name: str) -> Any:
        plain = 0.2 + 1.3 * self._uniform(name, self.scene.pred)
        return self._extreme(plain, name, low=0.0)

    def _embed(self, name: str) -> Any:
        shape = self.scene.pred if len(self.scene.pred) != 1 else (6, 8)
        if self.case == "equal vectors":
            return self._normal("embed", shape)
        plain = self._normal(name, shape)
        return self._extreme(plain + 0.15 * plain.sign(), name, low=None)

    def _logvar(self, name: str) -> Any:
        plain = self._normal(name, self.scene.pred) * 0.5
        if self.case.startswith("logits"):
            return plain.sign() * min(float(self.case.rpartition(" ")[2]), 60.0)
        return torch.zeros_like(plain) if self.case == "zeros" else plain

    def _loss(self, name: str) -> Any:
        return self._uniform(name, ()) + 0.3

    def _cosine(self, name: str) -> Any:
        plain = 0.95 * (2 * self._uniform(name, self.scene.pred) - 1)
        case = self.case
        if case.startswith("logits") or case in ("certain and right", "certain and wrong", "equal vectors"):
            return plain.sign() if case != "certain and wrong" else -plain.sign()
        return torch.ones_like(plain) if case == "ones" else torch.zeros_like(plain) if case == "zeros" else plain

    def _index(self, name: str) -> Any:
        if self.scene.target_kind == "index":
            return self._targets(name)
        return torch.randint(0, self.scene.classes, (self.scene.batch,), generator=self._generator(name))

    def _rows(self, name: str) -> Any:
        return self._normal(name, (self.scene.batch,))

    def _input(self, name: str) -> Any:
        shape, kind = self.scene.input or self.scene.pred, self.scene.input_kind
        if kind.startswith("index"):
            most = int(kind.partition(":")[2] or 20)
            return torch.randint(0, most, shape, generator=self._generator(name))
        plain = self._normal(name, shape)
        if self.case.startswith("logits"):
            return plain * float(self.case.rpartition(" ")[2])
        if self.case.startswith("certain"):
            return plain * 50
        if self.case == "zeros":
            return torch.zeros_like(plain)
        return plain

    def _target(self, name: str) -> Any:
        first = self._first.setdefault("target", name)
        return self._targets("target" if name == first else name)

    def _targets(self, name: str) -> Any:
        return self._made(name, self.scene.target, self.scene.target_kind)

    def _made(self, name: str, shape: Shape, kind: str) -> Any:
        if kind.startswith("index"):
            most = int(kind.partition(":")[2] or self.scene.classes)
            made = torch.randint(0, most, shape, generator=self._generator(name))
            if self.case in ("zero targets", "empty mask, zero targets"):
                return torch.zeros_like(made)
            return torch.ones_like(made) if self.case == "one targets" else made
        if kind == "binary":
            made = (self._uniform(name, shape) > 0.5).float()
            if made.numel() > 1:
                made.view(-1)[0], made.view(-1)[-1] = 1.0, 0.0
        elif kind == "fraction":
            made = 0.05 + 0.9 * self._uniform(name, shape)
        elif kind == "positive":
            made = 0.2 + 1.3 * self._uniform(name, shape)
        elif kind == "distribution":
            made = self._normal(name, shape).softmax(1)
        else:
            made = self._normal(name, shape)
        if self.case in ("zero targets", "empty mask, zero targets"):
            return torch.zeros_like(made)
        return torch.ones_like(made) if self.case == "one targets" else made

    def _mask(self, name: str) -> Any:
        shape = self.scene.mask or self.scene.pred
        made = (self._uniform(name, shape) > 0.4).float()
        if made.numel() > 1:
            made.view(-1)[0], made.view(-1)[-1] = 1.0, 0.0
        if self.case.startswith("empty mask"):
            made = torch.zeros_like(made)
        return made.bool() if self.bool_mask else made

    def _weight(self, name: str) -> Any:
        if {"class", "pos", "classes"} & set(name.lower().split("_")):
            return 0.5 + self._uniform(name, (self.scene.classes,) if len(self.scene.pred) > 1 else ())
        shape = self.scene.mask if self.scene.target_kind != "index" or self.scene.mask else self.scene.target
        return 0.5 + self._uniform(name, shape)

    # ---- extremes

    def _extreme(self, plain: Any, name: str, *, low: float | None) -> Any:
        case = self.case
        if case.startswith("logits"):
            size = float(case.rpartition(" ")[2])
            return (plain.abs() * 0 + size) if low is not None else plain.sign() * size
        if case in ("certain and right", "certain and wrong"):
            return self._certain(plain, case, -50.0 if low is None else low, 50.0)
        if case == "zeros":
            return torch.zeros_like(plain)
        if case == "ones":
            return torch.ones_like(plain)
        if case == "tiny":
            return plain * 1e-12
        if case == "equal vectors":
            target = self._targets("target")
            if target.shape == plain.shape and target.is_floating_point():
                return target.clone()
            return torch.zeros_like(plain)
        return plain

    def _certain(self, plain: Any, case: str, low: float, high: float) -> Any:
        """Predictions that leave no doubt, right or wrong."""
        target = self._targets("target")
        if self.scene.target_kind == "index" and plain.dim() > 1:
            over = 1 if plain.dim() == target.dim() + 1 and plain.shape[2:] == target.shape[1:] else plain.dim() - 1
            chosen = target if case != "certain and wrong" else (target + 1) % max(plain.shape[over], 1)
            if chosen.unsqueeze(over).dim() != plain.dim():
                return plain
            made = torch.full_like(plain, low)
            return made.scatter(over, chosen.unsqueeze(over), high)
        if target.numel() == plain.numel() and target.is_floating_point():
            right = target.reshape(plain.shape) > 0.5
            right = ~right if case == "certain and wrong" else right
            return torch.where(right, torch.full_like(plain, high), torch.full_like(plain, low))
        return plain

    # ---- chance

    def _generator(self, name: str) -> Any:
        key = zlib.crc32(f"{self.seed}/{self.turn}/{name}".encode())
        return torch.Generator().manual_seed(key)

    def _normal(self, name: str, shape: Shape) -> Any:
        return torch.randn(shape, generator=self._generator(name)).clamp(-3, 3)

    def _uniform(self, name: str, shape: Shape) -> Any:
        return torch.rand(shape, generator=self._generator(name))
