"""Which files there are: those that findings are wanted for, and those that names are resolved in.

A check of one file still needs its project, because the sigmoid is in another file than the loss. So the
whole project below the root is listed whatever was named, unless that would mean listing a home folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from lossproof.problem import CannotRun
from lossproof.source.gitignore import Patterns

DEFAULT_EXCLUDES = frozenset(
    (
        *(".bzr", ".direnv", ".eggs", ".git", ".hg", ".hypothesis", ".ipynb_checkpoints", ".mypy_cache", ".nox"),
        *(".pytest_cache", ".ruff_cache", ".svn", ".tox", ".venv", "__pycache__", "__pypackages__", "build", "dist"),
        *("node_modules", "site-packages", "venv"),
    )
)
INSTALLED = ("site-packages", "dist-packages")
ROOT_MARKS = ("pyproject.toml", ".git", "setup.py")
SUFFIXES = (".py", ".ipynb")
MOST_FILES = 50_000
MOST_ENTRIES = 500_000

Rules = tuple[str, Patterns]  # the folder that the patterns are relative to, and the patterns


class SourceFile:
    """A file by name only. ``content`` stands in for what is on disk (standard input)."""

    __slots__ = ("content", "display", "path")

    def __init__(self, path: str, display: str, content: bytes | None = None) -> None:
        self.path = path
        self.display = display
        self.content = content

    def __repr__(self) -> str:
        return f"SourceFile({self.path!r})"

    def read(self) -> bytes:
        """The bytes, unbuffered: one system call is all a small file needs."""
        if self.content is not None:
            return self.content
        with open(self.path, "rb", buffering=0) as stream:
            return stream.read()


class Discovery:
    """What a search came back with. ``files`` and ``targets`` are sorted by path; every target is among the files."""

    __slots__ = ("files", "root", "targets", "warnings")

    def __init__(self, root: str, files: list[SourceFile], targets: list[str], warnings: list[str]) -> None:
        self.root = root
        self.files = files
        self.targets = targets
        self.warnings = warnings


class Filter:
    """What a walk leaves out."""

    __slots__ = ("excludes", "names", "respect_gitignore")

    def __init__(
        self,
        names: Collection[str] = DEFAULT_EXCLUDES,
        excludes: Sequence[Rules] = (),
        respect_gitignore: bool = True,
    ) -> None:
        self.names = frozenset(names)
        self.excludes = list(excludes)
        self.respect_gitignore = respect_gitignore

    def drops(self, path: str) -> bool:
        """Whether a path that was named outright falls under the excludes (for ``force-exclude``)."""
        for base, patterns in self.excludes:
            inside = _relative(path, base)
            if patterns.covers(inside if inside is not None else os.path.basename(path)):
                return True
        return any(part in self.names for part in os.path.dirname(path).split(os.sep))


def discover(
    arguments: Sequence[str],
    *,
    filter: Filter | None = None,
    force_exclude: bool = False,
    stdin: tuple[str, bytes] | None = None,
) -> Discovery:
    """Find the files. ``stdin`` is a name and a content that take the place of the argument ``-``."""
    keep = filter or Filter()
    cwd = os.getcwd()
    given: list[str] = []
    folders: list[str] = []
    warnings: list[str] = []
    for argument in arguments:
        if argument == "-" and stdin is not None:
            path = os.path.abspath(stdin[0])
            if not (force_exclude and keep.drops(path)):
                given.append(path)
            continue
        path = os.path.abspath(argument)
        try:
            is_dir = os.path.isdir(path)
            if not is_dir:
                os.stat(path)
        except (OSError, ValueError) as error:
            raise CannotRun(f"{argument}: {_why(error)}") from None
        if force_exclude and keep.drops(path):
            continue
        (folders if is_dir else given).append(path)
    root = project_root([*folders, *map(os.path.dirname, given)] or [cwd])
    targets: dict[str, None] = dict.fromkeys(given)
    walked = _outermost(folders)
    for folder in walked:
        before = len(targets)
        targets.update(dict.fromkeys(walk(folder, keep, warnings)))
        if len(targets) == before and not any(path.startswith(folder + os.sep) for path in given):
            warnings.append(f"{display(folder, cwd)}: no Python file or notebook found here")
    found = set(targets)
    if given or walked:
        found.update(_surroundings(root, given, walked, keep))
    content = {os.path.abspath(stdin[0]): stdin[1]} if stdin is not None else {}
    files = [SourceFile(path, display(path, cwd), content.get(path)) for path in sorted(found)]
    return Discovery(root, files, sorted(targets), warnings)


def project_root(folders: Sequence[str]) -> str:
    """The nearest folder above everything that looks like a project; else the common parent."""
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # on two drives
        common = folders[0]
    here = common
    home = os.path.expanduser("~")
    while os.path.dirname(here) != here and here != home:
        if any(os.path.exists(os.path.join(here, mark)) for mark in ROOT_MARKS):
            return here
        parent = os.path.dirname(here)
        if os.path.basename(parent) in INSTALLED or os.path.basename(here) in INSTALLED:
            return here
        here = parent
    return common


def walk(
    top: str,
    keep: Filter,
    warnings: list[str] | None = None,
    *,
    skip: Collection[str] = (),
    most_files: int | None = None,
) -> Iterator[str]:
    """Every Python file and notebook below ``top``, in a fixed order.

    Linked folders are not entered: what they hold inside the project is met anyway, and outside it may be a
    disk full of data. A linked file counts once, under its own name if that is met too.
    """
    linked: list[str] = []
    plain: set[str] = set()
    stack: list[tuple[str, list[Rules]]] = [(top, _ignore_files_above(top) if keep.respect_gitignore else [])]
    entries_left = MOST_ENTRIES
    while stack:
        folder, ignores = stack.pop()
        files: list[str] = []
        links: list[str] = []
        subfolders: list[str] = []
        ignore_file = False
        venv = False
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    entries_left -= 1
                    if name.endswith(SUFFIXES):
                        if entry.is_file(follow_symlinks=False):
                            files.append(name)
                            continue
                        if entry.is_symlink() and _is_file(entry):
                            links.append(name)
                            continue
                    if entry.is_dir(follow_symlinks=False):
                        if name not in keep.names:
                            subfolders.append(name)
                    elif name == ".gitignore":
                        ignore_file = True
                    elif name == "pyvenv.cfg":
                        venv = True
        except OSError as error:
            if warnings is not None:
                warnings.append(f"{display(folder)}: {_why(error)}")
            continue
        if venv and folder != top:
            continue
        if most_files is not None and entries_left < 0:
            raise _TooMany
        if ignore_file and keep.respect_gitignore:
            ignores = ignores + _read_ignore_file(folder)
        rules = ignores + keep.excludes if keep.excludes else ignores
        base = folder if folder.endswith(os.sep) else folder + os.sep
        for name in sorted(files):
            path = base + name
            if not (rules and _ignored(name, path, False, ignores, keep.excludes)):
                plain.add(path)
                if most_files is not None and len(plain) > most_files:
                    raise _TooMany
                yield path
        linked += [base + name for name in links if not _ignored(name, base + name, False, ignores, keep.excludes)]
        for name in sorted(subfolders, reverse=True):
            path = base + name
            if path not in skip and not (rules and _ignored(name, path, True, ignores, keep.excludes)):
                stack.append((path, ignores))
    real_top = os.path.realpath(top) if linked else ""
    seen = {real_top + path[len(top) :] for path in plain} if linked else set()
    for path in sorted(linked):
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            yield path


def admits(path: str, top: str, keep: Filter) -> bool:
    """Whether a walk below ``top`` would come across a file of this path, were it there."""
    inside = _relative(path, top, os.sep)
    if inside is None or not path.endswith(SUFFIXES):
        return False
    ignores = _ignore_files_above(top) if keep.respect_gitignore else []
    folder = top
    *folders, last = inside.split(os.sep)
    for name in (*folders, last):
        if keep.respect_gitignore:
            ignores = ignores + _read_ignore_file(folder)
        here = os.path.join(folder, name)
        is_folder = name is not last
        if is_folder and (name in keep.names or os.path.exists(os.path.join(here, "pyvenv.cfg"))):
            return False
        if _ignored(name, here, is_folder, ignores, keep.excludes):
            return False
        folder = here
    return True


def display(path: str, cwd: str | None = None) -> str:
    """The path as a person wants to see it: from where they stand, if it lies below."""
    inside = _relative(path, cwd or os.getcwd(), os.sep)
    return inside if inside else path


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A link in a circle, or into a folder that may not be entered, is no file; its neighbours are."""
    try:
        return entry.is_file()
    except OSError:
        return False


class _TooMany(Exception):
    """The root is no project but a whole disk."""


def _surroundings(root: str, given: Sequence[str], walked: Sequence[str], keep: Filter) -> set[str]:
    """The rest of the project, for resolving names; only the named files' folders when the root is not a project."""
    if walked == [root]:
        return set()
    if os.path.dirname(root) != root and root != os.path.expanduser("~"):
        try:
            return set(walk(root, keep, skip=frozenset(walked), most_files=MOST_FILES))
        except _TooMany:
            pass
    beside: set[str] = set()
    for folder in {os.path.dirname(path) for path in given}:
        try:
            with os.scandir(folder) as entries:
                beside.update(entry.path for entry in entries if entry.name.endswith(SUFFIXES) and _is_file(entry))
        except OSError:
            continue
    return beside


def _outermost(folders: Sequence[str]) -> list[str]:
    """The folders, less those that lie in another one of them."""
    kept: list[str] = []
    for folder in sorted(set(folders)):
        if not any(_relative(folder, other) is not None for other in kept):
            kept.append(folder)
    return kept


def _ignored(name: str, path: str, is_dir: bool, ignores: Sequence[Rules], excludes: Sequence[Rules]) -> bool:
    for base, patterns in excludes:
        inside = _relative(path, base)
        if patterns.match(name, inside if inside is not None else name, is_dir):
            return True
    for base, patterns in reversed(ignores):
        verdict = patterns.match(name, _relative(path, base) or name, is_dir)
        if verdict is not None:
            return verdict
    return False


def _ignore_files_above(top: str) -> list[Rules]:
    """The ignore files that already hold when a walk begins below the repository's own folder."""
    found: list[Rules] = []
    here = top
    while not os.path.exists(os.path.join(here, ".git")):
        parent = os.path.dirname(here)
        if parent == here:
            return []
        found += _read_ignore_file(parent)
        here = parent
    return found[::-1]


def _read_ignore_file(folder: str) -> list[Rules]:
    try:
        with open(os.path.join(folder, ".gitignore"), encoding="utf-8-sig", errors="replace") as stream:
            patterns = Patterns(stream)
    except OSError:
        return []
    return [(folder, patterns)] if patterns else []


def _relative(path: str, base: str, separator: str = "/") -> str | None:
    """The path from ``base``; None when it does not lie below. String work only: no disk, no normalizing."""
    prefix = base if base.endswith(os.sep) else base + os.sep
    if path.startswith(prefix):
        inside = path[len(prefix) :]
        return inside if os.sep == separator else inside.replace(os.sep, separator)
    return None


def _why(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
