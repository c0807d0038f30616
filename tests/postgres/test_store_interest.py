"""Two nodes tell each other of what both need, and of nothing else."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

import pytest

from tests.postgres.stores import is_asked_for, known, knows_all_interest, nodes_of, until
from tests.store_contract.words import OTHER, ROOM, append, content, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.postgres.store import PostgresStore
    from tests.postgres.conftest import Database

    Pair = tuple[PostgresStore, PostgresStore]


async def never() -> None:
    """In the place of looking every second, without which only what is said is known."""


async def knows_all(node: PostgresStore) -> None:
    """It knows that there are others, and what they ask for; and nothing but what it is told."""
    node._following._poll = never  # type: ignore[method-assign]
    await until(lambda: node._heartbeat.has_others, "it knows of the other")
    await until(lambda: node._parts.notices._interest._all_known_s < inf, "it listens")
    knows_all_interest(node)


@pytest.fixture
async def pair(database: Database) -> AsyncIterator[Pair]:
    """Two that know of each other, and what each asks for, and are told or know nothing."""
    async with nodes_of(database) as nodes:
        made = await nodes.node(), await nodes.node()
        for node in made:
            await knows_all(node)
        yield made


async def test_nothing_is_said_of_what_nobody_else_needs(pair: Pair) -> None:
    one, _ = pair
    await create(one)
    for number in range(10):
        await append(one, b"%d" % number)
    assert not one._parts.notices._said
    assert not one._parts.notices._asking
    assert not one._counted.notices_sent


async def test_who_follows_is_told_of_that_and_nothing_else(pair: Pair) -> None:
    one, two = pair
    tail = (await create(one)).info.tail
    await create(one, OTHER)
    stream = await two.open(ROOM)
    waiting = asyncio.create_task(two.wait(stream, tail, 600))
    await until(lambda: is_asked_for(one, stream.number), "it was asked to")
    await append(one, b"x")
    assert await waiting
    await append(one, b"x", OTHER)
    assert known(one, OTHER).number not in one._parts.notices._said


async def test_what_came_before_it_was_heard_that_somebody_follows_is_told_then(
    pair: Pair,
) -> None:
    one, two = pair
    tail = (await create(one)).info.tail
    stream = await two.open(ROOM)
    two._parts.notices._interest.due([stream.number])  # so it takes itself to have asked
    waiting = asyncio.create_task(two.wait(stream, tail, 600))
    await until(lambda: stream.is_live, "it waits")
    await append(one, b"x")
    assert not one._parts.notices._said, "nobody wants to know"
    two._parts.notices._interest.unsaid()
    two._parts.notices.ask(stream.number)
    assert await waiting


async def test_who_lost_a_race_for_a_stream_is_told_from_then_on(pair: Pair) -> None:
    """As long as it writes to it, too."""
    one, two = pair
    await create(one)
    await append(two, b"a")
    await append(one, b"b")
    await append(two, b"c")
    assert two._counted.conflicts == 1
    number = known(two).number
    await until(lambda: is_asked_for(one, number), "it was asked to")

    for _ in range(3):
        two._parts.notices._interest.unsaid()  # as if some seconds had passed
        one._parts.notices._interest._wanted.forget()
        one._parts.notices._hear(f"{'?' * 8}?{number:x}")
        await append(one, b"d")
        await until(lambda: known(two).producers is None, "it was heard")
        assert number in two._parts.notices._interest._asked._came_s, "and asked for again"
        await append(two, b"e")

    assert two._counted.conflicts == 1
    assert await content(one) == b"abc" + b"de" * 3
