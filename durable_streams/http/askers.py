"""Who asks, of requests of any front: told by their credentials, or by an application."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias

from durable_streams.access.door import INVALID, Credentials
from durable_streams.access.principals import Principal
from durable_streams.http.decided import EVERYBODY
from durable_streams.model.commands import Preflight
from durable_streams.model.errors import Unauthenticated
from durable_streams.wire.urls import forwarded_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.http.access_log import Exchanged
    from durable_streams.http.decided import Admitted
    from durable_streams.http.exchange import Exchange
    from durable_streams.http.incoming import Incoming
    from durable_streams.http.peers import Peers
    from durable_streams.model.commands import Command, Inspection

    Authorize: TypeAlias = Callable[[Any], Principal | Awaitable[Principal | None] | None]
    """An application's answer to who asks, of a request as it knows it; None: nobody it knows."""


class Askers:
    """Knows who asks, as ``authorize`` says, or else the door of the exchange.

    ``authorize`` may raise :class:`Unauthenticated` and :class:`Forbidden`; what applications raise
    instead is for the front to translate.
    """

    def __init__(self, exchange: Exchange, peers: Peers, authorize: Authorize | None) -> None:
        self._exchange = exchange
        self._peers = peers
        self._authorize = authorize

    @property
    def are_of_an_application(self) -> bool:
        """Whether an application is asked about each request."""
        return self._authorize is not None

    async def admit(
        self,
        request: Incoming,
        raw_query: str,
        command: Command | Inspection,
        asked: Exchanged | None = None,
    ) -> Admitted:
        """Who asks for a command, if they may; see :meth:`Exchange.admit`."""
        address = self.address(request)
        if self._authorize is None:
            credentials = Credentials.of(request.headers, raw_query)
            return self._exchange.admit(command, credentials, address, None, asked)
        if isinstance(command, Preflight):
            return EVERYBODY
        principal = await self._known_to_the_application(self._authorize, request, address)
        return self._exchange.admit_as(principal, command, address, asked)

    async def identify(
        self, request: Incoming, raw_query: str, asked: Exchanged | None = None
    ) -> Admitted:
        """Who asks for what is no stream; see :meth:`Exchange.identify`."""
        address = self.address(request)
        if self._authorize is None:
            credentials = Credentials.of(request.headers, raw_query)
            return self._exchange.identify(credentials, None, address, asked)
        principal = await self._known_to_the_application(self._authorize, request, address)
        return self._exchange.identified(principal, address, asked)

    def address(self, request: Incoming) -> str:
        """Where a request comes from; "" if it makes no difference."""
        if not self._exchange.limits.is_on:
            return ""
        return self._peers.client(request.peername, forwarded_for(request.headers))

    async def _known_to_the_application(
        self, authorize: Authorize, request: Incoming, address: str
    ) -> Principal:
        try:
            return await self._identified(authorize, request)
        except Unauthenticated:
            self._exchange.refuses(address)
            raise

    async def _identified(self, authorize: Authorize, request: Incoming) -> Principal:
        """Whom the application knows to ask."""
        found = authorize(request.for_application)
        principal = await found if isawaitable(found) else found
        if principal is None:
            raise Unauthenticated("the application does not know who asks")
        if not isinstance(principal, Principal):  # whatever it is, it may hold secrets
            raise TypeError(
                f"authorize has to return a Principal or None, not a {type(principal).__name__}"
            )
        if not self._exchange.door.left_s(principal) > 0:
            raise Unauthenticated("the credentials have expired", INVALID)
        return principal
