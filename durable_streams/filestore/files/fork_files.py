"""Building a fork's directory in ``tmp/<id>``, durable before it is renamed into place.

Segments before the one that the fork point lies in are sealed: they are linked under the fork's
names (copied where the file system cannot link).  Where a file has as many names as its file system
allows (65,000 on ext4), the source gets a copy in its place, which further forks link to.  The
piece up to the fork point is copied, and its index rewritten up to the cut, without the source's
producers, ``Stream-Seq`` and closed mark.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from durable_streams.filestore.files import names, system_calls, whole_files
from durable_streams.filestore.files.disk import FailedRead
from durable_streams.filestore.files.stream_files import DamagedFiles
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index import Tail, checksum, pack_line, pack_opening
from durable_streams.filestore.format.index_lines import (
    Appended,
    Damaged,
    Foreign,
    Opened,
    Torn,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.disk import StrPath
    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.model.offsets import Offset
    from durable_streams.model.paths import StreamPath


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """What to build: ``point`` is in segment files of the source that are applied up to there.

    ``last_messages``: messages of the append that ``point`` shortens, None if it ends one.
    ``source_first``: the number of the source's first segment, which gets that of the fork's first.
    """

    source_path: StreamPath
    source_id: str
    sidecar: Sidecar
    point: Offset
    last_messages: int | None
    source_first: int = 0

    def number(self, segment: int) -> int:
        """The number that one of the source's segments has in the fork."""
        return segment - self.source_first + self.sidecar.first


def build(directory: DataDirectory, plan: ForkPlan) -> Tail:
    """Build the fork; its tail.  Leaves nothing behind if it fails.

    :class:`FailedRead` names the file of the source that cannot be read, or is too short.
    """
    target = directory.tmp / plan.sidecar.id
    try:
        return _Builder(directory, plan, target).run()
    except BaseException:
        whole_files.remove_tree(directory.disk, target)
        raise


class _Builder:
    def __init__(self, directory: DataDirectory, plan: ForkPlan, target: Path) -> None:
        self._disk = directory.disk
        self._tmp = directory.tmp
        self._plan = plan
        self._source = directory.stream_directory(plan.source_path)
        self._target = target
        self._replacing = directory.replacing

    def run(self) -> Tail:
        plan, disk = self._plan, self._disk
        whole_files.remove_tree(disk, self._target)
        disk.make_directory(self._target)
        tail = Tail(plan.sidecar.first, 0, 0, bytes.fromhex(plan.sidecar.root))
        if plan.point > (plan.source_first, 0):
            for segment in range(plan.source_first, plan.point.segment):
                number = plan.number(segment)
                for name in (names.segment_file, names.index_file):
                    self._take(name(segment, plan.source_id), name(number, plan.sidecar.id))
            tail = self._cut()
        data = sidecar_format.pack(plan.sidecar)
        whole_files.write_file(disk, self._target / names.SIDECAR, data, sync=True)
        disk.sync_directory(self._target)
        disk.sync_directory(self._tmp)
        return tail

    def _take(self, source_name: str, name: str) -> None:
        """Link a sealed file that is durable, or copy it."""
        source = f"{self._source}/{source_name}"
        with self._reading(source) as fd:
            self._disk.sync(fd)
            refusal = self._try_to_link(source, name)
            if refusal == errno.EMLINK:
                refusal = self._link_to_another(source, name)
            if refusal:
                self._copy(fd, name, self._disk.file_status(fd).size_bytes)

    @contextmanager
    def _reading(self, source: StrPath) -> Iterator[int]:
        """A file of the source, open; :class:`FailedRead` names it."""
        try:
            fd = self._disk.open_read(source)
        except OSError as error:
            raise FailedRead(error.errno, error.strerror, str(source)) from error
        try:
            yield fd
        except FailedRead as error:
            error.filename = error.filename or str(source)
            raise
        finally:
            self._disk.close(fd)

    def _try_to_link(self, source: str, name: str) -> int:
        """Link a sealed file; 0, or why that was refused."""
        try:
            self._disk.link(source, self._target / name)
        except OSError as error:
            if not system_calls.LINK.covers(error):
                raise
            return error.errno or errno.EMLINK
        return 0

    def _link_to_another(self, source: str, name: str) -> int:
        """The same where the file has all the names it may: the source gets one that has room.

        By a rename: the source has one or the other, of the same bytes, whatever happens.
        """
        with self._replacing:  # those who wait here link to the same one
            refusal = self._try_to_link(source, name)
            if refusal != errno.EMLINK:
                return refusal
            fd = self._disk.open_read(source)
            try:
                status = self._disk.file_status(fd)
                if status.links == 1:
                    return refusal  # its file system allows no more
                copy = whole_files.own_copy(
                    self._disk, source, fd, status.size_bytes, self._target / name
                )
                self._disk.close(copy)
            finally:
                self._disk.close(fd)
            return self._try_to_link(source, name)

    def _copy(self, fd: int, name: str, size: int) -> None:
        copy = self._disk.open_write(self._target / name)
        try:
            self._disk.copy(fd, copy, size)
            self._disk.sync(copy)
        finally:
            self._disk.close(copy)

    def _cut(self) -> Tail:
        """Copy the last piece and rewrite its index up to the cut."""
        plan = self._plan
        segment, position = plan.point
        number = plan.number(segment)
        source = names.segment_file(segment, plan.source_id)
        with self._reading(f"{self._source}/{source}") as fd:
            self._copy(fd, names.segment_file(number, plan.sidecar.id), position)
            index, tail = self._rewrite_index(fd)
        path = self._target / names.index_file(number, plan.sidecar.id)
        whole_files.write_file(self._disk, path, index, sync=True)
        return tail

    def _read(self, fd: int, size: int, position: int = 0) -> bytes:
        try:
            return self._disk.pread(fd, size, position)
        except OSError as error:
            raise FailedRead(*error.args) from error

    def _rewrite_index(self, segment_fd: int) -> tuple[bytes, Tail]:
        segment, to = self._plan.point
        number = self._plan.number(segment)
        name = names.index_file(segment, self._plan.source_id)
        with self._reading(f"{self._source}/{name}") as fd:
            text = self._read(fd, self._disk.file_status(fd).size_bytes)
        rewritten: list[bytes] = []
        chain, position = b"", 0
        for found in walk(text):
            match found:
                case Opened(opening=opening) | Foreign(opening=opening):
                    before = bytes.fromhex(opening.continues)
                    line, chain = pack_opening(before, number, opening.previous, {}, None)
                case Appended():
                    line, chain = self._rewritten(found, chain, segment_fd)
                    position = min(found.line.end, to)
                case Damaged():
                    raise DamagedFiles(f"{name}: {found.error}")
                case Torn():
                    break
                case _:
                    assert_never(found)
            rewritten.append(line)
            if position >= to:
                break
        if not rewritten or position != to:
            raise DamagedFiles(f"{name}: its lines end before position {to}")
        index = b"".join(rewritten)
        return index, Tail(number, to, len(index), chain)

    def _rewritten(self, found: Appended, chain: bytes, segment_fd: int) -> tuple[bytes, bytes]:
        """The line of the same append, or what the cut leaves of it, behind another one's chain."""
        line, to = found.line, self._plan.point.position
        end, messages, crc = line.end, line.messages, int(line.crc32, 16)
        if end <= found.begin:  # a close, which the fork does not have
            return b"", chain
        if end > to:
            data = self._read(segment_fd, to - found.begin, found.begin)
            end, messages = to, self._plan.last_messages or 1
            crc = checksum(data)
        return pack_line(chain, end, messages=messages, crc=crc, time_ms=line.time)
