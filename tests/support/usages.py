"""Runs wrong usages of the command, one forked process each: ``python -m tests.support.usages < CASES``.

The package is imported once, so that a case costs milliseconds. Cases come as a JSON list of
``{"directory", "args", "env"}``; the answer is a JSON list of ``[exit code, what was printed]``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import NoReturn

#: Seconds until a case that does not end by itself is killed; its exit code is then -9.
DEADLINE = 60.0
OUTPUT = "output.log"


def main() -> None:
    """Starts all cases one after the other and prints what became of them."""
    import oxicorn.app.wsgiapp  # before the forks: that is what they are for

    cases = json.load(sys.stdin)
    print(json.dumps([run(oxicorn.app.wsgiapp.run, **case) for case in cases]))


def run(command, directory: str, args: list[str], env: dict[str, str]) -> tuple[int, str]:
    """The exit code of one case, and what it printed."""
    pid = os.fork()
    if pid == 0:
        become(command, directory, args, env)
    end = time.monotonic() + DEADLINE
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    with open(os.path.join(directory, OUTPUT), errors="replace") as file:
        return os.waitstatus_to_exitcode(status), file.read()


def become(command, directory: str, args: list[str], env: dict[str, str]) -> NoReturn:
    """In the child: the command, as if the shell had started it there."""
    os.setsid()
    os.chdir(directory)
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.environ.update(env, PWD=directory)
    sys.argv = ["oxicorn", *args]
    sys.path = [path for path in sys.path if path not in ("", os.getcwd())]
    code: object = 0
    try:
        command()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
