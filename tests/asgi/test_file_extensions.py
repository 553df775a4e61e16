"""Files by name or descriptor are offered where they are asked for; middleware that collects bodies sees all others."""

from __future__ import annotations

import gzip

import pytest

from tests.support.server import Servers

pytestmark = pytest.mark.usefixtures("only_oxicorn")

SOURCE = """
    import pathlib

    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.responses import FileResponse, JSONResponse
    from starlette.routing import Mount, Route

    pathlib.Path("page.txt").write_text("x" * 5000)

    async def page(request):
        return FileResponse("page.txt")

    async def offered(request):
        return JSONResponse(sorted(request.scope["extensions"]))

    async def unasked(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(pathlib.Path("page.txt").resolve())})

    application = Starlette(
        routes=[Route("/", page), Route("/page", page), Route("/offered", offered), Mount("/unasked", unasked)],
        middleware=[Middleware(GZipMiddleware)],
    )
"""

FILES = {"http.response.pathsend", "http.response.zerocopysend"}


def offered(server):
    return set(server.get("/offered").text.strip('[]"').split('","'))


def test_unasked_middleware_compresses_files(serve_module: Servers) -> None:
    server = serve_module(SOURCE, "-k", "asgi")
    answer = server.get("/page", [("Accept-Encoding", "gzip")])
    assert answer.header("content-encoding") == "gzip"
    assert len(answer.body) < 100
    assert gzip.decompress(answer.body) == b"x" * 5000
    assert not FILES & offered(server)
    # An application that does not look at what is offered is told, instead of being served here and nowhere else.
    with server.connect() as peer:
        assert peer.get("/unasked/").status == 500
    server.wait_for_log("http.response.pathsend is not offered: see setting asgi_file_extensions")


@pytest.mark.parametrize(("flags", "expected"), [((), FILES), (("--no-sendfile",), set())])
def test_asked_for(serve: Servers, flags: tuple[str, ...], expected: set[str]) -> None:
    server = serve(SOURCE, "-k", "asgi", "--asgi-file-extensions", *flags)
    assert FILES & offered(server) == expected
    assert server.get("/page").body == b"x" * 5000
