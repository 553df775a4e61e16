"""What the application holds the server by: it serves again for the next request, unless somebody has kept it."""

from __future__ import annotations

import json

import pytest

from tests.support.greenlets import GEVENT
from tests.wsgi.conftest import WORKERS

KEEPER = """
    import json
    import weakref

    kept = []
    last = []


    def outcome(action):
        try:
            action()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "done"


    def application(environ, start_response):
        path = environ["PATH_INFO"]
        is_last = [one() is start_response for one in last]
        last[:] = [weakref.ref(start_response)]
        answer = {"served again": is_last}
        if path.startswith("/keep"):
            name = path.removeprefix("/keep/")
            kept.append({
                "start_response": start_response,
                "write": start_response.__self__,
                "early_hints": environ["wsgi.early_hints"],
                "socket": environ["gunicorn.socket"],
                "environ": environ,
            }[name])
        elif path == "/use":
            answer["used"] = outcome(lambda: kept[-1]("500 Kept", [("X-Kept", "yes")]))
        elif path == "/write":
            answer["used"] = outcome(lambda: kept[-1](b"kept"))
        elif path == "/forget":
            kept.clear()
        body = json.dumps(answer).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("X-Path", path)])
        return [body]
"""


@pytest.fixture(params=["sync", "gthread", GEVENT])
def keeper(request, serve):
    return serve(KEEPER, *WORKERS[request.param])


def ask(peer, path):
    answer = peer.get(path)
    assert (answer.status, answer.header("x-path"), answer.header("x-kept")) == (200, path, None)
    return json.loads(answer.body)


def test_handles_that_nobody_keeps_serve_again(keeper):
    with keeper.connect() as peer:
        ask(peer, "/")
        assert [ask(peer, "/")["served again"] for _ in range(3)] == [[True]] * 3


@pytest.mark.parametrize("what", ["start_response", "write", "early_hints", "socket", "environ"])
def test_what_is_kept_is_not_of_a_later_request(keeper, what):
    with keeper.connect() as peer:
        ask(peer, f"/keep/{what}")
        assert ask(peer, "/")["served again"] == [False]
        if what == "start_response":
            assert ask(peer, "/use")["used"] == "AssertionError: Response headers already set!"
        if what == "write":
            assert ask(peer, "/write")["used"] == "RuntimeError: the response has already ended"
        ask(peer, "/forget")
        ask(peer, "/")
        assert ask(peer, "/")["served again"] == [True]


def test_every_answer_is_its_own(serve):
    """Nothing of a response is left for the next one: status, length, what `start_response` was called with."""
    server = serve("""
        def application(environ, start_response):
            path = environ["PATH_INFO"]
            if path == "/long":
                start_response("201 Created", [("X-Long", "x" * 5000), ("Content-Length", "3")])
                return [b"abc"]
            if path == "/again":
                start_response("202 Accepted", [("X-First", "1")])
                try:
                    raise ValueError
                except ValueError:
                    import sys
                    start_response("203 Other", [("X-Second", "2")], sys.exc_info())
                return [b"again"]
            if path == "/refused":
                start_response("200 OK", [("X-Bad", "a\\nb")])
            if path == "/silent":
                return [b"nothing was started"]
            start_response("200 OK", [])
            return [b"plain"]
    """)
    with server.connect() as peer:
        for _ in range(3):
            answer = peer.get("/long")
            assert (answer.status, answer.body, len(answer.header("x-long"))) == (201, b"abc", 5000)
            answer = peer.get("/")
            assert (answer.status, answer.body, answer.header("x-long")) == (200, b"plain", None)
            answer = peer.get("/again")
            assert (answer.status, answer.body) == (203, b"again")
            assert (answer.header("x-first"), answer.header("x-second")) == (None, "2")
            head = peer.request("HEAD", "/long")
            assert (head.status, head.body) == (201, b"")
            assert peer.get("/").body == b"plain"
    for _ in range(2):
        assert [server.get(path).status for path in ("/refused", "/silent", "/")] == [500, 500, 200]
