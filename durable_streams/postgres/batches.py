"""Batches: what many lines of appends come to, as the arguments of one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_streams.model.errors import StreamError
from durable_streams.model.paths import path_text
from durable_streams.postgres.decisions import Plan, decide, row_after, why_unusable
from durable_streams.postgres.rows import claim_text, claims_text, row_of
from durable_streams.postgres.statements import PRODUCERS, ROWS
from durable_streams.rules.producer_table import ProducerTable
from durable_streams.rules.producers import ProducerState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    import asyncpg

    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.decisions import Limits
    from durable_streams.postgres.fencing import Lane
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.streams import Streams
    from durable_streams.postgres.tickets import Line

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]


class Batch:
    """Lines that are written at once; ``statement``: what was decided, for the database."""

    def __init__(
        self,
        lines: list[Line],
        streams: Streams,
        clock: Clock,
        limits: Limits,
        settled: Callable[[Line, Plan, Row], None],
    ) -> None:
        """``settled``: told of each line that is written, or was found to be as was decided."""
        self.lines = lines
        self._streams = streams
        self._clock = clock
        self._limits = limits
        self._settled = settled
        self.statement = Statement()
        self._plans: dict[Line, tuple[Row, Plan, ProducerTable] | StreamError] = {}

    @property
    def writes(self) -> int:
        """How many appends it is of."""
        return sum([len(line.taken) for line in self.lines])

    async def decide(self, fetch: Fetch) -> None:
        """Decide about all, from what is known or is looked up now."""
        self.statement = Statement()
        self._plans = {}
        now_ms = self._clock.now_ms()
        looked_up = await self._look_up(fetch, now_ms)
        for line in self.lines:
            row, producers = looked_up[line.path]
            problem = why_unusable(line.path, row, now_ms if row is None else row.now_ms)
            if row is None or producers is None or problem is not None:
                assert problem is not None
                self._plans[line] = problem
                continue
            plan = decide(row, producers, line.taken, now_ms, self._limits)
            self.statement.add(plan, row)
            self._plans[line] = (row, plan, producers)

    async def _look_up(
        self, fetch: Fetch, now_ms: int
    ) -> dict[StreamPath, tuple[Row | None, ProducerTable | None]]:
        """The rows of all, with their producers; of those that are not known, as they are now.

        The producers are taken from the stream, as what is decided changes them before it is
        written: whoever looks again before :meth:`settle` gives them back finds none, and asks.
        """
        found: dict[StreamPath, tuple[Row | None, ProducerTable | None]] = {}
        cold: dict[str, StreamPath] = {}
        for line in self.lines:
            stream = self._streams.at(line.path)
            if (
                stream is not None
                and stream.producers is not None
                and not stream.has_expired(now_ms)
            ):
                found[line.path] = stream.row, stream.producers
                stream.producers = None
                continue
            cold[path_text(line.path)] = line.path
        if cold:
            parameter = self._clock.parameter
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

        Those about which nothing was decided, as the session was lost before, are among these.
        ``found_none``: those that found no stream to write to are told so.
        """
        done, lost = {*moved, *confirmed}, []
        now_ms = self._clock.now_ms()
        for line in self.lines:
            decided = self._plans.get(line)
            if decided is None:
                lost.append(line)
                continue
            if isinstance(decided, StreamError):
                if found_none:
                    line.settle(decided)
                else:
                    lost.append(line)
                continue
            row, plan, producers = decided
            if row.id not in done:
                lost.append(line)
                continue
            plan.row = row_after(plan, row, now_ms)
            self._settled(line, plan, row)
            stream = self._streams.numbered(row.id)
            if stream is not None and stream.row is plan.row:
                self._streams.remember(stream, producers)
        return lost


class Statement:
    """The arguments of ``WRITE`` for many plans, a tuple for each row of them."""

    def __init__(self) -> None:
        self._input: list[tuple[Any, ...]] = []
        self._known: list[tuple[Any, ...]] = []
        self._forgotten: list[tuple[int, str]] = []
        self._checked: list[tuple[int, int, bytes]] = []
        self._used: list[int] = []

    def add(self, plan: Plan, row: Row) -> None:
        """Write what was decided on a row; or see to it that this is the row, if that is all."""
        number = row.id
        if not plan.writes:
            self._checked.append((number, row.version, row.chain))
            if plan.used:
                self._used.append(number)
            return
        after, run = plan.row, plan.run
        ends = claims = data = start = None
        if run is not None:
            start = run.start.position
            ends = "{" + ",".join(map(str, run.ends)) + "}"
            claims = claims_text(run.claims)
            data = run.data[0] if len(run.data) == 1 else b"".join(run.data)
        self._input.append(
            (
                *(number, row.version, *after.tail, after.closed, claim_text(after.closed_by)),
                *(after.stream_seq, after.chain, start, ends, claims, row.chain, data),
                after.closed_alone,
            )
        )
        for name, state in plan.known.items():
            self._known.append((number, name, state.epoch, state.seq, state.time_ms))
        for name in plan.forgotten:
            self._forgotten.append((number, name))

    @property
    def changes(self) -> bool:
        """Whether anything is written, or used."""
        return bool(self._input or self._used)

    def arguments(self, lane: Lane, now_ms: int | None) -> Iterable[Any]:
        """All of them, for the next write of a lane."""
        *columns, closed_alone = _columns(self._input, 14)
        return (
            lane.id,
            lane.number,
            now_ms,
            *columns,
            *_columns(self._known, 5),
            *_columns(self._forgotten, 2),
            *_columns(self._checked, 3),
            self._used,
            closed_alone,
        )


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[tuple[Any, ...]]:
    """Rows of so many values, turned over."""
    return list(zip(*rows, strict=True)) if rows else [()] * count


async def tables(fetch: Fetch, numbers: list[int]) -> dict[int, ProducerTable]:
    """The producers of streams."""
    states: dict[int, dict[str, ProducerState]] = {number: {} for number in numbers}
    if numbers:
        for record in await fetch(PRODUCERS, numbers):
            states[record["stream"]][record["producer"]] = ProducerState(
                record["epoch"], record["seq"], record["seen_ms"]
            )
    return {number: ProducerTable(known) for number, known in states.items()}
