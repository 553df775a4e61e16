"""Completion of ``oxicornctl``, in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support.wait import patient


def needs(shell: str) -> pytest.MarkDecorator:
    missing = shutil.which(shell) is None
    return pytest.mark.skipif(missing, reason=f"{shell} is not installed (tests/system-packages.sh)")


@pytest.fixture(scope="module", params=[pytest.param(name, marks=needs(name)) for name in ("bash", "zsh", "fish")])
def completed(request, tmp_path_factory):
    """Gives what the shell offers behind a line."""
    shell = request.param
    directory = tmp_path_factory.mktemp(shell)
    script = directory / f"oxicornctl.{shell}"
    command = [sys.executable, "-m", "oxicorn.control.cli", "completion", shell]
    script.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ask = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return lambda line: ask(script, line)


def _bash(script, line: str) -> set[str]:
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _oxicornctl; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return set(done.stdout.split())


def _fish(script, line: str) -> set[str]:
    # The home of the test's user is not fish's: it would write there.
    env = {**os.environ, "HOME": str(script.parent), "XDG_CONFIG_HOME": str(script.parent)}
    program = f'source {script}; complete -C "{line}"'
    done = subprocess.run(["fish", "--no-config", "-c", program], capture_output=True, text=True, check=False, env=env)
    assert done.stderr == ""
    return {offered.split("\t")[0] for offered in done.stdout.splitlines()}


def _zsh(script, line: str) -> set[str]:
    """zsh completes at a terminal alone: what it lists there when the key is pressed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb", PS1="ready> ", COLUMNS="200", HOME=str(script.parent))
        os.execvp("zsh", ["zsh", "-f", "-i"])
    seen = b""

    def until(expected: str) -> str:
        nonlocal seen
        end = time.monotonic() + patient(30)
        while expected not in seen.decode(errors="replace"):
            assert time.monotonic() < end, seen
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65536)
        found, seen = seen.decode(errors="replace"), b""
        return found

    try:
        setup = (
            f"unsetopt prompt_sp; autoload -U compinit && compinit -u -D; source {script}; LISTMAX=1000; "
            "bindkey '^X' list-choices; echo loa''ded"
        )
        os.write(terminal, setup.encode() + b"\r")
        until("loaded\r\n")
        os.write(terminal, line.encode() + b"\x18")
        # The list stands below the line, which is shown again behind it.
        listed = until("\nready> ").partition("\n")[2]
        return set(listed.rpartition("\n")[0].split())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_commands_are_offered(completed):
    assert {"show", "stacks", "top", "worker", "shutdown"} <= completed("oxicornctl ")


def test_what_begins_as_typed_is_offered(completed):
    offered = completed("oxicornctl re")
    assert {"reload", "refork", "reopen"} <= offered
    assert "show" not in offered


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("oxicornctl worker ", {"add", "remove", "kill", "recycle"}),
        ("oxicornctl show ", {"all", "workers", "queue", "requests", "listeners", "config", "stats", "dirty"}),
        ("oxicornctl shutdown ", {"graceful", "quick"}),
        ("oxicornctl loglevel ", {"debug", "info", "warning", "error", "critical"}),
    ],
)
def test_second_words_follow_their_first(completed, line, expected):
    offered = completed(line)
    assert expected <= offered
    assert "refork" not in offered
