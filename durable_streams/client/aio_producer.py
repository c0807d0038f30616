"""A producer in an event loop: it appends in the background, and tells at the end how it went."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.client.steps import Disconnected
from durable_streams.outcomes import AppendResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from durable_streams.client.aio_http import Http
    from durable_streams.client.asking import NewProducer
    from durable_streams.client.producing import Batch, Producing


class RemoteProducer:
    """Appends to one stream, in batches, each stored once; see :meth:`RemoteStreams.producer`.

    Within ``async with``, whose end waits until all is stored, and raises if it cannot be.
    """

    def __init__(self, http: Callable[[], Http], new: NewProducer) -> None:
        self._opened = http
        self._new = new
        self._state: Producing | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._progress = asyncio.Condition()
        self._is_over = False

    @property
    def appended(self) -> int:
        """The number of the next append: how many there were, from ``number`` on."""
        return self._begun().appended

    @property
    def acknowledged(self) -> int:
        """How many of them, from the first on, are known to be stored."""
        return self._begun().acknowledged

    @property
    def epoch(self) -> int:
        """Its epoch."""
        return self._begun().epoch

    async def __aenter__(self) -> Self:
        """Look which type the stream has, and begin."""
        if self._state is not None:
            raise RuntimeError("it has begun already: call producer() for each use")
        http = self._opened()
        self._state = await http.converse(self._new.begin())
        self._running = asyncio.ensure_future(self._run(http))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait until all is stored; after an exception, only end."""
        try:
            if error is None:
                await self.flush()
        finally:
            await self._end()

    async def append(self, data: bytes | bytearray | memoryview) -> int:
        """Have bytes stored soon (for JSON streams: a value, or an array of values).

        Returns their number, as soon as there is room: ``Limits.waiting_bytes`` may be underway.
        Raises ``InvalidJson``, and what ended the producer, if anything did.
        """
        state = self._begun()
        body = arguments.data(data)
        if not state.has_room:
            state.flush()
            self._changed.set()
            await self._until(lambda: state.has_room)
        number = state.appended
        state.append(body)
        self._changed.set()
        return number

    async def append_json(self, *values: object) -> int:
        """Have values stored soon, each as one message, together."""
        return await self.append(arguments.json_messages("values", values))

    async def flush(self) -> int:
        """Return when all that was appended is stored: how many; raises why it cannot be."""
        state = self._begun()
        state.flush()
        end = state.appended
        self._changed.set()
        await self._until(lambda: state.acknowledged >= end)
        state.check()
        return state.acknowledged

    async def close_stream(self, data: bytes | bytearray | memoryview = b"") -> AppendResult:
        """Close the stream behind all of it, with last bytes perhaps; returns when it is."""
        state = self._begun()
        state.close(arguments.data(data))
        self._changed.set()
        await self._until(lambda: state.is_all_acknowledged)
        state.check()
        return AppendResult(state.next_offset, closed=True, duplicate=False)

    def _begun(self) -> Producing:
        if self._state is None:
            raise RuntimeError("it has not begun: use it within 'async with'")
        return self._state

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so, or it has ended by an error."""
        state = self._begun()
        async with self._progress:
            await self._progress.wait_for(lambda: state.error is not None or is_so())

    async def _end(self) -> None:
        self._is_over = True
        self._changed.set()
        running, self._running = self._running, None
        tasks = [*self._sending, *([running] if running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, http: Http) -> None:
        """Send what is due, until the end; who waits is told if that cannot go on."""
        try:
            await self._send_what_is_due(http)
        except Exception as error:  # noqa: BLE001 - whoever flushes is told, instead of nobody
            self._begun().failed(error)
            async with self._progress:
                self._progress.notify_all()

    async def _send_what_is_due(self, http: Http) -> None:
        state, now = self._begun(), self._new.verbs.now
        while not self._is_over:
            self._changed.clear()
            while (batch := state.due(now())) is not None:
                sending = asyncio.ensure_future(self._send(http, batch))
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)
            left_s = state.wake_at() - now()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(left_s) else max(0.0, left_s)):
                    await self._changed.wait()

    async def _send(self, http: Http, batch: Batch) -> None:
        state = self._begun()
        try:
            answer = await http.exchange(state.call(batch))
        except Disconnected as lost:
            state.lost(batch, lost)
        except Exception as error:  # noqa: BLE001 - whoever flushes is told, instead of nobody
            state.failed(error)
        else:
            state.answered(batch, answer)
        self._changed.set()
        async with self._progress:
            self._progress.notify_all()
