"""What a call left behind that can be compared: its result, its prints, the losses it differentiated, its changes."""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Mapping
from typing import Any

torch: Any = importlib.import_module("torch")

_NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][-+]?\d+)?|-?\d+(?:[eE][-+]?\d+)?|nan|inf")
_MOST = 400

Leaf = tuple[str, Any]  # where it is, and a tensor or a plain value


def flatten(value: Any, where: str = "result", depth: int = 0) -> list[Leaf]:
    """The tensors and numbers in a value, each with the way to it."""
    if depth > 5:
        return []
    if torch.is_tensor(value):
        return [(where, value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return [(where, value)]
    if type(value).__module__ == "numpy":
        try:
            return [(where, torch.as_tensor(value))]
        except (TypeError, ValueError, RuntimeError):
            return []
    if isinstance(value, Mapping):
        return [
            leaf for key, each in list(value.items())[:_MOST] for leaf in flatten(each, f"{where}[{key!r}]", depth + 1)
        ]
    if isinstance(value, (list, tuple, set, frozenset)):
        items = value if not isinstance(value, (set, frozenset)) else sorted(value, key=repr)
        return [
            leaf for i, each in enumerate(list(items)[:_MOST]) for leaf in flatten(each, f"{where}[{i}]", depth + 1)
        ]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [
            leaf
            for field in dataclasses.fields(value)
            for leaf in flatten(getattr(value, field.name, None), f"{where}.{field.name}", depth + 1)
        ]
    if isinstance(value, torch.distributions.Distribution):
        return flatten(getattr(value, "__dict__", {}), where, depth + 2)
    if isinstance(value, (torch.nn.Module, torch.optim.Optimizer)) or callable(value):
        return []
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and depth < 2:
        return [
            leaf
            for key, each in held.items()
            if not key.startswith("__")
            for leaf in flatten(each, f"{where}.{key}", depth + 1)
        ]
    return []


def state(owner: Any) -> list[Leaf]:
    """What an object remembers after a call: numbers and tensors in its attributes, buffers of a module."""
    if owner is None:
        return []
    found: list[Leaf] = []
    if isinstance(owner, torch.nn.Module):
        found += [(f"self.{name}", value) for name, value in owner.named_buffers()]
    for name, value in list(vars(owner).items()) if hasattr(owner, "__dict__") else []:
        if name.startswith("_") or name == "training" or isinstance(value, (torch.nn.Module, torch.optim.Optimizer)):
            continue
        found += flatten(value, f"self.{name}", 1)
    return found


def printed(text: str) -> list[Leaf]:
    """The numbers in what was printed."""
    return [(f"printed number {i + 1}", float(word)) for i, word in enumerate(_NUMBER.findall(text)[:_MOST])]


def number(value: Any) -> float | None:
    """A float for what is one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if torch.is_tensor(value) and value.numel() == 1 and not value.dtype.is_complex and value.dtype != torch.bool:
        return float(value.detach())
    return None


def is_floating(value: Any) -> bool:
    return isinstance(value, float) or (torch.is_tensor(value) and value.is_floating_point())


def finite(leaves: list[Leaf]) -> bool:
    return all(
        bool(torch.isfinite(v).all()) if torch.is_tensor(v) else math.isfinite(v) for _, v in leaves if is_floating(v)
    )


class Difference:
    """How far the leaves of two calls are apart."""

    def __init__(self, old: list[Leaf], new: list[Leaf], *, tolerance: float = 1e-5) -> None:
        self.worst = 0.0
        """The largest difference, in units where 1e-5 is the limit."""
        self.said = ""
        """The first difference that is too large, in words."""
        theirs = dict(new)
        for where, value in old:
            if where not in theirs:
                # A set of names may shrink by what is private; a result may not.
                self._say(f"{where} is gone")
                continue
            self._compare(where, value, theirs[where], tolerance)
        known = {where for where, _ in old}
        extra = [where for where, _ in new if where not in known and where.startswith("result")]
        if extra and not self.said:
            self._say(f"{extra[0]} is new")

    def _say(self, text: str) -> None:
        self.said = self.said or text

    def _compare(self, where: str, old: Any, new: Any, tolerance: float) -> None:
        a, b = number(old), number(new)
        if a is not None and b is not None:
            shown_a, shown_b = f"{a:.6g}", f"{b:.6g}"
            if (math.isnan(a) and math.isnan(b)) or a == b:
                return
            if not (math.isfinite(a) and math.isfinite(b)):
                self._say(f"{where}: {shown_a} became {shown_b}")
                self.worst = math.inf
                return
            apart = abs(a - b) / max(1.0, abs(a))
            self.worst = max(self.worst, apart)
            if apart > tolerance:
                self._say(f"{where}: {shown_a} became {shown_b}")
            return
        if torch.is_tensor(old) and torch.is_tensor(new):
            if old.shape != new.shape:
                self._say(f"{where}: shape {_shape(old)} became {_shape(new)}")
                self.worst = math.inf
                return
            x, y = old.detach().double(), new.detach().double()
            if x.numel() == 0:
                return
            apart_all = (x - y).abs() / x.abs().clamp(min=1.0)
            apart_all = torch.where((x == y) | (x.isnan() & y.isnan()), torch.zeros_like(apart_all), apart_all)
            apart_all = apart_all.nan_to_num(math.inf, math.inf)
            apart = float(apart_all.max())
            self.worst = max(self.worst, apart)
            if apart > tolerance:
                at = int(apart_all.argmax())
                self._say(f"{where}: {float(x.flatten()[at]):.6g} became {float(y.flatten()[at]):.6g}")
            return
        if old == new or (old is None and new is None):
            return
        if isinstance(old, str) and isinstance(new, str) and _masked(old) == _masked(new):
            return
        self._say(f"{where}: {_short(old)} became {_short(new)}")
        self.worst = math.inf


def _masked(text: str) -> str:
    return _NUMBER.sub("#", text)


def _shape(value: Any) -> str:
    return "(" + ", ".join(map(str, value.shape)) + ")"


def _short(value: Any) -> str:
    if torch.is_tensor(value):
        return f"a tensor of shape {_shape(value)}"
    return repr(value)[:60]
