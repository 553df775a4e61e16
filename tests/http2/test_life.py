"""Reloads, deaths and stops while connections have streams open: nobody loses a request."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from tests.http2.conftest import CLEARTEXT
from tests.http2.test_clients import program
from tests.support import http2
from tests.support.gate import APPLICATION, Gate
from tests.support.http2 import Http2
from tests.support.server import Server
from tests.support.wait import wait_for

pytestmark = pytest.mark.usefixtures("oxicorn_only")


@pytest.fixture
def server(serve) -> Server:
    """Two workers with four threads each."""
    return serve(APPLICATION, *CLEARTEXT, "--workers", "2", "-k", "gthread", "--threads", "4", access_log=True)


def test_reloads_under_load_lose_nothing(server):
    """The gateway keeps the connections, so there is not even a GOAWAY."""
    command = [program("h2load"), "-n", "20000", "-c", "4", "-m", "8", f"http://127.0.0.1:{server.port}/"]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        before = set(server.worker_pids())
        server.kill(signal.SIGHUP)
        wait_for(lambda before=before: not before & set(server.worker_pids()) and len(server.worker_pids()) == 2)
    output, _ = load.communicate(timeout=50)
    assert re.search(r"20000 succeeded, 0 failed, 0 errored, 0 timeout", output), output
    assert "status codes: 20000 2xx" in output


def test_a_worker_that_dies_costs_the_streams_it_had(server):
    """502 for what it had taken; other streams of the same connection go on."""
    with Http2(server.address) as peer, Gate(server, "one") as gate:
        held = peer.start(gate.target)
        gate.wait_until_reached()
        victim = int(server.lines("one.reached")[0])
        assert peer.get("/").body == b"ok"
        os.kill(victim, signal.SIGKILL)
        assert peer.response(held).status == 502
        for _ in range(20):
            assert peer.get("/").status == 200
        assert peer.goaway is None


def test_a_stop_finishes_what_is_under_way(server):
    """GOAWAY first; then the response, and the end."""
    with Http2(server.address) as peer:
        with Gate(server) as gate:
            held = peer.start(gate.target)
            gate.wait_until_reached()
            server.kill(signal.SIGTERM)
            peer.wait(lambda: peer.goaway is not None, "GOAWAY")
            assert peer.goaway is not None
            assert peer.goaway.code == http2.NO_ERROR
        assert peer.response(held).body == b"ok"
        assert peer.ends() == http2.NO_ERROR
        assert peer.goaway.last_stream >= held
    assert server.wait_for_exit() == 0


def test_an_idle_connection_is_told_of_a_stop(server):
    with Http2(server.address) as peer:
        assert peer.get("/").body == b"ok"
        server.kill(signal.SIGTERM)
        assert peer.ends() == http2.NO_ERROR
    assert server.wait_for_exit() == 0


def test_a_request_sent_as_the_server_stops_is_served_or_refused_by_number(server):
    """RFC 9113 section 6.8: what is above GOAWAY's number was not worked on, and can be sent again elsewhere."""
    with Http2(server.address) as peer:
        with Gate(server) as gate:
            held = peer.start(gate.target)
            gate.wait_until_reached()
            server.kill(signal.SIGTERM)
            peer.wait(lambda: peer.goaway is not None, "GOAWAY")
            late = peer.start("/late")
        assert peer.response(held).status == 200
        peer.ends()
        assert peer.goaway is not None
        served = peer.of(late).status == 200
        assert served or late > peer.goaway.last_stream
    assert server.wait_for_exit() == 0
    assert served == any("GET /late" in line for line in server.lines("access.log"))


def test_max_requests_replaces_workers_and_nobody_notices(serve):
    flags = [*CLEARTEXT, "--max-requests", "20", "--workers", "2", "-k", "gthread", "--threads", "4"]
    server = serve(APPLICATION, *flags)
    first = set(server.worker_pids())
    with Http2(server.address) as peer:
        while first & set(server.worker_pids()):
            numbers = [peer.start("/") for _ in range(10)]
            assert [peer.response(number).status for number in numbers] == [200] * 10
        assert peer.goaway is None
