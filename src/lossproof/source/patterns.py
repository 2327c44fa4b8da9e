"""Regular expressions that are compiled when they are first asked: most runs never come to most of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


class Pattern:
    __slots__ = ("_compiled", "_flags", "_text")

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text = text
        self._flags = flags
        self._compiled: re.Pattern[str] | None = None

    def _pattern(self) -> re.Pattern[str]:
        if self._compiled is None:
            self._compiled = re.compile(self._text, self._flags)
        return self._compiled

    def search(self, text: str) -> re.Match[str] | None:
        return self._pattern().search(text)

    def match(self, text: str) -> re.Match[str] | None:
        return self._pattern().match(text)

    def sub(self, by: str, text: str) -> str:
        return self._pattern().sub(by, text)

    def findall(self, text: str) -> list[Any]:
        return self._pattern().findall(text)

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        return self._pattern().finditer(text)
