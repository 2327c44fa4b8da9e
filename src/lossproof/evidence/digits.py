"""Handwritten digits, where scikit-learn is installed; else digits that are drawn here.

Scikit-learn's file is read directly: neither it nor numpy needs to be imported.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Setting

if TYPE_CHECKING:
    import torch

CLASSES, PIXELS, SIDE = 10, 64, 8
_HELD_OUT = 450


@dataclass(frozen=True)
class Digits:
    """Images of 64 pixels from 0 to 1, and which digit each shows; ``name`` says where they come from."""

    name: str
    x: torch.Tensor
    y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def digits(setting: Setting) -> Digits:
    """1,797 images, in an order of no meaning; the last 450 are held out."""
    name, pixels, labels = _rows()
    import torch

    order = torch.randperm(len(labels), generator=setting.generator(7))
    x = (torch.tensor(pixels, dtype=torch.float32) / 16)[order].to(setting.device)
    y = torch.tensor(labels)[order].to(setting.device)
    return Digits(name, x[:-_HELD_OUT], y[:-_HELD_OUT], x[-_HELD_OUT:], y[-_HELD_OUT:])


@lru_cache(maxsize=1)
def _rows() -> tuple[str, list[list[float]], list[int]]:
    path = _file()
    if path is None:
        return "drawn digits", *_drawn()
    with gzip.open(path, "rt", encoding="ascii") as stream:
        rows = [[float(each) for each in line.split(",")] for line in stream]
    return "scikit-learn's digits", [row[:PIXELS] for row in rows], [int(row[PIXELS]) for row in rows]


def _file() -> str | None:
    try:
        found = importlib.util.find_spec("sklearn")
    except (ImportError, ValueError):
        return None
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = os.path.join(folder, "datasets", "data", "digits.csv.gz")
        if os.path.isfile(path):
            return path
    return None


_GLYPHS = (
    "0e11131519110e", "040c040404040e", "0e11010204081f", "1f02040201110e", "02060a121f0202",
    "1f101e0101110e", "0608101e11110e", "1f010204080808", "0e11110e11110e", "0e11110f01020c",
)  # fmt: skip
"""Ten digits of five by seven dots, a byte a row."""


def _drawn() -> tuple[list[list[float]], list[int]]:
    """Dotted digits, moved by a pixel or not, in varying ink, blurred and speckled."""
    import torch

    count = 1797
    source = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (count,), generator=source)
    places = torch.randint(2, (count, 2), generator=source)
    ink = 0.5 + 0.5 * torch.rand(count, 1, 1, generator=source)
    page = torch.zeros(count, SIDE, SIDE)
    for row, label in enumerate(labels.tolist()):
        down, right = places[row].tolist()
        for y, dots in enumerate(bytes.fromhex(_GLYPHS[label])):
            for x in range(5):
                page[row, y + down, x + right + 1] = dots >> (4 - x) & 1
    blurred = torch.nn.functional.avg_pool2d(page[:, None], 3, 1, 1)[:, 0]
    speckled = (page + blurred) * ink + 0.15 * torch.randn(count, SIDE, SIDE, generator=source)
    return (speckled * 12).clamp(0, 16).round().flatten(1).tolist(), labels.tolist()
