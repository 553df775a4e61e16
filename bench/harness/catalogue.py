"""The list of experiments: the workloads and targets of the project, one entry each. A flat list on purpose."""

import dataclasses

from harness import measures, tls, web_server
from harness.clients import Load, Messages
from harness.experiment import Experiment, Target
from harness.measures import START_CPU, WORKERS_MEMORY
from harness.servers import ASYNC, CLASSES, FLASK, Shape

HELLO_LENGTH = 14
CPU = "CPU us/request"
KIB = 1024
IDLE_WEBSOCKETS = 10_000

#: What a desktop browser sends beside Host and Connection.
BROWSER_HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://www.example.com/a/page/before?with=query",
    "Cookie: sessionid=0123456789abcdef0123456789abcdef; csrftoken=fedcba9876543210fedcba9876543210",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
)


def than(peer: str, limit: float) -> Target:
    return Target(limit, peer)


def than_each(peers: tuple[str, ...], limit: float) -> tuple[Target, ...]:
    """What is at most so much of each is at most so much of the best."""
    return tuple(than(peer, limit) for peer in peers)


def asgi(application: str, connections: int | None = None) -> Shape:
    return Shape(application, variables=(("PYTHONPATH", str(ASYNC)),), interface="asgi", connections=connections)


def of_class(worker_class: str, application: str) -> Shape:
    return Shape(
        application, variables=(("PYTHONPATH", str(CLASSES)),), interface="class", worker_class=worker_class
    )


GEVENT = of_class("gevent", "gevent_hello")
ASGI_PEERS = ("granian", "uvicorn", "gunicorn", "gunicorn-uvicorn")
AHEAD_OF_GRANIAN = (Target(1.0, "granian", strictly=True),)


P999 = "p99.9 us"
#: Of granian's saturation, in percent.
SHARES = (25, 50, 75)


def tails(group: str, title: str, shape: Shape, length: int, peers: tuple[str, ...]) -> tuple[Experiment, ...]:
    """What saves CPU and costs a tail shows here, with both side by side: quiet, and beside spinning processes."""
    targets = [Target(0.8, peer, column=column) for peer in peers for column in (None, P999)]
    return tuple(
        Experiment(
            f"{name}-{percent}",
            f"{title} at {percent} % of granian's saturation"
            + (", beside a spinning process per core" if busy else ""),
            "p99 us",
            shape,
            measures.tail_at_a_share(percent, length, busy),
            ("oxicorn", *peers),
            tuple(targets),
            columns=("requests/s", "p50 us", P999, CPU),
            group=name,
        )
        for name, busy in ((group, False), (f"{group}-busy", True))
        for percent in SHARES
    )


FLASK_PAIR = Shape("flask_json", workers=2, variables=(("PYTHONPATH", str(FLASK)),))
FLASK_FOUR = Shape("flask_json", workers=4, variables=(("PYTHONPATH", str(FLASK)),))


def rests() -> tuple[Experiment, ...]:
    """Four workers of each class, with nothing to do."""
    shapes = {
        "rest-sync": Shape("hello", workers=4),
        "rest-gthread": Shape("hello", workers=4, threads=4),
        "rest-asgi": dataclasses.replace(asgi("asgi_hello"), workers=4),
    }
    return tuple(
        Experiment(
            name,
            f"wake-ups of a server at rest, four workers ({name.removeprefix('rest-')})",
            "wake-ups/s",
            shape,
            measures.wake_ups_at_rest,
            ("oxicorn", "granian", "gunicorn"),
            (Target(4.0),),
            most_rounds=3,
            group="rest",
        )
        for name, shape in shapes.items()
    )


EXPERIMENTS = (
    Experiment(
        "hello",
        "WSGI hello",
        CPU,
        Shape("hello"),
        measures.cpu_per_request(Load(), HELLO_LENGTH),
        ("oxicorn", "granian", "gunicorn", "floor", "bjoern"),
        (than("granian", 0.55), than("gunicorn", 0.07), than("floor", 1.20)),
    ),
    Experiment(
        "headers",
        "hello with ten browser-like headers",
        CPU,
        Shape("hello"),
        measures.cpu_per_request(Load(headers=BROWSER_HEADERS), HELLO_LENGTH),
        ("oxicorn", "granian", "floor", "bjoern"),
        (than("granian", 0.55),),
    ),
    Experiment(
        "two-workers",
        "hello, two workers",
        CPU,
        Shape("hello", workers=2),
        measures.cpu_per_request(Load(), HELLO_LENGTH),
        ("oxicorn", "granian", "floor", "bjoern"),
        (than("granian", 0.50),),
    ),
    Experiment(
        # The request says Connection: close, every one of the servers confirms it and wrk connects anew: each pays for
        # an accept and a close.
        "new-connection",
        "hello, a new connection for each request",
        CPU,
        Shape("hello"),
        measures.cpu_per_request(Load(headers=("Connection: close",)), HELLO_LENGTH),
        ("oxicorn", "granian", "floor", "bjoern"),
        (than("granian", 0.75),),
    ),
    Experiment(
        "mixed",
        "99 % hello + 1 % sleeping 10 ms, 16 threads",
        CPU,
        Shape("sleeping", threads=16),
        measures.cpu_per_request(Load(script="mixed.lua"), HELLO_LENGTH),
        ("oxicorn", "granian", "gunicorn"),
        (than("granian", 0.50),),
    ),
    Experiment(
        "sleeping",
        "all sleeping 10 ms, 16 threads",
        CPU,
        Shape("sleeping", threads=16),
        measures.cpu_per_request(Load("/sleep"), HELLO_LENGTH),
        ("oxicorn", "granian", "gunicorn", "decoupled"),
        (than("granian", 0.60), than("decoupled", 1.50)),
    ),
    Experiment(
        # The floor has no threads and takes part all the same: it tells what the Python itself costs.
        "spinning",
        "110 microseconds of pure Python, 16 threads",
        CPU,
        Shape("spinning", threads=16),
        measures.cpu_per_request(Load(), HELLO_LENGTH),
        ("oxicorn", "granian", "floor"),
        (than("granian", 0.90),),
        threads_optional=True,
    ),
    Experiment(
        "flask",
        "Flask JSON hello",
        CPU,
        Shape("flask_json", variables=(("PYTHONPATH", str(FLASK)),)),
        measures.cpu_per_request(Load(), 28),
        ("oxicorn", "granian", "floor", "bjoern"),
        (than("granian", 0.88),),
    ),
    Experiment(
        "upload",
        "10 KiB POST",
        CPU,
        Shape("upload"),
        measures.cpu_per_request(Load(script="upload.lua"), len(b"10240\n"), b"x" * 10 * KIB),
        ("oxicorn", "granian", "floor", "bjoern"),
        (than("granian", 0.80),),
    ),
    Experiment(
        "echo",
        "10 KiB POST that comes back",
        CPU,
        Shape("echo"),
        measures.cpu_per_request(Load(script="upload.lua"), 10 * KIB, b"x" * 10 * KIB),
        ("oxicorn", "granian", "gunicorn", "floor"),
        (than("granian", 0.80),),
    ),
    Experiment(
        "page",
        "32 KiB response",
        CPU,
        Shape("download"),
        measures.cpu_per_request(Load("/page"), 32 * KIB),
        ("oxicorn", "granian", "floor", "bjoern"),
        (than("granian", 0.75),),
    ),
    Experiment(
        "large",
        "1 MiB response",
        CPU,
        Shape("download"),
        measures.cpu_per_request(Load("/large"), KIB * KIB),
        ("oxicorn", "granian", "floor", "bjoern"),
        (than("granian", 0.75),),
    ),
    Experiment(
        "pieces",
        "100 x 1 KiB from a generator",
        CPU,
        Shape("download"),
        measures.cpu_per_request(Load("/pieces"), 100 * KIB),
        ("oxicorn", "granian", "floor", "bjoern"),
        AHEAD_OF_GRANIAN,
    ),
    Experiment(
        "small-file",
        "4 KiB by wsgi.file_wrapper",
        CPU,
        Shape("download"),
        measures.cpu_per_request(Load("/small-file"), 4 * KIB),
        ("oxicorn", "granian", "floor", "bjoern"),
        AHEAD_OF_GRANIAN,
    ),
    Experiment(
        "file",
        "100 KiB by wsgi.file_wrapper",
        CPU,
        Shape("download"),
        measures.cpu_per_request(Load("/file"), 100 * KIB),
        ("oxicorn", "granian", "floor", "bjoern"),
        AHEAD_OF_GRANIAN,
    ),
    Experiment(
        "latency",
        "one connection, one request at a time: median latency",
        "us",
        Shape("hello"),
        measures.median_latency,
        ("oxicorn", "granian", "gunicorn", "floor"),
        (than("granian", 0.80),),
    ),
    *tails("tail", "WSGI hello", Shape("hello"), HELLO_LENGTH, ("granian",)),
    *tails("tail-flask", "Flask JSON hello, two workers,", FLASK_PAIR, 28, ("granian",)),
    *tails("tail-asgi", "ASGI hello", asgi("asgi_hello"), HELLO_LENGTH, ("granian", "uvicorn")),
    Experiment(
        # The worst round counts: "no request waits" allows none.
        "neighbour",
        "one 4-second request among fast ones, two workers: fast requests that waited",
        "requests",
        Shape("sleeping", workers=2),
        measures.waiting_neighbours,
        ("oxicorn", "granian", "gunicorn"),
        (Target(0),),
        summary=max,
        most_rounds=3,
    ),
    Experiment(
        # A thousand wake-ups a second cost every server some microseconds that land in the 99th percentile; a server
        # that waits for a slow client loses hundreds of milliseconds. The limit stands between.
        "slow-clients",
        "500 clients sending a byte every half second: growth of a normal client's p99",
        "ms",
        Shape("hello"),
        measures.slow_company,
        ("oxicorn", "granian", "floor"),
        (Target(0.5),),
    ),
    Experiment(
        "memory",
        "PSS of the process tree after load, one worker",
        "MiB",
        Shape("hello"),
        measures.memory_after_load,
        ("oxicorn", "granian", "gunicorn"),
        (than("granian", 0.75),),
        most_rounds=3,
    ),
    Experiment(
        "memory-flask",
        "PSS of the process tree after load, four Flask workers",
        "MiB",
        FLASK_FOUR,
        measures.memory_after_load,
        ("oxicorn", "gunicorn", "granian"),
        (than("gunicorn", 1.0),),
        most_rounds=3,
        columns=(WORKERS_MEMORY,),
    ),
    *rests(),
    Experiment(
        "start",
        "start to first answer",
        "ms",
        Shape("hello"),
        measures.first_answer,
        ("oxicorn", "gunicorn", "granian"),
        (than("gunicorn", 1.0),),
    ),
    Experiment(
        "start-four",
        "start to first answer, four workers",
        "ms",
        Shape("hello", workers=4),
        measures.first_answer,
        ("oxicorn", "gunicorn", "granian"),
        (than("gunicorn", 0.45),),
        columns=(START_CPU,),
    ),
    Experiment(
        "asgi-hello",
        "ASGI hello",
        CPU,
        asgi("asgi_hello"),
        measures.cpu_per_request(Load(), HELLO_LENGTH),
        ("oxicorn", *ASGI_PEERS),
        (than("granian", 0.42), than("uvicorn", 0.50)),
    ),
    Experiment(
        "asgi-echo",
        "10 KiB POST that comes back",
        CPU,
        asgi("asgi_echo"),
        measures.cpu_per_request(Load(script="upload.lua"), 10 * KIB, b"x" * 10 * KIB),
        ("oxicorn", *ASGI_PEERS),
        (than("uvicorn", 0.50),),
    ),
    Experiment(
        "asgi-pieces",
        "100 x 1 KiB, each in an event of its own",
        CPU,
        asgi("asgi_pieces"),
        measures.cpu_per_request(Load(), 100 * KIB),
        ("oxicorn", *ASGI_PEERS),
        than_each(ASGI_PEERS, 0.50),
    ),
    Experiment(
        "asgi-sleeping",
        "asyncio.sleep, 10 ms",
        CPU,
        asgi("asgi_hello"),
        measures.cpu_per_request(Load("/sleep"), HELLO_LENGTH),
        ("oxicorn", *ASGI_PEERS),
        (than("granian", 0.80),),
    ),
    Experiment(
        "fastapi",
        "FastAPI JSON hello",
        CPU,
        asgi("fastapi_json"),
        measures.cpu_per_request(Load(), 27),
        ("oxicorn", *ASGI_PEERS),
        (than("granian", 0.55),),
    ),
    Experiment(
        "gevent",
        "gevent hello",
        CPU,
        GEVENT,
        measures.cpu_per_request(Load(), HELLO_LENGTH),
        ("oxicorn", "gunicorn"),
        (than("gunicorn", 0.35),),
    ),
    Experiment(
        "gevent-sleeping",
        "gevent.sleep, 10 ms, 200 connections",
        CPU,
        GEVENT,
        measures.cpu_per_request(Load("/sleep", connections=200), HELLO_LENGTH),
        ("oxicorn", "gunicorn"),
        (than("gunicorn", 0.50),),
    ),
    Experiment(
        "gevent-redis",
        "gevent, a round trip to Redis in each request",
        CPU,
        GEVENT,
        measures.beside_redis(measures.cpu_per_request(Load("/redis"), HELLO_LENGTH)),
        ("oxicorn", "gunicorn"),
        (than("gunicorn", 0.70),),
    ),
    Experiment(
        "tornado",
        "Tornado hello handler",
        CPU,
        of_class("tornado", "tornado_hello"),
        measures.cpu_per_request(Load(), HELLO_LENGTH),
        ("oxicorn", "gunicorn", "tornado"),
        (than("gunicorn", 0.60), than("tornado", 0.60)),
    ),
    Experiment(
        # The class has a server of its own: what is measured is what stands around it.
        "aiohttp",
        "aiohttp hello, aiohttp.GunicornWebWorker",
        CPU,
        of_class("aiohttp.GunicornWebWorker", "aiohttp_hello"),
        measures.cpu_per_request(Load(), HELLO_LENGTH),
        ("oxicorn", "gunicorn"),
        (than("gunicorn", 1.02),),
    ),
    Experiment(
        "websocket",
        "WebSocket echo of 64 bytes, 32 connections",
        "CPU us/message",
        asgi("asgi_echo"),
        measures.cpu_per_message(Messages()),
        ("oxicorn", *ASGI_PEERS),
        than_each(ASGI_PEERS, 0.75),
    ),
    Experiment(
        "websocket-idle",
        f"PSS of the process tree with {IDLE_WEBSOCKETS:,} idle WebSockets",
        "MiB",
        asgi("asgi_echo", connections=IDLE_WEBSOCKETS + 1000),
        measures.memory_of_idle_websockets(IDLE_WEBSOCKETS),
        ("oxicorn", *ASGI_PEERS),
        (than("uvicorn", 0.70),),
        most_rounds=3,
    ),
    *tls.EXPERIMENTS,
    *web_server.EXPERIMENTS,
)
