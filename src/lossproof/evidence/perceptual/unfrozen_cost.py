"""What a feature network costs that no optimizer holds and nobody froze."""

from __future__ import annotations

from typing import Any

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import backward, convolutions, made, pictures
from lossproof.evidence.workbench import times_slower


def measure(setting: Setting) -> Outcome:
    """Forward and backward through three convolutions, frozen and not: time, and bytes of gradients that are left."""
    target = pictures(setting, 4, 24)
    image = setting.uniform(4, 3, 24, 24, seed=1).requires_grad_()

    def judge(frozen: bool) -> Any:
        return made(setting, lambda: convolutions(3, 16, 32, 32)).requires_grad_(not frozen)

    loose, frozen = judge(frozen=False), judge(frozen=True)

    def step(network: Any) -> None:
        backward((network(image) - network(target)).square().mean())

    slower = times_slower(lambda: step(loose), lambda: step(frozen), setting)
    left = {
        name: sum(p.grad.nbytes for p in network.parameters() if p.grad is not None)
        for name, network in (("loose", loose), ("frozen", frozen))
    }
    return Outcome(
        verdict(left["loose"] > 0 and left["frozen"] == 0 and slower > 1.1),
        f"Not frozen, a step takes {say(slower, 2)} times as long and leaves {left['loose'] / 1024:,.0f} KiB of "
        f"gradients that nobody clears; frozen it leaves {left['frozen']}.",
        {"times_slower": slower, "bytes_left": left["loose"], "bytes_left_frozen": left["frozen"]},
        timed=("times_slower",),
    )


EXPERIMENT = Experiment(
    id="unfrozen-cost",
    claim="A feature network that is not frozen costs time and memory for gradients that nobody uses.",
    rules=("LP601",),
    measure=measure,
)
