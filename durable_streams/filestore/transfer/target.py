"""A data directory that a copy is made in, which no server opens before it is whole.

It has no ``FORMAT.json`` until then, and ``COPYING.json``, which says of what it is a copy: what is
neither empty nor a data directory is refused by every start.  A stream is written in ``tmp/``, and
renamed into its place when it is durable, several at a time: so what is in its place is whole.
"""

from __future__ import annotations

import secrets
import sys
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from durable_streams.filestore.files import holder, names, whole_files
from durable_streams.filestore.files.directory import DataDirectory, absolute
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.fork_files import ForkPlan, build
from durable_streams.filestore.files.fork_marks import pack_mark, remove_mark
from durable_streams.filestore.files.format_file import read_format, write_format
from durable_streams.filestore.files.living_forks import living_forks
from durable_streams.filestore.files.removed_file import save_removed
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index import Tail, root_of
from durable_streams.filestore.format.removed import Removed as RemovedFile
from durable_streams.filestore.format.sidecar import ForkOrigin, Sidecar, requested
from durable_streams.filestore.format.stored_path import pack_path
from durable_streams.filestore.transfer.reading import DirectoryStreams, in_thread
from durable_streams.filestore.transfer.writing import StreamFiles
from durable_streams.model.errors import DataDirectoryError
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import path_text
from durable_streams.rules import media_type
from durable_streams.rules.json_borders import positions
from durable_streams.transfers import AGAIN, Damaged, Done, InUse, Occupied, TransferError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from durable_streams.model.paths import StreamPath
    from durable_streams.transfers import Appended, Moved, Removed

_T = TypeVar("_T")

NAME: Final = "COPYING.json"

_SYNCED_AT_ONCE: Final = 256
"""Streams that are synced and put in their places together."""

_ALL: Final = sys.maxsize - 1
"""Marks of forks: each is a file, and all are looked at."""

_HELD_AT_ONCE_BYTES: Final = 64 * 1024 * 1024


class Copying(msgspec.Struct):
    """What ``COPYING.json`` says: the source's identity, and what ids are drawn from.

    ``state``: of the source, once the copy is whole.
    """

    source: str
    salt: str
    state: str = ""


class TargetDirectory(DirectoryStreams):
    """One; use :meth:`open`, and :meth:`close` it.

    Of a producer it tells the time of its last append, and a database when that was decided.
    """

    keeps_seen = False
    given_up = "it is removed"

    def __init__(self, directory: DataDirectory, copying: Copying, *, was_begun: bool) -> None:
        super().__init__(directory)
        self.was_begun = was_begun
        self.name = str(directory.root)
        self._directory = directory
        self._disk = directory.disk
        self._copying = copying
        self._waiting: dict[str, Moved] = {}
        self._waiting_bytes = 0

    @classmethod
    async def open(cls, path: Path, source: str) -> TargetDirectory:
        """Begin a copy of a source, or go on; :class:`Occupied`, :class:`InUse`."""
        return await in_thread(cls._open, path, source)

    @classmethod
    def _open(cls, path: Path, source: str) -> TargetDirectory:
        disk, root = Disk(), absolute(path)
        _check(disk, root, source)
        try:
            directory = DataDirectory.locked(disk, root)
        except BlockingIOError:
            raise InUse(str(holder.in_use(disk, root))) from None
        try:
            begun = _check(disk, root, source)
            copying = begun or _begin(disk, root, source)
            whole_files.remove_tree(disk, directory.tmp)
            directory.furnish()
        except BaseException:
            directory.close()
            raise
        return cls(directory, copying, was_begun=begun is not None)

    def key_of(self, key: str) -> str:
        """What the copy of an incarnation is called: its id here."""
        return blake2b(f"{self._copying.salt} {key}".encode(), digest_size=12).hexdigest()

    def refusal(self, _: Moved) -> str:
        """Files hold whatever a stream has."""
        return ""

    async def find(self, streams: Sequence[Moved]) -> set[str]:
        """Those that are there whole."""
        return await in_thread(self._find, streams)

    def _find(self, streams: Sequence[Moved]) -> set[str]:
        found: set[str] = set()
        for stream in streams:
            stream_id = self.key_of(stream.key)
            home = self.layout.stream_directory(stream.path)
            if stream_id in self._waiting:
                found.add(stream.key)
            elif self._disk.status(f"{home}/{names.SIDECAR}") is not None:
                there = self._head(home)
                if there is None or there.key != stream_id:
                    raise Occupied(f"{home}: it is not of this copy: empty {self.name}")
                found.add(stream.key)
        return found

    async def add(
        self,
        stream: Moved,
        appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]],
    ) -> None:
        """Have a stream, whole."""
        files, behind = await self._begun(stream, appends)
        held: Sequence[Appended] = ()
        async for batch in appends(behind):
            if held:
                await self._written(files.put, held)
                self._waiting_bytes += sum([len(each.data) for each in held])
            held = batch
        if held:  # what is known of the last one is known of the stream
            await self._written(partial(files.put, held, last_seq=stream.stream_seq))
        if stream.tail > files.tail.offset:  # a fork that begins where its source begins a segment
            await self._written(files.reach, stream.tail.segment)
        self._waiting[self.key_of(stream.key)] = stream
        if len(self._waiting) >= _SYNCED_AT_ONCE or self._waiting_bytes >= _HELD_AT_ONCE_BYTES:
            await self.settle()

    async def _begun(
        self, stream: Moved, appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]]
    ) -> tuple[StreamFiles, Offset]:
        """A directory in ``tmp/`` with what a stream has of its source, and up to where."""
        stream_id = self.key_of(stream.key)
        source = None
        if stream.source is not None and stream.fork is not None:
            await self.settle()
            source = await self.at(stream.fork.source)
            if source is None or source.key != self.key_of(stream.source):
                raise Damaged(f"{path_text(stream.path)}: what it is a fork of is not there")
        root = None if source is None else await in_thread(self._root_of, source)
        sidecar = self._sidecar(stream, root)
        home = str(self._directory.tmp / stream_id)
        if source is None or stream.point == stream.begin:
            tail, behind = (
                Tail(stream.first_segment, 0, 0, bytes.fromhex(sidecar.root)),
                stream.begin,
            )
            await self._written(self._make, home, sidecar)
        else:
            last = await self._shortened(stream, appends)
            plan = await in_thread(self._plan, stream, sidecar, source, last)
            tail, behind = await self._written(build, self._directory, plan), stream.point
        files = StreamFiles(
            self._disk,
            home,
            stream_id,
            tail,
            is_json=media_type.is_json(stream.content_type),
            kept=stream.producers,
        )
        return files, behind

    def _root_of(self, source: Moved) -> str:
        loaded = self._load(self.layout.stream_directory(source.path))
        assert loaded is not None
        return loaded.sidecar.root

    def _make(self, home: str, sidecar: Sidecar) -> None:
        whole_files.remove_tree(self._disk, home)
        self._disk.make_directory(home)
        data = sidecar_format.pack(sidecar)
        whole_files.write_file(self._disk, f"{home}/{names.SIDECAR}", data)

    def _sidecar(self, stream: Moved, root: str | None) -> Sidecar:
        stream_id, life, fork = self.key_of(stream.key), stream.lifetime, stream.fork
        used_ms = stream.created_ms
        if life.ttl_s is not None and stream.deadline_ms is not None:
            used_ms = stream.deadline_ms - life.ttl_s * 1000
        origin = None
        if fork is not None:
            origin = ForkOrigin(
                source=pack_path(fork.source),
                source_id=self.key_of(stream.source or ""),
                offset=None if fork.offset is None else fork.offset.token,
                sub_offset=fork.sub_offset,
                point=stream.point.token,
            )
        return Sidecar(
            id=stream_id,
            path=pack_path(stream.path),
            content_type=stream.content_type,
            created_ms=stream.created_ms,
            last_use_ms=used_ms,
            root=root_of(stream_id).hex() if root is None else root,
            requested=requested(stream.requested),
            fork=origin,
            ttl_s=life.ttl_s,
            expires_at=life.expires_at,
            expires_at_ms=life.expires_at_ms,
            soft_deleted=stream.soft_deleted,
            first=stream.first_segment,
        )

    async def _shortened(
        self, stream: Moved, appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]]
    ) -> int:
        """How many messages the last append has that a fork has of its source.

        Builders ask for it only where the fork has not all of them.
        """
        if not media_type.is_json(stream.content_type):
            return 1
        point = stream.point
        behind = Offset(point.segment, point.position - 1)
        if not point.position:
            behind = Offset(point.segment - 1, 0)
        last = b""
        async for batch in appends(behind):
            for each in batch:
                if Offset(each.segment, each.end) > point:
                    return sum(1 for _ in positions([last]))
                last = each.data
        return sum(1 for _ in positions([last]))

    def _plan(self, stream: Moved, sidecar: Sidecar, source: Moved, last: int) -> ForkPlan:
        """What to build: the fork point lies in the last segment that has something of it."""
        assert stream.fork is not None
        segment = stream.point.segment - stream.first_segment + source.first_segment
        point = Offset(segment, stream.point.position)
        if not point.position:
            home, before = self.layout.stream_directory(source.path), segment - 1
            size = self._disk.status(f"{home}/{names.segment_file(before, source.key)}")
            assert size is not None
            point = Offset(before, size.size_bytes)
        return ForkPlan(stream.fork.source, source.key, sidecar, point, last, source.first_segment)

    async def _written(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Write something in a thread; :class:`TransferError` if that cannot be."""
        try:
            return await in_thread(work, *arguments)
        except OSError as error:
            raise TransferError(
                f"{self.name} cannot be written: {error}: mend that, and {AGAIN}"
            ) from error

    async def drop(self, streams: Sequence[Moved]) -> None:
        """Have some no more, nor their forks."""
        await self._written(self._drop, streams)

    def _drop(self, streams: Sequence[Moved]) -> None:
        """Forks first: one without its source is taken for changed if this is broken off."""
        doomed: dict[StreamPath, Sidecar] = {}
        waiting = [stream.path for stream in streams]
        while waiting:
            path = waiting.pop()
            loaded = None if path in doomed else self._load(self.layout.stream_directory(path))
            if loaded is not None:
                doomed[path] = loaded.sidecar
                forks, _ = living_forks(self._directory, loaded.sidecar, path, _ALL)
                waiting.extend(forks)
        for path, sidecar in reversed(doomed.items()):
            home = self.layout.stream_directory(path)
            if sidecar.fork is not None:
                source = self.layout.home_of(sidecar.fork.source)
                remove_mark(self._disk, source, sidecar.fork.source_id, sidecar.id)
            self._disk.rename(home, self._directory.tmp / sidecar.id)
            whole_files.remove_tree(self._disk, self._directory.tmp / sidecar.id)

    async def settle(self) -> None:
        """Put what was written in its place, durable."""
        await self._written(self._settle)

    def _settle(self) -> None:
        if not self._waiting:
            return
        disk, directory = self._disk, self._directory
        for stream_id, stream in self._waiting.items():  # before the forks are there
            if stream.source is not None and stream.fork is not None:
                self._mark(stream, stream_id)
        disk.sync_file_system(directory.root_fd)
        for stream_id, stream in self._waiting.items():
            home = self.layout.stream_directory(stream.path)
            parent = whole_files.parent_of(home)
            whole_files.make_directories(disk, parent, directory.root)
            disk.rename(directory.tmp / stream_id, home)
        disk.sync_file_system(directory.root_fd)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _mark(self, stream: Moved, stream_id: str) -> None:
        """Say at a fork's source where the fork is."""
        assert stream.fork is not None
        assert stream.source is not None
        home = self.layout.stream_directory(stream.fork.source)
        marks = f"{home}/{names.forks_of(self.key_of(stream.source))}"
        if not self._disk.is_directory(marks):
            self._disk.make_directory(marks)
        mark = pack_mark(stream_id, pack_path(stream.path))
        whole_files.write_file(self._disk, f"{marks}/{stream_id}", mark)

    async def finish(self, removed: Removed, state: str) -> None:
        """Let a server open it."""
        await self._written(self._finish, removed, state)

    def _finish(self, removed: Removed, state: str) -> None:
        disk, root = self._disk, self._directory.root
        whole_files.remove_tree(disk, self._directory.tmp)
        disk.make_directory(self._directory.tmp)
        if removed.floor or removed.paths:
            paths = {pack_path(path): first for path, first in removed.paths.items()}
            save_removed(self._directory, RemovedFile(removed.floor, paths))
        _write(disk, root, msgspec.structs.replace(self._copying, state=state))
        disk.sync_file_system(self._directory.root_fd)
        write_format(disk, root, secrets.token_hex(8))
        disk.unlink(root / NAME)
        disk.sync_directory(root)

    async def close(self) -> None:
        """Give up the lock."""
        await in_thread(self._directory.close)


def _check(disk: Disk, root: Path, source: str) -> Copying | None:
    """What a copy that was begun there says; None if there is nothing; :class:`Occupied`."""
    try:
        data = whole_files.read_file(disk, root / NAME)
        if read_format(disk, root) is not None:
            copying = None if data is None else msgspec.json.decode(data, type=Copying)
            if copying is not None and copying.source == source:
                disk.unlink(root / NAME)  # it ended between its last two steps
                raise Done(str(root), copying.state)
            raise Occupied(
                f"{root} is a data directory already: a copy is made in a directory that is empty "
                "or not there"
            )
        if data is None:
            others = [
                name for name in disk.names(root) if not name.startswith((".", "LOCK", "lost+"))
            ]
            if others:
                raise Occupied(f"{root} is not empty: give a directory that is, or is not there")
            return None
        copying = msgspec.json.decode(data, type=Copying)
    except OSError as error:
        raise DataDirectoryError(f"{root} cannot be looked at: {error}") from error
    except msgspec.MsgspecError as error:
        raise Occupied(f"{root}/{NAME} is unreadable: {error}: empty the directory") from None
    if copying.source != source:
        raise Occupied(
            f"{root} has a copy of something else that was not ended: end that, or empty it"
        )
    return copying


def _begin(disk: Disk, root: Path, source: str) -> Copying:
    copying = Copying(source, secrets.token_hex(8))
    _write(disk, root, copying)
    return copying


def _write(disk: Disk, root: Path, copying: Copying) -> None:
    """Have ``COPYING.json`` say so, durably."""
    whole_files.write_file(disk, root / f".{NAME}", msgspec.json.encode(copying), sync=True)
    disk.rename(root / f".{NAME}", root / NAME)
    disk.sync_directory(root)
