"""In which mode a network runs: training mode where it is only asked, evaluation mode where it is trained.

A network is made in training mode; ``eval()`` and ``train()`` switch it, wherever they stand. Here a run
(``training.py``) is gone through in its order, with what is known of each network's mode at each of its calls. A mode
that hangs on something unknown is unknown, and nothing is told.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lossproof.source.facts import WrongMode
from lossproof.source.frames import Frame
from lossproof.source.lower import lower, lower_class
from lossproof.source.patterns import Pattern
from lossproof.source.syntax import ClassInfo, Function, ParsedModule, dotted
from lossproof.source.training import (
    NO_GRADIENT,
    Branch,
    Event,
    Item,
    Loop,
    Path,
    Thing,
    Trainings,
    comes_through,
    flat,
    is_library,
)
from lossproof.source.values import Cls, Const, Func, Inst, Lib, Ref, Seq, Thunk, Value, alternatives

_ASKS = Pattern(
    r"(?:^|_)(?:val|valid\w*|eval\w*|test\w*|infer\w*|inference|predict\w*|dev|holdout|score|benchmark|deploy|serve)(?:_|$|\d)",
    re.I,
)
# Runs that are in training mode on purpose.
_ON_PURPOSE = Pattern(
    r"(?:^|_)mc(?:_|$)|monte|drop|uncertain|bayes|stochastic|(?:^|_)bn(?:_|$)|batch_?norm|stat|calib|precise|warm|init|attack"
    r"|rollout|collect|explor|perturb|pseudo|profile|flops|summary|bench|speed|latency|shape",
    re.I,
)
_DEPENDENT = Pattern(
    r"^(?:(?:Alpha|Feature\w*)?Dropout\w*|dropout\w*|(?:Sync|Lazy)?BatchNorm\w*|\w*batch_norm\w*|DropPath|drop_path"
    r"|StochasticDepth|DropBlock\w*|RReLU|Transformer|Transformer(?:En|De)coderLayer|ABN|InPlaceABN\w*)$"
)
_PLAIN = Pattern(
    r"^(?:Linear|Conv\w*|Embedding\w*|LayerNorm|GroupNorm|InstanceNorm\w*|RMSNorm|ReLU\w*|GELU|SiLU|ELU|SELU|CELU|Tanh|Sigmoid"
    r"|LeakyReLU|PReLU|Softmax|LogSoftmax|Softplus|Flatten|Unflatten|Identity|MaxPool\w*|AvgPool\w*|Adaptive\w+Pool\w*"
    r"|Upsample\w*|Sequential|ModuleList|ModuleDict|Parameter|ParameterList|LSTM|GRU|RNN|LSTMCell|GRUCell|MultiheadAttention"
    r"|PixelShuffle|ZeroPad\w*|ReflectionPad\w*|Bilinear|super|Normal|Categorical|Mish|Hardtanh|Module|range|len|zip"
    r"|\w*Tensor|Bernoulli|Independent|Uniform|ValueError|NotImplementedError|RuntimeError|OrderedDict)$"
)
_NETWORK_NAME = Pattern(r"model|net(?:work)?(?:_|$|[A-Z0-9])|^net|encoder|backbone|classifier$", re.I)
# What is called by such a name computes a loss, prepares data or makes something.
_NO_NETWORK = Pattern(
    r"crit|loss|transform|metric|augment|sched|optimizer$|(?:_|^)(?:fn|func|cls)$|check|callback|factory|hook|handler",
    re.I,
)
# What ``nn.Module`` brings.
_OF_MODULES = {
    "register_buffer", "register_parameter", "register_module", "parameters", "named_parameters", "modules", "children",
    "named_modules", "buffers", "train", "eval", "to", "cuda", "cpu", "half", "float", "apply", "state_dict",
    "load_state_dict", "add_module", "zero_grad", "log", "log_dict", "save_hyperparameters",
}  # fmt: skip
# What a network that is handed to a helper in another file is called.
_HANDED = Pattern(
    r"model|net|enc|dec|backbone|classif|clf|^[a-z]$|^[A-Z]+$|^[GD]_|^m_|gen|disc|crit|actor|polic|agent|student|teacher"
    r"|module|predict|head|learner|self|trunk|ema|fn$|func|arch|system|algo|extract|embed|feat",
    re.I,
)
MAX_HELPERS = 3
_SWITCHED_OFF = {"MultiheadAttention", "LSTM", "GRU", "RNN"}
_LOADS = Pattern(r"torch\.load\(|pretrained=True|weights=[\"']\w|weights=\w+\.(?:DEFAULT|IMAGENET)")
_SWITCHES = Pattern(r"\.eval\b|\.train\b|\btraining\b|backward\(")
_HINTS = NO_GRADIENT | {"set_grad_enabled"}
_HARMLESS = {"prepare", "unwrap_model", "DataParallel", "DistributedDataParallel", "watch", "summary", "compile", "to"}
_FRAMEWORKS = ("pytorch_lightning.", "lightning.", "transformers.", "fastai.", "ignite.", "skorch.", "torchmetrics.")
_LAYERLESS = (
    "builtins.",
    "torch.",
    "functools.",
    "itertools.",
    "math.",
    "numpy.",
    "copy.",
    "collections.",
    "os.",
    "re.",
)
_BUILTINS = frozenset(dir(builtins))
MAX_THINGS = 16
State = frozenset[tuple[str, "Event | None"]]


class Modes:
    def __init__(self, trainings: Trainings) -> None:
        self.trainings = trainings
        self.ev = trainings.ev
        self.contexts = trainings.contexts
        self._dependent: dict[ClassInfo | Function, bool | None] = {}
        # Functions that call a network through what they call.
        self._delegates: dict[Function, bool] = {}
        # Files that load weights and do not train.
        self._loading: dict[ParsedModule, bool] = {}

    def facts(self, function: Function) -> Iterator[WrongMode]:
        if not self._hints(function):
            return
        if function.cls is not None:
            base = self.ev.library_base(Cls(function.cls))
            if base.startswith(_FRAMEWORKS):
                return
        told: set[int] = set()
        for tree in self.trainings.trees(function):
            for fact in self._faults(tree, function):
                if id(fact.node.at) not in told:
                    told.add(id(fact.node.at))
                    yield fact

    def _hints(self, function: Function) -> bool:
        """What is cheap to see: gradients off, weights loaded, a name that says so."""
        if function.name in ("forward", "__init__"):
            return False
        if function.cls is not None and any(dotted(b).endswith("Optimizer") for b in function.cls.node.bases):
            return False
        names = {getattr(c.func, "attr", None) or getattr(c.func, "id", "") for c in function.calls}
        if names & {"backward", "manual_backward"}:
            return True
        quiet = names & _HINTS or any(d.rpartition(".")[2] in NO_GRADIENT for d in function.decorators)
        if quiet and (_calls_a_value(function) or self._helpers_do(function)):
            return True
        if _ASKS.search(function.name) is not None and _calls_a_value(function):
            return True
        if function.cls is not None and "forward" in function.cls.methods:
            return False
        module = function.module
        if module not in self._loading:
            text = module.source
            self._loading[module] = "backward(" not in text and ".eval()" not in text and bool(_LOADS.search(text))
        return self._loading[module] and _calls_a_value(function)

    def _helpers_do(self, function: Function, depth: int = 0) -> bool:
        """Whether a method of the same object, or a function of the project's, that it uses calls such a thing."""
        known = self._delegates.get(function)
        if known is not None:
            self.ev.ledger.recall(("delegates", function))
            return known
        self._delegates[function] = False
        with self.ev.ledger.entry(("delegates", function)):
            found = self._delegates[function] = any(
                _calls_a_value(helper, handed=True) or (depth < MAX_HELPERS and self._helpers_do(helper, depth + 1))
                for helper in self._helpers(function)
            )
        return found

    def _helpers(self, function: Function) -> Iterator[Function]:
        self.ev.ledger.mask |= function.rests
        told: set[str] = set()
        for call in function.calls:
            callee = call.func
            word = dotted(callee)
            if word in told:
                continue
            told.add(word)
            helper: Any = None
            if isinstance(callee, ast.Name):
                helper = function.module.top.get(callee.id)
                imported = function.module.imports.get(callee.id)
                if helper is None and imported is not None and not is_library(imported) and _hands_network(call):
                    value = self.ev.global_value(function.module, callee.id)
                    helper = value.function if isinstance(value, Func) else None
            elif isinstance(callee, ast.Attribute) and isinstance(callee.value, ast.Name) and function.cls is not None:
                if callee.value.id != function.first_param or callee.attr in _OF_MODULES:
                    continue
                classes = [Cls(function.cls), *(Cls(info) for info in self.contexts.subclasses(function.cls))]
                for cls in classes:
                    member = self.ev.class_member(cls, callee.attr)
                    if isinstance(member, Func) and member.function is not helper:
                        self.ev.ledger.mask |= member.function.rests
                        yield member.function
            if isinstance(helper, Function):
                self.ev.ledger.mask |= helper.rests
                yield helper

    def _faults(self, tree: Sequence[Item], function: Function) -> Iterator[WrongMode]:
        events = list(flat(tree))
        trained = any(e.kind == "backward" for e, _ in events)
        things: dict[frozenset[Any], list[tuple[Event, Path]]] = {}
        for e, path in events:
            if e.kind == "forward" and e.thing is not None and e.thing.tokens:
                things.setdefault(e.thing.tokens, []).append((e, path))
        for forwards in list(things.values())[:MAX_THINGS]:
            thing = forwards[0][0].thing
            assert thing is not None
            if not any(comes_through(e, function) for e, _ in forwards) or not self._may_be_network(thing, events):
                continue
            dependent = self.dependence(thing)
            if dependent is False:
                continue
            start: State = frozenset({(self._at_first(thing), None)})
            found = list(self._told(tree, function, forwards, start, dependent, events, trained))
            if found:
                before = self._before(thing, start, events)
                if before != start:
                    found = list(self._told(tree, function, forwards, before, dependent, events, trained))
            yield from found

    def _told(
        self,
        tree: Sequence[Item],
        function: Function,
        forwards: Sequence[tuple[Event, Path]],
        start: State,
        dependent: bool | None,
        events: Sequence[tuple[Event, Path]],
        trained: bool,
    ) -> Iterator[WrongMode]:
        thing = forwards[0][0].thing
        assert thing is not None
        seen: dict[int, list[State]] = {}
        self._run(tree, thing, start, seen)
        for e, path in forwards:
            if comes_through(e, function) and id(e) in seen:
                fact = self._judged(e, path, seen[id(e)], thing, dependent, events, trained)
                if fact is not None:
                    yield fact

    def _before(self, thing: Thing, start: State, events: Sequence[tuple[Event, Path]]) -> State:
        """A network's mode as it is found: what makes it may switch it too, and need not be a part of the run."""
        run = {frame.function for e, _ in events for frame in e.frame.chain()}
        state = start
        for maker in self._makers(thing.values):
            if maker is None:
                return frozenset({("open", None)})  # in a class body
            if maker not in run:
                run.add(maker)
                self.ev.ledger.mask |= maker.rests
                for tree in self.trainings.alone(maker):
                    state = self._run(tree, thing, state, {})
        return state

    def _makers(self, values: Sequence[Value]) -> Iterator[Function | None]:
        for v in values:
            if isinstance(v, Lib):
                if v.at is not None:
                    maker = self.trainings.holder(v)
                    yield maker if maker is not None and id(v.at) in lower(maker).by_call else None
            elif isinstance(v, Inst) and v.ctor is not None and v.ctor.site is not None:
                yield v.ctor.site[0].function
            elif isinstance(v, Seq):
                parts = [*v.head, *([v.rest] if v.rest is not None else []), *v.tail]
                yield from self._makers([inner for part in parts for _, inner in alternatives(part)])

    # ---- the run

    def _run(self, items: Sequence[Item], thing: Thing, state: State, seen: dict[int, list[State]]) -> State:
        for item in items:
            if isinstance(item, Loop):
                once = self._run(item.body, thing, state, seen)
                state = state | (self._run(item.body, thing, once, seen) if once != state else once)
            elif isinstance(item, Branch):
                state = self._run(item.yes, thing, state, seen) | self._run(item.no, thing, state, seen)
            elif item.kind == "forward":
                if item.thing is not None and item.thing.same(thing):
                    seen.setdefault(id(item), []).append(state)
                elif item.detail == "perhaps" and _is_handed(item, thing):
                    state = frozenset({("open", item)})
            elif item.kind == "opaque":
                if item.detail != "optimizer" and item.frame.function.name != "__init__":
                    state = state | {("open", item)}
            elif item.kind == "mode" and item.thing is not None:
                if item.thing.same(thing):
                    state = frozenset({(str(item.detail), item)})
                elif item.detail != "train" and self._may_cover(item, thing):
                    state = frozenset({("open", item)})
                elif item.detail == "train" and self._contains(item.thing, thing):
                    state = frozenset({("train", item)})
        return state

    def _may_cover(self, event: Event, thing: Thing) -> bool:
        """Whether what is switched is, or holds, or may be the network."""
        switched = event.thing
        assert switched is not None
        return not switched.surely_other(thing) or self._contains(switched, thing)

    def _contains(self, whole: Thing, part: Thing) -> bool:
        for w in whole.values:
            if not isinstance(w, Inst):
                continue
            if ("self", id(w.cls.info)) in {t[:2] for t in part.tokens}:
                return True
            for p in part.values:
                if not isinstance(p, Inst):
                    return True
                if p.cls.info is w.cls.info:
                    continue
                if any(_builds(c.info, p.cls.info.name) for c in self.ev.mro(w.cls)) or self._is_given(w, part):
                    return True
        return False

    def _is_given(self, whole: Inst, part: Thing) -> bool:
        """Whether an object is built with the network in hand."""
        site = whole.ctor.site if whole.ctor is not None else None
        if site is None or site[1].op != "call":
            return False
        for node in (*site[1].args[1], *(n for _, n in site[1].args[2])):
            if self.trainings.tokens(self.trainings.values(site[0], node)) & part.tokens:
                return True
        return False

    @staticmethod
    def _at_first(thing: Thing) -> str:
        for v in thing.values:
            if isinstance(v, Lib):
                if v.name.endswith(("from_pretrained", "from_config", "pipeline", "jit.load", "hub.load")):
                    return "open"
                if v.name.startswith(
                    ("transformers.", "diffusers.", "sentence_transformers.", "onnxruntime.", "openvino")
                ):
                    return "open"
                if v.name.partition(".")[0] not in (
                    "torch",
                    "torchvision",
                    "timm",
                    "segmentation_models_pytorch",
                    "monai",
                ):
                    return "open"
        return "new"

    # ---- judgement

    def _judged(
        self,
        e: Event,
        path: Path,
        states: list[State],
        thing: Thing,
        dependent: bool | None,
        events: Sequence[tuple[Event, Path]],
        trained: bool,
    ) -> WrongMode | None:
        loops = [part for part, _ in path if isinstance(part, Loop)]
        innermost = loops[-1] if loops else None
        trains_here = innermost is not None and _has_backward(innermost)
        chain = [f.function.name for f in e.frame.chain()]
        if any(_ON_PURPOSE.search(name) for name in chain) or _ON_PURPOSE.search(thing.text):
            return None
        sure = dependent is True
        modes = {mode for state in states for mode, _ in state}
        if trains_here and not e.quiet:
            if modes <= {"new", "train"} and self._phased(e, path, loops) and self._is_trained(thing, events):
                cause = next((c for state in states for m, c in state if m == "train"), None)
                return WrongMode(self.ev, e, "train" if cause is not None else "never", cause, sure)
            return self._resumed(e, states, loops, thing, sure)
        asked = _ASKS.search(e.frame.function.name) is not None or any(_ASKS.search(n) for n in chain[:2])
        asked = asked or any(_ASKS.search(w) for loop in loops[-1:] for w in _source_words(loop))
        if not modes <= {"new", "train"}:
            return None
        cause = next((c for state in states for m, c in state if m == "train"), None)
        if trained:
            if trains_here and (not asked or _backward_beside(e, innermost)):
                return None
            if not (asked or (e.quiet and sure and innermost is not None)):
                return None
            if not e.quiet and not asked:
                return None
            if not self._is_trained(thing, events):
                return None
            if not asked and not e.quiet:
                return None
            return WrongMode(self.ev, e, "train" if cause is not None else "never", cause, sure)
        if modes == {"new"} or cause is not None:
            loaded = self._loaded(thing, events, e.frame.function.module)
            if loaded is not None:
                if cause is not None and not asked:
                    return None
                return WrongMode(self.ev, e, "loaded", loaded if isinstance(loaded, Event) else None, sure)
            if asked and e.quiet and innermost is not None and self._left_to_callers(e, thing):
                return WrongMode(self.ev, e, "train" if cause is not None else "never", cause, sure)
        return None

    def _resumed(self, e: Event, states: list[State], loops: list[Loop], thing: Thing, sure: bool) -> WrongMode | None:
        """Training in eval mode from the second epoch on: an ``eval()`` later in the loop is never undone."""
        if len(states) < 2 or any(m in ("eval", "open") for m, _ in states[0]):
            return None
        last = states[-1]
        causes = [c for m, c in last if m == "eval" and c is not None]
        if not causes or any(m == "open" for m, _ in last):
            return None
        undone = [c for m, c in last if m == "train" and c is not None and _within(c, loops[0])]
        for cause in causes:
            # The innermost loop that goes from the one to the other.
            loop = next((loop for loop in reversed(loops) if _within(cause, loop)), None)
            if loop is None or any(_within(c, loop) for c in undone):
                continue
            if not undone or _every_so_often(cause, loop):
                return WrongMode(self.ev, e, "resumed", cause, sure)
        return None

    def _phased(self, e: Event, path: Path, loops: list[Loop]) -> bool:
        """Whether what a loop trains and validates by turns, ``for phase in ("train", "val")``, goes through here."""
        phases = {name for loop in loops for name in self._phase_names(loop)}
        if not phases:
            return False
        tests = [(part.frame, part.test) for part, _ in path if isinstance(part, Branch) and part.test is not None]
        if any(self._reads(frame, test, phases) for frame, test in tests):
            return False  # what happens in one of the phases
        for inner, around in flat(loops[-1].body):
            if inner.kind == "backward":
                tests = [(q.frame, q.test) for q, _ in around if isinstance(q, Branch) and q.test is not None]
                if any(self._reads(frame, test, phases) for frame, test in tests):
                    return True
        return False

    def _phase_names(self, loop: Loop) -> Iterator[tuple[Function, str]]:
        at = loop.at
        if not isinstance(at, ast.For):
            return
        source: Any = at.iter
        if isinstance(source, ast.Name):
            source = _only_assignment(loop.frame.function, source.id)
        words = (
            [p.value for p in ast.walk(source) if isinstance(p, ast.Constant) and isinstance(p.value, str)]
            if source
            else []
        )
        if any(_ASKS.search(w) for w in words) and any(re.search("train", w, re.I) for w in words):
            for part in ast.walk(at.target):
                if isinstance(part, ast.Name):
                    yield loop.frame.function, part.id

    def _reads(self, frame: Frame, test: Any, phases: set[tuple[Function, str]], depth: int = 0) -> bool:
        """Whether a test asks which phase it is, if need be by a name or a parameter that stands for it."""
        for part in ast.walk(test):
            if not isinstance(part, ast.Name):
                continue
            if (frame.function, part.id) in phases:
                return True
            given = frame.base().args.get(part.id)
            if depth < 4 and isinstance(given, Thunk) and isinstance(given.node.at, ast.expr):
                if self._reads(given.frame, given.node.at, phases, depth + 1):
                    return True
            source = _only_assignment(frame.function, part.id) if depth < 4 else None
            if source is not None and self._reads(frame, source, phases, depth + 1):
                return True
        return False

    def _is_trained(self, thing: Thing, events: Sequence[tuple[Event, Path]]) -> bool:
        """Whether the network is one that the run trains (and not a frozen one beside it)."""
        for e, path in events:
            if e.kind == "forward" and e.thing is not None and e.thing.same(thing) and not e.quiet:
                loops = [p for p, _ in path if isinstance(p, Loop)]
                if any(_has_backward(loop) for loop in loops[-2:]):
                    return True
            if e.kind == "mode" and e.detail == "train" and e.thing is not None and e.thing.same(thing):
                return True
        return False

    def _loaded(self, thing: Thing, events: Sequence[tuple[Event, Path]], asking: ParsedModule) -> Event | bool | None:
        for e, _ in events:
            if e.kind == "load" and e.thing is not None and e.thing.same(thing):
                return e
        for v in thing.values:
            if isinstance(v, Lib):
                if v.name == "torch.load":
                    return True
                for key in ("pretrained", "weights"):
                    given = v.kwargs.get(key)
                    if given is not None and not (isinstance(given, Const) and not given.v):
                        return True
        return self._loaded_at_the_top(thing, asking)

    def _loaded_at_the_top(self, thing: Thing, asking: ParsedModule) -> Event | None:
        """Where a global network gets its weights beside the line that makes it, and nobody switches it by its name.

        It may be a helper's line, of which the file that asks the network keeps the answer.
        """
        for maker in self._makers(thing.values):
            if maker is None:
                continue
            top = maker is maker.module.body
            if not top and all(holder is not asking.body for _, holder in asking.call_index.get(maker.name, ())):
                continue
            self.ev.ledger.mask |= maker.rests | asking.body.rests
            files = {maker.module} if top else {asking}
            if any(_SWITCHES.search(f.source) or _handed_on(f, thing.text) for f in files):
                return None
            for tree in self.trainings.alone(maker):
                for e, _ in flat(tree):
                    if e.kind == "load" and e.thing is not None and e.thing.same(thing):
                        return None if self._switched_by_importers(maker.module, thing.text) else e
        return None

    def _switched_by_importers(self, module: ParsedModule, name: str) -> bool:
        """Whether a file that imports a global network, or the file it is in, switches something's mode."""
        return any(
            there is not module and (name in there.imports or module.name.rpartition(".")[2] in there.imports)
            for word in ("eval", "train")
            for there, _, _ in self.contexts.sites(word, module)
        )

    def _left_to_callers(self, e: Event, thing: Thing) -> bool:
        """A validation function that nobody is seen to call, in a file that trains: nobody switches the mode."""
        frame = e.frame.base()
        if frame.site is not None or not any(t[0] in ("param", "self") for t in thing.tokens):
            return False
        module = frame.function.module
        return any(name in module.call_index for name in ("backward", "manual_backward"))

    # ---- networks

    def _may_be_network(self, thing: Thing, events: Sequence[tuple[Event, Path]]) -> bool:
        if re.search(r"crit|loss|transform|metric|augment|sched", thing.text, re.I):
            return False
        known = [v for v in thing.values if isinstance(v, (Inst, Lib, Seq))]
        if known:
            for v in known:
                if isinstance(v, Lib):
                    word = v.name.rpartition(".")[2]
                    if v.name.startswith("torch.nn.") or word.endswith(("Loss", "Criterion")):
                        return False
                    if v.name != "torch.load" and not v.name.startswith(
                        ("torchvision.models", "timm.", "segmentation_")
                    ):
                        return False
            return True
        if any(e.kind in ("mode", "load") and e.thing is not None and e.thing.same(thing) for e, _ in events):
            return True
        return _NETWORK_NAME.search(thing.text) is not None

    def dependence(self, thing: Thing) -> bool | None:
        """Whether a network does something else in training mode; None where that is not known."""
        answers = [self._depends(v, 0) for v in thing.values] or [None]
        if any(a is True for a in answers):
            return True
        return None if any(a is None for a in answers) else False

    def _depends(self, v: Value, depth: int) -> bool | None:
        if depth > 6:
            return None
        if isinstance(v, Inst):
            found: bool | None = False
            for c in self.ev.mro(v.cls):
                one = self._class_depends(c.info, depth)
                if one is True:
                    return True
                found = None if one is None else found
            site = v.ctor.site if v.ctor is not None else None
            if site is not None and site[1].op == "call":
                # A network that is handed in.
                for node in (*site[1].args[1], *(n for _, n in site[1].args[2])):
                    for part in self.trainings.values(site[0], node):
                        if isinstance(part, (Inst, Seq)) or (isinstance(part, Lib) and "nn." in part.name):
                            one = self._depends(part, depth + 1)
                            if one is True:
                                return True
                            found = None if one is None else found
            if not self.ev.library_base(v.cls).startswith("torch.nn.") and self.ev.library_base(v.cls):
                return None if found is False else found
            return found
        if isinstance(v, Lib):
            word = v.name.rpartition(".")[2]
            if _DEPENDENT.match(word):
                return True
            if v.name.startswith("torch.nn."):
                return False
            if v.name.startswith("torchvision.models."):
                return True
            return None
        if isinstance(v, Seq):
            found = False
            for part in [*v.head, *([v.rest] if v.rest is not None else []), *v.tail]:
                for _, inner in alternatives(part):
                    one = self._depends(inner, depth + 1)
                    if one is True:
                        return True
                    found = None if one is None else found
            return found
        return None

    def _class_depends(self, info: ClassInfo | Function, depth: int) -> bool | None:
        if info in self._dependent:
            self.ev.ledger.recall(("dependence", info))
            return self._dependent[info]
        self._dependent[info] = None
        with self.ev.ledger.entry(("dependence", info)):
            self._dependent[info] = self._look(info, depth)
        return self._dependent[info]

    def _look(self, info: ClassInfo | Function, depth: int) -> bool | None:
        self.ev.ledger.mask |= info.rests
        functions = [info] if isinstance(info, Function) else list(info.methods.values())
        found: bool | None = False
        for function in functions:
            self.ev.ledger.mask |= function.rests
            for part in ast.walk(function.node):
                if isinstance(part, ast.Attribute) and part.attr == "training":
                    return True
            for call in function.calls:
                one = self._call_depends(function, call, depth)
                if one is True:
                    return True
                found = None if one is None else found
        if isinstance(info, ClassInfo):
            # Layers that stand in the class body, by name: ``norm = nn.BatchNorm2d``
            lower_class(info)
            called = {id(call.func) for function in functions for call in function.calls}
            for part in ast.walk(info.node):
                if isinstance(part, ast.Attribute) and _DEPENDENT.match(part.attr) and part.attr[:1].isupper():
                    if id(part) not in called:
                        return True
        return found

    def _call_depends(self, function: Function, call: ast.Call, depth: int) -> bool | None:
        word = dotted(call.func).rpartition(".")[2]
        if _DEPENDENT.match(word):
            owner = call.func.value if isinstance(call.func, ast.Attribute) else None
            if isinstance(owner, ast.Name) and function.cls is not None and owner.id == function.first_param:
                return False  # the layer is looked at where it is made
            given = (k.value for k in call.keywords if k.arg in ("p", "dropout", "drop_prob"))
            return _is_on(function, call.args[0] if call.args else next(given, None))
        if word in _SWITCHED_OFF:
            rate = next((k.value for k in call.keywords if k.arg == "dropout"), None)
            return False if rate is None else _is_on(function, rate)
        if not word:
            # ``super().__init__()``, ``self.blocks[i](x)``; but ``getattr(nn, kind)(…)`` may make anything.
            return None if isinstance(call.func, ast.Call) and function.name == "__init__" else False
        if depth > 5:
            return None
        if _PLAIN.match(word):
            return False
        if not (word[:1].isupper() or isinstance(call.func, ast.Name)):
            return dotted(call.func).startswith(("torchvision.models", "models.", "timm."))
        value = self.ev.global_value(function.module, word) if isinstance(call.func, ast.Name) else None
        for _, v in alternatives(value) if value is not None else ():
            if isinstance(v, Cls):
                return self._class_depends(v.info, depth + 1)
            if isinstance(v, Func):
                return self._class_depends(v.function, depth + 1)
            if isinstance(v, Ref):
                if v.name.startswith(_LAYERLESS):
                    return False
                return True if v.name.startswith("torchvision.models") else None
        module = function.module
        if isinstance(call.func, ast.Name) and not (
            word in module.top or word in module.imports or module.star_imports or word in _defined_inside(function)
        ):
            return False  # a variable: what it holds is made elsewhere
        return None if word[:1].isupper() else False


def _calls_a_value(function: Function, handed: bool = False) -> bool:
    """Whether something is called that is no function, class or import: a parameter, a variable, an attribute.

    ``handed``: a variable counts only where it is a parameter, or is called like a network.
    """
    module, cls = function.module, function.cls
    own: set[str] | None = None
    for call in function.calls:
        callee = call.func
        if isinstance(callee, ast.Name):
            name = callee.id
            if (
                name in module.top
                or name in module.imports
                or name in _BUILTINS
                or _NO_NETWORK.search(name) is not None
            ):
                continue
            if own is None:
                own = _defined_inside(function)
            if name not in own and (
                not handed or _NETWORK_NAME.search(name) is not None or _is_parameter(function, name)
            ):
                return True
        elif isinstance(callee, ast.Attribute):
            if callee.attr in ("forward", "module", "predict"):
                return True
            if isinstance(callee.value, ast.Name) and cls is not None and callee.value.id == function.first_param:
                if callee.attr not in cls.methods and callee.attr in cls.stores():
                    if _NO_NETWORK.search(callee.attr) is None:
                        return True
    return False


def _hands_network(call: ast.Call) -> bool:
    """Whether a call may hand on a network, or asks one by its name: a helper in another file is parsed for it."""
    if _ASKS.search(dotted(call.func)) is not None or not (call.args or call.keywords):
        return True
    for given in (*call.args, *(k.value for k in call.keywords)):
        name = given.attr if isinstance(given, ast.Attribute) else given.id if isinstance(given, ast.Name) else ""
        if isinstance(given, ast.Subscript) or (name and _HANDED.search(name) is not None):
            return True
    return False


def _is_parameter(function: Function, name: str) -> bool:
    arguments = getattr(function.node, "args", None)
    return isinstance(arguments, ast.arguments) and any(
        a.arg == name for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    )


def _defined_inside(function: Function) -> set[str]:
    """What a function, or one around it, defines or imports by itself."""
    found: set[str] = set()
    outer: Function | None = function
    while outer is not None and outer is not outer.module.body:
        for part in ast.walk(outer.node):
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(part.name)
            elif isinstance(part, (ast.Import, ast.ImportFrom)):
                found.update((alias.asname or alias.name).partition(".")[0] for alias in part.names)
        outer = outer.parent
    return found


def _builds(cls: ClassInfo, name: str) -> bool:
    return any(dotted(c.func).rpartition(".")[2] == name for m in cls.methods.values() for c in m.calls)


def _is_on(function: Function, rate: ast.expr | None) -> bool | None:
    """Whether a rate of dropout is one; None where it is 0 until somebody says otherwise."""
    if isinstance(rate, ast.Constant):
        return rate.value != 0
    if isinstance(rate, ast.Name):
        return None if _default(function, rate.id) == 0 else True
    if isinstance(rate, ast.Attribute) and function.cls is not None:
        init = function.cls.methods.get("__init__")
        return None if init is not None and _default(init, rate.attr.lstrip("_")) == 0 else True
    return True


def _default(function: Function, name: str) -> Any:
    arguments = getattr(function.node, "args", None)
    if not isinstance(arguments, ast.arguments):
        return None
    positional = arguments.posonlyargs + arguments.args
    given = dict(zip([a.arg for a in positional[::-1]], arguments.defaults[::-1], strict=False))
    given.update({a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None})
    default = given.get(name)
    return default.value if isinstance(default, ast.Constant) else None


def _is_handed(event: Event, thing: Thing) -> bool:
    call = event.at
    name = dotted(call.func).rpartition(".")[2]
    if name in _HARMLESS or not thing.text:
        return False
    given = [*call.args, *(k.value for k in call.keywords)]
    return any(isinstance(a, (ast.Name, ast.Attribute)) and dotted(a) == thing.text for a in given)


def _handed_on(module: ParsedModule, name: str) -> bool:
    """Whether a global network is given to something that may switch it."""
    for function in module.functions:
        for call in function.calls:
            given = [*call.args, *(k.value for k in call.keywords)]
            if any(isinstance(a, ast.Name) and a.id == name for a in given):
                if dotted(call.func).rpartition(".")[2] not in _HARMLESS:
                    return True
    return False


def _has_backward(loop: Loop) -> bool:
    return any(e.kind == "backward" for e, _ in flat(loop.body))


def _backward_beside(event: Event, loop: Loop | None) -> bool:
    """Whether the loop's backward pass stands in the same function as the call."""
    return loop is not None and any(
        e.kind == "backward" and e.frame.function is event.frame.function for e, _ in flat(loop.body)
    )


def _every_so_often(event: Event, loop: Loop) -> bool:
    """Whether something happens in some turns of a loop and the loop then goes on: ``if i % 500 == 0``."""
    path = next(p for e, p in flat(loop.body) if e is event)
    tests = [part for part, _ in path if isinstance(part, Branch)]
    if len(tests) != 1 or not isinstance(tests[0].test, ast.expr):
        return not tests
    test = tests[0].test
    if any(isinstance(p, ast.Call) or re.search("len|num|last|per", _name_of(p), re.I) for p in ast.walk(test)):
        return False  # may be the last turn
    if not any(isinstance(p, ast.BinOp) and isinstance(p.op, ast.Mod) for p in ast.walk(test)):
        return False
    return not any(
        isinstance(part, ast.If)
        and part.test is test
        and any(isinstance(p, (ast.Break, ast.Return, ast.Raise)) for s in part.body for p in ast.walk(s))
        for part in ast.walk(tests[0].frame.function.node)
    )


def _name_of(part: Any) -> str:
    return part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""


def _only_assignment(function: Function, name: str) -> Any:
    """What a name is given where that is one place: in the function, else at the top of its file."""
    for where in (function, function.module.body):
        found = [
            part.value
            for part in ast.walk(where.node)
            if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in part.targets)
        ]
        if found or where is function.module.body:
            return found[0] if len(found) == 1 else None
        if any(isinstance(p, ast.Name) and p.id == name and isinstance(p.ctx, ast.Store) for p in ast.walk(where.node)):
            return None
    return None


def _within(event: Event, loop: Loop) -> bool:
    return any(e is event for e, _ in flat(loop.body))


def _source_words(loop: Loop) -> list[str]:
    generators = getattr(loop.at, "generators", None)
    source = generators[0].iter if generators else getattr(loop.at, "iter", None)
    if source is None:
        return []
    return [
        part.attr if isinstance(part, ast.Attribute) else part.id
        for part in ast.walk(source)
        if isinstance(part, (ast.Attribute, ast.Name))
    ]
