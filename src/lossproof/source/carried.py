"""Which expressions of one function hold a value, given where it comes from.

The value may be one part of a tuple, a dictionary or an object, may be reshaped, joined with its like, handed from name
to name. What the flow cannot tell apart is written down: then readers cannot be served one by one.
"""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.evaluate import children
from lossproof.source.expressions import Expressions
from lossproof.source.lower import Node
from lossproof.source.syntax import Function, last

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
# Of these, those that leave the axes as they are.
_KEEPS_AXES = frozenset((
    "contiguous", "float", "double", "to", "cuda", "cpu", "clone", "type_as", "index_select", "flip",
))  # fmt: skip
JOINS = frozenset(("cat", "concat", "stack", "hstack", "vstack"))
# What a bound of the probabilities was for is gone with the logits form.
_BOUNDS = frozenset(("clamp", "clip", "clamp_", "clip_", "clamp_min", "clamp_max", "nan_to_num"))


class Leaf:
    """An expression in a function that gave activated values and now gives logits."""

    __slots__ = ("at", "inner", "keys", "turned")

    def __init__(self, at: Any, keys: frozenset[Key], inner: Any = None, turned: bool = False) -> None:
        self.at = at
        self.keys = keys
        self.turned = turned  # whether its axes may be others than where the activation was applied
        self.inner = inner  # what the activation is applied to, where it is the activation itself


class Flow:
    """Which expressions of a function hold the value, given where it comes from."""

    def __init__(
        self,
        uses: Expressions,
        leaves: dict[int, Leaf],
        params: dict[tuple[Function, str], frozenset[Key]],
        function: Function,
        bounds: frozenset[int] | None,
        records: dict[int, list[str]],
        joined: set[int],
        turned: frozenset[str],
    ) -> None:
        self._joined = joined
        self._records = records
        self.uses = uses
        self.leaves = leaves
        self.params = {name: keys for (holder, name), keys in params.items() if holder is function}
        self.function = function
        # Bounds that the value may pass; None for all.
        self._allowed = bounds
        self._known: dict[int, frozenset[Key]] = {}
        # Why readers cannot be told apart one by one, if they cannot.
        self.problem = ""
        # Parameters whose axes may be others than where the activation was applied.
        self.turned = turned
        self._turned: dict[int, bool] = {}
        # Whether somebody applies the activation a second time.
        self.expecting = False
        # Names that are bound to the value.
        self.names: set[str] = set()
        # Bounds (``clamp``) on the way, with the expression inside.
        self.bounds: list[Any] = []
        self.passed: dict[int, Any] = {}

    def keys(self, at: Any, node: Node) -> frozenset[Key]:
        found = self._keys(node)
        if found and isinstance(at, ast.Call) and node.at is at and is_bound(at) and id(at) not in self.leaves:
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
                lists = parted(node.at, node) or []
                if last(node.at.func) in JOINS:
                    return self._all_of(lists[0][0]) if lists else frozenset()
                return frozenset((*steps, *key[1:]) for part, steps in lists for key in self._keys(part) if key)
            inner = passed_on(node.at, node)
            if inner is None or (self._allowed is not None and is_bound(node.at) and id(node.at) not in self._allowed):
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
                not k and not is_none(n) and op == "phi" for k, n in zip(found_keys, branches, strict=True)
            ):
                self.problem = self.problem or "what is read is the output in only one of two branches"
            if op == "loop" and () in frozenset[Key]().union(*carrying) and not found_keys[0]:
                if branches[0].op not in ("const", "name", "free"):
                    self.problem = (
                        self.problem or "before the first turn of a loop something else stands for the output"
                    )
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
        return _read_within(self.function.node, self.names, inside=False)

    def is_turned(self, node: Node) -> bool:
        """Whether the axes of the value may be others than where the activation was applied to it."""
        known = self._turned.get(id(node))
        if known is None:
            self._turned[id(node)] = False  # a loop that only carries itself
            known = self._turned[id(node)] = self._turns(node)
        return known

    def _turns(self, node: Node) -> bool:
        op, args = node.op, node.args
        if op == "param":
            return args[0] in self.turned
        if op == "call":
            leaf = self.leaves.get(id(node.at))
            if leaf is not None:
                return leaf.turned
            if id(node.at) in self._joined:
                if last(node.at.func) in JOINS and (last(node.at.func) == "stack" or _has_axis(node.at)):
                    return True
            elif id(node.at) not in self._records:
                inner = passed_on(node.at, node)
                return inner is None or last(node.at.func) not in _KEEPS_AXES | _BOUNDS or self.is_turned(inner)
        if op in ("sub", "unpack", "iter") and () in self._keys(args[0]):
            if op != "sub" or args[1].op != "slice":
                return True  # a row, or columns
        if op == "sub" and args[1].op not in ("const", "slice"):
            return True
        return any(self.is_turned(part) for part in children(node) if self._keys(part))

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
                    inner = passed_on(node.at, node)
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


def parts(at: Any, carried: dict[int, frozenset[Key]]) -> list[Any]:
    """The elements of a tuple or dictionary display that hold the value; of anything else itself."""
    if isinstance(at, (ast.Tuple, ast.List)):
        inner = at.elts
    elif isinstance(at, ast.Dict):
        inner = at.values
    else:
        return [at]
    return [part for element in inner if id(element) in carried for part in parts(element, carried)]


def _read_within(scope: Any, names: set[str], *, inside: bool) -> str:
    """A name that a function within a scope reads from it, or nothing."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            found = _read_within(child, names - _own_names(child), inside=True)
        elif inside and isinstance(child, ast.Name) and child.id in names and isinstance(child.ctx, ast.Load):
            found = child.id
        else:
            found = _read_within(child, names, inside=inside)
        if found:
            return found
    return ""


def _own_names(scope: Any) -> set[str]:
    """The names that a function binds itself."""
    names: set[str] = set()
    stack = list(ast.iter_child_nodes(scope))
    while stack:
        at = stack.pop()
        if isinstance(at, ast.arg):
            names.add(at.arg)
        elif isinstance(at, ast.Name) and not isinstance(at.ctx, ast.Load):
            names.add(at.id)
        if not isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            stack.extend(ast.iter_child_nodes(at))
    return names


def _has_axis(call: Any) -> bool:
    """Whether a ``cat`` is over another axis than the first."""
    given = [*call.args[1:2], *(k.value for k in call.keywords if k.arg in ("dim", "axis"))]
    return any(not (isinstance(at, ast.Constant) and at.value == 0) for at in given)


def covered(keys: frozenset[Key], wanted: frozenset[Key]) -> bool:
    """Whether every place is one that is wanted, or an element where all of them are."""
    return all(key in wanted or (bool(key) and (EVERY, *key[1:]) in wanted) for key in keys)


def parted(call: Any, node: Node) -> list[tuple[Node, Key]] | None:
    """The lists that a call joins or walks over, each with the steps to its current element in the result."""
    name, given = last(call.func), node.args[1]
    if not given:
        return None
    if name in JOINS:
        return [(given[0], ())]
    if name == "zip":
        return [(part, (EVERY, i)) for i, part in enumerate(given)]
    return [(given[0], (EVERY, 1))] if name == "enumerate" else None


def is_bound(call: Any) -> bool:
    return last(call.func) in _BOUNDS


def is_none(node: Node) -> bool:
    return node.op == "const" and node.args[0] is None


def passed_on(call: Any, node: Node) -> Node | None:
    """What a call only reshapes (or bounds), or nothing."""
    func = node.args[0]
    if func.op == "attr" and func.args[1] in _SHAPE | _BOUNDS and func.args[0].op != "name":
        return func.args[0]  # type: ignore[no-any-return]
    if last(call.func) in _SHAPE | _BOUNDS and node.args[1] and isinstance(call.func, ast.Attribute):
        if isinstance(call.func.value, ast.Name) and call.func.value.id in ("torch", "F"):
            return node.args[1][0]  # type: ignore[no-any-return]
    return None
