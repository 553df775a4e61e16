"""The pid file: written whole or not at all, and only removed by the process that wrote it."""

from __future__ import annotations

import contextlib
import errno
import os

__all__ = ["Pidfile"]


class Pidfile:
    """The arbiter's pid in a file (setting ``pidfile``)."""

    def __init__(self, fname: str) -> None:
        self.fname = fname
        self.pid: int | None = None

    def create(self, pid: int) -> None:
        """Writes ``pid``; RuntimeError if a living process is named there or writing fails."""
        other = self.validate()
        if other and other != os.getpid():
            raise RuntimeError(
                f"Already running on PID {other} (or pid file '{self.fname}' is stale)"
            )
        self.pid = pid
        directory = os.path.dirname(self.fname) or "."
        if not os.path.isdir(directory):
            raise RuntimeError(f"{directory} doesn't exist. Can't create pidfile.")
        try:
            self._write(directory, pid)
        except OSError as error:
            raise RuntimeError(f"Can't write pid file '{self.fname}': {error.strerror}") from error

    def _write(self, directory: str, pid: int) -> None:
        # A reader never sees half a number: the finished file is moved into place.
        temporary = os.path.join(directory, f".oxicorn-{pid}.pid")
        # Left over from a process that had our pid and was killed while it wrote.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, f"{pid}\n".encode())
            os.fchmod(fd, 0o644)
            os.rename(temporary, self.fname)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)

    def rename(self, path: str) -> None:
        """The file is another one from now on."""
        self.unlink()
        self.fname = path
        if self.pid is not None:
            self.create(self.pid)

    def unlink(self) -> None:
        """Removes the file if it still holds our pid."""
        try:
            with open(self.fname) as file:
                if int(file.read() or 0) == self.pid:
                    os.unlink(self.fname)
        except (OSError, ValueError):
            return

    def validate(self) -> int | None:
        """The pid of the living process the file names, if there is one."""
        try:
            with open(self.fname) as file:
                pid = int(file.read())
        except ValueError:
            return None
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise RuntimeError(f"Can't read pid file '{self.fname}': {error.strerror}") from error
        return pid if pid > 0 and _is_alive(pid) else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
