"""What an editor may set; everything else is in the project's ``[tool.lossproof]``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

_CHOICES = {
    "diagnostics": ("workspace", "open"),
    "minSeverity": ("error", "warning", "info"),
    "minConfidence": ("proven", "likely", "possible"),
}


@dataclass(frozen=True)
class Settings:
    """Named as in the editor's settings, below ``lossproof``."""

    enable: bool = True
    diagnostics: str = "workspace"
    """``workspace``: findings in every file of the open folders; ``open``: in the open ones."""
    debounce: int = 150
    """Milliseconds after the last keystroke."""
    pull: bool = False
    """Diagnostics of open files when the editor asks for them, instead of sending them."""
    config: str | None = None
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    minSeverity: str | None = None
    minConfidence: str | None = None


def read(given: Any) -> tuple[Settings, list[str]]:
    """The settings in what an editor sent, and what is wrong with it."""
    if isinstance(given, dict) and isinstance(given.get("lossproof"), dict):
        given = given["lossproof"]
    if not isinstance(given, dict):
        return Settings(), []
    good: dict[str, Any] = {}
    complaints: list[str] = []
    kinds = {each.name: each.type for each in fields(Settings)}
    for name, value in given.items():
        if name not in kinds or value is None:
            continue  # an editor's extension has settings of its own
        if kinds[name].startswith("tuple"):
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
            value = tuple(value) if fits else value
        elif kinds[name] == "bool":
            fits = isinstance(value, bool)
        elif kinds[name] == "int":
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        else:
            fits = isinstance(value, str) and value in _CHOICES.get(name, (value,))
        if fits:
            good[name] = value
        else:
            complaints.append(f"the setting lossproof.{name} cannot be {value!r}")
    return Settings(**good), complaints
