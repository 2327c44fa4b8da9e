"""A class imbalance that is corrected twice: batches drawn in balance, and a loss that weighs the classes as well.

Both have to belong to one training. So it starts from a weighted loss and looks at what the loops around it run over,
in the contexts of their callers: a data loader whose sampler balances, or data that was oversampled before.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lossproof.source.contexts import Contexts
from lossproof.source.counts import Counts
from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import BalancedTwice, LossCall
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower
from lossproof.source.origins import Origins
from lossproof.source.patterns import Pattern
from lossproof.source.syntax import ParsedModule, dotted
from lossproof.source.tensor_ops import as_tensor
from lossproof.source.values import (
    Atoms,
    Const,
    Func,
    Hop,
    Inst,
    Lib,
    Map,
    Seq,
    T,
    Value,
    alternatives,
    combine,
    consistent,
)

# Samplers of other libraries that draw the classes evenly.
_BALANCING = Pattern(
    r"(?:^|\.)(?:ImbalancedDatasetSampler|BalanceClassSampler|DynamicBalanceClassSampler|MPerClassSampler|ClassBalancedSampler|"
    r"BalancedBatchSampler|BalancedSampler)$"
)
_OWN = Pattern(r"balanc|oversampl|equal", re.I)
_OVERSAMPLING = Pattern(r"Over[Ss]ampl|SMOTE|ADASYN|UnderSampl|NearMiss|TomekLinks|ClusterCentroids")
_LOADERS = ("train_dataloader", "get_train_dataloader", "_get_train_sampler", "get_train_sampler")
MAX_LEVELS = 3


class Resampling:
    def __init__(self, ev: Evaluator, contexts: Contexts, origins: Origins) -> None:
        self.ev = ev
        self.contexts = contexts
        self.origins = origins
        self.counts = Counts(ev, origins)

    def facts(self, call: LossCall) -> Iterator[BalancedTwice]:
        weighted = self._weighted(call)
        if weighted is None:
            return
        self.ev.refill()
        for frame in self._contexts(call.frame):
            for hop, sure in self._balanced(frame, call.node, combine(call.atoms, weighted)):
                yield self._fact(call, hop, sure)
                return

    def _fact(self, call: LossCall, hop: Hop, sure: bool) -> BalancedTwice:
        fact = BalancedTwice(self.ev, call.frame, call.node, call.atoms)
        fact.sampler, fact.sure = hop, sure
        fact.setting = "pos_weight" if call.kind == "bce_logits" else "weight"
        for _, v in alternatives(self.ev.value(call.frame, call.node.args[0])):
            if isinstance(v, Lib) and v.module is not None and v.at is not None:
                fact.built = Hop(v.module, v.at, "")
        return fact

    def _weighted(self, call: LossCall) -> Atoms | None:
        """Under which conditions the loss weighs the classes; ``None`` where it is not seen to."""
        name = {"ce": "weight", "nll": "weight", "bce_logits": "pos_weight"}.get(call.kind, "")
        value = call.settings.get(name)
        given = call.node.args[1]
        if value is None and call.kind in ("ce", "nll") and call.word.islower() and len(given) > 2:
            value = self.ev.value(call.frame, given[2])
        if value is None:
            return None
        for atoms, v in alternatives(value):
            if isinstance(v, Const) and not isinstance(v.v, (int, float)):
                continue
            t = as_tensor(v)
            if t.lo is not None and t.lo == t.hi == 1.0:
                continue
            if isinstance(v, T) and v.get("param") is not None:
                function, param = v.get("param")
                found = next((p for p in lower(function).params if p.name == param), None)
                if found is None or found.default is not None:
                    continue
            if isinstance(v, T) and not v.tags and v.info is None and not v.sym:
                continue
            return atoms
        return None

    def _contexts(self, frame: Frame) -> list[Frame]:
        """The frame, and again with its callers known."""
        found = [frame]
        waiting = [frame]
        for _ in range(MAX_LEVELS):
            following = []
            for one in waiting:
                self.ev.refill()
                following.extend(self.contexts.outer(one))
            waiting = following[:6]
            found.extend(waiting)
        return found[:16]

    # ---- what the loops run over

    def _balanced(self, frame: Frame, node: Node, atoms: Atoms) -> Iterator[tuple[Hop, bool]]:
        place: Frame | None = frame
        at: Node | None = node
        while place is not None and at is not None:
            base = place.base()
            line = getattr(at.at, "lineno", 0)
            for statement, loop in base.ir.loops.items():
                if loop.source is None or not statement.lineno <= line <= (statement.end_lineno or 0):
                    continue
                for source in _sources(loop.source):
                    self.ev.refill()
                    for inner, value in alternatives(self.ev.value(base, source)):
                        if consistent(inner, atoms):
                            yield from self._of_loader(value, combine(atoms, inner), 0)
            yield from self._oversampled(base)
            me = base.me
            if base.function.name in ("training_step", "compute_loss") and isinstance(me, Inst):
                yield from self._of_framework(me, atoms)
            site = base.site
            place, at = site if site is not None else (None, None)

    def _of_loader(self, value: Value, atoms: Atoms, depth: int) -> Iterator[tuple[Hop, bool]]:
        if depth > 4:
            return
        if isinstance(value, Seq):
            for item in value.every()[:4]:
                for inner, v in alternatives(item):
                    if isinstance(v, (Seq, Lib)) and consistent(inner, atoms):
                        yield from self._of_loader(v, atoms, depth + 1)
        if isinstance(value, Map):
            value = value.items.get("train", Const(None))
        if not isinstance(value, Lib):
            return
        sampler = value.kwargs.get("sampler") or value.kwargs.get("batch_sampler")
        if sampler is None and value.name.endswith("DataLoader") and len(value.args) > 3:
            sampler = value.args[3]
        if sampler is None and not value.name.endswith("DataLoader"):
            # ``accelerator.prepare(loader)``, ``tqdm(loader)``
            for given in value.args[:2]:
                for inner, v in alternatives(given):
                    if isinstance(v, Lib) and consistent(inner, atoms):
                        yield from self._of_loader(v, atoms, depth + 1)
            return
        for inner, v in alternatives(sampler) if sampler is not None else ():
            if consistent(inner, atoms):
                yield from self._of_sampler(v, 0)

    def _of_sampler(self, v: Value, depth: int) -> Iterator[tuple[Hop, bool]]:
        if isinstance(v, Lib):
            if v.name.endswith(".WeightedRandomSampler"):
                balance = self._balance(v)
                if balance is not None and v.module is not None:
                    yield Hop(v.module, v.at, "the batches are drawn in balance here"), balance
            elif _BALANCING.search(v.name) and v.module is not None:
                yield Hop(v.module, v.at, "the batches are drawn in balance here"), True
            elif depth < 3:
                for given in (*v.args[:1], *(v.kwargs[k] for k in ("sampler",) if k in v.kwargs)):
                    for _, inner in alternatives(given):
                        yield from self._of_sampler(inner, depth + 1)
        elif isinstance(v, Inst) and _OWN.search(v.cls.info.name) and v.ctor is not None and v.ctor.site is not None:
            frame, node = v.ctor.site
            yield Hop(frame.function.module, node.at, "the batches are drawn in balance here"), False

    def _balance(self, sampler: Lib) -> bool | None:
        """Whether a sampler's weights make up for the counts: surely, perhaps, or not (``None``)."""
        found = self._node_of(sampler.module, sampler.at)
        if found is None:
            return False
        frame, node = found
        given = dict(node.args[2])
        at = given.get("weights") or (node.args[1][0] if node.args[1] else None)
        if at is None:
            return None
        shares = self.counts.shares(frame, at, "")
        if not shares:
            return False
        directions = [s.powers.get("class", 0) + s.powers.get("pos", 0) + s.powers.get("neg", 0) for s in shares]
        if any(s.soft for s in shares) or all(d >= 0 for d in directions):
            return None  # damped: the rest may be the loss's share
        return True

    def _node_of(self, module: ParsedModule | None, at: object) -> tuple[Frame, Node] | None:
        if module is None:
            return None
        word = dotted(at.func).rpartition(".")[2] if isinstance(at, ast.Call) else ""
        for call, holder in module.call_index.get(word, ()):
            if call is at:
                node = lower(holder).by_call.get(id(call))
                return (self.ev.open_frame(holder), node) if node is not None else None
        return None

    def _oversampled(self, base: Frame) -> Iterator[tuple[Hop, bool]]:
        """``RandomOverSampler().fit_resample(x, y)`` in a function that goes on to train."""
        for call in base.function.calls:
            if getattr(call.func, "attr", "") not in ("fit_resample", "fit_sample"):
                continue
            node = base.ir.by_call.get(id(call))
            if node is None:
                continue
            owner = [v for _, v in alternatives(self.ev.value(base, node.args[0].args[0]))]
            if any(isinstance(v, Lib) and _OVERSAMPLING.search(v.name.rpartition(".")[2]) for v in owner):
                yield Hop(base.function.module, call, "the classes are evened out here"), True

    # ---- frameworks: the loop is theirs

    def _of_framework(self, me: Inst, atoms: Atoms) -> Iterator[tuple[Hop, bool]]:
        yield from self._of_holder(me, atoms)
        for caller, _, _ in self.contexts.instantiations(me.cls.info):
            for call in caller.ir.calls:
                if call.args[0].op != "attr" or call.args[0].args[1] != "fit":
                    continue
                for given in (*call.args[1], *(v for _, v in call.args[2])):
                    self.ev.refill()
                    for inner, v in alternatives(self.ev.value(caller, given)):
                        if not consistent(inner, atoms):
                            continue
                        if isinstance(v, Inst) and v.cls.info is not me.cls.info:
                            yield from self._of_holder(v, atoms)
                        elif isinstance(v, (Lib, Seq)):
                            yield from self._of_loader(v, atoms, 0)

    def _of_holder(self, obj: Inst, atoms: Atoms) -> Iterator[tuple[Hop, bool]]:
        for name in _LOADERS:
            method = self.ev.class_member(obj.cls, name)
            if not isinstance(method, Func):
                continue
            self.ev.refill()
            inner = self.ev.enter(Func(method.function, method.closure, obj), [], {}, None, None)
            for returned, _ in inner.ir.returns if inner is not None else ():
                if inner is None:
                    continue
                for more, v in alternatives(self.ev.value(inner, returned)):
                    if not consistent(more, atoms):
                        continue
                    yield from self._of_loader(v, atoms, 0)
                    if "sampler" in name:
                        yield from self._of_sampler(v, 0)


def _sources(node: Node) -> list[Node]:
    """What a loop runs over, without what only counts or shows the steps."""
    if node.op == "call" and node.args[0].op in ("name", "attr") and node.args[1]:
        word = node.args[0].args[-1]
        if word in ("enumerate", "tqdm", "zip", "iter", "islice", "track", "cycle"):
            return [part for given in node.args[1] for part in _sources(given)]
    return [node]


__all__ = ["Resampling"]
