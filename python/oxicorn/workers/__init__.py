"""The worker classes oxicorn brings."""

from __future__ import annotations

import importlib

from oxicorn import compat
from oxicorn.errors import ConfigError

__all__ = ["DIRECT_WORKERS", "SUPPORTED_WORKERS", "worker_class"]

#: Alias -> import path (setting ``worker_class``).
SUPPORTED_WORKERS = {
    "sync": "oxicorn.workers.sync.SyncWorker",
    "gthread": "oxicorn.workers.gthread.ThreadWorker",
    "gevent": "oxicorn.workers.ggevent.GeventWorker",
    "asgi": "oxicorn.workers.asgi.AsgiWorker",
    "tornado": "oxicorn.workers.gtornado.TornadoWorker",
}
#: The same for those that accept connections themselves.
DIRECT_WORKERS = {
    "gevent_pywsgi": "oxicorn.workers.ggevent.GeventPyWSGIWorker",
}


def worker_class(name: str) -> type:
    """The class for an alias; ConfigError names the choices."""
    if name not in SUPPORTED_WORKERS:
        known = ", ".join(SUPPORTED_WORKERS)
        raise ConfigError(f"class uri {name!r} invalid or not found: use one of {known}")
    module, _, attribute = SUPPORTED_WORKERS[name].rpartition(".")
    loaded = importlib.import_module(module)
    compat.introduce()  # Who waits for the module may put another class in it.
    found: type = getattr(loaded, attribute)
    return found
