"""The loss of one image under a batch-level Dice, in three kinds of company."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict


def measure(setting: Setting) -> Outcome:
    """Half of one object is found; what that costs alone, beside small objects and beside large ones."""

    def dice(found: list[float], present: list[float]) -> float:
        """All that is found is right: what overlaps is what is predicted."""
        hit, there = setting.tensor(found).sum(), setting.tensor(present).sum()
        return float(1 - (2 * hit + 1) / (hit + there + 1))

    alone = dice([50.0], [100.0])
    small = dice([50.0, 100.0, 100.0, 100.0], [100.0, 100.0, 100.0, 100.0])
    large = dice([50.0, 1e4, 1e4, 1e4], [100.0, 1e4, 1e4, 1e4])
    return Outcome(
        verdict(alone > 2 * small and small > 10 * large),
        f"Half of an object of 100 pixels is missed: the Dice loss over the batch is {alone:.3f} where it is alone, "
        f"{small:.3f} beside three perfect objects of its size and {large:.5f} beside three of 10,000 pixels.",
        {"alone": alone, "beside_small": small, "beside_large": large},
    )


EXPERIMENT = Experiment(
    id="batch-dice-neighbours",
    claim="Under a batch-level Dice the price of one mistake depends on which images share the batch.",
    rules=("LP301",),
    measure=measure,
    seconds=1.0,
)
