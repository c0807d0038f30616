"""Recovery: bring the streams' files up to what the journal says was acknowledged.

Runs before anything is served, alone, and may be repeated from any point:

1. Read the journal file by file, batch by batch, to its end (``journal_reader.read_journal``),
   twice rather than into memory: first to learn up to where a checkpoint came and what it deletes
   (``journal_survey``).  Before anything is done for what is in it, make it durable: a killed
   server may have left in it what a power cut would still take back
   (``journal_reader.make_durable``).  Drop half-made files in ``tmp/``, so that nothing writes to
   one that has another name in a hard-link backup.
2. Put back sidecars that a power cut left unreadable and that the journal has.  A run that does
   not sync each batch tears none as it replaces them, but may have begun with one: of a stream that
   was out of service already.
3. Skip batches that a checkpoint has already made durable in the streams' files, and what was
   written to streams that are deleted further on.
4. Apply each record where its path, id and running checksum continue what is on disk; leave out
   what does not continue it (a copy of another time), or where the files prove that something
   else does (the stream has lived on elsewhere), and count it.
5. Remove what is left in ``tmp/``: it was never acknowledged.
6. Sync the file system if there was anything to apply: what a record asks for may have been done
   by a server that was killed, and be in memory only.  With room for one more journal file that is
   left to the first checkpoint, before which the journal keeps what it has: reading it again, all
   of which was applied, changes nothing.  A damaged journal is moved to ``aside/``, whole.
7. The journal begins a new generation behind the last batch (the caller's step).

A stream whose files the system refuses to read or write is left out alone: from the first record
that failed, all of its records are kept (``Recovery.kept``), to be written to the new journal at
once and tried again, as :func:`apply_again` does.

Streams that the journal does not mention are not looked at: they are checked when first opened.
What is found in the files as it should be is written again, in its place: a sync that failed before
may have left it in memory only, where no later one brings it to the disk.

No stream becomes shorter, no sidecar older.
"""

from __future__ import annotations

import errno
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.identity import FilesLost
from durable_streams.filestore.files.index_files import chain_at, continuation
from durable_streams.filestore.files.journal_reader import (
    JournalContent,
    make_durable,
    read_journal,
    set_aside,
)
from durable_streams.filestore.files.journal_survey import Survey, survey
from durable_streams.filestore.files.removed_file import take_up
from durable_streams.filestore.files.stream_files import (
    DamagedFiles,
    end_before,
    load_sidecar,
    owners_of,
)
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format import index as index_format
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.format.index import Tail
from durable_streams.filestore.format.removed import Removed
from durable_streams.filestore.format.stored_path import stored_text
from durable_streams.model.errors import DataDirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.format.journal import (
        AppendRecord,
        CreateRecord,
        Record,
        SidecarRecord,
    )

_OF_ALL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
"""Errors that no stream's files are to blame for."""

log = logging.getLogger("durable_streams.filestore.files")


StreamKey = tuple[str, str]
"""Path of a stream, as it is stored, and its id."""


@dataclass(slots=True)
class Kept:
    """Records that are not in a stream's files, in order, and why the first one could not be."""

    reason: str
    records: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class Recovery:
    """What recovery did; ``str()`` is one line for people.

    ``checkpointed``: batches up to this one are durable in the streams' files; all of them, up to
    ``last``, unless the first checkpoint has to see to that.

    ``kept``: by path and id, what could not be applied to the files of one stream, and why.

    ``unsynced``: a run that acknowledged writes before they were durable did not end properly,
    so streams' files may have less than their indexes say: they are to be verified.

    ``removed``: which paths the journal says were removed.

    ``torn_bytes``: how many were moved to ``aside/``; ``duration_s``: of all that opening took.
    """

    records: int = 0
    left_out: int = 0
    damage: int = 0
    last: int = 0
    checkpointed: int = 0
    generation: int = 0
    unsynced: bool = False
    torn_bytes: int = 0
    duration_s: float = 0.0
    kept: dict[StreamKey, Kept] = field(default_factory=dict)
    removed: Removed = field(default_factory=Removed)

    def __str__(self) -> str:
        if not (self.records or self.left_out or self.damage or self.kept):
            return "nothing to recover"
        text = f"recovered {self.records} writes"
        if self.left_out:
            text += f", left out {self.left_out} that did not continue"
        if self.damage:
            text += f", found {self.damage} damaged places in the journal (kept in aside/)"
        if self.kept:
            text += f", put {len(self.kept)} streams out of service"
        return text


class _Place(NamedTuple):
    """Where the next append of a stream continues.

    ``ahead``: before recovery wrote there, the files had nothing behind this place.
    ``held``: they had everything before it.
    """

    end: Tail
    ahead: bool
    held: bool

    @property
    def begun(self) -> bool:
        """Whether there is an append before it, or the stream was just created."""
        return self.end.index_position > 0


def recover(directory: DataDirectory, max_files: int, *, max_journal_files: int = 0) -> Recovery:
    """Do all steps but the last.

    ``max_journal_files``: with fewer than these, what was applied is not synced.
    """
    try:
        return _Replay(directory, max_files, max_journal_files).run()
    except OSError as error:
        raise DataDirectoryError(f"recovery of {directory.root} failed: {error}") from error


def apply_again(directory: DataDirectory, records: Sequence[Record]) -> None:
    """Bring records to the files of a stream that was out of service, durably.

    ``OSError`` if the system refuses it still, :class:`FilesLost` or :class:`DamagedFiles` if the
    files are not what the records continue.
    """
    replay = _Replay(directory, max_files=2, max_journal_files=0)
    try:
        replay.begin_with(records)
        for record in records:
            if not replay.dispatch(record):
                raise FilesLost("its files do not have what the journal continues")
        replay.trim()
    finally:
        replay.close()
    directory.disk.sync_file_system(directory.root_fd)


class _Replay:
    def __init__(self, directory: DataDirectory, max_files: int, max_journal_files: int) -> None:
        self._directory = directory
        self._max_journal_files = max_journal_files
        self._disk = directory.disk
        self._unsynced = directory.is_marked_unsynced()
        self._writer = StreamWriter(directory, max_files, trim=False, journaled=not self._unsynced)
        self._writer.sync_everything()
        self._after: dict[tuple[str, str], _Place] = {}
        self._survey = Survey()
        self._result = Recovery()

    def run(self) -> Recovery:
        self._survey = survey(self._directory)
        content = self._survey.content
        # Of a run that did not sync each batch it does not matter: the streams are verified.
        make_durable(self._directory, None if self._unsynced else content.newest)
        self._clear_tmp(directories=False)
        if self._unsynced:
            self._survey.residents.clear()  # it may lack who came later
        self._mend_sidecars()
        for batch in read_journal(self._directory, JournalContent()):
            if batch.number > content.checkpointed:
                for record in fmt.unpack_records(batch.payload):
                    if record.id not in self._survey.deleted or isinstance(
                        record, fmt.DeleteRecord
                    ):
                        self._apply(record)
        self.trim()
        self._clear_tmp(directories=True)
        checkpointed = content.last
        leaves = self._may_leave_unsynced(content)
        if leaves or self._result.kept:
            checkpointed = content.checkpointed
        if not leaves and (self._result.records or self._result.left_out):
            self._directory.disk.sync_file_system(self._directory.root_fd)
        self.close()
        for damage in content.damage:
            log.error("journal: %s", damage)
        # Before what tells of it is forgotten, or set aside.
        self._result.removed = take_up(self._directory, self._survey.removed)
        if content.damage:
            log.error("the damaged journal is kept in %s", set_aside(self._directory))
        result = self._result
        result.damage = len(content.damage)
        result.unsynced = self._unsynced
        result.last, result.checkpointed = content.last, checkpointed
        result.generation = content.generation + 1
        return result

    def begin_with(self, records: Sequence[Record]) -> None:
        """These are all that a stream in its place is missing; mend its sidecar first."""
        for record in records:
            self._survey.residents[record.path] = {record.id}
            if isinstance(record, fmt.SidecarRecord):
                self._survey.sidecars[record.path, record.id] = record
        for sidecar in self._survey.sidecars.values():
            self._mend_sidecar(sidecar)

    def close(self) -> None:
        """Close what is open; nothing of it is synced here."""
        self._writer.synced(self._writer.take_dirty())
        self._writer.close()

    def _may_leave_unsynced(self, content: JournalContent) -> bool:
        """Whether the journal can stay as it is, and to read it again would change nothing."""
        return (
            self._result.records > 0
            and not self._result.left_out
            and not content.damage
            and not self._unsynced
            and content.files < self._max_journal_files
        )

    def _mend_sidecars(self) -> None:
        """Replace sidecars that a power cut left unreadable: other records need them."""
        for record in self._survey.sidecars.values():
            with self._alone(record):
                self._mend_sidecar(record)

    def _mend_sidecar(self, record: SidecarRecord) -> None:
        directory = self._directory.home_of(record.path)
        try:
            load_sidecar(self._disk, directory)
        except DamagedFiles:
            if self._is_home_of(directory, record):
                self._writer.mend_sidecar(record)
                self._result.records += 1

    def _is_home_of(self, directory: str, record: SidecarRecord) -> bool:
        """Whether a directory without a readable sidecar is that stream's, and no other's."""
        owners = owners_of(self._disk, directory)
        if owners:
            return owners == {record.id}
        if self._disk.is_directory(self._directory.tmp / record.id):
            return False  # it is not in its place yet
        residents = self._survey.residents.get(record.path, set())
        return residents - self._survey.ended == {record.id}

    def _apply(self, record: Record) -> None:
        kept = self._result.kept.get((record.path, record.id))
        if kept is not None:
            kept.records.append(record)
            return
        applied = False
        with self._alone(record):
            try:
                applied = self.dispatch(record)
            except (FilesLost, DamagedFiles) as error:
                log.warning("stream %s: %s", stored_text(record.path), error)
        if applied:
            self._result.records += 1
        elif (kept := self._result.kept.get((record.path, record.id))) is not None:
            kept.records.append(record)
        else:
            self._result.left_out += 1

    @contextmanager
    def _alone(self, record: Record) -> Iterator[None]:
        """Put a stream out of service, and it alone, if the system refuses to touch its files."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FailedSync) or error.errno in _OF_ALL or not self._is_there():
                raise
            reason = f"its files cannot be read or written: {error}"
            log.critical("stream %s is out of service: %s", stored_text(record.path), reason)
            self._result.kept[record.path, record.id] = Kept(reason)

    def _is_there(self) -> bool:
        return self._directory.is_there()

    def dispatch(self, record: Record) -> bool:
        """Bring one record to the files; whether it continues what is there."""
        match record:
            case fmt.AppendRecord():
                return self._append(record)
            case fmt.CreateRecord():
                self._writer.create(record)
                self._know_birth(record)
            case fmt.AdoptRecord():
                if not self._disk.is_directory(self._directory.tmp / record.id):
                    return self._holds(record.path, record.id)
                self._writer.adopt(record)
                later = self._survey.sidecars.get((record.path, record.id))
                if later is not None:
                    self._mend_sidecar(later)
            case fmt.SidecarRecord():
                self._writer.replace_sidecar(record)
            case fmt.ForkRecord():
                if record.fork_id not in self._survey.ended:
                    self._writer.fork(record)
            case fmt.DeleteRecord():
                if record.id in self._survey.revived:
                    return False
                self._writer.delete(record)
                self._after.pop((record.path, record.id), None)
            case _:
                assert_never(record)
        return True

    def _know_birth(self, record: CreateRecord) -> None:
        if record.index:
            self._know(record, index_format.segment_of(record.index), 0, 0)
        else:
            root = Tail(0, 0, 0, index_format.root_of(record.id))
            self._after[record.path, record.id] = _Place(root, ahead=False, held=True)

    def _holds(self, path: str, stream_id: str) -> bool:
        sidecar = load_sidecar(self._disk, self._directory.home_of(path))
        return sidecar is not None and sidecar.id == stream_id

    def _append(self, record: AppendRecord) -> bool:
        known = self._after.get((record.path, record.id))
        follows = known is not None and _follows(record, known.end)
        if not follows and not self._continues_files(record):
            return False
        # Where the files had nothing behind the record before, they have nothing behind this one;
        # and files that lacked that one cannot have this one.
        ahead = follows and known is not None and known.ahead
        may_hold = known is None or not follows or known.held
        held = may_hold and self._writer.holds(record)
        if not held:
            if not ahead and not (follows and self._writer.has_line(record)):
                # Files that prove another append here are of a stream that has lived on elsewhere:
                # what was acknowledged there is not overwritten.
                directory = self._directory.home_of(record.path)
                proved = continuation(self._disk, directory, record.id, end_before(record))
                if proved is not None and proved != record.index:
                    return False
                ahead = proved is None
            self._writer.append(record, record.data, record.index)
        place = record.segment, record.position, record.index_position
        self._know(record, *place, ahead=ahead, held=held)
        return True

    def _know(
        self,
        record: AppendRecord | CreateRecord,
        segment: int,
        position: int,
        index_position: int,
        *,
        ahead: bool = False,
        held: bool = True,
    ) -> None:
        """Remember where what was just written at a place leaves a stream."""
        chain = index_format.chain_at_end(record.index)
        if chain is None:
            raise DamagedFiles("a journal record without a running checksum")
        end = Tail(segment, position + len(record.data), index_position + len(record.index), chain)
        self._after[record.path, record.id] = _Place(end, ahead, held)

    def _continues_files(self, record: AppendRecord) -> bool:
        directory = self._directory.home_of(record.path)
        end = end_before(record)
        if not end.index_position:
            sidecar = load_sidecar(self._disk, directory)
            return (
                sidecar is not None
                and sidecar.id == record.id
                and sidecar.first == end.segment
                and bytes.fromhex(sidecar.root) == end.chain
            )
        chain = chain_at(self._disk, directory, record.id, end.segment, end.index_position)
        return chain == end.chain and self._has_bytes(
            directory, record.id, end.segment, end.position
        )

    def _has_bytes(self, directory: str, stream_id: str, segment: int, size: int) -> bool:
        status = self._disk.status(f"{directory}/{names.segment_file(segment, stream_id)}")
        return (status.size_bytes if status else 0) >= size

    def trim(self) -> None:
        """Move aside what lies behind the last record of a stream and does not continue it."""
        for (path, stream_id), place in self._after.items():
            if not place.begun:
                continue
            try:
                self._writer.trim(path, stream_id, place.end)
            except FailedSync:
                raise
            except OSError as error:  # the next write does it, or fails for the same reason
                log.error("stream %s: what is behind its end stays: %s", path, error)

    def _clear_tmp(self, *, directories: bool) -> None:
        for name in self._disk.names(self._directory.tmp):
            path = self._directory.tmp / name
            if not self._disk.is_directory(path):
                self._disk.unlink(path)
            elif directories and not any(name == stream_id for _, stream_id in self._result.kept):
                whole_files.remove_tree(self._disk, path)


def _follows(record: AppendRecord, end: Tail) -> bool:
    """Whether a record continues what was just written, there or in the segment that follows."""
    if not record.index_position:
        return record.chain == end.chain
    here = (record.segment, record.index_position, record.chain)
    return here == (end.segment, end.index_position, end.chain)
