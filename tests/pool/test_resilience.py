"""What callers see of every kind of fault, amid a call, a stream and a reload; and that no call is lost."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from oxicorn.dirty import DirtyClient, DirtyConnectionError, DirtyTimeoutError, DirtyWorkerError
from tests.monitoring.test_errors import control_group  # noqa: F401 - a fixture
from tests.pool.conftest import HEAVY
from tests.pool.test_deaths import Calling, status
from tests.pool.test_life import booted
from tests.support.processes import is_alive
from tests.support.wait import wait_for

METHODS = """
    def in_call(self, fault):
        return do(fault)

    def in_stream(self, fault):
        yield 1
        yield 2
        do(fault)
        yield 3

    def in_reload(self, fault):
        # Until the new generation serves.
        self.wait()
        return do(fault)

    def user(self):"""
#: Each fault is done by the application, where it is told to.
FAULTY = (
    HEAVY.replace("\n    def user(self):", METHODS)
    + """
def do(fault):
    if fault == "kill":
        os.kill(os.getpid(), 9)
    elif fault == "exit":
        os._exit(7)
    elif fault == "segfault":
        import ctypes
        ctypes.string_at(0)
    elif fault == "hang":
        # Hears of nothing: no bytecode is run meanwhile.
        import ctypes
        ctypes.CDLL(None).usleep(60_000_000)
    elif fault == "balloon":
        HELD.append(b"x" * (200 << 20))
    elif fault == "out of memory":
        while True:
            HELD.append(b"x" * (1 << 20))
    return os.getpid()


HELD = []
"""
)


@dataclass
class Fault:
    """A fault, and how its caller hears of it (None: not at all)."""

    name: str
    error: type[Exception] | None
    text: str = ""
    config: str = ""


FAULTS = [
    Fault("kill", DirtyWorkerError, "was ended by signal 9"),
    Fault("exit", DirtyWorkerError, "exited with code 7"),
    Fault("segfault", DirtyWorkerError, "was ended by signal 11"),
    # Time enough for the call that waits until the others have queued.
    Fault("hang", DirtyTimeoutError, "timed out after 3 s", "dirty_timeout = 3\n"),
    Fault("balloon", None, config=f"dirty_memory_limit = {100 << 20}\n"),
    Fault("out of memory", DirtyWorkerError, "the memory of its control group was used up"),
]


def seen(fault: Fault, call: Callable[[], object]) -> None:
    """The caller sees what it should."""
    if fault.error is None:
        call()
        return
    with pytest.raises(fault.error, match=re.escape(fault.text)):
        call()


@pytest.fixture
def config(request, fault: Fault) -> str:
    if fault.name != "out of memory":
        return fault.config
    procs = str(request.getfixturevalue("control_group") / "cgroup.procs")
    return f"import os\nwith open({procs!r}, 'w') as file: file.write(str(os.getpid()))\n"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_faults_have_no_effect_beyond_their_caller(config, start, fault):
    pool = start(config, heavy=FAULTY)

    def recovers(from_worker: int) -> None:
        # The next one may be there before the one before has gone.
        wait_for(lambda: (found := booted(pool)) and from_worker not in found)
        wait_for(lambda: pool.call("pid") != from_worker)
        wait_for(lambda: not is_alive(from_worker))

    # In a call, while another one waits: that one runs in the next worker.
    worker = pool.call("pid")
    waiting = Calling(lambda: (pool.call("wait"), pool.call("pid"))[1])
    pool.wait_for_begun(1)
    first = Calling(lambda: pool.call("in_call", fault.name))
    wait_for(lambda: status(pool)["apps"][0]["queued"] == 1)
    second = Calling(lambda: pool.call("echo", "second"))
    wait_for(lambda: status(pool)["apps"][0]["queued"] == 2)
    pool.open_gate()
    first.ended()
    if fault.error is None:
        assert (first.error, first.result) == (None, worker)
    else:
        assert isinstance(first.error, fault.error)
        assert fault.text in first.error.message
    assert second.ended().result == "second"
    assert waiting.ended().error is None
    recovers(worker)

    # In a stream, of which the caller has what came before.
    worker = pool.call("pid")
    stream = pool.client.stream("heavy:App", "in_stream", fault.name)
    assert [next(stream), next(stream)] == [1, 2]
    seen(fault, lambda: list(stream))
    recovers(worker)

    # In a reload: the new generation serves already, and is left alone by what the old one does.
    pool.close_gate()
    worker = pool.call("pid")
    begun = len(pool.server.lines("begun"))
    call = Calling(lambda: pool.call("in_reload", fault.name))
    pool.wait_for_begun(begun + 1)
    if fault.name == "hang":
        # Its time is short; it hangs while the new one is made ready.
        pool.open_gate()
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: booted(pool) not in ([], [worker]))
    new = pool.call("pid")
    pool.open_gate()
    call.ended()
    if fault.error is None:
        assert (call.error, call.result) == (None, worker)
    else:
        assert isinstance(call.error, fault.error)
    wait_for(lambda: not is_alive(worker))
    assert pool.call("pid") == new
    assert pool.server.get().status == 200


def test_clients_find_the_next_broker_by_themselves(start):
    pool = start()
    client = DirtyClient(pool.path, timeout=20.0)
    for _ in range(3):
        assert client.execute("heavy:App", "echo", 1) == 1
        before = pool.broker
        os.kill(before, signal.SIGKILL)
        wait_for(lambda before=before: pool.server.pids("dirty-arbiter") not in ([], [before]))
    # The connections it has kept lead nowhere; that is no error, since nothing was sent there.
    assert list(client.stream("heavy:App", "count", 3)) == [0, 1, 2]
    assert client.execute("heavy:App", "echo", 1) == 1


class Callers:
    """Threads that call without a pause and count."""

    def __init__(self, pool, count: int, wanted: int) -> None:
        self.pool, self.wanted = pool, wanted
        self.answers: set[int] = set()
        self.errors: list[str] = []
        self.workers: set[int] = set()
        self._lock = threading.Lock()
        self._next = 0
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        with DirtyClient(self.pool.path, timeout=60.0) as client:
            while not (self._enough.is_set() and len(self.answers) >= self.wanted):
                with self._lock:
                    self._next += 1
                    number = self._next
                try:
                    worker, came = client.execute("heavy:App", "numbered", number)
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                    return
                with self._lock:
                    assert came not in self.answers, "it was answered twice"
                    self.answers.add(came)
                    self.workers.add(worker)

    def end(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def assert_flawless(self) -> None:
        assert self.errors == []
        assert self.answers == set(range(1, self._next + 1)), "every call has its answer"
        assert len(self.answers) >= self.wanted


NUMBERED = """
import os
from pathlib import Path

class App:
    def init(self):
        self.file = open(Path(__file__).parent / "calls", "a")
    def close(self): pass
    def __call__(self, action, number):
        # What was begun is known, so that nothing is run twice.
        print(number, file=self.file, flush=True)
        return [os.getpid(), number]
"""


@pytest.mark.timeout(900)  # With `--many`; else a few seconds.
def test_no_call_is_lost_or_run_twice_over_many_reloads(start, request):
    many = request.config.getoption("--many")
    calls, reloads = (10_000, 100) if many else (500, 6)
    pool = start("dirty_workers = 2\n", heavy=NUMBERED)
    begun = time.monotonic()
    callers = Callers(pool, 4, calls)
    try:
        for _ in range(reloads):
            before = {worker["pid"] for worker in status(pool)["workers"] if worker["state"] == "ready"}
            pool.server.kill(signal.SIGHUP)

            def replaced(before: set[int] = before) -> bool:
                return len(now := set(booted(pool))) == 2 and not now & before

            wait_for(replaced)
    finally:
        callers.end()
    callers.assert_flawless()
    assert len(callers.workers) > reloads
    numbers = [int(line) for line in pool.server.lines("calls")]
    assert len(numbers) == len(set(numbers)) == len(callers.answers)
    if many:
        print(f"{len(numbers)} calls, {reloads} reloads, {time.monotonic() - begun:.1f} s")


def test_who_has_no_broker_at_all_is_told(start):
    pool = start()
    assert pool.call("echo", 1) == 1
    pool.server.stop()
    with pytest.raises(DirtyConnectionError):
        pool.call("echo", 1)
