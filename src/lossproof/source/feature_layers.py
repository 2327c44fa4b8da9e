"""Layers of a VGG network that are picked by a number and called by a name: do the two agree?

`relu3_3` of VGG-16 is number 15 of `features`; 16 is the pool after it. A name is given in many ways: as the key of a
dictionary, as a variable, as the test before a return. The number is an index, or the end of a slice, which is one
more. Which of the two is meant is told by what is done with it; where that is not clear, either is right.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import FeatureLayer
from lossproof.source.lower import Node, lower
from lossproof.source.networks import Net, Networks
from lossproof.source.patterns import Pattern
from lossproof.source.syntax import Function, ParsedModule, dotted

_CONFIGURATIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_LAYER = Pattern(r"(?<![a-z])(relu|conv|r|c|max_?pool|pool|p|mp)_?(\d)(?:[_-]?(\d))?(?!\d)", re.I)
_KINDS = {"r": "relu", "c": "conv", "p": "pool", "mp": "pool", "maxpool": "pool", "max_pool": "pool"}
NAMED = Pattern(r"(?:relu|conv|pool)_?\d", re.I)
_ARCH = Pattern(r"vgg_?-?(11|13|16|19)(_?-?bn)?(?![0-9])", re.I)
_ANY_ARCH = Pattern(r"vgg\{|vgg%|[\"']vgg[\"']\s*\+", re.I)


def _table(arch: str) -> list[str]:
    """What stands at each index of ``features``."""
    plain, _, normalized = arch.partition("_")
    found: list[str] = []
    for block, count in enumerate(_CONFIGURATIONS[plain], 1):
        for i in range(1, count + 1):
            found.append(f"conv{block}_{i}")
            if normalized:
                found.append(f"bn{block}_{i}")
            found.append(f"relu{block}_{i}")
        found.append(f"pool{block}")
    return found


TABLES = {name: _table(name) for plain in _CONFIGURATIONS for name in (plain, plain + "_bn")}


def layer_named(text: str) -> str | None:
    """The layer that a name says, as the tables spell it."""
    found = _LAYER.search(text)
    if found is None:
        return None
    kind = _KINDS.get(found[1].lower(), found[1].lower())
    if kind == "pool":
        return f"pool{found[2]}" if found[3] is None else None
    if found[3] is None or (len(found[1]) == 1 and text[: found.start()].strip("_")):
        return None
    return f"{kind}{found[2]}_{found[3]}"


class _Pick:
    """A number beside a name. ``use`` is ``index``, ``end`` or empty where either may be meant."""

    __slots__ = ("archs", "at", "group", "layer", "number", "use")

    def __init__(self, layer: str, number: int, use: str, at: Any, archs: list[str], group: Any) -> None:
        self.layer = layer
        self.number = number
        self.use = use
        self.at = at
        self.archs = archs
        self.group = group


class FeatureLayers:
    """Finds the layers of a file that are called one thing and are another."""

    def __init__(self, ev: Evaluator, networks: Networks) -> None:
        self.ev = ev
        self.networks = networks

    def facts(self, function: Function) -> Iterator[FeatureLayer]:
        module = function.module
        frame = self.ev.open_frame(function)
        picks = list(self._valued(function))
        if function is module.body:
            picks += self._written(module)
        told: dict[int, FeatureLayer] = {}
        for pick in picks:
            archs = [a for a in pick.archs if a in TABLES]
            if not archs:
                continue
            wrong = [found for a in archs if (found := _wrong(pick, a)) is not None]
            if len(wrong) < len(archs):
                continue
            known = told.get(id(pick.group))
            if known is not None:
                if pick.at is not known.node.at:
                    known.beside.append((pick.at, pick.number, wrong[0][1]))
                continue
            actual, right = wrong[0]
            fact = FeatureLayer(self.ev, frame, Node("const", (pick.number,), pick.at, None), ())
            fact.arch, fact.layer, fact.number = archs[0], pick.layer, pick.number
            fact.actual, fact.right, fact.end = actual, right, pick.use == "end"
            told[id(pick.group)] = fact
        yield from told.values()

    # ---- names of values: ``relu3_3 = vgg.features[:17]``

    def _valued(self, function: Function) -> Iterator[_Pick]:
        frame = self.ev.open_frame(function)
        ir = lower(function)
        named: list[tuple[str, Node]] = [(k.rpartition(".")[2], v) for k, v in ir.final.items()]
        named += [(s.attr, s.value) for s in ir.stores]
        named += [(function.name, n) for n, _ in ir.returns]
        stack = [n for n, _ in ir.returns] + [v for _, v in named] + list(ir.calls)
        seen: set[int] = set()
        from lossproof.source.evaluate import children

        while stack and len(seen) < 2000:
            n = stack.pop()
            if id(n) in seen:
                continue
            seen.add(id(n))
            if n.op == "dict":
                named += [
                    (k.args[0], v)
                    for k, v in zip(n.args[0], n.args[1], strict=False)
                    if k is not None and k.op == "const" and isinstance(k.args[0], str)
                ]
            elif n.op == "setitem" and n.args[1].op == "const" and isinstance(n.args[1].args[0], str):
                named.append((n.args[1].args[0], n.args[2]))
            elif n.op == "call":
                named += [(k, v) for k, v in n.args[2] if k is not None]
                named += self._fields(function, n)
                func = n.args[0]
                if func.op == "attr" and func.args[1] == "register_forward_hook":
                    words = [
                        c.value
                        for c in ast.walk(n.at)
                        if isinstance(c, ast.Constant) and isinstance(c.value, str) and c not in ast.walk(n.at.func)
                    ]
                    named += [(w, func.args[0]) for w in words]
            stack.extend(children(n))
        done: set[tuple[str, int]] = set()
        for name, node in named:
            layer = layer_named(name)
            if layer is None or (layer, id(node)) in done or node.op in ("const", "param"):
                continue
            done.add((layer, id(node)))
            nets = self.networks.nets(frame, node)
            if not nets and node.op == "call":
                nets = self.networks.nets(frame, node.args[0])
            picked = {p for net in nets if (p := _part(net)) is not None}
            archs = sorted({net.origin.arch for net in nets})
            if not nets or None in {_part(net) for net in nets}:
                continue
            # A loop that adds one layer after another ends where its last one is.
            ends = {n for n, use in picked if use == "end"}
            use = "end" if ends else "index"
            number = max(n for n, u in picked if u == use)
            cut = self.networks.cuts.get(f"[{number}]") if use == "index" else None
            if use == "end":
                cut = next((c for k, c in self.networks.cuts.items() if k.endswith(f":{number}]")), None)
            here = node.at if hasattr(node.at, "lineno") else function.node
            at = cut[1] if cut is not None and cut[0] is function.module else here
            yield _Pick(layer, number, use, at, archs, node)

    def _fields(self, function: Function, call: Node) -> list[tuple[str, Node]]:
        """``VggOutputs(h1, h2)``, where that is a named tuple with such fields."""
        at = getattr(call.at, "func", None)
        word = dotted(at) if at is not None else ""
        if not word or len(call.args[1]) < 2:
            return []
        for statement in (*function.module.tree.body, *getattr(function.node, "body", ())):
            if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
                continue
            if not any(isinstance(t, ast.Name) and t.id == word for t in statement.targets):
                continue
            made = statement.value
            if dotted(made.func).rpartition(".")[2] == "namedtuple" and len(made.args) > 1:
                given = made.args[1]
                names: list[str] = []
                if isinstance(given, ast.Constant) and isinstance(given.value, str):
                    names = given.value.replace(",", " ").split()
                elif isinstance(given, (ast.List, ast.Tuple)):
                    names = [str(e.value) for e in given.elts if isinstance(e, ast.Constant)]
                return list(zip(names, call.args[1], strict=False))
        return []

    # ---- names beside plain numbers: ``{"relu3_3": 16}``

    def _written(self, module: ParsedModule) -> Iterator[_Pick]:
        scopes: list[ast.AST] = [module.tree, *(c.node for c in module.classes)]
        scopes += [f.node for f in module.functions if f.cls is None and f is not module.body]
        inner: dict[int, ast.AST] = {}
        for scope in scopes:
            for child in ast.walk(scope):
                if scope is module.tree or not isinstance(scope, ast.Module):
                    inner[id(child)] = scope
        uses: dict[int, str] = {}
        for node in ast.walk(module.tree):
            for name, number, at, group, text in _beside(node):
                layer = layer_named(name)
                if layer is None:
                    continue
                scope = inner.get(id(node), module.tree)
                archs = self._archs(module, scope)
                if not archs:
                    continue
                use = "index"
                if not text:
                    if id(scope) not in uses:
                        uses[id(scope)] = _use(scope, module)
                    use = uses[id(scope)]
                yield _Pick(layer, number, use, at, archs, group)

    def _archs(self, module: ParsedModule, scope: ast.AST) -> list[str]:
        """The networks that a scope, or else its file, speaks of."""
        for area in (scope, module.tree):
            if isinstance(area, ast.Module):
                text = module.source
            else:
                text = "\n".join(module.line_text(i) for i in range(area.lineno, (area.end_lineno or area.lineno) + 1))  # type: ignore[attr-defined]
            text = re.sub(r"#[^\n]*", "", text)
            if _ANY_ARCH.search(text):
                return list(TABLES)
            found = {f"vgg{n}" + ("_bn" if bn else "") for n, bn in _ARCH.findall(text)}
            if found:
                return sorted(found)
        return []


def _part(net: Net) -> tuple[int, str] | None:
    """Where a part of ``features`` ends: ``[:16]`` is an end, ``[15]`` an index."""
    if not net.origin.arch.startswith("vgg") or "features" not in net.parts:
        return None
    cuts = [p for p in net.parts if p.startswith("[")]
    if len(cuts) != 1 or any(p.startswith("=") for p in net.parts):
        return None
    inside = cuts[0][1:-1]
    low, colon, high = inside.partition(":")
    if colon:
        return (int(high), "end") if high.isdigit() else None
    return (int(low), "index") if low.isdigit() else None


def _wrong(pick: _Pick, arch: str) -> tuple[str, int] | None:
    """What stands there instead, and the right number; ``None`` where name and number agree, or may."""
    table = TABLES[arch]
    if pick.layer not in table:
        return None
    right = table.index(pick.layer)
    options = {"index": (right,), "end": (right + 1,)}.get(pick.use, (right, right + 1))
    if pick.number in options:
        return None
    at = pick.number - 1 if pick.use == "end" else pick.number
    if not 0 <= at < len(table):
        return None
    actual = table[at]
    if pick.layer.startswith("conv") and actual[-3:] == pick.layer[-3:]:
        return None  # the activation of a convolution goes by its name
    if abs(at - right) > 2:
        return None  # another count
    return actual, options[0]


def _beside(node: ast.AST) -> Iterator[tuple[str, int, ast.AST, ast.AST, bool]]:
    """Names beside numbers: (name, number, place, what they stand in, whether the number is written as text)."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            yield from _pair(key, value, node)
    elif isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) == 2:
        yield from _pair(node.elts[0], node.elts[1], node)
    elif isinstance(node, ast.Call):
        name = dotted(node.func).rpartition(".")[2]
        for keyword in node.keywords:
            if keyword.arg is not None and name in ("dict", "OrderedDict", "Namespace", "SimpleNamespace"):
                number = _number(keyword.value)
                if number is not None:
                    yield keyword.arg, number[0], keyword.value, node, number[1]
        if name == "zip" and len(node.args) == 2:
            one, two = node.args
            if isinstance(one, (ast.List, ast.Tuple)) and isinstance(two, (ast.List, ast.Tuple)):
                for a, b in zip(one.elts, two.elts, strict=False):
                    yield from _pair(a, b, node)
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        number = _number(node.value) if node.value is not None else None
        for target in targets:
            word = getattr(target, "attr", None) or getattr(target, "id", None)
            if number is not None and isinstance(word, str):
                yield word, number[0], node.value, node, number[1]  # type: ignore[misc]
            if isinstance(target, ast.Subscript) and number is not None and isinstance(target.slice, ast.Constant):
                if isinstance(target.slice.value, str):
                    yield target.slice.value, number[0], node.value, node, number[1]  # type: ignore[misc]
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and len(node.test.ops) == 1:
        if not isinstance(node.test.ops[0], ast.Eq):
            return
        const = next((c for c in (node.test.comparators[0], node.test.left) if isinstance(c, ast.Constant)), None)
        if const is None:
            return
        number = _number(const)
        if number is not None:
            # ``if i == 16: relu3_3 = x``: an index, for it is compared with one.
            for statement in node.body:
                for name in _stored_names(statement):
                    yield name, number[0], const, node, True
        elif isinstance(const.value, str):
            yield from _under(const.value, node, node.body)
    elif node.__class__.__name__ == "match_case":
        pattern = getattr(node.pattern, "value", None)  # type: ignore[attr-defined]
        if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
            yield from _under(pattern.value, node, node.body)  # type: ignore[attr-defined]


def _under(name: str, group: ast.AST, body: list[ast.stmt]) -> Iterator[tuple[str, int, ast.AST, ast.AST, bool]]:
    """``if layer == "relu3_3": end = 16``"""
    for statement in body:
        value = statement.value if isinstance(statement, (ast.Assign, ast.Return)) else None
        given = _number(value) if value is not None else None
        if given is not None and value is not None:
            yield name, given[0], value, group, given[1]


def _stored_names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                yield str(target.slice.value)
            else:
                name = getattr(target, "attr", None) or getattr(target, "id", None)
                if name:
                    yield name


def _pair(a: ast.expr | None, b: ast.expr | None, group: ast.AST) -> Iterator[tuple[str, int, ast.AST, ast.AST, bool]]:
    for name, other in ((a, b), (b, a)):
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and other is not None:
            number = _number(other)
            if number is not None and not name.value.strip().isdigit():
                yield name.value, number[0], other, group, number[1]


def _number(e: ast.expr) -> tuple[int, bool] | None:
    """An index, and whether it is written as the name of a submodule: ``16``, ``"16"``, ``"features.16"``."""
    if not isinstance(e, ast.Constant) or isinstance(e.value, bool):
        return None
    if isinstance(e.value, int):
        return e.value, False
    if isinstance(e.value, str):
        found = re.fullmatch(r"(?:features\.)?(\d{1,2})", e.value)
        return (int(found[1]), True) if found else None
    return None


def _use(scope: ast.AST, module: ParsedModule) -> str:
    """What the numbers of a scope are used as."""
    seen: set[str] = set()
    area = scope if not isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)) else module.tree
    found = _uses_in(area, seen)
    if not found and area is not module.tree:
        found = _uses_in(module.tree, seen)
    if found == {"end"}:
        return "end"
    return "index" if found == {"index"} else ""


def _uses_in(area: ast.AST, seen: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(area):
        if (
            isinstance(node, ast.Slice)
            and node.upper is not None
            and not isinstance(node.upper, (ast.Constant, ast.UnaryOp))
        ):
            upper = node.upper
            if isinstance(upper, ast.BinOp):
                plus = (
                    isinstance(upper.op, ast.Add) and isinstance(upper.right, ast.Constant) and upper.right.value == 1
                )
                found.add("index" if plus else "?")
            else:
                found.add("end")
        elif isinstance(node, ast.Call) and dotted(node.func) == "range" and node.args:
            last = node.args[min(1, len(node.args) - 1)]
            if isinstance(last, ast.BinOp):
                found.add("index")
            elif isinstance(last, (ast.Name, ast.Attribute, ast.Subscript)):
                found.add("end")
        elif isinstance(node, ast.Compare):
            if any(isinstance(op, (ast.Gt, ast.GtE, ast.Lt, ast.LtE)) for op in node.ops):
                if any(isinstance(c, (ast.Name, ast.Attribute, ast.Subscript)) for c in node.comparators):
                    found.add("?")
            elif any(isinstance(op, (ast.Eq, ast.In)) for op in node.ops):
                if all(not isinstance(c, ast.Constant) or isinstance(c.value, str) for c in node.comparators):
                    if not any(isinstance(c, ast.Constant) for c in (node.left, *node.comparators)):
                        found.add("index")
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, (ast.Name, ast.Attribute, ast.Subscript)):
            base = dotted(node.value)
            if re.search(r"vgg|features$|layers?$|model|net", base, re.I):
                found.add("layer")
    if "layer" in found:
        found.discard("layer")
        if not found:
            found.add("index")
    return found


__all__ = ["NAMED", "TABLES", "FeatureLayers", "layer_named"]
