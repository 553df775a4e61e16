"""The pool called from applications: every worker class, pickles, real models."""

from __future__ import annotations

import time

import pytest

from tests.pool.conftest import HEAVY
from tests.support.http import encode

CONFIG = 'dirty_apps = ["heavy:App"]\ndirty_workers = 1\n'

ASGI = """
    from gunicorn.dirty import get_dirty_client_async
    async def application(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError
        client = await get_dirty_client_async(timeout=20)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            async for piece in client.stream_async("heavy:App", "count", 5):
                await send({"type": "http.response.body", "body": str(piece).encode(), "more_body": True})
        else:
            body = await client.execute_async("heavy:App", "echo", b"awaited")
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
"""


def test_asgi_applications_await_it(serve, loop):
    server = serve.new()
    server.write("heavy.py", HEAVY)
    server.start("--worker-class", "asgi", "--asgi-loop", loop, app=ASGI, config=CONFIG)
    assert server.get("/").body == b"awaited"
    assert server.get("/stream").body == b"01234"
    assert server.get("/").body == b"awaited"


GEVENT = """
    import gevent
    from gunicorn.dirty import get_dirty_client, stash
    beats = []
    def application(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/wait":
            return [str(get_dirty_client().execute("heavy:App", "wait")).encode()]
        if environ["PATH_INFO"] == "/stream":
            return [str(list(get_dirty_client().stream("heavy:App", "count", 3))).encode()]
        stash.put("t", "k", 1)
        return [str(stash.get("t", "k")).encode()]
"""


def test_a_call_under_gevent_lets_other_greenlets_run(serve):
    pytest.importorskip("gevent")
    server = serve.new()
    server.write("heavy.py", HEAVY)
    server.start("--worker-class", "gevent", app=GEVENT, config=CONFIG)
    assert server.get("/stream").body == b"[0, 1, 2]"
    with server.connect() as peer:
        peer.send(encode("GET", "/wait"))
        deadline = time.monotonic() + 10
        while not server.lines("begun"):
            assert time.monotonic() < deadline, server.log
            assert server.get("/").body == b"1"
        assert server.get("/").body == b"1"
        (server.directory / "gate").touch()
        assert peer.answer().status == 200


PICKLING = """
import datetime

class App:
    def init(self): pass
    def close(self): pass
    def __call__(self, action, *args):
        if action == "types":
            return [type(each).__name__ for each in args]
        if action == "stream":
            return (each for each in args)
        return args[0]
"""


def test_pickles_carry_any_object_where_the_settings_say_so(serve):
    server = serve.new()
    server.write("heavy.py", PICKLING)
    app = """
        import datetime, decimal
        from gunicorn.dirty import get_dirty_client
        SENT = [{1, 2}, datetime.date(2026, 1, 2), decimal.Decimal("1.5"), bytearray(b"x" * 500_000), "text"]
        def application(environ, start_response):
            client = get_dirty_client()
            assert client.execute("heavy:App", "echo", SENT) == SENT
            assert client.execute("heavy:App", "types", *SENT) == [type(each).__name__ for each in SENT]
            assert list(client.stream("heavy:App", "stream", *SENT)) == SENT
            start_response("200 OK", [])
            return [b"all of them"]
    """
    server.start(app=app, config=CONFIG + 'dirty_serializer = "pickle"\n')
    assert server.get().body == b"all of them"


def test_a_pickle_is_refused_where_the_settings_do_not_say_so(start, monkeypatch):
    from oxicorn.dirty import DirtyAppError

    pool = start()
    monkeypatch.setenv("OXICORN_DIRTY_SERIALIZER", "pickle")
    with pytest.raises(DirtyAppError, match="dirty_serializer"):
        pool.call("echo", {1, 2})
    monkeypatch.delenv("OXICORN_DIRTY_SERIALIZER")
    assert pool.call("echo", 1) == 1


def test_frames_that_are_none_end_their_connection_and_nothing_else(pool):
    import random
    import socket

    chance = random.Random(1)
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(pool.path)
            peer.settimeout(5.0)
            frame = b"GD\x01" + bytes([chance.choice([1, 2, 0x10, 0x12, 0x20, 0x81, 99])])
            payload = chance.randbytes(chance.randrange(40))
            length = chance.choice([len(payload), len(payload) + 5, 2**32 - 1])
            peer.sendall(frame + length.to_bytes(4, "big") + chance.randbytes(8) + payload)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
    assert pool.call("echo", 1) == 1
