"""A rule's page: for a terminal, for a document, for a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from lossproof.rules.registry import Rule


def as_json(rules: Sequence[Rule], one: bool) -> str:
    """One object when one rule was asked for, else an array."""
    records: list[dict[str, Any]] = [
        {
            "code": rule.code,
            "name": rule.name,
            "severity": rule.severity.value,
            "summary": rule.summary,
            "hint": rule.hint,
            "evidence": rule.evidence,
            "page": rule.page,
        }
        for rule in rules
    ]
    return json.dumps(records[0] if one else records, indent=2) + "\n"


def as_markdown(rules: Sequence[Rule]) -> str:
    """The pages one after the other."""
    return "\n".join(rule.page.strip("\n") + "\n" for rule in rules)


def as_table(rules: Sequence[Rule]) -> str:
    """A line a rule."""
    width = max((len(rule.name) for rule in rules), default=0)
    return "".join(
        f"{rule.code}  {rule.severity.value:<7}  {rule.name:<{width}}  {rule.summary}".rstrip() + "\n" for rule in rules
    )


def write(
    rules: Sequence[Rule], out: TextIO, *, colour: bool, remarks: Callable[[Rule], str] = lambda rule: ""
) -> None:
    """The pages, set by ``rich`` on a terminal and as Markdown elsewhere, each with what there is to remark on it."""
    if colour:
        try:
            from rich.console import Console
            from rich.markdown import Markdown
        except ImportError:
            colour = False
    if not colour:
        for rule in rules:
            remark = remarks(rule)
            out.write(as_markdown([rule]) + (f"\n{remark}" if remark else ""))
        return
    console = Console(file=out, force_terminal=True, color_system="standard", no_color=False)
    for rule in rules:
        console.print(Markdown(f"{rule.page}\n{remarks(rule)}"))
