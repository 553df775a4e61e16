"""ASGI 3.0, main specification: each sentence that binds a server has a test. The first words name its section."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.support.applications.asgi_cases import answer, drain, note, raised, start
from tests.support.http import encode

pytestmark = pytest.mark.uvicorn

# Applications


def test_called_with_scope_receive_and_send(define):
    """Applications: a scope, which is a dict, and two awaitable callables, by position."""

    async def application(scope, receive, send, /):
        note(scope=type(scope) is dict, receive=hasattr(first := receive(), "__await__"))
        await first
        note(send=hasattr(second := start(send), "__await__"))
        await second
        await send({"type": "http.response.body"})

    case = define(application)
    assert case.get().status == 200
    assert case.note("scope") is case.note("receive") is case.note("send") is True


def test_scope_says_type_and_version(define):
    """Applications: `type` is always there; `asgi` is a dict with the version."""

    async def application(scope, receive, send):
        note(type=scope["type"], asgi=scope["asgi"], plain=type(scope["asgi"]) is dict)
        await answer(send)

    case = define(application)
    case.get()
    assert case.note("type") == "http"
    assert case.note("asgi")["version"] == "3.0"
    assert case.note("plain")


def test_runs_on_the_main_thread(define):
    """Overview: applications are coroutines on the main thread."""

    async def application(scope, receive, send):
        import threading

        note(main=threading.current_thread() is threading.main_thread(), loop=type(asyncio.get_running_loop()).__name__)
        await answer(send)

    case = define(application)
    case.get()
    assert case.note("main")


def test_events_are_plain_dicts_of_serialisable_values(define):
    """Events: a dict with a `type` that is a string, and nothing in it that could not be serialised."""

    async def application(scope, receive, send):
        event = await receive()
        note(event=type(event) is dict, kinds={key: type(value).__name__ for key, value in event.items()})
        await answer(send)

    case = define(application)
    case.request("POST", body=b"data")
    assert case.note("event")
    kinds = case.note("kinds")
    assert kinds["type"] == "str"
    assert kinds["body"] == "bytes"
    assert kinds.get("more_body", "bool") == "bool"


def test_strings_are_exactly_str_and_bytes(define):
    """Strings and Unicode: `str` and `bytes` themselves; keys of dicts are `str`."""

    async def application(scope, receive, send):
        def kinds(value):
            if isinstance(value, dict):
                return {key if type(key) is str else repr(key): kinds(item) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [kinds(item) for item in value]
            return type(value).__name__

        note(scope=kinds({key: value for key, value in scope.items() if key != "state"}))
        await answer(send)

    case = define(application)
    case.get("?a", [("X-One", "1")])
    found = case.note("scope")
    assert all(found[name] == "str" for name in ("type", "http_version", "method", "scheme", "path", "root_path"))
    assert all(found[name] == "bytes" for name in ("raw_path", "query_string"))
    assert found["asgi"] == {"version": "str", "spec_version": "str"}
    assert all(pair == ["bytes", "bytes"] for pair in found["headers"])
    assert found["client"] == found["server"] == ["str", "int"]


def test_legacy_application_is_served(serve, worker):
    """Legacy Applications: `application(scope)` returns what is awaited with receive and send, at once."""
    server = serve(
        """
        class Application:
            def __init__(self, scope):
                self.scope = scope

            async def __call__(self, receive, send):
                if self.scope["type"] == "lifespan":
                    raise ValueError("not here")
                event = await receive()
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": self.scope["path"].encode() + event["body"]})

        class Caller:
            def __call__(self, scope):
                return Application(scope)

        caller = Caller()

        def function(scope):
            return Application(scope)
        """,
        *worker,
        spec="app:Application",
    )
    assert server.request("POST", "/class", body=b"!").body == b"/class!"
    for spec in ("app:function", "app:caller"):
        other = serve(server.read("app.py"), *worker, spec=spec)
        assert other.request("POST", "/other", body=b"!").body == b"/other!"


@pytest.mark.parametrize("spec", ["coroutine", "method", "instance", "partial", "returns_awaitable", "guaranteed"])
def test_every_kind_of_single_callable_is_served(serve, worker, spec):
    """Applications: whatever is called with three arguments and gives an awaitable; asgiref's converter too."""
    server = serve(
        """
        import functools
        from asgiref.compatibility import guarantee_single_callable

        async def coroutine(scope, receive, send):
            if scope["type"] != "http":
                raise ValueError(scope["type"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"served"})

        class Application:
            async def method(self, scope, receive, send):
                await coroutine(scope, receive, send)

            async def __call__(self, scope, receive, send):
                await coroutine(scope, receive, send)

        method = Application().method
        instance = Application()

        async def configured(greeting, scope, receive, send):
            await coroutine(scope, receive, send)

        partial = functools.partial(configured, "hello")

        def returns_awaitable(scope, receive, send):
            return coroutine(scope, receive, send)

        def legacy(scope):
            async def instance(receive, send):
                await coroutine(scope, receive, send)
            return instance

        guaranteed = guarantee_single_callable(legacy)
        """,
        *worker,
        spec=f"app:{spec}",
    )
    assert server.get().body == b"served"


# Middleware and scopes


def test_changed_scope_does_not_leak_into_other_requests(define):
    """Connection Scope: it belongs to one connection, so what is done to it ends with it."""

    async def application(scope, receive, send):
        note(keys=sorted(scope), headers=list(scope["headers"]), asgi=dict(scope["asgi"]), path=scope["path"])
        scope.update(path="/elsewhere", leaked=True, root_path="/leaked")
        scope["asgi"]["leaked"] = True
        scope.setdefault("extensions", {})["leaked"] = {}
        scope["state"]["leaked"] = True
        scope["headers"] = [*scope["headers"], (b"leaked", b"yes")]
        await answer(send, headers=[(b"content-length", b"4")])

    case = define(application)
    with case.server.connect() as peer:
        for _ in range(2):
            assert peer.get(case.target).body == b"done"
    first, second = case.wait_for_notes(2)
    assert first == second


def test_nested_applications_see_a_copied_scope(define):
    """Middleware: one that copies the scope and wraps receive and send is as good as the server."""

    async def application(scope, receive, send):
        async def inner(scope, receive, send):
            body = await drain(receive)
            await answer(send, scope["path"].encode() + b" " + scope["added"] + body)

        async def wrapped_receive():
            event = await receive()
            return {**event, "body": event["body"].upper()}

        async def wrapped_send(event):
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], (b"x-added", b"yes")]}
            await send(event)

        await inner({**scope, "added": b"by middleware "}, wrapped_receive, wrapped_send)

    case = define(application)
    found = case.request("POST", "/deep", body=b"text")
    assert found.text == f"{case.target}/deep by middleware TEXT"
    assert found.header("x-added") == "yes"


# Error handling


@pytest.mark.parametrize(
    "event", [{"type": "http.nonsense"}, {}, {"type": None}, {"type": b"http.response.start"}, {"type": "http.request"}]
)
def test_event_of_unknown_type_raises_out_of_send(define, event):
    """Error Handling: an unknown or missing type."""

    async def application(scope, receive, send):
        note(raised=await raised(send(eval((await drain(receive)).decode()))))
        await answer(send)

    case = define(application)
    case.request("POST", body=repr(event).encode())
    assert case.note("raised") is not None


@pytest.mark.parametrize("event", [None, [], "http.response.start", 1])
def test_event_that_is_no_dict_raises_out_of_send(define, event):
    """Applications: send takes a single event dictionary."""

    async def application(scope, receive, send):
        note(raised=await raised(send(eval((await drain(receive)).decode()))))
        await answer(send)

    case = define(application)
    case.request("POST", body=repr(event).encode())
    assert case.note("raised") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"status": None},
        {"status": "200"},
        {"headers": [("x-text", b"value")]},
        {"headers": [(b"x-value", "text")]},
        {"headers": [(b"x-one",)]},
        {"headers": [b"x-line: whole"]},
        {"headers": 5},
    ],
    ids=str,
)
def test_malformed_start_raises_out_of_send(define, change):
    """Error Handling: a start without a status, or with values of wrong types, e.g. text for headers."""

    async def application(scope, receive, send):
        change = eval((await drain(receive)).decode())
        event = {"type": "http.response.start", "status": 200, "headers": [], **change}
        event = {key: value for key, value in event.items() if value is not None}
        note(raised=await raised(send(event)))

    case = define(application)
    with case.server.connect() as peer:
        peer.send(encode("POST", case.target, body=repr(change).encode()))
        assert case.note("raised") is not None


@pytest.mark.parametrize("body", ["text", 5, ["list"]])
def test_malformed_body_raises_out_of_send(define, body):
    """Error Handling: a body that is no byte string."""

    async def application(scope, receive, send):
        body = eval((await drain(receive)).decode())
        await start(send)
        note(raised=await raised(send({"type": "http.response.body", "body": body})))
        await send({"type": "http.response.body", "body": b"right"})

    case = define(application)
    found = case.request("POST", body=repr(body).encode())
    assert case.note("raised") is not None
    assert found.body == b"right"


def test_additional_keys_are_ignored(define):
    """Error Handling: keys an event need not have raise nothing."""

    async def application(scope, receive, send):
        await start(send, 200, [], future={"some": "thing"})
        await send({"type": "http.response.body", "body": b"done", "future": 1})

    assert define(application).get().body == b"done"


def test_application_that_fails_before_its_answer_is_a_500(define):
    """Error Handling: errors may be surfaced as the server likes; the instance and its connection end."""

    async def application(scope, receive, send):
        raise ValueError("told to fail before the head")

    case = define(application)
    assert case.get().status == 500
    case.server.wait_for_log("ValueError: told to fail before the head")
    assert case.server.get("/").body == b"hello", "others are served on"


def test_application_that_fails_in_its_answer_ends_the_connection(define):
    """Error Handling: the connection of a failed instance ends, and nobody takes its answer for a whole one."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("told to fail in the body")

    case = define(application)
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert peer.head().status == 200
        assert not peer.rest().endswith(b"0\r\n\r\n")
    case.server.wait_for_log("ValueError: told to fail in the body")


def test_application_that_never_answers_is_a_500(define):
    """Error Handling: returning without an answer is an error, too; the client must not wait for ever."""

    async def application(scope, receive, send):
        await drain(receive)

    assert define(application).get().status == 500


def test_messages_after_the_end_of_the_answer_reach_nobody(define):
    """Error Handling: what comes after the end is ignored; an error, if any, is the application's alone."""

    async def application(scope, receive, send):
        await answer(send, b"whole", headers=[(b"content-length", b"5")])
        await raised(send({"type": "http.response.body", "body": b"more"}))
        await raised(start(send, 500))
        note(ended=True)

    case = define(application)
    with case.server.connect() as peer:
        assert peer.get(case.target).body == b"whole"
        assert case.note("ended")
        assert peer.get("/").body == b"hello"


def test_error_of_send_that_leaves_the_application_is_caught(define):
    """Error Handling: what send raised because the client left harms neither server nor log."""

    async def application(scope, receive, send):
        await start(send)
        try:
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                await asyncio.sleep(0.001)
        finally:
            note(ended=True)

    case = define(application)
    before = case.server.log.count("Traceback")
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert peer.head().status == 200
    assert case.note("ended")
    assert case.server.get("/").body == b"hello"
    assert case.server.log.count("Traceback") == before


def test_extensions_are_dicts_by_name(define):
    """Extensions: `extensions` is a dict of names; the value of each is a dict."""

    async def application(scope, receive, send):
        note(extensions=scope.get("extensions", {}))
        await answer(send)

    case = define(application)
    case.get()
    extensions = case.note("extensions")
    assert type(extensions) is dict
    assert all(type(name) is str and type(value) is dict for name, value in extensions.items())


def test_many_applications_run_at_once(define):
    """Overview: each connection has a call of its own, and they wait together."""

    async def application(scope, receive, send):
        global waiting
        waiting = globals().get("waiting", 0) + 1
        while waiting < 20:
            await asyncio.sleep(0.001)
        await answer(send)

    case = define(application)
    bodies = []
    threads = [threading.Thread(target=lambda: bodies.append(case.get().body)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [b"done"] * 20
