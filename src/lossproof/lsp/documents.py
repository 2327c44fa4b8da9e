"""What is open in the editor: texts with the protocol's idea of lines, and notebooks as the files that they will be."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from lsprotocol import types
from pygls.uris import from_fs_path, to_fs_path
from pygls.workspace import TextDocument, Workspace

from lossproof.lsp.positions import Lines
from lossproof.source.texts import encoding


class Document(TextDocument):
    """A text. The base class takes a form feed for the end of a line, and an edit behind one would go astray."""

    def _apply_incremental_change(self, change: types.TextDocumentContentChangePartial) -> None:
        lines = Lines(self.source)
        unit = self.position_codec.encoding
        start, end = (lines.offset(place, unit) for place in (change.range.start, change.range.end))
        self._source = lines.text[:start] + change.text + lines.text[max(start, end) :]


@dataclass(frozen=True)
class Cell:
    """A cell of an open notebook, as it stands now."""

    uri: str
    code: bool
    text: str
    version: int | None


@dataclass(frozen=True)
class Opened:
    """A file that is open, as it stands now: its text, or its cells."""

    path: str
    uri: str
    version: int | None
    text: str
    cells: tuple[Cell, ...] | None = None


class Documents(Workspace):
    """All that is open."""

    @classmethod
    def of(cls, other: Workspace) -> Documents:
        """Take the place of what the library made when the editor said hello."""
        folders = list(other.folders.values())
        return cls(other.root_uri, types.TextDocumentSyncKind.Incremental, folders, other.position_encoding)

    def _create_text_document(
        self, doc_uri: str, source: str | None = None, version: int | None = None, language_id: str | None = None
    ) -> TextDocument:
        return Document(
            doc_uri,
            source=source,
            version=version,
            language_id=language_id,
            sync_kind=self._sync_kind,
            position_codec=self._position_codec,
        )

    @property
    def roots(self) -> list[str]:
        """The folders that are open."""
        uris = [folder.uri for folder in self.folders.values()] or ([self.root_uri] if self.root_uri else [])
        roots = [os.path.normpath(path) for path in map(to_fs_path, uris) if path]
        # Whoever opens all that they have did not mean to have all of it read.
        return [root for root in roots if root != os.path.expanduser("~") and os.path.dirname(root) != root]

    def document(self, uri: str) -> TextDocument | None:
        """A text that is open, be it a file or a cell."""
        found: TextDocument | None = self.text_documents.get(unquote(uri))
        return found

    def path(self, uri: str) -> str:
        """The file that an address means. What was never saved has a name in the first folder, and no file."""
        path = to_fs_path(uri)
        if path is not None:
            return os.path.normpath(path)
        name = "".join(letter if letter.isalnum() else "_" for letter in unquote(uri).partition(":")[2])
        home = self.roots[0] if self.roots else os.path.join(os.path.expanduser("~"), ".lossproof-unsaved")
        return os.path.join(home, f"unsaved_{name.removesuffix('_py').strip('_')}.py")

    def holder(self, uri: str) -> str:
        """The address of the notebook that a cell belongs to; any other address is its own."""
        notebook = self.get_notebook_document(cell_uri=uri)
        return notebook.uri if notebook is not None else uri

    def opened(self) -> list[Opened]:
        """The Python that is open."""
        found = [
            Opened(self.path(text.uri), text.uri, text.version, text.source)
            for text in self.text_documents.values()
            if self.get_notebook_document(cell_uri=text.uri) is None and _is_python(text)
        ]
        for notebook in self.notebook_documents.values():
            cells: list[Cell] = []
            for cell in notebook.cells:
                text = self.document(cell.document)
                code = cell.kind == types.NotebookCellKind.Code and (text is None or _is_python(text))
                cells.append(
                    Cell(
                        cell.document,
                        code,
                        text.source if text is not None else "",
                        text.version if text is not None else None,
                    )
                )
            path = self.path(notebook.uri)
            path = path if path.endswith(".ipynb") else path.removesuffix(".py") + ".ipynb"
            found.append(Opened(path, notebook.uri, notebook.version, "", tuple(cells)))
        return found


def _is_python(document: TextDocument) -> bool:
    return document.language_id == "python" or (not document.language_id and document.uri.endswith(".py"))


def uri_of(path: str) -> str:
    return str(from_fs_path(path))


def file_bytes(text: str) -> bytes:
    """What saving a text would write."""
    return text.encode(encoding(text[:400].encode("utf-8", "replace")), "replace")


def notebook_bytes(cells: Sequence[tuple[bool, str]]) -> bytes:
    """A notebook file of these cells: whether each is code, and its text."""
    written: list[dict[str, object]] = [
        {"cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        if code
        else {"cell_type": "markdown", "metadata": {}, "source": text}
        for code, text in cells
    ]
    return json.dumps({"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
