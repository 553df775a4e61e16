"""Metrics of an application (``oxicorn.metrics``) at ``metrics_bind``: right whoever counts and whoever dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.monitoring.test_metrics import OPENMETRICS, start
from tests.support.wait import wait_for

METRICS = """
import os
import threading
from oxicorn.metrics import Counter, Gauge, Histogram

sold = Counter("shop_sold", "Things sold.", ["kind"])
each = Gauge("shop_each", "One for each process.", multiprocess_mode="liveall")
total = Gauge("shop_all", "Over all that ever were.", multiprocess_mode="sum")
took = Histogram("shop_took_seconds", "How long.", buckets=(0.5, 2))
"""

COUNT = """
def count():
    threads = [threading.Thread(target=sold.labels("book").inc) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    each.set(os.getpid())
    total.inc(2)
    took.observe(1)
"""

WSGI = (
    METRICS
    + COUNT
    + """
def application(environ, start_response):
    count()
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""
)

ASGI = (
    METRICS
    + """
import asyncio

async def one():
    sold.labels(kind="book").inc()

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await asyncio.gather(*(one() for _ in range(4)))
    each.set(os.getpid())
    total.inc(2)
    took.observe(1)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""
)

BOOKS = ("shop_sold_total", "kind=book")


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain"], ids=["openmetrics", "prometheus"])
@pytest.mark.parametrize(
    ("source", "args"),
    [
        (WSGI, ["--worker-class", "sync", "--workers", "2"]),
        (WSGI, ["--worker-class", "gthread", "--workers", "2", "--threads", "3", "--preload"]),
        (ASGI, ["--worker-class", "asgi", "--workers", "2"]),
    ],
    ids=["sync", "gthread-preload", "asgi"],
)
def test_everybody_counts(serve, source, args, accept):
    """Before the first request a counter is there, behind it all are."""
    server, monitoring = start(serve, source, *args, ready=None)
    server.wait_for_workers(2)
    wait_for(lambda: ("shop_all",) in monitoring.samples(accept))
    for _ in range(5):
        assert server.get("/").status == 200
    samples = monitoring.samples(accept)
    assert samples[BOOKS] == 20
    assert samples["shop_all",] == 10
    assert samples["shop_took_seconds_bucket", "le=0.5"] == 0
    assert samples["shop_took_seconds_bucket", "le=+Inf"] == samples["shop_took_seconds_sum",] == 5
    pids = {value for key, value in samples.items() if key[0] == "shop_each" and value}
    assert pids <= set(server.worker_pids())


def test_counters_never_go_back(serve):
    """Not with a worker, not with the gateway, not with a reload; gauges of the dead count where they are to."""
    server, monitoring = start(serve, WSGI, "--workers", "1")
    (worker,) = server.worker_pids()
    before = monitoring.samples()
    assert before["shop_each", f"pid={worker}"] == worker
    os.kill(worker, signal.SIGKILL)
    server.wait_for_workers(1, without=[worker])
    assert server.get("/").status == 200
    after = monitoring.samples()
    assert after[BOOKS] == before[BOOKS] + 4
    assert after["shop_all",] == before["shop_all",] + 2
    assert ("shop_each", f"pid={worker}") not in after
    gateway = server.gateway_pid()
    os.kill(gateway, signal.SIGKILL)
    wait_for(lambda: server.gateway_pid() not in (None, gateway))
    server.wait_until_ready()
    kept = monitoring.samples()
    assert kept[BOOKS] >= after[BOOKS]
    (worker,) = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[worker])
    assert server.get("/").status == 200
    assert monitoring.samples()[BOOKS] >= kept[BOOKS] + 4


def test_hooks_count_with_the_application(serve):
    """What a config file declares is there before the server is; the arbiter counts, too."""
    config = """
from oxicorn.metrics import Counter
workers = 1
read = Counter("conf_read", "Config files read.")
read.inc()
forked = Counter("conf_forked", "Workers forked.")
def pre_fork(server, worker):
    forked.inc()
def post_request(worker, request, environ, response):
    read.inc(10)
"""
    server, monitoring = start(serve, WSGI, config=config)
    requests = monitoring.samples()["shop_all",] / 2
    assert server.get("/").status == 200
    wait_for(lambda: monitoring.samples()["conf_read_total",] == 1 + 10 * (requests + 1))
    assert monitoring.samples()["conf_forked_total",] == 1
    assert monitoring.samples()["shop_all",] == 2 * (requests + 1)


def test_memory_is_bounded_and_its_end_is_said_once(serve):
    source = """
from oxicorn.metrics import Counter
views = Counter("views", "Views of pages.", ["page"])
early = Counter("early", "Declared in time.")
number = 0
def application(environ, start_response):
    global number
    for number in range(number + 1, number + 501):
        views.labels(f"/page/{number}").inc()
    early.inc()
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""
    server, monitoring = start(serve, source, "--workers", "1", "--metrics-memory", "65536")
    for _ in range(4):
        assert server.get("/").status == 200
    assert "The memory for metrics (metrics_memory: 65536 bytes) is used up" in server.log
    assert server.log.count("metrics_memory: 65536") == 1
    assert "label sets of views" in server.log
    samples = monitoring.samples()
    shown = [key for key in samples if key[0] == "views_total"]
    assert 300 < len(shown) < 1000
    assert samples["early_total",] >= 4, "what is there goes on"


@pytest.mark.parametrize("size", ["65535", "1073741825", "much"])
def test_memory_that_cannot_be_is_refused(serve, size):
    server = serve(WSGI, "--metrics-memory", size, ready=None)
    assert server.wait_for_exit() != 0
    assert "metrics-memory" in server.log or "metrics_memory" in server.log


def run(source: str) -> str:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(source)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_scripts_count_in_plain_memory():
    """Without a server: what the process and its children have counted can be shown."""
    output = run("""
        import os
        from oxicorn.metrics import Counter, Gauge, exposition
        done = Counter("done_total", "Things done.")
        level = Gauge("level", "Of this process.", multiprocess_mode="livesum")
        level.set(5)
        done.inc()
        if os.fork() == 0:
            done.inc()
            level.inc(100)
            os._exit(0)
        os.wait()
        print(exposition(openmetrics=True), end="")
    """)
    assert "\ndone_total 2.0\n" in output
    assert "\nlevel 5.0\n" in output
    assert output.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("Counter('oxicorn_x', '')", "are the server's"),
        ("Counter('1x', '')", "not a name for a metric"),
        ("Counter('x', '', ['le']) and Histogram('y', '', ['le'])", "not a name for a label of y"),
        ("Gauge('x', '', ['pid'])", "not a name for a label of x"),
        ("Counter('x', '', ['a', 'a'])", "is there twice"),
        ("Counter('x', '').inc(-1)", "only goes up"),
        ("Counter('x', '').inc(float('nan'))", "only goes up"),
        ("Counter('x', '', ['a']).inc()", "labels(...) first"),
        ("Counter('x', '', ['a']).labels(b=1)", "has the labels ('a',)"),
        ("Counter('x', '', ['a']).labels(1, 2)", "has the labels ('a',)"),
        ("Counter('x', '').labels(1)", "has no labels"),
        ("Histogram('x', '', buckets=(2, 1))", "do not rise"),
        ("Histogram('x', '', buckets=())", "has no bounds"),
        ("(Counter('x', ''), Gauge('x_total', ''))", "is a metric already: counter x"),
        ("Gauge('x', '', multiprocess_mode='most')", "Invalid multiprocess mode: most"),
        ("Gauge('x', '', multiprocess_mode='mostrecent').inc()", "can only be set"),
    ],
)
def test_wrong_uses_are_named(call, error):
    output = run(f"""
        from oxicorn.metrics import Counter, Gauge, Histogram
        try:
            {call}
        except (ValueError, RuntimeError) as error:
            print(error)
    """)
    assert error in output


def test_decorators_and_context_managers(serve):
    output = run("""
        import asyncio
        from oxicorn.metrics import Gauge, Histogram, exposition
        took = Histogram("took_seconds", "Time.", ["what"])
        busy = Gauge("busy", "Now.", multiprocess_mode="livesum")
        seen = []

        @took.labels("call").time()
        @busy.track_inprogress()
        def call(depth):
            seen.append("\\nbusy %s.0\\n" % (3 - depth) in exposition())
            return call(depth - 1) if depth else "result"

        @took.labels("task").time()
        async def task():
            await asyncio.sleep(0)
            return "result"

        assert call(2) == asyncio.run(task()) == "result"
        try:
            with took.labels("block").time():
                raise KeyError
        except KeyError:
            pass
        assert seen == [True] * 3
        print(exposition())
    """)
    for what, count in (("call", 3), ("task", 1), ("block", 1)):
        assert f'took_seconds_count{{what="{what}"}} {count}.0' in output
    assert "\nbusy 0.0\n" in output


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_has_nothing_to_say(serve):
    server, monitoring = start(serve, WSGI)
    assert server.get("/").status == 200
    text = monitoring.get("/metrics").text
    assert "shop_sold_total" in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
