"""The terminal of ``oxicornctl top``: what is where, and what keys do (those of htop)."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from oxicorn.control import text, top
from oxicorn.control.client import ControlClient, ControlError

try:
    import curses
except ImportError:
    # Pythons that were built without it.
    raise ControlError("this Python has no curses; show workers and top --json work") from None

HELP = """\
 Up Down PgUp PgDn Home End  mark a worker
 F6 > <                      sort by the column beside
 P M T N                     sort by CPU, memory, uptime, pid
 I                           turn the order round
 s Enter                     the stacks of the marked worker's requests
 k F9                        replace the marked worker (asks)
 + -                         one worker more, one less (asks)
 h F1 ?                      this
 q F10                       end
any key goes back"""

FOOTER = "F1 Help  F6 Sort  F9 Kill  F10 Quit"


def run(watcher: top.Watcher, client: ControlClient, delay: float, count: int) -> int:
    """Shows it until the user has seen enough, or so many looks (0: any number)."""
    try:
        return int(curses.wrapper(lambda window: Screen(window, watcher, client).run(delay, count)))
    except curses.error as error:
        raise ControlError(f"the terminal cannot be used: {error}") from None


class Screen:
    """A terminal that shows what a watcher sees."""

    def __init__(self, window: Any, watcher: top.Watcher, client: ControlClient) -> None:
        self._window = window
        self._watcher = watcher
        self._client = client
        self._view = top.View()
        self._said = ""
        with contextlib.suppress(curses.error):  # A terminal that cannot.
            curses.curs_set(0)

    def run(self, delay: float, count: int) -> int:
        """Looks, shows, waits for keys."""
        looks = 0
        due = 0.0
        look = None
        while True:
            if look is None or time.monotonic() >= due:
                look = self._watcher.look()
                due = time.monotonic() + delay
                looks += 1
            self._show(look)
            if looks == count > 0:
                return 0
            self._window.timeout(max(0, round(1000 * (due - time.monotonic()))))
            key = self._window.getch()
            if key != -1 and not self._press(key, look):
                return 0

    def _press(self, key: int, look: top.Look) -> bool:
        """What a key does; False: the end."""
        self._said = ""
        view, last = self._view, len(look.workers) - 1
        page = max(1, self._window.getmaxyx()[0] // 2)
        steps = {
            curses.KEY_UP: -1,
            curses.KEY_DOWN: 1,
            curses.KEY_PPAGE: -page,
            curses.KEY_NPAGE: page,
            curses.KEY_HOME: -last,
            curses.KEY_END: last,
        }
        columns = {"P": "CPU%", "M": "MEM", "T": "UPTIME", "N": "PID"}
        letter = chr(key) if 0 < key < 128 else ""
        if letter == "q" or key == curses.KEY_F10:
            return False
        if key in steps:
            view.marked = max(0, min(last, view.marked + steps[key]))
        elif letter in columns and letter:
            view.sort_by(columns[letter])
        elif letter in (">", "<") or key == curses.KEY_F6:
            view.next_column(-1 if letter == "<" else 1)
        elif letter == "I":
            view.inverted = not view.inverted
        elif letter in ("h", "?") or key == curses.KEY_F1:
            self._page(HELP.splitlines())
        else:
            self._order(key, letter, look)
        return True

    def _order(self, key: int, letter: str, look: top.Look) -> None:
        workers = self._view.sorted(look.workers)
        marked = workers[self._view.marked]["pid"] if self._view.marked < len(workers) else None
        if letter in ("s", "\n", "\r") and letter and marked is not None:
            words = ["stacks", str(marked)]
            self._page(text.of(words, self._client.send(*words)).splitlines())
        elif (letter == "k" or key == curses.KEY_F9) and marked is not None:
            self._ask(f"Replace worker {marked}?", "worker", "recycle", str(marked))
        elif letter == "+":
            self._ask("One worker more?", "worker", "add")
        elif letter == "-":
            self._ask("One worker less?", "worker", "remove")

    def _ask(self, question: str, *words: str) -> None:
        self._said = f"{question} (y/n)"
        self._write_footer()
        self._window.refresh()
        self._window.timeout(-1)
        key = self._window.getch()
        self._said = ""
        if key in (ord("y"), ord("Y")):
            try:
                self._client.send(*words)
                self._said = f"{' '.join(words)}: done"
            except ControlError as error:
                self._said = str(error)

    def _page(self, lines: list[str]) -> None:
        """Shows lines until a key that does not move among them."""
        first = 0
        self._window.timeout(-1)
        while True:
            self._follow_size()
            height = self._window.getmaxyx()[0]
            self._window.erase()
            for row, line in enumerate(lines[first : first + height - 1]):
                self._write(row, line)
            self._write(height - 1, f"{len(lines)} lines; Up Down move, other keys go back")
            self._window.refresh()
            key = self._window.getch()
            steps = {
                curses.KEY_UP: -1,
                curses.KEY_DOWN: 1,
                curses.KEY_PPAGE: 1 - height,
                curses.KEY_NPAGE: height - 1,
                curses.KEY_RESIZE: 0,
            }
            if key not in steps:
                return
            first = max(0, min(len(lines) - 1, first + steps[key]))

    def _follow_size(self) -> None:
        """The terminal may have another size now; curses does not always notice."""
        size = os.get_terminal_size()
        if (size.lines, size.columns) != self._window.getmaxyx():
            curses.resizeterm(size.lines, size.columns)
            self._window.clear()

    def _show(self, look: top.Look) -> None:
        self._follow_size()
        self._window.erase()
        height = self._window.getmaxyx()[0]
        row = 0
        for line in top.head(look):
            self._write(row, line)
            row += 1
        self._write(row + 1, top.worker_head(self._view), curses.A_REVERSE)
        row += 2
        workers = self._view.sorted(look.workers)
        self._view.marked = min(self._view.marked, max(0, len(workers) - 1))
        # Half of what is left is for workers, the rest for requests.
        room = max(1, (height - row - 2) // 2)
        first = max(0, self._view.marked - room + 1)
        for place, worker in enumerate(workers[first : first + room], first):
            style = curses.A_STANDOUT if place == self._view.marked else curses.A_NORMAL
            self._write(row, top.worker_line(worker), style)
            row += 1
        for line in top.request_lines(look)[: max(0, height - row - 2)]:
            row += 1
            self._write(row, line)
        self._write_footer()
        self._window.refresh()

    def _write_footer(self) -> None:
        height = self._window.getmaxyx()[0]
        self._write(height - 1, self._said or FOOTER, curses.A_REVERSE)

    def _write(self, row: int, line: str, style: int = 0) -> None:
        """One line, cut where the terminal ends. It may have become smaller just now."""
        height, width = self._window.getmaxyx()
        if 0 <= row < height:
            with contextlib.suppress(curses.error):
                self._window.addnstr(row, 0, line, max(0, width - 1), style)
