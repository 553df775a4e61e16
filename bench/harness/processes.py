"""Knows process trees through /proc: their CPU time, their memory, and how to end them so that none is left.

A server's tree is every process whose chain of parents leads to the one that was started, or that belongs to its
session: a daemon that lets itself be adopted by init is still counted, and still ended.
"""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_PATIENCE = 10.0
KILL_PATIENCE = 10.0
PR_SET_CHILD_SUBREAPER = 36


class StartFailure(Exception):
    """A server did not come up; the text is for the user."""


class StopFailure(Exception):
    """Something is left of a server that should be gone: nothing measured after that would be true."""


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/PID/stat (proc(5)) that are needed here."""

    parent: int
    session: int
    state: str
    own_ticks: int
    reaped_ticks: int


def read_stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may contain blanks and parentheses; the fields begin after the last one.
    fields = text[text.rindex(")") + 2 :].split()
    utime, stime, cutime, cstime = map(int, fields[11:15])
    return Stat(int(fields[1]), int(fields[3]), fields[0], utime + stime, cutime + cstime)


def tree(root: int) -> dict[int, Stat]:
    """All living (or not yet reaped) processes of the tree."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    everyone = {pid: stat for pid in pids if (stat := read_stat(pid))}

    def belongs(pid: int) -> bool:
        while stat := everyone.get(pid):
            if pid == root or stat.session == root:
                return True
            pid = stat.parent
        return False

    return {pid: stat for pid, stat in everyone.items() if belongs(pid)}


def cpu_seconds(root: int) -> float:
    """CPU time the tree has used until now, children that ended and were reaped by it included."""
    return sum(stat.own_ticks + stat.reaped_ticks for stat in tree(root).values()) / TICKS_PER_SECOND


def machine_busy_seconds() -> float:
    """CPU time anybody has used on this machine: everything but idle, iowait and (counted twice) guest time."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def pss_kib(root: int, without: str | None = None) -> int:
    """Proportional set size of the tree: shared pages count for each sharer in part, so sums mean something.

    `without`: processes are left out whose title has this word.
    """
    return sum(_pss_of(pid) for pid in tree(root) if not without or without not in _title_of(pid))


def _title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def context_switches(root: int) -> int:
    """How often threads of the tree gave a processor away until now; threads that ended are not counted."""
    return sum(_switches_of(thread) for pid in tree(root) for thread in Path(f"/proc/{pid}/task").glob("*"))


def _switches_of(thread: Path) -> int:
    try:
        lines = (thread / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def _pss_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def become_subreaper() -> None:
    """Orphans of a server become our children instead of init's, so that none can hide."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def allow_many_descriptors() -> None:
    """As many as the system gives without asking, for thousands of connections; servers and clients inherit it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def spinning_neighbours(count: int) -> Iterator[None]:
    """So many processes of somebody else's that do nothing but use a processor each, at the same priority."""
    neighbours = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


#: Processes that applications ask: what they use is neither the server's nor a disturbance.
helpers: set[int] = set()


@contextlib.contextmanager
def helper(command: list[str]) -> Iterator[int]:
    """A process that applications need, as long as the context; its pid."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise StartFailure(f"{command[0]} is missing: run bench/setup.sh") from error
    helpers.add(process.pid)
    try:
        yield process.pid
    finally:
        helpers.discard(process.pid)
        process.terminate()
        process.wait()


class Server:
    """A started server: its own session, its output in a file, ended with its whole tree on leaving the context."""

    def __init__(self, command: list[str], environment: Mapping[str, str], directory: Path, log: Path) -> None:
        self.log = log
        self._known: set[int] = set()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def wait_until(self, ready: Callable[[], bool], patience: float, pause: float) -> None:
        deadline = time.monotonic() + patience
        while not ready():
            if self._process.poll() is not None:
                raise StartFailure(f"ended with {self._process.returncode} before it answered: {self.last_words()}")
            if time.monotonic() > deadline:
                raise StartFailure(f"no answer within {patience:.0f} s: {self.last_words()}")
            time.sleep(pause)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "(no output)"

    def stop(self) -> None:
        """TERM to the first process, as a user would; KILL by pid for whatever is left after a while."""
        self._known |= tree(self.pid).keys()
        self._signal(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_PATIENCE
        while self._living() and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in self._living():
            self._signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + KILL_PATIENCE
        while left := self._living():
            if time.monotonic() > deadline:
                raise StopFailure(f"processes {sorted(left)} survive SIGKILL")
            time.sleep(0.01)

    def _living(self) -> set[int]:
        self._process.poll()
        self._known |= tree(self.pid).keys()
        self._known -= {pid for pid in self._known if self._is_gone(pid)}
        return self._known

    def _is_gone(self, pid: int) -> bool:
        stat = read_stat(pid)
        if stat and stat.state == "Z" and stat.parent == os.getpid() and pid != self.pid:
            os.waitpid(pid, 0)
            return True
        return stat is None

    def _signal(self, pid: int, number: signal.Signals) -> None:
        # The first process is signalled through Popen, which knows whether the pid is still its.
        try:
            self._process.send_signal(number) if pid == self.pid else os.kill(pid, number)
        except ProcessLookupError:
            pass
