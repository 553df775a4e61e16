"""The HTTP/1.1 parser beside h11, on generated messages and on the message corpus.

Where both accept, they see the same requests. Where only one refuses, the reason is in one of two lists,
by what it was refused for; a reason that explains nothing any more has to leave its list.
"""

from __future__ import annotations

from dataclasses import replace

import h11
import pytest

from .verdicts import SEED, Request, Verdict, corpus, generated, ours

# The first test of a run may have to build the parser's example.
pytestmark = pytest.mark.timeout(300)

# We refuse what h11 takes, by the name of the fault.
STRICTER = {
    "BareLineFeed": "h11 takes a bare LF for a line end, as RFC 9112 section 2.2 allows",
    "BareCarriageReturn": "h11 takes anything for a chunk extension",
    "InvalidMethod": "h11 takes any token; Gunicorn (and we) 3 to 20 characters without lower case",
    "InvalidRequestTarget": "h11 takes any visible bytes, in no particular form",
    "UnsupportedVersion": "h11 takes every digit for a major version",
    "InvalidFieldValue": "h11 takes control bytes but NUL, CR and LF in values",
    "ObsoleteFolding": "h11 joins folded lines",
    "ConnectNotPermitted": "h11 leaves methods to the caller",
    "EmptyHost": "h11 does not look into Host",
    "MissingHost": "h11 asks for one on HTTP/1.1, not on 1.2 and later",
    "InvalidHost": "h11 does not look into Host",
    "HostMismatch": "h11 does not compare Host with an absolute target",
    "DuplicateContentType": "h11 only counts Host",
    "DuplicateContentLength": "h11 merges equal ones, as RFC 9110 section 8.6 allows",
    "InvalidContentLength": "h11 merges a list of equal numbers",
    "LengthWithTransferEncoding": "h11 lets Transfer-Encoding win, as RFC 9112 section 6.1 allows",
    "TransferEncodingOnHttp10": "h11 reads chunks from a 1.0 client",
    "InvalidTransferEncoding": "h11 takes what a list of codings leaves when empty elements are gone",
    "InvalidChunkSize": "h11 takes spaces after the size",
    "InvalidChunkExtension": "h11 takes anything for a chunk extension",
    "ForbiddenTrailer": "h11 hands every trailer to the caller",
    "UnknownExpectation": "h11 leaves other expectations to the caller",
    "RequestLineTooLong": "h11 bounds a head as a whole",
    "TooManyFields": "h11 bounds a head as a whole",
    "FieldTooLong": "h11 bounds a head as a whole",
}

# h11 refuses what we take, by how its message begins.
MORE_LENIENT = {
    "no request line received": "RFC 9112 section 2.2: one empty line before a request is skipped, as by Gunicorn",
    "illegal chunk header": "RFC 9112 section 7.1.1 allows whitespace before the semicolon of an extension",
}

# Both take it, and one goes on with the connection.
ANOTHER_END = {
    "http/1.0": "h11 knows no keep-alive on HTTP/1.0",
}


def theirs(text: bytes) -> Verdict:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    requests: list[Request] = []
    connection.receive_data(text)
    told_end = False
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if told_end:
                    return Verdict(requests, "waits for more after the end")
                connection.receive_data(b"")
                told_end = True
            elif event is h11.PAUSED:
                return Verdict(requests, "closing")
            elif isinstance(event, h11.Request):
                requests.append(Request(event.method, event.target, event.http_version, list(event.headers)))
            elif isinstance(event, h11.Data):
                requests[-1].body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                requests[-1].trailers = list(event.headers)
                requests[-1].complete = True
                if not _answer(connection):
                    return Verdict(requests, "closing")
            elif isinstance(event, h11.ConnectionClosed):
                return Verdict(requests, "closed")
    except h11.RemoteProtocolError as error:
        return Verdict(requests, str(error))


def _answer(connection: h11.Connection) -> bool:
    connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
        return False
    connection.start_next_cycle()
    return True


@pytest.fixture(scope="module")
def pairs() -> list[tuple[bytes, Verdict, Verdict]]:
    messages = corpus() + generated()
    verdicts = ours(messages)
    assert len(verdicts) == len(messages)
    return [(text, verdict, theirs(text)) for text, verdict in zip(messages, verdicts, strict=True)]


def _comparable(request: Request) -> Request:
    """Without what each parser is known to do with the same headers."""

    def plain(pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        # We drop names with an underscore (`header_map`); h11 writes the coding in lower case.
        kept = [(name, value) for name, value in pairs if b"_" not in name]
        return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in kept]

    return replace(request, headers=plain(request.headers), trailers=plain(request.trailers))


def _explain(one: Verdict, other: Verdict) -> tuple[str, str] | None:
    """How ours and h11's differ: which list the reason must be in, and under which name."""
    mine = [_comparable(request) for request in one.requests if request.complete]
    h11s = [_comparable(request) for request in other.requests if request.complete]
    if any(request != another for request, another in zip(mine, h11s, strict=False)):
        return "requests", "differ"
    further = len(mine) - len(h11s)
    if further >= 0 and other.end == "closing" and one.end != "closing":
        return "another end", _last(h11s)
    if one.refused and (further < 0 or not other.refused):
        return "stricter", one.end
    if other.refused and (further > 0 or not one.refused):
        known = [start for start in MORE_LENIENT if other.end.startswith(start)]
        return "more lenient", known[0] if known else other.end
    if one.refused or (further == 0 and one.end == other.end):
        return None
    return "another end", _last(mine if further <= 0 else h11s)


def _last(requests: list[Request]) -> str:
    """What may have made the last request the last one."""
    return f"http/{requests[-1].version.decode()}"


@pytest.fixture(scope="module")
def found(pairs: list[tuple[bytes, Verdict, Verdict]]) -> dict[tuple[str, str], bytes]:
    """Every way to differ, with the first message that shows it."""
    found: dict[tuple[str, str], bytes] = {}
    for text, one, other in pairs:
        if difference := _explain(one, other):
            found.setdefault(difference, text)
    return found


REASONS = {"stricter": STRICTER, "more lenient": MORE_LENIENT, "another end": ANOTHER_END}


def test_every_difference_from_h11_has_a_reason(found: dict[tuple[str, str], bytes]) -> None:
    unexplained = {key: text for key, text in found.items() if key[1] not in REASONS.get(key[0], {})}
    assert not unexplained, f"seed {SEED}: {unexplained}"


def test_every_reason_explains_something(found: dict[tuple[str, str], bytes]) -> None:
    for kind, reasons in REASONS.items():
        assert {name for name in reasons if (kind, name) not in found} == set()


def test_most_messages_are_read_alike(pairs: list[tuple[bytes, Verdict, Verdict]]) -> None:
    """A generator that makes only noise, or a comparison that compares nothing, would show here."""
    alike = [one for _, one, other in pairs if _explain(one, other) is None]
    accepted = [one for one in alike if not one.refused]
    assert len(alike) > 0.8 * len(pairs)
    assert len(accepted) > 0.2 * len(pairs)
    assert sum(len(one.requests) for one in accepted) > len(accepted)
    assert any(request.body and request.trailers for one in accepted for request in one.requests)
