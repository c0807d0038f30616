"""Requests over aiohttp: a call becomes an answer, or the answer there is none.

Nothing is repeated or followed here: a redirect is an answer like any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast

import aiohttp
from yarl import URL

from durable_streams.client.bodies import ACCEPTED, SLOWEST_BYTES_PER_S, Body
from durable_streams.client.options import not_open
from durable_streams.client.steps import PAUSED, Answer, Call, Disconnected, OutOfTime, Pause
from durable_streams.model.errors import Unreachable

if TYPE_CHECKING:
    from durable_streams.client.options import Options
    from durable_streams.client.steps import Conversation, Request

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token, or what is asked for one: at first, and again after each 401."""

_IDLE_S: Final = 15.0
"""After which a connection is not used again: well before servers and proxies close it, so that no
request meets one that is just being closed."""

_LARGE_BYTES: Final = 1024 * 1024
"""Bodies above it are sent in pieces, and only once the server says that it will have them: one
that refuses at once is heard."""

_T = TypeVar("_T")


class Http:
    """The connections of one client; in one event loop."""

    def __init__(self, options: Options, token: Token | None) -> None:
        self._options = options
        self._token = token
        self._known: str | None = token if isinstance(token, str) else None
        self._asking: asyncio.Task[str] | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=options.connect_s, sock_read=options.silence_s
            ),
            skip_auto_headers=("Content-Type", "User-Agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._asking is not None:
            self._asking.cancel()
        await self._session.close()

    async def converse(self, conversation: Conversation[_T]) -> _T:
        """Have a conversation, to its result."""
        answer = PAUSED
        try:
            step = next(conversation)
            while True:
                try:
                    answer = await self._do(step)
                except Disconnected as lost:
                    step = conversation.throw(lost)
                else:
                    step = conversation.send(answer)
        except StopIteration as end:
            return cast("_T", end.value)

    async def _do(self, step: Call | Pause) -> Answer:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return PAUSED
        return await self.exchange(step)

    async def exchange(self, call: Call) -> Answer:
        """A whole answer; raises :class:`Disconnected`."""
        response = await self.begin(call)
        async with response:
            return await self.rest(response)

    async def begin(self, call: Call) -> aiohttp.ClientResponse:
        """The head of an answer, whose body is for the caller to receive, or to close."""
        if self._session.closed:
            raise not_open()
        request = call.request
        is_large = len(request.body) > _LARGE_BYTES
        headers = self._options.sent_headers(request, await self._credentials(renew=call.renew))
        headers["Accept-Encoding"] = ACCEPTED
        if call.is_stream:
            headers["Accept"] = "text/event-stream"
            headers["Accept-Encoding"] = "identity"
        patience = asyncio.timeout(self._head_within_s(request))
        try:
            async with patience:
                return await self._session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=headers,
                    data=BytesIO(request.body) if is_large else request.body or None,
                    expect100=is_large,
                    allow_redirects=False,
                    timeout=self._timeout(request),
                )
        except Exception as error:
            if patience.expired():
                raise Disconnected("the head of the answer came too slowly") from error
            raise _as_lost(error, request) from error

    def _head_within_s(self, request: Request) -> float:
        """How long the request may take to be sent, and the head of the answer to come.

        Who sends a byte of it now and then is never silent, and does not come to its end either.
        """
        options = self._options
        sending_s = len(request.body) / SLOWEST_BYTES_PER_S
        return options.connect_s + 2 * options.silence_s + sending_s

    async def rest(self, response: aiohttp.ClientResponse) -> Answer:
        """The whole body of an answer, with its head; ``UnexpectedAnswer`` if it is too large."""
        options = self._options
        body = Body(head_of(response), options.answer_bytes, options.silence_s, monotonic)
        is_over = False
        try:
            while piece := await self._piece(response):
                if not body.take(piece):
                    break
            else:
                is_over = True
        finally:
            if not is_over:
                response.close()  # it may go on for ever
        return body.whole()

    async def _piece(self, response: aiohttp.ClientResponse) -> bytes:
        """The next bytes, which do not come if all that arrives is the size of a chunk, say."""
        try:
            async with asyncio.timeout(2 * self._options.silence_s):
                return await self.receive(response)
        except TimeoutError as error:
            raise Disconnected("no more of the answer came") from error

    async def receive(self, response: aiohttp.ClientResponse) -> bytes:
        """The next bytes of a body, b"" at its end; may be cancelled, and loses nothing by that."""
        try:
            return await response.content.readany()
        except Exception as error:
            raise _as_lost(error, None) from error

    def _timeout(self, request: Request) -> aiohttp.ClientTimeout:
        options = self._options
        return aiohttp.ClientTimeout(
            total=request.within_s, sock_connect=options.connect_s, sock_read=options.silence_s
        )

    async def _credentials(self, *, renew: bool) -> str | None:
        """The token; all that need a new one at once wait for the same."""
        if self._token is None or isinstance(self._token, str):
            return self._known
        if self._known is not None and not renew:
            return self._known
        asking = self._asking
        if asking is None:
            asking = self._asking = asyncio.ensure_future(self._ask_for_token(self._token))
            asking.add_done_callback(self._has_asked)
        return await asyncio.shield(asking)

    async def _ask_for_token(self, ask: Callable[[], str | Awaitable[str]]) -> str:
        told = ask()
        self._known = await told if isawaitable(told) else told
        return self._known

    def _has_asked(self, asking: asyncio.Task[str]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # whoever waits is told, and if nobody does that is no fault


def head_of(response: aiohttp.ClientResponse) -> Answer:
    """The head of an answer."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers)


def _as_lost(error: Exception, request: Request | None) -> Exception:
    """What an error of aiohttp's means to the core; others are the program's own."""
    reason = str(error) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() if request is not None:
            return Unreachable(request.url.partition("?")[0], reason)
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return Disconnected(reason, unsent=True)
        case aiohttp.ServerTimeoutError():
            return Disconnected(f"the server sent nothing for too long ({reason})")
        case TimeoutError():
            return OutOfTime(reason)
        case aiohttp.InvalidURL():
            return error
        case aiohttp.ClientError() | OSError():
            return Disconnected(reason)
        case _:
            return error
