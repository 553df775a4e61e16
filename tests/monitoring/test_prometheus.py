"""A real Prometheus (Debian's) scrapes the server and evaluates the example's rules."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring.test_metrics import Monitoring
from tests.support.gate import APPLICATION
from tests.support.ports import free_port
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (tests/system-packages.sh)"
)

RULES = Path(__file__).parents[2] / "examples" / "monitoring" / "alerts.yml"


class Prometheus:
    """A running one, and what it knows."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **arguments: str) -> dict:
        """The data of an answer; nothing where it does not answer yet."""
        try:
            with urllib.request.urlopen(f"{self._base}/{path}?{urllib.parse.urlencode(arguments)}", timeout=10) as got:
                return json.load(got)["data"]
        except OSError:
            return {}

    def value(self, query: str) -> float | None:
        """The one number that a query gives."""
        found = self.ask("query", query=query).get("result", [])
        return float(found[0]["value"][1]) if len(found) == 1 else None


@pytest.fixture(scope="module")
def monitored(serve_module):
    port = free_port()
    server = serve_module(APPLICATION, "--metrics-bind", f"127.0.0.1:{port}", "--workers", "2")
    return server, Monitoring(("127.0.0.1", port))


@pytest.fixture(scope="module")
def prometheus(monitored, tmp_path_factory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    _, monitoring = monitored
    host, target = monitoring.address
    (directory / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{RULES}"]
scrape_configs:
  - job_name: oxicorn
    static_configs: [{{targets: ["{host}:{target}"]}}]
""")
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (directory / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Prometheus(port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_it_scrapes_what_the_server_counts(monitored, prometheus):
    server, _ = monitored
    wait_for(lambda: prometheus.value("up") == 1, deadline=30)
    for _ in range(7):
        assert server.get("/").status == 200
    counted = 'oxicorn_responses_total{method="GET",class="2xx"}'
    wait_for(lambda: (prometheus.value(counted) or 0) >= 7, deadline=30)
    # A scrape that a busy machine makes late leaves a gap.
    wait_for(lambda: prometheus.value("oxicorn_workers_serving") == 2)
    wait_for(lambda: prometheus.value("count(oxicorn_process_resident_memory_bytes)") == 4)

    def target() -> tuple[str, str]:
        (found,) = prometheus.ask("targets")["activeTargets"]
        return found["health"], found["lastError"]

    wait_for(lambda: target() == ("up", ""))


def test_histograms_give_quantiles(prometheus):
    query = "histogram_quantile(0.95, sum by (le) (oxicorn_request_duration_seconds_bucket))"
    found = wait_for(lambda: prometheus.value(query), deadline=30)
    assert 0 < found < 60


def test_the_rules_of_the_example_are_evaluated(prometheus):
    def evaluated() -> list[dict]:
        rules = [rule for group in prometheus.ask("rules").get("groups", []) for rule in group["rules"]]
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else []

    rules = wait_for(evaluated, deadline=30)
    assert len(rules) >= 5
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
