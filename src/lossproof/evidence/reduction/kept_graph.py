"""What stays in memory when losses are summed with their graphs."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict
from lossproof.evidence.material import layers

if TYPE_CHECKING:
    import torch


class _Saved:
    """One tensor that the graph holds for the backward pass, for as long as it holds it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def measure(setting: Setting) -> Outcome:
    """40 batches through three layers: graph nodes and activations that are alive at the end of the epoch."""
    import torch

    steps = 40
    network = layers(setting, 64, 128, 128, 10)
    parameters = {id(parameter) for parameter in network.parameters()}
    x = setting.normal(32, 64, seed=1)

    def epoch(detach: bool, backward: bool) -> tuple[int, int]:
        held: weakref.WeakSet[Any] = weakref.WeakSet()

        def pack(tensor: torch.Tensor) -> _Saved:
            saved = _Saved(tensor)
            held.add(saved)
            return saved

        total: Any = 0.0
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
            for _ in range(steps):
                loss = network(x).square().mean()
                if backward:
                    loss.backward()
                total = total + (loss.item() if detach else loss)
                del loss
        bytes_held = {
            saved.tensor.data_ptr(): saved.tensor.untyped_storage().nbytes()
            for saved in held
            if id(saved.tensor) not in parameters and saved.tensor._base is None
        }
        return _nodes(getattr(total, "grad_fn", None)), sum(bytes_held.values())

    trained, _ = epoch(detach=False, backward=True)
    evaluated, bytes_evaluated = epoch(detach=False, backward=False)
    clean, bytes_clean = epoch(detach=True, backward=True)
    network.zero_grad(set_to_none=True)
    return Outcome(
        verdict(trained >= steps and evaluated >= steps and bytes_evaluated > 0 and clean == 0 and bytes_clean == 0),
        f"After {steps} batches total += loss holds {trained:,} graph nodes; without a backward pass, as in a "
        f"validation, {evaluated:,} nodes and {bytes_evaluated / 1024 / steps:,.0f} KiB of activations for every "
        f"batch. total += loss.item() holds {clean} nodes and {bytes_clean} bytes.",
        {
            "batches": steps,
            "nodes_after_backward": trained,
            "nodes_without_backward": evaluated,
            "bytes_without_backward": bytes_evaluated,
            "nodes_with_item": clean,
            "bytes_with_item": bytes_clean,
        },
    )


def _nodes(root: Any) -> int:
    seen: set[Any] = set()
    waiting = [root] if root is not None else []
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions if following is not None]
    return len(seen)


EXPERIMENT = Experiment(
    id="kept-graph",
    claim="Summing up total += loss keeps the graph of every batch, and in a validation every activation as well.",
    rules=("LP305",),
    measure=measure,
)
