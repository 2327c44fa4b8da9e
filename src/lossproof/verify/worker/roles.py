"""What a parameter is for, guessed from its name, its annotation and what the function does with it.

A guess is only ever tried: the function as it was has to run on it and give something finite, or the guess is dropped.
"""

from __future__ import annotations

import ast
import re
from typing import Any

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _named(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


MODELS = _named(
    """
    model models net network module backbone encoder decoder generator discriminator critic student teacher vgg
    unet classifier head policy extractor netg netd ema actor autoencoder vae gan learner
    """
)
_CRITERIA = _named(
    """
    criterion criteria crit objective lossfn bceloss celoss
    """
)
_OPTIMIZERS = _named(
    """
    optimizer optimiser optim opt optg optd
    """
)
_LOADERS = _named(
    """
    loader dataloader dataset batches dl dataloaders loaders
    """
)
TARGETS = _named(
    """
    target targets tgt label labels gt truth truths ground true y ys answers answer yt ytrue actual reference
    gold onehot annotation annotations
    """
)
_MASKS = _named(
    """
    mask masks valid padding pad visible visibility present observed
    """
)
_WEIGHTS = _named(
    """
    weight weights w pos_weight posweight
    """
)
PROBS = _named(
    """
    prob probs probability probabilities p conf confidence proba
    """
)
LOGITS = _named(
    """
    logits logit scores score raw
    """
)
PREDS = _named(
    """
    pred preds prediction predictions output outputs out x input inputs yhat estimate estimated hat recon
    reconstruction predicted pr
    """
)
EMBEDS = _named(
    """
    emb embedding embeddings embeds feat feats feature features anchor positive negative z q k query key keys
    queries vec vector vectors u v repr representation hidden latent latents anchors positives negatives
    """
)
_IMAGES = _named(
    """
    obs observation observations state states image images img imgs pixel pixels frame frames picture pictures
    sheet photo
    """
)
_TOKENS = _named(
    """
    tokens token ids text sentence words sequence input_ids
    """
)
_BATCHES = _named(
    """
    batch sample samples data minibatch example examples item
    """
)
_CONFIGS = _named(
    """
    cfg config configuration args conf opts options hparams hps settings hyperparameters params
    """
)
_RECORDERS = _named(
    """
    writer logger log tb wandb tensorboard meter meters tracker progress bar pbar callback callbacks history
    scheduler sched lr_scheduler scaler ema accelerator fabric
    """
)
TENSORS = _named(
    """
    pred logits prob logp positive embed logvar cosine loss input tokens target mask weight index rows
    """
)
"""The roles that a tensor has."""
_OF_TENSORS = _named(
    """
    abs acos all any argmax backward bool clamp clone contiguous cuda detach device diag diagonal dim div double
    dtype eq exp expand exp_ flatten float gather ge gt half item le log log1p log2 log10 log_softmax logsumexp
    long lt masked_fill max mean min mul ndim ne nonzero norm numel permute pow relu repeat reshape round rsqrt
    scatter shape sigmoid sign size softmax sqrt square squeeze std sub sum t T tanh to topk transpose type
    unsqueeze var view view_as
    """
)
_INDICES = _named(
    """
    epoch step idx index iteration i it epochs iter itr rank round
    """
)

NUMBERS: dict[str, Any] = {
    "gamma": 2.0, "alpha": 0.25, "beta": 0.5, "eps": 1e-6, "epsilon": 1e-6, "temperature": 0.5, "temp": 0.5, "tau":
    0.5, "margin": 1.0, "smooth": 1.0, "smoothing": 0.1, "lr": 0.01, "rate": 0.1, "dropout": 0.0, "momentum": 0.9,
    "decay": 0.0, "lam": 0.5, "lambda": 0.5, "lambd": 0.5, "coef": 0.5, "coeff": 0.5, "ratio": 0.5, "scale": 1.0,
    "sigma": 1.0, "threshold": 0.5, "weight": 0.5, "w": 0.5, "delta": 1.0, "clip": 1.0, "p": 0.1, "factor": 0.5,
}  # fmt: skip
SIZES: dict[str, int] = {
    "channels": 3, "channel": 3, "classes": 4, "class": 4, "labels": 4, "outputs": 4, "out": 4, "hidden": 16,
    "layers": 2, "layer": 1, "heads": 2, "nhead": 2, "head": 2, "vocab": 20, "kernel": 3, "features": 8, "in": 8,
    "input": 8, "inputs": 8, "dim": 8, "dims": 8, "size": 8, "width": 16, "depth": 2, "epochs": 1, "steps": 2,
    "batch": 6, "stride": 1, "pad": 0, "padding": 0, "anchors": 3, "k": 2, "n": 4, "c": 4, "d": 8, "tasks": 2,
    "blocks": 1, "levels": 2, "patch": 4, "tokens": 20, "nc": 4, "num": 4, "ignore": -100, "accumulation": 2,
    "accum": 2, "units": 16, "embed": 8, "latent": 4, "traits": 4, "workers": 0,
}  # fmt: skip


def words(name: str) -> list[str]:
    """``yTrue_mask2`` -> y, true, mask, 2."""
    return [word.lower() for word in _WORD.findall(name)]


class Uses:
    """How a function uses its names, from its text."""

    def __init__(self, node: ast.AST | None) -> None:
        self.called: dict[str, int] = {}
        self.attributes: dict[str, set[str]] = {}
        self.iterated: set[str] = set()
        self.unpacked: dict[str, list[Any]] = {}
        self.keys: dict[str, list[str]] = {}
        self.turns: dict[str, ast.expr] = {}
        self.names: set[str] = set()
        self.fed: set[str] = set()
        """Names in what a network is called with."""
        self.computed: set[str] = set()
        """Names that stand in arithmetic: numbers or tensors, whatever they are called."""
        self.passed: dict[str, list[tuple[str, int | str]]] = {}
        """Names that are handed on: to a function by its last name, at a place or by a keyword."""
        if node is None:
            return
        for each in ast.walk(node):
            self._look(each)

    def _feeds(self, call: ast.Call) -> None:
        for given in (*call.args, *(k.value for k in call.keywords)):
            self.fed.update(each.id for each in ast.walk(given) if isinstance(each, ast.Name))

    def is_seen(self, name: str) -> bool:
        """Whether the function does anything with a name but hand it on."""
        held = (self.called, self.attributes, self.iterated, self.unpacked, self.keys, self.turns, self.computed)
        return any(name in each for each in held)

    def _passes(self, call: ast.Call) -> None:
        callee = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given: list[tuple[int | str, ast.expr]] = [*enumerate(call.args)]
        given += [(k.arg, k.value) for k in call.keywords if k.arg]
        for place, value in given:
            if isinstance(value, ast.Name):
                self.passed.setdefault(value.id, []).append((callee, place))

    def _look(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self._passes(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if set(words(node.func.attr)) & MODELS and _dotted(node.func.value) == "self":
                self._feeds(node)
        if isinstance(node, ast.BinOp):
            self.computed.update(each.id for each in (node.left, node.right) if isinstance(each, ast.Name))
        if isinstance(node, ast.Name):
            self.names.add(node.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            self.called.setdefault(node.func.id, len(node.args))
            if set(words(node.func.id)) & (MODELS | {"self"}):
                self._feeds(node)
        elif isinstance(node, ast.Attribute):
            self.names.add(node.attr)
            base = _dotted(node.value)
            if base:
                self.attributes.setdefault(base, set()).add(node.attr)
        elif isinstance(node, (ast.For, ast.comprehension)):
            source, target = node.iter, node.target
            while isinstance(source, ast.Call):
                called = _dotted(source.func).rpartition(".")[2]
                if called == "enumerate" and isinstance(target, ast.Tuple) and len(target.elts) == 2:
                    target = target.elts[1]
                if called not in ("enumerate", "tqdm", "iter", "track", "trange", "islice", "list") or not source.args:
                    return
                source = source.args[0]
            name = _dotted(source)
            if name and not isinstance(source, ast.Call):
                self.iterated.add(name)
                self.turns.setdefault(name, target)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, (ast.Tuple, ast.List)):
                for name in _sources(value):
                    self.unpacked.setdefault(name, target.elts)
            elif isinstance(target, ast.Name) and isinstance(value, ast.Subscript):
                name, index = _dotted(value.value), value.slice
                if isinstance(index, ast.Constant) and isinstance(index.value, int) and index.value >= 0:
                    held = self.unpacked.setdefault(name, [])
                    while len(held) <= index.value:
                        held.append(ast.Name("x"))
                    held[index.value] = target
            if isinstance(value, ast.Call) and isinstance(target, (ast.Tuple, ast.Name)):
                inner = value.args[0] if value.args else None
                if _dotted(value.func) == "next" and inner is not None:
                    source = inner.args[0] if isinstance(inner, ast.Call) and inner.args else inner
                    if _dotted(source):
                        self.iterated.add(_dotted(source))
                        self.turns.setdefault(_dotted(source), target)
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, str)
        ):
            name = _dotted(node.value)
            if name and node.slice.value not in self.keys.setdefault(name, []):
                self.keys[name].append(node.slice.value)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def _sources(value: ast.expr) -> list[str]:
    """What a tuple is unpacked from: ``batch``, ``(t.to(d) for t in batch)``, ``map(f, batch)``."""
    if isinstance(value, (ast.Name, ast.Attribute)):
        return [_dotted(value)]
    if isinstance(value, (ast.GeneratorExp, ast.ListComp)):
        return [_dotted(value.generators[0].iter)]
    if isinstance(value, ast.Call) and value.args and _dotted(value.func) in ("map", "tuple", "list"):
        return _sources(value.args[-1])
    if isinstance(value, ast.Tuple):
        bases = {_dotted(e.value) for e in value.elts if isinstance(e, ast.Subscript)}
        if len(bases) == 1 and all(
            isinstance(e, ast.Subscript) and isinstance(e.slice, ast.Constant) for e in value.elts
        ):
            if all(isinstance(e.slice.value, int) for e in value.elts):  # type: ignore[attr-defined]
                return list(bases)
    return []


def role(name: str, uses: Uses, annotation: str = "") -> str:
    """The role of a name: what kind of thing it wants to be given."""
    parts = words(name)
    held = set(parts)
    last = parts[-1] if parts else ""
    called = name in uses.called
    attributes = uses.attributes.get(name, set())
    if held & {"path", "file", "filename", "dir", "folder", "root", "checkpoint", "ckpt"} or annotation == "Path":
        return "path"
    if name in uses.computed and name not in uses.called and not annotation and attributes <= _OF_TENSORS:
        if not held & _INDICES and not _is_setting(held):
            return _tensor(name, held, last)
    lossy = bool(held & {"loss", "losses", "criterion", "crit", "objective"})
    if (
        "Optimizer" in annotation
        or (attributes & {"zero_grad", "param_groups"} and "parameters" not in attributes)
        or held & _OPTIMIZERS
    ):
        if not attributes & {"lr", "batch_size", "epochs", "gamma", "alpha"}:
            return "optimizer"
    if (
        "Loader" in annotation
        or held & _LOADERS
        or (
            name in uses.iterated
            and name not in ("losses",)
            and not held & _CONFIGS
            and not (held & _BATCHES and name in uses.unpacked)  # `x, y = (part.to(device) for part in batch)`
        )
    ):
        return "loader" if not held & (TARGETS | _MASKS | _WEIGHTS | {"losses", "loss"}) else _tensor(name, held, last)
    if held & _CRITERIA or (lossy and (called or "fn" in held or "func" in held or "function" in held)):
        return "criterion"
    if "device" in held or annotation.endswith("device"):
        return "device"
    if (held & _RECORDERS and not called) or attributes & {"add_scalar", "add_scalars"}:
        return "recorder"
    if (held & MODELS and (called or attributes or "Module" in annotation)) or (called and not lossy):
        return "model"
    if "Module" in annotation:
        return "criterion" if lossy else "model"
    if annotation in ("int", "bool", "float", "str"):
        return annotation
    if held & _CONFIGS and (attributes or name in uses.keys):
        return "config"
    if held & _BATCHES or name in uses.keys:
        return "batch"
    if held & _INDICES and "ids" not in held:
        return "int"
    if held & MODELS and last in MODELS:
        return "model"
    return _tensor(name, held, last)


def _is_setting(held: set[str]) -> bool:
    """A number that is set once: the name has nothing of a tensor's."""
    return bool(held & (set(NUMBERS) | set(SIZES))) and not held & (PREDS | LOGITS | PROBS | EMBEDS | TARGETS)


def _tensor(name: str, held: set[str], last: str) -> str:
    """The kind of a tensor."""
    if held & {"loss", "losses"}:
        return "losses" if last == "losses" else "loss"
    if held & {"action", "actions", "indices", "idxs"}:
        return "index"
    if held & {"reward", "rewards", "returns", "advantage", "advantages", "adv"}:
        return "rows"
    if held & {"ignore", "smooth", "eps", "epsilon", "gamma", "reduction", "temperature", "tau", "margin"}:
        return "str" if "reduction" in held else "float"
    if last in _MASKS or (held & _MASKS and not held & (PREDS | LOGITS | PROBS) and last not in TARGETS):
        return "mask"
    if held & {"logvar", "logvars"} or ("log" in held and held & {"var", "sigma", "std", "scale", "variance"}):
        return "logvar"
    if ("log" in held and held & PROBS) or held & {"logp", "logprobs", "logprob", "logq"}:
        return "logp"
    if held & {"true", "gt", "target", "targets", "label", "labels", "truth", "onehot"}:
        return "target"
    if held & _WEIGHTS:
        return "weight"
    if held & {"var", "variance", "std", "sigma", "scale"}:
        return "positive"
    if held & PROBS:
        return "prob"
    if held & {"logit", "logits"}:
        return "logits"
    if held & {"cos", "cosine", "cosines", "sim", "sims", "similarity", "similarities"}:
        return "cosine"
    if held & _TOKENS:
        return "tokens"
    if held & _IMAGES:
        return "input"
    if last in TARGETS and not held & PREDS:
        return "target"
    if held & EMBEDS or held & {"mu", "mean"}:
        return "embed"
    if held & (PREDS | LOGITS):
        return "pred"
    if last in TARGETS:
        return "target"
    return "pred"


def number(name: str, *, whole: bool) -> Any:
    """A value for a setting without a default, or None."""
    parts = words(name)
    known: dict[str, Any] = SIZES if whole else NUMBERS
    for part in reversed(parts):
        if part in known:
            return known[part]
    other: dict[str, Any] = NUMBERS if whole else SIZES
    for part in reversed(parts):
        if part in other:
            return int(other[part]) or 1 if whole else other[part]
    return None


def function_node(tree: ast.Module, qualname: str) -> Any:
    """The definition of a dotted name in a file."""
    scope: Any = tree
    for part in qualname.split("."):
        scope = next(
            (
                n
                for n in _definitions(scope)
                if (isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and n.name == part)
                or (isinstance(n, ast.Assign) and any(isinstance(t, ast.Name) and t.id == part for t in n.targets))
            ),
            None,
        )
        if scope is None:
            return None
    return scope


def _definitions(scope: Any) -> list[Any]:
    found: list[Any] = []
    stack = list(scope.body)
    while stack:
        node = stack.pop()
        found.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            for block in ("body", "orelse", "finalbody"):
                stack.extend(getattr(node, block, ()))
    return sorted(found, key=lambda n: -n.lineno)
