"""Quart, Litestar, BlackSheep, Falcon: routing, bodies, streams, WebSockets, start and end, as their users write it."""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.support.wait import wait_for

pytestmark = pytest.mark.uvicorn


def test_quart(serve, asgi):
    server = serve(
        """
        import asyncio
        from quart import Quart, jsonify, request, websocket

        application = Quart(__name__)
        done = []

        @application.before_serving
        async def start():
            done.append("started")

        @application.after_serving
        async def end():
            with open("ended", "w") as file:
                file.write(",".join(done))

        @application.get("/")
        async def hello():
            return "hello"

        @application.post("/json/<name>")
        async def answer(name):
            return jsonify(name=name, data=await request.get_json(), query=request.args.get("a"))

        @application.post("/form")
        async def form():
            files = await request.files
            return {"text": (await request.form)["text"], "size": len(files["file"].read())}

        @application.get("/stream")
        async def stream():
            async def generate():
                for number in range(3):
                    yield f"{number},"
                    await asyncio.sleep(0.01)
            return generate(), 200, {"X-Stream": "yes"}

        @application.post("/task")
        async def task():
            async def work():
                await asyncio.sleep(0.2)
                done.append("worked")
            application.add_background_task(work)
            return "begun"

        @application.get("/threaded")
        def threaded():
            import threading
            return str(threading.current_thread() is threading.main_thread())

        @application.websocket("/ws")
        async def ws():
            await websocket.send("welcome")
            while True:
                await websocket.send(await websocket.receive())
        """,
        *asgi,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        assert client.post("/json/w%C3%B6rld?a=%C3%A9", json=[1]).json() == {
            "name": "w\xf6rld",
            "data": [1],
            "query": "\xe9",
        }
        sent = client.post("/form", data={"text": "\xe9"}, files={"file": b"x" * 300_000}).json()
        assert sent == {"text": "\xe9", "size": 300_000}
        stream = client.get("/stream")
        assert (stream.text, stream.headers["x-stream"]) == ("0,1,2,", "yes")
        assert client.get("/threaded").text == "False"
        assert client.post("/task").text == "begun"
        assert client.get("/missing").status_code == 404
        assert client.put("/").status_code == 405
    with connect(f"ws://127.0.0.1:{server.port}/ws") as websocket:
        assert websocket.recv(timeout=10) == "welcome"
        for message in ("text", b"bytes"):
            websocket.send(message)
            assert websocket.recv(timeout=10) == message
    assert server.stop() == 0
    assert server.read("ended") == "started,worked", "background tasks are waited for"


def test_litestar(serve, asgi):
    server = serve(
        """
        import dataclasses
        from collections.abc import AsyncIterator
        from litestar import Litestar, Request, get, post, websocket_listener
        from litestar.background_tasks import BackgroundTask
        from litestar.exceptions import PermissionDeniedException
        from litestar.response import Response, ServerSentEvent, Stream

        done = []

        @dataclasses.dataclass
        class Item:
            name: str
            price: float = 1.5

        @get("/", sync_to_thread=False)
        def hello() -> str:
            return "hello"

        @post("/items/{shelf:int}")
        async def create(shelf: int, data: Item) -> dict[str, object]:
            return {"shelf": shelf, "name": data.name, "price": data.price}

        @post("/raw")
        async def raw(request: Request) -> dict[str, int]:
            return {"size": sum([len(part) async for part in request.stream()])}

        @get("/stream")
        async def stream() -> Stream:
            async def generate() -> AsyncIterator[bytes]:
                for number in range(3):
                    yield b"%d," % number
            return Stream(generate())

        @get("/events")
        async def sse() -> ServerSentEvent:
            async def generate() -> AsyncIterator[str]:
                for number in range(3):
                    yield str(number)
            return ServerSentEvent(generate())

        @get("/task")
        async def task() -> Response[str]:
            return Response("begun", background=BackgroundTask(done.append, "worked"))

        @get("/done", sync_to_thread=False)
        def what() -> list[str]:
            return done

        @get("/forbidden")
        async def forbidden() -> None:
            raise PermissionDeniedException("not you")

        @get("/threaded", sync_to_thread=True)
        def threaded() -> bool:
            import threading
            return threading.current_thread() is threading.main_thread()

        @websocket_listener("/ws")
        async def listener(data: dict[str, int]) -> dict[str, int]:
            return {"double": data["number"] * 2}

        async def started() -> None:
            done.append("started")

        application = Litestar(
            [hello, create, raw, stream, sse, task, what, forbidden, threaded, listener], on_startup=[started]
        )
        """,
        *asgi,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        created = client.post("/items/7", json={"name": "hat"})
        assert (created.status_code, created.json()) == (201, {"shelf": 7, "name": "hat", "price": 1.5})
        assert client.post("/items/7", json={"price": 1}).status_code == 400
        assert client.post("/raw", content=b"x" * 400_000).json() == {"size": 400_000}
        assert client.get("/stream").text == "0,1,2,"
        assert client.get("/events").text.count("data: ") == 3
        assert client.get("/task").text == "begun"
        wait_for(lambda: client.get("/done").json() == ["started", "worked"])
        assert client.get("/forbidden").json() == {"status_code": 403, "detail": "not you"}
        assert client.get("/threaded").json() is False
        assert client.get("/schema/openapi.json").status_code == 200
    with connect(f"ws://127.0.0.1:{server.port}/ws") as websocket:
        for number in range(10):
            websocket.send(json.dumps({"number": number}))
            assert json.loads(websocket.recv(timeout=10)) == {"double": number * 2}


def test_blacksheep(serve, asgi):
    server = serve(
        """
        import asyncio
        from blacksheep import Application, Content, Request, Response, WebSocket, WebSocketDisconnectError, json
        from blacksheep import FromJSON, StreamedContent

        application = Application()
        done = []

        @application.on_start
        async def start(app):
            done.append("started")

        @application.on_stop
        async def stop(app):
            with open("ended", "w") as file:
                file.write(",".join(done))

        @application.router.get("/")
        async def hello():
            return "hello"

        @application.router.post("/json/{name}")
        async def answer(name: str, data: FromJSON[dict], a: str = ""):
            return json({"name": name, "data": data.value, "query": a})

        @application.router.post("/raw")
        async def raw(request: Request):
            size = 0
            async for part in request.stream():
                size += len(part)
            return json({"size": size})

        @application.router.get("/stream")
        async def stream():
            async def generate():
                for number in range(3):
                    yield b"%d," % number
                    await asyncio.sleep(0.01)
            return Response(200, content=StreamedContent(b"text/plain", generate))

        @application.router.ws("/ws")
        async def ws(websocket: WebSocket):
            await websocket.accept()
            try:
                while True:
                    await websocket.send_text((await websocket.receive_text()).upper())
            except WebSocketDisconnectError as error:
                done.append(f"left {error.code}")
        """,
        *asgi,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        assert client.post("/json/one?a=b", json={"x": 1}).json() == {"name": "one", "data": {"x": 1}, "query": "b"}
        assert client.post("/json/one", content=b"{").status_code == 400
        assert client.post("/raw", content=b"x" * 400_000).json() == {"size": 400_000}
        assert client.get("/stream").text == "0,1,2,"
        assert client.get("/missing").status_code == 404
    with connect(f"ws://127.0.0.1:{server.port}/ws") as websocket:
        for message in ("a", "\u20ac x", "long " * 20_000):
            websocket.send(message)
            assert websocket.recv(timeout=10) == message.upper()
    assert server.stop() == 0
    assert server.read("ended") == "started,left 1000"


def test_falcon(serve, asgi):
    server = serve(
        """
        import asyncio
        import falcon
        import falcon.asgi

        done = []

        class Life:
            async def process_startup(self, scope, event):
                done.append("started")

            async def process_shutdown(self, scope, event):
                with open("ended", "w") as file:
                    file.write(",".join(done))

        class Hello:
            async def on_get(self, request, response):
                response.text = "hello"

        class Item:
            async def on_post(self, request, response, number):
                response.media = {"number": number, "data": await request.get_media(), "query": request.get_param("a")}
                response.status = falcon.HTTP_201

                async def later():
                    done.append("scheduled")

                response.schedule(later)

        class Raw:
            async def on_post(self, request, response):
                size = 0
                async for part in request.stream:
                    size += len(part)
                response.media = {"size": size}

        class Events:
            async def on_get(self, request, response):
                async def emitter():
                    for number in range(3):
                        yield falcon.asgi.SSEvent(text=str(number))
                        await asyncio.sleep(0.01)
                response.sse = emitter()

        class Stream:
            async def on_get(self, request, response):
                async def generate():
                    for number in range(3):
                        yield b"%d," % number
                response.stream = generate()

        class Echo:
            async def on_websocket(self, request, websocket):
                await websocket.accept()
                try:
                    while True:
                        text = await websocket.receive_text()
                        if text == "stop":
                            return await websocket.close(4002)
                        await websocket.send_text(text)
                except falcon.WebSocketDisconnected as error:
                    done.append(f"left {error.code}")

        application = falcon.asgi.App(middleware=[Life()])
        application.add_route("/", Hello())
        application.add_route("/items/{number:int}", Item())
        application.add_route("/raw", Raw())
        application.add_route("/events", Events())
        application.add_route("/stream", Stream())
        application.add_route("/ws", Echo())
        """,
        *asgi,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        created = client.post("/items/5?a=b", json=[1])
        assert (created.status_code, created.json()) == (201, {"number": 5, "data": [1], "query": "b"})
        assert client.post("/raw", content=b"x" * 400_000).json() == {"size": 400_000}
        assert client.get("/stream").text == "0,1,2,"
        assert client.get("/events").text.count("data: ") == 3
        assert client.get("/missing").status_code == 404
        assert client.head("/stream").status_code in (200, 405)
    address = f"ws://127.0.0.1:{server.port}/ws"
    with connect(address) as websocket:
        websocket.send("text")
        assert websocket.recv(timeout=10) == "text"
    with connect(address) as websocket:
        websocket.send("stop")
        with pytest.raises(ConnectionClosedError) as closed:
            websocket.recv(timeout=10)
        assert closed.value.rcvd.code == 4002
    assert server.stop() == 0
    assert server.read("ended") == "started,scheduled,left 1000"
