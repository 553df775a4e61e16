"""The applications of examples/ work as their README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
