"""How much longer `oxicorn` takes to start than Python itself: CPU time, the least of many runs, side by side.

    .venv/bin/python bench/startup.py [RUNS]

`--version` needs the table's flags; "settings" reads environment, command line and an empty config file into the whole
table, as every start does; `--check-config` looks at everything else as well. The least of the runs is what the work costs; everything above is somebody else's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

RUNS = 40
BIN = Path(sys.executable).parent
APPLICATION = "def application(environ, start_response):\n    return []\n"
SETTINGS = "import sys; sys.argv[1:] = ['app']; from {}.app.wsgiapp import WSGIApplication; WSGIApplication()"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "oxicorn --version": [str(BIN / "oxicorn"), "--version"],
    "oxicorn: settings": [sys.executable, "-c", SETTINGS.format("oxicorn")],
    "gunicorn: settings": [sys.executable, "-c", SETTINGS.format("gunicorn")],
    "oxicorn --check-config app": [str(BIN / "oxicorn"), "--check-config", "app"],
    "gunicorn --check-config app": [str(BIN / "gunicorn"), "--check-config", "app"],
}


def cpu_time(command: list[str]) -> float:
    """Milliseconds of processor time that one run takes."""
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    os.close(null)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return 1000 * (usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Runs each command in turn, so that all have the same neighbours, and prints the least of each."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    commands = {name: command for name, command in COMMANDS.items() if Path(command[0]).exists()}
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        Path("app.py").write_text(APPLICATION)
        Path("gunicorn.conf.py").write_text("")
        least = dict.fromkeys(commands, float("inf"))
        for _ in range(runs):
            for name, command in commands.items():
                least[name] = min(least[name], cpu_time(command))
        os.chdir("/")
    python = least["python -c pass"]
    for name, milliseconds in least.items():
        print(f"{name:30} {milliseconds:6.1f} ms  {milliseconds - python:+6.1f}")


if __name__ == "__main__":
    main()
