"""Torch without its compiler: an optimizer alone would load it, which takes longer than everything else together."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"


class _Dynamo(ModuleType):
    """Enough of the compiler for a program that is not compiled; whoever wants more gets the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(importlib.import_module(_NAME), name)

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None: ...

    @staticmethod
    def is_compiling() -> bool:
        return False

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        return function if function is not None else lambda wrapped: wrapped


def install() -> None:
    """Put the small compiler in the place of the large one, unless that is loaded already."""
    torch: Any = importlib.import_module("torch")
    if _NAME in sys.modules or "_dynamo" in vars(torch):
        return
    spec = importlib.util.find_spec(_NAME)
    if spec is None:
        return
    small = _Dynamo(_NAME)
    small.__path__ = list(spec.submodule_search_locations or ())
    small.__spec__ = spec
    sys.modules[_NAME] = small
    torch._dynamo = small
    torch.compile = _as_it_is


def _as_it_is(model: Any = None, *_: Any, **__: Any) -> Any:
    """``torch.compile``, which does not change what is computed."""
    return model if model is not None else lambda wrapped: wrapped
