"""Noticing that the application's source changed (setting ``reload``).

A thread in each worker, which knows the modules that were loaded, compares the files' stamps each
second, or as soon as the kernel tells of a change in one of their directories (inotify). What it
finds goes to the arbiter, which starts a new generation of workers; the old one serves until that
is ready, and goes on if the new code does not load.

Files that only broken code has loaded are known to no living worker. Whoever cannot load the
application leaves their names in a file that all workers share, so that mending them is noticed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from oxicorn import _native

__all__ = ["Reloader", "ReloaderBase", "SharedFiles", "reloader_engines"]

#: Time of change, size, file number: a file put in place of another may be as old as that one.
_Stamp = tuple[int, int, int]


class SharedFiles:
    """Names of files that a worker which could not load the application was loading."""

    def __init__(self) -> None:
        # Without a name, open in every process that is forked from this one.
        self._file = tempfile.TemporaryFile(prefix="oxicorn-reload-")

    def replace(self, names: Iterable[str]) -> None:
        """Puts ``names`` in the place of what is there."""
        text = "\0".join(names).encode("utf-8", "surrogateescape")
        self._file.truncate(0)
        os.pwrite(self._file.fileno(), text, 0)

    def names(self) -> list[str]:
        """What is there. In the middle of a change a name may be cut short, which does no harm."""
        size = os.fstat(self._file.fileno()).st_size
        text = os.pread(self._file.fileno(), size, 0).decode("utf-8", "surrogateescape")
        return [name for name in text.split("\0") if name]


class ReloaderBase(threading.Thread):
    """Watches; ``callback(filename)`` is called for each file that changed."""

    def __init__(
        self,
        extra_files: Iterable[str] | None = None,
        interval: float = 1,
        callback: Callable[[str], None] | None = None,
        shared: SharedFiles | None = None,
    ) -> None:
        super().__init__(name="oxicorn-reloader", daemon=True)
        self._names = set(extra_files or ())
        self._interval = interval
        self._callback = callback
        self._shared = shared
        #: Calls what waits without Python's means: a greenlet must not do that in its hub's thread.
        self.call_waiting: Callable[..., object] = _call
        self._stamps: dict[str, _Stamp] = {}
        self._since = time.time_ns()

    def add_extra_file(self, filename: str) -> None:
        """Watches one more file, or pattern."""
        self._names.add(filename)

    def get_files(self) -> list[str]:
        """Every file that is watched at present."""
        files = module_files()
        for name in sorted(self._names):
            # Anew each time: a file made later may match.
            files += sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else [name]
        return files + (self._shared.names() if self._shared is not None else [])

    def changed_files(self) -> list[str]:
        """Those that changed since the last call. One that is gone is waited for."""
        return [name for name in dict.fromkeys(self.get_files()) if self._has_changed(name)]

    def _has_changed(self, name: str) -> bool:
        stamp = stamp_of(name)
        if stamp is None:
            return False
        old = self._stamps.get(name)
        self._stamps[name] = stamp
        if old is None:
            # Seen for the first time: newer than the beginning, it may have changed after it was
            # loaded. From the future, it would be so for ever.
            return any(
                self._since <= changed <= time.time_ns() for changed in (stamp[0], _link_time(name))
            )
        return stamp != old

    def start(self) -> None:
        """Takes the files as they are now, then watches: no change from here on is missed."""
        self.report()
        super().start()

    def run(self) -> None:
        """Watches until the process ends."""
        while True:
            self.pause()
            self.report()

    def report(self) -> None:
        """Calls back for each file that changed since the last look."""
        for name in self.changed_files():
            if self._callback is not None:
                self._callback(name)

    def pause(self) -> None:
        """Waits until it is time to look again."""
        time.sleep(self._interval)


class Reloader(ReloaderBase):
    """Looks each second (``reload_engine = "poll"``)."""


class InotifyReloader(ReloaderBase):
    """Looks when something changed in a directory of the files (``reload_engine = "inotify"``).

    Where the kernel cannot watch (any more), it looks each second.
    """

    def __init__(
        self,
        extra_files: Iterable[str] | None = None,
        callback: Callable[[str], None] | None = None,
        shared: SharedFiles | None = None,
    ) -> None:
        super().__init__(extra_files, callback=callback, shared=shared)
        self._directories: set[str] = set()
        try:
            self._watch: _native.DirectoryWatch | None = _native.DirectoryWatch()
        except OSError:
            self._watch = None

    def get_files(self) -> list[str]:
        """Every file that is watched at present; new directories are watched from now on."""
        files = super().get_files()
        for name in files:
            self._add_directory(os.path.dirname(name) or ".")
            if os.path.islink(name):
                # What is done to its target is told in the target's directory only.
                self._add_directory(os.path.dirname(os.path.realpath(name)))
        return files

    def _add_directory(self, directory: str) -> None:
        if directory in self._directories or self._watch is None:
            return
        self._directories.add(directory)
        try:
            self._watch.add(directory)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return
        except OSError:
            self._watch = None

    def pause(self) -> None:
        """Waits for a change; looks for newly loaded modules now and then all the same."""
        if self._watch is None:
            super().pause()
        else:
            self.call_waiting(self._watch.wait, (self._interval,))


def _call(function: Callable[..., object], arguments: tuple[object, ...]) -> object:
    return function(*arguments)


#: ``reload_engine`` -> class, as in Gunicorn. Here inotify needs no package and has a fall-back.
reloader_engines: dict[str, type[ReloaderBase]] = {
    "auto": InotifyReloader,
    "poll": Reloader,
    "inotify": InotifyReloader,
}


def stamp_of(name: str) -> _Stamp | None:
    """What changes when the file does; None where there is none."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _link_time(name: str) -> int:
    """When a link was made to lead where it does; of a file, when it was written."""
    try:
        return os.lstat(name).st_mtime_ns
    except OSError:
        return 0


def change_number(name: str) -> int:
    """A number for the present state of the file: the same for every worker that sees it."""
    text = repr((name, stamp_of(name))).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def module_files() -> list[str]:
    """The source file of every module loaded in this process."""
    paths = [getattr(module, "__file__", None) for module in tuple(sys.modules.values())]
    return [
        path[:-1] if path.endswith((".pyc", ".pyo")) else path
        for path in paths
        if isinstance(path, str)
    ]


def files_of_failure(error: BaseException) -> list[str]:
    """The files whose change may mend ``error``, which the loading of the application raised.

    A module that raised is not among the loaded ones any more, but in the traceback.
    """
    installed = tuple({os.path.realpath(path) + os.sep for path in sysconfig.get_paths().values()})
    names = module_files()
    if isinstance(error, SyntaxError) and error.filename:
        names.append(error.filename)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    own = (name for name in dict.fromkeys(names) if not name.startswith("<"))
    return [name for name in own if not os.path.realpath(name).startswith(installed)]


#: Where Gunicorn has it only with a package, it is always there.
has_inotify = True
preferred_reloader = InotifyReloader
