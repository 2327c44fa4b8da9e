"""Sigmoid and BCE in the number formats of mixed precision: dead, or NaN, at ordinary logits."""

from __future__ import annotations

from lossproof.evidence.experiment import DEPENDS, Experiment, Outcome, Setting, number, say, verdict

FURTHEST = 30.0


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def slopes(fused: bool, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.arange(0, FURTHEST, 0.25, dtype=dtype, device=setting.device).requires_grad_()
        if fused:
            loss = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction="sum")
        else:
            loss = F.binary_cross_entropy(logits.sigmoid(), torch.zeros_like(logits), reduction="sum")
        return logits.detach().float(), torch.autograd.grad(loss, logits)[0].float()

    figures: dict[str, float | str | bool | None] = {"furthest": FURTHEST}
    said, good, fused_sound, refused = [], True, True, []
    for name in ("bfloat16", "float16"):
        try:
            logits, separate = slopes(False, getattr(torch, name))
            _, fused = slopes(True, getattr(torch, name))
        except RuntimeError:  # this torch has no such kernel
            figures[f"{name}_from"] = None
            refused.append(name)
            continue
        bad = (separate == 0) | ~separate.isfinite()
        at = int(bad.float().argmax()) if bool(bad.any()) else None
        sound = bool((fused.isfinite() & (fused > 0.4)).all())
        figures[f"{name}_from"] = None if at is None else float(logits[at])
        figures[f"{name}_gradient"] = None if at is None else number(float(separate[at]))
        figures[f"{name}_fused_sound"] = sound
        fused_sound &= sound
        good &= at is not None and float(logits[at]) < 10 and sound
        if at is not None:
            said.append(f"{say(float(separate[at]))} in {name} from logit {say(float(logits[at]))}")
    words = f"With target 0 the gradient is {' and '.join(said)}" if said else "The gradient is sound"
    measured = f"{words}; with logits it is {'' if fused_sound else 'not '}sound up to logit {say(FURTHEST)}."
    if len(refused) == 2:
        return Outcome(DEPENDS, "This torch cannot compute them on this device.", figures, "where there is a kernel")
    return Outcome(verdict(good), measured, figures)


EXPERIMENT = Experiment(
    id="bce-half-precision",
    claim="In half precision, sigmoid and binary_cross_entropy break at logits below 10.",
    rules=("LP101",),
    measure=measure,
    seconds=1.0,
)
