"""Runs that acknowledge writes before they are durable, and what power cuts leave of them."""

import errno

import pytest

from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.writer import StreamWriter
from tests.filestore.files.history import History
from tests.filestore.files.recovering import FILES, applied, content, home, journaled
from tests.filestore.files.staged_disk import StagedDisk

# -- deletions in pieces ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "keep"), [(errno.ENOSPC, False), (errno.EXDEV, False), (errno.EXDEV, True)]
)
def test_a_directory_goes_in_pieces_only_when_the_journal_is_sure_to_have_its_deletion(
    directory: DataDirectory, disk: StagedDisk, number: int, keep: bool
) -> None:
    """Else a power cut took the deletion and some of the files: the stream was back, shorter."""
    history = History()
    created, deleted = history.create(b"one."), history.delete()
    journaled(directory, created, deleted)
    applied(directory, created)
    writer = StreamWriter(directory, FILES, journaled=False)
    disk.fail("rename", number, "/trash/", times=2)
    disk.fail("sync", errno.EIO, ".journal", times=1)
    with pytest.raises(FailedSync):
        writer.delete(deleted, keep=keep)
    assert content(directory) == b"one."
    writer.delete(deleted, keep=keep)
    writer.close()
    assert not home(directory).exists()


def test_a_deletion_that_the_journal_has_anyway_syncs_nothing(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    history = History()
    created, deleted = history.create(b"one."), history.delete()
    journaled(directory, created, deleted)
    applied(directory, created)
    writer = StreamWriter(directory, FILES)
    disk.fail("rename", errno.ENOSPC, "/trash/")
    before = disk.calls["sync"]
    writer.delete(deleted)
    writer.close()
    assert not home(directory).exists()
    assert disk.calls["sync"] == before
