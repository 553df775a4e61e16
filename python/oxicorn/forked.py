"""The end of a process that the application, or a hook, forked off one of this server's.

Such a process may do what it likes while it runs the code that forked it. Where it would come back
to the server it ends, as one of ``multiprocessing`` would: exit code as of a program, threads that
are no daemons joined, standard streams flushed, then ``os._exit``, so that nothing the parent has
prepared for its own end (``atexit``) runs twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from oxicorn import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn

__all__ = ["Guard", "before_end", "end", "in_child", "own_process"]

#: Called in such a process as soon as it is one.
in_child: list[Callable[[], None]] = []
#: Called where such a process is about to end; does not return to who is not to end it.
before_end: list[Callable[[], None]] = []

_registered = False


def own_process() -> None:
    """This process is one of the server's, and so is what it forks by itself; nothing else is."""
    global _registered
    if not _registered:
        _registered = True
        os.register_at_fork(
            before=_native.before_fork,
            after_in_parent=_native.after_fork,
            after_in_child=_after_in_child,
        )
    _native.own_process()


def _after_in_child() -> None:
    try:
        if _native.let_go():
            for call in in_child:
                call()
    finally:
        _native.after_fork()


class Guard:
    """Around code of the user: a process that it forked does not leave this block."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _native.is_forked():
            end(self.log, error)


def end(log: Any, error: BaseException | None) -> NoReturn:
    """Ends this process; ``error`` is what it was left with, which goes to ``log``."""
    for call in before_end:
        call()
    code = 1
    try:
        code = _exit_code(log, error)
        _join_threads()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def _join_threads() -> None:
    threading = sys.modules.get("threading")
    if threading is None:
        return
    this = threading.current_thread()
    # They may start others. (`threading._shutdown` would also wait for the parent's executors.)
    while others := [
        each for each in threading.enumerate() if each is not this and not each.daemon
    ]:
        others[0].join()


def _exit_code(log: Any, error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        log.error("Exception in a process that the application forked", exc_info=error)
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        # As the system cuts it, instead of an OverflowError.
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
