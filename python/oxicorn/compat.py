"""Gunicorn's import paths, for config files, applications and packages that name them.

In a process that runs a server ``gunicorn.glogging`` and the like *are* this package's modules: the
same objects, so that what is patched, caught or derived by the one name counts under the other,
whether Gunicorn is installed or not. ``gunicorn`` itself is a small module of its own: its version
says which Gunicorn's contract is kept, and ``SERVER`` and ``SERVER_SOFTWARE`` may be set on it.

The finder stands before the one that looks for files, because a package that is known by two names
has one directory, in which each module would be found a second time. It stands behind whoever came
first, so that hooks that watch imports see Gunicorn's names. Whatever runs a server puts it there;
a program that wants the paths earlier calls ``install``. A Gunicorn that was imported before that
stays what it is.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import types

import oxicorn
from oxicorn.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = [
    "GUNICORN_VERSION",
    "adopt_server_names",
    "can_be_sent",
    "install",
    "introduce",
    "missing",
]

#: The release whose settings, hooks and objects are kept.
GUNICORN_VERSION = oxicorn.GUNICORN_VERSION
PACKAGE = "gunicorn"
OURS = "oxicorn"
#: The modules that both have.
SHARED = frozenset(
    """
    __main__ app app.base app.pasterapp app.wsgiapp arbiter config debug dirty dirty.app
    dirty.arbiter dirty.client dirty.errors dirty.stash dirty.worker errors glogging http http.body
    http.errors http.message http.unreader http.wsgi instrument instrument.statsd pidfile
    reloader sock systemd util workers workers.base workers.base_async workers.gasgi
    workers.ggevent workers.gthread workers.gtornado workers.sync workers.workertmp
    """.split()
)
#: uvicorn's classes for Gunicorn are found in these; a server of their own they could not run here.
UVICORNS = frozenset(("uvicorn.workers", "uvicorn_worker"))
UVICORN = "oxicorn.workers.uvicorn"
#: What an import gives a module; the rest of a module's attributes is its own.
_OF_IMPORT = frozenset(("__name__", "__spec__", "__loader__", "__package__", "__class__"))


class _Facade(types.ModuleType):
    """The module ``gunicorn``."""

    __version__ = GUNICORN_VERSION
    version_info = tuple(int(part) for part in GUNICORN_VERSION.split("."))
    __file__ = oxicorn.__file__

    def __getattr__(self, name: str) -> Any:
        # In Gunicorn's processes these are there without an import of their own.
        if name in SHARED:
            return importlib.import_module(f"{PACKAGE}.{name}")
        raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")

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


class _Alias(types.ModuleType):
    """A module by Gunicorn's name, while it is imported by that name.

    Hooks that run after an import look for whom they wait by the module's name or its spec's, which
    are oxicorn's for the module itself. Whatever they do to this object they do to that.
    """

    def __init__(self, name: str, module: types.ModuleType) -> None:
        super().__init__(name)
        self.__dict__["_module"] = module
        del self.__dict__["__doc__"]  # An empty one would hide the module's.

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__["_module"]
        # What the import system asks for is there or not; asking a module that makes attributes
        # when they are wanted would make it load what makes them.
        if name.startswith("__") and name not in vars(module):
            raise AttributeError(name)
        return getattr(module, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _OF_IMPORT:
            super().__setattr__(name, value)
        else:
            setattr(self.__dict__["_module"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__dict__["_module"], name)

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_module"])


class _FileLoader(importlib.machinery.SourceFileLoader):
    """The loader of a module's file, for whoever calls the module by its other name (``runpy``)."""

    def get_filename(self, name: str | None = None) -> str:
        return str(self.path)


class _Loader:
    """Gives out a module that has been loaded under its own name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if not self._name:
            return _Facade(PACKAGE, "Gunicorn's names for oxicorn's modules.")
        return _Alias(spec.name, importlib.import_module(self._name))

    def exec_module(self, module: types.ModuleType) -> None:
        """Puts the module itself in the place of what was watched."""
        if not self._name:
            return
        if isinstance(module, _Alias):
            itself = sys.modules[module.__name__] = sys.modules[self._name]
            loader = itself.__loader__
            if type(loader) is importlib.machinery.SourceFileLoader:
                loader.__class__ = _FileLoader
            return
        # A loader around this one insists on its own object (importlib.util.LazyLoader).
        for name, value in vars(importlib.import_module(self._name)).items():
            if not name.startswith("__"):
                setattr(module, name, value)

    def get_code(self, _name: str) -> types.CodeType | None:
        """For ``runpy``."""
        import importlib.util  # a server does without

        spec = importlib.util.find_spec(self._name)
        loader: Any = spec.loader if spec is not None else None
        code: types.CodeType | None = loader.get_code(self._name)
        return code


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
        if fullname in UVICORNS:
            return importlib.machinery.ModuleSpec(fullname, _loader(UVICORN))
        if package != PACKAGE:
            return None
        if not inner:
            return importlib.machinery.ModuleSpec(fullname, _loader(""), is_package=True)
        if not isinstance(sys.modules.get(PACKAGE), _Facade):
            return None
        if inner in SHARED:
            loader = _loader(f"oxicorn.{inner}")
            return importlib.machinery.ModuleSpec(fullname, loader, origin=_file_of(inner))
        found = _installed(fullname)
        if found is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: oxicorn has no module that stands for it, and "
                f"an installed Gunicorn has none either",
                name=fullname,
            )
        return found


def _file_of(inner: str) -> str:
    place = os.path.join(os.path.dirname(oxicorn.__file__), *inner.split("."))
    return os.path.join(place, "__init__.py") if os.path.isdir(place) else f"{place}.py"


def _installed(fullname: str) -> importlib.machinery.ModuleSpec | None:
    """A module of an installed Gunicorn that oxicorn has nothing for."""
    gunicorn = importlib.machinery.PathFinder.find_spec(PACKAGE)
    # Directories and files that are only called so are no Gunicorn.
    if gunicorn is None or not gunicorn.origin or not gunicorn.submodule_search_locations:
        return None
    (place,) = gunicorn.submodule_search_locations
    if not os.path.exists(os.path.join(place, "arbiter.py")):
        return None
    parents = fullname.split(".")[1:-1]
    return importlib.machinery.PathFinder.find_spec(fullname, [os.path.join(place, *parents)])


def _is_installed() -> bool:
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def install() -> None:
    """Makes Gunicorn's import paths lead here, unless Gunicorn itself was imported before."""
    if _is_installed():
        return
    files = importlib.machinery.PathFinder
    place = sys.meta_path.index(files) if files in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(place, _Finder())


def introduce() -> None:
    """Imports by Gunicorn's names whatever of oxicorn is loaded.

    As under Gunicorn, who asks ``sys.modules`` finds it, and hooks that wait for one of the modules
    run before anything of it is used.
    """
    if _is_installed() and isinstance(importlib.import_module(PACKAGE), _Facade):
        for name in sorted(SHARED):
            if f"oxicorn.{name}" in sys.modules and f"{PACKAGE}.{name}" not in sys.modules:
                importlib.import_module(f"{PACKAGE}.{name}")


def missing(error: BaseException) -> str | None:
    """What of Gunicorn's ``error`` shows that somebody asked for in vain, by Gunicorn's name."""
    if isinstance(error, ImportError):
        _, found, rest = str(error).partition("cannot import name ")
        place, name = error.name or "", rest.partition("'")[2].partition("'")[0] if found else ""
    elif isinstance(error, AttributeError):
        asked: Any = error.obj
        owner = asked if isinstance(asked, type) else type(asked)
        ours = (cls for cls in owner.__mro__ if cls.__module__.partition(".")[0] == OURS)
        cls = next(ours, None)
        is_module = isinstance(asked, types.ModuleType)
        place = asked.__name__ if is_module else f"{cls.__module__}.{cls.__name__}" if cls else ""
        name = error.name or ""
    else:
        return None
    package, _, inner = place.partition(".")
    if package != OURS or not name or name.startswith("_"):
        return None
    return ".".join(part for part in (PACKAGE, inner, name) if part)


def can_be_sent(value: object) -> bool:
    """Whether it may be the value of a header."""
    return isinstance(value, str) and value.isascii() and (value + "x").isprintable()


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
        if not can_be_sent(value):
            raise ConfigError(f"gunicorn.{name} must be printable ASCII text, unlike {value!r}")
