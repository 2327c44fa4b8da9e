"""A class imbalance that is corrected twice: batches drawn in balance, and a loss that weighs the classes as well.

Both have to belong to one training. So it starts from a weighted loss and looks at what the loops around it run over,
in the contexts of their callers: a data loader whose sampler balances, or data that was oversampled before.

Both have to make up for the same thing, the counts of the classes. A sampler may draw hard examples more often, or as
much of each source; a weight may be what a mistake costs. So what either was computed from is looked at: quotients of
counts make the case, numbers that somebody wrote leave it open, anything else that is drawn evenly is not one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lossproof.source.contexts import Contexts
from lossproof.source.counts import Counts
from lossproof.source.evaluate import Evaluator, children
from lossproof.source.facts import BalancedTwice, LossCall
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower
from lossproof.source.origins import Origins, called
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
_RESAMPLE = ("fit_resample", "fit_sample")
MAX_LEVELS = 3
MAX_WORDS = 200
# What tells that something is counted by class, that it is counted by something else, and that a weight is a price.
_LABELS = Pattern(
    r"label|target|^ys?$|^y_|_y$|^t$|^gts?$|^n_?[01]$|truth|annot|class|cls|categ|diagnos|lbl|tgt|outcome|sentiment|grade"
    r"|(?:^|_)(?:pos|neg)(?:itives?|atives?)?(?:$|_)|minority|majority|imbalanc",
    re.I,
)
_OTHERWISE = Pattern(
    r"domain|difficult|uncert|hospital|seq_len|recency|confiden|environment|priorit|datasets$|^lengths$|clusters?_?id"
    r"|(?<!data)(?<!data_)source|(?:^|_)(?:dom|doms|groups?(?!_?by)|sites?|subjects?|patients?|speakers?|users?|cameras?"
    r"|hard|hardness|scores?|errors?|loss|losses|tasks?|buckets?|quality|language|languages)(?=$|_|(?-i:[A-Z0-9]))",
    re.I,
)
_PRICE = Pattern(r"cost|penal|price|importan|prefer|reliab|trust|risk|severity|utility", re.I)
_BARE = {
    "tensor", "as_tensor", "FloatTensor", "Tensor", "from_numpy", "array", "asarray", "float", "to", "cuda", "cpu",
    "double", "clone", "detach", "list", "tuple", "view", "reshape", "squeeze", "unsqueeze", "half", "type", "full",
}  # fmt: skip


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
                reason = self._reason(call)
                if reason is not None:
                    yield self._fact(call, hop, sure, reason)
                return

    def _fact(self, call: LossCall, hop: Hop, sure: bool, reason: str) -> BalancedTwice:
        fact = BalancedTwice(self.ev, call.frame, call.node, call.atoms)
        fact.sampler, fact.sure, fact.reason = hop, sure, reason
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

    # ---- what a weight was computed from

    def _reason(self, call: LossCall) -> str | None:
        """Why the loss weighs the classes: ``counts``, ``damped`` ones, a written ``number``, or ``unseen``."""
        name = "pos_weight" if call.kind == "bce_logits" else "weight"
        reasons: list[str | None] = []
        for frame, node in self._losses(call):
            given = {k: v for k, v in node.args[2] if k is not None}
            place = 2 if node is call.node else 0
            at = given.get(name)
            if at is None and name == "weight" and place < len(node.args[1]):
                at = node.args[1][place]
            if at is None:
                continue
            reasons.append(self._reason_of(frame, at, name, _given(node.at, name, place)))
        if not reasons:
            return "unseen"
        return next((r for r in ("counts", "damped", "number", "unseen") if r in reasons), None)

    def _losses(self, call: LossCall) -> Iterator[tuple[Frame, Node]]:
        """Where the weight is handed over: the call itself, or where its criterion was built."""
        built = False
        for _, v in alternatives(self.ev.value(call.frame, call.node.args[0])):
            if isinstance(v, Lib) and v.module is not None and v.at is not None:
                found = self._node_of(v.module, v.at)
                if found is not None:
                    built = True
                    yield found
        if not built:
            yield call.frame, call.node

    def _reason_of(self, frame: Frame, at: Node, name: str, written: str) -> str | None:
        if any(
            _resamples(node) for node in _tree([at, *(p.node for p in self.origins.of(frame, at) if p.value is None)])
        ):
            return None  # counted where the classes are even already: the weights are ones
        self.ev.refill()
        shares = self.counts.shares(frame, at, name)
        if shares:
            falling = [s for s in shares if s.towards(name) < 0]
            if not falling:
                return None  # they grow with the counts: another fault
            return "damped" if any(s.soft for s in falling) else "unseen" if any(s.named for s in falling) else "counts"
        self.ev.refill()
        places = [p for p in self.origins.of(frame, at) if p.value is None]
        words = {written} | {w for p in places for w in self._words(p.node)}
        if any(_PRICE.search(w) for w in words):
            return None
        known = [self._literal(p.frame, p.node, 0) for p in places]
        return "number" if known and all(known) else "unseen"

    def _literal(self, frame: Frame, node: Node, depth: int) -> bool:
        """Whether a number, or a list of them, stands there as it was written."""
        if depth > 8:
            return False
        if node.op == "const":
            return isinstance(node.args[0], (int, float))
        if node.op in ("list", "tuple"):
            return bool(node.args) and all(self._literal(frame, n, depth + 1) for n in node.args)
        if node.op == "un":
            return self._literal(frame, node.args[1], depth + 1)
        if node.op == "bin":
            return all(self._literal(frame, n, depth + 1) for n in node.args[1:])
        if node.op == "call":
            word, operands = called(self.ev, frame, node)
            return word in _BARE and bool(operands) and self._literal(frame, operands[0], depth + 1)
        if node.op in ("param", "attr", "name", "free", "phi", "sub"):
            places = [p for p in self.origins.of(frame, node) if p.node is not node or p.value is not None]
            return bool(places) and all(
                p.value is None and self._literal(p.frame, p.node, depth + 1)
                if p.value is None
                else isinstance(p.value, Const)
                for p in places
            )
        return False

    def _words(self, node: Node) -> set[str]:
        """The names that an expression was computed from."""
        found: set[str] = set()
        stack, seen = [node], set[int]()
        while stack and len(seen) < MAX_WORDS:
            one = stack.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            if one.op == "attr":
                found.add(str(one.args[1]))
            elif one.op in ("param", "name", "free"):
                found.add(str(one.args[0]))
            elif one.op == "const" and isinstance(one.args[0], str):
                found.add(one.args[0])
            if isinstance(one.at, ast.AST) and isinstance(one.at, ast.expr) and len(found) < MAX_WORDS:
                found |= _names(one.at)
            stack.extend(children(one))
        return found

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
            words = {v.cls.info.name, *self._words(node)}
            if any(_OTHERWISE.search(w) for w in words):
                return
            words |= _names(v.cls.info.node)
            if not any(_LABELS.search(w) for w in words):
                return
            yield Hop(frame.function.module, node.at, "the batches are drawn in balance here"), False

    def _balance(self, sampler: Lib) -> bool | None:
        """Whether a sampler's weights make up for the counts: surely, perhaps, or not (``None``)."""
        found = self._node_of(sampler.module, sampler.at)
        if found is None:
            return None
        frame, node = found
        given = dict(node.args[2])
        at = given.get("weights") or (node.args[1][0] if node.args[1] else None)
        if at is None:
            return None
        shares = self.counts.shares(frame, at, "")
        self.ev.refill()
        words = self._words(at)
        for place in self.origins.of(frame, at):
            if place.value is None:
                words |= self._words(place.node)
        if any(_OTHERWISE.search(w) for w in words) or not any(_LABELS.search(w) for w in words):
            return None
        if not shares:
            return False  # computed by somebody else, of the labels as it seems
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
        """``RandomOverSampler().fit_resample(x, y)`` in a function that goes on to train, or that prepares its data."""
        found = self._evened_out(base)
        if found is not None:
            yield Hop(base.function.module, found.at, "the classes are evened out here"), True
            return
        for node in base.ir.calls:
            word = node.args[0].args[-1] if node.args[0].op in ("name", "free", "attr") else ""
            if not isinstance(word, str) or word in _RESAMPLE:
                continue
            self.ev.refill()
            for target, positional, named in self.contexts.targets(base, node):
                if not any(getattr(c.func, "attr", "") in _RESAMPLE for c in target.function.calls):
                    continue
                inner = self.ev.enter(target, positional, named, base, node)
                found = self._evened_out(inner) if inner is not None else None
                if (
                    found is not None
                    and inner is not None
                    and any(n is found for n in _tree([n for n, _ in inner.ir.returns]))
                ):
                    yield Hop(inner.function.module, found.at, "the classes are evened out here"), True
                    return

    def _evened_out(self, frame: Frame) -> Node | None:
        for call in frame.function.calls:
            if getattr(call.func, "attr", "") not in _RESAMPLE:
                continue
            node = frame.ir.by_call.get(id(call))
            if node is None:
                continue
            owner = [v for _, v in alternatives(self.ev.value(frame, node.args[0].args[0]))]
            if any(isinstance(v, Lib) and _OVERSAMPLING.search(v.name.rpartition(".")[2]) for v in owner):
                return node
        return None

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


def _tree(roots: list[Node]) -> Iterator[Node]:
    """Everything that some values are computed from, within their functions."""
    stack, seen = list(roots), set[int]()
    while stack and len(seen) < MAX_WORDS:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(children(node))


def _resamples(node: Node) -> bool:
    return node.op == "call" and node.args[0].op == "attr" and node.args[0].args[1] in _RESAMPLE


def _given(at: object, name: str, place: int) -> str:
    """What the weight is called where it is handed over."""
    if not isinstance(at, ast.Call):
        return ""
    for keyword in at.keywords:
        if keyword.arg == name:
            return " ".join(sorted(_names(keyword.value)))
    return " ".join(sorted(_names(at.args[place]))) if place < len(at.args) else ""


def _names(at: object) -> set[str]:
    if not isinstance(at, ast.AST):
        return set()
    found = set()
    for part in ast.walk(at):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.arg):
            found.add(part.arg)
    return found


def _sources(node: Node) -> list[Node]:
    """What a loop runs over, without what only counts or shows the steps."""
    if node.op == "call" and node.args[0].op in ("name", "attr") and node.args[1]:
        word = node.args[0].args[-1]
        if word in ("enumerate", "tqdm", "zip", "iter", "islice", "track", "cycle"):
            return [part for given in node.args[1] for part in _sources(given)]
    return [node]


__all__ = ["Resampling"]
