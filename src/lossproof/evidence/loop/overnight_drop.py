"""Four causes of an overnight drop, and what each leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, verdict
from lossproof.evidence.material import descend, made

if TYPE_CHECKING:
    import torch

CAUSES = ("covariate shift", "prior shift", "train mode", "preprocessing")


def measure(setting: Setting) -> Outcome:
    """One model made worse in four ways; three signs that need no labels of the traffic."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    def rows(count: int, positives: float, seed: int, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """The classes lie apart along the first four columns; a shift moves two of them and two others."""
        y = setting.uniform(count, seed=seed) < positives
        x = setting.normal(count, 8, seed=seed + 1)
        x[:, :4] += 1.2 * (y[:, None].float() - 0.5)
        x[:, 2:6] += shift
        return x, y

    def build() -> Any:
        return nn.Sequential(
            *(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 2)),
        )

    x, y = rows(512, 0.5, seed=1)
    network = made(setting, build)
    torch.manual_seed(0)
    descend(network.parameters(), lambda _: F.cross_entropy(network(x), y.long()), 100, lr=0.02, method="Adam")
    network.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}

    def precision(shown: torch.Tensor, truth: torch.Tensor) -> float:
        with torch.no_grad():
            says = torch.cat([network(few).argmax(1) for few in shown.split(4)]) == 1
        return float((says & truth).sum() / says.sum())

    def answers(shown: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = network(shown).softmax(1)[:, 1]
        return found

    golden, expected = x[:64], answers(x[:64])
    good = precision(*rows(1000, 0.5, seed=5))
    figures: dict[str, Figure] = {"precision": good}
    signs: dict[str, tuple[bool, bool, bool]] = {}
    fallen = []
    for cause in CAUSES:
        seen, truth = rows(1000, 0.1 if cause == "prior shift" else 0.5, 5, 1.5 if cause == "covariate shift" else 0.0)
        scale, offset = (0.5, 1.0) if cause == "preprocessing" else (1.0, 0.0)
        network.load_state_dict(state)
        network.train(cause == "train mode")
        replay, again = answers(golden * scale + offset), answers(golden * scale + offset)
        now = precision(seen * scale + offset, truth)
        network.eval()
        moved = ((seen.mean(0) - x.mean(0)) / x.std(0)).abs()
        signs[cause] = (
            not torch.allclose(replay, expected, atol=1e-4),
            not torch.equal(replay, again),
            bool(moved[4:].max() > 0.3),
        )
        fallen.append(now)
        figures[f"precision_{cause.replace(' ', '_')}"] = now
        for name, sign in zip(("replay_differs", "replays_disagree", "inputs_moved"), signs[cause], strict=True):
            figures[f"{name}_{cause.replace(' ', '_')}"] = sign
    told = "; ".join(
        f"{cause} {percent(now, 0)}, replay {'differs' if signs[cause][0] else 'agrees'}, two replays "
        f"{'differ' if signs[cause][1] else 'agree'}, inputs {'moved' if signs[cause][2] else 'as before'}"
        for cause, now in zip(CAUSES, fallen, strict=True)
    )
    return Outcome(
        verdict(len(set(signs.values())) == len(CAUSES) and max(fallen) < good - 0.01),
        f"The precision of {percent(good, 0)} falls, and a known batch and the raw inputs say why: {told}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="overnight-drop",
    claim="The causes of an overnight drop can be told apart: replay a known batch twice, and look at the raw inputs.",
    rules=("LP703",),
    measure=measure,
    folk="It is data shift with 70 %, a stale pos_weight with 15 %, train mode with 10 %, preprocessing with 5 %.",
)
