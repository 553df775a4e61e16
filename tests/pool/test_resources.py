"""What workers of the pool are given, and when others take their place."""

from __future__ import annotations

import asyncio
import os

import pytest

from oxicorn.dirty import DirtyClient, DirtyNoWorkersAvailableError, DirtyTimeoutError, DirtyWorkerError
from tests.monitoring.test_control import run
from tests.monitoring.test_errors import control_group  # noqa: F401 - a fixture
from tests.pool.conftest import HEAVY
from tests.pool.test_deaths import Calling, status
from tests.pool.test_life import booted
from tests.support.processes import is_alive
from tests.support.wait import wait_for


def test_each_place_has_its_environment_and_keeps_it(start):
    pool = start('dirty_workers = 2\ndirty_app_env = ["DEVICE=gpu{place}", "A=b=c"]\n')
    wait_for(lambda: len(booted(pool)) == 2)

    def device_of(pid: int) -> str:
        return (pool.server.directory / f"device-{pid}").read_text()

    before = {pid: device_of(pid) for pid in booted(pool)}
    assert sorted(before.values()) == ["gpu0 b=c", "gpu1 b=c"]
    victim, device = before.popitem()
    os.kill(victim, 9)
    successors = wait_for(lambda: len(now := set(booted(pool)) - {victim}) == 2 and now - set(before))
    assert [device_of(pid) for pid in successors] == [device]


def environments(pool, file: str) -> dict[str, list[tuple[str, ...]]]:
    """Of each application the environments that its workers have noted in a file of this name."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for app in status(pool)["apps"]:
        noted = ((pool.server.directory / f"{file}-{pid}").read_text() for pid in app["worker_pids"])
        found[app["import_path"]] = sorted(tuple(text.split()) for text in noted)
    return found


#: Notes the environment at import, before anything else can look at it, and with `init`.
NOTED = """
import os
from pathlib import Path

def note(file):
    shown = [os.environ.get(name, "-") for name in ("GPU", "OTHER")]
    (Path(__file__).parent / f"{file}-{os.getpid()}").write_text(" ".join(shown))

note("imported")

class One:
    workers = 2
    def init(self):
        note("initialized")
    def close(self): pass
    def __call__(self, action):
        return [os.getpid(), sorted(os.sched_getaffinity(0))]

class Two(One):
    workers = 1
"""


@pytest.mark.parametrize(
    ("apps", "files"),
    [
        (["noted:One:2", "noted:Two:1"], ["imported", "initialized"]),
        # The first worker has to import the classes to know which of them it will have.
        (["noted:One", "noted:Two"], ["initialized"]),
    ],
    ids=["settings", "classes"],
)
def test_each_worker_of_an_application_has_an_environment_of_its_own(start, apps, files):
    config = f"""
dirty_apps = {apps}
dirty_workers = 3
dirty_app_env = ["noted:One GPU=gpu{{index}}", "noted:Two OTHER=two{{index}}", "noted:Two GPU=none"]
"""
    pool = start(config, files={"noted.py": NOTED})
    wait_for(lambda: len(booted(pool)) == 3)
    expected = {"noted:One": [("gpu0", "-"), ("gpu1", "-")], "noted:Two": [("none", "two0")]}
    assert [environments(pool, file) for file in files] == [expected] * len(files)
    # Who comes after one that has died has its environment.
    victim = pool.client.execute("noted:One", "x")[0]
    os.kill(victim, 9)
    wait_for(lambda: len(set(booted(pool)) - {victim}) == 3)
    assert [environments(pool, file) for file in files] == [expected] * len(files)


def test_processors_of_an_application(start):
    config = """
dirty_apps = ["heavy:App:1", "noted:Two:1"]
dirty_workers = 2
dirty_affinity = ["0", "noted:Two 1"]
"""
    if os.cpu_count() == 1:
        pytest.skip("needs two processors")
    pool = start(config, files={"noted.py": NOTED})
    assert pool.client.execute("noted:Two", "x")[1] == [1]
    assert os.sched_getaffinity(pool.call("pid")) == {0}


def test_who_is_not_called_ends_and_comes_again_with_the_next_call(start):
    config = """
dirty_apps = ["heavy:App:1", "heavy:Two:1"]
dirty_workers = 2
dirty_idle_timeout = 1
control_socket = "control"
"""
    pool = start(config)
    busy = Calling(lambda: pool.call("wait"))
    (worker,) = pool.wait_for_begun(1)
    # The one that nobody calls goes, the one with a call stays, however long that takes.
    rests = "(1 of 2 workers rest until they are called)"
    wait_for(lambda: rests in run("oxicornctl", pool.server, "show", "dirty").stdout)
    wait_for(lambda: pool.workers == [worker])
    other = pool.client.execute("heavy:Two", "x")[1]
    assert other != worker
    pool.open_gate()
    assert busy.ended().result == worker
    wait_for(lambda: not pool.workers)
    pool.server.wait_for_log("rests: its applications are not called", count=3)
    # Several callers at once, an asynchronous one too, all wait for it within their time.
    calls = [Calling(lambda: pool.call("pid")) for _ in range(5)]
    pids = {call.ended().result for call in calls}
    assert len(pids) == 1
    assert pids != {worker}
    # A reload loads the new code in all of them: it might not be loadable.
    wait_for(lambda: not pool.workers)
    assert run("oxicornctl", pool.server, "reload").returncode == 0
    pool.server.write("heavy.py", "raise RuntimeError('broken')")
    wait_for(lambda: not pool.workers)
    done = run("oxicornctl", pool.server, "reload")
    assert (done.returncode, "RuntimeError: broken" in done.stderr) == (1, True)


def test_a_call_that_cannot_wait_for_one_that_rests_is_told(start):
    slow = HEAVY.replace("self.together = 0", "self.together = 0; time.sleep(2 * (HERE / 'slow').exists())")
    pool = start("dirty_idle_timeout = 1\n", heavy=slow)
    wait_for(lambda: not pool.workers and "rests" in pool.server.log)
    pool.server.write("slow", "")
    with pytest.raises(DirtyTimeoutError):
        DirtyClient(pool.path, timeout=0.2).execute("heavy:App", "pid")
    assert pool.call("echo", 1) == 1


def test_one_that_cannot_be_loaded_any_more_is_told_to_who_wakes_it(start):
    pool = start("dirty_idle_timeout = 1\n")
    wait_for(lambda: not pool.workers and "rests" in pool.server.log)
    pool.server.write("heavy.py", "raise RuntimeError('broken')")
    with pytest.raises(DirtyNoWorkersAvailableError, match="RuntimeError: broken"):
        pool.call("pid")


def test_a_worker_that_the_kernel_ended_for_want_of_memory_is_named(control_group, start):  # noqa: F811
    procs = str(control_group / "cgroup.procs")
    config = f"import os\nwith open({procs!r}, 'w') as file: file.write(str(os.getpid()))\n"
    pool = start(config)
    worker = pool.call("pid")
    reason = r"was ended by the kernel: the memory of its control group was used up"
    with pytest.raises(DirtyWorkerError, match=rf"The dirty worker \(pid:{worker}\) {reason}"):
        pool.call("grow", 1 << 30)
    pool.server.wait_for_log(rf"\[ERROR\] Dirty worker \(pid:{worker}\) {reason}")
    assert pool.call("pid") != worker
    # In the middle of a stream, too.
    stream = pool.client.stream("heavy:App", "eat")
    next(stream)
    with pytest.raises(DirtyWorkerError, match=reason):
        list(stream)
    # Two deaths in a row: the next one waits for a moment, and callers would be told.
    wait_for(lambda: booted(pool))
    assert pool.call("echo", 1) == 1


def test_workers_run_on_their_processors(start):
    pool = start('dirty_affinity = ["0"]\n')
    pid = pool.call("pid")
    assert os.sched_getaffinity(pid) == {0}
    assert os.sched_getaffinity(pool.server.pid) != {0} or os.cpu_count() == 1


def test_after_so_many_calls_another_takes_the_place(start):
    pool = start("dirty_max_calls = 10\n")
    pids = [pool.call("pid") for _ in range(10)]
    assert len(set(pids)) == 1
    wait_for(lambda: not is_alive(pids[0]))
    assert pool.call("pid") != pids[0]
    pool.server.wait_for_log(rf"Dirty worker {pids[0]} is to be replaced: it has run 10 calls")


def test_a_worker_that_has_grown_is_replaced(start):
    pool = start(f"dirty_memory_limit = {200 << 20}\n")
    before = pool.call("grow", 300 << 20)

    def replaced() -> bool:
        return pool.call("pid") != before

    wait_for(replaced)
    pool.server.wait_for_log(rf"Dirty worker {before} is to be replaced: it holds \d+ bytes")


def test_a_worker_runs_no_more_calls_at_once_than_the_log_says(start):
    pool = start("dirty_threads = 500\n")
    pool.server.wait_for_log("dirty_threads: a worker of the pool runs 120 calls at once, not 500")

    async def call_all() -> list[object]:
        async with DirtyClient(pool.path, timeout=60.0) as client:
            calls = [asyncio.ensure_future(client.execute_async("heavy:App", "wait")) for _ in range(125)]
            await asyncio.to_thread(pool.wait_for_begun, 120)
            await asyncio.to_thread(pool.open_gate)
            return await asyncio.gather(*calls)

    assert len(asyncio.run(call_all())) == 125
    assert pool.call("most_together") == 120


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ('dirty_app_env = ["DEVICE"]', "Invalid value for dirty_app_env: 'DEVICE': must be NAME=VALUE"),
        (
            'dirty_app_env = ["heavy:No A=1"]',
            "'heavy:No A=1': heavy:No is not in dirty_apps",
        ),
        ('dirty_app_env = ["A={index}"]', "Invalid value for dirty_app_env: 'A={index}': {index} needs APP before"),
        (
            'dirty_affinity = ["heavy:No 0"]',
            "'heavy:No 0': heavy:No is not in dirty_apps",
        ),
        ('dirty_affinity = ["x"]', "Invalid value for dirty_affinity: 'x': must be numbers of processors"),
        ('dirty_affinity = ["0-9999"]', "Invalid value for dirty_affinity: '0-9999'"),
    ],
)
def test_what_makes_no_sense_stops_the_start(serve, config, text):
    config += '\ndirty_apps = ["heavy:App"]\ndirty_workers = 1\n'
    server = serve.new().start(app="", config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert text in server.log
