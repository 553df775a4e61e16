"""What every framework imports of the standard library is imported once, before the first fork.

Workers share what was there before the fork, and none has to do it again. Who needs none of it pays
nothing: it is done where the application, or a module of its own that it imports, says that it
imports somebody else's package. Its source is read for that, not run: nothing of the application,
and nothing of these packages, is ever imported here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxicorn.config import Config

__all__ = ["import_ahead"]

#: What at least four of Django, FastAPI, Flask, Falcon, Litestar and Pyramid import, and what these
#: modules import themselves. Gunicorn's arbiter has most of it for purposes of its own.
COMMON = tuple(
    """
    calendar contextvars dataclasses decimal email.parser email.utils hashlib hmac html http.client
    importlib.resources inspect ipaddress mimetypes pathlib platform pprint random secrets shutil
    ssl subprocess tempfile typing urllib.parse uuid zipfile
    """.split()
)
#: Packages that import ``asyncio`` beside that, whoever calls their applications.
WITH_LOOPS = frozenset(("aiohttp", "django", "falcon", "fastapi", "litestar", "quart", "starlette"))
#: Classes whose workers change nothing of the standard library before they load the application.
CLASSES = frozenset(("sync", "gthread", "asgi", "tornado"))
#: Of the application's own files, and of each of them: what is looked at.
MOST_FILES = 16
MOST_BYTES = 1 << 16

#: Packages that patch the standard library, best before any of it is there.
PATCHES = frozenset(("eventlet", "gevent"))

_STATEMENT = re.compile(rb"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)|import[ \t]+([\w.]+))", re.MULTILINE)
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")


def import_ahead(uri: str | None, cfg: Config) -> None:
    """Imports what the workers of the application ``uri`` (``module:name``) will import."""
    if not uri or cfg.chosen.kind not in CLASSES:
        return
    packages = set(_packages_of(uri.partition(":")[0]))
    if not packages or packages & PATCHES or _hidden_by_the_user():
        return
    for name in COMMON:
        # Some interpreters are built without a part of it (``ssl``).
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if packages & WITH_LOOPS:
        importlib.import_module("asyncio")


def _hidden_by_the_user() -> bool:
    """Whether a module of the user's stands before one of the standard library, or may."""
    ours = os.path.dirname(os.__file__)
    for place in sys.path:
        if place == ours:
            return False
        try:
            names = os.listdir(place or os.curdir)
        except OSError:
            continue  # An archive, or nothing.
        found = {name.partition(".")[0] for name in names} & sys.stdlib_module_names
        if found - sys.modules.keys():
            return True
    return True


def _packages_of(module: str) -> Iterator[str]:
    """Packages of others that ``module`` imports, or a module of its own that it imports."""
    left, seen = [module], set[str]()
    while left and len(seen) < MOST_FILES:
        name = left.pop(0)
        if name in seen:
            continue
        seen.add(name)
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("gunicorn", "oxicorn"):
            continue
        path, is_package = _file_of(name)
        if path is None:
            continue
        if _is_own(path):
            left += _imported_by(path, name if is_package else name.rpartition(".")[0])
        elif name != module:
            yield top


def _is_own(path: str) -> bool:
    return path.startswith(os.path.join(os.getcwd(), "")) and not _INSTALLED.search(path)


def _file_of(name: str) -> tuple[str | None, bool]:
    """Where the source of a module is, and whether it is a package; found without running any."""
    places, spec, whole = None, None, ""
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        found = PathFinder.find_spec(whole, places)
        if found is None:
            break  # ``from package.module import name``: as far as there are modules.
        spec, places = found, found.submodule_search_locations
        if places is None:
            break
    if spec is None:
        return None, False
    path = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    return path and os.path.abspath(path), spec.submodule_search_locations is not None


def _imported_by(path: str, package: str) -> list[str]:
    """Names of modules that a file imports, or of what it imports from them."""
    try:
        with open(path, "rb") as file:
            source = file.read(MOST_BYTES)
    except OSError:
        return []
    found = []
    for dots, of, plain in _STATEMENT.findall(source):
        name = (of or plain).decode()
        if dots:
            above = package.split(".")
            name = ".".join([*above[: len(above) - len(dots) + 1], name]).strip(".")
        found.append(name)
    return found
