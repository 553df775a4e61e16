"""Clients that never stop: parts of requests without end, requests without reading, connections."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.support.http import encode
from tests.support.swarm import Swarm, siege

#: Seconds after which a flood that nobody has cut is one without end.
PATIENCE = 50.0
CHUNKED = b"POST /measures_input HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

FLOOD = """
import os, socket, sys
os.nice(10)
while True:
    for data in b"", b"GET /hello HTTP/1.1":
        for linger in b"", b"\\1\\0\\0\\0\\0\\0\\0\\0":
            try:
                with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) as peer:
                    if linger:
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    peer.sendall(data)
            except OSError:
                pass
"""

ENDLESS = {
    "request line": (b"GET /", b"x" * 4096, 414),
    "headers": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Header: value\r\n" * 256, 431),
    "one header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 4096, 431),
    "chunks": (CHUNKED, (b"1000\r\n" + b"x" * 4096 + b"\r\n"), 413),
    "small chunks": (CHUNKED, b"1\r\nx\r\n" * 512, 413),
    "chunk extensions": (CHUNKED, b"1;name=value\r\nx\r\n" * 256, 400),
    "chunk size": (CHUNKED, b"0" * 4096, 400),
    "trailers": (CHUNKED + b"0\r\n", b"X-Trailer: value\r\n" * 256, 431),
    "one trailer": (CHUNKED + b"0\r\nX-Long: ", b"x" * 4096, 431),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", list(ENDLESS))
def test_endless(server, part):
    """Fifty clients each send one part of a request without end, and go on after they were refused."""
    begin, more, status = ENDLESS[part]
    with siege(server, 32 << 20) as under, Swarm(server.address, 50) as swarm:
        swarm.send(begin)
        answers = [b""] * len(swarm.sockets)
        end = time.monotonic() + PATIENCE
        broken = 0
        while broken < len(swarm.sockets) and time.monotonic() < end:
            broken = swarm.send(more)
            answers = [before + new for before, new in zip(answers, swarm.received(), strict=True)]
        assert broken == len(swarm.sockets), "who does not stop is cut in the end"
        refused = sum(answer.startswith(b"HTTP/1.1 %d " % status) for answer in answers)
        # Who sends on until the connection is reset may lose the answer (RFC 9112, 9.6).
        assert refused > len(answers) / 2, [answer[:40] for answer in answers]
        under.holds()


def test_pipelining_without_reading(server):
    request = encode(target="/big?10000")
    with siege(server, 32 << 20) as under:
        with Swarm(server.address, 50, receive_buffer=4096) as swarm:
            swarm.fill(request * 50)
            under.holds()


def test_connecting_and_closing(server):
    """In order and by reset, without a word and in the middle of one. (Whole requests would be honest load.)"""
    with siege(server) as under:
        # In a process of its own, so that it is the server the normal client waits for and not us.
        flood = subprocess.Popen([sys.executable, "-c", FLOOD, str(server.port)])
        try:
            for _ in range(10):
                under.holds()
            assert flood.poll() is None, "the flood went on"
        finally:
            flood.kill()
            flood.wait()


def test_floods_of_nonsense_do_not_fill_the_error_log(server):
    before = len(server.log.splitlines())
    start = time.monotonic()
    for _ in range(300):
        with server.connect() as peer:
            peer.send(b"nonsense\r\n\r\n")
            assert peer.answer().status == 400
    seconds = time.monotonic() - start
    server.wait_for_log("more warnings about clients were left out")
    assert len(server.log.splitlines()) - before < 12 * (seconds + 2)
