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

from durable_streams.filestore.files import disk as disks
from durable_streams.filestore.files import names
from durable_streams.filestore.files.aside import (
    cut_files,
    move_aside,
    move_to_trash,
)
from durable_streams.filestore.files.dirty import Dirty
from durable_streams.filestore.files.fork_marks import pack_mark
from durable_streams.filestore.files.identity import (
    FilesLost,
    NotKept,
    has_a_name,
    is_in_place,
    losses_of,
    open_own,
)
from durable_streams.filestore.files.open_pairs import Key, OpenFile, OpenPairs, Pair
from durable_streams.filestore.files.stream_files import DamagedFiles, end_before, load_sidecar
from durable_streams.filestore.format.index import BadLine, unpack_line
from durable_streams.filestore.format.journal import AppendRecord, SidecarRecord
from durable_streams.filestore.format.stored_path import stored_text, unpack_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.format.index import Tail
    from durable_streams.filestore.format.journal import (
        AdoptRecord,
        CreateRecord,
        DeleteRecord,
        ForkRecord,
    )

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
        self._max_new = max_files // 4
        self._trim = trim
        self._journaled = journaled
        self._pairs = OpenPairs(self._disk, max(1, (max_files - self._max_new) // 2))
        self._dirty = Dirty()
        self._lost: list[tuple[Key, str]] = []  # found while they were put away
        self._waiting_files = 0  # new ones that are open for a checkpoint under way

    # -- records ---------------------------------------------------------------------------

    def create(self, record: CreateRecord) -> None:
        """Make a stream's directory, whole, by one rename.

        Where it is there already (the journal is read again after a crash), what a power cut may
        have taken out of it is written again.
        """
        self._directory.check_place()
        target = self._directory.home_of(record.path)
        if self._disk.is_directory(target):
            self._restore(record, target)
            return
        born = f"{self._tmp}/{record.id}"
        try:
            self._disk.make_directory(born)
        except FileExistsError:  # an earlier try did not get further
            disks.remove_tree(self._disk, born)
            self._disk.make_directory(born)
        self._write_new(f"{born}/{names.SIDECAR}", record.sidecar)
        if record.index:
            self._write_new(f"{born}/{names.segment_file(0, record.id)}", record.data)
            self._write_new(f"{born}/{names.index_file(0, record.id)}", record.index)
        self._dirty.note(born)
        self._move_in(born, target)

    def _restore(self, record: CreateRecord, target: str) -> None:
        if not self._has_file(f"{target}/{names.SIDECAR}", record.sidecar):
            try:
                sidecar = load_sidecar(self._disk, target)
            except DamagedFiles:
                sidecar = None
            if sidecar is not None and sidecar.id != record.id:
                raise FilesLost(f"{target} belongs to another stream")
            if sidecar is None or sidecar.version == 1:
                self._put_sidecar(record.id, target, record.sidecar)
        if record.index:
            first = AppendRecord(record.path, record.id, 0, 0, 0, b"", record.index, record.data)
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
        above = disks.parent_of(target)
        disks.make_directories(self._disk, above, self._streams)
        while above != self._streams:
            above = disks.parent_of(above)
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
        parent = disks.parent_of(target)
        changed = disks.make_directories(self._disk, parent, self._streams)
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
        self._put(forks, record.fork_id, data, f"{record.fork_id}.mark")

    def append(self, first: AppendRecord, data: bytes, index: bytes) -> None:
        """Write bytes to a segment, then their lines to its index, from ``first``'s place on."""
        pair = self._pair(first)
        if data:
            self._disk.pwrite(pair.segment.fd, data, first.position)
        self._disk.pwrite(pair.index.fd, index, first.index_position)
        pair.dirty = True
        if not (has_a_name(self._disk, pair.segment) and has_a_name(self._disk, pair.index)):
            self._let_go(pair)  # replaced since it was looked at: what was written has to follow

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
        fd = self._pair(record).index.fd
        return self._disk.pread(fd, len(record.index), record.index_position) == record.index

    def trim(self, path: str, stream_id: str, end: Tail) -> None:
        """Cut a segment's files behind a line, unless what follows continues it."""
        directory = self._directory.home_of(path)
        index = f"{directory}/{names.index_file(end.segment, stream_id)}"
        status = self._disk.status(index)
        if status is None:
            return
        if status.size_bytes > end.index_position:
            text = disks.read_file(self._disk, index) or b""
            rest, newline, _ = text[end.index_position :].partition(b"\n")
            try:
                if newline:
                    unpack_line(rest, end.chain)
                    return
            except BadLine:
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

    def _put_sidecar(self, stream_id: str, target: str, data: bytes) -> None:
        self._put(target, names.SIDECAR, data, f"{stream_id}.{names.SIDECAR}")

    def _has_file(self, path: str, data: bytes) -> bool:
        """Whether a file is there byte for byte; the next checkpoint makes it durable.

        It is written again, as in :meth:`holds`.
        """
        if disks.read_file(self._disk, path) != data:
            return False
        fd = self._disk.open_write(path)
        try:
            self._disk.pwrite(fd, data, 0)
        except BaseException:
            self._disk.close(fd)
            raise
        self._keep_open(fd)
        return True

    def _put(self, directory: str, name: str, data: bytes, fresh_name: str) -> None:
        """Have a small file in a directory, whole at every moment."""
        if self._has_file(f"{directory}/{name}", data):
            return
        fresh = f"{self._tmp}/{fresh_name}"
        if self._journaled:
            self._write_new(fresh, data)
        else:
            disks.write_file(self._disk, fresh, data, sync=True)
        self._disk.rename(fresh, f"{directory}/{name}")
        self._dirty.note(directory, self._tmp)

    def delete(self, record: DeleteRecord, *, keep: bool = False) -> None:
        """Move a stream's directory to ``trash/<id>`` and drop namespaces that became empty.

        Unless its files are to be kept (``keep``), it is removed where it cannot be moved.
        """
        self._directory.check_place()
        source = self._directory.home_of(record.path)
        self._pairs.drop_homeless(record.path, record.id)
        if not self._is_of(source, record.id):
            return
        self._pairs.drop_deleted(record.path, record.id)
        move_to_trash(self._directory, source, f"{self._trash}/{record.id}", keep=keep)
        parent = disks.parent_of(source)
        dirty = self._dirty
        dirty.note(parent, self._trash)
        dirty.directories.discard(source)
        while parent != self._streams and not self._disk.some_names(parent, 1):
            self._disk.remove_directory(parent)
            dirty.directories.discard(parent)
            parent = disks.parent_of(parent)
            dirty.note(parent)

    def _is_of(self, directory: str, stream_id: str) -> bool:
        """Whether a directory is a stream's, even if its sidecar was lost in a power cut."""
        try:
            sidecar = load_sidecar(self._disk, directory)
        except DamagedFiles:
            sidecar = None
        if sidecar is not None:
            return sidecar.id == stream_id
        files = map(names.parse_file, self._disk.names(directory))
        return self._disk.is_directory(directory) and all(
            file is None or file[1] == stream_id for file in files
        )

    # -- files -----------------------------------------------------------------------------

    def _write_new(self, path: str, data: bytes) -> None:
        fd = self._disk.open_write(path)
        try:
            self._disk.pwrite(fd, data, 0)
            if self._disk.file_status(fd).size_bytes > len(data):
                self._disk.truncate(fd, len(data))
        except BaseException:
            self._disk.close(fd)
            raise
        self._keep_open(fd)

    def _keep_open(self, fd: int) -> None:
        """Have a file synced by the next checkpoint."""
        dirty = self._dirty
        if len(dirty.files) + self._waiting_files >= self._max_new:
            dirty.note_everything()
        if dirty.everything:
            self._disk.close(fd)
        else:
            dirty.files.append(fd)

    def give_back(self) -> bool:
        """There are no more descriptors: close what is only kept open; whether there was any."""
        had_files, self._dirty.files = self._dirty.files, []
        for fd in had_files:
            self._disk.close(fd)
        if had_files:
            self._dirty.note_everything()
        self._max_new //= 2
        pairs = self._pairs.give_back()
        for pair in pairs:
            self._put_away(pair)
        return bool(pairs or had_files)

    def _put_away(self, pair: Pair) -> None:
        """Close a pair, as others are to be opened; what was lost of it is told by the next look.

        Where what it holds has no place, it stays open aside from those in use.
        """
        try:
            if not pair.dirty or self._is_ours(pair):
                self._pairs.drop(pair)
            else:
                self._let_go(pair)
        except FilesLost as error:
            self._lost.append((pair.key, str(error)))
        except OSError:
            self._pairs.keep_homeless(pair)

    def _pair(self, first: AppendRecord) -> Pair:
        """The open files that a record goes to."""
        key = (first.path, first.id, first.segment)
        pair = self._pairs.get(key)
        if pair is not None:
            if self._is_ours(pair):
                return pair
            self._let_go(pair)
        self._directory.check_place()
        while in_the_way := self._pairs.in_the_way():
            self._put_away(in_the_way)
        if not first.index_position:
            directory = self._directory.home_of(first.path)
            if first.segment:
                # Nothing may be left behind the end of the segment that this one seals.
                cut_files(self._directory, directory, first.id, end_before(first))
            self._dirty.note(directory)
        segment, index = names.files_of(unpack_path(first.path), first.segment, first.id)
        segment_file = self._open(segment, first.position)
        try:
            index_file = self._open(index, first.index_position)
        except BaseException:
            self._disk.close(segment_file.fd)
            raise
        pair = Pair(key, segment_file, index_file)
        self._pairs.add(pair)
        return pair

    def _is_ours(self, pair: Pair) -> bool:
        """Whether nobody has replaced the files, or given them another name (a backup)."""
        return is_in_place(self._disk, pair.segment) and is_in_place(self._disk, pair.index)

    def _let_go(self, pair: Pair) -> None:
        """Have what was written at the files' names, to be opened anew.

        Where the system refuses that they stay open, as nobody else has what they hold; of
        :class:`NotKept`, aside from those in use.
        """
        losses = self._losses_of(pair)
        if any(isinstance(lost, NotKept) for lost in losses):
            self._pairs.keep_homeless(pair)
        else:
            self._pairs.drop(pair)
        for lost in losses:
            raise lost

    def _losses_of(self, pair: Pair) -> list[FilesLost]:
        """Have what was written at the files' names; why those are lost where that is not right."""
        self._directory.check_place()
        self._dirty.note(disks.parent_of(pair.segment.path), self._tmp)
        return losses_of(self._directory, pair)

    def _try_to_keep(self, pair: Pair) -> None:
        """See whether what a homeless pair holds can be put somewhere by now."""
        losses = self._losses_of(pair)
        if not any(isinstance(lost, NotKept) for lost in losses):
            self._pairs.let_homeless_go(pair)
            what = "; ".join(map(str, losses)) or "its files have again what was written to them"
            log.warning("stream %s: %s", stored_text(pair.key[0]), what)

    def forget(self, path: str, stream_id: str) -> None:
        """Let go of a stream's open files: somebody else writes to them.

        What was written to them has yet to be synced, whoever writes there next.  ``OSError`` or
        :class:`FilesLost` where it cannot be had at the files' names, see :meth:`_let_go`.
        """
        for pair in self._pairs.of(path, stream_id):
            if self._is_ours(pair):
                self._pairs.drop(pair)
            else:
                self._let_go(pair)

    def strayed(self) -> Iterator[tuple[Key, str]]:
        """Let go of files that are not at their names, before a sync; what was lost, and why.

        What is written to once more after this is looked at again by then.  ``OSError`` where
        there is no place for what a file holds: it stays open, as nobody else has that.
        """
        while self._lost:
            yield self._lost.pop()
        for pair in list(self._pairs.homeless):
            with suppress(OSError):
                self._try_to_keep(pair)
        for pair in self._pairs.dirty():
            with suppress(OSError):  # what cannot be looked at is not as it was
                if self._is_ours(pair):
                    continue
            try:
                self._let_go(pair)
            except FilesLost as error:
                yield pair.key, str(error)

    def _open(self, name: str, size: int) -> OpenFile:
        file = f"{self._streams}/{name}"
        return open_own(self._directory, self._dirty, file, size, trim=self._trim)

    # -- checkpoints -----------------------------------------------------------------------

    @property
    def has_homeless(self) -> bool:
        """Whether open files have what is nowhere else, but for the journal; for any thread."""
        return bool(self._pairs.homeless)

    def sync_everything(self) -> None:
        """Have the next checkpoint sync the file system, so that it needs no open file."""
        self._dirty.note_everything()

    def take_dirty(self) -> Dirty:
        """Everything not durable yet; hand it to :func:`sync_dirty`, then to :meth:`synced`."""
        dirty, self._dirty = self._dirty, Dirty()
        dirty.pairs, overflowed = self._pairs.take_dirty()
        dirty.everything = dirty.everything or overflowed
        self._waiting_files += len(dirty.files)
        return dirty

    def synced(self, dirty: Dirty) -> None:
        """A dirty set was synced: let go of what only waited for it."""
        for fd in dirty.files:
            self._disk.close(fd)
        self._waiting_files -= len(dirty.files)
        self._pairs.synced(dirty.pairs)

    def close(self) -> None:
        """Close all files; whatever is dirty stays so."""
        self._pairs.close()
        for fd in self._dirty.files:
            self._disk.close(fd)
