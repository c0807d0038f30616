"""What the journal as a whole says about streams, before any of its records is applied."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durable_streams.filestore.files.journal_reader import JournalContent, read_journal
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.format.removed import Removed

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.format.journal import SidecarRecord


@dataclass(slots=True)
class Survey:
    """What a journal says of streams, by their ids.

    ``deleted``: those that a batch behind the last checkpoint deletes; ``ended``: these, and those
    that one before it deleted.  ``revived``: those that were written to after their deletion.
    ``sidecars``: by path and id, the last version of each, but for those of the ended.
    ``residents``: by path, all that ever were there.  ``removed``: where the next ones begin.
    """

    content: JournalContent = field(default_factory=JournalContent)
    deleted: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    revived: set[str] = field(default_factory=set)
    sidecars: dict[tuple[str, str], SidecarRecord] = field(default_factory=dict)
    residents: dict[str, set[str]] = field(default_factory=dict)
    removed: Removed = field(default_factory=Removed)


def survey(directory: DataDirectory) -> Survey:
    """Read the journal once to learn up to where a checkpoint came and which streams it deletes."""
    found = Survey()
    deleted: dict[str, int] = {}
    removed: list[tuple[int, str, int]] = []
    for batch in read_journal(directory, found.content):
        for record in fmt.unpack_records(batch.payload):
            found.residents.setdefault(record.path, set()).add(record.id)
            if isinstance(record, fmt.DeleteRecord):
                deleted[record.id] = batch.number
                if record.next_segment:
                    removed.append((batch.number, record.path, record.next_segment))
            elif record.id in deleted:  # its directory was put back from a backup
                del deleted[record.id]
                found.revived.add(record.id)
            if isinstance(record, fmt.SidecarRecord):
                found.sidecars[record.path, record.id] = record
    found.ended = set(deleted)
    for key in [key for key in found.sidecars if key[1] in deleted]:
        del found.sidecars[key]
    last = found.content.checkpointed
    for number, path, next_segment in removed:
        if number > last:  # what came before was in the file before the checkpoint was noted
            found.removed.note(path, next_segment)
    found.deleted = {stream_id for stream_id, number in deleted.items() if number > last}
    return found
