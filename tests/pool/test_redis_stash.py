"""The stash on a real Redis: what the broker's does, and what only several machines and a network bring."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oxicorn.dirty import StashConnectionError, StashError, StashFullError, stash
from tests.monitoring.test_control import run
from tests.pool.test_stash import (
    table,  # noqa: F401 - a fixture
    test_a_lock_has_one_holder_and_a_lease,  # noqa: F401
    test_a_table_is_like_a_dictionary,  # noqa: F401
    test_counters_lose_nothing_under_threads,  # noqa: F401
    test_decisions_by_what_is_there,  # noqa: F401
    test_entries_live_as_long_as_they_are_given,  # noqa: F401
    test_tables,  # noqa: F401
    test_values_keep_their_types,  # noqa: F401
    test_what_is_put_is_got_and_what_is_not_there_is_the_default,  # noqa: F401
)
from tests.support.ports import free_port
from tests.support.server import Servers
from tests.support.wait import wait_for

redis = pytest.importorskip("redis")
if shutil.which("redis-server") is None:
    pytest.skip("needs redis-server", allow_module_level=True)

from oxicorn.dirty.redis_stash import RedisStashClient, shown, verify  # noqa: E402 - needs the package

PASSWORD = "p@ss/word"
QUOTED = "p%40ss%2Fword"


class RedisServer:
    """A Redis that can be stopped and started again at the same port."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.socket = f"{directory}/redis.sock"
        self.url = f"redis://:{QUOTED}@127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "requirepass": PASSWORD}
        options |= {"unixsocket": self.socket, "dir": self.directory}
        command = ["redis-server", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError), self.client() as client:
                return bool(client.ping())
            return False

        wait_for(answers)

    def client(self):
        return redis.Redis(port=self.port, password=PASSWORD)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(directory)
        yield server
        server.stop()


class Place:
    """What the tests of the broker's stash need of a pool."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.stash = self.new_stash()

    def new_stash(self) -> RedisStashClient:
        return RedisStashClient(self.server.url)


@pytest.fixture(scope="module")
def pool(server) -> Iterator[Place]:
    place = Place(server)
    yield place
    place.stash.close()


@pytest.mark.parametrize(
    ("before", "amount", "after"),
    [
        (2**62, 2**62 - 1, 2**63 - 1),
        (-(2**63), 2**63 - 1, -1),
        (2**53 - 1, 1, 2**53),
        (-(2**53) + 1, -1, -(2**53)),
        (-1, -1, -2),
        (-5, 4, -1),
        (2**32, -1, 2**32 - 1),
        (1, 0.5, 1.5),
        (2**60, 0.5, float(2**60)),
        (0.1, 0.2, 0.1 + 0.2),
        (1e300, 1e300, 2e300),
    ],
)
def test_numbers_are_added_without_loss(pool, table, before, amount, after):  # noqa: F811
    pool.stash.put(table, "number", before, ttl=60)
    total = pool.stash.increment(table, "number", amount)
    assert (total, type(total)) == (after, type(after))
    assert pool.stash.get(table, "number") == after
    assert pool.server.client().zcard("{oxicorn:stash}:ends") >= 1, "it keeps its time"
    pool.stash.clear(table)
    assert pool.stash.increment(table, "new", amount, ttl=60) == amount


def test_sums_beyond_64_bits_are_refused(pool, table):  # noqa: F811
    pool.stash.put(table, "number", 2**63 - 1)
    for amount in (1, 2**64, True, "1"):
        with pytest.raises(StashError, match="must have 64 bits"):
            pool.stash.increment(table, "number", amount)
    pool.stash.put(table, "text", "1")
    with pytest.raises(StashError, match="Only numbers"):
        pool.stash.increment(table, "text", 1)


def test_its_size_is_bounded_and_counted_to_nothing(server):
    with RedisStashClient(f"{server.url}?prefix={uuid.uuid4().hex}", limit=10_000) as small:
        small.put("table", "key", b"x" * 9_000)
        for operation in (small.put, small.add):
            with pytest.raises(StashFullError, match="10000 bytes, which is dirty_stash_size"):
                operation("table", "other", b"x" * 9_000)
        small.put("table", "key", b"x")
        small.put("table", "other", b"x" * 9_000, ttl=0.1)
        wait_for(lambda: small.info("table")["size"] == 1)
        small.increment("table", "number", 2**60)
        small.ensure("empty")
        assert small.delete("table", "key") is True
        assert small.delete_table("table") is True
        assert small.tables() == ["empty"]
        with server.client() as client:
            assert int(client.get(small._prefix + b"bytes")) == 0
            assert client.zcard(small._prefix + b"ends") == 0


@pytest.mark.parametrize(
    "form", ["unix://:{}@{}?db=1", "unix://{1}?db=1&password={0}", "valkey://:{0}@127.0.0.1:{2}/1"]
)
def test_ways_to_write_the_address(server, form):
    url = form.format(QUOTED, server.socket, server.port)
    verify(url)
    assert "word" not in shown(url)
    with RedisStashClient(url) as one, RedisStashClient(f"{server.url[:-1]}1") as same:
        key = uuid.uuid4().hex
        one.put("table", key, (1, "ü"))
        assert same.get("table", key) == (1, "ü")
        with RedisStashClient(f"{url}{'&' if '?' in url else '?'}prefix=other") as other:
            assert other.get("table", key) is None


def test_a_server_that_stands_still_or_is_gone_is_an_error_in_time(server):
    with RedisStashClient(f"{server.url}?timeout=0.3") as client:
        client.put("table", "key", 1)
        server.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(StashConnectionError, match=r"127.0.0.1:\d+/0 did not answer within 0.3 s") as caught:
            client.get("table", "key")
        assert time.monotonic() - begun < 10
        assert "word" not in str(caught.value)
        server.process.send_signal(signal.SIGCONT)
        wait_for(lambda: outcome(lambda: client.get("table", "key")) == 1)
        server.stop()
        with pytest.raises(StashConnectionError, match="cannot be reached"):
            client.get("table", "key")
        # It comes back, empty; nothing has to be made anew.
        server.start()
        assert client.get("table", "key", "gone") == "gone"
        assert client.increment("table", "key") == 1


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except StashConnectionError:
        return None


def test_a_wrong_password_is_said(server):
    with RedisStashClient(f"redis://:wrong@127.0.0.1:{server.port}/0") as client:
        with pytest.raises(StashError, match=r"127\.0\.0\.1") as caught:
            client.get("table", "key")
        assert ":wrong@" not in str(caught.value)


HEAVY = """
from gunicorn.dirty import stash

class App:
    def init(self):
        stash.increment("shared", "workers")
    def close(self): pass
    def __call__(self, action):
        return stash.increment("shared", "calls")
"""
APP = """
    from gunicorn.dirty import get_dirty_client, stash
    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/call":
            value = get_dirty_client().execute("heavy:App", "count")
        elif path == "/lead":
            value = stash.lock("leader", ttl=30).acquire(wait=0)
        else:
            value = stash.get("shared", path[1:])
        start_response("200 OK", [])
        return [str(value).encode()]
"""


def test_two_servers_share_it_and_one_leads(server, serve: Servers):
    url = f"{server.url}?prefix={uuid.uuid4().hex}"
    both = []
    for _ in range(2):
        one = serve.new()
        one.write("heavy.py", HEAVY)
        config = f'dirty_stash = "{url}"\ndirty_apps = ["heavy:App"]\ndirty_workers = 1\n'
        both.append(one.start(app=APP, config=config + 'control_socket = "control"\n', ready="/x"))
    first, second = both
    assert [first.get("/call").text, second.get("/call").text] == ["1", "2"]
    assert (first.get("/calls").text, first.get("/workers").text) == ("2", "2")
    assert sorted(one.get("/lead").text for one in both) == ["False", "True"]
    # It outlives both of them, and a reload.
    first.kill(signal.SIGHUP)
    wait_for(lambda: second.get("/workers").text == "3")
    assert first.get("/call").text == "3"
    settings = run("oxicornctl", first, "show", "config", "all").stdout
    assert f"redis://127.0.0.1:{server.port}/0" in settings
    assert QUOTED not in first.log + settings


def test_without_a_pool_requests_have_it_too(server, serve: Servers):
    config = f'dirty_stash = "{server.url}?prefix={uuid.uuid4().hex}"\n'
    one = serve.new().start(app=APP, config=config, ready="/x")
    assert [one.get("/lead").text, one.get("/lead").text] == ["True", "False"]


def test_a_process_that_no_server_started_says_where_it_is(server):
    stash.use_redis(server.url)
    try:
        stash.put("table", "own", 1)
        assert stash.get("table", "own") == 1
    finally:
        stash.use_redis(None)
    with pytest.raises(StashError, match="not configured"):
        stash.get("table", "own")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1", "must begin with redis://, rediss:// or unix://"),
        ("redis://127.0.0.1:x/0", "Invalid value for dirty_stash: 'redis://127.0.0.1:x/0'"),
        ("redis://127.0.0.1?nonsense=1", "nonsense"),
        ("redis://127.0.0.1?timeout=0", "timeout must be seconds, more than 0"),
        ("redis://127.0.0.1?prefix={x}", "prefix must be a name without braces"),
    ],
)
@pytest.mark.parametrize("check", [True, False], ids=["check", "start"])
def test_addresses_that_make_no_sense_stop_the_start(serve: Servers, url, expected, check):
    flags = ["--check-config"] if check else []
    one = serve.new().start(*flags, app=APP, config=f'dirty_stash = "{url}"\n', ready=None)
    assert one.wait_for_exit() == 1
    assert expected in one.log


def test_without_the_package_it_says_what_to_install(serve: Servers):
    one = serve.new()
    Path(one.directory / "missing").mkdir()
    one.write("missing/redis.py", "raise ImportError\n")
    environment = {"PYTHONPATH": str(one.directory / "missing")}
    one.start(app=APP, config='dirty_stash = "redis://127.0.0.1"\n', env=environment, ready=None)
    assert one.wait_for_exit() == 1
    assert "dirty_stash needs the Python package redis, which is not installed: pip install 'oxicorn[redis]'" in one.log
