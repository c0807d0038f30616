"""Following a stream over HTTP, in an event loop: what ``tail`` of a client gives.

As with :class:`~durable_streams.Tail` every step may be cancelled wherever it waits.  A request
that waits for news goes on meanwhile, so that the next step need not ask anew; what has come is
noted only when nothing is left to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import finalize

from durable_streams.client.aio_http import head_of
from durable_streams.client.following import Over, Receive
from durable_streams.client.steps import Call, Disconnected, Pause
from durable_streams.messages import Message

if TYPE_CHECKING:
    import aiohttp

    from durable_streams.client.aio_http import Http
    from durable_streams.client.following import Following
    from durable_streams.client.steps import Answer


class _Way:
    """What a tail has under way; it does not hold the tail, which may be dropped meanwhile."""

    def __init__(self, http: Http) -> None:
        self.http = http
        self.asking: asyncio.Task[Answer] | None = None
        self.events: aiohttp.ClientResponse | None = None

    def leave(self) -> None:
        """Let go of all of it."""
        if self.asking is not None:
            self.asking.cancel()
            self.asking = None
        self.stop_listening()

    def stop_listening(self) -> None:
        """Let go of the events."""
        if self.events is not None:
            self.events.close()
            self.events = None

    async def ask(self, call: Call) -> Answer:
        """The answer to a call, which goes on if this is cancelled, and is awaited next time."""
        if self.asking is None:
            self.asking = asyncio.ensure_future(self._ask(call))
            self.asking.add_done_callback(_seen)
        try:
            answer = await asyncio.shield(self.asking)
        except asyncio.CancelledError:
            raise  # it stays, also if it has just been answered
        except BaseException:
            self.asking = None
            raise
        self.asking = None
        return answer

    async def _ask(self, call: Call) -> Answer:
        response = await self.http.begin(call)
        if call.is_stream and response.status == 200:
            self.events = response
            return head_of(response)
        async with response:
            return await self.http.rest(response)


def _seen(task: asyncio.Task[Answer]) -> None:
    """That it failed is told to whoever asks again, and if nobody does that is no fault."""
    if not task.cancelled():
        task.exception()


class RemoteTail(AsyncIterator[Message]):
    """The messages of a stream, those to come as well; see :meth:`RemoteStreams.tail`.

    For one reader, as :class:`~durable_streams.Tail` is.  Who leaves early calls :meth:`aclose`
    (``contextlib.aclosing``), or drops it.
    """

    def __init__(self, http: Http, state: Following) -> None:
        self._state = state
        self._way = _Way(http)
        self._is_waiting = False
        self._leave = _leaving(self, self._way)

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

    async def __anext__(self) -> Message:
        """The next message, as soon as there is one; ``StopAsyncIteration`` at the end."""
        self._check_alone()
        ready = self._state.ready
        if not ready:
            await self._fill()
        return ready.popleft()

    async def some(self) -> list[Message]:
        """All messages that are ready, at least one as soon as there is one; none at the end.

        For those to whom each step costs something.  Raises what a step does.
        """
        self._check_alone()
        ready = self._state.ready
        with suppress(StopAsyncIteration):
            if not ready:
                await self._fill()
        some = list(ready)
        ready.clear()
        return some

    async def _fill(self) -> None:
        """Have at least one message ready; ``StopAsyncIteration`` if it is over."""
        self._is_waiting = True
        try:
            while not self._state.ready:
                await self._act()
        finally:
            self._is_waiting = False

    async def aclose(self) -> None:
        """End it: there are no more messages; ``RuntimeError`` while somebody waits for one."""
        self._check_alone()
        self._state.finish()
        self._way.leave()
        await asyncio.sleep(0)

    def _check_alone(self) -> None:
        if self._is_waiting:
            raise RuntimeError(
                "somebody else waits for the next message of this tail: call tail() once for each "
                "reader"
            )

    async def _act(self) -> None:
        """One step of the state, which changes only when it is done."""
        state, way = self._state, self._way
        match state.step():
            case Over():
                way.leave()
                raise StopAsyncIteration
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Receive():
                await self._receive()
            case Call() as call:
                try:
                    answer = await way.ask(call)
                except Disconnected as lost:
                    state.lost(lost)
                else:
                    state.answered(answer)
        if not state.listening:
            way.stop_listening()

    async def _receive(self) -> None:
        events = self._way.events
        assert events is not None
        try:
            data = await self._way.http.receive(events)
        except Disconnected as lost:
            self._state.lost(lost)
        else:
            try:
                self._state.received(data)
            finally:
                if not self._state.listening:
                    self._way.stop_listening()


def _leaving(tail: RemoteTail, way: _Way) -> finalize[[], RemoteTail]:
    """Leave when a tail is dropped, in whatever thread that happens."""
    loop = asyncio.get_running_loop()

    def leave() -> None:
        with suppress(RuntimeError):  # the loop has ended, and so has everything in it
            loop.call_soon_threadsafe(way.leave)

    leaving = finalize(tail, leave)
    leaving.atexit = False
    return leaving
