"""Find faults in the training objectives of a project.

exit codes: 0 nothing found, 1 findings, 2 could not run
"""

from __future__ import annotations

import argparse
import os
import warnings

from lossproof import config
from lossproof.check import Options, Report, check_paths, find_files
from lossproof.cli import output
from lossproof.cli.progress import Bar
from lossproof.problem import CannotRun

# Of so many named files it is looked whether they can be read at all.
MOST_NAMED = 200
ONLY_PARSED = 0x400  # ``ast.PyCF_ONLY_AST``, without importing it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lossproof check``."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files and folders (default: .); - is standard input")
    group = parser.add_argument_group("rules", "a code (LP101), a prefix (LP1), a name (sigmoid-before-bce) or ALL")
    for name, help in (
        ("select", "only these"),
        ("ignore", "not these"),
        ("extend-select", "these too"),
        ("extend-ignore", "nor these"),
    ):
        group.add_argument(f"--{name}", action="append", metavar="RULES", help=help)
    group.add_argument("--min-severity", choices=config.SEVERITIES, help="leave out what is less grave")
    group.add_argument("--min-confidence", choices=config.CONFIDENCES, help="leave out what is less certain")

    group = parser.add_argument_group("fixes", "a safe fix keeps what the program computes; an unsafe one improves it")
    group.add_argument("--fix", action="store_true", help="mend what can be mended safely")
    group.add_argument("--unsafe-fixes", action="store_true", help="with --fix or --diff: the unsafe fixes too")
    group.add_argument("--diff", action="store_true", help="print what --fix would change, and change nothing")
    group.add_argument(
        "--verify", action="store_true", help="run what --fix changes, before and after: EXECUTES the project's code"
    )
    group.add_argument(
        "--show-fixes", action="store_true", help="with --fix or --diff: list each fix, and why the rest has none"
    )

    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=config.FORMATS, help="how to report (default: text)")
    group.add_argument("-o", "--output", metavar="FILE", help="write the report to a file (- is standard output)")
    group.add_argument("--statistics", action="store_true", help="count findings by rule instead of listing them")
    group.add_argument("--show-unresolved", action="store_true", help="list the values that could not be followed")
    group.add_argument("--show-files", action="store_true", help="list the files that would be checked, and stop")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colours (default: auto)")
    group.add_argument("-q", "--quiet", action="store_true", help="findings only")
    group.add_argument("-v", "--verbose", action="store_true", help="say what was read")
    group.add_argument("--exit-zero", action="store_true", help="exit with 0 even when there are findings")

    group = parser.add_argument_group("baseline")
    group.add_argument("--baseline", metavar="FILE", help="report only what is not in this file")
    group.add_argument("--update-baseline", action="store_true", help="accept what is found now into the baseline")

    group = parser.add_argument_group("files", "patterns are written as in .gitignore")
    group.add_argument("--exclude", action="append", metavar="PATTERNS", help="leave out these instead of the default")
    group.add_argument("--extend-exclude", action="append", metavar="PATTERNS", help="leave out these too")
    group.add_argument(
        "--force-exclude", action="store_true", default=None, help="exclude even files that are named here"
    )
    group.add_argument(
        "--no-respect-gitignore",
        dest="respect_gitignore",
        action="store_false",
        default=None,
        help="check what git ignores",
    )
    group.add_argument("--stdin-filename", metavar="FILE", help="the name of what comes from standard input")

    group = parser.add_argument_group("settings")
    group.add_argument("--config", metavar="FILE", help="read the settings from this file")
    group.add_argument("--isolated", action="store_true", help="ignore every configuration file")
    group.add_argument("--no-cache", action="store_true", help="neither read nor write the cache")
    group.add_argument("--cache-dir", metavar="DIR", help="where to keep the cache")
    group.add_argument("-j", "--jobs", type=_jobs, default=0, metavar="N", help="processes (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Check, report, and say by the exit code whether there was anything."""
    stdin = output.standard_input(args)
    paths = args.paths or (["-"] if stdin else ["."])
    settings = config.load(
        [stdin[0] if path == "-" and stdin else path for path in paths], file=args.config, isolated=args.isolated
    )
    bar = Bar.for_terminal(args.quiet)
    options = Options(
        config=settings,
        select=_listed(args.select),
        ignore=_listed(args.ignore) or (),
        extend_select=_listed(args.extend_select) or (),
        extend_ignore=_listed(args.extend_ignore) or (),
        min_severity=args.min_severity,
        min_confidence=args.min_confidence,
        exclude=_listed(args.exclude),
        extend_exclude=_listed(args.extend_exclude) or (),
        force_exclude=args.force_exclude,
        respect_gitignore=args.respect_gitignore,
        baseline=args.baseline,
        update_baseline=args.update_baseline,
        cache=not args.no_cache,
        cache_dir=args.cache_dir,
        jobs=args.jobs,
        show_unresolved=args.show_unresolved,
        stdin=stdin,
        progress=bar,
        one_shot=args.one_shot,
    )
    if args.show_files:
        output.show_files(find_files(paths, options))
        return 0
    name = output.format_name(args, settings)
    if args.verify and not (args.fix or args.diff):
        raise CannotRun("--verify goes with --fix or --diff: it runs what they change")
    for given, option in ((args.unsafe_fixes, "--unsafe-fixes"), (args.show_fixes, "--show-fixes")):
        if given and not (args.fix or args.diff):
            raise CannotRun(f"{option} goes with --fix or --diff: without them nothing is mended")
    if args.fix or args.diff:
        return _mend(args, paths, options, name, bar)
    try:
        report = check_paths(paths, options)
    finally:
        if bar is not None:
            bar.close()
    if not args.quiet:
        _unread(args.paths, report)
    output.show(report, name, args, settings)
    return 1 if report.findings and not args.exit_zero else 0


def _mend(args: argparse.Namespace, paths: list[str], options: Options, name: str, bar: Bar | None) -> int:
    """Mend, or show what would be: 0 nothing (left) to do, 1 findings (or changes) left."""
    from lossproof.cli import fixes
    from lossproof.mend import mend

    for said in (args.format not in (None, "text"), "--format"), (args.output is not None, "--output"):
        if args.diff and said[0]:
            raise CannotRun(f"{said[1]} does not go with --diff, which prints a patch: check without it for a report")
    if options.update_baseline:
        raise CannotRun("--update-baseline does not go with --fix or --diff: mend first, then accept what is left")
    try:
        mended = mend(paths, options, unsafe=args.unsafe_fixes, verify=args.verify)
    finally:
        if bar is not None:
            bar.close()
    piped = (os.path.abspath(options.stdin[0]), options.stdin[1]) if options.stdin is not None else None
    left = fixes.show(mended, name, args, options.config, piped)
    return 1 if left and not args.exit_zero else 0


def _unread(paths: list[str], report: Report) -> None:
    """A warning for each file that is named and is no Python: what has nothing to do with training is not parsed."""
    if len(paths) > MOST_NAMED:
        return
    named = {os.path.abspath(path) for path in paths if path.endswith(".py") and os.path.isfile(path)}
    targets = [file for file in report.files if file.path in named]
    for file in targets:
        if any(warning.startswith(f"{file.display}: ") for warning in report.warnings):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(file.read(), file.display, "exec", ONLY_PARSED, dont_inherit=True)
        except SyntaxError as error:
            where = f" (line {error.lineno})" if error.lineno else ""
            report.warnings.append(f"{file.display}: not Python that this interpreter can read: {error.msg}{where}")
        except (OSError, ValueError, RecursionError, MemoryError):
            continue  # told elsewhere, or too odd to say something about


def _listed(values: list[str] | None) -> list[str] | None:
    """Options that may be repeated and may hold commas."""
    if values is None:
        return None
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


def _jobs(value: str) -> int:
    number = int(value)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number
