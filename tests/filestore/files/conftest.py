"""Fixtures: a data directory on a disk that a test directs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.writer import StreamWriter
from tests.filestore.files.staged_disk import StagedDisk
from tests.filestore.files.written import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def disk() -> Iterator[StagedDisk]:
    """A disk on which every file that was opened is closed in the end."""
    disk = StagedDisk()
    yield disk
    assert disk.open_files == []


@pytest.fixture
def directory(disk: StagedDisk, data_dir: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory.open(disk, data_dir)
    yield directory
    disk.heal()
    directory.close()


@pytest.fixture
def writer(directory: DataDirectory) -> Iterator[StreamWriter]:
    writer = StreamWriter(directory, FILES)
    yield writer
    writer.close()
