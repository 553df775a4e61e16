"""Tensors of PyTorch as arguments, results and pieces of streams; where PyTorch is not installed, this file is skipped.

PyTorch takes gigabytes, so it is not among the requirements of the suite.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oxicorn.dirty.errors import DirtyProtocolError
from tests.pool.conftest import Pool, started

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

HEAVY = """
import torch
from gunicorn.dirty import DirtyApp


class App(DirtyApp):
    def double(self, tensor):
        # In the memory that came.
        tensor *= 2
        return tensor

    def describe(self, tensor):
        return [type(tensor).__name__, str(tensor.dtype), list(tensor.shape), tensor.requires_grad]

    def rows(self, tensor):
        yield from tensor

    def give(self, value):
        return value
"""


@pytest.fixture(scope="module", params=["values", "pickle"])
def pool(serve_module, request) -> Iterator[Pool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OXICORN_DIRTY_SERIALIZER", request.param)
        pool = started(serve_module, f'dirty_serializer = "{request.param}"\n', heavy=HEAVY)
        yield pool
        pool.close()


@pytest.fixture(autouse=True)
def serializer(pool, request, monkeypatch) -> str:
    """What a caller of this pool has in its environment."""
    name = request.node.callspec.params["pool"]
    monkeypatch.setenv("OXICORN_DIRTY_SERIALIZER", name)
    return name


DTYPES = ["bool", "uint8", "int64", "float16", "float32", "bfloat16", "complex64", "float8_e4m3fn", "uint16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4), (300, 400)])
def test_arrive_with_their_type_and_shape(pool, dtype, shape):
    tensor = (torch.arange(max(1, torch.Size(shape).numel())) % 2).to(getattr(torch, dtype))
    tensor = tensor[: torch.Size(shape).numel()].reshape(shape)
    back = pool.call("give", {"in": [tensor]})["in"][0]
    assert (type(back), back.dtype, back.shape) == (torch.Tensor, tensor.dtype, tensor.shape)
    assert torch.equal(back.to(torch.complex128), tensor.to(torch.complex128))


def test_the_callee_may_write_and_the_callers_tensor_stays_as_it_is(pool):
    tensor = torch.arange(1_000_000, dtype=torch.float64)
    doubled = pool.call("double", tensor)
    assert torch.equal(doubled, tensor * 2)
    assert tensor[1] == 1
    doubled[0] = 7
    assert doubled[0] == 7


def test_items_that_do_not_lie_together_arrive_as_what_they_are(pool):
    tensor = torch.arange(200_000, dtype=torch.int32).reshape(1000, 200)
    for view in (tensor.t(), tensor[::2, ::3], tensor[5:]):
        assert torch.equal(pool.call("give", view), view)
    turned = torch.full((6,), 1 + 2j, dtype=torch.complex64).conj()
    assert torch.equal(pool.call("give", turned), turned)


def test_parameters_and_what_has_a_gradient(pool, serializer):
    parameter = torch.nn.Parameter(torch.ones(3))
    if serializer == "values":
        assert pool.call("describe", parameter) == ["Tensor", "torch.float32", [3], False]
    else:
        assert pool.call("describe", parameter) == ["Parameter", "torch.float32", [3], True]
        leaf = torch.ones(3, requires_grad=True)
        assert pool.call("describe", leaf) == ["Tensor", "torch.float32", [3], True]


def test_as_pieces_of_a_stream(pool):
    tensor = torch.arange(400_000, dtype=torch.bfloat16).reshape(4, 100_000)
    assert torch.equal(torch.stack(list(pool.client.stream("heavy:App", "rows", tensor))), tensor)


def test_the_broker_between_never_touches_them(pool):
    def passed() -> int:
        counts = dict(line.split(": ") for line in Path(f"/proc/{pool.broker}/io").read_text().splitlines())
        return int(counts["rchar"]) + int(counts["wchar"])

    tensor = torch.zeros(4_000_000, dtype=torch.float64)
    pool.call("give", tensor)
    before = passed()
    for _ in range(3):
        assert pool.call("give", tensor).nbytes == 32_000_000
    assert passed() - before < 64 << 10


def test_a_pickle_has_their_content_beside_it(pool):
    from oxicorn.dirty import tensors

    buffers: list[object] = []
    tensor = torch.zeros(1_000_000)
    assert len(tensors.dumps([tensor, tensor, torch.nn.Linear(1000, 1000)], buffers.append)) < 4096
    assert len(buffers) == 3, "twice the same one is one"


def test_what_cannot_be_sent_is_said_with_its_place(pool, serializer):
    if serializer == "pickle":
        pytest.skip("PyTorch pickles them itself")
    for tensor, text in (
        (torch.empty(2, device="meta"), r"args\[0\]\['x'\]: a tensor on the device meta: tensor.cpu\(\)"),
        (torch.eye(2).to_sparse(), r"args\[0\]\['x'\]: a tensor that is sparse"),
    ):
        with pytest.raises(DirtyProtocolError, match=text):
            pool.call("give", {"x": tensor})


WITHOUT = """
import sys
from oxicorn.dirty import DirtyClient
client = DirtyClient(sys.argv[1])
view = client.execute("heavy:App", "whole")
assert (view.format, view.shape, view[1, 2]) == ("f", (2, 3), 5.0), view
try:
    client.execute("heavy:App", "half")
except Exception as error:
    assert "a tensor of torch.bfloat16, which only a process that has imported torch can have" in str(error), error
else:
    raise AssertionError
assert "torch" not in sys.modules
"""
MAKER = """
import torch

class App:
    def init(self): pass
    def close(self): pass
    def __call__(self, action):
        kind = torch.float32 if action == "whole" else torch.bfloat16
        return torch.arange(6, dtype=kind).reshape(2, 3)
"""


def test_who_has_not_imported_it_gets_a_view(serve_module, serializer, monkeypatch):
    if serializer == "pickle":
        pytest.skip("a pickle imports what it needs")
    monkeypatch.delenv("OXICORN_DIRTY_SERIALIZER")
    pool = started(serve_module, heavy=MAKER)
    done = subprocess.run([sys.executable, "-c", WITHOUT, pool.path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    pool.close()
