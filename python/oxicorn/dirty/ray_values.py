"""Calls and answers on their way through Ray: payloads of the wire, and beside them what is large.

No value meets Ray's own serializer. Each is written and read by what any worker of the pool writes
and reads with (``_native.pool_seal``, ``_native.pool_open``), so it is what it would be there, or
is refused as there; and who only passes it on imports and unpickles nothing.
"""

from __future__ import annotations

import pickle
from typing import Any

from oxicorn import _native

__all__ = ["Manner", "Packed", "Part", "Sealed", "opened", "packed", "sealed", "unpacked"]

#: A payload, and buffers with their places beside it.
Sealed = tuple[bytes, list[tuple[int, Any]]]
#: The same for Ray.
Packed = tuple[bytes, list[tuple[int, "Part"]]]
#: How answers to a call are written, as ``_native.pool_open`` tells it.
Manner = tuple[bool, bool]


class Part:
    """A buffer that may be pickled again where it has been unpickled.

    What serves Ray's client does so, and cannot with the buffers that Ray itself makes.
    """

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: object) -> Any:
        # Whatever shape it has: to Ray it is bytes, which it need not copy into a pickle.
        return Part, (pickle.PickleBuffer(pickle.PickleBuffer(self.content).raw()),)


def packed(value: Sealed) -> Packed:
    """For Ray."""
    payload, parts = value
    return payload, [(place, Part(content)) for place, content in parts]


def unpacked(value: Packed) -> Sealed:
    """What came by Ray."""
    payload, parts = value
    return payload, [(place, part.content) for place, part in parts]


def opened(value: Packed, unpickles: bool) -> tuple[tuple[Any, ...], dict[str, Any], Manner]:
    """A call's arguments. DirtyProtocolError: they cannot be read."""
    return _native.pool_open(*unpacked(value), unpickles)


def sealed(name: str, value: object, manner: Manner) -> Packed:
    """An answer; ``name`` is what an error calls it. DirtyProtocolError: it cannot be sent."""
    return packed(_native.pool_seal(name, value, manner))
