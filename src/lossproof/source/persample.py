"""A ratio of sums over a whole batch, taken apart by sample: the sums, what is flattened for them, the mean at the end.

What is divided is followed backwards in the text of the function. Whatever is not a sum, a number or a step element by
element ends the attempt, and so does anybody else who reads a sum or a flattened tensor.
"""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import Operation
from lossproof.source.lower import Node, lower
from lossproof.source.siblings import whole_number
from lossproof.source.syntax import Function, dotted
from lossproof.source.tensor_ops import as_tensor
from lossproof.source.uses import reads
from lossproof.source.values import alternatives

_SUMS = {"sum", "mean"}
_FLAT = {"view", "reshape", "flatten", "ravel"}
_SAME = {
    "float", "double", "half", "contiguous", "to", "type_as", "detach", "sigmoid", "tanh", "abs", "pow", "square",
    "clamp", "relu", "bool", "long", "int", "clone", "cuda", "cpu", "exp", "log", "mul", "add", "sub", "neg",
    "minimum", "maximum",
}  # fmt: skip
_ABOVE = {"clamp", "clamp_min", "clip", "add", "float", "sqrt", "log", "exp", "add_", "mul", "pow", "square"}
# What has no batch in front any more, or may have none.
_OTHER_SHAPE = {
    "sum", "mean", "max", "min", "amax", "amin", "prod", "norm", "einsum", "matmul", "mm", "bmm", "dot", "unique",
    "std", "var", "nonzero", "masked_select", "cat", "stack", "t", "transpose", "permute", "bincount", "view",
    "reshape", "flatten", "squeeze",
}  # fmt: skip
_READ_AS_THEY_ARE = {
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "smooth_l1_loss", "mean",
}  # fmt: skip


class PerSample:
    """The attempt for one ratio."""

    def __init__(self, fact: Operation, patch: Patch) -> None:
        self.fact = fact
        self.patch = patch
        self.home = fact.frame.base().function
        self.seen: set[int] = set()
        # What is part of the ratio, as written; the sums; what was flattened for them.
        self.parts: list[tuple[Function, Any]] = []
        self.flattened: list[tuple[Function, Any]] = []
        self.axes: list[str] = []

    def run(self) -> None:
        node, at = self.fact.node, self.fact.node.at
        if node.op == "bin" and isinstance(at, ast.BinOp):
            sides = node.args[1:]
        elif node.op == "call" and isinstance(at, ast.Call):
            func, args, _ = node.args
            sides = args[:2] if len(args) > 1 else (func.args[0], *args[:1])
        else:
            raise Unfixable("the ratio is written in a way that is not understood")
        self.parts.append((self.home, at))
        for side in sides:
            self._above(self.home, side)
        if not self.axes:
            raise Unfixable("the sums of the ratio are not in this function")
        if len(set(self.axes)) > 1:
            raise Unfixable("the sums of the ratio run over different axes")
        self._check_readers()
        self._check_callers()
        self._average(at)

    # ---- above the sums

    def _above(self, holder: Function, node: Node) -> None:
        if id(node) in self.seen:
            return
        self.seen.add(id(node))
        at = node.at
        if node.op in ("bin", "un"):
            self.parts.append((holder, at))
            for child in node.args[1:]:
                self._above(holder, child)
        elif node.op == "const" or self._is_number(holder, node):
            return
        elif node.op == "call" and isinstance(at, ast.Call):
            self.parts.append((holder, at))
            self._call(holder, node, at)
        elif node.op == "unpack" and node.args[0].op == "call" and node.args[3] == -1:
            call, index, _, _ = node.args
            self._enter(holder, call, index)
        else:
            raise Unfixable("part of the ratio is not understood")

    def _call(self, holder: Function, node: Node, at: ast.Call) -> None:
        func, args, keywords = node.args
        name = dotted(at.func).rpartition(".")[2] or getattr(at.func, "attr", "")
        operand = self._operand(node)
        if name in _SUMS and operand is not None:
            self._sum(holder, node, at, operand)
        elif name == "dot" and len(args) == 2 and len(at.args) == 2:
            self._dot(holder, node, at)
        elif name == "norm" and func.op == "attr" and len(at.args) == 1 and not at.keywords:
            if not self._below(holder, func.args[0]):
                raise Unfixable("a norm of the whole batch")
            self.patch.add_argument(holder.module, at, "dim=1")
            self.axes.append("")
        elif name in _ABOVE and operand is not None:
            self._above(holder, operand[0])
            rest = args if func.op == "attr" and operand[0] is func.args[0] else args[1:]
            for child in (*rest, *(v for _, v in keywords)):
                self._above(holder, child)
        elif self._helper(holder, node) is not None:
            self._enter(holder, node, None)
        else:
            raise Unfixable("part of the ratio is not understood")

    def _is_number(self, holder: Function, node: Node) -> bool:
        if node.op == "attr":
            return bool(node.args[0].op == "param")
        if node.op == "param":
            param = next((p for p in lower(holder).params if p.name == node.args[0]), None)
            if param is None:
                return False
            preset = param.default is not None and param.default.op == "const"
            annotated = getattr(param.annotation, "id", "") in ("float", "int")
            return preset or annotated or bool(param.name.startswith(("eps", "smooth")))
        if node.op == "call":
            # ``max(smooth, 1)``, ``torch.finfo(p.dtype).eps``
            return dotted(node.at.func).rpartition(".")[2] in ("finfo",)
        return node.op in ("name", "free") and str(node.args[0]).isupper()

    def _helper(self, holder: Function, node: Node) -> Function | None:
        """The project's function behind a call, if nobody else calls it."""
        contexts: Any = self.fact.ev.oracle
        found = [f.function for f, _, _ in contexts.targets(self.fact.ev.open_frame(holder), node)]
        if len(found) != 1:
            return None
        callers = contexts.callers(found[0])
        if any(call.at is not node.at for _, call, _ in callers) or len(lower(found[0]).returns) != 1:
            raise Unfixable("the sums are made by a function that has other callers")
        function: Function = found[0]
        return function

    def _enter(self, holder: Function, call: Node, index: int | None) -> None:
        helper = self._helper(holder, call)
        if helper is None:
            raise Unfixable("part of the ratio is not understood")
        value, _ = lower(helper).returns[0]
        if index is not None:
            if value.op != "tuple" or index >= len(value.args):
                raise Unfixable("part of the ratio is not understood")
            self.parts.append((helper, value.at))
            value = value.args[index]
        self.parts.append((helper, value.at))
        self._above(helper, value)

    # ---- the sums

    def _operand(self, node: Node) -> tuple[Node, Any] | None:
        """The tensor of a call, function or method alike, in the graph and as written."""
        at, (func, args, _) = node.at, node.args
        if isinstance(at.func, ast.Attribute) and not _is_torch(at.func.value):
            return (func.args[0], at.func.value) if func.op == "attr" else None
        return (args[0], at.args[0]) if args else None

    def _sum(self, holder: Function, node: Node, at: ast.Call, operand: tuple[Node, Any]) -> None:
        module, patch = holder.module, self.patch
        method = isinstance(at.func, ast.Attribute) and operand[1] is at.func.value
        rest = list(at.args if method else at.args[1:])
        axes = next((k.value for k in at.keywords if k.arg in ("dim", "axis")), rest[0] if rest else None)
        if axes is not None:
            self._without_batch(holder, at, axes, rest)
            return
        if at.keywords:
            raise Unfixable("a sum of the ratio has settings of its own")
        flat = self._below(holder, operand[0])
        if not flat:
            end = patch.tree(module).outside(patch.tree(module).span(operand[1]))[1]
            closed = isinstance(operand[1], (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
            if closed or (method and end != patch.tree(module).span(operand[1])[1]):
                patch.put(module, end, end, ".flatten(1)")
            else:
                patch.method(module, operand[1], "flatten(1)")
        patch.add_argument(module, at, "1" if method else "dim=1")
        self.axes.append("")

    def _dot(self, holder: Function, node: Node, at: ast.Call) -> None:
        if not all(self._below(holder, child) for child in node.args[1]):
            raise Unfixable("a product of the whole batch")
        left, right = (self.patch.operand(holder.module, a) for a in at.args)
        self.patch.replace(holder.module, at, f"({left} * {right}).sum(1)")
        self.axes.append("")

    def _without_batch(self, holder: Function, at: ast.Call, axes: Any, rest: list[Any]) -> None:
        module = holder.module
        keep = next((k.value for k in at.keywords if k.arg == "keepdim"), rest[1] if len(rest) > 1 else None)
        if keep is not None and not isinstance(keep, ast.Constant):
            raise Unfixable("whether the axes are kept is decided elsewhere")
        if isinstance(axes, ast.Name):
            axes = self._bound_to(holder, axes)
        if not isinstance(axes, (ast.Tuple, ast.List)) or len(axes.elts) < 2:
            raise Unfixable("which axes are summed over is decided elsewhere")
        batch = [e for e in axes.elts if isinstance(e, ast.Constant) and e.value == 0]
        if len(batch) != 1 or not all(isinstance(e, (ast.Constant, ast.UnaryOp)) for e in axes.elts):
            raise Unfixable("which axes are summed over is decided elsewhere")
        self.patch.remove_argument(module, axes, batch[0])
        if len(axes.elts) == 2 and isinstance(axes, ast.Tuple):
            raise Unfixable("which axes are summed over is decided elsewhere")
        self.axes.append("0, keepdim=True" if keep is not None and keep.value else "0")

    def _bound_to(self, holder: Function, name: ast.Name) -> Any:
        """The tuple behind a name that is bound once and read only by sums of this ratio."""
        found = [
            n
            for n in ast.walk(holder.node)
            if isinstance(n, ast.Assign)
            and len(n.targets) == 1
            and isinstance(n.targets[0], ast.Name)
            and n.targets[0].id == name.id
        ]
        if len(found) != 1:
            raise Unfixable("which axes are summed over is decided elsewhere")
        tree = self.patch.tree(holder.module)
        for read in reads(tree, holder, found[0], name.id):
            call = tree.parent(read)
            call = tree.parent(call) if isinstance(call, ast.keyword) else call
            last = dotted(call.func).rpartition(".")[2] or getattr(call.func, "attr", "") if _is_call(call) else ""
            if last not in _SUMS:
                raise Unfixable("the axes are used for something else too")
        return found[0].value

    # ---- below the sums

    def _below(self, holder: Function, node: Node, depth: int = 20) -> bool:
        """Whether what is summed was flattened (it keeps its samples apart from now on)."""
        at = node.at
        if depth == 0 or (node.op == "bin" and node.args[0] == "@"):
            raise Unfixable("what is summed is not understood")
        if node.op == "bin":
            found = {
                self._below(holder, c, depth - 1)
                for c in node.args[1:]
                if c.op != "const" and not self._is_number(holder, c)
            }
            if len(found) > 1:
                raise Unfixable("only one of two factors is flattened here")
            return found.pop() if found else False
        if node.op == "un":
            return self._below(holder, node.args[1], depth - 1)
        if node.op == "call" and isinstance(at, ast.Call):
            operand = self._operand(node)
            name = dotted(at.func).rpartition(".")[2] or getattr(at.func, "attr", "")
            if name in _FLAT and isinstance(holder.module.top.get(dotted(at.func)), Function):
                raise Unfixable("what is summed goes through a helper of the project")
            if operand is not None and name in _FLAT and _flattens(at, operand[1], name):
                self._flatten(holder, at, operand[1], name)
                return True
            if operand is not None and name in _SAME:
                return self._below(holder, operand[0], depth - 1)
            if name in _OTHER_SHAPE and not (operand is not None and _keeps_first_axis(at, operand[1], name)):
                raise Unfixable("what is summed is not understood")
        if node.op == "sub" and not _keeps_batch(at):
            raise Unfixable("the batch is not the first axis of what is summed")
        self._check_shape(holder, node)
        return False

    def _flatten(self, holder: Function, at: ast.Call, operand: Any, name: str) -> None:
        if any(f is at for _, f in self.flattened):
            return
        module, patch = holder.module, self.patch
        self.flattened.append((holder, at))
        method = isinstance(at.func, ast.Attribute) and operand is at.func.value
        if name == "flatten" and not method:
            patch.add_argument(module, at, "start_dim=1")
            return
        # ``.contiguous()`` in front of it is not needed any more, and does no harm.
        tree = patch.tree(module)
        start = tree.outside(tree.span(operand))[1]
        _, end = tree.span(at)
        if "\n" in tree.between(start, end) or not method:
            raise Unfixable("what flattens the batch stands on several lines")
        patch.put(module, start, end, ".flatten(1)")

    def _check_shape(self, holder: Function, node: Node) -> None:
        if holder is not self.home:
            return
        for _, v in alternatives(self.fact.value(node)):
            t = as_tensor(v)
            if t.get("ndim") in (0, 1) or t.get("flat") or t.get("reduced") is not None:
                raise Unfixable("what is summed was flattened before it came here")
            if t.get("pooled") or t.get("moved") or t.get("masked") is not None:
                raise Unfixable("the batch is not the first axis of what is summed")

    def _check_callers(self) -> None:
        """A caller that squeezes may have dropped the batch itself, where it has a single sample."""
        contexts: Any = self.fact.ev.oracle
        sites = [(frame, node) for frame, node, _ in contexts.callers(self.home)]
        if self.home.name == "forward":
            sites += contexts.applications(self.home)
        for _, node in sites:
            _, positional, named = node.args
            for given in (*positional, *(value for _, value in named)):
                if any(isinstance(at, ast.Attribute) and at.attr == "squeeze" for at in ast.walk(given.at)):
                    raise Unfixable("a caller squeezes what it hands over: the batch may not be the first axis")

    # ---- who else reads

    def _check_readers(self) -> None:
        for holder, at in self.parts:
            self._check(holder, at, flat=False)
        for holder, at in self.flattened:
            self._check(holder, at, flat=True)

    def _check(self, holder: Function, at: Any, *, flat: bool) -> None:
        if at is self.fact.node.at:
            return
        tree = self.patch.tree(holder.module)
        value, parent = at, tree.parent(at)
        index = None
        if isinstance(parent, ast.Tuple) and isinstance(tree.parent(parent), ast.Assign):
            index = parent.elts.index(value)
            parent = tree.parent(parent)
        if not isinstance(parent, ast.Assign):
            return
        for target in parent.targets:
            if index is not None and isinstance(target, ast.Tuple) and len(target.elts) > index:
                target = target.elts[index]
            if not isinstance(target, ast.Name):
                raise Unfixable("a part of the ratio is kept for something else")
            for read in reads(tree, holder, parent, target.id):
                if not self._is_part(tree, holder, read) and not (flat and self._as_it_is(tree, read)):
                    raise Unfixable("a part of the ratio is used for something else too")

    def _is_part(self, tree: Any, holder: Function, read: Any) -> bool:
        node = read
        while node is not None and not isinstance(node, ast.stmt):
            if any(node is part for h, part in self.parts if h is holder):
                return True
            node = tree.parent(node)
        # On its way into a part: the value of a name that is one.
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            if isinstance(target, ast.Name):
                found = reads(tree, holder, node, target.id)
                return bool(found) and all(n is not read and self._is_part(tree, holder, n) for n in found)
        return False

    def _as_it_is(self, tree: Any, read: Any) -> bool:
        """Whether a read gives the same of ``(N, P)`` as of ``(N * P,)``: a loss, a mean over everything."""
        parent = tree.parent(read)
        if isinstance(parent, ast.Attribute):
            call = tree.parent(parent)
            return _is_call(call) and call.func is parent and parent.attr in _SUMS and not call.args
        if _is_call(parent):
            return (dotted(parent.func).rpartition(".")[2]) in _READ_AS_THEY_ARE
        return False

    def _average(self, at: Any) -> None:
        tree = self.patch.tree(self.fact.module)
        parent = tree.parent(at)
        call = tree.parent(parent)
        if isinstance(parent, ast.Attribute) and parent.attr == "mean" and _is_call(call) and not call.args:
            return  # the mean over the samples is taken with that over the classes
        self.patch.method(self.fact.module, at, f"mean({self.axes[0]})")


def _keeps_first_axis(at: ast.Call, operand: Any, name: str) -> bool:
    """``x.permute(0, 3, 1, 2)``, ``x.squeeze(1)``, ``x.view(n, -1)``."""
    rest = at.args if isinstance(at.func, ast.Attribute) and operand is at.func.value else at.args[1:]
    if len(rest) == 1 and isinstance(rest[0], (ast.Tuple, ast.List)):
        rest = rest[0].elts
    numbers = [whole_number(a) for a in rest]
    if name == "permute":
        return bool(numbers) and numbers[0] == 0
    if name in ("transpose", "squeeze"):
        return bool(numbers) and not {0, None} & set(numbers) and min(n for n in numbers if n is not None) >= -2
    if name in ("view", "reshape"):
        return len(rest) > 1 and numbers[0] is None
    return name == "flatten" and numbers == [1]


def _keeps_batch(at: Any) -> bool:
    """``x[:, c]``, ``x[..., 0]``, ``batch["mask"]``; not ``x[mask]`` or ``x[i]``."""
    if not isinstance(at, ast.Subscript):
        return False
    index = at.slice
    if isinstance(index, ast.Tuple) and index.elts:
        index = index.elts[0]
        whole = isinstance(index, ast.Slice) and index.lower is None and index.upper is None and index.step is None
        return whole or (isinstance(index, ast.Constant) and index.value is ...)
    return isinstance(index, ast.Constant) and isinstance(index.value, str)


def _is_call(node: Any) -> bool:
    return isinstance(node, ast.Call)


def _is_torch(at: Any) -> bool:
    return dotted(at) in ("torch", "F", "nn.functional", "torch.nn.functional")


def _flattens(at: ast.Call, operand: Any, name: str) -> bool:
    rest = at.args if isinstance(at.func, ast.Attribute) and operand is at.func.value else at.args[1:]
    if at.keywords:
        return False
    if name in ("flatten", "ravel"):
        return not rest
    if len(rest) != 1:
        return False
    only = rest[0]
    return isinstance(only, ast.UnaryOp) and isinstance(only.operand, ast.Constant) and only.operand.value == 1
