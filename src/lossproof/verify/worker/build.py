"""Arguments and objects: models, trainers, criteria, loaders, batches, for a parameter that wants one."""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib
import inspect
import textwrap
from enum import Enum
from typing import Any

from lossproof.verify.worker import roles
from lossproof.verify.worker.imports import Side
from lossproof.verify.worker.standins import StandIn
from lossproof.verify.worker.values import Values

torch: Any = importlib.import_module("torch")
_TENSORS = roles.TENSORS
MOST_PARAMETERS = 60_000_000


class CannotMake(Exception):
    """Nothing could be thought of for a parameter."""


@dataclasses.dataclass
class Help:
    """What the plan knows about a unit, for one side."""

    side: Side
    classes: list[type]
    """Classes of networks that lie on the way, the nearest first."""
    criteria: list[Any]
    """Criteria (made anew for every call) that lie on the way."""
    file_uses: roles.Uses
    """How the whole file uses its names."""
    strict_model: bool = False
    """Whether a network must be one of ``classes``: it is among what changed."""
    choice: int = 0
    """Which of the criteria is tried."""
    given: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """Parameters of the unit that take logits after the fix: where in them, and the activation before it."""
    activates: bool = False
    """Whether this side still takes what is activated."""


class Builder:
    """Makes the arguments of one call on one side."""

    def __init__(self, help: Help, values: Values, states: list[Any] | None = None) -> None:
        self.help = help
        self.values = values
        self.models: list[Any] = []
        self.states: list[Any] = []
        self._given = states
        self.used: set[str] = set()
        self._depth = 0
        self.owner: Any = None

    # ---- functions and classes

    def arguments(
        self, function: Any, uses: roles.Uses, *, skip: int = 0, init: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for a call."""
        try:
            parameters = list(inspect.signature(function).parameters.values())[skip:]
        except (TypeError, ValueError):
            raise CannotMake("its parameters cannot be read") from None
        flags = dict(self.values.scene.flags)
        given: list[Any] = []
        named: dict[str, Any] = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.default is not parameter.empty:
                if not init and parameter.name in flags:
                    named[parameter.name] = flags[parameter.name]
                elif not init and parameter.default is None and self.values.scene.optional:
                    role = self._role(parameter, uses)
                    if role in _TENSORS and role not in ("loss", "input"):
                        named[parameter.name] = self.values.tensor(role, parameter.name)
                        self.used.add(role)
                continue
            if not init and parameter.name in self.help.given and self._depth == 0:
                value = self._shifted(parameter, uses)
            else:
                value = self.parameter(parameter, uses, init=init)
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                given.append(value)
        return given, named

    def build(self, cls: Any) -> Any:
        """An object of a class, with whatever its constructor wants."""
        if self._depth > 3:
            raise CannotMake(f"`{cls.__name__}` needs objects within objects")
        if issubclass(cls, Enum):
            return next(iter(cls))
        self._depth += 1
        try:
            node = _class_init(cls)
            torch.default_generator.manual_seed(self.values.seed)
            given, named = self.arguments(cls, roles.Uses(node), init=True)
            made = cls(*given, **named)
        finally:
            self._depth -= 1
        if isinstance(made, torch.nn.Module):
            self.register(made)
        return made

    def register(self, model: Any) -> None:
        """Give a network the weights that its other side has."""
        if sum(p.numel() for p in model.parameters()) > MOST_PARAMETERS:
            raise CannotMake(f"`{type(model).__name__}` is too large to be tried")
        index = len(self.models)
        self.models.append(model)
        if self._given is not None and index < len(self._given):
            _copy(self._given[index], model)
        self.states.append({name: value.detach().clone() for name, value in model.state_dict().items()})

    # ---- parameters

    def _role(self, parameter: Any, uses: roles.Uses) -> str:
        return roles.role(parameter.name, uses, _spelled(parameter.annotation))

    def parameter(self, parameter: Any, uses: roles.Uses, *, init: bool) -> Any:
        name, spelled = parameter.name, _spelled(parameter.annotation)
        wanted = self._annotated(parameter.annotation)
        if wanted is not None:
            self.used.add("object")
            return self.build(wanted)
        role = roles.role(name, uses, spelled)
        if not init and not uses.is_seen(name):
            there = self._handed_on(name, uses, 0)
            if there is not None:
                name, uses = there
                role = roles.role(name, uses, spelled)
        if init and (role in _TENSORS or role in ("int", "float", "bool", "str", "batch", "default")):
            if ("Tensor" not in spelled and role != "weight") or spelled in ("int", "float", "bool", "str"):
                return self._setting(name, role, spelled)
        self.used.add(role)
        return self.of_role(role, name, uses)

    def _handed_on(self, name: str, uses: roles.Uses, depth: int) -> tuple[str, roles.Uses] | None:
        """What another function calls it and does with it, if this one only hands it on to there."""
        for callee, place in uses.passed.get(name, ()):
            function = self._function(callee)
            if function is None:
                continue
            names = [p for p in inspect.signature(function).parameters if p != "self"]
            if isinstance(place, int):
                place = names[place] if place < len(names) else ""
            if place not in names:
                continue
            theirs = roles.Uses(_definition(function))
            if theirs.is_seen(place):
                if roles.role(place, theirs) in ("loader", "batch", "model", "criterion", "optimizer", "config"):
                    return place, theirs
            elif depth < 2:
                found = self._handed_on(place, theirs, depth + 1)
                if found is not None:
                    return found
        return None

    def _function(self, name: str) -> Any:
        """A function of the project by its name alone; a method of the object on trial goes first."""
        found = getattr(type(self.owner), name, None) if self.owner is not None else None
        if inspect.isfunction(found):
            return found
        for module in self.help.side.modules.values():
            found = vars(module).get(name)
            if inspect.isfunction(found) and found.__module__ in self.help.side.modules:
                return found
        return None

    def _shifted(self, parameter: Any, uses: roles.Uses) -> Any:
        """The same logits for both sides, activated for the one that takes them so."""
        places = self.help.given[parameter.name]
        whole = any(not key for key, _, _ in places)
        self.used.add("logits")
        if whole:
            value = self.values.tensor("logits", parameter.name)
        else:
            value = self.parameter(parameter, uses, init=False)
        for place in places if self.help.activates else ():
            changed = activated(value, *place)
            if changed is None:
                raise CannotMake(f"needs a value for the parameter {parameter.name}")
            value = changed
        return value

    def _setting(self, name: str, role: str, spelled: str) -> Any:
        if spelled in ("list", "List[int]", "list[int]", "Sequence[int]", "tuple[int, ...]", "Tuple[int, ...]"):
            return [8, 8]
        if spelled == "bool" or name.startswith(("use_", "is_", "with_", "has_")):
            return False
        if spelled == "str" or role == "str":
            return _word(name)
        whole = spelled == "int" or (spelled != "float" and bool(set(roles.words(name)) & set(roles.SIZES)))
        if spelled != "int" and set(roles.words(name)) & {
            "weight",
            "lambda",
            "lr",
            "dropout",
            "alpha",
            "gamma",
            "coef",
        }:
            whole = False
        found = roles.number(name, whole=whole)
        if found is None:
            if spelled == "float":
                return 0.5
            if spelled == "int":
                return 4
            raise CannotMake(f"needs a value for the parameter {name}")
        if whole and "classes" in roles.words(name):
            return self.values.scene.classes
        return found

    def of_role(self, role: str, name: str, uses: roles.Uses) -> Any:
        """Something for a role."""
        if role in _TENSORS:
            if role in ("pred", "input", "embed") and self.has_model:
                role = self._beside_a_network(role, name, uses)
            if role == "tokens":
                role = "input" if self.has_model else "target"
            return self.values.tensor(role, name)
        maker = getattr(self, f"_make_{role}", None)
        if maker is None:
            raise CannotMake(f"needs a value for the parameter {name}")
        return maker(name, uses)

    def _beside_a_network(self, role: str, name: str, uses: roles.Uses) -> str:
        """What is given to the network is its input; what is not, where something is, is a target."""
        if isinstance(self.owner, torch.nn.Module) or not uses.fed:
            return role if name.lower() in ("pred", "preds", "output", "outputs", "logits") else "input"
        if name in uses.fed:
            return "input"
        return "target" if role == "pred" else role

    @property
    def has_model(self) -> bool:
        return bool(self.values.scene.input)

    def _annotated(self, annotation: Any) -> Any:
        """The class of the project that an annotation names."""
        if isinstance(annotation, type) and annotation.__module__ in self.help.side.modules:
            return annotation
        if isinstance(annotation, str):
            bare = annotation.strip("'\"").replace("Optional[", "").rstrip("]").split("|")[0].strip()
            for module in self.help.side.modules.values():
                found = getattr(module, bare, None) if bare.isidentifier() else None
                if isinstance(found, type) and found.__module__ in self.help.side.modules:
                    return found
        return None

    def _make_model(self, name: str, uses: roles.Uses) -> Any:
        problems = []
        for cls in self.help.classes:
            try:
                return self.build(cls)
            except Exception as error:
                problems.append(f"`{cls.__name__}` cannot be made ({_why(error)})")
        if self.help.strict_model or problems:
            raise CannotMake(f"needs a network (parameter {name}): {problems[0] if problems else 'none is known'}")
        made = _Projection(self.values.scene, single="value" in name.lower() or "critic" in name.lower())
        self.register(made)
        return made

    def _make_criterion(self, name: str, uses: roles.Uses) -> Any:
        usual = [torch.nn.CrossEntropyLoss, torch.nn.BCEWithLogitsLoss, torch.nn.MSELoss]
        options = self.help.criteria or usual
        make = options[min(self.help.choice, len(options) - 1)]
        if isinstance(make, type) and make.__module__ in self.help.side.modules:
            return self.build(make)
        return make()

    def _make_optimizer(self, name: str, uses: roles.Uses) -> Any:
        wanted = [p for model in self.models for p in model.parameters()]
        if not wanted:
            wanted = [torch.zeros(1, requires_grad=True)]
        return torch.optim.SGD({id(p): p for p in wanted}.values(), lr=0.01)

    def _make_device(self, name: str, uses: roles.Uses) -> Any:
        return torch.device("cpu")

    def _make_recorder(self, name: str, uses: roles.Uses) -> Any:
        return Recorder()

    def _make_int(self, name: str, uses: roles.Uses) -> Any:
        held = set(roles.words(name))
        if held & {"epoch", "step", "idx", "index", "iteration", "i", "it", "iter", "itr", "rank"}:
            return 0
        found = roles.number(name, whole=True)
        return 1 if found is None else self.values.scene.classes if "classes" in held else found

    def _make_float(self, name: str, uses: roles.Uses) -> Any:
        found = roles.number(name, whole=False)
        return 0.5 if found is None else found

    def _make_losses(self, name: str, uses: roles.Uses) -> Any:
        self.used.add("loss")
        return [self.values.tensor("loss", f"{name}{i}") for i in range(2)]

    def _make_path(self, name: str, uses: roles.Uses) -> Any:
        raise CannotMake(f"needs a file (parameter {name})")

    def _make_bool(self, name: str, uses: roles.Uses) -> Any:
        return False

    def _make_str(self, name: str, uses: roles.Uses) -> Any:
        return _word(name)

    def _make_config(self, name: str, uses: roles.Uses) -> Any:
        return Settings(name)

    def _make_batch(self, name: str, uses: roles.Uses) -> Any:
        for source in (uses, self.help.file_uses):
            keys, parts = source.keys.get(name), source.unpacked.get(name)
            if keys:
                return {key: self._part(key, uses) for key in keys}
            if parts:
                return tuple(self._element(part, f"{name}{i}", i, uses) for i, part in enumerate(parts))
        if self.has_model and name in ("data", "samples", "sample"):
            return self.values.tensor("input", name)
        if name in ("data", "sample", "samples"):
            return self.values.tensor("pred", name)
        return (self._part("input", uses), self._part("target", uses))

    def _element(self, part: Any, name: str, index: int, uses: roles.Uses) -> Any:
        if isinstance(part, (ast.Tuple, ast.List)):
            return tuple(self._element(each, f"{name}_{i}", i, uses) for i, each in enumerate(part.elts))
        given = part.id if isinstance(part, ast.Name) else name
        if given in ("_", "x") and isinstance(part, ast.Name):
            given = given if given == "x" and index == 0 else ("target" if index else "input")
        named = isinstance(part, ast.Name) and bool(uses.fed) and given not in uses.fed
        if named and roles.role(given, uses) == "pred":
            return self.values.tensor("target", given)
        return self._part(given, uses)

    def _part(self, name: str, uses: roles.Uses) -> Any:
        role = roles.role(name, uses)
        if role not in _TENSORS:
            role = {"batch": "input", "loader": "input", "int": "target"}.get(role, "input")
        if role in ("pred", "input", "embed", "logits", "tokens"):
            role = "input"
        self.used.add(role)
        return self.values.tensor(role, name)

    def _make_loader(self, name: str, uses: roles.Uses) -> Any:
        found = Batches()
        target = uses.turns.get(name) or uses.turns.get(f"self.{name}") or self.help.file_uses.turns.get(name)
        if target is None:
            target = self.help.file_uses.turns.get(f"self.{name}")
        for turn in range(2):
            self.values.turn = turn
            if isinstance(target, (ast.Tuple, ast.List)):
                found.append(tuple(self._element(p, f"{name}{i}", i, uses) for i, p in enumerate(target.elts)))
            elif isinstance(target, ast.Name):
                found.append(self._make_batch(target.id, uses))
            else:
                found.append((self._part("input", uses), self._part("target", uses)))
        self.values.turn = 0
        return found


def activated(value: Any, key: list[Any], activation: str, dim: int | None) -> Any:
    """A value with one part of it through an activation; None where it has no such part."""
    if not key:
        if not torch.is_tensor(value) or not value.is_floating_point():
            return None
        return value.sigmoid() if activation == "sigmoid" else torch.nn.functional.softmax(value, dim, _stacklevel=5)
    step, rest = key[0], key[1:]
    if step == "*" and isinstance(value, (list, tuple)):
        parts = [activated(each, rest, activation, dim) for each in value]
        return None if any(part is None for part in parts) else type(value)(parts)
    if isinstance(value, dict) and step in value:
        part = activated(value[step], rest, activation, dim)
        return None if part is None else {**value, step: part}
    if isinstance(value, (list, tuple)) and isinstance(step, int) and -len(value) <= step < len(value):
        part = activated(value[step], rest, activation, dim)
        if part is None:
            return None
        parts = list(value)
        parts[step] = part
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(step, str) and hasattr(value, step):
        part = activated(getattr(value, step), rest, activation, dim)
        if part is None:
            return None
        made = copy.copy(value)
        try:
            setattr(made, step, part)
        except AttributeError:
            return None
        return made
    return None


class Batches(list):  # type: ignore[type-arg]
    """A loader of a few batches."""

    batch_size = 6

    @property
    def dataset(self) -> Any:
        return range(sum(6 for _ in self))

    sampler = None


class Recorder:
    """Takes whatever it is told and says nothing: a writer, a logger, a scheduler."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *given: Any, **named: Any) -> Any:
        return given[0] if len(given) == 1 and torch.is_tensor(given[0]) else self

    def backward(self, loss: Any = None, **_: Any) -> None:
        if loss is not None:
            loss.backward()

    def scale(self, loss: Any) -> Any:
        return loss

    def step(self, optimizer: Any = None, *_: Any) -> None:
        if isinstance(optimizer, torch.optim.Optimizer):
            optimizer.step()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None: ...


class Settings(dict):  # type: ignore[type-arg]
    """Settings that were never written down: numbers that fit their names."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._guess(name)

    def __missing__(self, name: Any) -> Any:
        return self._guess(str(name))

    def _guess(self, name: str) -> Any:
        held = set(roles.words(name))
        if "device" in held:
            return "cpu"
        if name.startswith(("use_", "is_", "with_", "has_", "no_")) or held & {
            "amp",
            "debug",
            "verbose",
            "fp16",
            "cuda",
        }:
            return False
        whole = bool(held & set(roles.SIZES)) and not held & {"weight", "lambda", "lr", "alpha", "gamma"}
        found = roles.number(name, whole=whole)
        if found is None:
            if held & {"model", "train", "loss", "optim", "optimizer", "data", "training"}:
                return Settings(f"{self._name}.{name}")
            raise CannotMake(f"needs a configuration ({self._name}.{name})")
        return found

    def get(self, name: Any, default: Any = None) -> Any:
        return default


class _Projection(torch.nn.Module):  # type: ignore[misc]
    """A network for a function that does not care which: any input, outputs of the scene's shape."""

    def __init__(self, scene: Any, *, single: bool = False) -> None:
        super().__init__()
        torch.default_generator.manual_seed(11)
        self._shape = (1,) if single else scene.pred[1:]
        self._kind = scene.pred_kind
        size = 1
        for side in self._shape:
            size *= side
        self.weight = torch.nn.Parameter(torch.randn(3, size))
        self.bias = torch.nn.Parameter(torch.randn(size))

    def forward(self, first: Any, *_: Any, **__: Any) -> Any:
        rows = first.float().reshape(first.shape[0], -1)
        seen = torch.stack([rows.mean(1), rows.amax(1), rows.amin(1)], 1)
        out = (seen @ self.weight + self.bias).reshape(first.shape[0], *self._shape)
        if self._kind == "prob":
            return out.sigmoid()
        if self._kind == "distribution":
            return out.softmax(1 if self._shape else 0)
        if self._kind == "logp":
            return out.log_softmax(1 if self._shape else 0)
        return out.exp() if self._kind == "positive" else out


def _copy(state: dict[str, Any], model: Any) -> None:
    """Weights by name, or where the names moved, in their order."""
    own = model.state_dict()
    same = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if len(same) < len(own) and [v.shape for v in own.values()] == [v.shape for v in state.values()]:
        same = dict(zip(own, state.values(), strict=True))
    with torch.no_grad():
        model.load_state_dict(same, strict=False)


def _class_init(cls: Any) -> Any:
    return _definition(cls.__init__)


def _definition(function: Any) -> Any:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None


def _spelled(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, StandIn):
        return ""
    return getattr(annotation, "__name__", None) or str(annotation)


def _word(name: str) -> str:
    return "mean" if "reduction" in name else "train" if name in ("mode", "split", "stage", "phase") else "x"


def _why(error: BaseException) -> str:
    text = f"{error}".partition("\n")[0][:120]
    return text if isinstance(error, CannotMake) else f"{type(error).__name__}: {text}"


def input_shapes(model: Any) -> list[tuple[tuple[int, ...], str]]:
    """What a network's first layer could take."""
    nn = torch.nn
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            wide = layer.in_features
            found: list[tuple[tuple[int, ...], str]] = [((6, wide), "signed"), ((3, 5, wide), "signed")]
            for channels in (1, 3):
                side = round((wide / channels) ** 0.5)
                if side > 3 and side * side * channels == wide:
                    found.append(((6, channels, side, side), "signed"))
            return found
        if isinstance(layer, nn.Conv2d):
            return [((4, layer.in_channels, s, s), "signed") for s in (16, 28, 32, 64, 8)] + [
                ((2, layer.in_channels, 224, 224), "signed")
            ]
        if isinstance(layer, nn.Conv1d):
            return [((4, layer.in_channels, 16), "signed"), ((4, layer.in_channels, 64), "signed")]
        if isinstance(layer, nn.Conv3d):
            return [((2, layer.in_channels, 8, 8, 8), "signed")]
        if isinstance(layer, nn.Embedding):
            return [((3, 5), f"index:{layer.num_embeddings}"), ((6,), f"index:{layer.num_embeddings}")]
        if isinstance(layer, (nn.RNNBase,)):
            return [((3, 5, layer.input_size), "signed")]
        if isinstance(layer, nn.LayerNorm):
            return [((3, 5, *layer.normalized_shape), "signed"), ((6, *layer.normalized_shape), "signed")]
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)):
            wide = layer.num_features
            return [((6, wide), "signed")] if isinstance(layer, nn.BatchNorm1d) else [((4, wide, 16, 16), "signed")]
        if isinstance(layer, nn.TransformerEncoderLayer):
            return [((3, 5, layer.self_attn.embed_dim), "signed")]
    return [((6, 8), "signed"), ((3, 3, 16, 16), "signed")]
