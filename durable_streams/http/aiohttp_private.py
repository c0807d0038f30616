"""All that is used of aiohttp's own: here, each with its reason, and nowhere else.

aiohttp may rename these, or do something else with them, in any minor version; so pyproject.toml
holds it to one, and ``tests/http/test_aiohttp_private.py`` looks whether they are there and do what
is said here.

=================================  =================================================================
of ``web.RequestHandler``
``_parser``                        so that ours bounds the whole head of a request
``_max_msg_queue_size``            how many requests a connection that pipelines has parsed ahead
``_waiter``                        whether a request is waited for, and nothing of one is under way:
                                   only then may the fast lane write to the connection
``_next_keepalive_close_time``     when an idle connection is closed; the lane's requests count
``_process_keepalive``             closes it: not while the head of a request, or the lane, is at it
of ``web.BaseRequest``
``_cancel``                        is called when the client goes, in an application as well, which
                                   need not have asked for ``handler_cancellation``
``_prepare_hook``                  has the application's ``on_response_prepare`` called
=================================  =================================================================

Public by their names, and in no manual:

- ``start``, ``finish_response``, ``handle_error``, ``close``, ``force_close``, ``shutdown``,
  ``keepalive_timeout``, ``connected`` and ``writing_paused`` of ``web.RequestHandler``, and of
  ``web.Server`` that it calls itself to make one, and is told of its beginning and end
  (``connection_made``, ``connection_lost``);
- ``prepare``, ``write_eof``, ``prepared``, ``keep_alive``, ``body_length`` and ``task`` of
  ``web.StreamResponse``, which an answer of ours has in its own way;
- ``writer`` of a request, whose ``output_size`` tells that an answer is out, and ``total_bytes``,
  ``set_exception`` and ``feed_eof`` of its ``content``;
- the parser (``aiohttp.http.HttpRequestParser``) and its errors (``aiohttp.http_exceptions``); the
  limit that was exceeded is the second of the arguments of ``LineTooLong``, and that there are too
  many headers, or trailers, is only said in the text of ``BadHttpMessage``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from durable_streams.http.bounded_parser import BoundedParser


class Internals(web.RequestHandler):
    """A connection of aiohttp's, whose insides its subclasses need not know.

    ``bounded``: its parser; None once the connection has ended.  ``is_closing``: it takes no more
    requests.  ``loop``: its event loop.  ``idle_s``: how long it may be idle.
    """

    __slots__ = ("bounded", "idle_s", "is_closing", "loop")

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        **settings: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, loop=loop, **settings)
        self.loop = loop
        self.idle_s = self.keepalive_timeout
        self.bounded: BoundedParser | None = None
        self.is_closing = False

    def parse_with(self, parser: BoundedParser, *, most_ahead: int) -> None:
        """Have a parser of ours used, and no more read while so many requests wait."""
        self.bounded = parser
        self._parser = cast("Any", parser)
        self._max_msg_queue_size = most_ahead

    def awaits_request(self) -> bool:
        """Whether nothing is under way at aiohttp: no request, no answer, nothing in its queue."""
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    def is_idle(self) -> bool:
        """:meth:`awaits_request`, and the client takes answers."""
        waiter = self._waiter
        return not (waiter is None or waiter.done() or self.is_closing or self.writing_paused)

    def is_between(self) -> bool:
        """Whether aiohttp does not wait: a request is there, or it has yet to learn of none."""
        return self._waiter is None

    def stay(self) -> None:
        """Count the time of an idle connection from now on."""
        self._next_keepalive_close_time = self.loop.time() + self.idle_s

    def is_busy(self) -> bool:
        """Whether something is under way that aiohttp does not see."""
        return False

    def _process_keepalive(self) -> None:
        """Close the connection if it was idle for long."""
        if self.is_busy():
            self.stay()
        super()._process_keepalive()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        self.bounded = None

    def close(self) -> None:
        """Take no more requests, and close the connection behind the last answer."""
        self.is_closing = True
        super().close()

    def force_close(self) -> None:
        """Close the connection."""
        self.is_closing = True
        super().force_close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Wait so long for the answers under way, then close the connection."""
        self.is_closing = True
        await super().shutdown(timeout)


def is_of_too_many_headers(error: BaseException | None) -> bool:
    """Whether the parser refused more headers than its limit, as against malformed ones."""
    return isinstance(error, BadHttpMessage) and error.message.startswith("Too many ")


@contextmanager
def called_when_gone(request: web.BaseRequest, callback: Callable[[], object]) -> Iterator[None]:
    """Have something called, besides what aiohttp does, when the client of ``request`` goes."""
    cancel = request._cancel  # noqa: SLF001

    def gone(error: BaseException) -> None:
        cancel(error)
        callback()

    # Past aiohttp's __setattr__, which frowns on new attributes in its debug mode.
    attributes = vars(request)
    attributes["_cancel"] = gone
    try:
        yield
    finally:
        del attributes["_cancel"]


async def prepare_hook(request: web.BaseRequest, answer: web.StreamResponse) -> None:
    """Call the application's ``on_response_prepare``."""
    await request._prepare_hook(answer)  # noqa: SLF001
