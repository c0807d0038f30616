"""Journal files that have other names, and other files among them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.filestore.files.journals import (
    FILE_BYTES,
    files,
    journal_of,
    record,
    reopened,
    write_until_turned,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from durable_streams.filestore.files.directory import DataDirectory


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def link_all(directory: DataDirectory, target: Path) -> dict[str, bytes]:
    """Give every file of the journal another name, as ``cp -al`` does; what is in them."""
    target.mkdir()
    for path in directory.journal.iterdir():
        os.link(path, target / path.name)
    return files(directory)


def linked(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(target.iterdir())}


def test_the_next_start_writes_to_no_file_with_another_name(
    directory: DataDirectory, tmp_path: Path
) -> None:
    with journal_of(directory) as journal:
        write_until_turned(journal, "a")
    before = link_all(directory, tmp_path / "linked")
    with reopened(directory) as journal:
        journal.write([record("b")])
        assert linked(tmp_path / "linked") == before
        assert [path.stat().st_nlink for path in directory.journal.iterdir()] == [1]
        assert list(written(directory).values()) == ["b"]


def test_writing_goes_on_in_another_file_when_one_gets_another_name(
    directory: DataDirectory, tmp_path: Path
) -> None:
    with journal_of(directory) as journal:
        journal.write([record("a")])
        before = link_all(directory, tmp_path / "linked")
        journal.write([record("b")])
        journal.write([record("c")])
        assert linked(tmp_path / "linked") == before
        assert written(directory) == {2: "a", 3: "b", 4: "c"}
        assert sorted(files(directory)) == ["0.journal", "1.journal"]


def test_a_file_with_another_name_is_not_used_again(
    directory: DataDirectory, tmp_path: Path
) -> None:
    with journal_of(directory, max_files=2) as journal:
        write_until_turned(journal, "a")
        before = link_all(directory, tmp_path / "linked")
        assert not journal.has_room(1)
        journal.note_checkpoint(journal.last)
        assert journal.has_room(1)
        last = journal.write([record("b")])
        assert linked(tmp_path / "linked") == before
        assert written(directory)[last] == "b"
        assert (directory.journal / "0.journal").stat().st_nlink == 1


def test_other_files_beside_the_journal_are_left_alone(directory: DataDirectory) -> None:
    (directory.journal / "notes.txt").write_text("mine")
    with journal_of(directory) as journal:
        journal.write([record("a")])
    assert written(directory) == {2: "a"}
    assert (directory.journal / "notes.txt").read_text() == "mine"


def test_a_file_of_another_kind_with_a_journals_name_is_used_as_a_free_one(
    directory: DataDirectory, tmp_path: Path
) -> None:
    (directory.journal / "0.journal").write_bytes(b"x" * 2 * FILE_BYTES)
    with journal_of(directory) as journal:
        journal.write([record("a")])
        assert list(files(directory)) == ["0.journal"]
    assert written(directory) == {2: "a"}


def test_a_directory_with_a_journals_name_is_left_alone(directory: DataDirectory) -> None:
    for name in ("0.journal", "9.journal"):
        (directory.journal / name).mkdir()
    with journal_of(directory) as journal:
        journal.write([record("a")])
    with reopened(directory) as journal:
        journal.write([record("b")])
        assert list(written(directory).values())[-1] == "b"
    assert sorted(path.name for path in directory.journal.iterdir() if path.is_dir()) == [
        "0.journal",
        "9.journal",
    ]


@pytest.mark.parametrize("make", [os.mkfifo, make_socket], ids=["pipe", "socket"])
def test_what_is_no_file_is_left_alone_and_nobody_waits_for_it(
    directory: DataDirectory, make: Callable[[Path], None]
) -> None:
    for name in ("0.journal", "9.journal"):
        make(directory.journal / name)
    with journal_of(directory) as journal:
        journal.write([record("a")])
    assert list(written(directory).values()) == ["a"]


def test_a_journals_file_that_cannot_be_read_is_named(directory: DataDirectory) -> None:
    (directory.journal / "0.journal").symlink_to("/proc/self/mem")  # whose first bytes are none
    with pytest.raises(OSError, match=r"0\.journal"):
        written(directory)
