"""What the error log says of a slow request: where its time went, and what it is doing."""

from __future__ import annotations

from typing import Any

from oxicorn import request_ids
from oxicorn.control.stacks import WorkerStacks, lines


def text(fact: dict[str, Any]) -> str:
    """The lines for a request that has been in its worker for ``slow_request_time``."""
    found = WorkerStacks(fact["answer"])
    in_worker = fact["age_ms"] / 1000
    # Before the application was called its thread waited for the interpreter, or for another call.
    in_application = min(in_worker, found.age(fact["id"]) or in_worker)
    head = (
        f"Slow request, {in_worker:.1f} s in worker (pid:{fact['pid']}) "
        f"after {fact['queued_ms'] / 1000:.1f} s in the queue: {fact['request']} "
        f"from {fact['client']}{request_ids.of_fact(fact)}"
    )
    parts = (
        ("client", fact["received_ms"] / 1000),
        ("queue", fact["queued_ms"] / 1000),
        ("interpreter", in_worker - in_application),
        ("application", in_application),
    )
    shown = [head, "  Time: " + ", ".join(f"{name} {taken:.3f} s" for name, taken in parts)]
    stacks = found.of(fact["id"])
    if not stacks and found.others:
        shown.append("  Which thread has it is not known:")
        stacks = found.others
    for stack in stacks:
        shown.append(f"  In {stack['where']}:")
        shown += [f"    {line}" for line in lines(stack)]
    if not stacks:
        shown.append("  Its worker gave no stacks")
    return "\n".join(shown)
