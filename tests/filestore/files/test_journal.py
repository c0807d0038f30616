from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.journal import SyncFailed
from durable_streams.filestore.files.journal_reader import (
    JournalContent,
    read_journal,
    set_aside,
)
from durable_streams.filestore.format.journal import (
    BATCH_HEADER_BYTES,
    BATCH_MAGIC,
    FILE_HEADER_BYTES,
    unpack_header,
)
from tests.filestore.files.journals import (
    FILE_BYTES,
    files,
    journal_of,
    read,
    record,
    reopened,
    write_until_turned,
    written,
)

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory
    from tests.filestore.files.staged_disk import StagedDisk


def test_batches_come_back_in_order(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        assert journal.write([record("a"), record("b")]) == 2
        assert journal.write([record("c")]) == 3
        content, batches = read(directory)
    assert batches == {1: [], 2: ["a", "b"], 3: ["c"]}
    assert (content.generation, content.last, content.checkpointed) == (1, 3, 0)
    assert content.damage == []


def test_an_empty_directory_holds_an_empty_journal(directory: DataDirectory) -> None:
    assert read(directory) == (JournalContent(), {})


def test_a_new_journal_states_at_once_what_is_applied(directory: DataDirectory) -> None:
    with journal_of(directory, generation=5, number=40):
        content, batches = read(directory)
    assert batches == {41: []}
    assert (content.generation, content.last, content.checkpointed) == (5, 41, 40)


def test_files_are_zeroed_ahead_and_keep_their_size(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        write_until_turned(journal, "a")
        assert {len(data) for data in files(directory).values()} == {FILE_BYTES}


def test_a_journal_goes_on_in_another_file_when_one_is_full(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        numbers = write_until_turned(journal, "a")
        assert sorted(files(directory)) == ["0.journal", "1.journal"]
        assert journal.full_files() == 1
    assert written(directory) == {number: f"a{number}" for number in numbers}


def test_a_file_that_was_moved_away_comes_back_over_no_other(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        away = directory.root.parent / "away"
        (directory.journal / "0.journal").rename(away)
        numbers = write_until_turned(journal, "a")
        away.rename(directory.journal / "0.journal")
        numbers += write_until_turned(journal, "a")
    assert written(directory) == {number: f"a{number}" for number in numbers}


def test_a_batch_larger_than_a_file_is_kept_whole(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a" * 3 * FILE_BYTES)])
        journal.write([record("b")])
        assert written(directory) == {2: "a" * 3 * FILE_BYTES, 3: "b"}


def test_a_full_journal_has_no_room_before_a_checkpoint(directory: DataDirectory) -> None:
    with journal_of(directory, max_files=2) as journal:
        write_until_turned(journal, "a")
        last = journal.last
        while journal.has_room(150):
            last = journal.write([record("b")])
        assert sorted(files(directory)) == ["0.journal", "1.journal"]
        journal.note_checkpoint(1)
        assert not journal.has_room(150)
        journal.note_checkpoint(last)
        assert journal.has_room(150)
        assert journal.full_files() == 0
        journal.write([record("c")])
        assert sorted(files(directory)) == ["0.journal", "1.journal"]


def test_the_oldest_file_is_used_again_first(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        write_until_turned(journal, "a")
        write_until_turned(journal, "b")
        journal.note_checkpoint(journal.last)
        before = files(directory)
        write_until_turned(journal, "c")
        changed = [name for name, data in files(directory).items() if data != before[name]]
    assert changed == ["0.journal", "2.journal"]


def test_the_next_start_uses_the_oldest_file_first_as_well(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        write_until_turned(journal, "a")
        journal.note_checkpoint(journal.last)
        write_until_turned(journal, "b")
    ages = {name: unpack_header(data) for name, data in files(directory).items()}
    assert [ages[name].generation for name in ("0.journal", "1.journal")] == [3, 2]  # type: ignore[union-attr]
    before = files(directory)
    with reopened(directory):
        after = files(directory)
    assert [name for name in after if after[name] != before[name]] == ["1.journal"]


def test_what_an_earlier_use_of_a_file_left_is_not_read(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        write_until_turned(journal, "old")
        write_until_turned(journal, "old")
        journal.note_checkpoint(journal.last)
        last = write_until_turned(journal, "new")[-1]
        content, batches = read(directory)
    assert content.last == last
    assert content.damage == []
    assert list(batches) == list(range(min(batches), last + 1))
    assert b"old2" not in b"".join(files(directory).values())


def test_numbers_go_on_after_a_restart(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a")])
    with reopened(directory) as journal:
        assert journal.write([record("b")]) == 4
    content, batches = read(directory)
    assert batches == {3: [], 4: ["b"]}
    assert (content.generation, content.checkpointed) == (2, 2)


def test_what_was_applied_is_never_taken_back(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a")])
        journal.note_checkpoint(2)
        journal.note_checkpoint(1)
        journal.write([record("b")])
    assert read(directory)[0].checkpointed == 2


def test_a_torn_tail_ends_the_journal_wherever_it_is_torn(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        for name in "abc":
            journal.write([record(name)])
    [file] = directory.journal.iterdir()
    data = file.read_bytes().rstrip(b"\0")
    begins = [data.index(b"DJSB", FILE_HEADER_BYTES)]
    while (begin := data.find(b"DJSB", begins[-1] + 1)) >= 0:
        begins.append(begin)
    begins.append(len(data))
    for size in range(FILE_HEADER_BYTES, len(data)):
        whole = sum(end <= size for end in begins[1:])
        for tail in (b"", bytes(FILE_BYTES - size)):
            file.write_bytes(data[:size] + tail)
            content, batches = read(directory)
            assert len(batches) == whole
            assert content.last == whole
            assert content.damage == []


def test_a_file_with_a_torn_header_was_never_begun(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        write_until_turned(journal, "a")
    newest = directory.journal / "1.journal"
    newest.write_bytes(newest.read_bytes()[: FILE_HEADER_BYTES - 1] + bytes(FILE_BYTES))
    content, batches = read(directory)
    assert content.last == max(batches)
    assert content.damage == []
    with reopened(directory):
        assert len(files(directory)) == 2


def test_a_reader_of_a_file_that_grows_sees_a_prefix(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        content = JournalContent()
        batches = read_journal(directory, content)
        assert next(batches).number == 1
        journal.write([record("a")])
        assert list(batches) == []
        assert content.last == 1


@pytest.mark.parametrize("part", ["header", "payload"])
def test_damage_in_the_middle_is_noticed_and_later_batches_are_read(
    directory: DataDirectory, part: str
) -> None:
    with journal_of(directory) as journal:
        for name in "abcd":
            journal.write([record(name)])
    [file] = directory.journal.iterdir()
    data = bytearray(file.read_bytes())
    begin = data.index(record("b").id.encode(), data.index(b"\xa1b"))
    data[begin if part == "payload" else begin - BATCH_HEADER_BYTES] ^= 1
    file.write_bytes(data)
    content, batches = read(directory)
    assert batches == {1: [], 2: ["a"], 4: ["c"], 5: ["d"]}
    assert len(content.damage) == 1
    assert content.damage[0].startswith("0.journal: batch 3 at byte ")
    assert content.last == 5


def test_damage_at_the_end_of_a_full_file_is_noticed(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        numbers = write_until_turned(journal, "a")
    file = directory.journal / "0.journal"
    data = bytearray(file.read_bytes())
    data[data.rindex(b"DJSB")] ^= 1
    file.write_bytes(data)
    content, batches = read(directory)
    lost = numbers[-2]
    assert content.damage == [f"0.journal: batches {lost} to {lost} are missing"]
    assert lost not in batches
    assert numbers[-1] in batches


def test_a_missing_file_is_noticed(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        first = write_until_turned(journal, "a")[-1]
        second = write_until_turned(journal, "b")
    (directory.journal / "1.journal").unlink()
    content, batches = read(directory)
    assert content.damage == [f"0.journal: batches {first} to {second[-2]} are missing"]
    assert second[-1] in batches


def test_what_is_unreadable_and_was_never_synced_is_the_end(directory: DataDirectory) -> None:
    with journal_of(directory, sync=False) as journal:
        for name in "abc":
            journal.write([record(name)])
    [file] = directory.journal.iterdir()
    data = bytearray(file.read_bytes())
    data[data.index(b"\xa1b")] ^= 1
    file.write_bytes(data)
    content, batches = read(directory)
    assert batches == {1: [], 2: ["a"]}
    assert content.damage == []


def test_what_is_unreadable_below_what_was_synced_now_and_then_is_read_past(
    directory: DataDirectory,
) -> None:
    """In the mode ``interval``: each batch says up to where the journal was synced before it."""
    with journal_of(directory, sync=False) as journal:
        for name in "ab":
            journal.write([record(name)])
        journal.sync()
        for name in "cd":
            journal.write([record(name)])
    [file] = directory.journal.iterdir()
    data = bytearray(file.read_bytes())
    data[data.index(b"\xa1a")] ^= 1
    file.write_bytes(data)
    content, batches = read(directory)
    assert batches == {1: [], 4: ["c"], 5: ["d"]}
    assert len(content.damage) == 1


def test_a_full_file_is_synced_even_where_batches_are_not(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    with journal_of(directory, sync=False) as journal:
        before = disk.calls["sync"]
        journal.write([record("a")])
        assert disk.calls["sync"] == before
        write_until_turned(journal, "b")
        assert disk.calls["sync"] > before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_abandons_the_file_unless_it_is_full_and_its_number_is_given_again(
    directory: DataDirectory, disk: StagedDisk, number: int
) -> None:
    with journal_of(directory) as journal:
        assert journal.write([record("a")]) == 2
        disk.fail("pwrite", number, times=1)
        with pytest.raises(OSError, match=r"\[Errno"):
            journal.write([record("failed")])
        assert journal.write([record("b")]) == 3
        assert journal.write([record("c")]) == 4
        # For want of room too little was written to be taken for the batch; else it may be whole.
        both = ["0.journal", "1.journal"]
        assert sorted(files(directory)) == (both[:1] if number == errno.ENOSPC else both)
    content, _ = read(directory)
    assert written(directory) == {2: "a", 3: "b", 4: "c"}
    assert content.damage == []


def test_what_a_failed_write_left_behind_is_not_read(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a")])
        disk.fail("sync", errno.EIO, times=1)
        with pytest.raises(SyncFailed):
            journal.write([record("failed")])
        journal._abandoned = True
        journal.write([record("b")])
    assert b"failed" in files(directory)["0.journal"]
    assert written(directory) == {2: "a", 3: "b"}


def test_a_failed_sync_is_final_and_acknowledges_nothing(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a")])
        disk.fail("sync", errno.EIO, times=1)
        with pytest.raises(SyncFailed, match="Input/output error"):
            journal.write([record("b")])
        assert (journal.last, journal.synced) == (2, 2)


def test_a_file_whose_first_sync_fails_takes_no_batch(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    with journal_of(directory) as journal:
        disk.fail("sync", errno.EIO, where="1.journal")
        with pytest.raises(SyncFailed):
            write_until_turned(journal, "a")
        assert journal.full_files() == 0


@pytest.mark.parametrize("call", ["pwrite", "open_write"])
def test_a_disk_without_room_for_another_file_can_be_tried_again(
    directory: DataDirectory, disk: StagedDisk, call: str
) -> None:
    with journal_of(directory) as journal:
        disk.fail(call, errno.ENOSPC, where="1.journal", times=3)
        for _ in range(3):
            with pytest.raises(OSError, match=r"\[Errno"):
                write_until_turned(journal, "a")
        assert journal.full_files() == 0
        last = journal.last
        write_until_turned(journal, "b")
        assert sorted(files(directory)) == ["0.journal", "1.journal"]
        assert written(directory)[last + 1] == f"b{last + 1}"


def test_a_full_disk_does_not_keep_a_journal_that_waits_for_a_checkpoint_from_beginning(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a")])
    syncs = disk.calls["sync_file_system"]
    disk.fail("pwrite", errno.ENOSPC, where="1.journal")
    disk.fail("sync_file_system", errno.EIO, times=1)
    with pytest.raises(OSError, match="Input/output"):  # the streams' files may not be durable
        journal_left_unsynced(directory)
    journal_left_unsynced(directory)
    assert disk.calls["sync_file_system"] == syncs + 2
    assert sorted(files(directory)) == ["0.journal", "1.journal"]
    assert written(directory) == {4: "b"}


def journal_left_unsynced(directory: DataDirectory) -> None:
    """Write behind two batches that were applied, and need not be durable in the files."""
    with journal_of(directory, generation=2, number=2, checkpointed=0) as journal:
        assert (journal.checkpointed, journal.full_files()) == (2, 0)
        journal.write([record("b")])


def test_a_start_that_is_tried_again_uses_no_generation_twice(
    directory: DataDirectory, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files that begin at one number: which is the later one must not be up to chance."""
    with journal_of(directory) as journal:
        write_until_turned(journal, "a")
    content, _ = read(directory)
    pwrite = disk.pwrite

    def full(fd: int, data: bytes, position: int) -> None:
        if data.startswith(BATCH_MAGIC):
            raise OSError(errno.ENOSPC, "No space left")
        pwrite(fd, data, position)

    generation, number = content.generation + 1, content.last
    monkeypatch.setattr(disk, "pwrite", full)
    with (
        pytest.raises(OSError, match="No space left"),
        journal_of(directory, generation=generation, number=number),
    ):
        pass
    monkeypatch.setattr(disk, "pwrite", pwrite)
    with journal_of(directory, generation=generation, number=number) as journal:
        last = journal.write([record("kept")])
    headers = [unpack_header(data) for data in files(directory).values()]
    assert [header.generation for header in headers if header] == [generation, generation + 1]
    assert written(directory)[last] == "kept"


def test_a_new_file_whose_name_cannot_be_made_durable_is_final(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    with journal_of(directory) as journal:
        disk.fail("sync_directory", errno.EIO, where="journal")
        with pytest.raises(SyncFailed):
            write_until_turned(journal, "a")


def test_a_damaged_journal_is_moved_aside_whole(directory: DataDirectory) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a")])
    before = files(directory)
    target = set_aside(directory)
    assert target.parent == directory.aside
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert read(directory) == (JournalContent(), {})
    with journal_of(directory, generation=2, number=2):
        assert list(files(directory)) == ["0.journal"]
