"""The numbered steps of recovery, each with the crash that it is for."""

import errno
import os
import shutil
from pathlib import Path
from typing import cast

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.recovery import apply_again, recover
from durable_streams.filestore.files.stream_files import load
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.journal import AdoptRecord, Record
from tests.filestore.files.history import ID, OTHER_ID, History
from tests.filestore.files.recovering import FILES, applied, content, home, journal, journaled, tree
from tests.filestore.files.staged_disk import StagedDisk


def test_what_was_acknowledged_and_not_in_files_is_put_there(directory: DataDirectory) -> None:
    history = History()
    journaled(
        directory,
        history.create(b"one."),
        history.append(b"two."),
        history.append(b"three.", roll=True),
        history.change(cuts=1),
    )
    recovery = recover(directory, FILES)
    assert content(directory) == b"one.two.three."
    assert (recovery.records, recovery.left_out, recovery.damage) == (4, 0, 0)
    assert str(recovery) == "recovered 4 writes"


def test_what_is_in_files_already_stays_as_it_is(directory: DataDirectory) -> None:
    history = History()
    records: list[Record] = [
        history.create(b"one."),
        history.append(b"two."),
        history.append(b"3.", roll=True),
    ]
    applied(directory, *records)
    before = tree(directory)
    journaled(directory, *records)
    recover(directory, FILES)
    assert tree(directory) == before


def test_recovering_again_changes_nothing(directory: DataDirectory) -> None:
    history = History()
    records: list[Record] = [
        history.create(b"one."),
        history.append(b"two."),
        history.append(b"3.", roll=True),
    ]
    applied(directory, *records[:2])
    journaled(directory, *records)
    first = recover(directory, FILES)
    before = tree(directory)
    second = recover(directory, FILES)
    assert tree(directory) == before
    assert (second.last, second.generation) == (first.last, first.generation)


@pytest.mark.parametrize("first", [b"", b"one."])
def test_what_files_hold_already_is_written_in_its_place(
    directory: DataDirectory, disk: StagedDisk, first: bytes
) -> None:
    history = History()
    records: list[Record] = [history.create(first)]
    if not first:
        records.append(history.append(b"one."))
    applied(directory, *records)
    journaled(directory, *records)
    before, renamed = tree(directory), disk.calls["rename"]
    assert not recover(directory, FILES).kept
    assert (tree(directory), disk.calls["rename"]) == (before, renamed)


def test_a_closed_stream_without_content_gets_the_segment_that_a_power_cut_took(
    directory: DataDirectory,
) -> None:
    record = History().create(b"", closed=True)
    journaled(directory, record)
    applied(directory, record)
    segment = home(directory) / names.segment_file(0, ID)
    segment.unlink()
    recover(directory, FILES)
    assert segment.read_bytes() == b""


@pytest.mark.parametrize("first", [b"", b"one."])
def test_every_torn_state_of_the_files_is_completed(directory: DataDirectory, first: bytes) -> None:
    history = History()
    records: list[Record] = [history.create(first), history.append(b"two.")]
    journaled(directory, *records)
    applied(directory, *records)
    whole = {path: path.read_bytes() for path in home(directory).iterdir()}
    for torn, data in whole.items():
        cut = [data[:size] for size in range(len(data))]
        unwritten = [begin + bytes(len(data) - len(begin)) for begin in cut[::8]]
        for state in (*cut, *unwritten):
            torn.write_bytes(state)
            recover(directory, FILES)
            assert content(directory) == first + b"two.", (torn.name, state)
            assert torn.read_bytes() == data, (torn.name, state)


def test_a_sidecar_that_a_power_cut_left_unreadable_is_taken_from_the_journal(
    directory: DataDirectory,
) -> None:
    history = History()
    records: list[Record] = [history.create(b"one."), history.append(b"two.")]
    applied(directory, *records)
    journaled(directory, *records, history.change(cuts=3))
    (home(directory) / names.SIDECAR).write_bytes(bytes(200))
    recover(directory, FILES)
    assert content(directory) == b"one.two."
    loaded = load(directory.disk, home(directory))
    assert loaded is not None
    assert loaded.sidecar.cuts == 3


def test_a_sidecar_taken_from_what_was_applied_before_is_to_be_synced(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    history = History()
    records: list[Record] = [history.create(b"one."), history.change(cuts=3)]
    applied(directory, records[0])
    with journal(directory) as opened:
        opened.write(records)
        opened.note_checkpoint(opened.last)
        opened.write([])
    (home(directory) / names.SIDECAR).write_bytes(bytes(200))
    syncs = disk.calls["sync_file_system"]
    recovery = recover(directory, FILES)
    assert (recovery.records, disk.calls["sync_file_system"]) == (1, syncs + 1)


def test_the_torn_sidecar_of_a_fork_whose_rename_was_lost_is_taken_from_the_journal(
    directory: DataDirectory,
) -> None:
    fork = History()
    born = directory.tmp / ID
    born.mkdir()
    fork.create()
    journaled(directory, AdoptRecord("s", ID), fork.change(cuts=7), fork.append(b"acknowledged."))
    (born / names.SIDECAR).write_bytes(bytes(200))
    recover(directory, FILES)
    assert content(directory) == b"acknowledged."
    loaded = load(directory.disk, home(directory))
    assert loaded is not None
    assert loaded.sidecar.cuts == 7


def test_the_name_of_a_journal_file_is_durable_before_the_file_is_used_again(
    directory: DataDirectory, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled(directory)  # and killed before it had synced the directory
    synced: list[Path] = []
    sync_directory = disk.sync_directory

    def note(path: Path) -> None:
        synced.append(path)
        sync_directory(path)

    monkeypatch.setattr(disk, "sync_directory", note)
    recover(directory, FILES)
    assert directory.journal in synced


def test_what_a_killed_server_did_in_memory_only_is_durable_before_its_journal_is_freed(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    history, deleted = History(), History("gone", OTHER_ID)
    records: list[Record] = [history.create(b"one."), deleted.create(), deleted.delete()]
    applied(directory, *records)
    journaled(directory, *records)
    disk.calls.clear()
    recover(directory, FILES)
    assert disk.calls["sync_file_system"] == 1
    journal_files = len(list(directory.journal.iterdir()))
    assert disk.calls["sync"] >= journal_files


@pytest.mark.parametrize("cause", ["a file too many", "left out", "damage", "unsynced"])
def test_the_first_checkpoint_has_to_sync_only_what_the_journal_can_do_again(
    directory: DataDirectory, disk: StagedDisk, cause: str
) -> None:
    history = History()
    journaled(directory, history.create(b"one."), history.append(b"two."))
    before = disk.calls["sync_file_system"]
    recovery = recover(directory, FILES, max_journal_files=2)
    assert (recovery.last, recovery.checkpointed) == (3, 0)
    assert disk.calls["sync_file_system"] == before
    if cause == "left out":
        shutil.rmtree(home(directory))
        applied(directory, History(stream_id=OTHER_ID).create(b"another"))
    elif cause == "damage":
        path = directory.journal / "0.journal"
        data = bytearray(path.read_bytes())
        data[data.index(b"one.")] ^= 1
        path.write_bytes(data)
    elif cause == "unsynced":
        directory.mark_unsynced()
    recovery = recover(directory, FILES, max_journal_files=1 if cause == "a file too many" else 2)
    assert recovery.checkpointed == recovery.last
    assert disk.calls["sync_file_system"] == before + 1


def test_what_was_recovered_is_durable_though_one_stream_is_out_of_service(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    """Where writes are acknowledged unsynced, no torn sidecar is taken from the journal again."""
    history, other = History(), History("other", OTHER_ID)
    applied(directory, history.create(b"one."), other.create(b"one."))
    journaled(directory, history.change(cuts=1), other.change(cuts=1))
    disk.fail("rename", errno.EACCES, "other@")
    syncs = disk.calls["sync_file_system"]
    recovery = recover(directory, FILES)
    assert list(recovery.kept) == [("other", OTHER_ID)]
    assert disk.calls["sync_file_system"] == syncs + 1
    assert recovery.checkpointed < recovery.last


def test_a_journal_that_was_applied_and_not_synced_is_kept_for_another_start(
    directory: DataDirectory,
) -> None:
    history = History()
    journaled(directory, history.create(b"one."), history.append(b"two."))
    recovery = recover(directory, FILES, max_journal_files=2)
    with journal(directory, recovery) as opened:
        assert opened.full_files() == 1
        opened.write([history.append(b"three.")])
    shutil.rmtree(home(directory))  # a power cut
    recovery = recover(directory, FILES, max_journal_files=3)
    assert content(directory) == b"one.two.three."
    with journal(directory, recovery) as opened:
        assert opened.full_files() == 2
        opened.note_checkpoint(opened.last)
        assert opened.full_files() == 0


def test_a_torn_sidecar_is_not_replaced_by_that_of_its_successor(directory: DataDirectory) -> None:
    old, fork = History(), History(stream_id=OTHER_ID)
    applied(directory, old.create(b"old."))
    (home(directory) / names.SIDECAR).write_bytes(b"{")
    born = directory.tmp / OTHER_ID
    born.mkdir()
    (born / names.SIDECAR).write_bytes(fork.create().sidecar)
    journaled(directory, old.delete(), AdoptRecord("s", OTHER_ID), fork.change(cuts=7))
    recover(directory, FILES)
    loaded = load(directory.disk, home(directory))
    assert loaded is not None
    assert (loaded.sidecar.id, loaded.sidecar.cuts) == (OTHER_ID, 7)
    assert not list(home(directory).glob("*.seg"))


def test_nothing_is_left_behind_the_end_of_a_segment_that_recovery_seals(
    directory: DataDirectory,
) -> None:
    history = History()
    created, second = history.create(b"one."), history.append(b"two.", roll=True)
    applied(directory, created)
    for file in home(directory).glob("*-*"):
        file.write_bytes(file.read_bytes() + b"what a truncation that was lost had taken away")
    journaled(directory, second)
    recover(directory, FILES)
    assert content(directory) == b"one.two."


def test_a_torn_sidecar_is_not_replaced_by_that_of_the_stream_deleted_there_before(
    directory: DataDirectory,
) -> None:
    old, new = History(), History(stream_id=OTHER_ID)
    creation = new.create(b"new.")
    with journal(directory) as opened:
        gone: list[Record] = [old.create(b"old."), old.change(soft_deleted=True), old.delete()]
        opened.note_checkpoint(opened.write(gone))
        opened.write([creation])
    applied(directory, creation)
    sidecar = home(directory) / names.SIDECAR
    sidecar.write_bytes(sidecar.read_bytes()[:20])

    recover(directory, FILES)

    assert content(directory) == b"new."


def test_the_torn_sidecar_of_an_empty_stream_is_mended_though_another_was_deleted_there_before(
    directory: DataDirectory,
) -> None:
    old, new = History(), History(stream_id=OTHER_ID)
    creation = new.create()
    with journal(directory) as opened:
        opened.note_checkpoint(opened.write([old.create(b"old."), old.delete(), creation]))
        opened.write([new.append(b"acknowledged.")])
        opened.write([new.change(cuts=7)])
    applied(directory, creation)
    (home(directory) / names.SIDECAR).write_bytes(b"{")

    recover(directory, FILES)

    assert content(directory) == b"acknowledged."


def test_an_empty_fork_in_the_place_of_a_deleted_stream_survives_its_torn_sidecar(
    directory: DataDirectory,
) -> None:
    old, fork = History(), History(stream_id=OTHER_ID)
    applied(directory, fork.create())
    journaled(directory, old.delete(), AdoptRecord("s", OTHER_ID), fork.change(cuts=7))
    (home(directory) / names.SIDECAR).write_bytes(b"{")

    recover(directory, FILES)

    loaded = load(directory.disk, home(directory))
    assert loaded is not None
    assert (loaded.sidecar.id, loaded.sidecar.cuts) == (OTHER_ID, 7)


def test_what_is_left_of_a_deleted_stream_is_not_taken_for_the_fork_that_takes_its_place(
    directory: DataDirectory,
) -> None:
    old, fork = History(), History(stream_id=OTHER_ID)
    applied(directory, old.create())
    (home(directory) / names.SIDECAR).write_bytes(b"{")
    born = directory.tmp / OTHER_ID
    born.mkdir()
    (born / names.SIDECAR).write_bytes(fork.create().sidecar)
    (born / "inherited").touch()
    journaled(directory, old.delete(), AdoptRecord("s", OTHER_ID), fork.change(cuts=7))

    recover(directory, FILES)

    assert (home(directory) / "inherited").exists()
    loaded = load(directory.disk, home(directory))
    assert loaded is not None
    assert (loaded.sidecar.id, loaded.sidecar.cuts) == (OTHER_ID, 7)


def test_batches_that_a_checkpoint_covered_are_not_looked_at(directory: DataDirectory) -> None:
    history = History()
    with journal(directory) as opened:
        opened.note_checkpoint(opened.write([history.create(b"one.")]))
        opened.write([])
    recovery = recover(directory, FILES)
    assert content(directory) is None
    assert recovery.records == 0
    assert str(recovery) == "nothing to recover"


def test_a_deleted_stream_stays_deleted_wherever_the_crash_came(directory: DataDirectory) -> None:
    history = History()
    records: list[Record] = [history.create(b"one."), history.append(b"two."), history.delete()]
    for in_files in range(4):
        applied(directory, *records[:in_files])
        journaled(directory, *records)
        recover(directory, FILES)
        assert not home(directory).exists(), in_files


def test_the_successor_of_a_deleted_stream_is_not_touched(directory: DataDirectory) -> None:
    old, new = History(), History(stream_id=OTHER_ID)
    records: list[Record] = [old.create(b"old."), old.append(b"x."), old.delete()]
    successor: list[Record] = [new.create(b"new."), new.append(b"y.")]
    applied(directory, *records, *successor)
    journaled(directory, *records, *successor)
    recover(directory, FILES)
    assert content(directory) == b"new.y."


def test_a_half_made_sidecar_with_another_name_is_not_written_to(
    directory: DataDirectory, tmp_path: Path
) -> None:
    history = History()
    applied(directory, history.create(b"one."))
    half, linked = directory.tmp / f"{ID}.{names.SIDECAR}", tmp_path / "linked"
    half.write_bytes(b"{")
    os.link(half, linked)
    journaled(directory, history.change(cuts=1))
    recover(directory, FILES)
    assert linked.read_bytes() == b"{"


def test_a_sidecar_is_never_replaced_by_an_older_one(directory: DataDirectory) -> None:
    history = History()
    created, old, new = history.create(), history.change(cuts=1), history.change(cuts=2)
    applied(directory, created)
    writer = StreamWriter(directory, FILES)
    writer.replace_sidecar(new)
    writer.close()
    journaled(directory, created, old)
    recover(directory, FILES)
    loaded = load(directory.disk, home(directory))
    assert loaded is not None
    assert loaded.sidecar.cuts == 2


def test_what_was_never_acknowledged_is_cleared_away(directory: DataDirectory) -> None:
    half = directory.tmp / ID
    half.mkdir()
    (half / names.SIDECAR).write_bytes(b"{")
    (directory.tmp / "x.meta.json").write_bytes(b"{")
    recover(directory, FILES)
    assert list(directory.tmp.iterdir()) == []


def test_a_damaged_journal_is_kept_whole_and_the_rest_of_it_recovered(
    directory: DataDirectory,
) -> None:
    history, other = History(), History("other", OTHER_ID)
    journaled(directory, history.create(b"one."), other.create(b"two."), other.append(b"three."))
    [file] = directory.journal.iterdir()
    data = bytearray(file.read_bytes())
    data[data.index(b"one.")] ^= 1
    file.write_bytes(data)
    recovery = recover(directory, FILES)
    assert recovery.damage == 1
    assert "kept in aside/" in str(recovery)
    kept = [path.read_bytes() for path in directory.aside.rglob("*.journal")]
    assert kept == [bytes(data)]
    loaded = load(directory.disk, directory.stream_directory(("other",)))
    assert loaded is not None
    assert loaded.tail.position == len(b"two.three.")


def test_writing_goes_on_behind_the_last_batch(directory: DataDirectory) -> None:
    history = History()
    journaled(directory, history.create(b"one."))
    first = recover(directory, FILES)
    with journal(directory, first) as opened:
        opened.write([history.append(b"two.")])
    second = recover(directory, FILES)
    assert content(directory) == b"one.two."
    assert second.last > first.last
    assert second.generation > first.generation


def test_a_kind_of_record_for_which_nothing_is_done_is_a_bug(directory: DataDirectory) -> None:
    """And is not passed over, as if the files had it."""
    with pytest.raises(AssertionError):
        apply_again(directory, [cast("Record", History())])
