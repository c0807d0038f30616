"""Which streams are open, and how paths become streams.

The file system is the catalogue: a stream is opened on first touch, off the loop and once however
many ask, and kept in a cache, least recently used out first.  The cache is bounded by what its
streams take in memory; a stream that somebody still holds (a reader, an operation on its way) stays
the same object even when the cache has dropped it.  Between the decision to delete a stream and the
removal of its directory from its path the stream is *leaving*: whoever asks for the path must not
meet its files.

While streams may have lost bytes that were acknowledged unsynced, each is verified when it is first
opened, and cut if it has lost some; what is written to it from then on is as good as any.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from durable_streams.filestore.files.aside import cut, move_aside
from durable_streams.filestore.files.stream_files import (
    DamagedFiles,
    DamagedSidecar,
    NewerFiles,
    load,
)
from durable_streams.filestore.runtime.closing import retrieve
from durable_streams.filestore.runtime.machine import call_after_reading
from durable_streams.filestore.streams.life import RULES, Found, Life
from durable_streams.filestore.streams.stream import STREAM_BYTES, Stream
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.errors import StreamDamaged, StreamError, StreamUnreadable, Unavailable
from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.stream_files import LoadedStream
    from durable_streams.filestore.pipeline.outages import Outages
    from durable_streams.model.paths import StreamPath

log = logging.getLogger("durable_streams.filestore")


class Catalog:
    """Open streams by path.

    ``outages``: streams whose files cannot be read or written now.
    ``verifying``: whether streams may have lost bytes that were acknowledged unsynced.
    ``leaving`` is told of a stream that the cache drops, ``mortal_came`` of one that may expire,
    when it is opened, and ``opened`` of the path of any whose files were read, or built for a fork.
    """

    def __init__(
        self,
        directory: DataDirectory,
        executor: Executor,
        max_open: int,
        now_ms: Callable[[], int],
        *,
        outages: Outages,
        verify: bool,
        tuning: Tuning = Tuning(),
    ) -> None:
        """``max_open``: streams without much beside their bytes, see :attr:`Stream.cost_bytes`."""
        self.leaving: Callable[[Stream], None] = lambda _: None
        self.mortal_came: Callable[[Stream], None] = lambda _: None
        self.opened: Callable[[StreamPath], None] = lambda _: None
        self.outages = outages
        self.verifying = verify
        self._most_verified = tuning.most_verified
        self._verified: OrderedDict[int, None] = OrderedDict()
        self._directory = directory
        self._executor = executor
        self._max_bytes = max_open * STREAM_BYTES
        self._bytes = 0
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._cached: OrderedDict[StreamPath, Stream] = OrderedDict()
        self._dropped: WeakValueDictionary[StreamPath, Stream] = WeakValueDictionary()
        self._opening: dict[StreamPath, asyncio.Task[Stream | None]] = {}
        self._asking: list[tuple[StreamPath, asyncio.Future[bool]]] = []
        self._asked: dict[StreamPath, set[asyncio.Future[bool]]] = {}
        self._leaving: dict[StreamPath, Stream] = {}
        self._mortal: WeakKeyDictionary[Stream, None] = WeakKeyDictionary()  # a set in order

    def __len__(self) -> int:
        return len(self._cached)

    def streams(self) -> list[Stream]:
        """The streams in memory, now."""
        return [*self._cached.values(), *self._dropped.values()]

    def mortal(self) -> list[Stream]:
        """Those that may expire."""
        return list(self._mortal)

    def cached(self, path: StreamPath) -> Stream | None:
        """The open stream at a path, without looking at the disk."""
        stream = self._cached.get(path)
        if stream is not None:
            self._cached.move_to_end(path)
            return stream
        return self._taken_back(path)

    def _taken_back(self, path: StreamPath) -> Stream | None:
        """The stream at a path that the cache has dropped, and somebody still holds."""
        stream = self._dropped.get(path)
        if stream is not None and not RULES[stream.state].has_ended:
            self.add(stream)
            return stream
        return None

    def known(self, path: StreamPath) -> Stream | None:
        """The stream in memory at a path, be it on its way to come or to go; no use of it."""
        return self._cached.get(path) or self._dropped.get(path) or self._leaving.get(path)

    def holds(self, stream: Stream) -> bool:
        """Whether the cache keeps a stream, whoever uses it."""
        return self._cached.get(stream.path) is stream

    def ready(self, path: StreamPath) -> Stream | None:
        """The open stream at a path, if it is usable now."""
        stream = self._cached.get(path)  # here, as nearly every request comes by
        if stream is not None:
            self._cached.move_to_end(path)
        else:
            stream = self._taken_back(path)
        if (
            stream is None
            or stream.state is Life.COMING
            or (self.outages.errors and path in self.outages.errors)
        ):
            return None
        return stream

    async def find(self, path: StreamPath, *, likely: bool = True) -> Stream | None:
        """The stream at a path, opened if need be and born; None if there is none.

        ``likely``: it is; else the disk is first asked whether there is anything at the path.

        :class:`StreamDamaged` if its files fail their checksums.  When this returns, nothing has
        happened since the answer was right.
        """
        opened: Stream | None = None  # held, lest the cache drops it before we come back to it
        while True:
            stream = self.cached(path)
            leaving = None if stream else self._leaving.get(path)
            if leaving is not None and leaving.change is not None:
                with suppress(StreamError):  # then it is here again
                    await leaving.change.wait()
                continue
            fault = self.outages.error(path, stream.id if stream else None)
            if fault is not None:
                raise fault.again()
            if leaving is not None:
                return None
            if stream is not None:
                if RULES[stream.state].found is Found.HERE:
                    return stream
                assert stream.change is not None
                await stream.change.wait()
            elif not likely:
                if not await self._is_on_disk(path):
                    return None
                likely = True
            else:
                opened = await self._open(path)
                if opened is None and not self._is_known(path):
                    return None

    def _is_known(self, path: StreamPath) -> bool:
        """Whether a stream came to a path while the disk said that there is none."""
        return path in self._cached or path in self._dropped or path in self._leaving

    async def _open(self, path: StreamPath) -> Stream | None:
        """Open the stream at a path into the cache; None if there is none.

        The one that is returned may have been dropped again, or even deleted: look again.
        """
        task = self._opening.get(path)
        if task is None:
            task = self._loop.create_task(self._open_once(path))
            self._opening[path] = task
            task.add_done_callback(lambda done: self._opened(path, done))
        await asyncio.wait([task])
        return task.result()

    async def _is_on_disk(self, path: StreamPath) -> bool:
        """Whether there is anything at a path, or something came there meanwhile.

        Those who ask together share a call.
        """
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._asking.append((path, waiter))
        asked = self._asked.setdefault(path, set())
        asked.add(waiter)
        if len(self._asking) == 1:
            call_after_reading(self._loop, self._ask)
        try:
            return await waiter or waiter not in asked
        finally:
            asked.discard(waiter)
            if not asked and self._asked.get(path) is asked:
                del self._asked[path]

    def _ask(self) -> None:
        asking, self._asking = self._asking, []
        paths, waiters = [path for path, _ in asking], [waiter for _, waiter in asking]
        job = self._loop.run_in_executor(self._executor, self._are_on_disk, paths)
        job.add_done_callback(partial(_tell, waiters))

    def _are_on_disk(self, paths: list[StreamPath]) -> list[bool]:
        directory = self._directory
        found = [directory.disk.is_directory(directory.stream_directory(path)) for path in paths]
        if not directory.is_there():
            raise Unavailable("the data directory cannot be reached")
        return found

    def _opened(self, path: StreamPath, task: asyncio.Task[Stream | None]) -> None:
        retrieve(task)  # all who asked may have left
        if self._opening.get(path) is task:
            del self._opening[path]

    async def _open_once(self, path: StreamPath) -> Stream | None:
        verify = self.verifying and hash(path) not in self._verified
        loaded = await self._loop.run_in_executor(self._executor, self._load, path, verify)
        if self._opening.get(path) is not asyncio.current_task():  # what was read is of before
            there = self.cached(path) or self._leaving.get(path)
            return there if there is not None else await self._open(path)
        if loaded is None:
            return None
        for note in loaded.notes:
            log.warning("stream %s: %s", path_text(path), note)
        stream = Stream(path, loaded, self._now_ms())
        self.add(stream)
        self.opened(path)
        name, end = path_text(path), loaded.tail.offset.token
        if loaded.cut:
            log.warning("stream %s: lost unsynced bytes, it ends at %s", name, end)
        if loaded.missing:
            log.error("stream %s: incomplete, it ends at %s: %s", name, end, loaded.missing)
        return stream

    def _load(self, path: StreamPath, verify: bool) -> LoadedStream | None:
        directory = self._directory.stream_directory(path)
        try:
            loaded = load(self._directory.disk, directory, verify=verify)
        except (DamagedFiles, NewerFiles) as error:
            name = path_text(path)
            if verify and isinstance(error, DamagedSidecar):
                target = move_aside(self._directory, directory)
                log.error("stream %s was lost with unsynced writes (%s): %s", name, error, target)
                return None
            state = "damaged" if isinstance(error, DamagedFiles) else "not for this version"
            log.error("stream %s is %s: %s", name, state, error)
            raise damaged(self._directory, path, error) from error
        except OSError as error:
            raise unreadable(self._directory, path, error) from error
        if loaded is None and not self._directory.is_there():
            raise Unavailable("the data directory cannot be reached")
        if loaded is not None and verify and (loaded.cut or loaded.notes):
            # Whatever lies behind was lost in part: it must not be met again by later segments.
            loaded.cut = True
            cut(self._directory, loaded, directory)
        return loaded

    def add(self, stream: Stream) -> None:
        """Put a stream into the cache; others may have to leave it."""
        # Whoever asks from now on must not share a look at the disk that began earlier.
        self._opening.pop(stream.path, None)
        self._asked.pop(stream.path, set()).clear()
        self.remove(stream)
        self._cached[stream.path] = stream
        if stream.is_mortal and stream not in self._mortal:
            self._mortal[stream] = None
            self.mortal_came(stream)
        if self.verifying:
            self._has_verified(stream.path)
        self.weigh(stream)

    def weigh(self, stream: Stream) -> None:
        """A stream takes more memory than before; others may have to leave the cache."""
        if self._cached.get(stream.path) is not stream:
            return
        self._bytes += stream.cost_bytes - stream.counted_bytes
        stream.counted_bytes = stream.cost_bytes
        while self._bytes > self._max_bytes and len(self._cached) > 1:
            oldest = self._cached[next(iter(self._cached))]
            self._drop(oldest.path)
            self._dropped[oldest.path] = oldest
            self.leaving(oldest)

    def _drop(self, path: StreamPath) -> None:
        """Take what is at a path out of the cache."""
        stream = self._cached.pop(path, None)
        if stream is not None:
            self._bytes -= stream.counted_bytes
            stream.counted_bytes = 0

    def _has_verified(self, path: StreamPath) -> None:
        """Remember a verified stream, in the place of another if they are many."""
        self._verified[hash(path)] = None
        self._verified.move_to_end(hash(path))
        if len(self._verified) > self._most_verified:
            self._verified.popitem(last=False)

    def end_verifying(self) -> None:
        """Every stream has been verified: what is found damaged from now on is damage."""
        self.verifying = False
        self._verified.clear()

    def remove(self, stream: Stream) -> None:
        """Forget the stream at a path, in the cache or dropped from it."""
        self._drop(stream.path)
        self._dropped.pop(stream.path, None)

    def leaves(self, stream: Stream) -> None:
        """The stream is being deleted; its directory is at its path until it is unlinked."""
        self.remove(stream)
        self._leaving[stream.path] = stream

    def unlinked(self, stream: Stream) -> None:
        """The directory of a deleted stream has left its path."""
        if self._leaving.get(stream.path) is stream:
            del self._leaving[stream.path]

    def gone_and_not_unlinked(self) -> list[StreamPath]:
        """Paths of streams that are no more, and whose directories are still there."""
        return [path for path, stream in self._leaving.items() if stream.state is Life.GONE]

    def where_some_leave(self) -> dict[StreamPath, bool]:
        """Paths of streams that leave, and whether a stream is there still, or again."""
        return {
            path: stream.state is not Life.GONE or path in self._cached or path in self._dropped
            for path, stream in self._leaving.items()
        }

    def restore(self, stream: Stream) -> None:
        """A deletion failed."""
        self.unlinked(stream)
        self.add(stream)


def damaged(directory: DataDirectory, path: StreamPath, reason: object) -> StreamDamaged:
    """What to raise where files of a stream are missing or not as they were written."""
    return StreamDamaged(path_text(path), directory.within(str(reason)))


def unreadable(directory: DataDirectory, path: StreamPath, error: OSError) -> Exception:
    """What to raise where the system refuses to read a stream's files.

    It names the file, or else the stream's directory, within the data directory.  The error itself
    if it says that the server is out of descriptors, which is no matter of the stream.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return error
    name = Path(error.filename or directory.stream_directory(path))
    with suppress(ValueError):
        name = name.relative_to(directory.root)
    reason = error.strerror or str(error)
    return StreamUnreadable(path_text(path), f"{name}: {reason}")


def _tell(waiters: list[asyncio.Future[bool]], job: asyncio.Future[list[bool]]) -> None:
    error = job.exception()
    answers = [False] * len(waiters) if error else job.result()
    for waiter, answer in zip(waiters, answers, strict=True):
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(answer)
        else:
            waiter.set_exception(error)
