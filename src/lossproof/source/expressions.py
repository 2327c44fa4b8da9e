"""Where in a function a value is used: every expression with the node that it stands for.

The value graph knows what a name is bound to, not where it is read. For an edit the places count, so the function is
lowered once more, writing down each expression on the way.
"""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.lower import FuncIR, Lowering, Node
from lossproof.source.syntax import Function


class Expressions(Lowering):
    """The expressions of a function and their nodes, in the order in which they are evaluated."""

    def __init__(self, function: Function) -> None:
        super().__init__(function)
        self.seen: list[tuple[Any, Node]] = []
        self.node_of: dict[int, Node] = {}
        self.graph: FuncIR = self.run()

    def expr(self, e: Any) -> Node:
        node = super().expr(e)
        if id(e) not in self.node_of:
            self.node_of[id(e)] = node
            if not isinstance(e, (ast.Constant, ast.Slice)):
                self.seen.append((e, node))
        return node
