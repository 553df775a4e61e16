"""The pool of heavy applications (Gunicorn's ``gunicorn.dirty``): called from requests, run in
workers of their own.

``DirtyApp`` is what such an application derives from, ``get_dirty_client`` is how a request calls
it, ``stash`` is what all workers share.
"""

from __future__ import annotations

from oxicorn.dirty import stash
from oxicorn.dirty.app import DirtyApp
from oxicorn.dirty.arbiter import DirtyArbiter
from oxicorn.dirty.client import (
    DirtyClient,
    close_dirty_client,
    close_dirty_client_async,
    get_dirty_client,
    get_dirty_client_async,
    set_dirty_socket_path,
)
from oxicorn.dirty.errors import (
    DirtyAppError,
    DirtyAppNotFoundError,
    DirtyConnectionError,
    DirtyError,
    DirtyNoWorkersAvailableError,
    DirtyProtocolError,
    DirtyQueueFullError,
    DirtyTimeoutError,
    DirtyWorkerError,
)
from oxicorn.dirty.stash import (
    StashClient,
    StashConnectionError,
    StashError,
    StashFullError,
    StashKeyNotFoundError,
    StashTable,
    StashTableNotFoundError,
)

__all__ = [
    "DirtyApp",
    "DirtyAppError",
    "DirtyAppNotFoundError",
    "DirtyArbiter",
    "DirtyClient",
    "DirtyConnectionError",
    "DirtyError",
    "DirtyNoWorkersAvailableError",
    "DirtyProtocolError",
    "DirtyQueueFullError",
    "DirtyTimeoutError",
    "DirtyWorkerError",
    "StashClient",
    "StashConnectionError",
    "StashError",
    "StashFullError",
    "StashKeyNotFoundError",
    "StashTable",
    "StashTableNotFoundError",
    "close_dirty_client",
    "close_dirty_client_async",
    "get_dirty_client",
    "get_dirty_client_async",
    "set_dirty_socket_path",
    "stash",
]
