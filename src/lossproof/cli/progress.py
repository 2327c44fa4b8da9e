"""A bar on the terminal for scans and measurements that take more than a moment."""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

_PATIENCE = 1.0
_EVERY = 0.1


class Bar:
    """Called with what is done and what there is to do. It shows nothing for the first second."""

    def __init__(self, doing: str = "Reading files") -> None:
        self._doing = doing
        self._began = time.monotonic()
        self._drawn = 0.0
        self._bar: Any = None
        self._task: Any = None
        self._dead = False

    @classmethod
    def for_terminal(cls, quiet: bool, doing: str = "Reading files") -> Bar | None:
        """A bar if somebody is there to see it."""
        return cls(doing) if not quiet and sys.stderr is not None and sys.stderr.isatty() else None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._dead or now - self._began < _PATIENCE or now - self._drawn < _EVERY:
            return
        self._drawn = now
        if self._bar is None and not self._start(total):
            return
        self._bar.update(self._task, completed=done, total=total)
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar off the screen."""
        self._dead = True
        if self._bar is not None:
            self._bar.stop()

    def _start(self, total: int) -> bool:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            self._dead = True
            return False
        columns = (TextColumn(self._doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        # without a thread of its own: worker processes may still be forked
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._task = self._bar.add_task("", total=total)
        self._bar.start()
        return True
