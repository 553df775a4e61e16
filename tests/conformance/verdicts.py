"""What our parser makes of messages: the messages, the way to run it, and what comes out.

The seed is fixed: ``OXICORN_CONFORMANCE_SEED`` and ``OXICORN_CONFORMANCE_MESSAGES`` make another or a longer run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from .messages import message

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("OXICORN_CONFORMANCE_SEED", "9112"))
MESSAGES = int(os.environ.get("OXICORN_CONFORMANCE_MESSAGES", "4000"))


@dataclass
class Request:
    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False


@dataclass
class Verdict:
    requests: list[Request]
    #: ``closed``, ``closing`` or what it was refused for.
    end: str

    @property
    def refused(self) -> bool:
        return self.end not in ("closed", "closing")


def generated() -> list[bytes]:
    random = Random(SEED)
    return [message(random) for _ in range(MESSAGES)]


def corpus() -> list[bytes]:
    """The messages that are played by default rules."""
    files = sorted((ROOT / "crates/oxicorn-proto/tests/corpus").glob("*/*.http"))
    return [file.read_bytes() for file in files if not file.with_suffix(".rules").exists()]


def ours(messages: list[bytes]) -> list[Verdict]:
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("needs cargo: the parser is run by an example of its crate")
    command = [cargo, "run", "--quiet", "--locked", "--package", "oxicorn-proto", "--example", "verdicts"]
    data = b"".join(len(text).to_bytes(4, "big") + text for text in messages)
    done = subprocess.run(command, cwd=ROOT, input=data, stdout=subprocess.PIPE, check=True, timeout=600)
    return _read_verdicts(done.stdout.decode())


def _read_verdicts(text: str) -> list[Verdict]:
    verdicts, requests = [], []
    for line in text.splitlines():
        word, *rest = line.split(" ")
        if word == "fault":
            verdicts.append(Verdict(requests, rest[0]))
            requests = []
        elif word in ("closed", "closing"):
            verdicts.append(Verdict(requests, word))
            requests = []
        else:
            _read_line(word, [b"" if part == "-" else bytes.fromhex(part) for part in rest], requests)
    return verdicts


def _read_line(word: str, parts: list[bytes], requests: list[Request]) -> None:
    match word, parts:
        case "request", [method, target, version]:
            requests.append(Request(method, target, version.removeprefix(b"HTTP/")))
        case "header", [name, value]:
            requests[-1].headers.append((name.lower(), value))
        case "trailer", [name, value]:
            requests[-1].trailers.append((name.lower(), value))
        case "body", [data]:
            requests[-1].body += data
        case "end", []:
            requests[-1].complete = True
