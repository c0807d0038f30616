"""Both clients behind the same few blocking calls, so that one adapter drives either."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import durable_streams
from durable_streams import Retries

if TYPE_CHECKING:
    from durable_streams import Limits, Message

GIVES_UP_S = 8.0
"""The suite waits 30 s for a command."""

RETRIES = Retries(give_up_s=GIVES_UP_S, follow_s=GIVES_UP_S, unsure=True)
"""``unsure``: the suite wants plain appends repeated at 500 and 503."""


class Side(Protocol):
    """One client of one URL, for one command."""

    def verb(self, name: str, *args: Any, **named: Any) -> Any:
        """Do one thing."""

    def follow(self, path: str, offset: str) -> Follower:
        """Follow a stream."""

    def produce(
        self,
        path: str,
        producer_id: str,
        data: list[bytes],
        *,
        closes: bool,
        **how: Any,
    ) -> Any:
        """Append by a producer: its epoch and the offset of the end."""

    def begin_producer(self, producer_id: str, epoch: int | None, how: Limits) -> Any:
        """Make a producer, which asks nothing of the server yet."""

    def close(self) -> None:
        """Let go of it."""


class Follower:
    """A tail whose next message is waited for so long at most."""

    tail: durable_streams.RemoteTail | durable_streams.SyncRemoteTail
    is_over = False

    def next(self, within_s: float) -> Message | None:
        """It, or None: nothing came, or it is over."""
        raise NotImplementedError

    def close(self) -> None:
        """Follow no more."""
        raise NotImplementedError


class _InThread(Follower):
    def __init__(self, tail: durable_streams.SyncRemoteTail) -> None:
        self.tail = self._tail = tail
        self._came: queue.SimpleQueue[Message | Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self._tail:
                self._came.put(message)
            self._came.put(None)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._came.put(error)

    def next(self, within_s: float) -> Message | None:
        try:
            came = self._came.get(timeout=within_s)
        except queue.Empty:
            return None
        if isinstance(came, Exception):
            raise came
        self.is_over = came is None
        return came

    def close(self) -> None:
        self._tail.close()
        self._thread.join()


class _InLoop(Follower):
    def __init__(self, loop: asyncio.AbstractEventLoop, tail: durable_streams.RemoteTail) -> None:
        self.tail = self._tail = tail
        self._run = loop.run_until_complete

    def next(self, within_s: float) -> Message | None:
        return self._run(self._next(within_s))

    async def _next(self, within_s: float) -> Message | None:
        try:
            return await asyncio.wait_for(anext(self._tail), within_s)
        except TimeoutError:
            return None
        except StopAsyncIteration:
            self.is_over = True
            return None

    def close(self) -> None:
        self._run(self._tail.aclose())


class Blocking:
    """The client over urllib3."""

    def __init__(self, url: str, headers: dict[str, str], live: str) -> None:
        self._stack = ExitStack()
        self._streams = self._stack.enter_context(
            durable_streams.connect_sync(url, headers=headers, retries=RETRIES, live=live)
        )

    def verb(self, name: str, *args: Any, **named: Any) -> Any:
        return getattr(self._streams, name)(*args, **named)

    def follow(self, path: str, offset: str) -> Follower:
        return _InThread(self._streams.tail(path, offset))

    def produce(
        self,
        path: str,
        producer_id: str,
        data: list[bytes],
        *,
        closes: bool,
        **how: Any,
    ) -> Any:
        with self._streams.producer(path, producer_id, **how) as producer:
            if closes:
                end = producer.close_stream(b"".join(data))
                return producer.epoch, producer.appended, end
            for one in data:
                producer.append(one)
            producer.flush()
            return producer.epoch, producer.appended, None

    def begin_producer(self, producer_id: str, epoch: int | None, how: Limits) -> Any:
        return self._streams.producer("s", producer_id, epoch=epoch, limits=how)

    def close(self) -> None:
        self._stack.close()


class Awaited:
    """The client over aiohttp, in a loop that runs while it is asked."""

    def __init__(self, url: str, headers: dict[str, str], live: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._run = self._loop.run_until_complete
        client = durable_streams.connect(url, headers=headers, retries=RETRIES, live=live)
        self._streams = self._run(client.__aenter__())

    def verb(self, name: str, *args: Any, **named: Any) -> Any:
        return self._run(getattr(self._streams, name)(*args, **named))

    def follow(self, path: str, offset: str) -> Follower:
        async def begin() -> durable_streams.RemoteTail:
            return self._streams.tail(path, offset)

        return _InLoop(self._loop, self._run(begin()))

    def produce(
        self,
        path: str,
        producer_id: str,
        data: list[bytes],
        *,
        closes: bool,
        **how: Any,
    ) -> Any:
        async def produce() -> Any:
            async with self._streams.producer(path, producer_id, **how) as producer:
                if closes:
                    end = await producer.close_stream(b"".join(data))
                    return producer.epoch, producer.appended, end
                for one in data:
                    await producer.append(one)
                await producer.flush()
                return producer.epoch, producer.appended, None

        return self._run(produce())

    def begin_producer(self, producer_id: str, epoch: int | None, how: Limits) -> Any:
        return self._streams.producer("s", producer_id, epoch=epoch, limits=how)

    def close(self) -> None:
        self._run(self._streams.aclose())
        self._loop.close()


def limits(in_flight: int) -> Limits:
    """As the suite wants them: with several at once, each append is a request."""
    if in_flight > 1:
        return durable_streams.Limits(linger_s=0, batch_bytes=1, in_flight=in_flight)
    return durable_streams.Limits(linger_s=1, in_flight=1)
