"""The stash: Gunicorn's tables, and what oxicorn has beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from oxicorn.dirty import (
    DirtyConnectionError,
    DirtyTimeoutError,
    StashError,
    StashFullError,
    StashKeyNotFoundError,
    StashTableNotFoundError,
    stash,
)
from tests.support.wait import wait_for


@pytest.fixture
def table(pool) -> str:
    """The name of a table that no other test has."""
    return uuid.uuid4().hex


def test_what_is_put_is_got_and_what_is_not_there_is_the_default(pool, table):
    assert pool.stash.get(table, "key") is None
    assert pool.stash.get(table, "key", "default") == "default"
    pool.stash.put(table, "key", {"error": "key_not_found"})
    assert pool.stash.get(table, "key", "default") == {"error": "key_not_found"}
    pool.stash.put(table, "key", None)
    assert pool.stash.get(table, "key", "default") is None
    assert pool.stash.exists(table, "key")
    assert pool.stash.delete(table, "key") is True
    assert pool.stash.delete(table, "key") is False


@pytest.mark.parametrize(
    "value", [(1, [2]), {1: (2,)}, 10**30, b"x" * 200_000, "ü"], ids=lambda value: type(value).__name__
)
def test_values_keep_their_types(pool, table, value):
    pool.stash.put(table, ("a", 1), value)
    came = pool.stash.get(table, ("a", 1))
    assert (came, type(came)) == (value, type(value))


def test_tables(pool, table):
    with pytest.raises(StashTableNotFoundError) as caught:
        pool.stash.info(table)
    assert caught.value.table_name == table
    assert pool.stash.keys(table) == []
    pool.stash.ensure(table)
    pool.stash.ensure(table)
    assert pool.stash.exists(table)
    assert not pool.stash.exists(table, "key")
    for key in ("user:1", "user:2", "other", 7):
        pool.stash.put(table, key, 1)
    assert sorted(pool.stash.keys(table, "user:*")) == ["user:1", "user:2"]
    assert pool.stash.keys(table, "[0-9]") == [7]
    info = pool.stash.info(table)
    assert (info["size"], info["table"]) == (4, table)
    pool.stash.clear(table)
    assert pool.stash.keys(table) == []
    assert table in pool.stash.tables()
    assert pool.stash.delete_table(table) is True
    assert pool.stash.delete_table(table) is False
    assert table not in pool.stash.tables()


def test_a_table_is_like_a_dictionary(pool, table):
    users = pool.stash.table(table)
    assert len(users) == 0
    users["a"], users["b"] = 1, None
    assert (users["a"], users["b"], users.get("c", 3), len(users)) == (1, None, 3, 2)
    assert "a" in users and "c" not in users  # noqa: PT018 - one look at a dictionary
    assert sorted(users) == sorted(users.keys()) == ["a", "b"]
    assert dict(users.items()) == {"a": 1, "b": None}
    assert set(users.values()) == {1, None}
    del users["a"]
    for missing in (lambda: users["a"], lambda: users.__delitem__("a")):
        with pytest.raises(KeyError):
            missing()
    users.clear()
    assert list(users) == []


def test_entries_live_as_long_as_they_are_given(pool, table):
    pool.stash.put(table, "short", 1, ttl=0.2)
    pool.stash.put(table, "long", 1, ttl=60)
    assert pool.stash.get(table, "short") == 1
    wait_for(lambda: pool.stash.get(table, "short") is None)
    # It is gone by itself, not only when it is asked for.
    wait_for(lambda: pool.stash.info(table)["size"] == 1)
    assert pool.stash.touch(table, "long", 0.1) is True
    wait_for(lambda: pool.stash.get(table, "long") is None)
    assert pool.stash.touch(table, "long", 5) is False
    for ttl in (0, -1.0, float("nan")):
        with pytest.raises(StashError, match="ttl must be seconds"):
            pool.stash.put(table, "key", 1, ttl=ttl)


def test_decisions_by_what_is_there(pool, table):
    assert pool.stash.add(table, "key", 1) is True
    assert pool.stash.add(table, "key", 2) is False
    assert pool.stash.replace(table, "key", 2, 3) is False
    assert pool.stash.replace(table, "key", 1, 3) is True
    assert pool.stash.replace(table, "missing", None, 3) is False
    assert pool.stash.delete(table, "key", expected=1) is False
    assert pool.stash.pop(table, "key") == 3
    assert pool.stash.pop(table, "key", "gone") == "gone"


def test_counters_lose_nothing_under_threads(pool, table):
    def count() -> None:
        with pool.new_stash() as client:
            for _ in range(100):
                client.increment(table, "count")

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.stash.get(table, "count") == 600
    assert pool.stash.increment(table, "count", -0.5) == 599.5
    with pytest.raises(StashError, match="Only numbers"):
        pool.stash.increment(table, "count", "1")  # type: ignore[arg-type]


def test_a_lock_has_one_holder_and_a_lease(pool, table):
    one, two = pool.stash.lock(table, ttl=30), pool.stash.lock(table, ttl=30)
    assert one.acquire(wait=0) is True
    assert two.acquire(wait=0.1) is False
    assert two.release() is False
    assert one.renew() is True
    assert one.release() is True
    assert one.renew() is False
    with two:
        assert one.acquire(wait=0) is False
    # Whoever has died with it holds nobody up for longer than the lease.
    dead = pool.stash.lock(table, ttl=0.2)
    assert dead.acquire(wait=0)
    assert one.acquire(wait=10)
    assert dead.release() is False
    assert one.release() is True


def test_a_stash_that_is_full_says_so_and_goes_on(start):
    pool = start("dirty_stash_size = 10_000\n")
    pool.stash.put("table", "key", b"x" * 9_000)
    with pytest.raises(StashFullError, match="10000 bytes, which is dirty_stash_size"):
        pool.stash.put("table", "other", b"x" * 9_000)
    pool.stash.put("table", "key", b"x")
    pool.stash.put("table", "other", b"x" * 9_000)


def test_functions_of_the_module_use_the_servers_stash(pool, table):
    stash.set_stash_socket_path(pool.path)
    try:
        stash.put(table, "key", 1, ttl=60)
        assert (stash.get(table, "key"), stash.increment(table, "key"), stash.exists(table)) == (1, 2, True)
        assert stash.table(table)["key"] == 2
        assert [stash.add(table, "key", 1), stash.replace(table, "key", 2, 3), stash.pop(table, "key")] == [
            False,
            True,
            3,
        ]
        with stash.lock("of the module"):
            stash.ensure(table)
        assert (stash.keys(table), stash.info(table)["size"], stash.touch(table, "x", 1)) == ([], 0, False)
        assert (stash.delete(table, "x"), table in stash.tables()) == (False, True)
        stash.clear(table)
        assert stash.delete_table(table)
    finally:
        stash.set_stash_socket_path(None)
    with pytest.raises(StashError, match="not configured"):
        stash.get(table, "key")
    assert issubclass(StashKeyNotFoundError, StashError)


def test_the_stash_survives_a_reload(start):
    pool = start()
    before = pool.call("pid")
    pool.stash.put("table", "key", 1)
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: pool.call("pid") != before)
    assert pool.stash.get("table", "key") == 1


NO_TABLES = [1, None, b"t", "\ud800"]


@pytest.mark.parametrize("name", NO_TABLES, ids=ascii)
def test_a_table_whose_name_is_no_text_is_a_clear_error(pool, name):
    stash = pool.stash
    for use in (
        lambda: stash.put(name, "key", 1),
        lambda: stash.get(name, "key", "default"),
        lambda: stash.pop(name, "key"),
        lambda: stash.keys(name),
        lambda: stash.info(name),
        lambda: stash.ensure(name),
        lambda: stash.exists(name),
        lambda: len(stash.table(name)),
    ):
        with pytest.raises(StashError, match=r"must be a str|lone surrogate"):
            use()


@pytest.mark.parametrize("key", [None, {1}, object(), "\ud800"], ids=lambda value: ascii(value)[:8])
def test_a_key_that_cannot_be_one_is_a_clear_error(pool, table, key):
    for use in (
        lambda: pool.stash.put(table, key, 1),
        lambda: pool.stash.get(table, key, "default"),
        lambda: pool.stash.increment(table, key),
        lambda: pool.stash.table(table)[key],
    ):
        with pytest.raises(StashError, match=r"A key cannot be None|Cannot send key"):
            use()


NO_TTLS = [float("nan"), float("inf"), 0, -1, "5", True, 10**400, []]


@pytest.mark.parametrize("ttl", NO_TTLS, ids=lambda value: ascii(value)[:8])
def test_a_time_to_live_that_is_none_is_a_clear_error_wherever_it_is_given(pool, table, ttl):
    stash = pool.stash
    for use in (
        lambda: stash.put(table, "key", 1, ttl=ttl),
        lambda: stash.add(table, "key", 1, ttl=ttl),
        lambda: stash.replace(table, "key", 1, 2, ttl=ttl),
        lambda: stash.increment(table, "key", ttl=ttl),
        lambda: stash.touch(table, "key", ttl),
        lambda: stash.lock(table, ttl=ttl).acquire(wait=0),
    ):
        with pytest.raises(StashError, match="ttl must be seconds, more than 0, not "):
            use()
    assert not stash.exists(table)


def test_a_lock_is_not_waited_for_for_no_number_of_seconds(pool, table):
    with pool.stash.lock(table):
        for wait in (float("nan"), "1", True):
            with pytest.raises(StashError, match="wait must be None or seconds, not "):
                pool.stash.lock(table).acquire(wait=wait)
        assert not pool.stash.lock(table).acquire(wait=-1)


def test_a_pattern_that_is_no_text_is_a_clear_error(pool, table):
    with pytest.raises(StashError, match="pattern must be a str, not int"):
        pool.stash.keys(table, 1)


# ``get`` and ``put`` in memory that callers share with the broker.

#: Puts growing numbers under a key of its own, says each that is there, and sees that it is.
WRITER = """
import sys
from oxicorn.dirty import StashClient

stash = StashClient(sys.argv[1])
for number in range(1_000_000_000):
    stash.put("numbers", sys.argv[2], number)
    print(number, flush=True)
    assert stash.get("numbers", sys.argv[2]) == number
"""

#: Uses the stash where gevent has patched Python, and in a child that was forked.
PATCHED = """
import gevent.monkey
gevent.monkey.patch_all()
import os, sys
import oxicorn.dirty.stash
from oxicorn.dirty import StashClient

stash = StashClient(sys.argv[1])
stash.put("patched", "key", 1)
assert oxicorn.dirty.stash._views[sys.argv[1]] is not None
stash.put("patched", "key", 2)
if os.fork() == 0:
    stash.put("patched", "child", stash.get("patched", "key"))
    stash.increment("patched", "child")
    os._exit(0)
assert os.wait()[1] == 0
print(stash.get("patched", "child"))
"""


@pytest.fixture
def asked(pool, monkeypatch) -> list[int]:
    """The operations that ``pool.stash`` asks the broker for from now on."""
    seen: list[int] = []
    ask = pool.stash._client.ask

    def noted(kind, payload):
        seen.append(payload.get("op", 0))
        return ask(kind, payload)

    monkeypatch.setattr(pool.stash._client, "ask", noted)
    return seen


def test_get_and_put_ask_the_broker_once_a_second(pool, table, asked):
    other = pool.new_stash()
    other.ensure(table)
    pool.stash.ensure(table)
    for number in range(500):
        (pool.stash if number % 2 else other).put(table, ("key", 1), {"number": number})
        assert pool.stash.get(table, ("key", 1)) == other.get(table, ("key", 1)) == {"number": number}
    assert pool.stash.get(table, "no key", 5) == 5
    assert len(asked) < 100, "of 750"
    assert pool.stash.info(table)["size"] == 1
    other.close()


@pytest.mark.parametrize(
    "error", [DirtyTimeoutError("no answer"), DirtyConnectionError("gone")], ids=["timeout", "connection"]
)
def test_a_broker_that_does_not_answer_is_asked_once(pool, table, monkeypatch, error):
    client = pool.new_stash()
    monkeypatch.setattr(stash, "_views", {})
    ask, kinds = client._client.ask, []

    def silent(kind, payload):
        kinds.append(kind)
        raise error

    monkeypatch.setattr(client._client, "ask", silent)
    with pytest.raises(StashError):
        client.put(table, "key", 1)
    assert len(kinds) == 1
    # It is asked again when it does.
    monkeypatch.setattr(client._client, "ask", ask)
    client.put(table, "key", 1)
    assert stash._views[pool.path] is not None
    client.close()


def test_a_value_that_the_broker_would_refuse_is_refused_and_takes_no_other_with_it(pool, table):
    deep: object = memoryview(b"x" * 8).cast("I")
    for _ in range(127):
        deep = [deep]
    pool.stash.put(table, "before", 1)
    with pytest.raises(StashError):
        pool.stash.put(table, "deep", deep)
    pool.stash.put(table, "after", 2)
    assert sorted(pool.stash.keys(table)) == ["after", "before"]
    assert [pool.stash.get(table, key) for key in ("before", "after", "deep")] == [1, 2, None]


def test_a_large_table_takes_the_direct_way_from_no_other(pool, table, asked):
    pool.stash.put(table, "hot", 1)
    other = pool.stash.table(uuid.uuid4().hex)
    for number in range(26_000):
        other[number] = number
    del asked[:]
    for _ in range(300):
        assert pool.stash.get(table, "hot") == 1
        assert other[25_999] == 25_999
    assert len(asked) < 100, "of 600"
    pool.stash.delete_table(other.name)
    del asked[:]
    for number in range(300):
        pool.stash.put(table, number, number)
    assert len(asked) < 50, "of 300: what is not there is known again"
    assert pool.stash.info(table)["size"] == 301


def test_threads_share_a_view(pool, table):
    views = []

    def use() -> None:
        client = pool.new_stash()
        client.put(table, "key", 1)
        views.append(stash._views[pool.path])
        client.close()

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("oxicorn-stash-shared")

    pool.stash.put(table, "key", 0)
    before = mappings()
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, views))) == 1
    assert mappings() == before


def test_what_is_not_simple_is_seen_by_all(pool, table):
    other = pool.new_stash()
    other.ensure(table)
    pool.stash.put(table, "number", 1)
    assert other.increment(table, "number") == 2
    assert pool.stash.get(table, "number") == 2
    other.put(table, "number", b"x" * 1_000_000)
    assert pool.stash.get(table, "number") == b"x" * 1_000_000
    pool.stash.put(table, "number", 3)
    assert (other.pop(table, "number"), pool.stash.get(table, "number")) == (3, None)
    other.put(table, "number", 4, ttl=0.05)
    wait_for(lambda: pool.stash.get(table, "number", "over") == "over")
    pool.stash.put(table, "number", 5, ttl=0.05)
    pool.stash.put(table, "number", 6)
    other.clear(table)
    assert pool.stash.get(table, "number") is None
    other.close()


def test_what_was_put_is_there_after_the_brokers_death(start):
    pool = start()
    for turn in range(3):
        pool.stash.put("table", "asked", turn)
        pool.stash.ensure("table")
        pool.stash.put("table", "key", turn)
        pool.stash.put("table", f"key {turn}", turn)
        broker = pool.broker
        os.kill(broker, signal.SIGKILL)
        wait_for(lambda before=broker: pool.server.pids("dirty-arbiter") not in ([], [before]))
        assert [pool.stash.get("table", key) for key in ("key", f"key {turn}", "asked")] == [turn] * 3
    assert pool.stash.info("table")["size"] == 5


def test_a_process_that_is_killed_while_it_puts_loses_nothing_and_holds_nobody_up(start):
    pool = start()
    pool.server.write("writer.py", WRITER)
    for turn in range(10):
        command = [sys.executable, "writer.py", pool.path, f"key {turn}"]
        with subprocess.Popen(
            command, cwd=pool.server.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            said = [int(writer.stdout.readline()) for _ in range(200)]
            writer.kill()
            said += [int(line) for line in writer.stdout.read().split("\n")[:-1] if line]
            assert writer.stderr is not None
            assert writer.stderr.read() == ""
        assert pool.stash.get("numbers", f"key {turn}") in (said[-1], said[-1] + 1)
        pool.stash.put("numbers", "other", turn)
        assert pool.stash.get("numbers", "other") == turn
    assert pool.stash.info("numbers")["size"] == 11


def test_a_process_that_gevent_has_patched_sees_the_stash_and_so_does_its_child(pool):
    pool.server.write("patched.py", PATCHED)
    command = [sys.executable, "patched.py", pool.path]
    done = subprocess.run(command, cwd=pool.server.directory, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("3\n", "")
    assert pool.stash.get("patched", "child") == 3
