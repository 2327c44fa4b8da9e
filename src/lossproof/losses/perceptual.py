"""Compare images by what a frozen network sees in them: features at *named* layers, and their Gram matrices for style.

What goes wrong by hand, and cannot here: the network trains along or runs in train mode, the images are not normalized
as it was, the index of a layer is one off (in VGG-16 ``relu3_3`` is 15; 16 is the pool after it), an in-place ReLU
overwrites the features that were kept, the classifier's answer is taken for features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossproof.losses.checks import in_range, is_floating, is_reduction, same_shape, shape, wrong
from lossproof.losses.reducing import precise, products, reduce

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DISTANCES = ("l1", "l2")


class PerceptualLoss(nn.Module):
    """The distance between two images in the features of a frozen network (Johnson et al., 2016; style: Gatys et al.,
    2016).

    Args:
        network: what makes the features: a ``torchvision`` or ``timm`` model with its weights, or any module. A copy is
            kept, in eval mode and without gradients for its parameters, whatever ``train()`` says.
        layers: names of submodules whose outputs are compared (``"layer2.0.relu"``), or, for a VGG, of its layers
            (``"relu3_3"``); a mapping gives each its weight.
        mean, std: with which the network was trained, of images in [0, 1]; ImageNet's by default, None for a network
            that takes images as they are.
        distance: ``l2`` (squared) or ``l1``, a mean over each feature map.
        style_weight: weight of the same distance between Gram matrices, at least 0.
        reduction: ``none`` gives ``(N,)``.

    Shape:
        input, target: ``(N, 3, H, W)``, values in [0, 1]. The target takes no gradient.

    Raises:
        LossArgumentError: a layer is not in the network (the message lists near names), or shapes differ.

    It sees what the network was trained to tell apart. Not for depth maps, spectra or medical images without a network
    of their kind; add an L1 or L2 on pixels for colour.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str] | Mapping[str, float],
        *,
        mean: Sequence[float] | None = IMAGENET_MEAN,
        std: Sequence[float] | None = IMAGENET_STD,
        distance: str = "l2",
        style_weight: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        is_reduction(reduction)
        in_range("style_weight", style_weight, 0.0)
        if distance not in DISTANCES:
            raise wrong("distance", "be one of " + ", ".join(map(repr, DISTANCES)), repr(distance))
        if isinstance(layers, str) or not layers:
            raise wrong("layers", "name at least one layer, in a list or a mapping", repr(layers))
        self.network = _frozen(network)
        self.weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
        self.paths = {name: _path(self.network, name) for name in self.weights}
        self.distance, self.style_weight, self.reduction = distance, style_weight, reduction
        self.register_buffer("mean", torch.tensor(mean or [0.0]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std or [1.0]).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Sets the mode of this module; the network stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        is_floating("input", input)
        is_floating("target", target)
        same_shape(input, target)
        if input.dim() != 4:
            raise wrong("input", "be (N, C, H, W)", shape(input))
        with torch.no_grad():
            aims = self.features(target.detach())
        total = input.new_zeros(input.shape[0], dtype=precise(input).dtype)
        for name, seen in self.features(input).items():
            weight = self.weights[name]
            total = total + weight * self._distance(seen, aims[name])
            if self.style_weight:
                total = total + weight * self.style_weight * self._distance(gram_matrix(seen), gram_matrix(aims[name]))
        return reduce(total, self.reduction)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """What the layers give for images in [0, 1], by the names that were asked for."""
        kept: dict[str, Tensor] = {}
        handles = [
            self.network.get_submodule(path).register_forward_hook(_keeper(kept, name))
            for name, path in self.paths.items()
        ]
        try:
            x = (images - self.mean) / self.std
            if isinstance(self.network, nn.Sequential):
                for child in self.network.children():
                    x = child(x)
                    if all(path in kept for path in self.paths):
                        break
            else:
                self.network(x)
        finally:
            for handle in handles:
                handle.remove()
        return {name: kept[name] for name in self.paths}

    def _distance(self, seen: Tensor, aim: Tensor) -> Tensor:
        residual = precise(seen) - precise(aim)
        return (residual.abs() if self.distance == "l1" else residual * residual).flatten(1).mean(1)


def gram_matrix(features: Tensor) -> Tensor:
    """Which channels fire together: ``F Fᵀ / (C H W)``, ``(N, C, ...)`` to ``(N, C, C)``."""
    flat = precise(features).flatten(2)
    return products(flat, flat) / (flat.shape[1] * flat.shape[2])


def vgg_layers(features: nn.Sequential) -> dict[str, str]:
    """The layers of a VGG's ``features`` by their names in the literature, ``conv1_1``, ``bn1_1``, ``relu1_1``,
    ``pool1`` ….

    They are counted from the modules themselves, so they are right with and without batch norm, for 11 to 19 layers.
    """
    names: dict[str, str] = {}
    block, number = 1, 0
    for path, layer in features.named_children():
        if isinstance(layer, nn.Conv2d):
            number += 1
            names[f"conv{block}_{number}"] = path
        elif isinstance(layer, nn.BatchNorm2d):
            names[f"bn{block}_{number}"] = path
        elif isinstance(layer, nn.ReLU):
            names[f"relu{block}_{number}"] = path
        elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            names[f"pool{block}"] = path
            block, number = block + 1, 0
    return names


def _frozen(network: nn.Module) -> nn.Module:
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    for module in frozen.modules():
        # An in-place ReLU would overwrite the convolution's output after it has been kept.
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    inner = getattr(frozen, "features", None)
    return inner if isinstance(inner, nn.Sequential) and vgg_layers(inner) else frozen


def _path(network: nn.Module, name: str) -> str:
    known = dict(network.named_modules())
    if name in known and name:
        return name
    named = vgg_layers(network) if isinstance(network, nn.Sequential) else {}
    if name in named:
        return named[name]
    import difflib

    choices = [*named, *filter(None, known)]
    near = difflib.get_close_matches(name, choices, n=3) or choices[:8]
    raise wrong("layers", "name layers of the network, such as " + ", ".join(near), repr(name))


def _keeper(kept: dict[str, Tensor], name: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept[name] = output

    return keep
