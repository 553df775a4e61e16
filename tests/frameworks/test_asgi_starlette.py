"""FastAPI and Starlette, driven by httpx and websockets as their users' clients do."""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from tests.support.http import encode
from tests.support.wait import wait_for

pytestmark = pytest.mark.uvicorn

FASTAPI = """
    import asyncio, contextlib
    from typing import Annotated

    from fastapi import BackgroundTasks, Depends, FastAPI, File, Header, HTTPException, Request, UploadFile
    from fastapi import WebSocket, WebSocketDisconnect
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.middleware.gzip import GZipMiddleware
    from fastapi.responses import StreamingResponse
    from pydantic import BaseModel

    done = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield {"pool": ["connection"]}
        with open("shut-down", "w") as file:
            file.write(",".join(done))

    application = FastAPI(lifespan=lifespan)
    application.add_middleware(GZipMiddleware, minimum_size=1000)
    application.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])

    class Item(BaseModel):
        name: str
        price: float = 1.5

    async def session():
        done.append("opened")
        try:
            yield "session"
        finally:
            done.append("closed")

    @application.get("/")
    async def hello():
        return {"message": "Hello"}

    @application.get("/items/{number}")
    async def item(number: int, q: str | None = None, agent: Annotated[str | None, Header(alias="user-agent")] = None):
        if number > 100:
            raise HTTPException(404, "no such item")
        return {"number": number, "q": q, "agent": agent}

    @application.post("/items", status_code=201)
    async def create(item: Item, opened: Annotated[str, Depends(session)]):
        return {"name": item.name, "price": item.price, "session": opened}

    @application.get("/threaded")
    def threaded():
        import threading
        return threading.current_thread() is not threading.main_thread()

    @application.get("/state")
    async def state(request: Request):
        request.state.pool.append("used")
        return request.state.pool

    @application.get("/done")
    async def what():
        return done

    @application.post("/later")
    async def later(background: BackgroundTasks):
        async def work():
            await asyncio.sleep(0.3)
            done.append("worked")
        background.add_task(work)
        return "at once"

    @application.post("/upload")
    async def upload(file: Annotated[UploadFile, File()]):
        return {"name": file.filename, "size": len(await file.read())}

    @application.get("/stream")
    async def stream():
        async def numbers():
            for number in range(5):
                yield f"{number}\\n"
                await asyncio.sleep(0)
        return StreamingResponse(numbers(), media_type="text/plain")

    @application.get("/large")
    async def large():
        return "x" * 100_000

    @application.get("/fails")
    async def fails():
        raise RuntimeError("as told")

    @application.websocket("/ws/{room}")
    async def chat(websocket: WebSocket, room: str):
        if room == "closed":
            return await websocket.close(code=4003, reason="not here")
        if room == "denied":
            raise HTTPException(418, "a teapot")
        await websocket.accept()
        try:
            while True:
                data = await websocket.receive_json()
                await websocket.send_json({"room": room, "data": data})
        except WebSocketDisconnect as error:
            done.append(f"left {room} {error.code}")
"""


@pytest.fixture
def fastapi(serve, asgi):
    return serve(FASTAPI, *asgi, "--workers", "1")


@pytest.fixture
def client(fastapi):
    with httpx.Client(base_url=f"http://127.0.0.1:{fastapi.port}") as client:
        yield client


def test_fastapi_requests(fastapi, client):
    assert client.get("/").json() == {"message": "Hello"}
    assert client.get("/items/5?q=%C3%A9", headers={"User-Agent": "test"}).json() == {
        "number": 5,
        "q": "\xe9",
        "agent": "test",
    }
    assert client.get("/items/x").status_code == 422
    assert client.get("/items/101").json() == {"detail": "no such item"}
    created = client.post("/items", json={"name": "hat"})
    assert (created.status_code, created.json()) == (201, {"name": "hat", "price": 1.5, "session": "session"})
    assert client.get("/done").json()[:2] == ["opened", "closed"]
    assert client.get("/threaded").json() is True
    assert client.get("/state").json() == ["connection", "used"]
    assert client.get("/state").json() == ["connection", "used", "used"]
    assert client.get("/openapi.json").json()["info"]["title"] == "FastAPI"
    assert client.get("/docs").status_code == 200
    assert client.get("/missing").status_code == 404
    assert client.request("DELETE", "/items").status_code == 405
    assert client.head("/").status_code == 405
    fastapi.stop()
    assert fastapi.read("shut-down") == "opened,closed"


def test_fastapi_bodies_and_middleware(fastapi, client):
    content = bytes(range(256)) * 8000
    assert client.post("/upload", files={"file": ("data.bin", content)}).json() == {
        "name": "data.bin",
        "size": len(content),
    }
    assert client.get("/stream").text == "0\n1\n2\n3\n4\n"
    large = client.get("/large", headers={"Accept-Encoding": "gzip", "Origin": "https://shop.example"})
    assert large.json() == "x" * 100_000
    assert large.headers["content-encoding"] == "gzip"
    assert large.headers["access-control-allow-origin"] == "https://shop.example"
    assert client.get("/fails").status_code == 500
    fastapi.wait_for_log("RuntimeError: as told")
    assert client.get("/").status_code == 200


def test_fastapi_background_task_blocks_nobody(fastapi):
    """The answer, and the connection, are free while it works."""
    with fastapi.connect() as peer:
        assert json.loads(peer.request("POST", "/later").body) == "at once"
        assert json.loads(peer.get("/done").body) == []
        wait_for(lambda: json.loads(peer.get("/done").body) == ["worked"])


def test_fastapi_websocket(fastapi, client):
    address = f"ws://127.0.0.1:{fastapi.port}/ws"
    with connect(f"{address}/lobby") as websocket:
        for data in [1, "text", {"a": ["\u20ac"]}, "x" * 100_000]:
            websocket.send(json.dumps(data))
            assert json.loads(websocket.recv(timeout=10)) == {"room": "lobby", "data": data}
    wait_for(lambda: "left lobby 1000" in client.get("/done").json())
    for room, status in [("closed", 403), ("denied", 418)]:
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{address}/{room}")
        assert refused.value.response.status_code == status
    with connect(f"{address}/lobby") as websocket:
        websocket.send("no json")
        with pytest.raises(ConnectionClosedError):
            websocket.recv(timeout=10)
    fastapi.wait_for_log("JSONDecodeError")


STARLETTE = """
    import asyncio, contextlib, os

    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.sessions import SessionMiddleware
    from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles

    events = []

    class Timing(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            response = await call_next(request)
            response.headers["x-seen"] = request.url.path
            return response

    async def hello(request):
        return PlainTextResponse("hello")

    async def seen(request):
        return JSONResponse(events)

    async def body(request):
        size = 0
        async for part in request.stream():
            size += len(part)
        return JSONResponse({"size": size, "client": request.client.host, "url": str(request.url)})

    async def file(request):
        return FileResponse("data.bin", filename="data.bin")

    async def ticks(request):
        async def generate():
            try:
                number = 0
                while True:
                    yield f"data: {number}\\n\\n"
                    number += 1
                    await asyncio.sleep(0.01)
            finally:
                events.append("generator ended")
        return StreamingResponse(generate(), media_type="text/event-stream")

    async def watches(request):
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        events.append("saw the disconnect")
        return PlainTextResponse("nobody")

    async def task(request):
        async def work():
            await asyncio.sleep(0.2)
            events.append("task done")
        return PlainTextResponse("answered", background=BackgroundTask(work))

    async def count(request):
        request.session["count"] = request.session.get("count", 0) + 1
        return JSONResponse(request.session["count"])

    class Echo(WebSocketEndpoint):
        encoding = "bytes"

        async def on_connect(self, websocket):
            await websocket.accept(subprotocol="echo", headers=[(b"x-room", b"one")])

        async def on_receive(self, websocket, data):
            if data == b"stop":
                return await websocket.close(4001, "as asked")
            await websocket.send_bytes(data)

        async def on_disconnect(self, websocket, code):
            events.append(f"websocket {code}")

    os.makedirs("static", exist_ok=True)
    with open("static/page.txt", "w") as page:
        page.write("a page")

    routes = [
        Route("/", hello), Route("/seen", seen), Route("/body", body, methods=["POST"]), Route("/file", file),
        Route("/ticks", ticks), Route("/watches", watches), Route("/task", task), Route("/count", count),
        WebSocketRoute("/echo", Echo), Mount("/static", StaticFiles(directory="static")),
    ]
    middleware = [Middleware(SessionMiddleware, secret_key="secret"), Middleware(Timing)]
    application = Starlette(routes=[Mount("/inside", Starlette(routes=routes, middleware=middleware)), *routes])
"""


@pytest.fixture
def starlette(serve, asgi):
    return serve(STARLETTE, *asgi)


def events(server):
    return json.loads(server.get("/seen").body)


def test_starlette_requests(starlette):
    with httpx.Client(base_url=f"http://127.0.0.1:{starlette.port}") as client:
        answer = client.get("/inside/")
        assert (answer.text, answer.headers["x-seen"]) == ("hello", "/inside/")
        sent = client.post("/body?a=b", content=(b"x" * 1000 for _ in range(500))).json()
        assert sent == {"size": 500_000, "client": "127.0.0.1", "url": f"http://127.0.0.1:{starlette.port}/body?a=b"}
        assert [client.get("/inside/count").json() for _ in range(3)] == [1, 2, 3]
        assert client.get("/static/page.txt").text == "a page"
        assert client.head("/static/page.txt").headers["content-length"] == "6"
        etag = client.get("/static/page.txt").headers["etag"]
        assert client.get("/static/page.txt", headers={"If-None-Match": etag}).status_code == 304
        assert client.get("/static/../app.py").status_code == 404


def test_starlette_files(starlette):
    content = bytes(range(256)) * 20_000
    (starlette.directory / "data.bin").write_bytes(content)
    whole = starlette.get("/file")
    assert whole.body == content
    assert whole.header("content-length") == str(len(content))
    part = starlette.get("/file", [("Range", "bytes=1000-300999")])
    assert (part.status, part.body) == (206, content[1000:301_000])
    parts = starlette.get("/file", [("Range", "bytes=0-9,100-109")])
    assert parts.status == 206
    assert content[100:110] in parts.body
    assert starlette.request("HEAD", "/file").header("content-length") == str(len(content))


@pytest.mark.parametrize("prefix", ["", "/inside"], ids=["plain", "in_middleware"])
def test_starlette_stream_ends_when_its_client_leaves(starlette, prefix):
    with starlette.connect() as peer:
        peer.send(encode(target=f"{prefix}/ticks"))
        assert peer.head().status == 200
        received = b""
        while b"data: 3\n\n" not in received:
            received += peer.receive(1000)
    wait_for(lambda: "generator ended" in events(starlette), what=lambda: starlette.log)


def test_starlette_asks_whether_its_client_left(starlette):
    """It gives receive no time to wait: what has happened must be told at once."""
    with starlette.connect() as peer:
        peer.send(encode(target="/watches"))
    wait_for(lambda: "saw the disconnect" in events(starlette), what=lambda: starlette.log)


def test_starlette_background_task(starlette):
    with starlette.connect() as peer:
        assert peer.get("/task").text == "answered"
    wait_for(lambda: "task done" in events(starlette))


def test_starlette_websocket(starlette):
    address = f"ws://127.0.0.1:{starlette.port}/echo"
    with connect(address, subprotocols=["other", "echo"]) as websocket:
        assert websocket.subprotocol == "echo"
        assert websocket.response.headers["x-room"] == "one"
        for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000):
            websocket.send(b"x" * size)
            assert len(websocket.recv(timeout=10)) == size
        websocket.send([b"in ", b"three ", b"fragments"])
        assert websocket.recv(timeout=10) == b"in three fragments"
        assert websocket.ping().wait(10)
    with connect(address, subprotocols=["echo"]) as websocket:
        websocket.send(b"stop")
        with pytest.raises(ConnectionClosedError) as closed:
            websocket.recv(timeout=10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as asked")
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{starlette.port}/nowhere")
    wait_for(lambda: "websocket 1000" in events(starlette))


def test_starlette_websocket_of_a_server_that_stops(starlette):
    with connect(f"ws://127.0.0.1:{starlette.port}/echo", subprotocols=["echo"]) as websocket:
        websocket.send(b"x")
        assert websocket.recv(timeout=10) == b"x"
        starlette.kill(15)
        with pytest.raises((ConnectionClosedError, ConnectionClosedOK)) as closed:
            websocket.recv(timeout=20)
        assert closed.value.rcvd.code == 1012
    assert starlette.wait_for_exit() == 0
