"""Starts a server that has no command of its own: serve_inline.py KIND PORT WORKERS MODULE:CALLABLE THREADS [CERTIFICATE KEY].

KIND is floor, decoupled, bjoern or tornado; the floor alone speaks TLS, with CERTIFICATE and KEY.

The application is imported from the current directory, once, and inherited by the other workers; each worker listens
for itself on the same port (SO_REUSEPORT). TERM to the first process ends all of them.
"""

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

FLOOR = Path(__file__).resolve().parent.parent / "floor" / "target" / "release"
PR_SET_PDEATHSIG = 1


def serve(kind: str, application: Callable[..., object], port: int, workers: int, threads: int) -> None:
    if kind in ("floor", "decoupled"):
        sys.path.insert(0, str(FLOOR))
        import floor

        if kind == "decoupled":
            floor.serve_decoupled(application, port, workers > 1, threads)
        else:
            floor.serve(application, port, workers > 1, *sys.argv[6:])
    elif kind == "tornado":
        serve_tornado(application, port)
    else:
        import bjoern

        bjoern.run(application, "127.0.0.1", port, reuse_port=workers > 1)


def serve_tornado(application: Callable[..., object], port: int) -> None:
    """As Tornado's documentation runs it."""
    import asyncio

    async def listen() -> None:
        application.listen(port, "127.0.0.1")  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    asyncio.run(listen())


def main() -> None:
    kind, target = sys.argv[1], sys.argv[4]
    port, workers, threads = (int(sys.argv[place]) for place in (2, 3, 5))
    sys.path.insert(0, os.getcwd())
    module, _, name = target.partition(":")
    application = getattr(importlib.import_module(module), name)
    # Neither server returns to Python to handle a signal in time: the operating system ends the processes.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for _ in range(workers - 1):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            break
    serve(kind, application, port, workers, threads)


main()
