"""Why a worker cannot serve: said in the error log, once for all workers, the user's code first.

A boot ends without a worker in many ways: an exception at import, ``sys.exit()`` in the module or
in a hook, a name that is not there. Each is one line with the reason, and a traceback where there
is one, without the frames of the server and of the import system that lead to the user's code
(``loglevel = "debug"`` keeps them). Workers that fail for the same reason say so in one line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from types import TracebackType

from oxicorn import _native, early_log
from oxicorn.errors import AppImportError, BootFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oxicorn.arbiter import Arbiter
    from oxicorn.config import Config
    from oxicorn.workers.base import Worker

__all__ = [
    "APP_LOAD_ERROR",
    "TEMPLATE_ERROR",
    "WORKER_BOOT_ERROR",
    "ToldReasons",
    "bounded",
    "comes_from_the_user",
    "end_in_time",
    "folded",
    "reason",
    "shown",
    "tell",
    "tell_preload",
]

#: Exit codes of a worker that could not boot, and of one whose application could not be loaded.
WORKER_BOOT_ERROR = 3
APP_LOAD_ERROR = 4
#: Exit code of a template whose application could not be loaded.
TEMPLATE_ERROR = 1
#: Seconds after which a reason is told in full again: people look at the end of a log.
REMEMBERED = 60.0
#: Characters of a reason that the log shows.
MOST_SAID = 16 * 1024
#: Seconds for the end of a process whose boot has failed: threads and exit handlers that the
#: application has left. What reports errors (Sentry) sends the last of them then.
END_PATIENCE = 5.0
#: Where the frames between the server and the user's code are.
_BETWEEN = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.join(os.path.dirname(os.__file__), "importlib", "__init__.py"),
)
#: Signals by which a worker that boots is told to go.
_STOPS = (signal.SIGQUIT, signal.SIGINT, signal.SIGTERM)
#: The part of the import system that stands between any two modules.
_FROZEN = "<frozen importlib"


class ToldReasons:
    """Which reasons were told already: memory that all workers of a server append to."""

    def __init__(self) -> None:
        self._fd = _nameless_file()
        # What is appended in one call is in the same order for all who read.
        fcntl.fcntl(self._fd, fcntl.F_SETFL, os.O_APPEND)
        self._since = time.monotonic()

    def forget(self) -> None:
        """Everything is told in full again: there is new code, or a new log."""
        self._since = time.monotonic()
        os.truncate(self._fd, 0)

    def forget_old(self) -> None:
        """The same, if it has been a while; called before a worker is forked."""
        if time.monotonic() - self._since > REMEMBERED:
            self.forget()

    def teller(self, text: str) -> int:
        """Pid of the worker that tells ``text`` in full: this one, unless another was first."""
        import binascii  # a worker that can boot needs it not

        mark = b"%08x " % binascii.crc32(text.encode("utf-8", "surrogateescape"))
        os.write(self._fd, b"%s%d\n" % (mark, os.getpid()))
        told = os.pread(self._fd, os.fstat(self._fd).st_size, 0).splitlines()
        pids = (line.removeprefix(mark) for line in told if line.startswith(mark))
        return int(next(pids, os.getpid()))


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("oxicorn-reasons")
    import tempfile  # where memory has no descriptors

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def tell(worker: Worker, error: BaseException) -> int:
    """Logs why ``worker`` cannot serve; the exit code that tells the arbiter."""
    # The others may end the server before this one has told.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPS}
    _unmute(worker.log)
    try:
        _tell(worker, error)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return _exit_code(error)


def _tell(worker: Worker, error: BaseException) -> None:
    log, text = worker.log, reason(error)
    teller = worker.told.teller(f"{text} {_place(error)}")
    if teller != worker.pid:
        log.error("%s (said in full by pid %s)", text, teller)
    elif isinstance(error, AppImportError):
        log.debug("Exception while loading the application", exc_info=error)
        log.error("%s", text)
    elif isinstance(error, BootFailed):
        cause = error.__cause__
        log.error("%s", bounded(str(error)), exc_info=cause and shown(cause, worker.cfg))
    else:
        log.error("%s", _headline(error), exc_info=shown(error, worker.cfg))
    if teller == worker.pid and not worker.has_predecessors:
        _tell_terminal(worker.cfg, text)


def tell_preload(server: Arbiter, error: BaseException) -> None:
    """Logs why the application cannot be loaded ahead of the workers."""
    log, text = server.log, reason(error)
    _unmute(log)
    if isinstance(error, AppImportError):
        log.debug("Exception while loading the application", exc_info=error)
        log.error("%s", text)
    else:
        exc_info = shown(error, server.cfg)
        headline = f": {text}" if isinstance(error, SystemExit) else ""
        log.error("Exception while loading the application%s", headline, exc_info=exc_info)
    if not server.has_reloaded:
        _tell_terminal(server.cfg, text)


def _unmute(log: Any) -> None:
    """Undoes what silences ``log`` in a process that has nothing more to say but this.

    ``logging.config.dictConfig`` disables every logger that it is not told of
    (``disable_existing_loggers``), and applications configure logging before they fail.
    """
    if not early_log.is_imported():
        return
    import logging

    logging.disable(logging.NOTSET)
    logger = getattr(log, "error_log", None)
    if logger is not None:
        logger.disabled = False


def end_in_time(cfg: Config, code: int) -> None:
    """This process, whose boot has failed, ends with ``code``, whatever the application has left.

    The interpreter's own end waits for threads that are no daemons, and for exit handlers.
    """
    patience = min(cfg.graceful_timeout or END_PATIENCE, END_PATIENCE)
    # Where there may be no more threads, `boot_timeout` ends it.
    with contextlib.suppress(OSError):
        _native.end_within(patience, code)


def _headline(error: BaseException) -> str:
    """What stands above the traceback; Gunicorn's words where it has some."""
    if isinstance(error, SystemExit):
        return f"Worker failed to boot: {reason(error)}"
    if is_not_found(error):
        return f"Exception in worker process (modules are looked for in {os.getcwd()})"
    return "Exception in worker process"


def is_not_found(error: BaseException) -> bool:
    """Whether the application's own module is not there: nobody's code but ours has imported it."""
    return isinstance(error, ModuleNotFoundError) and not _place(error)


def reason(error: BaseException) -> str:
    """``error`` in one line."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, (int, type(None))):
            return f"the application called sys.exit({'' if error.code is None else error.code})"
        return _said(error.code)
    text = _said(error).strip().partition("\n")[0]
    if isinstance(error, (AppImportError, BootFailed)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _said(value: object) -> str:
    """``value`` as text, in the words of tracebacks where its ``__str__`` raises."""
    try:
        return str(value)
    except Exception:
        return "<exception str() failed>"


def bounded(text: str) -> str:
    """``text`` as the log shows it: all of it, unless an application says a book."""
    left_out = len(text) - MOST_SAID
    return text if left_out <= 0 else f"{text[:MOST_SAID]}... ({left_out} characters left out)"


def shown(error: BaseException, cfg: Config) -> BaseException:
    """``error`` with the frames that the log shows."""
    return error if cfg.loglevel.lower() == "debug" else folded(error)


def folded(error: BaseException) -> BaseException:
    """``error`` without the frames that lead to the user's code, also those it was caused by."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = _without_ours(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and _file_of(trace).startswith((*_BETWEEN, _FROZEN)):
        trace = trace.tb_next
    kept = []
    while trace is not None:
        if not _file_of(trace).startswith(_FROZEN):
            kept.append(trace)
        trace = trace.tb_next
    rest: TracebackType | None = None
    for part in reversed(kept):
        rest = TracebackType(rest, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return rest


def _file_of(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename


def _place(error: BaseException) -> str:
    """Where in the user's code it was raised; empty: it does not come from there."""
    trace = _without_ours(error.__traceback__)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{_file_of(trace)}:{trace.tb_lineno}"


def comes_from_the_user(error: BaseException) -> bool:
    """Whether it was raised in the application, the config file or what they call."""
    return bool(_place(error))


def _tell_terminal(cfg: Config, text: str) -> None:
    """Whoever started the server in a terminal sees the reason there too, wherever the log goes."""
    if cfg.errorlog != "-" and not cfg.capture_output and sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, AppImportError):
        return APP_LOAD_ERROR
    if isinstance(error, SystemExit) and error.code == APP_LOAD_ERROR:
        return APP_LOAD_ERROR
    return WORKER_BOOT_ERROR
