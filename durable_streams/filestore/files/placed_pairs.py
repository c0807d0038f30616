"""The open files of streams, each in its place: what a write goes to is what has the name.

Before a pair is written to, it is looked at whether its names still lead to it and to nothing else;
else what it holds is put in its place, as ``identity`` says, and opened anew.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.aside import cut_files
from durable_streams.filestore.files.identity import (
    FilesLost,
    NotKept,
    is_in_place,
    losses_of,
    open_own,
)
from durable_streams.filestore.files.open_pairs import OpenPairs, Pair
from durable_streams.filestore.files.stream_files import end_before
from durable_streams.filestore.format.stored_path import stored_text, unpack_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.dirty import Dirty
    from durable_streams.filestore.files.open_pairs import Key, OpenFile
    from durable_streams.filestore.format.journal import AppendRecord

log = logging.getLogger("durable_streams.filestore.files")


class PlacedPairs(OpenPairs):
    """The pairs of a data directory; what was lost of one is told by :meth:`strayed`."""

    def __init__(
        self, directory: DataDirectory, dirty: Dirty, max_pairs: int, *, trim: bool
    ) -> None:
        """``trim``: move aside what lies beyond the place of a write."""
        super().__init__(directory.disk, max_pairs)
        self._directory = directory
        self._streams = str(directory.streams)
        self._tmp = str(directory.tmp)
        self._dirty_set = dirty
        self._trim = trim
        self._lost: list[tuple[Key, str]] = []  # found while they were put away

    def to_write(self, first: AppendRecord) -> Pair:
        """The open files that a record goes to."""
        key = (first.path, first.id, first.segment)
        pair = self.get(key)
        if pair is not None:
            if self._is_ours(pair):
                return pair
            self.put_in_place(pair)
        self._directory.check_place()
        while in_the_way := self.in_the_way():
            self._put_away(in_the_way)
        if not first.index_position:
            directory = self._directory.home_of(first.path)
            sealed = end_before(first)
            if sealed.index_position:
                # Nothing may be left behind the end of the segment that this one seals.
                cut_files(self._directory, directory, first.id, sealed)
            self._dirty_set.note(directory)
        segment, index = names.files_of(unpack_path(first.path), first.segment, first.id)
        segment_file = self._open(segment, first.position)
        try:
            index_file = self._open(index, first.index_position)
        except BaseException:
            self._disk.close(segment_file.fd)
            raise
        pair = Pair(key, segment_file, index_file)
        self.add(pair)
        return pair

    def _open(self, name: str, size: int) -> OpenFile:
        file = f"{self._streams}/{name}"
        return open_own(self._directory, self._dirty_set, file, size, trim=self._trim)

    def _is_ours(self, pair: Pair) -> bool:
        """Whether nobody has replaced the files, or given them another name (a backup)."""
        return is_in_place(self._disk, pair.segment) and is_in_place(self._disk, pair.index)

    def put_in_place(self, pair: Pair) -> None:
        """Have what was written at the files' names, to be opened anew.

        Where the system refuses that they stay open, as nobody else has what they hold; of
        :class:`NotKept`, aside from those in use.
        """
        losses = self._losses_of(pair)
        if any(isinstance(lost, NotKept) for lost in losses):
            self.keep_homeless(pair)
        else:
            self.drop(pair)
        for lost in losses:
            raise lost

    def _losses_of(self, pair: Pair) -> list[FilesLost]:
        """Have what was written at the files' names; why those are lost where that is not right."""
        self._directory.check_place()
        self._dirty_set.note(whole_files.parent_of(pair.segment.path), self._tmp)
        return losses_of(self._directory, pair)

    def close_most(self) -> bool:
        """There are no more descriptors: close what is only kept open; whether there was any."""
        pairs = self.give_back()
        for pair in pairs:
            self._put_away(pair)
        return bool(pairs)

    def _put_away(self, pair: Pair) -> None:
        """Close a pair, as others are to be opened; what was lost of it is told by the next look.

        Where what it holds has no place, it stays open aside from those in use.
        """
        try:
            if not pair.dirty or self._is_ours(pair):
                self.drop(pair)
            else:
                self.put_in_place(pair)
        except FilesLost as error:
            self._lost.append((pair.key, str(error)))
        except OSError:
            self.keep_homeless(pair)

    def forget_stream(self, path: str, stream_id: str) -> None:
        """Let go of a stream's open files: somebody else writes to them.

        What was written to them has yet to be synced, whoever writes there next.  ``OSError`` or
        :class:`FilesLost` where it cannot be had at the files' names, see :meth:`put_in_place`.
        """
        for pair in self.of(path, stream_id):
            if self._is_ours(pair):
                self.drop(pair)
            else:
                self.put_in_place(pair)

    def strayed(self) -> Iterator[tuple[Key, str]]:
        """Let go of files that are not at their names, before a sync; what was lost, and why.

        What is written to once more after this is looked at again by then.  ``OSError`` where
        there is no place for what a file holds: it stays open, as nobody else has that.
        """
        while self._lost:
            yield self._lost.pop()
        for pair in list(self.homeless):
            with suppress(OSError):
                self._try_to_keep(pair)
        for pair in self.dirty():
            with suppress(OSError):  # what cannot be looked at is not as it was
                if self._is_ours(pair):
                    continue
            try:
                self.put_in_place(pair)
            except FilesLost as error:
                yield pair.key, str(error)

    def _try_to_keep(self, pair: Pair) -> None:
        """See whether what a homeless pair holds can be put somewhere by now."""
        losses = self._losses_of(pair)
        if not any(isinstance(lost, NotKept) for lost in losses):
            self.let_homeless_go(pair)
            what = "; ".join(map(str, losses)) or "its files have again what was written to them"
            log.warning("stream %s: %s", stored_text(pair.key[0]), what)
