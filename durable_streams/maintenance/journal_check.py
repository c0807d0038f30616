"""What the journal says about the streams' files: what a start brings to them and what not.

Read after the files, and judged by the rules of ``filestore.files.recovery``: a start
applies what no checkpoint has made durable in the files (batches behind ``checkpointed``) and what
continues them; the rest it leaves alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names
from durable_streams.filestore.files.index_files import chain_at
from durable_streams.filestore.files.journal_reader import JournalContent, read_journal
from durable_streams.filestore.files.stream_files import (
    DamagedFiles,
    NewerFiles,
    end_before,
    load_sidecar,
)
from durable_streams.filestore.format import index as index_format
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.format.stored_path import pack_path, stored_text
from durable_streams.maintenance.findings import Finding, Level, refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.filestore.files.directory import Layout
    from durable_streams.filestore.format.index import Tail
    from durable_streams.maintenance.stream_check import StreamCheck

_NAMED: Final = 3  # streams that a finding names


@dataclass(slots=True)
class _Claim:
    """Where a stream ends by the journal.

    ``waits``: a start has something to apply; ``from_`` is the place that it continues, None for
    the stream's beginning.
    """

    segment: int = 0
    end: int = 0
    waits: bool = False
    from_: Tail | None = None


@dataclass(slots=True)
class _Held:
    """An incomplete stream, and how far the journal brings it."""

    check: StreamCheck
    chain: bytes
    moved: bool = False

    def is_completed(self) -> bool:
        missing = self.check.missing
        if missing is None or missing.continues is None:
            return self.moved
        return self.moved and self.chain.hex() == missing.continues


class JournalCheck:
    """Reads the journal of a data directory once for what it says about streams."""

    def __init__(self, layout: Layout, incomplete: Iterable[StreamCheck]) -> None:
        """``incomplete``: streams that the journal may complete."""
        self._layout = layout
        self._claims: dict[tuple[str, str], _Claim] = {}
        self._held = [_Held(check, check.end.chain) for check in incomplete]
        self._by_key = {key: held for held in self._held for key in _keys(held.check)}
        self._deleted: set[tuple[str, str]] = set()
        self._checkpointed = 0
        self.findings: list[Finding] = []

    def run(self) -> None:
        """Fill ``findings``: what is wrong with the journal, and what waits in it; blocks."""
        content = JournalContent()
        try:
            for _ in read_journal(self._layout, content):
                pass
            self._checkpointed = content.checkpointed
            for batch in read_journal(self._layout, JournalContent()):
                self._take_batch(batch, content)
        except OSError as error:
            self.findings.append(refused(Path(error.filename or self._layout.journal), error))
        for text in content.damage:
            meaning = (
                "normal in a copy made while a server wrote; else writes may be lost "
                "that had not reached their streams' files"
            )
            self._find(Level.WARNING, text, meaning)
        self._tell_what_waits()

    def findings_of_incomplete(self) -> list[Finding]:
        """What was held back until the journal was read, as it is to be seen now."""
        return [self._judged(held) for held in self._held]

    def completed(self) -> list[StreamCheck]:
        """The incomplete streams that a start completes."""
        return [held.check for held in self._held if held.is_completed()]

    def _judged(self, held: _Held) -> Finding:
        finding = held.check.incomplete
        assert finding is not None
        if held.is_completed():
            meaning = "a start completes it from the journal"
        elif _keys(held.check) <= self._deleted:
            meaning = "the journal says that the stream was deleted"
        else:
            return finding
        return Finding(Level.TORN, finding.file, finding.text, "", finding.stream, meaning)

    def _find(self, level: Level, text: str, meaning: str) -> None:
        self.findings.append(Finding(level, self._layout.journal, text, meaning=meaning))

    # -- records ---------------------------------------------------------------------------

    def _take_batch(self, batch: fmt.Batch, content: JournalContent) -> None:
        try:
            records = fmt.unpack_records(batch.payload)
        except ValueError as error:
            content.damage.append(f"batch {batch.number} holds no records: {error}")
            return
        for record in records:
            waits = batch.number > self._checkpointed
            self._claim(record, waits=waits)
            if waits and (held := self._by_key.get((record.path, record.id))) is not None:
                _follow(held, record)

    def _claim(self, record: fmt.Record, *, waits: bool) -> None:
        key = record.path, record.id
        if isinstance(record, fmt.DeleteRecord):
            self._claims.pop(key, None)
            self._deleted.add(key)
            return
        self._deleted.discard(key)
        if isinstance(record, fmt.SidecarRecord | fmt.ForkRecord):
            return
        if isinstance(record, fmt.AdoptRecord) and not (waits and self._is_in_tmp(record.id)):
            return
        claim = self._claims.setdefault(key, _Claim())
        if isinstance(record, fmt.CreateRecord):
            claim.end = len(record.data)
            if record.index:
                claim.segment = index_format.segment_of(record.index)
        elif isinstance(record, fmt.AppendRecord):
            claim.segment, claim.end = record.segment, record.position + len(record.data)
            if waits and not claim.waits:
                claim.from_ = _place_before(record)
        claim.waits = claim.waits or waits

    def _is_in_tmp(self, stream_id: str) -> bool:
        return self._layout.disk.is_directory(self._layout.tmp / stream_id)

    # -- what it comes to ------------------------------------------------------------------

    def _tell_what_waits(self) -> None:
        waiting: list[str] = []
        stale: list[str] = []
        for (path, stream_id), claim in self._claims.items():
            try:
                if not self._is_in_files(path, stream_id, claim):
                    continues = claim.waits and self._continues(path, stream_id, claim)
                    (waiting if continues else stale).append(stored_text(path))
            except (OSError, ValueError):
                continue  # the check of the stream tells
        if waiting:
            text = f"{_streams(waiting)} writes that are here only"
            self._find(Level.TORN, text, "a start puts them into the streams' files")
        if stale:
            named = ", ".join(stale[:_NAMED]) + (", …" if len(stale) > _NAMED else "")
            text = f"{_streams(stale)} writes here that are not in the files: {named}"
            meaning = (
                "a start does not bring them back: a checkpoint had seen them in the files. Normal "
                "in a copy for streams deleted or written to meanwhile; else they were taken away"
            )
            self._find(Level.TORN, text, meaning)

    def _is_in_files(self, path: str, stream_id: str, claim: _Claim) -> bool:
        disk, home = self._layout.disk, self._layout.home_of(path)
        if not claim.end:
            return disk.is_directory(home)
        status = disk.status(f"{home}/{names.segment_file(claim.segment, stream_id)}")
        return status is not None and status.size_bytes >= claim.end

    def _continues(self, path: str, stream_id: str, claim: _Claim) -> bool:
        """Whether what waits for a stream continues its files."""
        disk, home = self._layout.disk, self._layout.home_of(path)
        try:
            sidecar = load_sidecar(disk, home)
        except NewerFiles:
            return False
        except DamagedFiles:
            return True  # it may be taken from the journal
        if sidecar is not None and sidecar.id != stream_id:
            return False
        if claim.from_ is None:
            return True
        if sidecar is None:
            return False
        end = claim.from_
        if not end.index_position:
            return (sidecar.first, bytes.fromhex(sidecar.root)) == (end.segment, end.chain)
        return chain_at(disk, home, stream_id, end.segment, end.index_position) == end.chain


def _keys(check: StreamCheck) -> set[tuple[str, str]]:
    """Stored path and id of the streams whose files are in a directory."""
    stored = "" if check.path is None else pack_path(check.path)
    return {(stored, owner) for owner in check.owners}


def _place_before(record: fmt.AppendRecord) -> Tail:
    try:
        return end_before(record)
    except (DamagedFiles, ValueError):
        return index_format.Tail(0, 0, 0, b"")  # nothing continues that


def _follow(held: _Held, record: fmt.Record) -> None:
    """Go on with a record that continues what an incomplete stream has."""
    if held.check.sidecar is None:
        held.moved = held.moved or isinstance(record, fmt.CreateRecord)
        return
    if isinstance(record, fmt.AppendRecord):
        begin = record.chain
    elif isinstance(record, fmt.CreateRecord) and record.index:
        begin = index_format.root_of(record.id)
    else:
        return
    after = index_format.chain_at_end(record.index)
    if after is not None and begin == held.chain and not held.is_completed():
        held.chain, held.moved = after, True


def _streams(paths: list[str]) -> str:
    return f"{len(paths)} stream has" if len(paths) == 1 else f"{len(paths)} streams have"
