"""wsgi.input answers every call as a file of the same bytes would."""

from __future__ import annotations

import io
import json
import zlib

import pytest

BODIES = {
    "empty": b"",
    "short": b"one line without end",
    "lines": b"first\nsecond\r\n\nfourth\nlast without end",
    "newline-last": b"first\nsecond\n",
    "binary": bytes(range(256)) * 3,
    # Longer than what any server keeps in memory or reads at once, with long and short lines.
    "large": (b"x" * 70_000 + b"\n" + b"short\n" * 20_000) * 3,
}

CALLS = [
    "read:",
    "read:-1",
    "read:none",
    "read:0",
    "read:1",
    "read:7,read:7,read:7",
    "read:5,read:",
    "read:100000,read:100000,read:",
    "read:10000000",
    "read:,read:",
    "read:,read:5",
    "readline:",
    "readline:,readline:,readline:,readline:,readline:,readline:,readline:",
    "readline:-1",
    "readline:none",
    "readline:0",
    "readline:1,readline:1",
    "readline:3,readline:",
    "readline:6,readline:6",
    "readline:100000,readline:",
    "readlines:",
    "readline:,readlines:",
    "list:",
    "readline:,list:",
    "read:3,readline:,read:4,list:",
    "list:,read:,readline:,readlines:",
]


def expected(body: bytes, calls: str) -> list:
    source = io.BytesIO(body)
    results = []
    for call in calls.split(","):
        method, _, argument = call.partition(":")
        args = [] if argument == "" else [None if argument == "none" else int(argument)]
        found = list(source) if method == "list" else getattr(source, method)(*args)
        results.append(found.decode("latin-1") if isinstance(found, bytes) else [x.decode("latin-1") for x in found])
    return results


def pieces(body: bytes) -> list[bytes]:
    """The body in chunks of growing size, none of them empty."""
    found, size = [], 1
    while body:
        found.append(body[:size])
        body, size = body[size:], size * 3
    return found


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("body", list(BODIES))
def test_every_call_answers_as_a_file_does(server, body, framing):
    data = BODIES[body]
    wrong = []
    for calls in CALLS:
        payload = data if framing == "length" else pieces(data)
        answer = server.request("POST", f"/reads_as_told?{calls}", body=payload)
        assert answer.status == 200, f"{calls}: {server.log}"
        if json.loads(answer.body) != expected(data, calls):
            wrong.append(calls)
    assert wrong == []


@pytest.mark.parametrize("hint", [0, 1, 7, -1])
def test_readlines_hint_never_changes_the_lines(server, hint):
    """PEP 3333: the hint may be ignored; what is returned is a run of whole lines from the start."""
    body = BODIES["lines"]
    answer = server.request("POST", f"/reads_as_told?readlines:{hint}", body=body)
    (lines,) = json.loads(answer.body)
    everything = [line.decode() for line in body.splitlines(keepends=True)]
    assert lines == everything[: len(lines)]
    assert sum(map(len, lines)) >= min(max(hint, 0), len(body)) or lines == everything


def test_no_body_reads_as_empty(server):
    answer = server.get("/reads_as_told?read:,readline:,readlines:,list:")
    assert json.loads(answer.body) == ["", "", [], []]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_upload_arrives_whole(server, framing):
    data = bytes(range(256)) * (8 * 4096)
    payload = data if framing == "length" else [data[i : i + 50_000] for i in range(0, len(data), 50_000)]
    answer = server.request("POST", "/measures_input", body=payload)
    length, checksum, content_length = json.loads(answer.body)
    assert (length, checksum) == (len(data), zlib.crc32(data))
    if framing == "length":
        assert content_length == str(len(data))


def test_body_of_one_request_is_not_read_by_the_next(server):
    with server.connect() as peer:
        first = peer.request("POST", "/ignores_input", body=b"GET /never HTTP/1.1\r\n\r\n" * 100)
        assert first.body == b"onetwo"
        if first.keeps_connection:
            second = peer.request("POST", "/reads_as_told?read:", body=b"mine")
            assert json.loads(second.body) == ["mine"]
        else:
            assert peer.rest() == b""


def test_chunk_extensions_and_trailers_are_no_part_of_the_body(server):
    with server.connect() as peer:
        peer.send(
            b"POST /reads_as_told?read: HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'3;name=value;quoted="a;b"\r\none\r\n3\r\ntwo\r\n0\r\nX-Trailer: yes\r\n\r\n'
        )
        assert json.loads(peer.answer().body) == ["onetwo"]
