"""Segment files that are open for reading: few, shared, and given back when they run out.

A file that is read again and again is kept open, up to a bound; an answer that is sent from a file
holds it until it is released, also when it is not kept any more.  Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names
from durable_streams.filestore.reading.read_ahead import ReadAhead
from durable_streams.model.errors import Overloaded

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from durable_streams.descriptors import Descriptors
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.streams.stream import Stream

_LEAST_FILES: Final = 4  # that are kept open whatever the system says
_SHRINK_S: Final = 1.0  # between two times that fewer are kept

log = logging.getLogger("durable_streams.filestore")

_FileKey = tuple[str, str, int]


class OpenSegment:
    """A segment file open for reading, shared by chunks; closed when the last lets go.

    ``fd``: its descriptor until then.
    """

    __slots__ = ("_directory", "_users", "fd", "path")

    def __init__(self, directory: DataDirectory, path: Path, fd: int) -> None:
        self._directory = directory
        self.path = path
        self.fd = fd
        self._users = 1

    def fileno(self) -> int:
        """The descriptor."""
        return self.fd

    def acquire(self) -> None:
        """One more user."""
        self._users += 1

    def release(self) -> None:
        """One user less."""
        self._users -= 1
        if not self._users:
            self._directory.disk.close(self.fd)


class HeldSegment:
    """One that a chunk has, one of so many at a time."""

    __slots__ = ("_ahead", "_file", "_room", "fileno")

    def __init__(self, file: OpenSegment, room: asyncio.Semaphore, ahead: ReadAhead) -> None:
        self.fileno = file.fileno
        self._file = file
        self._room = room
        self._ahead = ahead

    def read(self, size: int, position: int) -> bytes:
        """Read up to ``size`` bytes, less only at the end of the file."""
        return self._ahead.disk.pread(self.fileno(), size, position)

    async def warm(self, size: int, position: int) -> None:
        """Have a thread read what the page cache lacks."""
        await self._ahead.warm(self.fileno(), size, position)

    def release(self) -> None:
        """The chunk was released."""
        self._file.release()
        self._room.release()


class OpenSegments:
    """Those that are kept open, and the opening of others."""

    def __init__(
        self,
        directory: DataDirectory,
        executor: Executor,
        available: Descriptors,
        answers_wait_s: float,
    ) -> None:
        """Half of the files that may be kept open are kept here.

        ``answers_wait_s``: how long a read waits for others to be done with their files.
        """
        self.answers_wait_s = answers_wait_s
        self._directory = directory
        self._disk = directory.disk
        self._executor = executor
        self._ahead = ReadAhead(directory.disk, executor)
        self._max_files = available.files // 2
        self._room = asyncio.Semaphore(available.answers)
        self._loop = asyncio.get_running_loop()
        self._shrunk_s = float("-inf")
        self._files: OrderedDict[_FileKey, OpenSegment] = OrderedDict()

    async def acquire(self, stream: Stream, segment: int, size: int) -> OpenSegment:
        """A segment file of at least ``size`` bytes, open and acquired for the caller."""
        key = (stream.stored, stream.id, segment)
        file = self.kept(stream, segment, size)
        if file is None:
            name, _ = names.files_of(stream.path, segment, stream.id)
            path = self._directory.streams / name
            fd = await self._open(path)
            try:
                may_be_replaced = self._has_more_than_applied(stream, segment, fd)
            except BaseException:
                self._disk.close(fd)
                raise
            if may_be_replaced:
                return OpenSegment(self._directory, path, fd)
            file = self._files.get(key)
            if file is not None:
                self._disk.close(fd)
            else:
                file = self._files[key] = OpenSegment(self._directory, path, fd)
                while len(self._files) > self._max_files:
                    self._files.popitem(last=False)[1].release()
        file.acquire()
        return file

    def kept(self, stream: Stream, segment: int, size: int) -> OpenSegment | None:
        """The same if it is open already; not acquired."""
        key = (stream.stored, stream.id, segment)
        file = self._files.get(key)
        if file is None:
            return None
        if self._disk.size_of(file.fd) < size:
            self._files.pop(key).release()  # it was replaced, having had another name
            return None
        self._files.move_to_end(key)
        return file

    def _has_more_than_applied(self, stream: Stream, segment: int, fd: int) -> bool:
        """Whether a file has torn bytes at its end, perhaps: it may still be replaced by a copy.

        (One that has none can be replaced too, but then it is shorter than what is read of it.)
        """
        applied = stream.applied
        size = self._disk.size_of(fd)
        return segment >= applied.segment and size > applied.position

    async def _open(self, path: Path) -> int:
        """Open a file off the loop; whoever leaves meanwhile leaves no descriptor behind."""
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(self._executor, self._disk.open_read, path)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._close_unused)
            raise

    def _close_unused(self, opening: asyncio.Future[int]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._disk.close(opening.result())

    def give_back(self) -> bool:
        """There are no more descriptors: close what nobody reads; whether there was anything.

        From then on fewer are kept; those who ask at the same time count as one.
        """
        had_any = bool(self._files)
        now = self._loop.time()
        if now >= self._shrunk_s + _SHRINK_S:
            self._shrunk_s = now
            self._max_files = max(_LEAST_FILES, self._max_files // 2)
            log.warning("no more descriptors: at most %d files are kept open", self._max_files)
        self.close()
        return had_any

    async def hold(self, stream: Stream, segment: int, size: int) -> HeldSegment:
        """A segment file for a chunk, when there are few enough of them."""
        if self._room.locked():
            try:
                async with asyncio.timeout(self.answers_wait_s):
                    await self._room.acquire()
            except TimeoutError:
                raise Overloaded("too many answers are being read from files") from None
        else:
            await self._room.acquire()
        try:
            return HeldSegment(await self.acquire(stream, segment, size), self._room, self._ahead)
        except BaseException:
            self._room.release()
            raise

    def forget(self, stream: Stream) -> None:
        """A stream was deleted: let go of its files."""
        for key in [key for key in self._files if key[1] == stream.id]:
            self._files.pop(key).release()

    def close(self) -> None:
        """Let go of all files; chunks still out keep theirs."""
        while self._files:
            self._files.popitem()[1].release()
