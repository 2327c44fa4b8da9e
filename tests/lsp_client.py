"""A small language client: it starts the server as an editor does and speaks to it over standard input and output."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMEOUT = 90.0


class Client:
    """Every wait is for a message; nothing sleeps."""

    def __init__(self, *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lossproof", "lsp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
        self.received: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.diagnostics: dict[str, list[dict[str, Any]]] = {}
        self.versions: dict[str, int] = {}
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._number = 0
        self._folder: Path | None = None
        self._opened: set[str] = set()
        self.errors = b""
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._listen, self._overhear)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while True:
            length = 0
            while line := stream.readline().strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if not length:
                self._messages.put(None)
                return
            self._messages.put(json.loads(stream.read(length)))

    def _overhear(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        stream = self.process.stdin
        assert stream is not None
        stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        stream.flush()

    def notify(self, method: str, params: Any) -> None:
        self.send({"method": method, "params": params})

    def start(self, method: str, params: Any) -> int:
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        return self._number

    def request(self, method: str, params: Any = None) -> Any:
        number = self.start(method, params)
        answer = self.wait(lambda m: m.get("id") == number and "method" not in m)
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    def wait(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that fits; the others are taken note of, and requests of the server answered."""
        while True:
            message = self._messages.get(timeout=TIMEOUT)
            if message is None:
                raise AssertionError(f"the server went away: {self.errors.decode()}")
            self.received.append(message)
            if "method" in message and "id" in message:
                self.requests.append(message)
                self.send({"id": message["id"], "result": None})
            elif message.get("method") == "textDocument/publishDiagnostics":
                uri = message["params"]["uri"]
                self.diagnostics[uri] = message["params"]["diagnostics"]
                self.versions[uri] = message["params"].get("version")
            if fits(message):
                return message

    def published(self, uri: str, version: int | None = None) -> list[dict[str, Any]]:
        """The next diagnostics of a text (of a version of it)."""

        def fits(message: dict[str, Any]) -> bool:
            params = message.get("params") or {}
            return (
                message.get("method") == "textDocument/publishDiagnostics"
                and params["uri"] == uri
                and (version is None or params.get("version") == version)
            )

        found: list[dict[str, Any]] = self.wait(fits)["params"]["diagnostics"]
        return found

    def hello(self, *folders: Path, options: Any = None, encodings: list[str] | None = None, **text: Any) -> Any:
        capabilities: dict[str, Any] = {
            "workspace": {
                "workspaceEdit": {"documentChanges": True},
                "didChangeWatchedFiles": {"dynamicRegistration": True},
                "workspaceFolders": True,
            },
            "textDocument": {
                "publishDiagnostics": {"relatedInformation": True},
                "codeAction": {"dataSupport": True, "resolveSupport": {"properties": ["edit"]}},
                **text,
            },
            "notebookDocument": {"synchronization": {}},
            "window": {"workDoneProgress": True},
        }
        if encodings is not None:
            capabilities["general"] = {"positionEncodings": encodings}
        answer = self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": folders[0].as_uri() if folders else None,
                "workspaceFolders": [{"uri": folder.as_uri(), "name": folder.name} for folder in folders] or None,
                "capabilities": capabilities,
                "initializationOptions": {"debounce": 10, **(options or {})},
            },
        )
        self.notify("initialized", {})
        self._folder = folders[0] if folders else None
        return answer

    def enter(self, folder: Path) -> None:
        """Open another folder in place of this one, with the settings as they were in the beginning."""
        self.notify("workspace/didChangeConfiguration", {"settings": {"lossproof": {"debounce": 10}}})
        removed = [{"uri": self._folder.as_uri(), "name": "last"}] if self._folder is not None else []
        added = [{"uri": folder.as_uri(), "name": folder.name}]
        self.notify("workspace/didChangeWorkspaceFolders", {"event": {"added": added, "removed": removed}})
        self._folder = folder

    def close_all(self) -> None:
        for uri in self._opened:
            self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        self._opened.clear()

    def open(self, uri: str, text: str, language: str = "python") -> None:
        self._opened.add(uri)
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(self, uri: str, version: int, *changes: dict[str, Any]) -> None:
        self.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": version}, "contentChanges": list(changes)},
        )

    def actions(self, uri: str, diagnostic: dict[str, Any], only: list[str] | None = None) -> list[dict[str, Any]]:
        context: dict[str, Any] = {"diagnostics": [diagnostic] if "message" in diagnostic else []}
        if only is not None:
            context["only"] = only
        found = self.request(
            "textDocument/codeAction", {"textDocument": {"uri": uri}, "range": diagnostic["range"], "context": context}
        )
        return found or []

    def settle(self, uri: str) -> None:
        """Wait until all that was said so far has been checked."""
        self.actions(uri, {"range": at(0, 0)})

    def goodbye(self) -> int:
        self.request("shutdown")
        self.notify("exit", None)
        return self.process.wait(TIMEOUT)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(TIMEOUT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                with contextlib.suppress(OSError):
                    stream.close()


def at(line: int, start: int, end: int | None = None) -> dict[str, Any]:
    """A range within a line."""
    last = start if end is None else end
    return {"start": {"line": line, "character": start}, "end": {"line": line, "character": last}}
