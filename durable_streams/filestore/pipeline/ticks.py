"""What is done twice a second for as long as a data directory is open."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.pipeline.admission import COME_BACK_S
from durable_streams.model.errors import Overloaded
from durable_streams.settings import Durability

if TYPE_CHECKING:
    from durable_streams.filestore.core import Core

_TICK_S: Final = 0.5
_CLOSING_S: Final = 5.0  # how long a journal that cannot be freed may hold up closing
_TRY_AGAIN_S: Final = 2.0  # to write the files of streams out of service
_TELL_AGAIN_S: Final = 60.0  # of a lag, which on a busy disk comes and goes all the time

log = logging.getLogger("durable_streams.filestore")


class Ticks:
    """Looks for room and for failed syncs, begins checkpoints, and tells of a lag."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._last_sync = self._not_stalled = core.loop.time()
        self._next_try = 0.0
        self._tell_from = 0.0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            await self._tick()

    async def _tick(self) -> None:
        core = self._core
        core.clock.look()
        core.look_for_failed_sync()
        await core.room.look()
        now = core.loop.time()
        self._sync_now_and_then(now)
        if core.checkpoint_is_due():
            core.checkpoint()
        self._look_for_stall(now)
        if now >= self._next_try and core.fault is None:
            self._next_try = now + _TRY_AGAIN_S
            core.retries.try_again()
        if core.held_up() and now >= self._tell_from:
            self._tell_from = now + _TELL_AGAIN_S
            log.warning("the streams' files lag behind the journal; writes are held up")
        core.admission.look()

    def _sync_now_and_then(self, now: float) -> None:
        settings = self._core.settings
        if (
            settings.durability is Durability.INTERVAL
            and now - self._last_sync >= settings.sync_interval_s
        ):
            self._last_sync = now
            self._core.committer.sync()

    def _look_for_stall(self, now: float) -> None:
        """Refuse what waits for a journal that is full and that nothing frees."""
        core = self._core
        moved = core.last_moved()
        if not core.committer.stalled:
            self._not_stalled = now
            return
        patience_s = core.settings.held_up_s
        if core.draining:
            patience_s = min(patience_s, _CLOSING_S)
        if now - max(self._not_stalled, moved) > patience_s:
            error = Overloaded("the journal is full and cannot be freed", COME_BACK_S)
            core.committer.refuse(error)
