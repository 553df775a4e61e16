"""The access log as JSON: its fields, and that every request has a line whatever became of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct

import pytest

from tests.support.wait import wait_for

APP = """
    import time

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/raises":
            raise RuntimeError("on purpose")
        if path in ("/stuck", "/dies"):
            open("started", "w").close()
            time.sleep(60)
        start_response("201 Created", [("Content-Type", "text/plain")])
        return [b"hello"]
"""
FIELDS = [
    "time",
    "client",
    "client_port",
    "user",
    "method",
    "target",
    "path",
    "query",
    "protocol",
    "scheme",
    "host",
    "referer",
    "user_agent",
    "status",
    "bytes",
    "duration",
    "pid",
    "reason",
    "forwarded_client",
    "forwarded_for",
    "request_id",
    "trace_id",
    "proxy_time",
    "queue_time",
]


def start(serve, *flags: str, **options: object):
    return serve(APP, "--json-access-logfile", "access.json", *flags, ready=options.pop("ready", "/ready"), **options)


def records(server):
    """Every line; each is an object."""
    return [json.loads(line) for line in server.lines("access.json")]


def record(server, **wanted: object):
    """The one record with these values."""

    def found():
        return [one for one in records(server) if all(one[name] == value for name, value in wanted.items())]

    (one,) = wait_for(found, what=lambda: f"{wanted} in {server.read('access.json')}")
    return one


def test_fields(serve):
    server = start(serve)
    server.get(
        "/p%C3%A4th?a=1",
        [("User-Agent", 'agent "x"'), ("Referer", "http://from"), ("Authorization", "Basic YWxpY2U6c2VjcmV0")],
    )
    one = record(server, query="a=1")
    assert list(one) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
    assert isinstance(one.pop("client_port"), int)
    assert 0 <= one.pop("queue_time") <= one.pop("duration") < 60
    assert one.pop("pid") in server.worker_pids()
    assert one == one | {
        "client": "127.0.0.1",
        "user": "alice",
        "method": "GET",
        "target": "/p%C3%A4th?a=1",
        "path": "/päth",
        "protocol": "HTTP/1.1",
        "scheme": "http",
        "referer": "http://from",
        "user_agent": 'agent "x"',
        "status": 201,
        "bytes": 5,
        "reason": None,
        "forwarded_client": None,
        "forwarded_for": None,
        "request_id": None,
        "trace_id": None,
        "proxy_time": None,
    }


CHAIN = [("X-Forwarded-For", "203.0.113.9, 10.1.2.3"), ("X-Forwarded-For", "10.0.0.1"), ("X-Request-ID", "ab-12")]


@pytest.mark.parametrize(
    ("bind", "trusted", "client"),
    [
        ("unix:app.sock", "10.0.0.0/8", "203.0.113.9"),
        (None, "127.0.0.1,10.0.0.0/8", "203.0.113.9"),
        (None, "127.0.0.1", "10.0.0.1"),
        (None, "192.0.2.1", None),
    ],
)
def test_the_client_is_whom_trusted_proxies_name(serve, bind, trusted, client):
    server = serve.new()
    if bind is not None:
        server.bind = bind
    server.start("--json-access-logfile", "access.json", "--forwarded-allow-ips", trusted, app=APP)
    server.get("/chain", CHAIN)
    one = record(server, path="/chain")
    assert one["forwarded_client"] == client
    assert one["forwarded_for"] == "203.0.113.9, 10.1.2.3,10.0.0.1"
    assert one["request_id"] == "ab-12"


def test_is_independent_of_the_other_log_and_of_the_logger(serve):
    server = start(
        serve,
        config="""
        from oxicorn.glogging import Logger
        class Mine(Logger):
            def access(self, resp, req, environ, request_time):
                pass
        logger_class = Mine
    """,
        access_log=True,
    )
    server.get("/path")
    assert record(server, path="/path")["status"] == 201
    assert not [line for line in server.access_log if "/path" in line]


def test_dash_is_standard_output(serve):
    server = serve(APP, "--json-access-logfile", "-", ready="/ready")
    server.get("/path")
    wait_for(lambda: [line for line in server.lines("stdout.log") if json.loads(line)["path"] == "/path"])


@pytest.mark.parametrize("value", [b'"\\\x7f\x80\xff', "ä\u2028".encode(), b"\t\xc3"])
def test_any_header_gives_one_valid_line(serve, value):
    server = start(serve)
    with server.connect() as peer:
        peer.send(b"GET /path HTTP/1.1\r\nHost: x\r\nUser-Agent: x" + value + b"\r\n\r\n")
        peer.answer()
    wait_for(lambda: len(records(server)) >= 2)
    # Python decodes with U+FFFD for each maximal part of a broken character, as the Unicode standard has it.
    shown = [one["user_agent"] for one in records(server)][-1]
    assert shown is None or shown == ("x" + value.decode("utf-8", "replace"))


def test_unreadable_request_has_its_line(serve):
    server = start(serve)
    with server.connect() as peer:
        peer.send(b'GET\x03\x01"\x00{\r\n\r\n')
        assert peer.answer().status == 400
    one = record(server, status=400)
    assert one["request_line"].startswith("GET\x03\x01")
    assert one["method"] is None
    assert one["reason"]


def test_another_protocol_has_its_reason_and_no_line(serve):
    server = start(serve)
    with server.connect() as peer:
        peer.send(b"\x16\x03\x01\x00\xc8\x01")
        assert peer.answer().status == 400
    one = record(server, status=400)
    assert one["request_line"] == ""
    assert one["reason"].startswith("tls was sent")


def test_refused_request(serve):
    server = start(serve)
    with server.connect() as peer:
        peer.send(b"GET /refused HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n")
        assert peer.answer().status == 400
    assert record(server, status=400)["reason"]


def test_failed_application(serve):
    server = start(serve)
    server.get("/raises")
    assert record(server, path="/raises")["status"] == 500


def test_request_beyond_timeout(serve):
    server = start(serve, "--timeout", "1")
    assert server.get("/stuck").status == 504
    one = record(server, path="/stuck")
    assert (one["status"], one["reason"]) == (504, "the application did not answer in time")
    assert one["duration"] >= 1


def test_request_whose_worker_died(serve):
    server = start(serve)
    with server.connect() as peer:
        peer.send(b"GET /dies HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for((server.directory / "started").exists)
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert peer.answer().status == 502
    one = record(server, path="/dies")
    assert (one["status"], one["reason"]) == (502, "the worker serving this request ended")


def test_full_queue(serve):
    server = start(serve, "--queue-limit", "1", "--prefetch", "0")
    peers = [server.connect() for _ in range(3)]
    for peer in peers:
        peer.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
    one = record(server, status=503)
    assert one["reason"] == "all workers are busy"
    for peer in peers:
        peer.close()


def test_client_that_left(serve):
    server = start(serve)
    with server.connect() as peer:
        peer.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for((server.directory / "started").exists)
        # Without this it would be a client that only has nothing more to say.
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one = record(server, path="/stuck")
    assert (one["status"], one["reason"]) == (499, "the client left")


def test_usr1_reopens_it(serve):
    server = start(serve)
    path = server.directory / "access.json"
    path.rename(server.directory / "access.json.1")
    server.kill(signal.SIGUSR1)
    wait_for(path.exists)
    server.get("/after")
    record(server, path="/after")


def test_reload_begins_and_ends_it(serve):
    server = serve(APP, config="", ready="/ready")

    def reload(config: str) -> None:
        (old,) = server.worker_pids()
        server.write("gunicorn.conf.py", config)
        server.kill(signal.SIGHUP)
        server.wait_for_workers(1, without=[old])

    reload('json_accesslog = "access.json"')
    server.get("/one")
    record(server, path="/one")
    reload("")
    server.get("/two")
    assert server.stop() == 0
    assert not [one for one in records(server) if one["path"] == "/two"]


def test_fields_are_those_asked_for_in_their_order(serve):
    fields = "status,{x-tenant}i,path,{content-type}o,{x-missing}o"
    server = start(serve, "--json-access-log-fields", fields)
    server.get("/here", [("X-Tenant", "seven")])
    wait_for(lambda: any(record["path"] == "/here" for record in records(server)))
    line = next(line for line in server.lines("access.json") if "/here" in line)
    assert line == (
        '{"status":201,"{x-tenant}i":"seven","path":"/here","{content-type}o":"text/plain","{x-missing}o":null}'
    )


def test_every_documented_field_may_be_asked_for(serve):
    """And a reload takes another choice."""
    server = start(serve, config=f"json_accesslog_fields = {','.join(reversed(FIELDS))!r}\n")
    wait_for(lambda: records(server))
    assert list(records(server)[0]) == list(reversed(FIELDS))
    server.write("gunicorn.conf.py", "json_accesslog_fields = ['pid']\n")
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    wait_for(lambda: server.get("/x").status == 201 and list(records(server)[-1]) == ["pid"])


def test_a_field_that_is_none_is_refused_with_the_nearest(serve):
    server = start(serve, "--json-access-log-fields", "time,statsu", ready=None)
    assert server.wait_for_exit() == 1
    assert "'statsu' is no field: did you mean 'status'?" in server.log
