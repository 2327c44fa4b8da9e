"""The command line as its users meet it: exit codes, streams, options, and no traceback whatever happens."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossproof import __version__
from lossproof.cli import main
from lossproof.cli.progress import Bar

FAULTS = "a = fault_LP101(x)\nb = fault_LP101(y)\nc = fault_LP301(x, 1)\n"


@pytest.fixture
def run(capsys, fake_engine):
    """Run a command; returns the exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def shell(code: str) -> subprocess.Popen[str]:
    """A process of its own that checks with the stand-in."""
    program = f"import sys, fake_engine; fake_engine.install(); from lossproof.cli import main\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__), "PYTHONUNBUFFERED": ""},
    )


# exit codes


def test_nothing_found_is_0(project, run):
    project({"t.py": "x = 1\n"})
    code, out, err = run("check")
    assert (code, err) == (0, "")
    assert out.startswith("All clean")


@pytest.mark.parametrize("source", ["fault_LP101(x)", "fault_LP301(x)", "fault_LP501(x)"])
def test_any_finding_is_1(project, run, source):
    project({"t.py": source})
    assert run("check")[0] == 1
    assert run("check", "--exit-zero")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "gone.py"], "gone.py: no such file or folder"),
        (["check", "--select", "LP777"], "unknown rule 'LP777'"),
        (["check", "--select", "LP9"], "The families are LP1, LP2"),
        (["check", "--select", "sigmoid-befor-bce"], "Did you mean sigmoid-before-bce"),
        (["check", "--baseline", "gone.json"], "gone.json: no such baseline"),
        (["check", "--update-baseline"], "--update-baseline needs --baseline"),
        (["check", "--config", "gone.toml"], "gone.toml: cannot read the configuration"),
        (["check", "--format", "yaml"], "invalid choice"),
        (["check", "--no-such-option"], "unrecognized arguments"),
        (["check", "-j", "-1"], "must not be negative"),
        (["check", "-j", "many"], "invalid"),
        (["check", "--statistics", "--format", "sarif"], "--statistics comes as text, concise or json"),
        (["check", "-o", "no/such/folder/out.txt"], "no/such/folder/out.txt: cannot write"),
        (["chek"], "unknown command 'chek'. Did you mean check?"),
        (["explain"], "name a rule"),
        (["explain", "LP777"], "unknown rule 'LP777'"),
        (["completion", "tcl"], "invalid choice"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_done_is_2(project, run, arguments, message):
    project({"t.py": FAULTS})
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_broken_file_does_not_stop_the_rest(project, run):
    project({"a.py": "x = (", "t.py": FAULTS})
    code, out, err = run("check", "--format", "json")
    assert code == 1
    assert len(json.loads(out)) == 3
    assert err == "warning: a.py: SyntaxError\n"


def test_version_and_help(run):
    assert run("--version") == (0, f"lossproof {__version__}\n", "")
    for arguments in ([], ["--help"], ["check", "--help"], ["explain", "-h"], ["completion", "-h"], ["clean", "-h"]):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert out.startswith("usage: lossproof")


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "lossproof", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"lossproof {__version__}\n")


# what goes where


@pytest.mark.parametrize("name", ["text", "concise", "json", "sarif", "github", "gitlab", "junit"])
def test_every_format_from_the_command_and_the_file(project, run, name):
    project({"t.py": FAULTS})
    code, out, _ = run("check", "--format", name)
    assert code == 1
    assert "LP301" in out
    project({"lossproof.toml": f'format = "{name}"'})

    def timeless(text):
        return re.sub(r'\d+\.\d+ s|time="[\d.]+"', "", text)

    assert timeless(run("check")[1]) == timeless(out)
    assert run("check", "--format", "concise")[1].startswith("t.py:1:5: LP101")


@pytest.mark.parametrize("name", ["json", "sarif", "gitlab", "junit", "github"])
def test_machine_formats_have_standard_output_to_themselves(project, run, name):
    project({"t.py": FAULTS + "d = 1  # lossproof: ignore[LP101]\nunknown(1)\n", "a.py": "x = ("})
    _, out, err = run("check", "--format", name, "-v", "--show-unresolved")
    assert "unused" in err
    assert "root: " in err
    if name == "json":
        json.loads(out)
        assert "t.py:5:1: not followed" in err
    assert "configuration: none" not in out


def test_a_report_in_a_file(project, run):
    root = project({"t.py": FAULTS})
    code, out, err = run("check", "-o", "report.txt")
    assert (code, out) == (1, "")
    assert err.startswith("Found 2 errors, 1 warning")
    assert "t.py:1:5  error LP101" in (root / "report.txt").read_text()
    assert run("check", "-q", "--format", "json", "-o", "report.json")[1:] == ("", "")
    assert len(json.loads((root / "report.json").read_text())) == 3
    assert run("check", "-o", "-", "--format", "concise")[1].startswith("t.py:1:5: LP101")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and links")
def test_a_report_replaces_the_old_one_whole(project, run):
    root = project({"t.py": FAULTS, "real.json": "old"})
    (root / "real.json").chmod(0o640)
    (root / "link.json").symlink_to("real.json")
    assert run("check", "--format", "json", "-o", "link.json")[0] == 1
    assert (root / "link.json").is_symlink()
    assert len(json.loads((root / "real.json").read_text())) == 3
    assert (root / "real.json").stat().st_mode & 0o777 == 0o640
    assert run("check", "-o", "/dev/null")[0] == 1
    assert sorted(path.name for path in root.iterdir() if path.name.startswith(".")) == []


def test_quiet_and_verbose(project, run):
    root = project({"t.py": "x = 1  # lossproof: ignore[LP101]\n", "a.py": "x = ("})
    assert run("check", "-q") == (0, "", "")
    _, _, err = run("check", "-v", "--no-cache")
    assert f"root: {root}\n" in err
    assert "configuration: none\ncache: none\nfiles: 3 checked, 3 seen, 2 parsed\n" in err


def test_statistics(project, run):
    project({"t.py": FAULTS})
    code, out, err = run("check", "--statistics")
    assert code == 1
    assert out == "2  LP101  error    sigmoid-before-bce\n1  LP301  warning  batch-level-overlap  (1 fixable)\n"
    assert err.startswith("Found 2 errors, 1 warning")
    counted = json.loads(run("check", "--statistics", "--format", "json")[1])
    assert [(row["rule"], row["count"]) for row in counted] == [("LP101", 2), ("LP301", 1)]


def test_show_files(project, run):
    project({"b/t.py": FAULTS, "a.ipynb": "{}", "build/x.py": ""})
    assert run("check", "--show-files") == (0, f"a.ipynb\n{os.path.join('b', 't.py')}\nsetup.py\n", "")
    assert run("check", "b", "--show-files")[1] == f"{os.path.join('b', 't.py')}\n"
    assert run("check", "--show-files", "--exclude", "b,setup.py")[1] == f"a.ipynb\n{os.path.join('build', 'x.py')}\n"


def test_show_unresolved(project, run):
    project({"t.py": "unknown(1)\n"})
    assert "Not followed: 1 value" in run("check", "--show-unresolved")[1]
    assert "Not followed" not in run("check")[1]
    project({"t.py": "x = 1\n"})
    assert "Every value on the way to a loss was followed." in run("check", "--show-unresolved")[1]


def test_selection_may_be_repeated_and_listed(project, run):
    project({"t.py": FAULTS})
    assert run("check", "--select", "LP2, LP3", "--select", "LP5", "--format", "concise")[1].count("\n") == 1
    assert run("check", "--ignore", "sigmoid-before-bce,LP3")[0] == 0
    assert run("check", "--min-severity", "error", "--ignore", "LP101")[0] == 0


def test_the_config_options(project, run):
    project({"t.py": FAULTS, "lossproof.toml": 'select = ["LP3"]', "other.toml": "ignore = ['ALL']"})
    assert run("check", "--format", "concise")[1].count("\n") == 1
    assert run("check", "--format", "concise", "--isolated")[1].count("\n") == 3
    assert run("check", "--config", "other.toml")[0] == 0


def test_a_baseline_from_the_command(project, run):
    project({"t.py": FAULTS})
    code, out, _ = run("check", "--baseline", "known.json", "--update-baseline")
    assert code == 0
    assert out.startswith("Wrote 3 findings to the baseline")
    code, out, _ = run("check", "--baseline", "known.json")
    assert code == 0
    assert "Not shown: 3 known to the baseline." in out
    project({"t.py": "a = fault_LP101(x)\n"})
    message = "2 entries of the baseline no longer match; refresh with --update-baseline."
    assert message in run("check", "--baseline", "known.json")[1]
    _, out, err = run("check", "--baseline", "known.json", "--format", "json")
    assert (json.loads(out), err) == ([], f"warning: {message}\n")


def test_unused_suppressions_are_warned_about(project, run):
    project({"t.py": "x = 1  # lossproof: ignore[LP101]\n"})
    code, out, err = run("check")
    assert code == 0
    assert err == "warning: t.py:1: unused suppression: LP101 is not found here\n"
    assert "1 suppression without effect." in out


# standard input


def piped(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["-"], "<stdin>"),
        (["-", "--stdin-filename", "sub/t.py"], "sub/t.py"),
        (["--stdin-filename", "sub/t.py"], "sub/t.py"),
    ],
)
def test_standard_input(project, run, monkeypatch, arguments, shown):
    project({"sub/t.py": "x = 1\n", "model.py": "cause_LP101(x)\n"})
    piped(monkeypatch, FAULTS.encode())
    code, out, _ = run("check", *arguments, "--format", "json")
    assert code == 1
    first = json.loads(out)[0]
    assert os.path.basename(first["path"]) == os.path.basename(shown)
    if shown != "<stdin>":
        assert first["related"][0]["path"] == "model.py"


def test_standard_input_as_a_notebook(project, run, monkeypatch):
    project()
    piped(monkeypatch, json.dumps({"cells": [{"cell_type": "code", "source": "fault_LP101(x)"}]}).encode())
    code, out, _ = run("check", "-", "--stdin-filename", "n.ipynb")
    assert code == 1
    assert "n.ipynb:cell 1:1:1  error LP101" in out
    assert "1 | fault_LP101(x)" in out.replace("\u2502", "|")


def test_standard_input_is_shown_as_it_was_piped(project, run, monkeypatch):
    project({"t.py": "something else entirely\n"})
    piped(monkeypatch, b"z = fault_LP101(piped)\n")
    assert "z = fault_LP101(piped)" in run("check", "-", "--stdin-filename", "t.py")[1]


# colours and terminals


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "environment", "terminal", "coloured"),
    [
        ([], {}, True, True),
        ([], {}, False, False),
        ([], {"NO_COLOR": "1"}, True, False),
        ([], {"NO_COLOR": ""}, True, True),
        ([], {"FORCE_COLOR": "1"}, False, True),
        ([], {"FORCE_COLOR": "0"}, False, False),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ([], {"TERM": "dumb"}, True, False),
        (["--color", "always"], {"NO_COLOR": "1"}, False, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colours(project, fake_engine, monkeypatch, arguments, environment, terminal, coloured):
    project({"t.py": FAULTS})
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["check", *arguments]) == 1
    assert ("\x1b[" in out.getvalue()) is coloured
    assert ("\x1b[" in _explained(monkeypatch, terminal, arguments)) is coloured


def _explained(monkeypatch, terminal: bool, arguments: list[str]) -> str:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["explain", "LP101", *arguments]) == 0
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_stream_that_cannot_say_everything(project, encoding):
    project({"t.py": "日本 = fault_LP101('ü')\n"})
    program = (
        "import sys, fake_engine; fake_engine.install(); from lossproof.cli import main; sys.exit(main(['check']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert ("日本" if encoding == "utf-8" else "\\u65e5") in done.stdout.decode(encoding)


def test_a_bar_appears_only_when_it_takes_long(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    bar = Bar.for_terminal(quiet=False)
    assert bar is not None
    bar(1, 10)
    assert sys.stderr.getvalue() == ""
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 2)
    bar(5, 10)
    bar.close()
    assert "5/10" in sys.stderr.getvalue()
    assert Bar.for_terminal(quiet=True) is None


def test_no_bar_without_a_terminal():
    assert Bar.for_terminal(quiet=False) is None


# being interrupted


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_is_130_without_a_traceback(project):
    project({"t.py": FAULTS})
    code = (
        "import time, lossproof.source as s\n"
        "def analyse(*a, **k): print('ready', flush=True); time.sleep(30)\n"
        "sys.modules['lossproof.source.engine'].analyse = analyse\n"
        "sys.exit(main(['check']))"
    )
    process = shell(code)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "lossproof: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
@pytest.mark.parametrize("name", ["text", "json", "concise"])
def test_a_reader_that_stops_early_is_no_error(project, name):
    project({"t.py": FAULTS * 3000})
    process = shell(f"sys.exit(main(['check', '--format', '{name}']))")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=20), err) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_is_2(project):
    project({"t.py": FAULTS})
    process = shell("sys.stdout = open('/dev/full', 'w'); sys.exit(main(['check']))")
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.splitlines()[-1]) == (2, "lossproof: no space left on device")
    assert "Traceback" not in err


def test_without_standard_streams_there_is_still_an_exit_code(project):
    project({"t.py": FAULTS + "x = 1  # lossproof: ignore[LP2]\n"})
    process = shell("sys.stdout = sys.stderr = None; sys.exit(main(['check']))")
    process.communicate(timeout=20)
    assert process.returncode == 1


def test_a_fault_of_ours_is_2_and_no_traceback(project, run, monkeypatch):
    project({"t.py": FAULTS})
    monkeypatch.setattr(sys.modules["lossproof.source.engine"], "analyse", lambda *a, **k: 1 / 0)
    code, out, err = run("check")
    assert (code, out) == (2, "")
    assert err.startswith("lossproof: internal error: ZeroDivisionError: division by zero")
    monkeypatch.setenv("LOSSPROOF_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["check"])


# the other commands


def test_explain(run):
    code, out, _ = run("explain", "LP101")
    assert code == 0
    assert out.startswith("# LP101 sigmoid-before-bce")
    assert run("explain", "Sigmoid-Before-BCE", "--format", "markdown")[1] == out
    record = json.loads(run("explain", "lp101", "--format", "json")[1])
    assert (record["code"], record["severity"]) == ("LP101", "error")
    assert record["page"].strip() == out.strip()


def test_explain_all(run):
    lines = run("explain", "--all")[1].splitlines()
    assert lines == sorted(lines)
    assert lines[0].split()[:3] == ["LP101", "error", "sigmoid-before-bce"]
    assert len(json.loads(run("explain", "--all", "--format", "json")[1])) == len(lines)
    assert len(json.loads(run("explain", "LP2", "--format", "json")[1])) == sum(
        line.startswith("LP2") for line in lines
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    code, out, _ = run("completion", shell)
    assert code == 0
    for word in ("check", "explain", "show-unresolved", "sarif"):
        assert word in out


def test_completion_without_its_library(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, _, err = run("completion", "bash")
    assert (code, err) == (2, "lossproof: completion needs shtab: pip install shtab\n")


def test_clean_removes_the_cache_and_nothing_else(project, run):
    root = project({"t.py": FAULTS, "mine/x.py": ""})
    run("check", "--cache-dir", "cache")
    assert sorted(path.name for path in (root / "cache").iterdir()) == [".gitignore", "CACHEDIR.TAG"]
    assert run("clean", "--cache-dir", "cache") == (0, "removed cache\n", "")
    assert not (root / "cache").exists()
    assert run("clean", "--cache-dir", "cache") == (0, "nothing to remove: cache\n", "")
    code, _, err = run("clean", "--cache-dir", "mine")
    assert code == 2
    assert "does not look like a cache" in err
    assert (root / "mine" / "x.py").exists()


def test_where_the_cache_is(project, run, tmp_path, monkeypatch):
    project({"t.py": "", "blocked": ""})
    monkeypatch.setenv("LOSSPROOF_CACHE_DIR", str(tmp_path / "own"))
    assert f"cache: {tmp_path / 'own'}\n" in run("check", "-v")[2]
    assert "cache: none\n" in run("check", "-v", "--no-cache")[2]
    assert "cache: none\n" in run("check", "-v", "--cache-dir", "blocked/sub")[2]
    assert Path(tmp_path / "own" / "CACHEDIR.TAG").exists()
