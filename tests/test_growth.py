"""No step of a check is quadratic in the size of a file: counted in function calls, which do not depend on the
machine."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path

import pytest

from lossproof.check import Options, check_paths

HEAD = """\
import torch.nn.functional as F
from torch import nn

def make(a, b):
    return F.mse_loss(a, b)

"""
SHAPES = {
    # torch's own tests list ten thousand operators so: each call was once held against all others of the file.
    "a table of calls at the file's own level": lambda n: (
        "TABLE = [\n" + "".join(f"    entry('op{i}', other({i}, b={i})),\n" for i in range(n)) + "]\n"
    ),
    "functions": lambda n: "".join(f"def f{i}(x, y):\n    return build(x, y) + make(x, {i})\n\n" for i in range(n)),
    "methods": lambda n: (
        "class Net(nn.Module):\n    def __init__(self):\n        self.loss = nn.MSELoss()\n"
        + "".join(f"    def m{i}(self, x, y):\n        return self.other(x, y)\n" for i in range(n))
    ),
    "losses": lambda n: "".join(
        f"def train{i}(model, x, y, optimizer):\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n\n"
        for i in range(n)
    ),
}


def calls(folder: Path, text: str) -> int:
    folder.mkdir()
    (folder / "big.py").write_text(HEAD + text)
    profile = cProfile.Profile()
    profile.enable()
    check_paths([str(folder)], Options(cache=False, jobs=1))
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_four_times_as_long_takes_about_four_times_the_work(shape: str, tmp_path: Path) -> None:
    calls(tmp_path / "warm", "x = 1\n")
    small = calls(tmp_path / "small", SHAPES[shape](150))
    large = calls(tmp_path / "large", SHAPES[shape](600))
    assert large < 6 * small
