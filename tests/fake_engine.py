"""A stand-in for the source eye, so that what lies around it is tested by itself.

A call of ``fault_LP101(…)`` in a target is a finding; every ``cause_LP101(…)`` of the project is a hop on its way
there, and ``unknown(…)`` is a value that could not be followed.
"""

from __future__ import annotations

import ast
import sys
from types import ModuleType, SimpleNamespace

from lossproof.finding import Finding, Location, Remedy, Severity
from lossproof.source.notebook import to_python

SEVERITIES = {"1": Severity.ERROR, "2": Severity.ERROR, "3": Severity.WARNING, "5": Severity.INFO}
CONFIDENCES = {"LP103": "likely", "LP104": "possible"}


def analyse(root, files, targets, *, show_unresolved=False, progress=None, **how):
    """What the real one promises, by the simplest means."""
    result = SimpleNamespace(findings=[], unresolved=[], warnings=[], files_seen=len(files), files_parsed=0)
    causes: dict[str, list[Location]] = {}
    faults: list[tuple[str, Location, bool]] = []
    for done, file in enumerate(files):
        if progress is not None:
            progress(done, len(files))
        try:
            data = file.read()
            text, lines = to_python(data) if file.path.endswith(".ipynb") else (data.decode(), None)
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError) as error:
            result.warnings.append(f"{file.display}: {type(error).__name__}")
            continue
        result.files_parsed += 1
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                kind, _, code = node.func.id.partition("_")
                where = location(file.display, node, lines, {"cause": "it begins here"}.get(kind, ""))
                if kind == "cause":
                    causes.setdefault(code, []).append(where)
                elif kind == "fault" and file.path in targets:
                    faults.append((code, where, any(isinstance(each, ast.Constant) for each in node.args)))
                elif kind == "unknown" and file.path in targets and show_unresolved:
                    result.unresolved.append(where)
    for code, where, fixable in faults:
        result.findings.append(
            Finding(
                rule=code,
                name=NAMES.get(code, code.lower()),
                severity=SEVERITIES[code[2]],
                message=f"{code} goes wrong, 100%: it costs this.",
                location=where,
                related=tuple(causes.get(code, ())),
                confidence=CONFIDENCES.get(code, "proven"),
                remedy=Remedy("do it right", "safe" if fixable else "no"),
            )
        )
    return result


def location(path, node, lines, message):
    """Where a node is; in a notebook, by cell."""
    line, end_line, cell = node.lineno, node.end_lineno, None
    if lines is not None:
        (cell, line), (_, end_line) = lines.locate(line), lines.locate(end_line)
    return Location(path, line, node.col_offset + 1, end_line, node.end_col_offset + 1, message, cell)


NAMES = {
    "LP101": "sigmoid-before-bce",
    "LP102": "softmax-before-cross-entropy",
    "LP103": "sigmoid-before-logits-loss",
    "LP104": "nll-without-log-softmax",
    "LP201": "unguarded-division",
    "LP301": "batch-level-overlap",
    "LP501": "unweighted-loss-sum",
}


def module() -> ModuleType:
    """The stand-in as a module."""
    fake = ModuleType("lossproof.source.engine")
    fake.analyse = analyse
    return fake


def install() -> None:
    """Put it in place for the rest of a process."""
    sys.modules["lossproof.source.engine"] = module()
