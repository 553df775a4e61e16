"""Metrics of an application: counters, gauges and histograms, shown with those of the server.

They live in memory that all processes of a server share (setting ``metrics_memory``), and are
served at ``metrics_bind`` behind the server's own: right across workers, their threads and their
successors, as long as the server runs. Names and arguments are those of ``prometheus_client``::

    from oxicorn.metrics import Counter, Gauge, Histogram

    orders = Counter("shop_orders", "Orders placed.", labelnames=("kind",))
    open_carts = Gauge("shop_open_carts", "Carts in use.", multiprocess_mode="livesum")
    lookups = Histogram("shop_lookup_seconds", "Time of a lookup in the catalogue.")

    orders.labels("book").inc()
    with lookups.time():
        ...

A metric is declared once, where a module is imported, and used from any thread or task. Declared
before the server forks (``preload_app``, a config file) it is the same metric in every worker. In a
program without a server it is kept in plain memory, shared with processes that are forked after
this module was imported, and :func:`exposition` shows it.

A process that an application forks counts like any other.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import re
import time
from typing import TYPE_CHECKING, Any

from oxicorn import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Literal, TypeVar

    from typing_extensions import ParamSpec, Self

    P = ParamSpec("P")
    R = TypeVar("R")

    Mode = Literal[
        "all",
        "liveall",
        "min",
        "livemin",
        "max",
        "livemax",
        "sum",
        "livesum",
        "mostrecent",
        "livemostrecent",
    ]

__all__ = ["DEFAULT_BUCKETS", "Counter", "Gauge", "Histogram", "exposition"]

#: Upper bounds in seconds, as ``prometheus_client`` has them.
DEFAULT_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, math.inf,
)  # fmt: skip

#: What begins so is the server's.
RESERVED = "oxicorn_"

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*\Z")

#: What metrics of this process are called, and as what they were declared.
_declared: dict[str, tuple[Any, ...]] = {}

# Where there is no server, this is what the processes that are forked from now on share.
_native.metrics_memory()


class _Family:
    """What all kinds have: a name, labels, and a series for each set of label values."""

    kind = ""
    #: Labels that a kind needs for itself.
    reserved_labels: tuple[str, ...] = ()
    #: Ends of the names of its samples.
    suffixes: tuple[str, ...] = ("",)

    def __init__(
        self, name: str, documentation: str, labelnames: Iterable[str], *definition: Any
    ) -> None:
        self._name = name
        self._help = documentation
        self._labelnames = tuple(labelnames)
        self._series: dict[tuple[str, ...], Any] = {}
        #: Takes what there is no room for.
        self._overflow: Any = None
        self._check()
        self._declare(definition)
        if not self._labelnames:
            self._series[()] = self._make(())

    def _check(self) -> None:
        if not _NAME.match(self._name):
            raise ValueError(f"not a name for a metric: {self._name!r}")
        if self._name.startswith(RESERVED):
            raise ValueError(f"names that begin with {RESERVED} are the server's: {self._name!r}")
        for label in self._labelnames:
            if not _LABEL.match(label) or label in self.reserved_labels:
                raise ValueError(f"not a name for a label of {self._name}: {label!r}")
        if len(set(self._labelnames)) != len(self._labelnames):
            raise ValueError(f"a label of {self._name} is there twice: {self._labelnames}")

    def _declare(self, definition: tuple[Any, ...]) -> None:
        """The same declaration may run twice (a module loaded again); another one may not."""
        whole = (self.kind, self._name, self._labelnames, *definition)
        for suffix in self.suffixes:
            other = _declared.setdefault(self._name + suffix, whole)
            if other != whole:
                raise ValueError(
                    f"{self._name + suffix} is a metric already: {other[0]} {other[1]}"
                )

    def _make(self, values: tuple[str, ...]) -> Any:
        raise NotImplementedError

    def _value(self, suffix: str, values: tuple[str, ...], *more: tuple[str, str]) -> Any:
        labels = [*zip(self._labelnames, values, strict=True), *more]
        return _native.MetricValue(
            self.kind, self._name, self._help, getattr(self, "_mode", None), suffix, labels
        )

    def _find(self, values: tuple[object, ...], named: dict[str, object]) -> Any:
        if not self._labelnames:
            raise ValueError(f"{self._name} has no labels")
        if named:
            if values or named.keys() != set(self._labelnames):
                raise ValueError(f"{self._name} has the labels {self._labelnames}")
            values = tuple(named[label] for label in self._labelnames)
        elif len(values) != len(self._labelnames):
            raise ValueError(f"{self._name} has the labels {self._labelnames}")
        key = tuple(map(str, values))
        found = self._series.get(key)
        if found is not None:
            return found
        if self._overflow is not None:
            # The memory is used up: label sets must not fill that of this process instead.
            return self._overflow
        made = self._make(key)
        if not made.is_kept():
            self._overflow = made
            return made
        return self._series.setdefault(key, made)

    @property
    def _only(self) -> Any:
        try:
            return self._series[()]
        except KeyError:
            raise ValueError(f"{self._name} has labels: labels(...) first") from None


class CounterSeries:
    """A counter with its label values."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def is_kept(self) -> bool:
        """Whether there was room for it in the shared memory."""
        return bool(self._value.is_kept())

    def inc(self, amount: float = 1) -> None:
        """Adds ``amount``; ValueError if it is negative."""
        if not amount >= 0:
            raise ValueError(f"a counter only goes up: {amount}")
        self._value.inc(amount)


class Counter(_Family):
    """Counts what only becomes more. It is exposed as ``NAME_total``.

    Raises ValueError for names that cannot be, and for another declaration of the same name.
    """

    kind = "counter"
    suffixes = ("", "_total", "_created")

    def __init__(self, name: str, documentation: str, labelnames: Iterable[str] = ()) -> None:
        super().__init__(name.removesuffix("_total"), documentation, labelnames)

    def _make(self, values: tuple[str, ...]) -> CounterSeries:
        return CounterSeries(self._value("_total", values))

    def labels(self, *values: object, **named: object) -> CounterSeries:
        """The series with these label values, in the order of the labels or by their names."""
        found: CounterSeries = self._find(values, named)
        return found

    def inc(self, amount: float = 1) -> None:
        """Adds ``amount``; ValueError if it is negative."""
        self._only.inc(amount)


class GaugeSeries:
    """A gauge with its label values."""

    __slots__ = ("_dated", "_value")

    def __init__(self, value: Any, dated: bool) -> None:
        self._value = value
        #: What counts is when it was set.
        self._dated = dated

    def is_kept(self) -> bool:
        """Whether there was room for it in the shared memory."""
        return bool(self._value.is_kept())

    def set(self, value: float) -> None:
        """Sets what this process has of it."""
        self._value.set(float(value), time.time() if self._dated else 0.0)

    def inc(self, amount: float = 1) -> None:
        """Adds to what this process has of it; RuntimeError with the mode ``mostrecent``."""
        if self._dated:
            raise RuntimeError("a gauge whose most recent value counts can only be set")
        self._value.inc(amount)

    def dec(self, amount: float = 1) -> None:
        """Takes from what this process has of it; RuntimeError with the mode ``mostrecent``."""
        self.inc(-amount)

    def set_to_current_time(self) -> None:
        """Sets it to the seconds since 1970."""
        self.set(time.time())

    def track_inprogress(self) -> Tracker:
        """A context manager and decorator: one more inside, one less behind."""
        return Tracker(self)


class Gauge(_Family):
    """A number that goes up and down. Each process has its own; what is shown is up to the mode.

    ``multiprocess_mode``: ``all`` shows each process by itself, with a label ``pid``; ``min``,
    ``max``, ``sum`` and ``mostrecent`` make one number of them. Processes that have ended count,
    but for modes that begin with ``live``. Of ``all``, the last 64 that have ended are shown.
    """

    kind = "gauge"

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        *,
        multiprocess_mode: Mode = "all",
    ) -> None:
        self._mode = multiprocess_mode
        if multiprocess_mode in ("all", "liveall"):
            self.reserved_labels = ("pid",)
        super().__init__(name, documentation, labelnames, multiprocess_mode)

    def _make(self, values: tuple[str, ...]) -> GaugeSeries:
        return GaugeSeries(self._value("", values), self._mode.endswith("mostrecent"))

    def labels(self, *values: object, **named: object) -> GaugeSeries:
        """The series with these label values, in the order of the labels or by their names."""
        found: GaugeSeries = self._find(values, named)
        return found

    def set(self, value: float) -> None:
        """Sets what this process has of it."""
        self._only.set(value)

    def inc(self, amount: float = 1) -> None:
        """Adds to what this process has of it; RuntimeError with the mode ``mostrecent``."""
        self._only.inc(amount)

    def dec(self, amount: float = 1) -> None:
        """Takes from what this process has of it; RuntimeError with the mode ``mostrecent``."""
        self._only.dec(amount)

    def set_to_current_time(self) -> None:
        """Sets it to the seconds since 1970."""
        self._only.set_to_current_time()

    def track_inprogress(self) -> Tracker:
        """A context manager and decorator: one more inside, one less behind."""
        return Tracker(self._only)


class HistogramSeries:
    """A histogram with its label values."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, bounds: Sequence[float], total: Any, buckets: list[Any]) -> None:
        self._bounds = bounds
        self._sum = total
        self._buckets = buckets

    def is_kept(self) -> bool:
        """Whether there was room for it in the shared memory."""
        return bool(self._buckets[-1].is_kept())

    def observe(self, amount: float) -> None:
        """Counts an observation of this size."""
        # What is no number lies in no bucket, but in the sum, as in prometheus_client.
        self._sum.inc(amount)
        if amount == amount:
            self._buckets[bisect.bisect_left(self._bounds, amount)].inc(1)

    def time(self) -> Timer:
        """A context manager and decorator: observes the seconds from its beginning to its end."""
        return Timer(self)


class Histogram(_Family):
    """Counts observations by their size.

    ``buckets``: upper bounds that rise; one without a bound is added. ValueError if they do not.
    """

    kind = "histogram"
    reserved_labels = ("le",)
    suffixes = ("", "_bucket", "_count", "_sum", "_created")

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        *,
        buckets: Iterable[float] = DEFAULT_BUCKETS,
    ) -> None:
        bounds = [float(bound) for bound in buckets]
        if any(not low < high for low, high in itertools.pairwise(bounds)):
            raise ValueError(f"the bounds of {name} do not rise: {bounds}")
        if not bounds or bounds[-1] != math.inf:
            bounds.append(math.inf)
        if len(bounds) < 2:
            raise ValueError(f"{name} has no bounds")
        self._bounds = tuple(bounds)
        super().__init__(name, documentation, labelnames, self._bounds)

    def _make(self, values: tuple[str, ...]) -> HistogramSeries:
        total = self._value("_sum", values)
        # The last one last: a histogram without it is one there was no room for, and is not shown.
        parts = [self._value("_bucket", values, ("le", _bound(bound))) for bound in self._bounds]
        return HistogramSeries(self._bounds, total, parts)

    def labels(self, *values: object, **named: object) -> HistogramSeries:
        """The series with these label values, in the order of the labels or by their names."""
        found: HistogramSeries = self._find(values, named)
        return found

    def observe(self, amount: float) -> None:
        """Counts an observation of this size."""
        self._only.observe(amount)

    def time(self) -> Timer:
        """A context manager and decorator: observes the seconds from its beginning to its end."""
        return Timer(self._only)


class Timer:
    """Made by :meth:`Histogram.time`."""

    __slots__ = ("_began", "_series")

    def __init__(self, series: HistogramSeries) -> None:
        self._series = series
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._series.observe(time.perf_counter() - self._began)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Each call has its own beginning, also in threads and where it calls itself."""
        return _around(function, lambda: Timer(self._series))


class Tracker:
    """Made by :meth:`Gauge.track_inprogress`."""

    __slots__ = ("_series",)

    def __init__(self, series: GaugeSeries) -> None:
        self._series = series

    def __enter__(self) -> Self:
        self._series.inc()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._series.dec()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return _around(function, lambda: Tracker(self._series))


def _around(function: Callable[P, R], make: Callable[[], Timer | Tracker]) -> Callable[P, R]:
    import inspect  # only decorators need it

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            with make():
                return await function(*args, **kwargs)

        return awaited  # type: ignore[return-value]

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with make():
            return function(*args, **kwargs)

    return called


def _bound(bound: float) -> str:
    """As Go writes a number, which is how both formats want the label ``le``."""
    if math.isinf(bound):
        return "+Inf" if bound > 0 else "-Inf"
    text = repr(bound)
    point = text.find(".")
    if bound > 0 and point > 6:
        mantissa = f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0.")
        return f"{mantissa}e+0{point - 1}"
    return text


def exposition(*, openmetrics: bool = False) -> str:
    """The application's metrics of all processes, as ``metrics_bind`` shows them.

    In OpenMetrics 1.0, or in Prometheus' text format 0.0.4.
    """
    return _native.metrics_text(openmetrics)


def tell_full(size: int, family: str, label_sets: int) -> None:
    """Called once in the life of a server."""
    import logging

    logging.getLogger("gunicorn.error").warning(
        "The memory for metrics (metrics_memory: %d bytes) is used up, most of it by the "
        "%d label sets of %s: further label sets are not shown",
        size,
        label_sets,
        family,
    )
