"""Loads the application in a process of its own: whatever it does to that process can be said.

An import may hang, end the process (``os._exit``, a segfault in an extension) or leave threads
behind that never end. None of these keeps ``--check-config`` from its answer.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import select
import signal
import sys
from collections.abc import Callable

__all__ = ["try_out"]

#: What the process writes when the attempt is over: whether it went well.
_WELL, _BADLY = b"1", b"0"
#: Exit code of a process whose way to answer is closed.
_CLOSED = 124
#: Exit code after Ctrl-C, as shells have it.
_INTERRUPTED = 130
#: Seconds in which a process that hangs writes down where, before it is killed.
_LAST_WORDS = 5.0


def try_out(attempt: Callable[[], bool], limit: float) -> tuple[bool, str]:
    """Runs ``attempt`` in a child process: whether it returned True, or why there is no answer.

    ``limit`` is in seconds, 0 for none. A process that hangs beyond it, or that a signal ends,
    writes the stacks of its threads to standard error. The reason is empty where the attempt came
    to its end.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    result, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(result)
        _run(attempt, told)
    os.close(told)
    with contextlib.closing(os.fdopen(result, "rb", buffering=0)) as answer:
        try:
            in_time = _wait(pid, limit)
        except KeyboardInterrupt:
            # The child got it as well, and shows where it stood.
            _wait(pid, _LAST_WORDS)
            os.kill(pid, signal.SIGKILL)
            sys.exit(_INTERRUPTED)
        if not in_time:
            print(
                f"Error: the application was not loaded after {limit:g} s (boot_timeout). "
                "It stands here:",
                file=sys.stderr,
                flush=True,
            )
            os.kill(pid, signal.SIGABRT)
            if not _wait(pid, _LAST_WORDS):
                os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # Only of what was said before: who holds the other end may have outlived the process.
        os.set_blocking(answer.fileno(), False)
        said = answer.read(1)
    if not in_time:
        return False, "it hangs"
    if said in (_WELL, _BADLY):
        return said == _WELL, ""
    return False, _fate(code)


def _run(attempt: Callable[[], bool], told: int) -> None:
    # What the application does to the standard streams does not keep the stacks from being seen.
    with contextlib.suppress(OSError):
        faulthandler.enable(os.dup(2))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer, pid = _BADLY, os.getpid()
    try:
        answer = _WELL if attempt() else _BADLY
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        if os.getpid() != pid:
            # Forked by the application: it has no part in the answer.
            os._exit(1)
        try:
            os.write(told, answer)
        except OSError:
            # The application has closed it, with all descriptors it does not know.
            os._exit(_CLOSED)
        # Not by the interpreter's end, which waits for threads that the application has started.
        os._exit(0)


def _wait(pid: int, limit: float) -> bool:
    """Whether the process has ended within ``limit`` seconds (0: however long it takes)."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], limit or None)[0])
    finally:
        os.close(descriptor)


def _fate(code: int) -> str:
    if code == _CLOSED:
        return "it closes descriptors that are not its own, so no worker could serve it"
    if code >= 0:
        return f"it ended the process with code {code} (os._exit?)"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the process was ended by {name}"
