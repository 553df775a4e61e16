"""One server with short deadlines for the attacks that end by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import Kind, Server, Servers

#: Seconds after which everything that is too slow is given up. The default is 30 for each.
DEADLINE = 2
#: All that is held for clients.
BUFFERS = 16 << 20

CONFIG = f"""
header_timeout = body_timeout = write_timeout = {DEADLINE}
keepalive = {DEADLINE}
body_min_rate = 1000
write_min_rate = 1000
buffer_limit = {BUFFERS}
limit_request_body = 32 * 1024
forwarded_allow_ips = ""
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """How promptly a normal client is served says something only where nobody else keeps the machine busy."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("alone")


@pytest.fixture(autouse=True)
def oxicorn_only(kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn leaves this to the proxy in front of it")


@pytest.fixture(scope="module")
def server(serve_module: Servers) -> Server:
    """Four threads, so that the application is not what is short."""
    return serve_module(
        None, "--worker-class", "gthread", "--threads", "4", spec="matrix", config=CONFIG, access_log=True
    )
