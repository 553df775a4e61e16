"""Clients that take their time: with heads, bodies and answers. Everybody else is served as before."""

from __future__ import annotations

import contextlib
import time

from tests.attack.conftest import BUFFERS, DEADLINE
from tests.support.http import encode
from tests.support.swarm import Swarm, gateway_descriptors, siege
from tests.support.wait import wait_for

CLIENTS = 500
#: Bytes that a part of a request may cost.
PARTIAL = 24 << 10
#: Seconds in which all of a swarm are through with a deadline, and with the lingering close after it.
PATIENCE = 2 * DEADLINE + 8
#: Bytes that somebody who sips takes in a second; a thousand are demanded.
SIPPED = 50
HEAD = b"GET /hello HTTP/1.1\r\nHost: x\r\n"
BODY_HEAD = b"POST /measures_input HTTP/1.1\r\nHost: x\r\n"


def test_half_a_request(server):
    with siege(server, 2000 * PARTIAL) as under, Swarm(server.address, 2000) as swarm:
        swarm.send(HEAD + b"X-Half:")
        under.holds()
        swarm.wait_until_closed(PATIENCE)
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in swarm.received())
    wait_for(
        lambda: sum('"GET /hello HTTP/1.1" 408 ' in line for line in server.access_log) >= 2000,
        what="a line for each",
    )


def drip(under, swarm: Swarm, data: bytes) -> None:
    """Sends ``data`` again and again until everybody was refused, and closed."""
    answers = [b""] * len(swarm.sockets)
    end = time.monotonic() + PATIENCE
    while not all(answers) and time.monotonic() < end:
        swarm.send(data)
        under.holds()
        answers = [before + new for before, new in zip(answers, swarm.received(), strict=True)]
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers), set(answers)
    swarm.wait_until_closed(PATIENCE)


def test_head_byte_by_byte(server):
    """However steadily they come: the whole head has one deadline."""
    with siege(server, CLIENTS * PARTIAL) as under, Swarm(server.address, CLIENTS) as swarm:
        swarm.send(HEAD)
        drip(under, swarm, b"x")


def test_body_byte_by_byte(server):
    with siege(server, CLIENTS * PARTIAL) as under, Swarm(server.address, CLIENTS) as swarm:
        swarm.send(BODY_HEAD + b"Content-Length: 30000\r\n\r\n")
        drip(under, swarm, b"x")


def test_chunk_byte_by_byte(server):
    """Each with its own framing: what is counted is what came, and it is too little."""
    with siege(server, CLIENTS * PARTIAL) as under, Swarm(server.address, CLIENTS) as swarm:
        swarm.send(BODY_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        drip(under, swarm, b"1\r\nx\r\n")


def test_answers_that_nobody_reads(server):
    """Each fits into what is taken from a worker ahead of its reader, so that they cost no worker."""
    with siege(server, BUFFERS + (8 << 20)) as under, Swarm(server.address, 200, receive_buffer=4096) as swarm:
        swarm.send(encode(target="/big?1000000"))
        for _ in range(5):
            under.holds()
        # What the kernel holds for them hides the end from them.
        wait_for(lambda: gateway_descriptors(server) <= under.descriptors_before, PATIENCE, "all are closed")


def test_long_answers_that_are_sipped(server):
    """As many of them as there are threads but one: each of these holds its thread until it is cut.

    What counts is what a client's machine acknowledges: its receive buffer at once, and then a part of it whenever so
    much was read. Sips are so small that no part is read in the time this takes, and do not depend on how fast the
    test runs.
    """
    with siege(server, BUFFERS + (8 << 20)) as under, Swarm(server.address, 3, receive_buffer=4096) as swarm:
        swarm.send(encode(target="/big?16000000"))
        begin, sipped = time.monotonic(), 0

        def all_are_cut() -> bool:
            nonlocal sipped
            sip = int((time.monotonic() - begin) * SIPPED) - sipped
            if sip > 0:
                sipped += sip
                for peer in swarm.sockets:
                    with contextlib.suppress(OSError):
                        peer.recv(sip)
            under.holds()
            return server.log.count("Cut off ip=127.0.0.1: it takes its response too slowly") >= 3

        wait_for(all_are_cut, PATIENCE, "all are cut")
