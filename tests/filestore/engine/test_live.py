"""Deliveries to thousands of readers: in slices, in order, within bounds, and never lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable_streams.live import (
    _SHARE,
    _TASK,
    _TURN,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    Audience,
    Deliveries,
)
from durable_streams.model.errors import Draining, StreamError, StreamNotFound
from durable_streams.model.offsets import Offset
from durable_streams.model.results import Publication

if TYPE_CHECKING:
    from collections.abc import Callable


class Reader:
    """A subscriber that reads on, when it is told to, in a later turn, and subscribes again."""

    def __init__(self, audience: Audience, written: list[int]) -> None:
        self.read: list[int] = []
        self.reason: StreamError | None = None
        self.overtakings = 0
        self._audience = audience
        self._written = written
        audience.join(self)

    def published(self, publication: Publication) -> None:
        self.read.append(publication.end.position)

    def overtaken(self) -> None:
        self.overtakings += 1
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        self.read = self._written[:]
        self._audience.join(self)

    def ended(self, reason: StreamError) -> None:
        self.reason = reason


def publication(number: int, size: int = 1) -> Publication:
    return Publication(Offset(0, number - 1), Offset(0, number), b"x" * size, closed=False)


def new_audience() -> tuple[Deliveries, Audience]:
    deliveries = Deliveries(asyncio.get_running_loop())
    return deliveries, Audience(deliveries)


async def test_readers_that_do_not_keep_up_read_on_and_miss_nothing() -> None:
    """2,000 subscribers and a publication in every turn: what is queued stays bounded."""
    deliveries, audience = new_audience()
    written: list[int] = []
    readers = [Reader(audience, written) for _ in range(2000)]
    for number in range(1, 601):
        written.append(number)
        audience.publish(publication(number))
        assert len(audience._queue) <= MAX_QUEUED
        await asyncio.sleep(0)
    await deliveries.finished()
    await asyncio.sleep(0)
    assert any(reader.overtakings for reader in readers)
    assert [reader for reader in readers if reader.read != written] == []
    assert deliveries.queued_bytes == 0


async def test_large_publications_are_not_queued_without_bound() -> None:
    deliveries, audience = new_audience()
    written: list[int] = []
    readers = [Reader(audience, written) for _ in range(_TURN + 1)]
    for number in range(1, 8):
        written.append(number)
        audience.publish(publication(number, MAX_QUEUED_BYTES // 4))
        assert deliveries.queued_bytes <= MAX_QUEUED_BYTES
    await deliveries.finished()
    await asyncio.sleep(0)
    assert {reader.overtakings for reader in readers} == {1}
    assert [reader for reader in readers if reader.read != written] == []


async def test_a_few_readers_are_told_at_once() -> None:
    _, audience = new_audience()
    readers = [Reader(audience, []) for _ in range(_TURN)]
    audience.publish(publication(1))
    assert [reader.read for reader in readers] == [[1]] * _TURN


async def test_readers_of_another_stream_do_not_wait_for_thousands_of_one() -> None:
    deliveries, many = new_audience()
    thousands = [Reader(many, []) for _ in range(5000)]
    others = [Audience(deliveries) for _ in range(_TURN // _SHARE)]
    single = [Reader(audience, []) for audience in others]
    for audience in (many, *others):
        audience.publish(publication(1))
    for turns in range(4):
        if all(reader.read for reader in single):
            break
        assert sum(len(reader.read) for reader in thousands) <= (turns + 1) * _TURN
        await asyncio.sleep(0)
    assert all(reader.read for reader in single)
    await deliveries.finished()
    assert all(reader.read == [1] for reader in thousands)


async def test_thousands_who_wait_are_woken_in_slices_whatever_for() -> None:
    loop = asyncio.get_running_loop()
    deliveries, audience = new_audience()

    async def outcomes(turn: Callable[[Audience], None], number: int) -> set[bool | BaseException]:
        waiters = [loop.create_future() for _ in range(number)]
        for waiter in waiters:
            audience.waiters[waiter] = None
        turn(audience)
        done = 0
        while done < number:
            before, done = done, sum(waiter.done() for waiter in waiters)
            assert done - before <= _TURN // _TASK
            await asyncio.sleep(0)
        return {waiter.exception() or waiter.result() for waiter in waiters}

    reason = StreamNotFound("s")
    assert await outcomes(lambda audience: audience.wake(), 500) == {True}
    assert await outcomes(lambda audience: audience.end(reason), 500) == {reason}
    assert await outcomes(lambda audience: audience.drain(Draining()), 500) == {False}
    await deliveries.finished()


async def test_the_end_comes_in_slices_and_drops_what_was_queued() -> None:
    deliveries, audience = new_audience()
    readers = [Reader(audience, []) for _ in range(1000)]
    audience.publish(publication(1))
    audience.publish(publication(2))
    reason = StreamNotFound("s")
    audience.end(reason)
    gone = 0
    while gone < len(readers):
        before, gone = gone, sum(reader.reason is reason for reader in readers)
        assert gone - before <= _TURN // _TASK + 1
        assert not audience
        await asyncio.sleep(0)
    await deliveries.finished()
    assert deliveries.queued_bytes == 0
    assert sum(len(reader.read) for reader in readers) <= _TURN


async def test_whoever_leaves_meanwhile_is_told_nothing() -> None:
    deliveries, audience = new_audience()
    readers = [Reader(audience, []) for _ in range(2 * _TURN)]
    audience.publish(publication(1))
    untold = [reader for reader in readers if not reader.read]
    assert len(untold) == _TURN
    for reader in untold[::2]:
        audience.leave(reader)
    audience.drain(Draining())
    for reader in untold[1::4]:
        audience.leave(reader)
    await deliveries.finished()
    assert [reader.reason is not None for reader in untold] == [False, False, False, True] * 16
