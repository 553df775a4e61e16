"""Values through a pool on a real Ray are what they are through the server's own processes, or are refused as there."""

from __future__ import annotations

import array
import inspect
import shutil
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction

import pytest

from oxicorn.dirty.errors import DirtyAppError, DirtyError
from tests.pool.conftest import Pool, started
from tests.support.wait import wait_for

pytest.importorskip("ray", reason="Ray is not installed")
np = pytest.importorskip("numpy", reason="NumPy is not installed")

#: Ray takes its time: a dozen processes start before the first call is done.
LONG = 60.0
pytestmark = pytest.mark.timeout(5 * LONG)


def described(value: object) -> object:
    """Everything about a value, in values that any pool takes."""
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(described, value)]
    if isinstance(value, dict):
        return [type(value).__name__, *([described(key), described(item)] for key, item in value.items())]
    if isinstance(value, memoryview):
        return ["memoryview", value.format, list(value.shape), value.readonly, value.tobytes()]
    if type(value).__name__ == "ndarray":
        # The bytes of objects are where they lie.
        content = value.tolist() if value.dtype.hasobject else value.tobytes()
        return ["ndarray", value.dtype.str, list(value.shape), value.flags.writeable, content]
    if type(value).__name__ == "Tensor" and str(value.layout) == "torch.strided" and str(value.device) == "cpu":
        content = value.detach().contiguous().reshape(-1).view(sys.modules["torch"].uint8).tolist()
        return ["Tensor", str(value.dtype), list(value.shape), value.requires_grad, bytes(content)]
    return [type(value).__name__, repr(value)]


HEAVY = f"""
import collections
import enum
import sys

import numpy as np

try:
    import torch
except ImportError:
    pass

{inspect.getsource(described)}

class App:
    def init(self):
        self.streams_closed = 0

    def __call__(self, action, *args, **kwargs):
        return getattr(self, action)(*args, **kwargs)

    def take(self, *args, **kwargs):
        return described([*args, kwargs])

    def give(self, value):
        return value

    def make(self, expression):
        return eval(expression, globals())

    def pieces(self, expression):
        try:
            yield from eval(expression, globals())
        finally:
            self.streams_closed += 1

    def closed(self):
        return self.streams_closed

    def double(self, view):
        # In the memory that came.
        values = np.asarray(view)
        values *= 2
        return values

    def stash(self, value):
        from gunicorn.dirty import stash
        stash.put("values", "one", value)
        return stash.get("values", "one")

    def close(self):
        pass
"""
#: A class of the application's, whose module tells which processes import it.
THINGS = """
import os
from pathlib import Path

(Path(__file__).parent / f"imported-{os.getpid()}").touch()


class Thing:
    def __init__(self, array):
        self.array = array
"""


@pytest.fixture(scope="module")
def local(serve_module) -> Iterator[Pool]:
    pool = started(serve_module, 'dirty_serializer = "pickle"\n', heavy=HEAVY, files={"things.py": THINGS})
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def on_ray(serve_module) -> Iterator[Pool]:
    # Sockets lie deep below it, and paths of sockets are short.
    directory = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    pool = started(
        serve_module,
        'dirty_pool = "ray"\ndirty_serializer = "pickle"\n',
        env={"RAY_TMPDIR": directory, "HOME": directory},
        heavy=HEAVY,
        files={"things.py": THINGS},
    )
    wait_for(lambda: "Initialized dirty app: heavy:App (1 actors)" in pool.server.log, LONG, lambda: pool.server.log)
    yield pool
    pool.close()
    pool.server.stop()
    wait_for(lambda: not pool.server.processes(), LONG, lambda: str(pool.server.processes()))
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["values", "pickle"])
def serializer(request, monkeypatch) -> str:
    """What the caller has in its environment; both pools take either."""
    monkeypatch.setenv("OXICORN_DIRTY_SERIALIZER", request.param)
    return request.param


def outcome(pool: Pool, action: str, *args: object) -> object:
    """What a call gives, or which error with which text."""
    try:
        return described(pool.call(action, *args))
    except DirtyError as error:
        return [type(error).__name__, error.message, getattr(error, "exception", None)]
    except (ValueError, TypeError, BufferError) as error:
        # Of the caller's own, before anything was sent.
        return [type(error).__name__, str(error)]


def ones(dtype: str, shape: tuple[int, ...]) -> object:
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)


#: More than 64 KiB lies beside a message, and Ray has more than 100 kB in memory of its own.
LARGE = 200_000
PLAIN = {
    "small": [None, True, 1, -(2**80), 1.5, "text", b"bytes", bytearray(b"array"), (), [], {}],
    "nested": {"a": [(1, {2: b"x", (3, "y"): [None]})], "b": ({"c": ()},)},
    "large bytes": [b"x" * LARGE, bytearray(b"y" * LARGE), "z" * LARGE, "ü" * LARGE],
    "the same twice": [b"x" * LARGE] * 2,
    "many": [{"id": number, "text": str(number)} for number in range(20_000)],
    "views": [memoryview(b"abc"), memoryview(b"x" * LARGE), memoryview(bytearray(LARGE)).cast("d", (500, 50))],
    "an empty view": memoryview(b""),
    "every second": memoryview(bytes(range(200)) * 2000)[::2],
    "array": [array.array("d", [1.0, 2.0]), array.array("H", range(60_000))],
    "array by array": {"x": ones("f", (300, 400)), "y": [ones("q", (3,)), (ones("B", (LARGE,)),)]},
    "a set": [1, {1}],
    "an object": {"x": object},
    "a surrogate": "\ud800",
    "turned": [ones("i", (300, 400)).T, np.asfortranarray(ones("d", (300, 400))), ones("i", (1000, 200))[::2, ::3]],
}


@pytest.mark.parametrize("name", PLAIN)
def test_values_are_the_same_in_both_pools(local, on_ray, serializer, name):
    value = PLAIN[name]
    assert outcome(on_ray, "take", value) == outcome(local, "take", value)
    assert outcome(on_ray, "give", value) == outcome(local, "give", value)


@pytest.mark.parametrize(
    "dtype", ["?", "b", "H", "i", "q", "e", "f", "d", "F", "D", ">i4", "M8[D]", "U3", "O", "i4,f8"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4), (300, 400)])
def test_arrays_are_the_same_in_both_pools(local, on_ray, serializer, dtype, shape):
    value = ones(dtype, shape)
    assert outcome(on_ray, "take", value) == outcome(local, "take", value)
    assert outcome(on_ray, "give", value) == outcome(local, "give", value)


def test_what_comes_may_be_written_to_and_is_nobody_elses(on_ray, serializer):
    for length in (10, 1_000_000):
        values = np.arange(length, dtype=np.float64)
        for _ in range(2):
            assert np.array_equal(on_ray.call("double", values), np.arange(length) * 2.0)
        doubled = np.asarray(on_ray.call("double", values))
        doubled[0] = 7
        assert doubled[0] == 7
        assert values[1] == 1
    kind = "memoryview" if serializer == "values" else "ndarray"
    assert on_ray.call("take", np.zeros(3, "f"))[1][0] == kind


#: What is made where the application is, so refused there, if it is.
MADE = [
    "{1, 2}",
    "{'x': [0, object()]}",
    "np.array([object()])",
    "np.zeros(3, 'M8[s]')",
    "np.zeros(3, 'F')",
    "[np.float32(1.5), np.int64(2)]",
    "collections.namedtuple('Pair', 'a b')(1, 2)",
    "collections.OrderedDict(a=1)",
    "enum.IntEnum('Number', 'ONE').ONE",
    "range(3)",
    "'\\ud800'",
    "memoryview(bytes(100_000)).cast('I', (5, 5000))",
    "[np.ones((300, 400), 'f'), b'x' * 100_000, 'y' * 100_000]",
    "__import__('functools').reduce(lambda inner, _: [inner], range(200), 1)",
]


@pytest.mark.parametrize("expression", MADE)
def test_results_and_pieces_are_the_same_or_refused_in_the_same_words(local, on_ray, expression):
    assert outcome(on_ray, "make", expression) == outcome(local, "make", expression)

    def pieces(pool: Pool) -> list[object]:
        found = []
        try:
            for piece in pool.client.stream("heavy:App", "pieces", f"[1, {expression}, 2]"):
                found.append(described(piece))
        except DirtyAppError as error:
            found.append([error.message, error.exception])
        return found

    assert pieces(on_ray) == pieces(local)


def test_a_refusal_is_one_line_with_its_place_and_none_of_rays(on_ray):
    with pytest.raises(DirtyAppError) as caught:
        on_ray.call("make", "{'x': [0, {1}]}")
    assert caught.value.message == "Cannot send result['x'][1]: a value of type set"
    assert caught.value.exception == "oxicorn.dirty.errors.DirtyProtocolError"
    closed = on_ray.call("closed")
    with pytest.raises(DirtyAppError) as caught:
        list(on_ray.client.stream("heavy:App", "pieces", "[{'x': {1}}]"))
    assert caught.value.message == "Cannot send data['x']: a value of type set"
    assert on_ray.call("closed") == closed + 1
    assert "RayTaskError" not in on_ray.server.log


def test_the_stash_is_the_same_from_there(local, on_ray):
    for value in ({"a": (1, b"x" * LARGE)}, ones("f", (300, 400))):
        assert outcome(on_ray, "stash", value) == outcome(local, "stash", value)


def test_pickles_are_opened_by_the_application_and_by_nobody_on_the_way(local, on_ray, monkeypatch):
    monkeypatch.setenv("OXICORN_DIRTY_SERIALIZER", "pickle")
    for pool in (local, on_ray):
        assert pool.call("give", {"x": Fraction(1, 3), "y": {1, 2}}) == {"x": Fraction(1, 3), "y": {1, 2}}
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(on_ray.server.directory))
        thing = __import__("things").Thing(np.arange(100_000))
        back = on_ray.call("give", [thing, thing])
        patch.delitem(sys.modules, "things")
    assert back[0] is back[1]
    assert np.array_equal(back[0].array, np.arange(100_000))
    back[0].array[0] = 1
    (driver,) = on_ray.workers
    imported = {path.name for path in on_ray.server.directory.glob("imported-*")}
    assert len(imported) == 2, "this process and the actor's"
    assert f"imported-{driver}" not in imported


def test_tensors_are_the_same_in_both_pools(local, on_ray, serializer):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for dtype in ("bool", "uint8", "int64", "float16", "float32", "bfloat16", "complex64"):
        for shape in ((), (0,), (3,), (2, 0, 3), (300, 400)):
            count = max(1, torch.Size(shape).numel())
            tensor = (torch.arange(count) % 2).to(getattr(torch, dtype))[: torch.Size(shape).numel()].reshape(shape)
            assert outcome(on_ray, "take", tensor) == outcome(local, "take", tensor)
            assert outcome(on_ray, "give", {"in": [tensor]}) == outcome(local, "give", {"in": [tensor]})
    for expression in (
        "torch.ones(3, requires_grad=True)",
        "torch.eye(2).to_sparse()",
        "torch.empty(2, device='meta')",
    ):
        assert outcome(on_ray, "make", expression) == outcome(local, "make", expression)
    tensor = on_ray.call("give", torch.zeros(100_000))
    tensor += 1
    assert tensor.sum() == 100_000
