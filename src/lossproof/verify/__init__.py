"""Proof by execution: what a fix changed is run beside what was there, in a process of its own.

The one room that runs the code of a project, and only when a person asks for it (``check --fix --verify``). ``touched``
finds the functions that each fix changed, ``plan`` decides which of them have to give the same as before, ``process``
runs the ``worker`` on a copy of the project before and after, ``judge`` reads the figures, ``proof`` says them.
"""

from __future__ import annotations

from lossproof.verify.proof import Proof
from lossproof.verify.prove import prove, verified

__all__ = ["Proof", "prove", "verified"]
