"""Requests over urllib3, in the calling thread: a call becomes an answer, or there is none.

urllib3, as it has no dependencies, is kept by many, its pool is for threads, and what waits for a
byte can be ended from another thread, by shutting its socket down.

Nothing is repeated or followed here: a redirect is an answer like any.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, ReadTimeoutError, SSLError

from durable_streams.client.bodies import ACCEPTED, Body
from durable_streams.client.options import not_open
from durable_streams.client.steps import PAUSED, Answer, Call, Disconnected, OutOfTime, Pause
from durable_streams.client.sync_heads import WholeHead
from durable_streams.model.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from durable_streams.client.options import Options
    from durable_streams.client.steps import Conversation, Request

_POOLED: Final = 64
"""Connections that are kept for the next request; more may be open."""

_PIECE_BYTES: Final = 64 * 1024

_T = TypeVar("_T")


class Way:
    """What is under way in one thread: it can be ended from any other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self.ended = threading.Event()

    def goes_by(self, sock: socket.socket | None) -> None:
        """A request was sent, and its answer is awaited."""
        with self._lock:
            self._sock = sock
            if self.ended.is_set():
                self._shut()

    def end(self) -> None:
        """Whoever waits for a byte finds that there is none; and whoever pauses goes on."""
        self.ended.set()
        with self._lock:
            self._shut()

    def _shut(self) -> None:
        if self._sock is not None:
            with suppress(OSError, ValueError):  # it was closed meanwhile
                self._sock.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise ``NotOpen`` once it was ended."""
        if self.ended.is_set():
            raise not_open()


class _Here(threading.local):
    """Of the request that this thread sends."""

    way: Way | None = None


_here: Final = _Here()


class _Noted:
    """A connection that tells the way that goes by it, and takes no head that is cut off."""

    response_class = WholeHead

    def request(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as urllib3 has them
        super().request(*arguments, **named)  # type: ignore[misc]  # of a connection
        if _here.way is not None:
            _here.way.goes_by(cast("HTTPConnection", self).sock)


class _Plain(_Noted, HTTPConnection):  # type: ignore[misc]  # the class of answers is its own
    pass


class _Secure(_Noted, HTTPSConnection):  # type: ignore[misc]
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class SyncHttp:
    """The connections of one client, for any number of threads."""

    def __init__(self, options: Options, token: str | Callable[[], str] | None) -> None:
        self._options = options
        self._token = token
        self._known = token if isinstance(token, str) else None
        self._asking = threading.Lock()
        self._asked = 0
        self._ways: set[Way] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        self._pools = urllib3.PoolManager(maxsize=_POOLED, retries=False)
        self._pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def close(self) -> None:
        """Close all connections, and end what is under way in any thread."""
        with self._lock:
            self._is_closed = True
            ways = list(self._ways)
        for way in ways:
            way.end()
        self._pools.clear()

    def way(self) -> Way:
        """A way that the end of the client ends too; :meth:`leave` it."""
        way = Way()
        with self._lock:
            if self._is_closed:
                raise not_open()
            self._ways.add(way)
        return way

    def leave(self, way: Way) -> None:
        """Nothing goes there any more."""
        with self._lock:
            self._ways.discard(way)

    def converse(self, conversation: Conversation[_T]) -> _T:
        """Have a conversation, to its result."""
        way = self.way()
        try:
            step = next(conversation)
            while True:
                try:
                    answer = self._do(step, way)
                except Disconnected as lost:
                    step = conversation.throw(lost)
                else:
                    step = conversation.send(answer)
        except StopIteration as end:
            return cast("_T", end.value)
        finally:
            self.leave(way)

    def _do(self, step: Call | Pause, way: Way) -> Answer:
        if isinstance(step, Pause):
            way.ended.wait(step.seconds)
            way.check()
            return PAUSED
        return self.exchange(step, way)

    def exchange(self, call: Call, way: Way) -> Answer:
        """A whole answer; raises :class:`Disconnected`."""
        began_s = monotonic()
        response = self.begin(call, way)
        return self.rest(response, way, call.request, began_s)

    def begin(self, call: Call, way: Way) -> BaseHTTPResponse:
        """The head of an answer, whose body is for the caller to receive, or to close."""
        way.check()
        request = call.request
        headers = self._options.sent_headers(request, self._credentials(renew=call.renew))
        headers["Accept-Encoding"] = ACCEPTED
        if call.is_stream:
            headers["Accept"] = "text/event-stream"
            headers["Accept-Encoding"] = "identity"
        began_s = monotonic()
        _here.way = way
        try:
            return self._pools.urlopen(
                request.method,
                request.url,
                headers=headers,
                body=request.body,
                redirect=False,
                retries=False,
                timeout=self._timeout(request),
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError, ValueError) as error:
            way.check()
            raise _as_lost(error, request, began_s) from error
        finally:
            _here.way = None

    def rest(
        self, response: BaseHTTPResponse, way: Way, request: Request, began_s: float
    ) -> Answer:
        """The whole body of an answer, with its head; ``UnexpectedAnswer`` if it is too large."""
        options = self._options
        body = Body(head_of(response), options.answer_bytes, options.silence_s, monotonic)
        is_over = False
        try:
            while piece := self.receive(response, way, request, began_s):
                if not body.take(piece):
                    break
            else:
                is_over = True
        finally:
            if is_over:
                response.release_conn()
            else:
                response.close()  # half of an answer is in it, which may go on for ever
        return body.whole()

    def receive(
        self,
        response: BaseHTTPResponse,
        way: Way,
        request: Request | None = None,
        began_s: float = 0.0,
    ) -> bytes:
        """The next bytes of a body, b"" at its end."""
        try:
            data: bytes = response.read1(_PIECE_BYTES, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            way.check()
            raise _as_lost(error, request, began_s) from error
        way.check()
        return data

    def _timeout(self, request: Request) -> urllib3.Timeout:
        options = self._options
        within_s = request.within_s
        read_s = options.silence_s if within_s is None else min(options.silence_s, within_s)
        return urllib3.Timeout(connect=options.connect_s, read=max(read_s, 0.001))

    def _credentials(self, *, renew: bool) -> str | None:
        """The token; all that need a new one at once wait for the same."""
        token = self._token
        if token is None or isinstance(token, str):
            return token
        before = self._asked
        if self._known is not None and not renew:
            return self._known
        with self._asking:
            if self._asked == before or self._known is None:
                self._known = token()
                self._asked += 1
            return self._known


def head_of(response: BaseHTTPResponse) -> Answer:
    """The head of an answer."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers)


def _as_lost(error: Exception, request: Request | None, began_s: float) -> Exception:
    """What an error of urllib3's means to the core."""
    reason = str(error) or type(error).__name__
    match error:
        case SSLError() if request is not None and "CERTIFICATE_VERIFY_FAILED" in reason:
            return Unreachable(request.url.partition("?")[0], reason)
        case ConnectTimeoutError() | SSLError():
            return Disconnected(reason, unsent=True)
        case ReadTimeoutError() if request is not None and _is_over(request, began_s):
            return OutOfTime(reason)
        case _:
            return Disconnected(reason)


def _is_over(request: Request, began_s: float) -> bool:
    return request.within_s is not None and monotonic() - began_s >= request.within_s
