"""Signals and commands that come while calls stream, run and wait: what becomes of each of them."""

from __future__ import annotations

import os
import signal

import pytest

from oxicorn.dirty import DirtyClient, DirtyConnectionError, DirtyNoWorkersAvailableError, DirtyWorkerError
from tests.monitoring.test_control import run
from tests.pool.conftest import HEAVY, Pool, Start, read_number
from tests.pool.test_deaths import Calling, status
from tests.pool.test_life import booted
from tests.support.processes import is_alive
from tests.support.wait import wait_for

#: A worker that runs two calls at once, and an application that calls another one.
CONFIG = """
dirty_threads = 2
dirty_graceful_timeout = 20
pidfile = "pid"
"""


def queued(pool: Pool) -> int:
    """How many calls wait."""
    return sum(app["queued"] for app in status(pool)["apps"])


class InHand:
    """Of one worker: a stream of which a piece was read, a call that runs and one that waits."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.stream = pool.client.stream("heavy:App", "gated")
        self.worker = next(self.stream)
        self.running = Calling(lambda: pool.call("wait"))
        assert pool.wait_for_begun(1) == [self.worker]
        self.waiting = Calling(lambda: pool.call("echo", "waited"))
        wait_for(lambda: queued(pool) == 1)

    def assert_all_end_well(self) -> None:
        self.pool.open_gate()
        assert list(self.stream) == ["the rest"]
        assert self.running.ended().result == self.worker
        assert self.waiting.ended().result == "waited"

    def assert_what_ran_is_told(self, text: str) -> None:
        with pytest.raises(DirtyWorkerError, match=text) as caught:
            next(self.stream)
        assert caught.value.worker_id == self.worker
        assert isinstance(self.running.ended().error, DirtyWorkerError)
        assert text in str(self.running.error)


@pytest.fixture
def in_hand(start: Start) -> InHand:
    return InHand(start(CONFIG))


def test_a_stop_finishes_what_streams_runs_and_waits(in_hand):
    pool = in_hand.pool
    pool.server.kill(signal.SIGTERM)
    wait_for(lambda: status(pool)["workers"][0]["state"] == "retiring")
    # Who comes now is not one of those.
    with pytest.raises(DirtyNoWorkersAvailableError):
        pool.call("echo", 1)
    in_hand.assert_all_end_well()
    assert pool.server.wait_for_exit() == 0
    assert "did not finish" not in pool.server.log


CALLS_ANOTHER = (
    HEAVY
    + """

class Front(DirtyApp):
    def ask(self):
        # Once the server has been told to stop.
        (HERE / "asks").touch()
        while not (HERE / "gate").exists():
            time.sleep(0.005)
        from gunicorn.dirty import get_dirty_client
        return get_dirty_client().execute("heavy:App", "echo", "answered")
"""
)


def test_a_call_that_calls_another_application_finishes_in_a_stop(start):
    pool = start('dirty_apps = ["heavy:Front:1", "heavy:App:1"]\ndirty_workers = 2\n', heavy=CALLS_ANOTHER)
    wait_for(lambda: len(booted(pool)) == 2)
    call = Calling(lambda: pool.client.execute("heavy:Front", "ask"))
    wait_for(lambda: (pool.server.directory / "asks").exists())
    pool.server.kill(signal.SIGTERM)
    wait_for(lambda: [worker["state"] for worker in status(pool)["workers"]] == ["retiring"] * 2)
    pool.open_gate()
    assert call.ended().result == "answered"
    assert pool.server.wait_for_exit() == 0


def test_what_waits_for_who_dies_in_a_stop_is_told_at_once(in_hand):
    pool = in_hand.pool
    pool.server.kill(signal.SIGTERM)
    wait_for(lambda: status(pool)["workers"][0]["state"] == "retiring")
    os.kill(in_hand.worker, signal.SIGKILL)
    in_hand.assert_what_ran_is_told("was ended by signal 9")
    assert isinstance(in_hand.waiting.ended().error, DirtyNoWorkersAvailableError)
    assert pool.server.wait_for_exit() == 0


def test_what_takes_too_long_for_a_stop_is_told_so(start):
    in_hand = InHand(start(CONFIG + "dirty_graceful_timeout = 1\n"))
    pool = in_hand.pool
    pool.server.kill(signal.SIGTERM)
    in_hand.assert_what_ran_is_told("was stopped with its server")
    assert isinstance(in_hand.waiting.ended().error, (DirtyNoWorkersAvailableError, DirtyConnectionError))
    assert pool.server.wait_for_exit() == 0
    pool.server.wait_for_log("did not finish its calls within dirty_graceful_timeout")
    assert "FATAL" not in pool.server.log


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT], ids=lambda number: number.name)
def test_a_quick_stop_tells_what_ran_and_ends_in_order(in_hand, number):
    pool = in_hand.pool
    pool.server.write("heavy.py", "")
    assert pool.server.stop(number) == 0
    in_hand.assert_what_ran_is_told("was stopped with its server")
    assert isinstance(in_hand.waiting.ended().error, (DirtyNoWorkersAvailableError, DirtyConnectionError))
    # Threads that stand in native code do not abort the process.
    assert "FATAL" not in pool.server.log


def test_a_reload_finishes_what_streams_and_runs_in_the_old_and_what_waits_in_the_new(in_hand):
    pool = in_hand.pool
    pool.server.kill(signal.SIGHUP)
    # Before the old one has a free thread.
    assert in_hand.waiting.ended().result == "waited"
    in_hand.assert_all_end_well()
    wait_for(lambda: not is_alive(in_hand.worker))


def test_an_application_that_a_reload_takes_away_is_told_to_who_waits_for_it(start):
    pool = start('dirty_apps = ["heavy:App:1", "heavy:Two:1"]\ndirty_workers = 2\n' + CONFIG)
    in_hand = InHand(pool)
    config = pool.server.directory / "gunicorn.conf.py"
    pool.server.write("gunicorn.conf.py", config.read_text() + '\ndirty_apps = ["heavy:Two:1"]\n')
    pool.server.kill(signal.SIGHUP)
    with pytest.raises(DirtyNoWorkersAvailableError, match=r"heavy:App"):
        raise in_hand.waiting.ended().error
    pool.open_gate()
    assert list(in_hand.stream) == ["the rest"]
    assert in_hand.running.ended().result == in_hand.worker


def test_a_successor_of_the_server_has_a_pool_of_its_own_and_the_old_one_finishes(in_hand):
    pool = in_hand.pool
    old, socket = pool.server.pid, pool.path
    pool.server.kill(signal.SIGUSR2)
    wait_for(lambda: pool.server.read("socket") not in ("", socket), what=lambda: pool.server.log)
    with DirtyClient(pool.server.read("socket"), timeout=30.0) as client:
        assert client.execute("heavy:App", "pid") != in_hand.worker
        assert client.execute("heavy:App", "echo", "new") == "new"
        pool.server.kill(signal.SIGTERM)
        in_hand.assert_all_end_well()
        assert pool.server.wait_for_exit() == 0
        wait_for(lambda: (read_number(pool.server.directory / "pid") or old) != old)
        pool.server.follow("pid")
        assert client.execute("heavy:App", "echo", "new") == "new"


# More and fewer workers.


def order(pool: Pool, way: str, more: bool) -> None:
    """One worker more or less, by a command or by a signal."""
    if way == "signal":
        os.kill(pool.broker, signal.SIGTTIN if more else signal.SIGTTOU)
        return
    done = run("oxicornctl", pool.server, "dirty", "add" if more else "remove")
    assert done.returncode == 0, done.stderr


class Scaled:
    """A pool with calls that run until the gate opens, and others that wait."""

    def __init__(self, pool: Pool, workers: int) -> None:
        self.pool = pool
        wait_for(lambda: len(booted(pool)) == workers)
        self.running = [Calling(lambda: pool.call("wait")) for _ in range(workers)]
        self.begun = pool.wait_for_begun(workers)
        self.waiting = [Calling(lambda: pool.call("wait")) for _ in range(4)]
        wait_for(lambda: queued(pool) == 4)

    def assert_none_is_lost(self) -> None:
        self.pool.open_gate()
        assert [call.ended().error for call in self.running + self.waiting] == [None] * (len(self.running) + 4)
        assert len(self.pool.server.lines("begun")) == len(self.running) + 4, "each is made once"


SCALED = 'dirty_workers = {}\ncontrol_socket = "control"\n'


@pytest.mark.parametrize("way", ["command", "signal"])
def test_a_worker_that_is_added_takes_what_waits(start, way):
    scaled = Scaled(start(SCALED.format(1)), 1)
    order(scaled.pool, way, more=True)
    # The first is still at its call.
    begun = scaled.pool.wait_for_begun(2)
    assert len(set(begun)) == 2
    assert queued(scaled.pool) == 3
    scaled.assert_none_is_lost()


@pytest.mark.parametrize("way", ["command", "signal"])
def test_a_worker_that_is_removed_finishes_its_call_and_the_others_take_what_waits(start, way):
    pool = start(SCALED.format(2))
    scaled = Scaled(pool, 2)
    order(pool, way, more=False)
    wait_for(lambda: len(booted(pool)) == 1)
    assert set(pool.workers) == set(scaled.begun), "both are at their calls"
    assert queued(pool) == 4
    (stays,) = booted(pool)
    scaled.assert_none_is_lost()
    assert {call.result for call in scaled.waiting} == {stays}
    wait_for(lambda: pool.workers == [stays])


@pytest.mark.parametrize("way", ["command", "signal"])
def test_an_application_whose_only_worker_is_removed_moves_to_another(start, way):
    pool = start('dirty_apps = ["heavy:Two:1", "heavy:App:1"]\n' + SCALED.format(2))
    wait_for(lambda: len(booted(pool)) == 2)
    running = Calling(lambda: pool.call("wait"))
    (old,) = pool.wait_for_begun(1)
    waiting = Calling(lambda: pool.call("pid"))
    wait_for(lambda: queued(pool) == 1)
    order(pool, way, more=False)
    new = waiting.ended().result
    assert new != old
    # The one that had the other application alone may be asked until it is told to go.
    wait_for(lambda: pool.client.execute("heavy:Two", "x")[1] == new)
    pool.open_gate()
    assert running.ended().result == old
    wait_for(lambda: pool.workers == [new])
