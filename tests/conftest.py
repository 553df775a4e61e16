"""Fixtures of the whole suite: the server to test, and factories that start it and clean up after it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import differences, wait
from tests.support.server import Kind, Servers, keep_evidence

EVIDENCE = Path(__file__).parent / ".evidence"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        choices=("oxicorn", "gunicorn", "uvicorn"),
        default="oxicorn",
        help="server under test; gunicorn is what oxicorn is compared with, uvicorn (as a worker of it) what the tests "
        "marked `uvicorn` are",
    )
    parser.addoption(
        "--many",
        action="store_true",
        help="leak tests of the asgi worker with a million requests, 100 reloads of the pool",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores them for what it runs in the background, and programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # Of several processes that share the tests (pytest-xdist) one begins.
    if not hasattr(config, "workerinput"):
        shutil.rmtree(EVIDENCE, ignore_errors=True)
    kind = Kind.chosen(config.getoption("--server"))
    if not Path(kind.executable).exists():
        raise pytest.UsageError(f"{kind.executable} is not installed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    server = config.getoption("--server")
    elsewhere = [item for item in items if not differences.applies(server, item)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]
    for item in items:
        reason = differences.reason(server, _name(item), item)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``loop``: each event loop of the asgi worker. uvicorn picks its own, there it is one."""
    if "loop" in metafunc.fixturenames:
        loops = ["auto"] if metafunc.config.getoption("--server") == "uvicorn" else ["asyncio", "uvloop"]
        metafunc.parametrize("loop", loops, scope="module")


def _name(item: pytest.Item) -> str:
    """Name of the test relative to tests/, wherever pytest was started."""
    path = item.path.relative_to(Path(__file__).parent)
    return "::".join([path.as_posix(), *item.nodeid.split("::")[1:]])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keeps what the servers of a failed test left in their directories."""
    report = yield
    if report.failed:
        name = _name(item).replace("/", ".").replace("::", ".")
        keep_evidence(Servers.active, EVIDENCE / name[:150])
    return report


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> Kind:
    """The server under test."""
    return Kind.chosen(request.config.getoption("--server"))


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is expected to fail under another server fails sooner."""
    server = request.config.getoption("--server")
    if differences.reason(server, _name(request.node), request.node) is not None:
        wait.set_patience(wait.EXPECTED_FAILURE_PATIENCE)
    yield
    wait.set_patience(1.0)


@pytest.fixture
def serve(kind: Kind, request: pytest.FixtureRequest) -> Iterator[Servers]:
    """``serve(source, *args, **options)`` starts a server that lives as long as the test.

    Tests may be parametrized with its worker class (``indirect``).
    """
    worker_class = getattr(request, "param", None)
    servers = Servers(kind, ("--worker-class", worker_class) if worker_class else ())
    yield servers
    findings = servers.tear_down()
    # How Gunicorn ends (its gthread workers sometimes not at all) is not what is tested here.
    if findings and not kind.is_gunicorn:
        name = _name(request.node).replace("/", ".").replace("::", ".")
        keep_evidence(servers.own, EVIDENCE / name[:150])
        servers.forget()
        pytest.fail("; ".join(findings))
    servers.forget()


@pytest.fixture(scope="module")
def serve_module(kind: Kind, request: pytest.FixtureRequest) -> Iterator[Servers]:
    """As ``serve``, for servers that all tests of a module share."""
    servers = Servers(kind)
    yield servers
    findings = servers.tear_down()
    if findings and not kind.is_gunicorn:
        keep_evidence(servers.own, EVIDENCE / request.node.name)
        servers.forget()
        pytest.fail("; ".join(findings))
    servers.forget()
