"""Run the examples of docs/graph.md and docs/balance.md and put what they print below them.

``python scripts/render_graph.py`` writes the files; ``--check`` writes nothing and exits 1 when an example prints
something else than a file says.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "graph.md"
TARGETS = (TARGET, ROOT / "docs" / "balance.md")
EXAMPLE = re.compile(r"<!-- (?P<name>\w+\.py) -->\n```python\n(?P<code>.*?)```\n```text\n(?P<printed>.*?)```\n", re.S)


def run(name: str, code: str) -> str:
    """What an example prints, as a script of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, name],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        printed = done.stdout.replace(str(Path(folder).resolve()) + os.sep, "").replace(folder + os.sep, "")
    return "".join(line.rstrip() + "\n" for line in printed.splitlines())


def rendered(text: str) -> str:
    def again(found: re.Match[str]) -> str:
        name, code = found["name"], found["code"]
        return f"<!-- {name} -->\n```python\n{code}```\n```text\n{run(name, code)}```\n"

    return EXAMPLE.sub(again, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is out of date")
    check = parser.parse_args().check
    stale = False
    for target in TARGETS:
        before = target.read_text(encoding="utf-8")
        after = rendered(before)
        if check:
            sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "file", "run"))
            stale = stale or before != after
        else:
            target.write_text(after, encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
