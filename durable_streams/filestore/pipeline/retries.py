"""Streams out of service: their records are kept in the journal, and they are tried again.

What could not be written to a stream's files is in the journal only.  Before a checkpoint frees
what has it there, it goes to the journal once more; if it is more than ``KEPT_SHARE`` allows, the
journal stays as it is, and fills.  Now and then all of it is tried again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from durable_streams.filestore.format.stored_path import stored_text
from durable_streams.filestore.pipeline.outages import KEPT_SHARE
from durable_streams.model.errors import StreamOutOfService

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.filestore.files.recovery import Kept, StreamKey
    from durable_streams.filestore.pipeline.apply import Applier
    from durable_streams.filestore.pipeline.commit import Committer
    from durable_streams.filestore.pipeline.lag import Lag
    from durable_streams.filestore.pipeline.outages import KeptOperation, Outages


class Retries:
    """Keeps the records of streams out of service, and tries again; called on the loop."""

    def __init__(
        self,
        outages: Outages,
        applier: Applier,
        committer: Committer,
        lag: Lag,
        journal_file_bytes: int,
        *,
        freed: Callable[[int], None],
    ) -> None:
        """``freed``: the journal need not keep any batch up to a number."""
        self._outages = outages
        self._applier = applier
        self._committer = committer
        self._lag = lag
        self._most_bytes = journal_file_bytes // KEPT_SHARE
        self._freed = freed
        self._turn = 0
        self.are_under_way = False

    def put_out_of_service(self, streams: Mapping[StreamKey, Kept]) -> None:
        """Streams whose files a start could not write; before anything is given to the applier."""
        for key, kept in streams.items():
            error = StreamOutOfService(stored_text(key[0]), kept.reason)
            self._outages.begin(*key, error, gone=False, last=0)
            self._outages.keep_records(key, kept.records)
        self._applier.put_out_of_service(streams)

    def begin(self, path: str, stream_id: str, reason: str, *, gone: bool) -> None:
        """A write of a stream failed; ``gone``: it has no files any more."""
        error = StreamOutOfService(stored_text(path), reason)
        self._outages.begin(path, stream_id, error, gone=gone, last=self._lag.last)

    # -- keeping ---------------------------------------------------------------------------

    def can_keep(self) -> bool:
        """Whether what streams out of service need is little enough to be written once more."""
        return self._outages.kept_bytes <= self._most_bytes

    def free(self, number: int, *, is_needed: bool) -> None:
        """A checkpoint covers every batch up to a number: free them when nothing needs them.

        If something does, it is written behind them first, if that ``is_needed``.
        """
        if not self._outages.keeps:
            self._freed(number)
        elif is_needed and self.can_keep() and self._has_settled(number):
            kept = self._outages.once_more()
            kept.when_settled(partial(self._on_kept, kept, number))
            self._committer.put_first(kept)

    def _has_settled(self, number: int) -> bool:
        """Whether nothing of streams out of service was or is written behind a batch."""
        outages = self._outages
        return outages.last <= number and not outages.concern(self._committer.writing)

    def _on_kept(self, kept: KeptOperation, number: int) -> None:
        if kept.error is None:
            self._freed(number)

    # -- trying again ----------------------------------------------------------------------

    def try_again(self) -> None:
        """Try to bring streams out of service up to date: those of which all was kept.

        Which those are only the applier knows: what is on its way to the journal may overtake this.
        """
        if self.are_under_way or not self._outages.keeps:
            return
        kept = list(self._outages.kept())
        self._turn = (self._turn + 1) % len(kept)  # not the same ones first each time
        self.are_under_way = True
        self._applier.try_again(kept[self._turn :] + kept[: self._turn], self._lag.applied)

    def tried(self) -> None:
        """The applier has tried those it was given."""
        self.are_under_way = False
