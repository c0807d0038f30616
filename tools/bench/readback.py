"""Reading back what was acknowledged: exactly that must be in the streams.

This is done by other code than what wrote and checked under load, through one plain connection.
Every append says in its content which connection sent it and as its how manieth, so that a loss, a
duplicate or a change of order is found whatever the offsets say.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from tools.bench.pattern import identify, split_body
from tools.bench.servers import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_FAULTS: Final = 20
TIMEOUT_S: Final = 120.0


def stream_path(name: str, number: int) -> str:
    """Where the load client has its streams."""
    return f"{name}/{number // 1000}/{number}"


def spread(count: int, at_most: int) -> list[int]:
    """Numbers below ``count``, evenly spread; all of them if that is not too many."""
    if count <= at_most:
        return list(range(count))
    return [index * count // at_most for index in range(at_most)]


class StreamReader:
    """Reads whole streams, following the offsets until an answer says that it is up to date."""

    def __init__(self, port: int, token: str = "") -> None:
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def bodies(self, path: str) -> Iterator[bytes]:
        """The bodies of a stream's answers; ValueError if it cannot be read."""
        offset = "-1"
        while True:
            target = f"{PREFIX}/{path}?offset={offset}"
            self._connection.request("GET", target, headers=self._headers)
            response = self._connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise ValueError(f"{path}: a read was answered {response.status}")
            yield body
            if response.getheader("Stream-Up-To-Date") == "true":
                return
            offset_before, offset = offset, response.getheader("Stream-Next-Offset") or ""
            if not body or offset == offset_before:
                raise ValueError(f"{path}: an answer that does not go on, at {offset!r}")


@dataclass
class Findings:
    """What was read back, and what was wrong with it."""

    streams: int = 0
    records: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Note one, unless there are too many already."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(text)


@dataclass(frozen=True)
class Appended:
    """What a group of appending connections did: see ``load/write.c`` for who wrote where.

    ``sent``: for each connection how many records it sent.  ``unsure``: (connection, number) of
    those that were not acknowledged, which may be there or not.
    """

    name: str
    streams: int
    size: int
    as_json: bool
    sent: list[int]
    unsure: frozenset[tuple[int, int]]

    def first_number(self, connection: int, stream: int) -> int:
        """The first record of a connection that went to this stream; then every S-th does."""
        first_stream = connection * self.streams // len(self.sent)
        return (stream - first_stream) % self.streams

    def skip_unsure(self, connection: int, number: int, wanted: int | None = None) -> int:
        """The next number, from this one on, that is the wanted one or must be there."""
        while number != wanted and (connection, number) in self.unsure:
            number += self.streams
        return number


def check_stream(
    appended: Appended, stream: int, records: Iterable[bytes], findings: Findings
) -> None:
    """Compare one stream's records with what was acknowledged."""
    connections = range(len(appended.sent))
    due = [appended.first_number(connection, stream) for connection in connections]
    for position, data in enumerate(records):
        findings.records += 1
        known = identify(data)
        if known is None:
            findings.fault(
                f"stream {stream}: record {position} is none that was sent: {data[:40]!r}"
            )
            return
        owner, number = known
        unsure = known in appended.unsure
        if owner not in connections or not (number < appended.sent[owner] or unsure):
            findings.fault(f"stream {stream}: record {known} was never sent")
        elif number != appended.skip_unsure(owner, due[owner], number):
            findings.fault(f"stream {stream}: record {known} where {due[owner]} was due")
            return
        else:
            due[owner] = number + appended.streams
    for connection in connections:
        number = appended.skip_unsure(connection, due[connection])
        if number < appended.sent[connection]:
            findings.fault(f"stream {stream}: {(connection, number)} was acknowledged, and is lost")


def read_back_appends(reader: StreamReader, appended: Appended, at_most: int) -> Findings:
    """Read the streams of a group of appending connections, at most so many, and compare."""
    findings = Findings()
    with reader:
        for stream in spread(appended.streams, at_most):
            findings.streams += 1
            try:
                bodies = list(reader.bodies(stream_path(appended.name, stream)))
                records = _records(bodies, appended)
            except ValueError as error:
                findings.fault(f"stream {stream}: {error}")
                continue
            check_stream(appended, stream, records, findings)
    return findings


def _records(bodies: list[bytes], appended: Appended) -> Iterable[bytes]:
    if not appended.as_json:  # a body may end within a record
        bodies = [b"".join(bodies)]
    for body in bodies:
        yield from split_body(body, appended.size, as_json=appended.as_json)


def read_back_filled(
    reader: StreamReader, name: str, numbers: Iterable[int], *, records: int, size: int
) -> Findings:
    """Streams that the fill role made hold their records, and nothing else."""
    findings = Findings()
    with reader:
        for stream in numbers:
            findings.streams += 1
            try:
                content = b"".join(reader.bodies(stream_path(name, stream)))
                found = [identify(data) for data in split_body(content, size, as_json=False)]
            except ValueError as error:
                findings.fault(f"stream {stream}: {error}")
                continue
            findings.records += len(found)
            if found != [(stream, number) for number in range(records)]:
                findings.fault(f"stream {stream} holds {found[:5]} instead of {records} records")
    return findings
