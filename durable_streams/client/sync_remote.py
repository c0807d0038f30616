"""Streams of a server, for programs without an event loop: the verbs of the library, which block.

    with durable_streams.connect_sync("http://127.0.0.1:4437/v1/stream") as streams:
        streams.append_json("events", {"hello": "world"})
        for message in streams.tail("events"):
            ...

Each verb is that of the client in an event loop, whose conversation is had in the calling thread.
"""

from __future__ import annotations

from functools import wraps
from time import time_ns
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from durable_streams.client.asking import BEGINNING
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
from durable_streams.client.sync_http import SyncHttp
from durable_streams.client.sync_producer import SyncRemoteProducer
from durable_streams.client.sync_tail import SyncRemoteTail
from durable_streams.own_process import OwnProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from types import TracebackType

    from durable_streams.client.producing import Limits
    from durable_streams.client.retries import Retries
    from durable_streams.client.steps import Conversation

_P = ParamSpec("_P")
_T = TypeVar("_T")


def connect_sync(
    url: str,
    *,
    token: str | Callable[[], str] | None = None,
    headers: Mapping[str, HeaderValue] | None = None,
    retries: Retries | None = None,
    live: str = "auto",
    silence_s: float = SILENCE_S,
    connect_s: float = CONNECT_S,
    answer_bytes: int = ANSWER_BYTES,
) -> SyncRemoteStreams:
    """The streams of a server, for ``with``, in a program without an event loop.

    Arguments and errors are those of :func:`.connect`.  It needs urllib3: ``pip install
    'durable-streams-server[sync]'``.
    """
    if isinstance(token, str):
        token = checked_token(token)
    elif token is not None and not callable(token):
        raise TypeError(f"token must be a str or a function, not {type(token).__name__}")
    options = Options.of(
        url,
        headers=headers,
        retries=retries,
        live=live,
        silence_s=silence_s,
        connect_s=connect_s,
        answer_bytes=answer_bytes,
    )
    return SyncRemoteStreams(options, token)


class _Blocking(RemoteVerbs):
    """The verbs, whose conversations are had at once, in the calling thread."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.http: SyncHttp | None = None
        self.process = OwnProcess()

    def opened(self) -> SyncHttp:
        if self.http is None:
            raise not_open()
        self.process.check()
        return self.http

    async def _ask(self, conversation: Conversation[_T]) -> _T:
        return self.opened().converse(conversation)


def _verb(
    verb: Callable[Concatenate[RemoteVerbs, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[SyncRemoteStreams, _P], _T]:
    """A method that returns or raises what another one does, which never waits."""

    @wraps(verb)
    def call(self: SyncRemoteStreams, /, *args: _P.args, **named: _P.kwargs) -> _T:
        return _at_once(verb(self.verbs, *args, **named))

    call.__qualname__ = f"SyncRemoteStreams.{verb.__name__}"
    return call


def _iterator(
    verb: Callable[Concatenate[RemoteVerbs, _P], AsyncIterator[_T]],
) -> Callable[Concatenate[SyncRemoteStreams, _P], Iterator[_T]]:
    """A method that gives by and by what another one does."""

    @wraps(verb)
    def call(self: SyncRemoteStreams, /, *args: _P.args, **named: _P.kwargs) -> Iterator[_T]:
        return _each(verb(self.verbs, *args, **named))

    call.__qualname__ = f"SyncRemoteStreams.{verb.__name__}"
    return call


def _at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("_T", end.value)
    raise AssertionError("a verb without an event loop waited for one")


def _each(source: AsyncIterator[_T]) -> Iterator[_T]:
    while True:
        try:
            one = _at_once(cast("Coroutine[Any, Any, _T]", anext(source)))
        except StopAsyncIteration:
            return
        yield one


class SyncRemoteStreams:
    """The streams of a server, for any number of threads; made by :func:`connect_sync`.

    The verbs are those of :class:`RemoteStreams`, with the same arguments, results and errors, and
    block.  The end of ``with`` ends them in every thread: they raise ``NotOpen``.
    """

    def __init__(self, options: Options, token: str | Callable[[], str] | None) -> None:
        self.verbs = _Blocking(options)
        self._options = options
        self._token = token

    def __enter__(self) -> Self:
        """Begin to use it."""
        if self.verbs.http is not None:
            raise RuntimeError("it is open already: call connect_sync() for each use")
        self.verbs.process = OwnProcess()
        self.verbs.http = SyncHttp(self._options, self._token)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if error is not None and not self.verbs.process.is_here:
            return
        self.shut()

    def shut(self) -> None:
        """Close all connections; whoever waits in another thread is told."""
        http, self.verbs.http = self.verbs.http, None
        if http is not None:
            http.close()

    create = _verb(RemoteVerbs.create)
    fork = _verb(RemoteVerbs.fork)
    append = _verb(RemoteVerbs.append)
    append_json = _verb(RemoteVerbs.append_json)
    close = _verb(RemoteVerbs.close)
    delete = _verb(RemoteVerbs.delete)
    get_metadata = _verb(RemoteVerbs.get_metadata)
    list = _iterator(RemoteVerbs.list)
    list_page = _verb(RemoteVerbs.list_page)
    details = _verb(RemoteVerbs.details)
    records = _verb(RemoteVerbs.records)
    read = _verb(RemoteVerbs.read)
    read_messages = _verb(RemoteVerbs.read_messages)
    read_json = _verb(RemoteVerbs.read_json)

    def tail(self, path: str, offset: str = BEGINNING, *, live: bool = True) -> SyncRemoteTail:
        """All messages from an offset on, then those to come; see :class:`RemoteStreams`."""
        return SyncRemoteTail(self.verbs.opened(), self.verbs.asking.tail(path, offset, live=live))

    def producer(
        self,
        path: str,
        id: str,  # noqa: A002 - as in ProducerClaim
        *,
        epoch: int | None = None,
        number: int | None = None,
        take_over: bool = False,
        limits: Limits | None = None,
    ) -> SyncRemoteProducer:
        """A producer for ``with``, which appends in threads; see :class:`RemoteStreams`."""
        new = self.verbs.asking.producer(
            path,
            id,
            epoch=epoch,
            number=number,
            take_over=take_over,
            limits=limits,
            now_ms=time_ns() // 1_000_000,
        )
        return SyncRemoteProducer(self.verbs.opened, new)
