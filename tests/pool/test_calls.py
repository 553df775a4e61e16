"""Calls and streams: what goes in, what comes out, in every form that Gunicorn's client has."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading

import pytest

from oxicorn import dirty
from oxicorn.dirty import (
    DirtyAppError,
    DirtyClient,
    DirtyConnectionError,
    DirtyError,
    DirtyNoWorkersAvailableError,
    DirtyProtocolError,
    DirtyTimeoutError,
    StashClient,
)
from oxicorn.dirty.client import DirtyStreamIterator
from tests.support.wait import wait_for

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(10**40),
    0.5,
    math.inf,
    "",
    "ü😀\0",
    b"",
    b"\0\xff",
    bytearray(b"changes"),
    [],
    [1, [2, [3]]],
    (),
    (1, ("two",)),
    {},
    {"a": {"b": [1]}},
    {1: "one", None: "none", (1, 2): "pair", b"x": "bytes"},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_keep_value_and_type(pool, value):
    came = pool.call("echo", value)
    assert (came, type(came)) == (value, type(value))


def test_numbers_that_are_none_stay_so(pool):
    assert math.isnan(pool.call("echo", math.nan))


@pytest.mark.parametrize("size", [65_535, 65_536, 1_000_000, 5_000_001])
@pytest.mark.parametrize("of", [bytes, bytearray, str])
def test_large_values_arrive_whole(pool, of, size):
    value = "ü" * (size // 2) if of is str else of(os.urandom(1000) * (size // 1000 + 1))
    assert pool.call("echo", value) == value
    # And again, in memory that was used before, beside smaller ones.
    came = pool.call("echo", [value, b"small", value[: len(value) // 2]])
    assert came == [value, b"small", value[: len(value) // 2]]


def test_buffers_arrive_as_views_of_the_same_shape(pool):
    import array

    numbers = array.array("d", range(20_000))
    for sent in (numbers, memoryview(numbers).cast("B").cast("d", [200, 100])):
        came = pool.call("echo", sent)
        assert isinstance(came, memoryview)
        view = memoryview(sent)
        assert (came.format, came.shape, came.tobytes()) == (view.format, view.shape, view.tobytes())
    assert pool.call("kind", memoryview(b"abc")) == "memoryview"
    # What does not lie together is put together.
    assert pool.call("echo", memoryview(b"abcdef")[::2]).tobytes() == b"ace"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (({1, 2},), "args[0]: a value of type set"),
        (([0, {"x": object()}],), "args[0][1]['x']: a value of type object"),
        (("\ud800",), "args[0]: the text has a lone surrogate"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(pool, args, text):
    with pytest.raises(DirtyProtocolError) as caught:
        pool.call("echo", *args)
    assert text in str(caught.value)
    assert pool.call("echo", "next") == "next"


def test_values_that_contain_themselves_are_refused(pool):
    value: list[object] = []
    value.append(value)
    with pytest.raises(DirtyProtocolError, match="containers lie in each other"):
        pool.call("echo", value)


def test_arguments_by_place_and_by_name(pool):
    assert pool.call("take", 1, "two", three=3, four=[4]) == [[1, "two"], {"three": 3, "four": [4]}]


def test_an_error_has_class_message_and_traceback(pool):
    with pytest.raises(DirtyAppError) as caught:
        pool.call("fail", "this one")
    error = caught.value
    assert (error.app_path, error.action, error.exception) == ("heavy:App", "fail", "KeyError")
    assert error.message == "'this one'"
    assert 'heavy.py", line' in error.traceback
    assert error.traceback.rstrip().endswith("KeyError: 'this one'")


def test_unknown_and_hidden_actions_are_value_errors(pool):
    for action in ("nonsense", "_hidden", "__init__"):
        with pytest.raises(DirtyAppError, match=f"Unknown action: {action}") as caught:
            pool.call(action)
        assert caught.value.exception == "ValueError"


def test_an_unknown_application_is_answered_with_those_there_are(pool):
    with pytest.raises(DirtyNoWorkersAvailableError, match=r"heavy:None .*heavy:App, heavy:Two") as caught:
        pool.client.execute("heavy:None", "x")
    assert caught.value.app_path == "heavy:None"


def test_classes_need_not_derive_from_anything(pool):
    action, pid = pool.client.execute("heavy:Two", "anything")
    assert action == "anything"
    assert pid in pool.workers


def test_a_result_that_cannot_be_sent_is_the_applications_error(pool):
    with pytest.raises(DirtyAppError, match="Cannot send result: a value of type"):
        pool.call("give_set")


def test_coroutines_are_awaited(pool):
    assert pool.call("later", {"x": 1}) == {"x": 1}


def test_streams(pool):
    stream = pool.client.stream("heavy:App", "count", 1000)
    assert list(stream) == list(range(1000))
    assert list(stream) == []
    assert list(pool.client.stream("heavy:App", "count_async", 5)) == [0, 1, 2, 3, 4]
    large = list(pool.client.stream("heavy:App", "count", 3, size=300_000))
    assert large == [b"x" * 300_000] * 3


def test_an_error_in_the_middle_of_a_stream(pool):
    stream = pool.client.stream("heavy:App", "break_off", 2)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(DirtyAppError, match="in the middle") as caught:
        next(stream)
    assert caught.value.exception == "OSError"
    with pytest.raises(StopIteration):
        next(stream)


def test_a_stream_called_as_a_call_is_an_error_and_the_next_call_is_not(pool):
    with pytest.raises(DirtyError, match="stream"):
        pool.call("count", 3)
    assert pool.call("echo", 1) == 1


def test_two_streams_and_calls_of_one_client_do_not_meet(pool):
    one = pool.client.stream("heavy:App", "count", 50)
    assert next(one) == 0
    assert pool.call("echo", "between") == "between"
    two = pool.client.stream("heavy:App", "count", 50)
    assert [pair for pair in zip(one, two, strict=False)][:3] == [(1, 0), (2, 1), (3, 2)]


def test_many_threads_share_a_client(pool):
    wrong = []

    def call(number: int) -> None:
        for each in range(50):
            value = [number, each]
            if pool.call("echo", value) != value:
                wrong.append(value)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_context_managers_and_closing(pool):
    with DirtyClient(pool.path, timeout=5.0) as client:
        assert client.execute("heavy:App", "echo", 1) == 1
    assert client.execute("heavy:App", "echo", 2) == 2
    client.close()


def test_a_timeout_of_the_callers_own(pool):
    client = DirtyClient(pool.path, timeout=0.2)
    with pytest.raises(DirtyTimeoutError) as caught:
        client.execute("heavy:App", "wait", "never")
    assert caught.value.timeout == 0.2
    # It was cancelled by that: the worker is free.
    assert pool.call("echo", 1) == 1


def test_no_pool_at_all():
    with pytest.raises(DirtyConnectionError) as caught:
        DirtyClient("/nonexistent/arbiter.sock").execute("heavy:App", "echo", 1)
    assert caught.value.socket_path == "/nonexistent/arbiter.sock"
    with pytest.raises(DirtyError, match="Dirty socket path not configured"):
        dirty.get_dirty_client()


def test_clients_of_a_thread_have_their_own_timeouts(pool):
    dirty.set_dirty_socket_path(pool.path)
    try:
        quick, patient = dirty.get_dirty_client(timeout=0.2), dirty.get_dirty_client(timeout=20.0)
        assert dirty.get_dirty_client(timeout=0.2) is quick
        assert (quick.timeout, patient.timeout) == (0.2, 20.0)
        assert patient.execute("heavy:App", "echo", 1) == 1
    finally:
        dirty.close_dirty_client()
        dirty.set_dirty_socket_path(None)


# Awaited.


def test_awaited_calls_run_together_on_one_connection(pool):
    async def calls() -> None:
        async with DirtyClient(pool.path, timeout=20.0) as client:
            values = await asyncio.gather(*(client.execute_async("heavy:App", "echo", [each]) for each in range(200)))
            assert values == [[each] for each in range(200)]
            large = b"x" * 300_000
            assert await client.execute_async("heavy:App", "echo", large) == large
            with pytest.raises(DirtyAppError, match="this one"):
                await client.execute_async("heavy:App", "fail", "this one")
            assert [each async for each in client.stream_async("heavy:App", "count", 100)] == list(range(100))
            with pytest.raises(DirtyError, match="stream"):
                await client.execute_async("heavy:App", "count", 3)
            assert await client.execute_async("heavy:App", "echo", 1) == 1

    asyncio.run(calls())


def test_an_awaited_call_that_is_cancelled_is_cancelled_in_the_worker(pool):
    async def calls() -> None:
        dirty.set_dirty_socket_path(pool.path)
        client = await dirty.get_dirty_client_async(timeout=20.0)
        tasks = [asyncio.create_task(client.execute_async("heavy:App", "wait", "never", "cancelled")) for _ in "12"]
        while len(pool.server.lines("cancelled")) < 2:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        assert await client.execute_async("heavy:App", "echo", 1) == 1
        quick = await dirty.get_dirty_client_async(timeout=0.2)
        with pytest.raises(DirtyTimeoutError):
            await quick.execute_async("heavy:App", "wait", "never")
        await dirty.close_dirty_client_async()

    try:
        asyncio.run(calls())
    finally:
        dirty.set_dirty_socket_path(None)
    assert pool.call("echo", 1) == 1


# Gunicorn's own client.


def test_gunicorns_own_client_is_served(pool):
    import subprocess
    import sys

    script = """
import asyncio, sys
from gunicorn.dirty import DirtyClient, StashClient
client = DirtyClient(sys.argv[1], timeout=10.0)
assert client.execute("heavy:App", "echo", [1, (2, 3), {"a": b"x"}]) == [1, [2, 3], {"a": b"x"}]
assert client.execute("heavy:App", "echo", b"x" * 1_000_000) == b"x" * 1_000_000
assert list(client.stream("heavy:App", "count", 3)) == [0, 1, 2]
try:
    client.execute("heavy:App", "fail")
except Exception as error:
    assert (type(error).__name__, error.app_path) == ("DirtyAppError", "heavy:App"), error
else:
    raise AssertionError
asyncio.run(client.execute_async("heavy:App", "echo", 1))
stash = StashClient(sys.argv[1])
stash.put("theirs", "key", {"value": None})
assert stash.get("theirs", "key") == {"value": None}
assert stash.keys("theirs", "k*") == ["key"] and stash.exists("theirs") and not stash.exists("theirs", "x")
assert stash.info("theirs")["size"] == 1
print("done")
"""
    done = subprocess.run([sys.executable, "-c", script, pool.path], capture_output=True, text=True, timeout=30)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("timeout", [30.0, None])
def test_a_signals_handler_runs_while_a_call_waits(pool, timeout):
    """Also where the signal lets system calls go on: the handler is what the call waits for."""
    gate, begun = f"heard-{timeout}", f"begun-{timeout}"
    before = signal.signal(signal.SIGUSR2, lambda *_: pool.open_gate(gate))
    signal.siginterrupt(signal.SIGUSR2, False)

    def send() -> None:
        wait_for(lambda: pool.server.lines(begun))
        os.kill(os.getpid(), signal.SIGUSR2)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with DirtyClient(pool.path, timeout=timeout) as client:
            assert client.execute("heavy:App", "wait", gate, begun) in pool.workers
    finally:
        sender.join()
        signal.signal(signal.SIGUSR2, before)


# What cannot be called.

NO_TEXTS = [(1, "must be a str, not int"), (None, "must be a str, not NoneType"), ("\ud800", "has a lone surrogate")]


@pytest.mark.parametrize(("name", "text"), NO_TEXTS, ids=lambda value: ascii(value)[:8])
@pytest.mark.parametrize("what", ["app_path", "action"])
def test_a_name_that_is_no_text_is_a_clear_error_of_every_kind_of_call(pool, what, name, text):
    where = ("heavy:App", name) if what == "action" else (name, "echo")

    async def pieces() -> list[object]:
        return [piece async for piece in pool.client.stream_async(*where)]

    for call in (
        lambda: pool.client.execute(*where),
        lambda: list(pool.client.stream(*where)),
        lambda: asyncio.run(pool.client.execute_async(*where)),
        lambda: asyncio.run(pieces()),
    ):
        with pytest.raises(DirtyProtocolError, match=f"{what} {text}"):
            call()
    assert pool.call("echo", 1) == 1


@pytest.mark.parametrize(
    "timeout", [math.nan, -1, -0.5, "5", b"5", [], True, 10**400], ids=lambda value: ascii(value)[:8]
)
def test_a_timeout_that_is_none_is_a_clear_error_wherever_it_is_given(pool, timeout):
    client = DirtyClient(pool.path, timeout=5.0)

    def later() -> None:
        client.timeout = timeout

    async def awaited() -> None:
        await dirty.get_dirty_client_async(timeout=timeout)

    dirty.set_dirty_socket_path(pool.path)
    try:
        for give in (
            lambda: DirtyClient(pool.path, timeout=timeout),
            lambda: dirty.get_dirty_client(timeout=timeout),
            lambda: asyncio.run(awaited()),
            lambda: StashClient(pool.path, timeout=timeout),
            lambda: DirtyStreamIterator(client, "heavy:App", "count", (3,), {}, idle_timeout=timeout),
            later,
        ):
            with pytest.raises(DirtyError, match="timeout must be None or seconds, 0 or more, not "):
                give()
    finally:
        dirty.close_dirty_client()
        dirty.set_dirty_socket_path(None)
    assert client.timeout == 5.0
    assert client.execute("heavy:App", "echo", 1) == 1
    client.close()


@pytest.mark.parametrize("path", [5, None, "a\0b", "a" * 200], ids=lambda value: ascii(value)[:8])
def test_a_socket_that_cannot_be_one_is_a_connection_error(path):
    client = DirtyClient(path)
    with pytest.raises(DirtyConnectionError, match="Failed to connect"):
        client.execute("heavy:App", "echo", 1)
    with pytest.raises(DirtyConnectionError, match="Failed to connect"):
        asyncio.run(client.execute_async("heavy:App", "echo", 1))
