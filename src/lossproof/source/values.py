"""What the walk can know of a value without running anything.

A value is unknown until something shows otherwise. A tensor carries what was last done to it (``act``),
a range, and the trace of places that it came through; objects carry how they were built; a ``Union``
carries alternatives, each with the conditions under which it is the one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossproof.source.frames import Frame
    from lossproof.source.lower import Node
    from lossproof.source.syntax import ClassInfo, Function, ParsedModule

NOTHING: frozenset[str] = frozenset()


class Hop:
    """A place that a value came through, with the remark that a reader sees there."""

    __slots__ = ("at", "message", "module")

    def __init__(self, module: ParsedModule, at: Any, message: str) -> None:
        self.module = module
        self.at = at
        self.message = message


class Atom:
    """A condition that could not be decided: ``key op const`` is ``polarity``.

    ``choice`` marks a selection between things (models, criteria), as against a flag inside one.
    """

    __slots__ = ("choice", "const", "key", "op", "polarity")

    def __init__(self, key: str, op: str, const: Any, polarity: bool, choice: bool = False) -> None:
        self.key = key
        self.op = op
        self.const = const
        self.polarity = polarity
        self.choice = choice

    def excludes(self, other: Atom) -> bool:
        """True where both cannot hold in one run."""
        if self.key != other.key:
            return False
        if self.op == other.op and self.const == other.const:
            return self.polarity != other.polarity
        return self.op == other.op == "==" and self.polarity and other.polarity

    def same(self, other: Atom) -> bool:
        return (
            self.key == other.key
            and self.op == other.op
            and self.const == other.const
            and self.polarity == other.polarity
        )


Atoms = tuple[Atom, ...]


class Value:
    __slots__ = ()


class Const(Value):
    __slots__ = ("v",)

    def __init__(self, v: Any) -> None:
        self.v = v

    def __repr__(self) -> str:
        return f"Const({self.v!r})"


class Ref(Value):
    """A symbol of a library, by its canonical dotted name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Ref({self.name})"


class Mod(Value):
    """A module of the project."""

    __slots__ = ("module",)

    def __init__(self, module: ParsedModule) -> None:
        self.module = module


class Func(Value):
    __slots__ = ("closure", "function", "me")

    def __init__(self, function: Function, closure: Frame | None = None, me: Value | None = None) -> None:
        self.function = function
        self.closure = closure
        self.me = me

    def __repr__(self) -> str:
        return f"Func({self.function.qualname})"


class Cls(Value):
    __slots__ = ("closure", "info")

    def __init__(self, info: ClassInfo, closure: Frame | None = None) -> None:
        self.info = info
        self.closure = closure

    def __repr__(self) -> str:
        return f"Cls({self.info.qualname})"


class Inst(Value):
    """An object of a project class. ``ctor`` is the frame of its ``__init__`` (or of the call).

    ``known`` keeps what its attributes were found to be, ``frames`` the frames of the methods that set them.
    """

    __slots__ = ("cls", "ctor", "frames", "known", "over", "rests")

    def __init__(self, cls: Cls, ctor: Frame | None, over: dict[str, Value] | None = None) -> None:
        self.cls = cls
        self.ctor = ctor
        self.over = over
        self.known: dict[str, Value | None] = {}
        self.frames: dict[Function, Frame] = {}
        self.rests = 0

    def __repr__(self) -> str:
        return f"Inst({self.cls.info.qualname})"


class Super(Value):
    __slots__ = ("after", "me")

    def __init__(self, me: Value, after: ClassInfo) -> None:
        self.me = me
        self.after = after


class Lib(Value):
    """An object made by calling a library's class or factory."""

    __slots__ = ("args", "at", "kwargs", "module", "name")

    def __init__(
        self, name: str, args: tuple[Value, ...], kwargs: dict[str, Value], module: ParsedModule | None, at: Any
    ) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.module = module
        self.at = at

    def arg(self, position: int, name: str) -> Value | None:
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if 0 <= position < len(self.args) else None

    def __repr__(self) -> str:
        return f"Lib({self.name})"


class Meth(Value):
    """A method of something that is not a project object."""

    __slots__ = ("name", "receiver")

    def __init__(self, receiver: Value, name: str) -> None:
        self.receiver = receiver
        self.name = name


class Partial(Value):
    __slots__ = ("args", "func", "kwargs")

    def __init__(self, func: Value, args: tuple[Value, ...], kwargs: dict[str, Value]) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs


class Seq(Value):
    """A list, tuple, set or module list: known ``head``, an unknown number of ``rest``, known ``tail``."""

    __slots__ = ("head", "kind", "rest", "tail")

    def __init__(
        self, kind: str, head: tuple[Value, ...], rest: Value | None = None, tail: tuple[Value, ...] = ()
    ) -> None:
        self.kind = kind
        self.head = head
        self.rest = rest
        self.tail = tail

    def at(self, index: int) -> Value | None:
        if self.rest is None:
            items = self.head + self.tail
            return items[index] if -len(items) <= index < len(items) else None
        if 0 <= index < len(self.head):
            return self.head[index]
        if -len(self.tail) <= index < 0:
            return self.tail[index]
        return None

    def every(self) -> list[Value]:
        return [*self.head, *([self.rest] if self.rest is not None else []), *self.tail]


class Map(Value):
    """A dict, namespace or module dict with known keys; ``rest`` stands for keys that are not known."""

    __slots__ = ("items", "rest")

    def __init__(self, items: dict[Any, Value], rest: Value | None = None) -> None:
        self.items = items
        self.rest = rest


class T(Value):
    """A tensor or number, or something of which nothing is known at all (``T()``).

    ``act`` names the last thing that shaped its values: ``sigmoid``, ``softmax``, ``log_softmax``,
    ``logsigmoid``, ``probability``, ``affine`` (a raw output), ``relu``, ``exp``, ``log`` …; the empty
    string means unknown. ``lo``/``hi`` bound its elements (``None``: unbounded or unknown), strictly where
    ``lo_open``/``hi_open``. ``sym`` names an unknown so that conditions on it can be compared.
    """

    __slots__ = ("act", "hi", "hi_open", "info", "lo", "lo_open", "sym", "tags", "trace")

    def __init__(
        self,
        act: str = "",
        lo: float | None = None,
        hi: float | None = None,
        lo_open: bool = False,
        hi_open: bool = False,
        tags: frozenset[str] = NOTHING,
        trace: tuple[Hop, ...] = (),
        sym: str = "",
        info: dict[str, Any] | None = None,
    ) -> None:
        self.act = act
        self.lo = lo
        self.hi = hi
        self.lo_open = lo_open
        self.hi_open = hi_open
        self.tags = tags
        self.trace = trace
        self.sym = sym
        self.info = info

    def but(self, **changes: Any) -> T:
        new = T(
            self.act,
            self.lo,
            self.hi,
            self.lo_open,
            self.hi_open,
            self.tags,
            self.trace,
            self.sym,
            self.info,
        )
        for name, value in changes.items():
            setattr(new, name, value)
        return new

    def tagged(self, *tags: str) -> T:
        return self.but(tags=self.tags | set(tags))

    def get(self, key: str, default: Any = None) -> Any:
        return default if self.info is None else self.info.get(key, default)

    @property
    def positive(self) -> bool:
        return self.lo is not None and (self.lo > 0 or (self.lo == 0 and self.lo_open))

    @property
    def nonnegative(self) -> bool:
        return self.lo is not None and self.lo >= 0

    @property
    def nonzero(self) -> bool:
        if self.positive or "nonzero" in self.tags:
            return True
        return self.hi is not None and (self.hi < 0 or (self.hi == 0 and self.hi_open))

    def __repr__(self) -> str:
        span = f"{'(' if self.lo_open else '['}{self.lo},{self.hi}{')' if self.hi_open else ']'}"
        return f"T({self.act or '?'} {span} {sorted(self.tags)} {self.sym})"


class Union(Value):
    __slots__ = ("alts",)

    def __init__(self, alts: tuple[tuple[Atoms, Value], ...]) -> None:
        self.alts = alts

    def __repr__(self) -> str:
        return f"Union({[v for _, v in self.alts]})"


UNKNOWN = T()
NONE = Const(None)
MAX_ALTERNATIVES = 10


def alternatives(value: Value) -> tuple[tuple[Atoms, Value], ...]:
    return value.alts if isinstance(value, Union) else (((), value),)


def _identity(value: Value) -> Any:
    if isinstance(value, T):
        first = value.trace[0].at if value.trace else None
        return (
            "T",
            value.act,
            id(first) if first is not None else 0,
            value.lo,
            value.hi,
            value.lo_open,
            value.sym,
            value.tags,
            value.get("width"),
            value.get("masked") is not None,
        )
    if isinstance(value, Const):
        return ("C", type(value.v).__name__, repr(value.v))
    if isinstance(value, Ref):
        return ("R", value.name)
    if isinstance(value, Inst):
        return ("I", id(value.cls.info), id(value.ctor) if value.over is None else id(value))
    if isinstance(value, Func):
        return ("F", id(value.function), id(value.me))
    if isinstance(value, Lib):
        return ("L", value.name, id(value.at))
    return id(value)


def join(options: list[tuple[Atoms, Value]]) -> Value:
    """The alternatives as one value: containers are joined by element, equal alternatives collapse."""
    flat: list[tuple[Atoms, Value]] = []
    for atoms, value in options:
        for inner, alternative in alternatives(value):
            flat.append((combine(atoms, inner), alternative))
    if not flat:
        return UNKNOWN
    if len(flat) == 1 and not flat[0][0]:
        return flat[0][1]
    if all(isinstance(v, Seq) for _, v in flat) and not (
        any(a for a, _ in flat) and len(flat) <= MAX_ALTERNATIVES and len({_length(v) for _, v in flat}) > 1
    ):
        # Of different lengths under different conditions they stay apart: the condition may choose the loss too.
        return _join_sequences([(a, v) for a, v in flat if isinstance(v, Seq)])
    if all(isinstance(v, Map) for _, v in flat):
        return _join_maps([(a, v) for a, v in flat if isinstance(v, Map)])
    seen: dict[Any, int] = {}
    kept: list[tuple[Atoms, Value]] = []
    for atoms, value in flat:
        key = _identity(value)
        if key in seen:
            index = seen[key]
            # The same value under two conditions holds under what they share.
            shared = tuple(a for a in kept[index][0] if any(a.same(b) for b in atoms))
            kept[index] = (shared, kept[index][1])
        elif len(kept) < MAX_ALTERNATIVES:
            seen[key] = len(kept)
            kept.append((atoms, value))
    if len(kept) == 1:
        return kept[0][1] if not kept[0][0] else Union((kept[0],))
    return Union(tuple(kept))


def _length(value: Value) -> tuple[int, bool, int]:
    assert isinstance(value, Seq)
    return len(value.head), value.rest is None, len(value.tail)


def combine(one: Atoms, two: Atoms) -> Atoms:
    if not one:
        return two
    if not two:
        return one
    return one + tuple(b for b in two if not any(b.same(a) for a in one))


def consistent(one: Atoms, two: Atoms) -> bool:
    return not any(a.excludes(b) for a in one for b in two)


def _join_sequences(options: list[tuple[Atoms, Seq]]) -> Value:
    kind = options[0][1].kind
    exact = [s for _, s in options if s.rest is None]
    if len(exact) == len(options):
        sizes = {len(s.head) + len(s.tail) for s in exact}
        if len(sizes) == 1:
            rows = [(a, s.head + s.tail) for a, s in options]
            size = sizes.pop()
            return Seq(kind, tuple(join([(a, row[i]) for a, row in rows]) for i in range(size)))
        if kind == "tuple":
            # Tuples of different sizes are different answers, not one growing list.
            return Union(tuple((a, s) for a, s in options[:MAX_ALTERNATIVES]))
    every = [(a, item) for a, s in options for item in s.every()]
    if not every:
        return Seq(kind, ())
    # One list contains the other at its end: a loop that may run zero times, then more was appended.
    return Seq(kind, (), join(every))


def _join_maps(options: list[tuple[Atoms, Map]]) -> Value:
    keys: dict[Any, None] = {}
    for _, m in options:
        for key in m.items:
            keys[key] = None
    items = {key: join([(a, m.items[key]) for a, m in options if key in m.items]) for key in keys}
    rests = [((), m.rest) for _, m in options if m.rest is not None]
    return Map(items, join(list(rests)) if rests else None)


def tensors(value: Value) -> list[tuple[Atoms, T]]:
    return [(a, v) for a, v in alternatives(value) if isinstance(v, T)]


def constant(value: Value | None) -> Any:
    """The Python constant that a value is known to be, else ``None``."""
    return value.v if isinstance(value, Const) else None


def number(value: Value | None) -> float | None:
    v = constant(value)
    return float(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else None


class Thunk:
    """An argument that is evaluated only if the callee needs it."""

    __slots__ = ("frame", "node", "value")

    def __init__(self, frame: Frame, node: Node) -> None:
        self.frame = frame
        self.node = node
        self.value: Value | None = None
