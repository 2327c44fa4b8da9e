"""The axis that a softmax takes when none is named."""

from __future__ import annotations

from lossproof.evidence.experiment import DEPENDS, Experiment, Outcome, Setting, say, verdict


def measure(setting: Setting) -> Outcome:
    import torch.nn.functional as F

    chosen: dict[int, int | None] = {}
    for dimensions in range(1, 6):
        x = setting.normal(*range(2, 2 + dimensions), seed=dimensions)
        try:
            y = F.softmax(x)
        except TypeError:  # a torch that asks for it
            return Outcome(
                DEPENDS,
                "This torch refuses a softmax without a dim.",
                {"refused": True},
                "where torch still chooses an axis by itself",
            )
        chosen[dimensions] = next(
            (dim for dim in range(dimensions) if bool((y.sum(dim) - 1).abs().max() < 1e-5)),
            None,
        )
    batch = [str(dimensions) for dimensions, dim in chosen.items() if dim == 0 and dimensions > 1]
    axes = ", ".join(f"{say(dim)} for {dimensions}" for dimensions, dim in chosen.items())
    where = f"; with {' or '.join(batch)} dimensions that is the batch" if batch else ""
    return Outcome(
        verdict(bool(batch)),
        f"Axis chosen, by the number of dimensions: {axes}{where}.",
        {f"axis_of_{dimensions}": dim for dimensions, dim in chosen.items()},
    )


EXPERIMENT = Experiment(
    id="softmax-without-dim",
    claim="Without dim a softmax picks its axis by the number of dimensions, and for a sequence it picks the batch.",
    rules=("LP109",),
    measure=measure,
    folk="A softmax knows which axis the classes are on.",
    seconds=1.0,
)
