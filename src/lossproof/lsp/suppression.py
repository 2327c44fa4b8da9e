"""The comment that silences a finding, put where it holds: at the end of a line of the finding's statement.

Not into a string, not behind a backslash; a comment of ours that is there takes the code in, any other is left alone.
"""

from __future__ import annotations

import re
import tokenize
from io import StringIO

REASON = "TODO: say why"
_OURS = re.compile(r"(#\s*lossproof:\s*ignore\s*\[)([^\]]*)\]", re.I)


def suppression(lines: list[str], line: int, code: str) -> tuple[int, int, int, str] | None:
    """Line, first and last column (all from 0) and the new text, for a finding in a line counted from 1."""
    target = _commentable(lines, line)
    if target is None:
        return None
    text = lines[target - 1].rstrip("\r\n")
    comment = _comment_start(lines, target)
    ours = _OURS.search(text, comment) if comment is not None else None
    if ours is not None:
        end = ours.end() - 1
        separator = ", " if ours[2].strip() else ""
        return target - 1, end, end, f"{separator}{code}"
    kept = len(text.rstrip())
    return target - 1, kept, len(text), f"  # lossproof: ignore[{code}] {REASON}"


def _tokens(lines: list[str]) -> list[tokenize.TokenInfo]:
    found: list[tokenize.TokenInfo] = []
    try:
        found.extend(tokenize.generate_tokens(StringIO("\n".join(lines) + "\n").readline))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return []
    return found


def _commentable(lines: list[str], line: int) -> int | None:
    """The first line from this one on, in the same statement, that can end in a comment."""
    for token in _tokens(lines):
        if token.start[0] >= line and token.type in (tokenize.NEWLINE, tokenize.NL):
            return token.start[0]
    return None


def _comment_start(lines: list[str], line: int) -> int | None:
    for token in _tokens(lines):
        if token.type == tokenize.COMMENT and token.start[0] == line:
            return token.start[1]
    return None
