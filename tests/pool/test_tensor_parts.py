"""What a tensor consists of on its way, where nobody has PyTorch: ``test_tensors.py`` needs it, this does not."""

from __future__ import annotations

import pytest

from oxicorn.dirty import tensors
from oxicorn.dirty.errors import DirtyAppError

CONTENT = memoryview(bytes(range(24)))


class Tensor:
    """What has the parts of one."""

    def __init__(self, dtype: str, shape: list[int], content: memoryview) -> None:
        self.parts = dtype, shape, content


@pytest.fixture(autouse=True)
def without_pytorch(monkeypatch) -> None:
    monkeypatch.setattr(tensors, "_torch", lambda: None)
    monkeypatch.setattr(tensors, "taken_apart", lambda value: value.parts if type(value) is Tensor else None)


def test_arrive_as_a_view(pool):
    small = Tensor("float32", [2, 3], CONTENT)
    assert pool.call("kind", small) == "memoryview"
    back = pool.call("echo", [small])[0]
    assert (back.format, back.shape, back.tobytes()) == ("f", (2, 3), bytes(CONTENT))
    # In the memory that is shared.
    large = Tensor("int64", [100, 200], memoryview(bytes(160_000)))
    assert pool.call("echo", large).shape == (100, 200)
    for shape, content in (([], b"12345678"), ([0], b""), ([2, 0], b"")):
        back = pool.call("echo", Tensor("float64", shape, memoryview(content)))
        assert back.tobytes() == content


def test_what_only_pytorch_has_is_refused_by_who_has_none(pool):
    with pytest.raises(
        DirtyAppError, match=r"a tensor of torch\.bfloat16, which only a process that has imported torch"
    ):
        pool.call("kind", Tensor("bfloat16", [12], CONTENT))
    assert pool.call("echo", 1) == 1


def test_the_stash_keeps_them(pool):
    pool.stash.put("tensors", "one", Tensor("uint8", [24], CONTENT))
    assert pool.stash.get("tensors", "one").tobytes() == bytes(CONTENT)
