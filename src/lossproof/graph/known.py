"""What the user told beside the loss: what parameters are called, and which of them an optimizer trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lossproof.problem import CannotRun

if TYPE_CHECKING:
    from lossproof.graph.walk import Op


class Known:
    """Names and groups of tensors, by identity."""

    def __init__(self, names: Any = None, optimizer: Any = None) -> None:
        self.named: dict[int, str] = {}
        """The names of parameters and other tensors, by ``id``."""
        self.modules: list[tuple[str, nn.Module]] = []
        """Every module below ``names``, with its name."""
        self.parameters: list[tuple[str, nn.Parameter]] = []
        """Every parameter below ``names``, once."""
        self.held: frozenset[int] | None = None
        """The ``id`` of what the optimizer holds; None where none was told."""
        for name, value in _parts(names):
            self._take(name, value)
        self.optimizers: tuple[Any, ...] = ()
        """As they were told, one or several."""
        if optimizer is not None:
            self.optimizers = tuple(optimizer) if isinstance(optimizer, (list, tuple)) else (optimizer,)
            self.held = frozenset(map(id, _held(optimizer)))

    def _take(self, name: str, value: object) -> None:
        if isinstance(value, nn.Module):
            dotted = f"{name}." if name else ""
            for inner, module in value.named_modules():
                self.modules.append(((dotted + inner).rstrip("."), module))
            for inner, parameter in value.named_parameters():
                if id(parameter) not in self.named:
                    self.named[id(parameter)] = dotted + inner
                    self.parameters.append((dotted + inner, parameter))
        elif isinstance(value, torch.Tensor):
            self.named.setdefault(id(value), name)
            if isinstance(value, nn.Parameter):
                self.parameters.append((name, value))
        else:
            raise CannotRun(
                f"names: {name or 'it'} is {type(value).__name__}; give a model, or modules and tensors by name"
            )

    def name(self, op: Op) -> str | None:
        """What the user calls a leaf."""
        return None if op.leaf is None else self.named.get(id(op.leaf))

    def trains(self, leaf: torch.Tensor) -> bool | None:
        """Whether the optimizer holds a tensor; None where no optimizer was told."""
        return None if self.held is None else id(leaf) in self.held


def _parts(names: Any) -> Iterator[tuple[str, Any]]:
    if names is None:
        return
    if isinstance(names, Mapping) and not isinstance(names, nn.Module):
        yield from ((str(name), value) for name, value in names.items())
    elif isinstance(names, (list, tuple, set)) or not isinstance(names, (nn.Module, torch.Tensor)):
        raise CannotRun(f"names is {type(names).__name__}: give a model, or a mapping from names to modules or tensors")
    else:
        yield "", names


def _held(optimizer: Any) -> Iterator[torch.Tensor]:
    for each in optimizer if isinstance(optimizer, (list, tuple)) else (optimizer,):
        groups = getattr(each, "param_groups", None)
        if groups is None:
            raise CannotRun(
                f"optimizer is {type(each).__name__}, which has no param_groups: give a torch.optim.Optimizer"
            )
        for group in groups:
            yield from group["params"]
