"""docs/graph.md and docs/balance.md show what their examples print."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("render_graph", ROOT / "scripts" / "render_graph.py")
assert _spec is not None
assert _spec.loader is not None
render_graph = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(render_graph)

EXAMPLES = [
    found
    for target in render_graph.TARGETS
    for found in render_graph.EXAMPLE.finditer(target.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("found", EXAMPLES, ids=[found["name"] for found in EXAMPLES])
def test_an_example_prints_what_the_page_says(found: object) -> None:
    assert render_graph.run(found["name"], found["code"]) == found["printed"]  # type: ignore[index]
