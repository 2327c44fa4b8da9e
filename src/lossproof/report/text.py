"""The view for people: each finding with the code of every hop from the cause to the loss.

The content is made once, as styled segments. A terminal gets it through ``rich``; a pipe, a file or an installation
without ``rich`` gets the same words plain.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.report.place import place, printable
from lossproof.report.summary import remarks, summary

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from typing import Protocol, TextIO

    from lossproof.check import Report
    from lossproof.finding import Finding, Location
    from lossproof.report.excerpt import Line
    from lossproof.source.texts import Text

    class Lines(Protocol):
        """Texts by the path that findings show."""

        def __getitem__(self, path: str) -> Text: ...


_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}
_HOP = "magenta"


def render(report: Report, *, bar: str = "|", quiet: bool = False) -> Iterator[Line]:
    """Every line of the view."""
    for finding in report.findings:
        yield from finding_lines(finding, report.texts, bar)
        yield []
    if report.show_unresolved and report.unresolved:
        yield from _unresolved(report.unresolved)
        yield []
    if not quiet:
        yield [(summary(report), "bold" if report.findings else "bold green")]
        for remark in remarks(report):
            yield [(remark, "dim")]


def write(report: Report, out: TextIO, *, colour: bool = False, quiet: bool = False) -> None:
    """Print the view."""
    write_lines(render(report, bar=_bar(out), quiet=quiet), out, colour=colour)


def write_lines(lines: Iterator[Line], out: TextIO, *, colour: bool) -> None:
    """Styled lines to a stream, with the styles if they are wanted and ``rich`` is there to draw them."""
    if colour:
        try:
            from rich.console import Console
            from rich.text import Text as Styled
        except ImportError:
            colour = False
    if not colour:
        for line in lines:
            out.write(printable("".join(text for text, _ in line)) + "\n")
        return
    console = Console(
        file=out, force_terminal=True, highlight=False, soft_wrap=True, color_system="standard", no_color=False
    )
    for line in lines:
        console.print(Styled.assemble(*((printable(text), style) for text, style in line)))


def finding_lines(finding: Finding, texts: Lines, bar: str) -> Iterator[Line]:
    """One finding, with the code of every hop."""
    from lossproof.report.excerpt import excerpt

    severity = finding.severity.value
    style = _STYLES[severity]
    header: Line = [(place(finding.location), "bold"), ("  ", ""), (severity, style), (f" {finding.rule} ", "bold")]
    header.append((finding.name, ""))
    if finding.confidence != "proven":
        header.append((f"  ({finding.confidence})", "dim"))
    yield header
    for part in finding.message.splitlines() or [""]:
        yield [(f"  {part}", "")]
    steps = [*finding.related, finding.location]
    for number, step in enumerate(steps, start=1):
        yield []
        last = step is finding.location
        if len(steps) > 1:
            yield [(f"  {number}. ", "dim"), (place(step), "bold" if last else "")]
        for line in excerpt(texts[step.path], step, style if last else _HOP, bar=bar) if step.line else ():
            yield [("     " if len(steps) > 1 else "  ", ""), *line]
    yield []
    if finding.remedy.hint:
        yield [("  help: ", "bold green"), (finding.remedy.hint, "")]
    remedy = finding.remedy
    if remedy.edits:
        flags = "--fix" if remedy.fixable == "safe" else "--fix --unsafe-fixes"
        yield [("  fix:  ", "bold green"), (f"{flags}: {remedy.note}" if remedy.note else flags, "")]
    elif remedy.note:
        yield [("  fix:  ", "bold"), (remedy.note, "dim")]
    yield [("  more: ", "bold"), (f"lossproof explain {finding.rule}", "")]


def _unresolved(places: list[Location]) -> Iterator[Line]:
    yield [("Not followed (silence there proves nothing):", "bold")]
    for where in places:
        yield [(f"  {place(where)}", ""), (f"  {where.message}" if where.message else "", "dim")]


def _bar(out: TextIO) -> str:
    """A line that the stream can encode."""
    try:
        "\u2502".encode(getattr(out, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "|"
    return "\u2502"
