"""Values that the database cannot store: whoever sent one is told so, and nobody else is harmed.

The server and the library refuse nearly all of these before; the store does not rely on it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.model.commands import Append, Create, ForkRequest, Last, Lifetime
from durable_streams.model.errors import InvalidRequest
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.results import Appended
from durable_streams.postgres.reading import Reading
from tests.postgres.stores import Nodes, nodes_of
from tests.store_contract.words import JSON, ROOM, TEXT, append, at, by, close, content, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from durable_streams.model.commands import Place
    from durable_streams.model.records import Record
    from durable_streams.postgres.store import PostgresStore
    from tests.postgres.conftest import Database

    Ask = Callable[[PostgresStore, str], Awaitable[Any]]


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


async def told(store: PostgresStore, command: Append) -> Appended:
    return await store.append(command, b"" if command.close else b"x")


ASKED: Final[dict[str, Ask]] = {
    "path of an append": lambda store, text: told(store, Append((text,), TEXT)),
    "type of an append": lambda store, text: told(store, Append(ROOM, text)),
    "sequence of an append": lambda store, text: append(store, b"x", stream_seq=text),
    "producer of an append": lambda store, text: append(store, b"x", producer=by(0, name=text)),
    "producer of a close": lambda store, text: close(store, producer=by(0, name=text)),
    "path of a create": lambda store, text: create(store, ("a", text)),
    "type of a create": lambda store, text: create(store, at("new"), content_type=text),
    "end of a create": lambda store, text: create(
        store, at("new"), lifetime=Lifetime(None, text, 2**50)
    ),
    "source of a fork": lambda store, text: store.create(
        Create(at("new"), fork=ForkRequest((text,))), b""
    ),
    "path of a delete": lambda store, text: store.delete((text,)),
    "path of a head": lambda store, text: store.head((text,)),
    "path of a read": lambda store, text: store.open((text,)),
    "path of records": lambda store, text: store.records((text,), Start.BEGINNING, 1),
    "path of details": lambda store, text: store.details((text,)),
    "prefix of a list": lambda store, text: store.list_streams((text,), (), 1),
    "begin of a list": lambda store, text: store.list_streams((), (text,), 1),
}


async def test_a_text_that_is_none_in_the_database_is_refused_wherever_it_is(nodes: Nodes) -> None:
    """Together with what others send, in the same batch, who notice nothing."""
    store = await nodes.node()
    await create(store)
    good = 0
    for name, ask in ASKED.items():
        for text in ("a\0b", "\ud800", "ä\udcff"):
            found = await asyncio.gather(
                append(store, b"1"), ask(store, text), append(store, b"2"), return_exceptions=True
            )
            good += 1
            assert [type(each) for each in found] == [Appended, InvalidRequest, Appended], name
            told = str(found[1])
            assert ("NUL" if "\0" in text else "Unicode") in told
            assert told.isascii()
            assert told.isprintable()
    assert await content(store) == b"12" * good
    assert store.bug is None
    assert not store._counted.conflicts  # none of them was sent to the database


TOO_HIGH: Final = by(0, epoch=2**63)
"""Which only the database finds out."""


async def test_of_appends_in_one_batch_each_has_the_answer_to_its_own_request(nodes: Nodes) -> None:
    store, other = await nodes.node(), await nodes.node()
    paths = [at(f"many/{number}") for number in range(4)]
    for path in paths:
        await create(store, path)
    wanted: list[type[Appended | InvalidRequest]] = []
    asked: list[Awaitable[Appended]] = []
    for path in paths[:3]:
        for number in range(5):
            is_bad = path is not paths[2] and number in {1, 4}
            wanted.append(InvalidRequest if is_bad else Appended)
            producer = TOO_HIGH if is_bad else None
            asked.append(append(store, b"%d" % number, path, producer=producer))
    asked.append(append(store, b"bad", paths[3], producer=TOO_HIGH))
    wanted.append(InvalidRequest)

    found = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(each) for each in found] == wanted
    assert len({id(each) for each in found}) == len(found)
    texts = [await content(other, path) for path in paths]
    assert texts == [b"023", b"023", b"01234", b""]
    assert (await append(store, b"again", paths[3])).wrote_data


def commits(store: PostgresStore) -> int:
    return sum(store.numbers.commits.counts)


async def test_one_bad_value_among_many_does_not_have_each_written_alone(nodes: Nodes) -> None:
    store = await nodes.node()
    await create(store)
    before = commits(store)
    claims = [TOO_HIGH if number == 77 else None for number in range(128)]
    asked = [append(store, b"x", producer=claim) for claim in claims]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [number for number, each in enumerate(found) if isinstance(each, InvalidRequest)] == [77]
    assert await content(store) == b"x" * 127
    assert commits(store) - before <= 8


# -- records of an append with very many messages ------------------------------------------


class Looked:
    """Counts the bytes that are fetched to look for messages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size_bytes = 0
        fetch = Reading.bytes_in

        async def counted(reading: Reading, segment: int, begin: int, end: int) -> bytes:
            data = await fetch(reading, segment, begin, end)
            self.size_bytes += len(data)
            return data

        monkeypatch.setattr(Reading, "bytes_in", counted)


async def paged(store: PostgresStore, limit: int, place: Place = Start.BEGINNING) -> list[Record]:
    found: list[Record] = []
    while True:
        page = await store.records(ROOM, place, limit)
        found += page.records
        if page.at_tail:
            return found
        place = page.next


async def test_all_pages_of_a_huge_append_together_look_into_it_a_few_times(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looked = await nodes.node(), Looked(monkeypatch)
    await create(store, content_type=JSON)
    messages = [b'"%030d"' % number for number in range(100_000)]
    body = b"[%s]" % b",".join(messages)
    await append(store, b"[1,2]", content_type=JSON)
    await append(store, body, content_type=JSON)
    await append(store, b"[3]", content_type=JSON)

    found = await paged(store, 1000)

    assert [record.size_bytes for record in found] == [1, 1, *[32] * 100_000, 1]
    assert [found[number].end for number in range(len(found) - 1)] == [
        each.start for each in found[1:]
    ]
    assert looked.size_bytes < 5 * len(body)

    looked.size_bytes = 0
    for number in range(50_000, 50_010):
        (one,) = (await store.records(ROOM, found[number].start, 1)).records
        inside = await store.records(ROOM, Offset(0, one.end.position - 1), 1)
        assert (one, inside.records) == (found[number], [one])
    assert looked.size_bytes < 20 * 64 * 1024
    assert (await store.records(ROOM, Last(3), 3)).records == found[-3:]
