"""An open data directory: what the verbs work with, and how it is let go.

The core decides nothing.  Each of its parts has a room of its own: ``pipeline`` is the way of
every write, ``catalog`` knows which streams there are, ``reader`` what is in them, and ``clock``
whether the time is to be believed.  One event loop owns all of it; ``pipeline.pipeline`` says what
threads own.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from durable_streams.descriptors import from_all, share
from durable_streams.filestore.catalog import Catalog
from durable_streams.filestore.pipeline.pipeline import Pipeline
from durable_streams.filestore.pipeline.removed import RemovedPaths
from durable_streams.filestore.pipeline.ticks import Ticks
from durable_streams.filestore.reading.reads import Reader
from durable_streams.filestore.runtime import loop_copies
from durable_streams.filestore.runtime.clock import Clock
from durable_streams.filestore.runtime.closing import in_thread, in_turn
from durable_streams.live import Deliveries
from durable_streams.model.errors import Draining

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.descriptors import Descriptors
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.journal import Journal
    from durable_streams.filestore.files.recovery import Kept, StreamKey
    from durable_streams.filestore.format.removed import Removed
    from durable_streams.filestore.runtime.closing import Step
    from durable_streams.filestore.runtime.machine import Runtime
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.filestore.tuning import Tuning
    from durable_streams.settings import Settings

_T = TypeVar("_T")


class Core:
    """The parts of an open data directory.

    ``admission`` and ``health`` are the pipeline's: whether a write is taken, and why none is.
    ``executor``: threads for what may wait for the disk.
    """

    def __init__(
        self,
        directory: DataDirectory,
        settings: Settings,
        runtime: Runtime,
        supervisor: Supervisor,
        journal: Journal,
        *,
        tuning: Tuning,
        verify: bool,
        outages: Mapping[StreamKey, Kept],
        removed: Removed,
    ) -> None:
        """Begin to work, with the threads that ``supervisor`` has.

        ``verify``: streams may have lost bytes acknowledged unsynced.  ``outages``: what could not
        be brought to the files of some; the journal has it behind what it had before.  ``removed``:
        paths that earlier runs removed.
        """
        self.loop = asyncio.get_running_loop()
        loop_copies.protect(self.loop)
        self.directory = directory
        self.settings = settings
        self.tuning = tuning
        self.runtime = runtime
        self.supervisor = supervisor
        self.executor = supervisor.executor
        self.now_ms = runtime.now_ms
        self.clock = Clock(self.loop, self.now_ms, settings.reclaim_delay_s)
        self.removed = RemovedPaths(removed, settings.remember_removed_s, self.loop.time)
        self.deliveries = Deliveries(self.loop)
        available = share(settings.max_open_files)
        self.pipeline = Pipeline(
            directory,
            journal,
            settings,
            runtime,
            supervisor,
            max_files=available.files // 2,
            verify=verify,
            removed=self.removed,
            tuning=tuning,
        )
        self.admission, self.health = self.pipeline.admission, self.pipeline.health
        self.catalog = Catalog(
            directory,
            self.executor,
            settings.max_open_streams,
            self.now_ms,
            outages=self.pipeline.outages,
            verify=verify,
            tuning=tuning,
        )
        self.reader = self._make_reader(available)
        self._held = ExitStack()  # each is let go once, whatever became of the one before
        self._held.callback(directory.close)
        self._held.callback(self.reader.close)
        ticks = Ticks(self.pipeline, self.clock, settings, tuning.tick_s)
        self._ticking = supervisor.watch("ticks", ticks.run())
        self.pipeline.begin(outages)

    def _make_reader(self, available: Descriptors) -> Reader:
        directory, most = self.directory, self.settings.max_read_bytes
        reader = Reader(directory, self.executor, most, available, self.tuning)
        give_back = partial(from_all, self.loop, reader.give_back, self.pipeline.give_back)
        directory.disk.give_back = give_back
        return reader

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Do something that may wait for the disk, off the loop."""
        return await self.supervisor.run(function, *arguments)

    # -- the end ---------------------------------------------------------------------------

    def drain(self) -> None:
        """Admit no more writes, and none of those that wait to be."""
        self.supervisor.is_ending = True
        self.admission.drain()

    def steps_of_closing(self) -> list[Step]:
        """Finish what was accepted, bring the files up to date, and let go of the directory."""
        pipeline = self.pipeline
        return [
            pipeline.settled,
            # Who comes now was admitted before, and has looked at the disk since.
            in_turn(lambda: pipeline.committer.end(Draining())),
            lambda: self.supervisor.stop(self._ticking),  # it ends what a full journal holds
            pipeline.checkpoints_finished,
            in_thread(lambda: self.supervisor.begin(pipeline.stop_threads)),
            # What the threads had to say was heard before we came back here.
            in_thread(lambda: self.supervisor.begin(self._finish_files)),
            # Who left may have left something behind that writes, and then the lock must be ours.
            self.executor.finished,
            in_turn(self._let_go),
        ]

    def _finish_files(self) -> None:
        self.pipeline.finish_files(is_verified=not self.catalog.verifying)

    def _let_go(self) -> None:
        self.supervisor.abandon()
        self.admission.closed = True
        self._held.close()

    def abandon(self) -> None:
        """Let go of the directory with what is in it; in a thread of nobody's, which it blocks."""
        self.pipeline.abandon()
        self.executor.shutdown(wait=False)
        with ExitStack() as ends:  # the last one given comes first
            ends.callback(self._held.close)
            ends.callback(self.pipeline.close_files)
            ends.callback(self.executor.shutdown, wait=True)
            ends.callback(self.pipeline.stop_threads)
