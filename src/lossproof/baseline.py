"""Findings that are known and accepted for now, so that only new ones fail a build.

An entry is a rule, a file and the stripped text of the line: code may move without waking it. Files are written
relative to the baseline's own folder, so it means the same from wherever the check is started.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from lossproof.atomic import write_atomically
from lossproof.finding import Finding
from lossproof.fingerprint import fingerprint, line_text, posix
from lossproof.problem import CannotRun
from lossproof.source.texts import Texts

_VERSION = 1

Key = tuple[str, str, str]  # path, rule, text


class Baseline:
    """How often each entry is accepted."""

    def __init__(self, path: str, counts: Counter[Key] | None = None) -> None:
        self.path = os.path.abspath(path)
        self.counts: Counter[Key] = counts if counts is not None else Counter()

    @classmethod
    def load(cls, path: str) -> Baseline:
        """Read a baseline; ``CannotRun`` says what is wrong with it."""
        try:
            with open(path, encoding="utf-8") as stream:
                content: Any = json.load(stream)
        except FileNotFoundError:
            raise CannotRun(f"{path}: no such baseline; write one with --update-baseline") from None
        except OSError as error:
            raise CannotRun(f"{path}: {(error.strerror or str(error)).lower()}") from None
        except (ValueError, RecursionError) as error:
            raise CannotRun(f"{path}: not a baseline: {error}") from None
        counts: Counter[Key] = Counter()
        try:
            if content["version"] != _VERSION:
                raise CannotRun(f"{path}: baseline version {content['version']!r}; this lossproof reads {_VERSION}")
            for entry in content["findings"]:
                counts[str(entry["path"]), str(entry["rule"]), str(entry["line"])] += int(entry.get("count", 1))
        except (KeyError, TypeError, ValueError) as error:
            raise CannotRun(f"{path}: not a baseline ({type(error).__name__}: {error})") from None
        return cls(path, counts)

    def key(self, finding: Finding, texts: Texts) -> Key:
        """What identifies a finding here."""
        return self.relative(finding.path), finding.rule, line_text(finding, texts)

    def relative(self, path: str) -> str:
        """A path from the baseline's folder, as machines write it."""
        full, folder = os.path.abspath(path), os.path.dirname(self.path)
        try:
            return posix(os.path.relpath(full, folder))
        except ValueError:  # on another drive
            return posix(full)

    def split(self, findings: Iterable[Finding], texts: Texts) -> tuple[list[Finding], Counter[Key]]:
        """The findings that are new, and the entries that nothing matched."""
        left = Counter(self.counts)
        new: list[Finding] = []
        for finding in findings:
            key = self.key(finding, texts)
            if left[key] > 0:
                left[key] -= 1
            else:
                new.append(finding)
        return new, +left

    def stale(self, left: Counter[Key], checked: Collection[str], judged: Callable[[str], bool]) -> int:
        """How many unmatched entries are out of date: their file was checked for their rule, or is gone."""
        here = {self.relative(path) for path in checked}
        folder = os.path.dirname(self.path)
        return sum(
            count
            for (path, rule, _), count in left.items()
            if judged(rule) and (path in here or not os.path.exists(os.path.join(folder, path)))
        )

    def update(
        self, findings: Iterable[Finding], texts: Texts, checked: Collection[str], judged: Callable[[str], bool]
    ) -> int:
        """Accept these findings, keep what other files and rules have, write the file, and say how many are in it."""
        here = {self.relative(path) for path in checked}
        folder = os.path.dirname(self.path)
        counts: Counter[Key] = Counter()
        for key, count in self.counts.items():
            if (key[0] not in here or not judged(key[1])) and os.path.exists(os.path.join(folder, key[0])):
                counts[key] = count
        counts.update(self.key(finding, texts) for finding in findings)
        self.counts = counts
        write_atomically(self.path, self.dump())
        return sum(counts.values())

    def dump(self) -> str:
        """The file's content: sorted, so that two branches seldom conflict."""
        entries: list[dict[str, Any]] = []
        for (path, rule, line), count in sorted(self.counts.items()):
            entry: dict[str, Any] = {"path": path, "rule": rule, "line": line}
            if count != 1:
                entry["count"] = count
            entries.append({**entry, "fingerprint": fingerprint(rule, path, line)})
        return json.dumps({"version": _VERSION, "findings": entries}, indent=2, ensure_ascii=False) + "\n"
