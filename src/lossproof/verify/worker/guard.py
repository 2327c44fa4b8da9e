"""What the code on trial may not do: write outside of its folder, start programs, reach the network, run for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

_PATHS = ("os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "shutil.rmtree",
          "os.chmod", "os.chown", "os.utime", "shutil.move", "shutil.copyfile")  # fmt: skip
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.fork",
             "os.kill", "os.killpg", "pty.spawn")  # fmt: skip
_NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")


_PATIENCE = 4.0
"""How much longer something may take by the clock on the wall than by the processor's: machines are busy."""


class Refused(PermissionError):
    """The code wanted more than to compute."""


class TookTooLong(BaseException):
    """No ``Exception``: code that catches everything must not catch this."""


def install(folder: str) -> None:
    """From here on writes go to ``folder`` or nowhere. A seat belt for careless code, no prison for hostile code."""
    home = os.path.realpath(folder)

    def inside(path: Any) -> bool:
        if isinstance(path, int):
            return True
        try:
            whole = os.path.realpath(os.fsdecode(path))
        except (TypeError, ValueError):
            return False
        return whole == os.devnull or whole == home or whole.startswith(home + os.sep)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else False
            writes = writes or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            if writes and path is not None and not inside(path):
                raise Refused(f"it wants to write {os.fspath(path)!r}")
        elif event in _PATHS:
            if not all(inside(path) for path in arguments[:2] if isinstance(path, (str, bytes, os.PathLike))):
                raise Refused(f"it wants to change {arguments[0]!r}")
        elif event in _PROGRAMS:
            raise Refused("it wants to start another program")
        elif event in _NETWORK:
            raise Refused("it needs the network")

    sys.addaudithook(hook)


def limit(memory: int, seconds: int) -> None:
    """Ceilings of the operating system, where it has them."""
    try:
        import resource
    except ImportError:
        return
    for name, value in (
        ("RLIMIT_DATA", memory),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", 1 << 26),
        ("RLIMIT_CORE", 0),
    ):
        which = getattr(resource, name, None)
        if which is not None:
            with contextlib.suppress(OSError, ValueError):
                _, hard = resource.getrlimit(which)
                top = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(which, (top, hard))


class Clock:
    """Time that passes as the processor works, or four times as slowly while it waits or others have it."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def __call__(self) -> float:
        return max(time.process_time() - self._cpu, (time.monotonic() - self._wall) / _PATIENCE)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer, where the system can; the parent's own limit stands behind this one."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise TookTooLong

    timers = (signal.SIGALRM, signal.ITIMER_REAL, seconds * _PATIENCE), (signal.SIGPROF, signal.ITIMER_PROF, seconds)
    previous = []
    for number, timer, limit in timers:
        previous.append(signal.signal(number, stop))
        # Again and again: one that is raised inside a destructor is lost.
        signal.setitimer(timer, limit, 0.2)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, previous, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
