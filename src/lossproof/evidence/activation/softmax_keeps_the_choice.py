"""What a softmax in the model buys at inference."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict

ROWS, CLASSES = 20_000, 10


def measure(setting: Setting) -> Outcome:
    logits = 5 * setting.normal(ROWS, CLASSES)
    probabilities = logits.softmax(1)
    same = int((logits.argmax(1) == probabilities.argmax(1)).sum())
    off = float((probabilities.sum(1) - 1).abs().max())
    return Outcome(
        verdict(same == ROWS and off < 1e-5),
        f"Of {ROWS:,} random rows the largest logit is the largest probability in {same:,}. A softmax that is applied "
        f"to the logits afterwards gives probabilities that sum to 1 within {say(off)}.",
        {"rows": ROWS, "same": same, "sum_off_by": off},
    )


EXPERIMENT = Experiment(
    id="softmax-keeps-the-choice",
    claim="A softmax does not change which class is chosen, so a model that returns logits loses nothing.",
    rules=("LP102",),
    measure=measure,
    folk="A model that returns probabilities is clearer, so the softmax belongs into it.",
    seconds=1.0,
)
