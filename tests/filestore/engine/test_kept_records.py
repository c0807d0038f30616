"""Outages: which streams are out of service, and what is kept of each for the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.format.journal import SidecarRecord
from durable_streams.filestore.pipeline.operations import size_of
from durable_streams.filestore.pipeline.outages import KeptOperation, Outages
from durable_streams.model.errors import StreamOutOfService
from tests.filestore.engine.by_hand import Noted, stream
from tests.filestore.files.history import ID, OTHER_ID, History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_streams.filestore.format.journal import Record

KEY = ("s", ID)


@pytest.fixture
def outages() -> Outages:
    return Outages()


def begin(outages: Outages, *, gone: bool = False, last: int = 0, stream_id: str = ID) -> None:
    outages.begin("s", stream_id, StreamOutOfService("s", "it failed"), gone=gone, last=last)


def operation(*records: Record, path: str = "s", stream_id: str = ID) -> Noted:
    return Noted("", stream(path, stream_id), [], records)


def kept(outages: Outages) -> Sequence[Record]:
    return outages.once_more().records


def test_nothing_is_kept_of_streams_in_service(outages: Outages) -> None:
    outages.keep([operation(History().create(b"one."))])
    assert not outages.keeps
    assert outages.kept_bytes == 0
    begin(outages)
    outages.keep([operation(History("t").create(b"one."), path="t")])
    assert not outages.keeps


def test_what_the_files_miss_is_kept_in_order(outages: Outages) -> None:
    history = History()
    records: list[Record] = [history.create(b"one.")]
    records += [history.append(b"two."), history.append(b"three.")]
    begin(outages)
    outages.keep([operation(record) for record in records])
    assert kept(outages) == records
    assert outages.kept_bytes == sum(map(size_of, records))
    outages.end(*KEY)
    assert not outages.keeps
    assert outages.kept_bytes == 0
    assert outages.errors == {}


def test_of_versions_of_a_sidecar_in_a_row_the_last_is_kept(outages: Outages) -> None:
    history = History()
    begin(outages)
    first = history.append(b"one.")
    versions = [history.change(last_use_ms=number) for number in range(3)]
    between = history.append(b"two.")
    last = history.change(last_use_ms=9)
    records: list[Record] = [first, *versions, between, last]
    outages.keep([operation(record) for record in records])
    assert kept(outages) == [first, versions[-1], between, last]
    assert [type(record) for record in kept(outages)].count(SidecarRecord) == 2
    assert outages.kept_bytes == sum(map(size_of, kept(outages)))


def test_of_a_stream_that_is_to_be_deleted_its_deletion_is_kept_for_the_journal(
    outages: Outages,
) -> None:
    """Anything behind a deletion would bring the stream back."""
    history = History()
    begin(outages)
    outages.keep([operation(history.append(b"one.")), operation(history.delete())])
    assert kept(outages) == [history.delete()]


def test_of_a_stream_without_files_nothing_is_kept(outages: Outages) -> None:
    begin(outages, gone=True)
    outages.keep([operation(History().append(b"one."))])
    assert not outages.keeps
    outages.end(*KEY)
    begin(outages)  # by now it has some again
    outages.keep([operation(History().append(b"one."))])
    assert outages.keeps


def test_another_stream_at_the_path_is_in_service(outages: Outages) -> None:
    begin(outages)
    other = operation(History("s", OTHER_ID).append(b"one."), stream_id=OTHER_ID)
    assert not outages.concern([other])
    outages.keep([other])
    assert not outages.keeps
    assert outages.error(("s",), OTHER_ID) is None
    assert outages.error(("t",), None) is None
    assert isinstance(outages.error(("s",), ID), StreamOutOfService)
    assert outages.error(("s",), None) is outages.error(("s",), ID)  # whichever there is


def test_the_first_reason_counts(outages: Outages) -> None:
    first, second = StreamOutOfService("s", "first"), StreamOutOfService("s", "second")
    for error in (first, second):
        outages.begin(*KEY, error, gone=False, last=0)
    assert outages.error(("s",), ID) is first


def test_the_last_batch_with_something_of_theirs_is_known(outages: Outages) -> None:
    mine = operation(History().append(b"one."))
    outages.durable(3, [mine])
    assert outages.last == 0
    begin(outages, last=4)
    begin(outages, last=2, stream_id=OTHER_ID)
    assert outages.last == 4
    outages.durable(5, [operation(History("t").create(), path="t")])
    assert outages.last == 4
    outages.durable(6, [mine])
    assert outages.last == 6


def test_what_is_written_once_more_concerns_nobody(outages: Outages) -> None:
    """Or else the journal would have to be told of that as well, and so on."""
    begin(outages)
    outages.keep([operation(History().append(b"one."))])
    again = outages.once_more()
    assert isinstance(again, KeptOperation)
    assert not outages.concern([again])
    outages.keep([again])
    assert len(kept(outages)) == 1
