"""What running a fix has shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from lossproof.finding import Finding
from lossproof.report.place import place

VERIFIED, FAILED, NOT_RUN = "verified", "failed", "not run"


@dataclass
class Proof:
    """One finding's fix, run beside what it replaced."""

    finding: Finding
    verdict: str
    """``verified``, ``failed`` or ``not run``."""
    said: str
    """The figures, or the reason."""
    units: tuple[str, ...] = ()
    """The functions that were compared."""
    inputs: int = 0
    skipped: tuple[str, ...] = field(default=())
    """Functions that changed too and could not be run, each with the reason."""

    def line(self) -> str:
        """``train.py:12 LP201: verified: `masked_mean`: 24 inputs same to 3e-8; extreme: nan, now 0``."""
        where = place(self.finding.location).rpartition(":")[0]
        rest = "".join(f"; {each}" for each in self.skipped)
        return f"{where} {self.finding.rule}: {self.verdict}: {self.said}{rest}"
