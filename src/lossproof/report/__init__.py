"""Renders what was found. One file a format; none is loaded before it is asked for."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from collections.abc import Callable

    from lossproof.check import Report

MACHINE_FORMATS = ("json", "sarif", "github", "gitlab", "junit")


def render(name: str, report: Report) -> str:
    """The report in a format that programs read, or ``concise``; ``text`` has a terminal to think of and is apart."""
    module = import_module(f"lossproof.report.{name}")
    renderer: Callable[[Report], str] = module.render
    return renderer(report)
