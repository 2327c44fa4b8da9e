"""PyTorch's names: which function, method or layer is which operation.

Names are canonical dotted names (``torch.nn.functional.softmax``); aliases of one operation meet in one
word, so that the rest of the source eye knows operations and not spellings.
"""

from __future__ import annotations

# Where functions live that take the tensor first: the last part of the name is the operation.
FUNCTION_HOMES = (
    "torch.nn.functional.",
    "torch.special.",
    "torch.linalg.",
    "torch.fft.",
    "torch.functional.",
    "torch.sparse.",
    "torch._C._nn.",
    "torch.Tensor.",
    "torch.",
)

# Operation aliases.
SAME_OPERATION = {
    "sigmoid_": "sigmoid",
    "expit": "sigmoid",
    "log_softmax_": "log_softmax",
    "absolute": "abs",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "subtract": "sub",
    "clip": "clamp",
    "fmod": "remainder",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "concat": "cat",
    "concatenate": "cat",
    "arccos": "acos",
    "arcsin": "asin",
    "log_sigmoid": "logsigmoid",
    "float_power": "pow",
    "logsumexp_": "logsumexp",
    **{f"{kind}fft{n}": "fft" for kind in ("", "r") for n in ("", "2", "n")},
    **{f"{kind}avg_pool{n}d": "avg_pool" for kind in ("", "adaptive_") for n in (1, 2, 3)},
    **{f"{kind}max_pool{n}d": "max_pool" for kind in ("", "adaptive_") for n in (1, 2, 3)},
}

# Layers whose call is one operation on their input.
LAYER_OPERATION = {
    "Sigmoid": "sigmoid",
    "LogSigmoid": "logsigmoid",
    "Softmax": "softmax",
    "Softmax2d": "softmax",
    "LogSoftmax": "log_softmax",
    "Softmin": "softmin",
    "Tanh": "tanh",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "Softplus": "softplus",
    "ELU": "elu",
    "SELU": "elu",
    "CELU": "elu",
    "GELU": "gelu",
    "SiLU": "gelu",
    "Mish": "gelu",
    "Hardswish": "gelu",
    "LeakyReLU": "leaky_relu",
    "PReLU": "leaky_relu",
    "RReLU": "leaky_relu",
    "Hardtanh": "hardtanh",
    "Hardsigmoid": "hardsigmoid",
    "Softsign": "tanh",
    "Linear": "linear",
    "LazyLinear": "linear",
    "Bilinear": "linear",
    "Conv1d": "conv",
    "Conv2d": "conv",
    "Conv3d": "conv",
    "LazyConv2d": "conv",
    "ConvTranspose1d": "conv",
    "ConvTranspose2d": "conv",
    "ConvTranspose3d": "conv",
    "Embedding": "linear",
    "EmbeddingBag": "linear",
    "BatchNorm1d": "norm_layer",
    "BatchNorm2d": "norm_layer",
    "BatchNorm3d": "norm_layer",
    "SyncBatchNorm": "norm_layer",
    "InstanceNorm1d": "norm_layer",
    "InstanceNorm2d": "norm_layer",
    "InstanceNorm3d": "norm_layer",
    "GroupNorm": "norm_layer",
    "LayerNorm": "norm_layer",
    "Identity": "identity",
    "Dropout": "identity",
    "Dropout1d": "identity",
    "Dropout2d": "identity",
    "Dropout3d": "identity",
    "AlphaDropout": "dropout_alpha",
    "Flatten": "reshape",
    "Unflatten": "reshape",
    "Upsample": "interpolate",
    "UpsamplingBilinear2d": "interpolate",
    "UpsamplingNearest2d": "interpolate",
    "ZeroPad2d": "pad",
    "ReflectionPad2d": "pad",
    "ReplicationPad2d": "pad",
    "ConstantPad2d": "pad",
    "MaxPool1d": "max_pool",
    "MaxPool2d": "max_pool",
    "MaxPool3d": "max_pool",
    "AdaptiveMaxPool1d": "max_pool",
    "AdaptiveMaxPool2d": "max_pool",
    "AdaptiveMaxPool3d": "max_pool",
    "AvgPool1d": "avg_pool",
    "AvgPool2d": "avg_pool",
    "AvgPool3d": "avg_pool",
    "AdaptiveAvgPool1d": "avg_pool",
    "AdaptiveAvgPool2d": "avg_pool",
    "AdaptiveAvgPool3d": "avg_pool",
    "PixelShuffle": "reshape",
    "PixelUnshuffle": "reshape",
    "CosineSimilarity": "cosine_similarity",
    "PairwiseDistance": "pairwise_distance",
}

# Operations that move, select or cast values and so keep what is known of them.
KEEP = {
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "squeeze", "squeeze_", "unsqueeze",
    "unsqueeze_", "permute", "transpose", "transpose_", "swapaxes", "movedim", "moveaxis", "t", "contiguous",
    "float", "double", "half", "bfloat16", "to", "type", "type_as", "cuda", "cpu", "clone", "detach_copy",
    "expand", "expand_as", "repeat", "repeat_interleave", "tile", "narrow", "select", "index_select", "gather",
    "take_along_dim", "take", "masked_select", "roll", "flip", "requires_grad_", "retain_grad", "interpolate",
    "upsample", "pad", "broadcast_to", "identity", "dropout", "dropout2d", "dropout3d", "feature_dropout",
    "as_strided", "unfold", "pixel_shuffle", "sort_values", "nan_to_num", "nan_to_num_", "rot90", "diagonal", "diag",
    "triu", "tril", "alias", "contiguous_", "index_fill", "to_dense", "coalesce", "pin_memory", "share_memory_",
    "refine_names", "rename", "align_to", "atleast_1d", "atleast_2d", "adaptive_avg_pool1d_keep", "grid_sample",
    "data", "numpy_keep", "fliplr", "flipud", "crop", "resize", "center_crop", "rearrange",
    "masked_fill", "masked_fill_",
    "zero_diag", "index_put", "scatter_keep", "sum_to_size", "resize_as_", "as_tensor", "from_numpy", "all_gather",
}  # fmt: skip

# The losses of PyTorch: operation, by function name and by layer name. The first argument is the input.
LOSS_FUNCTION = {
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_logits",
    "cross_entropy": "ce",
    "nll_loss": "nll",
    "nll_loss2d": "nll",
    "kl_div": "kl",
    "soft_margin_loss": "soft_margin",
    "multilabel_soft_margin_loss": "multilabel_soft_margin",
    "multi_margin_loss": "multi_margin",
    "multilabel_margin_loss": "multi_margin",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "smooth_l1_loss": "smooth_l1",
    "huber_loss": "huber",
    "poisson_nll_loss": "poisson",
    "gaussian_nll_loss": "gaussian",
    "hinge_embedding_loss": "hinge",
    "margin_ranking_loss": "ranking",
    "triplet_margin_loss": "triplet",
    "triplet_margin_with_distance_loss": "triplet",
    "cosine_embedding_loss": "cosine_embedding",
    "ctc_loss": "ctc",
}
LOSS_LAYER = {
    "BCELoss": "bce",
    "BCEWithLogitsLoss": "bce_logits",
    "CrossEntropyLoss": "ce",
    "NLLLoss": "nll",
    "NLLLoss2d": "nll",
    "KLDivLoss": "kl",
    "SoftMarginLoss": "soft_margin",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin",
    "MultiMarginLoss": "multi_margin",
    "MultiLabelMarginLoss": "multi_margin",
    "MSELoss": "mse",
    "L1Loss": "l1",
    "SmoothL1Loss": "smooth_l1",
    "HuberLoss": "huber",
    "PoissonNLLLoss": "poisson",
    "GaussianNLLLoss": "gaussian",
    "HingeEmbeddingLoss": "hinge",
    "MarginRankingLoss": "ranking",
    "TripletMarginLoss": "triplet",
    "TripletMarginWithDistanceLoss": "triplet",
    "CosineEmbeddingLoss": "cosine_embedding",
    "CTCLoss": "ctc",
}
# Losses of other well-known libraries that apply the activation themselves.
OTHER_LOSS = {
    "torchvision.ops.sigmoid_focal_loss": "sigmoid_focal",
    "torchvision.ops.focal_loss.sigmoid_focal_loss": "sigmoid_focal",
    "fvcore.nn.sigmoid_focal_loss": "sigmoid_focal",
    "fvcore.nn.sigmoid_focal_loss_jit": "sigmoid_focal",
    "kornia.losses.binary_focal_loss_with_logits": "sigmoid_focal",
    "kornia.losses.BinaryFocalLossWithLogits": "sigmoid_focal",
    "kornia.losses.focal_loss": "ce",
    "kornia.losses.FocalLoss": "ce",
    "timm.loss.LabelSmoothingCrossEntropy": "ce",
    "timm.loss.SoftTargetCrossEntropy": "ce",
    "timm.loss.BinaryCrossEntropy": "bce_logits",
    "timm.loss.AsymmetricLossMultiLabel": "bce_logits",
    "segmentation_models_pytorch.losses.SoftBCEWithLogitsLoss": "bce_logits",
    "segmentation_models_pytorch.losses.SoftCrossEntropyLoss": "ce",
}

# Modules that run another module as it is.
TRANSPARENT_WRAPPER = {
    "torch.nn.DataParallel",
    "torch.optim.swa_utils.AveragedModel",
    "torch.nn.parallel.DataParallel",
    "torch.nn.parallel.DistributedDataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.distributed.fsdp.FullyShardedDataParallel",
    "torch.compile",
    "torch.jit.script",
    "torch.jit.trace",
    "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
    "torch.nn.utils.spectral_norm",
    "torch.nn.utils.weight_norm",
    "torch.nn.utils.parametrizations.spectral_norm",
    "torch.nn.utils.parametrizations.weight_norm",
    "torch.quantization.prepare_qat",
    "torch.autograd.Variable",
    "torch.autograd.variable.Variable",
    "torch.nn.Parameter",
    "torch.nn.parameter.Parameter",
    "copy.deepcopy",
    "copy.copy",
    "apex.parallel.DistributedDataParallel",
    "apex.parallel.convert_syncbn_model",
    "torch.utils.checkpoint.checkpoint_keep",
    "torch.no_grad",
    "torch.inference_mode",
    "torch.enable_grad",
    "functools.lru_cache",
    "functools.wraps",
}

# Methods of a module that give the module back.
RETURNS_SELF = {
    "to", "cuda", "cpu", "float", "half", "double", "bfloat16", "eval", "train", "apply", "requires_grad_",
    "share_memory", "type", "xpu", "to_empty", "compile_self",
}  # fmt: skip


def canonical(name: str) -> str:
    """The public name of a symbol that can be imported from several places."""
    if name.startswith("torch.nn.modules."):
        rest = name[len("torch.nn.modules.") :]
        return "torch.nn." + rest.rpartition(".")[2]
    if name.startswith("torch.nn.functional.") or not name.startswith("torch."):
        return name
    if name == "torch.functional.F" or name.startswith("torch.functional.F."):
        return "torch.nn.functional" + name[len("torch.functional.F") :]
    if name.startswith("torch.autograd.variable."):
        return "torch.autograd." + name.rpartition(".")[2]
    return name


def operation(name: str) -> str | None:
    """The operation behind a function's canonical name, or ``None`` if it is not PyTorch's."""
    if not name.startswith("torch."):
        return None
    for home in FUNCTION_HOMES:
        if name.startswith(home):
            word = name[len(home) :]
            if "." in word:
                return None
            return SAME_OPERATION.get(word, word)
    return None


def layer(name: str) -> str | None:
    """The class name of a ``torch.nn`` layer, or ``None``."""
    if name.startswith("torch.nn."):
        word = name[len("torch.nn.") :]
        if word.startswith("quantized."):
            return None
        if "." not in word and word[:1].isupper():
            return word
    return None


def loss_kind(name: str) -> str | None:
    """Which loss a function or class is, or ``None``."""
    if name in OTHER_LOSS:
        return OTHER_LOSS[name]
    if name.startswith(("torch.nn.functional.", "torch.")):
        word = name.rpartition(".")[2]
        if name == "torch.nn.functional." + word or name == "torch." + word:
            return LOSS_FUNCTION.get(word)
        if name == "torch.nn." + word:
            return LOSS_LAYER.get(word)
    return None
