"""What ASGI applications of bench/apps cost without any server: python bench/in_process.py [MODULE ...]

Each request is a call of the application in a task of its own on uvloop, whose `receive` and `send` do nothing. No server
can take less CPU time than this and its system calls. Prints the median of the rounds, microseconds.
"""

import asyncio
import importlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
# The applications and what they import, as the servers get them.
sys.path[:0] = [str(BENCH / "apps"), str(BENCH / ".venv-peers" / "async")]

import uvloop  # noqa: E402

CALLS = 20_000
ROUNDS = 5
APPLICATIONS = ("asgi_hello", "fastapi_json")

Application = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Any]


def scope() -> dict[str, Any]:
    """As much as servers give at least."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000")],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_event: dict[str, Any]) -> None:
    pass


async def microseconds_per_call(application: Application) -> float:
    loop = asyncio.get_running_loop()
    begun = time.process_time()
    for _ in range(CALLS):
        await loop.create_task(application(scope(), receive, send))
    return (time.process_time() - begun) / CALLS * 1e6


async def main() -> None:
    for name in sys.argv[1:] or APPLICATIONS:
        application = importlib.import_module(name).application
        rounds = [await microseconds_per_call(application) for _ in range(ROUNDS)]
        print(f"{name:16} {statistics.median(rounds):6.1f} us  ({min(rounds):.1f} .. {max(rounds):.1f})")


if __name__ == "__main__":
    uvloop.run(main())
