"""Programs on an event loop that write to streams and read them, and how long that took."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from durable_streams.model.commands import Append, Create, ProducerClaim
from durable_streams.model.offsets import Start
from durable_streams.settings import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from durable_streams.model.errors import StreamError
    from durable_streams.model.offsets import Offset
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import Publication
    from durable_streams.store import Store

    Put = Callable[[StreamPath, bytes, str | None, int], Awaitable[object]]

BINARY: Final = "application/octet-stream"
SMALL_BYTES: Final = 256
ROW_BYTES: Final = 8 * KIB
_CREATING: Final = 32
_LATEST_S: Final = 10.0
"""For what is still on its way to followers when nobody writes any more."""

_STAMP: Final = struct.Struct("d")


@dataclass
class Loop:
    """What a loop did: how much in a second, and how long each took."""

    seconds: float = 0.0
    bytes: int = 0
    took_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Of what was done, in a second."""
        return len(self.took_s) / self.seconds

    @property
    def mib_per_s(self) -> float:
        """Of the bytes that were read."""
        return self.bytes / MIB / self.seconds

    def within_ms(self, percent: int) -> float:
        """So many of a hundred took no longer."""
        if len(self.took_s) < 2:
            return 1e3 * sum(self.took_s)
        return statistics.quantiles(self.took_s, n=100)[percent - 1] * 1e3


@dataclass(frozen=True)
class Load:
    """Appends by so many writers, each with its own of the streams, unless there are fewer."""

    writers: int = 64
    streams: int = 64
    producers: bool = False

    @property
    def name(self) -> str:
        """Of its streams, which nothing else uses."""
        return f"{self.streams}-{self.writers}-{'by' if self.producers else 'plain'}"

    def path(self, number: int) -> StreamPath:
        """One of the streams."""
        return ("load", self.name, str(number))


def through(store: Store) -> Put:
    """Appends to a store, as its callers make them."""

    async def put(path: StreamPath, body: bytes, producer: str | None, seq: int) -> object:
        claim = None if producer is None else ProducerClaim(producer, 0, seq)
        return await store.append(Append(path, BINARY, producer=claim), body)

    return put


def in_turn(puts: Sequence[Put]) -> Put:
    """As behind a balancer: each append another way than the one before."""
    turns = itertools.cycle(puts)

    def put(path: StreamPath, body: bytes, producer: str | None, seq: int) -> Awaitable[object]:
        return next(turns)(path, body, producer, seq)

    return put


async def create(store: Store, paths: Sequence[StreamPath]) -> None:
    """Make streams, some at a time."""
    left = list(paths)

    async def some() -> None:
        while left:
            await store.create(Create(left.pop(), BINARY), b"")

    await asyncio.gather(*[some() for _ in range(_CREATING)])


async def repeated(works: Sequence[Callable[[], Awaitable[int]]], seconds: float) -> Loop:
    """Do each again and again, all of them beside one another; each says how many bytes it had.

    What is begun in the first fifth of the time, a second at most, does not count.
    """
    begin = time.perf_counter() + min(seconds / 5, 1.0)
    end = begin + seconds
    loop = Loop()

    async def one(work: Callable[[], Awaitable[int]]) -> None:
        now = time.perf_counter()
        while now < end or not loop.took_s:
            size = await work()
            done = time.perf_counter()
            if begin <= now:
                loop.took_s.append(done - now)
                loop.bytes += size
                loop.seconds = done - begin
            now = done

    await asyncio.gather(*[one(work) for work in works])
    return loop


async def append(puts: Sequence[Put], load: Load, seconds: float, run: int) -> Loop:
    """Append small bodies; the writers are shared out among the ways to do so.

    ``run``: another one each time, as producers begin anew.
    """
    body = bytes(SMALL_BYTES)

    def writer(number: int) -> Callable[[], Awaitable[int]]:
        put = puts[number % len(puts)]
        paths = [load.path(at) for at in range(number % load.streams, load.streams, load.writers)]
        name = f"{run}-{number}" if load.producers else None
        count = 0

        async def work() -> int:
            nonlocal count
            turn, at = divmod(count, len(paths))
            count += 1
            await put(paths[at], body, name, turn)
            return SMALL_BYTES

        return work

    return await repeated([writer(number) for number in range(load.writers)], seconds)


# ------------------------------------------------------------------------------------- reads


async def fill(store: Store, paths: Sequence[StreamPath], rows: int, size: int) -> None:
    """Make streams of so many appends, each of them a row of its own."""
    await create(store, paths)
    for _ in range(rows):
        await asyncio.gather(*[store.append(Append(path, BINARY), bytes(size)) for path in paths])


async def catch_up(store: Store, paths: Sequence[StreamPath], seconds: float) -> Loop:
    """Read streams from their beginning to their end, again and again, each reader its own."""

    def reader(path: StreamPath) -> Callable[[], Awaitable[int]]:
        place: Offset | Start = Start.BEGINNING

        async def work() -> int:
            nonlocal place
            stream = await store.open(path)
            chunk = await store.read(stream, place, is_end=place is not Start.BEGINNING)
            size = 0
            async for piece in store.pieces(chunk, 64 * KIB):
                size += len(piece)
            place = Start.BEGINNING if chunk.at_tail else chunk.end
            return size

        return work

    return await repeated([reader(path) for path in paths], seconds)


async def read_small(store: Store, paths: Sequence[StreamPath], seconds: float) -> Loop:
    """Read short streams whole, each of so many readers another one."""

    def reader(path: StreamPath) -> Callable[[], Awaitable[int]]:
        async def work() -> int:
            stream = await store.open(path)
            chunk = await store.read(stream, Start.BEGINNING)
            return len(await store.bytes_of(chunk))

        return work

    return await repeated([reader(path) for path in paths], seconds)


# ------------------------------------------------------------------------------------- live


class _Follower:
    """Notes how long ago what is published was sent, which is the beginning of each body."""

    def __init__(self, loop: Loop, begin: float) -> None:
        self._loop = loop
        self._begin = begin

    def published(self, publication: Publication) -> None:
        now = time.perf_counter()
        for at in range(0, len(publication.data), SMALL_BYTES):
            (sent,) = _STAMP.unpack_from(publication.data, at)
            if sent >= self._begin:
                self._loop.took_s.append(now - sent)

    def overtaken(self) -> None:
        """Then something is missing at the end, which is noticed there."""

    def ended(self, reason: StreamError) -> None:
        """As above."""


async def follow(
    put: Put, reads: Store, paths: Sequence[StreamPath], rate: int, seconds: float
) -> Loop:
    """Append so often in a second in some way, and note when a store publishes it."""
    begin = time.perf_counter() + min(seconds / 5, 1.0)
    end = begin + seconds
    loop, count = Loop(), 0
    followers = []
    for path in paths:
        stream = await reads.open(path)
        tail = (await reads.read(stream, Start.NOW)).end
        follower = _Follower(loop, begin)
        followers.append((stream, follower))
        if not reads.subscribe(stream, tail, follower):
            raise RuntimeError("somebody else writes to the streams that are measured")

    async def writer(number: int) -> None:
        nonlocal count
        every = len(paths) / rate
        due = time.perf_counter() + every * number / len(paths)
        while due < end or not count:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            body = _STAMP.pack(sent).ljust(SMALL_BYTES, b"\0")
            await put(paths[number], body, None, 0)
            count += sent >= begin
            due = max(due + every, time.perf_counter())

    await asyncio.gather(*[writer(number) for number in range(len(paths))])
    async with asyncio.timeout(_LATEST_S):
        while len(loop.took_s) < count:
            await asyncio.sleep(0.01)
    for stream, follower in followers:
        reads.unsubscribe(stream, follower)
    return loop
