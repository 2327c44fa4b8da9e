"""Arrows run one way: an eye gathers facts and knows no rule, and only commands join the two."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "lossproof"
MAY_NOT = {
    "source": ("lossproof.rules", "lossproof.cli", "lossproof.report", "lossproof.check", "torch"),
    "rules": ("lossproof.cli", "lossproof.report", "lossproof.check", "lossproof.evidence", "torch"),
    "evidence": (
        *("lossproof.cli", "lossproof.report", "lossproof.check", "lossproof.rules", "lossproof.source"),
        *("lossproof.verify", "lossproof.mend", "lossproof.lsp"),
    ),
    "verify": ("lossproof.cli", "lossproof.check", "lossproof.rules", "lossproof.mend"),
    "report": ("lossproof.cli", "lossproof.check", "torch"),
    "lsp": ("lossproof.cli", "torch"),
    "graph": ("lossproof.rules", "lossproof.cli", "lossproof.report", "lossproof.check", "lossproof.source"),
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported when the code runs (those for the type checker alone are no arrows)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def at_import(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported as soon as the module is."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from at_import(node)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imports(ast.Module([node], []))


@pytest.mark.parametrize("room", sorted(MAY_NOT))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for module in imports(ast.parse(path.read_text(encoding="utf-8")))
        if any(module == other or module.startswith(other + ".") for other in MAY_NOT[room])
    ]
    assert wrong == []


def test_an_experiment_imports_torch_only_when_it_runs() -> None:
    """Claims can be listed without it."""
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sorted((PACKAGE / "evidence").rglob("*.py"))
        for module in at_import(ast.parse(path.read_text(encoding="utf-8")))
        if module.partition(".")[0] in ("torch", "numpy", "sklearn", "rich")
    ]
    assert wrong == []


def test_the_losses_know_torch_alone() -> None:
    wrong = [
        f"{path.name} imports {module}"
        for path in sorted((PACKAGE / "losses").rglob("*.py"))
        for module in imports(ast.parse(path.read_text(encoding="utf-8")))
        if module.startswith("lossproof") and not module.startswith("lossproof.losses")
    ]
    assert wrong == []


def test_balance_knows_torch_alone() -> None:
    """Beside it only the standard library, and matplotlib where a picture is asked for."""
    roots = {*sys.stdlib_module_names, "torch", "matplotlib"}
    wrong = [
        f"{path.name} imports {module}"
        for path in sorted((PACKAGE / "balance").rglob("*.py"))
        for module in imports(ast.parse(path.read_text(encoding="utf-8")))
        if not (module == "lossproof.balance" or module.startswith("lossproof.balance."))
        and module.partition(".")[0] not in roots
    ]
    assert wrong == []


def test_only_the_server_knows_its_library() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "lsp" and path.name != "lsp.py"
        for module in imports(ast.parse(path.read_text(encoding="utf-8")))
        if module.partition(".")[0] in ("pygls", "lsprotocol") or module.startswith("lossproof.lsp")
    ]
    assert wrong == []
