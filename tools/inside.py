"""What no verb of a store tells: the one place where tests look into an open engine.

The tests of one of the engine's modules drive that module themselves.  All others, and the tools,
use a store's verbs, and these where they have to know that something is done which goes on by
itself, or to do what only a machine does.  So a change inside of the engine is met here, and not in
forty tests.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from durable_streams.model.paths import parse_path_text, path_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.catalog import Catalog
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.pipeline.admission import Admission
    from durable_streams.filestore.pipeline.operations import Operation
    from durable_streams.filestore.pipeline.outages import Outages
    from durable_streams.filestore.pipeline.pipeline import Pipeline
    from durable_streams.filestore.reading.reads import Reader
    from durable_streams.filestore.runtime.executor import ClosableExecutor
    from durable_streams.filestore.runtime.machine import Worker
    from durable_streams.filestore.runtime.supervisor import WorkerName
    from durable_streams.filestore.store import FileStore
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.live import Deliveries
    from durable_streams.model.errors import StreamError
    from durable_streams.model.paths import StreamPath

    Patch = Callable[[object, str, object], None]
    """``setattr``, or that of a pytest's ``monkeypatch``, which takes it back."""


def of(path: str | StreamPath) -> StreamPath:
    """A path, from its text as well."""
    return parse_path_text(path) if isinstance(path, str) else path


# -- parts that have tests of their own, with an engine around them ------------------------


def pipeline(engine: FileStore) -> Pipeline:
    """The way of every write."""
    return engine._core.pipeline


def admission(engine: FileStore) -> Admission:
    """Who may write now."""
    return engine._core.admission


def catalog(engine: FileStore) -> Catalog:
    """Which streams there are."""
    return engine._core.catalog


def reader(engine: FileStore) -> Reader:
    """What reads files."""
    return engine._core.reader


def deliveries_of(engine: FileStore) -> Deliveries:
    """What is due to live readers."""
    return engine._core.deliveries


def worker_of(engine: FileStore, name: WorkerName) -> Worker:
    """A thread with its jobs."""
    return engine._core.supervisor.worker(name)


def executor(engine: FileStore) -> ClosableExecutor:
    """The threads for what may wait for the disk."""
    return engine._core.executor


def data_directory(engine: FileStore) -> DataDirectory:
    """What is open on the disk."""
    return engine._core.directory


# -- the way of a write to the files -------------------------------------------------------


async def in_files(engine: FileStore, *paths: str | StreamPath) -> None:
    """Return when the streams' files have all of them; raises why they cannot."""
    for path in paths:
        stream = await engine._find(of(path))
        await engine._core.pipeline.files_have(stream, stream.durable.offset)


async def all_in_files(engine: FileStore) -> None:
    """Return when everything durable is in files, or kept for later."""
    while engine._core.pipeline.lag:
        await asyncio.sleep(0)


def begin_checkpoint(engine: FileStore) -> None:
    """Begin one as if the time for it had come."""
    engine._core.pipeline.freeing.checkpoint()


async def checkpoints_finished(engine: FileStore) -> None:
    """Return when none is under way."""
    await engine._core.pipeline.freeing.checkpointer.finished()


async def checkpoint(engine: FileStore) -> None:
    """Make one."""
    begin_checkpoint(engine)
    await checkpoints_finished(engine)


def freed_up_to(engine: FileStore) -> int:
    """The last batch that the journal need not keep."""
    return engine._core.pipeline.journal.checkpointed


def batches(engine: FileStore) -> int:
    """How many the journal has got so far."""
    return engine._core.pipeline.journal.last


def full_journal_files(engine: FileStore) -> int:
    """How many journal files wait to be freed."""
    return engine._core.pipeline.journal.full_files()


def journal_is_open(engine: FileStore) -> bool:
    """Whether any of its files is; they are closed last but for the directory."""
    return bool(engine._core.pipeline.journal._files)


def writers_in_line(engine: FileStore) -> int:
    """How many wait to be admitted."""
    return engine._core.admission.waiting


def on_their_way(engine: FileStore) -> list[Operation]:
    """What was accepted and is not durable: first what is being written."""
    committer = engine._core.pipeline.committer
    return [*committer.writing, *committer._gathering]


def refuse_what_waits(engine: FileStore, error: StreamError) -> None:
    """Fail what was accepted and is not being written yet."""
    engine._core.pipeline.committer.refuse(error)


def change_what_is_submitted(
    engine: FileStore, change: Callable[[Operation], None], patch: Patch = setattr
) -> None:
    """Have accepted operations changed on their way to the journal, as only a bug would."""
    submit = engine._core.pipeline.submit

    def changed(operation: Operation) -> None:
        change(operation)
        submit(operation)

    patch(engine._core.pipeline, "submit", changed)


def hold_back_what_is_submitted(engine: FileStore, patch: Patch) -> list[Operation]:
    """Accepted operations stay in the list that this returns, until the patch is taken back."""
    held: list[Operation] = []
    patch(engine._core.pipeline, "submit", held.append)
    return held


# -- what the disk has, and streams it refuses ---------------------------------------------


async def look_for_room(engine: FileStore) -> None:
    """Look at the disk and at what is in the directory, as is done twice a second."""
    await engine._core.pipeline.room.look()


async def out_of_service(engine: FileStore, path: str | StreamPath) -> None:
    """Return when a stream is."""
    while of(path) not in engine.out_of_service():
        await asyncio.sleep(0)


def outages(engine: FileStore) -> Outages:
    """What is kept for the streams out of service."""
    return engine._core.catalog.outages


def begin_trying_again(engine: FileStore) -> None:
    """Begin to bring streams back into service."""
    engine._core.pipeline.freeing.retries.try_again()


async def tries_finished(engine: FileStore) -> None:
    """Return when that is not under way."""
    while engine._core.pipeline.freeing.retries.are_under_way:
        await asyncio.sleep(0)


async def try_again(engine: FileStore) -> None:
    """Try once, all of them."""
    begin_trying_again(engine)
    await tries_finished(engine)


async def back_in_service(engine: FileStore, path: str | StreamPath) -> None:
    """Have it tried until a stream is."""
    while of(path) in engine.out_of_service():
        begin_trying_again(engine)
        await asyncio.sleep(0)


# -- what is in memory ---------------------------------------------------------------------


def loaded(engine: FileStore, path: str | StreamPath) -> Stream | None:
    """What is known of a stream without looking at the disk; no use of it."""
    return engine._core.catalog.cached(of(path))


def paths_loaded(engine: FileStore) -> list[str]:
    """Of the streams that are known without looking at the disk."""
    return [path_text(stream.path) for stream in engine._core.catalog.streams()]


async def forgotten(engine: FileStore, path: str | StreamPath) -> None:
    """Return when nobody holds a stream that the cache has dropped; a thread may for a moment."""
    while path_text(of(path)) in paths_loaded(engine):
        gc.collect()
        await asyncio.sleep(0)


async def unload(engine: FileStore, path: str | StreamPath) -> None:
    """Have a stream looked up on the disk the next time."""
    engine._core.catalog.remove(await engine._find(of(path)))


def close_read_files(engine: FileStore) -> None:
    """Have what readers need opened again."""
    engine._core.reader.close()


def users_of_read_files(engine: FileStore) -> list[int]:
    """How many use each file that readers opened; the reader itself is one."""
    return [file._users for file in engine._core.reader._files._files.values()]


def stream_numbers(engine: FileStore, path: str | StreamPath) -> list[int | None]:
    """How many streams each limit at a path has, the widest first; None: not counted yet."""
    return [count.number for count in engine._quotas._counts.at(of(path))]


def counts_under_way(engine: FileStore) -> int:
    """How many limits are being counted, or wait for their turn."""
    return len(engine._quotas._counting)


# -- threads and time ----------------------------------------------------------------------


async def threads_had_a_turn(engine: FileStore, jobs: int = 1) -> None:
    """Return when each thread that may wait for the disk has done what it was at."""
    await asyncio.gather(*(engine._core.run(int) for _ in range(jobs)))


def now_ms(engine: FileStore) -> int:
    """The wall clock, as the engine sees it."""
    return engine._core.now_ms()


def set_clock(engine: FileStore, clock: Callable[[], int], patch: Patch = setattr) -> None:
    """Give the engine another wall clock."""
    for owner, name in ((engine._core, "now_ms"), (engine._core.clock, "_now_ms")):
        patch(owner, name, clock)


# -- lists ---------------------------------------------------------------------------------


def knows_all_paths(engine: FileStore) -> bool:
    """Whether all streams were found, to be listed."""
    return engine._listed._paths is not None


def forget_paths(engine: FileStore) -> None:
    """As if nobody had asked for a list for long."""
    engine._listed._paths = None
