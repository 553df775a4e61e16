"""aiohttp: fourteen bytes of text."""

from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=b"Hello, World!\n", content_type="text/plain")


application = web.Application()
application.router.add_get("/", hello)
