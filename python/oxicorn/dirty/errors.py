"""What can go wrong with a call, as the caller sees it: Gunicorn's classes with their attributes.

On the wire an error is ``{"error_type", "message", "details"}``; the class is found by its name, so
that an error of a remote process is caught by the class that it was raised as.
"""

from __future__ import annotations

import numbers
from typing import Any, Self

__all__ = [
    "CallCancelled",
    "DirtyAppError",
    "DirtyAppNotFoundError",
    "DirtyConnectionError",
    "DirtyError",
    "DirtyNoWorkersAvailableError",
    "DirtyProtocolError",
    "DirtyQueueFullError",
    "DirtyTimeoutError",
    "DirtyWorkerError",
]

#: Characters of what could not be understood that an error shows.
SHOWN = 200


class CallCancelled(BaseException):
    """Raised in an application's call that nobody waits for any more.

    Its caller has left or given up, or the call is over its time. No ``Exception``, so that a call
    that catches those ends all the same.
    """


class DirtyError(Exception):
    """The base of all of them."""

    #: Names of ``details`` that are attributes, too.
    _attributes: tuple[str, ...] = ()

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message}: {self.details}" if self.details else self.message

    def __reduce__(self) -> Any:
        return _restored, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """What goes over the wire."""
        name = type(self).__name__
        return {"error_type": name, "message": self.message, "details": self.details}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DirtyError:
        """The error that was sent as ``data``, of the class it names."""
        return _restored(data)

    @classmethod
    def _restore(cls, message: str, details: dict[str, Any]) -> Self:
        error = cls.__new__(cls)
        Exception.__init__(error, message)
        error.message = message
        error.details = details
        for name in cls._attributes:
            setattr(error, name, details.get(name))
        return error


def _restored(data: dict[str, Any]) -> DirtyError:
    kind = _classes(DirtyError).get(data.get("error_type", ""), DirtyError)
    details = data.get("details") or {}
    return kind._restore(str(data.get("message", "Unknown error")), details)


def _given(**details: Any) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value is not None}


class DirtyTimeoutError(DirtyError):
    """The call took too long; ``timeout``: how many seconds it was given."""

    _attributes = ("timeout",)

    def __init__(self, message: str = "Operation timed out", timeout: float | None = None) -> None:
        super().__init__(message, _given(timeout=timeout))
        self.timeout = timeout


class DirtyConnectionError(DirtyError):
    """The pool cannot be reached, or the connection was lost."""

    _attributes = ("socket_path",)

    def __init__(self, message: str = "Connection failed", socket_path: str | None = None) -> None:
        super().__init__(message, _given(socket_path=socket_path))
        self.socket_path = socket_path


class DirtyWorkerError(DirtyError):
    """The worker ended in the middle of the call; the message says how.

    ``worker_id`` is the pid it had.
    """

    _attributes = ("worker_id", "traceback")

    def __init__(
        self, message: str, worker_id: int | None = None, traceback: str | None = None
    ) -> None:
        super().__init__(message, _given(worker_id=worker_id, traceback=traceback))
        self.worker_id = worker_id
        self.traceback = traceback


class DirtyAppError(DirtyError):
    """The application raised an exception.

    ``message`` is its text, ``exception`` the name of its class (``builtins`` left out),
    ``traceback`` the traceback of the worker, as text.
    """

    _attributes = ("app_path", "action", "traceback", "exception")

    def __init__(
        self,
        message: str,
        app_path: str | None = None,
        action: str | None = None,
        traceback: str | None = None,
        exception: str | None = None,
    ) -> None:
        given = _given(app_path=app_path, action=action, traceback=traceback, exception=exception)
        super().__init__(message, given)
        self.app_path = app_path
        self.action = action
        self.traceback = traceback
        self.exception = exception


class DirtyAppNotFoundError(DirtyAppError):
    """The class of an application cannot be found."""

    def __init__(self, app_path: str) -> None:
        super().__init__(f"Dirty app not found: {app_path}", app_path=app_path)


class DirtyNoWorkersAvailableError(DirtyError):
    """No worker has the application, and none is about to."""

    _attributes = ("app_path",)

    def __init__(self, app_path: str, message: str | None = None) -> None:
        text = f"No workers available for app: {app_path}" if message is None else message
        super().__init__(text, {"app_path": app_path})
        self.app_path = app_path


class DirtyQueueFullError(DirtyNoWorkersAvailableError):
    """So many calls wait for the application that no more are taken (``dirty_queue_limit``)."""


class DirtyProtocolError(DirtyError):
    """What was to be sent, or was received, is none of the values that can be."""

    def __init__(self, message: str = "Protocol error", raw_data: object = None) -> None:
        shown = raw_data[: SHOWN // 2].hex() if isinstance(raw_data, bytes) else raw_data
        super().__init__(message, _given(raw_data=shown and str(shown)[:SHOWN]))


def shown(value: object) -> str:
    """``value`` for an error's message: a bounded part of its ``repr``."""
    try:
        return repr(value)[:SHOWN]
    except Exception:
        return f"<{type(value).__qualname__}>"


def seconds_of(value: object) -> float | None:
    """The number of seconds that ``value`` is, which may be infinite; None: it is no number."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return None if seconds != seconds else seconds


def _classes(kind: type[DirtyError]) -> dict[str, type[DirtyError]]:
    """It and all that derive from it, by their names; the server's own only."""
    found = {kind.__name__: kind}
    for each in kind.__subclasses__():
        if each.__module__.startswith("oxicorn."):
            found |= _classes(each)
    return found
