"""The one exception that means "could not run": a message for a person, exit code 2, no traceback."""

from __future__ import annotations


class CannotRun(Exception):
    """What was asked for cannot be done: an unknown rule, a missing path, a configuration that makes no sense."""


def did_you_mean(word: str, known: list[str]) -> str:
    """A sentence that offers what was probably meant, or nothing."""
    import difflib

    lowered = {candidate.lower(): candidate for candidate in known}
    near = [lowered[match] for match in difflib.get_close_matches(word.lower(), list(lowered), n=3, cutoff=0.6)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
