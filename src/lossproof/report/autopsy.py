"""An autopsy as text for a terminal, and as a small table for a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossproof.autopsy import Autopsy
    from lossproof.graph.figures import Figures

WIDTH = 100
_LABEL = 12
_HEADS = {
    "non-finite-loss": "the loss is {value}",
    "non-finite-gradient": "the loss is finite and its gradient is {value}",
    "non-finite-weights": "the loss is finite and weights are not",
    "non-finite-step": "the loss and its gradients are finite, and the next step will not be",
}


def text(found: Autopsy) -> str:
    """All of it, a block of labelled lines."""
    lines = [_head(found)]
    for label, content in _parts(found):
        lines += _labelled(label, content)
    return "\n".join(lines)


def html(found: Autopsy) -> str:
    cells = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escape(label)}</th>"
        f"<td style='text-align:left'>{'<br>'.join(escape(each) for each in content)}</td></tr>"
        for label, content in _parts(found)
    )
    return f"<div><b>{escape(_head(found))}</b><table>{cells}</table></div>"


def _head(found: Autopsy) -> str:
    if found.cause is None:
        looked = f" ({found.looked_at} gradients looked at)" if found.looked_at else ""
        return f"finite loss, finite gradients{looked}"
    return _HEADS.get(found.symptom or "", "not finite").format(value={"nan": "NaN"}.get(found.value, found.value))


def _parts(found: Autopsy) -> Iterator[tuple[str, Sequence[str]]]:
    if found.cause is not None:
        if found.op:
            yield "operator", [_operator(found)]
        yield "cause", [found.cause + ("" if found.probability > 0.85 else " (likely)")]
        if found.rows:
            of = f" of {found.batch}" if found.batch else ""
            yield "rows", [f"{_numbers(found.rows)}  ({len(found.rows)}{of})"]
        if found.columns:
            yield "columns", [_numbers(found.columns)]
        yield "because", found.because
        if found.inputs:
            yield "operands", _table(found.inputs)
        yield "now", found.immediate
        yield "for good", found.durable
        if found.watch:
            yield "watch", found.watch
        if found.replayed:
            yield "note", ["the step was made again for this"]
    if found.unseen:
        yield "not seen", found.unseen


def _operator(found: Autopsy) -> str:
    place = f"{found.path}:{found.line}" if found.path else f"in {found.neighbours}" if found.neighbours else ""
    side = {"backward": "backward of ", "outside": "read by "}.get(found.where or "", "")
    called = f" ({found.called})" if found.called else ""
    return f"{side}{found.op}{called}  {place}".rstrip()


def _labelled(label: str, content: Sequence[str]) -> Iterator[str]:
    start = f"  {label:<{_LABEL - 2}}"
    for each in content:
        room = WIDTH - _LABEL
        pieces = [each] if "  " in each else wrap(each, room, break_long_words=False, break_on_hyphens=False)
        for piece in pieces or [""]:
            yield (start + piece).rstrip()
            start = " " * _LABEL


def _table(inputs: Sequence[Figures]) -> list[str]:
    rows = [(each.name, each.role, _size(each), _range(each), _wrong(each)) for each in inputs]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _size(each: Figures) -> str:
    shape = "x".join(str(size) for size in each.shape) or "scalar"
    return f"{shape} {each.dtype}".rstrip()


def _range(each: Figures) -> str:
    if not each.seen:
        return "not kept by the graph"
    if each.minimum is None or each.maximum is None:
        return "no finite element"
    if each.elements == 1:
        return f"{each.minimum + 0.0:.4g}"
    return f"{each.minimum + 0.0:.4g} to {each.maximum + 0.0:.4g}, mean {each.mean or 0.0:.4g}"


def _wrong(each: Figures) -> str:
    parts = []
    for count, name in ((each.nan, "NaN"), (each.posinf, "inf"), (each.neginf, "-inf"), (each.zero, "zero")):
        if count:
            parts.append(f"{count} {name}")
    return ", ".join(parts)


def rows_said(rows: Sequence[int], limit: int = 6) -> str:
    """``row 4``, ``rows 4, 17``, ``rows 0, 1, 2, 3, 4, 5 and 26 more``; nothing for no rows."""
    if not rows:
        return ""
    if len(rows) == 1:
        return f"row {rows[0]}"
    shown = ", ".join(str(row) for row in rows[:limit])
    return f"rows {shown}" + (f" and {len(rows) - limit} more" if len(rows) > limit else "")


def _numbers(numbers: Sequence[int], limit: int = 12) -> str:
    shown = ", ".join(str(each) for each in numbers[:limit])
    return shown + (f" and {len(numbers) - limit} more" if len(numbers) > limit else "")
