"""Two nodes on one database: what one does the other knows, and neither answers from memory.

It is long because all of it is about the same two nodes.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from durable_streams.model.commands import Last, Lifetime, Since
from durable_streams.model.errors import (
    OffsetGone,
    ProducerGap,
    StreamClosed,
    StreamGone,
    StreamNotFound,
    Unavailable,
)
from durable_streams.model.offsets import Start
from durable_streams.model.results import Appended
from durable_streams.postgres.appends import LANES
from durable_streams.postgres.streams import Stream
from durable_streams.postgres.transactions import WORKERS
from tests.postgres.stores import Nodes, is_asked_for, known, nodes_of, until
from tests.store_contract.words import (
    FORK,
    ROOM,
    Listener,
    append,
    at,
    by,
    close,
    content,
    create,
    fork,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamInfo
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.store import PostgresStore
    from tests.postgres.conftest import Database

    Pair = tuple[PostgresStore, PostgresStore]


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


@pytest.fixture
async def pair(nodes: Nodes) -> tuple[PostgresStore, PostgresStore]:
    return await nodes.node(), await nodes.node()


async def told(one: PostgresStore, two: PostgresStore) -> None:
    """Have one tell the other of the stream."""
    number = known(one).number
    await until(lambda: one._heartbeat.has_others, "it knows of the other")
    await until(lambda: two._heartbeat.has_others, "it knows of the other")
    two._parts.notices.ask(number)
    await until(lambda: is_asked_for(one, number), "it was asked to")


# -- what a node remembers -----------------------------------------------------------------


async def test_a_duplicate_of_a_stream_that_was_made_again_is_written(pair: Pair) -> None:
    one, two = pair
    await create(one)
    await append(one, b"old", producer=by(0))
    await two.delete(ROOM)
    await create(two)
    assert (await append(one, b"new", producer=by(0))).wrote_data
    assert await content(two) == b"new"


async def test_a_gap_that_another_node_has_filled_is_none(pair: Pair) -> None:
    one, two = pair
    await create(one)
    with pytest.raises(ProducerGap):
        await append(one, b"1", producer=by(1))
    await append(two, b"0", producer=by(0))
    assert (await append(one, b"1", producer=by(1))).wrote_data
    assert await content(one) == await content(two) == b"01"


async def test_what_was_closed_and_made_again_is_open(pair: Pair) -> None:
    one, two = pair
    await create(one)
    await close(one)
    with pytest.raises(StreamClosed):
        await append(one, b"x")
    await two.delete(ROOM)
    await create(two)
    await append(one, b"x")
    assert await content(two) == b"x"


async def test_what_another_node_makes_is_found_and_what_it_ends_is_not(pair: Pair) -> None:
    one, two = pair
    for _ in range(3):
        with pytest.raises(StreamNotFound):
            await append(one, b"x")
        await create(two)
        await append(one, b"x")
        await two.delete(ROOM)
        with pytest.raises(StreamNotFound):
            await one.head(ROOM)


async def test_what_one_node_appends_the_other_reads_at_once(pair: Pair) -> None:
    one, two = pair
    await create(one)
    for number in range(20):
        await append((one, two)[number % 2], b"%d;" % number)
        expected = b"".join(b"%d;" % each for each in range(number + 1))
        assert await content((two, one)[number % 2]) == expected


async def test_a_source_is_kept_for_a_fork_of_another_node(pair: Pair) -> None:
    one, two = pair
    await create(one, body=b"some")
    await fork(two)
    await one.delete(ROOM)
    for node in pair:
        with pytest.raises(StreamGone):
            await node.head(ROOM)
        assert await content(node, FORK) == b"some"
    await two.delete(FORK)
    with pytest.raises(StreamNotFound):
        await one.head(ROOM)


async def test_a_read_whose_stream_was_swept_meanwhile_finds_none(pair: Pair) -> None:
    one, two = pair
    await create(one, body=b"some")
    two._parts.notices.say = lambda *_: None  # type: ignore[method-assign]
    opened = await one.open(ROOM)
    await two.delete(ROOM)
    await two._parts.sweeper.sweep_graves()
    opened.fresh = opened.row, asyncio.current_task()  # it read the row before the delete
    with pytest.raises(StreamNotFound):
        await one.read(opened, Start.BEGINNING)


async def test_whatever_looks_into_a_stream_that_was_swept_meanwhile_finds_none(
    pair: Pair,
) -> None:
    one, two = pair
    await create(one, body=b"some")
    await append(one, b"more")
    with await one.read(await one.open(ROOM), Start.BEGINNING) as chunk:
        row = one._streams.at(ROOM).row  # type: ignore[union-attr]
        two._parts.notices.say = lambda *_: None  # type: ignore[method-assign]
        await two.delete(ROOM)
        await two._parts.sweeper.sweep_graves()
        with pytest.raises(StreamNotFound):
            await one.sizes(chunk)
        for place in (Start.BEGINNING, Last(1), Since(0)):
            one._access.at = _row_before(one, row)  # type: ignore[method-assign]
            with pytest.raises(StreamNotFound):
                await one.records(ROOM, place, 10)
        one._access.at = _row_before(one, row)  # type: ignore[method-assign]
        with pytest.raises(StreamNotFound):
            await one.details(ROOM)
        with pytest.raises(StreamNotFound):
            async for _ in one.pieces(chunk, 10):
                pass


def _row_before(store: PostgresStore, row: Row) -> Any:
    """It reads the row just before the stream ends."""

    async def found(path: StreamPath, *, uses: bool = False) -> tuple[Stream, Row]:
        assert not uses
        stream = Stream(path, row, store._parts.deliveries)
        return stream, row

    return found


async def test_who_finds_no_stream_ends_none_that_is_made_meanwhile(nodes: Nodes) -> None:
    store = await nodes.node()
    at_path, made = store._parts.rows.at, list[Stream]()

    async def then_it_is_made(path: StreamPath, *, uses: bool = False) -> Row | None:
        row = await at_path(path, uses=uses)
        store._parts.rows.at = at_path  # type: ignore[method-assign]
        await create(store, body=b"here")
        made.append(await store.open(ROOM))
        return row

    store._parts.rows.at = then_it_is_made  # type: ignore[method-assign]
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)
    assert await content(store) == b"here"
    assert made[0].ended is None


HELD_UP: Final = """
create function wait() returns trigger language plpgsql as $$ begin
 perform pg_advisory_xact_lock(1);
 return new;
end $$;
create trigger waits before insert on ds.streams for each row when (new.content_type = 'text/late')
 execute function wait();
select pg_advisory_lock(1);
"""


async def test_a_stream_begins_above_one_that_was_made_and_removed_while_it_was_made(
    pair: Pair, nodes: Nodes
) -> None:
    one, two = pair
    gate = await nodes.database.connect()
    await gate.execute(HELD_UP)
    making = nodes.begin(create(one, body=b"another", content_type="text/late"))
    waits = "select count(*) from pg_stat_activity where wait_event = 'advisory'"
    await nodes.until(waits, "1", "it is about to be made")
    await create(two)
    tail = (await append(two, b"some")).tail
    await two.delete(ROOM)
    gate.terminate()
    assert (await making).created
    with pytest.raises(OffsetGone):
        await content(two, start=tail)
    assert await content(two) == b"another"


async def test_the_producers_of_many_streams_take_a_bounded_room_and_are_known_all_the_same(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    store._streams.most_producers_bytes = 5000
    paths = [at(f"many/{number}") for number in range(12)]
    for path in paths:
        await create(store, path)
        for name in ("a" * 500, "b" * 500):
            await append(store, b"0", path, producer=by(0, name=name))
    for path in paths:
        for name in ("a" * 500, "b" * 500):
            assert (await append(store, b"0", path, producer=by(0, name=name))).duplicate
            assert (await append(store, b"1", path, producer=by(1, name=name))).wrote_data
    known = [stream.producers for path in paths if (stream := store._streams.at(path))]
    assert len(known) == len(paths)
    sizes = [producers.size_bytes for producers in known if producers is not None]
    assert 0 < sum(sizes) <= 5000


# -- at once -------------------------------------------------------------------------------


async def test_writers_of_both_nodes_lose_nothing_double_nothing_and_keep_their_order(
    pair: Pair,
) -> None:
    await create(pair[0])

    async def write(node: PostgresStore, name: str) -> None:
        for seq in range(25):
            done = await append(node, f"{name}.{seq};".encode(), producer=by(seq, name=name))
            assert done.wrote_data

    await asyncio.gather(
        *[write(node, f"{number}{at}") for at, node in enumerate(pair) for number in range(8)]
    )
    found = (await content(pair[0])).decode().split(";")[:-1]
    assert len(found) == len(set(found)) == 16 * 25
    for name in {each.partition(".")[0] for each in found}:
        assert [each for each in found if each.startswith(f"{name}.")] == [
            f"{name}.{seq}" for seq in range(25)
        ]
    assert await content(pair[1]) == await content(pair[0])


async def test_races_that_are_lost_together_are_decided_again_together(pair: Pair) -> None:
    """As behind a balancer, where each stream was moved by the other node since."""
    one, two = pair
    two._parts.notices._heard = lambda _: None  # so it does not know better
    paths = [("many", str(number)) for number in range(24)]
    for path in paths:
        await create(one, path)
    await asyncio.gather(*[append(two, b"a", path) for path in paths])
    await asyncio.gather(*[append(one, b"b", path) for path in paths])
    before = sum(two.numbers.commits.counts)

    await asyncio.gather(*[append(two, b"c", path) for path in paths])

    assert two._counted.conflicts == len(paths)
    assert sum(two.numbers.commits.counts) - before <= 2 * LANES + 2 * WORKERS
    for path in paths:
        assert await content(one, path) == b"abc"


async def test_a_stream_of_many_that_lose_may_be_gone_or_closed(pair: Pair) -> None:
    one, two = pair
    two._parts.notices._heard = lambda _: None
    paths = [("many", str(number)) for number in range(12)]
    for path in paths:
        await create(one, path)
    await asyncio.gather(*[append(two, b"a", path) for path in paths])
    for path in paths[::3]:
        await one.delete(path)
    for path in paths[1::3]:
        await close(one, path)
    for path in paths[2::3]:
        await append(one, b"b", path)

    found = await asyncio.gather(
        *[append(two, b"c", each) for each in paths], return_exceptions=True
    )

    assert [type(each) for each in found] == [StreamNotFound, StreamClosed, Appended] * 4
    for path in paths[2::3]:
        assert await content(one, path) == b"abc"


async def test_who_hears_that_a_stream_was_moved_looks_before_it_writes(pair: Pair) -> None:
    one, two = pair
    await create(one)
    await told(one, two)
    await append(two, b"a")
    stream = known(two)
    await append(one, b"b")
    await until(lambda: stream.producers is None, "it was heard")

    await append(two, b"c")

    assert not two._counted.conflicts
    assert await content(one) == b"abc"


async def test_what_a_notice_says_is_on_a_quorum_is_shown_without_waiting_for_one(
    pair: Pair,
) -> None:
    one, two = pair
    await create(one)
    await told(one, two)
    await append(two, b"a")
    stream = known(two)
    waited: list[Session] = []
    barrier = two._standbys.barrier

    async def counted(session: Session) -> None:
        waited.append(session)
        await barrier(session)

    two._standbys.barrier = counted  # type: ignore[method-assign]
    await append(one, b"b")
    await until(lambda: stream.is_stale, "it was heard")
    assert (await two.head(ROOM)).tail.position == 2
    assert waited == []

    stream.row = msgspec.structs.replace(stream.row, version=0)  # nothing is known of it but that
    stream.told = stream.told[:-1]
    assert (await two.head(ROOM)).tail.position == 2
    assert len(waited) == 1


async def test_the_same_append_sent_to_both_nodes_is_stored_once(pair: Pair) -> None:
    await create(pair[0])
    for seq in range(10):
        outcomes = await asyncio.gather(
            *[append(node, b"%d" % seq, producer=by(seq)) for node in pair * 3]
        )
        assert [outcome.wrote_data for outcome in outcomes].count(True) == 1
    assert await content(pair[1]) == b"0123456789"


async def test_streams_made_and_ended_by_both_at_once_leave_nothing_behind(pair: Pair) -> None:
    """A chain of forks each time, whose ends come from both sides: no deadlock, no rest."""

    async def chain(node: PostgresStore, number: int) -> None:
        paths = [at(f"{number}/{each}") for each in range(4)]
        await create(node, paths[0], b"some")
        for source, path in itertools.pairwise(paths):
            await fork(node, path, source)

    await asyncio.gather(*[chain(pair[number % 2], number) for number in range(6)])
    await asyncio.gather(
        *[
            pair[(number + each) % 2].delete(at(f"{number}/{each}"))
            for number in range(6)
            for each in range(4)
        ]
    )
    for number, each in itertools.product(range(6), range(4)):
        with pytest.raises(StreamNotFound):
            await pair[0].head(at(f"{number}/{each}"))


# -- live readers --------------------------------------------------------------------------


async def test_live_readers_of_a_node_are_told_what_the_other_appends(pair: Pair) -> None:
    one, two = pair
    tail = (await create(one)).info.tail
    stream = await one.open(ROOM)
    listener = Listener()
    waiting = asyncio.create_task(one.wait(stream, tail, 60))
    assert one.subscribe(stream, tail, listener)
    expected = b""
    for number in range(30):
        await append(pair[number % 3 > 0], b"%d;" % number)
        expected += b"%d;" % number
    assert await waiting
    await close(two)
    while not listener.heard or not listener.heard[-1].closed:
        await listener.told()
    assert listener.data == expected
    end = tail
    for publication in listener.heard:
        assert publication.start == end
        end = publication.end
    assert end == (await two.head(ROOM)).tail


async def test_live_readers_are_told_that_the_other_node_ended_the_stream(pair: Pair) -> None:
    one, two = pair
    tail = (await create(one)).info.tail
    stream = await one.open(ROOM)
    listener = Listener()
    waiting = asyncio.create_task(one.wait(stream, tail, 60))
    assert one.subscribe(stream, tail, listener)
    await two.delete(ROOM)
    with pytest.raises(StreamNotFound):
        await waiting
    while listener.reason is None:
        await listener.told()
    assert isinstance(listener.reason, StreamNotFound)


async def test_what_no_notice_tells_is_found_all_the_same(pair: Pair) -> None:
    one, two = pair
    tail = (await create(one)).info.tail
    stream = await one.open(ROOM)
    await append(two, b"first")
    assert one._parts.notices._listening is not None
    two._parts.notices.say = lambda *_: None  # type: ignore[method-assign]
    tail = (await one.head(ROOM)).tail
    waiting = asyncio.create_task(one.wait(stream, tail, 600))
    await append(two, b"second")
    assert await waiting


async def test_who_follows_on_one_node_holds_the_stream_on_the_other(
    pair: Pair, nodes: Nodes
) -> None:
    one, two = pair
    await create(one, lifetime=Lifetime(ttl_s=1))
    stream = await one.open(ROOM)
    with one.following(stream):
        await nodes.until("select extract(epoch from clock_timestamp())::bigint % 5 = 0", "t", "-")
        await nodes.until("select extract(epoch from clock_timestamp())::bigint % 5 = 4", "t", "-")
        await two.head(ROOM)


# -- a primary that confirms nothing -------------------------------------------------------


async def looked_at_again_and_again(store: PostgresStore) -> None:
    while True:
        await store.head(ROOM)


async def test_a_node_that_has_no_good_heartbeat_shows_nothing(nodes: Nodes) -> None:
    store = await nodes.node()
    await create(store)
    await append(store, b"x")
    await content(store)
    nodes.pause_standbys()
    with pytest.raises(Unavailable):
        await looked_at_again_and_again(store)
    nodes.resume_standbys()
    assert (await shown_again(store)).tail.position == 1


async def shown_again(store: PostgresStore) -> StreamInfo:
    while True:
        with suppress(Unavailable):
            return await store.head(ROOM)
