"""What a clamp before a logarithm does to the elements that it catches."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import train

ROWS, STEPS, FLOOR, RATE = 512, 400, 1e-6, 0.05


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def clamped(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (torch.log(z.clamp(min=FLOOR)) - torch.log(y)).square()

    def positive(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (torch.log(F.softplus(z) + FLOOR) - torch.log(y)).square()

    x = setting.normal(ROWS, 4)
    y = (0.5 * x[:, 0]).exp()
    start = setting.normal(ROWS, seed=1)
    caught = start < FLOOR

    # a number of its own for each row, as in an embedding or a table of scores
    silent, stuck, error = {}, {}, {}
    for name, loss in (("clamped", clamped), ("positive", positive)):
        z = start.clone().requires_grad_()
        for step in range(STEPS):
            (slope,) = torch.autograd.grad(loss(z, y).sum(), z)
            if step == 0:
                silent[name] = float((slope == 0).float().mean())
            with torch.no_grad():
                z -= RATE * slope.clamp(-1, 1)
        with torch.no_grad():
            stuck[name] = float((z[caught] == start[caught]).float().mean())
            error[name] = float(loss(z, y).mean())

    # the same outputs from a network, whose rows share their weights
    model = layers(setting, 4, 32, 1)
    with torch.no_grad():
        first = float((model(x) < FLOOR).float().mean())
    train(model, lambda z, y: clamped(z.squeeze(1), y).mean(), x, y, setting, steps=STEPS, rate=RATE)
    with torch.no_grad():
        shared = float((model(x) < FLOOR).float().mean())
    return Outcome(
        verdict(
            silent["clamped"] > 0.2 and stuck["clamped"] == 1 and silent["positive"] == 0 and stuck["positive"] < 0.1
        ),
        f"A clamp at {say(FLOOR)} under a logarithm takes the gradient from {percent(silent['clamped'], 0)} of the "
        f"elements. Of those, {percent(stuck['clamped'], 0)} stand where they stood after {STEPS} steps (error "
        f"{say(error['clamped'])}); with softplus {percent(stuck['positive'], 0)} do (error {say(error['positive'])}). "
        f"Where rows share a network the others drag them along: {percent(first, 0)} are caught at first, "
        f"{percent(shared, 0)} at the end.",
        {
            "silent": silent["clamped"],
            "stuck": stuck["clamped"],
            "error": number(error["clamped"]),
            "softplus_stuck": stuck["positive"],
            "softplus_error": number(error["positive"]),
            "network_caught_at_start": first,
            "network_caught_at_end": shared,
            "floor": FLOOR,
            "steps": STEPS,
        },
    )


EXPERIMENT = Experiment(
    id="clamp-silences",
    claim="A clamp stops the NaN, and the learning of every element that it catches: alone, these never recover.",
    rules=("LP202",),
    measure=measure,
    folk="Clamping is the fix for NaN.",
    seconds=2.0,
)
