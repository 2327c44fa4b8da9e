"""# LP701 missing-zero-grad
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import Uncleared, location
from lossproof.source.loops import hop


def check(fact: Uncleared) -> Iterator[Finding]:
    step = fact.step
    name = step.thing.text if step.thing is not None and step.thing.text else "the optimizer"
    update = "this update" if step.detail == "by hand" else f"`{name}.step()`"
    hops = [hop(step, "the parameters are updated here, with whatever gradients have piled up")]
    clear = fact.clear
    if fact.why == "erased" and clear is not None:
        hops = [hop(fact.backward, "these gradients are erased"), hop(step, "so there is nothing to update with")]
        yield fact.finding(
            RULE,
            f"the gradients are cleared between backward() and {update}: every step updates with nothing, and the "
            "network does not learn",
            hops=tuple(hops),
            place=location(clear.frame.function.module, clear.at, ""),
            hint="clear the gradients after step(), or before backward()",
        )
        return
    what = f"the gradients of earlier steps are never cleared before {update}"
    if fact.why == "outside" and clear is not None:
        hops.insert(0, hop(clear, "cleared here, but not again in the loop"))
        what = f"the gradients are cleared outside of the loop, not in each turn of it, before {update}"
    elif fact.why == "other" and clear is not None:
        other = clear.thing.text if clear.thing is not None else "another"
        hops.insert(0, hop(clear, f"only the gradients of `{other}` are cleared"))
        what = f"the gradients that {update} uses are never cleared, only those of `{other}`"
    yield fact.finding(
        RULE,
        f"{what}: every update is made from the sum of all gradients so far",
        hops=tuple(hops),
        confidence="proven" if fact.why != "other" else "likely",
    )


RULE = Rule(
    code="LP701",
    name="missing-zero-grad",
    severity=Severity.ERROR,
    summary="Gradients are never cleared between the steps of a training loop: each update uses the sum of all so far.",
    hint="call optimizer.zero_grad() in every turn of the loop, before backward()",
    page=__doc__ or "",
    evidence="gradients-never-cleared",
    facts="uncleared",
    check=check,
)
