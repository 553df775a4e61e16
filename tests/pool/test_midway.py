"""A worker ends in the middle of a stream or of a large result: what was sent arrives, then the reason, or the rest."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oxicorn.dirty import DirtyWorkerError
from tests.monitoring.test_errors import control_group  # noqa: F401 - a fixture
from tests.monitoring.test_metrics import Monitoring
from tests.pool.conftest import Pool, started
from tests.pool.test_deaths import Calling, status
from tests.pool.test_figures import Figures
from tests.support import processes
from tests.support.ports import free_port
from tests.support.wait import wait_for

#: Each row has an application, and so a worker, of its own: those that die young one after the other in one place are
#: started more and more slowly.
ROWS = ["Killed", "Exits", "Crashes", "Blocked", "Told", "Counted", "Grown", "Listed", "Shared"]

HEAVY = f"""
import ctypes
import os
import time
from pathlib import Path

from gunicorn.dirty import DirtyApp

HERE = Path(__file__).parent
ENDS = {{
    "kill": lambda: os.kill(os.getpid(), 9),
    "exit": lambda: os._exit(7),
    "segfault": lambda: ctypes.string_at(0),
}}


class App(DirtyApp):
    def pid(self):
        return os.getpid()

    def end_after(self, pieces, end):
        for number in range(pieces):
            yield bytes([number]) * 100_000
        ENDS[end]()

    def run_ahead(self):
        number = 0
        while True:
            (HERE / "ahead").write_text(str(number))
            yield bytes([number % 256]) * 60_000
            number += 1

    def gated(self, gate):
        yield os.getpid()
        while not (HERE / gate).exists():
            time.sleep(0.005)
        for number in range(3):
            yield bytes([number]) * 100_000

    def grow(self, size):
        self.held = b"x" * size

    def small(self, number, gate):
        while not (HERE / gate).exists():
            time.sleep(0.005)
        (HERE / "small").touch()
        # Each goes with the message itself.
        return [bytes(60_000)] * number

    def large(self, size):
        return bytes(size)


for name in {ROWS}:
    globals()[name] = type(name, (App,), {{}})
"""

CONFIG = f"""
dirty_apps = [f"heavy:{{name}}:1" for name in {ROWS}]
dirty_workers = {len(ROWS)}
dirty_threads = 2
dirty_max_calls = 6
dirty_memory_limit = {250 << 20}
"""


class Scene:
    """The application of a row, and what is left of what it did."""

    def __init__(self, pool: Pool, figures: Figures) -> None:
        self.pool = pool
        self.figures = figures
        self.app = ""
        self.wait_until_settled()
        self.before = self.descriptors()

    def wait_until_settled(self) -> None:
        """All workers are there and idle, and one connection of a client is left."""
        self.pool.client.close()
        wait_for(self.is_settled, what=lambda: f"{status(self.pool)}\n{self.pool.server.log}")

    def call(self, action: str, *args: object) -> object:
        return self.pool.client.execute(self.app, action, *args)

    def stream(self, action: str, *args: object) -> Iterator[object]:
        return self.pool.client.stream(self.app, action, *args)

    def outcomes(self) -> dict[str, float]:
        """How calls of the application have ended."""
        return {outcome: count for outcome, count in self.figures.outcomes(self.app).items() if count}

    def descriptors(self) -> list[str]:
        """The broker's, without the numbers in them."""
        found = processes.open_files(self.pool.broker)
        return sorted(name.partition(":[")[0] for name in found)

    def replaced(self, worker: int) -> bool:
        """Whether callers get another worker."""
        return self.call("pid") != worker

    def is_settled(self) -> bool:
        about = status(self.pool)["workers"]
        return len(about) == len(ROWS) and all(one["state"] == "ready" and not one["calls"] for one in about)


@pytest.fixture(scope="module")
def shared(serve_module) -> Iterator[Scene]:
    port = free_port()
    pool = started(serve_module, CONFIG, "--metrics-bind", f"127.0.0.1:{port}", heavy=HEAVY)
    yield Scene(pool, Figures(Monitoring(("127.0.0.1", port))))
    pool.close()


@pytest.fixture
def scene(shared: Scene) -> Iterator[Callable[[str], Scene]]:
    """``scene(row)``; in the end nothing of it is left: no call, no memory, no descriptor."""

    def of(row: str) -> Scene:
        shared.app = f"heavy:{row}"
        return shared

    yield of
    shared.wait_until_settled()
    wait_for(lambda: shared.descriptors() == shared.before, what=lambda: f"{shared.descriptors()}, not {shared.before}")
    wait_for(lambda: shared.figures("calls_in_flight", app=shared.app) == 0)
    assert not [name for name in processes.open_files(os.getpid()) if "oxicorn-call" in name]


def read_into(pieces: list[object], stream: Iterator[object]) -> None:
    """Keeps what came before an exception, too."""
    for piece in stream:
        pieces.append(piece)


@pytest.mark.parametrize(
    ("row", "end", "how"),
    [
        ("Killed", "kill", "was ended by signal 9"),
        ("Exits", "exit", "exited with code 7"),
        ("Crashes", "segfault", "was ended by signal 11"),
    ],
)
def test_all_that_a_worker_sent_before_it_died_arrives_and_then_the_reason(scene, row, end, how):
    here = scene(row)
    worker = here.call("pid")
    stream = here.stream("end_after", 20, end)
    pieces: list[object] = []
    with pytest.raises(DirtyWorkerError, match=rf"The dirty worker \(pid:{worker}\) {how}") as caught:
        read_into(pieces, stream)
    assert pieces == [bytes([number]) * 100_000 for number in range(20)]
    assert caught.value.worker_id == worker
    with pytest.raises(StopIteration):
        next(stream)
    assert here.replaced(worker)
    wait_for(lambda: here.outcomes() == {"ok": 2, "worker_lost": 1}, what=lambda: repr(here.outcomes()))


def test_of_a_piece_that_was_being_sent_nothing_arrives(scene):
    here = scene("Blocked")
    worker = here.call("pid")
    stream = here.stream("run_ahead")
    first = next(stream)
    # More than may lie in the broker and in sockets is never sent, so it soon stands in the middle of one.
    wait_for(lambda: int(here.pool.server.read("ahead") or 0) > 8)
    os.kill(worker, signal.SIGKILL)
    pieces = [first]
    with pytest.raises(DirtyWorkerError, match="signal 9"):
        read_into(pieces, stream)
    assert pieces == [bytes([number % 256]) * 60_000 for number in range(len(pieces))]
    assert here.replaced(worker)


@pytest.mark.parametrize(
    ("row", "leave", "log"),
    [
        ("Told", lambda here, worker: os.kill(worker, signal.SIGTERM), ""),
        ("Counted", lambda here, worker: [here.call("pid") for _ in range(6)], "it has run 6 calls"),
        ("Grown", lambda here, worker: here.call("grow", 300 << 20), r"it holds \d+ bytes"),
    ],
)
def test_a_stream_goes_on_to_its_end_in_a_worker_that_is_replaced_meanwhile(scene, row, leave, log):
    here = scene(row)
    stream = here.stream("gated", row)
    worker = next(stream)
    leave(here, worker)
    wait_for(lambda: here.replaced(worker))
    if log:
        here.pool.server.wait_for_log(rf"Dirty worker {worker} is to be replaced: {log}")
    assert processes.is_alive(worker)
    here.pool.open_gate(row)
    assert list(stream) == [bytes([number]) * 100_000 for number in range(3)]
    wait_for(lambda: not processes.is_alive(worker))


def test_a_worker_does_not_go_to_rest_in_the_middle_of_a_stream(start):
    config = """
dirty_apps = ["heavy:Told:1", "heavy:Grown:1"]
dirty_workers = 2
dirty_idle_timeout = 1
"""
    pool = start(config, heavy=HEAVY)
    stream = pool.client.stream("heavy:Told", "gated", "gate")
    worker = next(stream)
    # The other one's time begins later, and is over.
    other = pool.client.execute("heavy:Grown", "pid")
    wait_for(lambda: not processes.is_alive(other))
    assert processes.is_alive(worker)
    pool.open_gate()
    assert len(list(stream)) == 3
    wait_for(lambda: not processes.is_alive(worker))
    assert pool.client.execute("heavy:Told", "pid") not in (worker, other)


def is_asleep(pid: int) -> bool:
    """Whether no thread of the process runs at the moment."""
    states = (task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(state == "S" for state in states)


def test_a_worker_that_dies_while_it_writes_a_long_message(scene):
    here = scene("Listed")
    worker, broker = here.call("pid"), here.pool.broker
    call = Calling(lambda: here.call("small", 600, "small-gate"))
    wait_for(lambda: here.figures("calls_in_flight", app=here.app) == 1)
    # It reads nothing of the 36 MB until the worker is gone.
    os.kill(broker, signal.SIGSTOP)
    try:
        here.pool.open_gate("small-gate")
        wait_for(lambda: here.pool.server.directory.joinpath("small").exists())
        wait_for(lambda: is_asleep(worker))
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not processes.is_alive(worker))
    finally:
        os.kill(broker, signal.SIGCONT)
    assert isinstance(call.ended().error, DirtyWorkerError)
    assert "was ended by signal 9" in str(call.error)
    assert here.replaced(worker)
    assert here.call("small", 600, "small-gate") == [bytes(60_000)] * 600


LARGE = 200_000_000


def size_under_way(pid: int) -> int | None:
    """How much of a large result the process has written into shared memory; None: it writes none."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "oxicorn-call" in os.readlink(link):
                return link.stat().st_size
        except OSError:
            continue
    return None


def stopped_in_the_middle(pid: int, ends: Callable[[], bool]) -> bool:
    """Stops the process while it writes; False: it was too quick, and has gone on."""
    wait_for(lambda: size_under_way(pid) is not None or ends())
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    size = size_under_way(pid)
    if size is not None and size < LARGE:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def test_a_worker_that_dies_while_it_writes_into_shared_memory(scene):
    here = scene("Shared")
    worker = here.call("pid")
    for _ in range(4):
        call = Calling(lambda: here.call("large", LARGE))
        if stopped_in_the_middle(worker, lambda call=call: not call.is_alive()):
            break
        assert len(call.ended().result) == LARGE
    os.kill(worker, signal.SIGKILL)
    assert isinstance(call.ended().error, DirtyWorkerError)
    assert "was ended by signal 9" in str(call.error)
    assert here.replaced(worker)
    assert here.call("large", 1 << 20) == bytes(1 << 20)


BALLOON = """
class App:
    def init(self):
        pass

    def __call__(self, action):
        # Its memory file does not fit beside it.
        return [b"x" * 20_000_000] * 6

    def close(self):
        pass
"""


def test_a_worker_whose_result_is_too_large_for_its_memory(control_group, start):  # noqa: F811
    procs = str(control_group / "cgroup.procs")
    config = f"import os\nwith open({procs!r}, 'w') as file: file.write(str(os.getpid()))\n"
    pool = start(config, heavy=BALLOON)
    before = pool.workers
    with pytest.raises(DirtyWorkerError, match="was ended by the kernel: the memory of its control group was used up"):
        pool.call("balloon")
    wait_for(lambda: pool.workers and pool.workers != before)
