"""``oxicornctl``: asks and tells a running server."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Sequence

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
        if shell not in ("bash", "zsh", "fish"):
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
        print(json.dumps(data, indent=2) if options.json else text.of(words, data))
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
    """Reloads, and waits until the new generation serves or the reload has been given up."""
    before = client.send("show", "stats")
    begun = time.monotonic()
    client.send("reload")
    while time.monotonic() - begun < options.timeout:
        now = client.send("show", "stats")
        took = round(time.monotonic() - begun, 2)
        if now["generation"] > before["generation"] and now["loading"] is None:
            return _tell(
                options, {"status": "reloaded", "generation": now["generation"], "seconds": took}, 0
            )
        if now["reloads_failed"] > before["reloads_failed"] and now["loading"] is None:
            reason = "refused or given up: the error log says why. The code before goes on serving."
            return _tell(
                options, {"status": "failed", "generation": now["generation"], "error": reason}, 1
            )
        time.sleep(INTERVAL)
    raise ControlError(f"the reload has not ended after {options.timeout:g} s; it goes on")


def _tell(options: argparse.Namespace, outcome: dict[str, object], code: int) -> int:
    if options.json:
        print(json.dumps(outcome, indent=2))
    elif code == 0:
        print(f"Reloaded: generation {outcome['generation']} serves after {outcome['seconds']} s")
    else:
        print(f"Error: the reload was {outcome['error']}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
