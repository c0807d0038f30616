"""What is done twice a second for as long as a data directory is open."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.pipeline.admission import COME_BACK_S
from durable_streams.model.errors import Overloaded
from durable_streams.settings import Durability

if TYPE_CHECKING:
    from durable_streams.filestore.pipeline.pipeline import Pipeline
    from durable_streams.filestore.runtime.clock import Clock
    from durable_streams.settings import Settings

_CLOSING_S: Final = 5.0  # how long a journal that cannot be freed may hold up closing
_TRY_AGAIN_S: Final = 2.0  # to write the files of streams out of service
_TELL_AGAIN_S: Final = 60.0  # of a lag, which on a busy disk comes and goes all the time

log = logging.getLogger("durable_streams.filestore")


class Ticks:
    """Looks for room and for failed syncs, begins checkpoints, and tells of a lag."""

    def __init__(self, pipeline: Pipeline, clock: Clock, settings: Settings, tick_s: float) -> None:
        self._tick_s = tick_s
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._clock = clock
        self._pipeline = pipeline
        self._last_sync = self._not_stalled = self._loop.time()
        self._next_try = 0.0
        self._tell_from = 0.0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._tick_s)
            await self._tick()

    async def _tick(self) -> None:
        pipeline, freeing = self._pipeline, self._pipeline.freeing
        self._clock.look()
        pipeline.health.look_for_failed_sync()
        await pipeline.room.look()
        now = self._loop.time()
        self._sync_now_and_then(now)
        if freeing.is_due():
            freeing.checkpoint()
        self._look_for_stall(now)
        if now >= self._next_try and pipeline.health.fault is None:
            self._next_try = now + _TRY_AGAIN_S
            freeing.retries.try_again()
        if now >= self._tell_from and pipeline.is_held_up():
            self._tell_from = now + _TELL_AGAIN_S
            log.warning("the streams' files lag behind the journal; writes are held up")
        pipeline.admission.look()

    def _sync_now_and_then(self, now: float) -> None:
        if (
            self._settings.durability is Durability.INTERVAL
            and now - self._last_sync >= self._settings.sync_interval_s
        ):
            self._last_sync = now
            self._pipeline.committer.sync()

    def _look_for_stall(self, now: float) -> None:
        """Refuse what waits for a journal that is full and that nothing frees."""
        pipeline = self._pipeline
        moved = pipeline.last_moved()
        if not pipeline.committer.stalled:
            self._not_stalled = now
            return
        patience_s = self._settings.held_up_s
        if pipeline.admission.draining:
            patience_s = min(patience_s, _CLOSING_S)
        if now - max(self._not_stalled, moved) > patience_s:
            error = Overloaded("the journal is full and cannot be freed", COME_BACK_S)
            pipeline.committer.refuse(error)
