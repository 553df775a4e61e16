"""``dirty_serializer = "pickle"``: what a pickle carries, and what is said of what it cannot."""

from __future__ import annotations

import array
import asyncio
import ctypes
import threading
from collections.abc import Iterator

import pytest

from oxicorn.dirty import DirtyAppError, DirtyClient, DirtyProtocolError
from tests.pool.conftest import Pool, started

VIEWS = """
class Unreadable:
    def __reduce__(self):
        return open, ("/nonexistent",)

class App:
    def init(self): pass
    def close(self): pass
    def echo(self, value):
        return value
    def double(self, view):
        for place, number in enumerate(view):
            view[place] = 2 * number
        return view
    def unreadable(self):
        return Unreadable()
    def unsendable(self):
        return open(__file__)
    def __call__(self, action, *args):
        return getattr(self, action)(*args)
"""


@pytest.fixture(scope="module")
def pickling(serve_module) -> Iterator[Pool]:
    pool = started(serve_module, 'dirty_serializer = "pickle"\n', heavy=VIEWS)
    yield pool
    pool.close()


@pytest.fixture
def pickled(pickling, monkeypatch) -> Pool:
    """A pool that takes pickles, and a caller that sends them."""
    monkeypatch.setenv("OXICORN_DIRTY_SERIALIZER", "pickle")
    return pickling


VIEW = memoryview(array.array("d", range(20_000)))


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abc"),
        memoryview(b"abcdef")[::2],
        memoryview(b""),
        memoryview(bytearray(200_000)),
        VIEW,
        VIEW.cast("B").cast("d", [200, 100]),
        VIEW.cast("B").cast("?", [2, 80_000])[1:],
    ],
    ids=lambda view: f"{view.format}{view.shape}",
)
def test_views_arrive_from_a_pickle_as_they_do_without(pickled, monkeypatch, view):
    by_pickle = pickled.call("echo", {"view": [view]})["view"][0]
    monkeypatch.delenv("OXICORN_DIRTY_SERIALIZER")
    (plain,) = pickled.call("echo", [view])
    for came in (by_pickle, plain):
        assert (came.format, came.shape, came.tobytes()) == (view.format, view.shape, view.tobytes())
        assert not came.readonly


def test_a_view_from_a_pickle_may_be_written_to(pickled):
    assert pickled.call("double", memoryview(b"\1\2\3")).tolist() == [2, 4, 6]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (threading.Lock(), "Cannot send args: TypeError: cannot pickle '_thread.lock' object"),
        (lambda: None, "Cannot send args: .*<lambda>"),
        (memoryview((ctypes.c_void_p * 2)()), "Cannot send args: PicklingError: a buffer of items of format '<P'"),
    ],
    ids=["lock", "function", "pointers"],
)
def test_what_cannot_be_pickled_is_a_clear_error(pickled, value, text):
    async def awaited() -> None:
        async with DirtyClient(pickled.path, timeout=30.0) as client:
            await client.execute_async("heavy:App", "echo", value)

    for call in (
        lambda: pickled.call("echo", value),
        lambda: list(pickled.client.stream("heavy:App", "echo", value)),
        lambda: asyncio.run(awaited()),
    ):
        with pytest.raises(DirtyProtocolError, match=text):
            call()
    assert pickled.call("echo", {1}) == {1}


def test_a_result_that_cannot_be_pickled_is_the_applications_error(pickled):
    with pytest.raises(DirtyAppError, match="Cannot send result: TypeError: cannot pickle"):
        pickled.call("unsendable")
    assert pickled.call("echo", {1}) == {1}


def test_a_result_that_cannot_be_unpickled_is_no_fault_of_the_connection(pickled):
    with pytest.raises(DirtyProtocolError, match=r"it cannot be unpickled: FileNotFoundError: .*/nonexistent"):
        pickled.call("unreadable")
    assert pickled.call("echo", {1}) == {1}
