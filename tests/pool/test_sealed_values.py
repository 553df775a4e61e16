"""Values as they are on their way through Ray, without Ray: what is sealed at one end is opened at the other."""

from __future__ import annotations

import array
import pickle
import sys
import types
from collections.abc import Callable, Iterator

import pytest

from oxicorn.dirty import ray_host, ray_values
from oxicorn.dirty.errors import DirtyProtocolError

#: Where it lies beside the payload.
LARGE = 100_000
OWN, PICKLED, GUNICORNS = (True, False), (True, True), (False, False)


def in_one(value: object) -> object:
    return pickle.loads(pickle.dumps(value, protocol=5))


def beside(value: object) -> object:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    assert len(data) < LARGE, "what is large is copied into the pickle"
    # As Ray has them: of bytes, read-only.
    return pickle.loads(data, buffers=[memoryview(bytes(buffer)) for buffer in buffers])


def twice(value: object) -> object:
    return in_one(beside(value))


#: How Ray, and how its client carries them.
CARRIED = pytest.mark.parametrize("carry", [in_one, beside, twice])
Carry = Callable[[object], ray_values.Packed]


@CARRIED
def test_what_is_sealed_is_opened(carry: Carry):
    values = (
        None,
        {"a": [1, 2.5, (2**80, "ü" * LARGE)], 2: b"x" * LARGE},
        bytearray(b"y" * LARGE),
        [b"x" * LARGE] * 2,
    )
    args, kwargs, manner = ray_values.opened(carry(ray_values.sealed("args", values, OWN)), False)
    assert (args, kwargs, manner) == (values, {}, (False, False))
    assert [type(value) for value in args] == [type(value) for value in values]


@CARRIED
@pytest.mark.parametrize("view", [memoryview(b"abcd"), memoryview(bytes(LARGE)).cast("H", (5, 10_000))])
def test_views_keep_format_and_shape_and_can_be_written_to(carry: Carry, view: memoryview):
    turned = memoryview(bytes(range(256)) * 1000)[::2]
    ((back, again, numbers), _, _) = ray_values.opened(
        carry(ray_values.sealed("args", (view, turned, array.array("d", [1.5] * LARGE)), OWN)), False
    )
    assert (back.format, back.shape, back.tobytes()) == (view.format, view.shape, view.tobytes())
    assert again.tobytes() == turned.tobytes()
    assert (numbers.format, numbers[-1]) == ("d", 1.5)
    for each in (back, again, numbers):
        assert not each.readonly


@CARRIED
def test_pickles_are_opened_where_the_settings_say_so_and_nowhere_else(carry: Carry):
    values = ({1, 2}, pickle.PickleBuffer(bytearray(LARGE)))
    call = carry(ray_values.sealed("args", values, PICKLED))
    args, _, manner = ray_values.opened(call, True)
    assert (args[0], len(args[1]), manner) == ({1, 2}, LARGE, (False, True))
    with pytest.raises(DirtyProtocolError, match='only where dirty_serializer is "pickle"'):
        ray_values.opened(call, False)


def test_what_cannot_be_sent_is_said_with_its_place():
    with pytest.raises(DirtyProtocolError, match=r"^Cannot send result\['x'\]\[1\]: a value of type set$"):
        ray_values.sealed("result", {"x": [0, {1}]}, OWN)


def test_gunicorns_client_gets_what_it_understands():
    payload, parts = ray_values.sealed("args", [("a", b"x" * LARGE)], GUNICORNS)
    assert (len(payload) > LARGE, parts) == (True, [])
    assert ray_values.opened((payload, parts), False)[0] == (["a", b"x" * LARGE],)


def test_parts_that_do_not_fit_are_refused():
    payload, parts = ray_values.sealed("args", (b"x" * LARGE, b"y" * LARGE), OWN)
    (first, _), (second, content) = parts
    for wrong in ([], parts[:1], [(first, content)], [*parts[:1], (second, ray_values.Part(b"short"))]):
        with pytest.raises(DirtyProtocolError, match="beyond its memory file"):
            ray_values.opened((payload, wrong), False)
    assert ray_values.opened((payload, parts[::-1]), False)[0] == (b"x" * LARGE, b"y" * LARGE)
    for end in range(1, len(payload)):
        with pytest.raises(DirtyProtocolError):
            ray_values.opened((payload[:end], parts), False)


class App:
    """An application whose streams say that they were closed."""

    def __init__(self) -> None:
        self.closed = 0

    def init(self) -> None: ...

    def close(self) -> None: ...

    def __call__(self, action: str, value: object) -> object:
        return self._pieces() if action == "pieces" else {1}

    def _pieces(self) -> Iterator[object]:
        try:
            yield from ([1], {1}, 2)
        finally:
            self.closed += 1


@pytest.fixture
def host(monkeypatch) -> ray_host.Host:
    module = types.ModuleType("application")
    module.App = App  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "application", module)
    monkeypatch.setattr(ray_host, "enter", lambda *_: None)
    return ray_host.Host("application:App", [], ".", True, False)


def test_an_actor_says_what_it_cannot_send_and_closes_the_stream(host):
    call = ray_values.sealed("args", (1,), OWN)
    kind, fields = host.call(1, "result", call)
    assert (kind, fields["message"]) == ("error", "Cannot send result: a value of type set")
    assert host.call(2, "pieces", call) == ("stream", None)
    kind, piece = host.piece(2, "pieces")
    assert (kind, piece) == ("value", ray_values.sealed("data", [1], GUNICORNS))
    kind, fields = host.piece(2, "pieces")
    assert (kind, fields["message"]) == ("error", "Cannot send data: a value of type set")
    assert host._app.closed == 1
    kind, fields = host.call(3, "result", ray_values.sealed("args", (1,), PICKLED))
    assert kind == "error"
    assert "pickles are taken only where" in fields["message"]
