"""The loop of the subprocess: a job from standard input, a line of JSON for each unit on what was standard output."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any


def main() -> None:
    """Read the job, take away what could do harm, run every unit."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    job = json.loads(sys.stdin.buffer.read())
    os.dup2(null, 0)

    def send(**record: Any) -> None:
        out.write(json.dumps(record) + "\n")
        out.flush()

    from lossproof.verify.worker import guard

    guard.limit(job["memory"], job["seconds"])
    try:
        import torch
    except ImportError as error:
        send(torch=f"{error}")
        return
    from lossproof.verify.worker import lean

    torch.set_num_threads(1)
    lean.install()
    from lossproof.verify.worker import trial
    from lossproof.verify.worker.imports import Side

    trial.SECONDS_A_CALL = min(trial.SECONDS_A_CALL, job["seconds"] / 40)
    tempfile.tempdir = job["scratch"]
    guard.install(job["scratch"])
    sides = (Side(job["before"], job["roots"]), Side(job["after"], job["roots"]))
    ran: set[str] = set(job["ran"])
    for unit in job["units"]:
        if unit["unless"] and all(ran.intersection(ids) for ids in unit["unless"]):
            continue
        send(started=unit["id"])
        try:
            result = trial.Trial(unit, sides).run()
        except MemoryError:
            result = {"status": "not run", "reason": "needs more memory than it may have"}
        except guard.TookTooLong:
            result = {"status": "not run", "reason": "takes too long"}
        except Exception as error:
            result = {"status": "not run", "reason": f"could not be tried ({type(error).__name__}: {error})"[:200]}
        if result["status"] == "ran":
            ran.add(unit["id"])
        send(unit=unit["id"], result=result)
    send(ended="")
    os._exit(0)  # whatever threads or handlers the code has left behind
