"""All workloads by name."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.bench.servers import NODE
from tools.bench.workloads import (
    MAX,
    MB_PER_S,
    MIB,
    P50,
    P99,
    P999,
    RATE,
    Appends,
    AppendsBeside,
    AppendsWhileReading,
    Creates,
    Live,
    Memory,
    Reads,
    Restart,
    Workload,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LONG_STREAM: Final = 16 * MIB
CHECKPOINT_SECONDS: Final = 30.0
"""At 20,000 appends a second that is about 170 MiB of journal: its files of 64 MiB are reused."""


@dataclass(frozen=True)
class Entry:
    """A workload as it is listed.

    ``full``: only run when asked for.  ``instead``: for some contenders another one, or None and
    why it is left out.
    """

    name: str
    title: str
    workload: Workload
    full: bool = False
    instead: Mapping[str, tuple[Workload | None, str]] = field(default_factory=dict)


def _appends() -> list[Entry]:
    entries = [
        Entry(
            f"append-{connections}",
            f"appends of 256 B over 64 streams, {connections} connections",
            Appends(connections),
        )
        for connections in (1, 16, 64, 256)
    ]
    entries += [
        Entry(
            f"append-64-over-{streams}",
            f"appends of 256 B over {streams:,} streams, 64 connections",
            Appends(64, streams),
        )
        for streams in (256, 10_000)
    ]
    return [
        *entries,
        Entry("append-json", "appends of JSON, 256 B, 64 connections", Appends(64, as_json=True)),
        Entry(
            "append-producers",
            "appends of 256 B by 64 idempotent producers",
            Appends(64, producers=True),
        ),
        Entry(
            "append-1mib",
            "appends of 1 MiB, 4 connections",
            Appends(4, size=MIB, metrics=(MB_PER_S, P50, P99)),
        ),
    ]


def _reads() -> list[Entry]:
    return [
        Entry(
            "read-small",
            "reads of streams of 256 B, 64 connections",
            Reads(64, 64, 256, metrics=(RATE, P50, P99)),
        ),
        Entry(
            "catchup-bytes",
            "catch-up on 8 streams of 16 MiB, 8 readers",
            Reads(8, 8, LONG_STREAM, size=64 * 1024),
        ),
        Entry(
            "catchup-json",
            "the same with JSON messages of 256 B",
            Reads(8, 8, LONG_STREAM, batch=256, as_json=True),
        ),
    ]


def _live() -> list[Entry]:
    return [
        Entry(
            f"{role}-{readers}",
            f"{title}, {readers:,} reader{'s' if readers > 1 else ''}, 50 events/s",
            Live(role, readers),
        )
        for role, title in (("sse", "server-sent events"), ("long-poll", "long-polling"))
        for readers in (1, 100, 1000, 2000)
    ]


def _long() -> list[Entry]:
    latencies = (P50, P99, P999, MAX, RATE)
    entries = [
        Entry(
            f"checkpoints-{streams}",
            f"append latency over {streams:,} streams while journal files are recycled",
            Appends(64, streams, min_seconds=CHECKPOINT_SECONDS, metrics=latencies),
            full=True,
        )
        for streams in (10, 10_000)
    ]
    entries += [
        Entry(
            f"append-beside-{role}-{readers}",
            f"appends, 1 connection, beside {readers:,} {title} of another stream, 1 event/s",
            AppendsBeside(role, readers),
            full=True,
        )
        for role, readers, title in (
            ("sse", 10_000, "event streams"),
            ("long-poll", 5000, "long-polls"),
        )
    ]
    many = 100_000
    return [
        *entries,
        Entry(
            "memory",
            f"memory with {many:,} streams, and 2,000 idle readers",
            Memory(many, 2000),
            full=True,
            instead={NODE: (Memory(10_000, 2000), "10,000 streams")},
        ),
        Entry(
            "restart-10000",
            "ready after a SIGKILL, 10,000 streams just written",
            Restart(10_000),
            full=True,
        ),
        Entry(
            "restart-100000",
            "ready after a SIGKILL, 100,000 streams just written",
            Restart(many),
            full=True,
            instead={NODE: (None, "takes too long to write them")},
        ),
    ]


def _entries() -> list[Entry]:
    return [
        # First, while no other workload's files have been deleted: see docs/benchmarks.rst.
        Entry("create", "creates, 16 connections", Creates()),
        Entry(
            "create-and-append",
            "creates and first appends of 256 B, both counted, 16 connections",
            Creates(records=1),
        ),
        *_appends(),
        *_reads(),
        *_live(),
        Entry(
            "append-while-catchup",
            "appends, 64 connections, while 500 readers catch up on 16 MiB",
            AppendsWhileReading(Appends(64), Reads(500, 8, LONG_STREAM, size=64 * 1024)),
        ),
        *_long(),
    ]


ENTRIES: Final = tuple(_entries())


PAIR: Final = "append-64,append-json,append-producers,read-small,catchup-json,sse-1000"
"""What two builds are compared with unless other workloads are named.

Catching up is on JSON: that takes the way that bytes take, and the one around the elements.
"""


def select(patterns: list[str], *, full: bool) -> list[Entry]:
    """The entries that match one of the patterns; without any, the usual ones or all."""
    if not patterns:
        return [entry for entry in ENTRIES if full or not entry.full]
    for pattern in patterns:
        if not fnmatch.filter([entry.name for entry in ENTRIES], pattern):
            raise ValueError(f"no workload is called {pattern!r}")
    return [entry for entry in ENTRIES if any(fnmatch.fnmatch(entry.name, p) for p in patterns)]


def paired(patterns: list[str]) -> list[Entry]:
    """The entries for the comparison of two builds: their load is all of one kind of request."""
    entries = select(patterns or PAIR.split(","), full=False)
    alike = Appends | Creates | Reads | Live
    unfit = [entry.name for entry in entries if not isinstance(entry.workload, alike)]
    if unfit:
        raise ValueError(f"there is no CPU time for each request in {', '.join(unfit)}")
    return entries
