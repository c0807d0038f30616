"""Writing streams' directories: what was acknowledged goes to its files, and becomes durable.

One thread uses a :class:`StreamWriter` (recovery before the loop serves, the applier after).
Every write puts bytes that a journal record holds at a place that the record names, so doing it
twice changes nothing.  Nothing is durable before what :meth:`StreamWriter.take_dirty` gives is
synced.

No file with more than one name gets other bytes: it is copied and replaced first.  What lies in a
file beyond the place to be written was torn or belongs to another age: it is moved to ``aside/``.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.aside import cut_files, move_aside, move_to_trash
from durable_streams.filestore.files.dirty import Dirty
from durable_streams.filestore.files.fork_marks import pack_mark
from durable_streams.filestore.files.identity import FilesLost, has_a_name
from durable_streams.filestore.files.index_files import line_behind
from durable_streams.filestore.files.new_files import NewFiles
from durable_streams.filestore.files.placed_pairs import PlacedPairs
from durable_streams.filestore.files.stream_files import DamagedFiles, load_sidecar, owners_of
from durable_streams.filestore.format.index import segment_of
from durable_streams.filestore.format.index_lines import Appended, Damaged
from durable_streams.filestore.format.journal import AppendRecord, SidecarRecord
from durable_streams.filestore.format.stored_path import unpack_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.open_pairs import Key
    from durable_streams.filestore.format.index import Tail
    from durable_streams.filestore.format.journal import (
        AdoptRecord,
        CreateRecord,
        DeleteRecord,
        ForkRecord,
    )
    from durable_streams.filestore.format.sidecar import Sidecar

log = logging.getLogger("durable_streams.filestore.files")


class StreamWriter:
    """Applies journal records to the streams' directories."""

    def __init__(
        self,
        directory: DataDirectory,
        max_files: int,
        *,
        trim: bool = True,
        journaled: bool = True,
    ) -> None:
        """``max_files`` bounds the open descriptors (a moment's two more are possible).

        ``trim``: move aside what lies beyond the place of a write.

        ``journaled``: the journal is durable before anything is written here, so that a torn
        sidecar can be taken from it.
        """
        self._directory = directory
        self._disk = directory.disk
        self._streams = str(directory.streams)
        self._tmp = str(directory.tmp)
        self._trash = str(directory.trash)
        self._journaled = journaled
        self._dirty = dirty = Dirty()
        max_new = max_files // 4
        self._new_files = NewFiles(self._disk, dirty, self._tmp, max_new, journaled=journaled)
        self._pairs = PlacedPairs(directory, dirty, max(1, (max_files - max_new) // 2), trim=trim)

    # -- records ---------------------------------------------------------------------------

    def create(self, record: CreateRecord) -> None:
        """Make a stream's directory, whole, by one rename.

        Where it is there already (the journal is read again after a crash), what a power cut may
        have taken out of it is written again.  What others left at the path is moved to ``aside/``.
        """
        self._directory.check_place()
        target = self._directory.home_of(record.path)
        if self._disk.is_directory(target):
            if not self._is_left_by_others(target, record.id):
                self._restore(record, target)
                return
            # Among the files of a stream without its sidecar nobody could tell whose any are.
            move_aside(self._directory, target)
        born = f"{self._tmp}/{record.id}"
        try:
            self._disk.make_directory(born)
        except FileExistsError:  # an earlier try did not get further
            whole_files.remove_tree(self._disk, born)
            self._disk.make_directory(born)
        self._new_files.write(f"{born}/{names.SIDECAR}", record.sidecar)
        if record.index:
            first = segment_of(record.index)
            segment, index = (
                names.segment_file(first, record.id),
                names.index_file(first, record.id),
            )
            self._new_files.write(f"{born}/{segment}", record.data)
            self._new_files.write(f"{born}/{index}", record.index)
        self._dirty.note(born)
        self._move_in(born, target)

    def _restore(self, record: CreateRecord, target: str) -> None:
        if not self._new_files.has(f"{target}/{names.SIDECAR}", record.sidecar):
            sidecar = self._readable_sidecar(target)
            if sidecar is not None and sidecar.id != record.id:
                raise FilesLost(f"{target} belongs to another stream")
            if sidecar is None or sidecar.version == 1:
                self._put_sidecar(record.id, target, record.sidecar)
        if record.index:
            at = segment_of(record.index)
            first = AppendRecord(record.path, record.id, at, 0, 0, b"", record.index, record.data)
            if not self.holds(first):
                self.append(first, record.data, record.index)

    def adopt(self, record: AdoptRecord) -> None:
        """Rename a fork that was built, durably, in ``tmp/`` into place."""
        self._directory.check_place()
        target = self._directory.home_of(record.path)
        if self._disk.is_directory(target):
            if self._was_adopted(target, record.id):
                return
            # What is left of a stream that was never durable: it has lost its sidecar.
            move_aside(self._directory, target)
        # The journal does not hold the fork's bytes: the way to it has to last before it goes.
        # All of it: what was there already may have been made a moment ago, for another stream.
        above = whole_files.parent_of(target)
        whole_files.make_directories(self._disk, above, self._streams)
        while above != self._streams:
            above = whole_files.parent_of(above)
            self._disk.sync_directory(above)
        self._move_in(f"{self._tmp}/{record.id}", target)

    def _was_adopted(self, target: str, stream_id: str) -> bool:
        try:
            sidecar = load_sidecar(self._disk, target)
        except DamagedFiles:  # torn when it was replaced: the other files tell
            return self._is_of(target, stream_id)
        if sidecar is not None and sidecar.id != stream_id:
            raise FilesLost(f"{target} belongs to another stream")
        return sidecar is not None

    def _move_in(self, born: str, target: str) -> None:
        parent = whole_files.parent_of(target)
        changed = whole_files.make_directories(self._disk, parent, self._streams)
        self._disk.rename(born, target)
        self._dirty.directories.discard(born)
        self._dirty.note(*changed, target, parent, self._tmp)

    def fork(self, record: ForkRecord) -> None:
        """Let a stream know of a fork; nothing happens if the stream is gone."""
        self._directory.check_place()
        home = self._directory.home_of(record.path)
        if not (self._disk.is_directory(home) and self._is_of(home, record.id)):
            return
        forks = f"{home}/{names.forks_of(record.id)}"
        if not self._disk.is_directory(forks):
            with suppress(FileExistsError):  # for the forks that version 0.1 wrote down, just now
                self._disk.make_directory(forks)
            self._dirty.note(home)
        data = pack_mark(record.fork_id, record.fork_path)
        self._new_files.put(forks, record.fork_id, data, f"{record.fork_id}.mark")

    def append(self, first: AppendRecord, data: bytes, index: bytes) -> None:
        """Write bytes to a segment, then their lines to its index, from ``first``'s place on."""
        pair = self._pairs.to_write(first)
        if data:
            self._disk.pwrite(pair.segment.fd, data, first.position)
        self._disk.pwrite(pair.index.fd, index, first.index_position)
        pair.dirty = True
        if not (has_a_name(self._disk, pair.segment) and has_a_name(self._disk, pair.index)):
            self._pairs.put_in_place(
                pair
            )  # replaced since it was looked at: what was written has to follow

    def holds(self, record: AppendRecord) -> bool:
        """Whether the files have a record's bytes at their places; they are written again.

        A sync that failed may have left them in memory only, from where no other one brings them
        to the disk.  If they are there, this harms nothing, and other names of the files have the
        same bytes as before.  ``OSError`` where that is refused, or needs room: nobody knows then.
        """
        segment, index = names.files_of(unpack_path(record.path), record.segment, record.id)
        return self._has_bytes(index, record.index, record.index_position) and self._has_bytes(
            segment, record.data, record.position
        )

    def _has_bytes(self, name: str, data: bytes, position: int) -> bool:
        path = f"{self._streams}/{name}"
        if self._disk.status(path) is None:
            return False
        fd = self._disk.open_write(path)
        try:
            if self._disk.pread(fd, len(data), position) != data:
                return False
            self._disk.pwrite(fd, data, position)
        finally:
            self._disk.close(fd)
        return True

    def has_line(self, record: AppendRecord) -> bool:
        """Whether the index has a record's line already, behind others."""
        if not record.index_position:
            return False
        fd = self._pairs.to_write(record).index.fd
        return self._disk.pread(fd, len(record.index), record.index_position) == record.index

    def trim(self, path: str, stream_id: str, end: Tail) -> None:
        """Cut a segment's files behind a line, unless what follows continues it."""
        directory = self._directory.home_of(path)
        index = f"{directory}/{names.index_file(end.segment, stream_id)}"
        status = self._disk.status(index)
        if status is None:
            return
        if status.size_bytes > end.index_position:
            found = line_behind(self._disk, index, end)
            if isinstance(found, Appended):
                return
            if isinstance(found, Damaged):
                at = end.index_position
                log.warning("%s: what follows byte %d does not continue it", index, at)
        cut_files(self._directory, directory, stream_id, end)

    def replace_sidecar(self, record: SidecarRecord) -> None:
        """Replace a sidecar by a higher version; a lower one changes nothing.

        The same version is written again: it may be torn where it does not show.
        """
        self._directory.check_place()
        target = self._directory.home_of(record.path)
        try:
            present = load_sidecar(self._disk, target)
        except DamagedFiles as error:
            if not self._journaled:
                return  # no sidecar was ever replaced by one that was not durable
            log.warning("%s: replaced from the journal", error)
        else:
            if present is None and self._disk.is_directory(target):
                raise FilesLost(f"{target}/{names.SIDECAR} was removed")
            if present is None or present.id != record.id or present.version > record.version:
                return
        self._put_sidecar(record.id, target, record.sidecar)

    def mend_sidecar(self, record: SidecarRecord) -> None:
        """Put a sidecar in the place of an unreadable one that is known to be of the same stream.

        Where the journal is not ``journaled``, too: what a power cut tore before, under another
        setting, may not have been mended yet.
        """
        self._directory.check_place()
        target = self._directory.home_of(record.path)
        log.warning("%s/%s: replaced from the journal", target, names.SIDECAR)
        self._put_sidecar(record.id, target, record.sidecar)

    def _put_sidecar(self, stream_id: str, target: str, data: bytes) -> None:
        self._new_files.put(target, names.SIDECAR, data, f"{stream_id}.{names.SIDECAR}")

    def delete(self, record: DeleteRecord, *, keep: bool = False) -> None:
        """Move a stream's directory to ``trash/<id>`` and drop namespaces that became empty.

        All of it, also while somebody has taken files out of it: what is put back afterwards finds
        no place.  Unless its files are to be kept (``keep``), it is removed where it cannot be
        moved.
        """
        self._directory.check_place()
        source = self._directory.home_of(record.path)
        self._pairs.drop_deleted(record.path, record.id)
        if not self._is_of(source, record.id):
            return
        move_to_trash(
            self._directory,
            source,
            f"{self._trash}/{record.id}",
            keep=keep,
            journaled=self._journaled,
        )
        parent = whole_files.parent_of(source)
        dirty = self._dirty
        dirty.note(parent, self._trash)
        dirty.directories.discard(source)
        while parent != self._streams and not self._disk.some_names(parent, 1):
            self._disk.remove_directory(parent)
            dirty.directories.discard(parent)
            parent = whole_files.parent_of(parent)
            dirty.note(parent)

    def _is_of(self, directory: str, stream_id: str) -> bool:
        """Whether a directory is a stream's, even if its sidecar is torn, or away just now."""
        sidecar = self._readable_sidecar(directory)
        if sidecar is not None:
            return sidecar.id == stream_id
        # Earlier versions made streams among what others had left: one of its own is enough.
        owners = owners_of(self._disk, directory)
        return stream_id in owners or (not owners and self._disk.is_directory(directory))

    def _is_left_by_others(self, directory: str, stream_id: str) -> bool:
        """Whether only segments of other streams tell whose a directory was."""
        if self._readable_sidecar(directory) is not None:
            return False
        owners = owners_of(self._disk, directory)
        return bool(owners) and stream_id not in owners

    def _readable_sidecar(self, directory: str) -> Sidecar | None:
        try:
            return load_sidecar(self._disk, directory)
        except DamagedFiles:
            return None

    # -- files that are open ---------------------------------------------------------------

    def forget(self, path: str, stream_id: str) -> None:
        """Let go of a stream's open files, see :meth:`PlacedPairs.forget_stream`."""
        self._pairs.forget_stream(path, stream_id)

    def strayed(self) -> Iterator[tuple[Key, str]]:
        """Let go of files that are not at their names, see :meth:`PlacedPairs.strayed`."""
        return self._pairs.strayed()

    @property
    def has_homeless(self) -> bool:
        """Whether open files have what is nowhere else, but for the journal; for any thread."""
        return bool(self._pairs.homeless)

    @property
    def holds_files(self) -> bool:
        """Whether a checkpoint has to be done with files until they can be given back."""
        return self._new_files.are_taken or self._pairs.are_taken

    def give_back(self) -> bool:
        """There are no more descriptors: close what is only kept open; whether there was any."""
        had_files = self._new_files.give_back()
        return self._pairs.close_most() or had_files

    # -- checkpoints -----------------------------------------------------------------------

    def sync_everything(self) -> None:
        """Have the next checkpoint sync the file system, so that it needs no open file."""
        self._dirty.note_everything()

    def take_dirty(self) -> Dirty:
        """Everything not durable yet; hand it to :func:`sync_dirty`, then to :meth:`synced`."""
        dirty = self._dirty.take()
        dirty.pairs, overflowed = self._pairs.take_dirty()
        dirty.everything = dirty.everything or overflowed
        self._new_files.taken(dirty.files)
        return dirty

    def synced(self, dirty: Dirty) -> None:
        """A dirty set was synced: let go of what only waited for it."""
        self._new_files.synced(dirty.files)
        self._pairs.synced(dirty.pairs)

    def close(self) -> None:
        """Close all files; whatever is dirty stays so."""
        self._pairs.close()
        self._new_files.close()
