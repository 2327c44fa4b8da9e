"""The files for editors: well formed, and in step with the server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

EDITORS = Path(__file__).parent.parent / "editors"

# Stands in for VS Code and for the client library: says what the extension asks of them.
NODE = """
const Module = require("module");
const load = Module._load;
const asked = {};
const settings = { get: (name) => JSON.parse(process.argv[1])[name] };
const vscode = {
  workspace: { getConfiguration: () => settings },
  extensions: { getExtension: () => undefined },
  commands: { registerCommand: (name) => { asked.registered = name; return {}; } },
};
class LanguageClient {
  constructor(id, name, server, client) { Object.assign(asked, { id, server, client }); }
  async start() { asked.started = (asked.started || 0) + 1; }
  async stop() { asked.stopped = true; }
}
Module._load = (name, ...rest) =>
  name === "vscode" ? vscode : name === "vscode-languageclient/node" ? { LanguageClient } : load(name, ...rest);
const extension = require(process.argv[2]);
(async () => {
  await extension.activate({ subscriptions: [] });
  await extension.deactivate();
  console.log(JSON.stringify(asked));
})();
"""


@pytest.mark.parametrize("path", sorted(EDITORS.rglob("*.json")), ids=lambda path: path.parent.name + "/" + path.name)
def test_json_is_json(path: Path) -> None:
    assert json.loads(path.read_text()), "a file that says nothing"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_toml_is_toml() -> None:
    import tomllib

    extension = tomllib.loads((EDITORS / "zed" / "extension.toml").read_text())
    cargo = tomllib.loads((EDITORS / "zed" / "Cargo.toml").read_text())
    assert list(extension["language_servers"]) == ["lossproof"]
    assert extension["version"] == cargo["package"]["version"]


def test_the_settings_are_those_of_the_server() -> None:
    pytest.importorskip("pygls")
    from lossproof.lsp.settings import Settings, read

    package = json.loads((EDITORS / "vscode" / "package.json").read_text())
    offered = package["contributes"]["configuration"]["properties"]
    known = {each.name: each.default for each in fields(Settings)}
    for name, about in offered.items():
        short = name.removeprefix("lossproof.")
        if short == "command":
            continue
        default = tuple(about["default"]) if isinstance(about["default"], list) else about["default"]
        assert default == known[short]
    defaults = {name.removeprefix("lossproof."): about["default"] for name, about in offered.items()}
    assert read({"lossproof": defaults}) == (Settings(), [])
    documented = (EDITORS.parent / "docs" / "editors.md").read_text()
    assert [name for name in known if f"`{name}`" not in documented] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize(
    ("chosen", "server"),
    [([], {"command": "lossproof", "args": ["lsp"]}), (["py", "-m", "x"], {"command": "py", "args": ["-m", "x"]})],
)
def test_the_extension_starts_the_server(chosen: list[str], server: dict[str, object]) -> None:
    extension = EDITORS / "vscode" / "extension.js"
    command = ["node", "-e", NODE, json.dumps({"command": chosen}), str(extension)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    asked = json.loads(done.stdout)
    assert asked["server"] == server
    assert asked["started"] == 1
    assert asked["stopped"]
    assert asked["registered"] == "lossproof.restart"
    assert {each["language"] for each in asked["client"]["documentSelector"]} == {"python"}


@pytest.mark.skipif(shutil.which("nvim") is None, reason="needs Neovim")
def test_neovim_reads_its_file() -> None:
    command = ["nvim", "--headless", "--clean", "-c", f"luafile {EDITORS / 'neovim' / 'lossproof.lua'}", "-c", "qa"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.skipif(shutil.which("emacs") is None, reason="needs Emacs")
def test_emacs_reads_its_file() -> None:
    command = ["emacs", "--batch", "-Q", "-l", str(EDITORS / "emacs" / "lossproof.el")]
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0


def test_the_brackets_of_the_other_files_match() -> None:
    for path in (EDITORS / "emacs" / "lossproof.el", EDITORS / "neovim" / "lossproof.lua"):
        text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith((";", "--")))
        for first, last in ("()", "{}"):
            assert text.count(first) == text.count(last), path
