"""``prometheus_client``'s metrics of all processes, at ``metrics_bind``.

The setting ``prometheus_client``. It takes the place of ``PROMETHEUS_MULTIPROC_DIR``: no directory,
no files to remove, no hook ``child_exit``; what is shown is what the multiprocess mode shows. Where
the setting comes too late (metrics that a config file or a program declares), :func:`install` goes
before the declarations.

What the multiprocess mode leaves out is left out here as well, because only one process has it:
``Info``, ``Enum``, exemplars, gauges with a function, and collectors of one's own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from oxicorn import _native
from oxicorn.errors import BootFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry, Metric

__all__ = ["MultiProcessCollector", "install", "mark_process_dead"]

#: Collectors that every registry has, of the process that happens to be asked.
_OF_EVERY_PROCESS = frozenset({"GCCollector", "PlatformCollector", "ProcessCollector"})


class SharedValue:
    """A number as ``prometheus_client`` keeps it (its ``ValueClass``), in the server's memory."""

    #: Asked for by libraries that want to know which of both modes it is.
    _multiprocess = True

    __slots__ = ("get", "inc", "set")

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **kwargs: Any,
    ) -> None:
        value = _native.MetricValue(
            typ,
            metric_name,
            help_text,
            multiprocess_mode or None,
            name.removeprefix(metric_name),
            list(zip(labelnames, labelvalues, strict=True)),
        )
        self.inc = value.inc
        self.set = value.set
        self.get = value.get

    def set_exemplar(self, exemplar: object) -> None:
        """Not kept, as in the multiprocess mode."""

    def get_exemplar(self) -> None:
        """None."""


class MultiProcessCollector:
    """Collects what all processes have counted, for an application that serves it by itself.

    The call is that of ``prometheus_client.multiprocess``; ``path`` is not looked at.
    """

    def __init__(self, registry: CollectorRegistry | None, path: object = None) -> None:
        if registry:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """One metric for each family, with its samples."""
        from prometheus_client import Metric

        for name, kind, documentation, samples in _native.metrics_families():
            metric = Metric(name, documentation, kind)
            for suffix, labels, value in samples:
                metric.add_sample(name + suffix, dict(labels), value)
            yield metric


def mark_process_dead(pid: int, path: object = None) -> None:
    """Nothing is to be done: who lives is known. For hooks that were made for the files."""


def install() -> None:
    """From now on metrics of ``prometheus_client`` are those of all processes of the server.

    Those that were declared before stay what they were, of one process, and a warning names them.
    RuntimeError if there is no ``prometheus_client``.
    """
    try:
        from prometheus_client import REGISTRY, multiprocess, values
    except ImportError as error:
        raise BootFailed(
            f"The setting prometheus_client needs the package prometheus_client: {error}"
        ) from error
    if values.ValueClass is SharedValue:
        return
    early = sorted(_names(REGISTRY, _is_shareable))
    if early:
        logging.getLogger("gunicorn.error").warning(
            "prometheus_client: declared before oxicorn.prometheus.install(), and so of each "
            "process alone and not at metrics_bind: %s",
            ", ".join(early),
        )
    # Where there is no server, this is what the processes that are forked from now on share.
    _native.metrics_memory()
    values.ValueClass = SharedValue
    multiprocess.MultiProcessCollector = MultiProcessCollector  # type: ignore[assignment, misc]
    multiprocess.mark_process_dead = mark_process_dead


def tell_what_is_left_out(log: Any) -> None:
    """Names what is registered and cannot be shown, once the application is loaded."""
    from prometheus_client import REGISTRY

    left_out = sorted(_names(REGISTRY, lambda collector: not _is_shareable(collector)))
    if left_out:
        log.info(
            "prometheus_client: of one process alone, and so not at metrics_bind: %s",
            ", ".join(left_out),
        )


def _is_shareable(collector: object) -> bool:
    return type(collector).__name__ in ("Counter", "Gauge", "Histogram", "Summary")


def _names(registry: Any, matches: Any) -> Iterable[str]:
    """What stands for the registry's collectors: the name of the metric, or of the class."""
    for collector in tuple(registry._collector_to_names):
        name = type(collector).__name__
        if name not in _OF_EVERY_PROCESS and matches(collector):
            yield str(getattr(collector, "_name", name))
