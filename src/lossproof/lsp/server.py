"""The language server: hears what is opened, typed and saved, and says what is found.

Checks run in one thread of their own, after a pause in typing; everything here runs in the main one. What goes wrong is
logged in the editor in one line, never as a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from lossproof import __version__
from lossproof.finding import Finding, Location, Remedy
from lossproof.lsp import actions
from lossproof.lsp.buffers import Buffers
from lossproof.lsp.diagnostics import UNUSED, Shown, diagnostics
from lossproof.lsp.documents import Documents, Opened
from lossproof.lsp.hover import hover
from lossproof.lsp.pauses import Pauses
from lossproof.lsp.places import Places, holds, overlaps
from lossproof.lsp.project import Checked, Project, Superseded
from lossproof.lsp.settings import Settings, read
from lossproof.problem import CannotRun
from lossproof.source.discover import project_root

F = TypeVar("F", bound=Callable[..., Any])

NOTEBOOKS = types.NotebookDocumentSyncOptions(
    notebook_selector=[
        types.NotebookDocumentFilterWithNotebook(
            notebook="jupyter-notebook", cells=[types.NotebookCellLanguage(language="python")]
        )
    ],
    save=True,
)
WATCHED = ("**/*.py", "**/*.ipynb", "**/pyproject.toml", "**/lossproof.toml", "**/.gitignore")
# An editor that asks what can be done here does not wait for the first look at a large project.
PATIENCE = 3.0


@dataclass
class Board:
    """What the last check of a project said."""

    places: Places
    shown: dict[str, list[Shown]]
    stale: set[str]
    remedies: dict[tuple[str, Location], Remedy] | None = None
    """How the findings can be mended, once somebody has asked."""

    def mendable(self, finding: Finding) -> Finding:
        """The finding with its fix, as far as that is known."""
        known = (self.remedies or {}).get((finding.rule, finding.location))
        return replace(finding, remedy=known) if known is not None else finding


class Server(LanguageServer):
    """One editor's server."""

    def __init__(self) -> None:
        super().__init__("lossproof", __version__, notebook_document_sync=NOTEBOOKS)
        self.settings = Settings()
        self.projects: dict[str, Project] = {}
        self.boards: dict[Project, Board] = {}
        self.buffers = Buffers()
        self.watched = False
        self._due: set[Project] = set()
        self._changed: set[str] = set()
        self._published: dict[Project, dict[str, list[types.Diagnostic]]] = {}
        self._pauses: Pauses | None = None
        self._said: set[str] = set()
        self._pushed: set[str] = set()
        self._to_save: set[Project] = set()

    # What is there, and what is to be checked.

    @property
    def documents(self) -> Documents:
        workspace = self.workspace
        assert isinstance(workspace, Documents)
        return workspace

    @property
    def pauses(self) -> Pauses:
        if self._pauses is None:
            self._pauses = Pauses(self._begin)
        return self._pauses

    def project_of(self, path: str) -> Project:
        """The innermost open folder that a file lies in; else the project around it."""
        around = [
            root for root in self.documents.roots if path == root or path.startswith(root.rstrip(os.sep) + os.sep)
        ]
        folder = max(around, key=len) if around else project_root([os.path.dirname(path)])
        project = self.projects.get(folder)
        if project is None or project.loose == bool(around):
            project = self.projects[folder] = Project(folder, self.settings, loose=not around)
            project.watched = self.watched and not project.loose
        return project

    def request(self, projects: Iterable[Project], seconds: float | None = None) -> None:
        self._due.update(projects)
        if self._due and self.settings.enable:
            self.pauses.request(self.settings.debounce / 1000 if seconds is None else seconds)

    def touched(self, uri: str, seconds: float | None = None, *, listed: bool = False) -> Project:
        """A text was changed, or opened or closed: ``listed``."""
        project = self.project_of(self.documents.path(self.documents.holder(uri)))
        self._changed.add(uri)
        if listed and project.loose:
            project.refresh()
        self.request([project], seconds)
        return project

    def configure(self, given: Any) -> None:
        self.settings, complaints = read(given)
        for complaint in complaints:
            self.tell(complaint)
        for project in self.projects.values():
            project.settings = self.settings
            project.refresh()
        if not self.settings.enable:
            for project in self.projects.values():
                self._publish(project, {}, set())
        self.request(self.projects.values(), 0.0)

    def open_folders(self) -> None:
        """Projects for the open folders, and none for those that were closed."""
        roots = self.documents.roots
        for folder, project in list(self.projects.items()):
            if not project.loose and folder not in roots:
                self._publish(project, {}, set())
                self.boards.pop(project, None)
                self._due.discard(project)
                del self.projects[folder]
        self.request((self.project_of(root) for root in roots), 0.0)

    # A check: begun here, done in the other thread, and its answer published here.

    def _begin(self) -> Callable[[Callable[[], bool]], Callable[[], None]]:
        opened: dict[Project, list[Opened]] = {}
        for file in self.documents.opened():
            opened.setdefault(self.project_of(file.path), []).append(file)
        due, self._due = self._due, set()
        changed, self._changed = self._changed, set()
        everything = [file for files in opened.values() for file in files]
        bar = Progress(self) if any(project.is_new for project in due) else None

        def job(too_late: Callable[[], bool]) -> Callable[[], None]:
            results: dict[Project, Checked | None] = {}
            stale: set[str] = set()
            problems: list[str] = []
            try:
                overlay, stale = self.buffers.overlay(everything)
                for project in due:
                    ours = {file.path: overlay[file.path] for file in opened.get(project, ())}
                    if project.loose and not ours:
                        results[project] = None
                        continue
                    step = _step(too_late if not project.is_new else lambda: self.pauses.closed, bar)
                    try:
                        report = project.check(ours, step)
                    except CannotRun as problem:
                        problems.append(str(problem))
                        continue
                    results[project] = Checked(project, report, ours, _versions(opened.get(project, ())))
            except Superseded:
                pass
            except Exception as error:
                problems.append(_fault(error))
            left = due - results.keys()
            return lambda: self._end(results, opened, stale, changed, problems, left if too_late() else set(), bar)

        return job

    def _end(
        self,
        results: dict[Project, Checked | None],
        opened: dict[Project, list[Opened]],
        stale: set[str],
        changed: set[str],
        problems: list[str],
        left: set[Project],
        bar: Progress | None,
    ) -> None:
        if bar is not None:
            bar.end()
        self._due |= left
        self._changed |= changed if left else set()
        for problem in problems:
            self.tell(problem)
        try:
            self._show(results, opened, stale, changed)
        except Exception as error:
            self.log(_fault(error))
        for project in results:
            if project in self._to_save:
                self._to_save.discard(project)
                self.pauses.later(functools.partial(project.save, _step(self.pauses.watch(), None)))
        for project in {*results, *left}:
            self.pauses.later(functools.partial(project.rest, _step(self.pauses.watch(), None)))

    def _show(
        self,
        results: dict[Project, Checked | None],
        opened: dict[Project, list[Opened]],
        stale: set[str],
        changed: set[str],
    ) -> None:
        for project, checked in results.items():
            if self.projects.get(project.folder) is not project:
                continue
            if checked is None:
                self.boards.pop(project, None)
                self._publish(project, {}, changed)
                continue
            files = {file.path: file for file in opened.get(project, ())}
            places = Places(checked, files, self.documents.position_encoding)
            board = Board(places, diagnostics(places, related=self._can_relate()), stale)
            self.boards[project] = board
            for warning in checked.report.warnings:
                self.log(warning, once=True)
            self._publish(project, self._visible(project, board), changed, board)

    def _visible(self, project: Project, board: Board) -> dict[str, list[types.Diagnostic]]:
        found = {uri: [each.diagnostic for each in shown] for uri, shown in board.shown.items()}
        if project.loose or self.settings.diagnostics == "open":
            visible = set(_versions(board.places.opened.values()))
            found = {uri: each for uri, each in found.items() if uri in visible}
        return found

    def _publish(
        self,
        project: Project,
        found: dict[str, list[types.Diagnostic]],
        changed: set[str],
        board: Board | None = None,
    ) -> None:
        """Send what is new: of the texts that changed, and of those of which something else is said now."""
        before = self._published.get(project, {})
        versions = board.places.checked.versions if board is not None else {}
        stale = board.stale if board is not None else set()
        now = {uri: found.get(uri, before.get(uri, [])) if uri in stale else each for uri, each in found.items()}
        for uri in stale & before.keys():
            now[uri] = before[uri]  # the editor moves them with the text until it is Python again
        self._published[project] = now
        others_changed = False
        for uri in sorted({*now, *before, *(changed & versions.keys())}):
            if uri in stale or (uri not in changed and now.get(uri, []) == before.get(uri, [])):
                continue
            if self.settings.pull and uri in versions:
                others_changed = others_changed or uri not in changed
                if uri in self._pushed:  # before it was opened
                    self._pushed.discard(uri)
                    self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
                continue
            self._pushed.add(uri)
            self.text_document_publish_diagnostics(
                types.PublishDiagnosticsParams(uri, now.get(uri, []), version=versions.get(uri))
            )
        if others_changed:
            self.workspace_diagnostic_refresh(None)

    def now_said(self, uri: str) -> list[types.Diagnostic]:
        """What was published of a text, or would have been."""
        return next((said[uri] for said in self._published.values() if uri in said), [])

    def board_of(self, uri: str) -> Board | None:
        """The last check that saw a text, if the text has not changed since."""
        project = self.project_of(self.documents.path(self.documents.holder(uri)))
        board = self.boards.get(project)
        document = self.documents.document(uri)
        if board is None or document is None or uri in board.stale:
            return None
        return board if board.places.checked.versions.get(uri) == document.version else None

    def save_soon(self, project: Project) -> None:
        self._to_save.add(project)

    def close(self) -> None:
        if self._pauses is not None:
            self._pauses.close()

    # What the editor can do, and what it is told.

    def _can_relate(self) -> bool:
        known = self.client_capabilities.text_document
        publishing = known.publish_diagnostics if known is not None else None
        return bool(publishing is not None and publishing.related_information)

    @property
    def has_versions(self) -> bool:
        """Whether edits may say which version of a text they are for."""
        known = self.client_capabilities.workspace
        return bool(known is not None and known.workspace_edit is not None and known.workspace_edit.document_changes)

    @property
    def can_resolve(self) -> bool:
        """Whether an edit may be made when the person has chosen it."""
        known = self.client_capabilities.text_document
        action = known.code_action if known is not None else None
        support = action.resolve_support if action is not None else None
        return support is not None and "edit" in support.properties and bool(action and action.data_support)

    def log(self, message: str, *, once: bool = False) -> None:
        if once and message in self._said:
            return
        self._said.add(message)
        self.window_log_message(types.LogMessageParams(types.MessageType.Warning, f"lossproof: {message}"))

    def tell(self, message: str) -> None:
        """Something that the person has to put right; said once, until it changes."""
        if message not in self._said:
            self._said.add(message)
            self.window_show_message(types.ShowMessageParams(types.MessageType.Warning, f"lossproof: {message}"))
        self.window_log_message(types.LogMessageParams(types.MessageType.Error, f"lossproof: {message}"))

    def report_server_error(self, error: Exception, source: Any) -> None:
        if not isinstance(error, JsonRpcException) or "not found" not in str(error).lower():
            self.log(_fault(error))


class Progress:
    """A first check takes as long as on the command line; the editor shows how far it is."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._token = f"lossproof-{uuid.uuid4()}"
        self._loop = asyncio.get_running_loop()
        self._open = False
        self._percent = 0
        window = server.client_capabilities.window
        if window is not None and window.work_done_progress:
            server.work_done_progress.create(self._token, lambda _: self._begin())

    def _begin(self) -> None:
        if self._percent >= 0:
            self._open = True
            begin = types.WorkDoneProgressBegin("lossproof", message="reading the project", percentage=0)
            self._server.work_done_progress.begin(self._token, begin)

    def report(self, done: int, total: int) -> None:
        """Called from the other thread; says something for every twentieth part."""
        percent = 100 * done // max(total, 1)
        if self._open and percent >= self._percent + 5:
            self._percent = percent
            step = types.WorkDoneProgressReport(message=f"{done} of {total} files", percentage=percent)
            self._loop.call_soon_threadsafe(self._server.work_done_progress.report, self._token, step)

    def end(self) -> None:
        if self._open:
            self._server.work_done_progress.end(self._token, types.WorkDoneProgressEnd())
        self._open, self._percent = False, -1


def _step(too_late: Callable[[], bool], bar: Progress | None) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> None:
        if too_late():
            raise Superseded
        if bar is not None:
            bar.report(done, total)

    return step


def _versions(opened: Iterable[Opened]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in opened:
        if file.cells is None:
            found[file.uri] = file.version
        else:
            found.update((cell.uri, cell.version) for cell in file.cells)
    return found


def _fault(error: BaseException) -> str:
    """A fault of ours in one line; where it is goes to the server's own error stream, if somebody wants to know."""
    if os.environ.get("LOSSPROOF_TRACEBACK"):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    return f"internal error: {type(error).__name__}: {error} (please report it)".replace("\n", " ")


def _guarded(handler: F) -> F:
    """A request that we stumble over gets an empty answer, and the log a line."""
    if asyncio.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def waiting(ls: Server, *arguments: Any) -> Any:
            try:
                return await handler(ls, *arguments)
            except Exception as error:
                ls.log(_fault(error))
                return None

        return waiting  # type: ignore[return-value]

    @functools.wraps(handler)
    def guarded(ls: Server, *arguments: Any) -> Any:
        try:
            return handler(ls, *arguments)
        except Exception as error:
            ls.log(_fault(error))
            return None

    return guarded  # type: ignore[return-value]


def make() -> Server:
    """A server with all that it listens to."""
    server = Server()

    def feature(name: str, options: Any = None) -> Callable[[F], F]:
        def register(handler: F) -> F:
            server.feature(name, options)(_guarded(handler))
            return handler

        return register

    @feature(types.INITIALIZE)
    def initialize(ls: Server, params: types.InitializeParams) -> None:
        ls.protocol._workspace = Documents.of(ls.protocol.workspace)
        ls.settings, complaints = read(params.initialization_options)
        for complaint in complaints:
            ls.tell(complaint)
        known = params.capabilities.text_document
        if ls.settings.pull and known is not None and known.diagnostic is not None:
            options = types.DiagnosticOptions(
                identifier="lossproof", inter_file_dependencies=True, workspace_diagnostics=False
            )
            feature(types.TEXT_DOCUMENT_DIAGNOSTIC, options)(pulled)
        else:
            ls.settings = replace(ls.settings, pull=False)

    @feature(types.INITIALIZED)
    def initialized(ls: Server, params: types.InitializedParams) -> None:
        known = ls.client_capabilities.workspace
        files = known.did_change_watched_files if known is not None else None
        if files is not None and files.dynamic_registration:
            watchers = [types.FileSystemWatcher(glob_pattern=pattern) for pattern in WATCHED]
            wanted = types.DidChangeWatchedFilesRegistrationOptions(watchers=watchers)
            registration = types.Registration("lossproof-files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, wanted)
            ls.client_register_capability(types.RegistrationParams([registration]), lambda _: None)
            ls.watched = True
        ls.open_folders()

    @feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
        ls.touched(params.text_document.uri, 0.0, listed=True)

    @feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(ls: Server, params: types.DidChangeTextDocumentParams) -> None:
        ls.touched(params.text_document.uri)

    @feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(ls: Server, params: types.DidSaveTextDocumentParams) -> None:
        ls.save_soon(ls.touched(params.text_document.uri))

    @feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
        ls.touched(params.text_document.uri, listed=True)

    @feature(types.NOTEBOOK_DOCUMENT_DID_OPEN)
    def notebook_opened(ls: Server, params: types.DidOpenNotebookDocumentParams) -> None:
        ls.touched(params.notebook_document.uri, 0.0, listed=True)
        ls._changed.update(cell.uri for cell in params.cell_text_documents)

    @feature(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def notebook_changed(ls: Server, params: types.DidChangeNotebookDocumentParams) -> None:
        ls.touched(params.notebook_document.uri)
        cells = params.change.cells
        for text in (cells.text_content or []) if cells is not None else []:
            ls._changed.add(text.document.uri)

    @feature(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def notebook_closed(ls: Server, params: types.DidCloseNotebookDocumentParams) -> None:
        ls.touched(params.notebook_document.uri, listed=True)

    @feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def files_changed(ls: Server, params: types.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            path = ls.documents.path(change.uri)
            project = ls.project_of(path)
            if change.type != types.FileChangeType.Changed or not path.endswith((".py", ".ipynb")):
                project.refresh()
            ls.request([project])

    @feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    def configured(ls: Server, params: types.DidChangeConfigurationParams) -> None:
        if params.settings:
            ls.configure(params.settings)

    @feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def folders_changed(ls: Server, params: types.DidChangeWorkspaceFoldersParams) -> None:
        ls.open_folders()
        ls.request(ls.project_of(file.path) for file in ls.documents.opened())

    @feature(types.TEXT_DOCUMENT_HOVER)
    def hovered(ls: Server, params: types.HoverParams) -> types.Hover | None:
        board = ls.board_of(params.text_document.uri)
        if board is None:
            return None
        for span, finding in _at(board, params.text_document.uri, params.position):
            text = hover(board.mendable(finding), board.places)
            content = types.MarkupContent(types.MarkupKind.Markdown, text)
            return types.Hover(content, span)
        return None

    kinds = types.CodeActionOptions(code_action_kinds=[actions.QUICK_FIX, actions.FIX_ALL], resolve_provider=True)

    @feature(types.TEXT_DOCUMENT_CODE_ACTION, kinds)
    async def offered(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction] | None:
        return await _offered(ls, params)

    @feature(types.CODE_ACTION_RESOLVE)
    async def chosen(ls: Server, action: types.CodeAction) -> types.CodeAction:
        uri = action.data.get("fixAll") if isinstance(action.data, dict) else None
        if isinstance(uri, str):
            action.edit = await _fix_all(ls, uri)
        return action

    async def pulled(ls: Server, params: types.DocumentDiagnosticParams) -> types.RelatedFullDocumentDiagnosticReport:
        await ls.pauses.settled(60.0)
        return types.RelatedFullDocumentDiagnosticReport(items=ls.now_said(params.text_document.uri))

    @feature(types.SHUTDOWN)
    async def shut_down(ls: Server, *_: Any) -> None:
        await ls.pauses.finish(PATIENCE)

    return server


def _at(board: Board, uri: str, position: types.Position) -> Iterable[tuple[types.Range, Finding]]:
    """The findings here, then those whose way comes through here."""
    for shown in board.shown.get(uri, ()):
        if shown.finding is not None and holds(shown.diagnostic.range, position):
            yield shown.diagnostic.range, shown.finding
    for finding in board.places.checked.report.findings:
        for hop in finding.related:
            if board.places.uri(hop) == uri and holds(span := board.places.range(hop), position):
                yield span, finding


async def _offered(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction] | None:
    only = params.context.only
    uri = params.text_document.uri
    found: list[types.CodeAction] = []
    if not await ls.pauses.settled(PATIENCE):
        return None
    board = ls.board_of(uri)
    if board is None:
        return None
    document = ls.documents.document(uri)
    here = [s for s in board.shown.get(uri, ()) if s.finding is not None and overlaps(s.diagnostic.range, params.range)]
    fixing = actions.wanted(actions.FIX_ALL, only) and (bool(here) or only is not None)
    if here or (fixing and board.shown.get(uri)):
        await _work_out_fixes(ls, board)
    if actions.wanted(actions.QUICK_FIX, only):
        for shown in board.shown.get(uri, ()):
            if not overlaps(shown.diagnostic.range, params.range):
                continue
            if shown.finding is not None:
                finding = board.mendable(shown.finding)
                found += actions.for_finding(shown, finding, board.places, versions=ls.has_versions)
            elif shown.diagnostic.code == UNUSED and document is not None:
                found.append(actions.remove_comment(shown, uri, document, versions=ls.has_versions))
    ours = [board.mendable(s.finding) for s in board.shown.get(uri, ()) if s.finding is not None]
    if fixing and any(finding.remedy.fixable == "safe" for finding in ours):
        title = "Fix all that lossproof can fix safely in this file"
        action = types.CodeAction(title, kind=actions.FIX_ALL, data={"fixAll": uri})
        if not ls.can_resolve:
            action.data, action.edit = None, await _fix_all(ls, uri) if only is not None else None
        if action.data or action.edit:
            found.append(action)
    return found


async def _work_out_fixes(ls: Server, board: Board) -> None:
    """Once for each text; newer text is more important."""
    if board.remedies is None:
        checked = board.places.checked
        step = _step(ls.pauses.watch(), None)
        with contextlib.suppress(Superseded):
            board.remedies = await ls.pauses.run(lambda: checked.project.remedies(checked.overlay, step))


async def _fix_all(ls: Server, uri: str) -> types.WorkspaceEdit | None:
    if not await ls.pauses.settled(PATIENCE):
        return None
    board = ls.board_of(uri)
    if board is None:
        return None
    checked = board.places.checked
    display = next((s.finding.path for s in board.shown.get(uri, ()) if s.finding is not None), None)
    if display is None:
        return None
    made = await ls.pauses.run(lambda: checked.project.mended(checked.overlay, display))
    try:
        edits = actions.changes(made, board.places)
    except actions.Impossible:
        return None
    return actions.workspace_edit(edits, ls.has_versions)
