"""Where summaries are kept between runs, and how that place is removed again.

The cache lies with the user, not in the project: a repository that somebody else wrote cannot bring its own.
"""

from __future__ import annotations

import os
import sys

from lossproof.problem import CannotRun

_TAG = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder was made by lossproof; it can be deleted.\n"


def default() -> str:
    """``LOSSPROOF_CACHE_DIR``, else the place that the platform has for caches."""
    chosen = os.environ.get("LOSSPROOF_CACHE_DIR")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "lossproof")


def prepare(path: str) -> str | None:
    """Make the folder and mark it as ours; None when nothing can be written there."""
    tag = os.path.join(path, _TAG)
    if os.path.exists(tag):
        return path
    try:
        os.makedirs(path, exist_ok=True)
        with open(tag, "w", encoding="ascii") as stream:
            stream.write(_SIGNATURE)
        with open(os.path.join(path, ".gitignore"), "w", encoding="ascii") as stream:
            stream.write("*\n")
    except OSError:
        return None
    return path


def remove(path: str) -> bool:
    """Delete the cache; False when there was none. Refuses a folder that does not bear our mark."""
    if not os.path.isdir(path):
        return False
    try:
        with open(os.path.join(path, _TAG), encoding="ascii", errors="replace") as stream:
            ours = "lossproof" in stream.read(300)
    except OSError:
        ours = False
    if not ours:
        raise CannotRun(f"{path}: not removed: it does not look like a cache of lossproof")
    import shutil

    try:
        shutil.rmtree(path)
    except OSError as error:
        raise CannotRun(f"{path}: not removed: {(error.strerror or str(error)).lower()}") from None
    return True
