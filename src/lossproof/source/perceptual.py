"""Losses that compare what a pretrained network sees in two images: perceptual, content and style losses.

Each call that builds such a network is followed forward, to the objects that hold it and the functions that apply it,
and where the features of two images are compared it is told: is the network frozen, who optimizes it, which part of it
is used, what happens to the image before it, is it in evaluation mode. A backbone that is itself what is trained is
no feature network; where it cannot be told apart from one, nothing is said.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
from collections.abc import Iterator
from typing import Any

from lossproof.source import ledger
from lossproof.source.contexts import Contexts
from lossproof.source.evaluate import Evaluator, children
from lossproof.source.facts import FeatureNetwork
from lossproof.source.frames import Frame
from lossproof.source.investigate import Investigation
from lossproof.source.library import forgets_input
from lossproof.source.lower import Guard, Node, lower
from lossproof.source.networks import PARAMETERS, Net, Networks, Origin
from lossproof.source.patterns import Pattern
from lossproof.source.slices import METRIC_CLASS, Slices, is_loss_class, sums_up_numbers
from lossproof.source.syntax import Function, ParsedModule, dotted
from lossproof.source.torch_names import RETURNS_SELF
from lossproof.source.values import (
    Cls,
    Const,
    Func,
    Hop,
    Inst,
    Lib,
    Map,
    Meth,
    Partial,
    Ref,
    Seq,
    T,
    Thunk,
    Value,
    alternatives,
    constant,
)

_BUILDS = Pattern(
    r"vgg|res_?ne|alexnet|squeezenet|densenet|inception|googlenet|mobilenet|efficientnet|convnext|mnasnet|regnet"
    r"|shufflenet|swin|vit|create_model|get_model|^load$",
    re.I,
)
# What such a loss is called. Losses over pairs of views train the network that they compare with.
_PERCEPTUAL = Pattern(r"percep|lpips|style|content|texture|vgg|feature_?(loss|match|recon)|feat_?loss|gram", re.I)
_TRAINS_IT = Pattern(r"contrast|triplet|siam|byol|simclr|moco|barlow|vicreg|consisten|distil|metric|dino", re.I)
_NORMALIZES = Pattern(r"norm|preproc|imagenet|standardi[sz]e|whiten|transform|prepare_(?:input|image)|process_", re.I)
_NO_NORMALIZER = Pattern(r"^(?:batch|layer|instance|group|local|spectral|weight|l2)_?norm|^norm$|normal_$", re.I)
_OPTIMIZERS = (
    "Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "LBFGS", "Lion", "Ranger",
    "AdaBelief", "Lamb", "FusedAdam", "create_optimizer", "create_optimizer_v2", "build_optimizer", "get_optimizer",
)  # fmt: skip
_IMAGENET = Pattern(r"0?\.485\b|0?\.406\b|103\.9|123\.6|116\.7|0?\.4076|IMAGENET|imagenet_(?:mean|std)|\.458\b")
_SUBTRACTS = {"sub", "sub_", "subtract", "subtract_", "__sub__"}
# A method that is there to be called by the class itself.
_HELPER = Pattern(r"freez|frozen|requires_grad|_eval|eval_|^lock|disable|no_grad", re.I)
_TENSOR_MODULES = ("torch", "numpy", "kornia", "math", "einops", "torchvision.transforms")
_FREEZES = Pattern(r"freez|frozen|requires_grad|(?:set|toggle)_grad|disable_grad", re.I)
# What hands out data is no network.
_NO_NETWORK = Pattern(r"next|iter|get|fetch|batch|sample|load|read|make|create|build|init|data|parse|collat", re.I)
MAX_FRAMES = 60
MAX_ROOTS = 250

_BATCH_NORM = Pattern(
    r"_bn$|res_?ne|densenet|inception|googlenet|mobilenet|efficientnet|mnasnet|regnet|shufflenet|^dla|xception|nfnet_"
)


class _Use:
    """A call of a network, or of one of its layers."""

    __slots__ = ("frame", "inputs", "nets", "node")

    def __init__(self, frame: Frame, node: Node, nets: list[Net]) -> None:
        self.frame = frame
        self.node = node
        self.nets = nets
        self.inputs = [*node.args[1], *(v for k, v in node.args[2] if k in ("x", "input", "inputs", None))]


class _Roots:
    """Where the input of a network comes from, and what was done to it on the way."""

    __slots__ = ("leaves", "made", "network", "normalized", "own", "params", "unknown")

    def __init__(self) -> None:
        self.leaves: set[Any] = set()
        self.params: list[tuple[Frame, str]] = []
        self.normalized = False
        self.unknown = False
        # Whether it is an image of its own: noise, a copy that is optimized.
        self.made = False
        # Whether it comes out of another network; whether that one was given features of this very network.
        self.network = False
        self.own = False


class _Scope:
    """The functions that have to do with one network, each in the contexts in which it has."""

    __slots__ = ("classes", "frames", "origin", "seen")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.frames: dict[int, Frame] = {}
        self.seen: set[tuple[int, int]] = set()
        self.classes: dict[int, Inst] = {}

    def add(self, frame: Frame) -> None:
        if len(self.frames) < MAX_FRAMES:
            self.frames.setdefault(id(frame), frame)


class FeatureLosses:
    """Finds the pretrained networks of a file that losses compare images with."""

    def __init__(self, ev: Evaluator, contexts: Contexts, investigation: Investigation, slices: Slices) -> None:
        self.ev = ev
        self.contexts = contexts
        self.investigation = investigation
        self.slices = slices
        self.networks = Networks(ev, contexts)
        self._file: ParsedModule | None = None

    def facts(self, function: Function) -> Iterator[FeatureNetwork]:
        module = function.module
        if self._file is not module:
            self._file = module
            self.networks.begin()
        for call in function.calls:
            if not _may_build(call, module):
                continue
            node = lower(function).by_call.get(id(call))
            if node is None:
                continue
            frame = self.ev.open_frame(function)
            self.ev.begin()
            origin = self.networks.origin(frame, node)
            if origin is not None:
                yield from self._judged(frame, node, origin)

    def _judged(self, frame: Frame, node: Node, origin: Origin) -> Iterator[FeatureNetwork]:
        scope = _Scope(origin)
        self.networks.spent = 0
        self._spread(scope, frame, node, 0)
        compared = self._compared(scope)
        if compared is None:
            return
        where, uses, roots, at = compared
        held = self._optimized(scope)
        if (held is not None and held[0]) or self._is_backbone(scope):
            return  # the network is what is trained, or a part of it
        # The first call of it through which a gradient comes.
        off = self.investigation.without_gradient
        by_use = uses
        uses = sorted(uses, key=lambda u: (off(u.frame, u.node.guard), u.frame.function.module.path, u.node.at.lineno))
        plain = [u for u, r in zip(by_use, roots, strict=True) if not r.normalized]
        fact = FeatureNetwork(self.ev, uses[0].frame, uses[0].node, (), origin.module, origin.at)
        fact.arch, fact.pretrained = origin.arch, origin.pretrained is not False or self._loaded(scope)
        fact.applied = [(u.frame.function.module, u.node.at) for u in uses]
        fact.compared = (where.function.module, at)
        nets = [n for u in uses for n in u.nets]
        frozen = self._frozen(scope, nets)
        fact.frozen = frozen is True
        fact.useless_freeze = frozen if isinstance(frozen, Hop) else None
        fact.optimized = held[1] if held is not None else None
        fact.whole = bool(at) and self._whole(scope, uses)
        fact.normalized = self._normalized(scope, uses, roots)
        fact.partly = any(r.normalized for r in roots)
        if fact.partly and len({_written(u) for u in plain}) == 1:
            fact.plain = _written(plain[0])
        fact.mode, fact.mode_hop, undone = self._mode(scope, nets, fact.whole)
        fact.undone = undone is not None
        yield fact

    # ---- forward: who holds the network

    def _holds(self, scope: _Scope, frame: Frame, node: Node) -> bool:
        return any(n.origin.key == scope.origin.key for n in self.networks.nets(frame, node, True))

    def _spread(self, scope: _Scope, frame: Frame, node: Node, depth: int) -> None:
        """From a value that is the network, or holds it, to all that have to do with it."""
        key = (id(frame), id(node))
        if key in scope.seen or depth > 5 or len(scope.frames) >= MAX_FRAMES:
            return
        scope.seen.add(key)
        self.networks._kept.append(frame)
        function = frame.function
        scope.add(frame)
        self.ev.begin()
        me = frame.base().me
        if function.cls is not None and isinstance(me, Inst):
            self._spread_object(scope, frame, node, me, depth)
        elif function is function.module.body:
            self._spread_global(scope, frame)
        returned = any(self._holds(scope, frame, n) for n, _ in frame.ir.returns if n.op not in ("const", "param"))
        if returned and function is not function.module.body and not self._applied_in(frame):
            for caller, call, _ in self.contexts.callers(function)[:6]:
                self._spread(scope, caller, call, depth + 1)
        for child in function.module.functions:
            if child.parent is function and child.cls is None and function is not function.module.body:
                scope.add(self.ev.open_frame(child))
        self._spread_arguments(scope, frame, depth)

    def _applied_in(self, frame: Frame) -> bool:
        return frame.function.name in ("forward", "__call__")

    def _gets_there(self, inst: Inst, frame: Frame, node: Node) -> bool:
        """Whether the constructor of an object comes to where the network is built."""
        if inst.ctor is None or inst.ctor.function is not frame.function or node.op != "call":
            return True
        return self._reached(inst.ctor, node.guard)

    def _spread_object(self, scope: _Scope, frame: Frame, node: Node, me: Inst, depth: int) -> None:
        function = frame.function
        own = f"{function.first_param}."
        values = [s.value for s in frame.ir.stores]
        values += [v for name, v in frame.ir.final.items() if name.startswith(own)]
        values += [item for _, _, item in frame.ir.computed]
        stored = any(self._holds(scope, frame, v) for v in values if v.op != "const")
        if not stored and function.name != "__init__" and frame.ir.returns:
            # What a method builds, a method of its base class may keep.
            stored = self._holds(scope, frame, Node("param", (function.first_param,), None, None))
        in_body = function.name == function.cls.name if function.cls is not None else False
        if not stored and not in_body:
            return
        made: list[tuple[Frame, Node, Inst]] = []
        if me.ctor is None or me.ctor.open:
            for caller, call, _ in self.contexts.instantiations(me.cls.info)[:6]:
                value = self.ev.value(caller, call)
                made.extend((caller, call, v) for _, v in alternatives(value) if isinstance(v, Inst))
                if not any(isinstance(v, Inst) for _, v in alternatives(value)):
                    made.append((caller, call, me))
            made = [m for m in made if self._gets_there(m[2], frame, node)]
        elif me.ctor.site is not None:
            made.append((me.ctor.site[0], me.ctor.site[1], me))
        if any(i is not me for _, _, i in made):
            # Who builds it is known: what holds for anybody says nothing any more.
            scope.frames.pop(id(frame), None)
        derived = list(self.contexts.subclasses(me.cls.info)) if not made else []
        for inst in [i for _, _, i in made] or [me, *(self.ev.open_instance(c) for c in derived[:4])]:
            self._add_object(scope, inst)
        for caller, call, _ in made:
            self._spread(scope, caller, call, depth + 1)

    def _add_object(self, scope: _Scope, inst: Inst) -> None:
        if id(inst) in scope.classes:
            return
        scope.classes[id(inst)] = inst
        seen: set[str] = set()
        for c in self.ev.mro(inst.cls):
            self.ev.ledger.mask |= c.info.rests
            for name, method in c.info.methods.items():
                if name not in seen or name == "__init__":
                    seen.add(name)
                    scope.add(self.networks.method(inst, c, method))

    def _spread_global(self, scope: _Scope, frame: Frame) -> None:
        names = {n for n, v in frame.ir.final.items() if v.op not in ("const", "import", "func", "class")}
        held = {n for n in names if self._holds(scope, frame, frame.ir.final[n])}
        if not held:
            return
        module = frame.function.module
        for function in module.functions:
            if function is module.body:
                continue
            if any(isinstance(n, ast.Name) and n.id in held for n in ast.walk(function.node)):
                scope.add(self.ev.open_frame(function))

    def _spread_arguments(self, scope: _Scope, frame: Frame, depth: int) -> None:
        for call in frame.ir.calls:
            given = [a for a in (*call.args[1], *(v for _, v in call.args[2])) if a.op not in ("const", "cmp")]
            if not given or (call.args[0].op == "attr" and call.args[0].args[1] in RETURNS_SELF):
                continue
            if not any(self._holds(scope, frame, a) for a in given):
                continue
            self.ev.begin()
            callees = [v for _, v in alternatives(self.ev.value(frame, call.args[0]))]
            if any(isinstance(v, (Cls, Partial)) for v in callees):
                made = [v for _, v in alternatives(self.ev.value(frame, call)) if isinstance(v, Inst)]
                for inst in made[:2]:
                    self._add_object(scope, inst)
                    if inst.ctor is not None and not inst.ctor.open:
                        self._spread(scope, inst.ctor, Node("param", (inst.ctor.function.first_param,), None, None), 4)
                if made:
                    self._spread(scope, frame, call, depth + 1)
                continue
            for target, positional, named in self.contexts.targets(frame, call):
                entered = self.ev.enter(target, positional, named, frame, call)
                if entered is not None:
                    self.networks._kept.append(entered)
                    scope.add(entered)

    # ---- where the features of two images are compared

    def _compared(self, scope: _Scope) -> tuple[Frame, list[_Use], list[_Roots], Any] | None:
        fallback: tuple[Frame, list[_Use], list[_Roots], Any] | None = None
        for frame in list(scope.frames.values()):
            function = frame.function
            if self._measures(frame) or _off(function):
                continue
            every: list[_Use] = []
            for node, one, other in _pairs(frame):
                self.ev.begin()
                left = self._uses(scope, frame, one)
                right = self._uses(scope, frame, other)
                uses = _distinct_uses([*left, *right])
                every.extend(left or right)
                if not left and not right:
                    continue
                if all(self.investigation.without_gradient(u.frame, u.node.guard) for u in uses):
                    continue
                roots = [self._roots(scope, u) for u in uses]
                leaves = {leaf for r in roots for leaf in r.leaves}
                if left and right and len(leaves) < 2:
                    continue
                if not (left and right) and not self._is_perceptual(scope, frame):
                    continue
                if any(r.own for r in roots):
                    continue
                if self._is_loss_network(scope, frame, uses, roots):
                    return frame, uses, roots, node.at
            if fallback is None and function.name in ("forward", "__call__") and self._is_perceptual(scope, frame):
                uses = self._applied(scope, frame)
                uses = [u for u in uses if not self.investigation.without_gradient(u.frame, u.node.guard)]
                roots = [self._roots(scope, u) for u in uses]
                if len({leaf for r in roots for leaf in r.leaves}) >= 2:
                    fallback = (frame, uses, roots, None)
        return fallback

    def _measures(self, frame: Frame) -> bool:
        function = frame.function
        if any(d.rpartition(".")[2] in ("no_grad", "inference_mode") for d in function.decorators):
            return True
        cls = function.cls
        return (cls is not None and METRIC_CLASS.search(cls.name) is not None) or bool(
            re.search(r"metric|evaluat|validat|^test|^val_|_val$|fid_|_fid", function.name, re.I)
        )

    def _is_perceptual(self, scope: _Scope, frame: Frame) -> bool:
        """By what it is called: a criterion, in a function or class that says so."""
        function = frame.function
        names = [function.name] if function.name not in ("forward", "__call__", "<module>") else []
        if isinstance(frame.base().me, Inst):
            names += [c.info.name for c in self.ev.mro(frame.base().me.cls)]  # type: ignore[union-attr]
        elif function.cls is not None:
            names.append(function.cls.name)
        parent = function.parent
        if parent is not None and parent is not function.module.body:
            names.append(parent.name)
        if any(_TRAINS_IT.search(n) and not _PERCEPTUAL.search(n) for n in names):
            return False
        loss = [n for n in names if is_loss_class(n) or re.search(r"loss|criterion|percep|lpips", n, re.I)]
        return bool(loss) and not all(re.search(r"^(?:train|training_step|fit)", n) for n in loss)

    def _is_loss_network(self, scope: _Scope, frame: Frame, uses: list[_Use], roots: list[_Roots]) -> bool:
        if self._is_perceptual(scope, frame):
            return True
        if any(r.network for r in roots):
            return True
        for r in roots:
            for where, name in r.params:
                if self._given_a_network(where, name):
                    return True
        if self._image_optimized(frame, roots):
            return True
        # Somebody froze it, or a criterion by what it does holds it and no optimizer does: it is not what is trained.
        nets = [n for u in uses for n in u.nets]
        if self._frozen(scope, nets) is True:
            return True
        if frame.function.name not in ("forward", "__call__"):
            return False
        if not self.slices.is_loss_function(frame.function) and not sums_up_numbers(frame.function):
            return False
        names = [frame.function.cls.name] if frame.function.cls is not None else []
        return not any(_TRAINS_IT.search(n) for n in names) and self._optimized(scope) is None

    def _given_a_network(self, frame: Frame, name: str, depth: int = 0) -> bool:
        """Whether somebody hands the output of a network to a parameter."""
        function = frame.function
        found = False
        callers = [(f, n) for f, n, _ in self.contexts.callers(function)]
        if function.name in ("forward", "__call__"):
            callers += self.contexts.applications(function)
        for caller, call in callers[:4]:
            for entered in self.contexts.enter(caller, call, function):
                given = entered.args.get(name)
                if isinstance(given, Thunk):
                    self.networks._kept.append(given.frame)
                    found = found or self._is_output(given.frame, given.node, depth)
        return found

    def _is_output(self, frame: Frame, node: Node, depth: int) -> bool:
        roots = _Roots()
        self._trace(None, [(frame, node, 0)], roots)
        if not roots.network and depth < 2:
            return any(self._given_a_network(where, name, depth + 1) for where, name in roots.params[:4])
        return roots.network

    def _image_optimized(self, frame: Frame, roots: list[_Roots]) -> bool:
        """Whether the image itself is what an optimizer moves."""
        leaves = {leaf for r in roots for leaf in r.leaves}
        for f in {id(c): c for c in (*frame.chain(), frame)}.values():
            for call in f.ir.calls:
                word = getattr(call.at.func, "attr", None) or getattr(call.at.func, "id", "")
                if word in _OPTIMIZERS and call.args[1] and call.args[1][0].op in ("list", "tuple"):
                    for item in call.args[1][0].args:
                        inner = _Roots()
                        self._trace(None, [(f, item, 0)], inner)
                        if inner.leaves & leaves:
                            return True
        return False

    def _applied(self, scope: _Scope, frame: Frame) -> list[_Use]:
        """The calls of the network in a function and in the helpers that it calls."""
        found: list[_Use] = []
        stack = [(frame, 0)]
        seen: set[Function] = set()
        while stack and len(found) < 12:
            where, depth = stack.pop(0)
            for call in where.ir.calls:
                nets = self._callee(scope, where, call)
                if nets:
                    found.append(_Use(where, call, nets))
                elif depth < 3:
                    self.ev.begin()
                    for target, positional, named in self.contexts.targets(where, call):
                        if target.function.name == "__init__" or (target.function in seen and depth > 1):
                            continue
                        seen.add(target.function)
                        entered = self.ev.enter(target, positional, named, where, call)
                        if entered is not None:
                            self.networks._kept.append(entered)
                            stack.append((entered, depth + 1))
        return found

    def _callee(self, scope: _Scope, frame: Frame, call: Node) -> list[Net]:
        func = call.args[0]
        if not call.args[1] and not call.args[2]:
            return []
        if func.op == "attr" and (
            func.args[1] in RETURNS_SELF | PARAMETERS
            or func.args[1] in _NOT_APPLIED
            or func.args[1].startswith("regist")
        ):
            return []
        if func.op in ("const", "func", "class", "import"):
            return []
        return [n for n in self.networks.nets(frame, func) if n.origin.key == scope.origin.key]

    def _uses(self, scope: _Scope, frame: Frame, node: Node) -> list[_Use]:
        """The calls of the network that a value is made from."""
        found: list[_Use] = []
        stack: list[tuple[Frame, Node, int]] = [(frame, node, 0)]
        seen: set[tuple[int, int]] = set()
        while stack and len(seen) < MAX_ROOTS:
            where, n, depth = stack.pop()
            key = (id(where), id(n))
            if key in seen or depth > 6:
                continue
            seen.add(key)
            self.networks._kept.append(where)
            op = n.op
            if op == "call":
                nets = self._callee(scope, where, n)
                if nets:
                    found.append(_Use(where, n, nets))
                    continue
                self.ev.refill()
                entered = False
                for target, positional, named in self.contexts.targets(where, n):
                    inside = self.ev.enter(target, positional, named, where, n)
                    if inside is None:
                        continue
                    entered = True
                    for returned, guard in inside.ir.returns:
                        if self.ev.reachable(inside, guard)[0]:
                            stack.append((inside, returned, depth + 1))
                    stack.extend((inside, y, depth + 1) for y in inside.ir.yields)
                if not entered:
                    func = n.args[0]
                    if func.op == "attr":
                        stack.append((where, func.args[0], depth))
                    stack.extend((where, a, depth) for a in n.args[1])
                    stack.extend((where, a, depth) for _, a in n.args[2])
                continue
            self._back(where, n, depth, stack)
        return found

    def _back(self, where: Frame, n: Node, depth: int, stack: list[tuple[Frame, Node, int]]) -> None:
        op = n.op
        if op == "param":
            given = where.base().args.get(n.args[0])
            if isinstance(given, Thunk):
                stack.append((given.frame, given.node, depth + 1))
        elif op == "attr":
            held = False
            for _, v in alternatives(self.ev.value(where, n.args[0])):
                if isinstance(v, Inst):
                    held = True
                    for inner, nodes in self.networks.stored(v, n.args[1]):
                        stack.extend((inner, m, depth + 1) for m in nodes)
            if not held:
                stack.append((where, n.args[0], depth))
        elif op == "name":
            inner_node = lower(where.function.module.body).final.get(n.args[0])
            if inner_node is not None and inner_node.op not in ("import", "func", "class"):
                stack.append((self.ev.open_frame(where.function.module.body), inner_node, depth + 1))
        elif op == "free":
            closure = where.base().closure
            while closure is not None:
                inner_node = closure.ir.final.get(n.args[0])
                if inner_node is not None:
                    stack.append((closure, inner_node, depth + 1))
                    return
                closure = closure.base().closure
        elif op == "phi":
            stack.extend((where, m, depth) for m in n.args[1:])
        elif op == "sub":
            stack.append((where, n.args[0], depth))
        else:
            stack.extend((where, m, depth) for m in children(n))

    # ---- what comes in

    def _roots(self, scope: _Scope, use: _Use) -> _Roots:
        roots = _Roots()
        self._trace(scope, [(use.frame, n, 0) for n in use.inputs[:1]], roots)
        if any("before" in n.parts for n in use.nets):
            roots.normalized = True
        return roots

    def _trace(self, scope: _Scope | None, stack: list[tuple[Frame, Node, int]], roots: _Roots) -> None:
        """Backwards from an image: what it is, and whether it was normalized on the way."""
        seen: set[tuple[int, int]] = set()
        while stack and len(seen) < MAX_ROOTS:
            where, n, depth = stack.pop()
            key = (id(where), id(n))
            if key in seen or depth > 6:
                continue
            seen.add(key)
            self.networks._kept.append(where)
            op = n.op
            if op == "call":
                self._trace_call(scope, where, n, depth, stack, roots)
            elif op == "bin":
                if n.args[0] == "-" and self._is_mean(where, n.args[2]):
                    roots.normalized = True
                stack.extend((where, m, depth) for m in n.args[1:] if self._is_image(where, m))
            elif op == "param":
                given = where.base().args.get(n.args[0])
                if isinstance(given, Thunk):
                    stack.append((given.frame, given.node, depth + 1))
                elif n.args[0] != where.function.first_param or where.function.cls is None:
                    roots.leaves.add((id(where.function), n.args[0]))
                    roots.params.append((where.base(), n.args[0]))
            elif op == "attr":
                path = _dotted(n)
                roots.leaves.add(("attr", path))
                for _, v in alternatives(self.ev.value(where, n.args[0])):
                    if isinstance(v, Inst):
                        for inner, nodes in self.networks.stored(v, n.args[1]):
                            stack.extend((inner, m, depth + 1) for m in nodes)
            elif op == "unpack":
                roots.leaves.add((id(n.args[0]), n.args[1]))
                self._behind(scope, where, n.args[0], depth, roots)
            elif op == "iter":
                if n.args[0].op in ("tuple", "list"):
                    stack.extend((where, m, depth) for m in n.args[0].args)
                else:
                    roots.leaves.add((id(n), 0))
            elif op == "sub":
                index = n.args[1]
                if index.op == "const":
                    roots.leaves.add((id(n.args[0]), index.args[0]))
                    self._behind(scope, where, n.args[0], depth, roots)
                else:
                    stack.append((where, n.args[0], depth))
            elif op in ("const", "slice"):
                continue
            else:
                size = len(stack)
                self._back(where, n, depth, stack)
                if len(stack) == size and op in ("name", "free", "unknown"):
                    roots.leaves.add((op, n.args[0] if n.args else id(n)))

    def _behind(self, scope: _Scope | None, where: Frame, n: Node, depth: int, roots: _Roots) -> None:
        """A part of something: what that is tells whether it was normalized, and whether a network made it."""
        inner = _Roots()
        if n.op not in ("iter", "param") or depth < 5:
            self._trace(scope, [(where, n, depth + 1)], inner)
        roots.normalized = roots.normalized or inner.normalized
        roots.network = roots.network or inner.network
        roots.own = roots.own or inner.own

    def _trace_call(
        self,
        scope: _Scope | None,
        where: Frame,
        n: Node,
        depth: int,
        stack: list[tuple[Frame, Node, int]],
        roots: _Roots,
    ) -> None:
        func, given, named = n.args
        if scope is not None and self._callee(scope, where, n):
            stack.extend((where, a, depth) for a in given[:1])
            return
        self.ev.refill()
        word = func.args[1] if func.op == "attr" else func.args[0] if func.op in ("name", "free", "param") else ""
        word = word if isinstance(word, str) else ""
        values = [v for _, v in alternatives(self.ev.value(where, func))]
        reference = next((v.name for v in values if isinstance(v, Ref)), "")
        if self._normalizer(where, n, word, reference, values):
            roots.normalized = True
            stack.extend((where, a, depth) for a in [*given, *(v for _, v in named)][:1])
            return
        if word in ("requires_grad_", "Parameter", "Variable", "clone"):
            # An image of its own, whatever it starts from.
            roots.leaves.add(("own", id(n)))
            roots.made = roots.made or word != "clone"
        if word in _SUBTRACTS and given and self._is_mean(where, given[-1]):
            roots.normalized = True
        targets = list(self.contexts.targets(where, n))
        if targets:
            for target, positional, keywords in targets[:3]:
                if self._is_model(target):
                    roots.network = True
                    roots.leaves.add(("out", id(n)))
                    if scope is not None:
                        roots.own = roots.own or self._own(scope, where, [*given, *(v for _, v in named)])
                    continue
                entered = self.ev.enter(target, positional, keywords, where, n)
                if entered is None:
                    continue
                self.networks._kept.append(entered)
                stack.extend((entered, r, depth + 1) for r, _ in entered.ir.returns)
                stack.extend((entered, y, depth + 1) for y in entered.ir.yields)
            return
        if func.op == "attr" and any(isinstance(v, (T, Seq, Map, Meth)) for v in values) and not reference:
            owner = [v for _, v in alternatives(self.ev.value(where, func.args[0]))]
            if not any(isinstance(v, (Inst, Lib, Ref)) for v in owner) and not _is_self_attr(where, func):
                if word in ("item", "size", "numel"):
                    return
                stack.append((where, func.args[0], depth))
                stack.extend((where, a, depth) for a in given if word in ("lerp", "where", "mul", "add"))
                return
        if reference.startswith(_TENSOR_MODULES) or reference.startswith("builtins."):
            if reference.rpartition(".")[2] in ("randn", "rand", "zeros", "empty", "ones", "randint"):
                roots.leaves.add(("made", id(n)))
                roots.made = True
                return
            stack.extend((where, a, depth) for a in given[:2])
            stack.extend((where, a, depth) for k, a in named if k in ("input", "x", "tensors"))
            return
        if any(isinstance(v, (Lib, Seq)) for v in values):
            layers = [v.name for v in values if isinstance(v, Lib)]
            if layers and all(_shapes(name) for name in layers):
                stack.extend((where, a, depth) for a in given[:1])
                return
            roots.network = True
            roots.leaves.add(("out", id(n)))
            if scope is not None:
                roots.own = roots.own or self._own(scope, where, [*given, *(v for _, v in named)])
            return
        # Something unknown, called: a network that was handed over, more often than not.
        roots.leaves.add(("out", id(n)))
        roots.unknown = True
        image_like = re.search(
            r"resize|crop|pad|clamp|clip|interp|to_|cast|aug|scale|load|open|read|rgb|gray|de_?norm", word, re.I
        )
        if image_like:
            stack.extend((where, a, depth) for a in given[:1])
        elif given and not reference and not _NO_NETWORK.search(word):
            roots.network = True
            if scope is not None:
                roots.own = roots.own or self._own(scope, where, given)

    def _own(self, scope: _Scope, where: Frame, given: list[Node]) -> bool:
        """Whether what a network is given was made by the feature network: then it is a part of the model."""
        return any(self._uses(scope, where, a) for a in given)

    def _is_model(self, target: Func) -> bool:
        me = target.me
        if target.function.name not in ("forward", "__call__") or not isinstance(me, Inst):
            return False
        if re.search(r"norm", me.cls.info.name, re.I):
            return False
        return self.slices.has_layers(me)

    def _is_image(self, frame: Frame, node: Node) -> bool:
        if node.op == "const":
            return False
        return not (node.op == "attr" and re.search(r"mean|std|scale|shift", node.args[1]))

    def _is_mean(self, frame: Frame, node: Node) -> bool:
        """Whether subtracting this is ImageNet's normalization: not where it is known to be 0.5 or 1."""
        if node.op == "const":
            v = node.args[0]
            return (
                isinstance(v, (int, float)) and not isinstance(v, bool) and (0.4 < v < 0.5 or (v > 90 and v != 127.5))
            )
        numbers = self._numbers(frame, node)
        return numbers is None or any(0.38 < v < 0.5 or (v > 90 and v != 127.5) or _rescaled(v) for v in numbers)

    def _numbers(self, frame: Frame, node: Node) -> list[float] | None:
        """The constants that a value is made from, ``None`` if something else is in it too."""
        found: list[float] = []
        stack: list[tuple[Frame, Node, int]] = [(frame, node, 0)]
        seen: set[tuple[int, int]] = set()
        while stack and len(seen) < 60:
            where, n, depth = stack.pop()
            if (id(where), id(n)) in seen or depth > 5:
                continue
            seen.add((id(where), id(n)))
            if n.op == "const":
                if isinstance(n.args[0], (int, float)) and not isinstance(n.args[0], bool):
                    found.append(float(n.args[0]))
            elif n.op == "call":
                func = n.args[0]
                word = func.args[1] if func.op == "attr" else func.args[0] if func.op in ("name", "free") else ""
                if word in ("view", "reshape", "to", "type_as", "expand", "expand_as", "unsqueeze", "cuda", "repeat"):
                    stack.append((where, func.args[0], depth))
                elif word in _TENSORS:
                    stack.extend((where, a, depth) for a in n.args[1][:1])
                else:
                    return None
            elif n.op in ("list", "tuple", "sub", "attr", "name", "free", "phi", "inplace", "setattr", "un", "dict"):
                if n.op == "sub":
                    stack.append((where, n.args[0], depth))
                    continue
                size = len(stack)
                self._back(where, n, depth, stack)
                if len(stack) == size and n.op in ("name", "free", "attr"):
                    value = self.ev.value(where, n)
                    numbers = _constants(value)
                    if not numbers:
                        return None
                    found.extend(numbers)
            elif n.op == "param":
                given = where.base().args.get(n.args[0])
                if isinstance(given, Thunk):
                    stack.append((given.frame, given.node, depth + 1))
                    continue
                numbers = _constants(self.ev.value(where, n))
                if not numbers:
                    return None
                found.extend(numbers)
            else:
                return None
        return found or None

    def _normalizer(self, where: Frame, n: Node, word: str, reference: str, values: list[Value]) -> bool:
        """Whether a call normalizes an image, as far as its name and its constants tell."""
        names = [word, reference.rpartition(".")[2]]
        names += [v.name.rpartition(".")[2] for v in values if isinstance(v, Lib)]
        names += [v.cls.info.name for v in values if isinstance(v, Inst)]
        if not any(_NORMALIZES.search(name) and not _NO_NORMALIZER.search(name) for name in names if name):
            return False
        if reference.startswith("torch.nn.functional.") or any(
            isinstance(v, Lib) and v.name.startswith("torch.nn.") for v in values
        ):
            return False
        if any(isinstance(v, (Func, Inst)) for v in values) and not any("norm" in x.lower() for x in names):
            return False  # the project's own: what it does is looked at
        if re.search(r"denorm|unnorm|inv|de_norm", word, re.I):
            return False
        constants = [self._numbers(where, a) for a in (*n.args[1][1:], *(v for _, v in n.args[2]))]
        for v in values:
            if isinstance(v, Lib):
                constants += [_constants(a) or None for a in (*v.args, *v.kwargs.values())]
            if isinstance(v, Func):
                return self._body_normalizes(v.function)
            if isinstance(v, Inst):
                forward = self.ev.forward_of(v)
                return True if forward is None else self._instance_normalizes(v, forward)
        known = [x for c in constants if c is not None for x in c]
        return not known or any(0.38 < x < 0.5 or x > 90 for x in known)

    def _body_normalizes(self, function: Function) -> bool:
        """The project's function by that name: whether anything in it is not known to be another range."""
        self.ev.ledger.mask |= function.rests
        frame = self.ev.open_frame(function)
        found = [n for n in _every(frame) if n.op == "bin" and n.args[0] == "-"]
        if any(self._is_mean(frame, n.args[2]) for n in found):
            return True
        calls = [c for c in frame.ir.calls if re.search(r"norm|sub_?$|batch", _word(c), re.I)]
        if any(c.args[1] and (_word(c) not in _SUBTRACTS or self._is_mean(frame, c.args[1][-1])) for c in calls):
            return True
        return not found and not calls and not _trivial(function)

    def _instance_normalizes(self, inst: Inst, forward: Func) -> bool:
        frame = Frame(forward.function, None, inst, forward.closure, None, 1)
        self.networks._kept.append(frame)
        self.ev.ledger.mask |= forward.function.rests
        found = [n for n in _every(frame) if n.op == "bin" and n.args[0] == "-"]
        if found:
            return any(self._is_mean(frame, n.args[2]) for n in found)
        return True

    def _normalized(self, scope: _Scope, uses: list[_Use], roots: list[_Roots]) -> bool:
        """Whether the images are, or may be, normalized as ImageNet's were, for every use."""
        some = [r for r in roots if r.normalized]
        # One of the two images alone is a fault of its own, unless the other was made in that range.
        if some and (len(some) == len(roots) or any(r.unknown or r.made for r in roots if not r.normalized)):
            return True
        for use in uses:
            for call in use.frame.ir.calls:
                if _word(call) in ("sub_", "subtract_") and call.args[1] and self._is_mean(use.frame, call.args[1][-1]):
                    return True
        for r in roots:
            for where, name in r.params:
                if self._given_normalized(scope, where, name):
                    return True
        return self._pipeline(scope)

    def _given_normalized(self, scope: _Scope, frame: Frame, name: str) -> bool:
        function = frame.function
        if re.search(r"norm", name, re.I) and not re.search(r"un_?norm|denorm", name, re.I):
            return True
        callers = [(f, n) for f, n, _ in self.contexts.callers(function)]
        if function.name in ("forward", "__call__"):
            callers += self.contexts.applications(function)
        for caller, call in callers[:6]:
            for entered in self.contexts.enter(caller, call, function):
                given = entered.args.get(name)
                if isinstance(given, Thunk):
                    roots = _Roots()
                    self._trace(scope, [(given.frame, given.node, 0)], roots)
                    if roots.normalized:
                        return True
        return False

    def _near(self, scope: _Scope, word: str) -> list[tuple[ParsedModule, object, Function]]:
        """The calls by a name, those in the nearest files first: a tree may hold many projects."""
        module = scope.origin.module
        folder = os.path.dirname(module.path)
        sites = self.contexts.sites(word, module)
        return sorted(sites, key=lambda s: -len(os.path.commonpath([folder, os.path.dirname(s[0].path)])))

    def _home(self, scope: _Scope) -> str:
        """The folder of all that has to do with a network, out of the packages that it lies in."""
        folders = {os.path.dirname(f.function.module.path) for f in scope.frames.values()}
        home = os.path.commonpath([os.path.dirname(scope.origin.module.path), *folders])
        while os.path.exists(os.path.join(home, "__init__.py")) and len(home) > len(self.ev.project.root):
            home = os.path.dirname(home)
        return home

    def _pipeline(self, scope: _Scope) -> bool:
        """Whether the project's data is normalized with ImageNet's statistics, or with ones that are not known."""
        module = scope.origin.module
        home = os.path.join(self._home(scope), "")
        for word in ("Normalize", "normalize", "transforms", "preprocess_input", "create_transform", "imagenet_norm"):
            for there, call, holder in self.contexts.sites(word, module):
                self.ev.ledger.mask |= holder.rests
                if there.is_test or not isinstance(call, ast.Call) or not there.path.startswith(home):
                    continue
                if word == "transforms":
                    if isinstance(call.func, ast.Attribute) and not call.args:
                        return True
                    continue
                if word == "normalize" and (len(call.args) + len(call.keywords) < 2 or dotted(call.func)[:2] == "F."):
                    continue
                if word in ("Normalize", "normalize"):
                    node = lower(holder).by_call.get(id(call))
                    if node is None:
                        continue
                    frame = self.ev.open_frame(holder)
                    self.ev.begin()
                    given = [*node.args[1], *(v for k, v in node.args[2] if k in ("mean", "std"))]
                    given = given[1:2] if word == "normalize" and node.args[1] else given[:1]
                    numbers = self._numbers(frame, given[0]) if given else None
                    if numbers is not None and not any(0.38 < v < 0.5 or v > 90 for v in numbers):
                        continue
                return True
        inner = self.ev.ledger
        inner.mask |= inner.bit(ledger.naming("Dataset"))
        self.contexts.load_naming("Dataset", module.path)
        for cls in self.ev.project.classes_on("Dataset"):
            other = cls.module
            inner.mask |= inner.bit(ledger.text(other.path))
            if other.path.startswith(home) and _IMAGENET.search(other.source):
                return True
        return False

    # ---- frozen

    def _called(self, function: Function) -> bool:
        if function.cls is None or not _HELPER.search(function.name):
            return True  # what nobody is seen to call is an entrance
        return bool(self.contexts.sites(function.name, function.module)) or bool(function.decorators)

    def _frozen(self, scope: _Scope, nets: list[Net]) -> bool | Hop:
        """True where it is, or may be; a place where somebody meant to; False where nothing shows."""
        useless: Hop | None = None
        for frame in list(scope.frames.values()):
            if not self._called(frame.function):
                continue
            found = self._freezes(scope, frame, nets, 0)
            if found is True:
                return True
            if isinstance(found, Hop):
                useless = found
        return useless if useless is not None else False

    def _freezes(self, scope: _Scope, frame: Frame, nets: list[Net], depth: int) -> bool | Hop:
        useless: Hop | None = None
        module = frame.function.module
        self.ev.begin()
        for store in frame.ir.stores:
            if store.attr != "requires_grad" or not self._reached(frame, store.value.guard):
                continue
            value = self.ev.value(frame, store.value)
            if isinstance(value, Const) and value.v:
                continue
            found = self._covers(scope, frame, store.obj, nets)
            if found == "parameters" or found == "unknown":
                return True
            if found == "module":
                useless = Hop(
                    module, store.value.at, "sets an attribute of the module: its parameters stay as they are"
                )
        for call in frame.ir.calls:
            func = call.args[0]
            word = _word(call)
            if word in ("requires_grad_", "requires_grad"):
                if func.op != "attr" or not self._reached(frame, call.guard):
                    continue
                given = [*call.args[1], *(v for _, v in call.args[2])]
                value = self.ev.value(frame, given[0]) if given else Const(True)
                if isinstance(value, Const) and value.v:
                    continue
                if self._covers(scope, frame, func.args[0], nets) in ("parameters", "module", "unknown"):
                    return True
                continue
            if not _FREEZES.search(word) and word not in ("apply", "map", "filter", "partial") and depth > 2:
                continue
            given = [*call.args[1], *(v for _, v in call.args[2])]
            mine = func.op == "attr" and self._covers(scope, frame, func.args[0], nets) in ("parameters", "module")
            if _FREEZES.search(word) or word in ("apply", "map"):
                passed = mine or any(self._covers(scope, frame, a, nets) != "no" for a in given)
                if not passed or not self._reached(frame, call.guard):
                    continue
                if word in ("apply", "map"):
                    if "requires_grad" in ast.unparse(call.at):
                        return True
                    continue
                targets = list(self.contexts.targets(frame, call))
                if not targets:
                    return not any(constant(self.ev.value(frame, a)) is True for a in given) or word.startswith("freez")
            if depth < 3 and any(self._holds(scope, frame, a) for a in given if a.op not in ("const",)):
                for target, positional, named in self.contexts.targets(frame, call):
                    if "requires_grad" not in target.function.module.source:
                        continue
                    entered = self.ev.enter(target, positional, named, frame, call)
                    if entered is not None:
                        self.networks._kept.append(entered)
                        found2 = self._freezes(scope, entered, nets, depth + 1)
                        if found2 is True:
                            return True
        return useless if useless is not None else False

    def _reached(self, frame: Frame, guard: Guard | None) -> bool:
        return guard is None or self.ev.reachable(frame, guard)[0]

    def _covers(self, scope: _Scope, frame: Frame, node: Node, nets: list[Net]) -> str:
        """Whether a value is the used network (``module``), its parameters, something else (``no``), or unknown."""
        reached = self.networks.nets(frame, node, True)
        mine = [n for n in reached if n.origin.key == scope.origin.key]
        if mine:
            used = {p for n in nets for p in n.parts}
            mine = [n for n in mine if not ({"classifier", "fc", "head"} & set(n.parts)) - used]
            if not mine:
                return "no"
            return "parameters" if any(set(n.parts) & (PARAMETERS | {"weight", "bias"}) for n in mine) else "module"
        if reached:
            return "no"
        # Of what is handed to a helper of the network's own class nothing may be known.
        root = node
        while root.op in ("iter", "unpack", "attr", "call", "sub", "loop"):
            root = root.args[0]
        if root.op == "param" and root.args[0] != frame.function.first_param and not frame.base().args:
            if id(frame.base().me) in scope.classes or frame.function.cls is None:
                given = frame.base().open and not self.contexts.callers(frame.function)
                return "unknown" if given else "no"
        return "no"

    def _is_backbone(self, scope: _Scope) -> bool:
        """Whether other layers go on with its features of one image: then it is a part of a model."""
        for inst in scope.classes.values():
            forward = self.ev.forward_of(inst)
            if forward is None:
                continue
            frame = next((f for f in scope.frames.values() if f.function is forward.function), None)
            if frame is None or self._is_perceptual(scope, frame):
                continue
            for call in frame.ir.calls:
                func = call.args[0]
                if func.op != "attr" or not call.args[1] or self._callee(scope, frame, call):
                    continue
                self.ev.begin()
                callees = [v for _, v in alternatives(self.ev.value(frame, func))]
                learns = any(
                    (isinstance(v, Lib) and forgets_input(v))
                    or (isinstance(v, Inst) and self.slices.has_layers(v))
                    or (isinstance(v, T) and _is_self_attr(frame, func))
                    or isinstance(v, Seq)
                    for v in callees
                )
                if not learns or not _is_self_attr(frame, func):
                    continue
                uses = self._uses(scope, frame, call.args[1][0])
                if uses and len({leaf for u in uses for leaf in self._roots(scope, u).leaves}) < 2:
                    return True
        return False

    def _optimized(self, scope: _Scope) -> tuple[bool, Hop] | None:
        """The optimizer that holds the network: named itself (True), or as a part of what is optimized."""
        held: Hop | None = None
        frames: dict[Function, Frame] = {f.function: f for f in scope.frames.values()}
        for word in _OPTIMIZERS:
            for _, call, holder in self._near(scope, word)[:30]:
                self.ev.ledger.mask |= holder.rests
                node = lower(holder).by_call.get(id(call))
                if node is None:
                    continue
                frame = frames.get(holder) or self.ev.open_frame(holder)
                given = [*node.args[1][:1], *(v for k, v in node.args[2] if k in ("params", "model"))]
                for a in given:
                    for n in self.networks.nets(frame, a, True):
                        if n.origin.key != scope.origin.key:
                            continue
                        if not n.held:
                            return True, Hop(holder.module, node.at, "")
                        held = Hop(holder.module, node.at, "this optimizer holds its parameters")
        return (False, held) if held is not None else None

    # ---- which part, in which mode

    def _whole(self, scope: _Scope, uses: list[_Use]) -> bool:
        """Whether it is the classifier's output that is compared."""
        origin = scope.origin
        known = re.match(
            r"vgg|resne|alexnet|squeezenet|densenet|inception|googlenet|mobilenet|efficientnet", origin.arch
        )
        if origin.headless or (origin.zoo != "torchvision" and known is None):
            return False  # what another repository's networks return is its own affair
        for use in uses:
            for net in use.nets:
                if any(p not in ("module", "forward", "__call__") and not p.startswith("in:") for p in net.parts):
                    return False
        for frame in scope.frames.values():
            for call in frame.ir.calls:
                if _word(call) in ("register_forward_hook", "register_forward_pre_hook"):
                    return False
            for store in frame.ir.stores:
                if store.attr in ("classifier", "fc", "head", "heads", "forward", "last_linear"):
                    if self._holds(scope, frame, store.obj):
                        return False
            if re.search(r"\bdel .*(?:classifier|\.fc\b|head)", ast.unparse(frame.function.node)):
                return False
        return True

    def _mode(self, scope: _Scope, nets: list[Net], whole: bool) -> tuple[str, Hop | None, Hop | None]:
        """``train`` where nobody calls ``eval()``, ``undone`` where somebody calls ``train()`` later."""
        arch = scope.origin.arch
        parts = {p for n in nets for p in n.parts}
        norm = _BATCH_NORM.search(arch) is not None
        dropout = re.match(r"vgg|alexnet|squeezenet|mobilenet|efficientnet", arch) is not None
        dropout = dropout and (whole or "classifier" in parts)
        if not norm and not dropout:
            return "", None, None
        for inst in scope.classes.values():
            if any("train" in c.info.methods for c in self.ev.mro(inst.cls) if _is_module(self.ev, c)):
                return "", None, None
        evaluated: list[tuple[Function, int]] = []
        for frame in scope.frames.values():
            if not self._called(frame.function):
                continue
            for call in frame.ir.calls:
                word = _word(call)
                func = call.args[0]
                if word in ("eval", "train") and func.op == "attr" and self._reached(frame, call.guard):
                    off = word == "eval" or self._false(frame, call)
                    if off and self._covers(scope, frame, func.args[0], nets) != "no":
                        reached = self.networks.nets(frame, func.args[0], True)
                        mine = any(n.origin.key == scope.origin.key and not n.held for n in reached)
                        # `eval()` of the whole, further down, is for validation; the next epoch undoes it.
                        evaluated.append((frame.function, call.at.lineno if mine else 0))
                elif re.search(r"eval|freez", word) and word != "evaluate":
                    given = [*call.args[1], *(v for _, v in call.args[2])]
                    if any(True for _ in self.contexts.targets(frame, call)):
                        continue  # what it does is looked at
                    mine = func.op == "attr" and self._holds(scope, frame, func.args[0])
                    if mine or any(self._holds(scope, frame, a) for a in given):
                        evaluated.append((frame.function, call.at.lineno))
            for store in frame.ir.stores:
                if store.attr == "train" and self._holds(scope, frame, store.obj):
                    return "", None, None  # ``net.train = disabled_train``
                if store.attr == "training" and self._holds(scope, frame, store.obj):
                    evaluated.append((frame.function, store.value.at.lineno))
        for place, switched_off in self._evaluated_in_helper(scope, nets):
            if switched_off:
                return "", None, None
            evaluated.append(place)
        which = "batch normalization" if norm else "dropout"
        undone = self._undone(scope, evaluated)
        if not evaluated:
            return f"train {which}", None, undone
        return (f"undone {which}", undone, undone) if undone is not None else ("", None, None)

    def _undone(self, scope: _Scope, evaluated: list[tuple[Function, int]]) -> Hop | None:
        """A ``train()`` that reaches the network after it was put in evaluation mode."""
        for _, call_at, holder in self._near(scope, "train")[:40]:
            self.ev.ledger.mask |= holder.rests
            node = lower(holder).by_call.get(id(call_at))
            if node is None or node.args[0].op != "attr":
                continue
            frame = next((f for f in scope.frames.values() if f.function is holder), None) or self.ev.open_frame(holder)
            if self._false(frame, node):
                continue
            owners = [v for _, v in alternatives(self.ev.value(frame, node.args[0].args[0]))]
            if any(isinstance(v, Inst) and not self._registers(v) for v in owners):
                continue
            reached = self.networks.nets(frame, node.args[0].args[0], True)
            if not any(n.origin.key == scope.origin.key for n in reached):
                continue
            if any(f is holder and line > node.at.lineno for f, line in evaluated):
                continue
            return Hop(holder.module, node.at, "this `train()` reaches it too")
        return None

    def _evaluated_in_helper(self, scope: _Scope, nets: list[Net]) -> Iterator[tuple[tuple[Function, int], bool]]:
        """Where a helper is handed the network that calls ``eval()`` on it, and whether ``train`` is taken away."""
        for frame in list(scope.frames.values()):
            for call in frame.ir.calls:
                given = [a for a in (*call.args[1], *(v for _, v in call.args[2])) if a.op != "const"]
                if not given or not any(self._holds(scope, frame, a) for a in given):
                    continue
                self.ev.begin()
                for target, positional, named in self.contexts.targets(frame, call):
                    entered = self.ev.enter(target, positional, named, frame, call)
                    for inner in entered.ir.calls if entered is not None else ():
                        func = inner.args[0]
                        if _word(inner) == "eval" and func.op == "attr" and entered is not None:
                            if self._covers(scope, entered, func.args[0], nets) != "no":
                                off = any(store.attr == "train" for store in entered.ir.stores)
                                yield (frame.function, call.at.lineno), off

    def _registers(self, inst: Inst) -> bool:
        """Whether ``train()`` of an object is ``nn.Module``'s own."""
        if any("train" in c.info.methods for c in self.ev.mro(inst.cls)):
            return False
        return _is_module(self.ev, inst.cls)

    def _false(self, frame: Frame, call: Node) -> bool:
        given = [*call.args[1], *(v for _, v in call.args[2])]
        return bool(given) and not (isinstance(v := self.ev.value(frame, given[0]), Const) and v.v)

    def _loaded(self, scope: _Scope) -> bool:
        """Whether weights are read from a file instead."""
        for frame in scope.frames.values():
            for call in frame.ir.calls:
                if _word(call) in ("load_state_dict", "load_model", "load_weights", "load_checkpoint"):
                    return True
        return False


def _rescaled(v: float) -> bool:
    """One of ImageNet's means for images from -1 to 1, as LPIPS has them: -0.030, -0.088, -0.188."""
    return any(abs(abs(v) - (1 - 2 * mean)) < 0.003 for mean in (0.485, 0.456, 0.406))


_NOT_APPLIED = {
    "load_state_dict", "state_dict", "add_module", "append", "extend", "insert", "get", "children", "modules",
    "named_children", "named_modules", "values", "items", "apply", "to", "keys", "index", "get_submodule", "update",
    "register_module", "half", "float", "pop",
}  # fmt: skip
_TENSORS = {
    "tensor",
    "Tensor",
    "FloatTensor",
    "array",
    "as_tensor",
    "from_numpy",
    "Variable",
    "asarray",
    "Parameter",
    "list",
    "tuple",
}
_COLLECTS = {
    "cat",
    "stack",
    "zip",
    "append",
    "extend",
    "enumerate",
    "print",
    "list",
    "dict",
    "len",
    "range",
    "isinstance",
    "interpolate",
    "bmm",
    "matmul",
    "mm",
    "einsum",
    "save_image",
    "make_grid",
    "hasattr",
    "getattr",
}


def _pairs(frame: Frame) -> Iterator[tuple[Node, Node, Node]]:
    """The places where two values may be compared: a difference, a call with two arguments."""
    for node in _every(frame):
        if node.op == "bin" and node.args[0] == "-":
            if node.args[1].op != "const" and node.args[2].op != "const":
                yield node, node.args[1], node.args[2]
        elif node.op == "call":
            given = [a for a in (*node.args[1], *(v for _, v in node.args[2])) if a.op != "const"]
            word = _word(node)
            if word in _COLLECTS or not given:
                continue
            func = node.args[0]
            if len(given) >= 2:
                yield node, given[0], given[1]
            elif func.op == "attr" and word in ("sub", "dist", "sub_", "mse", "cosine_similarity", "l1_loss"):
                yield node, func.args[0], given[0]


def _every(frame: Frame) -> Iterator[Node]:
    yield from frame.ir.ops
    seen: set[int] = {id(n) for n in frame.ir.ops}
    stack: list[Node] = [n for n, _ in frame.ir.returns]
    stack += [*frame.ir.calls, *(a.value for a in frame.ir.accumulations), *(s.value for s in frame.ir.stores)]
    while stack and len(seen) < 3000:
        n = stack.pop()
        if id(n) in seen:
            continue
        seen.add(id(n))
        if n.op in ("bin", "call"):
            yield n
        stack.extend(children(n))


def _word(call: Node) -> str:
    func = getattr(call.at, "func", None)
    return getattr(func, "attr", None) or getattr(func, "id", "") or ""


def _distinct_uses(uses: list[_Use]) -> list[_Use]:
    seen: dict[tuple[int, int], _Use] = {}
    for use in uses:
        seen.setdefault((id(use.frame), id(use.node)), use)
    return list(seen.values())


def _off(function: Function) -> bool:
    return function.name.startswith("__") and function.name not in ("__call__", "__init__")


def _written(use: _Use) -> str:
    """The image that a network is applied to, as it is written there."""
    call = use.node.at
    given = call.args[0] if isinstance(call, ast.Call) and call.args else None
    text = ast.unparse(given) if isinstance(given, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)) else ""
    return text if len(text) <= 40 else ""


def _may_build(call: ast.Call, module: ParsedModule) -> bool:
    func = call.func
    if isinstance(func, (ast.Call, ast.Subscript)):
        return True
    if isinstance(func, ast.Attribute):
        return _BUILDS.search(func.attr) is not None
    if not isinstance(func, ast.Name):
        return False
    imported = module.imports.get(func.id)
    if imported is not None:
        return imported[0].startswith(("torchvision", "timm")) and func.id[:1].islower()
    return func.id not in module.top and (_BUILDS.search(func.id) is not None or func.id not in _PLAIN)


_PLAIN = frozenset(dir(builtins)) | {"tqdm"}


def _dotted(node: Node) -> str:
    parts = []
    while node.op == "attr":
        parts.append(node.args[1])
        node = node.args[0]
    parts.append(str(node.args[0]) if node.op in ("param", "name", "free") else str(id(node)))
    return ".".join(reversed(parts))


def _is_self_attr(frame: Frame, func: Node) -> bool:
    obj = func.args[0]
    return obj.op == "param" and frame.function.cls is not None and obj.args[0] == frame.function.first_param


def _shapes(name: str) -> bool:
    return re.search(r"Upsample|Pool|Pad|Resize|Crop|Identity|Flatten|Clamp|Interp|Tanh|Sigmoid", name) is not None


def _constants(value: Value) -> list[float]:
    found: list[float] = []
    for _, v in alternatives(value):
        if isinstance(v, Const) and isinstance(v.v, (int, float)) and not isinstance(v.v, bool):
            found.append(float(v.v))
        elif isinstance(v, Seq):
            for item in v.every():
                found.extend(_constants(item))
    return found


def _is_module(ev: Evaluator, cls: Cls) -> bool:
    return ev.library_base(cls).startswith(("torch.nn.", "pytorch_lightning.", "lightning."))


def _trivial(function: Function) -> bool:
    """``return x``"""
    body = [s for s in function.node.body if not isinstance(s, ast.Expr)] if hasattr(function.node, "body") else []
    return len(body) == 1 and isinstance(body[0], ast.Return) and isinstance(body[0].value, ast.Name)
