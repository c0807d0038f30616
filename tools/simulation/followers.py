"""Readers of event streams: they subscribe, are thrown out by crashes, and come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import (
    DiskFull,
    Draining,
    StreamGone,
    StreamNotFound,
    StreamUnusable,
    Unavailable,
)
from durable_streams.model.offsets import Offset, Start
from tools.simulation.contents import Run, joined, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from durable_streams.filestore.store import FileStore
    from durable_streams.model.errors import StreamError
    from durable_streams.model.results import Publication
    from tools.simulation.history import Incarnation
    from tools.simulation.oracle import Oracle

_MOST: Final = 4


class Follower:
    """One reader: all it got, from the beginning of a stream on; its subscription's callbacks."""

    def __init__(self, oracle: Oracle, living: Incarnation, now_ms: Callable[[], int]) -> None:
        self.living = living
        self.now_ms = now_ms
        self.at: Offset | None = None
        self.over = False
        self.wake: asyncio.Event = asyncio.Event()
        self._oracle = oracle
        self._seen: list[int] = []

    def take(self, runs: list[Run], end: Offset, *, whole: bool) -> None:
        """What came next; ``whole``: from the beginning on."""
        tail = end if whole else None
        pieces = self._oracle.saw(self.living, runs, self.now_ms(), tail)
        numbers = [piece.number for piece in pieces]
        twice = set(numbers) & set(self._seen) or len(set(numbers)) != len(numbers)
        assert not twice, f"a follower of {self.living.command.path} got {numbers} twice"
        assert self.at is None or all(
            piece.start >= self.at or piece.start.position == 0 for piece in pieces
        ), "before where it was"
        self._seen += numbers
        self.at = end
        self.living.tail = max(self.living.tail, end)

    def published(self, publication: Publication) -> None:
        """The engine hands on what became durable; raising here would go unnoticed."""
        try:
            self._published(publication)
        except AssertionError as error:
            self._oracle.failures.append(error)

    def _published(self, publication: Publication) -> None:
        assert self.at is not None
        start = Offset(publication.end.segment, publication.end.position - len(publication.data))
        assert publication.start == self.at, f"at {self.at}, and published {publication.start}"
        assert start == self.at or start.position == 0, "bytes were left out"
        run = Run(start.segment, start.position, publication.data)
        self.take(joined([run]) if run.data else [], publication.end, whole=False)
        if publication.closed:
            self.living.close_is_done(self.now_ms())
            self.over = True
            self.wake.set()

    def overtaken(self) -> None:
        """It reads on when its patience ends."""

    def ended(self, reason: StreamError) -> None:
        """It is no more, or the server goes down."""
        self.wake.set()
        if isinstance(reason, Draining):
            return
        self.over = True
        try:
            self._oracle.gone(self.living, self.now_ms())
        except AssertionError as error:
            self._oracle.failures.append(error)


class Followers:
    """All of them; those who lost their server come back to the next."""

    def __init__(self, random: Random, oracle: Oracle) -> None:
        self._random = random
        self._oracle = oracle
        self._all: list[Follower] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._losses = 0

    def begin(self, engine: FileStore, now_ms: Callable[[], int]) -> None:
        """A server is up."""
        self._engine, self._now_ms = engine, now_ms
        self._tasks = set()
        if self._losses != self._oracle.losses:  # what they got may have been lost
            self._all.clear()
            self._losses = self._oracle.losses
        for follower in self._all:
            follower.now_ms, follower.wake = now_ms, asyncio.Event()
            self._start(follower)

    def follow(self, living: Incarnation) -> None:
        """One more."""
        if len(self._all) < _MOST:
            follower = Follower(self._oracle, living, self._now_ms)
            self._all.append(follower)
            self._start(follower)

    def _start(self, follower: Follower) -> None:
        task = asyncio.get_running_loop().create_task(self._run(follower))
        self._tasks.add(task)

    async def end(self) -> None:
        """Nobody writes any more: whoever is connected goes; raises what they found."""
        for follower in self._all:
            follower.wake.set()
        await asyncio.gather(*self._tasks)

    async def _run(self, follower: Follower) -> None:
        try:
            await self._connect(follower)
        except (StreamNotFound, StreamGone):
            follower.over = True
            self._oracle.gone(follower.living, self._now_ms())
        except (DiskFull, StreamUnusable, Unavailable, OSError):
            pass  # it comes back to the next server
        except AssertionError as error:
            self._oracle.failures.append(error)
        if follower.over and follower in self._all:
            self._all.remove(follower)

    async def _connect(self, follower: Follower) -> None:
        """As an event stream does it: catch up, subscribe at the tail, follow, and again."""
        engine = self._engine
        path = follower.living.command.path
        visit = self._oracle.visit(path, self._now_ms())
        try:
            stream = await engine.open(path)
        except (StreamNotFound, StreamGone) as error:
            visit.met_nobody(error, self._now_ms())
            follower.over = True
            return
        visit.met(self._oracle.known(stream.id), self._now_ms())
        if stream.id != follower.living.id:
            follower.over = True
            return
        while not follower.wake.is_set():
            follower.living.use(self._now_ms(), surely=False)
            whole = follower.at is None
            runs, tail = await read(engine, stream, follower.at or Start.BEGINNING)
            if whole or runs:
                follower.take(runs, tail, whole=whole)
            if not engine.subscribe(stream, tail, follower):
                info = await engine.head(path)
                if info.closed:
                    follower.over = True
                    return
                continue
            try:
                async with asyncio.timeout(self._random.choice((0.05, 1.0, 30.0))):
                    await follower.wake.wait()
            except TimeoutError:
                continue
            finally:
                engine.unsubscribe(stream, follower)
