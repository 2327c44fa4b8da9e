"""The mean of a masked loss, divided by everything or by what is kept."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import pull, share


def measure(setting: Setting) -> Outcome:
    """Every element is wrong by 1; about all, a tenth and a hundredth of them are kept."""
    import torch

    error = torch.ones(200, 50, device=setting.device)
    drawn = setting.uniform(200, 50, seed=1)
    figures: dict[str, float] = {}
    sentences = []
    right = True
    for name, kept in (("all", 1.0), ("tenth", 0.1), ("hundredth", 0.01)):
        mask = (drawn < kept).float()
        over_all = float((error * mask).mean())
        over_kept = float((error * mask).sum() / mask.sum())
        figures[f"kept_{name}"], figures[f"over_all_{name}"] = share(mask), over_all
        figures[f"over_kept_{name}"] = over_kept
        right &= abs(over_all - share(mask)) < 1e-3 and abs(over_kept - 1) < 1e-3
        sentences.append(f"{say(over_all)} instead of {say(over_kept)} where {percent(share(mask))} are kept")
    one = torch.zeros(8, device=setting.device)
    one[0] = 1
    ones = torch.ones(8, device=setting.device)
    _, thin = pull(lambda e: (e.square() * one).mean(), ones)
    _, full = pull(lambda e: (e.square() * one).sum() / one.sum(), ones)
    figures["gradient_over_all"], figures["gradient_over_kept"] = float(thin[0]), float(full[0])
    return Outcome(
        verdict(right and figures["gradient_over_kept"] > 7.9 * figures["gradient_over_all"]),
        f"Every element is wrong by 1: (loss * mask).mean() is {', '.join(sentences)}. With one element of eight kept, "
        f"its gradient is {say(figures['gradient_over_all'])} instead of {say(figures['gradient_over_kept'])}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="masked-mean",
    claim="The mean of loss * mask measures how much is kept: a batch that is mostly padding hardly teaches.",
    rules=("LP304",),
    measure=measure,
    seconds=1.0,
)
