"""A producer without an event loop, which closes its stream at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams import AppendResult, Limits, SyncRemoteProducer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams import SyncRemoteStreams


def produce(streams: SyncRemoteStreams, rows: Iterable[dict[str, int]]) -> AppendResult:
    # by mistake: `limits = Limits(in_flight="1")`
    limits = Limits(in_flight=1, waiting_bytes=1 << 20)
    with streams.producer("rows", "importer", take_over=True, limits=limits) as producer:
        for row in rows:
            number: int = producer.append_json(row)
            note(producer, number)
        # by mistake: `return producer.flush()`
        return producer.close_stream(b'{"end":true}')


def note(producer: SyncRemoteProducer, number: int) -> None:
    print(producer.epoch, producer.acknowledged, "of", number)
