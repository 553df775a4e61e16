"""Workers that die, hang or do not listen, each with what its callers see."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from oxicorn.dirty import (
    DirtyClient,
    DirtyConnectionError,
    DirtyError,
    DirtyNoWorkersAvailableError,
    DirtyQueueFullError,
    DirtyTimeoutError,
    DirtyWorkerError,
)
from tests.support.processes import is_alive
from tests.support.wait import stays, wait_for


class Calling(threading.Thread):
    """A call made by another thread."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.result: object = None
        self.error: DirtyError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._call()
        except DirtyError as error:
            self.error = error

    def ended(self) -> Calling:
        self.join(20.0)
        assert not self.is_alive(), "the call has not ended"
        return self


@pytest.mark.parametrize(
    ("action", "args", "how"),
    [
        ("die", (), "was ended by signal 9"),
        ("die", (7,), "exited with code 7"),
        ("crash", (), "was ended by signal 11"),
    ],
)
def test_the_caller_of_a_worker_that_dies_is_told_how_at_once(start, action, args, how):
    pool = start()
    before = pool.call("pid")
    with pytest.raises(DirtyWorkerError, match=how) as caught:
        pool.call(action, *args)
    assert caught.value.worker_id == before
    # Whoever calls next waits for the successor.
    assert pool.call("pid") not in (before, None)
    pool.server.wait_for_log(rf"\[ERROR\] Dirty worker \(pid:{before}\) {how}")


def test_who_waits_for_a_worker_that_dies_goes_to_the_next(start):
    pool = start()
    running = Calling(lambda: pool.call("wait"))
    (worker,) = pool.wait_for_begun(1)
    waiting = [Calling(lambda: pool.call("pid")) for _ in range(5)]
    wait_for(lambda: status(pool)["apps"][0]["queued"] == 5)
    os.kill(worker, signal.SIGKILL)
    assert isinstance(running.ended().error, DirtyWorkerError)
    results = {call.ended().result for call in waiting}
    assert len(results) == 1
    assert worker not in results


def test_a_stream_whose_worker_dies_ends_with_the_reason(start):
    pool = start()
    stream = pool.client.stream("heavy:App", "advance")
    next(stream)
    os.kill(pool.workers[0], signal.SIGKILL)
    with pytest.raises(DirtyWorkerError, match="signal 9"):
        list(stream)


def test_answers_given_before_the_death_arrive(start):
    pool = start(heavy=HEAVY_ANSWERS)
    for _ in range(5):
        assert pool.call("answer_and_die") == "answered"


HEAVY_ANSWERS = """
import os, threading
class App:
    def init(self): pass
    def close(self): pass
    def __call__(self, action):
        # Its answer is on the way when the process ends.
        threading.Timer(0.05, os._exit, (1,)).start()
        return "answered"
"""


def status(pool):
    from oxicorn.dirty import client

    return pool.client.ask(client.STATUS, {})


def test_a_call_over_its_time_ends_and_the_worker_serves_on(start):
    pool = start("dirty_timeout = 1")
    worker = pool.call("pid")
    with pytest.raises(DirtyTimeoutError, match=r"heavy:App.wait timed out after 1 s") as caught:
        pool.call("wait", "never")
    assert caught.value.timeout == 1.0
    assert pool.call("pid") == worker
    pool.server.wait_for_log(r"heavy:App.wait was cancelled")


def test_coroutines_and_streams_over_their_time_end_too(start):
    pool = start("dirty_timeout = 1")
    worker = pool.call("pid")
    with pytest.raises(DirtyTimeoutError):
        pool.call("wait_async")
    wait_for(lambda: pool.server.read("closed") == "asleep")
    (pool.server.directory / "closed").unlink()
    stream = pool.client.stream("heavy:App", "advance")
    with pytest.raises(DirtyTimeoutError):
        for _ in stream:
            pass
    wait_for(lambda: pool.server.read("closed"))
    assert pool.call("pid") == worker


def test_a_worker_that_does_not_come_back_is_ended_with_its_stacks_in_the_log(start):
    pool = start("dirty_timeout = 1")
    call = Calling(lambda: pool.call("deaf"))
    (worker,) = pool.wait_for_begun(1)
    assert isinstance(call.ended().error, DirtyTimeoutError)
    wait_for(lambda: not is_alive(worker))
    assert pool.call("pid") != worker
    pool.server.wait_for_log(rf"\[CRITICAL\] DIRTY WORKER TIMEOUT \(pid:{worker}\): heavy:App.deaf")
    pool.server.wait_for_log(rf"Stacks of dirty worker \(pid:{worker}\):")
    pool.server.wait_for_log(r'heavy\.py", line \d+ in deaf')


def test_without_a_timeout_calls_take_as_long_as_they_like(start):
    pool = start("dirty_timeout = 0")
    call = Calling(lambda: pool.call("wait"))
    pool.wait_for_begun(1)
    stays(call.is_alive, 1.0)
    pool.open_gate()
    assert call.ended().result == pool.call("pid")


def test_a_caller_that_leaves_cancels_its_calls(start):
    pool = start()
    # The time of the next call is for the call alone, not for the worker's start.
    assert pool.call("echo", 0) == 0
    running = Calling(lambda: DirtyClient(pool.path, timeout=6.0).execute("heavy:App", "wait", "never"))
    pool.wait_for_begun(1)
    queued = Calling(lambda: DirtyClient(pool.path, timeout=0.1).execute("heavy:App", "wait", "never"))
    assert isinstance(queued.ended().error, DirtyTimeoutError)
    assert isinstance(running.ended().error, DirtyTimeoutError)
    assert pool.call("echo", 1) == 1
    assert len(pool.server.lines("begun")) == 1, "what nobody waited for was not begun"


def test_a_stream_that_nobody_reads_does_not_run_ahead_and_is_closed(start):
    pool = start()
    stream = pool.client.stream("heavy:App", "advance")
    next(stream)
    read = pool.server.read

    def advanced() -> int | None:
        """None for the moment in which the file is empty, because it is written anew."""
        text = read("advanced")
        return int(text) if text.isdigit() else None

    wait_for(lambda: (advanced() or 0) > 10)
    before = None

    def stands_still() -> bool:
        nonlocal before
        last, before = before, advanced()
        return last == before and before is not None

    wait_for(lambda: stands_still() or bool(time.sleep(0.2)))
    assert before is not None
    assert before < 500, "5 MB lie in buffers"
    stream.close()
    wait_for(lambda: read("closed") != "")
    assert pool.call("echo", 1) == 1


def test_a_queue_that_is_full_says_so(start):
    pool = start("dirty_queue_limit = 2")
    calls = [Calling(lambda: pool.call("wait"))]
    pool.wait_for_begun(1)
    calls += [Calling(lambda: pool.call("wait")) for _ in range(2)]
    wait_for(lambda: status(pool)["apps"][0]["queued"] == 2)
    with pytest.raises(DirtyQueueFullError, match=r"heavy:App: 2, which is dirty_queue_limit") as caught:
        pool.call("wait")
    assert isinstance(caught.value, DirtyNoWorkersAvailableError)
    pool.open_gate()
    assert [call.ended().error for call in calls] == [None, None, None]


def test_threads_run_so_many_calls_at_once(start):
    pool = start("dirty_threads = 4")
    calls = [Calling(lambda: pool.call("wait")) for _ in range(4)]
    assert len(set(pool.wait_for_begun(4))) == 1
    pool.open_gate()
    for call in calls:
        call.ended()
    assert pool.call("most_together") == 4


def test_calls_go_to_whoever_is_free(start):
    pool = start("dirty_workers = 3")
    wait_for(lambda: sum(worker["booted"] for worker in status(pool)["workers"]) == 3)
    busy = [Calling(lambda: pool.call("wait")) for _ in range(2)]
    occupied = pool.wait_for_begun(2)
    assert len(set(occupied)) == 2
    free = {pool.call("pid") for _ in range(20)}
    assert len(free) == 1
    assert not free & set(occupied)
    pool.open_gate()
    for call in busy:
        call.ended()


def test_code_that_cannot_be_loaded_is_told_to_callers_and_tried_again_slowly(start):
    began = time.monotonic()
    pool = start(heavy="raise RuntimeError('not today')")
    pool.server.wait_for_log(r"Dirty worker failed to boot", count=2)
    pool.server.wait_for_log("RuntimeError: not today")

    def refused() -> bool:
        try:
            DirtyClient(pool.path, timeout=5.0).execute("heavy:App", "pid")
        except DirtyNoWorkersAvailableError:
            return True
        except DirtyTimeoutError:
            # It is being tried at the moment, and who calls waits for that.
            return False
        raise AssertionError

    wait_for(refused)
    assert pool.server.get().status == 200
    # The longer it takes the more often it was tried, but never without a pause.
    assert pool.server.log.count("Booting dirty worker") < 10 + (time.monotonic() - began) / 5
    pool.server.write(
        "heavy.py",
        "class App:\n  def init(self): pass\n  def close(self): pass\n  def __call__(self, action): return action\n",
    )
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: Calling(lambda: pool.call("now")).ended().result == "now")


def test_a_dead_broker_is_replaced_and_the_stash_survives(start):
    pool = start()
    pool.stash.put("table", "key", [1, (2,)])
    pool.stash.increment("table", "counter", 5)
    before, workers = pool.broker, pool.workers
    call = Calling(lambda: pool.call("wait"))
    pool.wait_for_begun(1)
    os.kill(before, signal.SIGKILL)
    assert isinstance(call.ended().error, DirtyConnectionError)
    wait_for(lambda: pool.server.pids("dirty-arbiter") not in ([], [before]))
    assert DirtyClient(pool.path, timeout=20.0).execute("heavy:App", "pid") not in workers
    wait_for(lambda: not is_alive(workers[0]))
    pool.stash.close()
    assert pool.stash.get("table", "key") == [1, (2,)]
    assert pool.stash.increment("table", "counter") == 6


def test_nobody_is_left_when_the_arbiter_is_killed(start):
    pool = start()
    assert pool.call("echo", 1) == 1
    pool.server.kill(signal.SIGKILL)
    pool.close()
    wait_for(lambda: not pool.server.processes(), what=lambda: repr(pool.server.processes()))
