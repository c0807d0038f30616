"""Appends: lines of them, one a stream, which lanes write many at a time.

What is decided from what the node knows is confirmed by the statement that compares and sets: each
stream of a batch moved from the version it was decided on, or was found to have it still.  Who
loses is decided again under a lock, by a transaction.  The commit is a barrier for all answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from durable_streams.model.errors import StreamError, Unavailable
from durable_streams.model.paths import path_text
from durable_streams.postgres.database import AGAIN, failure, unavailable
from durable_streams.postgres.decisions import Plan, decide, row_after, why_unusable
from durable_streams.postgres.fencing import Lane, settle
from durable_streams.postgres.rows import claim_text, claims_text, row_of
from durable_streams.postgres.sessions import NotASession, Refused, Unknown
from durable_streams.postgres.statements import LOCKED_ROWS, PRODUCERS, ROWS, WRITE
from durable_streams.rules.producer_table import ProducerTable
from durable_streams.rules.producers import ProducerState
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import asyncpg

    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.database import Database
    from durable_streams.postgres.decisions import Limits
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.streams import Stream, Streams
    from durable_streams.postgres.tasks import Tasks
    from durable_streams.postgres.tickets import Writing
    from durable_streams.postgres.transactions import Transaction, Transactions

LANES: Final = 2
"""Of a node; a stream is always in the same one."""

MOST_STREAMS: Final = 256
"""Of a batch."""

MOST_BYTES: Final = 4 * MIB
"""Of the bodies in a batch, beyond which no other line is taken; of a line one body comes in."""

MOST_RUN_BYTES: Final = 256 * 1024
"""Of a run, beyond which no other append is taken: what a read has to fetch at least."""


class Line:
    """Appends to one path, in the order in which they came; ``taken``: those being written."""

    __slots__ = ("is_busy", "path", "taken", "waiting")

    def __init__(self, path: StreamPath) -> None:
        self.path = path
        self.waiting: deque[Writing] = deque()
        self.taken: list[Writing] = []
        self.is_busy = False

    def take(self) -> int:
        """Take as many as make a run; their bytes."""
        size = 0
        while self.waiting and (not self.taken or size < MOST_RUN_BYTES):
            writing = self.waiting.popleft()
            self.taken.append(writing)
            size += len(writing.body)
        return size

    def fail(self, error: StreamError) -> None:
        """Tell those that were taken that nothing was stored."""
        for writing in self.taken:
            writing.settle(error)
        self.taken = []


class Appends:
    """All lines, and the lanes that write them."""

    def __init__(
        self,
        database: Database,
        *,
        streams: Streams,
        transactions: Transactions,
        limits: Limits,
        written: Callable[[Stream, Row, Plan], None],
        tasks: Tasks,
    ) -> None:
        """``written``: told of each stream that moved, before those who wrote are."""
        self.database = database
        self.streams = streams
        self.transactions = transactions
        self.limits = limits
        self.written = written
        self.waiting_bytes = 0
        self._lines: dict[StreamPath, Line] = {}
        self._lanes = [_BatchLane(self, tasks) for _ in range(LANES)]
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, writing: Writing) -> None:
        """Put an append in its line."""
        path = writing.command.path
        line = self._lines.get(path)
        if line is None:
            line = self._lines[path] = Line(path)
            self._idle.clear()
        line.waiting.append(writing)
        self.waiting_bytes += len(writing.body)
        if not line.is_busy:
            line.is_busy = True
            self._lane_of(path).put(line)

    def _lane_of(self, path: StreamPath) -> _BatchLane:
        return self._lanes[crc32(path_text(path).encode()) % LANES]

    def go_on(self, line: Line) -> None:
        """What was taken of a line is answered; the rest of it, if any, is next."""
        for writing in line.taken:
            self.waiting_bytes -= len(writing.body)
        line.taken = []
        if line.waiting:
            self._lane_of(line.path).put(line)
            return
        line.is_busy = False
        del self._lines[line.path]
        if not self._lines:
            self._idle.set()

    async def finished(self) -> None:
        """Return when nothing waits."""
        await self._idle.wait()

    def terminate(self) -> None:
        """Close the sessions."""
        for lane in self._lanes:
            lane.terminate()

    # -- what was decided ------------------------------------------------------------------

    def settle(self, line: Line, plan: Plan, row: Row) -> None:
        """What was decided on a row is written, or was found to be so: tell all."""
        stream = self.streams.learn(line.path, plan.row)
        if plan.writes:
            self.written(stream, row, plan)
        for writing, answer in plan.answers:
            writing.settle(answer)

    async def lost(self, line: Line) -> None:
        """Decide a line again, with the stream's row locked; its answers are given then."""

        async def work(transaction: Transaction) -> tuple[Row | None, Plan | StreamError, Any]:
            return await self._locked(transaction, line)

        def done(result: tuple[Row | None, Plan | StreamError, Any]) -> None:
            row, plan, producers = result
            if row is None or isinstance(plan, StreamError):
                assert isinstance(plan, StreamError)
                line_failed = plan
                for writing in line.taken:
                    writing.settle(line_failed)
                return
            self.settle(line, plan, row)
            stream = self.streams.numbered(row.id)
            if stream is not None and stream.row is plan.row:
                stream.producers = producers

        self.streams.forget(line.path)
        try:
            await self.transactions.run(line.path, work, done)
        except StreamError as error:
            for writing in line.taken:
                writing.settle(error)
        finally:
            self.go_on(line)

    async def _locked(
        self, transaction: Transaction, line: Line
    ) -> tuple[Row | None, Plan | StreamError, ProducerTable | None]:
        fetch, lane, clock = transaction.fetch, transaction.lane, self.database.clock
        found = await fetch(LOCKED_ROWS, [path_text(line.path)], clock.parameter)
        row = row_of(found[0]) if found else None
        problem = why_unusable(line.path, row, row.now_ms if row else 0)
        if row is None or problem is not None:
            assert problem is not None
            return None, problem, None
        producers = (await tables(fetch, [row.id]))[row.id]
        plan = decide(row, producers, line.taken, row.now_ms, self.limits)
        if plan.writes or plan.used:
            statement = Statement()
            statement.add(plan, row)
            (result,) = await fetch(WRITE, *statement.arguments(lane, clock.parameter))
            lane.number += 1
            if plan.writes and result["moved"] != [row.id]:
                raise Unavailable("the stream ended meanwhile: try again")
        plan.row = row_after(plan, row, row.now_ms)
        return row, plan, producers


class _BatchLane:
    """A session that writes one batch after the other, of the lines that are ready."""

    def __init__(self, appends: Appends, tasks: Tasks) -> None:
        self._appends = appends
        self._ready: deque[Line] = deque()
        self._wake = asyncio.Event()
        self._lane: Lane | None = None
        self._tasks = tasks
        tasks.lasting("appends", self._run())

    def put(self, line: Line) -> None:
        self._ready.append(line)
        self._wake.set()

    def terminate(self) -> None:
        if self._lane is not None:
            self._lane.session.terminate()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                await self._write(self._take())

    def _take(self) -> list[Line]:
        lines: list[Line] = []
        size = 0
        while self._ready and len(lines) < MOST_STREAMS and size < MOST_BYTES:
            line = self._ready.popleft()
            size += line.take()
            lines.append(line)
        return lines

    async def _write(self, lines: list[Line]) -> None:
        """Write a batch, and answer for it or have it decided again."""
        batch = Batch(self._appends, lines)
        try:
            lost = await self._try(batch)
        except StreamError as error:
            for line in lines:
                self._appends.streams.forget(line.path)
                for writing in line.taken:
                    writing.settle(error)
            lost = []
        for line in lines:
            if line in lost:
                self._tasks.once("lost appends", self._appends.lost(line))
            else:
                self._appends.go_on(line)

    async def _try(self, batch: Batch) -> list[Line]:
        """The lines that have to be decided again."""
        database = self._appends.database
        while True:
            lane = await self._begun()
            try:
                await batch.decide(lane.session.fetch)
                (result,) = await lane.session.fetch(
                    WRITE, *batch.statement.arguments(lane, database.clock.parameter)
                )
            except Refused as error:
                if error.code in AGAIN:
                    return batch.lines
                raise failure(error) from None
            except Unknown:
                self._lane = None
                found = await settle(database.connect, lane)
                moved = found[1] if found is not None and found[0] >= lane.number else []
                return batch.settle(moved, [])
            if result["is_mine"]:
                break
            self._lane = None  # somebody ended it; nothing was written
            lane.session.terminate()
        lane.number += 1
        database.clock.learn(result["now_ms"])
        return batch.settle(result["moved"], result["confirmed"], found_none=True)

    async def _begun(self) -> Lane:
        if self._lane is None:
            try:
                session = await self._appends.database.connect()
                self._lane = await Lane.begin(session)
            except (NotASession, Refused, Unknown) as error:
                raise unavailable(str(error)) from None
        return self._lane


class Batch:
    """Lines that are written at once; ``statement``: what was decided, for the database."""

    def __init__(self, appends: Appends, lines: list[Line]) -> None:
        self._appends = appends
        self.lines = lines
        self.statement = Statement()
        self._plans: dict[Line, tuple[Row, Plan, ProducerTable] | StreamError] = {}

    async def decide(self, fetch: Callable[..., Awaitable[list[asyncpg.Record]]]) -> None:
        """Decide about all, from what is known or is looked up now."""
        self.statement = Statement()
        self._plans = {}
        now_ms = self._appends.database.clock.now_ms()
        looked_up = await self._look_up(fetch, now_ms)
        for line in self.lines:
            row, producers = looked_up[line.path]
            problem = why_unusable(line.path, row, now_ms if row is None else row.now_ms)
            if row is None or producers is None or problem is not None:
                assert problem is not None
                self._plans[line] = problem
                continue
            plan = decide(row, producers, line.taken, now_ms, self._appends.limits)
            self.statement.add(plan, row)
            self._plans[line] = (row, plan, producers)

    async def _look_up(
        self, fetch: Callable[..., Awaitable[list[asyncpg.Record]]], now_ms: int
    ) -> dict[StreamPath, tuple[Row | None, ProducerTable | None]]:
        """The rows of all, with their producers; of those that are not known, as they are now."""
        found: dict[StreamPath, tuple[Row | None, ProducerTable | None]] = {}
        cold: dict[str, StreamPath] = {}
        for line in self.lines:
            stream = self._appends.streams.at(line.path)
            if (
                stream is not None
                and stream.producers is not None
                and not stream.has_expired(now_ms)
            ):
                found[line.path] = stream.row, stream.producers
                continue
            cold[path_text(line.path)] = line.path
        if cold:
            parameter = self._appends.database.clock.parameter
            records = await fetch(ROWS, list(cold), [], parameter)
            producers = await tables(fetch, [record["id"] for record in records])
            found |= dict.fromkeys(cold.values(), (None, None))
            for record in records:
                row = row_of(record)
                found[cold[record["path"]]] = row, producers[row.id]
        return found

    def settle(
        self, moved: list[int], confirmed: list[int], *, found_none: bool = False
    ) -> list[Line]:
        """Answer those whose streams moved, or were confirmed; return the others.

        ``found_none``: those that found no stream to write to are told so.
        """
        done, lost = {*moved, *confirmed}, []
        now_ms = self._appends.database.clock.now_ms()
        for line, decided in self._plans.items():
            if isinstance(decided, StreamError):
                if found_none:
                    line_error = decided
                    for writing in line.taken:
                        writing.settle(line_error)
                else:
                    lost.append(line)
                continue
            row, plan, producers = decided
            if row.id not in done:
                lost.append(line)
                continue
            plan.row = row_after(plan, row, now_ms)
            self._appends.settle(line, plan, row)
            stream = self._appends.streams.numbered(row.id)
            if stream is not None and stream.row is plan.row:
                stream.producers = producers
        return lost


class Statement:
    """The arguments of ``WRITE`` for many plans."""

    def __init__(self) -> None:
        self._input: list[list[Any]] = [[] for _ in range(13)]
        self._known: list[list[Any]] = [[] for _ in range(5)]
        self._forgotten: list[list[Any]] = [[] for _ in range(2)]
        self._checked: list[list[Any]] = [[] for _ in range(2)]
        self._used: list[int] = []

    def add(self, plan: Plan, row: Row) -> None:
        """Write what was decided on a row; or see to it that this is the row, if that is all."""
        if not plan.writes:
            _put(self._checked, row.id, row.version)
            if plan.used:
                self._used.append(row.id)
            return
        after, run = plan.row, plan.run
        ends = claims = data = start = None
        if run is not None:
            start = run.start.position
            ends = "{" + ",".join(map(str, run.ends)) + "}"
            claims = claims_text(run.claims)
            data = b"".join(run.data)
        _put(
            self._input,
            row.id,
            row.version,
            after.tail.segment,
            after.tail.position,
            after.closed,
            claim_text(after.closed_by),
            after.stream_seq,
            after.chain,
            start,
            ends,
            claims,
            row.chain,
            data,
        )
        for name, state in plan.known.items():
            _put(self._known, row.id, name, state.epoch, state.seq, state.time_ms)
        for name in plan.forgotten:
            _put(self._forgotten, row.id, name)

    def arguments(self, lane: Lane, now_ms: int | None) -> Iterable[Any]:
        """All of them, for the next write of a lane."""
        return (
            lane.id,
            lane.number,
            now_ms,
            *self._input,
            *self._known,
            *self._forgotten,
            *self._checked,
            self._used,
        )


def _put(columns: list[list[Any]], *values: object) -> None:
    for column, value in zip(columns, values, strict=True):
        column.append(value)


async def tables(
    fetch: Callable[..., Awaitable[list[asyncpg.Record]]], numbers: list[int]
) -> dict[int, ProducerTable]:
    """The producers of streams."""
    states: dict[int, dict[str, ProducerState]] = {number: {} for number in numbers}
    if numbers:
        for record in await fetch(PRODUCERS, numbers):
            states[record["stream"]][record["producer"]] = ProducerState(
                record["epoch"], record["seq"], record["seen_ms"]
            )
    return {number: ProducerTable(known) for number, known in states.items()}
