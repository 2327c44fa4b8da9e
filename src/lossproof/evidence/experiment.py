"""What an experiment is: a claim, a measurement, and a verdict that follows from what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Figure = float | int | bool | str | None

HOLDS, DOES_NOT_HOLD, DEPENDS = "holds", "does-not-hold", "depends"
VERDICTS = (HOLDS, DOES_NOT_HOLD, DEPENDS)


@dataclass(frozen=True)
class Setting:
    """What an experiment may use. Random numbers are drawn on the CPU, so that every device sees the same ones.

    The global random state is forked and seeded before each experiment; layers may be made without a generator.
    """

    device: Any

    def generator(self, seed: int = 0) -> torch.Generator:
        """A source of random numbers of one's own."""
        import torch

        return torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, seed: int = 0) -> torch.Tensor:
        """Standard normal numbers."""
        import torch

        return torch.randn(*shape, generator=self.generator(seed)).to(self.device)

    def uniform(self, *shape: int, seed: int = 0) -> torch.Tensor:
        """Numbers from 0 to 1."""
        import torch

        return torch.rand(*shape, generator=self.generator(seed)).to(self.device)

    def integers(self, high: int, *shape: int, seed: int = 0) -> torch.Tensor:
        """Whole numbers below a bound."""
        import torch

        return torch.randint(high, shape, generator=self.generator(seed)).to(self.device)

    def tensor(self, values: Any, dtype: torch.dtype | None = None, *, grad: bool = False) -> torch.Tensor:
        """A tensor of these values; with ``grad`` a leaf whose gradient is wanted."""
        import torch

        return torch.tensor(values, dtype=dtype, device=self.device).requires_grad_(grad)


@dataclass(frozen=True)
class Outcome:
    """What was measured, and what it says about the claim.

    ``figures`` are finite: what is not (a loss of infinity) becomes a word, see ``number``. ``timed`` names the figures
    that are read off a clock; all others are the same in every run.
    """

    verdict: str
    measured: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    condition: str = ""
    timed: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"Verdict should be one of {', '.join(VERDICTS)}. Found {self.verdict!r}.")
        for name, figure in self.figures.items():
            if not isinstance(figure, (bool, int, float, str)) and figure is not None:
                raise ValueError(f"Figure {name} should be a plain number, a word or None. Found {type(figure)}.")
        unknown = set(self.timed) - set(self.figures)
        if unknown:
            raise ValueError(f"Timed figures should be among the figures. Found {', '.join(sorted(unknown))}.")
        plain = {name: number(value) if isinstance(value, float) else value for name, value in self.figures.items()}
        object.__setattr__(self, "figures", plain)

    def as_dict(self) -> dict[str, Any]:
        """The outcome as it is kept and exchanged."""
        return {
            "verdict": self.verdict,
            "measured": self.measured,
            "condition": self.condition,
            "figures": dict(self.figures),
            "timed": list(self.timed),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Outcome:
        """The same from what was kept."""
        return cls(
            verdict=record["verdict"],
            measured=record["measured"],
            condition=record["condition"],
            figures=dict(record["figures"]),
            timed=tuple(record["timed"]),
        )


@dataclass(frozen=True)
class Experiment:
    """One claim and how it is tested.

    ``claim`` is a sentence in the user's words, ``folk`` the belief that it corrects, if there is one. ``rules`` are
    the codes of the rules that lean on it. ``seconds`` bounds one run on two slow cores.
    """

    id: str
    claim: str
    rules: tuple[str, ...]
    measure: Callable[[Setting], Outcome]
    folk: str = ""
    seconds: float = 5.0

    @property
    def family(self) -> str:
        """The folder that the experiment lives in."""
        return self.measure.__module__.split(".")[-2]


def verdict(holds: bool) -> str:
    """The verdict of a claim that is either so or not."""
    return HOLDS if holds else DOES_NOT_HOLD


def number(value: Any) -> float | str:
    """A number for ``figures``: a plain float, or ``"nan"``, ``"inf"``, ``"-inf"``."""
    plain = float(value)
    return plain if math.isfinite(plain) else str(plain)


def say(value: Figure, digits: int = 3) -> str:
    """A number as it is written in a sentence: ``0.0312``, ``1,234``, ``4.5e-5``, ``inf``, ``NaN``."""
    if value in (None, "nan") or value != value:
        return "none" if value is None else "NaN"
    if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isinf(value):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if 1000 <= size < 1e7:
        return f"{value:,.0f}"
    if 1e-3 <= size < 1000:
        return f"{float(f'{value:.{digits}g}'):g}"
    mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def percent(share: float, digits: int = 1) -> str:
    """A share as it is written in a sentence: ``93.7 %``."""
    return f"{100 * share:.{digits}f} %"
