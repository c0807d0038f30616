"""Uses of streams that expire: remembered over restarts, and the end of those that nobody uses.

A use renews a stream's TTL in memory.  The time of the last one goes to the sidecar when it has
moved by a noticeable part of the TTL.  While somebody follows a stream its TTL stands still, and
that is remembered now and then, so that a crash takes little of it.  Sidecars are written a few at
a time, and none while writers wait: many streams that are used at once must not hold them up.

However many streams there are, only those are looked at that were used, and those whose time has
come: a deadline that has moved is noticed when the old one is reached (:class:`Wheel`).  After a
jump of the clock all of them are looked at.  That is done in slices.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import ref

from durable_streams.filestore.streams.life import LIVE, RULES
from durable_streams.filestore.verbs.wheel import HORIZON_S, Wheel
from durable_streams.model.errors import DiskFull, StreamError, StreamGone, StreamNotFound
from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.filestore.verbs.endings import Endings
    from durable_streams.model.paths import StreamPath

_LONGEST_UNWRITTEN_MS: Final = 4000
_LONGEST_UNWRITTEN_FOLLOWED_MS: Final = 60_000
"""Followers who only wait are many, and a sidecar is written for each stream of theirs."""

_TTL_SHARE: Final = 8
"""At most one part in so many of a TTL goes unwritten."""

_SIDECARS_A_TICK: Final = 64


class Uses:
    """Remembers uses, and ends what has expired."""

    def __init__(self, core: Core, endings: Endings) -> None:
        self._core = core
        self._endings = endings
        self._tuning = core.tuning
        self._wheel = Wheel(core.loop.time())
        self._jumps = core.clock.jumps
        self._used: list[ref[Stream]] = []
        self._unwritten: deque[ref[Stream]] = deque()

    async def run(self) -> None:
        """Remember uses, and send readers of expired streams away; for ever."""
        while True:
            await asyncio.sleep(self._tuning.tick_s)
            if self._jumps != self._core.clock.jumps:
                self._jumps = self._core.clock.jumps
                await self._in_slices(self._look, self._wheel.take_all())
            while (due := self._wheel.turn(self._core.loop.time())) is not None:
                await self._in_slices(self._look, due)
            used, self._used = self._used, []
            await self._in_slices(self._sort_out, used)
            self._write_some()

    async def _in_slices(
        self, see_to: Callable[[list[ref[Stream]]], None], streams: list[ref[Stream]]
    ) -> None:
        slice_size = self._tuning.uses_slice
        for begin in range(0, len(streams), slice_size):
            see_to(streams[begin : begin + slice_size])
            await asyncio.sleep(0)

    def watch(self, stream: Stream) -> None:
        """A stream that may expire was opened."""
        if stream.sidecar.ttl_s is not None:
            stream.on_use = self._note
        self._wheel.put(stream, self._delay_s(stream, self._core.now_ms()))

    def _look(self, due: list[ref[Stream]]) -> None:
        """See to streams whose time has come, or may have."""
        now_ms = self._core.now_ms()
        for reference in due:
            stream = reference()
            if stream is None:
                continue
            if RULES[
                stream.state
            ].has_ended:  # unless its deletion fails, it leaves with its readers
                self._wheel.put(stream, HORIZON_S)
                continue
            if stream.last_use_ms > now_ms:  # used while the clock was ahead
                stream.last_use_ms = stream.use_written_ms = now_ms
            if stream.followers:
                stream.use(now_ms)
            if stream.audience and stream.is_expired(now_ms):
                reason = StreamGone if stream.forked else StreamNotFound
                stream.audience.end(reason(path_text(stream.path)))
            self._wheel.put(stream, self._delay_s(stream, now_ms))

    def _delay_s(self, stream: Stream, now_ms: int) -> float:
        """For how long a stream need not be looked at, unless somebody uses it."""
        ttl_s = stream.sidecar.ttl_s
        if ttl_s is None or not stream.followers:
            end_ms = stream.ends_at_ms(now_ms)
        else:
            end_ms = stream.use_written_ms + _longest_unwritten_ms(stream, ttl_s)
        delay_s = HORIZON_S if end_ms is None or end_ms < now_ms else (end_ms - now_ms) / 1000
        # Whoever begins to follow a stream tells nobody.
        return delay_s if ttl_s is None else min(delay_s, ttl_s / _TTL_SHARE)

    def _note(self, stream: Stream) -> None:
        """A stream is used, for the first time since that was last sorted out."""
        self._used.append(ref(stream))

    def _sort_out(self, used: list[ref[Stream]]) -> None:
        """Find the streams whose sidecars have to be written."""
        most = self._tuning.most_unwritten
        for reference in used:
            stream = reference()
            if stream is None:
                continue
            if _unwritten_too_long(stream) and len(self._unwritten) < most:
                self._unwritten.append(reference)
            else:
                stream.on_use = self._note

    def _write_some(self) -> None:
        """Write the sidecars of those that have waited longest."""
        if self._core.pipeline.is_held_up():
            return
        written, left = 0, 10 * self._tuning.uses_slice
        while self._unwritten and written < _SIDECARS_A_TICK and left:
            stream = self._unwritten.popleft()()
            left -= 1
            if stream is None:
                continue
            stream.on_use = self._note
            if _unwritten_too_long(stream):
                self.write(stream)
                written += 1

    def following(self, stream: Stream) -> Following:
        """A context that somebody who follows a stream is in."""
        return Following(self._core, self, stream)

    def write(self, stream: Stream) -> None:
        """Let a stream's sidecar know when it was last used."""
        if (
            stream.sidecar.ttl_s is None
            or stream.use_written_ms >= stream.last_use_ms
            or RULES[stream.state].has_ended
            or not self._core.pipeline.takes_sidecars()
        ):
            return
        stream.use_written_ms = stream.last_use_ms
        self._endings.change(stream)

    def write_all(self) -> None:
        """The same for all streams, before the store is closed."""
        now_ms = self._core.now_ms()
        for stream in self._core.catalog.mortal():
            if stream.followers:
                stream.use(now_ms)
            self.write(stream)

    async def reclaim(self, path: StreamPath) -> None:
        """Delete a stream that is expired, or soft-deleted and needed by no fork."""
        try:
            stream = await self._core.catalog.find(path)
            refusal = self._core.admission.refusal()
            if stream is None or (refusal is not None and not isinstance(refusal, DiskFull)):
                return
            if stream.state is not LIVE or stream.is_expired(self._core.now_ms()):
                await self._endings.end(stream)
        except (StreamError, OSError):  # the next walk comes by again
            return


class Following:
    """While in it, somebody follows a stream: its TTL stands still (protocol §5.1)."""

    __slots__ = ("_core", "_stream", "_uses")

    def __init__(self, core: Core, uses: Uses, stream: Stream) -> None:
        self._core = core
        self._uses = uses
        self._stream = stream

    def __enter__(self) -> None:
        self._stream.followers += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stream = self._stream
        stream.followers -= 1
        if not stream.followers:
            stream.use(self._core.now_ms())
            if not self._core.catalog.holds(stream):  # then nobody else remembers it
                self._uses.write(stream)


def _longest_unwritten_ms(stream: Stream, ttl_s: int) -> int:
    longest_ms = _LONGEST_UNWRITTEN_FOLLOWED_MS if stream.followers else _LONGEST_UNWRITTEN_MS
    return min(longest_ms, ttl_s * 1000 // _TTL_SHARE)


def _unwritten_too_long(stream: Stream) -> bool:
    """Whether the last use of a stream has to go to its sidecar."""
    ttl_s = stream.sidecar.ttl_s
    if ttl_s is None or RULES[stream.state].has_ended:
        return False
    unwritten_ms = stream.last_use_ms - stream.use_written_ms
    return unwritten_ms > _longest_unwritten_ms(stream, ttl_s)
