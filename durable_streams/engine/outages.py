"""Streams whose files cannot be written, and what the journal must not forget of them.

Such a stream is out of service until a restart, which tries again.  The records that its files
are missing are few, as it takes no more writes; they are kept here and go to the journal once more
whenever it is to be freed (:class:`KeptOperation`), so that one bad file does not stop the others.

Owned by the event loop.  A stream is known by its path and id: the one that is made at the path
of a deleted one has nothing to do with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.engine.operations import DeleteOperation, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.errors import StreamError
    from durable_streams.storage.format.journal import Record

KEPT_SHARE: Final = 4
"""One part in so many of a journal file is for kept records: beside the largest append, it fits."""


class KeptOperation(Operation):
    """Records of streams out of service, on their way to the journal once more."""

    __slots__ = ()


class Outages:
    """The streams out of service.

    ``errors``: why, by path and id.  ``last``: the last batch that may have something of theirs.
    """

    def __init__(self) -> None:
        self.errors: dict[str, dict[str, StreamError]] = {}
        self.last = 0
        self._gone: set[tuple[str, str]] = set()
        self._kept: list[Operation] = []

    def error(self, path: str, stream_id: str | None) -> StreamError | None:
        """Why a stream is out of service; of an unknown one at a path, why any one there is."""
        errors = self.errors.get(path)
        if errors is None:
            return None
        return errors.get(stream_id) if stream_id else next(iter(errors.values()))

    def begin(
        self, path: str, stream_id: str, error: StreamError, *, gone: bool, last: int
    ) -> None:
        """A write of a stream failed.

        ``gone``: it has no files any more, so nothing is kept.  ``last``: the last durable batch.
        """
        self.errors.setdefault(path, {}).setdefault(stream_id, error)
        self.last = max(self.last, last)
        if gone:
            self._gone.add((path, stream_id))

    def end(self, path: str, stream_id: str) -> None:
        """The stream was deleted all the same."""
        errors = self.errors.get(path, {})
        errors.pop(stream_id, None)
        if not errors:
            self.errors.pop(path, None)
        self._gone.discard((path, stream_id))
        self._kept = [
            kept for kept in self._kept if (kept.stream.path, kept.stream.id) != (path, stream_id)
        ]

    def concern(self, operations: Iterable[Operation]) -> bool:
        """Whether operations are of streams out of service."""
        return bool(self.errors) and any(map(self._concerns, operations))

    def _concerns(self, operation: Operation) -> bool:
        stream = operation.stream
        return stream.id in self.errors.get(stream.path, ()) and not isinstance(
            operation, KeptOperation
        )

    def durable(self, number: int, operations: Iterable[Operation]) -> None:
        """Take note of a durable batch."""
        if self.concern(operations):
            self.last = number

    def keep(self, operations: Iterable[Operation]) -> None:
        """Keep those of operations that should be in files now, and are not."""
        if self.errors:
            self._kept += [
                operation
                for operation in operations
                if self._concerns(operation)
                and (operation.stream.path, operation.stream.id) not in self._gone
            ]

    @property
    def keeps(self) -> bool:
        """Whether the journal has to be told something before it is freed."""
        return bool(self._kept)

    @property
    def kept_bytes(self) -> int:
        """At least what the kept records take in the journal."""
        return sum(operation.size_bytes for operation in self._kept)

    def once_more(self) -> KeptOperation:
        """The kept records, for the journal, in the order in which they were decided.

        They have to be all that it has of these streams: what comes before them and continues
        them would be left out by a recovery.  Of a stream whose deletion is among them, that is
        all, as anything behind a deletion brings a stream back.
        """
        deleted = {kept.stream for kept in self._kept if isinstance(kept, DeleteOperation)}
        records: list[Record] = []
        for kept in self._kept:
            if kept.stream not in deleted or isinstance(kept, DeleteOperation):
                records += kept.records
        stream = self._kept[0].stream
        last = stream.last_operation
        operation = KeptOperation(stream, records)
        stream.last_operation = last  # nobody's answer depends on it
        return operation
