"""The workloads: what is done to a server, what is checked, and what is reported.

Each runs against a server of its own that has just been started on an empty directory.  A workload
is a frozen dataclass, so that the tests run the same code with small numbers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from tools.bench.client import group
from tools.bench.cpu import cpu_metrics
from tools.bench.readback import (
    Appended,
    Findings,
    StreamReader,
    read_back_appends,
    read_back_filled,
    spread,
    stream_path,
)

if TYPE_CHECKING:
    from tools.bench.client import Client, Report
    from tools.bench.servers import RunningServer

MIB: Final = 1024 * 1024
CREATING_CONNECTIONS: Final = 16
EVENTS_PER_S: Final = 50
EVENT_BYTES: Final = 256


@dataclass(frozen=True)
class Metric:
    """A figure: how it is called, and its unit."""

    key: str
    title: str
    unit: str


RATE: Final = Metric("rate", "rate", "/s")
P50: Final = Metric("p50_ms", "p50", "ms")
P99: Final = Metric("p99_ms", "p99", "ms")
P999: Final = Metric("p999_ms", "p99.9", "ms")
MAX: Final = Metric("max_ms", "max", "ms")
MB_PER_S: Final = Metric("mb_per_s", "rate", "MB/s")
PEAK_RSS: Final = Metric("peak_rss_mib", "peak RSS", "MiB")


@dataclass
class Sample:
    """One run of one workload on one server."""

    metrics: dict[str, float] = field(default_factory=dict)
    errors: int = 0
    first_errors: list[str] = field(default_factory=list)
    checked: int = 0
    read_back: int = 0

    def note(self, report: Report) -> None:
        """Take over what a report says about faults."""
        self.errors += report.errors
        self.first_errors += report.first_errors
        self.checked += report.checked

    def note_findings(self, findings: Findings) -> None:
        """Take over what reading back found."""
        self.errors += len(findings.faults)
        self.first_errors += findings.faults
        self.read_back += findings.records


@dataclass(frozen=True)
class Stage:
    """What a workload has to work with."""

    server: RunningServer
    client: Client
    seconds: float
    warmup_s: float
    read_back_streams: int
    sample: Sample = field(default_factory=Sample)

    def reader(self) -> StreamReader:
        """Reads the server's streams back."""
        return StreamReader(self.server.port, self.client.token)

    def fill(
        self,
        name: str,
        streams: int,
        *,
        records: int = 0,
        size: int = 256,
        batch: int = 1,
        as_json: bool = False,
    ) -> Report:
        """Create streams, with records in them."""
        connections = min(CREATING_CONNECTIONS, streams)
        (report,) = self.client.run(
            group(
                "fill",
                name=name,
                streams=streams,
                connections=connections,
                records=records,
                size=size,
                batch=batch,
                json=as_json,
            )
        )
        self.sample.note(report)
        return report

    def run(
        self,
        *groups: list[str],
        settle_s: float = 0.0,
        seconds: float = 0.0,
        more_warmup_s: float = 0.0,
    ) -> list[Report]:
        """Run groups of connections for the usual time, or longer.

        The server's CPU time is that of the first group's requests, whatever else goes on.
        """
        reports = self.client.run(
            *groups,
            seconds=max(seconds, self.seconds),
            warmup=self.warmup_s + more_warmup_s,
            settle=settle_s,
            watch=self.server.pid,
        )
        for report in reports:
            self.sample.note(report)
        self.sample.metrics |= cpu_metrics(reports[0])
        return reports


class Workload(Protocol):
    """See the module; ``metrics`` are what is shown, the first one is what is compared."""

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def run(self, stage: Stage) -> None: ...


def _latencies(report: Report, prefix: str = "") -> dict[str, float]:
    """The rate, and latencies if anything was answered."""
    if report.requests == 0:
        return {f"{prefix}rate": 0.0}
    names = ("rate", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
    return {f"{prefix}{name}": getattr(report, name) for name in names}


def _mb_per_s(report: Report) -> float:
    return report.bytes / report.seconds / 1e6


@dataclass(frozen=True)
class Appends:
    """Durable appends by so many connections, round and round over so many streams."""

    connections: int
    streams: int = 64
    size: int = 256
    as_json: bool = False
    producers: bool = False
    min_seconds: float = 0.0
    metrics: tuple[Metric, ...] = (RATE, P50, P99, P999)

    def group(self, name: str) -> list[str]:
        """The connections, for the client."""
        return group(
            "append",
            name=name,
            streams=self.streams,
            connections=self.connections,
            size=self.size,
            json=self.as_json,
            producers=self.producers,
            list=True,
        )

    def check(self, stage: Stage, name: str, report: Report) -> None:
        """Read the streams back."""
        unsure = frozenset((owner, number) for owner, number in report.more["unsure"])
        sent = report.more["sent"]
        appended = Appended(name, self.streams, self.size, self.as_json, sent, unsure)
        findings = read_back_appends(stage.reader(), appended, stage.read_back_streams)
        stage.sample.note_findings(findings)

    def run(self, stage: Stage) -> None:
        stage.fill("append", self.streams, as_json=self.as_json)
        (report,) = stage.run(self.group("append"), seconds=self.min_seconds)
        stage.sample.metrics |= {**_latencies(report), "mb_per_s": _mb_per_s(report)}
        self.check(stage, "append", report)


@dataclass(frozen=True)
class Creates:
    """New streams, with so many appends to each."""

    connections: int = 16
    records: int = 0
    metrics: tuple[Metric, ...] = (RATE, P50, P99)

    def run(self, stage: Stage) -> None:
        creating = group(
            "fill", name="new", streams=0, connections=self.connections, records=self.records
        )
        (report,) = stage.run(creating)
        stage.sample.metrics |= _latencies(report)
        failed = set(report.more["failed"])  # and those that were not finished in time
        numbers = spread(report.more["streams"], stage.read_back_streams)
        whole = [number for number in numbers if number not in failed]
        records = self.records
        findings = read_back_filled(stage.reader(), "new", whole, records=records, size=256)
        stage.sample.note_findings(findings)
        stage.sample.read_back = findings.streams


@dataclass(frozen=True)
class Reads:
    """Streams read from the beginning to the end, again and again."""

    connections: int
    streams: int
    stream_bytes: int
    size: int = 256
    batch: int = 1
    as_json: bool = False
    metrics: tuple[Metric, ...] = (MB_PER_S, PEAK_RSS)

    @property
    def records(self) -> int:
        """In each stream."""
        return self.stream_bytes // self.size

    def fill(self, stage: Stage, name: str) -> None:
        """Make the streams."""
        stage.fill(
            name,
            self.streams,
            records=self.records,
            size=self.size,
            batch=self.batch,
            as_json=self.as_json,
        )

    def group(self, name: str) -> list[str]:
        """The connections, for the client."""
        return group(
            "read",
            name=name,
            streams=self.streams,
            connections=self.connections,
            records=self.records,
            size=self.size,
            json=self.as_json,
        )

    def run(self, stage: Stage) -> None:
        self.fill(stage, "read")
        stage.server.reset_peak_rss()
        (report,) = stage.run(self.group("read"))
        peak = stage.server.peak_rss_bytes() / MIB
        rate = {"mb_per_s": _mb_per_s(report), "peak_rss_mib": peak}
        stage.sample.metrics |= {**_latencies(report), **rate}


@dataclass(frozen=True)
class Live:
    """Readers that follow one stream, to which one writer appends 50 events a second.

    ``role``: ``sse`` or ``long-poll``.  The latency is from the sending of the append to the
    arrival at each reader.
    """

    role: str
    readers: int
    metrics: tuple[Metric, ...] = (RATE, P50, P99)

    def run(self, stage: Stage) -> None:
        stage.fill("live", 1, as_json=True)
        readers = group(self.role, name="live", connections=self.readers, size=EVENT_BYTES)
        writer = group("writer", name="live", rate=EVENTS_PER_S, size=EVENT_BYTES)
        # Begin and end to measure between two events, not while one is being delivered.
        half = 0.5 / EVENTS_PER_S
        followed, written = stage.run(readers, writer, settle_s=0.5, more_warmup_s=half)
        stage.sample.metrics |= {**_latencies(followed), **_latencies(written, "writer_")}


@dataclass(frozen=True)
class AppendsWhileReading:
    """Appends while others catch up on long streams."""

    appends: Appends
    reads: Reads
    metrics: tuple[Metric, ...] = (
        RATE,
        P50,
        P99,
        P999,
        Metric("read_mb_per_s", "reads", "MB/s"),
    )

    def run(self, stage: Stage) -> None:
        self.reads.fill(stage, "read")
        stage.fill("append", self.appends.streams)
        appended, read = stage.run(self.appends.group("append"), self.reads.group("read"))
        stage.sample.metrics |= {**_latencies(appended), "read_mb_per_s": _mb_per_s(read)}
        self.appends.check(stage, "append", appended)


@dataclass(frozen=True)
class AppendsBeside:
    """Appends by one connection, alone and then beside readers that follow another stream.

    ``role``: ``sse`` or ``long-poll``.  One event a second is delivered to all of them.
    """

    role: str
    readers: int
    metrics: tuple[Metric, ...] = (
        P99,
        Metric("alone_p99_ms", "p99 alone", "ms"),
        P999,
        MAX,
        Metric("events_p99_ms", "p99 of the events", "ms"),
    )

    def run(self, stage: Stage) -> None:
        appends = Appends(1, 1)
        for name in ("alone", "beside"):
            stage.fill(name, 1)
        stage.fill("live", 1, as_json=True)
        (alone,) = stage.run(appends.group("alone"))
        readers = group(self.role, name="live", connections=self.readers, size=EVENT_BYTES)
        writer = group("writer", name="live", rate=1, size=EVENT_BYTES)
        beside, followed, _ = stage.run(
            appends.group("beside"), readers, writer, settle_s=2.0, more_warmup_s=0.5
        )
        stage.sample.metrics |= {
            **_latencies(beside),
            **_latencies(alone, "alone_"),
            **_latencies(followed, "events_"),
        }
        for name, report in (("alone", alone), ("beside", beside)):
            appends.check(stage, name, report)


@dataclass(frozen=True)
class Memory:
    """Resident memory for each idle stream, and for each idle reader of event streams."""

    streams: int
    readers: int
    idle_s: float = 2.0  # before memory is looked at
    metrics: tuple[Metric, ...] = (
        Metric("stream_bytes", "an idle stream", "B"),
        Metric("reader_kib", "an idle reader", "KiB"),
        Metric("rss_mib", "RSS with the streams", "MiB"),
    )

    def run(self, stage: Stage) -> None:
        begin = stage.server.rss_bytes()
        stage.fill("idle", self.streams, records=1)
        time.sleep(self.idle_s)
        with_streams = stage.server.rss_bytes()
        connections = group(
            "sse", name="idle", connections=self.readers, streams=self.streams, now=True
        )
        with stage.client.hold(connections) as reports:
            time.sleep(self.idle_s)
            with_readers = stage.server.rss_bytes()
        for report in reports:
            stage.sample.note(report)
        stage.sample.metrics |= {
            "stream_bytes": (with_streams - begin) / self.streams,
            "reader_kib": (with_readers - with_streams) / self.readers / 1024,
            "rss_mib": with_streams / MIB,
        }


@dataclass(frozen=True)
class Restart:
    """From the start of the process to the first answered read, after a SIGKILL."""

    streams: int
    metrics: tuple[Metric, ...] = (Metric("ready_s", "ready", "s"),)

    def run(self, stage: Stage) -> None:
        report = stage.fill("kept", self.streams, records=1)
        stage.server.kill()
        failed = set(report.more["failed"])
        whole = [number for number in range(self.streams) if number not in failed]
        if not whole:
            return
        ready_s = stage.server.start(stream_path("kept", whole[len(whole) // 2]))
        stage.sample.metrics["ready_s"] = ready_s
        numbers = [whole[index] for index in spread(len(whole), stage.read_back_streams)]
        findings = read_back_filled(stage.reader(), "kept", numbers, records=1, size=256)
        stage.sample.note_findings(findings)
