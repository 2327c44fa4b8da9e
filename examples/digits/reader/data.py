"""Handwritten digits, placed somewhere on a noisy sheet of paper."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SHEET = 12  # side of a sheet in pixels; a digit is 8 x 8
INKED = 6  # a pixel at or above this grey level (of 16) counts as ink
NOISE = 0.15

# How a digit is drawn: questions that may all be true at once.
TRAITS = ("has a loop", "has a straight stroke", "is symmetric")
TRAITS_OF_DIGIT = torch.tensor(
    [
        [1.0, 0.0, 1.0],  # 0
        [0.0, 1.0, 1.0],  # 1
        [0.0, 0.0, 0.0],  # 2
        [0.0, 0.0, 1.0],  # 3
        [0.0, 1.0, 0.0],  # 4
        [0.0, 1.0, 0.0],  # 5
        [1.0, 0.0, 0.0],  # 6
        [0.0, 1.0, 0.0],  # 7
        [1.0, 0.0, 1.0],  # 8
        [1.0, 0.0, 0.0],  # 9
    ]
)

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Sheets(Dataset[Batch]):
    """One digit a sheet, with its targets: digit, traits, mask of the ink, and the share that is inked.

    A digit lies somewhere else, on other noise, each time it is read; with ``frozen`` it stays where it is.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int, frozen: bool = False) -> None:
        self.images = images
        self.labels = labels
        self.seed = seed
        self.frozen = frozen
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, index)) if self.frozen else self.rng
        image = self.images[index]
        height, width = image.shape
        top, left = rng.integers(0, (SHEET - height + 1, SHEET - width + 1))
        inside = (0, slice(top, top + height), slice(left, left + width))
        sheet = rng.normal(0.0, NOISE, size=(1, SHEET, SHEET)).astype(np.float32)
        sheet[inside] += image / 16.0
        mask = np.zeros_like(sheet)
        mask[inside] = image >= INKED
        label = int(self.labels[index])
        return (
            torch.from_numpy(sheet),
            torch.tensor(label),
            TRAITS_OF_DIGIT[label],
            torch.from_numpy(mask),
            torch.tensor(mask.mean()),
        )


def make_loaders(batch_size: int, seed: int) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """The digits that come with scikit-learn, split into a loader for training and one for validation."""
    bundle = load_digits()
    train_x, valid_x, train_y, valid_y = train_test_split(
        bundle.images, bundle.target, test_size=0.25, stratify=bundle.target, random_state=seed
    )
    train = DataLoader(Sheets(train_x, train_y, seed), batch_size, shuffle=True)
    valid = DataLoader(Sheets(valid_x, valid_y, seed, frozen=True), batch_size=256)
    return train, valid
