"""An application in an actor of Ray: made and called there, in a process that is Ray's.

Calls give a pair: ``("value", result)``, ``("stream", None)``, ``("end", None)``,
``("error", fields)`` or ``("cancelled", None)``, so that what an application raises arrives as from
any other worker. A stream is asked for piece by piece, which makes its generator wait for who
reads, and which Ray's client can do, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from oxicorn import compat
from oxicorn.dirty import ray_values
from oxicorn.dirty.app import load_dirty_app, workers_attribute
from oxicorn.dirty.errors import CallCancelled
from oxicorn.dirty.worker import Runner, Streamed, described

__all__ = ["Host", "limits_of"]

Answer = tuple[str, Any]
#: Groups of threads of an actor: calls, and what is said to them meanwhile.
CALLS, CONTROL = "calls", "control"
#: Interrupted calls that are remembered until they come.
UNWANTED_KEPT = 256


def enter(paths: list[str], directory: str) -> None:
    """Makes this process one in which the applications' modules are found."""
    compat.install()
    sys.path[:0] = [path for path in paths if path not in sys.path]
    # On another machine it need not be there.
    with contextlib.suppress(OSError):
        os.chdir(directory)


def limits_of(app_paths: list[str], paths: list[str], directory: str, folds: bool) -> list[Answer]:
    """How many actors each class wants (attribute ``workers``); None: as many as there are."""
    enter(paths, directory)
    found: list[Answer] = []
    for path in app_paths:
        try:
            found.append(("value", workers_attribute(path)))
        except BaseException as error:
            found.append(("error", described(error, path, "init", folds)[1]))
    return found


class _Running:
    """A call that runs in a thread."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.cancelled = False


class Host:
    """See the head of this file."""

    def __init__(
        self, app_path: str, paths: list[str], directory: str, folds: bool, unpickles: bool
    ) -> None:
        enter(paths, directory)
        self._app_path = app_path
        self._folds = folds
        self._unpickles = unpickles
        self._runner = Runner()
        self._running: dict[int, _Running] = {}
        self._streams: dict[int, tuple[Iterator[Any], ray_values.Manner]] = {}
        #: Calls that were interrupted before they had begun.
        self._unwanted: deque[int] = deque(maxlen=UNWANTED_KEPT)
        self._lock = threading.Lock()
        #: Why the application cannot be called, as its callers are told.
        self._broken: dict[str, Any] | None = None
        self._app: Any = None
        try:
            self._app = load_dirty_app(app_path)
            self._app.init()
        except BaseException as error:
            # Raised from here it would be a text of Ray's.
            self._broken = described(error, app_path, "init", folds)[1]

    def ready(self) -> Answer:
        """Its process, and how many actors its class wants; the application is initialized."""
        if self._broken is not None:
            return "error", self._broken
        return "value", (os.getpid(), workers_attribute(self._app_path))

    def call(self, number: int, action: str, sealed: ray_values.Packed) -> Answer:
        """Runs a call; of a stream only its beginning."""

        def run() -> Answer:
            if self._broken is not None:
                return "error", self._broken
            args, kwargs, manner = ray_values.opened(sealed, self._unpickles)
            result = self._runner.run(self._app, action, args, kwargs, number)
            if isinstance(result, Streamed):
                self._streams[number] = result.iterator, manner
                return "stream", None
            return "value", ray_values.sealed("result", result, manner)

        return self._guarded(number, action, run)

    def piece(self, number: int, action: str) -> Answer:
        """The next piece of a stream."""

        def advance() -> Answer:
            pieces, manner = self._streams[number]
            for piece in pieces:
                return "value", ray_values.sealed("data", piece, manner)
            return "end", None

        answer = self._guarded(number, action, advance)
        if answer[0] != "value":
            # What failed first is told, not what closing it says.
            with contextlib.suppress(Exception):
                self.drop(number)
        return answer

    def drop(self, number: int) -> None:
        """Closes a stream that is not wanted any more: no interruption is meant for that."""
        stream, _ = self._streams.pop(number, (None, None))
        if stream is not None and hasattr(stream, "close"):
            stream.close()

    def interrupt(self, number: int) -> None:
        """Raises ``CallCancelled`` in a call, or keeps it from beginning."""
        if self._runner.cancel(number):
            return
        with self._lock:
            running = self._running.get(number)
            if running is None:
                self._unwanted.append(number)
            else:
                running.cancelled = True
                _raise_in(running.thread, CallCancelled)

    def close(self) -> None:
        """The application's own ``close``."""
        if self._broken is None:
            self._app.close()
        self._runner.stop()

    def _guarded(self, number: int, action: str, body: Callable[[], Answer]) -> Answer:
        try:
            with self._lock:
                running = self._running[number] = _Running()
                is_wanted = number not in self._unwanted
            try:
                return body() if is_wanted else ("cancelled", None)
            except BaseException as error:
                return self._failure(error, action)
            finally:
                # From here on nobody interrupts this thread for the call's sake.
                with self._lock:
                    self._running.pop(number, None)
                    if running.cancelled:
                        _raise_in(running.thread, None)
        except CallCancelled as error:
            # Between the two of them.
            self._running.pop(number, None)
            return self._failure(error, action)

    def _failure(self, error: BaseException, action: str) -> Answer:
        if isinstance(error, CallCancelled):
            return "cancelled", None
        return "error", described(error, self._app_path, action, self._folds)[1]


def _grouped() -> None:
    """Says which group of threads runs which method, as ``ray.method`` would.

    Here, because a call by Ray's client cannot say it; and without Ray, because processes that
    import this must be free of it.
    """
    for group, methods in {
        CALLS: (Host.call, Host.piece, Host.drop),
        CONTROL: (Host.ready, Host.interrupt, Host.close),
    }.items():
        for method in methods:
            vars(method)["__ray_concurrency_group__"] = group


_grouped()


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Raises at the thread's next bytecode; None: takes back what was not raised yet."""
    raised = ctypes.py_object(kind) if kind else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
