"""kl_div on probabilities: the student learns the teacher's favourite, not the teacher."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict

TEACHER, STEPS, RATE = (0.6, 0.3, 0.1), 1000, 1.0


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    teacher = setting.tensor([TEACHER])
    learned: dict[str, list[float]] = {}
    for name, form in (("probabilities", F.softmax), ("log-probabilities", F.log_softmax)):
        z = torch.zeros_like(teacher).requires_grad_()
        for _ in range(STEPS):
            (slope,) = torch.autograd.grad(F.kl_div(form(z, dim=1), teacher, reduction="batchmean"), z)
            z = (z - RATE * slope).detach().requires_grad_()
        learned[name] = [float(each) for each in z.detach().softmax(1)[0]]
    perfect = float(F.kl_div(teacher, teacher, reduction="batchmean"))
    collapsed = float(F.kl_div(setting.tensor([[1.0, 0.0, 0.0]]), teacher, reduction="batchmean"))
    honest = float(F.kl_div(teacher.log(), teacher, reduction="batchmean"))
    off = max(abs(a - b) for a, b in zip(learned["log-probabilities"], TEACHER, strict=True))
    return Outcome(
        verdict(learned["probabilities"][0] > 0.95 and collapsed < perfect and off < 0.01 and abs(honest) < 1e-6),
        f"A teacher of {_row(TEACHER)}, {STEPS:,} steps: with probabilities the student learns "
        f"{_row(learned['probabilities'])}, with log-probabilities {_row(learned['log-probabilities'])}. The loss of a "
        f"perfect copy is {say(perfect)} with probabilities, worse than {say(collapsed)} for the favourite alone.",
        {
            **{f"teacher_{number}": share for number, share in enumerate(TEACHER)},
            **{f"learned_{number}": share for number, share in enumerate(learned["probabilities"])},
            **{f"correctly_learned_{number}": share for number, share in enumerate(learned["log-probabilities"])},
            "loss_of_a_perfect_copy": number(perfect),
            "loss_of_the_favourite_alone": number(collapsed),
            "correct_loss_of_a_perfect_copy": number(honest),
            "steps": STEPS,
        },
    )


def _row(shares: list[float] | tuple[float, ...]) -> str:
    return f"({', '.join(say(share) for share in shares)})"


EXPERIMENT = Experiment(
    id="kl-div-collapse",
    claim="With probabilities as its first argument kl_div is no divergence: the student collapses onto one class.",
    rules=("LP105",),
    measure=measure,
    folk="The loss kl_div compares two distributions.",
    seconds=2.0,
)
