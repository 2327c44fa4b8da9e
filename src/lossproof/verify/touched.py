"""Which functions a fix changed: by the places of its edits, and by what differs in the parsed files.

A function is named as Python names it (``Trainer.step``); what is nested in a function belongs to the outermost one.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from lossproof.finding import Edit, Location
from lossproof.source.texts import decode

MODULE = "<module>"
_IMPORT = re.compile(r"\s*(?:import|from)\s")


class Outline:
    """The outermost functions of a file, and its classes."""

    def __init__(self, data: bytes) -> None:
        self.text = decode(data)
        self.functions: dict[str, Any] = {}
        self.classes: dict[str, Any] = {}
        self.tree: ast.Module | None = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tree = ast.parse(self.text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        self._enter(self.tree.body, "")

    def _enter(self, body: list[Any], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[prefix + node.name] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[prefix + node.name] = node
                self._enter(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self.functions[prefix + target.id] = node
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                for block in ("body", "orelse", "finalbody"):
                    self._enter(getattr(node, block, []), prefix)

    def at(self, line: int, end_line: int | None = None) -> str:
        """The function that a line is in; a class for its own body, else the module."""
        last = line if end_line is None else end_line
        for name, node in self.functions.items():
            if first_line(node) <= line and last <= (node.end_lineno or node.lineno):
                return name
        best = MODULE
        for name, node in self.classes.items():
            if first_line(node) <= line and last <= (node.end_lineno or node.lineno):
                best = name
        return best

    def source(self, name: str) -> str:
        node = self.functions.get(name) or self.classes.get(name)
        return ast.get_source_segment(self.text, node) or "" if node is not None else ""


def first_line(node: Any) -> int:
    """Decorators stand in front of the ``def``."""
    lines: list[int] = [node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]
    return min(lines)


def of_edits(edits: Iterable[Edit], olds: dict[str, Outline]) -> set[tuple[str, str]]:
    """The functions that edits lie in, as (path, name); an import that is added changes nothing by itself."""
    found: set[tuple[str, str]] = set()
    for edit in edits:
        where = edit.location
        outline = olds.get(where.path)
        if outline is None or (_is_insertion(where) and _IMPORT.match(edit.text)):
            continue
        # What ends before the first character of a line does not reach into that line.
        end = where.end_line - 1 if where.end_column == 1 and where.end_line > where.line else where.end_line
        found.add((where.path, outline.at(where.line, end)))
    return found


def _is_insertion(where: Location) -> bool:
    return (where.line, where.column) == (where.end_line, where.end_column)


def differing(before: Outline, after: Outline) -> set[str]:
    """The functions whose code is another one, apart from comments and layout."""
    return {
        name
        for name, node in before.functions.items()
        if name in after.functions and ast.dump(node) != ast.dump(after.functions[name])
    }


def changed_lines(before: Outline, after: Outline) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The statements that differ, as first and last line, in the text before and after."""
    old, new = before.text.splitlines(), after.text.splitlines()
    ours: list[tuple[int, int]] = []
    theirs: list[tuple[int, int]] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if b > a:
            ours += _statements(before, a + 1, b)
        if d > c:
            theirs += _statements(after, c + 1, d)
    return ours, theirs


def _statements(outline: Outline, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The smallest statements that some lines belong to; of a block only its head."""
    if outline.tree is None:
        return
    lines = set(range(first, last + 1))
    for node in ast.walk(outline.tree):
        if not isinstance(node, ast.stmt) or isinstance(node, ast.ClassDef):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if lines & set(range(first_line(node), node.body[0].lineno)):  # a default: every line rests on it
                yield first_line(node), node.end_lineno or node.lineno
            continue
        body = getattr(node, "body", None)
        end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
        if lines & set(range(node.lineno, max(end, node.lineno) + 1)):
            yield node.lineno, max(end, node.lineno)
