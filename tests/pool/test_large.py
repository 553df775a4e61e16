"""Values of hundreds of megabytes: whole, and never in the broker."""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path

import pytest

from oxicorn.dirty import DirtyError

SIZE = 300_000_000
#: What a broker has in memory at most while they pass, which is less than a third of one.
BROKER_MOST = 64 << 20

HEAVY = """
import hashlib

class App:
    def init(self): pass
    def close(self): pass
    def __call__(self, action, value):
        if action == "digest":
            return hashlib.sha256(value).hexdigest()
        return pattern(value)


def pattern(size):
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]
"""


@pytest.fixture
def pool(start):
    return start(heavy=HEAVY)


def most_memory(pid: int) -> int:
    """The most bytes that the process has had in memory."""
    (size,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(size) * 1024


def test_they_arrive_whole_and_pass_the_broker_by(pool):
    result = pool.call("give", SIZE)
    assert (type(result), len(result)) == (bytes, SIZE)
    digest = hashlib.sha256(result).hexdigest()
    assert pool.call("digest", result) == digest
    assert pool.call("digest", memoryview(result)[1:]) == hashlib.sha256(memoryview(result)[1:]).hexdigest()
    assert most_memory(pool.broker) < BROKER_MOST


def test_one_that_is_too_large_is_a_clear_error_and_costs_nobody_else_anything(pool):
    # One byte more than memory files may have; none of them is ever touched.
    much = mmap.mmap(-1, (1 << 30) + 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with pytest.raises(DirtyError, match=r"takes 1073741825 bytes, more than the 1073741824 of a message"):
        pool.call("digest", memoryview(much))
    assert pool.call("give", 3) == b"012"
