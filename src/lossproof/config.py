"""Settings from ``[tool.lossproof]`` of the nearest ``pyproject.toml``, or from ``lossproof.toml``.

A misspelt key is an error: a setting that is silently ignored is worse than none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lossproof.problem import CannotRun, did_you_mean

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

SEVERITIES = ("error", "warning", "info")
CONFIDENCES = ("proven", "likely", "possible")
FORMATS = ("text", "concise", "json", "sarif", "github", "gitlab", "junit")

_STRINGS = "a list of strings"
_TYPES: dict[str, str] = {
    "select": _STRINGS,
    "ignore": _STRINGS,
    "extend-select": _STRINGS,
    "extend-ignore": _STRINGS,
    "exclude": _STRINGS,
    "extend-exclude": _STRINGS,
    "per-file-ignores": "a table of file patterns, each with a list of rules",
    "min-severity": "one of " + ", ".join(SEVERITIES),
    "min-confidence": "one of " + ", ".join(CONFIDENCES),
    "baseline": "a string",
    "cache-dir": "a string",
    "format": "one of " + ", ".join(FORMATS),
    "respect-gitignore": "true or false",
    "force-exclude": "true or false",
}
_CHOICES = {"min-severity": SEVERITIES, "min-confidence": CONFIDENCES, "format": FORMATS}


class Config:
    """What a file sets; everything else is None or empty. Paths in it are absolute."""

    __slots__ = (
        "baseline",
        "cache_dir",
        "exclude",
        "extend_exclude",
        "extend_ignore",
        "extend_select",
        "force_exclude",
        "format",
        "ignore",
        "min_confidence",
        "min_severity",
        "path",
        "per_file_ignores",
        "respect_gitignore",
        "select",
    )

    def __init__(self, path: str | None = None, values: dict[str, Any] | None = None) -> None:
        values = values or {}
        self.path = path
        self.select: list[str] | None = values.get("select")
        self.ignore: list[str] = values.get("ignore", [])
        self.extend_select: list[str] = values.get("extend-select", [])
        self.extend_ignore: list[str] = values.get("extend-ignore", [])
        self.exclude: list[str] | None = values.get("exclude")
        self.extend_exclude: list[str] = values.get("extend-exclude", [])
        self.per_file_ignores: dict[str, list[str]] = values.get("per-file-ignores", {})
        self.min_severity: str | None = values.get("min-severity")
        self.min_confidence: str | None = values.get("min-confidence")
        self.format: str | None = values.get("format")
        self.respect_gitignore: bool = values.get("respect-gitignore", True)
        self.force_exclude: bool = values.get("force-exclude", False)
        self.baseline = self._here(values.get("baseline"))
        self.cache_dir = self._here(values.get("cache-dir"))

    @property
    def folder(self) -> str:
        """What the file's patterns and paths are relative to."""
        return os.path.dirname(self.path) if self.path else os.getcwd()

    def _here(self, path: str | None) -> str | None:
        return None if path is None else os.path.normpath(os.path.join(self.folder, os.path.expanduser(path)))


def load(paths: Sequence[str] = (), *, file: str | None = None, isolated: bool = False) -> Config:
    """The settings that hold for these paths: those of ``file``, else of the nearest file above them."""
    if isolated:
        return Config()
    if file is not None:
        found = os.path.abspath(file)
        try:
            with open(found, "rb") as stream:
                data = stream.read()
        except OSError as error:
            raise CannotRun(f"{file}: cannot read the configuration: {(error.strerror or '').lower()}") from None
        return _read(found, data, required=True) or Config(found)
    here = _common_folder(paths)
    while True:
        for name in ("lossproof.toml", "pyproject.toml"):
            path = os.path.join(here, name)
            try:
                with open(path, "rb", buffering=0) as stream:
                    data = stream.read()
            except OSError:
                continue
            config = _read(path, data)
            if config is not None:
                return config
        parent = os.path.dirname(here)
        if parent == here:
            return Config()
        here = parent


def _common_folder(paths: Sequence[str]) -> str:
    folders = [full if os.path.isdir(full) else os.path.dirname(full) for full in map(os.path.abspath, paths)]
    try:
        return os.path.commonpath(folders or [os.getcwd()])
    except ValueError:  # on two drives
        return folders[0]


def _read(path: str, data: bytes, required: bool = False) -> Config | None:
    """The settings in one file; None when it has none for us."""
    pyproject = os.path.basename(path) == "pyproject.toml"
    if pyproject and not required and b"lossproof" not in data:
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotRun(f"{path}: not valid TOML: {error}") from None
    table: Any = content
    if pyproject or set(content) == {"tool"}:
        tools = content.get("tool")
        table = tools.get("lossproof") if isinstance(tools, dict) else None
        if table is None:
            if required:
                raise CannotRun(f"{path}: it has no [tool.lossproof]")
            return None
    if not isinstance(table, dict):
        raise CannotRun(f"{path}: tool.lossproof must be a table")
    for key, value in table.items():
        _validate(path, key, value)
    return Config(path, table)


def _validate(path: str, key: str, value: Any) -> None:
    expected = _TYPES.get(key)
    if expected is None:
        raise CannotRun(f"{path}: unknown setting {key!r}.{did_you_mean(key, list(_TYPES))}")
    if key in _CHOICES:
        good = isinstance(value, str) and value in _CHOICES[key]
    elif expected == _STRINGS:
        good = _is_strings(value)
    elif key == "per-file-ignores":
        good = isinstance(value, dict) and all(_is_strings(codes) for codes in value.values())
    elif expected == "a string":
        good = isinstance(value, str)
    else:
        good = isinstance(value, bool)
    if not good:
        near = did_you_mean(value, list(_CHOICES[key])) if key in _CHOICES and isinstance(value, str) else ""
        raise CannotRun(f"{path}: {key} must be {expected}, not {value!r}.{near}")


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
