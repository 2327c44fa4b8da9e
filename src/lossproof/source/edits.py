"""Edits under construction: ranges of source to be replaced, with formatting and comments left as they are.

A rule that knows how to mend what it found is handed a ``Patch`` and says what is to change in terms of syntax nodes.
It raises ``Unfixable`` with the reason where it cannot be shown that the change is right.
"""

from __future__ import annotations

import ast
import io
import itertools
import keyword
import tokenize
from typing import TYPE_CHECKING, Any

from lossproof.finding import Edit, Location, Shift
from lossproof.source import ledger
from lossproof.source.syntax import Function, ParsedModule

if TYPE_CHECKING:
    from lossproof.source.ledger import Ledger

Place = tuple[int, int]
"""A line from 1 and a column from 0, in characters."""

# How people spell the modules that a fix may need, most customary first: (module, attribute of an import from).
_CUSTOMARY = {
    "torch.nn.functional": "import torch.nn.functional as F",
    "torch.nn": "from torch import nn",
    "torch": "import torch",
    "math": "import math",
}
_ALIAS = {"torch.nn.functional": "F", "torch.nn": "nn", "torch": "torch", "math": "math"}
# What needs no parentheses wherever it stands.
_CLOSED = (
    ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Dict, ast.Set, ast.JoinedStr,
    ast.ListComp, ast.SetComp, ast.DictComp,
)  # fmt: skip
_STATEMENTS = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)


class Unfixable(Exception):
    """A finding that no command can mend; the message says why, as the rest of a sentence."""


class Patch:
    """The edits of one fix: all of them or none."""

    def __init__(self, book: Ledger | None = None) -> None:
        self._book = book
        self._edits: dict[tuple[str, Place, Place], tuple[ParsedModule, str]] = {}
        self._trees: dict[str, Tree] = {}
        self.shifts: list[Shift] = []
        """What takes or gives logits after the fix."""

    # ---- looking

    def tree(self, module: ParsedModule) -> Tree:
        """The syntax of a file as edits need it: who stands in what, where the tokens are."""
        known = self._trees.get(module.path)
        if known is None:
            if module.view is None:
                module.view = Tree(module)
            known = self._trees[module.path] = module.view
            if self._book is not None:
                self._book.mask |= self._book.bit(ledger.text(module.path)) | module.body.rests
        return known

    def text(self, module: ParsedModule, at: Any) -> str:
        """A node as it is written."""
        tree = self.tree(module)
        return tree.between(*tree.span(at))

    def operand(self, module: ParsedModule, at: Any) -> str:
        """A node as it is written, in parentheses unless it can stand beside any operator as it is."""
        text = self.text(module, at)
        return text if isinstance(at, _CLOSED) and not _is_number(at) else f"({text})"

    def statement(self, module: ParsedModule, at: Any) -> Any:
        """The statement that a node stands in."""
        tree, node = self.tree(module), at
        while node is not None and not isinstance(node, ast.stmt):
            node = tree.parent(node)
        if node is None:
            raise Unfixable("the statement around it was not found")
        return node

    # ---- changing

    def replace(self, module: ParsedModule, at: Any, text: str) -> None:
        """Other text for a node (its own parentheses, if it has any, stay)."""
        self.put(module, *self.tree(module).span(at), text)

    def put(self, module: ParsedModule, start: Place, end: Place, text: str) -> None:
        """Other text for a stretch; a second, different text for the same stretch is refused."""
        key = (module.path, start, end)
        old = self._edits.get(key)
        if old is not None and old[1] != text:
            if start != end:
                raise Unfixable("two changes of one place contradict each other")
            text = old[1] if text in old[1] else old[1] + text
        self._edits[key] = (module, text)

    def wrap(self, module: ParsedModule, at: Any, before: str, after: str) -> None:
        """Text around a node."""
        start, end = self.tree(module).span(at)
        self.put(module, start, start, before)
        self.put(module, end, end, after)

    def method(self, module: ParsedModule, at: Any, call: str) -> None:
        """A method called on a node: ``x`` becomes ``x.detach()``."""
        bare = isinstance(at, _CLOSED) and not _is_number(at)
        start, end = self.tree(module).span(at)
        if not bare:
            self.put(module, start, start, "(")
        self.put(module, end, end, f".{call}" if bare else f").{call}")

    def unwrap(self, module: ParsedModule, outer: Any, inner: Any) -> None:
        """Only the inner expression of a node is left, with the comments that stood around it."""
        tree = self.tree(module)
        start, end = tree.span(outer)
        first, last = tree.span(inner)
        before, after = tree.between(start, first), tree.between(last, end)
        if "\n" not in before + tree.between(first, last) + after:
            bare = isinstance(inner, _CLOSED) or tree.delimited(outer)
            self.put(module, start, first, "" if bare else "(")
            self.put(module, last, end, "" if bare else ")")
            return
        # Over several lines the parentheses hold it together; what else stood in them goes.
        self.put(module, start, first, "(" + _comments(before))
        self.put(module, last, end, _comments(after) + ")")

    def remove_argument(self, module: ParsedModule, call: ast.Call | ast.List | ast.Tuple, at: Any) -> None:
        """An argument (or an element) with its comma."""
        self.put(module, *self.tree(module).item(call, at), "")

    def add_argument(self, module: ParsedModule, call: ast.Call, text: str) -> None:
        """A further argument at the end of a call."""
        tree = self.tree(module)
        _, end = tree.span(call)
        close = (end[0], end[1] - 1)
        given = [*call.args, *(k.value for k in call.keywords)]
        if not given:
            self.put(module, close, close, text)
            return
        last = tree.outside(max((tree.span(a) for a in given), key=lambda span: span[1]))[1]
        self.put(module, last, last, f", {text}")

    def set_argument(self, module: ParsedModule, call: ast.Call, name: str, text: str) -> None:
        """A keyword argument, new or with another value."""
        for given in call.keywords:
            if given.arg == name:
                self.replace(module, given.value, text)
                return
        self.add_argument(module, call, f"{name}={text}")

    def insert_before(self, module: ParsedModule, statement: Any, text: str) -> None:
        """New lines in front of a statement, at its indentation."""
        tree = self.tree(module)
        line = _first(statement).lineno
        indent = tree.indent(statement)
        self.put(
            module, (line, 0), (line, 0), "".join(f"{indent}{part}\n" if part else "\n" for part in text.split("\n"))
        )

    def insert_after(self, module: ParsedModule, statement: Any, text: str) -> None:
        """New lines behind a statement, at its indentation."""
        tree = self.tree(module)
        indent = tree.indent(statement)
        end = tree.end_of_line(statement)
        self.put(module, end, end, "".join(f"\n{indent}{part}" if part else "\n" for part in text.split("\n")))

    def delete(self, module: ParsedModule, statement: Any, *, comments: bool = True) -> None:
        """A statement with its line (its comments stay), or ``pass`` where it is all that its block has.

        ``comments``: False where what the statement said now stands elsewhere, its comments with it.
        """
        tree = self.tree(module)
        tree.indent(statement)
        parent = tree.parent(statement)
        for block in ("body", "orelse", "finalbody"):
            if getattr(parent, block, None) == [statement]:
                self.replace(module, statement, "pass")
                return
        end = tree.end_of_line(statement)
        kept = [part.strip() for part in _comments("\n" + tree.between((statement.lineno, 0), end)).split("\n")]
        blank = tree.indent(statement)
        self.put(
            module, (statement.lineno, 0), (end[0] + 1, 0), "".join(f"{blank}{c}\n" for c in kept if c and comments)
        )

    # ---- names

    def name(self, function: Function, canonical: str) -> str:
        """How a library's symbol is written in a function; the import is added where there is none."""
        module = function.module
        tree = self.tree(module)
        hidden = tree.bound_in(function)
        prefix, _, last = canonical.rpartition(".")
        direct = [n for n, (m, a, level) in module.imports.items() if not level and a == last and m == prefix]
        for local in direct:
            if local not in hidden:
                return local
        for local in self._spellings(module, prefix):
            if local.partition(".")[0] not in hidden:
                return f"{local}.{last}"
        alias = _ALIAS[prefix]
        taken = alias in module.imports or alias in module.top or alias in hidden or alias in tree.bound_in(module.body)
        if taken or keyword.iskeyword(alias):
            # The long way round needs no name that is taken.
            if "torch" in hidden:
                raise Unfixable(f"the name `{alias}` means something else here")
            self.add_import(module, "import torch")
            return canonical
        self.add_import(module, _CUSTOMARY[prefix])
        return f"{alias}.{last}"

    @staticmethod
    def _spellings(module: ParsedModule, prefix: str) -> list[str]:
        """The ways in which a file can already write a module's name, the shortest first."""
        found = []
        for local, (target, attr, level) in module.imports.items():
            if level:
                continue
            full = target if attr is None else f"{target}.{attr}"
            if full == prefix:
                found.append(local)
            elif prefix.startswith(full + ".") and full.partition(".")[0] == "torch":
                found.append(local + prefix[len(full) :])
        return sorted(found, key=lambda name: (name.count("."), len(name)))

    def add_import(self, module: ParsedModule, line: str) -> None:
        """An import among those at the top of the file."""
        tree = self.tree(module)
        body = module.tree.body
        last, start = None, 0
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            start = 1
        for statement in body[start:]:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                last = statement
            elif last is not None:
                break
            elif not isinstance(statement, (ast.If, ast.Try, ast.Expr, ast.Assign)):
                break
        if last is not None:
            end = tree.end_of_line(last)
            self.put(module, end, end, f"\n{line}")
        elif not body or (start and len(body) > 1):
            end = tree.end_of_line(body[0]) if body else (1, 0)
            self.put(module, end, end, f"\n\n{line}" if body else f"{line}\n")
        else:
            at = _first(body[0]).lineno
            apart = isinstance(body[0], (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            self.put(module, (at, 0), (at, 0), f"{line}\n\n\n" if apart else f"{line}\n")

    # ---- the result

    def edits(self) -> tuple[Edit, ...]:
        """All edits, in the order of the files and places. Raises ``Unfixable`` where two overlap."""
        found: list[tuple[str, Place, Place, Edit]] = []
        for (path, start, end), (module, text) in self._edits.items():
            tree = self.tree(module)
            if text == tree.between(start, end):
                continue
            if self._book is not None:
                for function in module.functions[1:]:
                    node = function.node
                    if node.lineno <= end[0] and start[0] <= (node.end_lineno or node.lineno):
                        self._book.mask |= function.rests
            found.append((path, start, end, Edit(_location(module, start, end), text)))
        found.sort(key=lambda item: item[:3])
        for (path, _, before, _), (other, start, _, _) in itertools.pairwise(found):
            if path == other and start < before:
                raise Unfixable("two changes of one place contradict each other")
        return tuple(item[3] for item in found)


def _location(module: ParsedModule, start: Place, end: Place) -> Location:
    line, end_line, cell = start[0], end[0], None
    if module.line_map is not None:
        cell, first = module.line_map.locate(line)
        last_cell, _ = module.line_map.locate(end_line)
        if last_cell != cell:
            raise Unfixable("the change would reach over two cells")
        line, end_line = first, first + (end_line - line)
    return Location(module.display, line, start[1] + 1, end_line, end[1] + 1, "", cell)


class Tree:
    """A parsed file with the way from a node to what it stands in, and with columns in characters."""

    def __init__(self, module: ParsedModule) -> None:
        self.module = module
        self._parents: dict[Any, Any] | None = None
        self._tokens: list[tokenize.TokenInfo] | None = None
        self._bound: dict[Function, frozenset[str]] = {}

    def parent(self, node: Any) -> Any:
        if self._parents is None:
            self._parents = {
                child: outer for outer in ast.walk(self.module.tree) for child in ast.iter_child_nodes(outer)
            }
        return self._parents.get(node)

    def span(self, at: Any) -> tuple[Place, Place]:
        """Where a node begins and ends."""
        if getattr(at, "end_lineno", None) is None:
            raise Unfixable("the place is not known exactly")
        return (
            (at.lineno, self._column(at.lineno, at.col_offset)),
            (at.end_lineno, self._column(at.end_lineno, at.end_col_offset)),
        )

    def _column(self, line: int, offset: int) -> int:
        text = self.module.line_text(line)
        return offset if text.isascii() else len(text.encode("utf-8")[:offset].decode("utf-8", "ignore"))

    def between(self, start: Place, end: Place) -> str:
        """The text from one place to another; lines end in a newline whatever the file has."""
        if start[0] == end[0]:
            return self.module.line_text(start[0])[start[1] : end[1]]
        lines = [self.module.line_text(start[0])[start[1] :]]
        lines += [self.module.line_text(n) for n in range(start[0] + 1, end[0])]
        lines.append(self.module.line_text(end[0])[: end[1]])
        return "\n".join(lines)

    def outside(self, span: tuple[Place, Place]) -> tuple[Place, Place]:
        """A node's span with the parentheses that are its own."""
        tokens = self._significant()
        first = next((i for i, t in enumerate(tokens) if t.start >= span[0]), None)
        if first is None:
            return span
        last = first
        while last + 1 < len(tokens) and tokens[last + 1].end <= span[1]:
            last += 1
        while (
            first > 0 and last + 1 < len(tokens) and tokens[first - 1].string == "(" and tokens[last + 1].string == ")"
        ):
            before = tokens[first - 2] if first > 1 else None
            if before is not None and (
                before.string in (")", "]")
                or (before.type == tokenize.NAME and not keyword.iskeyword(before.string))
                or before.type == tokenize.STRING
            ):
                break  # the parentheses of a call
            first, last = first - 1, last + 1
        return tokens[first].start, tokens[last].end

    def item(self, outer: Any, at: Any) -> tuple[Place, Place]:
        """An argument or an element with the comma that goes with it."""
        span = self.span(at)
        for given in getattr(outer, "keywords", ()):
            if given is at or given.value is at:
                span = self.span(given)
        start, end = self.outside(span)
        tokens = self._significant()
        following = next((t for t in tokens if t.start >= end), None)
        before = [t for t in tokens if t.end <= start]
        if following is not None and following.string == ",":
            after = next((t for t in tokens if t.start >= following.end), None)
            stop = following.end
            if after is not None and after.start[0] == stop[0]:
                return start, after.start if after.string not in (")", "]") else stop
            if not self.module.line_text(start[0])[: start[1]].strip() and "#" not in self._rest(stop):
                return (start[0], 0), (stop[0] + 1, 0)
            return start, stop
        if before and before[-1].string == ",":
            return before[-1].start, end
        return start, end

    def _rest(self, place: Place) -> str:
        return self.module.line_text(place[0])[place[1] :]

    def _significant(self) -> list[tokenize.TokenInfo]:
        if self._tokens is None:
            # The end of a statement stays: what stands before it is no part of the next one.
            skipped = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)
            self.module.line_text(1)
            text = "\n".join(self.module.lines or [])
            try:
                self._tokens = [
                    t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in skipped
                ]
            except (tokenize.TokenError, SyntaxError, IndentationError):
                raise Unfixable("the file cannot be split into tokens") from None
        return self._tokens

    def delimited(self, node: Any) -> bool:
        """Whether what stands around a node keeps it apart from any operator."""
        start, end = self.span(node)
        if self.outside((start, end)) != (start, end):
            return True
        parent = self.parent(node)
        if isinstance(parent, (*_STATEMENTS, ast.keyword, ast.List, ast.Tuple, ast.Set, ast.Dict)):
            return True
        if isinstance(parent, ast.Call):
            return node is not parent.func
        return isinstance(parent, ast.Subscript) and node is parent.slice

    def indent(self, statement: Any) -> str:
        """The white space in front of a statement that has its lines for itself."""
        first = _first(statement)
        text = self.module.line_text(first.lineno)
        before = text[: self._column(first.lineno, first.col_offset)]
        blank = text[: len(text) - len(text.lstrip())]
        if before.rstrip("@ \t" if first is not statement else None):
            raise Unfixable("the statement shares its line with another one")
        return blank

    def end_of_line(self, statement: Any) -> Place:
        """The end of a statement's last line, behind the comment that may be there."""
        end = (statement.end_lineno, self._column(statement.end_lineno, statement.end_col_offset))
        rest = self._rest(end).strip()
        if rest and not rest.startswith("#"):
            raise Unfixable("the statement shares its line with another one")
        return end[0], len(self.module.line_text(end[0]))

    def bound_in(self, function: Function) -> frozenset[str]:
        """The names that a function or one around it binds, which hide the module's."""
        known = self._bound.get(function)
        if known is not None:
            return known
        names: set[str] = set()
        inner: Function | None = function
        while inner is not None and (inner.parent is not None or inner is function):
            names |= _bound(inner.node, whole=inner.parent is None)
            inner = inner.parent if inner.parent is not None and inner.parent.parent is not None else None
        self._bound[function] = frozenset(names)
        return self._bound[function]


def _bound(scope: Any, *, whole: bool) -> set[str]:
    """Names bound in a scope; imports at the top of a file do not count, they are what is looked for."""
    names: set[str] = set()
    arguments = getattr(scope, "args", None)
    if isinstance(arguments, ast.arguments):
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        names.update(a.arg for a in given if a is not None)
    body = scope.body if isinstance(scope.body, list) else [scope.body]
    stack = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and not whole:
            names.update((a.asname or a.name).partition(".")[0] for a in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        stack.extend(ast.iter_child_nodes(node))
    return names


def _comments(text: str) -> str:
    """What is left of a stretch of code when only its comments and the end of its last line are kept."""
    first, *rest = text.split("\n")
    if not rest:
        return ""
    kept = ["  " + first[first.index("#") :] if "#" in first else ""]
    for line in rest:
        blank = line[: len(line) - len(line.lstrip())]
        if "#" in line:
            kept.append(blank + line[line.index("#") :])
        elif line is rest[-1]:
            kept.append(blank)
    return "\n".join(kept)


def _first(statement: Any) -> Any:
    """Where a statement's text begins: a decorator stands in front of the ``def``."""
    return statement.decorator_list[0] if getattr(statement, "decorator_list", None) else statement


def _is_number(at: Any) -> bool:
    return isinstance(at, ast.Constant) and isinstance(at.value, (int, float)) and not isinstance(at.value, bool)
