"""Between control socket and native loop: who asked what, and what is missing for the answer."""

from __future__ import annotations

import os
import weakref
from typing import Any

from oxicorn.control import commands, protocol
from oxicorn.control.server import ControlServer, InUseError, Request

#: (token, how many requests, pids whose stacks are needed, stacks of all workers needed, who
#: follows which requests)
Question = tuple[int, int, list[int], bool, tuple[int, str] | None]


class ControlDesk:
    """Opens the socket, turns messages into commands and commands into replies."""

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter
        self._server: ControlServer | None = None
        self._requests: dict[int, tuple[Request, list[str]]] = {}

    def open(self, path: str, mode: int) -> int | None:
        """Begins to listen; the descriptor to wait for, None where it is not possible (logged)."""
        log = self._arbiter.log
        try:
            self._server = ControlServer(path, mode)
        except InUseError as error:
            log.warning(
                "No control socket at %s: %s. Set control_socket to another path.",
                path,
                error.strerror,
            )
            return None
        except OSError as error:
            log.warning("No control socket at %s: %s", path, error.strerror or error)
            return None
        log.info("Control socket listening at %s", self._server.path)
        _forget_in_children(self)
        return self._server.descriptor

    def turn(self) -> list[Question]:
        """What clients ask for, and what is needed to answer it."""
        questions = []
        if self._server is not None:
            for request in self._server.turn():
                question = self._take(request)
                if question is not None:
                    questions.append(question)
        return questions

    def _take(self, request: Request) -> Question | None:
        try:
            words = commands.words_of(request.message)
            if not words:
                self._refuse(request, "Empty command")
                return None
            needs = commands.needs(words)
        except commands.CommandError as error:
            self._refuse(request, f"Invalid argument: {error}")
            return None
        self._requests[request.token] = (request, words)
        every = needs.stacks is None
        return request.token, needs.requests, needs.stacks or [], every, needs.follower

    def answer(self, token: int, facts: dict[str, Any]) -> None:
        """Follows the command, and tells how it went."""
        request, words = self._requests.pop(token)
        log = self._arbiter.log
        if commands.changes(words):
            who = user_name(request.uid)
            log.info("Control: %r by pid %s of user %s", " ".join(words), request.pid, who)
        try:
            data = commands.execute(self._arbiter, words, commands.Facts(**facts))
        except commands.CommandError as error:
            if commands.changes(words):
                log.info("Control: %r was refused: %s", " ".join(words), error)
            return self._refuse(request, f"Invalid argument: {error}")
        except Exception as error:
            log.exception("Command error")
            return self._refuse(request, f"Command failed: {error}")
        if self._server is not None:
            self._server.answer(token, protocol.reply(request.message.get("id", 0), data))
        return None

    def _refuse(self, request: Request, error: str) -> None:
        if self._server is not None:
            self._server.answer(
                request.token, protocol.refusal(request.message.get("id", 0), error)
            )

    def close(self) -> None:
        """The end: the socket's file goes."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def forget(self) -> None:
        """In a forked child."""
        if self._server is not None:
            self._server.forget()
            self._server = None


def user_name(uid: int) -> str:
    """The name of a user of this machine, or the number.

    Only ``/etc/passwd`` is looked at: a directory service may let whoever asks it wait.
    """
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
            users = (line.split(":") for line in file)
            return next((user[0] for user in users if user[2:3] == [str(uid)]), str(uid))
    except OSError:
        return str(uid)


def _forget_in_children(desk: ControlDesk) -> None:
    """A child that kept the descriptors would answer for a server that is gone."""
    reference = weakref.ref(desk)

    def forget() -> None:
        desk = reference()
        if desk is not None:
            desk.forget()

    os.register_at_fork(after_in_child=forget)
