"""Where a feature network is built, and what can be said to it there."""

from __future__ import annotations

import ast
import re
from typing import Any

from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import FeatureNetwork
from lossproof.source.syntax import ClassInfo, Function, ParsedModule, dotted

# What gives back a network, or a part of one, when it is asked of a network.
_PARTS = {"features", "eval", "train", "to", "cuda", "cpu", "float", "requires_grad_", "half", "double"}
_DECIDES = re.compile(r"requires_grad|train|freez|frozen|fine_?tun|learn|updat", re.I)


def chain_end(patch: Patch, module: ParsedModule, made: Any) -> Any:
    """The whole of ``vgg16(…).features[:16].eval()``, from the call that builds it."""
    tree = patch.tree(module)
    node = made
    while True:
        outer = tree.parent(node)
        if isinstance(outer, ast.Subscript) and outer.value is node and isinstance(outer.slice, ast.Slice):
            node = outer
        elif isinstance(outer, ast.Attribute) and outer.value is node and outer.attr in _PARTS:
            call = tree.parent(outer)
            if outer.attr == "features":
                node = outer
            elif isinstance(call, ast.Call) and call.func is outer:
                node = call
            else:
                return node
        else:
            return node


def add(patch: Patch, fact: FeatureNetwork, call: str) -> Any:
    """A method called on the network at the end of the expression that builds it."""
    end = chain_end(patch, fact.maker, fact.made)
    patch.method(fact.maker, end, call)
    return end


def builder(fact: FeatureNetwork) -> Function:
    """The function that the network is built in."""
    found = [f for f in fact.maker.functions if any(c is fact.made for c in f.calls)]
    if not found:
        raise Unfixable("the function that builds it was not found")
    return found[-1]


def only_for_the_loss(fact: FeatureNetwork, decides: bool) -> None:
    """Raises where others get their networks from the same place, or where a flag ``decides`` what it is for."""
    function = builder(fact)
    contexts: Any = fact.ev.oracle
    if function is fact.maker.body:
        return
    arguments = function.node.args if isinstance(function.node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None
    if decides and arguments is not None:
        for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            if _DECIDES.search(a.arg):
                raise Unfixable(f"`{a.arg}` is there to decide whether it is trained")
    if function.cls is None:
        if len({id(node.at) for _, node, _ in contexts.callers(function)}) > 1:
            raise Unfixable("others get their networks from the same function")
    elif not re.search(r"loss|percep|lpips|crit|style|content", function.cls.name, re.I):
        if len({id(node.at) for _, node, _ in contexts.instantiations(function.cls)}) > 1:
            raise Unfixable("the class that builds it is used in several places")


def called(patch: Patch, fact: FeatureNetwork) -> set[str]:
    """The names and attributes that the network, or what is made of it, is kept under."""
    statement = patch.statement(fact.maker, fact.made)
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {dotted(t).rpartition(".")[2] for t in targets if t is not None} - {""}


def thawed(patch: Patch, fact: FeatureNetwork) -> bool:
    """Whether something in the file asks for the gradients of the network's parameters again."""
    kept = called(patch, fact)
    tree = patch.tree(fact.maker)
    helpers: set[str] = set()
    for part in ast.walk(fact.maker.tree):
        subject: Any = None
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "requires_grad_":
            given = [*part.args, *(k.value for k in part.keywords)]
            if not (given and isinstance(given[0], ast.Constant) and given[0].value is False):
                subject = part.func.value
        elif isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Attribute):
            if part.targets[0].attr == "requires_grad":
                if not (isinstance(part.value, ast.Constant) and part.value.value is False):
                    subject = part.targets[0].value
        if subject is None:
            continue
        words = _words(subject)
        node, root = part, next(iter(words), "")
        while node is not None:
            if isinstance(node, (ast.For, ast.AsyncFor)) and root in _words(node.target):
                words |= _words(node.iter)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                own = {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
                if words & own - {"self"}:
                    helpers.add(node.name)
                break
            node = tree.parent(node)
        if words & kept:
            return True
    for part in ast.walk(fact.maker.tree):
        if isinstance(part, ast.Call) and dotted(part.func).rpartition(".")[2] in helpers:
            given = [*part.args, *(k.value for k in part.keywords)]
            off = any(isinstance(g, ast.Constant) and g.value is False for g in given)
            if not off and any(_words(g) & kept for g in given):
                return True
    return False


def _words(expression: Any) -> set[str]:
    found = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)}
    return found | {n.attr for n in ast.walk(expression) if isinstance(n, ast.Attribute)}


def keep_in_evaluation(patch: Patch, fact: FeatureNetwork) -> None:
    """``train()`` of the class that holds the network leaves the network in evaluation mode."""
    function = builder(fact)
    statement = patch.statement(fact.maker, fact.made)
    cls = function.cls
    me = function.first_param
    if cls is None or me is None or not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise Unfixable("train() switches it back, and the class that holds it is not the one that builds it")
    target = statement.targets[0]
    if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == me):
        raise Unfixable("train() switches it back, and it is not kept under one name")
    if "train" in cls.methods:
        raise Unfixable("train() switches it back, and the class has a train() of its own")
    if not is_module(fact, cls):
        raise Unfixable("train() switches it back, and the class that builds it is no module")
    unit = "\t" if patch.tree(fact.maker).indent(function.node).startswith("\t") else "    "
    text = (
        f"\ndef train(self, mode=True):\n{unit}super().train(mode)\n{unit}self.{target.attr}.eval()\n{unit}return self"
    )
    patch.insert_after(fact.maker, function.node, text)


def is_module(fact: FeatureNetwork, cls: ClassInfo) -> bool:
    from lossproof.source.values import Cls

    return fact.ev.library_base(Cls(cls)).startswith(("torch.nn.", "pytorch_lightning.", "lightning."))
