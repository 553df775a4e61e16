"""The HTTP/1.1 parser beside Gunicorn's own: it refuses whatever Gunicorn refuses by default."""

from __future__ import annotations

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser

from .verdicts import SEED, Request, Verdict, corpus, generated, ours

# The first test of a run may have to build the parser's example.
pytestmark = pytest.mark.timeout(300)

# Gunicorn refuses what we take, by its exception.
MORE_LENIENT = {"NoMoreData": "an empty line and then the end of the connection is nothing of a request"}


DEFAULTS = Config()


def theirs(text: bytes) -> Verdict:
    parser = RequestParser(DEFAULTS, iter([text]), ("192.0.2.1", 1))
    requests: list[Request] = []
    try:
        for request in parser:
            method, target = request.method.encode("latin-1"), request.uri.encode("latin-1")
            requests.append(Request(method, target, b"%d.%d" % request.version))
            requests[-1].body = request.body.read()
            requests[-1].complete = True
            if request.should_close():
                return Verdict(requests, "closing")
    except (ParseException, OSError) as error:
        return Verdict(requests, type(error).__name__)
    return Verdict(requests, "closed")


def test_what_gunicorn_refuses_is_refused() -> None:
    messages = corpus() + generated()
    found: dict[str, bytes] = {}
    refused = 0
    for text, one in zip(messages, ours(messages), strict=True):
        other = theirs(text)
        refused += other.refused
        taken = [sum(request.complete for request in verdict.requests) for verdict in (one, other)]
        # Where we end the connection after an answer, nobody has looked at what follows.
        if other.refused and (taken[0] > taken[1] or one.end == "closed"):
            found.setdefault(other.end, text)
    assert refused > len(messages) / 10, "nothing was compared"
    assert found.keys() == MORE_LENIENT.keys(), f"seed {SEED}: {found}"
