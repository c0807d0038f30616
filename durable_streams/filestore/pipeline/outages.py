"""Streams whose files cannot be read or written, and what the journal must not forget of them.

Such a stream is out of service until its files can be written again, which is tried now and then,
or until a restart.  The records that its files are missing are few, as it takes no more writes;
they are kept here and go to the journal once more whenever it is to be freed
(:class:`KeptOperation`), so that one bad file does not stop the others.

Owned by the event loop.  A stream is known by its path and id: the one that is made at the path
of a deleted one has nothing to do with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from durable_streams.filestore.format.journal import DeleteRecord, SidecarRecord
from durable_streams.filestore.format.stored_path import unpack_path
from durable_streams.filestore.pipeline.operations import Operation, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from durable_streams.filestore.files.recovery import StreamKey
    from durable_streams.filestore.format.journal import Record
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.model.errors import StreamError
    from durable_streams.model.paths import StreamPath

KEPT_SHARE: Final = 4
"""One part in so many of a journal file is for kept records: beside the largest append, it fits."""


class _NoStream:
    """What an operation is of that is of no stream: nobody's answer depends on it."""

    last_operation: Operation | None = None


class KeptOperation(Operation):
    """Records of streams out of service, on their way to the journal once more."""

    __slots__ = ()

    def __init__(self, records: Sequence[Record]) -> None:
        super().__init__(cast("Stream", _NoStream()), records)


class Outages:
    """The streams out of service.

    ``errors``: why, by path and id; elsewhere paths are as records hold them.  ``last``: the last
    batch that may have something of theirs.
    """

    def __init__(self) -> None:
        self.errors: dict[StreamPath, dict[str, StreamError]] = {}
        self.last = 0
        self._gone: set[StreamKey] = set()
        self._kept: dict[StreamKey, list[Record]] = {}
        self.kept_bytes = 0

    def error(self, path: StreamPath, stream_id: str | None) -> StreamError | None:
        """Why a stream is out of service; of an unknown one at a path, why any one there is."""
        errors = self.errors.get(path) if self.errors else None
        if errors is None:
            return None
        return errors.get(stream_id) if stream_id else next(iter(errors.values()))

    def begin(
        self, path: str, stream_id: str, error: StreamError, *, gone: bool, last: int
    ) -> None:
        """A write of a stream failed.

        ``gone``: it has no files any more, so nothing is kept.  ``last``: the last durable batch.
        """
        self.errors.setdefault(unpack_path(path), {}).setdefault(stream_id, error)
        self.last = max(self.last, last)
        if gone:
            self._gone.add((path, stream_id))

    def end(self, path: str, stream_id: str) -> None:
        """The stream was deleted all the same, or its files have all that was kept."""
        errors = self.errors.get(unpack_path(path), {})
        errors.pop(stream_id, None)
        if not errors:
            self.errors.pop(unpack_path(path), None)
        self._gone.discard((path, stream_id))
        self.kept_bytes -= sum(map(size_of, self._kept.pop((path, stream_id), ())))

    def concern(self, operations: Iterable[Operation]) -> bool:
        """Whether operations are of streams out of service."""
        return bool(self.errors) and any(map(self._concerns, operations))

    def _concerns(self, operation: Operation) -> bool:
        if isinstance(operation, KeptOperation):
            return False
        return operation.stream.id in self.errors.get(operation.stream.path, ())

    def durable(self, number: int, operations: Iterable[Operation]) -> None:
        """Take note of a durable batch."""
        if self.concern(operations):
            self.last = number

    def keep(self, operations: Iterable[Operation]) -> None:
        """Keep those of operations that should be in files now, and are not."""
        if not self.errors:
            return
        for operation in operations:
            if self._concerns(operation):
                key = (operation.stream.stored, operation.stream.id)
                if key not in self._gone:
                    self.keep_records(key, operation.records)

    def keep_records(self, key: StreamKey, records: Sequence[Record]) -> None:
        """Keep records of a stream that is out of service.

        Of versions of its sidecar in a row the last: somebody who follows it makes ever more.
        """
        kept = self._kept.setdefault(key, [])
        for record in records:
            if isinstance(record, SidecarRecord) and kept and isinstance(kept[-1], SidecarRecord):
                self.kept_bytes -= size_of(kept.pop())
            kept.append(record)
            self.kept_bytes += size_of(record)

    @property
    def keeps(self) -> bool:
        """Whether the journal has to be told something before it is freed."""
        return bool(self._kept)

    def kept(self) -> Iterator[tuple[StreamKey, list[Record]]]:
        """What the files of each stream are missing, in the order in which it was decided.

        What is kept of a stream has to be all that the journal has of it behind what is in its
        files: a recovery would leave out what does not continue.  Of a stream whose deletion is
        among it, that is all, as anything behind a deletion brings a stream back.
        """
        for key, records in self._kept.items():
            deletions: list[Record] = [r for r in records if isinstance(r, DeleteRecord)]
            yield key, deletions or list(records)

    def once_more(self) -> KeptOperation:
        """The kept records, for the journal."""
        return KeptOperation([record for _, records in self.kept() for record in records])
