"""Gunicorn's import paths, for config files and packages that name them.

Where the real Gunicorn is not installed, ``import gunicorn.glogging`` and the like resolve to this
package's modules: the same module objects, so that a subclass or a patch made through the one name
counts under the other. ``gunicorn`` itself is a small module of its own: its version says which
Gunicorn's contract is kept, and ``SERVER`` and ``SERVER_SOFTWARE`` may be set on it.

The finder stands last in ``sys.meta_path``, so an installed Gunicorn is found before it. It is put
there by whatever runs a server; a program that wants the paths earlier calls ``install``.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types

import oxicorn
from oxicorn.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["GUNICORN_VERSION", "adopt_server_names", "install"]

#: The release whose settings, hooks and objects are kept.
GUNICORN_VERSION = "27.0.1"
PACKAGE = "gunicorn"
#: The modules that both have.
SHARED = frozenset(
    """
    app app.base app.pasterapp app.wsgiapp arbiter config debug errors glogging http
    http.errors http.message http.wsgi instrument instrument.statsd pidfile reloader
    systemd util workers workers.base workers.gasgi workers.gthread workers.sync
    """.split()
)


class _Facade(types.ModuleType):
    """The module ``gunicorn``."""

    __version__ = GUNICORN_VERSION
    version_info = tuple(int(part) for part in GUNICORN_VERSION.split("."))

    @property
    def SERVER(self) -> str:
        return oxicorn.SERVER

    @SERVER.setter
    def SERVER(self, value: str) -> None:
        oxicorn.SERVER = value

    @property
    def SERVER_SOFTWARE(self) -> str:
        return oxicorn.SERVER_SOFTWARE

    @SERVER_SOFTWARE.setter
    def SERVER_SOFTWARE(self, value: str) -> None:
        oxicorn.SERVER_SOFTWARE = value


class _Loader:
    """Gives out a module that has been loaded under its own name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: Any = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if not self._name:
            return _Facade(PACKAGE, "Gunicorn's names for oxicorn's modules.")
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        # The import system has just written the spec of the other name over the module's own.
        if self._spec is not None:
            module.__spec__ = self._spec


def _loader(name: str) -> Any:
    """A loader by what it does: deriving from importlib's class would import half the library."""
    return _Loader(name)


class _Finder:
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, inner = fullname.partition(".")
        if package != PACKAGE:
            return None
        if not inner:
            return importlib.machinery.ModuleSpec(fullname, _loader(""), is_package=True)
        if not isinstance(sys.modules.get(PACKAGE), _Facade):
            return None
        name = f"oxicorn.{inner}"
        if inner not in SHARED:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: Gunicorn is not installed, and oxicorn has no "
                f"module that stands for it",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, _loader(name))


def install() -> None:
    """Makes Gunicorn's import paths resolve, unless Gunicorn itself is installed."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def adopt_server_names() -> None:
    """Takes over names set on an installed Gunicorn; refuses what cannot be sent as a header."""
    gunicorn: Any = sys.modules.get(PACKAGE)
    if gunicorn is not None and not isinstance(gunicorn, _Facade):
        version = getattr(gunicorn, "__version__", None)
        for name, usual in (("SERVER", PACKAGE), ("SERVER_SOFTWARE", f"{PACKAGE}/{version}")):
            value = getattr(gunicorn, name, usual)
            if value != usual:
                setattr(oxicorn, name, value)
    for name in ("SERVER", "SERVER_SOFTWARE"):
        value = getattr(oxicorn, name)
        if not isinstance(value, str) or not value.isascii() or not (value + "x").isprintable():
            raise ConfigError(f"gunicorn.{name} must be printable ASCII text, unlike {value!r}")
