"""Bodies that come and go in pieces: what is asked for, what waits, what slows whom down."""

# ruff: noqa: F821 - the applications of the tests see the names of asgi_cases

from __future__ import annotations

import contextlib
import hashlib
import json

import pytest

from tests.support.http import chunk, encode
from tests.support.wait import stays, wait_for

pytestmark = pytest.mark.usefixtures("only_oxicorn")

MEGABYTE = 1024 * 1024


def test_application_is_called_before_the_body_has_come(define, server):
    async def application(scope, receive, send):
        note(called=True)
        first = await receive()
        note(first=first)
        await answer(send, first["body"] + await drain(receive))

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n".encode())
        assert case.note("called")
        peer.send(b"01234")
        assert case.note("first") == {"type": "http.request", "body": b"01234", "more_body": True}
        peer.send(b"56789")
        assert peer.answer("POST").body == b"0123456789"
        assert peer.get("/").status == 200


def test_chunked_body_comes_piece_by_piece(define, server):
    async def application(scope, receive, send):
        while True:
            event = await receive()
            note(piece=event["body"])
            if not event["more_body"]:
                return await answer(send)

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for number, piece in enumerate([b"one", b"two", b"three"], 1):
            peer.send(chunk(piece))
            case.wait_for_notes(number)
        peer.send(b"0\r\nx-trailer: 1\r\n\r\n")
        assert peer.answer("POST").status == 200
        assert b"".join(note["piece"] for note in case.notes) == b"onetwothree"
        assert peer.get("/").status == 200


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n"], ids=["bare", "trailers"])
def test_end_of_an_empty_body_that_comes_while_the_loop_is_busy(define, server, end):
    """It comes when the request was given to the worker and the worker has not looked yet."""

    async def busy(scope, receive, send):
        import os
        import time

        note(busy=True)
        while not os.path.exists("released"):
            time.sleep(0.005)
        await answer(send)

    async def application(scope, receive, send):
        await answer(send, b"%d" % len(await drain(receive)))

    released_file = server.directory / "released"
    released_file.unlink(missing_ok=True)
    blocking, case = define(busy), define(application)
    with server.connect() as blocked, server.connect() as peer:
        blocked.send(encode(target=blocking.target))
        assert blocking.note("busy")
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        # Refused by the gateway alone, which has placed what came before.
        assert server.request("BAD METHOD", "/").status == 400
        peer.send(end)
        assert server.request("BAD METHOD", "/").status == 400
        released_file.touch()
        assert blocked.answer().status == 200
        assert peer.answer("POST").body == b"0"


def test_continue_is_sent_when_the_application_asks(define, server):
    async def application(scope, receive, send):
        note(called=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        await answer(send, await drain(receive))

    source = "\nimport os\n"
    case = define(application)
    path = server.directory / f"{case.name}.py"
    path.write_text(path.read_text() + source)
    with server.connect() as peer:
        head = f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        peer.send(head.encode())
        assert case.note("called")
        assert not peer.is_closed(0.2)
        server.write("go", "")
        assert peer.head().status == 100
        peer.send(b"body")
        assert peer.answer("POST").body == b"body"
    (server.directory / "go").unlink()


def test_no_continue_for_an_application_that_does_not_ask(define, server):
    async def application(scope, receive, send):
        await answer(send, b"no thanks", 413)

    case = define(application)
    with server.connect() as peer:
        head = f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        peer.send(head.encode())
        answer = peer.answer("POST")
        assert (answer.status, answer.informational, answer.keeps_connection) == (413, [], False)


def test_upload_waits_for_an_application_that_does_not_read(define, server):
    async def application(scope, receive, send):
        import os

        first = await receive()
        while not os.path.exists("read"):
            await asyncio.sleep(0.01)
        count, event = len(first["body"]), first
        while event["more_body"]:
            event = await receive()
            count += len(event["body"])
        await answer(send, str(count).encode())

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: {32 * MEGABYTE}\r\n\r\n".encode())
        peer.socket.settimeout(0.3)
        sent, block = 0, bytes(64 * 1024)
        with contextlib.suppress(TimeoutError):
            while sent < 32 * MEGABYTE:
                sent += peer.socket.send(block)
        # What the kernel holds, and little more.
        assert sent < 24 * MEGABYTE
        server.write("read", "")
        peer.socket.settimeout(10)
        while sent < 32 * MEGABYTE:
            sent += peer.socket.send(block[: 32 * MEGABYTE - sent])
        assert int(peer.answer("POST").text) == 32 * MEGABYTE
    (server.directory / "read").unlink()


def test_body_that_nobody_reads_does_not_cost_the_connection(define, server):
    async def application(scope, receive, send):
        await answer(send, b"early")

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode())
        assert peer.answer("POST").body == b"early"
        peer.send(bytes(100_000))
        assert peer.get("/").status == 200


def test_endless_body_that_nobody_reads_ends_the_connection(define, server):
    async def application(scope, receive, send):
        await answer(send, b"early")

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: {64 * MEGABYTE}\r\n\r\n".encode())
        assert peer.answer("POST").body == b"early"
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            peer.send(bytes(64 * MEGABYTE - 1))


def test_malformed_chunk_reaches_the_application_as_a_disconnect(define, server):
    async def application(scope, receive, send):
        note(first=(await receive())["type"])
        note(second=(await receive())["type"])

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        peer.send(chunk(b"good"))
        assert case.note("first") == "http.request"
        peer.send(b"bad\r\r\n")
        assert peer.answer("POST").status == 400
        assert case.note("second") == "http.disconnect"


def test_pieces_that_wait_together_leave_together(define):
    async def application(scope, receive, send):
        import os

        await start(send)
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        # Until the client has them: a gateway that is late would find both halves waiting.
        while not os.path.exists("second-half"):
            await asyncio.sleep(0.005)
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"y" * 100, "more_body": True})
        await send({"type": "http.response.body"})

    case = define(application)
    second_half = case.server.directory / "second-half"
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert peer.head().status == 200
        received = b""
        while received.count(b"x") < 1000:
            received += peer.receive(100)
        second_half.touch()
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += peer.receive(100)
    second_half.unlink()
    assert received == chunk(b"x" * 1000) + chunk(b"y" * 1000) + b"0\r\n\r\n"


def test_long_piece_leaves_in_few_messages(define):
    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"x" * 1024 * 1024, "more_body": True})
        await send({"type": "http.response.body"})

    answer = define(application).get()
    assert answer.chunks == [MEGABYTE // 2, MEGABYTE // 2]
    assert answer.body == b"x" * MEGABYTE


def test_head_has_a_bound(define, server):
    async def application(scope, receive, send):
        padding = int(scope["query_string"])
        await start(send, headers=[(b"x-padding", b"x" * padding)])
        await send({"type": "http.response.body", "body": b"hello"})

    case = define(application)
    assert server.get(f"{case.target}?200000").body == b"hello"
    assert server.get(f"{case.target}?300000").status == 500
    server.wait_for_log(r"the response head is too large: \d+ bytes, and 262144 are allowed")


def test_pieces_that_are_all_there_at_once_have_a_length(define):
    async def application(scope, receive, send):
        await start(send)
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        await send({"type": "http.response.body"})

    answer = define(application).get()
    assert (answer.framing, len(answer.body)) == ("length", 1000)


def test_first_piece_does_not_wait_for_the_second(define, server):
    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        note(disconnected=True)

    case = define(application)
    with server.connect() as peer:
        peer.send(f"GET {case.target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert peer.head().status == 200
        assert peer.receive(100) == b"5\r\nfirst\r\n"
    assert case.note("disconnected")


@pytest.mark.parametrize("piece", [1000, 100_000, 3_000_000])
def test_slow_reader_slows_the_application_down(define, server, piece):
    async def application(scope, receive, send):
        size = int(scope["path"].split("/")[2])
        await start(send)
        sent = told = 0
        while sent < 30_000_000:
            await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
            sent += size
            if sent - told >= 100_000:
                told = sent
                with open("sent", "w") as file:
                    file.write(str(sent))
        await send({"type": "http.response.body"})

    case = define(application)
    server.write("sent", "")
    with server.connect(receive_buffer=4096) as peer:
        peer.send(f"GET {case.target}/{piece} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert peer.head().status == 200

        def chunk():
            size = int(peer._line("a chunk"), 16)
            peer._exactly(size, b"", "a chunk")
            peer._exactly(2, b"", "its end")
            return size

        total, looks = 0, [0]
        # How much is sent while nobody reads depends on the kernel's buffers: of a large piece perhaps too little.
        while piece > 1_000_000 and not server.read("sent"):
            total += chunk()
        wait_for(lambda: int(server.read("sent") or 0) > 0)

        def settled():
            looks.append(int(server.read("sent") or 0))
            return looks[-1] == looks[-2] > 0

        wait_for(settled)
        stays(lambda: int(server.read("sent") or 0) < 15_000_000, 0.3)
        # Others are served meanwhile.
        assert server.get("/").status == 200
        while size := chunk():
            total += size
        assert total >= 30_000_000


def test_many_pieces_arrive_whole(define):
    async def application(scope, receive, send):
        await start(send)
        for number in range(5000):
            await send({"type": "http.response.body", "body": str(number).encode() + b",", "more_body": True})
            if number % 7 == 0:
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"end"})

    expected = "".join(f"{number}," for number in range(5000)) + "end"
    assert define(application).get().text == expected


def test_echo_while_the_upload_goes_on(define, server):
    async def application(scope, receive, send):
        await start(send)
        while True:
            event = await receive()
            await send({"type": "http.response.body", "body": event["body"], "more_body": event["more_body"]})
            if not event["more_body"]:
                return

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        peer.send(chunk(b"ping"))
        assert peer.head().status == 200
        for word in [b"ping", b"pong"]:
            size = int(peer._line("a chunk"), 16)
            assert peer._exactly(size, b"", "a chunk") == word
            peer._exactly(2, b"", "its end")
            peer.send(chunk(b"pong") if word == b"ping" else b"0\r\n\r\n")
        assert peer._line("the end") == b"0\r\n"


def test_truncated_upload_is_a_disconnect(define, server):
    async def application(scope, receive, send):
        note(first=await receive())
        note(second=(await receive())["type"])

    case = define(application)
    with server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode() + b"part")
        assert case.note("first") == {"type": "http.request", "body": b"part", "more_body": True}
        peer.half_close()
        assert peer.answer("POST").status == 400
    assert case.note("second") == "http.disconnect"


def test_sizes_around_every_bound(define, server):
    async def application(scope, receive, send):
        body = await drain(receive)
        await answer(send, f'{{"length": {len(body)}, "sum": {sum(body)}}}'.encode())

    case = define(application)
    with server.connect() as peer:
        for size in (8191, 8192, 8193, 16_384, 65_535, 65_536, 65_537, 131_072, 200_001):
            data = bytes(number % 256 for number in range(size))
            answer = json.loads(peer.request("POST", case.target, body=data).text)
            assert answer == {"length": size, "sum": sum(data)}


def test_answer_leaves_though_the_loop_is_blocked_right_behind_it(define, server):
    async def application(scope, receive, send):
        import os
        import time

        def work(seconds, is_over=lambda: False):
            until = time.perf_counter() + seconds
            while time.perf_counter() < until and not is_over():
                pass

        def is_seen():
            return os.path.exists("seen")

        # Busy enough, and quick enough, for the gateway to wait for several answers at once.
        work(0.0002)
        await answer(send)
        if scope["query_string"] == b"block":
            # The loop turns again when the client has its answer, or so late that it counts as lost.
            work(8, is_seen)
            note(seen=is_seen())

    case = define(application)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(server.connect()) for _ in range(48)]
        for _ in range(10):
            for peer in crowd:
                peer.send(f"GET {case.target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            for peer in crowd:
                assert peer.answer().status == 200
        *others, last = crowd
        for peer in others:
            peer.send(f"GET {case.target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        last.send(f"GET {case.target}?block HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert last.answer().status == 200
        seen = server.directory / "seen"
        seen.touch()
        assert case.note("seen"), "it came when the loop turned again"
        seen.unlink()


DIGESTS = """
    import asyncio, hashlib, os

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        open("called", "a").close()
        digest, more = hashlib.sha256(), True
        while more:
            event = await receive()
            digest.update(event.get("body", b""))
            more = event.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": digest.hexdigest().encode()})
"""
DIGESTS_OF_WSGI = """
    import hashlib

    def application(environ, start_response):
        digest = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
        start_response("200 OK", [("Content-Length", str(len(digest)))])
        return [digest]
"""


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_reload_to_a_class_that_wants_whole_bodies(serve, framing):
    """A request that waits for a place when the class changes, with a part of its body: nothing of that is lost."""
    server = serve(DIGESTS, config="worker_class = 'asgi'\nworker_connections = 1\nbody_memory = 5000")
    body = bytes(number % 251 for number in range(300_000))
    parts = [body[:3000], body[3000:100_000], body[100_000:]]
    framing_line = "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {len(body)}"
    framed = [chunk(part) for part in parts] if framing == "chunked" else parts
    head = f"POST / HTTP/1.1\r\nHost: a\r\n{framing_line}\r\n\r\n".encode()
    (server.directory / "called").unlink()
    with server.connect() as first, server.connect() as second:
        first.send(head + framed[0])
        wait_for((server.directory / "called").exists)
        # There is no place for this one.
        second.send(head + framed[0])
        second.send(framed[1])
        server.write("app.py", DIGESTS_OF_WSGI)
        server.write("gunicorn.conf.py", "worker_class = 'sync'\nbody_memory = 5000")
        server.kill(1)
        server.wait_for_log("Reloaded: generation 2 serves")
        for peer, rest in (second, framed[2:]), (first, framed[1:]):
            peer.send(b"".join(rest) + (b"0\r\n\r\n" if framing == "chunked" else b""))
            assert peer.answer("POST").text == hashlib.sha256(body).hexdigest()
