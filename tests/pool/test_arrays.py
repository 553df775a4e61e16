"""NumPy's arrays as arguments, results and pieces of streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.conftest import Pool, started

np = pytest.importorskip("numpy", reason="NumPy is not installed")

HEAVY = """
import numpy as np
from gunicorn.dirty import DirtyApp


class App(DirtyApp):
    def double(self, array):
        # Of a view this makes an array of the same memory.
        array = np.asarray(array)
        array *= 2
        return array

    def describe(self, array):
        array = np.asarray(array)
        about = [array.dtype.str, list(array.shape), float(array.sum()), array.flags.writeable]
        return [*about, type(array.base).__name__]

    def rows(self, array):
        yield from np.asarray(array)

    def give(self, value):
        return value

    def halves(self):
        return np.zeros(3, "e")
"""


@pytest.fixture(scope="module")
def pool(serve_module) -> Iterator[Pool]:
    pool = started(serve_module, heavy=HEAVY)
    yield pool
    pool.close()


@pytest.mark.parametrize("dtype", ["?", "b", "H", "i", "q", "e", "f", "d"])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0,), (300, 400)])
def test_arrive_with_their_type_and_shape(pool, dtype, shape):
    array = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    back = np.asarray(pool.call("give", array))
    assert (back.dtype, back.shape if back.size else (0,)) == (array.dtype, shape)
    assert np.array_equal(back.reshape(shape), array)


def test_halves_are_refused_by_who_has_no_numpy(pool):
    import subprocess
    import sys

    program = """
import sys
from oxicorn.dirty import DirtyClient, DirtyError
try:
    DirtyClient(sys.argv[1]).execute("heavy:App", "halves")
except DirtyError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", program, pool.path], capture_output=True, text=True, timeout=60)
    assert "a buffer of half-precision floats, which only a process that has imported NumPy can have" in done.stdout


def test_the_callee_may_write_and_the_callers_array_stays_as_it_is(pool):
    array = np.arange(1_000_000, dtype=np.float64)
    doubled = np.asarray(pool.call("double", array))
    assert np.array_equal(doubled, array * 2)
    assert array[1] == 1
    assert pool.call("describe", array[:10]) == ["<f8", [10], 45.0, True, "memoryview"]
    # What came back is the caller's own.
    doubled[0] = 7
    assert doubled[0] == 7


def test_arrays_whose_items_do_not_lie_together_are_sent_as_what_they_are(pool):
    array = np.arange(200_000, dtype=np.int32).reshape(1000, 200)
    for view in (array.T, array[::2, ::3], np.asfortranarray(array)):
        assert np.array_equal(np.asarray(pool.call("give", view)), view)


def test_as_pieces_of_a_stream(pool):
    array = np.arange(400_000, dtype=np.float32).reshape(4, 100_000)
    rows = [np.asarray(row) for row in pool.client.stream("heavy:App", "rows", array)]
    assert np.array_equal(np.stack(rows), array)


def test_the_broker_between_never_touches_what_is_large(pool):
    """One copy into memory that both ends share, and one out of it: none for the way."""

    def passed() -> int:
        counts = dict(line.split(": ") for line in Path(f"/proc/{pool.broker}/io").read_text().splitlines())
        return int(counts["rchar"]) + int(counts["wchar"])

    array = np.zeros(4_000_000)
    pool.call("give", array)
    before = passed()
    for _ in range(3):
        assert np.asarray(pool.call("give", array)).nbytes == 32_000_000
    assert passed() - before < 64 << 10


def test_what_has_no_meaning_elsewhere_is_refused_with_its_place(pool):
    from oxicorn.dirty.errors import DirtyProtocolError

    for array in (np.array([object()]), np.array(["2026-01-01"], dtype="M8[D]"), np.zeros(2, dtype=[("a", "i4")])):
        with pytest.raises((DirtyProtocolError, ValueError), match=r"args\[0\]|buffer|format"):
            pool.call("give", array)
    assert pool.call("give", 1) == 1
