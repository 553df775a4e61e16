"""About 110 microseconds of pure Python per request, holding the interpreter.

The number of turns comes from the runner, which calibrates it once, so that every server does the same work.
"""

import os
import sys
import timeit
from collections.abc import Callable, Iterable
from typing import Any

import hello

TURNS = int(os.environ.get("BENCH_TURNS", "2000"))


def spin(turns: int) -> int:
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    spin(TURNS)
    return hello.application(environ, start_response)


def turns_for(seconds: float) -> int:
    """How many turns take so long on this machine; the best of several tries, the others were disturbed."""
    tried = 20_000
    best = min(timeit.repeat(lambda: spin(tried), repeat=25, number=1))
    return round(tried * seconds / best)


if __name__ == "__main__":
    print(turns_for(float(sys.argv[1])))
