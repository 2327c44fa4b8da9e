"""Whether a class holds what learns, or only computes: by what it builds and calls, not by its name."""

from __future__ import annotations

import ast
from collections.abc import Collection

from lossproof.source.syntax import ClassInfo, dotted
from lossproof.source.torch_names import LAYER_OPERATION, LOSS_LAYER

_OF_MODULES = {
    "register_buffer",
    "register_parameter",
    "parameters",
    "named_parameters",
    "to",
    "train",
    "eval",
    "apply",
}


def builds_layers(cls: ClassInfo) -> bool:
    """Whether a class builds layers, is handed some, or calls something that may be one."""
    stored = cls.stores()
    alone = all(dotted(b).rpartition(".")[2] == "Module" for b in cls.node.bases)
    for name, method in cls.methods.items():
        for call in method.calls:
            callee = dotted(call.func)
            last = callee.rpartition(".")[2]
            if name == "__init__" and last[:1].isupper() and not _harmless(last, cls):
                return True
            owner, _, attribute = callee.partition(".")
            if not attribute or owner != method.first_param or attribute in cls.methods or attribute in _OF_MODULES:
                continue
            # What nobody stores comes from a base, or was left out of a snippet.
            if (attribute in stored or alone) and not holds_loss(cls, attribute):
                return True
    return False


def _harmless(word: str, cls: ClassInfo) -> bool:
    neighbour = cls.module.top.get(word)
    if isinstance(neighbour, ClassInfo):
        return neighbour is not cls and not builds_layers(neighbour)
    if LAYER_OPERATION.get(word) in ("linear", "conv", "norm_layer"):
        return False
    return word in LAYER_OPERATION or word in LOSS_LAYER or word.endswith(("Loss", "Error"))


def holds_loss(cls: ClassInfo, attribute: str, words: Collection[str] = ()) -> bool:
    """``self.ce = nn.CrossEntropyLoss()``, ``self.act = nn.Sigmoid()``"""
    return any((word in words) if words else _harmless(word, cls) for word in _built(cls).get(attribute, ()))


def _built(cls: ClassInfo) -> dict[str, list[str]]:
    """What the methods of a class store under each attribute: the last name of what is called to make it."""
    if cls.built is None:
        cls.built = {}
        for method in cls.methods.values():
            for statement in ast.walk(method.node):
                if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
                    word = dotted(statement.value.func).rpartition(".")[2]
                    for target in statement.targets:
                        if isinstance(target, ast.Attribute):
                            cls.built.setdefault(target.attr, []).append(word)
    return cls.built
