"""What is imported for the workers before they are forked: the standard library's part of what frameworks import."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.server import Kind, Servers

ASK = """
import sys
from types import SimpleNamespace as Some
sys.path[:0] = [".", "site-packages"]
from oxicorn.ahead import import_ahead
import_ahead({!r}, Some(chosen=Some(kind={!r})))
print(*(name in sys.modules for name in {!r}))
"""

#: Packages of others, none of which may be imported.
PACKAGES = ("bottle", "django", "falcon", "fastapi", "flask", "framework")
PACKAGES += ("gevent", "litestar", "pyramid", "quart", "starlette")

#: Files beside the application, the application's name, and what is there afterwards: what all import, asyncio.
SOURCES = {
    "nothing": ({"app.py": "import os\n\ndef app(environ, start_response): ...\n"}, "app:app", (False, False)),
    "a part of the library": ({"app.py": "from email.parser import Parser\n"}, "app:app", (True, False)),
    "another part of the library": ({"app.py": "import html\n"}, "app:app", (False, False)),
    "a part of the library of the user's own": (
        {"app.py": "import email.parser\n", "email/__init__.py": "", "email/parser.py": "raise RuntimeError\n"},
        "app:app",
        (False, False),
    ),
    "a package": ({"app.py": "from framework import App\n"}, "app:app", (True, False)),
    "a package with a loop": ({"app.py": "import starlette.applications\n"}, "app:app", (True, True)),
    "indented": ({"app.py": "def make():\n    import framework.core\n"}, "app:make()", (True, False)),
    "by a module of its own": ({"app.py": "import shop\n", "shop.py": "import framework\n"}, "app:app", (True, False)),
    "within a package of its own": (
        {
            "shop/__init__.py": "",
            "shop/wsgi.py": "from .web import app\n",
            "shop/web/__init__.py": "from ..base import app\n",
            "shop/base.py": "import framework\n",
        },
        "shop.wsgi",
        (True, False),
    ),
    "itself, in a circle": ({"app.py": "import shop\n", "shop.py": "import app\n"}, "app", (False, False)),
    "what patches the library": (
        {"app.py": "from gevent import monkey\nmonkey.patch_all()\nimport framework\n"},
        "app:app",
        (False, False),
    ),
    "what is not there": ({"app.py": "import absent\n"}, "app", (False, False)),
    "a server": ({"app.py": "import gunicorn.app.base\n"}, "app", (False, False)),
    "not there itself": ({}, "absent:app", (False, False)),
    "behind a module of the user's": (
        {"app.py": "import framework\n", "calendar.py": "raise RuntimeError\n"},
        "app",
        (False, False),
    ),
    "behind a module beside packages": (
        {"app.py": "import framework\n", "site-packages/secrets.py": "raise RuntimeError\n"},
        "app",
        (False, False),
    ),
}


#: What an application imports, and of the library then: what is there, what is not.
TABLE = [
    ("framework", "heapq http.cookies json queue unicodedata", "asyncio difflib pickle pkgutil urllib.request"),
    ("flask", "difflib gettext http.server importlib.metadata json pickle pkgutil", "asyncio urllib.request"),
    ("django.core.wsgi", "asyncio email.mime.text json logging.config", "http.server multiprocessing sqlite3 zoneinfo"),
    ("fastapi", "asyncio importlib.metadata json shlex", "difflib pickle zoneinfo"),
    ("falcon.asgi", "asyncio json xml.etree.ElementTree", "difflib pickle"),
    ("litestar", "asyncio importlib.metadata json logging.config", "difflib pdb"),
    ("pyramid.config", "gettext json pkgutil plistlib", "asyncio cgi"),
    ("quart", "asyncio difflib http.cookiejar json", "multiprocessing pdb"),
    ("bottle", "configparser json pickle", "asyncio difflib"),
    ("json", "json", "difflib email.parser heapq"),
    ("difflib", "difflib", "email.parser json"),
    ("asyncio", "asyncio", "email.parser json"),
    ("multiprocessing", "", "email.parser json multiprocessing"),
]


def asked(
    directory: Path,
    files: dict[str, str],
    uri: str,
    kind: str = "sync",
    source: str = ASK,
    about: tuple[str, ...] = ("email.parser", "asyncio"),
) -> tuple[bool, ...]:
    """Whether each of the modules ``about`` is there afterwards."""
    for package in PACKAGES:
        files |= {f"site-packages/{package}/__init__.py": "raise RuntimeError('it is imported')\n"}
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = [sys.executable, "-c", source.format(uri, kind, about)]
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    return tuple(word == "True" for word in run.stdout.split())


@pytest.mark.parametrize("name", SOURCES)
def test_is_imported_where_the_application_imports(tmp_path: Path, name: str) -> None:
    files, uri, expected = SOURCES[name]
    assert asked(tmp_path, dict(files), uri) == expected


@pytest.mark.parametrize(("name", "there", "absent"), TABLE)
def test_what_a_framework_imports_beside_what_all_do(tmp_path: Path, name: str, there: str, absent: str) -> None:
    about = (*there.split(), *absent.split())
    found = asked(tmp_path, {"app.py": f"import {name}\n"}, "app", about=about)
    assert dict(zip(about, found, strict=True)) == {
        **dict.fromkeys(there.split(), True),
        **dict.fromkeys(absent.split(), False),
    }


def test_an_interpreter_without_a_part_of_the_library_does_without(tmp_path: Path) -> None:
    source = ASK.replace("import sys\n", "import sys\nsys.modules['_ssl'] = sys.modules['_hashlib'] = None\n", 1)
    assert asked(tmp_path, {"app.py": "import framework\n"}, "app", source=source) == (True, False)


@pytest.mark.parametrize("kind", ["gevent", "gevent_pywsgi", "direct"])
def test_who_may_patch_the_library_has_it_as_it_was(tmp_path: Path, kind: str) -> None:
    assert asked(tmp_path, {"app.py": "import framework\n"}, "app", kind) == (False, False)


@pytest.mark.parametrize(
    ("source", "kind", "there"),
    [
        ("import framework\n", "gevent", True),
        ("import os\n", "direct", True),
        ("import gevent.monkey\n", "sync", True),
        ("import framework\n", "sync", True),
        ("import logging, socket\nimport socket\n", "sync", True),
        ("import os\n", "sync", False),
    ],
)
def test_what_nearly_all_workers_import_is_shared(tmp_path: Path, source: str, kind: str, there: bool) -> None:
    assert asked(tmp_path, {"app.py": source}, "app", kind, about=("logging", "socket")) == (there, there)


def test_what_nearly_all_workers_import_is_not_taken_from_the_user(tmp_path: Path) -> None:
    files = {"app.py": "import framework\n", "tokenize.py": "raise RuntimeError\n"}
    assert asked(tmp_path, files, "app", "gevent", about=("logging", "socket")) == (False, False)


def test_libraries_are_not_kept_mapped_by_who_only_loads_them(tmp_path: Path) -> None:
    source = """
import re, sys
from types import SimpleNamespace as Some
sys.path[:0] = [".", "site-packages"]
from oxicorn.ahead import import_ahead
import ssl, hashlib
def mapped():
    with open("/proc/self/smaps") as smaps:
        found = re.findall(r"/libcrypto.*?\\nRss: +(\\d+) kB", smaps.read(), re.DOTALL)
    return sum(map(int, found))
before = mapped()
import_ahead({!r}, Some(chosen=Some(kind={!r})))
after = mapped()
# What is wanted again comes again.
ssl.create_default_context()
print(before > 1000, after < before / 2, hashlib.sha256(b"").hexdigest()[:4] == "e3b0", {!r} is None)
"""
    found = asked(tmp_path, {"app.py": "import framework\n"}, "app", source=source)
    if not found[0]:
        pytest.skip("OpenSSL is not a library of its own here")
    assert found == (True, True, True, False)


@pytest.mark.parametrize(("workers", "shared"), [(1, "False"), (2, "True")])
def test_workers_have_it_from_the_arbiter(serve: Servers, kind: Kind, workers: int, shared: str) -> None:
    if kind.is_gunicorn:
        pytest.skip("it imports what it uses by itself")
    source = """
        import flask
        application = flask.Flask(__name__)
        application.get("/")(lambda: "hello")
    """
    config = """
        import sys
        def when_ready(server):
            server.log.info("before the workers: %s", "email.parser" in sys.modules)
        def post_fork(server, worker):
            server.log.info("there: %s, flask: %s", "email.parser" in sys.modules, "flask" in sys.modules)
    """
    server = serve(source, "--workers", str(workers), config=config)
    server.wait_for_log(f"before the workers: {shared}")
    server.wait_for_log(f"there: {shared}, flask: False", count=workers)
    assert server.get("/").body == b"hello"
