"""One function exchanged for its sibling: ``softmax`` for ``log_softmax``, ``nll_loss`` for ``cross_entropy``.

What is written decides how: a function, a method, a layer that is built in one place and called in another.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall
from lossproof.source.syntax import Function, ParsedModule
from lossproof.source.uses import Origin, Readers, decided, function_at, origin, same_call, unchanged, within
from lossproof.source.values import Hop, Lib, Ref

_FUNCTIONAL = "torch.nn.functional."
_LAYERS = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}


def rename(patch: Patch, function: Function, callee: Any, old: str, new: str) -> None:
    """``F.nll_loss`` becomes ``F.cross_entropy``; ``old`` and ``new`` are canonical names."""
    module = function.module
    word = old.rpartition(".")[2]
    if isinstance(callee, ast.Attribute) and callee.attr == word:
        _, end = patch.tree(module).span(callee)
        patch.put(module, (end[0], end[1] - len(word)), end, new.rpartition(".")[2])
    elif isinstance(callee, ast.Name) and module.imports.get(callee.id, ("", None, 0))[1] == word:
        patch.replace(module, callee, patch.name(function, new))
    else:
        raise Unfixable(f"`{word}` goes by another name here")


# ---- losses


def argument(fact: LossCall, position: int, *names: str) -> Any:
    """An argument of the loss as it is written where it is called."""
    call = fact.node.at
    if not isinstance(call, ast.Call) or any(isinstance(a, ast.Starred) for a in call.args):
        raise Unfixable("the arguments are not written out")
    for given in call.keywords:
        if given.arg is None:
            raise Unfixable("the arguments are not written out")
        if given.arg in names:
            return given.value
    if len(call.args) <= position:
        raise Unfixable("an argument of the loss was given before")
    return call.args[position]


def given_input(fact: LossCall) -> Any:
    return argument(fact, 0, "input", "inputs", "pred")


def given_target(fact: LossCall) -> Any:
    return argument(fact, 1, "target", "targets")


def exchange_loss(
    fact: LossCall, patch: Patch, function: tuple[str, str], layer: tuple[str, str], right: Callable[[LossCall], None]
) -> None:
    """Another loss for this one, where ``right`` has no objection to any of the calls that share it."""
    callee = fact.callee
    for other in same_call(fact):
        right(other)
    if isinstance(callee, Ref) and callee.name == _FUNCTIONAL + function[0]:
        written = fact.node.at.func if isinstance(fact.node.at, ast.Call) else None
        if written is fact.node.args[0].at:
            rename(patch, fact.frame.base().function, written, callee.name, _FUNCTIONAL + function[1])
            return
        raise Unfixable("which loss is called is decided elsewhere")
    if isinstance(callee, Lib) and callee.name.startswith(f"torch.nn.{layer[0]}"):
        module, made = callee.module, callee.at
        if module is None or not isinstance(made, ast.Call):
            raise Unfixable("where the criterion is built was not found")
        rename(patch, function_at(module, made), made.func, callee.name, f"torch.nn.{layer[1]}")
        return
    raise Unfixable("the loss is one of the project's own")


# ---- activations


class Activation:
    """A softmax as it is written: a function, a method or a layer."""

    def __init__(self, act: str, trace: tuple[Hop, ...]) -> None:
        if not trace or trace[0].module is None or not isinstance(trace[0].at, ast.Call):
            raise Unfixable(f"where the {act} is applied was not found")
        first = trace[0]
        self.act = act
        self.built: ast.Call | None = None
        self.built_in = first.module
        self.call: ast.Call = first.at
        self.module: ParsedModule = first.module
        if first.message.endswith("built here"):
            applied = trace[1] if len(trace) > 1 else None
            if applied is None or not isinstance(applied.at, ast.Call):
                raise Unfixable(f"where the {act} is applied was not found")
            self.built, self.call, self.module = first.at, applied.at, applied.module
        elif not first.message.endswith("applied here"):
            raise Unfixable(f"where the {act} is applied was not found")
        self.function = function_at(self.module, self.call)
        self.calls = trace[1 if self.built is None else 2 :]

    @property
    def operand(self) -> Any:
        """What it is applied to."""
        call = self.call
        if self.built is None and isinstance(call.func, ast.Attribute) and call.func.attr.startswith(self.act):
            owner = call.func.value
            is_module = isinstance(owner, (ast.Name, ast.Attribute)) and _is_library(self.module, owner)
            if not is_module:
                return owner
        given = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "input"), None)
        if given is None or isinstance(given, ast.Starred):
            raise Unfixable(f"what the {self.act} is applied to is not written here")
        return given

    @property
    def is_method(self) -> bool:
        return isinstance(self.call.func, ast.Attribute) and self.operand is self.call.func.value

    @property
    def is_step(self) -> bool:
        """Whether the call is the softmax alone: not ``nn.Sequential(..., nn.Softmax())`` applied to an input."""
        if self.built is None:
            return True
        func = self.call.func
        return func is self.built or (isinstance(func, (ast.Name, ast.Attribute)) and self._holds_layer())

    def _holds_layer(self) -> bool:
        """The layer itself is bound to the name it is called by."""
        module, built = self.built_in, self.built
        assert built is not None
        last = self.call.func.attr if isinstance(self.call.func, ast.Attribute) else self.call.func.id  # type: ignore[attr-defined]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assign) and node.value is built:
                for target in node.targets:
                    if getattr(target, "attr", getattr(target, "id", None)) == last:
                        return True
        return False

    def axis(self) -> Any:
        """The node of the axis, ``None`` where there is none."""
        call = self.built or self.call
        for given in call.keywords:
            if given.arg in ("dim", "axis"):
                return given.value
        position = 0 if self.built is not None or self.is_method else 1
        return call.args[position] if len(call.args) > position else None

    def axis_number(self) -> int | None:
        return whole_number(self.axis())

    def keep_operand(self, patch: Patch) -> None:
        patch.unwrap(self.module, self.call, self.operand)

    def exchange(self, patch: Patch, act: str) -> None:
        """Another activation in its place."""
        if self.built is None:
            callee = self.call.func
            rename(patch, self.function, callee, f"{_FUNCTIONAL}{self.act}", f"{_FUNCTIONAL}{act}")
        elif self.is_step:
            if self.call.func is self.built:
                holder = function_at(self.built_in, self.built)
                rename(patch, holder, self.built.func, f"torch.nn.{_LAYERS[self.act]}", f"torch.nn.{_LAYERS[act]}")
                return
            # The layer may serve others.
            patch.replace(self.module, self.call.func, patch.name(self.function, _FUNCTIONAL + act))
            patch.add_argument(self.module, self.call, f"dim={self.axis_text(patch)}")
        else:
            raise Unfixable(f"the {self.act} is a layer of a network that others may use")

    def exchange_tail(self, patch: Patch, act: str) -> None:
        """Another activation at the end of a network, where all its readers are served."""
        if self.built is None:
            self.exchange(patch, act)
            return
        holder = function_at(self.built_in, self.built)
        rename(patch, holder, self.built.func, f"torch.nn.{_LAYERS[self.act]}", f"torch.nn.{_LAYERS[act]}")

    def axis_text(self, patch: Patch) -> str:
        axis = self.axis()
        if axis is None or (isinstance(axis, ast.Constant) and axis.value is None):
            if self.built is not None and getattr(self.built.func, "attr", "") == "Softmax2d":
                return "1"
            raise Unfixable(f"the {self.act} does not say which axis it normalizes")
        if self.built is not None and whole_number(axis) is None:
            raise Unfixable(f"the axis of the {self.act} is decided elsewhere")
        return patch.text(self.module if self.built is None else self.built_in, axis)

    def written_anew(self, patch: Patch, act: str, use: Any) -> str:
        """The text of another activation of the same operand for a later place; empty where it would differ."""
        operand = self.operand
        if not self.is_step or not unchanged(patch.tree(self.module), self.function, operand, use):
            return ""
        name = patch.name(self.function, _FUNCTIONAL + act)
        return f"{name}({patch.text(self.module, operand)}, dim={self.axis_text(patch)})"

    def serves(self, fact: LossCall, patch: Patch) -> bool:
        """Whether all who are known to get the output, through whatever calls, would be served by its logarithm."""
        readers = Readers(fact, patch)
        if self.is_step:
            return readers.of_returned(self.module, self.function, self.call, self.calls)
        func = self.call.func
        return isinstance(func, ast.Name) and readers.of_calls(self.module, self.function, func.id)

    def way(self, fact: LossCall, patch: Patch, use: Any) -> Origin | None:
        """How it gets to an argument of the loss, where that is to be seen in the loss's own function."""
        function = fact.frame.base().function
        if self.module is not fact.module:
            return None
        if function.name == "<lambda>" and within(patch.tree(self.module), self.call, function.node):
            self.function = function
        if self.function is not function:
            return None
        return origin(patch, self.module, self.function, self.call, use)


def whole_number(at: Any) -> int | None:
    if isinstance(at, ast.UnaryOp) and isinstance(at.op, ast.USub):
        inner = whole_number(at.operand)
        return None if inner is None else -inner
    if isinstance(at, ast.Constant) and isinstance(at.value, int) and not isinstance(at.value, bool):
        return at.value
    return None


def _is_library(module: ParsedModule, owner: Any) -> bool:
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    target = module.imports.get(owner.id) if isinstance(owner, ast.Name) else None
    return target is not None and not target[2] and target[0].partition(".")[0] == "torch"


__all__ = ["Activation", "decided", "exchange_loss", "given_input", "given_target", "rename", "whole_number"]
