"""What has to be run to prove a fix: the functions whose result should be what it was, with what they need.

A fix may move something from one function to another: the sigmoid leaves ``Net.forward``, and the loss takes logits.
Then what ``forward`` gives is another thing on purpose; what must not change is the loss that its callers compute, and
the probabilities that they show. So a changed function that others on the way call is judged through these.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossproof.finding import Finding, Location, Shift
from lossproof.verify.touched import MODULE, Outline, changed_lines, differing, of_edits
from lossproof.verify.worker.roles import MODELS, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lossproof.mend import Made

_INSIDE = ("__init__", "forward", "__call__", "__post_init__", "setup", "build")
_LOSS = re.compile(r"(?:Loss|_loss|criterion)$", re.IGNORECASE)

Name = tuple[str, str]  # a file as findings show it, and a dotted name in it


@dataclass
class File:
    """A changed file."""

    display: str
    before: bytes
    after: bytes


@dataclass
class Unit:
    """A function to run on both sides."""

    name: Name
    whole: bool
    """Whether its result has to be the same; else it is looked at only where nothing else can be run."""
    record: dict[str, Any]


@dataclass
class Task:
    """A finding, and the units that prove its fix."""

    made: Made
    touched: set[Name]
    wholes: list[str]
    """Ids of units whose results have to be the same."""
    spare: list[str]
    """Ids of units (callers on the way) for when none of the wholes can be run."""
    watched: list[str]
    """Ids of units that were not changed and use what was: they have to give the same too."""
    guilty: list[tuple[str, int, int]]
    """The lines, after the fix, that a fault which is still there would lie in."""
    reasons: list[str]
    """Why something that changed is not among the units."""


class Plan:
    """Units and tasks for a set of changed files."""

    def __init__(
        self, files: Sequence[File], made: Iterable[Made], names: dict[str, bytes], places: Mapping[str, str]
    ) -> None:
        self.files = {file.display: file for file in files}
        self._names = names
        self._places = places
        self._outlines: dict[str, Outline] = {}
        self._after = {f.display: Outline(f.after) for f in files}
        made = list(made)
        self.units: dict[str, Unit] = {}
        self.tasks: list[Task] = []
        self._given, self._gives = _shifts(made)
        self.roots = _roots([self.place(name) for name in names])
        self._mentioned = _mentions(names)
        self._lines = {f.display: changed_lines(self._before(f.display), self._after[f.display]) for f in files}
        for each in made:
            self.tasks.append(self._task(each))

    def place(self, display: str) -> str:
        """Where a file lies in the copy of the project."""
        return self._places.get(display) or inside(display)

    def _before(self, display: str) -> Outline:
        if display not in self._outlines:
            file = self.files.get(display)
            self._outlines[display] = Outline(file.before if file is not None else self._names.get(display, b""))
        return self._outlines[display]

    def records(self) -> list[dict[str, Any]]:
        """The units as the subprocess wants them; spares come last, and are run only where nothing else could be."""
        wholes = {id for task in self.tasks for id in task.wholes}
        found = []
        for id, unit in self.units.items():
            serves = [task.wholes for task in self.tasks if id in task.spare]
            always = id in wholes or any(id in task.watched for task in self.tasks)
            found.append({**unit.record, "unless": [] if always else serves})
        return sorted(found, key=lambda record: bool(record["unless"]))

    # ---- one finding

    def _task(self, made: Made) -> Task:
        finding = made.finding
        olds = {display: Outline(data) for display, data in made.olds.items()}
        if not olds:
            olds = {display: self._before(display) for display in self.files}
        touched = of_edits(finding.remedy.edits, olds)
        really = {
            (display, name) for display in self.files for name in differing(self._before(display), self._after[display])
        }
        loose = {each for each in touched if each[1] == MODULE or each[1] in self._before(each[0]).classes}
        touched = (touched & really) | loose
        # What takes logits now does another thing without a letter of it changed.
        touched |= {(shift.path, shift.function) for shift in finding.remedy.shifts if self._only_input(shift)}
        site = self._enclosing(finding.location, olds)
        hops = [self._enclosing(hop, olds) for hop in reversed(finding.related)]
        way = [name for name in dict.fromkeys([site, *hops]) if name[1] != MODULE]
        reasons = []
        if any(path.endswith(".ipynb") for path, _ in {*touched, site}):
            return Task(made, touched, [], [], [], [], ["it is in a notebook"])
        wholes: list[Name] = []
        parts: list[Name] = []
        everyone = [*dict.fromkeys([*way, *sorted(touched)])]
        for name in sorted(touched, key=lambda n: everyone.index(n)):
            if name in loose:
                parts.append(name)
            elif self._is_part(name, site, everyone, touched):
                parts.append(name)
            else:
                wholes.append(name)
        rests = parts or not wholes
        if site[1] != MODULE and site not in wholes and site not in parts and rests:
            wholes.insert(0, site)
        spare = [n for n in way if n not in wholes and n not in parts and n[1].rpartition(".")[2] != "__init__"]
        spare = [*spare, *(n for n in self._callers(parts) if n not in wholes and n not in spare and n not in parts)][
            :6
        ]
        if not wholes and not spare:
            if site[1] == MODULE and (MODULE in {n for _, n in touched} or not touched):
                reasons.append("what changed runs at the top of a script")
            elif parts:
                reasons.append(f"none of the callers of {_said(parts)} is known")
        context = [*way, *touched]
        return Task(
            made,
            touched,
            [self._unit(n, context, touched, finding, whole=True) for n in wholes],
            [self._unit(n, context, touched, finding, whole=False) for n in spare],
            [self._unit(n, context, touched, finding, whole=False) for n in self._users(site, parts, touched, way)],
            self._guilty(finding, touched),
            reasons,
        )

    def _only_input(self, shift: Shift) -> bool:
        """Whether a function takes logits now, and is none that passes them on."""
        name = (shift.path, shift.function)
        return bool(shift.parameter) and name in self._given and name not in self._gives and self._is_known(name)

    def _is_known(self, name: Name) -> bool:
        return name[1] in self._before(name[0]).functions

    def _enclosing(self, where: Location, olds: dict[str, Outline]) -> Name:
        outline = olds.get(where.path) or self._before(where.path)
        name = outline.at(where.line)
        if name in outline.classes:
            name = MODULE
        return where.path, name

    def _is_part(self, name: Name, site: Name, everyone: list[Name], touched: set[Name]) -> bool:
        """Whether a changed function is judged through others: what it gives may be another thing on purpose."""
        last = name[1].rpartition(".")[2]
        others = [other for other in everyone if other not in (name,) and other[1] != MODULE]
        if last in ("__init__", "__post_init__"):
            return True
        if name == site or name in self._given:
            return False
        if last in _INSIDE and others:
            return True
        for other in others:
            if other == name or (other not in touched and other != site):
                continue
            node = self._before(other[0]).functions.get(other[1])
            if node is not None and last in _called(node):
                return True
        return False

    def _users(self, site: Name, parts: list[Name], touched: set[Name], way: list[Name]) -> list[Name]:
        """Functions that nobody changed and that call the network by the name that the loss's function calls it."""
        moved = [n for n in parts if n[1].rpartition(".")[2] == "forward" and self._is_network(*n)]
        node = self._before(site[0]).functions.get(site[1])
        if not moved or node is None:
            return []
        names = _networks_called(node)
        owner = site[1].rpartition(".")[0]
        found: list[Name] = []
        for display, outline in ((d, self._before(d)) for d in dict.fromkeys([site[0], *self.files])):
            for name, other in outline.functions.items():
                if (display, name) in touched or (display, name) in way or name.endswith("__init__"):
                    continue
                common = _networks_called(other) & names
                if name.rpartition(".")[0] != owner or display != site[0]:
                    common = {each for each in common if not each.startswith("self")}
                if common:
                    found.append((display, name))
        return found[:5]

    def _guilty(self, finding: Finding, touched: set[Name]) -> list[tuple[str, int, int]]:
        """The lines that changed, the finding's own, and those that use what these compute."""
        spans: dict[str, list[tuple[int, int]]] = {}
        for display, (_, theirs) in self._lines.items():
            spans[display] = [(a, b) for a, b in theirs if (display, self._after[display].at(a)) in touched]
        where = finding.location
        if where.path not in self.files:
            spans[where.path] = [(where.line, where.end_line)]
        else:
            text = self._before(where.path).text.splitlines()
            said = text[where.line - 1].strip() if where.line <= len(text) else ""
            for number, line in enumerate(self._after[where.path].text.splitlines(), 1):
                if said and line.strip() == said:
                    spans[where.path].append((number, number + where.end_line - where.line))
        for display, lines in spans.items():
            for name, node in (self._after.get(display) or self._before(display)).functions.items():
                if (display, name) in touched:
                    lines += _users_of(node, lines)
        return [(self.place(display), a, b) for display, lines in spans.items() for a, b in lines]

    def _callers(self, parts: list[Name]) -> list[Name]:
        """Functions of the changed files that use a changed part, by name."""
        found: list[Name] = []
        for display in self.files:
            outline = self._before(display)
            for name, node in outline.functions.items():
                used = _called(node)
                for path, part in parts:
                    cls, _, last = part.rpartition(".")
                    wanted = {last} - {"__init__", "forward", "__call__"} | ({cls.rpartition(".")[2]} if cls else set())
                    same_class = path == display and cls and name.startswith(cls + ".") and last == "__init__"
                    if (used & wanted or same_class) and (display, name) not in parts and not name.endswith("__init__"):
                        found.append((display, name))
        return list(dict.fromkeys(found))

    # ---- one unit

    def _unit(self, name: Name, context: list[Name], touched: set[Name], finding: Finding, *, whole: bool) -> str:
        id = f"{name[0]}::{name[1]}"
        known = self.units.get(id)
        outline = self._before(name[0])
        classes = self._networks(context, name)
        strict = any(self._is_network(path, held) for path, held in touched if "." in held and (path, held) != name)
        strict = strict and not any(held.rpartition(".")[0] == name[1].rpartition(".")[0] for path, held in touched)
        criteria = self._criteria(finding, context)
        reached = name in self._given or any(
            held == MODULE or held in self._before(path).classes for path, held in touched
        )
        lines: list[list[Any]] = [[], []]
        wanted = touched | {name}
        for display, (ours, theirs) in self._lines.items():
            inner = self._before(display), self._after[display]
            for index, (spans, each) in enumerate(zip((ours, theirs), inner, strict=True)):
                lines[index] += [[self.place(display), a, b] for a, b in spans if (display, each.at(a)) in wanted]
        if known is not None:
            record = known.record
            for key, new in (("classes", classes), ("lines", None), ("criteria", None)):
                if key == "classes":
                    record[key] += [each for each in new or [] if each not in record[key]]
                else:
                    for index in (0, 1):
                        extra = lines[index] if key == "lines" else criteria[index]
                        record[key][index] += [each for each in extra if each not in record[key][index]]
            record["strict_model"] = record["strict_model"] or strict
            record["reached"] = record["reached"] or reached
            known.whole = known.whole or whole
            return id
        record = {
            "id": id,
            "module": self.module(name[0]),
            "qualname": name[1],
            "source": outline.source(name[1]),
            "classes": classes,
            "criteria": criteria,
            "strict_model": strict,
            "reached": reached,
            "lines": lines,
            "given": self._given.get(name, []),
            "gives": self._gives.get(name, []),
        }
        self.units[id] = Unit(name, whole, record)
        return id

    def _is_network(self, display: str, name: str) -> bool:
        cls = self._before(display).classes.get(name.rpartition(".")[0] or name)
        return cls is not None and not _LOSS.search(cls.name)

    def _networks(self, context: list[Name], name: Name) -> list[list[str]]:
        """Classes that methods on the way belong to, the nearest to the loss first: among them is the network."""
        found: list[list[str]] = []
        for display, held in [*context]:
            cls = held.rpartition(".")[0] or (held if held in self._before(display).classes else "")
            if cls and cls != name[1].rpartition(".")[0] and "." not in cls:
                entry = [self.module(display), cls]
                if entry not in found:
                    found.append(entry)
        return found

    def _criteria(self, finding: Finding, context: list[Name]) -> list[list[list[str]]]:
        """Where criteria are built on the way, before and after: ``nn.BCELoss()`` as a text in its file."""
        wanted = {hop.path for hop in (*finding.related, finding.location)} | {
            edit.location.path for edit in finding.remedy.edits
        }
        found: list[list[list[str]]] = [[], []]
        for display in sorted(wanted):
            if display.endswith(".ipynb"):
                continue
            before = self._before(display)
            after = self._after.get(display, before)
            near = {hop.line for hop in (*finding.related, finding.location) if hop.path == display}
            ours, theirs = _built(before), _built(after)
            if len(ours) != len(theirs):
                continue
            for (old, line), (new, _) in zip(ours, theirs, strict=True):
                if old != new or line in near:
                    for index, text in enumerate((old, new)):
                        found[index].append([self.module(display), text])
        return found

    def module(self, display: str) -> str:
        """The name by which the project imports a file."""
        relative = self.place(display)
        parts = relative.removesuffix(".py").split("/")
        if parts[-1] == "__init__":
            parts.pop()
        options = []
        for root in self.roots:
            held = root.split("/") if root else []
            if parts[: len(held)] == held and len(parts) > len(held):
                dotted = parts[len(held) :]
                if all(part.isidentifier() for part in dotted):
                    options.append(".".join(dotted))
        if not options:
            return parts[-1]
        outline = self._before(display)
        deep = (
            max((n.level for n in ast.walk(outline.tree) if isinstance(n, ast.ImportFrom)), default=0)
            if outline.tree
            else 0
        )
        package = 1 if relative.endswith("__init__.py") else 0
        fitting = [o for o in options if o.count(".") + package >= deep] or options
        mentioned = [o for o in fitting if o in self._mentioned]
        return (
            max(mentioned or fitting, key=lambda o: (o.count(".") if deep else -o.count("."), o))
            if not mentioned
            else mentioned[0]
        )


def _shifts(made: Iterable[Made]) -> tuple[dict[Name, list[Any]], dict[Name, list[Any]]]:
    """By function, the parameters that take logits now, and the parts of its result that are logits now."""
    given: dict[Name, list[Any]] = {}
    gives: dict[Name, list[Any]] = {}
    for shift in dict.fromkeys(shift for each in made for shift in each.finding.remedy.shifts):
        name = (shift.path, shift.function)
        what = [list(shift.key), shift.activation, shift.dim]
        if shift.parameter:
            given.setdefault(name, []).append([shift.parameter, *what])
        else:
            gives.setdefault(name, []).append(what)
    return given, gives


def _said(names: list[Name]) -> str:
    return ", ".join(f"`{name}`" for _, name in names)


def inside(path: str) -> str:
    """A path that stays below the folder it is copied to."""
    parts = [part for part in path.replace(os.sep, "/").split("/") if part not in ("", ".")]
    return "/".join("_up" if part == ".." else part.replace(":", "_") for part in parts)


def _called(node: Any) -> set[str]:
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            if isinstance(each.func, ast.Name):
                found.add(each.func.id)
            elif isinstance(each.func, ast.Attribute):
                found.add(each.func.attr)
        elif isinstance(each, ast.Attribute):
            found.add(each.attr)
    return found


def _networks_called(node: Any) -> set[str]:
    """Names like a network's that a function calls: ``model``, ``self.net``."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            target, prefix = each.func, ""
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                name, prefix = target.attr, "self."
            elif isinstance(target, ast.Name):
                name = target.id
            else:
                continue
            if name == "self" or set(words(name)) & MODELS:
                found.add(prefix + name)
    return found


def _users_of(function: Any, lines: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The statements of a function that read what statements in some lines assign, and so on."""
    simple = [
        n for n in ast.walk(function) if isinstance(n, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr))
    ]
    found = [n for n in simple if any(a <= n.lineno and (n.end_lineno or n.lineno) <= b for a, b in lines)]
    for _ in range(4):
        names = {
            each.id
            for n in found
            for each in ast.walk(n)
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        }
        more = [
            n
            for n in simple
            if n not in found
            and any(isinstance(e, ast.Name) and isinstance(e.ctx, ast.Load) and e.id in names for e in ast.walk(n))
        ]
        if not more:
            break
        found += more
    return [(n.lineno, n.end_lineno or n.lineno) for n in found]


def _built(outline: Outline) -> list[tuple[str, int]]:
    """Calls of what is named like a criterion's class, in the order of the file."""
    if outline.tree is None:
        return []
    found = []
    for node in ast.walk(outline.tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name[:1].isupper() and name.endswith("Loss"):
                found.append((node.lineno, node.col_offset, ast.unparse(node)))
    return [(text, line) for line, _, text in sorted(found)]


def _roots(displays: Sequence[str]) -> list[str]:
    """The folders that imports start from: the project, ``src``, and where scripts lie that import their neighbours."""
    folders: dict[str, None] = {"": None}
    packages = {os.path.dirname(d) for d in displays if d.endswith("/__init__.py")}
    for display in displays:
        folder = os.path.dirname(display)
        while folder in packages:
            folder = os.path.dirname(folder)
        folders.setdefault(folder)
    return sorted(folders, key=lambda f: (f.count("/"), f != "" and f != "src", f))[:40]


def _mentions(names: dict[str, bytes]) -> frozenset[str]:
    """The modules that the project's files import, as they spell them."""
    found: set[str] = set()
    for data in names.values():
        for match in re.finditer(rb"(?m)^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import|import[ \t]+([\w.]+))", data):
            found.add((match[1] or match[2]).decode("ascii", "replace"))
    return frozenset(found)


__all__ = ["File", "Plan", "Task", "Unit"]
