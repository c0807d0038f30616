"""A producer without an event loop: threads send in the background; the end tells how it went."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Self

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.client.steps import Disconnected
from durable_streams.outcomes import AppendResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from durable_streams.client.asking import NewProducer
    from durable_streams.client.producing import Batch, Producing
    from durable_streams.client.sync_http import SyncHttp, Way


class SyncRemoteProducer:
    """Appends to one stream, in batches, each stored once; for any number of threads.

    Within ``with``, whose end waits until all is stored, and raises if it cannot be.
    """

    def __init__(self, http: Callable[[], SyncHttp], new: NewProducer) -> None:
        self._opened = http
        self._new = new
        self._state: Producing | None = None
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._ways: list[Way] = []
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

    def __enter__(self) -> Self:
        """Look which type the stream has, and begin."""
        if self._state is not None:
            raise RuntimeError("it has begun already: call producer() for each use")
        http = self._opened()
        self._state = http.converse(self._new.begin())
        for number in range(self._new.limits.in_flight):
            way = http.way()
            thread = threading.Thread(
                target=self._run, args=(http, way), name=f"producer-{number}", daemon=True
            )
            self._ways.append(way)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait until all is stored; after an exception, only end."""
        try:
            if error is None:
                self.flush()
        finally:
            self._end()

    def append(self, data: bytes | bytearray | memoryview) -> int:
        """Have bytes stored soon (for JSON streams: a value, or an array of values).

        Returns their number, as soon as there is room: ``Limits.waiting_bytes`` may be underway.
        Raises ``InvalidJson``, and what ended the producer, if anything did.
        """
        state = self._begun()
        body = arguments.data(data)
        with self._changed:
            if not state.has_room:
                state.flush()
                self._changed.notify_all()
                self._until(lambda: state.has_room)
            number = state.appended
            state.append(body)
            self._changed.notify()
        return number

    def append_json(self, *values: object) -> int:
        """Have values stored soon, each as one message, together."""
        return self.append(arguments.json_messages("values", values))

    def flush(self) -> int:
        """Return when all that was appended is stored: how many; raises why it cannot be."""
        state = self._begun()
        with self._changed:
            state.flush()
            end = state.appended
            self._changed.notify_all()
            self._until(lambda: state.acknowledged >= end)
            state.check()
        return state.acknowledged

    def close_stream(self, data: bytes | bytearray | memoryview = b"") -> AppendResult:
        """Close the stream behind all of it, with last bytes perhaps; returns when it is."""
        state = self._begun()
        body = arguments.data(data)
        with self._changed:
            state.close(body)
            self._changed.notify_all()
            self._until(lambda: state.is_all_acknowledged)
            state.check()
        return AppendResult(state.next_offset, closed=True, duplicate=False)

    def _begun(self) -> Producing:
        if self._state is None:
            raise RuntimeError("it has not begun: use it within 'with'")
        return self._state

    def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so, or it has ended by an error."""
        state = self._begun()
        self._changed.wait_for(lambda: state.error is not None or self._is_over or is_so())

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for way in self._ways:
            way.end()
        for thread in self._threads:
            thread.join()

    def _run(self, http: SyncHttp, way: Way) -> None:
        """Send what is due, whenever it is; one of several threads."""
        try:
            while (batch := self._next()) is not None:
                self._send(http, way, batch)
        finally:
            http.leave(way)

    def _next(self) -> Batch | None:
        """What this thread has to send, as soon as there is anything; None at the end."""
        state, now = self._begun(), self._new.verbs.now
        with self._changed:
            while not self._is_over:
                batch = state.due(now())
                if batch is not None:
                    return batch
                left_s = state.wake_at() - now()
                self._changed.wait(None if math.isinf(left_s) else max(0.0, left_s))
        return None

    def _send(self, http: SyncHttp, way: Way, batch: Batch) -> None:
        state = self._begun()
        with self._changed:
            call = state.call(batch)
        try:
            answer = http.exchange(call, way)
        except Disconnected as lost:
            with self._changed:
                state.lost(batch, lost)
        except Exception as error:  # noqa: BLE001 - whoever flushes is told, instead of nobody
            with self._changed:
                state.failed(error)
        else:
            with self._changed:
                state.answered(batch, answer)
        with self._changed:
            self._changed.notify_all()
