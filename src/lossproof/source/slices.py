"""What computes a training loss: the part of a function that a loss value is made from.

A slice begins where a loss is used as one (``backward()``, the return value of a loss function or of a
training step) and runs backwards through arithmetic and through the project's own helpers. It stops at
networks: what happens inside a model, or before it, is not the loss.
"""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lossproof.source.contexts import Contexts
from lossproof.source.dynamic import fetched
from lossproof.source.evaluate import Evaluator, children
from lossproof.source.frames import Frame
from lossproof.source.inner_losses import inner_losses, makes_one_number
from lossproof.source.investigate import NO_GRADIENT
from lossproof.source.layers import builds_layers, holds_loss
from lossproof.source.lower import Node, lower
from lossproof.source.syntax import ClassInfo, Function, dotted
from lossproof.source.torch_names import LOSS_FUNCTION, LOSS_LAYER
from lossproof.source.values import Func, Inst, Lib, Map, Meth, Mod, Partial, Ref, Seq, T, Value, alternatives

LOSS_FUNCTION_NAME = re.compile(
    r"loss|criterion|objective|nll|elbo(?!w)|kld|(^|_)kl(_|$|div)|diverg|(?<!in)dice|tversky|focal(?!_?len)|cross_?entropy|bce"
    r"|penalty|regulari[sz]|ssim|infonce|nt_?xent|contrastive|triplet|charbonnier|huber|rmse|(^|_)mse(_|$)|lovasz|(^|_)wing|"
    r"pinball|mape|smape|sisdr|si_snr|(^|_)sdr|hinge|perceptual|(^|_)gram(_|$)|(^|_)tv_|total_variation|training_step",
    re.I,
)
# Whole words of a name, so that ``symmetric_loss`` is no metric and ``log_ratio_loss`` no logging.
NOT_LOSS = re.compile(
    r"(?:^|_)(?:metrics?|accuracy|acc|evals?|evaluate|evaluation|validate|validation|val|test\w*|psnr|precision|recall|plot\w*"
    r"|meter|visuali[sz]e\w*|draw|save|load|callback|build|make|create|reward\w*|schedule\w*|lr|collate|monitor|report|print"
    r"|summary|scheme|weights_init|get_\w*fn)(?:_|$)",
    re.I,
)
# Calls that a differentiable objective does not make.
_MEASURES = {"item", "numpy", "argmax", "tolist", "cpu", "topk", "backward", "zero_grad"}
_METRIC_FILE = re.compile(r"metric|eval|test|benchmark|measure|accuracy|score", re.I)
LOSS_CLASS_NAME = re.compile(r"loss|criterion|objective|divergence|penalty|regulari[sz]", re.I)
_LABELS = re.compile(r"label|^targets?$|^gt$", re.I)
# What is returned beside a loss under such a name is shown to somebody; whoever trains on it takes it from the call.
_MEASURED = re.compile(r"^(?!.*loss)(?:.*_)?(?:m?iou|acc\w*|f1|psnr|precision|recall|metrics?|epe|auc)(?:_|$)", re.I)
METRIC_CLASS = re.compile(r"metric|accuracy|eval|meter|score$", re.I)
_MEASURING_PACKAGE = re.compile(r"metrics$", re.I)
OVERLAP_CLASS = re.compile(r"iou|jaccard|overlap|dice|tversky|f1|fbeta", re.I)
MAX_DEPTH = 5
MAX_NODES = 4_000
# The calls of one helper that one slice goes into: what its first few contexts do not show, the tenth does not either.
MAX_ENTRIES = 3


NETWORK_CLASS = re.compile(
    r"net|model|former|encoder|decoder|head$|dataset|trainer|learner|agent|system|backbone", re.I
)


def is_loss_class(name: str) -> bool:
    if METRIC_CLASS.search(name):
        return False
    if LOSS_CLASS_NAME.search(name):
        return True
    return LOSS_FUNCTION_NAME.search(name) is not None and NETWORK_CLASS.search(name) is None


def returns_one_number(function: Function) -> bool:
    """Whether a function reduces tensors to a single differentiable number, as only objectives (and metrics) do."""
    if _METRIC_FILE.search(function.module.path.replace("\\", "/").rpartition("/")[2]):
        return False
    if any((getattr(c.func, "attr", None) or getattr(c.func, "id", "")) in _MEASURES for c in function.calls):
        return False
    body = function.node.body
    if not isinstance(body, list):
        return False
    returned: list[ast.expr] = []
    assigned: dict[str, ast.expr] = {}
    stack: list[ast.stmt] = list(reversed(body))
    while stack:
        statement = stack.pop()
        if isinstance(statement, ast.Return) and statement.value is not None:
            returned.append(statement.value)
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            assigned[statement.targets[0].id] = statement.value
        elif isinstance(statement, ast.With) and _without_gradient(statement):
            # The targets of a teacher, perhaps; what is returned from here, or of nothing else, is no objective.
            if not _runs_beside(function, statement):
                return False
        elif isinstance(statement, (ast.If, ast.With, ast.For)):
            stack.extend([*reversed(getattr(statement, "orelse", [])), *reversed(statement.body)])
    return bool(returned) and _reduced(returned[-1], assigned, 6)


def _runs_beside(function: Function, block: ast.With) -> bool:
    """Whether something of the object's, or something handed in, is also called outside of a block."""
    inside = {id(part) for part in ast.walk(block)}
    arguments = getattr(function.node, "args", None)
    handed = (
        {a.arg for a in (*arguments.posonlyargs, *arguments.args)} if isinstance(arguments, ast.arguments) else set()
    )
    for call in function.calls:
        func = call.func
        root = func.value if isinstance(func, ast.Attribute) and function.cls is not None else func
        me = isinstance(func, ast.Attribute) and isinstance(root, ast.Name) and root.id == function.first_param
        if id(call) not in inside and (me or (isinstance(func, ast.Name) and func.id in handed)):
            return True
    return False


def _without_gradient(block: ast.With) -> bool:
    """``with torch.no_grad():``"""
    calls = (item.context_expr for item in block.items)
    return any(isinstance(c, ast.Call) and dotted(c.func).rpartition(".")[2] in NO_GRADIENT for c in calls)


def sums_up_numbers(function: Function) -> bool:
    """Whether a function adds up such numbers, layer by layer: ``sum(x.mean() for x in xs)``, ``total += x.mean()``."""
    if any((getattr(c.func, "attr", None) or getattr(c.func, "id", "")) in _MEASURES for c in function.calls):
        return False
    returned = [s.value for s in ast.walk(function.node) if isinstance(s, ast.Return) and s.value is not None]
    value: Any = returned[-1] if returned else None
    if isinstance(value, ast.Name):
        pieces = [
            (s.target if isinstance(s, ast.AugAssign) else s.targets[0], s.value)
            for s in ast.walk(function.node)
            if isinstance(s, (ast.Assign, ast.AugAssign))
        ]
        mine = [given for target, given in pieces if isinstance(target, ast.Name) and target.id == value.id]
        added = any(
            isinstance(s, ast.AugAssign) and isinstance(s.target, ast.Name) and s.target.id == value.id
            for s in ast.walk(function.node)
        )
        if added:
            return any(_reduced(given, {}, 6) for given in mine)
        value = mine[-1] if mine else None
    while isinstance(value, ast.BinOp):
        value = value.left if isinstance(value.left, ast.Call) else value.right
    if not isinstance(value, ast.Call) or not value.args or not isinstance(value.func, ast.Name):
        return False
    each = value.args[0]
    return value.func.id == "sum" and isinstance(each, (ast.GeneratorExp, ast.ListComp)) and _reduced(each.elt, {}, 6)


def returns_complement(function: Function) -> bool:
    """Whether ``1 - score`` is returned: what is subtracted from one is minimized."""
    return any(
        isinstance(s, ast.Return)
        and isinstance(s.value, ast.BinOp)
        and isinstance(s.value.op, ast.Sub)
        and isinstance(s.value.left, ast.Constant)
        and s.value.left.value == 1
        for s in ast.walk(function.node)
    )


def _reduced(e: ast.expr, assigned: dict[str, ast.expr], depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(e, ast.Call):
        name = dotted(e.func)
        head, _, last = name.rpartition(".")
        if not last and isinstance(e.func, ast.Attribute):
            last = e.func.attr
        if last in ("mean", "sum"):
            dims = [k for k in e.keywords if k.arg in ("dim", "axis")]
            return not dims and len(e.args) == (1 if head == "torch" else 0) and head not in ("np", "numpy")
        return last in LOSS_FUNCTION
    if isinstance(e, ast.UnaryOp):
        return _reduced(e.operand, assigned, depth - 1)
    if isinstance(e, ast.IfExp):
        return _reduced(e.body, assigned, depth - 1) and _reduced(e.orelse, assigned, depth - 1)
    if isinstance(e, ast.BinOp):
        return _reduced(e.left, assigned, depth - 1) or _reduced(e.right, assigned, depth - 1)
    if isinstance(e, ast.Name) and e.id in assigned:
        return _reduced(assigned[e.id], {k: v for k, v in assigned.items() if k != e.id}, depth - 1)
    return False


_STARTS = {"backward", "manual_backward", "scale"}


# What is registered as an operator's kernel runs below autograd: its backward is another function.
_KERNEL = {"register_decomposition", "custom_op", "register_kernel", "register_fake", "register_meta"}


def below_autograd(function: Function) -> bool:
    """Whether autograd does not see what a function computes: an operator's kernel, an ``autograd.Function``."""
    names = {d.partition("(")[0].rpartition(".")[2] for d in function.decorators}
    if names & _KERNEL:
        return True
    bases = function.cls.node.bases if function.cls is not None else []
    return "staticmethod" in names and any(dotted(b).rpartition(".")[2] == "Function" for b in bases)


class Step:
    """A node of a slice, in its context. ``cut``: no gradient comes back to it, only its value counts."""

    __slots__ = ("cut", "frame", "node")

    def __init__(self, frame: Frame, node: Node, cut: bool = False) -> None:
        self.frame = frame
        self.node = node
        self.cut = cut


class Slices:
    def __init__(self, ev: Evaluator, contexts: Contexts) -> None:
        self.ev = ev
        self.contexts = contexts
        self._entries: Counter[Function] = Counter()
        # The calls whose results were unpacked: the frame, the callee's frames, what else goes into them.
        self._entered: dict[tuple[int, Node], tuple[Frame, list[Frame], list[Node]]] = {}
        root = ev.project.root
        name = os.path.basename(root)
        measures = _MEASURING_PACKAGE.search(name) is not None and os.path.exists(os.path.join(root, "__init__.py"))
        self._package = "metrics" if measures else ""
        self._layers: dict[ClassInfo, bool] = {}
        self._trains = False
        # The networks that compute their loss themselves: little of what they compute is that loss.
        self._inner: dict[Function, bool] = {}
        # Whether the last slice met a call of something that only a caller can name.
        self.unnamed = False

    def is_loss_function(self, function: Function) -> bool:
        """By what it is: a criterion's ``forward``, a function that says it is a loss, a training step."""
        if any(d.rpartition(".")[2] in ("no_grad", "inference_mode") for d in function.decorators):
            return False
        name = function.name
        cls = function.cls
        if name in ("training_step", "compute_loss", "loss", "training_loss"):
            return True
        if cls is not None and name in ("forward", "__call__"):
            if METRIC_CLASS.search(cls.name) is not None:
                return False
            if OVERLAP_CLASS.search(cls.name) is not None and returns_complement(function):
                return True
            return is_loss_class(cls.name) or returns_one_number(function) or self._criterion(function, cls)
        if name.startswith("__") or NOT_LOSS.search(name):
            return False
        if "metric" in self.path_of(function).lower() and "loss" not in name.lower():
            return False
        if LOSS_FUNCTION_NAME.search(name):
            return cls is None or METRIC_CLASS.search(cls.name) is None
        # A helper of a criterion counts where the criterion uses it; the slice tells.
        return cls is None and function.parent is function.module.body and returns_one_number(function)

    def _criterion(self, function: Function, cls: ClassInfo) -> bool:
        """A module that only computes, and computes a library's loss, whatever it is called."""
        called = {getattr(c.func, "attr", None) or getattr(c.func, "id", "") for c in function.calls}
        if not any(
            name in LOSS_FUNCTION or (name in cls.stores() and holds_loss(cls, name, LOSS_LAYER)) for name in called
        ):
            return False
        return NETWORK_CLASS.search(cls.name) is None and not self.has_layers(self.ev.open_instance(cls))

    def path_of(self, function: Function) -> str:
        """Where a function is in its project: what lies above the project says nothing of it."""
        path, root = function.module.path, self.ev.project.root
        if not path.startswith(root):
            return path
        inside = path[len(root) :].replace("\\", "/")
        # A package that is itself the root belongs to what it holds: ``somemetrics/functional/image.py``.
        return f"/{self._package}{inside}" if self._package else inside

    def roots(self, function: Function) -> list[Node]:
        """The loss values of a function."""
        names = {getattr(c.func, "attr", None) or getattr(c.func, "id", "") for c in function.calls}
        lossy = self.is_loss_function(function)
        if not lossy and not names & {"backward", "manual_backward"}:
            if function is function.module.body and not function.module.imports:
                # A pasted snippet that stops at the loss.
                final = lower(function).final
                return [node for name, node in final.items() if name in ("loss", "total", "total_loss")]
            return inner_losses(function)
        found = self.started(function)
        if lossy:
            for node, _ in lower(function).returns:
                found.extend(_trained_on(node))
        return found

    def started(self, function: Function) -> list[Node]:
        """The values that a function starts a backward pass from."""
        if not any(getattr(c.func, "attr", "") in _STARTS for c in function.calls):
            return []
        found: list[Node] = []
        for call in lower(function).calls:
            func = call.args[0]
            if func.op == "attr" and func.args[1] == "backward":
                obj = func.args[0]
                args = call.args[1]
                # ``accelerator.backward(loss)`` against ``loss.backward()``
                found.append(args[0] if args and obj.op in ("name", "free", "attr") and _engine(obj) else obj)
            elif func.op == "attr" and func.args[1] in ("manual_backward", "scale") and call.args[1]:
                found.append(call.args[1][0])
        return found

    def steps(self, frame: Frame) -> Iterator[Step]:
        """Every node that a function's loss values are made from, its helpers' included."""
        seen: set[tuple[int, Node]] = set()
        budget = [MAX_NODES]
        cut = below_autograd(frame.function)
        self._entries.clear()
        self._entered.clear()
        self.unnamed = False
        # What a loss made of modules calls may be anything; what a training step calls on the way to its loss is loss.
        self._trains = frame.function.name == "training_step" or bool(self.started(frame.function))
        for root in self.roots(frame.function):
            yield from self._walk(frame, root, seen, 0, budget, cut)

    def returned(
        self,
        frame: Frame,
        seen: set[tuple[int, Node]],
        depth: int,
        budget: list[int],
        cut: bool,
        unpack: Node | None = None,
    ) -> Iterator[Step]:
        """What a helper's result is made from; ``unpack`` takes one of several results."""
        cut = cut or below_autograd(frame.function)
        for node, guard in frame.ir.returns:
            possible, _ = self.ev.reachable(frame, guard)
            for part in _trained_on(node, unpack) if possible else ():
                yield from self._walk(frame, part, seen, depth, budget, cut)
        for node in frame.ir.yields:
            yield from self._walk(frame, node, seen, depth, budget, cut)

    def _walk(
        self, frame: Frame, root: Node, seen: set[tuple[int, Node]], depth: int, budget: list[int], cut: bool
    ) -> Iterator[Step]:
        stack = [root]
        inner = self.computes_its_loss(frame.function)
        # What only a detached value is made from comes last: another way to it may carry a gradient.
        later: list[Node] = []
        while stack or later:
            if not stack:
                stack, later, cut = later, [], True
            node = stack.pop()
            key = (id(frame), node)
            if key in seen or budget[0] <= 0:
                continue
            seen.add(key)
            budget[0] -= 1
            op = node.op
            if op == "unpack" and node.args[0].op == "call" and (id(frame), node.args[0]) not in seen:
                call = node.args[0]
                entered = self._entered.get((id(frame), call))
                if entered is None:
                    if not inner or makes_one_number(call):
                        yield Step(frame, call, cut)
                    entered = self._entered[(id(frame), call)] = (frame, *self._call(frame, call))
                    (later if _ends_gradient(call) else stack).extend(entered[2])
                if depth < MAX_DEPTH:
                    for callee in entered[1]:
                        yield from self.returned(callee, seen, depth + 1, budget, cut, node)
                continue
            if op == "call":
                if not inner or makes_one_number(node):
                    yield Step(frame, node, cut)
                into, more = self._call(frame, node)
                (later if _ends_gradient(node) else stack).extend(more)
                if depth < MAX_DEPTH:
                    for callee in into:
                        yield from self.returned(callee, seen, depth + 1, budget, cut)
                continue
            if op in ("bin", "setitem", "sub", "un", "inplace") and (not inner or makes_one_number(node)):
                yield Step(frame, node, cut)
            if _ends_gradient(node):
                later.extend(children(node))
                continue
            if op == "free":
                # A closure's variable is computed in the function around it.
                continue
            if op == "phi":
                stack.extend(c for c in node.args[1:])
                continue
            if op == "sub":
                stack.append(node.args[0])
                continue
            stack.extend(children(node))

    def computes_its_loss(self, function: Function) -> bool:
        """A network, not a criterion, that returns a loss beside its predictions."""
        known = self._inner.get(function)
        if known is None:
            known = bool(inner_losses(function)) and not self.is_loss_function(function)
            self._inner[function] = known
        return known

    def _call(self, frame: Frame, node: Node) -> tuple[list[Frame], list[Node]]:
        """Frames of the project's helpers to go into, and the arguments to go on with."""
        ev = self.ev
        ev.begin()
        func = node.args[0]
        arguments = [*node.args[1], *(v for _, v in node.args[2])]
        into: list[Frame] = []
        project = False
        for target, positional, named in self.contexts.targets(frame, node):
            project = True
            function = target.function
            if self.computes_its_loss(frame.function) and not self.is_loss_function(function):
                arguments = []
                continue
            if self._network(target):
                # What enters a network is not part of the loss; a criterion that holds one is entered.
                arguments = [] if not self.is_loss_function(function) else arguments
                if not self.is_loss_function(function):
                    continue
            if self._entries[function] >= MAX_ENTRIES:
                continue
            entered = ev.enter(target, positional, named, frame, node)
            if entered is not None and len(into) < 3:
                self._entries[function] += 1
                into.append(entered)
        if project:
            return into, arguments
        if func.op == "attr":
            obj = ev.value(frame, func.args[0])
            if any(isinstance(v, (T, Seq, Map)) for _, v in alternatives(obj)):
                return into, [func.args[0], *arguments]
            if any(isinstance(v, (Ref, Mod)) for _, v in alternatives(obj)):
                return into, [] if self._draws(ev.value(frame, func)) else arguments
            if any(isinstance(v, (Inst, Lib)) for _, v in alternatives(obj)):
                return into, arguments
            return into, [func.args[0], *arguments]
        picked = fetched(func)
        if picked is not None and any(isinstance(v, T) for _, v in alternatives(ev.value(frame, picked[0]))):
            return into, [picked[0], *arguments]
        callee = ev.value(frame, func)
        if any(isinstance(v, T) and not v.act for _, v in alternatives(callee)):
            self.unnamed = True
            name = getattr(func.at, "attr", None) or getattr(func.at, "id", "") or ""
            return into, arguments if LOSS_FUNCTION_NAME.search(name) or "reduc" in name.lower() else []
        if any(isinstance(v, Lib) and not v.name.startswith("torch.nn.") for _, v in alternatives(callee)):
            return into, []
        if any(isinstance(v, (Meth, Ref, Lib, Func, Partial)) for _, v in alternatives(callee)):
            return into, [] if self._draws(callee) else arguments
        return into, []

    @staticmethod
    def _draws(callee: Value) -> bool:
        """A data loader or a sampler: how batches are drawn is not part of the loss."""
        return any(isinstance(v, Ref) and v.name.startswith("torch.utils.data.") for _, v in alternatives(callee))

    def has_layers(self, me: Inst) -> bool:
        """Whether an object holds what learns. Without it, a module is arithmetic, whatever its class is called."""
        known = self._layers.get(me.cls.info)
        if known is None:
            bases = self.ev.mro(me.cls)
            known = self.ev.library_base(me.cls) != "torch.nn.Module" or any(builds_layers(c.info) for c in bases)
            self._layers[me.cls.info] = known
        return known

    def _network(self, target: Func) -> bool:
        function = target.function
        if function.name not in ("forward", "__call__") or not isinstance(target.me, Inst):
            return False
        if self._trains and not self.has_layers(target.me):
            return False
        # A margin head is handed the labels: it is part of the objective.
        return not any(_LABELS.search(p.name) for p in lower(function).params[2:])


def _trained_on(node: Node, unpack: Node | None = None) -> list[Node]:
    """What a function returns, or the part that is taken of it, less the numbers that only a report wants."""
    if node.op != "tuple":
        return [node]
    if unpack is not None:
        _, index, count, star = unpack.args
        if star < 0 and count == len(node.args):
            return [node.args[index]]
    names = [getattr(e, "id", "") for e in getattr(node.at, "elts", ())]
    told = [bool(_MEASURED.search(name)) for name in names] + [False] * len(node.args)
    return [part for i, part in enumerate(node.args) if i == 0 or not (told[i] or _reported(part))]


def _reported(node: Node) -> bool:
    """A number, or a table of numbers, that is returned beside a loss: ``epe.mean().item()``."""
    if node.op == "dict":
        return bool(node.args[1]) and all(isinstance(v, Node) and _reported(v) for v in node.args[1])
    if node.op != "call":
        return node.op == "const"
    func = node.args[0]
    return func.op == "attr" and func.args[1] in ("item", "tolist", "numpy") and not node.args[1]


def _ends_gradient(node: Node) -> bool:
    """``x.detach()``, ``x.data``, and whatever is computed under ``no_grad``."""
    attribute = node if node.op == "attr" else node.args[0] if node.op == "call" else None
    if attribute is not None and attribute.op == "attr" and attribute.args[1] in ("detach", "detach_", "data"):
        return True
    guard = node.guard
    while guard is not None:
        test = guard.test
        if guard.polarity is None and test is not None and test.op == "call" and hasattr(test.at, "func"):
            if dotted(test.at.func).rpartition(".")[2] in ("no_grad", "inference_mode"):
                return True
        guard = guard.parent
    return False


def _engine(node: Node) -> bool:
    """``accelerator``, ``fabric``, ``self``: something that is told to run the backward pass."""
    name = node.args[1] if node.op == "attr" else node.args[0]
    return isinstance(name, str)
