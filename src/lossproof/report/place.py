"""Where something is, as people and editors read it, and text that cannot command their terminal."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from lossproof.finding import Location


_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """The text with its control characters shown as such: a file's name is not ours to trust."""
    return text if text.isprintable() else text.translate(_CONTROLS)


def place(where: Location) -> str:
    """``path:line:column``; in a notebook ``path:cell 3:line:column``; with no line known, what is said instead."""
    if not where.line:
        return f"{where.path} {where.message}".rstrip()
    cell = "" if where.cell is None else f"cell {where.cell}:"
    return f"{where.path}:{cell}{where.line}:{where.column}"
