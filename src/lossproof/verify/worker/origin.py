"""Where a value or a gradient stopped being finite: the line of the project that computed it."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import Any

torch: Any = importlib.import_module("torch")

Place = tuple[str, int]


class Origin(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
    """Watches every operation while it is active, and the gradients of what they gave afterwards."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder
        self._users: dict[int, list[Place]] = {}
        self._kept: list[Any] = []
        self.value: Place | None = None
        """The first operation with finite inputs and an output that is not."""
        self.gradient: Place | None = None
        """The first operation that made a finite gradient one that is not."""

    def __torch_function__(self, function: Any, kinds: Any, given: Any = (), named: Any = None) -> Any:
        result = function(*given, **(named or {}))
        if type(result) is not torch.Tensor or not result.is_floating_point():
            return result
        place = self._place()
        if place is None:
            return result
        taken = [each for each in (*given, *(named or {}).values()) if torch.is_tensor(each)]
        with torch._C.DisableTorchFunction():
            for each in taken:
                self._users.setdefault(id(each), []).append(place)
                self._kept.append(each)
            if self.value is None and not _finite(result) and all(_finite(each) for each in taken):
                self.value = place
            if result.requires_grad and result.grad_fn is not None:
                result.register_hook(partial(self._hook, id(result)))
                self._kept.append(result)
            for each in taken:
                if each.requires_grad and each.is_leaf:
                    each.register_hook(partial(self._hook, id(each)))
        return result

    def _hook(self, key: int, gradient: Any) -> None:
        if self.gradient is None and not _finite(gradient):
            places = self._users.get(key)
            if places:
                self.gradient = places[-1]

    def _place(self) -> Place | None:
        frame: Any = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename.startswith(self._folder):
                return frame.f_code.co_filename[len(self._folder) + 1 :].replace("\\", "/"), frame.f_lineno
            frame = frame.f_back
        return None

    def found(self) -> Place | None:
        """The value's place if it is the value that is not finite, else the gradient's."""
        return self.value or self.gradient


def _finite(value: Any) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value.detach()).all())
