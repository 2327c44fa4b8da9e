"""What an answer rests on: the functions, the files and the questions that the walk came across.

Every part of the project has a bit. Whoever evaluates something adds its bits to ``mask``; what is remembered for
the next question remembers its bits too. So at the end of a file's investigation the mask says what it rests on, and
an edit elsewhere leaves the answer standing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Ledger:
    """``bits``: those of an earlier ledger, for files that were parsed under it."""

    __slots__ = ("_bits", "_keys", "_remembered", "mask")

    def __init__(self, bits: dict[str, int] | None = None) -> None:
        self.mask = 0
        self._bits: dict[str, int] = {} if bits is None else bits
        self._keys: list[str] = list(self._bits)
        self._remembered: dict[object, int] = {}

    def bit(self, key: str) -> int:
        """The bit of a part, made when first asked for."""
        bit = self._bits.get(key)
        if bit is None:
            bit = self._bits[key] = 1 << len(self._keys)
            self._keys.append(key)
        return bit

    def keys(self, mask: int) -> list[str]:
        """The parts in a mask."""
        digits = bin(mask)[:1:-1]
        found: list[str] = []
        at = digits.find("1")
        while at >= 0:
            found.append(self._keys[at])
            at = digits.find("1", at + 1)
        return found

    @contextmanager
    def entry(self, key: object) -> Iterator[None]:
        """Everything inside makes one answer that is remembered by its key; ``recall`` it with the answer."""
        outer, self.mask = self.mask, 0
        try:
            yield
        finally:
            rests = self._remembered[key] = self._remembered.get(key, 0) | self.mask
            self.mask = outer | rests

    def recall(self, key: object) -> None:
        """A remembered answer is used again: what it rests on, this rests on too."""
        self.mask |= self._remembered.get(key, 0)


# The keys of the parts: a function (with what is nested in it), what a file holds outside of functions, the attributes
# that a class's methods set, a file's whole text, which files name something, and which files a pattern is found in.


def part(path: str, name: str) -> str:
    return f"d:{path}:{name}"


def outside(path: str) -> str:
    return f"d:{path}:"


def attributes(path: str, name: str) -> str:
    return f"s:{path}:{name}"


def text(path: str) -> str:
    return f"t:{path}"


def naming(name: str) -> str:
    return f"n:{name}"


def mentioning(pattern: str, paths: list[str]) -> str:
    return "m:" + "\0".join((pattern, *paths))


def mentions(key: str) -> tuple[str, list[str]] | None:
    """The pattern and the files of a key that ``mentioning`` gave; nothing for another key."""
    if not key.startswith("m:"):
        return None
    pattern, *paths = key[2:].split("\0")
    return pattern, paths
