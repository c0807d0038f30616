"""Uses of streams that expire: remembered over restarts, and the end of those that nobody uses.

A use renews a stream's TTL in memory.  The time of the last one goes to the sidecar when it has
moved by a noticeable part of the TTL.  While somebody follows a stream its TTL stands still, and
that is remembered now and then, so that a crash takes little of it.  Sidecars are written a few at
a time, and none while writers wait: many streams that are used at once must not hold them up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.errors import DiskFull, StreamError, StreamGone, StreamNotFound

if TYPE_CHECKING:
    from types import TracebackType

    from durable_streams.engine.core import Core
    from durable_streams.engine.endings import Endings
    from durable_streams.engine.stream import Stream

_TICK_S: Final = 0.5
_LONGEST_UNWRITTEN_MS: Final = 4000
_LONGEST_UNWRITTEN_FOLLOWED_MS: Final = 60_000
"""Followers who only wait are many, and a sidecar is written for each stream of theirs."""

_SIDECARS_A_TICK: Final = 64


class Uses:
    """Remembers uses, and ends what has expired."""

    def __init__(self, core: Core, endings: Endings) -> None:
        self._core = core
        self._endings = endings

    async def run(self) -> None:
        """Remember uses, and send readers of expired streams away; for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._look()

    def _look(self) -> None:
        now_ms, waiting = self._core.now_ms(), []
        for stream in self._core.catalog.mortal():
            if stream.last_use_ms > now_ms:  # used while the clock was ahead
                stream.last_use_ms = stream.use_written_ms = now_ms
            if stream.followers:
                stream.use(now_ms)
            if stream.audience and stream.is_expired(now_ms):
                reason = StreamGone if stream.forked else StreamNotFound
                stream.audience.end(reason(stream.path))
            elif _unwritten_too_long(stream):
                waiting.append(stream)
        if self._core.held_up():
            return
        # Those that were not written have waited longest, wherever they are next time.
        waiting.sort(key=lambda stream: stream.use_written_ms)
        for stream in waiting[:_SIDECARS_A_TICK]:
            self.write(stream)

    def following(self, stream: Stream) -> Following:
        """A context that somebody who follows a stream is in."""
        return Following(self._core, self, stream)

    def write(self, stream: Stream) -> None:
        """Let a stream's sidecar know when it was last used."""
        if (
            stream.sidecar.ttl_s is None
            or stream.use_written_ms >= stream.last_use_ms
            or stream.ended is not None
            or not self._core.takes_sidecars()
        ):
            return
        stream.use_written_ms = stream.last_use_ms
        self._endings.change(stream)

    def write_all(self) -> None:
        """The same for all streams, before the engine goes down."""
        now_ms = self._core.now_ms()
        for stream in self._core.catalog.mortal():
            if stream.followers:
                stream.use(now_ms)
            self.write(stream)

    async def reclaim(self, path: str) -> None:
        """Delete a stream that is expired, or soft-deleted and needed by no fork."""
        try:
            stream = await self._core.catalog.find(path)
            refusal = self._core.refusal()
            if stream is None or (refusal is not None and not isinstance(refusal, DiskFull)):
                return
            if stream.sidecar.soft_deleted or stream.is_expired(self._core.now_ms()):
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


def _unwritten_too_long(stream: Stream) -> bool:
    """Whether the last use of a stream has to go to its sidecar."""
    ttl_s = stream.sidecar.ttl_s
    if ttl_s is None or stream.ended is not None:
        return False
    longest_ms = _LONGEST_UNWRITTEN_FOLLOWED_MS if stream.followers else _LONGEST_UNWRITTEN_MS
    return stream.last_use_ms - stream.use_written_ms > min(longest_ms, ttl_s * 1000 // 8)
