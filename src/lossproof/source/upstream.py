"""From a loss back to the activation: what has to give logits from now on, and what takes them.

The way may lead through names, parts of results, lists, functions, objects, containers of layers, into other files.
Every step must be one that edits can follow; the first that is not ends the attempt with the reason.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from lossproof.source.carried import EVERY, JOINS, WHOLE, Key, Leaf, is_none, parted, passed_on
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.lower import Node, lower
from lossproof.source.reach import OTHERS, Reach, last_layer, written
from lossproof.source.syntax import Function, ParsedModule, last
from lossproof.source.values import Cls, Inst, Lib, Meth, Ref, Seq, T, Value, constant

if TYPE_CHECKING:
    from lossproof.source.facts import LossCall

_ACTIVATION = {
    "sigmoid": ("sigmoid", "Sigmoid", "expit", "sigmoid_"),
    "softmax": ("softmax", "Softmax", "Softmax2d", "softmax2d"),
}
_LOGITS_FORM = {
    "torch.nn.functional.binary_cross_entropy": "torch.nn.functional.binary_cross_entropy_with_logits",
    "torch.nn.BCELoss": "torch.nn.BCEWithLogitsLoss",
}


class Upstream(Reach):
    """The way from the loss of a finding to the activation, with all that hangs on it."""

    def __init__(self, fact: LossCall, patch: Patch, act: str, loss_kinds: frozenset[str]) -> None:
        super().__init__(fact)
        self.patch, self.act, self.loss_kinds = patch, act, loss_kinds
        self.dim = ""  # of a softmax, as it is written
        self.form = _LOGITS_FORM if "bce" in loss_kinds else {}
        # Objects that are built to hold values, with the names of their fields.
        self.records: dict[int, list[str]] = {}
        # Calls that join a list on the way to the loss, or walk over it, and those that add to it.
        self.joined: set[int] = set()
        self._open_loops: set[int] = set()
        # Functions, and parameters, whose value may have other axes than where a softmax was applied to it.
        self.turned: set[Function | tuple[Function, str]] = set()
        # What takes logits from now on, beside parameters of functions: losses by their call.
        self.losses: dict[int, tuple[Function, Any]] = {}
        self.criteria: dict[int, Lib] = {}

    def _loss(self, function: Function, call: Any) -> None:
        """A loss that takes logits from now on."""
        if id(call) in self.losses:
            return
        at = input_of(call)
        if at is None:
            raise Unfixable("the loss is not given its input by name or place")
        self.losses[id(call)] = (function, call)
        if self.form:
            self._criterion(function, call)
        self._back(function, self.uses(function).node_of[id(at)], (), 0)

    def _criterion(self, function: Function, call: Any) -> None:
        """Notes a criterion object that has to change, with all the other places where it is applied."""
        new = False
        for frame in self.frames(function):
            for value in self._callee(frame, call):
                if isinstance(value, Lib) and value.name in self.form and id(value.at) not in self.criteria:
                    if not isinstance(value.at, ast.Call) or value.module is None:
                        raise Unfixable("the loss is not built at one place")
                    self.criteria[id(value.at)] = value
                    new = True
                elif isinstance(value, Inst):
                    raise Unfixable("the loss is a class of its own")
                elif not (isinstance(value, Ref) and value.name in self.form) and not isinstance(value, (Lib, T)):
                    raise Unfixable("which loss it is, is chosen elsewhere")
        if not new:
            return
        for other, there in self._calls_of(lambda v: isinstance(v, Lib) and id(v.at) in self.criteria):
            try:
                self._loss(other, there)
            except Unfixable:
                raise Unfixable(
                    f"`{written(input_of(there))}` in `{other.qualname}` also reaches the loss, and no activation is "
                    "seen in it that could be taken out"
                ) from None

    def _back(self, function: Function, node: Node, key: Key, depth: int) -> None:
        """Follows a value of a function to the activation that made it, or into whoever returned it."""
        if depth > 40:
            raise Unfixable("the way from the activation to the loss is too long")
        op, args = node.op, node.args
        if op == "call":
            self._back_call(function, node, key, depth)
        elif op == "sub" and args[1].op == "const" and isinstance(args[1].args[0], (int, str)):
            self._back(function, args[0], (args[1].args[0], *key), depth + 1)
        elif op == "sub":
            self._back(function, args[0], key, depth + 1)
        elif op == "unpack" and args[3] < 0:
            self._back(function, args[0], (args[1], *key), depth + 1)
        elif op == "attr":
            if args[0].op == "param" and args[0].args[0] == function.first_param and function.cls is not None:
                raise Unfixable(f"the activated value is kept in `self.{args[1]}`")
            self._back(function, args[0], (args[1], *key), depth + 1)
        elif op in ("tuple", "list") and key and isinstance(key[0], int) and -len(args) <= key[0] < len(args):
            self._back(function, args[key[0]], key[1:], depth + 1)
        elif op == "dict" and key:
            values = [
                v for k, v in zip(*args, strict=True) if k is not None and k.op == "const" and k.args[0] == key[0]
            ]
            if len(values) != 1:
                raise Unfixable("the activated value comes out of a dictionary that is not written at one place")
            self._back(function, values[0], key[1:], depth + 1)
        elif op in ("tuple", "list") and key and key[0] == EVERY:
            for part in args:
                self._back(function, part, key[1:], depth + 1)
        elif op == "comp" and key and key[0] == EVERY and args[0] == "list":
            self._back(function, args[1], key[1:], depth + 1)
        elif op == "append" and key and key[0] == EVERY:
            self.joined.add(id(node.at))
            self._back(function, args[0], key, depth + 1)
            self._back(function, args[1], key[1:], depth + 1)
        elif op == "loop" and id(node) not in self._open_loops:
            self._open_loops.add(id(node))
            for entry in args:
                if not is_none(entry):
                    self._back(function, entry, key, depth + 1)
        elif op == "loop":
            return
        elif op == "setitem" and key and args[1].op == "const":
            ours = args[1].args[0] == key[0]
            self._back(function, args[2] if ours else args[0], key[1:] if ours else key, depth + 1)
        elif op == "iter":
            self._back(function, args[0], (EVERY, *key), depth + 1)
        elif op == "phi":
            for branch in args[1:]:
                self._back(function, branch, key, depth + 1)
        elif op == "inplace":
            self._back(function, args[1], key, depth + 1)
        elif op == "param":
            self._param(function, args[0], key)
        else:
            raise Unfixable(f"{_quoted(node)} stands between the activation and the loss")

    def _back_call(self, function: Function, node: Node, key: Key, depth: int) -> None:
        call = node.at
        inner = self._activation(function, call)
        if inner is not None:
            if key:
                # A row of an activated tensor: the activation still is what has to go.
                key = ()
            self._site(function, call, inner)
            return
        receiver = passed_on(call, node)
        if receiver is not None:
            self._back(function, receiver, key, depth + 1)
            return
        parts = parted(call, node)
        if parts is not None and (key or last(call.func) in JOINS):
            self.joined.add(id(call))
            for part, steps in parts:
                if key[: len(steps)] == steps or last(call.func) in JOINS:
                    inside = (EVERY, *key) if last(call.func) in JOINS else (EVERY, *key[len(steps) :])
                    self._back(function, part, inside, depth + 1)
            return
        found = False
        for frame in self.frames(function):
            for value in self._callee(frame, call):
                if value is OTHERS:
                    raise Unfixable(f"`{written(call.func)}` may be one of too many things to look at them all")
                if isinstance(value, (Lib, Seq)):
                    self._container(call, value)
                    found = True
                elif isinstance(value, (Cls, Ref)) and key and self._record(function, node, value, key, depth):
                    found = True
            for target in self._targets(frame, call):
                self._peel(target, key)
                found = True
        if not found:
            raise Unfixable(f"`{written(call)}` stands between the activation and the loss")

    def _peel(self, function: Function, key: Key) -> None:
        """A function whose result (or one part of it) is logits from now on."""
        known = self.peeled.get(function, frozenset())
        if key in known:
            return
        self.peeled[function] = known | {key}
        uses = self.uses(function)
        returned = [node for node, _ in uses.graph.returns if not is_none(node)]
        if not returned or uses.graph.yields:
            raise Unfixable(f"`{function.qualname}` does not return the activated value")
        for node in returned:
            self._back(function, node, key, 0)

    def _param(self, function: Function, name: str, key: Key) -> None:
        """A parameter that takes logits from now on: whoever calls the function has to give them."""
        known = self.params.get((function, name), frozenset())
        if key in known:
            return
        self.params[function, name] = known | {key}
        given = 0
        for caller, call in self._calls_of(lambda v: self._runs(v, function)):
            at = argument(call, function, name)
            if at is None:
                raise Unfixable(f"`{caller.qualname}` calls `{function.qualname}` in a way that is not understood")
            self._back(caller, self.uses(caller).node_of[id(at)], key, 0)
            given += 1
        if not given:
            raise Unfixable(f"nobody is seen to call `{function.qualname}`")

    def _record(self, function: Function, node: Node, cls: Cls | Ref, key: Key, depth: int) -> bool:
        """``Output(hidden=h, score=torch.sigmoid(s))``: the value is one field of an object of a plain class."""
        given = dict(node.args[2])
        names = [name for name, _ in self.ev.dataclass_fields(cls)] if isinstance(cls, Cls) else []
        given.update(zip(names, node.args[1], strict=False))
        if key[0] not in given:
            return False
        self.records[id(node.at)] = names
        self._back(function, given[key[0]], key[1:], depth + 1)
        return True

    def _container(self, call: Any, value: Value) -> None:
        """``nn.Sequential(…, nn.Sigmoid())``: the last layer goes, wherever the container is used."""
        layer = last_layer(value)
        if layer is None or layer.name.rpartition(".")[2] not in _ACTIVATION[self.act] or layer.module is None:
            raise Unfixable(f"`{written(call)}`, which is not seen to end in the activation, reaches the loss as well")
        if not isinstance(value, Seq):
            raise Unfixable("the activation is a network of its own")
        names = _ACTIVATION[self.act]
        if last(layer.at.func) not in (*names, *_aliases(layer.module, names)):
            raise Unfixable("the activation is chosen elsewhere")
        if id(layer.at) not in self.elements:
            self.elements[id(layer.at)] = (layer.module, layer.at)
            self._note_dim(layer)

    def _site(self, function: Function, call: Any, inner: Any) -> None:
        self.sites.setdefault(function, {})[id(call)] = Leaf(call, WHOLE, inner)

    def _activation(self, function: Function, call: Any) -> Any:
        """What is activated, if a call is the activation itself."""
        names = _ACTIVATION[self.act]
        values = [value for frame in self.frames(function) for value in self._callee(frame, call)]
        inner = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "input"), None)
        library = [v for v in values if isinstance(v, (Ref, Lib)) and v.name.rpartition(".")[2] in names]
        library = [v for v in library if v.name.partition(".")[0] == "torch"]
        if library:
            if len(library) < len(values) or not all(self._is_fixed(function, call, v) for v in library):
                raise Unfixable("the activation is chosen elsewhere")
            if inner is None or isinstance(inner, ast.Starred):
                raise Unfixable("the activation is not given its input by place")
            self._note_dim(library[0] if isinstance(library[0], Lib) else call)
            return inner
        if isinstance(call.func, ast.Attribute) and call.func.attr in names:
            if values and all(isinstance(v, (T, Meth)) for v in values):
                self._note_dim(call, method=True)
                return call.func.value
        return None

    def _is_fixed(self, function: Function, call: Any, value: Ref | Lib) -> bool:
        """Whether the code itself names the activation, as against a setting or a caller who chooses it."""
        names, func = _ACTIVATION[self.act], call.func
        if isinstance(value, Ref):
            if last(func) in names or (isinstance(func, ast.Name) and func.id in function.module.imports):
                return True
            holder: Function | None = function
            while holder is not None and isinstance(func, ast.Name):
                bound = [
                    s for s in ast.walk(holder.node)
                    if isinstance(s, ast.Assign) and any(isinstance(t, ast.Name) and t.id == func.id for t in s.targets)
                ]  # fmt: skip
                if bound:
                    return len(bound) == 1 and last(bound[0].value) in names
                holder = holder.parent
            return False
        if value.at is func:
            return True
        if value.module is None or last(value.at.func) not in (*names, *_aliases(value.module, names)):
            return False
        statement = self.patch.tree(value.module).parent(value.at)
        targets = statement.targets if isinstance(statement, ast.Assign) and statement.value is value.at else []
        return any(last(target) == last(func) != "" for target in targets)

    def _note_dim(self, source: Any, *, method: bool = False) -> None:
        """The axis of a softmax, for the readers that get one of their own."""
        if self.act != "softmax":
            return
        text = ""
        if isinstance(source, Lib):
            dim = constant(source.arg(0, "dim"))
            text = "1" if source.name.endswith("2d") else str(dim) if isinstance(dim, int) else ""
        else:
            position = 0 if method else 1
            at = source.args[position] if len(source.args) > position else None
            at = next((k.value for k in source.keywords if k.arg == "dim"), at)
            if isinstance(at, ast.Constant) or (isinstance(at, ast.UnaryOp) and isinstance(at.operand, ast.Constant)):
                text = ast.unparse(at)
        if self.dim and text != self.dim:
            raise Unfixable("the softmaxes are over different axes")
        self.dim = text


def _aliases(module: ParsedModule, names: tuple[str, ...]) -> list[str]:
    return [local for local, (_, attr, _) in module.imports.items() if attr in names]


def input_of(call: Any) -> Any:
    """The first argument of a loss."""
    if call.args:
        return None if isinstance(call.args[0], ast.Starred) else call.args[0]
    return next((k.value for k in call.keywords if k.arg in ("input", "inputs", "pred")), None)


def argument(call: Any, function: Function, name: str) -> Any:
    """What a call gives for a parameter."""
    for given in call.keywords:
        if given.arg == name:
            return given.value
    if any(isinstance(a, ast.Starred) for a in call.args):
        return None
    names = [p.name for p in lower(function).params if p.kind == "pos"]
    if function.cls is not None and not function.is_static:
        names = names[1:]
    place = names.index(name) if name in names else len(call.args)
    return call.args[place] if place < len(call.args) else None


def _quoted(node: Node) -> str:
    return f"`{written(node.at)}`" if isinstance(node.at, ast.expr) else "what is not a plain expression"
