"""Small journals, and what is in them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.journal import Journal
from durable_streams.filestore.files.journal_reader import JournalContent, read_journal
from durable_streams.filestore.format.journal import (
    DeleteRecord,
    unpack_records,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.format.journal import Record

FILE_BYTES: Final = 1000


def record(name: str) -> Record:
    """A record of 100 bytes, more or less."""
    return DeleteRecord(name, "0" * 90, 1)


@contextmanager
def journal_of(
    directory: DataDirectory,
    *,
    generation: int = 1,
    number: int = 0,
    checkpointed: int | None = None,
    sync: bool = True,
    max_files: int = 3,
) -> Iterator[Journal]:
    journal = Journal(
        directory,
        file_bytes=FILE_BYTES,
        max_files=max_files,
        generation=generation,
        number=number,
        checkpointed=number if checkpointed is None else checkpointed,
        sync=sync,
    )
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def reopened(directory: DataDirectory) -> Iterator[Journal]:
    """Go on as the next start does, with everything applied."""
    content, _ = read(directory)
    with journal_of(directory, generation=content.generation + 1, number=content.last) as journal:
        yield journal


def read(directory: DataDirectory) -> tuple[JournalContent, dict[int, list[str]]]:
    """What the journal holds: the paths in the records of each batch."""
    content = JournalContent()
    batches = {
        batch.number: [record.path for record in unpack_records(batch.payload)]
        for batch in read_journal(directory, content)
    }
    return content, batches


def written(directory: DataDirectory) -> dict[int, str]:
    """The one record of each batch that has any."""
    return {number: paths[0] for number, paths in read(directory)[1].items() if paths}


def files(directory: DataDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.journal.iterdir())}


def write_until_turned(journal: Journal, name: str) -> list[int]:
    """Fill the journal's present file and begin another; the numbers written."""
    full = journal.full_files()
    numbers = []
    while journal.full_files() == full:
        numbers.append(journal.write([record(f"{name}{journal.last + 1}")]))
    return numbers
