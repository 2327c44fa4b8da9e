"""The findings within flake8, under its own rules of selection and ``# noqa``.

flake8 shows one file at a time to many processes. A sigmoid and its loss lie in different files, so the first file asks
for its whole project, and what is found is kept for the others.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence

from lossproof import __version__, config
from lossproof.check import Options, Report, check_paths
from lossproof.problem import CannotRun
from lossproof.source.discover import project_root

_STDIN = ("stdin", "-", "/dev/stdin", "(none)")
_projects: dict[str, dict[str, list[tuple[int, int, str]]]] = {}

Result = tuple[int, int, str, type["Plugin"]]


class Plugin:
    """What flake8 makes for each file."""

    name = "lossproof"
    version = __version__

    def __init__(self, tree: ast.AST, filename: str, lines: Sequence[str]) -> None:
        self._filename = filename
        self._lines = lines

    def run(self) -> Iterator[Result]:
        """The findings of the file: line, column from 0, text."""
        try:
            found = _piped("".join(self._lines)) if self._filename in _STDIN else _of_project(self._filename)
        except CannotRun as problem:
            found = [(1, 0, f"LP000 could not run: {problem}")]
        for line, column, text in found:
            yield line, column, text, type(self)


def _of_project(filename: str) -> list[tuple[int, int, str]]:
    path = os.path.abspath(filename)
    root = project_root([os.path.dirname(path)])
    if root not in _projects:
        _projects[root] = {}  # what cannot be checked is said once
        report = check_paths([root], Options(config=config.load([root]), jobs=1))
        _projects[root] = _by_path(report)
    return _projects[root].get(path, [])


def _piped(text: str) -> list[tuple[int, int, str]]:
    name = "stdin.py"
    report = check_paths(["-"], Options(config=config.load(), stdin=(name, text.encode()), jobs=1))
    return _by_path(report).get(os.path.abspath(name), [])


def _by_path(report: Report) -> dict[str, list[tuple[int, int, str]]]:
    found: dict[str, list[tuple[int, int, str]]] = {}
    for finding in report.findings:
        where = finding.location
        if where.cell is None:
            text = f"{finding.rule} {finding.name}: {finding.message}"
            found.setdefault(os.path.abspath(where.path), []).append((where.line, where.column - 1, text))
    return found
