"""From measurements to a verdict.

A safe fix has to give the same on moderate inputs, and the same gradient. On extreme ones a fix may not make anything
worse; and where the fault of its rule shows in the old function, it has to be gone in the new one.
"""

from __future__ import annotations

import math
from typing import Any

from lossproof.verify.plan import Task, Unit
from lossproof.verify.proof import FAILED, NOT_RUN, VERIFIED, Proof

_LARGE = ("logits of 30", "logits of 100", "logits of 1000", "certain and wrong")
_ZERO = (
    "zeros",
    "equal vectors",
    "zero targets",
    "empty mask",
    "empty mask, zero targets",
    "certain and right",
    "certain and wrong",
)
RELEVANT: dict[str, tuple[str, ...]] = {
    "LP101": _LARGE,
    "LP103": (),
    "LP106": (*_LARGE, "zeros"),
    "LP201": _ZERO,
    "LP202": _ZERO,
    "LP203": (*_ZERO, "ones"),
    "LP204": _LARGE,
    "LP205": (*_ZERO, *_LARGE),
    "LP206": _ZERO,
    "LP304": ("empty mask", "empty mask, zero targets"),
}
"""The extreme inputs on which the fault of a rule shows."""
DEAD = ("LP101", "LP106")
"""Rules whose fault is a gradient of zero where the prediction is most wrong."""
NEW_GRADIENT = ("LP302",)
"""Rules whose fix gives a gradient where there was none, or another one."""
NO_GRADIENT = ("LP305",)
"""Rules whose fix takes the graph away on purpose."""


def judge(task: Task, units: dict[str, Unit], results: dict[str, dict[str, Any]]) -> Proof:
    """The proof of one finding's fix from what its units have shown."""
    finding = task.made.finding
    safe = finding.remedy.fixable != "unsafe"
    ran: list[tuple[Unit, dict[str, Any]]] = []
    skipped: list[str] = list(task.reasons)
    for group in (task.wholes, task.spare):
        for id in group:
            result = results.get(id, {"status": "not run", "reason": "it was not tried"})
            if result["status"] == "ran":
                ran.append((units[id], result))
            elif group is task.wholes:
                skipped.append(f"`{units[id].name[1]}`: {result['reason']}")
        if ran:
            break
    if not ran:
        reason = skipped[0] if skipped else "nothing that changed can be run by itself"
        for id in task.spare:
            if not skipped and id in results:
                reason = f"`{units[id].name[1]}`: {results[id]['reason']}"
                break
        return Proof(finding, NOT_RUN, reason)
    names = tuple(unit.name[1] for unit, _ in ran)
    inputs = sum(result["inputs"] for _, result in ran)
    for unit, result in ran:
        fault = _fault(finding.rule, safe, result)
        if fault:
            return Proof(finding, FAILED, f"`{unit.name[1]}`: {fault}", names, inputs)
    for id in task.watched if safe else ():
        result = results.get(id, {"status": "not run"})
        if result["status"] == "ran" and result["inputs"]:
            said = result["error"] or (result["said"] if _float(result["worst"]) > 1e-4 or result["worst"] == 0 else "")
            if said:
                name = units[id].name[1]
                said = f"`{name}` is not changed and uses what is: {said}"
                return Proof(finding, FAILED, said, (*names, name), inputs)
    cured, still, elsewhere = _extreme(finding.rule, [result for _, result in ran], task.guilty)
    if still and not cured:
        return Proof(finding, FAILED, f"{_names(names)}: extreme: {still}, before and after", names, inputs)
    worst = max((_float(result["worst"]) for _, result in ran), default=0.0)
    if safe:
        said = f"{_names(names)}: {inputs} inputs same{'' if worst == 0 else f' to {worst:.0e}'}"
    elif worst <= 1e-5:
        said = f"{_names(names)}: {inputs} inputs finite, same to {max(worst, 1e-8):.0e}"
    else:
        first = next((r for _, r in ran if r["old"] is not None and r["said"]), ran[0][1])
        said = f"{_names(names)}: {inputs} inputs finite; {_figure(first['old'])} became {_figure(first['new'])}"
    if cured:
        said += f"; extreme: {cured}"
    elif elsewhere:
        said += f"; extreme: still {elsewhere}"
    left = tuple(f"not run: {each}" for each in skipped)
    return Proof(finding, VERIFIED, said, names, inputs, left)


def _fault(rule: str, safe: bool, result: dict[str, Any]) -> str:
    """What is wrong with a mended function, or nothing."""
    if not result["inputs"]:
        return ""
    if result["error"]:
        return f"on inputs that ran before: {result['error']}"
    if safe and result["said"] and _float(result["worst"]) > (1e-4 if result.get("optimizes") else 1e-5):
        return f"moderate: {result['said']} ({result['where']})"
    if safe and result["said"] and _float(result["worst"]) == 0:
        return f"moderate: {result['said']} ({result['where']})"
    if not safe and result["said"].partition(": ")[2].startswith("shape"):
        return f"moderate: {result['said']} ({result['where']})"
    said = result["gradient_said"]
    if said and rule not in NO_GRADIENT:
        severe = "gone" in said or "not finite" in said or "is zero" in said
        if severe or (safe and rule not in NEW_GRADIENT):
            return f"moderate: {said}"
    for case in result["extreme"]:
        old, new = case["old"], case["new"]
        if old["error"] is None and new["error"] is not None:
            return f"extreme ({case['case']}): {_figure(old['value'])}, now {new['error']}"
        if old["finite"] and not new["finite"] and new["error"] is None:
            return f"extreme ({case['case']}): {_figure(old['value'])}, now {_figure(new['value'])}"
        if rule in NO_GRADIENT:
            continue
        was, now = _gradient(old), _gradient(new)
        if was is not None and math.isfinite(was) and old["finite"] and now is not None and not math.isfinite(now):
            return f"extreme ({case['case']}): gradient {was:.3g}, now not finite"
    return ""


def _extreme(rule: str, results: list[dict[str, Any]], guilty: list[tuple[str, int, int]]) -> tuple[str, str, str]:
    """What was bad on extreme inputs and is good now; what is still bad, by the mended lines or by others."""
    cured: list[str] = []
    still: list[str] = []
    elsewhere: list[str] = []
    relevant = RELEVANT.get(rule, ())
    for result in results:
        for case in result["extreme"]:
            was, now = _trouble(case["old"]), _trouble(case["new"])
            if rule in DEAD and not was and not now:
                was, now = _dead(case["case"], case["old"], case["new"])
            if not was:
                continue
            if not now:
                gradient = _gradient(case["new"])
                with_it = f" with gradient {gradient:.2g}" if gradient is not None else ""
                cured.append(f"{case['case']}: {was}, now {_figure(case['new']['value'])}{with_it}")
            elif case["case"] in relevant:
                origin = case["origin"]
                if origin is None and "with gradient " not in now:
                    continue  # nobody knows whose fault it is
                if rule == "LP101" and origin is not None:
                    elsewhere.append(f"{case['case']}: {now}")  # its fault is a dead gradient, not an infinite one
                elif origin is None or any(f == origin[0] and a <= origin[1] <= b for f, a, b in guilty):
                    still.append(f"{case['case']}: {now}")
                else:
                    elsewhere.append(f"{case['case']}: {now}, by line {origin[1]} of {origin[0]}")
    more = f" ({len(cured)} such)" if len(cured) > 1 else ""
    best = next((c for c in cured if c.partition(":")[0] in relevant), cured[0] if cured else "")
    return (best + more if best else ""), (still[0] if still else ""), (elsewhere[0] if elsewhere else "")


def _trouble(side: dict[str, Any]) -> str:
    """What is bad about a result on an extreme input."""
    if side["error"] is not None:
        return ""
    if not side["finite"]:
        return _figure(side["value"])
    gradient = _gradient(side)
    if gradient is None or math.isfinite(gradient):
        return ""
    return f"{_figure(side['value'])} with a gradient that is not finite"


def _dead(case: str, old: dict[str, Any], new: dict[str, Any]) -> tuple[str, str]:
    """A gradient that was as good as zero: cured where it is there now; still bad where all predictions are wrong."""
    was, now = _gradient(old), _gradient(new)
    if was is None or now is None or was > 1e-6:
        return "", ""
    said = f"{_figure(old['value'])} with gradient {was:.2g}"
    if now > 1e3 * max(was, 1e-7):
        return said, ""
    return (said, said) if case == "certain and wrong" and now < 1e-6 else ("", "")


def _gradient(side: dict[str, Any]) -> float | None:
    return None if side["gradient"] is None else _float(side["gradient"])


def _float(value: Any) -> float:
    return float(value) if value is not None else 0.0


def _figure(value: Any) -> str:
    return "nothing" if value is None else f"{float(value):.4g}"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
