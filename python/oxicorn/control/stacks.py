"""What workers have said of their calls, put to the requests that the gateway knows.

The answers come from workers, so nothing about them is taken for granted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from oxicorn.workers import stacks

Data = dict[str, Any]
Stack = dict[str, Any]

#: How a stream names a request: ``StreamId`` of the link, ``CallId`` of the gateway.
_PART = (1 << 24) - 1
_EPOCH = 48

_HEAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'^  File "(.*)", line (\d+|\?\?\?) in (.*)$')


def request_id(stream: int) -> str:
    """What the gateway calls the request of this stream."""
    return f"{stream & _PART}.{stream >> 24 & _PART}"


class WorkerStacks:
    """The stacks of one worker, by request."""

    def __init__(self, answer: Data | None) -> None:
        #: ``interpreter``, ``signal``, or None: it has not answered.
        self.taken_by: str | None = None
        #: Of threads and tasks that serve no request.
        self.others: list[Stack] = []
        self._by_request: dict[str, list[Stack]] = {}
        self._age: dict[str, float] = {}
        if answer is not None and not self._take_told(answer.get("stacks")):
            self._take_dump(answer)

    def of(self, request: str) -> list[Stack]:
        """Where a request is: a thread, or a task and what works for it; nothing: nobody knows."""
        return self._by_request.get(request, [])

    def all(self) -> list[Stack]:
        """Of every call, then of threads and tasks that serve none."""
        return [*(stack for each in self._by_request.values() for stack in each), *self.others]

    def age(self, request: str) -> float | None:
        """Seconds since the application was called for a request; None: it is not known."""
        return self._age.get(request)

    def _take_told(self, text: str | None) -> bool:
        try:
            told = json.loads(text or "")
            for call in _newest_last(told["calls"]):
                request = request_id(call["stream"])
                self._by_request[request] = call["stacks"]
                if call.get("age") is not None:
                    self._age[request] = float(call["age"])
            self.others = told["others"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        self.taken_by = "interpreter"
        return True

    def _take_dump(self, answer: Data) -> None:
        """Threads as faulthandler shows them; the book of calls says who has which request."""
        threads = _threads_of(answer.get("dump") or "")
        if not threads:
            return
        self.taken_by = "signal"
        try:
            calls = [
                {"stream": stream, "thread": thread, "age": age}
                for stream, thread, age, _ in json.loads(answer.get("calls") or "[]")
            ]
        except (ValueError, TypeError):
            calls = []
        for call in _newest_last(calls):
            stack = threads.pop(call["thread"], None)
            self._age[request_id(call["stream"])] = call["age"]
            if stack is not None:
                self._by_request[request_id(call["stream"])] = [stack]
        self.others = [stack for stack in threads.values() if stacks.is_news(stack)]


def _newest_last(calls: Iterable[Data]) -> list[Data]:
    """Of two requests that are called the same, one is of a gateway that is gone."""
    return sorted(calls, key=lambda call: call["stream"] >> _EPOCH)


def _threads_of(dump: str) -> dict[int, Stack]:
    threads: dict[int, Stack] = {}
    frames: list[Any] = []
    for line in dump.splitlines():
        if head := _HEAD.match(line):
            frames = []
            ident = int(head[1], 16)
            threads[ident] = {"where": f"thread {ident:#x}", "frames": frames}
        elif frame := _FRAME.match(line):
            number = int(frame[2]) if frame[2].isdecimal() else 0
            frames.append([frame[1], number, frame[3]])
    return {
        ident: {**stack, "frames": _trimmed(stack["frames"])} for ident, stack in threads.items()
    }


def _trimmed(frames: list[Any]) -> list[Any]:
    """Without the code that calls the application."""
    own = (at for at, frame in enumerate(frames) if frame[0].startswith(stacks.SERVER))
    frames = frames[: next(own, len(frames))]
    while frames and frames[-1][0].endswith(stacks.BEGINNINGS):
        frames.pop()
    return frames


def text(answer: Data, request: str) -> str:
    """What a request is doing; of an unknown one, or none, what all calls of its worker are doing.

    Empty if the worker has not answered.
    """
    found = WorkerStacks(answer)
    shown = found.of(request) or found.all()
    parts = ["\n".join([f"In {stack['where']}:", *_indented(stack)]) for stack in shown]
    return "\n\n".join(parts)


def _indented(stack: Stack) -> list[str]:
    return [f"  {line}" for line in lines(stack)]


def lines(stack: Stack) -> list[str]:
    """A stack for people, the most recent call first."""
    shown = [f'File "{file}", line {line}, in {name}' for file, line, name in stack["frames"]]
    if "awaits" in stack:
        shown.insert(0, f"(waits for {stack['awaits']})")
    return shown or ["(in no Python code but the server's)"]
