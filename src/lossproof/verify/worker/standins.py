"""Stand-ins for packages that are not installed: enough to import a file, never enough to compute with.

A class may derive from one (a Lightning module without Lightning is a ``nn.Module`` that logs nowhere), a function may
be decorated by one. Whoever calls one while a function is on trial learns which package is missing.
"""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

_BASES = ("Module", "Model", "Loss", "Layer", "Net", "Network", "Head", "Metric")


class NeedsPackage(Exception):
    """What is on trial calls what is not installed."""


class StandIn:
    """Something of a package that is not there."""

    running = False

    def __init__(self, name: str, why: str = "") -> None:
        self.__dict__["_name"] = name
        self.__dict__["_why"] = why or f"needs the package {name.partition('.')[0]}, which is not installed"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self._name}.{name}", self._why)

    def __call__(self, *given: Any, **named: Any) -> Any:
        if StandIn.running:
            raise NeedsPackage(self._why)
        if len(given) == 1 and not named and callable(given[0]) and not isinstance(given[0], StandIn):
            return given[0]  # a decorator
        return StandIn(f"{self._name}()", self._why)

    def _used(self, *_: Any) -> Any:
        raise NeedsPackage(self._why)

    __iter__ = __getitem__ = __len__ = __bool__ = __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __float__ = _used

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        module: type = importlib.import_module("torch").nn.Module
        last = self._name.rpartition(".")[2]
        if not last.endswith(_BASES):
            return ()
        if any(isinstance(base, type) and issubclass(base, module) for base in bases):
            return ()
        if any(
            isinstance(b, StandIn) and b is not self and b._name.endswith(_BASES) for b in bases[: bases.index(self)]
        ):
            return ()
        return (lightning() if last.startswith("Lightning") else module,)


_LIGHTNING: list[type] = []


def lightning() -> type:
    """What a Lightning module is to its own methods: a module that logs to nobody."""
    if not _LIGHTNING:
        module: Any = importlib.import_module("torch").nn.Module

        class LightningModule(module):  # type: ignore[misc]
            current_epoch = global_step = local_rank = global_rank = 0
            automatic_optimization = True
            logger = None

            @property
            def device(self) -> Any:
                return importlib.import_module("torch").device("cpu")

            @property
            def hparams(self) -> Any:
                return self.__dict__.setdefault("_hparams", SimpleNamespace())

            def save_hyperparameters(self, *names: Any, **_: Any) -> None:
                given = {k: v for k, v in sys._getframe(1).f_locals.items() if k != "self" and not k.startswith("__")}
                wanted = [name for name in names if isinstance(name, str)]
                self.hparams.__dict__.update({k: v for k, v in given.items() if not wanted or k in wanted})

            def log(self, *_: Any, **__: Any) -> None: ...

            log_dict = print = log

        _LIGHTNING.append(LightningModule)
    return _LIGHTNING[0]
