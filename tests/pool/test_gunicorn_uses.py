"""What Gunicorn documents about its dirty arbiters and no other test of the pool would miss, use by use."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Iterator

import pytest

from oxicorn import dirty
from oxicorn.dirty import DirtyClient, DirtyTimeoutError, StashClient, errors, stash
from tests.pool.conftest import HEAVY, Pool, started
from tests.pool.test_deaths import Calling
from tests.support.wait import wait_for

#: Applications as Gunicorn's documentation has them: what is made in ``init`` is used by calls and freed by ``close``.
USES = (
    HEAVY
    + """
from gunicorn.dirty import get_dirty_client, stash


class Kept(DirtyApp):
    # Left out, as by default: all workers have it.
    workers = None

    def init(self):
        self.loaded = {"default": 0}

    def load(self, name, value=1):
        self.loaded[name] = value
        return {"loaded": True, "name": name}

    def names(self):
        return sorted(self.loaded)

    def close(self):
        with open(HERE / "closed-by", "a") as file:
            print(os.getpid(), len(self.loaded), file=file)


class Routed(DirtyApp):
    def __call__(self, action, *args, **kwargs):
        if action == "own":
            return ["own", list(args), kwargs]
        return super().__call__(action, *args, **kwargs)

    def ask(self, value):
        # A call of another application, and the stash.
        stash.put("asked", value, os.getpid())
        return get_dirty_client(timeout=30).execute("heavy:App", "echo", value)
"""
)

FLAGS = [
    *("--dirty-app", "heavy:App", "--dirty-app", "heavy:Kept:1", "--dirty-app", "heavy:Routed", "--dirty-workers", "2"),
    *("--dirty-threads", "2", "--dirty-timeout", "40", "--dirty-graceful-timeout", "20"),
]


@pytest.fixture(scope="module")
def pool(serve_module) -> Iterator[Pool]:
    """All of it said on the command line of ``python -m``; two calls of an application run at once in a worker."""
    command = serve_module.kind.module_command
    pool = started(serve_module, "del dirty_apps, dirty_workers\n", *FLAGS, heavy=USES, command=command)
    yield pool
    pool.close()


def test_flags_are_the_settings(pool):
    calls = [Calling(lambda: pool.call("wait", "flags", "flags-begun")) for _ in range(4)]
    wait_for(lambda: len(pool.server.lines("flags-begun")) == 4)
    assert len(set(pool.server.lines("flags-begun"))) == 2, "two workers run two calls each"
    pool.open_gate("flags")
    assert [call.ended().error for call in calls] == [None] * 4


def test_what_a_call_keeps_the_next_one_finds(pool):
    assert pool.client.execute("heavy:Kept", "load", "model", value=[1]) == {"loaded": True, "name": "model"}
    assert pool.client.execute("heavy:Kept", "names") == ["default", "model"]


def test_a_class_that_routes_by_itself_has_the_rest_from_its_base(pool):
    assert pool.client.execute("heavy:Routed", "own", 1, key=2) == ["own", [1], {"key": 2}]
    assert pool.client.execute("heavy:Routed", "ask", "value") == "value"
    assert pool.stash.get("asked", "value") in pool.workers
    with pytest.raises(errors.DirtyAppError, match="Unknown action: unknown"):
        pool.client.execute("heavy:Routed", "unknown")


def test_close_is_called_when_a_worker_ends(start):
    pool = start('dirty_apps = ["heavy:Kept"]\n', heavy=USES)
    pool.client.execute("heavy:Kept", "load", "model")
    (worker,) = pool.workers
    assert pool.server.lines("closed-by") == []
    assert pool.server.stop(signal.SIGTERM) == 0
    assert pool.server.lines("closed-by") == [f"{worker} 2"]


@pytest.mark.parametrize("of", ["the stream", "its pieces"])
def test_a_stream_has_the_timeout_of_its_client(pool, of):
    gate = f"stream-{uuid.uuid4().hex}"

    async def awaited(client: DirtyClient) -> None:
        async for _ in client.stream_async("heavy:App", "gated", gate):
            pass

    for read in (
        lambda client: list(client.stream("heavy:App", "gated", gate)),
        lambda client: asyncio.run(awaited(client)),
    ):
        client = DirtyClient(pool.path, timeout=0.3 if of == "the stream" else 30.0)
        if of == "its pieces":
            dirty.client._Stream.DEFAULT_IDLE_TIMEOUT, before = 0.3, dirty.client._Stream.DEFAULT_IDLE_TIMEOUT
        try:
            with pytest.raises(DirtyTimeoutError) as caught:
                read(client)
        finally:
            if of == "its pieces":
                dirty.client._Stream.DEFAULT_IDLE_TIMEOUT = before
        assert caught.value.timeout == 0.3
        client.close()
    assert pool.call("echo", 1) == 1


def test_the_client_of_a_thread_is_another_one_after_it_was_closed(pool):
    dirty.set_dirty_socket_path(pool.path)
    try:
        assert dirty.client.get_dirty_socket_path() == pool.path
        first = dirty.get_dirty_client()
        assert dirty.get_dirty_client() is first
        dirty.close_dirty_client()
        second = dirty.get_dirty_client()
        assert second is not first
        assert second.execute("heavy:App", "echo", 1) == 1
        others: list[DirtyClient] = []
        other = Calling(lambda: others.append(dirty.get_dirty_client()))
        other.ended()
        assert others[0] is not second
    finally:
        dirty.close_dirty_client()
        dirty.set_dirty_socket_path(None)


def test_a_table_has_a_name_and_a_key_that_is_missing_too(pool):
    with StashClient(pool.path) as client:
        table = client.table("uses")
        table["user:1"], table["other"] = 1, 2
        assert (table.name, table.keys("user:*")) == ("uses", ["user:1"])
        with pytest.raises(KeyError, match="missing"):
            table["missing"]
    stash.set_stash_socket_path(pool.path)
    try:
        assert stash.get_stash_socket_path() == pool.path
    finally:
        stash.set_stash_socket_path(None)


MADE = [
    ("DirtyError", ("text",)),
    ("DirtyError", ("text", {"a": 1})),
    ("DirtyTimeoutError", ()),
    ("DirtyTimeoutError", ("text", 1.5)),
    ("DirtyConnectionError", ()),
    ("DirtyConnectionError", ("text", "/path")),
    ("DirtyWorkerError", ("text",)),
    ("DirtyWorkerError", ("text", 7, "traceback")),
    ("DirtyAppError", ("text", "a:A", "action", "traceback")),
    ("DirtyAppNotFoundError", ("a:A",)),
    ("DirtyNoWorkersAvailableError", ("a:A",)),
    ("DirtyNoWorkersAvailableError", ("a:A", "text")),
    ("DirtyProtocolError", ()),
    ("DirtyProtocolError", ("text", b"\x00\xff" * 200)),
    ("DirtyProtocolError", ("text", "y" * 300)),
]
NAMES = ("message", "details", "timeout", "socket_path", "worker_id", "traceback", "app_path", "action")


def described(error: Exception) -> dict[str, object]:
    about = {name: getattr(error, name, "none") for name in NAMES}
    return {"str": str(error), "args": error.args, "bases": [each.__name__ for each in type(error).__mro__], **about}


@pytest.mark.parametrize(("name", "args"), MADE, ids=lambda value: str(value)[:30])
def test_errors_are_gunicorns_to_the_letter(name, args):
    theirs = pytest.importorskip("gunicorn.dirty.errors")
    own, their = getattr(errors, name)(*args), getattr(theirs, name)(*args)
    assert described(own) == described(their)
    assert own.to_dict() == their.to_dict()
    assert described(errors.DirtyError.from_dict(their.to_dict())) == described(
        theirs.DirtyError.from_dict(own.to_dict())
    )


def test_errors_of_the_stash_are_gunicorns():
    theirs = pytest.importorskip("gunicorn.dirty.stash")
    for name, args in (("StashTableNotFoundError", ("table",)), ("StashKeyNotFoundError", ("table", "key"))):
        own, their = getattr(stash, name)(*args), getattr(theirs, name)(*args)
        assert (str(own), own.table_name, own.to_dict()) == (str(their), their.table_name, their.to_dict())
        assert getattr(own, "key", None) == getattr(their, "key", None)
        assert isinstance(own, stash.StashError)
        assert isinstance(own, errors.DirtyError)


def test_all_names_of_gunicorns_package_are_there():
    theirs = pytest.importorskip("gunicorn.dirty")
    assert [name for name in theirs.__all__ if not hasattr(dirty, name)] == []
