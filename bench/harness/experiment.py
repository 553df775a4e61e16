"""What an experiment is, and how it is carried out: interleaved rounds, every server started anew for each.

An experiment yields one figure a round and server; smaller is better. Its targets compare the summary over the rounds
(the median, unless said otherwise) of oxicorn's with a peer's, or with a fixed value.
"""

import statistics
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.clients import ClientFailure, answers
from harness.processes import Server, StartFailure
from harness.servers import APPLICATIONS, CONTENDERS, Contender, Shape, environment, free_port

SUBJECT = "oxicorn"
START_PATIENCE = 20.0
START_PAUSE = 0.02
#: One worker has answered; the others are given this much longer.
SIBLINGS_PAUSE = 0.5
#: A machine on which others use more of the processors than this gives no figures worth keeping.
TOLERATED_DISTURBANCE = 0.10


@dataclass(frozen=True)
class Sample:
    """One round's figure of one server, with what explains it.

    A complaint says that the server did not do its work; a disturbance, that others kept the machine busy.
    """

    value: float
    details: dict[str, float] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()
    disturbance: float = 0.0

    @property
    def is_disturbed(self) -> bool:
        return self.disturbance > TOLERATED_DISTURBANCE


@dataclass(frozen=True)
class Target:
    """At most `limit` of the peer's figure; without a peer, at most `limit`."""

    limit: float
    peer: str | None = None
    #: equal is not enough
    strictly: bool = False
    #: a column of the table, where it is not the figure that is compared
    column: str | None = None

    def holds(self, ratio: float) -> bool:
        return ratio < self.limit if self.strictly else ratio <= self.limit

    def __str__(self) -> str:
        sign = "<" if self.strictly else "<="
        what = f"{self.column} " if self.column else ""
        return f"{what}{sign} {self.limit:g}" + (f" x {self.peer}" if self.peer else "")


@dataclass(frozen=True)
class Settings:
    """What the user chose, and what is the same for all experiments of a run."""

    rounds: int
    seconds: float
    scratch: Path
    variables: dict[str, str]
    #: None: the servers each experiment names
    servers: tuple[str, ...] | None
    #: what has been found out once and holds for the run: see `once`
    found: dict[Hashable, float] = field(default_factory=dict)

    def once(self, key: Hashable, find: Callable[[], float]) -> float:
        """A figure that all servers and rounds of the run are to share."""
        if key not in self.found:
            self.found[key] = find()
        return self.found[key]


class Bench:
    """Starts servers for a measure."""

    def __init__(self, settings: Settings, contender: Contender, shape: Shape) -> None:
        self.settings = settings
        self.shape = shape
        self.port = free_port()
        self._contender = contender

    def beside(self, name: str) -> "Bench":
        """The same for another server."""
        contender = CONTENDERS[name]
        if reason := contender.missing():
            raise StartFailure(reason)
        return Bench(self.settings, contender, self.shape)

    def launch(self) -> Server:
        """The server's process exists; it need not answer yet."""
        return Server(
            self._contender.command(self.shape, self.port),
            environment({**self.settings.variables, **dict(self.shape.variables)}),
            APPLICATIONS,
            self.settings.scratch / f"{self._contender.name}.log",
        )

    def start(self, path: str = "/") -> Server:
        """The server answers."""
        server = self.launch()
        try:
            server.wait_until(lambda: answers(self.port, path, self.shape.tls), START_PATIENCE, START_PAUSE)
        except BaseException:
            server.stop()
            raise
        if self.shape.workers > 1:
            time.sleep(SIBLINGS_PAUSE)
        return server


Measure = Callable[[Bench], Sample]


@dataclass(frozen=True)
class Experiment:
    name: str
    title: str
    unit: str
    shape: Shape
    measure: Measure
    servers: tuple[str, ...]
    targets: tuple[Target, ...]
    summary: Callable[[Iterable[float]], float] = statistics.median
    #: more than these add nothing
    most_rounds: int = 1000
    #: a server without threads may take part with one
    threads_optional: bool = False
    #: details that stand beside the figure in the table
    columns: tuple[str, ...] = ()
    #: names several experiments at once
    group: str | None = None


@dataclass
class Outcome:
    """The samples of one experiment, by server; and why a server has none."""

    experiment: Experiment
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def usable(self, server: str) -> list[Sample]:
        """The samples of undisturbed rounds; all of them, for want of better, where there was none."""
        samples = self.samples.get(server, [])
        return [sample for sample in samples if not sample.is_disturbed] or samples

    def figure(self, server: str) -> float | None:
        samples = self.usable(server)
        return self.experiment.summary(sample.value for sample in samples) if samples else None

    def compared(self, server: str, target: Target) -> float | None:
        """What the target looks at."""
        if target.column and server in self.samples:
            return self.detail(server, target.column)
        return self.figure(server)

    def detail(self, server: str, name: str) -> float:
        """Median of a detail, over the same rounds as the figure."""
        return statistics.median(sample.details[name] for sample in self.usable(server))

    def is_disturbed(self, server: str) -> bool:
        return any(sample.is_disturbed for sample in self.usable(server))

    def complaints(self, server: str) -> list[str]:
        found = [complaint for sample in self.samples.get(server, ()) for complaint in sample.complaints]
        return list(dict.fromkeys(found))

    def verdicts(self) -> list["Verdict"]:
        return [judge(self, target) for target in self.experiment.targets]


@dataclass(frozen=True)
class Verdict:
    target: Target
    ratio: float | None
    #: "pass", "FAIL" or "not measured"
    word: str
    reason: str = ""


def judge(outcome: Outcome, target: Target) -> Verdict:
    ours = outcome.compared(SUBJECT, target)
    theirs = outcome.compared(target.peer, target) if target.peer else 1.0
    if ours is None or not theirs:
        who = SUBJECT if ours is None else str(target.peer)
        return Verdict(target, None, "not measured", f"no figure of {who}")
    ratio = ours / theirs
    if complaints := outcome.complaints(SUBJECT):
        return Verdict(target, ratio, "FAIL", complaints[0])
    if target.peer and (complaints := outcome.complaints(target.peer)):
        return Verdict(target, ratio, "not measured", f"{target.peer}: {complaints[0]}")
    if outcome.is_disturbed(SUBJECT) or (target.peer and outcome.is_disturbed(target.peer)):
        return Verdict(target, ratio, "not measured", "others kept the machine busy in every round")
    return Verdict(target, ratio, "pass" if target.holds(ratio) else "FAIL")


def contenders_of(experiment: Experiment, settings: Settings) -> tuple[dict[str, Contender], dict[str, str]]:
    """Who takes part, and who does not and why."""
    present: dict[str, Contender] = {}
    absent: dict[str, str] = {}
    for name in settings.servers or experiment.servers:
        contender = CONTENDERS[name]
        if reason := contender.missing():
            absent[name] = reason
        elif experiment.shape.interface not in contender.interfaces:
            absent[name] = f"serves no {experiment.shape.interface.upper()}"
        elif experiment.shape.threads > 1 and not (contender.takes_threads or experiment.threads_optional):
            absent[name] = "has no threads"
        else:
            present[name] = contender
    return present, absent


def carry_out(experiment: Experiment, settings: Settings, say: Callable[[str], None]) -> Outcome:
    present, absent = contenders_of(experiment, settings)
    outcome = Outcome(experiment, absent=absent)
    rounds = min(settings.rounds, experiment.most_rounds)
    for number in range(1, rounds + 1):
        for name in [name for name in present if name not in outcome.absent]:
            try:
                sample = experiment.measure(Bench(settings, present[name], experiment.shape))
            except (StartFailure, ClientFailure, OSError) as failure:
                # One failed round spoils the server's figure: it is left out, visibly, rather than flattered.
                outcome.absent[name] = f"round {number}: {failure}"
                outcome.samples.pop(name, None)
                say(f"  round {number}/{rounds}  {name:10} {failure}")
                continue
            outcome.samples.setdefault(name, []).append(sample)
            say(f"  round {number}/{rounds}  {name:10} {describe(sample, experiment.unit)}")
    return outcome


def describe(sample: Sample, unit: str) -> str:
    details = (f"{name} {value:,.6g}" for name, value in sample.details.items())
    disturbed = f"others used {sample.disturbance:.0%} of the machine" if sample.is_disturbed else ""
    return "  ".join(filter(None, (f"{sample.value:9.2f} {unit}", *details, *sample.complaints, disturbed)))
