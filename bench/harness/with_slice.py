"""Starts oxicorn with a time slice of its own for the gateway: with_slice.py MICROSECONDS COMMAND...

An experiment, not a part of the product: the slice (EEVDF, Linux 6.12 and newer: `sched_runtime` of a SCHED_OTHER thread,
0.1 to 100 ms) is set from outside on every thread of the gateway, when there is one. A short one lets a thread that is
woken run sooner, a long one lets it run on. No other process has it: it is set after the fork, and SCHED_FLAG_RESET_ON_FORK
takes it from what the gateway starts. Ends with the command; TERM goes to it.
"""

import ctypes
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

SYS_SCHED_SETATTR = 314
SYS_SCHED_GETATTR = 315
#: sched_attr of sched_setattr(2), first version: size, policy, flags, nice, priority, runtime, deadline, period.
LAYOUT = "IIQiIQQQ"
SCHED_OTHER = 0
SCHED_FLAG_RESET_ON_FORK = 1
PATIENCE = 20.0
PAUSE = 0.002

libc = ctypes.CDLL(None, use_errno=True)


def slice_of(thread: int) -> int:
    """Microseconds; 0: as the kernel gives to everybody (before 6.12 that is always so)."""
    attributes = ctypes.create_string_buffer(struct.calcsize(LAYOUT))
    if libc.syscall(SYS_SCHED_GETATTR, thread, attributes, len(attributes), 0):
        raise OSError(ctypes.get_errno(), "sched_getattr")
    return struct.unpack(LAYOUT, attributes.raw)[5] // 1000


def set_slice(thread: int, microseconds: int) -> None:
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    size, flags = struct.calcsize(LAYOUT), SCHED_FLAG_RESET_ON_FORK
    attributes = struct.pack(LAYOUT, size, SCHED_OTHER, flags, nice, 0, microseconds * 1000, 0, 0)
    if libc.syscall(SYS_SCHED_SETATTR, thread, attributes, 0):
        raise OSError(ctypes.get_errno(), "sched_setattr")


def gateway_of(master: int) -> int | None:
    """The child of `master` that says by its title that it is the gateway."""
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        if b"gateway" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return None


def main() -> int:
    microseconds, command = int(sys.argv[1]), sys.argv[2:]
    server = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    deadline = time.monotonic() + PATIENCE
    while (gateway := gateway_of(server.pid)) is None:
        if server.poll() is not None or time.monotonic() > deadline:
            server.terminate()
            print("with_slice: there is no gateway", file=sys.stderr)
            return 1
        time.sleep(PAUSE)
    for thread in Path(f"/proc/{gateway}/task").iterdir():
        set_slice(int(thread.name), microseconds)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
