"""Nodes tell each other which streams to look at, where they are asked to: many at once.

A notification that is part of a durable commit would make all of them wait for one another.  So
they are sent afterwards, on a session of their own that waits for no standby.  They may be lost.

Each says what a quorum has of the stream by then (:attr:`.Row.mark`): who reads just that shows it
at once.  Whoever may connect may say anything, and hear it: a mark is known to who has the bytes.

A notification is ``NODE:STREAM:MARK,STREAM:MARK``, or ``NODE?STREAM,STREAM`` of what it asks for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.interest import Interest
from durable_streams.postgres.sessions import Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from durable_streams.postgres.database import Database
    from durable_streams.postgres.heartbeat import Heartbeat
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.tasks import Tasks

    Heard = Callable[[dict[int, str]], None]
    Asked = Callable[[list[int]], None]

_CHANNEL: Final = "durable_streams"
UNSYNCED: Final = "set synchronous_commit = off"
NOTIFY: Final = "select pg_notify($1, said) from unnest($2::text[]) as said"

_NAME_CHARACTERS: Final = 8
_MARK_CHARACTERS: Final = 16

_MOST: Final = 200
"""Streams in one notification, which has room for 8000 bytes."""

_GATHERED_S: Final = 0.001
"""For which what is said is gathered at least, as each notification takes a commit."""

_MOST_GATHERED_S: Final = 0.005
_GATHERED: Final = 4
"""For so many times as long as the last commit took is gathered, but not for longer than that.

On a database with much to do, most of its time is for who waits for an acknowledgement.
"""

_AGAIN_S: Final = 1.0

log = logging.getLogger("durable_streams.postgres")


class Notices:
    """Sends what is said here, and listens to what others say."""

    def __init__(
        self, database: Database, heartbeat: Heartbeat, *, are_replicated: bool = True
    ) -> None:
        """``are_replicated``: what is said here has been acknowledged by standbys."""
        self._database = database
        self._are_replicated = are_replicated
        self._heartbeat = heartbeat
        self._heard: Heard = lambda _: None
        self._asked: Asked = lambda _: None
        self._name = secrets.token_hex(_NAME_CHARACTERS // 2)
        self._interest = Interest(asyncio.get_running_loop().time)
        self._said: dict[int, str] = {}
        self._asking: list[int] = []
        self._took_s = 0.0
        self._news = asyncio.Event()
        self._sending: Session | None = None
        self._listening: Session | None = None

    def start(self, heard: Heard, asked: Asked, tasks: Tasks) -> None:
        """Begin to send and to listen.

        ``heard``: told what to look at, and the marks of that.  ``asked``: told of which streams
        others want to be told from now on; they may have missed something just before.
        """
        self._heard, self._asked = heard, asked
        tasks.lasting("sent notices", self._send_all())
        tasks.lasting("notices", self._listen_always())

    def say(self, number: int, row: Row | None) -> None:
        """Tell other nodes, if they want to be told, to look at a stream.

        Without a row: it has ended, or it is not known what a quorum has of it.
        """
        if self._heartbeat.has_others and self._interest.wants(number):
            self._said[number] = row.mark if row is not None and self._are_replicated else ""
            self._news.set()

    def ask(self, *numbers: int) -> None:
        """Have other nodes, if there are any, tell of these streams for some seconds."""
        due = self._interest.due(numbers) if self._heartbeat.has_others else []
        if due:
            self._asking += due
            self._news.set()

    def terminate(self) -> None:
        """Close the sessions."""
        for session in (self._sending, self._listening):
            if session is not None:
                session.terminate()

    async def _send_all(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(min(max(_GATHERED_S, _GATHERED * self._took_s), _MOST_GATHERED_S))
            self._news.clear()
            try:
                await self._send()
            except (NoDatabase, Refused, Unknown) as error:
                log.info("other nodes were not told what to look at: %s", error)
                if self._sending is not None:
                    self._sending.terminate()
                self._sending = None
                self._said.clear()  # they look every second as well
                self._interest.unsaid()
                await asyncio.sleep(_AGAIN_S)

    async def _send(self) -> None:
        if self._sending is None:
            self._sending = await self._database.connect()
            await self._sending.fetch(UNSYNCED)
        (said, self._said), (asking, self._asking) = (self._said, {}), (self._asking, [])
        pairs = [f"{number:x}:{mark}" for number, mark in said.items()]
        texts = [f"{self._name}:{text}" for text in _joined(pairs)]
        texts += [f"{self._name}?{text}" for text in _joined([f"{each:x}" for each in asking])]
        begun_s = time.monotonic()
        await self._sending.fetch(NOTIFY, _CHANNEL, texts)
        self._took_s = time.monotonic() - begun_s
        self._database.counted.notices_sent += len(texts)

    async def _listen_always(self) -> None:
        while True:
            try:
                self._listening = await self._database.connect()
                await self._listening.listen(_CHANNEL, self._hear)
                self._interest.listens()
                await self._listening.is_lost()
            except (NoDatabase, Refused, Unknown) as error:
                log.info("not told what other nodes write: %s", error)
                self._interest.is_deaf()
                if self._listening is not None:
                    self._listening.terminate()
                await asyncio.sleep(_AGAIN_S)

    def _hear(self, text: str) -> None:
        end = _NAME_CHARACTERS
        name, what, said = text[:end], text[end : end + 1], text[end + 1 :].split(",")
        if name == self._name:
            return
        self._database.counted.notices_heard += 1
        with suppress(ValueError):  # whoever may connect may say anything
            if what == "?":
                self._asked(self._interest.heard([int(number, 16) for number in said]))
            elif what == ":":
                pairs = [each.partition(":") for each in said]
                self._heard({int(number, 16): mark[:_MARK_CHARACTERS] for number, _, mark in pairs})


def _joined(parts: Sequence[str]) -> Iterator[str]:
    """In texts that are short enough."""
    for at in range(0, len(parts), _MOST):
        yield ",".join(parts[at : at + _MOST])
