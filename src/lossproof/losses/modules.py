"""The functions as ``nn.Module``: settings at construction, tensors among them as buffers, prediction and target at the
call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from lossproof.losses import (
    binary,
    classes,
    distillation,
    longtail,
    noisy,
    ordinal,
    overlap,
    ranking,
    regression,
    representation,
    segmentation,
)


class Loss(nn.Module):
    """A loss function with its settings.

    Keyword arguments are those of the function. At the call, tensors go in by position as the function has them;
    ``weight`` and ``where`` of single elements may be given then, too.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        signature = inspect.signature(cls.function)
        settings = [
            each for each in signature.parameters.values() if each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD)
        ]
        counts = [each for name, each in signature.parameters.items() if name in ("counts", "quantiles")]
        cls.__signature__ = inspect.Signature([*counts, *settings])  # type: ignore[attr-defined]
        cls.__doc__ = f"``{cls.function.__name__}`` as a module.\n\n{inspect.getdoc(cls.function)}"

    def __init__(self, *late: Any, **settings: Any) -> None:
        super().__init__()
        bound = inspect.signature(type(self)).bind(*late, **settings)
        self._fixed: dict[str, Any] = {}
        given = {name: value for name, value in bound.arguments.items() if name not in settings}
        given.update(settings)
        for name, value in given.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                self._fixed[name] = value
        self._settings = tuple(given)

    def forward(self, *tensors: Tensor, **late: Any) -> Tensor:
        settings = {name: self._fixed[name] if name in self._fixed else getattr(self, name) for name in self._settings}
        return type(self).function(*tensors, **{**settings, **late})

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={self._fixed[name]!r}" if name in self._fixed else f"{name}={tuple(getattr(self, name).shape)}"
            for name in self._settings
        )


class AsymmetricLoss(Loss):
    function = staticmethod(binary.asymmetric_loss)


class BCEWithLogitsLoss(Loss):
    function = staticmethod(binary.binary_cross_entropy_with_logits)


class BinaryFocalLoss(Loss):
    function = staticmethod(binary.binary_focal_loss)


class BinaryHingeLoss(Loss):
    function = staticmethod(binary.binary_hinge_loss)


class BinaryPolyLoss(Loss):
    function = staticmethod(binary.binary_poly_loss)


class CrossEntropyLoss(Loss):
    function = staticmethod(classes.cross_entropy)


class FocalLoss(Loss):
    function = staticmethod(classes.focal_loss)


class MultiClassHingeLoss(Loss):
    function = staticmethod(classes.multi_class_hinge_loss)


class PolyLoss(Loss):
    function = staticmethod(classes.poly_loss)


class BalancedSoftmaxLoss(Loss):
    function = staticmethod(longtail.balanced_softmax_loss)


class LDAMLoss(Loss):
    function = staticmethod(longtail.ldam_loss)


class LogitAdjustedLoss(Loss):
    function = staticmethod(longtail.logit_adjusted_loss)


class GeneralizedCrossEntropyLoss(Loss):
    function = staticmethod(noisy.generalized_cross_entropy_loss)


class SymmetricCrossEntropyLoss(Loss):
    function = staticmethod(noisy.symmetric_cross_entropy_loss)


class CoralLoss(Loss):
    function = staticmethod(ordinal.coral_loss)


class CornLoss(Loss):
    function = staticmethod(ordinal.corn_loss)


class DistillationLoss(Loss):
    function = staticmethod(distillation.distillation_loss)


class BoundaryLoss(Loss):
    function = staticmethod(segmentation.boundary_loss)


class DiceCrossEntropyLoss(Loss):
    function = staticmethod(segmentation.dice_cross_entropy_loss)


class DiceLoss(Loss):
    function = staticmethod(overlap.dice_loss)


class GeneralizedDiceLoss(Loss):
    function = staticmethod(segmentation.generalized_dice_loss)


class JaccardLoss(Loss):
    function = staticmethod(overlap.jaccard_loss)


class LogCoshDiceLoss(Loss):
    function = staticmethod(overlap.log_cosh_dice_loss)


class LovaszHingeLoss(Loss):
    function = staticmethod(segmentation.lovasz_hinge_loss)


class LovaszSoftmaxLoss(Loss):
    function = staticmethod(segmentation.lovasz_softmax_loss)


class TverskyLoss(Loss):
    function = staticmethod(overlap.tversky_loss)


class CauchyLoss(Loss):
    function = staticmethod(regression.cauchy_loss)


class CharbonnierLoss(Loss):
    function = staticmethod(regression.charbonnier_loss)


class HuberLoss(Loss):
    function = staticmethod(regression.huber_loss)


class L1Loss(Loss):
    function = staticmethod(regression.l1_loss)


class LogCoshLoss(Loss):
    function = staticmethod(regression.log_cosh_loss)


class LogRatioLoss(Loss):
    function = staticmethod(regression.log_ratio_loss)


class MSELoss(Loss):
    function = staticmethod(regression.mse_loss)


class QuantileLoss(Loss):
    function = staticmethod(regression.quantile_loss)


class RobustLoss(Loss):
    function = staticmethod(regression.robust_loss)


class ScaleInvariantLogLoss(Loss):
    function = staticmethod(regression.scale_invariant_log_loss)


class SmoothL1Loss(Loss):
    function = staticmethod(regression.smooth_l1_loss)


class WelschLoss(Loss):
    function = staticmethod(regression.welsch_loss)


class LambdaRankLoss(Loss):
    function = staticmethod(ranking.lambdarank_loss)


class ListNetLoss(Loss):
    function = staticmethod(ranking.listnet_loss)


class RankNetLoss(Loss):
    function = staticmethod(ranking.ranknet_loss)


class InfoNCELoss(Loss):
    function = staticmethod(representation.info_nce_loss)


class NTXentLoss(Loss):
    function = staticmethod(representation.nt_xent_loss)


class SupervisedContrastiveLoss(Loss):
    function = staticmethod(representation.supervised_contrastive_loss)


class TripletLoss(Loss):
    function = staticmethod(representation.triplet_loss)
