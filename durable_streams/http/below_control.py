"""What is below ``__ds``, in every front: lists, inspections, metrics, tokens.

All of it is told to pages of welcome origins only, and kept by no cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.access.needs import Asked, authorize_somewhere
from durable_streams.access.principals import ANYBODY
from durable_streams.http import nodes
from durable_streams.http.inspection import inspect
from durable_streams.http.metrics import PATH
from durable_streams.http.nodes import PATH as NODES_PATH
from durable_streams.http.peers import is_of_this_machine
from durable_streams.model.commands import Details
from durable_streams.model.errors import Forbidden, StreamError
from durable_streams.wire.inspections import parse_inspection
from durable_streams.wire.lists import parse_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.access.door import Credentials
    from durable_streams.access.principals import Principal
    from durable_streams.http.access_log import Exchanged
    from durable_streams.http.askers import Askers
    from durable_streams.http.bodies import BodyBudget
    from durable_streams.http.control import Control
    from durable_streams.http.exchange import Exchange
    from durable_streams.http.incoming import Incoming
    from durable_streams.http.listing import Lists
    from durable_streams.http.metrics import Metrics
    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store
    from durable_streams.wire.replies import Reply


class BelowControl:
    """Answers requests of one handler; ``control`` and ``lists`` are None where there are none.

    Without ``lists`` no details of a stream are told either.
    """

    def __init__(
        self,
        store: Store,
        exchange: Exchange,
        askers: Askers,
        bodies: BodyBudget,
        metrics: Metrics,
        *,
        control: Control | None,
        lists: Lists | None,
    ) -> None:
        self._store = store
        self._exchange = exchange
        self._askers = askers
        self._bodies = bodies
        self._metrics = metrics
        self._control = control
        self.lists = lists

    async def answer(
        self,
        request: Incoming,
        raw_path: str,
        raw_query: str,
        asked: Exchanged | None,
        *,
        timeout_s: float,
        url_of: Callable[[StreamPath], str],
    ) -> Reply | None:
        """Answer a request for ``raw_path``, which begins with the reserved segment.

        None if nothing here knows it.  ``asked``: is told who asks.  ``timeout_s``: for its body.
        ``url_of``: the URL of a stream.  Raises what the exchange describes.
        """
        if raw_path == PATH:
            return await self.metrics(request, raw_query, asked)
        if raw_path == NODES_PATH:
            if request.method != "OPTIONS":
                await self._check_watcher(request, raw_query, asked)
            return await nodes.answer(self._store, request.method)
        if self.lists is not None:
            wanted = parse_list(request.method, raw_path, raw_query)
            if wanted is not None:
                principal, payer = await self._askers.identify(request, raw_query, asked)
                return self._paid(payer, await self.lists.answer(principal, wanted))
        inspection = parse_inspection(request.method, raw_path, raw_query)
        if self.lists is None and isinstance(inspection, Details):
            inspection = None  # it names others: forks, a source, producers
        if inspection is not None:
            principal, payer = await self._askers.admit(request, raw_query, inspection, asked)
            return self._paid(payer, await inspect(self._store, inspection, principal))
        if self._control is None:
            return None

        def identify(credentials: Credentials) -> Principal:
            address = self._askers.address(request)
            return self._exchange.identify(credentials, None, address, asked).principal

        return await self._control.answer(
            request, raw_path, self._bodies, timeout_s, identify=identify, url_of=url_of
        )

    async def metrics(self, request: Incoming, raw_query: str, asked: Exchanged | None) -> Reply:
        """Answer with the metrics, wherever they are asked for."""
        if request.method != "OPTIONS":
            await self._check_watcher(request, raw_query, asked)
        return await self._metrics.answer(request.method)

    async def may_watch(self, request: Incoming, raw_query: str) -> bool:
        """Whether who asks may see how the server is; who shows nothing pays nothing."""
        if "Authorization" not in request.headers:
            return is_of_this_machine(request.peername, request.headers)
        try:
            await self._check_watcher(request, raw_query)
        except StreamError:
            return False
        return True

    async def _check_watcher(
        self, request: Incoming, raw_query: str, asked: Exchanged | None = None
    ) -> None:
        """Return if who asks may see how the server is: this machine, or who has the scope."""
        is_asked_for_all = self._askers.are_of_an_application
        if not is_asked_for_all and is_of_this_machine(request.peername, request.headers):
            return
        principal = (await self._askers.identify(request, raw_query, asked)).principal
        if principal is ANYBODY:
            raise Forbidden(
                "metrics are for those on this machine: ask from there, and through no proxy, or "
                "have them on an address of their own (--metrics-listen)"
            )
        authorize_somewhere(principal, Asked.METRICS)

    def _paid(self, payer: str, reply: Reply) -> Reply:
        """A reply, which whoever asked has to pay for."""
        if payer:
            self._exchange.limits.charge(payer, len(reply.body))
        return reply
