"""``lossproof check``: files through the source eye and the rules, to a report.

Calling the module checks paths with their own configuration: ``lossproof.check(["src"], select=["LP1"])``.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType

from lossproof import cachedir, config
from lossproof.config import CONFIDENCES, SEVERITIES
from lossproof.problem import CannotRun
from lossproof.source.discover import DEFAULT_EXCLUDES, Discovery, Filter, Rules, discover
from lossproof.source.gitignore import Patterns

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

    from lossproof.finding import Finding, Location
    from lossproof.selection import Layer
    from lossproof.source.discover import SourceFile
    from lossproof.source.facts import Fact
    from lossproof.source.memory import Memory
    from lossproof.source.suppress import Suppression
    from lossproof.source.texts import Text, Texts

Progress = Callable[[int, int], None]


class Options:
    """How to check. Every keyword has the meaning of the option of the same name; None leaves it to ``config``."""

    def __init__(
        self,
        *,
        config: config.Config | None = None,
        select: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        extend_select: Sequence[str] = (),
        extend_ignore: Sequence[str] = (),
        exclude: Sequence[str] | None = None,
        extend_exclude: Sequence[str] = (),
        force_exclude: bool | None = None,
        respect_gitignore: bool | None = None,
        min_severity: str | None = None,
        min_confidence: str | None = None,
        baseline: str | None = None,
        update_baseline: bool = False,
        cache: bool = True,
        cache_dir: str | None = None,
        jobs: int = 0,
        show_unresolved: bool = False,
        stdin: tuple[str, bytes] | None = None,
        progress: Progress | None = None,
        one_shot: bool = False,
        overlay: Mapping[str, bytes] | None = None,
        memory: Memory | None = None,
    ) -> None:
        _must_be("min-severity", min_severity, SEVERITIES)
        _must_be("min-confidence", min_confidence, CONFIDENCES)
        self.config = config if config is not None else _NO_CONFIG
        self.select = select
        self.ignore = ignore
        self.extend_select = extend_select
        self.extend_ignore = extend_ignore
        self.exclude = exclude
        self.extend_exclude = extend_exclude
        self.force_exclude = self.config.force_exclude if force_exclude is None else force_exclude
        self.respect_gitignore = self.config.respect_gitignore if respect_gitignore is None else respect_gitignore
        self.min_severity = min_severity or self.config.min_severity
        self.min_confidence = min_confidence or self.config.min_confidence
        self.baseline = baseline or self.config.baseline
        self.update_baseline = update_baseline
        self.cache = cache
        self.cache_dir = cache_dir or self.config.cache_dir
        self.jobs = jobs or _cpus()
        self.show_unresolved = show_unresolved
        self.stdin = stdin
        self.progress = progress
        # The process ends after this check: what it built need not be freed.
        self.one_shot = one_shot
        # Contents by absolute path that stand in for what is on disk: an editor's buffers, a fix on trial.
        self.overlay: Mapping[str, bytes] = overlay or {}
        # What a process that stays knows from its last check of the same files.
        self.memory = memory


_NO_CONFIG = config.Config()


class Report:
    """What a check found, and what it has to say about itself."""

    def __init__(self, found: Discovery, texts: Texts) -> None:
        self.root = found.root
        self.files: list[SourceFile] = found.files
        self.texts = texts
        self.findings: list[Finding] = []
        self.unresolved: list[Location] = []
        self.warnings: list[str] = list(found.warnings)
        self.unused: list[Suppression] = []
        self.suppressed = 0
        self.known = 0
        """Findings that the baseline accepts."""
        self.stale = 0
        """Entries of the baseline that nothing matches any more."""
        self.baseline_written: int | None = None
        self.files_checked = len(found.targets)
        self.files_seen = len(found.files)
        self.files_parsed = 0
        self.show_unresolved = False
        self.cache_dir: str | None = None
        self.seconds = 0.0


def check_paths(paths: Sequence[str | os.PathLike[str]], options: Options | None = None) -> Report:
    """Check files and folders. ``CannotRun`` says why it cannot be done; a faulty file is only a warning."""
    options = options or Options()
    return check_files(lambda: find_files(paths, options), options)


def check_files(find: Callable[[], Discovery], options: Options) -> Report:
    """Check the files that ``find`` finds. It is called when the rest of the options has turned out to make sense."""
    began = time.perf_counter()
    wanted = _enabled(options)
    file_ignores = _file_ignores(options.config)
    known = _baseline(options)
    found = find()

    from lossproof.source import engine
    from lossproof.source.texts import Texts

    report = Report(found, Texts(found.files, options.memory))
    report.show_unresolved = options.show_unresolved
    if options.cache:
        report.cache_dir = cachedir.prepare(options.cache_dir or cachedir.default())
    analysis = engine.analyse(
        found.root,
        found.files,
        frozenset(found.targets),
        cache_dir=report.cache_dir,
        jobs=options.jobs,
        show_unresolved=options.show_unresolved,
        progress=options.progress,
        judge=_judge,
        one_shot=options.one_shot,
        memory=options.memory,
    )
    report.warnings += analysis.warnings
    report.files_seen = analysis.files_seen
    report.files_parsed = analysis.files_parsed
    report.unresolved = sorted(analysis.unresolved, key=lambda where: (where.path, where.line, where.column))

    marked = getattr(analysis, "marked", None)
    findings = _unsuppressed(analysis.findings, found, report, marked, options.memory)
    findings = [finding for finding in findings if _wanted(finding, wanted, options)]
    findings = _without_file_ignores(findings, file_ignores, options.config.folder)
    findings.sort(key=lambda finding: finding.sort_key)
    if known is not None:
        findings = _against_baseline(findings, known, wanted, found, report, options.update_baseline)
    report.findings = findings
    report.seconds = time.perf_counter() - began
    return report


def _judge(fact: Fact) -> list[Finding]:
    """The rules, imported when there is a first fact to ask them about."""
    from lossproof.rules.judge import judge

    return judge(fact)


def file_filter(options: Options) -> Filter:
    """What a walk leaves out, by the settings and the options."""
    settings = options.config
    names: Collection[str] = DEFAULT_EXCLUDES
    excludes: list[Rules] = []
    here = os.getcwd()
    if options.exclude is not None:
        names = ()
        excludes.append((here, Patterns(options.exclude)))
    elif settings.exclude is not None:
        names = ()
        excludes.append((settings.folder, Patterns(settings.exclude)))
    if settings.extend_exclude:
        excludes.append((settings.folder, Patterns(settings.extend_exclude)))
    if options.extend_exclude:
        excludes.append((here, Patterns(options.extend_exclude)))
    return Filter(names, excludes, options.respect_gitignore)


def find_files(paths: Sequence[str | os.PathLike[str]], options: Options) -> Discovery:
    """The files that a check of these paths would look at."""
    found = discover(
        [os.fspath(path) for path in paths],
        filter=file_filter(options),
        force_exclude=options.force_exclude,
        stdin=options.stdin,
    )
    if options.overlay:
        for file in found.files:
            file.content = options.overlay.get(file.path, file.content)
    return found


def _must_be(name: str, value: str | None, choices: Sequence[str]) -> None:
    if value is not None and value not in choices:
        raise CannotRun(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _enabled(options: Options) -> frozenset[str] | None:
    """The wanted codes, or None for all; looks at the rules only when something narrows them."""
    settings = options.config
    ours = (options.select, *options.ignore, *options.extend_select, *options.extend_ignore)
    theirs = (settings.select, *settings.ignore, *settings.extend_select, *settings.extend_ignore)
    if ours == (None,) and theirs == (None,):
        return None
    from lossproof.selection import Layer, enabled

    layers: list[Layer] = [
        Layer(each.select, [*each.ignore, *each.extend_ignore], each.extend_select) for each in (settings, options)
    ]
    return enabled(layers)


def _wanted(finding: Finding, codes: frozenset[str] | None, options: Options) -> bool:
    if codes is not None and finding.rule not in codes:
        return False
    least, order = options.min_severity, SEVERITIES
    if least is not None and order.index(finding.severity.value) > order.index(least):
        return False
    least, order = options.min_confidence, CONFIDENCES
    return least is None or order.index(finding.confidence) <= order.index(least)


def _unsuppressed(
    findings: Iterable[Finding],
    found: Discovery,
    report: Report,
    marked: Iterable[str] | None,
    memory: Memory | None = None,
) -> list[Finding]:
    """The findings that no comment silences. ``marked``: the target paths that hold a suppression, if that is known."""
    by_path: dict[str, list[Finding]] = {}
    for finding in findings:
        by_path.setdefault(finding.path, []).append(finding)
    targets = frozenset(found.targets)
    looked_at = frozenset(marked) if marked is not None else None
    kept: list[Finding] = []
    for file in found.files:
        ours = by_path.pop(file.display, [])
        if file.path in targets and looked_at is not None:
            may_be_unused = file.path in looked_at
        else:
            may_be_unused = file.path in targets and _may_hold(file)
        if not ours and not may_be_unused:
            continue
        from lossproof.source import suppress

        text = report.texts[file.display]
        suppressions = _suppressions(file, text, memory)
        left = suppress.apply(ours, suppressions, text)
        report.suppressed += len(ours) - len(left)
        kept += left
        if file.path in targets and not any(each.startswith(f"{file.display}:") for each in report.warnings):
            report.unused += [each for each in suppressions if not each.used and each.reportable]
    for strays in by_path.values():
        kept += strays
    return kept


def _suppressions(file: SourceFile, text: Text, memory: Memory | None) -> list[Suppression]:
    from lossproof.source import suppress

    if memory is None:
        return suppress.find(text, file.display)
    found = memory.derived(file.path, "suppressions", lambda: suppress.find(text, file.display))
    for each in found:
        each.used = False
    return found


def _may_hold(file: Any) -> bool:
    try:
        data: bytes = file.read()
    except OSError:
        return False
    if b"lossproof:" not in data and b"noqa" not in data:
        return False
    from lossproof.source.suppress import may_hold

    return may_hold(data)


def _file_ignores(settings: config.Config) -> list[tuple[Patterns, frozenset[str]]]:
    if not settings.per_file_ignores:
        return []
    from lossproof.rules import registry
    from lossproof.selection import resolve

    rules = registry.all_rules()
    return [
        (Patterns([glob]), frozenset[str]().union(*(resolve(code, rules)[1] for code in codes)))
        for glob, codes in settings.per_file_ignores.items()
    ]


def _without_file_ignores(
    findings: list[Finding], table: Sequence[tuple[Patterns, frozenset[str]]], folder: str
) -> list[Finding]:
    """The findings, less those that ``per-file-ignores`` takes out of their file."""
    if not table:
        return findings
    prefix = folder + os.sep
    ignored: dict[str, frozenset[str]] = {}
    for path in {finding.path for finding in findings}:
        full = os.path.abspath(path)
        inside = full[len(prefix) :].replace(os.sep, "/") if full.startswith(prefix) else os.path.basename(full)
        ignored[path] = frozenset[str]().union(*(codes for patterns, codes in table if patterns.covers(inside)))
    return [finding for finding in findings if finding.rule not in ignored[finding.path]]


def _baseline(options: Options) -> Any:
    if options.update_baseline and not options.baseline:
        raise CannotRun("--update-baseline needs --baseline FILE (or the setting baseline)")
    if not options.baseline:
        return None
    from lossproof.baseline import Baseline

    if options.update_baseline and not os.path.exists(options.baseline):
        return Baseline(options.baseline)
    return Baseline.load(options.baseline)


def _against_baseline(
    findings: list[Finding],
    known: Any,
    wanted: frozenset[str] | None,
    found: Discovery,
    report: Report,
    update: bool,
) -> list[Finding]:
    def judged(rule: str) -> bool:
        return wanted is None or rule in wanted

    if update:
        report.baseline_written = known.update(findings, report.texts, found.targets, judged)
        report.known = len(findings)
        return []
    new: list[Finding]
    left: Counter[tuple[str, str, str]]
    new, left = known.split(findings, report.texts)
    report.known = len(findings) - len(new)
    report.stale = known.stale(left, found.targets, judged)
    return new


class _Callable(ModuleType):
    """Lets ``lossproof.check`` be the module and the function at once."""

    def __call__(self, paths: Sequence[str | os.PathLike[str]] = (".",), **options: Any) -> Report:
        if isinstance(paths, (str, os.PathLike)):
            paths = (paths,)
        if "config" not in options:
            options["config"] = config.load([os.fspath(path) for path in paths])
        return check_paths(paths, Options(**options))


sys.modules[__name__].__class__ = _Callable
