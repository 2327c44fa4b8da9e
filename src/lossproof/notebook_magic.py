"""``%load_ext lossproof``: what is wrong with the objective in the cell that just ran, shown under it.

The cells that ran so far are read as one notebook, together with the project around it; a cell that runs again takes
the place of its earlier self. Nothing here gets in the way of the notebook: what goes wrong is one line, said once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from typing import Any

from lossproof import config
from lossproof.check import Options, check_paths
from lossproof.finding import Finding, Location
from lossproof.problem import CannotRun
from lossproof.source.memory import Memory

_NAME = "this_notebook.ipynb"
_COLOURS = {"error": "#c0392b", "warning": "#b7791f", "info": "#2b6cb0"}


def load_ipython_extension(shell: Any) -> None:
    """Begin to look at the cells."""
    if getattr(shell, "_lossproof", None) is None:
        shell._lossproof = Watcher()
        shell.events.register("post_run_cell", shell._lossproof.ran)


def unload_ipython_extension(shell: Any) -> None:
    """Leave the cells alone."""
    watcher = getattr(shell, "_lossproof", None)
    if watcher is not None:
        shell.events.unregister("post_run_cell", watcher.ran)
        shell._lossproof = None


class Watcher:
    """The cells of one session."""

    def __init__(self) -> None:
        self._cells: dict[str, str] = {}
        self._known: set[tuple[str, str]] = set()
        self._memory = Memory(fixes=False)
        self._folder = ""
        self._complained = False

    def ran(self, result: Any) -> None:
        """A cell ran. Never raises: IPython would show where."""
        try:
            found = self.look(result)
        except CannotRun as problem:
            self._complain(str(problem))
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
        else:
            if found:
                import IPython.display

                show: Callable[..., Any] = IPython.display.display
                show(Findings(found))

    def look(self, result: Any) -> list[Finding]:
        """The findings of the cell, and those elsewhere that it brought about."""
        source: str = result.info.raw_cell or ""
        if not source.strip() or result.error_before_exec is not None:
            return []  # it did not run
        name = getattr(result.info, "cell_id", None) or source
        self._cells.pop(name, None)
        self._cells[name] = source
        from lossproof.source.engine import matters

        if not matters("\n".join(self._cells.values()).encode("utf-8", "replace")):
            return []
        folder = os.getcwd()
        if folder != self._folder:
            self._folder, self._memory = folder, Memory(fixes=False)
        options = Options(
            config=config.load([folder]),
            stdin=(_NAME, _notebook(list(self._cells.values()))),
            memory=self._memory,
            jobs=1,
        )
        report = check_paths(["-"], options)
        now = len(self._cells)
        found: list[Finding] = []
        known = set()
        for finding in report.findings:
            if finding.path != _NAME:
                continue
            key = (finding.rule, self._text(finding.location, report.texts))
            known.add(key)
            if finding.location.cell == now or (
                key not in self._known and any(hop.path == _NAME and hop.cell == now for hop in finding.related)
            ):
                found.append(finding)
        self._known = known
        return found

    @staticmethod
    def _text(where: Location, texts: Any) -> str:
        line: str = texts[where.path].line(where.line, where.cell)
        return line.strip()

    def _complain(self, message: str) -> None:
        if not self._complained:
            self._complained = True
            print(f"lossproof: {message}")


class Findings:
    """As text in a terminal, as a small table in a notebook."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    def __repr__(self) -> str:
        lines = []
        for finding in self.findings:
            lines.append(f"line {finding.line}: {finding.severity} {finding.rule} {finding.name}: {finding.message}")
            lines += [f"    {_place(hop)}: {hop.message}" for hop in finding.related]
            if finding.remedy.hint:
                lines.append(f"    help: {finding.remedy.hint}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return "".join(map(_html, self.findings))


def _html(finding: Finding) -> str:
    hops = "".join(f"<li>{escape(_place(hop))}: {_code(hop.message)}</li>" for hop in finding.related)
    hint = f"<div>help: {_code(finding.remedy.hint)}</div>" if finding.remedy.hint else ""
    colour = _COLOURS[finding.severity.value]
    return (
        f'<div style="border-left: 3px solid {colour}; padding-left: 0.7em; margin: 0.4em 0">'
        f"<b>line {finding.line}</b> <span style='color: {colour}'>{finding.severity}</span> "
        f"<b>{finding.rule}</b> {finding.name}<div>{_code(finding.message)}</div>"
        f"{f'<ol>{hops}</ol>' if hops else ''}{hint}</div>"
    )


def _code(text: str) -> str:
    """What stands between backticks, as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def _place(hop: Location) -> str:
    return f"cell run {hop.cell}, line {hop.line}" if hop.path == _NAME else f"{hop.path}:{hop.line}"


def _notebook(sources: list[str]) -> bytes:
    import json

    cells = [{"cell_type": "code", "metadata": {}, "source": text} for text in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
