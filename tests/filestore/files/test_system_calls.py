"""What some hosts refuse, and what is done instead.

Few machines refuse any of it, so the refusals here are played: functions of ``os`` are replaced.
``test_forbidden_calls`` has the kernel refuse what a container may forbid.
"""

from __future__ import annotations

import ast
import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.files import system_calls
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.system_calls import ANY, REFUSALS
from durable_streams.model.errors import DataDirectoryError
from tests.filestore.files.refusing import LOST, Calls, fails
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOME: Final = (
    *(errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ETXTBSY),
    *(errno.EBADF, errno.EIO, errno.EINTR, errno.EOVERFLOW),
)
"""Of a row that means any error."""

SIZE: Final = 5 * 1024 * 1024 + 7


# -- copy_file_range -------------------------------------------------------------------------


@pytest.fixture
def content() -> bytes:
    return bytes(range(256)) * (SIZE // 256 + 1)


@pytest.fixture
def files(tmp_path: Path, content: bytes) -> Iterator[tuple[int, int]]:
    """A file to copy from, longer than what is copied, and one to copy to."""
    (tmp_path / "source").write_bytes(content)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield source, target
    os.close(source)
    os.close(target)


def kernel_copies(good: int, then: Callable[..., int | None]) -> Calls:
    """``copy_file_range`` that works so often, half of what it is asked for each time."""

    def copy(source: int, target: int, count: int, position: int, _to: int) -> int | None:
        if len(calls.arguments) > good:
            return then()
        return os.pwrite(target, os.pread(source, count // 2, position), position)

    calls = Calls(copy)
    return calls


@pytest.mark.parametrize("good", [0, 1, 3])
@pytest.mark.parametrize(
    "then", [lambda: 0, *map(fails, SOME)], ids=["nothing", *(errno.errorcode[n] for n in SOME)]
)
def test_what_the_kernel_does_not_copy_is_read_and_written_and_it_is_not_asked_again(
    files: tuple[int, int],
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
    good: int,
    then: Callable[..., int | None],
) -> None:
    kernel = kernel_copies(good, then)
    monkeypatch.setattr(os, "copy_file_range", kernel, raising=False)
    Disk().copy(*files, SIZE)
    assert os.pread(files[1], SIZE + 1, 0) == content[:SIZE]
    assert len(kernel.arguments) == good + 1


def test_a_host_without_copies_in_the_kernel_reads_and_writes(
    files: tuple[int, int], content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    Disk().copy(*files, SIZE)
    assert os.pread(files[1], SIZE + 1, 0) == content[:SIZE]


def test_a_source_that_really_ends_too_early_is_an_error(
    files: tuple[int, int], content: bytes
) -> None:
    with pytest.raises(OSError, match="is shorter than") as caught:
        Disk().copy(*files, len(content) + 1)
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize(("call", "number"), [("pread", errno.EIO), ("pwrite", errno.ENOSPC)])
def test_what_is_really_wrong_with_a_copy_shows_in_reading_and_writing(
    files: tuple[int, int], monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    monkeypatch.setattr(os, "copy_file_range", fails(number), raising=False)
    monkeypatch.setattr(os, call, fails(number))
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        Disk().copy(*files, SIZE)


# -- reading from memory, without waiting ----------------------------------------------------


@pytest.mark.parametrize("number", [*SOME, errno.EAGAIN], ids=errno.errorcode.get)
def test_where_a_read_cannot_be_told_not_to_wait_it_is_left_to_a_thread(
    files: tuple[int, int], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "preadv", fails(number), raising=False)
    disk = Disk()
    disk.nowait = 8
    assert disk.pread_cached(files[0], 10, 0) is None


# -- room, kinds of file systems, locks ------------------------------------------------------


def room(monkeypatch: pytest.MonkeyPatch, blocks: int, files: int) -> tuple[int, int]:
    counts = {"f_blocks": blocks, "f_files": files, "f_bavail": blocks, "f_favail": files}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_frsize=4096, **counts))
    return Disk().room("/")


@pytest.mark.parametrize(("call", "list_names"), [
    ("listdir", lambda disk, path: disk.names(path)),
    ("scandir", lambda disk, path: disk.some_names(path, 9)),
])  # fmt: skip
def test_names_are_listed_with_a_descriptor_that_is_given_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    list_names: Callable[[Disk, Path], list[str]],
) -> None:
    (tmp_path / "one").touch()
    disk = Disk()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails(errno.EMFILE))
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            list_names(disk, tmp_path)

        def give_back() -> bool:
            patched.undo()
            return True

        disk.give_back = give_back
        assert list_names(disk, tmp_path) == ["one"]


def test_a_file_system_that_does_not_count_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(monkeypatch, 2, 3) == (8192, 3)
    assert room(monkeypatch, 0, 3) == (1 << 62, 3)
    assert room(monkeypatch, 2, 0) == (8192, 1 << 62)


@pytest.mark.parametrize("number", system_calls.STATVFS.errnos, ids=errno.errorcode.get)
def test_where_room_cannot_be_asked_for_there_is_room(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "statvfs", fails(number))
    assert min(Disk().room("/")) == 1 << 62


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EIO, errno.ENOTCONN])
def test_a_directory_that_cannot_be_reached_is_told_when_room_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "statvfs", fails(number))
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        Disk().room("/")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EPERM])
def test_without_proc_neither_the_kind_of_file_system_nor_what_is_unwritten_is_known(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    disk = Disk()
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", fails(number))
        assert disk.file_system("/") == ""
        assert disk.unwritten_bytes() is None
        assert not disk.syncs_sooner_as_a_whole(1000)


@pytest.mark.parametrize("number", system_calls.FLOCK.errnos, ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_refused_and_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("fcntl.flock", fails(number))
    expected = f"file system has no locks ({os.strerror(number)})"
    with pytest.raises(DataDirectoryError, match=re.escape(expected)):
        DataDirectory.open(Disk(), data_dir)


@pytest.mark.parametrize(
    ("number", "told"), [(errno.EAGAIN, "in use by another"), (errno.EIO, os.strerror(errno.EIO))]
)
def test_a_lock_that_is_held_or_fails_is_told_as_that(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    monkeypatch.setattr("fcntl.flock", fails(number))
    with pytest.raises(DataDirectoryError, match=re.escape(told)):
        DataDirectory.open(Disk(), data_dir)


# -- the table -------------------------------------------------------------------------------


def told_rows() -> list[tuple[str, str, str]]:
    """The table of docs/operations.rst: call, errors, what is done instead."""
    text = (ROOT / "docs" / "operations.rst").read_text()
    table = text.partition("* - System call\n")[2].partition("\n\n")[0]
    rows = re.findall(r"\* - (.+)\n +- (.+)\n +- ((?:.+\n?)+?)(?=   \* -|$)", table + "\n")
    return [(call.strip("`"), errors, instead) for call, errors, instead in rows]


def test_the_table_in_the_documents_is_that_of_the_code() -> None:
    told = {
        call: ANY
        if errors == "any error"
        else frozenset(getattr(errno, name) for name in re.findall(r"E[A-Z0-9]+", errors))
        for call, errors, _ in told_rows()
    }
    assert told == {row.call: row.errnos for row in REFUSALS}


def test_each_row_of_the_table_names_its_tests() -> None:
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    rows = told_rows()
    assert len(rows) == len(REFUSALS)
    for call, _, instead in rows:
        proofs = re.findall(r":proof:`(\w+)`", instead)
        assert proofs, call
        assert set(proofs) <= set(re.findall(r"def (test_\w+)", tests)), call


def test_no_error_of_lost_bytes_passes_for_a_refused_sync() -> None:
    syncs = [row for row in REFUSALS if "sync" in row.call.lower()]
    assert len(syncs) == 5
    for row in syncs:
        assert row.errnos.isdisjoint(LOST), row.call


def test_calls_that_many_hosts_lack_are_not_used() -> None:
    unused = {"posix_fallocate", "fallocate", "O_DIRECT", "O_TMPFILE", "renameat2", "mmap"}
    for path in (ROOT / "durable_streams").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            used = {getattr(node, name, None) for name in ("id", "attr", "name", "module")}
            assert used.isdisjoint(unused), path
