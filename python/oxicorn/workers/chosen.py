"""Which class the workers are of: what setting ``worker_class`` names, and what that means here.

A class of the user's runs if it derives from one of ours, under whatever name it knows that. One
that overrides what nothing calls here is refused with the names. One that derives from the base
class alone, or whose ``run()`` does not go on to ours, has a server of its own: it is given the
listening sockets, as Gunicorn does (*direct mode*).
"""

from __future__ import annotations

import importlib
import re

from oxicorn import unused, util
from oxicorn.errors import ConfigError
from oxicorn.workers import DIRECT_WORKERS, SUPPORTED_WORKERS, worker_class
from oxicorn.workers.base import DIRECT, Worker
from oxicorn.workers.base_async import AsyncWorker
from oxicorn.workers.finding import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oxicorn.config import Config

__all__ = ["Chosen", "about", "choose", "kind_for", "settled"]

#: uvicorn's classes, by the modules they are found in.
UVICORN_MODULES = ("uvicorn.workers", "uvicorn_worker", "uvicorn_worker._workers")
UVICORN_CLASSES = ("UvicornWorker", "UvicornH11Worker")

AS_THREADS = "set worker_class to gthread, and threads to how many requests run at a time"
#: What to set instead of a class with a server of its own, by the package it comes from.
INSTEAD = {
    "eventlet": AS_THREADS,
    "meinheld": "set worker_class to sync or gthread",
    "sanic": "Sanic speaks ASGI: set worker_class to asgi",
    "uvicorn": "set worker_class to asgi",
}
#: What the log calls an application, and the class for it, where it is not WSGI's.
SAID = {Finding.TORNADO: "is Tornado's"}
KINDS = {Finding.ASGI: "asgi", Finding.TORNADO: "tornado"}
OWN_RUN = (
    "derive it from gunicorn.workers.base.Worker and accept from self.sockets, or leave run() alone"
)
IMPORT_LATER = "import it in the module of the class, not in sitecustomize or a .pth file"
DEFAULT_ADVICE = (
    "derive it from SyncWorker, ThreadWorker or GeventWorker for WSGI, from AsgiWorker for ASGI, "
    "from gunicorn.workers.base.Worker with a run() of its own for a server of its own, "
    "or set worker_class to sync, gthread, gevent or asgi"
)


class Chosen:
    """The class, the kind of worker it is, and what there is to tell about it."""

    def __init__(self, worker: type, kind: str, notes: list[str]) -> None:
        self.worker = worker
        #: ``sync``, ``gthread``, ``gevent``, ``asgi``, or ``direct``: the class accepts connections
        #: itself.
        self.kind = kind
        #: A line each, for the log.
        self.notes = notes


def choose(cfg: Config) -> Chosen:
    """Loads the class of ``worker_class`` and puts in force what it means for other settings.

    ConfigError or RuntimeError: it cannot be used; the text says what to set instead.
    """
    name, said = cfg.worker_class_str, cfg.get("worker_class")
    if name in SUPPORTED_WORKERS:
        alias = _uvicorn_alias(said)
        worker = _uvicorns(alias) if alias is not None else worker_class(name)
        return _finish(cfg, worker, name, [])
    found = _load(name, DIRECT_WORKERS.get(name, said))
    if hasattr(found, "setup"):
        found.setup()
    ancestor = _ancestor(found)
    if ancestor is not None:
        kind, base = ancestor
        if getattr(found, "server_class", None) is not None:
            return _direct(cfg, name, found)
        if _replaces_run(found, base):
            _check_run(name, found, base)
            return _direct(cfg, name, found)
        _check_overrides(name, found, base)
        return _finish(cfg, found, kind, [])
    original = _uvicorn_ancestor(found)
    if original is None and _has_server(found):
        if issubclass(found, AsyncWorker):
            _check_run(name, found, AsyncWorker)
        return _direct(cfg, name, found)
    if original is None:
        raise ConfigError(_refusal(name, found))
    # It was imported before Gunicorn's names led here, and has the real Gunicorn below it.
    _check_unlike(name, found)
    stand_in = type(found.__name__, (_uvicorns(original),), {"CONFIG_KWARGS": found.CONFIG_KWARGS})
    notes = [f"worker_class: {name} is served by oxicorn's own asgi worker, with its CONFIG_KWARGS"]
    return _finish(cfg, stand_in, "asgi", notes)


def _load(name: str, said: Any) -> Any:
    try:
        return util.load_class(said, what="worker_class")
    except RuntimeError as error:
        advice = _advice(re.split("[^a-z0-9]", name.lower()))
        if advice is None:
            raise
        raise RuntimeError(f"{error}: {advice}") from error


def _advice(words: Iterable[str]) -> str | None:
    known = set(words)
    return next((INSTEAD[word] for word in INSTEAD if word in known), None)


def _ancestor(found: Any) -> tuple[str, type] | None:
    """The nearest of our classes that it derives from, and the kind of worker that is."""
    kinds = {path: kind for kind, path in SUPPORTED_WORKERS.items()}
    for base in getattr(found, "__mro__", ()):
        if kind := kinds.get(f"{base.__module__}.{base.__qualname__}"):
            return kind, base
    return None


def _replaces_run(worker: type, base: type) -> bool:
    """Whether its ``run()`` takes the place of ours: one that goes on to it names it."""
    for cls in worker.__mro__[: worker.__mro__.index(base)]:
        if run := vars(cls).get("run"):
            code = getattr(run, "__code__", None)
            return code is not None and "run" not in code.co_names
    return False


def _has_server(found: Any) -> bool:
    """Whether it is a class that serves by itself, on Gunicorn's base class."""
    return isinstance(found, type) and issubclass(found, Worker) and found.run is not Worker.run


def _direct(cfg: Config, name: str, worker: type) -> Chosen:
    """A class with a server of its own."""
    cfg.native.serve_as(DIRECT)
    note = (
        f"worker_class: {name} accepts connections itself, so limits, timeouts and logs of "
        f"requests are as it has them"
    )
    return Chosen(worker, DIRECT, [note])


def settled(cfg: Config, kind: str) -> Chosen:
    """What ``choose`` gives where nobody has chosen and the application has decided."""
    return _finish(cfg, worker_class(kind), kind, [])


def about(finding: Finding, cfg: Config, uri: str) -> str:
    """What there is to tell about an application that the worker class does not serve.

    ``uri``: how the application was named.
    """
    if finding is Finding.FACTORY:
        module, _, name = uri.partition(":")
        name = f"{module}:{name or 'application'}()"
        return f"The application {uri} takes no arguments, as what makes one does: name it {name}"
    said = "The application " + SAID.get(finding, f"speaks {finding.name}")
    if not cfg.native.is_set("worker_class"):
        return f"{said}: worker class {kind_for(finding, cfg)} serves it (worker_class is not set)"
    instead = {
        Finding.ASGI: "set worker_class to asgi",
        Finding.TORNADO: "set worker_class to tornado",
        Finding.WSGI: "set worker_class to gthread or sync, or wrap it in a2wsgi.WSGIMiddleware",
    }
    asked = cfg.worker_class_str
    return f"{said}, which worker_class {asked} does not serve: {instead[finding]}"


def kind_for(finding: Finding, cfg: Config) -> str:
    """The class for an application where nobody has chosen one."""
    return KINDS.get(finding) or cfg.native.effective_worker_class()


def _finish(cfg: Config, worker: type, kind: str, notes: list[str]) -> Chosen:
    cfg.native.serve_as(kind)
    if hasattr(worker, "CONFIG_KWARGS"):
        from oxicorn.workers.uvicorn import translate

        notes = [*notes, *translate(worker, cfg)]
    return Chosen(worker, kind, notes)


def _uvicorn_alias(said: Any) -> str | None:
    """The name of uvicorn's class that a text means."""
    module, _, name = said.rpartition(".") if isinstance(said, str) else ("", "", "")
    return name if module in UVICORN_MODULES and name in UVICORN_CLASSES else None


def _uvicorn_ancestor(found: Any) -> str | None:
    for base in getattr(found, "__mro__", ()):
        if base.__module__ in UVICORN_MODULES and base.__name__ in UVICORN_CLASSES:
            return str(base.__name__)
    return None


def _check_unlike(name: str, worker: type) -> None:
    """Refuses a class of uvicorn's own that overrides something: only what it says can be kept."""
    above = (cls for cls in worker.__mro__ if cls.__module__ not in UVICORN_MODULES)
    own = (cls for cls in above if not cls.__module__.startswith("gunicorn.") and cls is not object)
    found = {attribute for cls in own for attribute in vars(cls) if not attribute.startswith("__")}
    if found := found - {"CONFIG_KWARGS"}:
        names = ", ".join(sorted(found))
        text = f"overrides {names}, and its base was imported before the server's own modules"
        raise ConfigError(f"worker_class {name}: {text}: {IMPORT_LATER}")


def _uvicorns(name: str) -> type:
    found: type = getattr(importlib.import_module("oxicorn.workers.uvicorn"), name)
    return found


def _check_overrides(name: str, worker: type, base: type) -> None:
    """Refuses a class that overrides what nothing calls: what it is for would be lost unseen."""
    found = dict(unused.overridden(worker, base))
    if found:
        names, advice = ", ".join(sorted(found)), "; ".join(dict.fromkeys(found.values()))
        text = f"overrides {names}, which nothing calls here: {advice}"
        raise ConfigError(f"worker_class {name}: {worker.__qualname__} {text}")


def _check_run(name: str, worker: type, base: type) -> None:
    """Refuses a class whose own ``run()`` needs parts of Gunicorn's that are not there."""
    found = sorted(set(unused.used(worker, base)))
    if found:
        text = f"its run() needs {', '.join(found)} of {base.__name__}, which are not there"
        raise ConfigError(f"worker_class {name}: {text}: {OWN_RUN}")


def _refusal(name: str, found: Any) -> str:
    modules = {base.__module__.partition(".")[0] for base in getattr(found, "__mro__", ())}
    words = {*modules, *re.split("[^a-z0-9]", name.lower())}
    advice = _advice(words) or DEFAULT_ADVICE
    return f"worker_class {name} cannot serve here, since a worker has no connections: {advice}"
