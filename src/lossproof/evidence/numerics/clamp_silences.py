"""What a clamp before a logarithm does to the elements that it catches."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.workbench import network, train

ROWS, STEPS, FLOOR, RATE = 512, 400, 1e-6, 0.05


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    x = setting.normal(ROWS, 4)
    y = (0.5 * x[:, 0]).exp()

    def clamped(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (torch.log(z.squeeze(1).clamp(min=FLOOR)) - torch.log(y)).square().mean()

    def positive(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (torch.log(F.softplus(z.squeeze(1)) + FLOOR) - torch.log(y)).square().mean()

    caught, silent, error = {}, {}, {}
    for name, loss in (("clamped", clamped), ("positive", positive)):
        model = network(setting, 4, 32, 1)
        z = model(x)
        (slope,) = torch.autograd.grad(loss(z, y), z)
        silent[name] = float((slope == 0).float().mean())
        train(model, loss, x, y, setting, steps=STEPS, rate=RATE)
        with torch.no_grad():
            z = model(x)
            caught[name] = float((z < FLOOR).float().mean()) if name == "clamped" else 0.0
            error[name] = float(loss(z, y))
    return Outcome(
        verdict(silent["clamped"] > 0.05 and silent["positive"] == 0 and error["clamped"] > 3 * error["positive"]),
        f"A regression on the logarithm, {STEPS} SGD steps: a clamp at {say(FLOOR)} gives "
        f"{percent(silent['clamped'], 0)} of the elements a gradient of 0 at the start, {percent(caught['clamped'], 0)} "
        f"are still caught at the end, and the error is {say(error['clamped'])}. With softplus "
        f"{percent(silent['positive'], 0)} are without gradient and the error is {say(error['positive'])}.",
        {
            "silent_at_start": silent["clamped"],
            "caught_at_end": caught["clamped"],
            "error": number(error["clamped"]),
            "softplus_silent_at_start": silent["positive"],
            "softplus_error": number(error["positive"]),
            "floor": FLOOR,
            "steps": STEPS,
        },
    )


EXPERIMENT = Experiment(
    id="clamp-silences",
    claim="A clamp stops the NaN and takes the gradient from every element that it catches: these do not learn.",
    rules=("LP202",),
    measure=measure,
    folk="Clamping is the fix for NaN.",
    seconds=2.0,
)
