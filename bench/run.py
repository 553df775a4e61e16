"""Measures oxicorn beside its peers: python bench/run.py [EXPERIMENT ...] [--rounds N] [--seconds S] [--servers a,b].

bench/README.md says what is measured and how to read it. Ends with 0 if every target was met, 1 if one was missed, 2 if
none was missed but one could not be judged.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import processes, report
from harness.catalogue import EXPERIMENTS
from harness.experiment import Experiment, Outcome, Settings, carry_out
from harness.servers import APPLICATIONS, CONTENDERS, PEERS

RESULTS = Path(__file__).resolve().parent / "results"
SPIN_SECONDS = 110e-6
#: Bytes of the files that applications send, by the variable that has their paths.
FILES = {"BENCH_SMALL_FILE": 4 * 1024, "BENCH_FILE": 100 * 1024, "BENCH_LARGE_FILE": 1024 * 1024}
QUIET_LOAD = 0.5


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    known: dict[str, list[Experiment]] = {}
    for experiment in EXPERIMENTS:
        known.setdefault(experiment.group or experiment.name, []).append(experiment)
    names = ", ".join(known)
    known |= {experiment.name: [experiment] for experiment in EXPERIMENTS}
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=f"some of: {names}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="length of each load (default 5)")
    parser.add_argument("--servers", help=f"some of: {','.join(CONTENDERS)} (default: those the targets name)")
    arguments = parser.parse_args()
    arguments.servers = tuple(arguments.servers.split(",")) if arguments.servers else None
    if unknown := set(arguments.experiments) - known.keys() | set(arguments.servers or ()) - CONTENDERS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if arguments.rounds < 1 or arguments.seconds < 1:
        parser.error("at least one round of one second")
    chosen = [experiment for name in arguments.experiments for experiment in known[name]]
    arguments.experiments = chosen or list(EXPERIMENTS)
    return arguments


def prepare(arguments: argparse.Namespace, scratch: Path) -> Settings:
    """What is the same for all servers and rounds of this run."""
    files = {}
    for name, size in FILES.items():
        path = scratch / name
        path.write_bytes(os.urandom(size))
        files[name] = str(path)
    calibration = [str(PEERS / "bin" / "python"), str(APPLICATIONS / "spinning.py"), str(SPIN_SECONDS)]
    turns = subprocess.run(calibration, check=True, capture_output=True, text=True).stdout.strip()
    variables = {
        **files,
        "BENCH_TURNS": turns,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Settings(arguments.rounds, arguments.seconds, scratch, variables, arguments.servers)


def carry_out_all(experiments: list[Experiment], settings: Settings) -> list[Outcome]:
    outcomes = []
    for experiment in experiments:
        print(f"{experiment.name}: {experiment.title}", flush=True)
        outcomes.append(carry_out(experiment, settings, lambda line: print(line, flush=True)))
        print(f"\n{report.as_text(outcomes[-1])}", flush=True)
    return outcomes


def main() -> int:
    arguments = parse_arguments()
    if not shutil.which("wrk") or not (PEERS / "bin" / "python").exists():
        print("wrk or the peers are missing: run bench/setup.sh", file=sys.stderr)
        return 2
    # A runner that is told to end must still end its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    processes.become_subreaper()
    processes.allow_many_descriptors()
    machine = report.describe_machine()
    if machine["load average at start"] > QUIET_LOAD:
        print("warning: this machine is busy; the figures will not be worth much", file=sys.stderr)
    if machine["python of oxicorn"] not in (None, machine["python of the peers"]):
        print("warning: oxicorn and its peers run different Pythons", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        settings = prepare(arguments, Path(scratch))
        outcomes = carry_out_all(arguments.experiments, settings)
    print(f"written: {report.write(outcomes, machine, settings, RESULTS)}")
    words = {verdict.word for outcome in outcomes for verdict in outcome.verdicts()}
    return 1 if "FAIL" in words else 2 if "not measured" in words else 0


if __name__ == "__main__":
    sys.exit(main())
