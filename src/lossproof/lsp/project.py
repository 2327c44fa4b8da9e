"""A folder that is checked again and again, with what the last check knew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from lossproof import cachedir, config
from lossproof.check import Options, Report, check_files, file_filter, find_files
from lossproof.finding import Location, Remedy
from lossproof.lsp.settings import Settings
from lossproof.mend import Change, mend
from lossproof.problem import CannotRun
from lossproof.source.discover import Discovery, SourceFile, admits, display
from lossproof.source.memory import Memory

# Without word from the editor about files that come and go, they are listed anew after so many seconds.
FRESH = 5.0
# Parsed files of so many checks are let go at once: to look for them takes as long as a check.
TIDY = 8


class Superseded(Exception):
    """A newer text made this check pointless."""


class Checked:
    """What a check of a project found, with what it saw."""

    def __init__(self, project: Project, report: Report, overlay: Mapping[str, bytes], versions: Mapping[str, int]):
        self.project = project
        self.report = report
        self.overlay = overlay
        self.versions = versions
        """Of the open files and cells, by address."""
        self._paths = {file.display: file.path for file in report.files}

    def path(self, shown: str) -> str:
        """The file that a finding names."""
        return self._paths.get(shown) or os.path.normpath(os.path.join(self.project.folder, shown))

    def data(self, shown: str) -> bytes:
        path = self.path(shown)
        return self.overlay[path] if path in self.overlay else SourceFile(path, shown).read()


class Project:
    """``loose``: nobody opened the folder, only files in it; then the findings are wanted for those alone."""

    def __init__(self, folder: str, settings: Settings, *, loose: bool = False) -> None:
        self.folder = folder
        self.loose = loose
        self.settings = settings
        self.watched = False
        """Whether the editor says when files come and go."""
        self.memory = Memory(fixes=False)
        # Fixes are worked out when somebody asks for them, not at every pause.
        self._fixing = Memory(parsed=self.memory.parsed)
        self._found: Discovery | None = None
        self._listed = 0.0
        self._options = Options()
        self._checks = 0
        self._stored = False

    @property
    def is_new(self) -> bool:
        """Nothing is known yet, so a check has to come to its end."""
        return self.memory.record is None

    def refresh(self) -> None:
        """Files may have come or gone, or the configuration may have changed."""
        self._found = None

    def check(
        self, overlay: Mapping[str, bytes], progress: Callable[[int, int], None] | None = None, *, fixes: bool = False
    ) -> Report:
        """Check the folder with the open files as they stand. ``CannotRun`` says what is wrong with the settings."""
        with _standing_in(self.folder):
            found = self._discovery(overlay)
            options = self._options
            options.progress = progress
            options.memory = self._fixing if fixes else self.memory
            report = check_files(lambda: found, options)
        for finding in report.findings:  # whoever shows them wants the lines
            for place in (finding.location, *finding.related):
                _ = report.texts[place.path]
        report.texts.release()
        self._checks += 1
        return report

    def remedies(
        self, overlay: Mapping[str, bytes], progress: Callable[[int, int], None]
    ) -> dict[tuple[str, Location], Remedy]:
        """How each finding can be mended, by its rule and place."""
        found = self.check(overlay, progress, fixes=True).findings
        return {(finding.rule, finding.location): finding.remedy for finding in found}

    def mended(self, overlay: Mapping[str, bytes], shown: str) -> list[Change]:
        """Every safe fix of one file's findings, made in memory."""
        options = Options(config=self._options.config, overlay=overlay)
        mended = mend(
            [self.folder],
            options,
            check=lambda tried: self.check(tried.overlay, fixes=True),
            only=lambda finding: finding.path == shown,
        )
        return mended.changes

    def save(self, progress: Callable[[int, int], None]) -> None:
        """Leave the answer in the cache folder, for the next start and for the command line."""
        try:
            self.check({}, progress, fixes=True)
        except (CannotRun, Superseded):
            return  # the next time
        self._stored = True
        folder = cachedir.prepare(self._options.cache_dir or cachedir.default())
        if self._found is not None and folder is not None:
            from lossproof import __version__
            from lossproof.source.cache import Cache

            with _standing_in(self.folder):
                self._fixing.save(Cache(folder, self._found.root, __version__))

    def rest(self, progress: Callable[[int, int], None]) -> None:
        """Tidy up while nobody waits."""
        self.memory.spent.clear()
        if not self._stored:
            self.save(progress)
        self._fixing.spent.clear()
        if self._checks >= TIDY:
            import gc

            self._checks = 0
            gc.collect()

    def _discovery(self, overlay: Mapping[str, bytes]) -> Discovery:
        """The files, with the open ones' texts; those that were never saved are among them."""
        if self._found is None or not (self.watched or time.monotonic() - self._listed < FRESH):
            self._read_settings()
            paths = [self.folder]
            if self.loose:
                paths = [path for path in overlay if os.path.exists(path)]
            found = find_files(paths, self._options) if paths else None
            self._found = found or Discovery(self.folder, [], [], [])
            self._listed = time.monotonic()
        known = self._found
        files = [SourceFile(file.path, file.display, overlay.get(file.path)) for file in known.files]
        targets = list(known.targets)
        there = {file.path for file in files}
        keep = None
        for path in sorted(overlay.keys() - there):
            keep = keep or file_filter(self._options)
            if self.loose or admits(path, self.folder, keep):
                files.append(SourceFile(path, display(path, self.folder), overlay[path]))
                targets.append(path)
        if len(files) > len(there):
            files.sort(key=lambda file: file.path)
        return Discovery(known.root, files, targets, known.warnings)

    def _read_settings(self) -> None:
        wanted = self.settings
        file = os.path.join(self.folder, wanted.config) if wanted.config else None
        self._options = Options(
            config=config.load([self.folder], file=file),
            select=wanted.select,
            ignore=wanted.ignore,
            min_severity=wanted.minSeverity,
            min_confidence=wanted.minConfidence,
            jobs=1,
            memory=self.memory,
        )


@contextmanager
def _standing_in(folder: str) -> Iterator[None]:
    """Findings are shown from here, as on the command line; so the two share their cache."""
    if os.path.isdir(folder):
        os.chdir(folder)
    yield
