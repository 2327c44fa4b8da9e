"""Gradient clipping against one bad gradient."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict

WEIGHTS = 1000


def measure(setting: Setting) -> Outcome:
    import torch

    after: dict[str, tuple[int, int, int]] = {}
    for name in ("inf", "nan"):
        weights = [torch.zeros(WEIGHTS, device=setting.device, requires_grad=True) for _ in range(2)]
        for number, weight in enumerate(weights):
            weight.grad = setting.normal(WEIGHTS, seed=number)
        assert weights[0].grad is not None
        weights[0].grad[0] = float(name)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        together = torch.cat([weight.grad for weight in weights if weight.grad is not None])
        finite = together.isfinite()
        after[name] = (int(together.isnan().sum()), int((together == 0).sum()), int((finite & (together != 0)).sum()))
    inf_nan, inf_zero, inf_alive = after["inf"]
    nan_nan, _, nan_alive = after["nan"]
    total = 2 * WEIGHTS
    return Outcome(
        verdict(inf_alive == 0 and nan_alive == 0 and inf_nan >= 1),
        f"Of {total:,} gradients one is bad; after clip_grad_norm_: one infinity leaves {say(inf_nan)} NaN and "
        f"{say(inf_zero)} zeros; one NaN leaves {say(nan_nan)} NaN. {say(inf_alive)} and {say(nan_alive)} useful ones "
        f"are left.",
        {
            "gradients": total,
            "nan_after_inf": inf_nan,
            "zero_after_inf": inf_zero,
            "useful_after_inf": inf_alive,
            "nan_after_nan": nan_nan,
            "useful_after_nan": nan_alive,
        },
    )


EXPERIMENT = Experiment(
    id="clipping-spreads-nan",
    claim="Clipping the gradient norm does not cure one bad gradient: it spoils or silences all the others.",
    rules=("LP201", "LP203", "LP206", "LP803"),
    measure=measure,
    folk="Gradient clipping takes care of exploding losses and NaN.",
    seconds=1.0,
)
