"""The part of the network that all tasks share."""

from __future__ import annotations

from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Convolution, normalization, activation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Encoder(nn.Module):
    """A small convolutional encoder; keeps the fine features for the mask."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fine = nn.Sequential(ConvBlock(1, width), ConvBlock(width, width))
        self.coarse = nn.Sequential(ConvBlock(width, 2 * width, stride=2), ConvBlock(2 * width, 4 * width, stride=2))
        self.flatten = nn.Flatten()
        self.out_features = 4 * width * 3 * 3

    def forward(self, sheet: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(sheet)
        return fine, self.flatten(self.coarse(fine))
