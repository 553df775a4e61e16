"""Load that counts: so many clients, each one request after the other, every failure written down.

A request fails if it gets no complete answer with the expected status. There is exactly one excuse,
that of RFC 9112, 9.3: a client whose last answer announced ``Connection: close`` opens a new
connection. A kept-alive connection that ends without an announcement costs a request, and is counted.

The load is bounded: by the number of clients, by the pause between two requests of one client, and by
``LIMIT`` seconds in all.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.http import Address, Answer, BadAnswer, Peer, encode
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from tests.support.server import Server

#: Seconds after which clients stop by themselves.
LIMIT = 300.0
#: Seconds between two requests of one client: enough to keep the machine responsive.
PAUSE = 0.002
#: Seconds one client waits for an answer.
TIMEOUT = 25.0


@dataclass
class Record:
    """What one load, or one client of it, has seen."""

    answered: Counter[int] = field(default_factory=Counter)
    #: One text for each request without a complete answer.
    lost: list[str] = field(default_factory=list)
    bodies: Counter[bytes] = field(default_factory=Counter)
    slowest: float = 0.0
    connections: int = 0


class Load:
    """``with Load(server.address) as load: ...``; afterwards its figures are final."""

    def __init__(
        self,
        address: Address,
        clients: int = 8,
        keep_alive: bool = True,
        target: str = "/",
        pause: float = PAUSE,
        method: str = "GET",
        body: bytes | None = None,
    ) -> None:
        self._address = address
        self._keep_alive = keep_alive
        self._pause = pause
        self._method = method
        headers = [] if keep_alive else [("Connection", "close")]
        self._request = encode(method, target, headers, body)
        self._end = threading.Event()
        self._records = [Record() for _ in range(clients)]
        self._threads = [threading.Thread(target=self._client, args=(record,), daemon=True) for record in self._records]

    # Running.

    def __enter__(self) -> Load:
        self._deadline = time.monotonic() + LIMIT
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Lets every client finish its request, then ends."""
        self._end.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 5)
            assert not thread.is_alive(), "a client hangs"

    def wait_for_answers(self, more: int, deadline: float = 60.0) -> None:
        """Waits until ``more`` further requests were answered: the load is really flowing."""
        target = self.total + more
        wait_for(lambda: self.total >= target, deadline, lambda: f"{self.total} of {target} answers")

    def _client(self, record: Record) -> None:
        peer: Peer | None = None
        while not self._end.is_set() and time.monotonic() < self._deadline:
            start = time.monotonic()
            try:
                if peer is None:
                    record.connections += 1
                    peer = Peer(self._address, TIMEOUT)
                answer = self._exchange(peer)
            except (OSError, BadAnswer) as error:
                record.lost.append(f"{type(error).__name__}: {error}")
                peer = self._drop(peer)
                # A server that is down must not turn the load into a busy loop.
                self._end.wait(0.05)
                continue
            record.answered[answer.status] += 1
            record.bodies[answer.body] += 1
            record.slowest = max(record.slowest, time.monotonic() - start)
            if not (self._keep_alive and answer.keeps_connection):
                peer = self._drop(peer)
            self._end.wait(self._pause)
        self._drop(peer)

    def _exchange(self, peer: Peer) -> Answer:
        peer.send(self._request)
        return peer.answer(self._method)

    @staticmethod
    def _drop(peer: Peer | None) -> None:
        if peer is not None:
            peer.close()

    # Figures.

    @property
    def total(self) -> int:
        """Requests that got a complete answer, whatever its status."""
        return sum(sum(record.answered.values()) for record in self._records)

    @property
    def answers_of_clients(self) -> list[int]:
        """The same, for each client."""
        return [sum(record.answered.values()) for record in self._records]

    @property
    def statuses(self) -> Counter[int]:
        """How many answers of each status."""
        return sum((record.answered for record in self._records), Counter())

    @property
    def bodies(self) -> Counter[bytes]:
        """How many answers with each body."""
        return sum((record.bodies for record in self._records), Counter())

    @property
    def seen_bodies(self) -> set[bytes]:
        """The bodies so far, also while the load flows."""
        return {body for record in self._records for body in list(record.bodies)}

    @property
    def lost(self) -> list[str]:
        """Requests without a complete answer."""
        return [text for record in self._records for text in record.lost]

    @property
    def slowest(self) -> float:
        """Seconds the slowest answered request took."""
        return max(record.slowest for record in self._records)

    @property
    def connections(self) -> int:
        """Connections opened."""
        return sum(record.connections for record in self._records)

    def assert_flawless(self, at_least: int = 1) -> None:
        """Not one failed request, and enough of them to mean something."""
        lost = self.lost
        assert not lost, f"{len(lost)} of {self.total + len(lost)} requests lost: {lost[:5]}"
        assert set(self.statuses) == {200}, self.statuses
        assert self.total >= at_least, f"only {self.total} requests were made"


def reload_under_load(server: Server, reloads: int) -> None:
    """No request on a new connection fails, or waits for a process, in so many reloads."""
    with Load(server.address, clients=4, keep_alive=False, pause=0.004) as load:
        for _ in range(reloads):
            server.reload()
            load.wait_for_answers(20)
    load.assert_flawless(at_least=20 * reloads)
