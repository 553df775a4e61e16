"""Heavy applications beside Gunicorn's dirty arbiters: one application, one run, medians of time.

    $ python bench/pool.py OXICORN_PYTHON GUNICORN_PYTHON

Each argument is an interpreter that has the server. Rounds of both take turns, so that what else
the machine does meets both. Every call is made by the server's own client, in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5

HEAVY = """
import time
class App:
    def init(self): pass
    def close(self): pass
    def __call__(self, action, *args):
        if action == "echo":
            return args[0]
        if action == "sleep":
            time.sleep(args[0])
            return None
        return (b"x" * 100 for _ in range(args[0]))
"""

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""

CALLER = """
import json, sys, threading, time
from {package}.dirty import DirtyClient, StashClient
path = sys.argv[1]
client, stash = DirtyClient(path, timeout=30.0), StashClient(path)

def timed(call, count):
    call()
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    taken.sort()
    return taken[len(taken) // 2] * 1e6

def echo(size):
    value = b"x" * size
    return lambda: client.execute("heavy:App", "echo", value)

def stream():
    return list(client.stream("heavy:App", "count", 500))

def together():
    done = []
    def call():
        own = DirtyClient(path, timeout=30.0)
        until = time.perf_counter() + 1.5
        while time.perf_counter() < until:
            own.execute("heavy:App", "sleep", 0.005)
            done.append(1)
    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(done) / 1.5

print(json.dumps({
    "echo of 10 bytes": timed(echo(10), 1000),
    "echo of 10 KB": timed(echo(10_000), 1000),
    "echo of 1 MB": timed(echo(1_000_000), 60),
    "stream, a chunk of 100 bytes": timed(stream, 6) / 500,
    "stash put": timed(lambda: stash.put("t", "k", 1), 1000),
    "stash get": timed(lambda: stash.get("t", "k"), 1000),
    "16 callers, 4 workers, 5 ms: calls per second": together(),
}))
"""


class Server:
    """A server with a pool of four workers."""

    def __init__(self, name: str, python: str, port: int) -> None:
        self.name = name
        self.python = python
        self.directory = Path(tempfile.mkdtemp(prefix=f"bench-pool-{name}-"))
        for file, text in (
            ("heavy.py", HEAVY),
            ("app.py", APPLICATION),
            ("caller.py", CALLER.replace("{package}", name)),
        ):
            (self.directory / file).write_text(text)
        command = [
            python,
            "-m",
            name,
            "--bind",
            f"127.0.0.1:{port}",
            "--dirty-app",
            "heavy:App",
            "--dirty-workers",
            "4",
        ]
        self.log = self.directory / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "app:application"], cwd=self.directory, stderr=log, stdout=log
            )
        self.path = self._socket()

    def _socket(self) -> str:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            text = self.log.read_text()
            found = re.search(r"Spawned dirty arbiter \(pid: \d+\) at (\S+)", text)
            if found and text.count("Initialized dirty app") >= 4:
                return found[1]
            time.sleep(0.1)
        raise SystemExit(f"{self.name} did not start:\n{self.log.read_text()}")

    def measure(self) -> dict[str, float]:
        """One round."""
        command = [self.python, "caller.py", self.path]
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=True, timeout=300
        )
        result: dict[str, float] = json.loads(done.stdout)
        return result

    def stop(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def main() -> None:
    """Measures and prints a table."""
    oxicorn, gunicorn = sys.argv[1:3]
    servers = [Server("oxicorn", oxicorn, 8731), Server("gunicorn", gunicorn, 8732)]
    rounds: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    try:
        for _ in range(ROUNDS):
            for server in servers:
                rounds[server.name].append(server.measure())
    finally:
        for server in servers:
            server.stop()
    print(f"{os.cpu_count()} processors, medians of {ROUNDS} rounds in microseconds")
    for what in rounds["oxicorn"][0]:
        ours, theirs = (
            statistics.median(each[what] for each in rounds[name])
            for name in ("oxicorn", "gunicorn")
        )
        print(f"{what:<50}{ours:>10.1f}{theirs:>10.1f}{ours / theirs:>8.3f}")


if __name__ == "__main__":
    main()
