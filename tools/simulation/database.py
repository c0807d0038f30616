"""A model of the database that nodes share: what their statements do to its tables.

It knows each statement by its text, and does what PostgreSQL does for it: a statement sees what was
committed before, rows are locked until the transaction ends (``locked_rows``), and its clock is
everybody's.  There are no limits in it.  A fork without its source ends the simulation.

It is long because it has all statements of nodes.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import TYPE_CHECKING, Any, Final

from durable_streams.postgres import (
    births,
    doubt,
    endings,
    fencing,
    following,
    heartbeat,
    holds,
    notices,
    reading,
    statements,
    sweeping,
    versions,
    waits,
)
from tools.simulation.locked_rows import LockedRows, Mode, Transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tools.simulation.locked_rows import Row, Rows

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

_HELD_MS: Final = 5000
"""A hold's, as its statement says it."""


class Tables(LockedRows):
    """What statements do to all rows."""

    def __init__(self, random: Random, now_ms: Callable[[], int]) -> None:
        super().__init__(random)
        self.now_ms = now_ms
        self.heard: list[Callable[[str], None]] = []
        self._known = self._statements()

    def _statements(self) -> dict[str, Callable[..., Awaitable[Rows]]]:
        return {
            births._ABOVE: self._above,
            births._LOOK: self._look,
            births._NEW: self._new,
            births._SOURCE: self._source,
            endings._FAMILY: self._family,
            endings._FORKS: self._forks,
            endings._GRAVE: self._grave,
            endings._KEEP: self._keep,
            endings._REMOVE: self._remove,
            fencing.BEGIN_LANE: self._begin_lane,
            fencing.LOOK_AT_LANE: self._look_at_lane,
            fencing.END_LANE: self._end_lane,
            following._VERSIONS: self._versions,
            heartbeat._BEAT: self._beat,
            heartbeat._BORN: self._none,
            heartbeat.GONE: self._gone,
            holds._FORGET: self._none,
            holds._HOLD: self._hold,
            holds._LET_GO: self._let_go,
            notices.NOTIFY: self._notify,
            notices.UNSYNCED: self._none,
            reading.RUNS: self._runs,
            reading.SIZES: self._sizes,
            waits.ASK: self._ask,
            statements.BARRIER: self._barrier,
            statements.LOCKED_ROWS: self._locked_rows,
            statements.PRODUCERS: self._producers,
            statements.RENEW: self._renew_all,
            statements.ROWS: self._of_streams,
            statements.WRITE: self._write,
            versions.NEWEST: self._newest,
            sweeping._EXPIRED: self._expired,
            sweeping._FORGOTTEN: self._none,
            sweeping._GRAVES: self._graves,
            sweeping._LEFT_BEHIND: self._none,
            sweeping._RELEASE: self._release,
            doubt.SERVER: self._clock,
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

    def _told(self, transaction: Transaction, row: Row) -> Row:
        return row | {
            "forked": bool(self._forks_of(transaction, row["id"])),
            "held": row["ttl_s"] is not None and self._is_held(transaction, row["id"]),
            "now_ms": self.now_ms(),
        }

    def _forks_of(self, transaction: Transaction, number: int) -> Rows:
        streams = self._all(transaction, "streams")
        return [row for row in streams if row["fork_of"] == number]

    def _is_held(self, transaction: Transaction, number: int) -> bool:
        holds = self._all(transaction, "holds")
        return any(hold["stream"] == number and hold["until"] > self.now_ms() for hold in holds)

    def _is_alive(self, transaction: Transaction, row: Row, at_ms: int | None = None) -> bool:
        """Whether it has not expired, by now or another time."""
        deadline_ms = row["deadline_ms"]
        if deadline_ms is None or deadline_ms > (self.now_ms() if at_ms is None else at_ms):
            return True
        return row["ttl_s"] is not None and self._is_held(transaction, row["id"])

    # -- statements ------------------------------------------------------------------------

    async def _none(self, _: Transaction, *__: object) -> Rows:
        return []

    async def _of_streams(
        self, transaction: Transaction, paths: list[str], numbers: list[int], _: object
    ) -> Rows:
        return [
            self._told(transaction, row)
            for row in self._all(transaction, "streams")
            if row["path"] in paths or row["id"] in numbers
        ]

    async def _locked_rows(self, transaction: Transaction, paths: list[str], _: object) -> Rows:
        return await self._locked_at(transaction, paths, Mode.NO_KEY_UPDATE)

    async def _source(self, transaction: Transaction, paths: list[str], _: object) -> Rows:
        return await self._locked_at(transaction, paths, Mode.KEY_SHARE)

    async def _locked_at(self, transaction: Transaction, paths: list[str], mode: Mode) -> Rows:
        rows = [row for row in self._all(transaction, "streams") if row["path"] in paths]
        return await self._locked_in_order(transaction, rows, mode)

    async def _locked_in_order(self, transaction: Transaction, rows: Rows, mode: Mode) -> Rows:
        """What rows that a statement sees are when it has locked them, one after the other."""
        found: Rows = []
        for row in sorted(rows, key=lambda row: int(row["id"])):
            now = await self._lock(transaction, ("streams", row["id"]), mode, is_patient=False)
            if now is not None:
                found.append(self._told(transaction, now))
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

    async def _sizes(
        self, transaction: Transaction, streams: list[int], segments: list[int]
    ) -> Rows:
        sizes = [
            [
                run["ends"][-1]
                for run in self._all(transaction, "runs")
                if (run["stream"], run["segment"]) == asked
            ]
            for asked in zip(streams, segments, strict=True)
        ]
        return [{"size": max(ends, default=None)} for ends in sizes]

    async def _above(self, transaction: Transaction, path: str) -> Rows:
        above = [
            grave["next_segment"]
            for grave in self._all(transaction, "graves")
            if grave["path"] == path
        ]
        return [{"above": max(above, default=0)}]

    async def _look(self, transaction: Transaction, path: str, _: object) -> Rows:
        (found,) = await self._above(transaction, path)
        there = [row["id"] for row in self._all(transaction, "streams") if row["path"] == path]
        return [
            {
                "now_ms": self.now_ms(),
                "above": found["above"],
                "there": there[0] if there else None,
            }
        ]

    async def _new(self, transaction: Transaction, *values: Any) -> Rows:
        row = dict(zip(_COLUMNS, values, strict=True))
        await self._lock(transaction, ("paths", row["path"]), is_patient=False)
        if any(other["path"] == row["path"] for other in self._all(transaction, "streams")):
            return []
        if row["fork_of"] is not None:
            source = ("streams", row["fork_of"])
            found = await self._lock(transaction, source, Mode.KEY_SHARE, is_patient=False)
            assert found is not None, "a fork of a stream that is no more"
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
        rows: Rows = []
        above: int | None = number
        while above is not None:
            row = self._row(transaction, ("streams", above))
            if row is None:
                break
            rows.append(row)
            above = row["fork_of"]
        return await self._locked_in_order(transaction, rows, Mode.UPDATE)

    async def _forks(self, transaction: Transaction, numbers: list[int]) -> Rows:
        counted = [(number, len(self._forks_of(transaction, number))) for number in numbers]
        return [{"fork_of": number, "number": count} for number, count in counted if count]

    async def _remove(self, transaction: Transaction, number: int, version: int) -> Rows:
        row = self._row(transaction, ("streams", number))
        if row is None or row["version"] != version:
            return []
        transaction.changed["streams", number] = None
        assert not self._forks_of(transaction, number), "removed, and there are forks of it"
        return [{"id": number}]

    async def _keep(self, transaction: Transaction, number: int, version: int) -> Rows:
        key = ("streams", number)
        row = self._row(transaction, key)
        if row is None or row["version"] != version:
            return []
        transaction.changed[key] = row | {"soft_deleted": True, "version": version + 1}
        return [{"id": number}]

    async def _grave(
        self, transaction: Transaction, number: int, next_segment: int, now_ms: int, keep: bool
    ) -> Rows:
        row = self._row(transaction, ("streams", number))
        assert row is not None
        transaction.changed["graves", number] = {
            "stream": number,
            "path": row["path"],
            "kept": keep,
            "next_segment": next_segment,
            "removed_ms": now_ms,
            "swept": False,
        }
        return []

    async def _graves(self, transaction: Transaction) -> Rows:
        graves = self._all(transaction, "graves")
        return [
            grave
            for grave in graves
            if not grave["swept"]
            and not grave["kept"]
            and self._row(transaction, ("streams", grave["stream"])) is None
        ]

    async def _release(self, transaction: Transaction) -> Rows:
        for grave in self._all(transaction, "graves"):
            if grave["kept"]:
                key = ("graves", grave["stream"])
                now = await self._lock(transaction, key)
                if now is not None:
                    transaction.changed[key] = now | {"kept": False}
        return []

    async def _swept(self, transaction: Transaction, number: int) -> Rows:
        grave = await self._lock(transaction, ("graves", number))
        left = [key for key in self.rows if key[0] in {"runs", "producers"} and key[1] == number]
        if grave is not None and not left:
            transaction.changed["graves", number] = grave | {"swept": True}
        return []

    async def _sweep(self, transaction: Transaction, table: str, number: int, most: int) -> Rows:
        grave = self._row(transaction, ("graves", number))
        if grave is None or grave["kept"] or self._row(transaction, ("streams", number)):
            return [{"number": 0}]
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
            if key[0] in {"lanes", "holds"} and row["node"] == node:
                await self._lock(transaction, key)
                transaction.changed[key] = None
        return []

    async def _beat(self, transaction: Transaction, node: object) -> Rows:
        transaction.changed["nodes", node] = {"node": node}
        return [{"has_others": True, "standbys": 2, "lag_s": 0.0, "sees_standbys": True}]

    async def _newest(self, _: Transaction) -> Rows:
        return [{"version": versions.VERSION, "needs": versions.STEPS[-1].needs}]

    async def _ask(self, _: Transaction) -> Rows:
        return [{"names": "ANY 1 (n2, n3)", "loaded": self.started, "started": self.started}]

    async def _barrier(self, transaction: Transaction) -> Rows:
        transaction.changed["messages", object()] = None
        return [{}]

    async def _notify(self, _: Transaction, __: str, texts: list[str]) -> Rows:
        for hear, text in itertools.product(self.heard, texts):
            asyncio.get_running_loop().call_later(self._random.uniform(0, 0.05), hear, text)
        return []

    async def _write(
        self, transaction: Transaction, lane: object, number: int, _: object, *columns: Any
    ) -> Rows:
        *inputs, closed_alone = *columns[:13], columns[-1]
        known, forgotten, checked = columns[13:18], columns[18:20], columns[20:23]
        used = columns[23]
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
            for stream, version, chain in zip(*checked, strict=True)
            if (row := before.get(("streams", stream))) is not None
            and (row["version"], row["chain"]) == (version, chain)
            and self._is_alive(transaction, row, now_ms)
        ]
        for stream in sorted({*used} & {*confirmed}):
            self._renew(transaction, stream, now_ms)
        transaction.changed[key] = mine | {"batch": number, "won": moved}
        return [{"is_mine": True, "moved": moved, "confirmed": confirmed, "now_ms": now_ms}]

    def _move(self, transaction: Transaction, values: tuple[Any, ...], now_ms: int) -> bool:
        """Compare a stream's row and set it, and store the run; False if it is another one."""
        number, version, segment, position, closed, closed_by, stream_seq, chain = values[:8]
        start, ends, claims, before, data, closed_alone = values[8:]
        key = ("streams", number)
        if self._is_barred(transaction, key, Mode.NO_KEY_UPDATE):
            return False
        row = self._row(transaction, key)
        if row is None or (row["version"], row["chain"]) != (version, before):
            return False
        if row["soft_deleted"] or not self._is_alive(transaction, row, now_ms):
            return False
        self._take(transaction, key, Mode.NO_KEY_UPDATE)
        deadline_ms, ttl_s = row["deadline_ms"], row["ttl_s"]
        transaction.changed[key] = row | {
            "deadline_ms": deadline_ms if ttl_s is None else now_ms + ttl_s * 1000,
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

    # -- lifetimes -------------------------------------------------------------------------

    def _renew(self, transaction: Transaction, number: int, now_ms: int) -> int | None:
        """Have a TTL begin anew, if nobody has the row; until when it lasts."""
        key = ("streams", number)
        row = self._row(transaction, key)
        if row is None or row["ttl_s"] is None or row["soft_deleted"]:
            return None
        if self._is_barred(transaction, key, Mode.NO_KEY_UPDATE):
            return None
        self._take(transaction, key, Mode.NO_KEY_UPDATE)
        deadline_ms = now_ms + int(row["ttl_s"]) * 1000
        transaction.changed[key] = row | {"deadline_ms": deadline_ms}
        return deadline_ms

    async def _renew_all(self, transaction: Transaction, numbers: list[int], _: object) -> Rows:
        renewed: Rows = []
        for number in sorted(numbers):
            row = self._row(transaction, ("streams", number))
            if row is not None and self._is_alive(transaction, row):
                deadline_ms = self._renew(transaction, number, self.now_ms())
                if deadline_ms is not None:
                    renewed.append({"id": number, "deadline_ms": deadline_ms})
        return renewed

    async def _hold(
        self,
        transaction: Transaction,
        node: object,
        numbers: list[int],
        since: list[int | None],
        _: object,
    ) -> Rows:
        held: Rows = []
        for number, since_ms in sorted(zip(numbers, since, strict=True)):
            row = await self._lock(transaction, ("streams", number))
            if row is None or row["ttl_s"] is None or row["soft_deleted"]:
                continue
            if not self._is_alive(transaction, row, since_ms):
                continue
            now_ms, ttl_ms = self.now_ms(), row["ttl_s"] * 1000
            if row["deadline_ms"] < now_ms + ttl_ms // 2:
                changed = row | {"deadline_ms": now_ms + ttl_ms}
                transaction.changed["streams", number] = changed
            hold = {"stream": number, "node": node, "until": now_ms + _HELD_MS}
            transaction.changed["holds", number, node] = hold
            held.append({"stream": number})
        return held

    async def _let_go(
        self,
        transaction: Transaction,
        node: object,
        numbers: list[int],
        left: list[int],
        _: object,
    ) -> Rows:
        for number, left_ms in sorted(zip(numbers, left, strict=True)):
            row = await self._lock(transaction, ("streams", number))
            is_alive = row is not None and self._is_alive(transaction, row)
            transaction.changed["holds", number, node] = None
            if row is not None and is_alive and row["ttl_s"] and not row["soft_deleted"]:
                deadline_ms = max(row["deadline_ms"], left_ms + row["ttl_s"] * 1000)
                changed = row | {"deadline_ms": deadline_ms}
                transaction.changed["streams", number] = changed
        return []

    async def _expired(self, transaction: Transaction, last: int, _: object) -> Rows:
        return [
            {"id": row["id"], "path": row["path"]}
            for row in sorted(self._all(transaction, "streams"), key=lambda row: int(row["id"]))
            if not self._is_alive(transaction, row)
            and not row["soft_deleted"]
            and row["id"] > last
            and not self._forks_of(transaction, row["id"])
        ]

    async def _clock(self, _: Transaction, __: object = None) -> Rows:
        now_ms = self.now_ms()
        return [{"server": self.started, "now_ms": now_ms}]
