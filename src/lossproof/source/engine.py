"""The source eye as a whole: which files matter, what is found in them, and what is kept for the next run."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Collection, Sequence

TYPE_CHECKING = False  # importing typing for it would cost more than most of this
if TYPE_CHECKING:
    from lossproof.finding import Finding, Location
    from lossproof.source.cache import Cache, Kept
    from lossproof.source.discover import SourceFile
    from lossproof.source.facts import Fact
    from lossproof.source.memory import Memory

    Judge = Callable[[Fact], list[Finding]]

# Cheap tests first: most files mention none of these, and of those that do most only speak of a loss.
# The patterns are compiled when a file first gets that far (``re`` keeps them): together they cost as much as a start.
_TORCH = b"torch"
_WORDS = (b"loss", b"Loss", b"cross_entropy", b"kl_div", b"backward(", b"criteri")
_LOSS = (
    rb"(?:loss\w*|Loss\w*|criteri\w+)[ \t]*[(\[]|cross_entropy|nll_loss|kl_div|\wLoss\b|\.backward\("
    rb"|training_step|_loss_f"
)
# A hand-written objective need not say "loss".
_OBJECTIVE = (
    rb"(?:def|class)[ \t]+\w*(?:(?<![a-z])[dD]ice|IoU|_iou|iou_|[jJ]accard|[tT]versky|diverg|Diverg"
    rb"|elbo|ELBO|penalt|Penalt|[rR]egulari|_kl\b|kl_|[sS]sim|SSIM|hinge|[tT]riplet|[cC]ontrastive|charbonnier|rmse|[eE]ntropy|[nN][lL][lL]|[oO]bjective)"
)
# What comes down to one number is an objective or a metric, whatever it is called.
_NUMBER = rb"return [^\n]*(?:\.(?:mean|sum)\(\)|torch\.(?:mean|sum)\(|\bloss\b)"
# A loss that is plain arithmetic on what it is given imports nothing, or nothing of another framework.
_LOSS_DEF = rb"def[ \t]+\w*(?:loss|criteri|(?<!in)dice|iou|tversky)\w*[ \t]*\(|class[ \t]+\w*Loss\b"
_OTHER_FRAMEWORK = (
    rb"(?:import|from)[ \t]+(?:tensorflow|keras|jax|flax|mxnet|paddle|numpy|cupy|sklearn|mindspore|theano|chainer"
    rb"|oneflow)"
)
_FOCAL = rb"(?:kornia|monai|smp|segmentation_models_pytorch|fvcore|mmdet)[\s\S]*?[fF]ocal\w*\("
# The power of what is left of a probability: a focal term whose cross entropy stands in another file.
_FOCUSES = rb"1(?:\.0*)?[ \t]*-[^\n]*(?:\*\*|pow\w*\(|,)[^\n]*gamma|pow\w*\([ \t]*1(?:\.0*)?[ \t]*-"
# What a feature network may be built by, for a loss in another file.
_TORCHVISION = (
    rb"torchvision\.models(?:[ \t]+(?:as|import)\b|\.(?!detection|segmentation|feature_extraction|_)\w)"
    rb"|from[ \t]+torchvision[ \t]+import[^\n]*\bmodels"
)
_TIMM = rb"(?:from[ \t]+timm[ \t]+import|timm\.)[ \t]*create_model"
NETWORK = _TORCHVISION + rb"|" + _TIMM + rb"|hub\.load\("
_IMPLICIT_DIM = rb"oft(?:max|min)\((?![ \t]*(?:dim[ \t]*=|-?\d))(?:[^(),]|\((?:[^()]|\([^()]*\))*\))*\)"
_ASKING = rb"def[ \t]+(?:\w*_)?(?:val|valid\w*|eval|evaluate|test|infer|inference|predict|score)(?:_\w*)?[ \t]*\("
_SCRIPT = rb"(?m)__main__|def main\(|sys\.argv|argparse|^(?:for|with|print)\b"
_ASKED = rb"\b(?:model|net|network|module|classifier|encoder)\("
_IMPORTS = (
    rb"import[ \t]+\*|(?:\b|\\n)(?:import|from)[ \t][^\n]*"  # in a notebook a line ends in \\n
    rb"\b(?:torch|torchvision|torchaudio|torchtext|pytorch_lightning|lightning)\b"
)
RECURSION = 12_000
# So few files are read sooner than the cache is looked up.
HANDFUL = 8


class Analysis:
    """What the source eye found."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.unresolved: list[Location] = []
        self.warnings: list[str] = []
        self.marked: set[str] | None = None
        """The files with a suppression comment, by path; None when nobody looked."""
        self.files_seen = 0
        self.files_parsed = 0


def matters(data: bytes) -> bool:
    """Whether a file can hold anything that a rule would look at."""
    speaks = any(word in data for word in _WORDS)
    if _TORCH not in data and b"lightning" not in data:
        return _matters_without_torch(data, speaks)
    if not _matters_with_torch(data, speaks):
        return False
    # Tools that work on such code speak of it all the time and never import it.
    return re.search(_IMPORTS, data) is not None or _matters_without_torch(data, speaks)


def _matters_without_torch(data: bytes, speaks: bool) -> bool:
    if b".backward(" in data or b"training_step" in data or b"compute_loss" in data:
        # A trainer need not import torch to run a loss that somebody hands it.
        return True
    if b"ocal" in data and re.search(_FOCAL, data) is not None:
        return True  # a library's focal loss, built where nothing else of PyTorch is seen
    if speaks and b"import " not in data and re.search(_LOSS, data) is not None:
        return True  # a snippet without its imports
    return speaks and re.search(_LOSS_DEF, data) is not None and re.search(_OTHER_FRAMEWORK, data) is None


def _matters_with_torch(data: bytes, speaks: bool) -> bool:
    if (speaks and re.search(_LOSS, data) is not None) or re.search(_OBJECTIVE, data) is not None:
        return True
    if b"WeightedRandomSampler(" in data:
        return True
    if b"return " in data and re.search(_NUMBER, data) is not None:
        return True
    if b"gamma" in data and re.search(_FOCUSES, data) is not None:
        return True
    if _builds_network(data):
        return True
    if b"oft" in data and re.search(_IMPLICIT_DIM, data) is not None:
        return True
    return _only_infers(data)


def _builds_network(data: bytes) -> bool:
    if b"hub.load(" in data or (b"create_model" in data and b"timm" in data and re.search(_TIMM, data) is not None):
        return True
    return b"torchvision" in data and re.search(_TORCHVISION, data) is not None


def _only_infers(data: bytes) -> bool:
    """A script that loads weights, or asks a network without gradients, and switches no mode."""
    if b".eval()" in data or b".train(False)" in data:
        return False
    if b"torch.load(" in data and b".load_state_dict(" in data and b"optim" not in data:
        return b"def forward(" not in data or re.search(_SCRIPT, data) is not None or _loads_at_the_top(data)
    if (b"no_grad" not in data and b"inference_mode" not in data) or b"def forward(" in data:
        return False
    if b"pretrained=True" in data or re.search(rb"\bweights=[\"'\w]", data) is not None:
        return True
    return re.search(_ASKED, data) is not None and (
        re.search(_ASKING, data) is not None or re.search(_SCRIPT, data) is not None
    )


def _loads_at_the_top(data: bytes) -> bool:
    return re.search(rb"(?m)^\w+\.load_state_dict\(", data) is not None


def analyse(
    root: str,
    files: Sequence[SourceFile],
    targets: Collection[str],
    *,
    cache_dir: str | None = None,
    jobs: int = 1,
    show_unresolved: bool = False,
    progress: Callable[[int, int], None] | None = None,
    judge: Judge,
    one_shot: bool = False,
    memory: Memory | None = None,
) -> Analysis:
    """Find the faults in ``targets``, resolving names among all ``files``; ``judge`` says what a fact amounts to.

    ``one_shot``: the process is about to end, so nothing of what was built is freed. ``memory``: it stays, and checks
    these files again and again.
    """
    if memory is not None:
        analysis = _recalled(root, files, memory, cache_dir, progress, judge)
        return _narrowed(analysis, files, targets, show_unresolved)
    if len(files) <= HANDFUL and not any(map(_may_matter, files)):
        return _narrowed(Analysis(), files, targets, show_unresolved)
    cache = None
    if cache_dir is not None:
        from lossproof import __version__
        from lossproof.source.cache import Cache

        cache = Cache(cache_dir, root, __version__)
        kept = cache.read(files, matters, unresolved=show_unresolved)
        if kept is not None:
            return _narrowed(_of(kept), files, targets, show_unresolved)
    analysis = _fresh(root, files, cache, progress, jobs, judge, one_shot)
    return _narrowed(analysis, files, targets, show_unresolved)


def _recalled(
    root: str,
    files: Sequence[SourceFile],
    memory: Memory,
    cache_dir: str | None,
    progress: Callable[[int, int], None] | None,
    judge: Judge,
) -> Analysis:
    """The last run's answer, brought up to date; the first one's from the cache."""
    changed = memory.changes(files, matters)
    if changed is not None and not changed:
        return memory.answer()
    cache = None
    if changed is None and cache_dir is not None:
        from lossproof import __version__
        from lossproof.source.cache import Cache

        cache = Cache(cache_dir, root, __version__)
        kept = cache.read(files, matters)
        if kept is not None:
            memory.adopt(cache, _of(kept))
            return memory.answer()
    return _fresh(root, files, cache, progress, 1, judge, False, memory, changed)


def _of(kept: Kept) -> Analysis:
    analysis = Analysis()
    analysis.findings, analysis.warnings, analysis.unresolved = kept.findings, kept.warnings, kept.unresolved
    analysis.marked = kept.marked
    return analysis


def _may_matter(file: SourceFile) -> bool:
    try:
        return matters(file.read())
    except OSError:
        return True  # the session says what is wrong with it


def _fresh(
    root: str,
    files: Sequence[SourceFile],
    cache: Cache | None,
    progress: Callable[[int, int], None] | None,
    jobs: int,
    judge: Judge,
    one_shot: bool,
    memory: Memory | None = None,
    changed: set[str] | None = None,
) -> Analysis:
    from lossproof.source.session import Session

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, RECURSION))
    collects = gc.isenabled()
    gc.disable()  # trees and value graphs live until the end: looking for garbage among them is a third of the time
    try:
        earlier = cache.earlier(files) if cache is not None else None
        if memory is not None and changed is not None:
            earlier = memory.earlier(files, changed)
        keep = cache is not None or memory is not None
        parsed, fixes = (memory.parsed, memory.fixes) if memory is not None else (None, True)
        session = Session(root, files, judge, keep, earlier, parsed, fixes)
        if memory is not None:
            memory.spent.append(session)
        analysis = session.run(progress, jobs)
        if keep and not session.stumbled:
            consulted, record = session.rests_on(), session.record()
            if cache is not None and fixes:
                cache.write(files, consulted, analysis, record)
            if memory is not None:
                memory.remember(files, changed, consulted, analysis, record)
                return memory.answer()
        if one_shot:
            _never_freed.append(session)
        return analysis
    finally:
        sys.setrecursionlimit(limit)
        if collects and not one_shot:
            gc.enable()


_never_freed: list[object] = []


def _narrowed(
    analysis: Analysis, files: Sequence[SourceFile], targets: Collection[str], show_unresolved: bool
) -> Analysis:
    """What concerns the targets: a finding belongs to a file that it lies in or that its path comes through."""
    wanted = {f.display for f in files if f.path in targets}
    if len(wanted) < len(files):
        analysis.findings = [
            f for f in analysis.findings if f.path in wanted or any(hop.path in wanted for hop in f.related)
        ]
    analysis.unresolved = [p for p in analysis.unresolved if p.path in wanted] if show_unresolved else []
    analysis.files_seen = len(files)
    return analysis
