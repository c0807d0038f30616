"""Nodes tell each other which streams to look at: many streams in one notification.

A notification that is part of a durable commit would make all of them wait for one another.  So
they are sent afterwards, on a session of their own that waits for no standby.  They may be lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.sessions import Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.postgres.database import Database
    from durable_streams.postgres.heartbeat import Heartbeat
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.tasks import Tasks

_CHANNEL: Final = "durable_streams"
UNSYNCED: Final = "set synchronous_commit = off"
NOTIFY: Final = "select pg_notify($1, $2)"

_MOST: Final = 400
"""Streams in one notification, which has room for 8000 bytes."""

_GATHERED_S: Final = 0.001
"""For which what is said is gathered, as each notification takes a commit."""

_AGAIN_S: Final = 1.0

log = logging.getLogger("durable_streams.postgres")


class Notices:
    """Sends what is said here, and listens to what others say."""

    def __init__(self, database: Database, heartbeat: Heartbeat) -> None:
        self._database = database
        self._heartbeat = heartbeat
        self._heard: Callable[[list[int]], None] = lambda _: None
        self._name = secrets.token_hex(4)
        self._said: dict[int, None] = {}
        self._news = asyncio.Event()
        self._sending: Session | None = None
        self._listening: Session | None = None

    def start(self, heard: Callable[[list[int]], None], tasks: Tasks) -> None:
        """Begin to send and to listen; ``heard``: told which streams to look at."""
        self._heard = heard
        tasks.lasting("sent notices", self._send_all())
        tasks.lasting("notices", self._listen_always())

    def say(self, number: int) -> None:
        """Tell all nodes to look at a stream, if there are others."""
        if self._heartbeat.has_others:
            self._said[number] = None
            self._news.set()

    def terminate(self) -> None:
        """Close the sessions."""
        for session in (self._sending, self._listening):
            if session is not None:
                session.terminate()

    async def _send_all(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(_GATHERED_S)
            self._news.clear()
            try:
                await self._send()
            except (NoDatabase, Refused, Unknown) as error:
                log.info("other nodes were not told what to look at: %s", error)
                if self._sending is not None:
                    self._sending.terminate()
                self._sending = None
                self._said.clear()  # they look every second as well
                await asyncio.sleep(_AGAIN_S)

    async def _send(self) -> None:
        if self._sending is None:
            self._sending = await self._database.connect()
            await self._sending.fetch(UNSYNCED)
        while self._said:
            numbers = list(self._said)[:_MOST]
            for number in numbers:
                del self._said[number]
            text = ",".join([f"{number:x}" for number in numbers])
            await self._sending.fetch(NOTIFY, _CHANNEL, f"{self._name}:{text}")
            self._database.counted.notices_sent += 1

    async def _listen_always(self) -> None:
        while True:
            try:
                self._listening = await self._database.connect()
                await self._listening.listen(_CHANNEL, self._hear)
                await self._listening.is_lost()
            except (NoDatabase, Refused, Unknown) as error:
                log.info("not told what other nodes write: %s", error)
                if self._listening is not None:
                    self._listening.terminate()
                await asyncio.sleep(_AGAIN_S)

    def _hear(self, text: str) -> None:
        name, _, numbers = text.partition(":")
        if name != self._name:
            self._database.counted.notices_heard += 1
            with suppress(ValueError):  # whoever may connect may say anything
                self._heard([int(number, 16) for number in numbers.split(",")])
