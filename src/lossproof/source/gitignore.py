"""Patterns as git writes them, for ``.gitignore``, ``exclude`` and ``per-file-ignores``.

Importing a library for this doubles the time of a one-file check, so it is done here; the tests hold
it against ``git check-ignore``. Most patterns are a bare name or a suffix: those cost a set lookup, and only
the rest become regular expressions. A walk that prunes ignored folders asks about each name once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MAGIC = frozenset("*?[\\")


class _Group:
    """Neighbouring patterns of one sign (ignore, or take back), in a form that is quick to ask."""

    __slots__ = ("dir_names", "dir_regex", "dir_suffixes", "names", "regex", "sign", "suffixes")

    def __init__(self, sign: bool) -> None:
        self.sign = sign
        self.names: set[str] = set()
        self.dir_names: set[str] = set()
        self.suffixes: tuple[str, ...] = ()
        self.dir_suffixes: tuple[str, ...] = ()
        self.regex = ""
        self.dir_regex = ""

    def add(self, glob: str, dir_only: bool, anchored: bool) -> None:
        if not anchored and not _MAGIC.intersection(glob):
            (self.dir_names if dir_only else self.names).add(glob)
        elif not anchored and glob[0] == "*" and len(glob) > 1 and not _MAGIC.intersection(glob[1:]):
            if dir_only:
                self.dir_suffixes += (glob[1:],)
            else:
                self.suffixes += (glob[1:],)
        else:
            regex = _translate(glob)
            if regex is None:
                return
            regex = regex if anchored else "(?:.*/)?" + regex
            self.dir_regex += "|" + regex if self.dir_regex else regex
            if not dir_only:
                self.regex += "|" + regex if self.regex else regex

    def matches(self, name: str, relative: str, is_dir: bool) -> bool:
        if name in self.names or (self.suffixes and name.endswith(self.suffixes)):
            return True
        if is_dir and (name in self.dir_names or (self.dir_suffixes and name.endswith(self.dir_suffixes))):
            return True
        regex = self.dir_regex if is_dir else self.regex
        return regex != "" and re.compile(regex, re.DOTALL).fullmatch(relative) is not None


class Patterns:
    """Patterns in the order in which they were written; the last that matches decides."""

    __slots__ = ("_groups",)

    def __init__(self, lines: Iterable[str]) -> None:
        self._groups: list[_Group] = []
        for line in lines:
            self._add(line)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def _add(self, line: str) -> None:
        line = line.rstrip("\r\n")
        while line.endswith(" ") and not line.endswith("\\ "):
            line = line[:-1]
        if not line or line[0] == "#":
            return
        sign = line[0] != "!"
        glob = line if sign else line[1:]
        dir_only = glob.endswith("/")
        glob = glob[:-1] if dir_only else glob
        anchored = "/" in glob
        glob = glob[1:] if glob.startswith("/") else glob
        if glob.startswith("**/") and "/" not in glob[3:]:
            glob, anchored = glob[3:], False
        if not glob:
            return
        if not self._groups or self._groups[-1].sign is not sign:
            self._groups.append(_Group(sign))
        self._groups[-1].add(glob, dir_only, anchored)

    def match(self, name: str, relative: str, is_dir: bool) -> bool | None:
        """Ignored (True), taken back (False), or not spoken of (None).

        ``relative`` is the posix path from the patterns' folder; its parents have been asked about before.
        """
        for group in reversed(self._groups):
            if group.matches(name, relative, is_dir):
                return group.sign
        return None

    def covers(self, relative: str) -> bool:
        """Whether a file, or any folder that it lies in, is matched."""
        parts = relative.split("/")
        for depth in range(1, len(parts) + 1):
            if self.match(parts[depth - 1], "/".join(parts[:depth]), depth < len(parts)):
                return True
        return False


def _translate(glob: str) -> str | None:
    """The regular expression of one pattern; None for a pattern that can match nothing (a broken ``[``)."""
    out: list[str] = []
    at, end = 0, len(glob)
    while at < end:
        char = glob[at]
        if char == "*":
            stop = at
            while stop < end and glob[stop] == "*":
                stop += 1
            alone = stop - at == 2 and (at == 0 or glob[at - 1] == "/") and (stop == end or glob[stop] == "/")
            if alone and stop < end:
                out.append("(?:.*/)?")
                stop += 1
            else:
                out.append(".+" if alone else "[^/]*")
            at = stop
        elif char == "?":
            out.append("[^/]")
            at += 1
        elif char == "\\":
            if at + 1 == end:
                return None
            out.append(re.escape(glob[at + 1]))
            at += 2
        elif char == "[":
            close = glob.find("]", at + (3 if glob[at + 1 : at + 2] in ("!", "^") else 2))
            if close < 0:
                return None
            body = glob[at + 1 : close]
            negated = body[:1] in ("!", "^")
            body = (body[1:] if negated else body).replace("[", "\\[").replace("^", "\\^")
            out.append(f"(?!/)[{'^' if negated else ''}{body}]")
            at = close + 1
        else:
            out.append(re.escape(char))
            at += 1
    regex = "".join(out)
    try:
        re.compile(regex)
    except re.error:
        return None
    return regex
