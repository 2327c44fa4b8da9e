"""The model that a library's trainer hands to the methods of its subclass.

A Hugging Face ``Trainer`` keeps the ``model`` that it was built with and gives it to ``compute_loss``. Where the
subclass has an ``__init__`` of its own, the model is what that passes on: ``super().__init__(*args, **kwargs)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.source.values import Inst, Super, Value

if TYPE_CHECKING:
    from lossproof.source.evaluate import Evaluator


def handed_model(ev: Evaluator, trainer: Inst) -> Value | None:
    """The model that a trainer was built with, or ``None`` where that is not seen."""
    if trainer.over is not None and "model" in trainer.over:
        return trainer.over["model"]
    ctor = trainer.ctor
    if ctor is None or ctor.open or not ev.library_base(trainer.cls).endswith("Trainer"):
        return None
    for call in ctor.ir.calls:
        func = call.args[0]
        if func.op != "attr" or func.args[1] != "__init__" or not isinstance(ev.value(ctor, func.args[0]), Super):
            continue
        positional, named = ev.arguments(ctor, call)
        given = named.get("model", positional[0] if positional else None)
        return ev.force(given) if given is not None else None
    return None
