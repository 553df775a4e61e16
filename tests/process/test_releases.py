"""docs/releases.md: releases behind a link, an exchanged environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import oxicorn
from tests.support.pages import example
from tests.support.wait import wait_for

SHOP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{release}']\n"


@pytest.fixture
def shop(serve):
    """A server that is not started, with two releases in its directory and the link to the first."""
    server = serve.new()
    for release in ("41", "42"):
        directory = server.directory / "releases" / release
        directory.mkdir(parents=True)
        (directory / "shop.py").write_text(SHOP.format(release=release))
    (server.directory / "current").symlink_to("releases/41")
    return server


def words(server, name, **places: object):
    """Arguments of the page's command line, in the directory and on the address of the test."""
    places = {"/srv/shop": server.directory, "/run/shop.pid": server.directory / "pid", **places}
    return example("releases.md", name, **places).removeprefix("$ ").split()


def run(server, name, without=()):
    """The page's commands, as a shell runs them."""
    script = example("releases.md", name).replace("/srv/shop", str(server.directory))
    lines = [line.removeprefix("$ ") for line in script.splitlines()]
    script = "\n".join(line for line in lines if not any(word in line for word in without))
    script = script.replace("/run/shop.pid", str(server.directory / "pid"))
    subprocess.run(["sh", "-ec", script], check=True, timeout=30)


def is_release(server, name):
    return lambda: server.get().body == name.encode()


def test_hup_follows_the_link(shop):
    command = words(shop, "start", **{"127.0.0.1:8000": shop.bind})
    shop.start(command=[shop.kind.executable, *command[1:]], bind="", spec=None, ready=None)
    shop.bind = command[command.index("--bind") + 1]
    shop.wait_until_ready()
    assert is_release(shop, "41")()
    run(shop, "switch")
    wait_for(is_release(shop, "42"), what=lambda: f"the new release:\n{shop.log}")


@pytest.mark.parametrize(("without", "expected"), [("", "42"), ("env -u PWD ", "41")])
def test_a_directory_of_the_shell_is_followed_if_it_says_so(shop, without, expected):
    pid = f"--pid {shop.directory}/pid"
    script = f"cd current; exec {without}{shop.kind.executable} --bind {shop.bind} {pid} shop:application"
    shop.start(command=["sh", "-ec", script], bind="", spec=None)
    assert is_release(shop, "41")()
    old = shop.worker_pids()
    run(shop, "switch")
    shop.wait_for_workers(1, without=old)
    assert is_release(shop, expected)()


def test_usr2_runs_the_new_environment(shop):
    for release in ("41", "42"):
        make_environment(shop.directory / "releases" / release / ".venv", release)
    current = shop.directory / "current"
    shop.start(
        *("--chdir", str(current), "--pid", str(shop.directory / "pid")),
        command=[str(current / ".venv/bin/python"), "-m", "oxicorn"],
        spec="packaged:application",
    )
    assert is_release(shop, "41")()
    run(shop, "switch", without=["kill"])
    run(shop, "exchange", without=["TERM"])
    wait_for(lambda: shop.read("pid.2"), what=lambda: f"a second server:\n{shop.log}")
    shop.wait_for_log("Booting worker", count=2)
    run(shop, "exchange", without=["USR2"])
    assert shop.wait_for_exit() == 0
    shop.follow("pid")
    wait_for(is_release(shop, "42"), what=lambda: f"the new environment:\n{shop.log}")


def make_environment(directory, release):
    """A virtual environment with the server under test and a package that says which one it is."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    (packages,) = directory.glob("lib/*/site-packages")
    (packages / "oxicorn.pth").write_text(f"{Path(oxicorn.__file__).parent.parent}\n")
    (packages / "packaged.py").write_text(SHOP.format(release=release))
