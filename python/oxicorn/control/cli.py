"""``oxicornctl``: asks and tells a running server."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Sequence
from typing import Any

from oxicorn import SERVER_SOFTWARE
from oxicorn.control import completion, text
from oxicorn.control.client import ControlClient, ControlError, default_path

#: Seconds between two looks at a reload, or at requests that pass.
INTERVAL = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code: 0 done, 1 refused or failed, 130 interrupted."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        return _run(options)
    except ControlError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who reads our output has seen enough.
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oxicornctl",
        description="Asks and tells a running server over its control socket (control_socket).",
        epilog="`oxicornctl help` lists the commands.",
    )
    parser.add_argument(
        "-s", "--socket", default=default_path(), help="path of the control socket (%(default)s)"
    )
    parser.add_argument("-j", "--json", action="store_true", help="print the answer as JSON")
    parser.add_argument(
        "--no-wait", action="store_true", help="reload: do not wait for how it ends"
    )
    parser.add_argument(
        "--timeout", type=float, default=300.0, help="reload: seconds to wait (%(default)s)"
    )
    parser.add_argument(
        "-n", "--count", type=int, default=0, help="trace, top: end after so many requests, looks"
    )
    parser.add_argument(
        "-d", "--delay", type=float, default=1.0, help="top: seconds between looks (%(default)s)"
    )
    parser.add_argument(
        "-v", "--version", action="version", version=f"oxicornctl ({SERVER_SOFTWARE})"
    )
    parser.add_argument("command", nargs="+", help="such as: show workers, stacks, reload")
    return parser


def _run(options: argparse.Namespace) -> int:
    words = [word for part in options.command for word in part.split()]
    if words[0] == "completion":
        shell = words[1] if len(words) > 1 else ""
        if shell not in completion.SHELLS:
            raise ControlError("completion for which shell? (bash|zsh|fish)")
        print(completion.script(shell), end="")
        return 0
    with ControlClient(options.socket) as client:
        if words == ["reload"] and not options.no_wait:
            return _reload(client, options)
        if words[0] == "trace":
            return _trace(client, " ".join(words[1:]), options)
        if words == ["top"]:
            from oxicorn.control import top

            return top.run(client, options)
        data = client.send(*words)
        if options.json:
            print(json.dumps(data, indent=2))
        elif not data.get("success", True):
            raise ControlError(str(data["error"]))
        else:
            print(text.of(words, data))
        return 0 if data.get("success", True) else 1


def _trace(client: ControlClient, pattern: str, options: argparse.Namespace) -> int:
    """Tells of requests as they pass, until it is interrupted or ``--count`` have ended."""
    follower = str(secrets.randbits(63))
    ended = 0
    while True:
        told = client.send("trace", follower, pattern)
        now = time.time()
        for event in told["events"]:
            when = now - event.pop("ago_ms") / 1000
            if options.json:
                print(json.dumps({**event, "time": round(when, 3)}), flush=True)
            else:
                print(text.followed(event, when), flush=True)
            ended += event["event"] == "end"
            if ended == options.count > 0:
                return 0
        if told["lost"]:
            print(f"({told['lost']} more came too fast to be shown)", file=sys.stderr)
        if not told["more"]:
            time.sleep(INTERVAL)


def _reload(client: ControlClient, options: argparse.Namespace) -> int:
    """Reloads, and waits until the new generation serves or the reload has been given up.

    HTTP workers and the pool of heavy applications load the new code by themselves: either may
    refuse it.
    """
    before = client.send("show", "stats")
    begun = time.monotonic()
    client.send("reload")
    while time.monotonic() - begun < options.timeout:
        now = client.send("show", "stats")
        is_over = now["generation"] > before["generation"] or (
            now["reloads_failed"] > before["reloads_failed"]
        )
        pool = now["dirty"]
        if is_over and now["loading"] is None and (pool is None or pool["loading"] is None):
            took = round(time.monotonic() - begun, 2)
            return _tell(options, *_outcome(before, now, took))
        time.sleep(INTERVAL)
    raise ControlError(f"the reload has not ended after {options.timeout:g} s; it goes on")


def _outcome(
    before: dict[str, Any], now: dict[str, Any], took: float
) -> tuple[dict[str, Any], str, int]:
    """How a reload has ended: for programs, for people, and as an exit code."""
    generation, pool = now["generation"], now["dirty"]
    web_refused = generation == before["generation"]
    pool_refused = _pool_refused(before["dirty"], pool)
    outcome: dict[str, Any] = {"status": "failed" if web_refused or pool_refused else "reloaded"}
    outcome["generation"] = generation
    if not web_refused:
        outcome["seconds"] = took
    if pool is not None:
        state = {"status": "failed", "error": pool_refused} if pool_refused else {}
        outcome["dirty"] = {"status": "reloaded", "generation": pool["generation"], **state}
    if web_refused:
        outcome["error"] = (
            "refused or given up: the error log says why. The code before goes on serving."
        )
        return outcome, f"Error: the reload was {outcome['error']}", 1
    if pool_refused:
        outcome["error"] = f"refused by the pool of heavy applications: {pool_refused}"
        text = f"Error: the reload was {outcome['error']}. HTTP workers have the new code"
        return outcome, text, 1
    return outcome, f"Reloaded: generation {generation} serves after {took} s", 0


def _pool_refused(before: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    """Why the pool has not got the new code as a whole; empty: it has, or there is none."""
    if now is None:
        return ""
    # A pool that the reload has made has refused nothing yet.
    if before is not None and now["reloads_failed"] > before["reloads_failed"]:
        return str(now["error"])
    failures = now["failures"]
    return "; ".join(f"{path} cannot be loaded: {why}" for path, why in failures.items())


def _tell(options: argparse.Namespace, outcome: dict[str, Any], text: str, code: int) -> int:
    if options.json:
        print(json.dumps(outcome, indent=2))
    else:
        print(text, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
