"""More connections than there is room for: by number, by descriptors, of one address."""

from __future__ import annotations

import contextlib
import resource
import time

from tests.support.server import Servers
from tests.support.swarm import Swarm, gateway_descriptors, processor_time, response_time, siege
from tests.support.wait import wait_for

MANY = 10_000
#: Bytes an idle connection may cost.
IDLE = 4 << 10


def gthread(serve: Servers, config: str = "", **options: object):
    return serve(None, "--worker-class", "gthread", "--threads", "4", spec="matrix", config=config, **options)


def test_ten_thousand_idle_connections(serve):
    server = gthread(serve, "keepalive = header_timeout = 60\nlimit_connections = 20000\n")
    with siege(server, MANY * IDLE) as under:
        with Swarm(server.address, MANY) as swarm:
            wait_for(lambda: gateway_descriptors(server) > MANY, what="all are connected")
            under.holds()
            assert swarm.closed() == 0, "there is room for all of them"


def test_idle_connections_beyond_the_bound_give_way(serve):
    server = gthread(serve, "keepalive = header_timeout = 60\nlimit_connections = 200\n")
    with siege(server) as under:
        with Swarm(server.address, 1000) as swarm:
            wait_for(lambda: swarm.closed() > 500, what="the oldest are closed")
            under.holds()
            assert gateway_descriptors(server) < 300
    assert "limit_connections" in server.log


def test_few_descriptors_from_the_start(serve):
    """The bound follows the limit on open files, so that there are always some for other things."""
    shell = ["sh", "-c", 'ulimit -n 256 && exec "$0" "$@"', serve.kind.executable]
    server = gthread(serve, "keepalive = header_timeout = 60\n", command=shell)
    with siege(server) as under:
        with Swarm(server.address, 600):
            wait_for(lambda: gateway_descriptors(server) > 150)
            under.holds()
    assert "pauses" not in server.log


def test_without_descriptors_accepting_pauses_and_does_not_spin(serve):
    server = gthread(serve, "keepalive = header_timeout = 60\n")
    gateway = server.gateway_pid()
    before = response_time(server)
    limits = resource.prlimit(gateway, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(server.connect())
        assert inside.get("/hello").body == b"hello"
        resource.prlimit(gateway, resource.RLIMIT_NOFILE, (gateway_descriptors(server) + 20, limits[1]))
        waiting = [stack.enter_context(server.connect()) for _ in range(60)]
        server.wait_for_log("Accepting at .* pauses: Too many open files")
        used, start = processor_time(gateway), time.monotonic()
        wait_for(lambda: time.monotonic() > start + 1.5)
        assert processor_time(gateway) - used < 0.3, "it waits, and does not try over and over"
        assert inside.get("/hello").body == b"hello", "who is in is served"
        resource.prlimit(gateway, resource.RLIMIT_NOFILE, limits)
        for peer in waiting:
            assert peer.get("/hello").body == b"hello"
    assert server.log.count("Accepting at") == 1, server.log
    assert server.gateway_pid() == gateway
    assert response_time(server) < max(before, 0.005) * 40


def test_one_address_cannot_take_all_connections(serve):
    config = 'limit_client_connections = 20\nforwarded_allow_ips = ""\nkeepalive = header_timeout = 60\n'
    server = gthread(serve, config, access_log=True)
    with Swarm(server.address, 60) as swarm:
        wait_for(lambda: swarm.closed() == 40, what="those above the bound are closed")
        answers = [answer for answer in swarm.received() if answer]
        assert len(answers) == 40
        assert all(answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in answer for answer in answers)
    wait_for(lambda: gateway_descriptors(server) < 60)
    assert server.get("/hello").body == b"hello"
    wait_for(lambda: sum(" 503 " in line for line in server.access_log) == 40, what="a line for each")
