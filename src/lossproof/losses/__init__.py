"""Objectives done right: functions and thin modules with one style, one reducer and no silent corner.

Every function takes ``(input, target, *, settings…, reduction="mean")`` as ``torch.nn.functional`` does, refuses shapes
that do not match instead of broadcasting them, computes half precisions in float32, leaves what is ignored out of the mean,
gives a finite 0 with a graph where nothing counts, and keeps a gradient where the prediction is most wrong. Every function
has a module of its name (``focal_loss``, ``FocalLoss``).

``recommend`` chooses one from measured properties of the targets; ``stable`` holds primitives for a loss of one's own.
"""

from __future__ import annotations

from lossproof.losses.binary import (
    asymmetric_loss,
    binary_cross_entropy_with_logits,
    binary_focal_loss,
    binary_hinge_loss,
    binary_poly_loss,
    focal_alpha,
)
from lossproof.losses.checks import LossArgumentError
from lossproof.losses.choose import Recommendation, Targets, describe_targets, recommend
from lossproof.losses.classes import (
    cross_entropy,
    focal_loss,
    mixed_cross_entropy,
    multi_class_hinge_loss,
    poly_loss,
)
from lossproof.losses.distillation import distillation_loss
from lossproof.losses.likelihood import (
    gaussian_nll_loss,
    laplace_nll_loss,
    negative_binomial_nll_loss,
    poisson_nll_loss,
)
from lossproof.losses.longtail import balanced_softmax_loss, class_balanced_weight, ldam_loss, logit_adjusted_loss
from lossproof.losses.modules import *  # noqa: F403
from lossproof.losses.noisy import generalized_cross_entropy_loss, symmetric_cross_entropy_loss
from lossproof.losses.ordinal import coral_class, coral_loss, corn_class, corn_loss
from lossproof.losses.overlap import dice_loss, jaccard_loss, log_cosh_dice_loss, tversky_loss
from lossproof.losses.perceptual import PerceptualLoss, gram_matrix, vgg_layers
from lossproof.losses.preference import (
    dpo_loss,
    ipo_loss,
    kto_loss,
    orpo_loss,
    sequence_log_probability,
    simpo_loss,
)
from lossproof.losses.ranking import bpr_loss, lambdarank_loss, listnet_loss, ranknet_loss
from lossproof.losses.regression import (
    TargetScaler,
    cauchy_loss,
    charbonnier_loss,
    huber_loss,
    l1_loss,
    log_cosh_loss,
    log_ratio_loss,
    mse_loss,
    quantile_loss,
    robust_loss,
    scale_invariant_log_loss,
    smooth_l1_loss,
    welsch_loss,
)
from lossproof.losses.representation import (
    barlow_twins_loss,
    info_nce_loss,
    n_pairs_loss,
    nt_xent_loss,
    supervised_contrastive_loss,
    triplet_loss,
    vicreg_loss,
)
from lossproof.losses.segmentation import (
    boundary_loss,
    dice_cross_entropy_loss,
    generalized_dice_loss,
    lovasz_hinge_loss,
    lovasz_softmax_loss,
    signed_distance,
)
from lossproof.losses.stable import (
    checked,
    dtype_epsilon,
    guarded,
    log_ratio,
    masked_mean,
    safe_div,
    safe_log,
    safe_sqrt,
)
