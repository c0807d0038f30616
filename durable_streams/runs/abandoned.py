"""Runs whose process is gone: found, and ended with a reason.

Who looks counts: a worker whose stream has not changed over so many looks, a third of a lease
apart, has been silent for a whole lease.  No clock is compared with another, and a look that does
not succeed is none: while the store is away nobody can give a sign of life, and nobody is blamed.
Nor is anybody while it can be read and not written, as with a full disk: so who finds somebody
silent writes something as well, or else that look is none.

From a worker's last sign of life to the end of its runs it takes at most 4/3 of a lease and what
the looks take, if one process looks all the time, and as long from the next start if none did.

A run or a worker whose streams are damaged, or not to be had, keeps nobody else waiting: it is
logged, and its turn comes again when the worker has been silent for one more lease.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durable_streams.model.errors import StreamError, StreamGone, StreamNotFound
from durable_streams.runs.states import DEFAULT_LEASE_S, End, State
from durable_streams.runs.store import all_json, until_it_works
from durable_streams.runs.workers import SIGNS

if TYPE_CHECKING:
    from durable_streams.listing import ListedStream
    from durable_streams.runs.records import Records

_log = logging.getLogger(__name__)

_LONGEST_LEASE_S: Final = 24 * 60 * 60.0
_LOOKS_TTL_S: Final = 24 * 60 * 60
_JSON: Final = "application/json"
_ENDING_S: Final = 5.0
"""What the end of one run may take, before the next has its turn."""


class _Seen(NamedTuple):
    """Where a worker's stream ended at a look, and how many looks it has since."""

    offset: str
    looks: int
    needed: int


class Sweeper:
    """Looks after the workers of all processes, this one's own aside."""

    def __init__(self, records: Records, lease_s: float, ending_s: float = _ENDING_S) -> None:
        self._ending_s = ending_s
        self._records = records
        self._pause_s = lease_s / SIGNS
        self._seen: dict[str, _Seen] = {}

    async def run(self, own: set[str]) -> None:
        """Look for ever; ``own``: the paths of workers that live here."""
        while True:
            try:
                await self.look(own)
            except StreamError as error:
                _log.warning("runs: cannot look for abandoned runs now: %s", error)
            except Exception:  # noqa: BLE001 - whatever is there, the next look is due
                _log.exception("runs: a look for abandoned runs failed")
            await asyncio.sleep(self._pause_s)

    async def look(self, own: set[str]) -> None:
        """Look once at all workers, and end the runs of those that are silent for too long."""
        before = self._seen
        found = await self._found(own)
        silent = [path for path, seen in found.items() if seen.looks]
        self._seen = found | {path: before[path] for path in silent}
        if silent:
            await self._write()  # or they were not able to, either
        self._seen = found
        dead = [path for path in silent if found[path].looks >= found[path].needed]
        for path in dead:
            seen = self._seen.pop(path)  # whatever comes of it now, it has another lease then
            try:
                if await self._is_at(path, seen.offset):
                    await self.bury(path)
            except (StreamNotFound, StreamGone):
                pass  # somebody else has
            except Exception as error:  # noqa: BLE001 - the others are to be buried all the same
                _log.warning("runs: cannot end the runs of %s now: %r", path, error)
        if dead:
            with suppress(StreamNotFound, StreamGone):
                await self._records.streams.delete(self._records.places.looks)

    async def _found(self, own: set[str]) -> dict[str, _Seen]:
        found: dict[str, _Seen] = {}
        for stream in await self._workers():
            if stream.path in own or stream.error is not None:
                continue
            try:
                found[stream.path] = await self._look_at(stream, self._seen.get(stream.path))
            except StreamError as error:  # nobody knows its lease, and others can be seen
                _log.warning("runs: cannot look at %s now: %s", stream.path, error)
        return found

    async def _write(self) -> None:
        """Write something, as a worker that lives does: to a stream that a burial deletes."""
        streams, path = self._records.streams, self._records.places.looks
        await streams.create(path, content_type=_JSON, ttl_s=_LOOKS_TTL_S)
        await streams.append(path, b"{}", content_type=_JSON)

    async def _is_at(self, path: str, offset: str) -> bool:
        """Whether a worker was silent until now: it may have said something after the write."""
        return (await self._records.streams.get_metadata(path)).next_offset == offset

    async def _workers(self) -> list[ListedStream]:
        found: list[ListedStream] = []
        after: str | None = ""
        prefix = self._records.places.workers
        while after is not None:
            page = await self._records.streams.list_page(prefix, after=after)
            found += page.streams
            after = page.next
        return found

    async def _look_at(self, stream: ListedStream, before: _Seen | None) -> _Seen:
        if before is None:
            lease_s = await self._lease_of(stream.path)
            return _Seen(stream.next_offset, 0, max(SIGNS, math.ceil(lease_s / self._pause_s)))
        if before.offset != stream.next_offset:
            return before._replace(offset=stream.next_offset, looks=0)
        return before._replace(looks=before.looks + 1)

    async def _lease_of(self, path: str) -> float:
        with suppress(StreamNotFound, StreamGone):
            values = (await self._records.streams.read_json(path)).values
            given = values[0].get("lease_s") if values and isinstance(values[0], dict) else None
            if isinstance(given, (int, float)) and 0 < given <= _LONGEST_LEASE_S:
                return float(given)
        return DEFAULT_LEASE_S

    async def bury(self, path: str) -> None:
        """End all runs of a worker: it is fenced first, and forgotten last."""
        streams = self._records.streams
        with suppress(StreamNotFound, StreamGone):
            await streams.close(path)  # from here on it can begin none
            values = await all_json(streams, path)
            worker = path.rpartition("/")[2]
            ended = [await self._ends(name, worker, _reason(values)) for name in _unended(values)]
            if all(ended):
                await streams.delete(path)

    async def _ends(self, name: str, worker: str, reason: str) -> bool:
        """Whether a run is ended now, or was."""
        try:
            async with asyncio.timeout(self._ending_s):
                await self._end(name, worker, reason)
        except Exception as error:  # noqa: BLE001 - the worker's other runs can be ended
            _log.warning("runs: cannot end %s now: %r", name, error)
            return False
        return True

    async def _end(self, name: str, worker: str, reason: str) -> None:
        """End a run as abandoned, if it is this worker's."""
        try:
            found = await until_it_works(lambda: self._records.find(name))
        except (StreamNotFound, StreamGone):
            await self._records.close_unclaimed(name)
            return
        if found.claim.worker == worker:
            end = await self._records.end(name, End(State.ABANDONED, reason))
            _log.warning("runs: %s is %s: %s", name, end.state.value, end.reason)


def _unended(values: list[Any]) -> list[str]:
    messages = [value for value in values if isinstance(value, dict)]
    over = {message["over"] for message in messages if "over" in message}
    return [m["run"] for m in messages if "run" in m and m["run"] not in over]


def _reason(values: list[Any]) -> str:
    lease_s = values[0].get("lease_s") if values and isinstance(values[0], dict) else None
    return f"the process that carried it gave no sign of life for {lease_s or DEFAULT_LEASE_S:g} s"
