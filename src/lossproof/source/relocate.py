"""Takes an activation out of what a loss is given, and gives it to everybody else who read the activated value.

The activation may stand in another file than the loss. Everything that it flows to is looked for: losses become their
form for logits, every other reader gets the activation where it reads. What cannot be followed ends the attempt with
the reason: a reader that is missed would read logits for probabilities.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from lossproof.finding import Shift
from lossproof.source.carried import EVERY, WHOLE, Flow, Key, Leaf, covered, parts
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.reach import EXPORT, written
from lossproof.source.syntax import Function, ParsedModule, last
from lossproof.source.upstream import Upstream, argument, input_of
from lossproof.source.values import Lib, Ref, Seq, alternatives

if TYPE_CHECKING:
    from lossproof.source.facts import LossCall

# Says nothing of the values, or the same of logits as of probabilities.
_INDIFFERENT_ATTRIBUTE = frozenset(("shape", "device", "dtype", "ndim", "requires_grad", "is_cuda", "layout"))
_INDIFFERENT_METHOD = frozenset(("size", "dim", "numel", "nelement", "argmax", "retain_grad", "get_device", "type"))
_INDIFFERENT_FUNCTION = frozenset((
    "len", "isinstance", "type", "argmax", "ones_like", "zeros_like", "full_like", "empty_like", "rand_like",
    "randn_like", "view_as", "expand_as", "reshape_as", "type_as",
))  # fmt: skip
# What is applied to logits: a reader that does so itself expects them.
_EXPECTS_LOGITS = {
    "sigmoid": frozenset(("sigmoid", "Sigmoid", "expit", "logsigmoid", "LogSigmoid")),
    "softmax": frozenset(("softmax", "Softmax", "log_softmax", "LogSoftmax", "gumbel_softmax")),
}


def move(fact: LossCall, patch: Patch, act: str, loss_kinds: frozenset[str]) -> None:
    """Put the edits into a patch. ``loss_kinds``: losses that apply the activation themselves or have such a form."""
    _Move(fact, patch, act, loss_kinds).run()


class _Move(Upstream):
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
        for function in self.peeled:
            if any("regist" in d.lower() for d in function.decorators):
                raise Unfixable(f"`{function.qualname}` is registered, and who else takes it from there is not seen")
        self._hand_overs()
        for function in self._users():
            self._classify(function, edit=True)
        for module, at in self.elements.values():
            self._remove_element(module, at)
        self._exports()
        for criterion in self.criteria.values():
            self._switch_criterion(criterion)
        for (function, name), keys in self.params.items():
            self._shift(function, name, keys)
        for function, keys in self.peeled.items():
            self._shift(function, "", keys)

    def _shift(self, function: Function, name: str, keys: frozenset[Key]) -> None:
        """Notes that a function takes or gives logits now, for whoever compares it with what it was."""
        dim = int(self.dim) if re.fullmatch(r"-?\d+", self.dim) else None
        for key in sorted(keys, key=repr):
            self.patch.shifts.append(Shift(function.module.display, function.qualname, name, key, self.act, dim))

    def _size(self) -> tuple[int, ...]:
        return (
            len(self.sites), sum(map(len, self.sites.values())), len(self.elements), len(self.peeled),
            len(self.losses), len(self.params), len(self.criteria), len(self.turned),
        )  # fmt: skip

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

    # ---- what one function does with it

    def _classify(self, function: Function, *, edit: bool) -> None:
        """Sorts the uses of the value in a function: losses, what is returned, and everybody else."""
        tree = self.patch.tree(function.module)
        leaves = self._leaves(function)
        flows = self._flow(function, leaves, None)
        sinks, others = self._sorted(function, flows, tree)
        bounds = flows.bounds_before(sinks)
        if len(bounds) < len(flows.bounds):
            flows = self._flow(function, leaves, frozenset(map(id, bounds)))
            sinks, others = self._sorted(function, flows, tree)
        if edit:
            self._edit(function, leaves, flows, sinks, others)

    def _flow(self, function: Function, leaves: dict[int, Leaf], bounds: frozenset[int] | None) -> Flow:
        turned = frozenset(name for _, name in self.params if (function, name) in self.turned)
        return Flow(self.uses(function), leaves, self.params, function, bounds, self.records, self.joined, turned)

    def _sorted(self, function: Function, flows: Flow, tree: Any) -> tuple[list[Any], list[tuple[Any, frozenset[Key]]]]:
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
                others.extend((part, carried[id(part)]) for part in parts(at, carried))
        return sinks, others

    def _leaves(self, function: Function) -> dict[int, Leaf]:
        found = dict(self.sites.get(function, {}))
        for call in self._held().get(function, ()):
            if id(call) in found:
                continue
            keys: frozenset[Key] = frozenset()
            turned = False
            if id(call) in self._unknown:
                forwards = [f for f in self.peeled if f.name in ("forward", "__call__")]
                keys = keys.union(*(self.peeled[f] for f in forwards))
                turned = any(f in self.turned for f in forwards)
            for frame in self.frames(function):
                for value in self._callee(frame, call):
                    if isinstance(value, Seq) and self._gives_logits(value):
                        keys |= WHOLE
                    for peeled, where in self.peeled.items():
                        if self._runs(value, peeled):
                            keys |= where
                            turned = turned or peeled in self.turned
            if keys:
                found[id(call)] = Leaf(call, keys, None, turned)
        return found

    def _role(self, function: Function, at: Any, carried: dict[int, frozenset[Key]], tree: Any, flows: Flow) -> str:
        """What stands around an expression that holds the value: ``pass``, ``sink`` or ``other``."""
        parent = tree.parent(at)
        if isinstance(parent, ast.keyword):
            parent = tree.parent(parent)
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
            if flows.is_turned(flows.uses.node_of[id(at)]):
                self.turned.add(function)
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
            if () not in keys and not called and not any(key[0] == parent.attr for key in keys):
                return "pass"
            if () in keys and called and self._is_indifferent(outer, _INDIFFERENT_METHOD, 0):
                return "pass"
            if () in keys and not called and parent.attr in _INDIFFERENT_ATTRIBUTE:
                return "pass"
            return "other"
        if isinstance(parent, ast.Call) and at is not parent.func:
            return self._given_to(function, parent, at, keys, flows)
        return "other"

    def _given_to(self, function: Function, call: Any, at: Any, keys: frozenset[Key], flows: Flow) -> str:
        """An argument: of a loss that takes logits, of a function that hands it to one, or of anything else."""
        if id(call) in self.losses:
            return "sink" if input_of(call) is at else "other"
        if self._is_indifferent(call, _INDIFFERENT_FUNCTION, 1) or id(call) in self.joined:
            return "pass"
        for target in {t for frame in self.frames(function) for t in self._targets(frame, call)}:
            for (wanted, name), where in self.params.items():
                if target is wanted and argument(call, target, name) is at and covered(keys, where):
                    if flows.is_turned(flows.uses.node_of[id(at)]):
                        self.turned.add((target, name))
                    return "sink"
        if () in keys and input_of(call) is at:
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

    def _is_indifferent(self, call: Any, names: frozenset[str], place: int) -> bool:
        """Whether a call makes the same of logits as of probabilities: of a softmax the highest along its axis."""
        name = last(call.func)
        if name != "argmax" or self.act == "sigmoid":
            return name in names
        given = [*call.args[place : place + 1], *(k.value for k in call.keywords if k.arg in ("dim", "axis"))]
        return any(ast.unparse(at) in (self.dim, "-1") for at in given)

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
        leaves: dict[int, Leaf],
        flows: Flow,
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
                    self._activate(function, at, flows)
            elif others or hidden or flows.problem:
                for leaf in leaves.values():
                    if not isinstance(self.patch.tree(module).parent(leaf.at), ast.Expr):
                        self._activate(function, leaf.at, flows)
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
            self._activate(function, at, flows)

    def _targets_of(self, module: ParsedModule, at: Any) -> list[Any]:
        """What an expression is assigned to."""
        statement = self.patch.tree(module).parent(at)
        return statement.targets if isinstance(statement, ast.Assign) and statement.value is at else []

    def _unwrap(self, module: ParsedModule, leaf: Leaf) -> None:
        statement = self.patch.tree(module).parent(leaf.at)
        names = [getattr(t, "id", "") for t in getattr(statement, "targets", ())]
        if isinstance(statement, ast.Expr) or (isinstance(leaf.inner, ast.Name) and names == [leaf.inner.id]):
            self.patch.delete(module, statement)  # ``x = x``
        else:
            self.patch.unwrap(module, leaf.at, leaf.inner)

    def _activate(self, function: Function, at: Any, flows: Flow) -> None:
        """The activation around one expression; a softmax goes where the axes still are what they were."""
        inner = at
        while self.act == "softmax" and flows.is_turned(flows.uses.node_of[id(inner)]):
            inner = getattr(getattr(inner, "func", inner), "value", None)
            if inner is None or flows.keys_of(inner) != WHOLE:
                raise Unfixable(f"the output has other axes where `{function.qualname}` reads `{written(at)}`")
        before, after = self._call_around(function)
        module, tree = function.module, self.patch.tree(function.module)
        outer = tree.parent(inner)
        if isinstance(outer, ast.Attribute):
            outer = tree.parent(outer)
        if isinstance(outer, ast.Call) and ast.unparse(outer) in (
            f"torch.log({(it := ast.unparse(inner))})",
            f"{it}.log()",
        ):
            # The logarithm of the activation has a form of its own.
            log = "logsigmoid" if self.act == "sigmoid" else "log_softmax"
            before = f"{self.patch.name(function, f'torch.nn.functional.{log}')}("
            self.patch.put(module, tree.span(outer)[0], tree.span(inner)[0], before)
            self.patch.put(module, tree.span(inner)[1], tree.span(outer)[1], after)
            return
        self.patch.wrap(module, inner, before, after)

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
        leaves: dict[int, Leaf],
        flows: Flow,
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
        if self.act == "softmax" and leaf.inner is None and flows.is_turned(flows.uses.node_of[id(whole)]):
            return False
        bases = [_base(at, held) for at in sinks]
        if any(base is None for base in bases):
            return False
        if leaf.inner is not None and isinstance(leaf.inner, ast.Name) and flows.times_bound(leaf.inner) <= 1:
            name = leaf.inner.id
        else:
            name = self._new_name(function, last(target))
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
            raise Unfixable("which loss it is, is chosen elsewhere")
        if isinstance(known[0], Ref):
            self._rename(function, call.func, known[0].name, self.form[known[0].name])

    def _rename(self, function: Function, func: Any, old: str, new: str) -> None:
        if isinstance(func, ast.Attribute):
            if func.attr != old.rpartition(".")[2]:
                raise Unfixable("which loss it is, is chosen elsewhere")
            tree = self.patch.tree(function.module)
            _, end = tree.span(func)
            self.patch.put(function.module, (end[0], end[1] - len(func.attr)), end, new.rpartition(".")[2])
            return
        if not isinstance(func, ast.Name):
            raise Unfixable("which loss it is, is chosen elsewhere")
        known = function.module.imports.get(func.id)
        if known is None or known[1] != old.rpartition(".")[2]:
            raise Unfixable(f"which loss it is, is chosen elsewhere than at `{func.id}`")
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
                        isinstance(v, Ref) and v.name in EXPORT
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
                if self.act == "softmax" and any(f in self.turned for f in self.peeled):
                    raise Unfixable(f"`{holder.qualname}` exports the network, whose output has other axes")
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
            and last(parent.func) in ("append", "add_module")
        ):
            if isinstance(tree.parent(statement), (ast.If, ast.For, ast.While)):
                raise Unfixable("the activation is added under a condition")
            self.patch.delete(module, statement)
            return
        if isinstance(parent, ast.List) and len(parent.elts) == 1 and isinstance(statement, ast.AugAssign):
            self.patch.delete(module, statement)
            return
        if isinstance(parent, ast.Call) and last(parent.func) == "Sequential" and len(parent.args) > 1:
            self.patch.remove_argument(module, parent, child)
            return
        if isinstance(parent, (ast.List, ast.Tuple)) and len(parent.elts) > 1:
            self.patch.remove_argument(module, parent, child)
            return
        raise Unfixable("the activation is not written as a layer of its own")


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
