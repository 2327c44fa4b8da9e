"""Notes of where each operator was called, for one step at a time: ``with lossproof.recording(): loss = …``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from lossproof.graph.place import NOTE, Note, is_library


class recording(TorchFunctionMode):
    """Note for each operator of the forward pass the user's own line; the note lives and dies with the graph."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, torch.Tensor) and each.grad_fn is not None:
                metadata: dict[Any, Any] = each.grad_fn.metadata  # type: ignore[assignment]  # a property
                if NOTE not in metadata:
                    metadata[NOTE] = _note(func, args, kwargs or {})
        return result


def _note(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Note | None:
    frame = sys._getframe(2)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return None
    numbers = [(str(place), each) for place, each in enumerate(args) if isinstance(each, (int, float, bool))]
    numbers += [(name, each) for name, each in kwargs.items() if isinstance(each, (int, float, bool))]
    return Note(
        frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, resolve_name(func) or "", tuple(numbers)
    )
