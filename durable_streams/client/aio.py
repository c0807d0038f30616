"""Streams of a server, for programs in an event loop: the verbs of the library, over HTTP.

    async with durable_streams.connect("http://127.0.0.1:4437/v1/stream") as streams:
        await streams.append_json("events", {"hello": "world"})
        async for message in streams.tail("events"):
            ...

Of several tasks each may use it; it belongs to the event loop that opened it.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Self, TypeVar

from durable_streams.client.aio_http import Http, Token
from durable_streams.client.aio_producer import RemoteProducer
from durable_streams.client.aio_tail import RemoteTail
from durable_streams.client.asking import BEGINNING, NOW
from durable_streams.client.bodies import ANSWER_BYTES
from durable_streams.client.options import (
    CONNECT_S,
    SILENCE_S,
    HeaderValue,
    Options,
    checked_token,
    not_open,
)
from durable_streams.client.remote_verbs import RemoteVerbs
from durable_streams.home import Home

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from durable_streams.client.producing import Limits
    from durable_streams.client.retries import Retries
    from durable_streams.client.steps import Conversation

_T = TypeVar("_T")


def connect(
    url: str,
    *,
    token: Token | None = None,
    headers: Mapping[str, HeaderValue] | None = None,
    retries: Retries | None = None,
    live: str = "auto",
    silence_s: float = SILENCE_S,
    connect_s: float = CONNECT_S,
    answer_bytes: int = ANSWER_BYTES,
) -> RemoteStreams:
    """The streams of a server, for ``async with``, as :func:`.open` gives those of a directory.

    ``url``: what streams are below, such as ``http://127.0.0.1:4437/v1/stream``; a query of it is
    sent along, as in signed URLs.  ``token``: sent as ``Authorization: Bearer``, or a function that
    gives one, also a coroutine function: it is asked once, and again after a 401.  ``headers`` are
    sent along, each a text or a function that is asked each time.  ``retries``: see ``Retries``.

    ``live``: how a tail waits: ``"sse"``, ``"long-poll"``, or by the content type.  ``silence_s``:
    after so long without a byte a connection counts as lost; longer than the server lets a reader
    wait.  ``connect_s``: for connecting.  ``answer_bytes``: an answer or event that is larger is
    refused (``UnexpectedAnswer``), so that no server fills the memory.

    Raises ``TypeError`` or ``ValueError`` if an argument cannot be.  Nothing is asked of the server
    before the first verb.
    """
    if isinstance(token, str):
        token = checked_token(token)
    elif token is not None and not callable(token):
        raise TypeError(f"token must be a str or a function, not {type(token).__name__}")
    return RemoteStreams(
        Options.of(
            url,
            headers=headers,
            retries=retries,
            live=live,
            silence_s=silence_s,
            connect_s=connect_s,
            answer_bytes=answer_bytes,
        ),
        token,
    )


class RemoteStreams(RemoteVerbs):
    """The streams of a server; the verbs are those of :class:`~durable_streams.Streams`.

    So are the errors, as far as HTTP tells them.  Beside them there are ``Unreachable`` if there is
    no answer for as long as ``Retries`` says, ``Unauthenticated`` and ``Forbidden``, and
    ``UnexpectedAnswer`` if what is there is no server of streams.
    """

    def __init__(self, options: Options, token: Token | None) -> None:
        self._options = options
        self._token = token
        self._http: Http | None = None
        self._home: Home | None = None
        super().__init__(options)

    async def __aenter__(self) -> Self:
        """Begin to use it."""
        if self._http is not None:
            raise RuntimeError("it is open already: call durable_streams.connect() for each use")
        self._home = Home()
        self._http = Http(self._options, self._token)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if self._home is not None and self._home.is_left_by_a_child(error):
            return
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; what waits for an answer is told."""
        if self._http is not None:
            http = self._opened()
            self._http = None
            await http.close()

    def _opened(self) -> Http:
        if self._http is None or self._home is None:
            raise not_open()
        self._home.check()
        return self._http

    async def _ask(self, conversation: Conversation[_T]) -> _T:
        return await self._opened().converse(conversation)

    def producer(
        self,
        path: str,
        id: str,  # noqa: A002 - as in ProducerClaim
        *,
        epoch: int | None = None,
        number: int | None = None,
        take_over: bool = False,
        limits: Limits | None = None,
    ) -> RemoteProducer:
        """A producer for ``async with``: appends in the background, batched, each stored once.

        ``id`` is the producer's over all its runs, and only one of them appends at a time.  Each
        has a higher ``epoch``, by default the time, and ends those before.  A run that ends early
        leaves what it had not flushed, of which some may be stored.

        ``number``: how many appends runs before have had acknowledged.  Then this run is the same
        as the one before (``epoch`` 0, or one of your own that stays), appends are not batched, and
        the program appends from that one on the same again; what is stored already is not stored
        again.  So a program that keeps ``acknowledged`` now and then loses and repeats nothing.

        ``take_over``: if the epoch is stale at first, begin the next one.  ``limits``: ``Limits``.

        Any failure that does not pass ends it: ``append``, ``flush`` and the end of the block raise
        it, what :meth:`append` raises.  ``Unreachable`` comes after ``Retries.give_up_s``.
        """
        new = self.asking.producer(
            path,
            id,
            epoch=epoch,
            number=number,
            take_over=take_over,
            limits=limits,
            now_ms=time_ns() // 1_000_000,
        )
        return RemoteProducer(self._opened, new)

    def tail(self, path: str, offset: str = BEGINNING, *, live: bool = True) -> RemoteTail:
        """All messages from an offset on, then new ones as they come; ends when the stream closes.

        ``live=False``: it ends at the tail.  It goes on over restarts of the server, lost
        connections, and whatever a proxy cuts off, and nothing is lost or comes twice.  A step
        raises what :meth:`read` does; ``Unreachable`` if the server does not answer at first, or is
        away for as long as ``Retries.follow_s``; ask again then, and it goes on.
        """
        return RemoteTail(self._opened(), self.asking.tail(path, offset, live=live))


__all__ = ["BEGINNING", "NOW", "RemoteStreams", "connect"]
