"""One unit on trial: find inputs on which the old function runs, give the same to both, and measure."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import io
import itertools
import math
import os
import random
import re
import sys
import textwrap
import time
import types
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lossproof.verify.worker import guard, observe, roles
from lossproof.verify.worker.build import Builder, CannotMake, Help, activated, input_shapes
from lossproof.verify.worker.imports import Side
from lossproof.verify.worker.origin import Origin
from lossproof.verify.worker.scenes import Scene, scenes
from lossproof.verify.worker.standins import NeedsPackage, StandIn
from lossproof.verify.worker.values import CASES, Values

torch: Any = importlib.import_module("torch")

SEEDS = 8
MOST_SCENES = 3
SECONDS_A_CALL = 6.0
SECONDS_A_SEARCH = 12.0
SECONDS_A_UNIT = 25.0

_FINAL = (NeedsPackage, guard.Refused, guard.TookTooLong, ModuleNotFoundError, FileNotFoundError)
"""What no other input would change."""

_called: list[Any] = []
"""The networks that the current call has called, whoever made them."""
_differentiated: list[Any] = []


class Outcome:
    """What one call came to."""

    def __init__(self) -> None:
        self.leaves: list[observe.Leaf] = []
        self.error: BaseException | None = None
        self.warned = False
        self.gradients: list[tuple[str, Any]] = []
        self.differentiable = False
        self.states: list[Any] = []
        self.used: set[str] = set()
        self.models: list[Any] = []
        self.called: list[Any] = []
        self.owner: Any = None
        self.seconds = 0.0
        self.lines: set[tuple[str, int]] = set()

    @property
    def floats(self) -> list[observe.Leaf]:
        return [leaf for leaf in self.leaves if observe.is_floating(leaf[1])]

    @property
    def finite(self) -> bool:
        return self.error is None and observe.finite(self.leaves)

    def gradient(self) -> float | None:
        """The largest entry of the gradient; NaN if one is not finite; None where nothing is differentiated."""
        if not self.differentiable:
            return None
        top = 0.0
        for _, gradient in self.gradients:
            if gradient is None or not gradient.numel():
                continue
            if not bool(torch.isfinite(gradient).all()):
                return math.nan
            top = max(top, float(gradient.abs().max()))
        return top

    def value(self) -> float | None:
        """The figure that stands for the result: the loss if there is one, else a mean."""
        losses = [value for where, value in self.leaves if where.startswith("loss")]
        for value in losses + [value for _, value in self.floats]:
            found = observe.number(value)
            if found is not None:
                return found
            if torch.is_tensor(value) and value.numel():
                return float(value.detach().double().mean())
        return None

    def summary(self) -> dict[str, Any]:
        return {
            "value": _json(self.value()),
            "finite": self.finite,
            "gradient": _json(self.gradient()),
            "error": describe(self.error) if self.error is not None else None,
        }


def _json(value: float | None) -> Any:
    return value if value is None or math.isfinite(value) else str(value)


class Trial:
    """A unit, on both sides."""

    def __init__(self, unit: dict[str, Any], sides: tuple[Side, Side]) -> None:
        self.unit = unit
        self.sides = sides
        self.clock = guard.Clock()
        self.helps: list[Help] = []
        self.targets: list[Any] = []
        self.uses: list[roles.Uses] = []
        self.bool_mask = False
        self.wanted: list[Any] = []
        self.globals: list[list[tuple[Any, Any]]] = []
        """Networks of the file itself, with the weights that they came with; and its optimizers."""

    def run(self) -> dict[str, Any]:
        """Everything that was measured, as JSON has it."""
        try:
            for index in (0, 1):
                self._find(index)
        except CannotMake as error:
            return {"status": "not run", "reason": str(error)}
        accepted, reason = self._search()
        if not accepted:
            return {"status": "not run", "reason": reason}
        return self._measure(accepted)

    # ---- what is run

    def _find(self, index: int) -> None:
        unit, side = self.unit, self.sides[index]
        module = self._load(side, unit["module"])
        file = module.__file__ or ""
        with open(file, "rb") as stream:
            tree = ast.parse(stream.read())
        parts = unit["qualname"].split(".")
        held: Any = module
        for part in parts:
            if part not in getattr(held, "__dict__", {}) and not hasattr(held, part):
                why = side.unmade.get(part)
                raise CannotMake(
                    f"`{part}` could not be defined ({why})" if why else f"`{unit['qualname']}` is not there"
                )
            held = inspect.getattr_static(held, part) if isinstance(held, type) else getattr(held, part)
        owner: Any = module
        for part in parts[:-1]:
            owner = getattr(owner, part)
        self.targets.append((owner if isinstance(owner, type) else None, parts[-1], held))
        node = roles.function_node(tree, unit["qualname"])
        uses = roles.Uses(node)
        if isinstance(owner, type):
            uses.names |= roles.Uses(roles.function_node(tree, ".".join(parts[:-1]))).names
        self.uses.append(uses)
        self.globals.append(_networks_of([module, *side.modules.values()]))
        self.wanted.append({(os.path.join(side.folder, f), a, b) for f, a, b in unit["lines"][index]})
        classes = []
        for name, cls in unit["classes"]:
            found = getattr(self._load(side, name), cls, None)
            if isinstance(found, type) and issubclass(found, torch.nn.Module):
                classes.append(found)
        criteria = []
        for name, source in unit["criteria"][index]:
            made = self._criterion(self._load(side, name), source)
            if made is not None:
                criteria.append(made)
        help = Help(side, classes, criteria, roles.Uses(tree), unit["strict_model"], activates=index == 0)
        for name, *place in unit.get("given", ()):
            help.given.setdefault(name, []).append(place)
        self.helps.append(help)

    def _load(self, side: Side, name: str) -> types.ModuleType:
        try:
            with quiet(), guard.within(30.0):
                return side.load(name)
        except guard.TookTooLong:
            raise CannotMake("importing its file takes too long") from None
        except Exception as error:
            raise CannotMake(f"its file cannot be imported ({describe(error)})") from None

    def _criterion(self, module: types.ModuleType, source: str) -> Any:
        """How a criterion on the way is built; what it is given may be known only there."""
        with self._of(module):
            for text in (source, source.partition("(")[0] + "()"):
                try:
                    eval(text, dict(module.__dict__))
                except Exception:
                    continue
                return lambda: eval(text, dict(module.__dict__))
        return None

    @contextlib.contextmanager
    def _of(self, module: types.ModuleType) -> Iterator[None]:
        side = next(s for s in self.sides if s.owns(module))
        with side.active(), quiet():
            yield

    def call(
        self,
        index: int,
        scene: Scene,
        seed: int,
        case: str = "",
        states: Any = None,
        *,
        trace: bool = False,
        origin: Origin | None = None,
    ) -> Outcome:
        """Run one side on one input."""
        outcome = Outcome()
        help, uses = self.helps[index], self.uses[index]
        values = Values(scene, seed, case, bool_mask=self.bool_mask)
        builder = Builder(help, values, states)
        began = time.process_time()
        _differentiated.clear()
        _called.clear()
        out = io.StringIO()
        try:
            snapshot = functools.partial(self._accumulated, outcome, builder, values)
            with help.side.active(), quiet(out) as caught, running(snapshot), guard.within(SECONDS_A_CALL):
                _seed(seed)
                watched: Any = tracing(help.side.folder, outcome.lines) if trace else origin or contextlib.nullcontext()
                with watched:
                    self._call(index, builder, uses, outcome, seed)
                outcome.warned = any("broadcast" in str(w.message) or "target size" in str(w.message) for w in caught)
                self._gradients(outcome, builder, values)
        except (Exception, SystemExit, guard.TookTooLong) as error:
            outcome.error = error
        outcome.leaves += [("loss that is differentiated", value) for value in _differentiated[:1]]
        outcome.leaves += [(f"loss {i + 2} that is differentiated", v) for i, v in enumerate(_differentiated[1:20])]
        if not outcome.floats:
            outcome.leaves += observe.printed(out.getvalue())
        outcome.states, outcome.used = builder.states, builder.used
        outcome.models, outcome.called = builder.models, list(_called)
        outcome.seconds = time.process_time() - began
        return outcome

    def _call(self, index: int, builder: Builder, uses: roles.Uses, outcome: Outcome, seed: int) -> None:
        cls, name, held = self.targets[index]
        for thing, state in self.globals[index]:
            if state is None:
                thing.state.clear()
                continue
            with torch.no_grad():
                thing.load_state_dict(state)
            thing.train()
            thing.zero_grad()
            builder.register(thing)
        if cls is None:
            function, owner = held, None
        elif isinstance(held, (staticmethod, classmethod)):
            function, owner = getattr(cls, name), None
        else:
            owner = self._owner(cls, builder)
            outcome.owner = builder.owner = owner
            if isinstance(held, property):
                outcome.leaves = observe.flatten(getattr(owner, name))
                return
            function = owner if name in ("forward", "__call__") else getattr(owner, name)
        signature = function.forward if isinstance(function, torch.nn.Module) else function
        given, named = builder.arguments(signature, uses)
        if isinstance(owner, torch.nn.Module):
            owner.zero_grad()
        _seed(seed + 1)
        result = function(*given, **named)
        if isinstance(result, types.GeneratorType):
            result = [each for each, _ in zip(result, range(20), strict=False)]
        if inspect.iscoroutine(result):
            result.close()
            raise CannotMake("it is a coroutine")
        if index == 1 and not builder.values.case:
            # It gives logits now, and those who read it apply the activation.
            for place in self.unit.get("gives", ()):
                shown = activated(result, *place)
                result = result if shown is None else shown
        outcome.leaves = observe.flatten(result)
        outcome.leaves += observe.state(owner)
        mutable = [each for each in (*given, *named.values()) if isinstance(each, (list, dict))]
        for number, each in enumerate(mutable):
            outcome.leaves += observe.flatten(each, f"argument {number + 1}")

    def _owner(self, cls: type, builder: Builder) -> Any:
        """The object whose method is run: of its class, or where that is abstract, of one that derives from it."""
        options = [
            cls,
            *(c for c in builder.help.classes if issubclass(c, cls) and c is not cls),
            *cls.__subclasses__(),
        ]
        first: BaseException | None = None
        for option in options[:4]:
            if inspect.isabstract(option):
                continue
            try:
                return builder.build(option)
            except Exception as error:
                first = first or error
        if isinstance(first, (CannotMake, NeedsPackage)):
            raise CannotMake(f"`{cls.__name__}` cannot be made: {first}") from first
        raise CannotMake(
            f"`{cls.__name__}` cannot be made ({describe(first) if first else 'it is abstract'})"
        ) from first

    def _leaves(self, builder: Builder, values: Values) -> list[tuple[str, Any]]:
        """The inputs, and the weights of the networks."""
        leaves = list(values.leaves)
        seen: set[int] = set()
        for number, model in enumerate([*builder.models, *_called]):
            for name, weight in model.named_parameters():
                if weight.requires_grad and id(weight) not in seen:
                    seen.add(id(weight))
                    leaves.append((f"{number}.{name}", weight))
        return leaves

    def _accumulated(self, outcome: Outcome, builder: Builder, values: Values) -> None:
        """After the first ``backward``: what it has left in the leaves, before anybody clears it."""
        if not outcome.differentiable:
            outcome.differentiable = True
            outcome.gradients = [
                (name, None if leaf.grad is None else leaf.grad.detach().clone())
                for name, leaf in self._leaves(builder, values)
            ]

    def _gradients(self, outcome: Outcome, builder: Builder, values: Values) -> None:
        """Of the result, unless the function has differentiated something itself."""
        leaves = self._leaves(builder, values)
        outputs = [
            v for w, v in outcome.leaves
            if w.startswith("result") and torch.is_tensor(v) and v.requires_grad and v.is_floating_point()
        ]  # fmt: skip
        if outcome.differentiable or not outputs or not leaves:
            return
        total = outputs[0].new_zeros(())
        for output in outputs:
            pattern = torch.linspace(0.5, 1.5, output.numel()).reshape(output.shape) if output.numel() > 1 else 1.0
            total = total + (output * pattern).sum()
        found = torch.autograd.grad(total, [leaf for _, leaf in leaves], allow_unused=True)
        outcome.differentiable = True
        outcome.gradients = [(name, gradient) for (name, _), gradient in zip(leaves, found, strict=True)]

    # ---- the search for inputs

    def _search(self) -> tuple[list[Scene], str]:
        """Scenes in which the old function runs and gives something finite, or why there are none."""
        names = set(self.uses[0].names)
        masks = self.uses[0].names & {
            "masked_fill",
            "masked_select",
            "where",
            "logical_and",
            "logical_not",
        } or _inverts(self.unit["source"])
        orders = [bool(masks), not masks]
        problems: list[BaseException | str] = []
        limit = SECONDS_A_SEARCH
        unreached = False
        choices = range(max(len(self.helps[0].criteria), 3) if self._wants_criterion() else 1)
        for bool_mask in orders:
            for optional in (True, False):
                for choice in choices:
                    self.bool_mask = bool_mask
                    for help in self.helps:
                        help.choice = choice
                    accepted, missed = self._try(names, optional, limit, problems)
                    unreached = unreached or missed
                    if accepted:
                        return accepted, ""
                    if self.clock() > limit or _hopeless(problems):
                        break
        if unreached:
            return [], "the changed line was not reached with generated inputs"
        return [], _reason(problems, self.sides[0])

    def _wants_criterion(self) -> bool:
        return any(
            "crit" in name.lower() or "loss_f" in name.lower() for name in self.uses[0].names | set(self.uses[0].called)
        )

    def _try(self, names: set[str], optional: bool, limit: float, problems: list[Any]) -> tuple[list[Scene], bool]:
        missed = False
        weak: list[Scene] = []
        warned: list[Scene] = []
        doubtful: list[Scene] = []
        found = [replace(scene, optional=optional) for scene in self._hypotheses(names, problems)]
        for scene in found:
            if self.clock() > limit:
                problems.append("takes too long")
                return [], missed
            tried, trial = self._accepts(scene, problems)
            if not tried:
                if _hopeless(problems):
                    break
                continue
            assert trial is not None
            if trial.warned:  # two shapes that broadcast: seldom what is meant
                warned.append(scene)
                continue
            if not self._reached(trial, scene):
                turned = self._turned(scene, limit)
                if turned is None:
                    missed = True
                    continue
                scene = turned
            gradient = trial.gradient()
            if gradient is not None and not 1e-6 <= gradient < math.inf:
                weak.append(scene)  # a softmax over one class, the edge of a root: it runs, and shows nothing
                continue
            if _doubtful(self.call(1, scene, 0, states=trial.states).error):
                doubtful.append(scene)
                continue
            accepted = [scene]
            if trial.seconds < 0.5 and scene.name != "pairs":
                for other in found:
                    alike = other.pred_kind == scene.pred_kind and other.target_kind == scene.target_kind
                    new = all((other.pred, other.target, other.input) != (s.pred, s.target, s.input) for s in accepted)
                    if len(accepted) < MOST_SCENES and alike and new and other.optional == scene.optional:
                        other = replace(other, flags=scene.flags)
                        tried, trial = self._accepts(other, [])
                        gradient = trial.gradient() if trial is not None else None
                        fits = (
                            trial is not None
                            and not trial.warned
                            and not _doubtful(self.call(1, other, 0, states=trial.states).error)
                        )
                        if tried and fits and (gradient is None or 1e-6 <= gradient < math.inf):
                            accepted.append(other)
            return accepted, missed
        return (weak or warned or doubtful)[:1], missed

    def _accepts(self, scene: Scene, problems: list[Any]) -> tuple[bool, Outcome | None]:
        trial = self.call(0, scene, 0, trace=True)
        if trial.error is not None:
            problems.append(trial.error)
            return False, None
        if not trial.floats and not any(torch.is_tensor(value) for _, value in trial.leaves):
            problems.append("it gives nothing that could be compared")
            return False, None
        if not trial.finite:
            problems.append("it is not finite on any moderate input")
            return False, None
        return True, trial

    def _reached(self, trial: Outcome, scene: Scene) -> bool:
        """Whether a changed line was run, before or after."""
        if self.unit["reached"]:
            return True
        if _overlap(trial.lines, self.wanted[0]):
            return True
        other = self.call(1, scene, 0, states=trial.states, trace=True)
        return other.error is not None or _overlap(other.lines, self.wanted[1])

    def _turned(self, scene: Scene, limit: float) -> Scene | None:
        """The scene with switches set otherwise, if that leads to the changed lines."""
        _, _, held = self.targets[0]
        function = getattr(held, "__func__", held)
        options: list[tuple[str, Any]] = []
        with contextlib.suppress(TypeError, ValueError):
            for name, parameter in inspect.signature(function).parameters.items():
                if isinstance(parameter.default, bool):
                    options.append((name, not parameter.default))
                elif "reduction" in name or "average" in name:
                    options += [(name, word) for word in ("none", "sum", "mean") if word != parameter.default]
                elif isinstance(parameter.default, float) and parameter.default == 0.0:
                    options.append((name, 0.1))
        for option in options:
            if self.clock() > limit:
                break
            turned = replace(scene, flags=(option,))
            tried, trial = self._accepts(turned, [])
            if tried and trial is not None and self._reached(trial, turned):
                return turned
        return None

    def _hypotheses(self, names: set[str], problems: list[Any]) -> list[Scene]:
        general = scenes(names, _rank(self.unit["source"]), bounded=_bounded(self.unit["source"]))
        models = self._models(general[0], problems)
        if _hopeless(problems):
            return []
        found: list[Scene] = []
        for model in models:
            options = input_shapes(model)
            for shape, kind in options:
                with quiet(), running(), self.sides[0].active():
                    try:
                        with guard.within(SECONDS_A_CALL), torch.no_grad():
                            values = Values(replace(general[0], input=shape, input_kind=kind), 0)
                            out = model(values.tensor("input", "x"))
                    except (Exception, guard.TookTooLong) as error:
                        options += [each for each in _resized(shape, kind, f"{error}") if each not in options]
                        continue
                shapes = [
                    tuple(v.shape) for _, v in observe.flatten(out) if torch.is_tensor(v) and v.is_floating_point()
                ]
                found += _by_name(out, shape, kind)
                for each in dict.fromkeys(shapes):
                    found += list(_around(each, shape, kind))
                break
        if models and not found:
            for model in models[:2]:
                for shape, kind in input_shapes(model)[:2]:
                    found += [
                        replace(scene, input=shape, input_kind=kind, target=(shape[0], *scene.target[1:]))
                        for scene in general
                        if scene.pred_kind == "logits" and scene.target
                    ]
                    found += [replace(general[0], input=shape, input_kind=kind, pred=shape, target=shape, target_kind=k)
                              for k in ("signed", "binary")]  # fmt: skip
        return found or general

    def _models(self, scene: Scene, problems: list[Any]) -> list[Any]:
        """The networks that take part, found by making the arguments once."""
        outcome = self.call(0, scene, 0)
        if isinstance(outcome.error, (CannotMake, *_FINAL)):
            problems.append(outcome.error)
        owner = outcome.owner
        made = [
            m for m in outcome.models if type(m).__name__ != "_Projection" and next(m.parameters(), None) is not None
        ]
        if isinstance(owner, torch.nn.Module) and next(owner.parameters(), None) is not None:
            made.append(owner)
        found: list[Any] = list(outcome.called)
        for model in reversed(made):
            found.append(model)
            found += [child for child in model.children() if next(child.parameters(), None) is not None]
        if not found and owner is not None and not isinstance(owner, torch.nn.Module):
            found = [
                v
                for v in vars(owner).values()
                if isinstance(v, torch.nn.Module) and next(v.parameters(), None) is not None
            ]
        distinct = {id(m): m for m in found if type(m).__name__ != "_Projection"}
        return list(distinct.values())[:4]

    # ---- the measurement

    def _measure(self, accepted: list[Scene]) -> dict[str, Any]:
        limit = SECONDS_A_UNIT
        result: dict[str, Any] = {
            "status": "ran",
            "inputs": 0,
            "worst": 0.0,
            "scenes": [],
            "extreme": [],
            "error": None,
        }
        result |= {"said": "", "where": "", "old": None, "new": None, "gradient": None, "gradient_said": ""}
        steps = False
        for scene in accepted:
            result["scenes"].append(scene.title())
            for seed, old in self._moderate(scene, limit):
                if self.clock() > limit and result["inputs"]:
                    break
                new = self.call(1, scene, seed, states=old.states)
                steps = steps or "optimizer" in old.used
                self._note(result, scene, old, new)
                result["inputs"] += 1
        result["optimizes"] = steps
        gives_logits = any(not key for key, _, _ in self.unit.get("gives", ()))
        for case, affected in CASES.items():
            if self.clock() > limit or gives_logits:  # large logits are no fault, and no cure, of what returns them
                break
            scene = accepted[0]
            old = self.call(0, scene, 1, case)
            if not old.used & affected:
                continue
            new = self.call(1, scene, 1, case, states=old.states)
            record: dict[str, Any] = {"case": case, "old": old.summary(), "new": new.summary(), "origin": None}
            if _bad(old) and _bad(new) and self.clock() < limit:
                origin = Origin(self.sides[1].folder)
                self.call(1, scene, 1, case, states=old.states, origin=origin)
                record["origin"] = origin.found()
            result["extreme"].append(record)
        result["worst"] = _json(result["worst"])
        return result

    def _moderate(self, scene: Scene, limit: float) -> list[tuple[int, Outcome]]:
        """What the old function gives, without the inputs that came close to where it is singular."""
        found: list[tuple[int, Outcome]] = []
        for seed in range(SEEDS):
            old = self.call(0, scene, seed)
            if old.error is None and old.finite:
                found.append((seed, old))
            if self.clock() > limit or (old.seconds > 0.5 and seed >= 1):
                break
        sizes = sorted(g for _, old in found if (g := old.gradient()) is not None and not math.isnan(g))
        if not sizes:
            return found
        most = 8 * sizes[len(sizes) // 2] or math.inf
        return [(seed, old) for seed, old in found if (g := old.gradient()) is None or g <= most] or found

    def _note(self, result: dict[str, Any], scene: Scene, old: Outcome, new: Outcome) -> None:
        if new.error is not None:
            result["error"] = result["error"] or describe(new.error)
            return
        difference = observe.Difference(old.leaves, new.leaves)
        if difference.worst > result["worst"]:
            result["worst"] = difference.worst
        if difference.said and not result["said"]:
            result["said"], result["where"] = difference.said, scene.title()
            result["old"], result["new"] = _json(old.value()), _json(new.value())
        if result["old"] is None:
            result["old"], result["new"] = _json(old.value()), _json(new.value())
        if not new.finite:
            result["error"] = result["error"] or "the result is not finite on moderate inputs"
        if not result["gradient_said"]:
            result["gradient_said"] = _gradient_difference(old, new)
        was, now = old.gradient(), new.gradient()
        if result["gradient"] is None and was is not None:
            result["gradient"] = [_json(was), _json(now)]


def _networks_of(modules: list[types.ModuleType]) -> list[tuple[Any, Any]]:
    """The networks and optimizers that files make when they are imported."""
    found: list[tuple[Any, Any]] = []
    for thing in [thing for module in modules for thing in list(vars(module).values())]:
        if isinstance(thing, torch.optim.Optimizer):
            if all(thing is not other for other, _ in found):
                found.append((thing, None))
        elif isinstance(thing, torch.nn.Module) and next(thing.parameters(), None) is not None and len(found) < 6:
            if all(thing is not other for other, _ in found):
                found.append((thing, {name: value.detach().clone() for name, value in thing.state_dict().items()}))
    return found


def _doubtful(error: BaseException | None) -> bool:
    """Whether another shape might do: the mended function may count on dimensions that the old one did not."""
    text = str(error).lower()
    return isinstance(error, (IndexError, RuntimeError, ValueError)) and any(
        word in text for word in ("dimension", "size", "shape", "must match", "broadcast")
    )


def _bad(outcome: Outcome) -> bool:
    """Not finite, the value or the gradient."""
    gradient = outcome.gradient()
    return outcome.error is None and (not outcome.finite or (gradient is not None and math.isnan(gradient)))


def _gradient_difference(old: Outcome, new: Outcome) -> str:
    """In words, where the gradient of the mended function is another one; empty where it is the same."""
    was, now = old.gradient(), new.gradient()
    if was is None or was == 0 or math.isnan(was):
        if now is not None and math.isnan(now):
            return "the gradient is not finite on moderate inputs"
        return ""
    if now is None:
        return "the gradient is gone: the result no longer depends on the input"
    if math.isnan(now):
        return "the gradient is not finite on moderate inputs"
    if now == 0 and was > 5e-5:
        return f"the gradient was {was:.3g} and is zero"
    if was < 5e-5:
        return ""  # rounding
    theirs = dict(new.gradients)
    for name, gradient in old.gradients:
        other = theirs.get(name)
        if gradient is None or name not in theirs:
            continue
        if other is None:
            other = torch.zeros_like(gradient)
        if other.shape != gradient.shape:
            continue
        apart = float((gradient - other).abs().max()) if gradient.numel() else 0.0
        if apart > 1e-3 * was + 1e-6:
            return f"the gradient of {name} differs by {apart:.3g} where its size is {was:.3g}"
    return ""


def _resized(shape: tuple[int, ...], kind: str, error: str) -> list[tuple[tuple[int, ...], str]]:
    """Images of the size that a linear layer behind convolutions was made for, from how it missed."""
    missed = re.search(r"shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)", error)
    if missed is None or len(shape) != 4 or shape[-1] != shape[-2]:
        return []
    side = round(shape[-1] * math.sqrt(int(missed[2]) / int(missed[1])))
    return [((*shape[:2], s, s), kind) for s in (side, side + 1, side + 2, side - 1) if 4 <= s <= 300]


def _by_name(out: Any, shape: tuple[int, ...], kind: str) -> list[Scene]:
    """What a network of several named outputs could be compared with: a target for each, by its name."""
    held = out if isinstance(out, dict) else out._asdict() if hasattr(out, "_asdict") else getattr(out, "__dict__", {})
    outputs = [(str(k), tuple(v.shape)) for k, v in held.items() if torch.is_tensor(v) and v.is_floating_point()]
    if not 2 <= len(outputs) <= 8:
        return []
    options = []
    for name, size in outputs:
        other = tuple(s for i, s in enumerate(size) if i == 0 or s != 1)
        if len(size) > 1 and size[1] > 1:
            options.append([(name, size[:1] + size[2:], f"index:{size[1]}"), (name, size, "fraction")])
        else:
            options.append([(name, each, "fraction") for each in dict.fromkeys((size, other))])
    first = outputs[0][1]
    base = Scene("network", first, first, input=shape, input_kind=kind, mask=first)
    return [replace(base, named=named) for named in itertools.islice(itertools.product(*options), 32)]


def _around(out: tuple[int, ...], shape: tuple[int, ...], kind: str) -> Iterator[Scene]:
    """What targets a network's output could be compared with."""
    base = Scene("network", out, out, input=shape, input_kind=kind, mask=out)
    rest = out[:1] + out[2:]
    if len(out) > 1 and out[1] > 1:
        yield replace(base, target=rest, target_kind="index", mask=rest)
    if len(out) > 2 and out[-1] > 1:
        yield replace(base, target=out[:-1], target_kind="index", mask=out[:-1])
    squeezed = tuple(s for i, s in enumerate(out) if i == 0 or s != 1)
    for target_kind in ("binary", "positive", "signed", "distribution"):
        if target_kind == "distribution" and len(out) < 2:
            continue
        yield replace(base, target_kind=target_kind)
        if squeezed != out and target_kind != "distribution":
            yield replace(base, target=squeezed, target_kind=target_kind, mask=squeezed)
        if len(out) == 1:
            yield replace(base, target=(*out, 1), target_kind=target_kind)
    if shape != out and not kind.startswith("index"):
        yield replace(base, target=shape, target_kind="signed")


def _inverts(source: str) -> bool:
    return "~" in source or "bool" in source.lower()


def _rank(source: str) -> int | None:
    """How many dimensions a function counts on, by what it unpacks or sums over."""
    unpacked = re.search(r"^\s*(\w+(?:\s*,\s*\w+)+)\s*=\s*\w+\.(?:shape|size\(\))\s*$", source, re.MULTILINE)
    if unpacked:
        return unpacked[1].count(",") + 1
    over = re.search(r"dim\s*=\s*[\[(]\s*([\d\s,-]+)[\])]|\.(?:sum|mean)\(\s*[\[(]([\d\s,-]+)[\])]", source)
    if over:
        numbers = [int(n) for n in re.findall(r"-?\d+", over[1] or over[2])]
        if numbers and max(numbers) >= 1:
            return max(numbers) + 1
    return None


def _overlap(lines: set[tuple[str, int]], wanted: set[Any]) -> bool:
    return any(file == f and first <= line <= last for file, line in lines for f, first, last in wanted)


def _bounded(source: str) -> bool:
    """Whether a parameter is used as a probability: ``1 - p``, an overlap of products, and no sigmoid of its own."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return False
    function = next((n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))), None)
    if function is None:
        return False
    given = {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    for statement in function.body:  # reassigned whatever happens: no longer what was given
        if isinstance(statement, ast.Assign):
            given -= {n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("clamp", "clip"):
            numbers = [n.value for n in (*node.args, *(k.value for k in node.keywords)) if isinstance(n, ast.Constant)]
            if numbers[-2:] == [0, 1]:
                return True
    raw = {"cross_entropy", "binary_cross_entropy_with_logits", "log_softmax", "softmax", "logsigmoid", "log_sigmoid"}
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and node.attr in raw:
            return False
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Constant):
            if node.left.value == 1 and isinstance(node.right, ast.Name) and node.right.id in given:
                held = set(roles.words(node.right.id))
                if (
                    not held & {"target", "targets", "label", "labels", "true", "y", "gt", "mask", "t"}
                    or "pred" in held
                ):
                    return True
    return False


def _hopeless(problems: list[Any]) -> bool:
    """Whether other inputs would change nothing."""
    last = problems[-1] if problems else None
    if isinstance(last, _FINAL):
        return True
    if len(problems) >= 60 and len({str(p) for p in problems[-60:]}) == 1:
        return True
    same = [p for p in problems if isinstance(p, CannotMake)]
    return bool(same) and same[-1] is last and len(same) >= 3


def _reason(problems: list[Any], side: Side) -> str:
    """Why nothing could be run: the weightiest reason, not the last."""

    def weight(problem: Any) -> int:
        order: tuple[Any, ...] = (
            NeedsPackage,
            guard.Refused,
            guard.TookTooLong,
            CannotMake,
            ModuleNotFoundError,
            FileNotFoundError,
        )
        for number, kind in enumerate(order):
            if isinstance(problem, kind):
                return number
        return len(order) + (1 if isinstance(problem, str) else 2)

    if not problems:
        return "no inputs are known that it runs on"
    first = min(problems, key=weight)
    if isinstance(first, str):
        return first
    name = getattr(first, "name", None) or ""
    if isinstance(first, NameError) and name in side.unmade:
        return f"`{name}` could not be defined ({side.unmade[name]})"
    if isinstance(first, (NeedsPackage, CannotMake)):
        return str(first)
    if isinstance(first, ModuleNotFoundError):
        return f"needs the package {first.name}, which is not installed"
    if isinstance(first, guard.Refused):
        return str(first)
    if isinstance(first, FileNotFoundError) and first.filename is not None:
        return f"needs the file {first.filename!r}, which is not there"
    if isinstance(first, (guard.TookTooLong, SystemExit)):
        return describe(first)
    return f"no generated input fits ({describe(first)})"


def describe(error: BaseException) -> str:
    """An exception in a few words."""
    if isinstance(error, guard.TookTooLong):
        return f"takes longer than {SECONDS_A_CALL:.0f} s"
    if isinstance(error, NeedsPackage):
        return str(error)
    if isinstance(error, SystemExit):
        return "it ends the program: command line arguments are missing"
    text = f"{error}".strip().partition("\n")[0][:140]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# ---- surroundings of a call


@contextlib.contextmanager
def quiet(out: io.StringIO | None = None) -> Iterator[list[Any]]:
    """Prints go to ``out``, warnings into the list that this gives."""
    sink = out or io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("always")
        yield caught


@contextlib.contextmanager
def running(snapshot: Any = None) -> Iterator[None]:
    """The time in which stand-ins refuse to be called, devices are the CPU, and ``backward`` is noted."""
    StandIn.running = True
    previous = torch.Tensor.backward
    grad = torch.is_grad_enabled()

    def backward(self: Any, *given: Any, **named: Any) -> None:
        _differentiated.append(self.detach().clone())
        previous(self, *given, **named)
        if snapshot is not None:
            snapshot()

    def note(network: Any, _: Any) -> None:
        if len(_called) < 4 and all(network is not other for other in _called):
            if type(network).__name__ != "_Projection" and next(network.parameters(), None) is not None:
                _called.append(network)

    export = torch.onnx.export
    torch.onnx.export = lambda *_, **__: None  # a file more, in which nobody looks
    torch.Tensor.backward = backward
    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        with _OnCpu():
            yield
    finally:
        torch.Tensor.backward = previous
        torch.onnx.export = export
        hook.remove()
        StandIn.running = False
        torch.set_grad_enabled(grad)


class _OnCpu(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
    """``cuda`` means the CPU here."""

    def __torch_function__(self, function: Any, kinds: Any, given: Any = (), named: Any = None) -> Any:
        named = {k: _cpu(v) if k == "device" else v for k, v in (named or {}).items()}
        name = getattr(function, "__name__", "")
        if name == "cuda" and given:
            return given[0]
        if name == "to":
            given = tuple(_cpu(each) for each in given)
        return function(*given, **named)


def _cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu") if value.type in ("cuda", "mps", "xpu") else value
    if isinstance(value, str) and value.partition(":")[0] in ("cuda", "mps", "xpu"):
        return "cpu"
    return value


@contextlib.contextmanager
def tracing(folder: str, lines: set[tuple[str, int]]) -> Iterator[None]:
    """Note which lines of a folder's files are run."""

    def local(frame: Any, event: str, _: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def enter(frame: Any, event: str, _: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(folder) else None

    previous = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(previous)


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)  # of the CPU alone: the others are not used here
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        with contextlib.suppress(Exception):
            numpy.random.seed(seed)
