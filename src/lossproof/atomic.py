"""Files that are either the old ones or the new ones, never half of one."""

from __future__ import annotations

import contextlib
import os

from lossproof.problem import CannotRun


def write_atomically(path: str, content: str) -> None:
    """Write beside the file, then put it in its place. A file keeps its permissions; a link is written through."""
    write_bytes_atomically(path, content.encode("utf-8", "surrogateescape"))


def write_bytes_atomically(path: str, content: bytes) -> None:
    """The same for what has its encoding already."""
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):  # a pipe or a device has no "half of one"
        _write_through(path, target, content)
        return
    temporary = ""
    try:
        descriptor, temporary = _beside(target)
        with open(descriptor, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise CannotRun(f"{path}: cannot write: {(error.strerror or str(error)).lower()}") from None


def _beside(target: str) -> tuple[int, str]:
    """A new file of ours alone. What tempfile would do; but importing that takes longer than a whole check."""
    folder, name = os.path.split(target)
    path = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags, 0o600), path


def _write_through(path: str, target: str, content: bytes) -> None:
    try:
        with open(target, "wb") as stream:
            stream.write(content)
    except OSError as error:
        raise CannotRun(f"{path}: cannot write: {(error.strerror or str(error)).lower()}") from None


def _mode(target: str) -> int:
    try:
        return os.stat(target).st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
