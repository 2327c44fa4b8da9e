"""The whole network."""

from __future__ import annotations

from torch import Tensor, nn

from reader.data import TRAITS
from reader.models.encoder import Encoder
from reader.models.heads import DigitHead, InkHead, MaskHead, TraitHead


class DigitReader(nn.Module):
    """Reads a sheet: the digit, its traits, the mask of the ink and its amount."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.digit = DigitHead(self.encoder.out_features)
        self.traits = TraitHead(self.encoder.out_features, len(TRAITS))
        self.mask = MaskHead(width)
        self.ink = InkHead(self.encoder.out_features)

    def forward(self, sheet: Tensor) -> dict[str, Tensor]:
        fine, features = self.encoder(sheet)
        return {
            "digit": self.digit(features),
            "traits": self.traits(features),
            "mask": self.mask(fine),
            "ink": self.ink(features),
        }


def build_reader(width: int = 16, device: str = "cpu") -> DigitReader:
    """The network, on its device."""
    return DigitReader(width).to(device)
