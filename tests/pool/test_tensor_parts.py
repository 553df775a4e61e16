"""What a tensor consists of on its way, where nobody has PyTorch: ``test_tensors.py`` needs it, this does not."""

from __future__ import annotations

import pickle

import pytest

from oxicorn.dirty import tensors
from oxicorn.dirty.errors import DirtyAppError

CONTENT = memoryview(bytes(range(24)))


@pytest.fixture(autouse=True)
def without_pytorch(monkeypatch) -> None:
    monkeypatch.setattr(tensors, "_torch", lambda: None)


def test_arrive_as_a_view(pool):
    small = tensors.Apart("float32", [2, 3], CONTENT)
    assert pool.call("kind", small) == "memoryview"
    back = pool.call("echo", [small])[0]
    assert (back.format, back.shape, back.tobytes()) == ("f", (2, 3), bytes(CONTENT))
    # In the memory that is shared.
    large = tensors.Apart("int64", [100, 200], memoryview(bytes(160_000)))
    assert pool.call("echo", large).shape == (100, 200)
    for shape, content in (([], b"12345678"), ([0], b""), ([2, 0], b"")):
        back = pool.call("echo", tensors.Apart("float64", shape, memoryview(content)))
        assert back.tobytes() == content


def test_what_only_pytorch_has_is_refused_by_who_has_none(pool):
    with pytest.raises(
        DirtyAppError, match=r"a tensor of torch\.bfloat16, which only a process that has imported torch"
    ):
        pool.call("kind", tensors.Apart("bfloat16", [12], CONTENT))
    assert pool.call("echo", 1) == 1


def test_the_stash_keeps_them(pool):
    pool.stash.put("tensors", "one", tensors.Apart("uint8", [24], CONTENT))
    assert pool.stash.get("tensors", "one").tobytes() == bytes(CONTENT)


@pytest.mark.parametrize("keeps", [True, False])
def test_who_passes_them_on_leaves_them_as_they_are(monkeypatch, keeps):
    monkeypatch.setattr(tensors, "_keeps_apart", keeps)
    buffers: list[pickle.PickleBuffer] = []
    data = tensors.dumps(tensors.Apart("int16", [3, 4], CONTENT), buffers.append)
    assert len(buffers) == 1, "its content is not copied into the pickle"
    back = pickle.loads(data, buffers=buffers)
    if keeps:
        dtype, shape, content = tensors.taken_apart(back)
        assert (dtype, shape, bytes(content)) == ("int16", [3, 4], bytes(CONTENT))
    else:
        assert (back.format, back.shape) == ("h", (3, 4))
