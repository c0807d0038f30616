"""Every error that a store can raise, each once: what it means is the same in all stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model import errors as e
from durable_streams.model.commands import Append
from tests.error_samples import every_error
from tests.store_contract.conftest import PRODUCERS_BYTES
from tests.store_contract.words import (
    BINARY,
    FORK,
    JSON,
    NOWHERE,
    ROOM,
    SECOND,
    TEXT,
    append,
    beyond,
    by,
    close,
    create,
    fork,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.store import Store


async def two_epochs(store: Store) -> None:
    await append(store, b"x", producer=by(0, epoch=1))
    await append(store, b"y", producer=by(0, epoch=0))


async def twice_in_sequence(store: Store) -> None:
    await append(store, b"x", stream_seq="a")
    await append(store, b"y", stream_seq="a")


async def after_the_close(store: Store) -> None:
    await close(store)
    await append(store, b"x")


async def epoch_without_start(store: Store) -> None:
    await append(store, b"x", producer=by(0))
    await append(store, b"y", producer=by(1, epoch=1))


async def one_producer_after_the_other(store: Store) -> None:
    for number in range(PRODUCERS_BYTES):
        await append(store, b"x", producer=by(0, name=str(number)))


async def fork_beyond_the_tail(store: Store) -> None:
    await fork(store, offset=beyond((await store.head(ROOM)).tail, 1))


async def fork_of_a_deleted_stream(store: Store) -> None:
    await fork(store)
    await store.delete(ROOM)
    await fork(store, SECOND)


async def use_of_a_deleted_source(store: Store) -> None:
    await fork(store)
    await store.delete(ROOM)
    await store.open(ROOM)


async def read_behind_a_stream_that_is_no_more(store: Store) -> None:
    end = (await store.head(ROOM)).tail
    await store.delete(ROOM)
    await create(store)
    await store.read(await store.open(ROOM), end)


async def json_that_is_none(store: Store) -> None:
    await create(store, FORK, content_type=JSON)
    await append(store, b"{", FORK, content_type=JSON)


async def write_while_it_drains(store: Store) -> None:
    store.drain()
    await append(store, b"x")


async def write_after_its_end(store: Store) -> None:
    await store.close()
    await append(store, b"x")


RAISED: Final[dict[type[Exception], Callable[[Store], Awaitable[object]]]] = {
    e.InvalidRequest: lambda store: append(store, b""),
    e.InvalidOffset: fork_beyond_the_tail,
    e.InvalidJson: json_that_is_none,
    e.EpochWithoutStart: epoch_without_start,
    e.TooManyProducers: one_producer_after_the_other,
    e.PayloadTooLarge: lambda store: append(store, b"x" * (store.max_append_bytes + 1)),
    e.StreamNotFound: lambda store: store.head(NOWHERE),
    e.StreamGone: use_of_a_deleted_source,
    e.OffsetGone: read_behind_a_stream_that_is_no_more,
    e.StreamExists: lambda store: create(store, content_type=BINARY),
    e.SourceGone: fork_of_a_deleted_stream,
    e.StreamClosed: after_the_close,
    e.ContentTypeMismatch: lambda store: append(store, b"x", content_type=BINARY),
    e.SequenceConflict: twice_in_sequence,
    e.ProducerGap: lambda store: append(store, b"x", producer=by(1)),
    e.StaleEpoch: two_epochs,
    e.Draining: write_while_it_drains,
    e.NotOpen: write_after_its_end,
}
"""How every store comes to raise each of them."""

OF_TROUBLE: Final = {
    e.Unavailable,
    e.Overloaded,
    e.WriteFailed,
    e.StorageFailed,
    e.DatabaseDown,
    e.DatabaseMigrated,
    e.DatabaseReadOnly,
    e.DatabaseUnconfirmed,
    e.DiskFull,
    e.TooManyRequests,  # in test_store_quotas
    e.StreamUnusable,
    e.StreamOutOfService,
    e.StreamUnreadable,
    e.StreamDamaged,
}
"""What a store may raise when it has trouble of its own, or limits: tested beside that."""

NOT_OF_A_STORE: Final = {
    e.StreamError,
    e.Conflict,
    e.UnsupportedEncoding,
    e.UnsupportedTransferCoding,
    e.TargetTooLong,
    e.HeadersTooLarge,
    e.MethodNotAllowed,
    e.RequestTimeout,
    e.Unauthenticated,
    e.Forbidden,
    e.ForeignPage,
    e.ForeignHost,
    e.OpenedElsewhere,
    e.DataDirectoryError,
    e.DataDirectoryInUse,
    e.UnexpectedAnswer,
    e.Unreachable,
}
"""Bases, what HTTP refuses, what is wrong before there is a store, and what only clients meet."""


def test_of_every_error_it_is_known_who_raises_it() -> None:
    known = [*RAISED, *OF_TROUBLE, *NOT_OF_A_STORE]
    assert len(known) == len(set(known))
    assert set(known) == set(every_error())


@pytest.mark.parametrize("error", RAISED, ids=lambda error: error.__name__)
async def test_every_store_raises_it(store: Store, error: type[Exception]) -> None:
    await create(store, body=b"some")
    with pytest.raises(error) as raised:
        await RAISED[error](store)
    assert type(raised.value) is error
    assert str(raised.value)


async def test_an_error_is_raised_anew_for_everybody(store: Store) -> None:
    """One that is kept would keep the frames of all it was raised for."""
    await create(store, closed=True)
    found: list[e.StreamClosed] = []
    for _ in range(2):
        with pytest.raises(e.StreamClosed) as raised:
            await store.append(Append(ROOM, TEXT), b"x")
        found.append(raised.value)
    frames = []
    for error in found:
        traceback, count = error.__traceback__, 0
        while traceback is not None:
            traceback, count = traceback.tb_next, count + 1
        frames.append(count)
        assert error.__context__ is None
    assert frames[0] == frames[1]
