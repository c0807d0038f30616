"""Expired streams that nobody touches are found, and go by themselves.

Expired streams are gone for everybody at once, as each is looked at before it is served; their
files are found by a slow walk over the directories, which begins only ``reclaim_delay_s`` after the
start or a jump of the clock: a backup that was just restored, or a wrong clock, costs no data at
once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.stream_files import DamagedFiles, load_sidecar
from durable_streams.rules.lifetime import is_expired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.runtime.machine import Runtime
    from durable_streams.model.paths import StreamPath
    from durable_streams.settings import Settings

_CLOCK_JUMP_S: Final = 60.0
_WALK_BATCH: Final = 64  # sidecars read in one go; then a pause, so that a walk costs little
_WALK_PAUSE_S: Final = 0.2

log = logging.getLogger("durable_streams.filestore")


class Reclaimer:
    """Finds expired streams that nobody touches."""

    def __init__(
        self,
        directory: DataDirectory,
        executor: Executor,
        settings: Settings,
        runtime: Runtime,
        reclaim: Callable[[StreamPath], Awaitable[None]],
    ) -> None:
        """``reclaim`` deletes the stream at a path if it is (still) expired."""
        self._directory = directory
        self._executor = executor
        self._settings = settings
        self._runtime = runtime
        self._reclaim = reclaim

    async def run(self) -> None:
        """Walk for ever."""
        await self._steady(self._settings.reclaim_delay_s)
        while True:
            await self._walk()
            await self._steady(self._settings.reclaim_interval_s)

    async def _steady(self, duration_s: float) -> None:
        """Return after this time has passed without a jump of the wall clock."""
        loop = asyncio.get_running_loop()
        remaining = duration_s
        while remaining > 0:
            step = min(remaining, 10.0)
            wall_ms, steady = self._runtime.now_ms(), loop.time()
            await asyncio.sleep(step)
            passed = loop.time() - steady
            drift = abs((self._runtime.now_ms() - wall_ms) / 1000 - passed)
            if drift > _CLOCK_JUMP_S:
                log.warning("the clock jumped by %.0f s; expired streams are kept for now", drift)
                remaining = max(remaining, self._settings.reclaim_delay_s)
            else:
                remaining -= step

    async def _walk(self) -> None:
        loop = asyncio.get_running_loop()
        walk = self._directory.stream_directories(_not_listed)
        while batch := await loop.run_in_executor(self._executor, self._expired_among, walk):
            for path in batch:
                if path is not None:
                    await self._reclaim(path)
            await asyncio.sleep(_WALK_PAUSE_S)

    def _expired_among(self, walk: Iterator[Path]) -> list[StreamPath | None]:
        """Look at the next directories; paths that seem expired, None for others; blocks."""
        found: list[StreamPath | None] = []
        for directory in walk:
            found.append(self._expired_path(directory))
            if len(found) >= _WALK_BATCH:
                break
        return found

    def _expired_path(self, directory: Path) -> StreamPath | None:
        try:
            sidecar = load_sidecar(self._directory.disk, directory)
        except DamagedFiles:
            return None
        except OSError as error:  # the next walk comes by again
            log.warning("whether %s has expired cannot be told: %s", directory, error)
            return None
        path = self._directory.stream_path(directory)
        if sidecar is None or path is None:
            return None
        if is_expired(sidecar.lifetime(), sidecar.last_use_ms, self._runtime.now_ms()):
            return path
        return path if sidecar.soft_deleted else None  # do its forks still live?


def _not_listed(directory: Path, error: OSError) -> None:
    log.warning("the streams below %s cannot be listed: %s", directory, error)
