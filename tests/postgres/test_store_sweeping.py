"""What is removed of streams that are no more, and that nothing else is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.errors import StreamNotFound
from durable_streams.postgres import sweeping
from tests.postgres.stores import Nodes, nodes_of
from tests.store_contract.words import ROOM, append, by, content, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.postgres.store import PostgresStore
    from tests.postgres.conftest import Database

BY_HAND: Final = """
insert into ds.graves (stream, path, next_segment, removed_ms) select id, path, 3, 0 from ds.streams
"""
RUNS: Final = "select count(*) from ds.runs"
KEPT: Final = "update ds.graves set kept = '{}' returning 1"
UNSWEPT: Final = "select count(*) from ds.graves where not swept"


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


async def test_the_grave_of_a_stream_that_is_there_takes_nothing_of_it(nodes: Nodes) -> None:
    store = await nodes.node()
    await create(store, body=b"one")
    await append(store, b"two", producer=by(0))
    nodes.cluster.primary.query(BY_HAND, nodes.database.name)

    await store._parts.sweeper.sweep_graves()

    assert await content(store) == b"onetwo"
    other = await nodes.node()
    assert (await append(other, b"two", producer=by(0))).duplicate
    assert await content(other) == b"onetwo"


async def test_a_stream_that_has_a_grave_already_can_end_all_the_same(nodes: Nodes) -> None:
    store = await nodes.node()
    await create(store, body=b"one")
    nodes.cluster.primary.query(BY_HAND, nodes.database.name)

    await store.delete(ROOM)

    with pytest.raises(StreamNotFound):
        await store.head(ROOM)
    await store._parts.sweeper.sweep_graves()
    await nodes.until(RUNS, "0", "its bytes are removed")
    assert (await create(store)).info.tail.segment == 1


async def test_a_grave_counts_as_swept_where_nothing_is_left_and_nowhere_else(
    nodes: Nodes,
) -> None:
    """Whatever another server has said before, that took its place since, or was replaced."""
    store = await nodes.node()
    await create(store, body=b"one")
    number = (await store.open(ROOM)).number
    await store.delete(ROOM)

    await store._parts.readers.fetch(sweeping._SWEPT, number)
    await nodes.until(UNSWEPT, "1", "there are bytes")

    await store._parts.sweeper.sweep_graves()
    await nodes.until(UNSWEPT, "0", "all is removed")
    await nodes.until(RUNS, "0", "all is removed")


async def step(store: PostgresStore, number: int) -> None:
    """What the sweep does about a stream whose grave it has found on the server of that time."""
    for table in ("runs", "producers"):
        assert not await store._parts.readers.do(partial(sweeping._step, table, number))


async def test_a_step_takes_nothing_of_a_stream_that_is_there_on_another_server(
    nodes: Nodes,
) -> None:
    """Its end was on no standby, and the one where it was found is no more."""
    store = await nodes.node()
    await create(store, body=b"one")
    await append(store, b"two", producer=by(0))

    await step(store, (await store.open(ROOM)).number)

    other = await nodes.node()
    assert (await append(other, b"two", producer=by(0))).duplicate
    assert await content(other) == b"onetwo"


async def test_a_step_takes_nothing_that_is_kept_on_another_server(nodes: Nodes) -> None:
    store = await nodes.node()
    await create(store, body=b"one")
    number = (await store.open(ROOM)).number
    await store.delete(ROOM)
    assert nodes.cluster.primary.query(KEPT, nodes.database.name).startswith("1")

    await step(store, number)

    assert nodes.cluster.primary.query(RUNS, nodes.database.name) == "1"
