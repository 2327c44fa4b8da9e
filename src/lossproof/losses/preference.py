"""Learning from pairs of answers of which one was preferred, from the log-probabilities of whole sequences.

Convention
    Every argument ending in ``logps`` holds one number for each pair, ``(N,)``: the sum of the token log-probabilities
    of an answer, given its prompt, the prompt's own tokens left out (the mean, where a loss says so). ``reference``
    ones come from the frozen model and take no gradient. ``sequence_log_probability`` makes them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import in_range, is_floating, is_mask, is_reduction, shape, wrong
from lossproof.losses.reducing import precise, reduce


def sequence_log_probability(logits: Tensor, labels: Tensor, mask: Tensor, *, average: bool = False) -> Tensor:
    """The log-probability of each answer, token by token, from logits that predict the *next* token.

    Args:
        logits: ``(N, T, V)``; those of position ``t`` predict the label of ``t + 1``: the shift is made here.
        labels: token indices, ``(N, T)``.
        mask: bool ``(N, T)``, True for the answer's tokens (not the prompt's, not padding).
        average: the mean over the answer's tokens instead of the sum (SimPO, ORPO).

    Returns:
        ``(N,)`` in float32 or float64.
    """
    is_floating("logits", logits)
    if logits.dim() != 3 or labels.shape != logits.shape[:2]:
        raise wrong("labels", "be (N, T) for `logits` (N, T, V)", f"{shape(labels)} and {shape(logits)}")
    is_mask("mask", mask, labels)
    answered = mask[:, 1:].expand_as(labels[:, 1:])
    index = torch.where(answered, labels[:, 1:], 0).long()
    x = precise(logits[:, :-1])
    each = x.gather(2, index.unsqueeze(2)).squeeze(2) - x.logsumexp(2)
    total = torch.where(answered, each, 0.0).sum(1)
    return total / answered.sum(1).clamp_min(1) if average else total


def dpo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """DPO: ``-log σ(β (Δ_policy - Δ_reference))``, Δ the log-ratio of chosen to rejected (Rafailov et al., 2023).

    Args:
        chosen_logps, rejected_logps, reference_chosen_logps, reference_rejected_logps: sums over tokens, ``(N,)``.
        beta: how closely the policy is held to the reference, more than 0.
        label_smoothing: in [0, 0.5): the share of pairs believed to be the wrong way round (conservative DPO).
    """
    in_range("beta", beta, 0.0, open_low=True)
    in_range("label_smoothing", label_smoothing, 0.0, 0.5)
    ratio = beta * _log_ratio(chosen_logps, rejected_logps, reference_chosen_logps, reference_rejected_logps, reduction)
    values = -F.logsigmoid(ratio)
    if label_smoothing:
        values = (1 - label_smoothing) * values - label_smoothing * F.logsigmoid(-ratio)
    return reduce(values, reduction)


def ipo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    """IPO: ``(Δ_policy - Δ_reference - 1 / (2β))²`` (Azar et al., 2024): it aims at a gap and stops there.

    Args:
        chosen_logps, …: ``(N,)``, *means* over tokens, as the authors' own implementation has come to use; sums favour
            long answers.
        beta: more than 0.
    """
    in_range("beta", beta, 0.0, open_low=True)
    ratio = _log_ratio(chosen_logps, rejected_logps, reference_chosen_logps, reference_rejected_logps, reduction)
    return reduce((ratio - 1 / (2 * beta)) ** 2, reduction)


def kto_loss(
    logps: Tensor,
    reference_logps: Tensor,
    desirable: Tensor,
    divergence: Tensor | float = 0.0,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """KTO: ``λ (1 - σ(±(β r - z)))`` for single answers that are good or bad (Ethayarajh et al., 2024).

    Args:
        logps, reference_logps: of each answer, ``(N,)``; ``r`` is their difference.
        desirable: bool, ``(N,)``: which answers are good.
        divergence: the estimate of β KL(policy || reference), from mismatched answers; taken as a constant, at least 0.
        beta: more than 0.
        desirable_weight, undesirable_weight: λ of either, at least 0; so that their totals lie between 1 and 4/3 of
            each other.
    """
    in_range("beta", beta, 0.0, open_low=True)
    in_range("desirable_weight", desirable_weight, 0.0)
    in_range("undesirable_weight", undesirable_weight, 0.0)
    is_reduction(reduction)
    policy, reference = _aligned(reduction, logps=logps, reference_logps=reference_logps)
    is_mask("desirable", desirable, logps)
    point = torch.as_tensor(divergence, dtype=policy.dtype, device=policy.device).detach().clamp_min(0)
    gain = beta * (policy - reference.detach()) - point
    values = torch.where(desirable, desirable_weight * torch.sigmoid(-gain), undesirable_weight * torch.sigmoid(gain))
    return reduce(values, reduction)


def simpo_loss(
    chosen_logps: Tensor, rejected_logps: Tensor, *, beta: float = 2.0, gamma: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """SimPO: ``-log σ(β (chosen - rejected) - γ)`` on means over tokens, without a reference (Meng et al., 2024).

    Args:
        chosen_logps, rejected_logps: *means* over tokens, ``(N,)``.
        beta: more than 0.
        gamma: the margin, at least 0.
    """
    in_range("beta", beta, 0.0, open_low=True)
    in_range("gamma", gamma, 0.0)
    chosen, rejected = _aligned(reduction, chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return reduce(-F.logsigmoid(beta * (chosen - rejected) - gamma), reduction)


def orpo_loss(chosen_logps: Tensor, rejected_logps: Tensor, *, weight: float = 0.1, reduction: str = "mean") -> Tensor:
    """ORPO: ``-mean log p(chosen) - λ log σ(log odds ratio)`` (Hong et al., 2024).

    Args:
        chosen_logps, rejected_logps: *means* over tokens, ``(N,)``, below 0.
        weight: λ, at least 0.
    """
    in_range("weight", weight, 0.0)
    chosen, rejected = _aligned(reduction, chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    odds = (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))
    return reduce(-chosen - weight * F.logsigmoid(odds), reduction)


def _log1mexp(value: Tensor) -> Tensor:
    """``log(1 - exp(v))`` for ``v < 0``, by whichever form keeps its digits (Mächler, 2012); finite at 0."""
    v = value.clamp_max(-torch.finfo(value.dtype).eps)
    near = v > -0.693
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, v, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, v))),
    )


def _log_ratio(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, reduction: str
) -> Tensor:
    policy_chosen, policy_rejected, old_chosen, old_rejected = _aligned(
        reduction,
        chosen_logps=chosen,
        rejected_logps=rejected,
        reference_chosen_logps=reference_chosen,
        reference_rejected_logps=reference_rejected,
    )
    return (policy_chosen - policy_rejected) - (old_chosen - old_rejected).detach()


def _aligned(reduction: str, **logps: Tensor) -> list[Tensor]:
    is_reduction(reduction)
    (first, like), *_ = logps.items()
    for name, value in logps.items():
        is_floating(name, value)
        if value.shape != like.shape:
            raise wrong(name, f"have the shape of `{first}`, {shape(like)}", shape(value))
    return [precise(value) for value in logps.values()]
