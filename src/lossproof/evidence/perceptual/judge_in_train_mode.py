"""A feature network in training mode: statistics of the batch, and dropout."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import convolutions, made, pictures


def measure(setting: Setting) -> Outcome:
    """Half the contrast against another image as seen in both modes; and two equal images through dropout."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    network = made(setting, lambda: convolutions(3, 16, 16, 16, 32, 32, normalized=True))
    images = pictures(setting, 8, 32)
    with torch.no_grad():
        for _ in range(40):  # the running statistics become those of the images
            network(images)

        def seen() -> float:
            pale = 0.5 * images + 0.25
            return float(
                F.mse_loss(network(pale), network(images)) / F.mse_loss(network(images.roll(1, 0)), network(images))
            )

        training = seen()
        network.eval()
        evaluation = seen()
        noisy = nn.Sequential(network, nn.Dropout(0.2))
        noisy[1].train()
        torch.manual_seed(0)
        equal = float(F.mse_loss(noisy(images), noisy(images)))
        noisy.eval()
        equal_evaluated = float(F.mse_loss(noisy(images), noisy(images)))
    return Outcome(
        verdict(training < 0.6 * evaluation and equal > 0 and equal_evaluated == 0),
        f"Through five convolutions of random weights with batch norm an image with half its contrast differs from the "
        f"original, compared with another image, by {evaluation:.2f} in evaluation mode and {training:.2f} in training "
        f"mode. Two equal images differ by {say(equal)} through dropout in training mode and by {say(equal_evaluated)} "
        "in evaluation mode.",
        {"eval": evaluation, "train": training, "equal_dropout": equal, "equal_eval": equal_evaluated},
    )


EXPERIMENT = Experiment(
    id="judge-in-train-mode",
    claim="In training mode a feature network with batch norm hardly sees a loss of contrast, and dropout adds noise.",
    rules=("LP605",),
    measure=measure,
)
