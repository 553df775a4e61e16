"""What every framework imports of the standard library is imported once, before the first fork.

Workers share what was there before the fork, and none has to do it again. Who needs none of it pays
nothing: it is done where the application, or a module of its own that it imports, says that it
imports somebody else's package; and what of it the application itself imports is imported anyway.
Its source is read for that, not run: nothing of the application, and nothing of these packages, is
ever imported here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from importlib.machinery import PathFinder

from oxicorn._native import unmap_libraries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oxicorn.config import Config

__all__ = ["import_ahead"]

#: What at least four of Django, FastAPI, Flask, Falcon, Litestar and Pyramid import, and what these
#: modules import themselves. Gunicorn's arbiter has most of it for purposes of its own.
COMMON = tuple(
    """
    calendar contextvars dataclasses decimal email.parser email.utils hashlib heapq hmac html
    http.client http.cookies importlib.resources inspect ipaddress json logging mimetypes pathlib
    platform pprint queue random secrets shutil socket ssl subprocess tempfile traceback typing
    unicodedata urllib.parse uuid weakref zipfile
    """.split()
)
#: What these packages import beside that, whoever calls their applications. Not in it is what looks
#: at its surroundings, or leaves something behind: ``multiprocessing`` (a key for each process),
#: ``zoneinfo`` (the environment), ``pdb`` (the terminal); nor what some versions warn of (``cgi``).
BESIDE = {
    "aiohttp": "asyncio",
    "bottle": "configparser pickle",
    "django": """
        argparse asyncio concurrent.futures.thread difflib email.generator email.headerregistry
        email.mime.message email.mime.multipart email.mime.text email.policy getpass gettext glob
        graphlib gzip html.parser logging.config pickle pkgutil sysconfig
        """,
    "falcon": """
        asyncio concurrent.futures.thread http.cookiejar urllib.request wsgiref.types
        xml.etree.ElementTree
        """,
    "fastapi": "asyncio colorsys fractions importlib.metadata shlex sysconfig",
    "flask": "difflib gettext http.server importlib.metadata pickle pkgutil",
    "litestar": """
        asyncio colorsys concurrent.futures.thread fractions glob importlib.metadata
        logging.config pickle sysconfig wsgiref.headers
        """,
    "pyramid": "gettext pkgutil plistlib sysconfig urllib.request",
    "quart": """
        asyncio difflib gettext glob http.cookiejar http.server importlib.metadata logging.config
        pickle pkgutil shlex tomllib urllib.request wsgiref.handlers
        """,
    "starlette": "asyncio shlex",
}
#: All of these: what of them an application itself imports is imported for it.
KNOWN = frozenset((*COMMON, *" ".join(BESIDE.values()).split()))
#: What whoever serves imports, and what may be there before somebody patches the library.
BY_ALL = ("logging", "socket")
#: Classes whose workers change nothing of the standard library before they load the application.
CLASSES = frozenset(("sync", "gthread", "asgi", "tornado"))
#: Of the application's own files, and of each of them: what is looked at.
MOST_FILES = 16
MOST_BYTES = 1 << 16

#: Packages that patch the standard library, best before more of it is there than any server has.
PATCHES = frozenset(("eventlet", "gevent"))

_ENDS_OF_NAMES = (b",", b";", b"#")
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def import_ahead(uri: str | None, cfg: Config) -> None:
    """Imports what the workers of the application ``uri`` (``module:name``) will import."""
    wanted = tuple(_wanted(uri, cfg))
    for name in wanted:
        # Some interpreters are built without a part of it (``ssl``).
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "ssl" in wanted:
        # Loading its libraries touches megabytes of them, which nobody here looks at again.
        unmap_libraries()


def _wanted(uri: str | None, cfg: Config) -> Iterable[str]:
    names: Iterable[str] = BY_ALL
    if uri and cfg.chosen.kind in CLASSES:
        imported = set(_imported_from(uri.partition(":")[0]))
        if not imported & PATCHES:
            names = list(_known_to_follow(imported))
    return () if names and _hidden_by_the_user() else names


def _known_to_follow(imported: set[str]) -> Iterator[str]:
    """What of the standard library an application imports that itself imports these."""
    packages = sorted(imported - KNOWN)
    yield from COMMON if packages else ()
    for package in packages:
        yield from BESIDE.get(package, "").split()
    yield from sorted(imported & KNOWN)


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


def _imported_from(module: str) -> Iterator[str]:
    """Packages of others, and modules in ``KNOWN``, that it or a module of its own imports."""
    left, seen = [module], set[str]()
    while left and len(seen) < MOST_FILES:
        name = left.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if name in KNOWN and name != module:
            yield name
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
    below = os.path.join(os.getcwd(), "")
    return path.startswith(below) and _INSTALLED.isdisjoint(path.split(os.sep))


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
    names = (_whole_name(name, package) for name in _names_in(source))
    return [name for name in names if all(part.isidentifier() for part in name.split("."))]


def _names_in(source: bytes) -> Iterator[str]:
    """The first name of each statement that looks like an import, with the dots before it.

    Not by a regular expression: compiling one takes longer than reading most applications.
    """
    for line in source.splitlines():
        words = line.split(None, 2)
        if len(words) > 1 and words[0] in (b"from", b"import"):
            name = words[1]
            for mark in _ENDS_OF_NAMES:
                name = name.partition(mark)[0]
            yield name.decode(errors="replace")


def _whole_name(name: str, package: str) -> str:
    """The name of a module that is called ``name`` in a module of ``package``."""
    plain = name.lstrip(".")
    dots = len(name) - len(plain)
    if not dots:
        return plain
    above = package.split(".")
    return ".".join([*above[: len(above) - dots + 1], plain]).strip(".")
