"""Streams of every kind that a copy has to carry, and all that a store shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.details import StreamDetails
from durable_streams.model.errors import (
    OffsetGone,
    ProducerGap,
    SequenceConflict,
    StaleEpoch,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.rules.lifetime import parse_expires_at
from tests.store_contract.words import (
    BINARY,
    JSON,
    append,
    at,
    beyond,
    by,
    close,
    content,
    create,
    fork,
)

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store

LONG: Final = b"0123456789" * 40
FAR: Final = "2999-01-01T00:00:00Z"

TALK: Final = at("chat/talk")
EVENTS: Final = at("chat/events")
GONE: Final = at("house/gone")
AGAIN: Final = at("house/again")
REMOVED: Final = at("house/removed")
ODD: Final = ("with/slash", "ö%2F ⚙", "UPPER.case")


async def fill(store: Store) -> None:
    """Have one of each."""
    await _plain(store)
    await _ended(store)
    await _forks(store)
    await _recreated(store)


async def _plain(store: Store) -> None:
    await create(store, at("empty"))
    await create(store, ODD, b"made with this")
    await create(store, at("mortal"), lifetime=Lifetime(ttl_s=86_400))
    await append(store, b"used", at("mortal"))
    await create(store, at("dated"), lifetime=Lifetime(None, FAR, parse_expires_at(FAR)))
    await create(store, TALK)
    for number in range(6):
        producer = by(number, name="ann") if number % 2 == 0 else None
        if producer is not None:
            producer = by(number // 2, epoch=3, name="ann")
        await append(
            store, LONG + b"%d" % number, TALK, producer=producer, stream_seq=f"{number:04d}"
        )
    await append(store, b"bob's", TALK, producer=by(0, name='böb "quoted"'))
    await create(store, EVENTS, content_type=JSON)
    for number in range(5):
        body = b'[{"n":%d},"a,[b",[%d,{"x":"y,"}]]' % (number, number)
        await append(store, body, EVENTS, content_type=JSON, producer=by(number))


async def _ended(store: Store) -> None:
    for name in ("alone", "with data", "by somebody", "by somebody with data", "never written"):
        await create(
            store, at(f"ended/{name}"), content_type=BINARY, closed=name == "never written"
        )
        if name != "never written":
            await append(store, bytes(range(256)), at(f"ended/{name}"), content_type=BINARY)
    await close(store, at("ended/alone"))
    await append(store, b"last", at("ended/with data"), content_type=BINARY, close=True)
    await close(store, at("ended/by somebody"), by(0))
    await append(
        store,
        b"last",
        at("ended/by somebody with data"),
        content_type=BINARY,
        close=True,
        producer=by(0, epoch=7),
    )


async def _forks(store: Store) -> None:
    await fork(store, at("forks/tail"), TALK, lifetime=Lifetime(ttl_s=7200))
    await append(store, b"own", at("forks/tail"), producer=by(0, name="ann"), stream_seq="z")
    tail = (await store.head(EVENTS)).tail
    ends = [record.end for record in (await store.records(EVENTS, Start.BEGINNING, 100)).records]
    await fork(store, at("forks/between messages"), EVENTS, offset=ends[4])
    await append(store, b'["own"]', at("forks/between messages"), content_type=JSON)
    await fork(store, at("forks/some messages on"), EVENTS, offset=ends[2], sub_offset=2)
    await fork(store, at("forks/of json at the tail"), EVENTS, offset=tail, body=b"[1,2]")
    begin = (await store.records(TALK, Start.BEGINNING, 1)).records[0].start
    await fork(store, at("forks/nothing"), TALK, offset=begin)
    await fork(store, at("forks/nothing and more"), TALK, offset=begin, body=b"own")
    await fork(store, at("forks/inside"), TALK, offset=begin, sub_offset=7)
    await append(store, b"own", at("forks/inside"))
    for record in (await store.records(TALK, Start.BEGINNING, 100)).records:
        path = at(f"forks/at {record.end.token}")
        await fork(store, path, TALK, offset=record.end, closed=record.end.position % 2 == 0)
    await fork(store, at("forks/of a fork"), at("forks/inside"))
    await append(store, LONG, at("forks/of a fork"))
    await fork(
        store, at("a fork/of it"), at("forks/of a fork"), offset=beyond(begin, 0), sub_offset=5
    )
    await create(store, GONE, b"goes, and is needed")
    await append(store, b", still", GONE)
    await fork(store, at("forks/of what is gone"), GONE)
    await store.delete(GONE)


async def _recreated(store: Store) -> None:
    await create(store, REMOVED, b"was here")
    await store.delete(REMOVED)
    for body in (b"the first", b"the second"):
        await create(store, AGAIN, body)
        await append(store, LONG, AGAIN)
        if body == b"the first":
            await store.delete(AGAIN)
    await fork(store, at("forks/of one that came again"), AGAIN)


async def seen(store: Store) -> dict[StreamPath, Any]:
    """All that a store shows of its streams but what they are called inside."""
    page = await store.list_streams((), (), 1000)
    assert page.next is None
    return {row.path: await _seen(store, row.path) for row in page.rows}


async def _seen(store: Store, path: StreamPath) -> Any:
    details = await store.details(path)
    assert isinstance(details, StreamDetails)
    row, point = details.row, ZERO if details.row.fork is None else details.row.fork.offset
    records = (await store.records(path, Start.BEGINNING, 10_000)).records
    offsets: list[Offset | Start] = [Start.BEGINNING, *[record.end for record in records]]
    told = {name: getattr(details, name) for name in ("begin", "segments", "segment_bytes")}
    told |= {name: getattr(row, name) for name in ("content_type", "tail", "size_bytes")}
    told |= {name: getattr(row, name) for name in ("created_ms", "closed", "lifetime", "fork")}
    told["producers"] = {(each.id, each.epoch, each.seq) for each in details.last_producers}
    told["forks"] = set(details.forks)
    # Whose the appends are that a fork has of its source: files do not say it of all of them.
    told["records"] = [
        msgspec.structs.replace(each, producer=None) if each.end <= point else each
        for each in records
    ]
    told["content"] = [await content(store, path, offset) for offset in offsets]
    return told


async def goes_on(store: Store) -> None:
    """Whoever wrote before goes on as if nothing had happened, and nobody is forgotten."""
    retried = await append(store, LONG + b"4", TALK, producer=by(2, epoch=3, name="ann"))
    assert retried.duplicate
    with pytest.raises(StaleEpoch):
        await append(store, b"old", TALK, producer=by(3, epoch=2, name="ann"))
    with pytest.raises(ProducerGap):
        await append(store, b"gap", TALK, producer=by(2, name='böb "quoted"'))
    with pytest.raises(SequenceConflict):
        await append(store, b"back", TALK, stream_seq="0004")
    taken = await append(
        store, b"next", TALK, producer=by(3, epoch=3, name="ann"), stream_seq="0006"
    )
    assert taken.wrote_data
    for name in ("by somebody", "by somebody with data"):
        epoch = 7 if name.endswith("data") else 0
        again = await close(store, at(f"ended/{name}"), by(0, epoch=epoch))
        assert again.duplicate
        assert again.closed
    with pytest.raises(StreamGone):
        await store.head(GONE)
    created = await create(store, REMOVED, b"another")
    with pytest.raises(OffsetGone):
        await content(store, REMOVED, beyond(Offset(0, 0), 8))
    assert created.info.tail.segment > 0
    same = await create(store, at("mortal"), lifetime=Lifetime(ttl_s=86_400))
    assert not same.created
    await store.delete(at("forks/of what is gone"))
    with pytest.raises(StreamNotFound):
        await store.head(GONE)
