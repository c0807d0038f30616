"""The metrics of one server, for Prometheus: what is counted, read and written down when asked for.

Whoever asks costs little: all numbers are copied in one turn of the event loop, some hundred of
them, and written down in a thread, once for all who ask within a second.

Only names of our own are labels.  ``prometheus_client`` says how it is written, and what is known
of the process; its own counters are not used, as each would cost several times what ours do.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from durable_streams.measuring import PREFIX, SECONDS, Family, Kind, Tally, gauge, histogram
from durable_streams.model.errors import (
    DatabaseDown,
    DatabaseMigrated,
    DatabaseReadOnly,
    DatabaseUnconfirmed,
    DiskFull,
    Draining,
    MethodNotAllowed,
    NotOpen,
    StorageFailed,
    Unavailable,
)
from durable_streams.model.paths import RESERVED_SEGMENT
from durable_streams.program import version
from durable_streams.wire import replies
from durable_streams.wire.replies import REASONS, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from durable_streams.http.counters import Counters
    from durable_streams.http.live import LiveReads
    from durable_streams.measuring import Values
    from durable_streams.store import Store

PATH: Final = f"{RESERVED_SEGMENT}/metrics"
"""Where they are, below the prefix of the streams."""

PATH_AT_ROOT: Final = "/metrics"
"""Where everybody looks for them first, in a server of its own."""

FRESH_S: Final = 1.0
"""How long what was written down is told again."""

LOOK_S: Final = 0.1
"""Between two looks at how late the event loop is: a stall of half of it is mostly seen."""

_HEADERS: Final = (("Content-Type", CONTENT_TYPE_PLAIN_0_0_4), ("Cache-Control", "no-store"))
_REFUSALS: Final = (
    *(DatabaseDown, DatabaseMigrated, DatabaseReadOnly, DatabaseUnconfirmed),
    *(DiskFull, Draining, NotOpen, StorageFailed, Unavailable),
)
"""Why no store may take writes."""


class Metrics:
    """``sources``: what gives families; each is called on the event loop, and must not wait.

    ``fresh_s``: see ``FRESH_S``.
    """

    def __init__(self, store: Store, counters: Counters, live: LiveReads) -> None:
        self._store = store
        self._live = live
        self._lag = LoopLag()
        self.sources: list[Callable[[], Iterable[Family]]] = [
            counters.families,
            self._of_live,
            self._of_store,
            self._lag.families,
        ]
        self.fresh_s = FRESH_S
        self._begun_s = 0.0
        self._written: asyncio.Future[bytes] | None = None

    def begin(self) -> None:
        """Measure what has to be looked at all the time."""
        self._lag.begin()

    def end(self) -> None:
        """Stop that."""
        self._lag.end()

    async def answer(self, method: str) -> Reply:
        """Answer a request of whoever may see them."""
        if method == "OPTIONS":
            return replies.preflight()
        if method not in {"GET", "HEAD"}:
            raise MethodNotAllowed("metrics are read by GET or HEAD")
        return Reply(200, _HEADERS, await self._text())

    async def _text(self) -> bytes:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        written = self._written
        if written is None or (written.done() and now_s - self._begun_s >= self.fresh_s):
            families = [family for source in self.sources for family in source()]
            self._begun_s = now_s
            written = self._written = loop.run_in_executor(None, write, families)
        return await asyncio.shield(written)

    def _of_live(self) -> Iterator[Family]:
        kinds: Values = {("long_poll",): len(self._live.polls), ("sse",): len(self._live.readers)}
        yield Family(
            Kind.GAUGE, "http_live_readers", "Live readers that are served now.", kinds, ("kind",)
        )

    def _of_store(self) -> Iterator[Family]:
        """What every store has, and what this one has beside it."""
        store, numbers = self._store, self._store.numbers
        yield gauge("store_open_streams", "Streams in memory.", numbers.open_streams)
        yield gauge("store_waiting_writers", "Writers who wait for their turn.", numbers.waiting)
        yield Family(
            Kind.COUNTER,
            "store_producer_duplicates_total",
            "Appends of producers that were stored already.",
            {(): numbers.duplicates},
        )
        yield histogram(
            "store_commit_duration_seconds",
            "From when a batch of writes was written until it was durable: one sync.",
            numbers.commits,
        )
        yield histogram("store_commit_writes", "Writes that share a batch.", numbers.shared)
        yield Family(
            Kind.COUNTER,
            "store_committed_bytes_total",
            "Bytes of all batches.",
            {(): numbers.committed_bytes},
        )
        refusal = store.refusal()
        refused: dict[tuple[str, ...], float] = {(REASONS[kind],): 0 for kind in _REFUSALS}
        if refusal is not None:
            refused[replies.reason(refusal),] = 1
        yield Family(
            Kind.GAUGE,
            "store_writes_refused",
            "Whether no write is taken now, by the reason.",
            refused,
            ("reason",),
        )
        yield gauge("store_writes_held_up", "Whether writes have to wait now.", store.writes_wait())
        yield gauge(
            "store_streams_out_of_service",
            "Streams that cannot be used now, while the others can.",
            len(store.out_of_service()),
        )
        yield gauge(
            "store_bug",
            "Whether a part of the store has ended by a bug, so that only a restart helps.",
            store.bug is not None,
        )
        yield from numbers.more


class LoopLag:
    """How late the event loop is with what was to be done at a time."""

    def __init__(self) -> None:
        self._late = Tally(SECONDS)
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look from now on, again and again."""
        self._due_s = time.monotonic() + LOOK_S
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._late.add(max(0.0, time.monotonic() - self._due_s))
        self.begin()

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def families(self) -> list[Family]:
        """What was seen."""
        help_text = "How late the event loop was, looked at ten times a second."
        return [histogram("event_loop_lag_seconds", help_text, self._late.copy())]


class _Everything(Collector):
    """What ``prometheus_client`` writes down."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Ours, and those of the process."""
        for family in self._families:
            yield _metric(family)
        yield from ProcessCollector(registry=None).collect()


def write(families: list[Family]) -> bytes:
    """Families as Prometheus reads them, and what runs here; blocks."""
    build = Family(
        Kind.GAUGE, "build_info", "Always 1; which version runs.", {(version(),): 1}, ("version",)
    )
    return generate_latest(_Everything([build, *families]))


def _metric(family: Family) -> Metric:
    name, labels = PREFIX + family.name, family.labels
    if family.kind is Kind.HISTOGRAM:
        tallies = HistogramMetricFamily(name, family.help, labels=labels)
        for key, tally in family.values.items():
            assert isinstance(tally, Tally)
            tallies.add_metric(key, _buckets(tally), tally.total)
        return tallies
    of_kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = of_kind(name, family.help, labels=labels)
    for key, value in family.values.items():
        assert not isinstance(value, Tally)
        metric.add_metric(key, value)
    return metric


def _buckets(tally: Tally) -> list[tuple[str, float]]:
    """How many are within each bound, those below included, as Prometheus has it."""
    buckets, below = [], 0
    for bound, count in zip(tally.bounds, tally.counts, strict=False):
        below += count
        buckets.append((f"{bound:g}", float(below)))
    return [*buckets, ("+Inf", float(below + tally.counts[-1]))]
