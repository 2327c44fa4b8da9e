"""Measure what a loss costs, forward and backward, beside every library that has it.

    pip install --no-deps --target peers kornia kornia_rs monai segmentation-models-pytorch timm torchvision
    python benchmarks/losses.py --peers peers [--compile] [--rounds 40] [--json figures.json]

Time is CPU time of one thread, the 25th percentile over rounds in which every candidate runs once, in turn; only ratios
within one run mean anything. ``memory`` is the most that tensors made during forward and backward held at once, in
multiples of the logits, counted from their storages. Peers are loaded file by file, so that what they import beside
their losses need not be installed; one that cannot be loaded is said to be missing.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import platform
import sys
import time
import types
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lossproof import losses

Loss = Callable[[Tensor], Tensor]


class Live(TorchDispatchMode):
    """Counts the bytes of the storages that operators make, while they live."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, Tensor):
                storage = each.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self._add(storage._cdata, storage.nbytes())
                    weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return result

    def _add(self, key: int, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak(loss: Loss, x: Tensor, *others: Tensor) -> float:
    """The most that was held, in multiples of the logits."""
    x = x.detach().clone().requires_grad_()
    gc.collect()
    with Live(x, *others) as live:
        loss(x).backward()
    return live.peak / (x.numel() * x.element_size())


def cost(candidates: dict[str, Loss], x: Tensor, rounds: int) -> dict[str, float]:
    """CPU seconds of forward and backward, the 25th percentile over interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 3):
        for name, loss in candidates.items():
            given = x.detach().clone().requires_grad_()
            begin = time.process_time()
            loss(given).backward()
            if number >= 3:
                taken[name].append(time.process_time() - begin)
    return {name: sorted(each)[len(each) // 4] for name, each in taken.items()}


def load(folder: Path | None, package: str, module: str) -> Any:
    """A module of a peer, if need be with its packages made empty: their own imports may not be installed."""
    if folder is None or not (folder / package).exists():
        return None
    try:
        return importlib.import_module(module)
    except Exception:
        for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
            del sys.modules[name]
    parts = module.split(".")
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        if name not in sys.modules:
            empty = types.ModuleType(name)
            empty.__path__ = [str(folder.joinpath(*parts[:depth]))]  # type: ignore[attr-defined]
            sys.modules[name] = empty
    try:
        return importlib.import_module(module)
    except Exception as error:
        print(f"  {module} cannot be loaded: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
        return None


def families(peers: Path | None) -> dict[str, tuple[Tensor, tuple[Tensor, ...], dict[str, Loss]]]:
    """For each family: logits, what else exists before the step, and all candidates."""
    torch.manual_seed(0)
    if peers:
        sys.path.append(str(peers))
    kornia = load(peers, "kornia", "kornia.losses")
    monai_focal = load(peers, "monai", "monai.losses.focal_loss")
    monai_dice = load(peers, "monai", "monai.losses.dice")
    monai_tversky = load(peers, "monai", "monai.losses.tversky")
    smp_dice = load(peers, "segmentation_models_pytorch", "segmentation_models_pytorch.losses.dice")
    smp_focal = load(peers, "segmentation_models_pytorch", "segmentation_models_pytorch.losses.focal")
    smp_tversky = load(peers, "segmentation_models_pytorch", "segmentation_models_pytorch.losses.tversky")
    smp_lovasz = load(peers, "segmentation_models_pytorch", "segmentation_models_pytorch.losses.lovasz")
    timm_asl = load(peers, "timm", "timm.loss.asymmetric_loss")
    torchvision_focal = _torchvision(peers)

    x1 = torch.randn(4, 1, 256, 256) * 3
    t1 = (torch.rand_like(x1) > 0.7).float()
    x19 = torch.randn(4, 19, 128, 128) * 2
    y19 = torch.randint(0, 19, (4, 128, 128))
    rows = torch.randn(256, 32000)
    words = torch.randint(0, 32000, (256,))
    labels = (torch.rand(256, 80) > 0.95).float()
    scores = torch.randn(256, 80) * 2

    found: dict[str, tuple[Tensor, tuple[Tensor, ...], dict[str, Loss]]] = {}
    binary: dict[str, Loss] = {
        "torch BCE (reference)": lambda x: F.binary_cross_entropy_with_logits(x, t1),
        "lossproof": lambda x: losses.binary_focal_loss(x, t1),
    }
    if torchvision_focal:
        binary["torchvision"] = lambda x: torchvision_focal.sigmoid_focal_loss(x, t1, alpha=-1, reduction="mean")
    if kornia:
        binary["kornia"] = lambda x: kornia.binary_focal_loss_with_logits(x, t1, alpha=None, reduction="mean")
    if smp_focal:
        smp_binary = smp_focal.FocalLoss("binary")
        binary["smp"] = lambda x: smp_binary(x, t1)
    if monai_focal:
        monai_binary = monai_focal.FocalLoss(use_softmax=False)
        binary["MONAI"] = lambda x: monai_binary(x, t1)
    found["binary focal, 4x1x256x256"] = (x1, (t1,), binary)

    soft: dict[str, Loss] = {
        "torch CE (reference)": lambda x: F.cross_entropy(x, y19),
        "lossproof": lambda x: losses.focal_loss(x, y19),
    }
    if kornia:
        soft["kornia"] = lambda x: kornia.focal_loss(x, y19, alpha=None, reduction="mean")
    if monai_focal:
        monai_soft = monai_focal.FocalLoss(use_softmax=True, to_onehot_y=True)
        soft["MONAI"] = lambda x: monai_soft(x, y19[:, None])
    found["softmax focal, 4x19x128x128"] = (x19, (y19,), soft)

    dice: dict[str, Loss] = {
        "torch CE (reference)": lambda x: F.cross_entropy(x, y19),
        "lossproof": lambda x: losses.dice_loss(x, y19),
    }
    if monai_dice:
        monai_multi = monai_dice.DiceLoss(softmax=True, to_onehot_y=True)
        dice["MONAI"] = lambda x: monai_multi(x, y19[:, None])
    if smp_dice:
        smp_multi = smp_dice.DiceLoss("multiclass")
        dice["smp"] = lambda x: smp_multi(x, y19)
    if kornia:
        dice["kornia"] = lambda x: kornia.dice_loss(x, y19, average="macro")
    found["multi-class Dice, 4x19x128x128"] = (x19, (y19,), dice)

    tversky: dict[str, Loss] = {
        "torch CE (reference)": lambda x: F.cross_entropy(x, y19),
        "lossproof": lambda x: losses.tversky_loss(x, y19),
    }
    if monai_tversky:
        monai_t = monai_tversky.TverskyLoss(softmax=True, to_onehot_y=True)
        tversky["MONAI"] = lambda x: monai_t(x, y19[:, None])
    if smp_tversky:
        smp_t = smp_tversky.TverskyLoss("multiclass")
        tversky["smp"] = lambda x: smp_t(x, y19)
    if kornia:
        tversky["kornia"] = lambda x: kornia.tversky_loss(x, y19, 0.3, 0.7)
    found["multi-class Tversky, 4x19x128x128"] = (x19, (y19,), tversky)

    overlap: dict[str, Loss] = {
        "torch BCE (reference)": lambda x: F.binary_cross_entropy_with_logits(x, t1),
        "lossproof": lambda x: losses.dice_loss(x, t1),
    }
    if monai_dice:
        monai_b = monai_dice.DiceLoss(sigmoid=True)
        overlap["MONAI"] = lambda x: monai_b(x, t1)
    if smp_dice:
        smp_b = smp_dice.DiceLoss("binary")
        overlap["smp"] = lambda x: smp_b(x, t1)
    found["binary Dice, 4x1x256x256"] = (x1, (t1,), overlap)

    if smp_lovasz:
        small, mask = x1[:, :, :96, :96].contiguous(), t1[:, :, :96, :96].contiguous()
        smp_l = smp_lovasz.LovaszLoss("binary", per_image=True)
        found["Lovász hinge, 4x96x96"] = (
            small,
            (mask,),
            {
                "smp": lambda x: smp_l(x[:, 0], mask[:, 0]),
                "lossproof": lambda x: losses.lovasz_hinge_loss(x[:, 0], mask[:, 0]),
            },
        )
    if timm_asl:
        asl = timm_asl.AsymmetricLossMultiLabel()
        found["asymmetric, 256x80"] = (
            scores,
            (labels,),
            {
                "timm": lambda x: asl(x, labels),
                "lossproof": lambda x: losses.asymmetric_loss(x, labels, reduction="sum"),
            },
        )
    found["cross entropy, 256x32000"] = (
        rows,
        (words,),
        {
            "torch CE (reference)": lambda x: F.cross_entropy(x, words),
            "lossproof": lambda x: losses.cross_entropy(x, words),
            "lossproof chunked": lambda x: losses.cross_entropy(x, words, chunked=True),
        },
    )
    found["binary cross entropy, 4x1x256x256"] = (
        x1,
        (t1,),
        {
            "torch BCE (reference)": lambda x: F.binary_cross_entropy_with_logits(x, t1),
            "lossproof": lambda x: losses.binary_cross_entropy_with_logits(x, t1),
        },
    )
    return found


def _torchvision(peers: Path | None) -> Any:
    """Its focal loss alone: the package needs operators that the CPU build of torch does not register."""
    if peers is None or not (peers / "torchvision").exists():
        return None
    utils = types.ModuleType("torchvision.utils")
    utils._log_api_usage_once = lambda *_: None  # type: ignore[attr-defined]
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.modules["torchvision"].__path__ = [str(peers / "torchvision")]
    sys.modules["torchvision.ops"] = types.ModuleType("torchvision.ops")
    sys.modules["torchvision.ops"].__path__ = [str(peers / "torchvision" / "ops")]
    sys.modules["torchvision.utils"] = utils
    return importlib.import_module("torchvision.ops.focal_loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="a folder that pip installed the peers into (--target)")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--compile", action="store_true", help="every candidate under torch.compile (needs a compiler)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread, fwd + bwd")
    table = []
    for family, (x, others, candidates) in families(options.peers).items():
        if options.compile:
            candidates = {name: torch.compile(loss) for name, loss in candidates.items()}
        seconds = cost(candidates, x, options.rounds)
        peers = [name for name in candidates if "lossproof" not in name and "reference" not in name]
        base = min((seconds[name] for name in peers), default=min(seconds.values()))
        print(f"\n{family}")
        for name in candidates:
            memory = None if options.compile else peak(candidates[name], x, *others)
            ratio = seconds[name] / base
            table.append({"family": family, "loss": name, "ratio": ratio, "memory": memory})
            shown = "" if memory is None else f"   memory {memory:5.2f}"
            print(f"  {name:24}{ratio:6.2f} x the best peer{shown}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
