"""What applications rely on in their event loop: asyncio, anyio, sniffio, a client inside; old command lines."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.support.wait import wait_for

everywhere = pytest.mark.uvicorn

SOURCE = """
    import asyncio, contextvars, json

    import aiohttp, anyio, anyio.to_thread, sniffio

    variable = contextvars.ContextVar("variable", default="untouched")
    state = {"order": [], "session": None}

    async def asyncio_tools(scope):
        task = asyncio.current_task()
        found = {"task": isinstance(task, asyncio.Task), "among all": task in asyncio.all_tasks()}
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(10)
        except TimeoutError:
            found["timeout"] = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10))
                raise ValueError
        except* ValueError:
            found["group"] = True
        found["not cancelled"] = task.cancelling() == 0
        queue = asyncio.Queue()
        asyncio.get_running_loop().call_later(0.01, queue.put_nowait, "late")
        found["queue"] = await queue.get()
        found["thread"] = await asyncio.to_thread(lambda: variable.get())
        process = await asyncio.create_subprocess_exec("echo", "out", stdout=asyncio.subprocess.PIPE)
        found["subprocess"] = (await process.communicate())[0].decode().strip()
        task.set_name("renamed")
        found["name"] = asyncio.current_task().get_name()
        return found

    async def anyio_tools(scope):
        found = {"library": sniffio.current_async_library()}
        with anyio.move_on_after(0.02) as cancelled:
            await anyio.sleep(10)
        found["cancelled"] = cancelled.cancelled_caught
        try:
            with anyio.fail_after(0.02):
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep, 10)
        except TimeoutError:
            found["failed after"] = True
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0)
        send, receive = anyio.create_memory_object_stream(5)
        async with anyio.create_task_group() as group, send, receive:
            group.start_soon(send.send, "item")
            found["stream"] = await receive.receive()
        found["thread"] = await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep, 0) is None)
        found["info"] = anyio.get_current_task().name is not None
        return found

    async def context(scope):
        before = variable.get()
        variable.set(scope["query_string"].decode())
        await asyncio.sleep(0.05)

        async def child():
            return variable.get()

        return {"before": before, "after": variable.get(), "child": await asyncio.create_task(child())}

    async def outbound(scope):
        if state["session"] is None:
            state["session"] = aiohttp.ClientSession()
        port = scope["server"][1]
        addresses = [f"http://127.0.0.1:{port}/context?{number}" for number in range(5)]

        async def ask(address):
            async with state["session"].get(address) as answer:
                return (await answer.json())["after"]

        return await asyncio.gather(*map(ask, addresses))

    async def detached(scope):
        async def work():
            await asyncio.sleep(0.1)
            state["order"].append("worked")
        state["task"] = asyncio.create_task(work())
        return "begun"

    async def order(scope):
        return state["order"]

    async def debug(scope):
        loop = asyncio.get_running_loop()
        return {"running": loop.is_running(), "same": asyncio.get_event_loop() is loop, "kind": type(loop).__module__}

    async def lifespan(receive, send):
        variable.set("lifespan")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if state["session"] is not None:
            await state["session"].close()
        await send({"type": "lifespan.shutdown.complete"})

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        found = globals().get(scope["path"].strip("/"), order)
        body = json.dumps(await found(scope)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def server(serve, asgi):
    return serve(SOURCE, *asgi)


def ask(server, target):
    answer = server.get(target)
    assert answer.status == 200, server.log
    return json.loads(answer.body)


@everywhere
def test_asyncio_tools(server):
    assert ask(server, "/asyncio_tools") == {
        "task": True,
        "among all": True,
        "timeout": True,
        "group": True,
        "not cancelled": True,
        "queue": "late",
        "thread": "untouched",
        "subprocess": "out",
        "name": "renamed",
    }


@everywhere
def test_anyio_tools(server):
    assert ask(server, "/anyio_tools") == {
        "library": "asyncio",
        "cancelled": True,
        "failed after": True,
        "stream": "item",
        "thread": True,
        "info": True,
    }


@everywhere
def test_context_belongs_to_its_request(server):
    """Also of requests that are served side by side, and after each other on one connection."""

    async def many():
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

            async def one(number):
                async with session.get(f"/context?{number}") as answer:
                    return await answer.json()

            return await asyncio.gather(*map(one, range(50)))

    expected = [{"before": "untouched", "after": str(number), "child": str(number)} for number in range(50)]
    assert asyncio.run(many()) == expected
    with server.connect() as peer:
        for number in range(3):
            assert json.loads(peer.get(f"/context?{number}").body)["before"] == "untouched"


@everywhere
def test_client_inside_the_application(server):
    """aiohttp's client, one session for all requests, asking the very worker that waits for it."""
    for _ in range(3):
        assert ask(server, "/outbound") == ["0", "1", "2", "3", "4"]
    assert server.stop() == 0
    assert "Unclosed" not in server.log


@everywhere
def test_task_outlives_its_request(server):
    assert ask(server, "/detached") == "begun"
    wait_for(lambda: ask(server, "/order") == ["worked"])


def test_loop_is_the_chosen_one(server, loop):
    found = ask(server, "/debug")
    assert found["running"] is found["same"] is True
    assert found["kind"].startswith(loop)


@pytest.mark.parametrize(
    "name",
    [
        "uvicorn.workers.UvicornWorker",
        "uvicorn.workers.UvicornH11Worker",
        "uvicorn_worker.UvicornWorker",
        "uvicorn_worker.UvicornH11Worker",
    ],
)
def test_old_command_line(serve, name):
    """What stood behind `gunicorn` goes on behind `oxicorn`, with one line that says who serves."""
    server = serve(SOURCE, "-k", name, "-w", "2", "--timeout", "30", "--keep-alive", "5")
    assert ask(server, "/asyncio_tools")["task"] is True
    lines = [line for line in server.log.splitlines() if name in line and "[INFO]" in line and "asgi" in line]
    assert len(lines) == 1, server.log


def test_old_config_file(serve):
    server = serve(SOURCE, config='worker_class = "uvicorn.workers.UvicornWorker"\nworkers = 1\n')
    assert ask(server, "/anyio_tools")["library"] == "asyncio"
