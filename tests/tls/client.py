"""A client over TLS: Python's own."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.http import TIMEOUT, Address
from tests.support.server import Server


def connect(server: Server, context: ssl.SSLContext, address: Address | None = None) -> http.client.HTTPSConnection:
    """A connection, not open yet."""
    _, port = address or server.address
    return http.client.HTTPSConnection("localhost", port, context=context, timeout=TIMEOUT)


def get(server: Server, context: ssl.SSLContext, target: str = "/") -> tuple[int, str]:
    """One request on a connection of its own."""
    connection = connect(server, context)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def serial_shown(server: Server, context: ssl.SSLContext) -> str:
    """The number of the certificate that a new client is shown."""
    connection = connect(server, context)
    connection.connect()
    try:
        certificate = connection.sock.getpeercert()
        return str(certificate["serialNumber"])
    finally:
        connection.close()


class Load:
    """Counts answers, and what was no answer."""

    def __init__(self) -> None:
        self.answers = 0
        self.failures: list[str] = []


@contextmanager
def load(server: Server, context: ssl.SSLContext, clients: int = 4, keep_alive: bool = True) -> Iterator[Load]:
    """Clients that ask again and again. A connection that the server has announced to close is opened anew."""
    result, end = Load(), threading.Event()

    def ask() -> None:
        connection = connect(server, context)
        while not end.is_set():
            try:
                connection.request("GET", "/", headers={} if keep_alive else {"Connection": "close"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    result.failures.append(f"status {answer.status}")
                result.answers += 1
            except (OSError, http.client.HTTPException) as error:
                # An idle connection may end as a request is sent; HTTP lets clients ask again.
                if not (keep_alive and isinstance(error, (http.client.RemoteDisconnected, ssl.SSLEOFError))):
                    result.failures.append(repr(error))
                connection.close()
                connection = connect(server, context)
            time.sleep(0.002)
        connection.close()

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield result
    finally:
        end.set()
        for thread in threads:
            thread.join(TIMEOUT)
