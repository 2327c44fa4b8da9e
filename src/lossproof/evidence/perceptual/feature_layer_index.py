"""Which number a layer of VGG has, counted on the layers themselves."""

from __future__ import annotations

from typing import Any

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, verdict

BLOCKS = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
NAMED = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def measure(setting: Setting) -> Outcome:
    """VGG's ``features`` as torchvision lays them out, narrow; the index of each name, and what 16 does to a map."""
    import torch

    figures: dict[str, Figure] = {}
    for name, blocks in BLOCKS.items():
        for normalized in (False, True):
            _, places = _features(blocks, normalized)
            for layer in NAMED:
                figures[f"{name}{'_bn' if normalized else ''}_{layer}"] = places[layer]
    network, places = _features(BLOCKS["vgg16"], normalized=False)
    network = network.to(setting.device)
    with torch.no_grad():
        at_name = network[: places["relu3_3"] + 1](setting.uniform(1, 3, 32, 32, seed=1))
        after = network[places["relu3_3"] + 1](at_name)
    sort = type(network[16]).__name__
    kept = after.numel() / at_name.numel()
    figures["vgg16_layer_16"], figures["kept_by_layer_16"] = sort, kept
    return Outcome(
        verdict(figures["vgg16_relu3_3"] == 15 and sort == "MaxPool2d" and kept == 0.25),
        f"In VGG-16 relu3_3 is features[{figures['vgg16_relu3_3']}]; features[16] is the {sort} after it and keeps "
        f"{round(kept * 4)} of 4 values. relu1_2, relu2_2 and relu4_3 are {figures['vgg16_relu1_2']}, "
        f"{figures['vgg16_relu2_2']} and {figures['vgg16_relu4_3']}; with batch norm relu3_3 is "
        f"{figures['vgg16_bn_relu3_3']}, in VGG-19 it is {figures['vgg19_relu3_3']}.",
        figures,
    )


def _features(blocks: tuple[int, ...], normalized: bool) -> tuple[Any, dict[str, int]]:
    """The layers in order, of eight channels each, and the index of every activation by its name."""
    from torch import nn

    layers: list[Any] = []
    places: dict[str, int] = {}
    channels = 3
    for block, count in enumerate(blocks, start=1):
        for i in range(1, count + 1):
            layers.append(nn.Conv2d(channels, 8, 3, padding=1))
            channels = 8
            if normalized:
                layers.append(nn.BatchNorm2d(8))
            places[f"relu{block}_{i}"] = len(layers)
            layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers), places


EXPERIMENT = Experiment(
    id="feature-layer-index",
    claim="In VGG-16 relu3_3 is features[15]; features[16] is the pool after it.",
    rules=("LP604",),
    measure=measure,
    folk="relu3_3 is layer 16 of VGG-16.",
    seconds=1.0,
)
