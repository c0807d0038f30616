"""Appends: lines of them, one a stream, which lanes write many at a time.

What is decided from what the node knows is confirmed by the statement that compares and sets: each
stream of a batch moved from the version it was decided on, or was found to have it still.  Who
loses is decided again under a lock, by a transaction.  The commit is a barrier for all answers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from durable_streams.model.errors import InvalidRequest, StreamError, Unavailable
from durable_streams.model.paths import path_text
from durable_streams.model.results import Appended
from durable_streams.postgres.batches import Batch, Statement, tables
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.database import (
    AGAIN,
    failure,
    is_of_a_value,
    nobody_knows,
    unavailable,
)
from durable_streams.postgres.decisions import Plan, decide, row_after, why_unusable
from durable_streams.postgres.fencing import Lane, settle
from durable_streams.postgres.rows import row_of
from durable_streams.postgres.sessions import Refused, Unknown
from durable_streams.postgres.statements import LOCKED_ROWS, WRITE
from durable_streams.postgres.tickets import Line, halves
from durable_streams.postgres.transactions import worker_of
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.counted import Counted
    from durable_streams.postgres.database import Database
    from durable_streams.postgres.decisions import Limits
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.standbys import Standbys
    from durable_streams.postgres.streams import Stream, Streams
    from durable_streams.postgres.tasks import Tasks
    from durable_streams.postgres.tickets import Writing
    from durable_streams.postgres.transactions import Transaction, Transactions
    from durable_streams.rules.producer_table import ProducerTable

LANES: Final = 2
"""Of a node; a stream is always in the same one."""

MOST_STREAMS: Final = 256
"""Of a batch."""

MOST_BYTES: Final = 4 * MIB
"""Of the bodies in a batch, beyond which no other line is taken; of a line one body comes in."""


class Appends:
    """All lines, and the lanes that write them."""

    def __init__(
        self,
        database: Database,
        standbys: Standbys,
        *,
        streams: Streams,
        transactions: Transactions,
        limits: Limits,
        written: Callable[[Stream, Row, Plan], None],
        contended: Callable[[int], None],
        counted: Counted,
        tasks: Tasks,
    ) -> None:
        """``written``: told of each stream that moved, before those who wrote are.

        ``contended``: told the number of each that other nodes may write to as well.
        """
        self.counted = counted
        self.database = database
        self.standbys = standbys
        self.streams = streams
        self.transactions = transactions
        self.limits = limits
        self.written = written
        self._contended = contended
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

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum([len(line.waiting) for line in self._lines.values()])

    async def finished(self) -> None:
        """Return when nothing waits."""
        await self._idle.wait()

    def give_up(self, error: StreamError) -> None:
        """Tell all that wait that nobody knows."""
        for line in self._lines.values():
            for writing in (*line.taken, *line.waiting):
                writing.settle(error)

    def refuse(self, error: StreamError) -> None:
        """Tell those whose turn has not come, of whom nothing is stored."""
        refused: list[Writing] = []
        for line in self._lines.values():
            refused += line.waiting
            line.waiting.clear()
        self.waiting_bytes -= sum([len(writing.body) for writing in refused])
        for writing in refused:  # who is told may send the next one at once
            writing.settle(error)

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
            self.counted.size_bytes += plan.row.size_bytes - row.size_bytes
        for writing, answer in plan.answers:
            if isinstance(answer, Appended) and answer.duplicate and writing.command.producer:
                self.counted.duplicates += 1
            writing.settle(answer)

    async def lost(self, lines: list[Line]) -> None:
        """Decide lines again, with the streams' rows locked; their answers are given then.

        They are of one worker of the transactions.
        """
        for line in lines:
            self.streams.forget(line.path)
        self.counted.conflicts += len(lines)
        try:
            await self._decide_again(lines)
        finally:
            for line in lines:
                self.go_on(line)

    async def _decide_again(self, lines: list[Line]) -> None:
        """Where a value of an append cannot be stored, all are halved until it fails alone."""

        async def work(transaction: Transaction) -> list[_Decided]:
            return await self._locked(transaction, lines)

        writes = sum([len(line.taken) for line in lines])
        try:
            await self.transactions.run(lines[0].path, work, self._settle_all, writes)
        except InvalidRequest as error:
            if writes > 1:
                for half in halves(lines):
                    await self._decide_again(half)
                return
            for line in lines:
                line.settle(error)
        except StreamError as error:
            for line in lines:
                line.settle(error)

    def _settle_all(self, decided: list[_Decided]) -> None:
        for line, row, plan, producers in decided:
            if row is None or isinstance(plan, StreamError):
                assert isinstance(plan, StreamError)
                line.settle(plan)
                continue
            self.settle(line, plan, row)
            self._contended(row.id)
            stream = self.streams.numbered(row.id)
            if stream is not None and stream.row is plan.row and producers is not None:
                self.streams.remember(stream, producers)

    async def _locked(self, transaction: Transaction, lines: list[Line]) -> list[_Decided]:
        fetch, lane, clock = transaction.fetch, transaction.lane, self.database.clock
        paths = [path_text(line.path) for line in lines]
        found = {each["path"]: each for each in await fetch(LOCKED_ROWS, paths, clock.parameter)}
        rows = {path: row_of(record) for path, record in found.items()}
        producers = await tables(fetch, [row.id for row in rows.values()])
        decided: list[_Decided] = []
        statement = Statement()
        for line, path in zip(lines, paths, strict=True):
            row = rows.get(path)
            problem = why_unusable(line.path, row, row.now_ms if row else 0)
            if row is None or problem is not None:
                assert problem is not None
                decided.append(_Decided(line, None, problem, None))
                continue
            plan = decide(row, producers[row.id], line.taken, row.now_ms, self.limits)
            statement.add(plan, row)
            decided.append(_Decided(line, row, plan, producers[row.id]))
        if statement.changes:
            (result,) = await fetch(WRITE, *statement.arguments(lane, clock.parameter))
            lane.number += 1
            decided = [_unless_ended(each, result["moved"]) for each in decided]
        for each in decided:
            if each.row is not None and isinstance(each.plan, Plan):
                each.plan.row = row_after(each.plan, each.row, each.row.now_ms)
        return decided


class _Decided(NamedTuple):
    """What a line came to, with its stream's row locked; without a row: why there is none."""

    line: Line
    row: Row | None
    plan: Plan | StreamError
    producers: ProducerTable | None


def _unless_ended(decided: _Decided, moved: list[int]) -> _Decided:
    """What was decided, if it is among what moved, in case it should be."""
    line, row, plan, _ = decided
    if row is None or isinstance(plan, StreamError) or not plan.writes or row.id in moved:
        return decided
    problem = Unavailable("the stream ended meanwhile: try again")
    return _Decided(line, None, problem, None)


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
        """Write a batch, and answer for it or have it decided again.

        The next one waits for the answers, though it could be sent before them: it would have fewer
        appends, and what a commit takes matters more than when it begins.
        """
        appends = self._appends
        batch = Batch(
            lines, appends.streams, appends.database.clock, appends.limits, appends.settle
        )
        try:
            lost = await self._try(batch)
        except StreamError as error:
            for line in lines:
                appends.streams.forget(line.path)
                line.settle(error)
            lost = []
        again: dict[int, list[Line]] = {}
        for line in lost:
            again.setdefault(worker_of(line.path), []).append(line)
        for some in again.values():
            self._tasks.once("lost appends", appends.lost(some))
        are_lost = set(lost)
        for line in lines:
            if line not in are_lost:
                appends.go_on(line)

    async def _try(self, batch: Batch) -> list[Line]:
        """The lines that have to be decided again."""
        database, standbys = self._appends.database, self._appends.standbys
        while True:
            lane = await self._begun()
            mark, begun_s = standbys.mark, time.monotonic()
            try:
                await batch.decide(lane.session.fetch)
                (result,) = await lane.session.fetch(
                    WRITE, *batch.statement.arguments(lane, database.clock.parameter)
                )
                if not await standbys.still_wait(mark, lane.session):
                    raise Unknown("commits may not have waited for standbys")
            except Refused as error:
                if error.code in AGAIN or (is_of_a_value(error) and batch.writes > 1):
                    return batch.lines
                raise failure(error) from None
            except Unknown:
                self._lane = None
                found = await settle(database, standbys, lane)
                if found is None:
                    raise nobody_knows() from None
                return batch.settle(found[1] if found[0] >= lane.number else [], [])
            if result["is_mine"]:
                break
            self._lane = None  # somebody ended it; nothing was written
            lane.session.terminate()
        self._appends.counted.commit(time.monotonic() - begun_s, batch.writes)
        lane.number += 1
        database.clock.learn(result["now_ms"])
        return batch.settle(result["moved"], result["confirmed"], found_none=True)

    async def _begun(self) -> Lane:
        if self._lane is None:
            try:
                session = await self._appends.database.connect()
                self._lane = await Lane.begin(session, self._appends.database.node)
            except (NoDatabase, Refused, Unknown) as error:
                database = self._appends.database
                raise database.refusal() or unavailable(str(error)) from None
        return self._lane
