"""The statement of the store with nothing around it: what the database alone has time for.

Sessions take turns as the store's do, each sending what gathered while its last batch was on
its way.  There are no rules, no checksums and no answers but that the row moved; nobody else may
write.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import TYPE_CHECKING, Any, Final

from durable_streams.model.paths import path_text
from durable_streams.postgres.appends import LANES, MOST_STREAMS
from durable_streams.postgres.connecting import Hosts
from durable_streams.postgres.fencing import Lane
from durable_streams.postgres.sessions import Session
from durable_streams.postgres.statements import WRITE
from durable_streams.postgres.urls import parse

if TYPE_CHECKING:
    import asyncpg

    from durable_streams.model.paths import StreamPath

_CHAIN: Final = bytes(16)
_ROWS: Final = "select id, path, version, chain, segment, position from ds.streams"


class _Row:
    __slots__ = ("chain", "id", "is_busy", "position", "segment", "version", "waiting")

    def __init__(self, record: asyncpg.Record) -> None:
        self.id = record["id"]
        self.version = record["version"]
        self.chain = record["chain"]
        self.segment = record["segment"]
        self.position = record["position"]
        self.waiting: list[tuple[bytes, str | None, int, asyncio.Future[None]]] = []
        self.is_busy = False


class Bare:
    """Sessions and rows; use :meth:`open` and :meth:`close`."""

    def __init__(self, lanes: list[Lane], rows: dict[str, _Row]) -> None:
        self._lanes = lanes
        self._rows = rows
        self._ready: list[list[_Row]] = [[] for _ in lanes]
        self._wake = [asyncio.Event() for _ in lanes]
        self._tasks = [asyncio.create_task(self._run(at)) for at in range(len(lanes))]

    @classmethod
    async def open(cls, url: str) -> Bare:
        """Connect, and look at the streams there are."""
        hosts, node = Hosts(parse(url)), uuid.uuid4()
        lanes = [await Lane.begin(await Session.open(hosts), node) for _ in range(LANES)]
        found = await lanes[0].session.fetch(_ROWS)
        return cls(lanes, {record["path"]: _Row(record) for record in found})

    async def close(self) -> None:
        """End the sessions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for lane in self._lanes:
            lane.session.terminate()

    async def append(self, path: StreamPath, body: bytes, producer: str | None, seq: int) -> None:
        """Append once; on a quorum when this returns."""
        row = self._rows[path_text(path)]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        row.waiting.append((body, producer, seq, done))
        if not row.is_busy:
            row.is_busy = True
            self._put(row)
        await done

    def _put(self, row: _Row) -> None:
        at = row.id % len(self._lanes)
        self._ready[at].append(row)
        self._wake[at].set()

    async def _run(self, at: int) -> None:
        lane, wake = self._lanes[at], self._wake[at]
        while True:
            await wake.wait()
            wake.clear()
            while self._ready[at]:
                rows = self._ready[at][:MOST_STREAMS]
                del self._ready[at][:MOST_STREAMS]
                await self._write(lane, rows)

    async def _write(self, lane: Lane, rows: list[_Row]) -> None:
        columns: list[list[Any]] = [[] for _ in range(14)]
        known: list[list[Any]] = [[] for _ in range(5)]
        taken = [row.waiting for row in rows]
        for row, waiting in zip(rows, taken, strict=True):
            row.waiting = []
            _add(columns, known, row, waiting)
        *others, closed_alone = columns
        nothing: list[list[Any]] = [[] for _ in range(6)]
        try:
            (result,) = await lane.session.fetch(
                WRITE, lane.id, lane.number, None, *others, *known, *nothing, closed_alone
            )
            if len(result["moved"]) != len(rows):
                raise RuntimeError("somebody else writes to the streams that are measured")
        except Exception as error:
            for *_, done in itertools.chain(*taken):
                done.set_exception(error)
            raise
        lane.number += 1
        for row, waiting in zip(rows, taken, strict=True):
            row.version += 1
            row.chain = _CHAIN
            for *_, done in waiting:
                if not done.done():
                    done.set_result(None)
            if row.waiting:
                self._put(row)
            else:
                row.is_busy = False


def _add(
    columns: list[list[Any]],
    known: list[list[Any]],
    row: _Row,
    waiting: list[tuple[bytes, str | None, int, asyncio.Future[None]]],
) -> None:
    """One stream's appends, as the statement takes them; where it ends is noted at once."""
    start = row.position
    ends = []
    for body, _, _, _ in waiting:
        row.position += len(body)
        ends.append(row.position)
    data = b"".join([each[0] for each in waiting])
    values = (
        *(row.id, row.version, row.segment, row.position, False, None, None, _CHAIN, start),
        *("{" + ",".join(map(str, ends)) + "}", None, row.chain, data, False),
    )
    for column, value in zip(columns, values, strict=True):
        column.append(value)
    newest = {producer: seq for _, producer, seq, _ in waiting if producer is not None}
    for producer, seq in newest.items():
        for column, value in zip(known, (row.id, producer, 0, seq, 0), strict=True):
            column.append(value)
