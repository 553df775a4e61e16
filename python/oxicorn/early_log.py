"""Lines of the error log before anybody has imported ``logging``, and how that is noticed.

That package takes longer to import than the rest of this one. A server whose log is standard error
as it stands, and an application that does not log, need nothing of it: until somebody imports it,
in whatever process of the server, there is nobody who could see a logger. Whoever does finds the
loggers made when the import returns.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["EarlyLog", "Watch", "is_imported"]

PACKAGE = "logging"
#: Levels of that package, by their numbers.
NAMES = {50: "CRITICAL", 40: "ERROR", 30: "WARNING", 20: "INFO", 10: "DEBUG"}


def is_imported() -> bool:
    """Whether somebody has imported ``logging``, or is about to."""
    return PACKAGE in sys.modules


class EarlyLog:
    """Writes lines to standard error as ``fmt`` and ``datefmt`` have them."""

    def __init__(self, level: int, fmt: str, datefmt: str) -> None:
        self.level = level
        self.fmt = fmt
        self.datefmt = datefmt
        #: What a handler would write to that is made now.
        self.stderr = sys.stderr
        self.stdout = sys.stdout

    def write(self, level: int, msg: object, args: tuple[object, ...], with_more: bool) -> bool:
        """Whether that is all there is to a call; false where only ``logging`` can do it."""
        if level < self.level:
            return True
        if with_more or level not in NAMES or (len(args) == 1 and isinstance(args[0], Mapping)):
            return False
        try:
            line = self._line(level, str(msg) % args if args else str(msg))
            # As a handler does: standard error that is gone is no reason to fail.
            with contextlib.suppress(OSError):
                self.stderr.write(line)
                self.stderr.flush()
        except Exception:
            return False  # It says what is wrong, and fails nobody.
        return True

    def _line(self, level: int, text: str) -> str:
        fields = {
            "asctime": time.strftime(self.datefmt),
            "process": os.getpid(),
            "levelname": NAMES[level],
            "message": text,
        }
        return f"{self.fmt % fields}\n"


class Watch:
    """Calls somebody once, as soon as ``logging`` is imported and before anybody can use it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._is_looking = False
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Where all other finders have it, to be run by a loader that calls."""
        # The lock of its import is held: no other thread is in here.
        if name != PACKAGE or self._is_looking:
            return None
        self._is_looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._imported)  # type: ignore[assignment]
        return spec

    def _imported(self) -> None:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        self._call()


class _Loader:
    """Loads as another loader does, then calls."""

    def __init__(self, loader: Any, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then()
