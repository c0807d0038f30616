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
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from durable_streams.engine.stream import Stream
from durable_streams.errors import StreamDamaged
from durable_streams.protocol.commands import FOREVER
from durable_streams.storage.stream_files import DamagedFiles, load
from durable_streams.storage.writer import cut

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from durable_streams.storage.directory import DataDirectory
    from durable_streams.storage.stream_files import LoadedStream

log = logging.getLogger("durable_streams.engine")


class Catalog:
    """Open streams by path.

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
        self._verify = verify
        self._directory = directory
        self._executor = executor
        self._max_open = max_open
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._cached: OrderedDict[str, Stream] = OrderedDict()
        self._alive: WeakValueDictionary[str, Stream] = WeakValueDictionary()
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._buried: dict[str, Stream] = {}
        self._mortal: WeakSet[Stream] = WeakSet()

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

    async def find(self, path: str) -> Stream | None:
        """The stream at a path, opened if need be and born; None if there is none.

        :class:`StreamDamaged` if its files fail their checksums.  When this returns, nothing has
        happened since the answer was right.
        """
        while True:
            stream = self.cached(path)
            if stream is not None:
                if stream.birth is None:
                    return stream
                await stream.birth.wait()
            elif path in self._buried or (not await self._open(path) and self.cached(path) is None):
                return None

    async def _open(self, path: str) -> bool:
        """Open the stream at a path into the cache; False if there is none."""
        task = self._opening.get(path)
        if task is None:
            task = self._loop.create_task(self._open_once(path))
            self._opening[path] = task
            task.add_done_callback(lambda _: self._opening.pop(path))
        await asyncio.wait([task])
        task.result()
        return path in self._cached

    async def _open_once(self, path: str) -> None:
        loaded = await self._loop.run_in_executor(self._executor, self._load, path)
        if loaded is None or path in self._buried or self.cached(path) is not None:
            return
        for note in loaded.notes:
            log.warning("stream %s: %s", path, note)
        stream = Stream(path, loaded, self._loop, self._now_ms())
        self.add(stream)
        if loaded.cut:
            log.warning("stream %s: lost unsynced bytes, it ends at %s", path, loaded.tail.offset)
            self.was_cut(stream)

    def _load(self, path: str) -> LoadedStream | None:
        directory = self._directory.stream_directory(path)
        try:
            loaded = load(self._directory.disk, directory, verify=self._verify)
        except DamagedFiles as error:
            log.error("stream %s is damaged: %s", path, error)
            raise StreamDamaged(path, str(error)) from error
        if loaded is not None and loaded.cut:
            cut(self._directory, loaded, directory)
        return loaded

    def add(self, stream: Stream) -> None:
        """Put a stream into the cache; others may have to leave it."""
        self._cached[stream.path] = stream
        self._alive[stream.path] = stream
        if stream.sidecar.lifetime() != FOREVER:
            self._mortal.add(stream)
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
