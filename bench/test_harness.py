"""Tests of the runner itself, without servers: python -m unittest discover bench."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from harness import processes, report, tls
from harness.catalogue import EXPERIMENTS
from harness.clients import ClientFailure, parse_arrivals, parse_wrk
from harness.experiment import SUBJECT, Experiment, Outcome, Sample, Settings, Target, contenders_of
from harness.servers import CONTENDERS, Contender, Shape

WRK_OUTPUT = """Running 2s test @ http://127.0.0.1:8992/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.52ms  768.42us   5.49ms   67.93%
    Req/Sec    22.09k     0.89k   22.98k    90.00%
  Latency Distribution
     50%  850.00us
     75%    1.75ms
     90%    2.00ms
     99%    1.20s
  44073 requests in 2.01s, 7.02MB read
{errors}Requests/sec:  21939.54
Transfer/sec:      3.49MB
""".replace("1.20s", "1.20s ")  # wrk pads units of one letter


def outcome(samples: dict[str, list[Sample]], *targets: Target) -> Outcome:
    experiment = Experiment("name", "title", "us", Shape("hello"), lambda bench: Sample(0), ("oxicorn",), targets)
    return Outcome(experiment, samples)


def samples(*values: float, disturbance: float = 0.0) -> list[Sample]:
    return [Sample(value, disturbance=disturbance) for value in values]


class WrkTest(unittest.TestCase):
    def test_reads_counts_and_percentiles(self) -> None:
        result = parse_wrk(WRK_OUTPUT.format(errors=""))
        self.assertEqual((result.requests, result.seconds), (44073, 2.01))
        self.assertEqual((result.median_us, result.p99_us), (850.0, 1.2e6))
        self.assertEqual(result.errors, ())

    def test_reports_errors(self) -> None:
        lines = "  Socket errors: connect 0, read 5, write 0, timeout 0\n  Non-2xx or 3xx responses: 7\n"
        result = parse_wrk(WRK_OUTPUT.format(errors=lines))
        self.assertEqual(len(result.errors), 2)

    def test_no_answer_is_a_failure(self) -> None:
        with self.assertRaises(ClientFailure):
            parse_wrk("  0 requests in 2.00s, 0.00B read\n")


class ArrivalsTest(unittest.TestCase):
    def output(self, statuses: dict[str, int], errors: dict[str, int]) -> str:
        percentiles = {"p50": 0.0002, "p99": 0.005, "p99.9": 0.25}
        return json.dumps(
            {
                "summary": {"total": 2.0},
                "latencyPercentiles": percentiles,
                "statusCodeDistribution": statuses,
                "errorDistribution": errors,
            }
        )

    def test_reads_rate_and_percentiles(self) -> None:
        result = parse_arrivals(self.output({"200": 9990}, {"aborted due to deadline": 10}))
        self.assertEqual((result.requests, result.per_second), (9990, 4995))
        self.assertEqual((result.median_us, result.p99_us, result.p999_us), (200, 5000, 250_000))
        self.assertEqual(result.errors, ())

    def test_reports_errors_and_bad_statuses(self) -> None:
        result = parse_arrivals(self.output({"200": 5, "503": 2}, {"connection refused": 3}))
        self.assertEqual(result.requests, 5)
        self.assertEqual(result.errors, ("status 503: 2", "connection refused: 3"))

    def test_no_answer_is_a_failure(self) -> None:
        with self.assertRaises(ClientFailure):
            parse_arrivals(self.output({"503": 2}, {}))


class VerdictTest(unittest.TestCase):
    def word(self, found: Outcome) -> str:
        return found.verdicts()[0].word

    def test_compares_medians(self) -> None:
        found = outcome({SUBJECT: samples(1, 5, 90), "granian": samples(10, 10, 11)}, Target(0.5, "granian"))
        self.assertEqual(self.word(found), "pass")
        self.assertEqual(found.verdicts()[0].ratio, 0.5)

    def test_strict_target_refuses_equality(self) -> None:
        found = outcome({SUBJECT: samples(10), "granian": samples(10)}, Target(1.0, "granian", strictly=True))
        self.assertEqual(self.word(found), "FAIL")

    def test_absolute_target_needs_no_peer(self) -> None:
        self.assertEqual(self.word(outcome({SUBJECT: samples(0)}, Target(0))), "pass")
        self.assertEqual(self.word(outcome({SUBJECT: samples(1)}, Target(0))), "FAIL")

    def test_without_figures_nothing_is_judged(self) -> None:
        self.assertEqual(self.word(outcome({"granian": samples(1)}, Target(1, "granian"))), "not measured")
        self.assertEqual(self.word(outcome({SUBJECT: samples(1)}, Target(1, "granian"))), "not measured")

    def test_complaint_fails_however_fast(self) -> None:
        found = outcome({SUBJECT: [Sample(1, complaints=("errors",))], "granian": samples(9)}, Target(1, "granian"))
        self.assertEqual(self.word(found), "FAIL")

    def test_disturbed_rounds_are_left_out(self) -> None:
        mixed = samples(4) + samples(50, 60, disturbance=0.5)
        found = outcome({SUBJECT: mixed, "granian": samples(10)}, Target(0.5, "granian"))
        self.assertEqual(self.word(found), "pass")

    def test_a_column_can_be_what_is_compared(self) -> None:
        def tails(value: float, column: float) -> list[Sample]:
            return [Sample(value, {"p99.9": column})]

        both = (Target(0.8, "granian"), Target(0.8, "granian", column="p99.9"))
        found = outcome({SUBJECT: tails(1, 30), "granian": tails(10, 10)}, *both)
        self.assertEqual([verdict.word for verdict in found.verdicts()], ["pass", "FAIL"])
        line = next(line for line in report.as_text(found).splitlines() if line.startswith("| granian"))
        self.assertIn("<= 0.8 x granian, p99.9 <= 0.8 x granian | pass, FAIL (3.000)", line)
        found = outcome({SUBJECT: tails(1, 30)}, *both)
        self.assertEqual([verdict.word for verdict in found.verdicts()], ["not measured"] * 2)

    def test_nothing_is_judged_where_all_rounds_were_disturbed(self) -> None:
        found = outcome({SUBJECT: samples(1, disturbance=0.5), "granian": samples(9)}, Target(1, "granian"))
        self.assertEqual(self.word(found), "not measured")


class ReportTest(unittest.TestCase):
    def test_names_server_ratio_and_verdict(self) -> None:
        text = report.as_text(outcome({SUBJECT: samples(5), "granian": samples(10)}, Target(0.55, "granian")))
        line = next(line for line in text.splitlines() if line.startswith("| granian"))
        self.assertEqual([cell.strip() for cell in line.split("|")][4:7], ["0.500", "<= 0.55 x granian", "pass"])

    def test_columns_are_medians_of_the_rounds_used(self) -> None:
        def tails(*values: float, disturbance: float = 0.0) -> list[Sample]:
            return [Sample(1, {"CPU": value}, disturbance=disturbance) for value in values]

        found = outcome({SUBJECT: tails(3, 4, 8) + tails(100, 100, 100, disturbance=0.5)})
        found.experiment = dataclasses.replace(found.experiment, columns=("CPU",))
        lines = report.as_text(found).splitlines()
        cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
        self.assertEqual((cells[0][4], cells[2][4]), ("CPU", "4.00"))


class CatalogueTest(unittest.TestCase):
    def test_names_are_unique_and_columns_are_there(self) -> None:
        names = [experiment.name for experiment in EXPERIMENTS]
        self.assertEqual(len(names), len(set(names)))
        for experiment in EXPERIMENTS:
            for target in experiment.targets:
                self.assertIn(target.column, (None, *experiment.columns))
                self.assertIn(target.peer, (None, *experiment.servers))

    def test_tails_are_measured_at_three_rates_quiet_and_busy(self) -> None:
        groups = [experiment.group for experiment in EXPERIMENTS if experiment.group]
        for group in ("tail", "tail-flask", "tail-asgi"):
            self.assertEqual((groups.count(group), groups.count(f"{group}-busy")), (3, 3))

    def test_a_run_finds_a_figure_out_once(self) -> None:
        settings = Settings(1, 1.0, Path(), {}, None)
        figures = iter((5.0, 7.0))
        self.assertEqual(settings.once(("shape", 0), lambda: next(figures)), 5)
        self.assertEqual(settings.once(("shape", 0), lambda: next(figures)), 5)
        self.assertEqual(settings.once(("shape", 2), lambda: next(figures)), 7)


class NeighbourTest(unittest.TestCase):
    def test_neighbours_spin_until_they_are_ended(self) -> None:
        with processes.spinning_neighbours(2):
            children = processes.tree(os.getpid()).keys() - {os.getpid()}
            self.assertEqual(len(children), 2)
            before = processes.cpu_seconds(os.getpid())
            deadline = time.monotonic() + 30
            while processes.cpu_seconds(os.getpid()) < before + 0.1 and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertGreaterEqual(processes.cpu_seconds(os.getpid()), before + 0.1)
        self.assertEqual(processes.tree(os.getpid()).keys() & children, set())


class ProcessTest(unittest.TestCase):
    #: An orphan that burns CPU and stays; a child that is reaped; a parent that at TERM only ends itself.
    PROGRAM = """
import os, signal, time
def burn(seconds):
    while time.process_time() < seconds: pass
if os.fork() == 0:
    if os.fork() == 0:
        burn(0.1); print("x", flush=True); time.sleep(60)
    os._exit(0)
os.wait()
if (child := os.fork()) == 0:
    burn(0.2); os._exit(0)
os.waitpid(child, 0)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("y", flush=True)
time.sleep(60)
"""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.log = Path(directory.name) / "log"
        processes.become_subreaper()

    def test_counts_reaped_and_detached_processes_and_ends_all(self) -> None:
        command = [sys.executable, "-c", self.PROGRAM]
        with processes.Server(command, os.environ, Path.cwd(), self.log) as server:
            server.wait_until(lambda: len(self.log.read_text().split()) == 2, 10, 0.01)
            tree = processes.tree(server.pid)
            self.assertEqual(len(tree), 2)
            self.assertGreaterEqual(processes.cpu_seconds(server.pid), 0.25)
            self.assertGreater(processes.pss_kib(server.pid), 1000)
            original = processes.STOP_PATIENCE
            processes.STOP_PATIENCE = 0.2
            try:
                server.stop()
            finally:
                processes.STOP_PATIENCE = original
        for pid in tree:
            self.assertIsNone(processes.read_stat(pid))

    def test_processes_are_left_out_by_their_title_and_switches_counted(self) -> None:
        command = [sys.executable, "-c", "import time\nprint(flush=True)\nwhile True: time.sleep(0.005)", "gateway"]
        with processes.Server(command, os.environ, Path.cwd(), self.log) as server:
            server.wait_until(self.log.read_text, 10, 0.01)
            self.assertGreater(processes.pss_kib(server.pid), 1000)
            self.assertEqual(processes.pss_kib(server.pid, without="gateway"), 0)
            before = processes.context_switches(server.pid)
            server.wait_until(lambda: processes.context_switches(server.pid) >= before + 10, 10, 0.01)

    def test_reads_stat_of_a_process_with_an_awkward_name(self) -> None:
        program = "open('/proc/self/comm', 'w').write('a) S (b'); print(flush=True); input()"
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout
            process.stdout.readline()
            stat = processes.read_stat(process.pid)
            assert stat
            self.assertEqual(stat.parent, os.getpid())
        finally:
            process.communicate(b"\n")

    def test_start_failure_carries_the_last_words(self) -> None:
        command = [sys.executable, "-c", "import sys; sys.exit('no such application')"]
        with processes.Server(command, os.environ, Path.cwd(), self.log) as server:
            with self.assertRaisesRegex(processes.StartFailure, "no such application"):
                server.wait_until(lambda: False, 10, 0.01)


class Http2LoadTest(unittest.TestCase):
    OUTPUT = """Application protocol: {protocol}

finished in 5.02s, 1234.50 req/s, 120.40KB/s
requests: 6300 total, 6428 started, 6300 done, {good} succeeded, {bad} failed, {bad} errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, 0 5xx
"""

    def test_counts_what_was_answered(self) -> None:
        result = tls.parse_h2load(self.OUTPUT.format(protocol="h2", good=6300, bad=0))
        self.assertEqual((result.requests, result.seconds, result.errors), (6300, 5.02, ()))
        self.assertEqual(tls.parse_h2load(self.OUTPUT.format(protocol="h2", good=6299, bad=1)).errors, ("1 failed",))

    def test_refuses_what_says_nothing(self) -> None:
        for output in (
            "",
            self.OUTPUT.format(protocol="h2", good=0, bad=1),
            self.OUTPUT.format(protocol="http/1.1", good=9, bad=0),
        ):
            with self.assertRaises(ClientFailure):
                tls.parse_h2load(output)


class SliceTest(unittest.TestCase):
    PROGRAM = """
import os, subprocess, sys, threading
from harness.with_slice import set_slice, slice_of
before = slice_of(0)
set_slice(0, 700)
print(before, slice_of(0), flush=True)
tell = lambda: print(slice_of(0), flush=True)
thread = threading.Thread(target=tell); thread.start(); thread.join()
if os.fork() == 0:
    tell(); os._exit(0)
os.wait()
subprocess.run([sys.executable, "-c", "from harness.with_slice import slice_of; print(slice_of(0))"], check=True)
"""

    def test_a_slice_is_one_threads_and_nobody_inherits_it(self) -> None:
        command = [sys.executable, "-c", self.PROGRAM]
        bench = Path(__file__).resolve().parent
        run = subprocess.run(command, cwd=bench, check=True, capture_output=True, text=True)
        before, after, *inherited = map(int, run.stdout.split())
        if before == after:
            self.skipTest("this kernel has no slices to set")
        self.assertEqual(after, 700)
        self.assertEqual(inherited, [before] * 3)


class CommandTest(unittest.TestCase):
    def test_oxicorn_and_gunicorn_take_the_same_options(self) -> None:
        shape = Shape("sleeping", workers=2, threads=16)
        ours, theirs = (CONTENDERS[name].command(shape, 8000) for name in ("oxicorn", "gunicorn"))
        self.assertEqual(ours[1:], theirs[1:])
        self.assertIn("gthread", ours)

    def test_gateway_threads_and_rsa_are_oxicorns_own(self) -> None:
        shape = Shape("hello", tls=True, rsa=2048, gateway_threads=2)
        ours, one = (CONTENDERS[name].command(shape, 8000) for name in ("oxicorn", "oxicorn-threads-1"))
        self.assertEqual(ours[1:3], ["--gateway-threads", "2"])
        self.assertEqual([ours[0], *ours[3:]], one)
        self.assertTrue(one[one.index("--certfile") + 1].endswith("rsa-2048.pem"))

    def test_asgi_runs_on_uvloop_everywhere(self) -> None:
        shape = Shape("asgi_hello", interface="asgi", connections=5000)
        for name, contender in CONTENDERS.items():
            if "asgi" in contender.interfaces:
                self.assertIn("uvloop", contender.command(shape, 8000), name)
        ours, theirs = (CONTENDERS[name].command(shape, 8000) for name in ("oxicorn", "gunicorn"))
        self.assertEqual(ours[1:], theirs[1:])
        self.assertEqual(ours[ours.index("--worker-connections") + 1], "5000")

    def test_the_floor_has_threads_only_as_decoupled(self) -> None:
        shape = Shape("sleeping", threads=16)
        self.assertFalse(CONTENDERS["floor"].takes_threads)
        command = CONTENDERS["decoupled"].command(shape, 8000)
        self.assertEqual(command[2:], ["decoupled", "8000", "1", "sleeping:application", "16"])

    def test_servers_without_the_interface_stay_away(self) -> None:
        settings = Settings(1, 1.0, Path(), {}, ("floor", "uvicorn"))
        for interface, name in (("asgi", "floor"), ("wsgi", "uvicorn")):
            shape = Shape("hello", interface=interface)
            experiment = Experiment("name", "title", "us", shape, lambda bench: Sample(0), (), ())
            with mock.patch.object(Contender, "missing", lambda self: None):
                present, absent = contenders_of(experiment, settings)
            self.assertEqual(absent, {name: f"serves no {interface.upper()}"})
            self.assertEqual(len(present), 1)


if __name__ == "__main__":
    unittest.main()
