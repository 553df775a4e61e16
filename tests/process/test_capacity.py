"""However a request ends, its worker is free again for the next one."""

from __future__ import annotations

import socket
import struct

from tests.support.http import encode
from tests.support.wait import wait_for

#: How many times in a row: more than a single worker could lose and still serve.
TIMES = 3


def test_client_that_leaves_in_mid_response_frees_the_worker(serve):
    """The gateway knows that the client is gone before the worker sends the rest."""
    server = serve(
        """
        import os
        import time

        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            if environ["PATH_INFO"] == "/":
                return [b"hello"]
            return pieces(environ["PATH_INFO"][1:])

        def pieces(go):
            yield b"first"
            deadline = time.monotonic() + 20
            while not os.path.exists(go) and time.monotonic() < deadline:
                time.sleep(0.005)
        """,
        access_log=True,
    )
    for number in range(TIMES):
        name = f"go-{number}"
        with server.connect() as peer:
            peer.send(encode(target=f"/{name}"))
            wait_for(lambda peer=peer: b"first" in peer.socket.recv(4096), what="the first piece")
            # A reset, as of a process that was killed: an end alone could be a half-close.
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda name=name: f"/{name}" in server.read("access.log"), what="the gateway noticed")
        server.write(name, "")
        assert server.get("/").body == b"hello"


def test_socket_that_was_taken_over_frees_the_worker_in_the_end(serve):
    server = serve("""
        def application(environ, start_response):
            if environ["PATH_INFO"] == "/":
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b"hello"]
            client = environ["gunicorn.socket"]
            client.sendall(b"mine")
            client.close()
            raise StopIteration
    """)
    for _ in range(TIMES):
        with server.connect() as peer:
            peer.send(encode(target="/take"))
            assert peer.rest() == b"mine"
        assert server.get("/").body == b"hello"
