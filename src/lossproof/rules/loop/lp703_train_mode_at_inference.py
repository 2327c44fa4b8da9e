"""# LP703 train-mode-at-inference
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import WrongMode
from lossproof.source.loops import hop


def check(fact: WrongMode) -> Iterator[Finding]:
    thing = fact.forward.thing
    name = thing.text if thing is not None and thing.text else "the network"
    cause = fact.cause
    layers = "dropout and batch statistics are live" if fact.sure else "dropout and batch norm, if it has any, are live"
    if fact.why == "resumed" and cause is not None:
        yield fact.finding(
            RULE,
            f"`{name}` is trained in evaluation mode from the second round on: eval() is called in the same loop and "
            "train() is not called again, so dropout is off and batch norm stands still",
            hops=(hop(cause, "switched to evaluation mode here"),),
            confidence="likely",
            severity=Severity.WARNING if fact.sure else Severity.INFO,
            hint=f"call {name}.train() at the start of every epoch",
        )
        return
    if fact.why == "train" and cause is not None:
        what, hops = f"`{name}` is evaluated in training mode, which was switched on before and not off again", (
            hop(cause, "switched to training mode here"),
        )
    elif fact.why == "loaded":
        what = f"`{name}` predicts with loaded weights in training mode: eval() is never called"
        hops = (hop(cause, "its weights are loaded here"),) if cause is not None else ()
    else:
        what, hops = f"`{name}` is evaluated in training mode: eval() is never called on the way here", ()
    yield fact.finding(
        RULE,
        f"{what}; {layers}, so the results are noise that depends on the batch",
        hops=hops,
        confidence="likely" if fact.sure else "possible",
        severity=Severity.ERROR if fact.sure else Severity.INFO,
    )


RULE = Rule(
    code="LP703",
    name="train-mode-at-inference",
    severity=Severity.ERROR,
    summary="A network is evaluated, or predicts, in training mode: dropout and batch statistics are live.",
    hint="call model.eval() before evaluating, and model.train() before training goes on",
    page=__doc__ or "",
    evidence="train-mode-at-inference",
    facts="mode",
    check=check,
)
