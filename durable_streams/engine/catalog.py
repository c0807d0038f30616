"""Which streams are open, and how paths become streams.

The file system is the catalogue: a stream is opened on first touch, off the loop and once however
many ask, and kept in a bounded cache, least recently used out first.  A stream that somebody still
holds (a reader, an operation on its way) stays the same object even when the cache has dropped it.
Between the decision to delete a stream and the removal of its directory the path is *buried*.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from durable_streams.engine.stream import Stream
from durable_streams.errors import StreamDamaged, Unavailable
from durable_streams.protocol.commands import FOREVER
from durable_streams.storage.stream_files import DamagedFiles, DamagedSidecar, load
from durable_streams.storage.writer import cut, move_aside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Executor

    from durable_streams.errors import StreamError
    from durable_streams.storage.directory import DataDirectory
    from durable_streams.storage.stream_files import LoadedStream

log = logging.getLogger("durable_streams.engine")


@dataclass(slots=True)
class _Line:
    """Those who wait for a path, in order."""

    lock: asyncio.Lock
    users: int = 0


class Catalog:
    """Open streams by path.

    ``faults``: streams whose files cannot be written, until a restart.
    ``leaving`` is told of a stream that the cache drops, ``was_cut`` of one that had lost bytes.
    """

    def __init__(
        self,
        directory: DataDirectory,
        executor: Executor,
        max_open: int,
        now_ms: Callable[[], int],
        *,
        verify: bool,
    ) -> None:
        """``verify``: streams may have lost bytes that were acknowledged unsynced."""
        self.leaving: Callable[[Stream], None] = lambda _: None
        self.was_cut: Callable[[Stream], None] = lambda _: None
        self.faults: dict[str, StreamError] = {}
        self._verify = verify
        self._directory = directory
        self._executor = executor
        self._max_open = max_open
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._cached: OrderedDict[str, Stream] = OrderedDict()
        self._alive: WeakValueDictionary[str, Stream] = WeakValueDictionary()
        self._lines: dict[str, _Line] = {}
        self._opening: dict[str, asyncio.Task[Stream | None]] = {}
        self._buried: dict[str, Stream] = {}
        self._mortal: WeakKeyDictionary[Stream, None] = WeakKeyDictionary()  # a set in order

    def __len__(self) -> int:
        return len(self._cached)

    def streams(self) -> list[Stream]:
        """The streams in memory, now."""
        return list(self._alive.values())

    def mortal(self) -> list[Stream]:
        """Those that may expire."""
        return list(self._mortal)

    def cached(self, path: str) -> Stream | None:
        """The open stream at a path, without looking at the disk."""
        stream = self._cached.get(path)
        if stream is not None:
            self._cached.move_to_end(path)
            return stream
        stream = self._alive.get(path)
        if stream is not None and stream.ended is None:
            self.add(stream)
            return stream
        return None

    def ready(self, path: str) -> Stream | None:
        """The open stream at a path, if it is usable now and nobody came first and waits."""
        if path in self._lines or path in self.faults:
            return None
        stream = self.cached(path)
        return stream if stream is not None and stream.birth is None else None

    @asynccontextmanager
    async def line(self, path: str) -> AsyncIterator[None]:
        """Wait for one's turn at a path: requests go on in the order in which they came.

        The body may wait for the disk; what follows the block without an await comes before
        whatever those behind do.
        """
        line = self._lines.get(path)
        if line is None:
            line = self._lines[path] = _Line(asyncio.Lock())
        line.users += 1
        try:
            async with line.lock:
                yield
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[path]

    async def find(self, path: str) -> Stream | None:
        """The stream at a path, opened if need be and born; None if there is none.

        :class:`StreamDamaged` if its files fail their checksums.  When this returns, nothing has
        happened since the answer was right.
        """
        stream = self.ready(path)
        if stream is None:
            async with self.line(path):
                stream = await self.look(path)
        return stream

    async def look(self, path: str) -> Stream | None:
        """:meth:`find` for those who stand in line already."""
        opened: Stream | None = None  # held, lest the cache drops it before we come back to it
        while True:
            fault = self.faults.get(path)
            if fault is not None:
                raise fault
            stream = self.cached(path)
            if stream is not None:
                if stream.birth is None:
                    return stream
                await stream.birth.wait()
            elif path in self._buried:
                return None
            else:
                opened = await self._open(path)
                if opened is None and self.cached(path) is None:
                    return None

    async def _open(self, path: str) -> Stream | None:
        """Open the stream at a path into the cache; None if there is none."""
        task = self._opening.get(path)
        if task is None:
            task = self._loop.create_task(self._open_once(path))
            self._opening[path] = task
            task.add_done_callback(lambda done: self._opened(path, done))
        await asyncio.wait([task])
        return task.result()

    def _opened(self, path: str, task: asyncio.Task[Stream | None]) -> None:
        if self._opening.get(path) is task:
            del self._opening[path]

    async def _open_once(self, path: str) -> Stream | None:
        loaded = await self._loop.run_in_executor(self._executor, self._load, path)
        if loaded is None or path in self._buried or self.cached(path) is not None:
            return None
        for note in loaded.notes:
            log.warning("stream %s: %s", path, note)
        stream = Stream(path, loaded, self._loop, self._now_ms())
        self.add(stream)
        if loaded.cut:
            log.warning("stream %s: lost unsynced bytes, it ends at %s", path, loaded.tail.offset)
            self.was_cut(stream)
        return stream

    def _load(self, path: str) -> LoadedStream | None:
        directory = self._directory.stream_directory(path)
        try:
            loaded = load(self._directory.disk, directory, verify=self._verify)
        except DamagedFiles as error:
            if self._verify and isinstance(error, DamagedSidecar):
                target = move_aside(self._directory, directory)
                log.error("stream %s was lost with unsynced writes (%s): %s", path, error, target)
                return None
            log.error("stream %s is damaged: %s", path, error)
            raise StreamDamaged(path, str(error)) from error
        if loaded is None and not self._directory.is_there():
            raise Unavailable("the data directory cannot be reached")
        if loaded is not None and loaded.cut:
            cut(self._directory, loaded, directory)
        return loaded

    def add(self, stream: Stream) -> None:
        """Put a stream into the cache; others may have to leave it."""
        # Whoever asks from now on must not share a look at the disk that began earlier.
        self._opening.pop(stream.path, None)
        self._cached[stream.path] = stream
        self._alive[stream.path] = stream
        if stream.sidecar.lifetime() != FOREVER:
            self._mortal[stream] = None
        while len(self._cached) > self._max_open:
            _, oldest = self._cached.popitem(last=False)
            self.leaving(oldest)

    def remove(self, stream: Stream) -> None:
        """Forget a stream that was never made."""
        self._cached.pop(stream.path, None)
        self._alive.pop(stream.path, None)

    def bury(self, stream: Stream) -> None:
        """The stream is deleted, its directory not yet gone."""
        self.remove(stream)
        self._buried[stream.path] = stream

    def buried(self, stream: Stream) -> None:
        """The directory of a deleted stream is gone."""
        if self._buried.get(stream.path) is stream:
            del self._buried[stream.path]

    def restore(self, stream: Stream) -> None:
        """A deletion failed."""
        self.buried(stream)
        self.add(stream)
