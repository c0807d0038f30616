"""ASGI's front: requests of a server or an application, decided by the exchange and answered."""

from __future__ import annotations

import asyncio
import time
from inspect import isawaitable
from typing import TYPE_CHECKING

from durable_streams.http.access_log import CLIENT_LEFT
from durable_streams.http.asgi.answers import Answer, AsgiEvents
from durable_streams.http.asgi.requests import AsgiRequest
from durable_streams.http.asgi.scopes import place_of, query_of
from durable_streams.http.decided import FromFiles
from durable_streams.http.front import Front
from durable_streams.http.turns import Turns
from durable_streams.model.errors import Forbidden, StreamError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.access.principals import Principal
    from durable_streams.http.asgi.answers import Send
    from durable_streams.http.asgi.requests import Message
    from durable_streams.http.asgi.scopes import Scope
    from durable_streams.http.askers import Authorize
    from durable_streams.http.guards import Guard
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store
    from durable_streams.wire.replies import Common, Reply


class _Asking(AsgiRequest):
    """A request with its answer."""

    __slots__ = ("answer",)

    def __init__(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Send, patience_s: float
    ) -> None:
        super().__init__(scope, receive)
        self.answer = Answer(self, send, patience_s)


class AsgiHandler(Front[_Asking, Answer]):
    """Answers the requests of an application."""

    def __init__(
        self,
        store: Store,
        settings: HttpSettings,
        guard: Guard,
        authorize: Authorize | None,
    ) -> None:
        """See :class:`Front`; ``authorize`` may raise an error of any framework for 401 and 403."""
        door = guard.door
        self._turns = Turns()
        super().__init__(
            store,
            settings,
            guard.pages,
            door,
            self._turns,
            authorize=None if authorize is None else _translated(authorize),
            control=guard.control,
            # Where nobody says who may know that, nothing tells which streams there are.
            lists=authorize is not None or not door.is_open,
            clock=time.time,
            random=None,
        )

    async def handle(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Send
    ) -> None:
        """Answer a request below the application's root."""
        task = asyncio.current_task()
        assert task is not None
        request = _Asking(scope, receive, send, self.settings.stall_timeout_s)
        asked = self.begin(request)
        self.active.add(task)
        try:
            try:
                place = place_of(scope)
            except StreamError as error:
                await self.fail(request, asked, error, self.exchange.pages.default)
            else:
                query = query_of(scope)
                await self.answer_below(request, asked, place.prefix, place.raw_path, query)
            await request.answer.to_nobody()
        except ConnectionError:
            """The client has gone."""
        finally:
            self.active.discard(task)
            answer = request.answer
            counted_bytes = 0 if answer.are_counted else answer.sent_bytes
            self.over(
                request, asked, answer.status or CLIENT_LEFT, answer.sent_bytes, counted_bytes
            )

    async def send(
        self, request: _Asking, found: Reply | FromFiles, common: Common, *, last: bool = False
    ) -> Answer:
        """Answer a request."""
        answer = request.answer
        if isinstance(found, FromFiles):
            with found:
                await answer.from_files(found.reply, found.plan, common, self._turns)
        else:
            # What is left of a body that comes too slowly is not waited for.
            await answer.whole(found, common, last=last or found.status == 408)
        return answer

    async def open_events(self, request: _Asking, reply: Reply, common: Common) -> AsgiEvents:
        """Prepare an answer of events."""
        return AsgiEvents(request, request.answer, (reply, common), self.counters)

    def nothing(self, request: _Asking) -> Answer:
        """As far as the answer went."""
        return request.answer


def _translated(authorize: Authorize) -> Authorize:
    """The same, whose refusals are those of all fronts.

    Frameworks have errors of their own with a ``status_code``, 401 or 403, and a ``detail``:
    ``HTTPException`` of Starlette and FastAPI does.
    """

    async def identified(scope: Scope) -> Principal | None:
        try:
            found = authorize(scope)
            return await found if isawaitable(found) else found
        except Exception as error:
            kind = {401: Unauthenticated, 403: Forbidden}.get(getattr(error, "status_code", 0))
            if kind is None or isinstance(error, StreamError):
                raise
            raise kind(str(getattr(error, "detail", "") or error)) from None

    return identified
