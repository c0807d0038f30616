"""A process that carries runs: its stream, by which others know that it lives.

A stream of JSON below ``~workers``, with one message first and then any of the others:

    {"lease_s": 15.0, "where": "host:pid"}   how long it may be silent
    {"run": NAME}                            it is about to claim this run
    {"over": NAME}                           that run has ended
    {"stop": NAME}                           somebody has it stopped
    {}                                       a sign of life, three in each lease

Others close it when it has been silent for its lease (``abandoned``).  Then it can name no run any
more, and so begin none: it lets go of those it has, and begins again as another worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import aclosing
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from durable_streams.model.commands import ProducerClaim
from durable_streams.model.errors import StreamClosed, StreamError, StreamGone, StreamNotFound
from durable_streams.runs.pieces import json_of
from durable_streams.runs.store import passes, until_it_works

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.runs.states import Places
    from durable_streams.runs.store import AnyStreams

_JSON: Final = "application/json"
SIGNS: Final = 3
"""Of life, in each lease."""

_log = logging.getLogger(__name__)


class Worker:
    """This process, as others see it."""

    def __init__(
        self,
        streams: AnyStreams,
        places: Places,
        lease_s: float,
        on_stop: Callable[[str], None],
        on_death: Callable[[Worker], None],
    ) -> None:
        """``on_stop``: a run is to end; ``on_death``: all of them were ended by others."""
        self.id: Final = uuid4().hex
        self.path: Final = places.worker(self.id)
        self.is_dead = False
        self._streams = streams
        self._lease_s = lease_s
        self._on_stop = on_stop
        self._on_death = on_death
        self._seq = 0
        self._turn = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Be known, and live."""
        where = f"{socket.gethostname()}:{os.getpid()}"
        first = json_of({"lease_s": self._lease_s, "where": where})
        await self._streams.create(self.path, content_type=_JSON, data=first)
        self._tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._listen())]

    async def note(self, **what: str) -> None:
        """Say something, once and in order; ``StreamClosed`` or ``StreamNotFound``: it is dead."""
        async with self._turn:
            claim = ProducerClaim("worker", 0, self._seq)
            try:
                await until_it_works(
                    lambda: self._streams.append(
                        self.path, json_of(what), content_type=_JSON, producer=claim
                    )
                )
            except (StreamClosed, StreamNotFound):
                self._die()
                raise
            self._seq += 1

    async def end(self, *, forget: bool) -> None:
        """Give no sign of life any more; ``forget``: all of its runs have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if forget:
            try:
                await self._streams.delete(self.path)
            except StreamError as error:  # the store ends as well: others will find it
                _log.debug("runs: %s stays: %s", self.path, error)

    def _die(self) -> None:
        if not self.is_dead:
            self.is_dead = True
            _log.warning("runs: this process was silent for too long; others have ended its runs")
            self._on_death(self)

    async def _live(self) -> None:
        while not self.is_dead:
            await asyncio.sleep(self._lease_s / SIGNS)
            try:
                await self.note()
            except (StreamClosed, StreamNotFound):
                return
            except Exception:  # noqa: BLE001 - the next one is due all the same
                _log.exception("runs: a sign of life could not be given")

    async def _listen(self) -> None:
        """Hear what is to stop, until it is dead; a note finds that out as well."""
        offset = "-1"
        while not self.is_dead:
            try:
                async with aclosing(self._streams.tail(self.path, offset)) as messages:
                    async for message in messages:
                        value = message.json()
                        if isinstance(value, dict) and "stop" in value:
                            self._on_stop(value["stop"])
                        offset = message.offset
            except (StreamNotFound, StreamGone):
                pass
            except Exception as error:  # noqa: BLE001 - they are told in other ways as well
                level = logging.DEBUG if passes(error) else logging.WARNING
                _log.log(level, "runs: cannot listen for stops now: %s", error)
                await asyncio.sleep(self._lease_s / SIGNS)
                continue
            self._die()


async def tell_to_stop(streams: AnyStreams, path: str, name: str) -> None:
    """Have a worker stop a run, if it lives; it finds out itself when it next appends."""
    try:
        await streams.append(path, json_of({"stop": name}), content_type=_JSON)
    except StreamError as error:
        _log.debug("runs: %s was not told to stop %s: %s", path, name, error)
