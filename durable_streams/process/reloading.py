"""SIGHUP: read the settings again, and go on with those that can change while a server runs.

Flags, environment and file are read as at the start, in a thread, and have to do as a whole, the
files of TLS with them: else all stays as it is, and one line of the log says why.  Which settings
can change is said where they are (``reloadable``); the certificate of TLS can, not where it is.
All change at once, in one turn of the event loop, so that no request meets half of them; what is
under way ends as it began.  The others are named, and counted as different until a restart.

The files of tokens and signing keys are looked at as well, at once: they count by themselves a
moment later anyway, but whoever asks wants to know now.  One line says what became of all of it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from durable_streams.http import logs
from durable_streams.model.setting import settings_of
from durable_streams.process.options import Given, StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from durable_streams.access.followed_file import FollowedFile
    from durable_streams.process.certificates import Certificates
    from durable_streams.process.notifying import ServiceManager

logger = logging.getLogger("durable_streams")


class Changes(NamedTuple):
    """What the server goes on with, and the names of the settings that are new.

    ``waiting``: of those that take a restart.
    """

    given: Given
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def changes(running: Given, read: Given) -> Changes:
    """What to make of settings that were read while others are running."""
    changed: list[str] = []
    waiting: list[str] = []

    def merged(part: Any, other: Any) -> Any:  # noqa: ANN401 - each part with one of its type
        new: dict[str, object] = {}
        for setting in settings_of(type(part)):
            value = getattr(other, setting.name)
            if value == getattr(part, setting.name):
                continue
            if setting.reloadable:
                new[setting.name] = value
            else:
                waiting.append(setting.name)
        changed.extend(new)
        return replace(part, **new)

    given = Given(*map(merged, running, read))
    return Changes(given, tuple(changed), tuple(waiting))


class Reloading:
    """Reads the settings of a running server when it is asked to.

    ``read`` blocks, and raises :class:`StartError` if they will not do.  ``running``: those that
    the server began with.  ``asked`` is set by whoever wants it.  ``log``: what writes the log.
    ``manager``: whoever has to be told that it begins, and that it is over.
    ``files``: others that the server reads again by itself, looked at when it is asked.
    """

    def __init__(
        self,
        read: Callable[[], Given],
        running: Given,
        asked: asyncio.Event,
        log: logging.Handler,
        manager: ServiceManager,
    ) -> None:
        self._read = read
        self._running = running
        self._asked = asked
        self._log = log
        self._manager = manager
        self.files: tuple[FollowedFile[Any], ...] = ()

    @asynccontextmanager
    async def watched(
        self, use: Callable[[Given], None], certificates: Certificates | None = None
    ) -> AsyncIterator[None]:
        """Heed whoever asks while the block runs; ``use`` goes on with what has changed.

        It changes all or nothing, and may raise :class:`StartError`.
        """
        watching = asyncio.create_task(self._watch(use, certificates))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, use: Callable[[Given], None], certificates: Certificates | None) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._manager.reloading()
            try:
                of_files = "".join([await _told(file) for file in self.files])
                try:
                    told = await self._once(use, certificates)
                except StartError as error:
                    logger.error("the settings stay as they are: %s%s", error, of_files)
                else:
                    logger.info("the settings were read again; %s%s", told, of_files)
            except Exception:
                logger.exception("bug: the settings stay as they are")
            finally:
                self._manager.ready()

    async def _once(self, use: Callable[[Given], None], certificates: Certificates | None) -> str:
        """Go on with the settings as they are now; what became of them."""
        given, changed, waiting = changes(self._running, await asyncio.to_thread(self._read))
        pair = None if certificates is None else await asyncio.to_thread(certificates.fresh)
        if changed:
            use(given)
            logs.set_format(self._log, given.process.log_format)
            self._running = given
        if certificates is not None and pair is not None:
            changed += (certificates.use(pair),)
        told = [f"changed: {', '.join(changed)}"] if changed else []
        if waiting:
            told.append(f"takes a restart: {', '.join(waiting)}")
        return "; ".join(told) or "none has changed"


async def _told(file: FollowedFile[Any]) -> str:
    return f"; the {file.name}: {await file.look_now()}"
