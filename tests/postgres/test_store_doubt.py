"""What expired by a clock that may be wrong: it is expired for everybody, and not thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.errors import StreamNotFound
from durable_streams.postgres.doubt import Doubt
from durable_streams.postgres.store import PostgresStore
from durable_streams.settings import Settings
from tests.documents import blocks_of
from tests.postgres.stores import Nodes, nodes_of
from tests.store_contract.conftest import Clock
from tests.store_contract.words import ROOM, TEXT, append, by, content, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.postgres.conftest import Database

PAGE: Final = "docs/beyond-one-machine.rst"
RUNS: Final = "select count(*) from ds.runs"


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


async def replaced(nodes: Nodes, delay_s: float) -> tuple[PostgresStore, Clock]:
    """A node, and a stream of it that expired, so that another one was made at its path."""
    clock = Clock()
    settings = Settings(reclaim_delay_s=delay_s)
    store = await PostgresStore.at(nodes.database.url, settings, now_ms=clock)
    await create(store, lifetime=Lifetime(60))
    await append(store, b"one", producer=by(0))
    await append(store, b"two", producer=by(1))
    clock.passes(61)
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)
    assert (await create(store, body=b"new", lifetime=Lifetime(60))).created
    return store, clock


async def test_what_a_put_replaces_while_the_clock_is_in_doubt_can_be_had_again_as_documented(
    nodes: Nodes,
) -> None:
    store, _ = await replaced(nodes, 3600)
    try:
        await store._sweeper.sweep_graves()
        await store._sweeper.remove_expired()
        await nodes.until(RUNS, "3", "the old ones are there")
        assert await content(store) == b"new"

        await store.delete(ROOM)
        (back,) = [block.code for block in blocks_of(PAGE) if block.language == "sql"]
        nodes.cluster.primary.query(
            back.replace("chat/room-1", "/".join(ROOM)), nodes.database.name
        )

        assert await content(store) == b"onetwo"
        assert (await append(store, b"two", producer=by(1))).duplicate
        await append(store, b"three", producer=by(2), content_type=TEXT)
        await store._sweeper.sweep_graves()
        assert await content(store) == b"onetwothree"
    finally:
        await store.close()


async def test_what_a_put_replaces_is_removed_once_the_clock_is_believed(nodes: Nodes) -> None:
    store, _ = await replaced(nodes, 3600)
    try:
        store._sweeper._doubt._since_s -= 3600
        await store._sweeper.remove_expired()
        await store._sweeper.sweep_graves()
        await nodes.until(RUNS, "1", "the old ones are removed")
        assert await content(store) == b"new"
    finally:
        await store.close()


async def test_what_a_put_replaces_is_removed_soon_where_the_clock_is_believed(
    nodes: Nodes,
) -> None:
    store, _ = await replaced(nodes, 0)
    try:
        await store._sweeper.sweep_graves()
        await nodes.until(RUNS, "1", "the old ones are removed")
    finally:
        await store.close()


class Server:
    """What a database says of its clock and timeline."""

    def __init__(self, loop_time: Callable[[], float]) -> None:
        self._loop_time = loop_time
        self.timeline = 1
        self.ahead_s = 0.0

    async def fetch(self, _: str) -> list[dict[str, float]]:
        return [{"timeline": self.timeline, "at_s": self._loop_time() + self.ahead_s}]


@pytest.mark.parametrize("what", ["start", "timeline", "clock forward", "clock back"])
async def test_the_clock_is_in_doubt_after(what: str) -> None:
    doubt = Doubt(3600)
    server = Server(doubt._loop.time)
    assert await doubt.is_there(server.fetch)  # type: ignore[arg-type]
    if what == "start":
        return
    doubt._since_s -= 3600
    assert not await doubt.is_there(server.fetch)  # type: ignore[arg-type]
    server.timeline += what == "timeline"
    server.ahead_s += {"clock forward": 61, "clock back": -61}.get(what, 0)
    assert await doubt.is_there(server.fetch)  # type: ignore[arg-type]
    doubt._since_s -= 3600
    assert not await doubt.is_there(server.fetch)  # type: ignore[arg-type]
