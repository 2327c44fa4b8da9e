"""Takes an activation out of what a loss is given, and gives it to everybody else who read the activated value.

The activation may stand in another file than the loss. Everything that it flows to is looked for: losses become their
form for logits, every other reader gets the activation where it reads. What cannot be followed ends the attempt with
the reason: a reader that is missed would read logits for probabilities.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from lossproof.source.edits import Patch, Unfixable
from lossproof.source.expressions import Uses
from lossproof.source.lower import Node, lower
from lossproof.source.syntax import Function, ParsedModule
from lossproof.source.values import MAX_ALTERNATIVES, UNKNOWN, Cls, Func, Inst, Lib, Meth, Ref, Seq, Super, T, Value, alternatives, constant

if TYPE_CHECKING:
    from lossproof.source.contexts import Contexts
    from lossproof.source.evaluate import Evaluator
    from lossproof.source.facts import LossCall
    from lossproof.source.frames import Frame

Key = tuple[Any, ...]
"""Where in what a function returns the value is: () is the value itself, (0,) the first of a tuple."""
WHOLE: frozenset[Key] = frozenset({()})
EVERY = "*"
"""The step to whichever element of a list a loop is at."""

# Elementwise activations, and softmax as far as a fused loss is concerned, do not mind these in between.
_SHAPE = frozenset((
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "squeeze", "squeeze_", "unsqueeze",
    "unsqueeze_", "permute", "transpose", "swapaxes", "movedim", "t", "contiguous", "float", "double", "to", "cuda",
    "cpu", "chunk", "split", "unbind", "clone", "expand", "expand_as", "select", "index_select", "gather", "narrow",
    "masked_select", "type_as",
    "flip", "rearrange",
))  # fmt: skip
_JOINS = frozenset(("cat", "concat", "stack", "hstack", "vstack"))
# What a bound of the probabilities was for is gone with the logits form.
_BOUNDS = frozenset(("clamp", "clip", "clamp_", "clip_", "clamp_min", "clamp_max", "nan_to_num"))
# Says nothing of the values, or the same of logits as of probabilities.
_INDIFFERENT_ATTRIBUTE = frozenset(("shape", "device", "dtype", "ndim", "requires_grad", "is_cuda", "layout"))
_INDIFFERENT_METHOD = frozenset(("size", "dim", "numel", "nelement", "argmax", "retain_grad", "get_device", "type"))
_INDIFFERENT_FUNCTION = frozenset((
    "len", "isinstance", "type", "argmax", "ones_like", "zeros_like", "full_like", "empty_like", "rand_like",
    "randn_like", "view_as", "expand_as", "reshape_as", "type_as",
))  # fmt: skip
_ACTIVATION = {
    "sigmoid": ("sigmoid", "Sigmoid", "expit", "sigmoid_"),
    "softmax": ("softmax", "Softmax", "Softmax2d", "softmax2d"),
}
# What is applied to logits: a reader that does so itself expects them.
_EXPECTS_LOGITS = {
    "sigmoid": frozenset(("sigmoid", "Sigmoid", "expit", "logsigmoid", "LogSigmoid")),
    "softmax": frozenset(("softmax", "Softmax", "log_softmax", "LogSoftmax", "gumbel_softmax")),
}
_LOGITS_FORM = {
    "torch.nn.functional.binary_cross_entropy": "torch.nn.functional.binary_cross_entropy_with_logits",
    "torch.nn.BCELoss": "torch.nn.BCEWithLogitsLoss",
}
# How networks are called where nothing else is known of them.
_NETWORK = re.compile(
    r"^(?!(?:get|build|create|make|load|save|init|setup|wrap|select|define|new|prepare|update|is|has)_)"
    r".*(?:model|net|network|classifier|discriminator|generator|encoder|decoder|predictor|critic|ema)$",
    re.I,
)
# Functions that call what they are given first with the rest.
_APPLIES = frozenset(
    ("torch.nn.parallel.data_parallel", "torch.nn.parallel.data_parallel.data_parallel",
     "torch.utils.checkpoint.checkpoint")
)
_EXPORT = (
    "torch.onnx.export",
    "torch.jit.trace",
    "torch.jit.script",
    "torch.export.export",
    "torch.onnx.dynamo_export",
)
# Calls that may be given a network: they do not run it, or what they do with it is told by other means.
_INNOCENT = frozenset((
    "prepare", "unwrap_model", "DataParallel", "DistributedDataParallel", "watch", "summary", "compile", "to",
    "deepcopy", "copy", "save", "print", "isinstance", "type", "id", "hasattr", "getattr", "setattr", "next",
    "add_graph", "fit", "initialize", "convert_sync_batchnorm", "convert_syncbn_model", "len", "str", "repr", "append",
    "super", "ModuleList", "data_parallel", "checkpoint", "ModuleDict", "info", "debug", "add_module", "register_module", "clone", "add_subplot",
))  # fmt: skip
# Methods of a network that hand its output to somebody.
_ASKED = frozenset(
    ("register_forward_hook", "register_full_backward_hook", "to_onnx", "to_torchscript", "register_forward_pre_hook")
)
# Stands for the alternatives that are no longer counted.
_OTHERS = Ref("")
_HOLDERS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Starred)
_MOST_CALLS = 6_000
_MOST_FRAMES = 16
_MOST_FILES = 3_000


def move(fact: LossCall, patch: Patch, act: str, loss_kinds: frozenset[str]) -> None:
    """Put the edits into a patch. ``loss_kinds``: losses that apply the activation themselves or have such a form."""
    _Move(fact, patch, act, loss_kinds).run()


class _Leaf:
    """An expression in a function that gave activated values and now gives logits."""

    __slots__ = ("at", "inner", "keys")

    def __init__(self, at: Any, keys: frozenset[Key], inner: Any = None) -> None:
        self.at = at
        self.keys = keys
        self.inner = inner  # what the activation is applied to, where it is the activation itself


class _Move:
    def __init__(self, fact: LossCall, patch: Patch, act: str, loss_kinds: frozenset[str]) -> None:
        assert fact.ev.oracle is not None
        self.fact, self.patch, self.act, self.loss_kinds = fact, patch, act, loss_kinds
        self.ev: Evaluator = fact.ev
        self.contexts: Contexts = fact.ev.oracle  # type: ignore[assignment]
        self.dim = ""  # of a softmax, as it is written
        self._uses: dict[Function, Uses] = {}
        self._frames: dict[Function, list[Frame]] = {}
        self._by_function: dict[Function, list[Any]] | None = None
        self._loaded: set[str] = set()
        self._modules: list[ParsedModule] = []
        # Calls of which only elimination tells that they are of the network.
        self._unknown: set[int] = set()
        self.form = _LOGITS_FORM if "bce" in loss_kinds else {}
        # The activations themselves, by function; the layers to be taken out of a Sequential.
        self.sites: dict[Function, dict[int, _Leaf]] = {}
        self.elements: dict[int, tuple[ParsedModule, Any]] = {}
        # What returns logits from now on: functions with where in the result, containers of layers.
        self.peeled: dict[Function, frozenset[Key]] = {}
        # Objects that are built to hold values, with the names of their fields.
        self.records: dict[int, list[str]] = {}
        # Calls that join a list on the way to the loss, or walk over it, and those that add to it.
        self.joined: set[int] = set()
        self._open_loops: set[int] = set()
        # What takes logits from now on: losses by their call, parameters of functions.
        self.losses: dict[int, tuple[Function, Any]] = {}
        self.params: dict[tuple[Function, str], frozenset[Key]] = {}
        self.criteria: dict[int, Lib] = {}

    # ---- the whole

    def run(self) -> None:
        fact = self.fact
        self._loss(fact.frame.function, fact.node.at)
        for _ in range(8):
            before = self._size()
            for function in self._users():
                self._classify(function, edit=False)
            if self._size() == before:
                break
        else:
            raise Unfixable("too many places depend on one another")
        self._hand_overs()
        for function in self._users():
            self._classify(function, edit=True)
        for module, at in self.elements.values():
            self._remove_element(module, at)
        self._exports()
        for criterion in self.criteria.values():
            self._switch_criterion(criterion)

    def _size(self) -> tuple[int, ...]:
        return (
            len(self.sites), sum(map(len, self.sites.values())), len(self.elements), len(self.peeled),
            len(self.losses), len(self.params), len(self.criteria),
        )  # fmt: skip

    def uses(self, function: Function) -> Uses:
        known = self._uses.get(function)
        if known is None:
            known = self._uses[function] = Uses(function)
            self.ev.ledger.mask |= function.rests
        return known

    def frames(self, function: Function) -> list[Frame]:
        """The contexts in which a function is known to run, else the one in which nothing is known of its callers."""
        known = self._frames.get(function)
        if known is None:
            open_frame = self.ev.open_frame(function)
            known = []
            for closed in self.contexts.expand(open_frame):
                known.extend(self._closed(closed, 3))
            del known[_MOST_FRAMES:]
            known = known or [open_frame]
            if function is self.fact.frame.function and self.fact.frame not in known:
                known.append(self.fact.frame)
            self._frames[function] = known
        return known

    def _closed(self, frame: Frame, levels: int) -> list[Frame]:
        """A frame with its callers' callers known as well, as far as they are."""
        wider = self.contexts.outer(frame) if levels else []
        return [closed for outer in wider for closed in self._closed(outer, levels - 1)] or [frame]

    # ---- from a loss back to the activation

    def _loss(self, function: Function, call: Any) -> None:
        """A loss that takes logits from now on."""
        if id(call) in self.losses:
            return
        at = _input(call)
        if at is None:
            raise Unfixable("the loss is not given its input by name or place")
        self.losses[id(call)] = (function, call)
        if self.form:
            self._criterion(function, call)
        self._back(function, self.uses(function).node_of[id(at)], (), 0)

    def _criterion(self, function: Function, call: Any) -> None:
        """Notes a criterion object that has to change, with all the other places where it is applied."""
        for frame in self.frames(function):
            for value in self._callee(frame, call):
                if isinstance(value, Lib) and value.name in self.form and id(value.at) not in self.criteria:
                    if not isinstance(value.at, ast.Call) or value.module is None:
                        raise Unfixable("the loss is not built at one place")
                    self.criteria[id(value.at)] = value
                    for other, there in self._calls_of(partial(_is_built_at, value.at)):
                        self._loss(other, there)
                elif isinstance(value, Inst):
                    raise Unfixable("the loss is a class of its own")
                elif not (isinstance(value, Ref) and value.name in self.form) and not isinstance(value, (Lib, T)):
                    raise Unfixable("the loss is not called by its name")

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
                if not _is_none(entry):
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
            raise Unfixable("the way from the activation to the loss cannot be followed edit by edit")

    def _back_call(self, function: Function, node: Node, key: Key, depth: int) -> None:
        call = node.at
        inner = self._activation(function, call)
        if inner is not None:
            if key:
                # A row of an activated tensor: the activation still is what has to go.
                key = ()
            self._site(function, call, inner)
            return
        receiver = self._passed_on(call, node)
        if receiver is not None:
            self._back(function, receiver, key, depth + 1)
            return
        parts = _parted(call, node)
        if parts is not None and (key or _last(call.func) in _JOINS):
            self.joined.add(id(call))
            for part, steps in parts:
                if key[: len(steps)] == steps or _last(call.func) in _JOINS:
                    inside = (EVERY, *key) if _last(call.func) in _JOINS else (EVERY, *key[len(steps) :])
                    self._back(function, part, inside, depth + 1)
            return
        found = False
        for frame in self.frames(function):
            for value in self._callee(frame, call):
                if value is _OTHERS:
                    raise Unfixable(f"`{_written(call.func)}` may be one of too many things to look at them all")
                if isinstance(value, (Lib, Seq)):
                    self._container(value)
                    found = True
                elif isinstance(value, (Cls, Ref)) and key and self._record(function, node, value, key, depth):
                    found = True
            for target in self._targets(frame, call):
                self._peel(target, key)
                found = True
        if not found:
            raise Unfixable(f"`{_written(call)}` stands between the activation and the loss")

    def _peel(self, function: Function, key: Key) -> None:
        """A function whose result (or one part of it) is logits from now on."""
        known = self.peeled.get(function, frozenset())
        if key in known:
            return
        self.peeled[function] = known | {key}
        uses = self.uses(function)
        returned = [node for node, _ in uses.graph.returns if not _is_none(node)]
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
            at = _argument(call, function, name)
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

    def _container(self, value: Value) -> None:
        """``nn.Sequential(…, nn.Sigmoid())``: the last layer goes, wherever the container is used."""
        last = _last_layer(value)
        if last is None or last.name.rpartition(".")[2] not in _ACTIVATION[self.act] or last.module is None:
            raise Unfixable("the activation is inside a layer that cannot be taken apart")
        if not isinstance(value, Seq):
            raise Unfixable("the activation is a network of its own")
        names = _ACTIVATION[self.act]
        if _last(last.at.func) not in (*names, *_aliases(last.module, names)):
            raise Unfixable("the activation is chosen elsewhere")
        if id(last.at) not in self.elements:
            self.elements[id(last.at)] = (last.module, last.at)
            self._note_dim(last)

    def _site(self, function: Function, call: Any, inner: Any) -> None:
        self.sites.setdefault(function, {})[id(call)] = _Leaf(call, WHOLE, inner)

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
            if _last(func) in names or (isinstance(func, ast.Name) and func.id in function.module.imports):
                return True
            holder: Function | None = function
            while holder is not None and isinstance(func, ast.Name):
                bound = [
                    s for s in ast.walk(holder.node)
                    if isinstance(s, ast.Assign) and any(isinstance(t, ast.Name) and t.id == func.id for t in s.targets)
                ]  # fmt: skip
                if bound:
                    return len(bound) == 1 and _last(bound[0].value) in names
                holder = holder.parent
            return False
        if value.at is func:
            return True
        if value.module is None or _last(value.at.func) not in (*names, *_aliases(value.module, names)):
            return False
        statement = self.patch.tree(value.module).parent(value.at)
        targets = statement.targets if isinstance(statement, ast.Assign) and statement.value is value.at else []
        return any(_last(target) == _last(func) != "" for target in targets)

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

    # ---- who else reads

    def _users(self) -> list[Function]:
        """The functions that hold an activation, or call something that gives logits from now on."""
        found: dict[Function, None] = dict.fromkeys(self.sites)
        forwards = any(f.name in ("forward", "__call__") for f in self.peeled)
        for function, _ in self._calls_of(self._gives_logits, networks=forwards):
            found[function] = None
        for function, _ in self.params:
            found[function] = None
        return list(found)

    def _gives_logits(self, value: Value) -> bool:
        if isinstance(value, Seq):
            last = _last_layer(value)
            return last is not None and id(last.at) in self.elements
        return any(self._runs(value, function) for function in self.peeled)

    def _runs(self, value: Value, function: Function) -> bool:
        """Whether to call a value is to run a function."""
        if isinstance(value, Func):
            return value.function is function
        if isinstance(value, Inst):
            forward = self.ev.forward_of(value)
            return forward is not None and forward.function is function
        return False

    def _calls_of(self, wanted: Callable[[Value], bool], *, networks: bool = False) -> list[tuple[Function, Any]]:
        """Every call in the project of something; ``Unfixable`` where a call might be one and nobody can tell."""
        found: list[tuple[Function, Any]] = []
        for function, call in self._calls():
            values = [v for frame in self.frames(function) for v in self._callee(frame, call)]
            if any(map(wanted, values)):
                if not all(map(wanted, values)):
                    raise Unfixable(f"`{_written(call.func)}` in `{function.qualname}` may also be something else")
                found.append((function, call))
            elif networks and self._may_be_network(function, call, values):
                if not self._sole_network():
                    raise Unfixable(
                        f"`{_written(call.func)}` in `{function.qualname}` ({function.module.display}) may be the same "
                        "network: it is not seen what it is"
                    )
                self._unknown.add(id(call))
                found.append((function, call))
        return found

    def _may_be_network(self, function: Function, call: Any, values: list[Value]) -> bool:
        """A callee of which nothing is known but that it is called like a network."""
        if function.cls is not None and any(f.cls is function.cls for f in self.peeled):
            return False  # the network does not hold itself
        return _NETWORK.search(_last(call.func)) is not None and all(isinstance(v, T) for v in values)

    def _sole_network(self) -> bool:
        """Whether what is peeled is the only network that the project knows."""
        networks: set[Any] = set()
        for module in self._modules:
            found = self.contexts.only_network(module)
            if isinstance(found, Inst):
                networks.add(found.cls.info)
            elif not module.is_test and any(self.contexts.is_network(info) for info in module.classes):
                return False
        ours = {f.cls for f in self.peeled if f.name in ("forward", "__call__")}
        return len(networks) == 1 and networks <= ours

    def _calls(self) -> Iterator[tuple[Function, Any]]:
        """The calls that may be of a project's own functions, classes and objects."""
        for function, calls in self._held().items():
            yield from ((function, call) for call in calls)

    def _held(self) -> dict[Function, list[Any]]:
        """The calls of every function that may be of the project's own, in all files that speak of the network."""
        names = self._names()
        if self._by_function is None or not names <= self._loaded:
            found: dict[Function, list[Any]] = {}
            for module in self._speakers(names):
                for function in module.functions:
                    found[function] = [call for call in function.calls if _may_be_own(module, call)]
            if sum(map(len, found.values())) > _MOST_CALLS:
                raise Unfixable("the project is too large to be sure of everybody who reads the output")
            self._by_function = found
            self._loaded |= names
        return self._by_function

    def _names(self) -> set[str]:
        """What code that can get hold of the network would mention."""
        holders = {*self.sites, *self.peeled, *(function for function, _ in self.params)}
        modules = {f.module for f in holders} | {module for module, _ in self.elements.values()}
        names = {f.cls.name if f.cls is not None else f.name for f in holders}
        names.update(info.name for module in modules for info in module.classes)
        return names - {"<module>", "<lambda>"}

    def _speakers(self, wanted: set[str]) -> list[ParsedModule]:
        """The files that mention a name, or a function that calls something by it; a namesake of their own aside."""
        project = self.ev.project
        if len(project.display) > _MOST_FILES:
            raise Unfixable("the project is too large to be sure of everybody who reads the output")
        origins = {f.module.path for f in (*self.sites, *self.peeled, self.fact.frame.function)}
        origins |= {module.path for module, _ in self.elements.values()}
        names, found = set(wanted), dict.fromkeys(sorted(origins))
        for _ in range(3):
            spoken_in = self._mentions(names, found)
            grown = True
            while grown:  # a package passes names on
                grown = False
                for path, spoken in spoken_in:
                    module = project.load(path) if path not in found else None
                    if module is not None and any(self._is_spoken(module, name, found) for name in spoken):
                        found[path] = None
                        grown = True
            for path in list(found):
                found.update(dict.fromkeys(self._imported(self._module(path))))
            more = {
                f.name
                for path in found
                for f in self._module(path).functions
                if f.cls is None and f.parent is f.module.body and any(_last(c.func) in names for c in f.calls)
            }
            if more <= names:
                break
            names |= more
        self._modules = [self._module(path) for path in found]
        return self._modules

    def _is_spoken(self, module: ParsedModule, name: str, found: Collection[str]) -> bool:
        """Whether a file that mentions a name may mean ours: not a namesake of its own, or from another file."""
        if name in module.imports:
            target, attr, level = module.imports[name]
            path = self.ev.project.find(module.path, target, level) if target or level else None
            return path is None or path in found or attr is None
        return name not in module.top

    def _mentions(self, names: set[str], found: Collection[str]) -> list[tuple[str, list[str]]]:
        """Files with the names that they speak of."""
        project = self.ev.project
        if self.contexts.indexed:
            by_path: dict[str, list[str]] = {}
            for name in sorted(names):
                for module in self.contexts.speakers(name, self.fact.module):
                    by_path.setdefault(module.path, []).append(name)
            return [(path, spoken) for path, spoken in by_path.items() if path not in found]
        spoken_in = {path: [n for n in names if project.may_define(path, n)] for path in project.display}
        return [(path, spoken) for path, spoken in spoken_in.items() if spoken and path not in found]

    def _imported(self, module: ParsedModule) -> Iterator[str]:
        """The files that a file takes something from: what it hands them may be the network."""
        project = self.ev.project
        known = [*module.imports.values(), *((target, None, level) for target, level in module.star_imports)]
        for target, attr, level in known:
            if not level and target.partition(".")[0] in _LIBRARIES:
                continue
            for name in (target, f"{target}.{attr}" if attr and target else attr or ""):
                path = project.find(module.path, name, level) if name or level else None
                if path is not None:
                    yield path

    def _module(self, path: str) -> ParsedModule:
        module = self.ev.project.load(path)
        if module is None:
            raise Unfixable(f"{self.ev.project.display.get(path, path)}, which may use the output, cannot be read")
        return module

    # ---- where the network goes without being called

    def _hand_overs(self) -> None:
        """Refuses where the network is given to code that may call it and is not seen, or is taken apart."""
        for module in self._modules:
            for function in module.functions:
                for call in function.calls:
                    self._handed_over(function, call)
                if self.elements:
                    self._taken_apart(function)

    def _handed_over(self, function: Function, call: Any) -> None:
        given = [*call.args, *(k.value for k in call.keywords)]
        asked = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr in _ASKED else None
        if asked is None and (_last(call.func) in _INNOCENT or not any(isinstance(a, _HOLDERS) for a in given)):
            return
        for frame in self.frames(function):
            node = frame.ir.by_call.get(id(call))
            if node is None:
                continue
            self.ev.refill()
            if asked is not None and self._is_network(frame, node.args[0].args[0]):
                raise Unfixable(f"what `{_written(call)}` in `{function.qualname}` does with the output is not seen")
            parts = [*node.args[1], *(part for _, part in node.args[2])]
            if any(isinstance(at, _HOLDERS) and self._is_network(frame, n) for at, n in zip(given, parts, strict=False)):
                if not self._is_innocent(frame, call, node):
                    raise Unfixable(
                        f"`{_written(call)}` in `{function.qualname}` is given the network, and what it does with the "
                        "output is not seen"
                    )

    def _is_network(self, frame: Frame, node: Node) -> bool:
        return any(self._gives_logits(v) for _, v in alternatives(self.ev.value(frame, node)))

    def _is_innocent(self, frame: Frame, call: Any, node: Node) -> bool:
        """Whether a call that is given the network is followed, or gives it back, or is known to leave it alone."""
        values = self._callee(frame, call)
        if any(isinstance(v, (Func, Cls)) or (isinstance(v, Inst) and self.ev.forward_of(v)) for v in values):
            return True
        if any(isinstance(v, Ref) and v.name in _EXPORT for v in values):
            return True
        return self._is_network(frame, node)

    def _taken_apart(self, function: Function) -> None:
        """Layers that are counted: what is last is another one once the activation is gone."""
        for at in ast.walk(function.node):
            base: Any = None
            if isinstance(at, ast.Subscript) and not _is_from_the_front(at.slice):
                base = at.value
            elif isinstance(at, (ast.For, ast.comprehension)) and not _asks_for_a_type(at):
                base = at.iter
            elif isinstance(at, ast.Call) and _last(at.func) in ("children", "named_children", "pop", "insert"):
                base = getattr(at.func, "value", None)
            elif isinstance(at, ast.Call) and _last(at.func) in ("list", "len", "reversed", "enumerate") and at.args:
                base = at.args[0]
            node = self.uses(function).node_of.get(id(base)) if isinstance(base, (ast.Name, ast.Attribute)) else None
            if node is None:
                continue
            for frame in self.frames(function):
                self.ev.refill()
                for _, value in alternatives(self.ev.value(frame, node)):
                    if isinstance(value, Seq) and self._gives_logits(value):
                        raise Unfixable(
                            f"`{function.qualname}` looks at single layers of `{_written(base)}`, of which the last "
                            "would go"
                        )

    def _callee(self, frame: Frame, call: Any) -> list[Value]:
        node = frame.ir.by_call.get(id(call))
        if node is None:
            return []
        func = node.args[0]
        self.ev.refill()
        name = _last(call.func)
        if func.op == "attr" and func.args[1] in ("forward", "__call__"):
            owners = [v for _, v in alternatives(self.ev.value(frame, func.args[0]))]
            if not any(isinstance(v, (Cls, Super)) for v in owners):
                return [self._known(v, name) for v in owners]
        found = alternatives(self.ev.value(frame, func))
        if node.args[1] and any(isinstance(v, Ref) and v.name in _APPLIES for _, v in found):
            found = alternatives(self.ev.value(frame, node.args[1][0]))  # ``data_parallel(self.main, x)``
        cut = [_OTHERS] if len(found) >= MAX_ALTERNATIVES else []
        return [*(self._known(v, name) for _, v in found), *cut]

    def _known(self, value: Value, name: str) -> Value:
        """What a callee amounts to: a container of layers, the one network that there is, or what it is."""
        other: Value | None = None
        if isinstance(value, (Ref, Lib)) and value.name.startswith(("sys.modules.", "importlib.", "builtins.eval")):
            return UNKNOWN  # found by its name when the program runs
        if isinstance(value, Inst) and self.ev.forward_of(value) is None:
            other = self.ev.as_library_container(value)
        elif isinstance(value, T) and value.get("param") is not None:
            other = self.contexts.sole_model(*value.get("param"))
        elif isinstance(value, T) and value.get("undefined") is not None and not hasattr(builtins, name):
            other = self.contexts.only_network(value.get("undefined"))
        return other if other is not None else value

    def _targets(self, frame: Frame, call: Any) -> list[Function]:
        node = frame.ir.by_call.get(id(call))
        if node is None:
            return []
        self.ev.refill()
        found = [func.function for func, _, _ in self.contexts.targets(frame, node)]
        if not found:
            forwards = [self.ev.forward_of(v) for v in self._callee(frame, call) if isinstance(v, Inst)]
            found = [forward.function for forward in forwards if forward is not None]
        return found

    # ---- what one function does with it

    def _classify(self, function: Function, *, edit: bool) -> None:
        """Sorts the uses of the value in a function: losses, what is returned, and everybody else."""
        uses, tree = self.uses(function), self.patch.tree(function.module)
        leaves = self._leaves(function)
        flows = _Flow(uses, leaves, self.params, function, self._passed_on, None, self.records, self.joined)
        sinks, others = self._sorted(function, flows, tree)
        bounds = flows.bounds_before(sinks)
        if len(bounds) < len(flows.bounds):
            flows = _Flow(
                uses,
                leaves,
                self.params,
                function,
                self._passed_on,
                frozenset(map(id, bounds)),
                self.records,
                self.joined,
            )
            sinks, others = self._sorted(function, flows, tree)
        if edit:
            self._edit(function, leaves, flows, sinks, others)

    def _sorted(
        self, function: Function, flows: _Flow, tree: Any
    ) -> tuple[list[Any], list[tuple[Any, frozenset[Key]]]]:
        seen = flows.uses.seen
        carried = {id(at): keys for at, node in seen if (keys := flows.keys(at, node))}
        sinks: list[Any] = []
        others: list[tuple[Any, frozenset[Key]]] = []
        for at, _ in seen:
            if id(at) not in carried:
                continue
            role = self._role(function, at, carried, tree, flows)
            if role == "sink":
                sinks.append(at)
            elif role == "other":
                others.extend((part, carried[id(part)]) for part in _parts(at, carried))
        return sinks, others

    def _leaves(self, function: Function) -> dict[int, _Leaf]:
        found = dict(self.sites.get(function, {}))
        for call in self._held().get(function, ()):
            if id(call) in found:
                continue
            keys: frozenset[Key] = frozenset()
            if id(call) in self._unknown:
                keys = frozenset[Key]().union(*(k for f, k in self.peeled.items() if f.name in ("forward", "__call__")))
            for frame in self.frames(function):
                for value in self._callee(frame, call):
                    if isinstance(value, Seq) and self._gives_logits(value):
                        keys |= WHOLE
                    for peeled, where in self.peeled.items():
                        if self._runs(value, peeled):
                            keys |= where
            if keys:
                found[id(call)] = _Leaf(call, keys)
        return found

    def _role(self, function: Function, at: Any, carried: dict[int, frozenset[Key]], tree: Any, flows: _Flow) -> str:
        """What stands around an expression that holds the value: ``pass``, ``sink`` or ``other``."""
        parent, child = tree.parent(at), at
        if isinstance(parent, ast.keyword):
            child, parent = parent, tree.parent(parent)
        keys = carried[id(at)]
        if id(parent) in carried and flows.goes_through(parent, at):
            return "pass"
        if isinstance(parent, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and at is parent.value:
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            if not all(map(flows.may_hold, targets)):
                return "other"
            for target in targets:
                flows.hold(target)
            return "pass"
        if isinstance(parent, (ast.Tuple, ast.List)) and isinstance(tree.parent(parent), ast.Assign):
            for target in tree.parent(parent).targets:
                flows.hold(target)
            return "pass" if all(map(flows.may_hold, tree.parent(parent).targets)) else "other"
        if isinstance(parent, (ast.Tuple, ast.List, ast.Dict)) and id(parent) in carried:
            return "pass"
        if isinstance(parent, (ast.For, ast.comprehension)) and at is parent.iter:
            flows.hold(parent.target)
            return "pass"
        if isinstance(parent, ast.Expr):
            return "pass"
        if isinstance(parent, ast.Subscript) and at is parent.value and () not in keys:
            # An entry that is set, or another part of the result that is read.
            index = parent.slice
            if not isinstance(parent.ctx, ast.Load) or (
                isinstance(index, ast.Constant) and not any(key[0] in (index.value, EVERY) for key in keys)
            ):
                return "pass"
        if isinstance(parent, ast.Return) or (isinstance(parent, ast.Lambda) and at is parent.body):
            if function not in self.peeled:
                return "other"
            self.peeled[function] |= keys - self.peeled[function]  # the same value in another place of the result
            return "sink"
        if () in keys and not self.form and self._expects_logits(function, at, tree):
            flows.expecting = True
            return "pass"
        if isinstance(parent, ast.Attribute):
            outer = tree.parent(parent)
            called = isinstance(outer, ast.Call) and outer.func is parent
            if called and id(outer) in self.joined:
                return "pass"
            if called and id(outer) in carried and flows.goes_through(outer, at):
                return "pass"
            indifferent = _INDIFFERENT_METHOD if called else _INDIFFERENT_ATTRIBUTE
            if () not in keys and not called and not any(key[0] == parent.attr for key in keys):
                return "pass"
            if parent.attr in indifferent and () in keys:
                return "pass"
            return "other"
        if isinstance(parent, ast.Call) and at is not parent.func:
            return self._given_to(function, parent, child, at, keys)
        return "other"

    def _given_to(self, function: Function, call: Any, child: Any, at: Any, keys: frozenset[Key]) -> str:
        """An argument: of a loss that takes logits, of a function that hands it to one, or of anything else."""
        if id(call) in self.losses:
            return "sink" if _input(call) is at else "other"
        if _last(call.func) in _INDIFFERENT_FUNCTION or id(call) in self.joined:
            return "pass"
        for target in {t for frame in self.frames(function) for t in self._targets(frame, call)}:
            for (wanted, name), where in self.params.items():
                if target is wanted and _argument(call, target, name) is at and _covered(keys, where):
                    return "sink"
        if () in keys and _input(call) is at:
            for frame in self.frames(function):
                node = frame.ir.by_call.get(id(call))
                if node is None:
                    continue
                self.ev.refill()
                kinds = {f.kind for f in self.fact.peers(frame, node, ())}
                if kinds and kinds <= self.loss_kinds:
                    self._loss(function, call)
                    return "sink"
        return "other"

    def _expects_logits(self, function: Function, at: Any, tree: Any) -> bool:
        """Whether a reader applies the activation itself, be it after a temperature: it was given too much."""
        parent, child = tree.parent(at), at
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, (ast.Div, ast.Mult)) and parent.left is at:
            parent, child = tree.parent(parent), parent
        names = _EXPECTS_LOGITS[self.act]
        if isinstance(parent, ast.Attribute):
            return parent.attr in names and isinstance(tree.parent(parent), ast.Call)
        if not isinstance(parent, ast.Call) or child not in parent.args[:1]:
            return False
        for frame in self.frames(function):
            for value in self._callee(frame, parent):
                if isinstance(value, (Ref, Lib)) and value.name.rpartition(".")[2] in names:
                    return True
        return False

    # ---- the edits

    def _edit(
        self,
        function: Function,
        leaves: dict[int, _Leaf],
        flows: _Flow,
        sinks: list[Any],
        others: list[tuple[Any, frozenset[Key]]],
    ) -> None:
        module, patch = function.module, self.patch
        for holder, call in self.losses.values():
            if holder is function and self.form:
                self._switch_function(function, call)
        hidden = flows.escapes()
        if not sinks and all(leaf.inner is None and leaf.keys == WHOLE for leaf in leaves.values()):
            if flows.expecting and not (hidden or flows.problem) and all(keys == WHOLE for _, keys in others):
                for at, _ in others:
                    self._activate(function, at)
            elif others or hidden or flows.problem:
                for leaf in leaves.values():
                    if not isinstance(self.patch.tree(module).parent(leaf.at), ast.Expr):
                        self._activate(function, leaf.at)
            return
        if not sinks and any(leaf.inner is not None for leaf in leaves.values()):
            raise Unfixable(f"what becomes of the activated value in `{function.qualname}` is not understood")
        if self._with_a_name(function, leaves, flows, sinks, others or bool(hidden)):
            return
        if flows.problem:
            raise Unfixable(f"{flows.problem} in `{function.qualname}`")
        for at, _ in others:
            kept = next((t for t in self._targets_of(module, at) if isinstance(t, ast.Attribute)), None)
            if kept is not None and any(_base(sink, ast.unparse(kept)) is not None for sink in sinks):
                raise Unfixable(f"the output is kept in `{ast.unparse(kept)}`, where others may read it")
        if hidden:
            raise Unfixable(f"a function within `{function.qualname}` reads `{hidden}`")
        for _, keys in others:
            if keys != WHOLE:
                raise Unfixable(
                    f"`{function.qualname}` hands on the output together with other things, and who reads it there is "
                    "not seen"
                )
        for leaf in leaves.values():
            if leaf.inner is not None:
                self._unwrap(module, leaf)
        for bound in flows.bounds:
            patch.unwrap(module, bound, flows.passed[id(bound)])
        for at, _ in others:
            self._activate(function, at)

    def _targets_of(self, module: ParsedModule, at: Any) -> list[Any]:
        """What an expression is assigned to."""
        statement = self.patch.tree(module).parent(at)
        return statement.targets if isinstance(statement, ast.Assign) and statement.value is at else []

    def _unwrap(self, module: ParsedModule, leaf: _Leaf) -> None:
        statement = self.patch.tree(module).parent(leaf.at)
        names = [getattr(t, "id", "") for t in getattr(statement, "targets", ())]
        if isinstance(statement, ast.Expr) or (isinstance(leaf.inner, ast.Name) and names == [leaf.inner.id]):
            self.patch.delete(module, statement)  # ``x = x``
        else:
            self.patch.unwrap(module, leaf.at, leaf.inner)

    def _activate(self, function: Function, at: Any) -> None:
        """The activation around one expression."""
        before, after = self._call_around(function)
        self.patch.wrap(function.module, at, before, after)

    def _call_around(self, function: Function) -> tuple[str, str]:
        name = self.patch.name(function, f"torch.{self.act}")
        if self.act == "sigmoid":
            return f"{name}(", ")"
        if not self.dim:
            raise Unfixable("the axis of the softmax is not written where it can be read")
        return f"{name}(", f", dim={self.dim})"

    def _with_a_name(
        self,
        function: Function,
        leaves: dict[int, _Leaf],
        flows: _Flow,
        sinks: list[Any],
        others: Any,
    ) -> bool:
        """``probs = f(x)`` that others read too becomes ``logits = …`` and ``probs = sigmoid(logits)``."""
        if not others or not sinks or len(leaves) != 1 or flows.bounds:
            return False
        (leaf,) = leaves.values()
        module = function.module
        statement = self.patch.statement(module, leaf.at)
        whole = getattr(statement, "value", None)
        if whole is not leaf.at and (leaf.inner is not None or flows.keys_of(whole) != WHOLE):
            return False
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1 or leaf.keys != WHOLE:
            return False
        target = statement.targets[0]
        if not isinstance(target, (ast.Name, ast.Attribute)) or flows.times_bound(target) != 1:
            return False
        held = ast.unparse(target)
        bases = [_base(at, held) for at in sinks]
        if any(base is None for base in bases):
            return False
        if leaf.inner is not None and isinstance(leaf.inner, ast.Name) and flows.times_bound(leaf.inner) <= 1:
            name = leaf.inner.id
        else:
            name = self._new_name(function, _last(target))
            inner = leaf.inner if leaf.inner is not None else whole
            self.patch.insert_before(module, statement, f"{name} = {self.patch.text(module, inner)}")
            if leaf.inner is not None:
                self.patch.replace(module, inner, name)
            else:
                self.patch.replace(module, whole, name.join(self._call_around(function)))
        for base in bases:
            self.patch.replace(module, base, name)
        return True

    def _new_name(self, function: Function, old: str) -> str:
        taken = self.patch.tree(function.module).bound_in(function) | set(function.module.imports)
        for name in ("logits", f"raw_{old}" if "logit" in old else f"{old}_logits", f"{old}_raw"):
            if name not in taken:
                return name
        raise Unfixable("no name is free for the logits")

    def _switch_function(self, function: Function, call: Any) -> None:
        """``binary_cross_entropy`` to its form for logits, where it is called by name."""
        known = [v for frame in self.frames(function) for v in self._callee(frame, call) if isinstance(v, (Ref, Lib))]
        known = [v for v in known if v.name in self.form]
        if not known:
            raise Unfixable("what the loss is, is chosen elsewhere")
        if isinstance(known[0], Ref):
            self._rename(function, call.func, known[0].name, self.form[known[0].name])

    def _rename(self, function: Function, func: Any, old: str, new: str) -> None:
        if isinstance(func, ast.Attribute):
            if func.attr != old.rpartition(".")[2]:
                raise Unfixable("the loss is not called by its name")
            tree = self.patch.tree(function.module)
            _, end = tree.span(func)
            self.patch.put(function.module, (end[0], end[1] - len(func.attr)), end, new.rpartition(".")[2])
            return
        if not isinstance(func, ast.Name):
            raise Unfixable("the loss is not called by its name")
        known = function.module.imports.get(func.id)
        if known is None or known[1] != old.rpartition(".")[2]:
            raise Unfixable(f"`{func.id}` is not the loss's own name")
        self.patch.replace(function.module, func, self.patch.name(function, new))

    def _switch_criterion(self, criterion: Lib) -> None:
        assert criterion.module is not None
        module, call = criterion.module, criterion.at
        holder = next((f for f in module.functions if any(c is call for c in f.calls)), module.body)
        self._rename(holder, call.func, criterion.name, self.form[criterion.name])

    def _exports(self) -> None:
        """What is written to a file for others gets the activation as a last layer."""
        for module in self._modules:
            for name in ("export", "trace", "script", "dynamo_export"):
                for call, holder in module.call_index.get(name, ()):
                    if any(
                        isinstance(v, Ref) and v.name in _EXPORT
                        for f in self.frames(holder)
                        for v in self._callee(f, call)
                    ):
                        self._export(holder, call)

    def _export(self, holder: Function, call: Any) -> None:
        if not call.args or isinstance(call.args[0], ast.Starred):
            raise Unfixable("it is not seen what is exported")
        for frame in self.frames(holder):
            node = frame.ir.by_call[id(call)]
            self.ev.refill()
            for _, value in alternatives(self.ev.value(frame, node.args[1][0])):
                if not self._gives_logits(value):
                    continue
                if any(keys != WHOLE for keys in self.peeled.values()):
                    raise Unfixable(f"`{holder.qualname}` exports the network, which returns several things")
                layer = "Sigmoid()" if self.act == "sigmoid" else f"Softmax(dim={self.dim or 1})"
                name = self.patch.name(holder, "torch.nn.Sequential")
                before = f"{name}("
                after = f", {name.rpartition('.')[0]}.{layer})" if "." in name else ""
                if not after:
                    raise Unfixable(f"`{holder.qualname}` exports the network")
                self.patch.wrap(holder.module, call.args[0], before, after)
                return

    def _remove_element(self, module: ParsedModule, at: Any) -> None:
        tree = self.patch.tree(module)
        child, parent = at, tree.parent(at)
        if isinstance(parent, ast.Tuple) and isinstance(tree.parent(parent), (ast.List, ast.Tuple)):
            child, parent = parent, tree.parent(parent)
        statement = self.patch.statement(module, at)
        if (
            isinstance(statement, ast.Expr)
            and isinstance(parent, ast.Call)
            and _last(parent.func) in ("append", "add_module")
        ):
            if isinstance(tree.parent(statement), (ast.If, ast.For, ast.While)):
                raise Unfixable("the activation is added under a condition")
            self.patch.delete(module, statement)
            return
        if isinstance(parent, ast.List) and len(parent.elts) == 1 and isinstance(statement, ast.AugAssign):
            self.patch.delete(module, statement)
            return
        if isinstance(parent, ast.Call) and _last(parent.func) == "Sequential" and len(parent.args) > 1:
            self.patch.remove_argument(module, parent, child)
            return
        if isinstance(parent, (ast.List, ast.Tuple)) and len(parent.elts) > 1:
            self.patch.remove_argument(module, parent, child)
            return
        raise Unfixable("the activation is not written as a layer of its own")

    @staticmethod
    def _passed_on(call: Any, node: Node) -> Node | None:
        """What a call only reshapes (or bounds), or nothing."""
        func = node.args[0]
        if func.op == "attr" and func.args[1] in _SHAPE | _BOUNDS and func.args[0].op != "name":
            return func.args[0]  # type: ignore[no-any-return]
        if _last(call.func) in _SHAPE | _BOUNDS and node.args[1] and isinstance(call.func, ast.Attribute):
            if isinstance(call.func.value, ast.Name) and call.func.value.id in ("torch", "F"):
                return node.args[1][0]  # type: ignore[no-any-return]
        return None


class _Flow:
    """Which expressions of a function hold the value, given where it comes from."""

    def __init__(
        self,
        uses: Uses,
        leaves: dict[int, _Leaf],
        params: dict[tuple[Function, str], frozenset[Key]],
        function: Function,
        passed_on: Callable[[Any, Node], Node | None],
        bounds: frozenset[int] | None,
        records: dict[int, list[str]],
        joined: set[int],
    ) -> None:
        self._joined = joined
        self._records = records
        self.uses = uses
        self.leaves = leaves
        self.params = {name: keys for (holder, name), keys in params.items() if holder is function}
        self.function = function
        self._passed_on = passed_on
        # Bounds that the value may pass; None for all.
        self._allowed = bounds
        self._known: dict[int, frozenset[Key]] = {}
        # Why readers cannot be told apart one by one, if they cannot.
        self.problem = ""
        # Whether somebody applies the activation a second time.
        self.expecting = False
        # Names that are bound to the value.
        self.names: set[str] = set()
        # Bounds (``clamp``) on the way, with the expression inside.
        self.bounds: list[Any] = []
        self.passed: dict[int, Any] = {}

    def keys(self, at: Any, node: Node) -> frozenset[Key]:
        found = self._keys(node)
        if found and isinstance(at, ast.Call) and node.at is at and _is_bound(at) and id(at) not in self.leaves:
            if at not in self.bounds:
                self.bounds.append(at)
                func: Any = at.func
                root = getattr(func, "value", None)
                by_name = root is None or (isinstance(root, ast.Name) and root.id == "torch")
                self.passed[id(at)] = at.args[0] if by_name else root
        return found

    def keys_of(self, at: Any) -> frozenset[Key]:
        node = self.uses.node_of.get(id(at))
        return self._keys(node) if node is not None else frozenset()

    def _keys(self, node: Node) -> frozenset[Key]:
        known = self._known.get(id(node))
        if known is None:
            self._known[id(node)] = frozenset()  # a loop that only carries itself
            known = self._known[id(node)] = self._look(node)
        return known

    def _look(self, node: Node) -> frozenset[Key]:
        op, args = node.op, node.args
        if op == "call":
            leaf = self.leaves.get(id(node.at))
            if leaf is not None:
                return leaf.keys
            fields = self._records.get(id(node.at))
            if fields is not None:
                given = [*zip(fields, args[1], strict=False), *args[2]]
                return frozenset((name, *key) for name, part in given for key in self._keys(part))
            if id(node.at) in self._joined:
                parts = _parted(node.at, node) or []
                if _last(node.at.func) in _JOINS:
                    return self._all_of(parts[0][0]) if parts else frozenset()
                return frozenset((*steps, *key[1:]) for part, steps in parts for key in self._keys(part) if key)
            inner = self._passed_on(node.at, node)
            if inner is None or (self._allowed is not None and _is_bound(node.at) and id(node.at) not in self._allowed):
                return frozenset()
            return self._keys(inner)
        if op == "param":
            return self.params.get(args[0], frozenset())
        if op in ("sub", "unpack", "attr"):
            keys = self._keys(args[0])
            if not keys:
                return keys
            wanted = args[1]
            if op == "sub":
                wanted = args[1].args[0] if args[1].op == "const" else None
            found = {key[1:] for key in keys if key and key[0] in (wanted, EVERY)}
            if () in keys and op != "attr":
                found.add(())
            return frozenset(found)
        if op in ("tuple", "list"):
            return frozenset((i, *key) for i, part in enumerate(args) for key in self._keys(part))
        if op == "dict":
            return frozenset(
                (k.args[0], *key)
                for k, v in zip(*args, strict=True)
                if k is not None and k.op == "const"
                for key in self._keys(v)
            )
        if op == "inplace":
            return self._keys(args[1])
        if op == "setitem":
            before = self._keys(args[0])
            if () in before:
                self.problem = self.problem or "the output is changed in place"
            if args[1].op != "const" or not self._is_kept(node):
                return before
            kept = frozenset(key for key in before if key[:1] != (args[1].args[0],))
            return kept | {(args[1].args[0], *key) for key in self._keys(args[2])}
        if op == "setattr":
            return frozenset(key for key in self._keys(args[0]) if key[:1] != (args[1],))
        if op in ("delitem", "extend", "insert", "enter"):
            return self._keys(args[0])
        if op == "bin" and isinstance(node.at, ast.AugAssign) and self._keys(args[1]):
            self.problem = self.problem or "the output is changed in place"
        if op == "append":
            grown = {(EVERY, *key) for key in self._keys(args[1])} if id(node.at) in self._joined else set()
            return self._keys(args[0]) | grown
        if op == "comp" and args[0] == "list":
            return frozenset((EVERY, *key) for key in self._keys(args[1]))
        if op == "iter":
            return frozenset(key[1:] for key in self._keys(args[0]))
        if op in ("phi", "loop"):
            branches = [n for n in (args[1:] if op == "phi" else args) if isinstance(n, Node)]
            found_keys = [self._keys(n) for n in branches]
            carrying = [k for k in found_keys if k]
            if carrying and any(
                not k and not _is_none(n) and op == "phi" for k, n in zip(found_keys, branches, strict=True)
            ):
                self.problem = self.problem or "what is read is the output in only one of two branches"
            return frozenset[Key]().union(*carrying) if carrying else frozenset()
        return frozenset()

    def _all_of(self, parts: Node) -> frozenset[Key]:
        """What joining a list gives: the value, if every element is one."""
        keys = self._keys(parts)
        if keys and parts.op in ("tuple", "list") and len({key[0] for key in keys if key}) < len(parts.args):
            self.problem = self.problem or "the output is joined with other values"
        return frozenset(key[1:] for key in keys if key)

    def _is_kept(self, node: Node) -> bool:
        """Whether an entry is one of a container that the function has for itself."""
        target: Any = node.at
        return isinstance(target, ast.Subscript) and self.may_hold(target)

    def may_hold(self, target: Any) -> bool:
        """Names may hold the value, and an own dictionary's entries; what outlives the function others may read."""
        if isinstance(target, (ast.Tuple, ast.List)):
            return all(map(self.may_hold, target.elts))
        if isinstance(target, ast.Starred):
            return self.may_hold(target.value)
        if isinstance(target, ast.Subscript):
            base: Any = target.value
            if not isinstance(base, ast.Name) or not isinstance(target.slice, ast.Constant):
                return False
            arguments = getattr(self.function.node, "args", None)
            given = ast.walk(arguments) if arguments is not None else ()
            return self.times_bound(base) > 0 and not any(getattr(a, "arg", None) == base.id for a in given)
        return isinstance(target, ast.Name)

    def hold(self, target: Any) -> None:
        """Notes the names in a target that the value is bound to."""
        self.names.update(n.id for n in ast.walk(target) if isinstance(n, ast.Name))

    def escapes(self) -> str:
        """A name of the value that is read where this function's flow does not reach, or nothing."""
        if not self.names:
            return ""
        for at in ast.walk(self.function.node):
            if isinstance(at, (ast.Global, ast.Nonlocal)) and self.names.intersection(at.names):
                return next(iter(self.names.intersection(at.names)))
        own: set[int] = set()
        for inner in reversed(self.function.module.functions[1:]):
            if inner is self.function or not self._encloses(inner):
                continue
            bound = {n.arg if isinstance(n, ast.arg) else n.id for n in ast.walk(inner.node) if _is_binding(n)}
            for at in ast.walk(inner.node):
                if isinstance(at, ast.Name) and at.id in self.names and id(at) not in own:
                    if at.id in bound:
                        own.add(id(at))
                    elif isinstance(at.ctx, ast.Load):
                        return at.id
        return ""

    def _encloses(self, inner: Function) -> bool:
        holder: Function | None = inner.parent
        while holder is not None and holder is not self.function:
            holder = holder.parent
        return holder is not None

    def goes_through(self, outer: Any, inner: Any) -> bool:
        """Whether an expression only passes on one inside it."""
        if isinstance(outer, (ast.Subscript, ast.Attribute, ast.Starred)):
            return bool(outer.value is inner)
        if isinstance(outer, ast.Call):
            if id(outer) in self.leaves:
                return False
            if id(outer) in self._records or id(outer) in self._joined:
                return True
            if isinstance(outer.func, ast.Attribute) and outer.func.value is inner:
                return True
            return bool(outer.args) and outer.args[0] is inner
        if isinstance(outer, (ast.ListComp, ast.GeneratorExp)):
            return bool(outer.elt is inner)
        return isinstance(outer, (ast.Tuple, ast.List, ast.Dict, ast.IfExp, ast.NamedExpr))

    def bounds_before(self, sinks: list[Any]) -> list[Any]:
        """The bounds that stand between the activation and what takes logits."""
        found = []
        for at in sinks:
            stack = [self.uses.node_of[id(at)]]
            for _ in range(80):
                if not stack:
                    break
                node = stack.pop()
                if node.op in ("phi", "loop"):
                    stack.extend(n for n in node.args if isinstance(n, Node))
                elif node.op in ("sub", "unpack", "attr"):
                    stack.append(node.args[0])
                elif node.op == "call" and id(node.at) not in self.leaves:
                    inner = self._passed_on(node.at, node)
                    if inner is not None:
                        stack.append(inner)
                        if node.at in self.bounds and node.at not in found:
                            found.append(node.at)
        return found

    def times_bound(self, target: Any) -> int:
        """How often a name (or ``self.name``) is given a value in the function."""
        held = ast.unparse(target)
        return sum(
            isinstance(n, target.__class__) and not isinstance(n.ctx, ast.Load) and ast.unparse(n) == held
            for n in ast.walk(self.function.node)
        )


def _parts(at: Any, carried: dict[int, frozenset[Key]]) -> list[Any]:
    """The elements of a tuple or dictionary display that hold the value; of anything else itself."""
    if isinstance(at, (ast.Tuple, ast.List)):
        inner = at.elts
    elif isinstance(at, ast.Dict):
        inner = at.values
    else:
        return [at]
    return [part for element in inner if id(element) in carried for part in _parts(element, carried)]


def _is_from_the_front(index: Any) -> bool:
    """``layers[0]``, ``layers[:2]``; a name or a text may be anything, and is not of a container's end."""
    if isinstance(index, ast.Slice):
        ends = [index.lower, index.upper]
        return index.upper is not None and all(
            e is None or (isinstance(e, ast.Constant) and isinstance(e.value, int)) for e in ends
        )
    return isinstance(index, ast.Constant)


def _asks_for_a_type(loop: Any) -> bool:
    """``for layer in self.net: if isinstance(layer, nn.Linear): …`` does not care for an activation."""
    first = loop.body[0] if isinstance(loop, ast.For) else (loop.ifs[0] if loop.ifs else None)
    test = first.test if isinstance(first, ast.If) else first
    return test is not None and any(isinstance(at, ast.Call) and _last(at.func) == "isinstance" for at in ast.walk(test))


def _is_binding(at: Any) -> bool:
    return isinstance(at, ast.arg) or (isinstance(at, ast.Name) and not isinstance(at.ctx, ast.Load))


def _covered(keys: frozenset[Key], wanted: frozenset[Key]) -> bool:
    """Whether every place is one that is wanted, or an element where all of them are."""
    return all(key in wanted or (bool(key) and (EVERY, *key[1:]) in wanted) for key in keys)


def _last_layer(value: Value) -> Lib | None:
    """The last layer of a container, through containers within."""
    for _ in range(8):
        if not isinstance(value, Seq):
            break
        ends = value.tail or (value.head if value.rest is None else ())
        if not ends:
            return None
        value = ends[-1]
    return value if isinstance(value, Lib) else None


def _parted(call: Any, node: Node) -> list[tuple[Node, Key]] | None:
    """The lists that a call joins or walks over, each with the steps to its current element in the result."""
    name, given = _last(call.func), node.args[1]
    if not given:
        return None
    if name in _JOINS:
        return [(given[0], ())]
    if name == "zip":
        return [(part, (EVERY, i)) for i, part in enumerate(given)]
    return [(given[0], (EVERY, 1))] if name == "enumerate" else None


def _is_built_at(at: Any, value: Value) -> bool:
    return isinstance(value, Lib) and value.at is at


def _aliases(module: ParsedModule, names: tuple[str, ...]) -> list[str]:
    return [local for local, (_, attr, _) in module.imports.items() if attr in names]


def _is_bound(call: Any) -> bool:
    return _last(call.func) in _BOUNDS


def _input(call: Any) -> Any:
    """The first argument of a loss."""
    if call.args:
        return None if isinstance(call.args[0], ast.Starred) else call.args[0]
    return next((k.value for k in call.keywords if k.arg in ("input", "inputs", "pred")), None)


def _argument(call: Any, function: Function, name: str) -> Any:
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


def _base(at: Any, held: str) -> Any:
    """The ``probs`` at the bottom of ``probs.squeeze(1)[0]``, or nothing if something else is there."""
    inner: Any = at
    while ast.unparse(inner) != held:
        if isinstance(inner, ast.Call) and not isinstance(inner.func, ast.Attribute):
            return None
        if not isinstance(inner, (ast.Attribute, ast.Subscript, ast.Call)):
            return None
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    return inner


def _may_be_own(module: ParsedModule, call: Any) -> bool:
    """Whether a call may be of something of the project's, by the look of it."""
    root = call.func
    if _last(root) in ("data_parallel", "checkpoint"):
        return True
    while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
        if isinstance(root, ast.Call) and (_last(root.func)[:1].isupper() or _last(root.func) in _INNOCENT):
            return True  # ``nn.DataParallel(net).module(x)``
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return True
    known = module.imports.get(root.id)
    return known is None or known[0].partition(".")[0] not in _LIBRARIES


_LIBRARIES = frozenset(
    ("torch", "numpy", "math", "os", "sys", "time", "json", "random", "logging", "matplotlib", "sklearn")
)


def _last(callee: Any) -> str:
    return getattr(callee, "attr", None) or getattr(callee, "id", None) or ""


def _written(at: Any) -> str:
    return ast.unparse(at)[:40]


def _is_none(node: Node) -> bool:
    return node.op == "const" and node.args[0] is None
