"""Clients of databases in greenlets: whoever waits for an answer, or for a connection of a pool, holds nobody up."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import encode
from tests.support.ports import free_port
from tests.support.server import Server, Servers
from tests.support.wait import wait_for

pytest.importorskip("gevent")

#: Requests that wait at a time; more than a pool has connections.
WAITING = 6
POOL = 3

REDIS = f"""
    import os
    import redis

    pool = redis.BlockingConnectionPool(port=int(os.environ["SERVICE"]), max_connections={WAITING + 1}, timeout=20)
    client = redis.Redis(connection_pool=pool)

    def wait():
        client.rpush("waiting", "one")
        return client.blpop("answers", 20)[1]

    def waiting():
        return client.llen("waiting")

    def answer():
        client.rpush("answers", *["answer"] * {WAITING})
        return b"pushed"
"""

POSTGRES = f"""
    import os
    from sqlalchemy import create_engine, text

    url = f"postgresql+psycopg://postgres@127.0.0.1:{{os.environ['SERVICE']}}/postgres"
    engine = create_engine(url, pool_size={POOL}, max_overflow=0, pool_timeout=20)
    keeper = create_engine(url, pool_size=1).connect()
    keeper.execute(text("SELECT pg_advisory_lock(1)"))
    watcher = create_engine(url, pool_size=1)

    def wait():
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        return b"answer"

    def waiting():
        with watcher.connect() as connection:
            return connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar()

    def answer():
        keeper.execute(text("SELECT pg_advisory_unlock(1)"))
        return b"unlocked"
"""

APPLICATION = """
    def application(environ, start_response):
        made = {"/wait": wait, "/waiting": waiting, "/answer": answer}.get(environ["PATH_INFO"], lambda: b"hello")()
        body = made if isinstance(made, bytes) else str(made).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""


@contextlib.contextmanager
def running(*command: str | Path, user: str | None = None) -> Iterator[None]:
    """A process that lives as long as the context."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """A Redis of its own; its port."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    redis = pytest.importorskip("redis")
    port = free_port()
    with running("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""):
        with redis.Redis(port=port) as client:

            def answers() -> bool:
                with contextlib.suppress(redis.ConnectionError):
                    return bool(client.ping())
                return False

            wait_for(answers, what="Redis")
        yield port


@contextlib.contextmanager
def postgres_server() -> Iterator[int]:
    """A PostgreSQL of its own, which does not run as root; its port."""
    # Where Debian has them: it wraps them in commands for clusters of its own.
    path = os.pathsep.join([os.environ["PATH"], *glob.glob("/usr/lib/postgresql/*/bin")])
    initdb, postgres = (shutil.which(name, path=path) for name in ("initdb", "postgres"))
    if initdb is None or postgres is None:
        pytest.skip("needs PostgreSQL's initdb and postgres")
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("sqlalchemy")
    user = "nobody" if os.getuid() == 0 else None
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        if user is not None:
            os.chown(data, pwd.getpwnam(user).pw_uid, -1)
        make = (initdb, "-D", data / "data", "-U", "postgres", "-A", "trust", "-N")
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, user=user, cwd=data)
        flags = ("-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}")
        with running(postgres, "-D", data / "data", "-F", *flags, user=user):

            def answers() -> bool:
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(f"host=127.0.0.1 port={port} user=postgres").close()
                    return True
                return False

            wait_for(answers, what="PostgreSQL")
            yield port


def is_served_while_others_wait(server: Server, waiting: int) -> None:
    """So many have to wait for the service, the others for a connection to it."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(WAITING)]
        for client in clients:
            client.send(encode(target="/wait"))
        wait_for(lambda: int(server.get("/waiting").body) == waiting, what="they wait")
        assert server.get("/").body == b"hello"
        assert server.get("/answer").status == 200
        assert [client.answer().body for client in clients] == [b"answer"] * WAITING


def test_redis(serve: Servers) -> None:
    with redis_server() as port:
        server = serve(REDIS + APPLICATION, "-k", "gevent", env={"SERVICE": str(port)})
        is_served_while_others_wait(server, WAITING)
        assert server.stop() == 0


def test_psycopg_and_a_pool_of_sqlalchemy(serve: Servers) -> None:
    with postgres_server() as port:
        server = serve(POSTGRES + APPLICATION, "-k", "gevent", env={"SERVICE": str(port)})
        is_served_while_others_wait(server, POOL)
        assert server.stop() == 0
