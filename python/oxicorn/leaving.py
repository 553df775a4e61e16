"""The end of a process while threads of it are still at work for requests or calls.

The interpreter's own end unwinds threads that come back to it meanwhile (CPython before 3.14).
Those that serve stand in native code, which cannot be unwound: the process would end with SIGABRT
or SIGSEGV, and leave a core.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

__all__ = ["leave_if_any_works"]


def leave_if_any_works(threads: Iterable[threading.Thread], code: int) -> None:
    """Ends this process with ``code`` if one of its ``threads`` still runs."""
    if any(thread.is_alive() for thread in threads):
        _leave(code)


def _leave(code: int) -> NoReturn:
    """What the interpreter does before it unwinds anything, in its order."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)
