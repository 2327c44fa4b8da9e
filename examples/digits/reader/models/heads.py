"""One small head for each task."""

from __future__ import annotations

from torch import Tensor, nn


class DigitHead(nn.Module):
    """Which of the ten digits it is."""

    def __init__(self, features: int, classes: int = 10, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(features, classes)
        self.activation = nn.Softmax(dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(self.score(self.dropout(features)))


class TraitHead(nn.Module):
    """How the digit is drawn: several yes/no answers, independent of each other."""

    def __init__(self, features: int, traits: int, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, traits),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class MaskHead(nn.Module):
    """Where the ink is: one probability for each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.refine = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.project = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, fine: Tensor) -> Tensor:
        return self.project(self.relu(self.refine(fine))).sigmoid()


class InkHead(nn.Module):
    """How much of the sheet is inked: a share, never negative."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.regress = nn.Linear(features, 1)
        self.positive = nn.Softplus()

    def forward(self, features: Tensor) -> Tensor:
        return self.positive(self.regress(features)).squeeze(1)
