"""The dashboard, in a browser; and where it is refused."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.monitoring.test_metrics import Monitoring, hold, start
from tests.support.browser import Browser
from tests.support.gate import APPLICATION, Gate
from tests.support.http import Peer
from tests.support.ports import free_port
from tests.support.wait import wait_for

#: A browser on a busy machine: each step of it takes its time, and a test has many.
pytestmark = pytest.mark.timeout(150)

TOKEN = "a-token-for-the-tests"
CONFIG = f"dashboard = True\ndashboard_token = {TOKEN!r}\n"


@pytest.fixture
def browser():
    found = Browser()
    yield found
    found.close()


def text_of(name: str) -> str:
    return f"document.getElementById({name!r}).textContent"


def page(monitoring: Monitoring) -> str:
    return f"http://127.0.0.1:{monitoring.address[1]}/dashboard"


def test_shows_what_the_server_does(serve, browser):
    """Requests with the stacks of their worker, by keyboard; deaths and reloads as marks; warnings; nothing foreign."""
    server, monitoring = start(serve, APPLICATION, "--workers", "2", "--dashboard")
    browser.open(page(monitoring))
    browser.wait("document.getElementById('status').dataset.state == 'live'")
    browser.wait("document.querySelectorAll('#worker-rows tr').length == 2")
    pids = browser.run("[...document.querySelectorAll('#worker-rows tr')].map(row => row.dataset.key)")
    assert sorted(pids) == sorted(map(str, server.worker_pids()))
    assert browser.run("document.getElementById('reload').hidden"), "it is read-only"

    with Gate(server) as gate, server.connect() as peer:
        hold(gate, peer)
        target = json.dumps(gate.target)
        browser.wait(f"document.getElementById('request-rows').textContent.includes({target})")
        browser.run("document.querySelector('#request-rows button').focus()")
        browser.press("Enter", 13)
        browser.wait("document.getElementById('stacks').open")
        browser.wait(f"{text_of('stacks-text')}.includes('app.py')")
        browser.press("Escape", 27)
        browser.wait("!document.getElementById('stacks').open")
        focused = browser.run("document.activeElement.textContent")
        assert gate.target in focused, "the focus is where it was"
        gate.open()
        assert peer.answer().status == 200
    browser.wait("document.querySelectorAll('#request-rows tr').length == 0")

    os.kill(server.worker_pids()[0], signal.SIGKILL)
    browser.wait("[...document.querySelectorAll('.flag')].some(flag => flag.textContent == 'worker died')")
    browser.wait(f"{text_of('log')}.includes('was sent SIGKILL')")
    server.kill(signal.SIGHUP)
    browser.wait("[...document.querySelectorAll('.flag')].some(flag => flag.textContent == 'reload')")
    browser.wait(f"{text_of('meta')}.includes('generation 2')")

    browser.run("document.querySelector('.plot').focus()")
    browser.press("ArrowLeft", 37)
    assert browser.run("document.querySelectorAll('.cross').length") == 3
    assert "Throughput at " in browser.run("document.querySelector('.plot').getAttribute('aria-label')")
    grounds = set()
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    browser.resize(390, 844, phone=True)
    assert browser.run("document.documentElement.scrollWidth") == 390, "a phone need not scroll sideways"
    assert len(browser.screenshot()) > 10_000
    foreign = "performance.getEntriesByType('resource').filter(one => !one.name.startsWith(location.origin)).length"
    assert browser.run(foreign) == 0
    assert browser.complaints == []


def test_token_is_asked_for_and_lets_orders_in(serve, browser):
    server, monitoring = start(serve, APPLICATION, "--workers", "1", config=CONFIG)
    browser.open(page(monitoring))
    browser.wait("document.activeElement.id == 'token'")
    assert browser.run("document.getElementById('content').hidden")

    def enter(token: str) -> None:
        browser.call("Input.insertText", text=token)
        browser.press("Enter", 13)

    enter("not-the-token-at-all")
    browser.wait(f"{text_of('login-error')} == 'That is not the token.'")
    enter(TOKEN)
    browser.wait("document.querySelectorAll('#worker-rows tr').length == 1")
    browser.wait("!document.getElementById('reload').hidden")
    # Both answers of the browser's own dialog are the user's; this one says yes.
    browser.run("window.confirm = () => true")
    (worker,) = server.worker_pids()
    browser.run("document.querySelector('#worker-rows td:last-child button:last-child').click()")
    server.wait_for_workers(1, without=[worker])
    browser.run("document.getElementById('reload').click()")
    wait_for(lambda: "Dashboard: reload" in server.log)
    browser.wait(f"{text_of('meta')}.includes('generation 2')")
    assert f"Dashboard: worker (pid:{worker}) is to be replaced" in server.log
    browser.load_again()
    browser.wait("document.querySelectorAll('#worker-rows tr').length == 1")
    assert TOKEN not in server.log


def test_survives_the_gateway_it_came_from(serve, browser):
    server, monitoring = start(serve, APPLICATION, "--workers", "1", "--dashboard")
    browser.open(page(monitoring))
    browser.wait("document.getElementById('status').dataset.state == 'live'")
    browser.wait("points.length > 0 && document.querySelectorAll('#worker-rows tr').length == 1")
    os.kill(server.gateway_pid(), signal.SIGKILL)
    browser.wait("[...document.querySelectorAll('.flag')].some(flag => flag.textContent == 'gateway')")
    browser.wait("document.getElementById('status').dataset.state == 'live'")


def test_viewers_do_not_keep_the_server(serve):
    server, monitoring = start(serve, APPLICATION, "--dashboard")
    with Peer(monitoring.address) as peer:
        peer.send(b"GET /dashboard/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: b"event: state" in peer.receive(65536))
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--dashboard"], "metrics_bind set"),
        (["--dashboard", "--metrics-bind", "0.0.0.0:{port}"], "others may reach http://0.0.0.0:"),
        (["--dashboard", "--metrics-bind", "127.0.0.1:{port}", "--dashboard-token", "short"], "at least 16"),
    ],
)
def test_refused_where_others_reach_it(serve, args, reason):
    server = serve(APPLICATION, *(arg.format(port=free_port()) for arg in args), ready=None)
    assert server.wait_for_exit() == 1
    (line,) = server.log.strip().splitlines()
    assert line.startswith("Error: ")
    assert reason in line
