"""One run in the process that carries it: from its source to its end.

A source may be slow, fail, hang or refuse to be cancelled; the run ends all the same.  First its
end is written, by which readers go, then its source is closed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from durable_streams.model.errors import StreamClosed, StreamError, StreamNotFound
from durable_streams.runs.sources import Source, items_of
from durable_streams.runs.states import End, State
from durable_streams.runs.store import until_it_works
from durable_streams.runs.writing import Writer

if TYPE_CHECKING:
    from durable_streams.runs.formats import Format
    from durable_streams.runs.records import Records
    from durable_streams.runs.workers import Worker

_log = logging.getLogger(__name__)

_CLOSING_S: Final = 5.0
"""What a source may take to be closed, before that is told."""


class RunFailed(Exception):
    """Raised by a source: the run fails, with this text as the reason that readers see.

    Of any other exception they see its type alone, and the log has the rest.
    """


class Carried:
    """A run that is under way here."""

    def __init__(
        self,
        records: Records,
        worker: Worker,
        name: str,
        form: Format,
        *,
        limit_s: float | None,
        linger_s: float,
    ) -> None:
        self.name: Final = name
        self.worker: Final = worker
        self.is_open: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self.end: End | None = None  # how it is to end, once that is known
        self._records = records
        self._format = form
        self._limit_s = limit_s
        self._encoder = form.encoder()
        self._writer = Writer(records.streams, records.places.answer(name), form, linger_s=linger_s)
        self._told: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def tell(self, end: End) -> None:
        """It is to end so, unless it has ended; at once, whatever its source does."""
        if not self._told.done():
            self._told.set_result(end)

    async def carry(self, source: Source) -> End:
        """Carry it to its end; how it has ended."""
        pump = asyncio.create_task(self._pump(source), name=f"run {self.name}")
        writing = asyncio.create_task(self._write(), name=f"run {self.name}: writing")
        try:
            self.end = await self._outcome(pump, writing)
            last = self._encoder.ending(self.end)
            end = await self._records.end(
                self.name, self.end, last=last, claim=self._writer.last_claim()
            )
        finally:
            for task in (pump, writing):
                task.cancel()
        _, late = await asyncio.wait({pump, writing}, timeout=_CLOSING_S)
        if late:
            _log.warning("runs: %s has ended, and its source goes on all the same", self.name)
        return end

    async def _outcome(self, pump: asyncio.Task[None], writing: asyncio.Task[None]) -> End:
        """How it is to end: by its source, its writer, its time or somebody else."""
        waiting: list[asyncio.Future[Any]] = [pump, writing, self._told]
        await asyncio.wait(waiting, timeout=self._limit_s, return_when=asyncio.FIRST_COMPLETED)
        if writing.done() and (end := self._of_writing(writing)) is not None:
            return end
        if self._told.done():
            end = self._told.result()
        elif pump.done():
            end = self._of_source(pump)
        else:
            end = End(State.FAILED, f"it took longer than the {self._limit_s:g} s that it may take")
        self._writer.finish()
        await asyncio.wait({writing})
        return self._of_writing(writing) or end

    def _of_writing(self, writing: asyncio.Task[None]) -> End | None:
        if writing.cancelled():
            return End(State.ABANDONED, "its process ended")
        error = writing.exception()
        if error is None:
            return None
        if not isinstance(error, (StreamClosed, StreamNotFound)):
            _log.error("runs: what %s yields cannot be stored", self.name, exc_info=error)
        if isinstance(error, StreamError):
            return End(State.FAILED, f"it could not be stored: {type(error).__name__}")
        return End(State.FAILED, "it could not be stored")

    def _of_source(self, pump: asyncio.Task[None]) -> End:
        if pump.cancelled():
            return End(State.FAILED, "its source was cancelled")
        error = pump.exception()
        if error is None:
            return End(State.DONE)
        if isinstance(error, RunFailed):
            return End(State.FAILED, str(error))
        _log.error("runs: %s failed", self.name, exc_info=error)
        return End(State.FAILED, f"it failed: {type(error).__name__}")

    async def _write(self) -> None:
        try:
            await until_it_works(lambda: self._records.open(self.name, self._format.name))
        except BaseException as error:
            if not self.is_open.done():
                self.is_open.set_exception(error)
                self.is_open.exception()  # whoever waits is told, and nobody need wait
            raise
        self.is_open.set_result(None)
        await self._writer.run()

    async def _pump(self, source: Source) -> None:
        async with aclosing(items_of(source)) as items:
            async for item in items:
                await self._writer.put(self._encoder.items(item))
