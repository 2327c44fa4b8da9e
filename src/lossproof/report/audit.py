"""The view of an audit for people: each finding with the code of its hops, then what could not be looked into."""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Iterator

from lossproof.report.place import printable
from lossproof.report.text import finding_lines
from lossproof.source.texts import Text

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossproof.finding import Finding

_RECORD = "no line is known: make the loss inside `with lossproof.recording():`"


class _Lines:
    """Texts by the path that Python knows: files, cells of notebooks, what was typed at a prompt."""

    def __getitem__(self, path: str) -> Text:
        return Text("".join(linecache.getlines(path)))


def render(findings: Sequence[Finding], unseen: Iterable[str], operators: int) -> str:
    return "\n".join(printable(line) for line in _lines(findings, unseen, operators))


def _lines(findings: Sequence[Finding], unseen: Iterable[str], operators: int) -> Iterator[str]:
    texts = _Lines()
    for finding in findings:
        for line in finding_lines(finding, texts, "\u2502"):
            yield "".join(text for text, _ in line)
        yield ""
    counts = [(sum(each.severity.value == name for each in findings), name) for name in ("error", "warning", "info")]
    said = ", ".join(f"{count} {name}{'s' if count > 1 and name != 'info' else ''}" for count, name in counts if count)
    yield f"{said or 'Nothing found'} in the graph of this loss ({operators} operator{'s' if operators != 1 else ''})."
    if any(not finding.line for finding in findings):
        yield _RECORD
    for each in unseen:
        yield f"not seen: {each}"
