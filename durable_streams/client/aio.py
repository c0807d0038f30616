"""Streams of a server, for programs in an event loop: the verbs of the library, over HTTP.

    async with durable_streams.connect("http://127.0.0.1:4437/v1/stream") as streams:
        await streams.append_json("events", {"hello": "world"})
        async for message in streams.tail("events"):
            ...

Of several tasks each may use it; it belongs to the event loop that opened it.
"""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Final, Self, TypeVar

from durable_streams.client.aio_http import Http, Token
from durable_streams.client.aio_tail import RemoteTail
from durable_streams.client.asking import BEGINNING, NOW, Asking
from durable_streams.client.options import (
    CONNECT_S,
    SILENCE_S,
    HeaderValue,
    Options,
    checked_token,
    not_open,
)
from durable_streams.client.verbs import Verbs
from durable_streams.home import Home
from durable_streams.rules.list_pages import DEFAULT_LISTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime
    from types import TracebackType

    from durable_streams.client.retries import Retries
    from durable_streams.client.steps import Conversation
    from durable_streams.details import Details
    from durable_streams.history import RecordsResult
    from durable_streams.listing import ListedStream, ListPage
    from durable_streams.model.commands import ProducerClaim
    from durable_streams.outcomes import (
        AppendResult,
        JsonResult,
        MessagesResult,
        Metadata,
        ReadResult,
    )

Data = bytes | bytearray | memoryview

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
) -> RemoteStreams:
    """The streams of a server, for ``async with``, as :func:`.open` gives those of a directory.

    ``url``: what streams are below, such as ``http://127.0.0.1:4437/v1/stream``; a query of it is
    sent along, as in signed URLs.  ``token``: sent as ``Authorization: Bearer``, or a function that
    gives one, also a coroutine function: it is asked once, and again after a 401.  ``headers`` are
    sent along, each a text or a function that is asked each time.  ``retries``: see ``Retries``.

    ``live``: how a tail waits: ``"sse"``, ``"long-poll"``, or by the content type.  ``silence_s``:
    after so long without a byte a connection counts as lost; longer than the server lets a reader
    wait.  ``connect_s``: for connecting.

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
        ),
        token,
    )


class RemoteStreams:
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
        verbs = Verbs(options.address, options.retries, monotonic, random.random)
        self._asking: Final = Asking(verbs, options.live)

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

    async def create(
        self,
        path: str,
        *,
        content_type: str | None = None,
        data: Data = b"",
        ttl_s: int | None = None,
        expires_at: datetime | str | None = None,
        closed: bool = False,
    ) -> Metadata:
        """Create a stream, or find that the same one exists (``created`` is False then).

        It may also be False if a first attempt did it, whose answer was lost.
        """
        return await self._ask(
            self._asking.create(
                path,
                content_type=content_type,
                data=data,
                ttl_s=ttl_s,
                expires_at=expires_at,
                closed=closed,
            )
        )

    async def fork(
        self,
        path: str,
        source: str,
        *,
        offset: str | None = None,
        sub_offset: int = 0,
        ttl_s: int | None = None,
        expires_at: datetime | str | None = None,
    ) -> Metadata:
        """Create a stream that begins with another's content up to ``offset`` (None: its tail)."""
        return await self._ask(
            self._asking.fork(
                path,
                source,
                offset=offset,
                sub_offset=sub_offset,
                ttl_s=ttl_s,
                expires_at=expires_at,
            )
        )

    async def append(
        self,
        path: str,
        data: Data,
        *,
        content_type: str | None = None,
        close: bool = False,
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
    ) -> AppendResult:
        """Append bytes (for JSON streams: a value, or an array of values); durable on return.

        Without ``content_type`` the stream is asked for its own first.  Without ``producer`` it is
        not repeated if it may have been stored: ``Unreachable`` is raised, and nobody knows.
        """
        return await self._ask(
            self._asking.append(
                path,
                data,
                content_type=content_type,
                close=close,
                producer=producer,
                stream_seq=stream_seq,
            )
        )

    async def append_json(
        self,
        path: str,
        *values: object,
        close: bool = False,
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
    ) -> AppendResult:
        """Append values to a stream of JSON, each as one message, together; durable on return."""
        return await self._ask(
            self._asking.append_json(
                path, *values, close=close, producer=producer, stream_seq=stream_seq
            )
        )

    async def close(self, path: str, data: Data = b"") -> AppendResult:
        """Close a stream, perhaps with last bytes; closing again changes nothing."""
        return await self._ask(self._asking.append(path, data, close=True))

    async def delete(self, path: str) -> None:
        """Delete a stream and its data, for good on return."""
        await self._ask(self._asking.delete(path))

    async def get_metadata(self, path: str) -> Metadata:
        """The stream's metadata; does not count as a use.  ``created_ms`` is 0: nobody tells."""
        return await self._ask(self._asking.get_metadata(path))

    async def list_page(
        self, prefix: str = "", *, after: str = "", limit: int = DEFAULT_LISTED
    ) -> ListPage:
        """One page of :meth:`list`, and what the next one begins behind."""
        return await self._ask(self._asking.list_page(prefix, after=after, limit=limit))

    def list(
        self, prefix: str = "", *, after: str = "", page_size: int = DEFAULT_LISTED
    ) -> AsyncIterator[ListedStream]:
        """All streams at and below a prefix, in the order of their paths, that may be seen."""
        return self._each_listed(prefix, after, page_size)

    async def _each_listed(
        self, prefix: str, after: str, limit: int
    ) -> AsyncIterator[ListedStream]:
        following: str | None = after
        while following is not None:
            page = await self.list_page(prefix, after=following, limit=limit)
            for stream in page.streams:
                yield stream
            following = page.next

    async def details(self, path: str) -> Details:
        """All that is known of a stream: what lists say, and how it is kept, written and read."""
        return await self._ask(self._asking.details(path))

    async def records(
        self,
        path: str,
        offset: str | None = None,
        *,
        since: datetime | str | None = None,
        last: int | None = None,
        limit: int | None = None,
    ) -> RecordsResult:
        """What was appended, and when: one record for each append, or message of a JSON stream."""
        return await self._ask(
            self._asking.records(path, offset, since=since, last=last, limit=limit)
        )

    async def read(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> ReadResult:
        """Read a piece from an offset (``"-1"``: the beginning, ``"now"``: the tail)."""
        read = self._asking.read(path, offset, live=live, timeout_s=timeout_s)
        return (await self._ask(read)).read_result()

    async def read_messages(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> MessagesResult:
        """Like :meth:`read`, in messages; of what is no JSON, pieces of one or more appends."""
        read = self._asking.read(path, offset, live=live, timeout_s=timeout_s)
        return (await self._ask(read)).messages_result()

    async def read_json(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> JsonResult:
        """Like :meth:`read_messages`, with the values that the messages stand for."""
        return await self._ask(self._asking.read_json(path, offset, live=live, timeout_s=timeout_s))

    def tail(self, path: str, offset: str = BEGINNING, *, live: bool = True) -> RemoteTail:
        """All messages from an offset on, then new ones as they come; ends when the stream closes.

        ``live=False``: it ends at the tail.  It goes on over restarts of the server, lost
        connections, and whatever a proxy cuts off, and nothing is lost or comes twice.  A step
        raises what :meth:`read` does; ``Unreachable`` if the server does not answer at first, or is
        away for as long as ``Retries.follow_s``; ask again then, and it goes on.
        """
        return RemoteTail(self._opened(), self._asking.tail(path, offset, live=live))


__all__ = ["BEGINNING", "NOW", "RemoteStreams", "connect"]
