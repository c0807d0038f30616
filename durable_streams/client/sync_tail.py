"""Following a stream over HTTP, in a thread: what ``tail`` gives without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from durable_streams.client.following import Over, Receive
from durable_streams.client.steps import Call, Disconnected, Pause
from durable_streams.client.sync_http import head_of
from durable_streams.messages import Message

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from durable_streams.client.following import Following
    from durable_streams.client.steps import Answer
    from durable_streams.client.sync_http import SyncHttp


class SyncRemoteTail(Iterator[Message]):
    """The messages of a stream, those to come as well; for one thread.

    :meth:`close` ends it, also from another thread while this one waits; the end of ``with`` does
    so too.  After an error that passes, or Ctrl-C, ask again, and nothing is lost or repeated.
    """

    def __init__(self, http: SyncHttp, state: Following) -> None:
        self._http = http
        self._state = state
        self._events: BaseHTTPResponse | None = None
        self._way = http.way()
        self._one_reader = threading.Lock()
        self._is_closed = False

    @property
    def offset(self) -> str:
        """Where it goes on once all that it has read is taken."""
        return self._state.place.token

    @property
    def up_to_date(self) -> bool:
        """Whether all that was there is taken, as far as the server said last."""
        return self._state.up_to_date

    @property
    def closed(self) -> bool:
        """Whether the stream is closed, and all of it is taken."""
        return self._state.closed

    def __next__(self) -> Message:
        """The next message, as soon as there is one; ``StopIteration`` at the end."""
        if not self._one_reader.acquire(blocking=False):
            raise RuntimeError("another thread waits for the next one: call tail() in each thread")
        try:
            ready = self._state.ready
            while not ready and not self._is_closed:
                self._act()
            if self._is_closed:
                raise StopIteration
            return ready.popleft()
        finally:
            self._one_reader.release()

    def close(self) -> None:
        """End it, at once and in whichever thread: there are no more messages."""
        self._is_closed = True
        self._http.leave(self._way)
        self._way.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        way = getattr(self, "_way", None)  # none if the client was closed before
        if way is not None:
            self._http.leave(way)
        self._stop_listening()

    def _act(self) -> None:
        """One step of the state, which changes only when it is done."""
        state = self._state
        try:
            match state.step():
                case Over():
                    self._is_closed = True
                    self._http.leave(self._way)
                case Pause(seconds):
                    self._way.ended.wait(seconds)
                    self._check()
                case Receive():
                    self._receive()
                case Call() as call:
                    self._ask(call)
        except Exception:
            if self._is_closed:
                return  # by another thread, which is no error
            raise
        finally:
            if not state.listening or self._is_closed:
                self._stop_listening()

    def _check(self) -> None:
        if not self._is_closed:
            self._way.check()

    def _ask(self, call: Call) -> None:
        try:
            answer = self._begun(call)
        except Disconnected as lost:
            self._state.lost(lost)
        else:
            self._state.answered(answer)

    def _begun(self, call: Call) -> Answer:
        http, way = self._http, self._way
        if not call.is_stream:
            return http.exchange(call, way)
        response = http.begin(call, way)
        if response.status != 200:
            return http.rest(response, way, call.request, 0.0)
        self._events = response
        return head_of(response)

    def _receive(self) -> None:
        events = self._events
        try:
            if events is None:  # an interruption came between its head and what is here
                raise Disconnected("interrupted")
            data = self._http.receive(events, self._way)
        except Disconnected as lost:
            self._state.lost(lost)
        else:
            self._state.received(data)

    def _stop_listening(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.close()
