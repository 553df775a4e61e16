"""WebSockets of the asgi worker: with the clients people use, under pressure, and at their ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.support import processes
from tests.support.http import ConnectionLost
from tests.support.server import Server, Servers
from tests.support.wait import stays, wait_for
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, frame

pytestmark = pytest.mark.usefixtures("only_oxicorn")

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def server(loop: str, serve_module: Servers) -> Server:
    """A server whose settings no test of this file changes."""
    flags = ("--worker-class", "asgi", "--asgi-loop", loop, "--keep-alive", "20")
    return serve_module(None, *flags, spec="asgi_websockets", access_log=True)


@pytest.fixture
def start(serve: Servers) -> Start:
    """``start(*flags)``: a server of the test's own."""

    def started(*flags: str, **options: Any) -> Server:
        return serve(None, "--worker-class", "asgi", *flags, spec="asgi_websockets", **options)

    return started


def opened(server: Server, path: str = "echo", **options: Any) -> WebSocket:
    """A conversation with the application at ``path``."""
    client = WebSocket(server.address, f"/{path}", **options)
    assert client.answer.status == 101
    return client


def told(server: Server, what: str, count: int = 1) -> None:
    """Waits until the application has told ``what``."""
    server.wait_for_log(f"told: {what}", count=count)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs the client's side; nothing takes longer unless it is broken."""
    asyncio.run(asyncio.wait_for(coroutine, 50))


# The clients people use.


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_all_sizes_and_kinds(server: Server, compression: str | None) -> None:
    texts = ["", "x", "Grüße, 世界 \U0001f600", "a" * 125, "b" * 126, "é" * 40_000, "word " * 600_000]
    noise = random.Random(7)
    blobs = [b"", b"\x00\xff", noise.randbytes(65_535), noise.randbytes(65_536), noise.randbytes(3_000_000)]

    async def talk() -> None:
        uri = f"ws://127.0.0.1:{server.port}/echo"
        async with connect(uri, compression=compression, max_size=None) as client:
            for message in [*texts, *blobs]:
                await client.send(message)
                assert await client.recv() == message
            # In pieces too, and many before the first answer.
            await client.send(["one ", "", "two ", "three"])
            assert await client.recv() == "one two three"
            for number in range(300):
                await client.send(str(number) * 9)
            for number in range(300):
                assert await client.recv() == str(number) * 9
            assert bool(client.protocol.extensions) == (compression is not None)
            waiting = await client.ping(b"there?")
            await waiting

    run(talk())
    told(server, "1000 ''")


def test_with_aiohttp(server: Server) -> None:
    async def talk() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{server.port}/echo"
            async with session.ws_connect(url, protocols=("chat", "other"), compress=15) as client:
                assert client.protocol == "chat"
                await client.send_str("text" * 1000)
                assert (await client.receive_str()) == "text" * 1000
                await client.send_bytes(b"bytes")
                assert (await client.receive_bytes()) == b"bytes"
                await client.close(code=4001, message=b"enough")
                assert client.close_code == 4001

    run(talk())
    told(server, "4001 'enough'")


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_a_client_may_limit_the_window(server: Server, bits: int) -> None:
    async def talk() -> None:
        factory = ClientPerMessageDeflateFactory(server_max_window_bits=bits, client_max_window_bits=bits)
        uri = f"ws://127.0.0.1:{server.port}/echo"
        async with connect(uri, compression=None, extensions=[factory]) as client:
            for message in ("abc " * 5000, b"\x01\x02\x03" * 9000):
                await client.send(message)
                assert await client.recv() == message

    run(talk())


def test_a_unix_socket_and_root_path(serve: Servers, tmp_path: Any) -> None:
    socket = tmp_path / "w"
    serve(None, "--worker-class", "asgi", spec="asgi_websockets", bind=f"unix:{socket}")

    async def talk() -> None:
        async with websockets.asyncio.client.unix_connect(str(socket), "ws://example.org/echo") as client:
            await client.send("through a file")
            assert await client.recv() == "through a file"

    run(talk())


# Bounds.


def test_a_slow_client_holds_the_application_up_and_not_memory(server: Server) -> None:
    memory = processes.proportional_memory(server.pid)
    with opened(server, "flood", receive_buffer=4096) as client:

        def sent() -> int:
            return server.log.count("told: sent")

        wait_for(lambda: sent() > 10)
        before = wait_for(lambda: sent() if stays_same(sent) else None)
        assert before * 65_536 < 12_000_000
        assert processes.proportional_memory(server.pid) - memory < 16_000_000
        for number in range(before + 20):
            found = client.frame()
            assert found.payload[:4] == number.to_bytes(4, "big") or not found.fin
            while not found.fin:
                found = client.frame()
    told(server, "stopped by ClientDisconnected|stopped by .*")


def stays_same(figure: Callable[[], int]) -> bool:
    """Whether a figure does not change for a while."""
    before = figure()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        if figure() != before:
            return False
        time.sleep(0.02)
    return True


def test_a_slow_application_holds_the_client_up_and_not_memory(server: Server) -> None:
    message = frame(BINARY, b"z" * 1_000_000)
    before = server.log.count("told: deaf")
    memory = processes.proportional_memory(server.pid)
    with opened(server, "deaf") as client:
        wait_for(lambda: server.log.count("told: deaf") > before)
        sent: list[int] = []

        def send() -> None:
            for number in range(60):
                client.peer.send(message)
                sent.append(number)
            client.send(b"")

        writer = threading.Thread(target=send)
        writer.start()
        wait_for(lambda: len(sent) > 0 and stays_same(lambda: len(sent)))
        # What is not in the kernel's buffers is a window and one message.
        assert len(sent) < 20
        assert processes.proportional_memory(server.pid) - memory < 16_000_000
        server.write("listen", "")
        assert client.receive() == str(60_000_000)
        writer.join()
    (server.directory / "listen").unlink()


def test_a_message_beyond_the_limit_is_refused(start: Start) -> None:
    server = start("--websocket-max-message-size", "1000")
    with opened(server) as client:
        client.send("x" * 1000)
        assert client.receive() == "x" * 1000
        client.send_frame(TEXT, b"x" * 600, fin=False)
        client.send_frame(0, b"x" * 401)
        assert client.closed() == (1009, "message too big")
    told(server, "1009 'message too big'")
    server.wait_for_log("Invalid WebSocket data from ip=127.0.0.1: message too big")


def test_no_limit(start: Start) -> None:
    server = start("--websocket-max-message-size", "0")

    async def talk() -> None:
        async with connect(f"ws://127.0.0.1:{server.port}/echo", max_size=None, compression=None) as client:
            message = b"0123456789abcdef" * (1 << 21)
            await client.send(message)
            assert await client.recv() == message

    run(talk())


def test_worker_connections_are_counted_and_given_back(start: Start) -> None:
    server = start("--worker-connections", "2", "--queue-timeout", "30")
    with opened(server) as first, opened(server) as second:
        third: list[WebSocket] = []
        thread = threading.Thread(target=lambda: third.append(opened(server, timeout=20)))
        thread.start()
        stays(lambda: not third, 0.3)
        first.close()
        thread.join()
        with third[0]:
            for client in (second, third[0]):
                client.send("still here")
                assert client.receive() == "still here"


def test_silent_clients_are_asked_and_given_up(start: Start) -> None:
    server = start("--websocket-ping-interval", "1", "--websocket-ping-timeout", "3", "--timeout", "3")
    with opened(server) as client, opened(server) as talker:
        ends = time.monotonic() + 4
        assert client.frame().opcode == PING
        client.send_frame(PONG)
        # Whoever talks is there, and is not asked; and `timeout` is not about conversations.
        while time.monotonic() < ends:
            talker.send("here")
            assert talker.receive() == "here"
            time.sleep(0.1)
        while (found := client.frame()).opcode == PING:
            pass
        assert (found.opcode, found.payload[:2]) == (CLOSE, b"\x03\xf3")
    told(server, "1011 'keepalive ping timeout'")


def test_nobody_is_asked_where_that_is_off(start: Start) -> None:
    server = start("--websocket-ping-interval", "0", "--websocket-compression", "off")
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    with opened(server, headers=offer, timeout=1.5) as client:
        assert client.answer.header("sec-websocket-extensions") is None
        with pytest.raises(TimeoutError):
            client.frame()


# Ends.


def test_messages_before_a_close_are_answered_before_it(server: Server) -> None:
    with opened(server, "think") as client:
        client.peer.send(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(CLOSE, b"\x0f\xa0bye") + frame(PING))
        assert [client.receive(), client.receive()] == ["one", "two"]
        found = client.frame()
        assert (found.opcode, found.payload) == (CLOSE, b"\x0f\xa0")
        assert client.peer.rest() == b""
    told(server, "4000 'bye'")
    told(server, "stopped by Client")
    told(server, "closed what was closed")


def test_messages_before_a_broken_rule_are_answered_before_it(server: Server) -> None:
    with opened(server, "think") as client:
        client.peer.send(frame(TEXT, b"one") + frame(TEXT, b"two", rsv=1) + frame(TEXT, b"three"))
        assert client.receive() == "one"
        assert client.closed()[0] == 1002
        assert client.peer.rest() == b""


def seconds_until_closed(client: WebSocket) -> float:
    """How long the server takes to answer a close while its application talks."""
    start = time.monotonic()
    client.send_close(3000)
    while (found := client.frame()).opcode == TEXT:
        pass
    assert (found.opcode, found.payload) == (CLOSE, struct.pack("!H", 3000))
    return time.monotonic() - start


def test_an_application_that_does_not_listen_learns_of_a_close_when_it_sends(server: Server) -> None:
    def ends_at_once() -> bool:
        """Before the bound of the next test. A machine that is busy may be late at times, but not always."""
        with opened(server, "talk") as client:
            assert client.receive() == "news"
            before = server.log.count("told: stopped by Client")
            seconds = seconds_until_closed(client)
            wait_for(lambda: server.log.count("told: stopped by Client") > before)
        return seconds < 5

    assert any(ends_at_once() for _ in range(5))


def test_an_application_that_goes_on_talking_does_not_keep_a_close_waiting_for_ever(server: Server) -> None:
    """What it says may be the answer to the message before; the bound is five seconds."""
    with opened(server, "subscribe") as client:
        client.send("me too")
        assert client.receive() == "news"
        before = server.log.count("told: stopped by Client")
        assert 3 < seconds_until_closed(client) < 60
        wait_for(lambda: server.log.count("told: stopped by Client") > before)


def test_an_application_that_fails(server: Server) -> None:
    with opened(server, "fail") as client:
        client.send("go")
        assert client.closed() == (1011, "")
    server.wait_for_log("Error handling request WebSocket /fail")
    server.wait_for_log("ValueError: told to fail")


def test_an_application_that_returns(server: Server) -> None:
    with opened(server, "leave") as client:
        client.send("go")
        assert client.closed() == (1000, "")
        client.send_close()
        assert client.peer.rest() == b""


def test_a_reload_tells_the_application_and_asks_the_client_to_come_again(start: Start) -> None:
    server = start()
    old = server.worker_pids()
    with opened(server) as client:
        server.kill(signal.SIGHUP)
        assert client.closed() == (1012, "")
        client.send_close(1012)
        assert client.peer.rest() == b""
        told(server, "1012 ''")
        server.wait_for_workers(1, without=old)
    with opened(server) as client:
        client.send("again")
        assert client.receive() == "again"


def test_a_stop_ends_conversations_within_graceful_timeout(start: Start) -> None:
    server = start("--graceful-timeout", "4")
    with opened(server) as client, opened(server) as mute:
        server.kill(signal.SIGTERM)
        assert client.closed() == (1012, "")
        client.send_close(1012)
        assert client.peer.rest() == b""
        assert mute.closed() == (1012, "")
        # This one never answers; it is cut.
        assert server.wait_for_exit(8) == 0
    assert server.log.count("told: 1012 ''") == 2


def test_a_worker_that_dies(start: Start) -> None:
    server = start()
    with opened(server) as client:
        (pid,) = server.worker_pids()
        os.kill(pid, signal.SIGKILL)
        assert client.closed() == (1011, "")
    server.wait_for_workers(1, without=[pid])
    with opened(server) as client:
        client.send("alive")
        assert client.receive() == "alive"


def test_a_gateway_that_dies(start: Start) -> None:
    server = start()
    with opened(server) as client:
        client.send("before")
        assert client.receive() == "before"
        os.kill(server.gateway_pid(), signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            client.frame()
    told(server, "1006 ''")
    server.wait_until_ready()
    with opened(server) as client:
        client.send("after")
        assert client.receive() == "after"


def test_a_client_that_vanishes(server: Server) -> None:
    before = server.log.count("told: 1006 ''")
    client = opened(server)
    client.send("x")
    assert client.receive() == "x"
    client.peer.close()
    wait_for(lambda: server.log.count("told: 1006 ''") > before)


def test_a_client_that_vanishes_while_nobody_listens(start: Start) -> None:
    """Its socket is not read; what is sent to it tells."""
    server = start("--websocket-ping-interval", "1", config="asgi_disconnect_grace_period = 0\n")
    data = frame(BINARY, b"z" * 15_000_000) * 4
    everything_is_sent = threading.Event()
    with opened(server, "deaf", timeout=50) as client:
        told(server, "deaf")

        def send() -> None:
            with contextlib.suppress(OSError):
                client.peer.send(data)
                everything_is_sent.set()

        sender = threading.Thread(target=send)
        sender.start()
        # Nobody listens, so it need not answer. One that came while somebody did has its answer waited for: 20 seconds.
        for _ in range(3):
            assert client.frame().opcode == PING
        assert not everything_is_sent.is_set()
        client.peer.socket.shutdown(socket.SHUT_RDWR)
        sender.join()
    told(server, "deaf was cancelled")


def test_an_application_that_does_not_end_is_cancelled(start: Start) -> None:
    server = start(config="asgi_disconnect_grace_period = 1\n")
    with opened(server, "stubborn") as client:
        client.close()
    told(server, "disconnected")
    told(server, "cancelled")


def test_the_access_log_has_a_line_for_each_conversation(start: Start) -> None:
    server = start(access_log=True)
    with opened(server) as client:
        client.send("12345")
        assert client.receive() == "12345"
        client.close()
    lines = wait_for(lambda: [line for line in server.access_log if "/echo" in line])
    assert len(lines) == 1
    assert '"GET /echo HTTP/1.1" 101 5 ' in lines[0]


def test_handshakes_that_are_none_are_answered(server: Server) -> None:
    for header, value, status in [
        ("Sec-WebSocket-Version", "8", 426),
        ("Sec-WebSocket-Key", "short", 400),
        ("Sec-WebSocket-Protocol", "a b", 400),
        ("Sec-WebSocket-Extensions", "=", 400),
    ]:
        with WebSocket(server.address, "/echo", [(header, value)]) as client:
            assert client.answer.status == status, header
    # Without `Connection: upgrade` it is a request like any other.
    with WebSocket(server.address, "/echo", [("Connection", "keep-alive")]) as client:
        assert (client.answer.status, client.answer.body) == (200, b"hello")


# For a long time.

#: Of the leak test; for a longer look: ``OXICORN_WEBSOCKET_MESSAGES=100000 pytest -o timeout=600 -k leave_nothing``.
MESSAGES = int(os.environ.get("OXICORN_WEBSOCKET_MESSAGES", "20000"))


def test_messages_leave_nothing_behind(start: Start) -> None:
    server = start("--workers", "1")

    async def talk(count: int) -> None:
        async with connect(f"ws://127.0.0.1:{server.port}/echo", compression=None) as client:
            for _ in range(count // 100):
                for number in range(100):
                    await client.send(f"message {number}")
                for number in range(100):
                    assert await client.recv() == f"message {number}"

    async def visit(count: int) -> None:
        for _ in range(count):
            await talk(100)

    run(talk(2000))
    run(visit(20))
    before = processes.proportional_memory(server.pid)
    asyncio.run(talk(MESSAGES))
    run(visit(100))
    assert processes.proportional_memory(server.pid) - before < 3_000_000
