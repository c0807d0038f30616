"""What a writer has written, and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names
from durable_streams.model.paths import parse_path_text
from tests.filestore.files.history import ID

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.writer import StreamWriter
    from durable_streams.filestore.format.journal import AppendRecord

FILES: Final = 64
"""That a writer may have open."""


def apply(writer: StreamWriter, record: AppendRecord) -> None:
    writer.append(record, record.data, record.index)


def home(directory: DataDirectory, path: str = "s") -> Path:
    return Path(directory.stream_directory(parse_path_text(path)))


def segment(directory: DataDirectory, number: int = 0) -> Path:
    return home(directory) / names.segment_file(number, ID)


def index(directory: DataDirectory, number: int = 0) -> Path:
    return home(directory) / names.index_file(number, ID)


def tree(directory: DataDirectory) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory.streams)): path.read_bytes()
        for path in directory.streams.rglob("*")
        if path.is_file()
    }
