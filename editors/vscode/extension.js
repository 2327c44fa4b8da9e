// Starts `lossproof lsp` and lets it speak: everything else is in the server.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

/** The command of the settings, else the module in the selected interpreter, else what is on the PATH. */
async function command() {
  const chosen = vscode.workspace.getConfiguration("lossproof").get("command") || [];
  if (chosen.length > 0) {
    return { command: chosen[0], args: chosen.slice(1) };
  }
  const python = vscode.extensions.getExtension("ms-python.python");
  if (python) {
    const api = await python.activate();
    const environment = await api?.environments?.resolveEnvironment(api.environments.getActiveEnvironmentPath());
    const interpreter = environment?.executable?.uri?.fsPath;
    if (interpreter && (await hasLossproof(interpreter))) {
      return { command: interpreter, args: ["-m", "lossproof", "lsp"] };
    }
  }
  return { command: "lossproof", args: ["lsp"] };
}

function hasLossproof(interpreter) {
  const { execFile } = require("child_process");
  return new Promise((resolve) => {
    execFile(interpreter, ["-c", "import lossproof, pygls"], (error) => resolve(!error));
  });
}

async function start() {
  client = new LanguageClient("lossproof", "lossproof", await command(), {
    documentSelector: [
      { language: "python", scheme: "file" },
      { language: "python", scheme: "untitled" },
      { language: "python", scheme: "vscode-notebook-cell" },
    ],
    initializationOptions: vscode.workspace.getConfiguration("lossproof"),
    synchronize: { configurationSection: "lossproof" },
  });
  await client.start();
}

async function stop() {
  const old = client;
  client = undefined;
  await old?.stop();
}

exports.activate = async (context) => {
  const restart = async () => {
    await stop();
    await start();
  };
  context.subscriptions.push(vscode.commands.registerCommand("lossproof.restart", restart));
  await start();
};

exports.deactivate = stop;
