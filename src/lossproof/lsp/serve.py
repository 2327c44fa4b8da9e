"""The server on this process's standard streams."""

from __future__ import annotations

import logging
import os
import sys

from lossproof.lsp.server import make


def serve() -> int:
    """Speak the protocol until the editor says goodbye or goes away. Nothing else gets to standard output."""
    logging.getLogger("pygls").setLevel(logging.CRITICAL)  # it logs every message, and tracebacks
    if not os.environ.get("LOSSPROOF_TRACEBACK"):
        logging.lastResort = None  # a traceback is for whoever asked for it
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    server = make()
    try:
        server.start_io(incoming, outgoing)
    finally:
        server.close()
    return 0
