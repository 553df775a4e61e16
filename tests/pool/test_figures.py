"""The pool among the server's metrics: each call counts once, whatever becomes of it; counters never go back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from oxicorn.dirty import DirtyClient
from oxicorn.dirty.errors import DirtyError
from tests.monitoring.test_control import ask
from tests.monitoring.test_metrics import Monitoring
from tests.pool.conftest import Pool, started
from tests.support.http import Peer
from tests.support.ports import free_port
from tests.support.wait import wait_for

APP = "heavy:App"
CONFIG = """
dirty_workers = 1
dirty_queue_limit = 2
dirty_timeout = 60
control_socket = "control"
dashboard = True
"""


class Figures:
    """What the metrics say of ``heavy:App``, or of the whole pool."""

    def __init__(self, monitoring: Monitoring) -> None:
        self.monitoring = monitoring

    def __call__(self, name: str, **labels: str) -> float:
        series = (f"oxicorn_pool_{name}", *sorted(f"{label}={value}" for label, value in labels.items()))
        return self.monitoring.samples().get(series, 0)

    def ages(self, app: str = APP) -> tuple[float, float]:
        """For how long the oldest call waits, and runs."""
        queued, running = (self("oldest_call_seconds", app=app, state=state) for state in ("queued", "running"))
        return queued, running

    def dashboard(self, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The first that a viewer of the dashboard gets to see of what is ``wanted``."""
        data = b""
        with Peer(self.monitoring.address) as peer:
            peer.send(b"GET /dashboard/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while True:
                for found in re.finditer(rb"event: state\ndata: (.*)\n", data):
                    state: dict[str, Any] = json.loads(found[1])
                    if wanted(state):
                        return state
                data += peer.receive(65536)

    def outcomes(self, app: str = APP) -> dict[str, float]:
        found = {}
        for (name, *labels), value in self.monitoring.samples().items():
            if name == "oxicorn_pool_calls_total" and f"app={app}" in labels:
                (outcome,) = (label for label in labels if label.startswith("outcome="))
                found[outcome.removeprefix("outcome=")] = value
        return found

    def counters(self) -> dict[tuple[str, ...], float]:
        samples = self.monitoring.samples().items()
        return {key: value for key, value in samples if key[0].endswith(("_total", "_count", "_bucket", "_sum"))}


def begun(serve, config: str = CONFIG) -> tuple[Pool, Figures]:
    """A pool whose worker is there, and what the metrics say of it."""
    port = free_port()
    pool = started(serve, config, "--metrics-bind", f"127.0.0.1:{port}")
    figures = Figures(Monitoring(("127.0.0.1", port)))
    wait_for(lambda: figures("workers", app=APP) == 1)
    return pool, figures


@pytest.fixture(scope="module")
def scene(serve_module) -> Iterator[tuple[Pool, Figures]]:
    pool, figures = begun(serve_module)
    yield pool, figures
    pool.close()


@contextlib.contextmanager
def counted(figures: Figures, outcome: str, by: int = 1, app: str = APP) -> Iterator[None]:
    """So many more calls have ended like that, and none otherwise."""
    before = figures.outcomes(app)
    yield

    def more() -> dict[str, float]:
        grown = {one: count - before.get(one, 0) for one, count in figures.outcomes(app).items()}
        return {one: count for one, count in grown.items() if count}

    wait_for(lambda: sum(more().values()) >= by)
    assert more() == {outcome: by}


def failing(call) -> type[DirtyError]:
    with pytest.raises(DirtyError) as raised:
        call()
    return raised.type


def test_results_and_errors_are_told_apart(scene):
    pool, figures = scene
    runs, waits = (figures(f"call_{what}_seconds_count", app=APP) for what in ("run", "wait"))
    with counted(figures, "ok", by=3):
        assert pool.call("echo", 1) == 1
        assert pool.call("later", 2) == 2
        assert list(pool.client.stream(APP, "count", 3)) == [0, 1, 2]
    with counted(figures, "error", by=2):
        failing(lambda: pool.call("fail"))
        failing(lambda: list(pool.client.stream(APP, "break_off", 2)))
    assert figures("call_run_seconds_count", app=APP) == runs + 5
    assert figures("call_wait_seconds_count", app=APP) == waits + 5


def test_calls_nobody_serves_are_counted_under_one_name(scene):
    pool, figures = scene
    with counted(figures, "no_workers", by=2, app="other"):
        for name in ("heavy:Ap", "no:Such"):
            failing(partial(pool.client.execute, name, "echo", 1))
    assert not figures.outcomes("no:Such")


def test_calls_over_their_time_are_timeouts(serve):
    pool, figures = begun(serve, CONFIG.replace("dirty_timeout = 60", "dirty_timeout = 1"))
    with contextlib.closing(pool), counted(figures, "timeout"):
        failing(lambda: pool.call("wait", "never"))
    wait_for(lambda: figures("calls_in_flight", app=APP) == 0)


def test_calls_of_who_has_left_are_cancelled(scene):
    pool, figures = scene
    with counted(figures, "cancelled"):
        impatient = DirtyClient(pool.path, timeout=0.2)
        failing(lambda: impatient.execute(APP, "wait_async"))
        impatient.close()
    wait_for(lambda: figures("calls_in_flight", app=APP) == 0)


def test_what_waits_and_runs_is_shown_and_what_finds_no_room_is_counted(scene):
    pool, figures = scene
    before = figures.outcomes()
    threads = []

    def are_there(count: int) -> bool:
        return figures("calls_in_flight", app=APP) + figures("queue_depth", app=APP) == count

    try:
        for number in range(3):
            threads.append(threading.Thread(target=lambda: DirtyClient(pool.path).execute(APP, "wait", "queue")))
            threads[-1].start()
            wait_for(partial(are_there, number + 1))
        assert figures("calls_in_flight", app=APP) == 1
        assert figures("queue_depth", app=APP) == 2
        assert figures("callers") >= 3
        queued, running = figures.ages()
        assert queued > 0
        assert running > 0
        shown = figures.dashboard(lambda state: len(state["calls"]) == 1)
        (call,) = shown["calls"]
        assert (call["call"], call["worker"], call["caller"]) == (f"{APP}.wait", *pool.workers, os.getpid())
        assert call["age_ms"] >= int(running * 1000)
        (app,) = (one for one in shown["heavy"] if one["app"] == APP)
        assert (app["queued"], app["running"], shown["calls_total"]) == (2, 1, 1)
        assert app["queued_ms"] >= int(queued * 1000)
        assert app["running_ms"] >= int(running * 1000)
        with counted(figures, "queue_full"):
            failing(lambda: pool.call("echo", 1))
    finally:
        pool.open_gate("queue")
        for thread in threads:
            thread.join()
    wait_for(lambda: figures.outcomes()["ok"] == before["ok"] + 3)
    wait_for(lambda: figures("queue_depth", app=APP) == 0 and figures.ages() == (0, 0))
    figures.dashboard(lambda state: state["calls"] == [])


def test_the_stash_is_shown(scene):
    """Within a second, also what callers did without the broker."""
    pool, figures = scene

    def counted() -> list[float]:
        names = ("put", "get")
        return [figures("stash_operations_total", operation=name) for name in names]

    puts, gets = counted()
    for number in range(300):
        pool.stash.put("figures", number % 3, "x" * 100)
        pool.stash.get("figures", number % 3)
    wait_for(lambda: counted() == [puts + 300, gets + 300], what=lambda: f"{counted()} after {[puts, gets]}")
    assert figures("stash_entries") == 3
    assert figures("stash_tables") == 1
    assert figures("stash_bytes") > 300
    pool.stash.delete_table("figures")
    wait_for(lambda: figures("stash_bytes") == 0)


def test_counters_never_go_back(scene):
    """Not when a worker dies, not when the broker dies, not with a reload that leaves the application out."""
    pool, figures = scene
    seen = figures.counters()

    def grown() -> dict[tuple[str, ...], float]:
        after = figures.counters()
        assert not [key for key, value in seen.items() if after.get(key, -1) < value]
        return after

    with counted(figures, "worker_lost"):
        failing(lambda: pool.call("die"))
    wait_for(lambda: figures("workers", app=APP) == 1)
    seen = grown()
    assert figures("worker_exits_total", reason="signal") == 1

    broker, brokers = pool.broker, figures("brokers_spawned_total")
    with counted(figures, "broker_lost"):
        caller = threading.Thread(target=failing, args=(lambda: DirtyClient(pool.path).execute(APP, "wait", "never"),))
        caller.start()
        wait_for(lambda: figures("calls_in_flight", app=APP) == 1)
        os.kill(broker, signal.SIGKILL)
        caller.join()
    wait_for(lambda: figures("brokers_spawned_total") == brokers + 1 and figures("workers", app=APP) == 1)
    wait_for(lambda: figures("calls_in_flight", app=APP) == 0 and figures.ages() == (0, 0))
    figures.dashboard(lambda state: state["calls"] == [])
    seen = grown()

    config = pool.server.directory / "gunicorn.conf.py"
    config.write_text(config.read_text() + '\ndirty_apps = ["heavy:Two"]\n')
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: figures("workers", app="heavy:Two") == 1)
    wait_for(lambda: figures("workers", app=APP) == 0)
    with counted(figures, "ok", app="heavy:Two"):
        with DirtyClient(pool.path) as client:
            client.execute("heavy:Two", "echo")
    grown()


def test_the_control_socket_tells_them_too(scene):
    pool, figures = scene
    calls = ask(pool.server, "show", "stats")["dirty_calls"]
    assert "other" not in calls
    assert {name: calls[APP][name] for name in figures.outcomes()} == figures.outcomes()
    assert (calls[APP]["workers"], calls[APP]["queued"], calls[APP]["in_flight"]) == (0, 0, 0)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_has_nothing_to_say(scene):
    _, figures = scene
    text = figures.monitoring.get("/metrics").text
    assert "oxicorn_pool_calls_total" in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
