"""A server with a pool; the test is the caller, by the same client that an application uses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from oxicorn.dirty import DirtyClient, StashClient
from tests.support.server import Server, Servers
from tests.support.wait import wait_for

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]
"""

#: What most tests call; ``heavy:App``.
HEAVY = """
import asyncio
import os
import threading
import time
from pathlib import Path

from gunicorn.dirty import DirtyApp

VERSION = 1
HERE = Path(__file__).parent


class App(DirtyApp):
    def init(self):
        self.lock = threading.Lock()
        self.together = 0
        self.most = 0
        if "DEVICE" in os.environ:
            text = os.environ["DEVICE"] + " " + os.environ["A"]
            (HERE / f"device-{os.getpid()}").write_text(text)

    def version(self):
        return VERSION

    def pid(self):
        return os.getpid()

    def echo(self, value):
        return value

    def take(self, *args, **kwargs):
        return [list(args), kwargs]

    def give_set(self):
        return {1, 2}

    def kind(self, value):
        return type(value).__name__

    def fail(self, text="no"):
        raise KeyError(text)

    def wait(self, name="gate", begun="begun"):
        # Until the test opens the gate; it knows that this has begun.
        with self.lock:
            self.together += 1
            self.most = max(self.most, self.together)
        with open(HERE / begun, "a") as file:
            print(os.getpid(), file=file)
        try:
            while not (HERE / name).exists():
                time.sleep(0.005)
        finally:
            with self.lock:
                self.together -= 1
        return os.getpid()

    def gated(self, name="gate"):
        # A stream that stands in its middle until the test opens the gate.
        yield os.getpid()
        while not (HERE / name).exists():
            time.sleep(0.005)
        yield "the rest"

    def hold(self):
        # Hears of nothing: no bytecode is run meanwhile.
        import ctypes
        ctypes.PyDLL(None).usleep(20_000_000)

    def deaf(self):
        import ctypes
        with open(HERE / "begun", "a") as file:
            print(os.getpid(), file=file)
        ctypes.CDLL(None).usleep(60_000_000)

    def die(self, code=None):
        if code is None:
            os.kill(os.getpid(), 9)
        os._exit(code)

    def crash(self):
        import faulthandler
        faulthandler._sigsegv()

    def most_together(self):
        return self.most

    def count(self, number, size=0):
        for each in range(number):
            yield b"x" * size if size else each

    def advance(self):
        # How far it is, can be seen from outside.
        number = 0
        try:
            while True:
                (HERE / "advanced").write_text(str(number))
                yield b"x" * 10_000
                number += 1
        finally:
            (HERE / "closed").write_text(str(number))

    def break_off(self, number):
        yield from range(number)
        raise OSError("in the middle")

    async def later(self, value):
        await asyncio.sleep(0.01)
        return value

    async def wait_async(self):
        with open(HERE / "begun", "a") as file:
            print(os.getpid(), file=file)
        try:
            await asyncio.sleep(60)
        finally:
            (HERE / "closed").write_text("asleep")

    async def count_async(self, number):
        for each in range(number):
            await asyncio.sleep(0)
            yield each

    def grow(self, size):
        self.held = b"x" * size
        return os.getpid()

    def eat(self):
        eaten = []
        yield b"begun"
        while True:
            eaten.append(b"x" * (1 << 20))

    def user(self):
        return [os.getuid(), os.getgid()]


class Two:
    workers = 2

    def init(self):
        pass

    def __call__(self, action, *args, **kwargs):
        return [action, os.getpid()]

    def close(self):
        pass
"""


DEFAULTS = """
import os
dirty_apps = ["heavy:App"]
dirty_workers = 1
def when_ready(server):
    with open("socket", "w") as file:
        file.write(os.environ["GUNICORN_DIRTY_SOCKET"])
"""


class Pool:
    """A server with a pool, and clients of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.path = wait_for(lambda: server.read("socket"), what=lambda: f"the pool's socket:\n{server.log}")
        self.client = DirtyClient(self.path, timeout=30.0)
        self.stash = self.new_stash()

    def new_stash(self) -> StashClient:
        """A client of the stash with connections of its own."""
        return StashClient(self.path)

    def call(self, action: str, *args: object, **kwargs: object) -> object:
        """Calls ``heavy:App``."""
        return self.client.execute("heavy:App", action, *args, **kwargs)

    @property
    def broker(self) -> int:
        """The process with the queue and the stash."""
        return self.server.only_pid("dirty-arbiter")

    @property
    def workers(self) -> list[int]:
        """The pool's workers."""
        return self.server.pids("dirty-worker")

    def open_gate(self, name: str = "gate") -> None:
        """Calls of ``wait`` end."""
        (self.server.directory / name).touch()

    def close_gate(self, name: str = "gate") -> None:
        """Further ones wait again."""
        (self.server.directory / name).unlink()

    def wait_for_begun(self, count: int) -> list[int]:
        """Waits until so many calls of ``wait`` have begun, and gives where."""

        def begun() -> list[str] | None:
            lines = self.server.lines("begun")
            return lines if len(lines) >= count else None

        return [int(line) for line in wait_for(begun, what=lambda: f"{count} calls begun:\n{self.server.log}")]

    def close(self) -> None:
        self.client.close()
        self.stash.close()


Start = Callable[..., Pool]


def started(
    servers: Servers,
    config: str = "",
    *args: str,
    heavy: str = HEAVY,
    files: Mapping[str, str] | None = None,
    **options: object,
) -> Pool:
    """A server with a pool of ``heavy:App``, unless ``config`` says more; ``files``: what else lies there."""
    server = servers.new()
    for name, content in {"heavy.py": heavy, **(files or {})}.items():
        server.write(name, content)
    server.start(*args, app=APPLICATION, config=DEFAULTS + config, **options)  # type: ignore[arg-type]
    return Pool(server)


@pytest.fixture
def start(serve: Servers) -> Iterator[Start]:
    """``start(config, *flags)`` starts a server with a pool."""
    pools: list[Pool] = []

    def start(config: str = "", *args: str, **options: object) -> Pool:
        pools.append(started(serve, config, *args, **options))  # type: ignore[arg-type]
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


@pytest.fixture(scope="module")
def pool(serve_module: Servers) -> Iterator[Pool]:
    """A server with a pool of two workers that all tests of the module share."""
    config = 'dirty_apps = ["heavy:App", "heavy:Two"]\ndirty_workers = 2\n'
    pool = started(serve_module, config)
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def unused_environment() -> Iterator[None]:
    """The test's process is the caller: what servers say by the environment is not for it."""
    names = ("GUNICORN_DIRTY_SOCKET", "OXICORN_DIRTY_TIMEOUT", "OXICORN_DIRTY_SERIALIZER")
    before = {name: os.environ.pop(name, None) for name in names}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def read_number(path: Path) -> int | None:
    """The number in a file; None: there is none yet."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None
