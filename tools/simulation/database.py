"""A model of the database that nodes share: what their statements do to its tables.

It knows each statement by its text, and does what PostgreSQL does for it: a statement sees what was
committed before, rows are locked until the transaction ends, and what is committed is seen by all
once a standby has it, which takes a while.  There are no lifetimes, forks and limits in it.  When
it crashes, commits that waited are there afterwards or are not, the first before the others.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from durable_streams.postgres import (
    births,
    endings,
    fencing,
    following,
    heartbeat,
    notices,
    reading,
    standbys,
    statements,
    sweeping,
)
from durable_streams.postgres.sessions import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    Key = tuple[Any, ...]
    Row = dict[str, Any]
    Rows = list[Row]

_ADVANCE: Final = re.compile(
    r"\s*begin; update ds\.lanes set batch = (\d+) where lane = '([0-9a-f-]+)'"
)
_SWEEPS: Final = {sweeping._SWEEP.format(table=table): table for table in ("runs", "producers")}

_COLUMNS: Final = (
    *("id", "path", "content_type", "first_segment", "segment", "position", "chain", "closed"),
    *("ttl_s", "expires_at", "expires_at_ms", "deadline_ms", "created_ms", "requested"),
    *("fork_of", "layers", "sort_key", "closed_alone", "size_bytes", "last_write_ms"),
    *("start", "before", "data"),
)
"""Of a new stream, and of the run that it begins with, as they are given."""

_SYNC_S: Final = (0.0005, 0.02)
_LOCK_TIMEOUT_S: Final = 2.0


class Transaction:
    """What was changed and locked, and is not committed."""

    def __init__(self) -> None:
        self.changed: dict[Key, Row | None] = {}
        self.locked: set[Key] = set()
        self.is_over = False


class Tables:
    """All rows, by table and key; ``started``: which server it is, another one after each crash."""

    def __init__(self, random: Random, now_ms: Callable[[], int]) -> None:
        self._random = random
        self.now_ms = now_ms
        self.started = 0
        self.rows: dict[Key, Row] = {}
        self._locks: dict[Key, Transaction] = {}
        self._freed = asyncio.Event()
        self._syncing: list[tuple[Transaction, asyncio.Future[bool]]] = []
        self.heard: list[Callable[[str], None]] = []
        self._known = self._statements()

    def _statements(self) -> dict[str, Callable[..., Awaitable[Rows]]]:
        return {
            births._LOOK: self._look,
            births._NEW: self._new,
            endings._FAMILY: self._family,
            endings._FORKS: self._none,
            endings._GRAVE: self._grave,
            endings._REMOVE: self._remove,
            fencing.BEGIN_LANE: self._begin_lane,
            fencing.LOOK_AT_LANE: self._look_at_lane,
            fencing.END_LANE: self._end_lane,
            following._VERSIONS: self._versions,
            heartbeat._BEAT: self._beat,
            heartbeat._BORN: self._none,
            heartbeat.GONE: self._gone,
            notices.NOTIFY: self._notify,
            notices.UNSYNCED: self._none,
            reading.RUNS: self._runs,
            standbys._ASK: self._ask,
            statements.BARRIER: self._barrier,
            statements.LOCKED_ROWS: self._locked_rows,
            statements.PRODUCERS: self._producers,
            statements.ROWS: self._of_streams,
            statements.WRITE: self._write,
            sweeping._FORGOTTEN: self._none,
            sweeping._GRAVES: self._graves,
            sweeping._SWEPT: self._swept,
        }

    async def do(self, transaction: Transaction, sql: str, arguments: tuple[Any, ...]) -> Rows:
        """Run a statement."""
        if sql in _SWEEPS:
            return await self._sweep(transaction, _SWEEPS[sql], *arguments)
        return await self._known[sql](transaction, *arguments)

    async def advance(self, transaction: Transaction, script: str) -> str:
        """Run the script that begins a transaction and fences it."""
        match = _ADVANCE.match(script)
        assert match is not None, script
        number, key = int(match[1]), ("lanes", match[2])
        lane = await self._lock(transaction, key, is_patient=False)
        if lane is None or lane["batch"] != number - 1:
            return "UPDATE 0"
        transaction.changed[key] = lane | {"batch": number}
        return "UPDATE 1"

    # -- transactions ----------------------------------------------------------------------

    async def commit(self, transaction: Transaction) -> bool:
        """Commit, and wait for a standby; False if the server crashed, whatever became of it."""
        if not transaction.changed:
            self.end(transaction)
            return True
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._syncing.append((transaction, done))
        asyncio.get_running_loop().call_later(
            self._random.uniform(*_SYNC_S), self._synced, transaction, done
        )
        return await done

    def _synced(self, transaction: Transaction, done: asyncio.Future[bool]) -> None:
        if (transaction, done) in self._syncing:
            self._syncing.remove((transaction, done))
            self._apply(transaction)
            if not done.done():
                done.set_result(True)

    def _apply(self, transaction: Transaction) -> None:
        for key, row in transaction.changed.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        self.end(transaction)

    def end(self, transaction: Transaction) -> None:
        """Roll back what is not committed, and let go of all locks."""
        transaction.is_over = True
        transaction.changed = {}
        for key in transaction.locked:
            self._locks.pop(key, None)
        transaction.locked = set()
        self._freed.set()
        self._freed = asyncio.Event()

    def crash(self) -> None:
        """End the server and start another one on its disk, or a standby's."""
        waiting, self._syncing = self._syncing, []
        kept = self._random.randint(0, len(waiting))
        for number, (transaction, done) in enumerate(waiting):
            if number < kept:
                self._apply(transaction)
            self.end(transaction)
            if not done.done():
                done.set_result(False)
        for transaction in [*self._locks.values()]:
            self.end(transaction)
        self.started += 1

    # -- rows ------------------------------------------------------------------------------

    def _row(self, transaction: Transaction, key: Key) -> Row | None:
        if key in transaction.changed:
            return transaction.changed[key]
        return self.rows.get(key)

    def _all(self, transaction: Transaction, table: str) -> Rows:
        merged = {**self.rows, **transaction.changed}
        return [row for key, row in merged.items() if key[0] == table and row is not None]

    async def _lock(
        self, transaction: Transaction, key: Key, *, is_patient: bool = True
    ) -> Row | None:
        """The row, which nobody else changes until the transaction ends."""
        try:
            async with asyncio.timeout(None if is_patient else _LOCK_TIMEOUT_S):
                while self._locks.get(key, transaction) is not transaction:
                    await self._freed.wait()
        except TimeoutError:
            raise Refused("55P03", "canceling statement due to lock timeout") from None
        if transaction.is_over:
            raise Refused("57P01", "the server has ended")
        self._locks[key] = transaction
        transaction.locked.add(key)
        return self._row(transaction, key)

    def _told(self, row: Row) -> Row:
        return row | {"forked": False, "held": False, "now_ms": self.now_ms()}

    # -- statements ------------------------------------------------------------------------

    async def _none(self, _: Transaction, *__: object) -> Rows:
        return []

    async def _of_streams(
        self, transaction: Transaction, paths: list[str], numbers: list[int], _: object
    ) -> Rows:
        return [
            self._told(row)
            for row in self._all(transaction, "streams")
            if row["path"] in paths or row["id"] in numbers
        ]

    async def _locked_rows(self, transaction: Transaction, paths: list[str], _: object) -> Rows:
        found: Rows = []
        for row in self._all(transaction, "streams"):
            if row["path"] in paths:
                now = await self._lock(transaction, ("streams", row["id"]), is_patient=False)
                if now is not None:
                    found.append(self._told(now))
        return found

    async def _producers(self, transaction: Transaction, numbers: list[int]) -> Rows:
        return [row for row in self._all(transaction, "producers") if row["stream"] in numbers]

    async def _versions(self, transaction: Transaction, numbers: list[int]) -> Rows:
        return [row for row in self._all(transaction, "streams") if row["id"] in numbers]

    async def _runs(
        self, transaction: Transaction, stream: int, segment: int, begin: int, end: int
    ) -> Rows:
        runs = sorted(
            [
                run
                for run in self._all(transaction, "runs")
                if (run["stream"], run["segment"]) == (stream, segment)
            ],
            key=lambda run: int(run["start"]),
        )
        first = max([run["start"] for run in runs if run["start"] <= begin], default=begin)
        return [run for run in runs if first <= run["start"] < end]

    async def _look(self, transaction: Transaction, path: str, _: object, __: object) -> Rows:
        above = [
            grave["next_segment"]
            for grave in self._all(transaction, "graves")
            if grave["path"] == path
        ]
        there = [row["id"] for row in self._all(transaction, "streams") if row["path"] == path]
        return [
            {
                "now_ms": self.now_ms(),
                "above": max(above, default=0),
                "there": there[0] if there else None,
            }
        ]

    async def _new(self, transaction: Transaction, *values: Any) -> Rows:
        row = dict(zip(_COLUMNS, values, strict=True))
        await self._lock(transaction, ("paths", row["path"]), is_patient=False)
        if any(other["path"] == row["path"] for other in self._all(transaction, "streams")):
            return []
        start, before, data = row.pop("start"), row.pop("before"), row.pop("data")
        row |= {"version": 0, "closed_by": None, "stream_seq": None, "soft_deleted": False}
        transaction.changed["streams", row["id"]] = row
        if data is not None:
            self._add_run(
                transaction,
                stream=row["id"],
                segment=row["segment"],
                start=start,
                ends=[row["position"]],
                before=before,
                chain=row["chain"],
                data=data,
            )
        return [{"id": row["id"]}]

    @staticmethod
    def _add_run(transaction: Transaction, **run: Any) -> None:
        transaction.changed["runs", run["stream"], run["segment"], run["start"]] = run

    async def _family(self, transaction: Transaction, number: int) -> Rows:
        row = await self._lock(transaction, ("streams", number), is_patient=False)
        return [] if row is None else [self._told(row)]

    async def _remove(self, transaction: Transaction, number: int, version: int) -> Rows:
        row = self._row(transaction, ("streams", number))
        if row is None or row["version"] != version:
            return []
        transaction.changed["streams", number] = None
        return [{"id": number}]

    async def _grave(
        self, transaction: Transaction, number: int, path: str, next_segment: int, _: int
    ) -> Rows:
        transaction.changed["graves", number] = {
            "stream": number,
            "path": path,
            "next_segment": next_segment,
            "swept": False,
        }
        return []

    async def _graves(self, transaction: Transaction) -> Rows:
        return [grave for grave in self._all(transaction, "graves") if not grave["swept"]]

    async def _swept(self, transaction: Transaction, number: int) -> Rows:
        grave = await self._lock(transaction, ("graves", number))
        if grave is not None:
            transaction.changed["graves", number] = grave | {"swept": True}
        return []

    async def _sweep(self, transaction: Transaction, table: str, number: int, most: int) -> Rows:
        keys = [key for key in self.rows if key[0] == table and key[1] == number][:most]
        transaction.changed |= dict.fromkeys(keys)
        return [{"number": len(keys)}]

    # -- lanes and the rest ----------------------------------------------------------------

    async def _begin_lane(self, transaction: Transaction, lane: object, node: object) -> Rows:
        transaction.changed["lanes", str(lane)] = {"batch": 0, "won": [], "node": node}
        return []

    async def _look_at_lane(self, transaction: Transaction, lane: object) -> Rows:
        row = await self._lock(transaction, ("lanes", str(lane)))
        return [] if row is None else [row]

    async def _end_lane(self, transaction: Transaction, lane: object) -> Rows:
        transaction.changed["lanes", str(lane)] = None
        return []

    async def _gone(self, transaction: Transaction, node: object) -> Rows:
        for key, row in [*self.rows.items()]:
            if key[0] == "lanes" and row["node"] == node:
                await self._lock(transaction, key)
                transaction.changed[key] = None
        return []

    async def _beat(self, transaction: Transaction, node: object) -> Rows:
        transaction.changed["nodes", node] = {"node": node}
        return [{"has_others": True, "standbys": 2, "lag_s": 0.0, "sees_standbys": True}]

    async def _ask(self, _: Transaction) -> Rows:
        return [{"names": "ANY 1 (n2, n3)", "loaded": self.started, "started": self.started}]

    async def _barrier(self, transaction: Transaction) -> Rows:
        transaction.changed["messages", object()] = None
        return [{}]

    async def _notify(self, _: Transaction, __: str, text: str) -> Rows:
        for hear in self.heard:
            asyncio.get_running_loop().call_later(self._random.uniform(0, 0.05), hear, text)
        return []

    async def _write(
        self, transaction: Transaction, lane: object, number: int, _: object, *columns: Any
    ) -> Rows:
        *inputs, closed_alone = columns[:13] + columns[-1:]
        known, forgotten, checked = columns[13:18], columns[18:20], columns[20:22]
        before = dict(self.rows) | transaction.changed  # what the statement sees
        key = ("lanes", str(lane))
        mine = await self._lock(transaction, key)
        now_ms = self.now_ms()
        if mine is None or mine["batch"] != number - 1:
            return [{"is_mine": False, "moved": [], "confirmed": [], "now_ms": now_ms}]
        moved = [
            values[0]
            for values in sorted(zip(*inputs, closed_alone, strict=True))
            if self._move(transaction, values, now_ms)
        ]
        for stream, name in zip(*forgotten, strict=True):
            if stream in moved:
                transaction.changed["producers", stream, name] = None
        for stream, name, epoch, seq, seen_ms in zip(*known, strict=True):
            if stream in moved:
                transaction.changed["producers", stream, name] = {
                    "stream": stream,
                    "producer": name,
                    "epoch": epoch,
                    "seq": seq,
                    "seen_ms": seen_ms,
                }
        confirmed = [
            stream
            for stream, version in zip(*checked, strict=True)
            if (before.get(("streams", stream)) or {}).get("version") == version
        ]
        transaction.changed[key] = mine | {"batch": number, "won": moved}
        return [{"is_mine": True, "moved": moved, "confirmed": confirmed, "now_ms": now_ms}]

    def _move(self, transaction: Transaction, values: tuple[Any, ...], now_ms: int) -> bool:
        """Compare a stream's row and set it, and store the run; False if it is another one."""
        number, version, segment, position, closed, closed_by, stream_seq, chain = values[:8]
        start, ends, claims, before, data, closed_alone = values[8:]
        key = ("streams", number)
        if self._locks.get(key, transaction) is not transaction:
            return False
        row = self._row(transaction, key)
        if row is None or row["version"] != version or row["soft_deleted"]:
            return False
        self._locks[key] = transaction
        transaction.locked.add(key)
        transaction.changed[key] = row | {
            "version": version + 1,
            "segment": segment,
            "position": position,
            "closed": closed,
            "closed_by": closed_by,
            "closed_alone": closed_alone,
            "size_bytes": row["size_bytes"] + len(data or b""),
            "last_write_ms": now_ms,
            "stream_seq": stream_seq,
            "chain": chain,
        }
        if start is not None:
            self._add_run(
                transaction,
                stream=number,
                segment=segment,
                start=start,
                ends=[int(end) for end in ends.strip("{}").split(",")],
                claims=claims,
                before=before,
                chain=chain,
                data=data,
            )
        return True
