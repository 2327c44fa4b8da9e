"""One operator at fault, what its operands were at the elements in question, and the answer's form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lossproof.graph import replay
from lossproof.graph.figures import bad, plain
from lossproof.graph.known_values import Known
from lossproof.graph.operands import kept
from lossproof.graph.reach import down
from lossproof.graph.spoken import operator

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op


@dataclass(frozen=True)
class Verdict:
    cause: str
    variant: str
    because: tuple[str, ...]
    probability: float = 0.99


class Scene:
    """One operator at fault, and what its operands were at the elements in question."""

    def __init__(self, known: Known, op: Op, mask: torch.Tensor | None, output: int = 0) -> None:
        self.known = known
        self.graph: Graph = known.graph
        self.op = op
        self.mask = mask
        self.output = output
        self.name = operator(op)

    def whole(self, number: int) -> torch.Tensor | None:
        tensor, assumed = self.known.operand(self.op, number)
        return None if tensor is None or assumed else plain(tensor)

    def at(self, number: int) -> torch.Tensor | None:
        """The elements of an operand that had a part in the fault."""
        tensor = self.whole(number)
        if tensor is None or self.mask is None:
            return None if tensor is None else tensor.flatten()
        reached = down(self.op, self.mask, number, self.output)
        if reached is None or reached.shape != tensor.shape:
            return tensor.flatten()
        return tensor[reached.to(tensor.device)]

    @property
    def half(self) -> bool:
        return self.op.dtype(self.output) == torch.float16

    def operands(self) -> list[torch.Tensor | None]:
        """All operands, a plain number among them too."""
        found = [self.whole(number) for number in range(len(self.op.inputs))]
        if self.op.kind in ("Pow", "Mul", "Div") and len(found) == 1:
            found.append(kept(self.op, 1))
        return found

    def contradicted(self) -> bool:
        """Whether the operator, made again of its operands, gives finite numbers after all."""
        ins = self.operands()
        if not ins or any(each is None for each in ins):
            return False
        made = replay.again(self.op, [each for each in ins if each is not None], self.output)
        return made is not None and made.numel() > 0 and not bool(bad(made).any())

    def fits_in_float(self) -> bool:
        """Whether the same operator in float32 gives finite numbers where float16 did not."""
        ins = self.operands()
        known = [each.float() if each is not None and each.is_floating_point() else each for each in ins]
        if self.op.kind == "ToCopy":
            return known[0] is not None and bool(torch.isfinite(known[0]).all())
        if any(each is None for each in known):
            sizes = [float(each.abs().max()) for each in known if each is not None and each.numel()]
            return bool(sizes) and max(sizes) < 1e18
        made = replay.again(self.op, [each for each in known if each is not None], self.output)
        if made is None:
            return all(float(each.abs().max()) < 1e18 for each in known if each is not None and each.numel())
        wrong = bad(made)
        return not bool(
            wrong[self.mask].any() if self.mask is not None and self.mask.shape == wrong.shape else wrong.any()
        )
