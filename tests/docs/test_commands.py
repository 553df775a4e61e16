"""The pages for newcomers: each command line in them is one the server takes, each message one it writes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.support.pages import DOCS, example, replaced

ROOT = DOCS.parent
PAGES = ("from-gunicorn", "from-uvicorn", "from-uwsgi", "choosing-workers", "troubleshooting")

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

app = application
"""
ASGI = """
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
def hello():
    return "hello"

def create_app():
    return app
"""
TORNADO = "import tornado.web\napplication = tornado.web.Application()\n"
FILES = {
    "app.py": WSGI,
    "asgi_app.py": ASGI.replace("app =", "application = app =", 1),
    "main.py": ASGI,
    "tornado_app.py": TORNADO,
}
COMMANDS = sorted(
    {command for page in PAGES for command in re.findall(r"`(oxicorn [^`]+)`", (DOCS / f"{page}.md").read_text())}
)


def files_for(command: str) -> dict[str, str]:
    """`app` speaks what the worker class of the command serves."""
    return {**FILES, "app.py": FILES["asgi_app.py"]} if "-k uvicorn" in command or "-k asgi" in command else FILES


def substituted(command: str) -> str:
    """What a reader has and this machine may not: its directory, its user."""
    places = {"GROUP": "logging", "/run/app.sock": "app.sock", "www-data": str(os.getuid())}
    for old, new in places.items():
        command = command.replace(old, new)
    return command


def write_certificate(directory: Path) -> None:
    """The files that commands about TLS name."""
    issued = trustme.CA().issue_cert("shop.example")
    (directory / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(directory / "key.pem")


@pytest.fixture(scope="module")
def checked(kind, tmp_path_factory) -> dict[str, tuple[int, str]]:
    """What became of each command with ``--check-config``; all at once, as in ``cli/test_wrong_usage.py``."""
    if kind.is_gunicorn:
        pytest.skip("the pages are oxicorn's")
    cases = []
    for command in COMMANDS:
        directory = tmp_path_factory.mktemp("command")
        (directory / "src").mkdir()
        for name, source in files_for(command).items():
            (directory / name).write_text(source)
            (directory / "src" / name).write_text(source)
        (directory / "gunicorn.conf.py").touch()
        if "cert.pem" in command:
            write_certificate(directory)
        words = shlex.split(substituted(command))[1:]
        if "--help" not in words:
            words.insert(0, "--check-config")
        cases.append({"directory": str(directory), "args": words, "env": {}})
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.usages"],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(directory)},
        text=True,
        check=True,
    )
    return dict(zip(COMMANDS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_server_takes_it(checked, command):
    code, text = checked[command]
    assert code == 0, text


@pytest.mark.parametrize("page", ["from-gunicorn", "from-uvicorn", "from-uwsgi"])
def test_the_first_command_serves(serve, page):
    server = serve.new()
    for name, source in FILES.items():
        server.write(name, source)
    command = replaced(example(f"{page}.md", "first"), {"127.0.0.1:8000": server.bind}).removeprefix("$ ")
    if page == "from-uwsgi":
        server.write("gunicorn.conf.py", example("from-uwsgi.md", "config"))
    words = [server.kind.executable, *shlex.split(command)[1:]]
    server.start(command=words, bind="", spec=None)
    assert "hello" in server.get().text


def messages() -> list[str]:
    """What the page on troubleshooting quotes from the log: its tables' texts that are more than one word."""
    rows = [line for line in (DOCS / "troubleshooting.md").read_text().splitlines() if line.startswith("| ")]
    cells = [cell for row in rows for cell in row.split("|")[1:3]]
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return sorted(
        {
            text
            for text in quoted
            if " " in text and "--bind" not in text and not text.startswith(("oxicorn", "kill", "-"))
        }
    )


@pytest.mark.parametrize("message", messages())
def test_the_log_says_it(message):
    # N stands for a number.
    parts = [part.strip() for part in re.split(r"\bN\b", message)]
    sources = [*(ROOT / "python").rglob("*.py"), *(ROOT / "crates").glob("*/src/**/*.rs")]
    texts = [path.read_text() for path in sources]
    for part in parts:
        assert any(part in text for text in texts), f"nobody writes {part!r}"


PLACES = re.compile(r"unix:[^ `]+|www-data")


@pytest.mark.parametrize("page", ["from-gunicorn", "from-uwsgi"])
def test_places_stay_what_they_were(page):
    """What is copied from the second column leads where the first led."""
    rows = [line.split("|")[1:3] for line in (DOCS / f"{page}.md").read_text().splitlines() if line.startswith("| `")]
    for old, new in rows:
        for place in PLACES.findall(new):
            assert place.removeprefix("unix:") in old, new


def test_pages_are_there():
    assert len(COMMANDS) > 40
    assert all(Path(DOCS / f"{page}.md").exists() for page in PAGES)
