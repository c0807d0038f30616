"""Data directories as killed servers left them, for the tests of recovery."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.journal import Journal
from durable_streams.filestore.files.recovery import Recovery
from durable_streams.filestore.files.stream_files import load
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.journal import AppendRecord, Record, SidecarRecord

FILES = 64


@contextmanager
def journal(directory: DataDirectory, recovery: Recovery | None = None) -> Iterator[Journal]:
    at = recovery or Recovery(generation=1)
    opened = Journal(
        directory,
        file_bytes=100_000,
        max_files=3,
        generation=at.generation,
        number=at.last,
        checkpointed=at.checkpointed,
        sync=True,
    )
    try:
        yield opened
    finally:
        opened.close()


def journaled(directory: DataDirectory, *records: Record) -> None:
    """A server wrote these to its journal, one batch each, and was killed."""
    with journal(directory) as opened:
        for record in records:
            opened.write([record])


def applied(directory: DataDirectory, *records: Record) -> None:
    """The same records are in the stream's files."""
    writer = StreamWriter(directory, FILES)
    for record in records:
        if isinstance(record, AppendRecord):
            writer.append(record, record.data, record.index)
        elif isinstance(record, SidecarRecord):
            writer.replace_sidecar(record)
        else:
            getattr(writer, type(record).__name__.removesuffix("Record").lower())(record)
    writer.close()


def home(directory: DataDirectory) -> Path:
    return Path(directory.stream_directory(("s",)))


def content(directory: DataDirectory) -> bytes | None:
    loaded = load(directory.disk, home(directory))
    if loaded is None:
        return None
    segments = sorted(home(directory).glob(f"*-{loaded.sidecar.id}.seg"))
    data = [path.read_bytes() for path in segments[: loaded.tail.segment + 1]]
    if data:
        data[-1] = data[-1][: loaded.tail.position]
    return b"".join(data)


def tree(directory: DataDirectory) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory.root)): path.read_bytes()
        for top in (directory.streams, directory.aside, directory.trash, directory.tmp)
        for path in top.rglob("*")
        if path.is_file()
    }
