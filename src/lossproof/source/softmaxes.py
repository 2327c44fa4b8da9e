"""Every softmax in a file, for the one question that needs no loss: which axis does it normalize?

An axis that nobody named is chosen by the number of dimensions. That is visible at the call alone, so
these facts need no walk: the callee is resolved and its arguments are counted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import SoftmaxCall
from lossproof.source.lower import Node, lower
from lossproof.source.syntax import Function
from lossproof.source.values import Const, Ref, Value, alternatives

FUNCTIONS = {f"torch.nn.functional.{name}" for name in ("softmax", "log_softmax", "softmin")}
LAYERS = {f"torch.nn.{name}" for name in ("Softmax", "LogSoftmax", "Softmin")}
# What a callee that turns out to be a softmax is called: the others are not looked up.
_CALLEE = re.compile(r"soft(max|min)|^_?(act|activation|norm|normalize|out_act|final_activation|nonlinearity)$", re.I)


def softmax_calls(ev: Evaluator, function: Function) -> Iterator[SoftmaxCall]:
    """The softmax calls of a function, its lambdas and the class bodies in it."""
    for call in function.calls:
        callee = call.func
        word = getattr(callee, "attr", None) or getattr(callee, "id", "")
        if not isinstance(word, str) or not _CALLEE.search(word) or not _few(call):
            continue
        frame = ev.open_frame(function)
        ev.begin()
        known = ev._static(frame, callee)
        node: Node | None = None
        if not any(isinstance(v, Ref) for _, v in alternatives(known)):
            node = lower(function).by_call.get(id(call))
            if node is None:
                continue
            known = ev.value(frame, node.args[0])
        name = _softmax(known)
        if name and _implicit(ev, function, call, name):
            yield SoftmaxCall(ev, frame, node or Node("call", (), call, None), (), name)


def _few(call: ast.Call) -> bool:
    return len(call.args) <= 2 and all(k.arg is not None for k in call.keywords)


def _softmax(value: Value) -> str:
    for _, v in alternatives(value):
        if isinstance(v, Ref) and v.name in FUNCTIONS | LAYERS:
            return v.name
    return ""


def _implicit(ev: Evaluator, function: Function, call: ast.Call, name: str) -> bool:
    """Whether no axis is given, or ``None`` is."""
    position = 0 if name in LAYERS else 1
    if any(isinstance(a, ast.Starred) for a in call.args):
        return False
    given = next((k.value for k in call.keywords if k.arg == "dim"), None)
    if given is None and len(call.args) > position:
        given = call.args[position]
    if given is None:
        # ``F.softmax()`` without any argument is not a call of the function.
        return name in LAYERS or bool(call.args) or any(k.arg == "input" for k in call.keywords)
    if isinstance(given, ast.Constant):
        return given.value is None
    node = lower(function).by_call.get(id(call))
    if node is None:
        return False
    place = next((v for k, v in node.args[2] if k == "dim"), None)
    if place is None and len(node.args[1]) > position:
        place = node.args[1][position]
    if place is None:
        return False
    value = ev.value(ev.open_frame(function), place)
    return isinstance(value, Const) and value.v is None
