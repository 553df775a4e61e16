"""Says what came out: a table a reader understands, and everything that was measured as JSON."""

import dataclasses
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.experiment import SUBJECT, Outcome, Settings, Verdict
from harness.servers import PEERS, PROJECT


def describe_machine() -> dict[str, Any]:
    return {
        "processor": _first_match(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load average at start": os.getloadavg()[0],
        "python of the peers": _python_version(PEERS / "bin" / "python"),
        "python of oxicorn": _python_version(PROJECT / ".venv" / "bin" / "python"),
        "commit": _output(["git", "-C", str(PROJECT), "describe", "--always", "--dirty"]),
    }


def _first_match(path: Path, key: str) -> str | None:
    lines = path.read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)


def _python_version(python: Path) -> str | None:
    return _output([str(python), "-c", "import platform; print(platform.python_version())"])


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def as_text(outcome: Outcome) -> str:
    """One experiment as a Markdown section; also what is printed."""
    experiment = outcome.experiment
    rows = [_row(outcome, server) for server in outcome.samples]
    head = ("server", experiment.unit, "lowest .. highest", *experiment.columns)
    head += (f"{SUBJECT} / server", "target", "verdict")
    parts = [f"### {experiment.name}: {experiment.title}", _table([head, *rows])]
    parts += [f"{SUBJECT} {verdict_line}" for verdict_line in _absolute_verdicts(outcome)]
    parts += [f"* {server}: not measured: {reason}" for server, reason in outcome.absent.items()]
    parts += [f"* {server}: {text}" for server in outcome.samples for text in _remarks(outcome, server)]
    return "\n".join(filter(None, parts)) + "\n"


def _remarks(outcome: Outcome, server: str) -> Iterable[str]:
    yield from outcome.complaints(server)
    samples = outcome.samples[server]
    if disturbed := sum(sample.is_disturbed for sample in samples):
        used = "used for want of better" if outcome.is_disturbed(server) else "left out"
        yield f"{disturbed} of {len(samples)} rounds disturbed by others, {used}"


def _row(outcome: Outcome, server: str) -> tuple[str, ...]:
    values = [sample.value for sample in outcome.usable(server)]
    verdicts = [verdict for verdict in outcome.verdicts() if verdict.target.peer == server]
    ours, theirs = outcome.figure(SUBJECT), outcome.figure(server)
    ratio = f"{ours / theirs:.3f}" if ours is not None and theirs and server != SUBJECT else ""
    return (
        server,
        f"{theirs:.2f}",
        f"{min(values):.2f} .. {max(values):.2f}",
        *(f"{outcome.detail(server, name):.2f}" for name in outcome.experiment.columns),
        ratio,
        ", ".join(str(verdict.target) for verdict in verdicts),
        ", ".join(map(_told, verdicts)),
    )


def _told(verdict: Verdict) -> str:
    """With the ratio, where the row does not have it."""
    has_own = verdict.target.column and verdict.ratio is not None
    return f"{verdict.word} ({verdict.ratio:.3f})" if has_own else verdict.word


def _absolute_verdicts(outcome: Outcome) -> Iterable[str]:
    for verdict in outcome.verdicts():
        if verdict.target.peer is None:
            figure = "" if verdict.ratio is None else f"{verdict.ratio:.2f}, "
            yield f"{figure}target {verdict.target} {outcome.experiment.unit}: {verdict.word}"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def write(outcomes: list[Outcome], machine: dict[str, Any], settings: Settings, results: Path) -> Path:
    """Returns the Markdown file; the JSON stands beside it under the same name."""
    results.mkdir(exist_ok=True)
    stem = results / time.strftime("%Y%m%d-%H%M%S")
    markdown = stem.with_suffix(".md")
    markdown.write_text(_document(outcomes, machine, settings))
    data = {
        "machine": machine,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "experiments": [_as_data(outcome) for outcome in outcomes],
    }
    stem.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    return markdown


def _document(outcomes: list[Outcome], machine: dict[str, Any], settings: Settings) -> str:
    facts = "\n".join(f"* {name}: {value}" for name, value in machine.items())
    size = f"{settings.rounds} rounds of {settings.seconds:g} s, interleaved; the figure is the median of the rounds."
    return "\n".join(["# Measurements", "", size, "", facts, "", *map(as_text, outcomes)])


def _as_data(outcome: Outcome) -> dict[str, Any]:
    experiment = outcome.experiment
    return {
        "name": experiment.name,
        "title": experiment.title,
        "unit": experiment.unit,
        "servers": {
            server: {"figure": outcome.figure(server), "samples": [dataclasses.asdict(sample) for sample in samples]}
            for server, samples in outcome.samples.items()
        },
        "absent": outcome.absent,
        "verdicts": [
            {"target": str(verdict.target), "ratio": verdict.ratio, "verdict": verdict.word, "reason": verdict.reason}
            for verdict in outcome.verdicts()
        ],
    }
