"""The package setproctitle in an application: its titles are seen, and the environment stays."""

from __future__ import annotations

from pathlib import Path

import pytest

APPLICATION = """
    import os
    import setproctitle

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/set":
            setproctitle.setproctitle("working on " + environ["QUERY_STRING"])
        start_response("200 OK", [("X-Pid", str(os.getpid()))])
        return [os.environ["KEPT"].encode()]
"""


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def test_titles_of_the_application_are_seen(serve, kind):
    pytest.importorskip("setproctitle")
    server = serve(APPLICATION, "--name", "shop", env={"KEPT": "as it was"})
    pid = int(server.get("/").header("x-pid"))
    assert title(pid) == kind.title("worker", "shop")
    for text in ("x", "y" * 100, "z"):
        assert server.get(f"/set?{text}").text == "as it was"
        assert title(pid) == f"working on {text}"
    assert title(server.pid) == kind.title("master", "shop")
