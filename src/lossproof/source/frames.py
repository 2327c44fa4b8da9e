"""One function under one set of arguments: where a node gets its value."""

from __future__ import annotations

from typing import Any

from lossproof.source.lower import FuncIR, Guard, Node, lower
from lossproof.source.syntax import Function
from lossproof.source.values import Atoms, Thunk, Value


class Frame:
    """A function's evaluation context.

    An *open* frame has no known caller: its parameters are unknowns, and asking for one marks the frame
    as ``touched``, so that the driver knows that a caller could tell more. A frame whose ``me`` is an
    object that nobody is known to have built is open in the same way through ``me.ctor``.
    """

    __slots__ = (
        "args",
        "atoms",
        "closure",
        "depth",
        "function",
        "ir",
        "me",
        "memo",
        "open",
        "override",
        "reach",
        "rests",
        "site",
        "touched",
    )

    def __init__(
        self,
        function: Function,
        args: dict[str, Value | Thunk] | None,
        me: Value | None,
        closure: Frame | None,
        site: tuple[Frame, Node] | None,
        depth: int,
    ) -> None:
        self.function = function
        self.ir: FuncIR = lower(function)
        self.args = args if args is not None else {}
        self.open = args is None
        self.me = me
        self.closure = closure
        self.site = site
        self.depth = depth
        self.memo: dict[Node, Any] = {}
        # Which conditions were found to hold, and under which open ones.
        self.reach: dict[Guard, tuple[bool, Atoms]] = {}
        self.override: tuple[Frame, int, dict[Node, Any]] | None = None
        self.touched = False
        # What the values found in this frame so far rest on.
        self.rests = function.rests
        # Conditions under which it was this function that was called, and not another.
        self.atoms: Atoms = ()

    def unrolled(self, first_line: int, values: dict[Node, Any]) -> Frame:
        """The same call in one turn of a loop: nodes before the loop keep their values."""
        twin = Frame.__new__(Frame)
        twin.function, twin.ir, twin.args, twin.open = self.function, self.ir, self.args, self.open
        twin.me, twin.closure, twin.site, twin.depth = self.me, self.closure, self.site, self.depth
        twin.memo, twin.reach, twin.touched, twin.atoms = {}, {}, False, self.atoms
        twin.rests = self.rests
        twin.override = (self, first_line, values)
        return twin

    def base(self) -> Frame:
        frame = self
        while frame.override is not None:
            frame = frame.override[0]
        return frame

    def chain(self) -> list[Frame]:
        """This frame and its callers, the innermost first."""
        found: list[Frame] = []
        frame: Frame | None = self.base()
        while frame is not None:
            found.append(frame)
            frame = frame.site[0].base() if frame.site is not None else None
        return found

    def __repr__(self) -> str:
        return f"<frame {self.function.qualname} {'open' if self.open else 'bound'}>"
