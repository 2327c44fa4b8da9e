"""What Hydra's ``instantiate`` makes of a configuration: an object of the class that ``_target_`` names.

The configuration is a dictionary, or a dataclass whose fields have their defaults; its other entries are what the class
is built with. ``_partial_`` asks for the callable with these entries already given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.source.values import Const, Inst, Map, Partial, Thunk, Value, constant

if TYPE_CHECKING:
    from lossproof.source.evaluate import Evaluator
    from lossproof.source.frames import Frame
    from lossproof.source.lower import Node

NAMES = frozenset({"hydra.utils.instantiate", "hydra.utils.call", "hydra_zen.instantiate"})
_OWN = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def instantiated(
    ev: Evaluator, config: Value, given: list[Value], more: dict[str, Value], frame: Frame, node: Node | None
) -> Value | None:
    """The object, or ``None`` where the class is not named."""
    entries = _entries(ev, config, frame, node)
    target = constant(entries.get("_target_"))
    if not isinstance(target, str) or "." not in target:
        return None
    module, _, name = target.rpartition(".")
    made = ev.import_value(frame.function.module, module, name, 0)
    settings: dict[str, Value | Thunk] = {k: v for k, v in {**entries, **more}.items() if k not in _OWN}
    if constant(entries.get("_partial_", more.get("_partial_", Const(False)))) is True:
        return Partial(made, tuple(given), {k: ev.force(v) for k, v in settings.items()})
    return ev.call(made, given, settings, frame, node)


def _entries(ev: Evaluator, config: Value, frame: Frame, node: Node | None) -> dict[str, Value]:
    if isinstance(config, Map):
        return {k: v for k, v in config.items.items() if isinstance(k, str)}
    if isinstance(config, Inst):
        fields = (
            (name, ev.instance_attribute(config, name, frame, node)) for name, _ in ev.dataclass_fields(config.cls)
        )
        return {name: value for name, value in fields if value is not None}
    return {}
