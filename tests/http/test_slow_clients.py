"""Slow clients, idle clients and large uploads: they cost memory only within bounds, and never a worker."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest

from tests.http.conftest import WORKERS
from tests.support import processes
from tests.support.greenlets import GEVENT
from tests.support.http import chunk, encode
from tests.support.load import Load
from tests.support.wait import wait_for

#: Seconds for which the gateway reads on after a last answer.
LINGERING = 2.0


def assert_served(server, count: int = 20) -> None:
    """While others go no further: who waited for one of them would not be answered at all."""
    for _ in range(count):
        assert server.get("/hello").body == b"hello"


def test_head_and_body_byte_by_byte(server):
    with server.connect() as peer:
        peer.send_slowly(encode("POST", "/reads_input", [("X-One", "1")], b"slow body"))
        assert peer.answer().body == b"slow body"
        peer.send_slowly(encode("POST", "/measures_input", body=[b"a", b"bcdef", b"g" * 100]))
        assert json.loads(peer.answer().body)[0] == 106


def test_answer_read_byte_by_byte(server):
    with server.connect(receive_buffer=4096) as peer:
        peer.send(encode(target="/big?20000"))
        peer.head()
        received = b""
        while len(received) < 20_000:
            received += peer.receive(1)
        assert received == b"x" * 20_000


def test_deadlines_hold_on_a_server_where_nothing_else_happens(serve):
    """The gateway sleeps when it has nothing to do, but not past the time of who sends or reads nothing."""
    server = serve(None, "--body-timeout", "2", "--write-timeout", "2", spec="matrix")
    with server.connect() as sender, server.connect(receive_buffer=4096) as reader:
        reader.send(encode(target="/big?10000000"))
        sender.send(encode("POST", "/reads_input", body=b"x" * 1000)[:-10])
        assert sender.answer().status == 408
        server.wait_for_log("it takes its response too slowly")


def test_slow_sender_holds_no_worker(serve):
    """One sync worker, twenty clients stuck in head or body: everybody else is served."""
    server = serve(None, spec="matrix")
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.connect()) for _ in range(20)]
        for number, peer in enumerate(peers):
            data = encode("POST", "/reads_input", body=b"x" * 1000)
            peer.send(data[: 10 if number % 2 else -10])
        assert_served(server)
        for number, peer in enumerate(peers):
            peer.send(encode("POST", "/reads_input", body=b"x" * 1000)[10 if number % 2 else -10 :])
        for peer in peers:
            assert peer.answer().body == b"x" * 1000


def test_slow_reader_holds_no_worker(serve):
    """One sync worker, ten clients that do not read their half megabyte: everybody else is served."""
    server = serve(None, spec="matrix")
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.connect(receive_buffer=4096)) for _ in range(10)]
        for peer in peers:
            peer.send(encode(target="/big?500000"))
        assert_served(server)
        for peer in peers:
            assert len(peer.answer().body) == 500_000


STREAM = """
    PIECE = bytes(range(256)) * 256

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        if environ["PATH_INFO"] != "/stream":
            return [b"hello"]
        return (PIECE for _ in range(128))
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("worker", ["gthread", GEVENT])
def test_slow_readers_of_long_responses_hold_no_thread(serve, worker):
    """Fifty clients that do not read their eight megabytes, which are streamed by eight threads."""
    server = serve(STREAM, "--workers", "2", *WORKERS[worker])
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.connect(receive_buffer=4096)) for _ in range(50)]
        for peer in peers:
            peer.send(encode(target="/stream"))
        assert_served(server)
        body = bytes(range(256)) * 256 * 128
        for peer in peers[::10]:
            assert peer.answer().body == body


def test_lingering_clients_hold_no_worker(serve):
    """A client that got its answer and does not close must not delay the next one."""
    server = serve(None, spec="matrix")
    # So many that one after the other would take longer than any machine does for all at once.
    count = 60
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            peer = stack.enter_context(server.connect())
            assert peer.get("/hello", [("Connection", "close")]).body == b"hello"
        assert_served(server, 5)
    assert time.monotonic() - start < count * LINGERING / 2, "they were waited for one after the other"


@pytest.mark.parametrize("worker", ["gthread", GEVENT])
def test_reader_that_stalls_does_not_make_the_server_grow(serve, kind, worker):
    """An endless answer that nobody reads stops at a bound (back-pressure), it is not collected."""
    files = () if kind.is_gunicorn else ("--response-spool", str(8 * 1024 * 1024))
    server = serve(None, *WORKERS[worker], *files, spec="matrix")
    before = processes.proportional_memory(server.pid)
    with server.connect(receive_buffer=4096) as peer:
        peer.send(encode(target="/endless"))
        peer.head()

        def memory_is_steady() -> bool:
            first = processes.proportional_memory(server.pid)
            assert_served(server, 50)
            return abs(processes.proportional_memory(server.pid) - first) < 256 * 1024

        wait_for(memory_is_steady)
        assert processes.proportional_memory(server.pid) - before < 16 * 1024 * 1024


@pytest.mark.timeout(120)
def test_thousand_idle_connections(serve, kind):
    # Those that are asked last are idle as long as everything before takes.
    patient = ["--keep-alive", "300"] + ([] if kind.is_gunicorn else ["--header-timeout", "300"])
    server = serve(None, *patient, "--worker-class", "gthread", "--threads", "4", spec="matrix")
    before = processes.proportional_memory(server.pid)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.connect()) for _ in range(1000)]
        for peer in peers[::2]:
            peer.send(encode(target="/hello"))
        for peer in peers[::2]:
            assert peer.answer().body == b"hello"
        assert_served(server)
        with Load(server.address, clients=4, target="/hello") as load:
            load.wait_for_answers(500)
        load.assert_flawless()
        grown = processes.proportional_memory(server.pid) - before
        assert grown < 32 * 1024 * 1024, f"{grown / 1000:.0f} bytes for each idle connection"
        for peer in peers:
            assert peer.get("/hello").body == b"hello", "each of them is still served"


def test_upload_of_200_megabytes_in_flat_memory(serve):
    """A body goes to a file beyond a bound, and is read from there in pieces."""
    server = serve(None, spec="matrix", config="timeout = 60")
    size, piece = 200 * 1024 * 1024, b"0123456789abcdef" * 4096
    server.request("POST", "/measures_input", body=piece * 32)
    before = processes.proportional_memory(server.pid)
    samples, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            samples.append(processes.proportional_memory(server.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with server.connect(timeout=50) as peer:
            peer.send(b"POST /measures_input HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            framed = chunk(piece)
            for _ in range(size // len(piece)):
                peer.send(framed)
            peer.send(b"0\r\n\r\n")
            assert json.loads(peer.answer().body)[0] == size
    finally:
        done.set()
        watcher.join()
    grown = max(samples) - before
    assert grown < 8 * 1024 * 1024, f"grew by {grown >> 20} MiB"


def test_abandoned_upload_leaves_no_file_open(serve):
    server = serve(None, spec="matrix")
    session = server.pid

    def open_temporary_files() -> list[str]:
        pids = [process.pid for process in processes.of_session(session)]
        found = []
        for pid in pids:
            with contextlib.suppress(OSError):
                found += [path for path in processes.open_files(pid) if "(deleted)" in path and "memfd:" not in path]
        return found

    before = sorted(open_temporary_files())
    with server.connect() as peer:
        peer.send(b"POST /measures_input HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 4_000_000)
    assert server.get("/hello").body == b"hello"
    wait_for(lambda: sorted(open_temporary_files()) == before, what="temporary file closed")
