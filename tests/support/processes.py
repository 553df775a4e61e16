"""What /proc says about the processes of a server: who lives, under which title, in how much memory.

A server is started in a session of its own, so "its processes" are those of that session, whoever
their parent is by now.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One living process."""

    pid: int
    parent: int
    session: int
    title: str


def read(pid: int) -> Process | None:
    """The process ``pid``; None if it is gone or only waits for its parent to notice that."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # The name in parentheses may contain anything: the fields start after the last one.
    fields = stat.rpartition(")")[2].split()
    state, parent, session = fields[0], int(fields[1]), int(fields[3])
    if state in "ZX":
        return None
    text = title.replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(pid, parent, session, text)


def is_alive(pid: int) -> bool:
    """Whether ``pid`` still runs."""
    return read(pid) is not None


def of_session(session: int) -> list[Process]:
    """Every living process of the session, oldest pid first."""
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    found = (read(pid) for pid in pids)
    return [process for process in found if process is not None and process.session == session]


#: Memory that a server shares with nobody but itself, unlike files: how much of those is its own depends on who else
#: has them mapped.
OWN_MEMORY = ("Pss_Anon:", "Pss_Shmem:")


def anonymous_memory(pid: int) -> int:
    """Bytes of RAM that are no file's: more of a file is mapped whenever code runs for the first time."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Anonymous:"))


def proportional_memory(session: int) -> int:
    """PSS of all processes of the session without files, in bytes: shared pages are counted once."""
    total = 0
    for process in of_session(session):
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(OWN_MEMORY))
    return total * 1024


def wake_ups(session: int) -> int:
    """How often threads that live now in processes of the session have gone to sleep of their own accord."""
    total = 0
    for process in of_session(session):
        for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
            # A thread may end meanwhile.
            with contextlib.suppress(OSError):
                lines = status.read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return total


def open_files(pid: int) -> list[str]:
    """What the descriptors of ``pid`` point to."""
    targets = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return targets
