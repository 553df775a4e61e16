"""What the calls of a worker with an event loop are doing: their tasks, and what works for them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any

from oxicorn.workers.executor_calls import Work, current_call
from oxicorn.workers.stacks import (
    FRAMES_IN_ALL,
    SERVER,
    Collector,
    Frame,
    Stack,
    encoded,
    is_news,
    told,
)

if TYPE_CHECKING:
    from types import CodeType, FrameType

#: As ``AsgiServer.calls`` says: stream, task, seconds, what stands for the call in its context.
TaskCall = tuple[int, Any, float | None, Any]

#: Code that runs callbacks and steps of tasks.
_LOOP = (asyncio.events.__file__, SERVER)
_WORK: CodeType = Work.__call__.__code__


def of_tasks(calls: Sequence[TaskCall], loop: Any, loop_thread: int | None) -> bytes:
    """The calls of a worker with an event loop: their tasks, and the threads that work for them."""
    seen = Collector()
    running = asyncio.current_task(loop) if loop is not None and loop.is_running() else None
    faces = {id(face): stream for stream, _, _, face in calls}
    stacks: dict[int | None, list[Stack]] = {stream: [] for stream, _, _, _ in calls}
    stacks[None] = []
    tasks = {task: stream for stream, task, _, _ in calls if task is not None}

    def tell(stream: int | None, task: Any) -> None:
        if task is running and loop_thread is not None:
            stack = seen.thread(loop_thread, _LOOP)
            stacks[stream].append({**stack, "where": f"task {_name(task)}, which runs now"})
        else:
            stacks[stream].append(_of_task(seen, task))

    for task, stream in tasks.items():
        tell(stream, task)
    for task in _all_tasks(loop):
        if task not in tasks:
            tell(_call_of_context(_context_of(task), faces), task)
    for ident, frame in seen.frames.items():
        if ident != loop_thread:
            stacks[_call_of_thread(frame, faces)].append(seen.thread(ident))
    others = stacks.pop(None)
    if loop_thread is not None and running is None:
        # A callback that belongs to no task, if it is not just waiting.
        others.append(seen.thread(loop_thread, _LOOP))
    others = [stack for stack in others if is_news(stack)]
    found = [
        {"stream": stream, "age": age, "stacks": stacks[stream]} for stream, _, age, _ in calls
    ]
    return encoded(found, others)


def _of_task(seen: Collector, task: Any) -> Stack:
    """The stack of a task that waits: its coroutine, what that awaits, and so on."""
    frames: list[Frame] = []
    what = task.get_coro()
    while (inner := _frame_of(what)) is not None and len(frames) < FRAMES_IN_ALL:
        frame, awaited = inner
        if frame is not None:
            frames.append(told(frame))
        what = awaited
    frames.reverse()
    stack: Stack = {"where": f"task {_name(task)}", "frames": seen.bounded(frames)}
    if what is not None and frames:
        stack["awaits"] = type(what).__name__
    return stack


def _frame_of(what: Any) -> tuple[FrameType | None, Any] | None:
    """The frame of a coroutine and what it awaits; None of what is no coroutine."""
    for frame, awaited in (
        ("cr_frame", "cr_await"),
        ("gi_frame", "gi_yieldfrom"),
        ("ag_frame", "ag_await"),
    ):
        if hasattr(what, frame):
            return getattr(what, frame), getattr(what, awaited)
    return None


def _name(task: Any) -> str:
    return str(task.get_name()) if hasattr(task, "get_name") else type(task).__name__


def _all_tasks(loop: Any) -> Iterable[Any]:
    try:
        return asyncio.all_tasks(loop) if loop is not None else ()
    except RuntimeError:
        # Too much was going on; the tasks of calls are known anyway.
        return ()


def _context_of(task: Any) -> Any:
    get_context = getattr(task, "get_context", None)
    if get_context is not None:
        return get_context()
    # Before Python 3.12 nobody says; but what a task refers to is known, its own context first.
    referents = gc.get_referents(task)
    return next((one for one in referents if isinstance(one, Context)), None)


def _call_of_context(context: Any, faces: dict[int, int]) -> int | None:
    return None if context is None else faces.get(id(context.get(current_call)))


def _call_of_thread(frame: FrameType | None, faces: dict[int, int]) -> int | None:
    """The call that this thread works for: asyncio's executor, or a worker thread of anyio's."""
    while frame is not None:
        if frame.f_code is _WORK:
            return faces.get(id(frame.f_locals["self"].call))
        if frame.f_code.co_name == "run" and "anyio" in frame.f_code.co_filename:
            return _call_of_context(frame.f_locals.get("context"), faces)
        frame = frame.f_back
    return None
