"""What signals, hooks and subclasses ask the arbiter for: Gunicorn's methods, given on as orders.

A signal calls its ``handle_*`` method, which calls what it calls in Gunicorn (``reload``,
``stop``); what a subclass overrides on the way is run. At the end of each way is an order, which
the native loop fetches before it waits the next time. Nothing here does what it is asked for: when
a worker is forked and when it has to leave is decided by the native side alone.
"""

from __future__ import annotations

import os
import signal
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = ["Commands"]

#: Methods of Gunicorn's arbiter that nobody calls here, and where a subclass does what it would do
#: in them.
_NOT_CALLED = {
    "handle_chld": "the hook child_exit",
    "handle_cld": "the hook child_exit",
    "maybe_promote_master": "the hook when_ready",
    "murder_workers": "the settings timeout and boot_timeout, and the hook worker_abort",
    "reap_workers": "the hook child_exit",
    "signal": "a handle_* method, such as handle_hup",
    "signal_chld": "the hook child_exit",
    "spawn_worker": "the hooks pre_fork and post_fork",
    "spawn_workers": "the hooks pre_fork and post_fork, or manage_workers",
    "wait_for_signals": "manage_workers",
    "kill_dirty_arbiter": "the hooks on_dirty_starting and dirty_worker_exit",
    "manage_dirty_arbiter": "the hooks on_dirty_starting and dirty_worker_exit",
    "reap_dirty_arbiter": "the hooks on_dirty_starting and dirty_worker_exit",
    "spawn_dirty_arbiter": "the hooks on_dirty_starting and dirty_worker_exit",
}


class Commands:
    """The part of ``Arbiter`` that is called by signals and may be overridden."""

    #: Signals that are commands, as Gunicorn lists them.
    SIGNALS: ClassVar[list[signal.Signals]] = [
        getattr(signal, f"SIG{name}")
        for name in "HUP QUIT INT TERM TTIN TTOU USR1 USR2 WINCH".split()
    ]
    SIG_NAMES: ClassVar[dict[int, str]] = {
        int(number): number.name.removeprefix("SIG").lower() for number in SIGNALS
    }

    log: Any
    master_pid: int

    def __init__(self) -> None:
        #: What the native loop has still to do, oldest first.
        self._orders: deque[str] = deque()
        #: Whether ``stop`` was called, or the end has begun without it.
        self._told_to_stop = False
        self._ending = False

    # Called by the native loop.

    def handle_signal(self, number: int) -> None:
        """Runs the method of a signal. StopIteration ends the server, other errors are logged."""
        name = self.SIG_NAMES[number]
        orders = len(self._orders)
        try:
            getattr(self, f"handle_{name}")()
        except (StopIteration, KeyboardInterrupt):
            # A second stop would make it a quick one.
            if len(self._orders) == orders:
                self.stop()
        except Exception:
            self.log.exception("Exception in handle_%s", name)
        if len(self._orders) == orders:
            # An order says so itself.
            self.log.info("Handling signal: %s", name)

    def next_order(self) -> str | None:
        """The oldest order that nobody has carried out; None: there is none."""
        return self._orders.popleft() if self._orders else None

    @classmethod
    def overrides(cls, name: str) -> bool:
        """Whether a subclass of the arbiter has a method ``name`` of its own."""
        return any(name in vars(base) for base in _own_bases(cls))

    @classmethod
    def refuse_uncalled(cls) -> None:
        """RuntimeError if a subclass overrides what is never called, and would do nothing."""
        for base in _own_bases(cls):
            for name in sorted(vars(base).keys() & _NOT_CALLED.keys()):
                raise RuntimeError(
                    f"{base.__qualname__}.{name} is never called by oxicorn. "
                    f"Use {_NOT_CALLED[name]} instead"
                )

    # What signals do.

    def handle_hup(self) -> None:
        """HUP: a reload."""
        self.reload()

    def handle_term(self) -> None:
        """TERM: the end, gracefully."""
        self.stop()

    def handle_int(self) -> None:
        """INT: the end, quickly."""
        self._told_to_stop = True
        self._order("int", signal.SIGINT)

    def handle_quit(self) -> None:
        """QUIT: the end, quickly."""
        self.stop(False)

    def handle_ttin(self) -> None:
        """TTIN: one worker more."""
        self._order("ttin", signal.SIGTTIN)

    def handle_ttou(self) -> None:
        """TTOU: one worker less."""
        self._order("ttou", signal.SIGTTOU)

    def handle_usr1(self) -> None:
        """USR1: log files are opened anew."""
        self._order("usr1", signal.SIGUSR1)

    def handle_usr2(self) -> None:
        """USR2: a successor is started."""
        self.reexec()

    def handle_winch(self) -> None:
        """WINCH: in the background, the end of all workers."""
        self._order("winch", signal.SIGWINCH)

    # What hooks and programs call.

    def reload(self) -> None:
        """Asks for a reload, as SIGHUP does."""
        self._order("hup", signal.SIGHUP)

    def stop(self, graceful: bool = True) -> None:
        """Asks for the end, as SIGTERM (graceful) or SIGQUIT do."""
        self._told_to_stop = True
        if not self._ending:
            self._order(*(("term", signal.SIGTERM) if graceful else ("quit", signal.SIGQUIT)))

    def end_begins(self) -> None:
        """The server ends: a subclass's ``stop`` runs also where nobody asked for the end."""
        if not self._told_to_stop:
            self._ending = True
            self.stop()
            self._ending = False

    def reexec(self) -> None:
        """Asks for a successor, as SIGUSR2 does."""
        self._order("usr2", signal.SIGUSR2)

    def spawn_worker(self) -> int:
        """Asks for one worker more than wanted: as soon as it is ready the oldest one leaves.

        Returns 0: unlike in Gunicorn the process is forked later, so its pid is not known yet.
        """
        self._order("spawn_worker", None)
        return 0

    def spawn_workers(self) -> None:
        """Not needed: the loop makes workers as soon as there are too few."""

    def manage_workers(self) -> None:
        """For subclasses: called each second, and when a worker was started, became ready or ended.

        Here it does nothing: the loop makes and ends workers as soon as there is a reason.
        """

    def init_signals(self) -> None:
        """For subclasses: called when the signals are caught; ``signal.signal`` replaces that."""

    def wakeup(self) -> None:
        """Wakes the loop: from another thread than its own, after something was asked for."""
        os.kill(self.master_pid, signal.SIGCHLD)

    def ask_for(self, order: str) -> None:
        """What no signal stands for; in the arbiter only."""
        self._order(order, None)

    def _order(self, order: str, number: signal.Signals | None) -> None:
        if os.getpid() == self.master_pid:
            self._orders.append(order)
            self.wakeup()
        elif number is not None:
            # In a worker this object is a copy.
            os.kill(self.master_pid, number)
        else:
            raise RuntimeError(f"{order} can only be asked for in the arbiter")


def _own_bases(cls: type) -> list[type]:
    """The classes of a program: those before ours in the order of methods."""
    return [base for base in cls.__mro__ if not base.__module__.startswith("oxicorn.")]
