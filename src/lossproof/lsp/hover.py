"""What is shown when one points at a finding, or at a step of its way: the rule, and the evidence for it."""

from __future__ import annotations

from lossproof.finding import Finding
from lossproof.lsp.pages import address, sections
from lossproof.lsp.places import Places
from lossproof.report.place import place


def hover(finding: Finding, places: Places) -> str:
    """Markdown."""
    title = f"**{finding.rule}** {finding.name} · {finding.severity.value}"
    if finding.confidence != "proven":
        title += f" ({finding.confidence})"
    parts = [title, finding.message]
    if finding.related:
        steps = [f"{n}. {_link(finding, n - 1, places)} {hop.message}" for n, hop in enumerate(finding.related, 1)]
        parts.append("\n".join([*steps, f"{len(steps) + 1}. {_link(finding, len(steps), places)} the finding"]))
    remedy = finding.remedy
    if remedy.hint:
        parts.append(f"**Help:** {remedy.hint}")
    if remedy.note:
        parts.append(f"**Fix** ({remedy.fixable}): {remedy.note}" if remedy.edits else f"**No fix:** {remedy.note}")
    page = sections(finding.rule)
    for name in ("Why is this bad", "Measured"):
        if name in page:
            parts.append(f"---\n**{name}**\n\n{page[name]}")
    href = address(finding.rule)
    parts.append(f"[The whole page]({href}), or `lossproof explain {finding.rule}`" if href else "")
    return "\n\n".join(part for part in parts if part)


def _link(finding: Finding, number: int, places: Places) -> str:
    where = [*finding.related, finding.location][number]
    if where.cell is not None:
        return f"`{place(where)}`"
    return f"[{place(where)}]({places.uri(where)}#L{where.line})"
