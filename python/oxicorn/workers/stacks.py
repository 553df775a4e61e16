"""What the calls of a worker are doing: the Python stack of each, and where it runs.

Looked at from a native thread that has the interpreter for a moment. Nothing is stopped and no code
of the application is run: frames are read, values are not. Innermost frames come first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

#: Frames that are told of one stack, the innermost ones.
FRAMES = 60
#: Frames in all: what is beyond them is left out, so that an answer has a bound.
FRAMES_IN_ALL = 20_000

#: Code that calls the application: what is around it is the server's.
SERVER = os.path.dirname(__file__) + os.sep

#: Where threads begin: nobody needs to be told.
BEGINNINGS = ("/threading.py", "/concurrent/futures/thread.py")
#: Where an event loop, or a thread of its pool, waits for something to happen.
IDLE = ("/selectors.py", "/asyncio/base_events.py", "/gevent/hub.py", "/gevent/threadpool.py")

#: file, line, function
Frame = tuple[str, int, str]
Stack = dict[str, Any]
#: As ``WorkerContext.calls`` says: stream, identity of the thread, seconds since it began, seconds
#: it had waited for the interpreter, greenlet.
ThreadCall = tuple[int, int, float, float, Any]


class Collector:
    """One look at all threads."""

    def __init__(self) -> None:
        self.frames = sys._current_frames()
        self.frames.pop(threading.get_ident(), None)
        self._names = {thread.ident: thread.name for thread in threading.enumerate()}
        self._left = FRAMES_IN_ALL

    def thread(self, ident: int, within: str | tuple[str, ...] = SERVER) -> Stack:
        """The stack of a thread, up to the code whose file begins with ``within``."""
        name = self._names.get(ident) or str(ident)
        return {
            "where": f"thread {name}",
            "frames": self.walk(self.frames.get(ident), within),
        }

    def greenlet(self, greenlet: Any, within: str | tuple[str, ...]) -> Stack | None:
        """The stack of a greenlet that waits; None of one that runs."""
        frame = getattr(greenlet, "gr_frame", None)
        if frame is None:
            return None
        kind = type(greenlet).__name__
        return {"where": f"greenlet {kind} {id(greenlet):#x}", "frames": self.walk(frame, within)}

    def walk(self, frame: FrameType | None, within: str | tuple[str, ...]) -> list[Frame]:
        """A frame and those that called it."""
        frames: list[Frame] = []
        while frame is not None and len(frames) < FRAMES:
            if frame.f_code.co_filename.startswith(within):
                break
            frames.append(told(frame))
            frame = frame.f_back
        while frames and frames[-1][0].endswith(BEGINNINGS):
            frames.pop()
        return self.bounded(frames)

    def bounded(self, frames: list[Frame]) -> list[Frame]:
        frames = frames[: min(FRAMES, self._left)]
        self._left -= len(frames)
        return frames


def of_threads(calls: Sequence[ThreadCall]) -> bytes:
    """The calls of a worker whose threads (or greenlets) serve."""
    seen = Collector()
    busy = set()
    calls_told = []
    for stream, ident, age, waited, greenlet in calls:
        stack = seen.greenlet(greenlet, SERVER)
        if stack is None:
            busy.add(ident)
            stack = seen.thread(ident, SERVER)
        calls_told.append({"stream": stream, "age": age, "waited": waited, "stacks": [stack]})
    others = [
        stack for ident in seen.frames if ident not in busy if is_news(stack := seen.thread(ident))
    ]
    return encoded(calls_told, others)


def encoded(calls: list[dict[str, Any]], others: list[Stack]) -> bytes:
    return json.dumps({"calls": calls, "others": others}).encode()


def is_news(stack: Stack) -> bool:
    """Of those that serve no request: not the server's own, nor one that has nothing to do."""
    frames = stack["frames"]
    return bool(frames) and not frames[0][0].endswith(IDLE) and not frames[-1][0].startswith(SERVER)


def told(frame: FrameType) -> Frame:
    code = frame.f_code
    # Of a frame that is just being entered there is no line yet.
    line = frame.f_lineno or code.co_firstlineno
    return code.co_filename, line, getattr(code, "co_qualname", code.co_name)
