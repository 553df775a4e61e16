"""Hello, with paths that wait first: /sleep 10 ms as a quick query would, /long 4 s as a report would."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import hello

WAITS = {"/sleep": 0.010, "/long": 4.0}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if wait := WAITS.get(environ["PATH_INFO"]):
        time.sleep(wait)
    return hello.application(environ, start_response)
