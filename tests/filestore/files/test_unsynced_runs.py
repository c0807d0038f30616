"""Runs that acknowledge writes before they are durable, and what power cuts leave of them."""

import errno

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.recovery import apply_again, recover
from durable_streams.filestore.files.stream_files import DamagedFiles, load_sidecar
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.journal import Record
from tests.filestore.files.history import OTHER_ID, History
from tests.filestore.files.recovering import FILES, applied, content, home, journaled
from tests.filestore.files.staged_disk import StagedDisk


def _tear(directory: DataDirectory) -> None:
    (home(directory) / names.SIDECAR).write_bytes(bytes(100))


def _cuts(directory: DataDirectory) -> int:
    sidecar = load_sidecar(directory.disk, home(directory))
    assert sidecar is not None
    return sidecar.cuts


# -- sidecars torn under the setting before, which the start could not mend ------------------


def _kept(directory: DataDirectory, disk: StagedDisk, history: History) -> list[Record]:
    """A run begins with a stream out of service, whose sidecar is torn: what it has to keep."""
    records: list[Record] = [history.append(b"two."), history.change(cuts=1)]
    journaled(directory, *records)
    _tear(directory)
    disk.fail("open_write", errno.EIO, f"/tmp/{history.id}.{names.SIDECAR}")
    recovery = recover(directory, FILES)
    disk.heal()
    assert recovery.kept["s", history.id].records == records
    directory.mark_unsynced()
    return records


@pytest.mark.parametrize("first", [b"", b"one."], ids=["nothing-yet", "an-append"])
def test_a_torn_sidecar_is_mended_though_the_run_that_does_it_is_unsynced(
    directory: DataDirectory, disk: StagedDisk, first: bytes
) -> None:
    """The stream was in service again without it, and the journal let go of the only whole one."""
    history = History()
    applied(directory, history.create(first))
    apply_again(directory, _kept(directory, disk, history))
    assert _cuts(directory) == 1
    assert content(directory) == first + b"two."


def test_a_torn_sidecar_is_mended_though_the_run_that_did_not_get_to_it_was_unsynced(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    history = History()
    applied(directory, history.create(b"one."))
    _kept(directory, disk, history)
    recover(directory, FILES)
    assert _cuts(directory) == 1
    assert content(directory) == b"one.two."


@pytest.mark.parametrize("first", [b"", b"one."], ids=["nothing-yet", "an-append"])
def test_no_sidecar_is_put_where_somebody_may_have_come_later(
    directory: DataDirectory, first: bytes
) -> None:
    """The journal of an unsynced run may have lost the deletion, and the creation after it."""
    journaled(directory, History().change(cuts=1))
    applied(directory, History(stream_id=OTHER_ID).create(first))
    _tear(directory)
    directory.mark_unsynced()
    recover(directory, FILES)
    with pytest.raises(DamagedFiles):
        load_sidecar(directory.disk, home(directory))


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
