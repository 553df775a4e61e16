"""wsgi.file_wrapper: whatever the file, the position and the promised length, the right bytes arrive."""

from __future__ import annotations

import json

import pytest

from tests.support.http import ConnectionLost
from tests.support.wait import wait_for


def content(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


@pytest.mark.parametrize(
    ("size", "start", "length", "block"),
    [
        (0, 0, "0", 8192),
        (1, 0, "1", 8192),
        (100, 0, "100", 8192),
        (100, 0, "-", 8192),
        (100, 40, "60", 8192),
        (100, 40, "-", 8192),
        (100, 0, "50", 7),
        (300_000, 0, "300000", 8192),
        (300_000, 123_456, "-", 8192),
        (3_000_000, 0, "3000000", 8192),
        (3_000_000, 1, "-", 1000),
    ],
)
def test_file_arrives(server, size, start, length, block):
    with server.connect() as peer:
        answer = peer.get(f"/file_options?{size},{start},{length},{block}")
        expected = content(size)[start:]
        assert answer.body == (expected if length == "-" else expected[: int(length)])
        if answer.keeps_connection:
            assert peer.get("/").body == b"hello", "the connection is where it should be"
        else:
            assert peer.rest() == b""


@pytest.mark.parametrize("size", [0, 100])
def test_empty_file_without_length_ends_exactly_once(server, size):
    """Empty as a whole, or from where the application has left its position."""
    with server.connect() as peer:
        answer = peer.get(f"/file_options?{size},{size},-,8192")
        assert answer.body == b""
        if answer.keeps_connection:
            assert peer.get("/").body == b"hello"
        else:
            assert peer.rest() == b""


def test_file_shorter_than_promised_ends_the_connection(server):
    with server.connect(timeout=3) as peer:
        with pytest.raises(ConnectionLost) as lost:
            peer.get("/file_options?100,0,200,8192")
        assert lost.value.received == content(100)


def test_pipe_is_read_although_it_has_a_descriptor(server):
    if "gevent" in server.command:
        pytest.skip("gevent's os.close() leaves a pipe open until its hub turns, so reading that never ends")
    assert server.get("/pipe_as_file").body == b"onetwo"


def test_file_is_closed(server):
    def closed() -> int:
        return json.loads(server.get("/state").body)["closed"].count("file_options")

    before = closed()
    server.get("/file_options?100000,0,-,8192")
    wait_for(lambda: closed() == before + 1)


def test_head_of_a_file(server):
    with server.connect() as peer:
        answer = peer.request("HEAD", "/file_options?100,0,100,8192")
        assert (answer.header("content-length"), answer.body) == ("100", b"")
        if answer.keeps_connection:
            assert peer.get("/").body == b"hello"
        else:
            assert peer.rest() == b""


def test_without_sendfile_the_same_bytes_arrive(serve):
    server = serve(None, "--no-sendfile", spec="matrix")
    assert server.get("/file_options?300000,1000,-,8192").body == content(300_000)[1000:]


def test_slow_reader_of_a_large_file_gets_all_of_it(server):
    size = 4_000_000
    with server.connect(receive_buffer=16 * 1024) as peer:
        peer.send(f"GET /file_options?{size},0,{size},8192 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert peer.answer().body == content(size)
