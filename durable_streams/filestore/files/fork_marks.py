"""Which forks a stream has: a small file for each, so that one more costs the same however many.

The directory of the stream with the id ``<id>`` has a directory ``<id>.forks`` once it was forked.
In it is a file for each fork.  Its name is the fork's id, its content a line: the CRC-32 of that id
and the fork's path (8 hex digits), a blank, and the path in UTF-8, as ``stored_path`` has it.  It
is put there, by a journal record of its own, before the fork's directory is renamed into place, and
removed with the fork's files.

A mark is a hint where to look.  It may outlive its fork, after a crash or in a copy whose files are
of different moments, and in such a copy one may be missing.  So whether a fork lives is looked up
at its path, where its own sidecar names its source; and no fork needs its source to be read.

Blocking code; nothing here is durable when it returns unless it says so.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.format.checksum import crc32
from durable_streams.filestore.format.stored_path import unpack_path

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.disk import Disk, StrPath
    from durable_streams.model.paths import StreamPath


def pack_mark(fork_id: str, stored: str) -> bytes:
    """The content of a mark of the fork at a stored path."""
    return b"%08x %s\n" % (crc32((fork_id + stored).encode()), stored.encode())


def unpack_mark(fork_id: str, data: bytes) -> StreamPath | None:
    """The path of a fork; None if its mark is torn or damaged."""
    try:
        stored = data[9:-1].decode()
    except UnicodeDecodeError:
        return None
    return unpack_path(stored) if data == pack_mark(fork_id, stored) else None


def is_forked(disk: Disk, directory: StrPath, stream_id: str) -> bool:
    """Whether a stream has a mark; its fork may be gone."""
    return bool(disk.some_names(f"{directory}/{names.forks_of(stream_id)}", 1))


def some_marks(
    disk: Disk, directory: StrPath, stream_id: str, most: int, known: Container[str]
) -> list[tuple[str, StreamPath | None]]:
    """Id and path of forks, of those among ``most`` marks that are not ``known``, in no order.

    The path is None where a mark is unreadable.
    """
    forks = f"{directory}/{names.forks_of(stream_id)}"
    found: list[tuple[str, StreamPath | None]] = []
    for fork_id in disk.some_names(forks, most):
        if fork_id not in known:
            data = whole_files.read_file(disk, f"{forks}/{fork_id}") or b""
            found.append((fork_id, unpack_mark(fork_id, data)))
    return found


def remove_mark(
    disk: Disk, directory: StrPath, stream_id: str, fork_id: str, *, sync: bool = False
) -> None:
    """A fork is gone; durably if ``sync``."""
    forks = f"{directory}/{names.forks_of(stream_id)}"
    with suppress(FileNotFoundError):
        disk.unlink(f"{forks}/{fork_id}")
        if sync:
            disk.sync_directory(forks)


def carry_over(
    directory: DataDirectory, home: StrPath, stream_id: str, forks: Mapping[str, str]
) -> None:
    """Make marks, durably, of the forks that a sidecar of format 1 names.

    One that is whole already, as after a start that the sidecar did not survive, is left as it is,
    and one that is not is replaced by what is durable: a power cut takes none away.
    """
    disk = directory.disk
    marks = f"{home}/{names.forks_of(stream_id)}"
    with suppress(FileExistsError):
        disk.make_directory(marks)
    missing = {
        fork_id: data
        for fork_id, stored in forks.items()
        if whole_files.read_file(disk, f"{marks}/{fork_id}") != (data := pack_mark(fork_id, stored))
    }
    for fork_id, data in missing.items():
        whole_files.write_file(disk, directory.tmp / f"{fork_id}.mark", data)
    if missing:
        disk.sync_file_system(directory.root_fd)
    for fork_id in missing:
        disk.rename(directory.tmp / f"{fork_id}.mark", f"{marks}/{fork_id}")
    disk.sync_file_system(directory.root_fd)
