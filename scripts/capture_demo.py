"""Put the real output of ``make demo`` into the README, or check that it is still the real one.

The README shows what a newcomer will see, so nobody types it by hand::

    python scripts/capture_demo.py           # refresh
    python scripts/capture_demo.py --check   # exit 1 and show a diff when it is out of date
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=<!-- demo output -->\n).*?(?=<!-- /demo output -->)", re.DOTALL)
HEADER = re.compile(r"^\S+:\d+:\d+ +(?:error|warning|info) LP\d{3} ", re.MULTILINE)
SECONDS = re.compile(r"\b\d+(\.\d+)? m?s\b")


def capture() -> str:
    """Run the demo as a newcomer does, without a terminal; return the Markdown that shows it."""
    # The page must not depend on the colours, the width or the locale of whoever makes it.
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    environment.update(NO_COLOR="1", PYTHONUTF8="1")
    command = ["make", "--silent", "--no-print-directory", "demo"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    text = "$ make demo\n" + "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"
    headers = list(HEADER.finditer(text))
    if len(headers) < 2:
        return f"```console\n{text}```\n"
    # The first finding shows what a finding is; the others are there for whoever wants them.
    first, rest = text[: headers[1].start()].rstrip(), text[headers[1].start() :]
    summary = f"<details>\n<summary>and {len(headers) - 1} more</summary>\n"
    return f"```console\n{first}\n```\n\n{summary}\n```console\n{rest}```\n\n</details>\n"


def without_timings(text: str) -> list[str]:
    """The lines to compare: two runs never take the same time."""
    return SECONDS.sub("0 s", text).splitlines(keepends=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the README is out of date")
    check: bool = parser.parse_args().check

    readme = README.read_text(encoding="utf-8")
    block = BLOCK.search(readme)
    if block is None:
        print(f"{README.name} has no block <!-- demo output --> … <!-- /demo output -->", file=sys.stderr)
        return 2
    captured = capture()
    shown, real = without_timings(block[0]), without_timings(captured)
    if shown == real:
        return 0
    if check:
        sys.stderr.writelines(difflib.unified_diff(shown, real, "README.md", "make demo"))
        print("\nREADME.md is out of date: run python scripts/capture_demo.py", file=sys.stderr)
        return 1
    README.write_text(BLOCK.sub(lambda _: captured, readme), encoding="utf-8")
    print("README.md refreshed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
