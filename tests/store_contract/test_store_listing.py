"""What a store promises of lists: which streams, in which order, and what is said of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import Append, Create, ForkRequest, Lifetime
from durable_streams.model.errors import NotOpen
from durable_streams.model.offsets import Offset
from durable_streams.model.results import ForkedFrom, StreamRow
from tests.driving import append, fork, put
from tests.store_contract.conftest import NOW_MS

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock

PATHS: list[StreamPath] = [
    ("a",),
    ("a", "B"),
    ("a", "b"),
    ("a", "b", "c"),
    ("a", "é"),
    ("a\x01",),
    ("a b",),
    ("a-b",),
    ("a/b",),
    ("aB",),
    ("ab",),
    ("x" * 236,),
    ("x" * 236, "below"),
    ("x" * 238 + "!",),
    ("x" * 238 + "-",),
    ("x" * 238 + "A",),
    ("x" * 238 + "a",),
    ("x" * 250,),
    ("Ωmega",),
    ("\U0001f600",),
    ("\uffee",),
]


async def make(store: Store, *paths: StreamPath) -> None:
    for path in paths:
        await store.create(Create(path), b"")


async def listed(
    store: Store, prefix: StreamPath = (), after: StreamPath = (), limit: int = 100
) -> list[StreamPath]:
    """The paths of all pages."""
    found: list[StreamPath] = []
    position: StreamPath | None = after
    while position is not None:
        page = await store.list_streams(prefix, position, limit)
        found += [row.path for row in page.rows]
        assert page.next is None or page.next > position
        position = page.next
    return found


async def row_of(store: Store, path: StreamPath) -> StreamRow:
    page = await store.list_streams(path, (), 1)
    row = page.rows[0]
    assert isinstance(row, StreamRow)
    assert row.path == path
    return row


async def test_streams_come_in_the_order_of_their_segments_bytes(store: Store) -> None:
    await make(store, *reversed(PATHS))
    expected = sorted(PATHS, key=lambda path: [segment.encode() for segment in path])
    assert await listed(store) == expected == sorted(PATHS)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_pages_of_any_size_show_each_stream_once(store: Store, limit: int) -> None:
    await make(store, *PATHS)
    assert await listed(store, limit=limit) == sorted(PATHS)


@pytest.mark.parametrize("prefix", [("a",), ("a", "b"), ("x" * 236,), ("none",), ("a", "b", "c")])
async def test_a_prefix_is_whole_segments(store: Store, prefix: StreamPath) -> None:
    await make(store, *PATHS)
    inside = [path for path in sorted(PATHS) if path[: len(prefix)] == prefix]
    assert await listed(store, prefix, limit=2) == inside


@pytest.mark.parametrize("after", [("a",), ("a", "bb"), ("zz",), ("",), ("a", "b", "c", "d")])
async def test_a_page_begins_behind_any_path_be_it_a_streams_or_not(
    store: Store, after: StreamPath
) -> None:
    await make(store, *PATHS)
    assert await listed(store, (), after) == [path for path in sorted(PATHS) if path > after]
    below = [path for path in sorted(PATHS) if path > after and path[0] == "a"]
    assert await listed(store, ("a",), after) == below


async def test_a_store_without_streams_has_an_empty_page(store: Store) -> None:
    page = await store.list_streams((), (), 100)
    assert (list(page.rows), page.next) == ([], None)


async def test_a_row_says_what_is_known_of_a_stream(store: Store, clock: Clock) -> None:
    lifetime = Lifetime(ttl_s=60)
    await store.create(Create(("a",), "text/plain", lifetime), b"")
    born = await row_of(store, ("a",))
    info = await store.head(("a",))
    assert born == StreamRow(
        ("a",), info.id, "text/plain", info.tail, 0, NOW_MS, None, False, lifetime,
        NOW_MS + 60_000, None,
    )  # fmt: skip
    clock.passes(10)
    await store.append(Append(("a",), "text/plain"), b"twelve bytes")
    clock.passes(10)
    await store.append(Append(("a",), "text/plain", close=True), b"!")
    row, info = await row_of(store, ("a",)), await store.head(("a",))
    assert (row.tail, row.size_bytes, row.closed) == (info.tail, 13, True)
    assert (row.created_ms, row.last_write_ms) == (NOW_MS, NOW_MS + 20_000)
    assert row.ends_at_ms == NOW_MS + 80_000


async def test_listing_is_no_use_of_a_stream(store: Store, clock: Clock) -> None:
    await store.create(Create(("a",), lifetime=Lifetime(ttl_s=60)), b"")
    clock.passes(59)
    assert await listed(store) == [("a",)]
    clock.passes(1)
    assert await listed(store) == []


async def test_a_fork_says_what_it_was_made_of(store: Store) -> None:
    await put(store, "a/source", b"0123456789")
    at = (await store.head(("a", "source"))).tail
    await append(store, "a/source", b"more")
    command = Create(("fork",), fork=ForkRequest(("a", "source"), at))
    await store.create(command, b"")
    row = await row_of(store, ("fork",))
    assert isinstance(row.fork, ForkedFrom)
    assert row.fork.source == ("a", "source")
    assert row.fork.offset == row.tail == (await store.head(("fork",))).tail
    assert (row.size_bytes, row.last_write_ms) == (10, None)
    assert (await row_of(store, ("a", "source"))).fork is None


async def test_a_deleted_stream_is_not_listed_nor_one_that_forks_need(store: Store) -> None:
    await make(store, ("a",), ("b",), ("c",))
    assert await listed(store) == [("a",), ("b",), ("c",)]
    await fork(store, "d", "b")
    await store.delete(("a",))
    await store.delete(("b",))
    assert await listed(store) == [("c",), ("d",)]
    await store.delete(("d",))
    await make(store, ("a",), ("b",))
    assert await listed(store) == [("a",), ("b",), ("c",)]


async def test_what_was_acknowledged_is_listed_at_once(store: Store) -> None:
    assert await listed(store) == []
    for number in range(20):
        await make(store, ("x", str(number)))
        assert len(await listed(store)) == number + 1
    for number in range(20):
        await store.delete(("x", str(number)))
        assert len(await listed(store)) == 19 - number


async def test_streams_that_are_there_all_the_while_are_listed_once_whatever_goes_on(
    store: Store,
) -> None:
    staying = [("m", f"{number:03}") for number in range(0, 200, 2)]
    going = [("m", f"{number:03}") for number in range(1, 200, 2)]
    await make(store, *staying, *going)

    async def turn_over() -> None:
        for path in going:
            await store.delete(path)
            await make(store, (*path, "new"))

    task = asyncio.ensure_future(turn_over())
    found = await listed(store, limit=3)
    await task
    assert [path for path in found if path in set(staying)] == staying
    assert len(found) == len(set(found))


async def test_a_page_looks_at_no_more_streams_than_its_limit(store: Store, clock: Clock) -> None:
    for number in range(6):
        lifetime = Lifetime(ttl_s=1 if number < 4 else 100)
        await store.create(Create((str(number),), lifetime=lifetime), b"")
    clock.passes(2)
    page = await store.list_streams((), (), 3)
    assert (list(page.rows), page.next) == ([], ("2",))
    assert await listed(store, limit=3) == [("4",), ("5",)]


async def test_a_filter_is_asked_before_a_stream_is_looked_at_and_not_without_end(
    store: Store,
) -> None:
    await make(store, *[(f"{number:02}",) for number in range(20)])
    asked: list[StreamPath] = []

    def is_even(path: StreamPath) -> bool:
        asked.append(path)
        return int(path[0]) % 2 == 0

    page = await store.list_streams((), (), 3, may=is_even, most=100)
    assert [row.path for row in page.rows] == [("00",), ("02",), ("04",)]
    assert (page.next, len(asked)) == (("04",), 5)
    asked.clear()
    page = await store.list_streams((), ("04",), 100, may=is_even, most=4)
    assert [row.path for row in page.rows] == [("06",), ("08",)]
    assert (page.next, len(asked)) == (("08",), 4)
    page = await store.list_streams((), ("08",), 100, may=lambda _: False, most=100)
    assert (list(page.rows), page.next) == ([], None)


async def test_a_closed_store_lists_nothing(store: Store) -> None:
    await store.close()
    with pytest.raises(NotOpen):
        await store.list_streams((), (), 100)


async def test_a_stream_remade_at_its_path_is_listed_with_what_it_is_now(store: Store) -> None:
    await put(store, "a", b"before")
    await store.delete(("a",))
    await put(store, "a")
    row = await row_of(store, ("a",))
    assert (row.size_bytes, row.last_write_ms) == (0, None)
    assert row.tail >= Offset(0, 0)
