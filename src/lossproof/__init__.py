"""lossproof proves what is wrong with a training objective, and mends it.

Importing it costs nothing: each name below is fetched when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any

    from lossproof.audit import audit
    from lossproof.autopsy import Autopsy, autopsy
    from lossproof.check import Options, Report, check_paths
    from lossproof.finding import Finding, Location, Remedy, Severity
    from lossproof.graph.recorder import recording
    from lossproof.problem import CannotRun

    def check(paths: Sequence[str | os.PathLike[str]] | str = (".",), **options: Any) -> Report: ...


__version__ = "0.1.0"
__all__ = [
    "Autopsy",
    "CannotRun",
    "Finding",
    "Location",
    "Options",
    "Remedy",
    "Report",
    "Severity",
    "__version__",
    "audit",
    "autopsy",
    "check",
    "check_paths",
    "recording",
]

_HOMES = {
    "Autopsy": "lossproof.autopsy",
    "CannotRun": "lossproof.problem",
    "Finding": "lossproof.finding",
    "Location": "lossproof.finding",
    "Options": "lossproof.check",
    "Remedy": "lossproof.finding",
    "Report": "lossproof.check",
    "Severity": "lossproof.finding",
    "check_paths": "lossproof.check",
    "recording": "lossproof.graph.recorder",
    # What IPython looks for at ``%load_ext lossproof``.
    "load_ipython_extension": "lossproof.notebook_magic",
    "unload_ipython_extension": "lossproof.notebook_magic",
}
_CALLABLE_MODULES = ("audit", "autopsy", "check")  # a module that is also the function of its name


_ROOMS = ("balance", "losses")  # rooms that people use as they are


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _CALLABLE_MODULES or name in _ROOMS:
        return import_module(f"lossproof.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lossproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
