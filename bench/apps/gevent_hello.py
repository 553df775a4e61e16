"""Hello in a greenlet; /sleep lets others run for 10 ms, /redis asks a Redis (``BENCH_REDIS`` is its port)."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import hello
import redis

client = redis.Redis(port=int(os.environ.get("BENCH_REDIS", "6379")))

DEEDS: dict[str, Callable[[], object]] = {
    "/sleep": lambda: gevent.sleep(0.010),
    "/redis": lambda: client.get("key"),
}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if deed := DEEDS.get(environ["PATH_INFO"]):
        deed()
    return hello.application(environ, start_response)
