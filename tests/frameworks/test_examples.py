"""The applications of examples/ work as their README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.http import encode
from tests.support.wait import wait_for

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FORM = [("Content-Type", "application/x-www-form-urlencoded")]


@pytest.mark.parametrize("spec", ["app", "app:application", "app:app"])
def test_hello(serve, worker, spec):
    server = serve(None, "--chdir", str(EXAMPLES / "hello"), *worker, spec=spec)
    assert server.get().body == b"Hello, World!\n"


def test_flask(serve, worker):
    new = serve.new()
    server = new.start(
        "--chdir",
        str(EXAMPLES / "flask"),
        *worker,
        spec="shop:create_app()",
        env={"SHOP_DATABASE": str(new.directory / "shop.db")},
    )
    with server.connect() as peer:
        assert b"nothing yet" in peer.get().body
    for number in range(10):
        answer = server.request("POST", "/items", FORM, f"name=hat%20{number}&price={number}".encode())
        assert (answer.status, answer.header("location")) == (303, "/")
    assert server.request("POST", "/items", FORM, b"name=&price=x").status == 400
    items = json.loads(server.get("/api/items").body)
    assert [(item["name"], item["price"]) for item in items] == [(f"hat {n}", n) for n in range(10)]
    assert b"<li>hat 3: 3</li>" in server.get().body
    export = server.get("/items.csv")
    assert export.text.splitlines()[1] == "1,hat 0,0"
    assert export.framing == "chunked"
    assert server.get("/missing").status == 404
    assert server.request("DELETE", "/items").status == 405


def test_flask_upload_and_download(serve, worker):
    new = serve.new()
    server = new.start(
        "--chdir",
        str(EXAMPLES / "flask"),
        *worker,
        spec="shop:create_app()",
        env={"SHOP_DATABASE": str(new.directory / "shop.db")},
    )
    content = bytes(range(256)) * 10_000
    disposition = b'Content-Disposition: form-data; name="file"; filename="data.bin"'
    body = b"--cut\r\n" + disposition + b"\r\n\r\n" + content + b"\r\n--cut--\r\n"
    answer = server.request("POST", "/measure", [("Content-Type", "multipart/form-data; boundary=cut")], body)
    assert json.loads(answer.body) == {"name": "data.bin", "size": len(content)}
    source = (EXAMPLES / "flask" / "shop.py").read_bytes()
    whole = server.get("/source")
    assert whole.body == source
    assert server.get("/source", [("If-None-Match", whole.header("etag"))]).status == 304
    part = server.get("/source", [("Range", "bytes=10-19")])
    assert (part.status, part.body) == (206, source[10:20])


def test_django(serve, worker):
    new = serve.new()
    env = {"GUESTBOOK_DATABASE": str(new.directory / "guestbook.db")}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=EXAMPLES / "django",
        env=new.environment(env),
        check=True,
        timeout=30,
    )
    host = ("Host", "127.0.0.1")
    server = new.start("--chdir", str(EXAMPLES / "django"), *worker, spec="guestbook.wsgi", env=env)
    page = server.get("/", [host])
    assert b"Nobody was here yet." in page.body
    token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    cookie = page.header("set-cookie").partition(";")[0]
    body = f"csrfmiddlewaretoken={token}&name=Ann&text=Hello%20there".encode()
    assert server.request("POST", "/", [host, *FORM], body).status == 403, "no cookie, no entry"
    answer = server.request("POST", "/", [host, *FORM, ("Cookie", cookie)], body)
    assert (answer.status, answer.header("location")) == (302, "/")
    assert json.loads(server.get("/api/entries/", [host]).body) == {"entries": [{"name": "Ann", "text": "Hello there"}]}
    assert server.get("/", [("Host", "evil.example")]).status == 400


def test_fastapi(serve):
    new = serve.new()
    env = {"BOARD_DATABASE": str(new.directory / "board.db")}
    options = ["--chdir", str(EXAMPLES / "fastapi"), "--config", str(EXAMPLES / "fastapi" / "gunicorn.conf.py")]
    server = new.start(*options, spec="board:application", env=env)
    note = {"author": "Ann", "text": "Hello"}
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client,
        server.connect() as listener,
        connect(f"ws://127.0.0.1:{server.port}/live") as one,
        connect(f"ws://127.0.0.1:{server.port}/live") as two,
    ):
        listener.send(encode(target="/events"))
        assert listener.head().header("content-type") == "text/event-stream; charset=utf-8"
        wait_for(lambda: client.get("/readers").json() == 3)
        assert client.post("/", json={"author": "", "text": "x"}).status_code == 422
        assert client.post("/", json=note).json() == note
        assert [json.loads(reader.recv(timeout=10)) for reader in (one, two)] == [note, note]
        one.send(json.dumps({"author": "Bob", "text": "Hi"}))
        assert [json.loads(reader.recv(timeout=10))["author"] for reader in (one, two)] == ["Bob", "Bob"]
        heard = b""
        while heard.count(b"data: ") < 2:
            heard += listener.receive(1000)
        assert [found["author"] for found in client.get("/").json()] == ["Ann", "Bob"]
        assert client.get("/notes/2").json()["text"] == "Hi"
        assert client.get("/notes/3").status_code == 404
        assert client.get("/docs").status_code == 200
        listener.close()
        wait_for(lambda: client.get("/readers").json() == 2)
    wait_for(lambda: json.loads(server.get("/readers").body) == 0)
    assert server.stop() == 0
