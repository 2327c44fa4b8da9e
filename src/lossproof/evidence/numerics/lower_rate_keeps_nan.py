"""A lower learning rate against a NaN gradient."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers

RATES = (1e-1, 1e-4, 1e-12)


def measure(setting: Setting) -> Outcome:
    import torch

    x = setting.normal(32, 4)
    spoilt, loss = [], 0.0
    for rate in RATES:
        model = layers(setting, 4, 8, 2)
        out = model(x)
        target = out.detach().clone()  # what the model has learned already: a difference of exactly 0
        target[1:] += 1
        error = (out - target).square().sum(1).sqrt().mean()
        loss = float(error.detach())
        parameters: list[torch.Tensor] = list(model.parameters())
        slopes = torch.autograd.grad(error, parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, slopes, alpha=-rate)
        count = sum(each.numel() for each in parameters)
        spoilt.append(sum(int(each.detach().isnan().sum()) for each in parameters) / count)
    rates = ", ".join(say(rate) for rate in RATES)
    shares = ", ".join(percent(share, 0) for share in spoilt)
    return Outcome(
        verdict(min(spoilt) > 0.2 and max(spoilt) == min(spoilt) and loss == loss),
        f"One step on a loss of {say(loss)} with one NaN gradient, at rates {rates}: {shares} of the weights are NaN.",
        {
            "loss": number(loss),
            **{f"rate_{at}": rate for at, rate in enumerate(RATES)},
            **{f"share_nan_{at}": share for at, share in enumerate(spoilt)},
        },
    )


EXPERIMENT = Experiment(
    id="lower-rate-keeps-nan",
    claim="A lower learning rate does not help against a NaN gradient: NaN times a small number is NaN.",
    rules=("LP201", "LP203", "LP206"),
    measure=measure,
    folk="Lower the learning rate and the NaN goes away.",
    seconds=1.0,
)
