"""The exchange: asked in one place, decided in one step, and the same for every front."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.http.decided import EVERYBODY, FromFiles, Pending
from durable_streams.http.exchange import Exchange
from durable_streams.http.live import LiveReads
from durable_streams.http.turns import Turns
from durable_streams.model.commands import Append, Create, Delete, Head, Live, Preflight, Read
from durable_streams.model.errors import DiskFull, InvalidRequest, StreamNotFound
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.model.paths import path_text
from durable_streams.model.results import Appended, Chunk, FileSlice
from durable_streams.settings import HttpSettings
from durable_streams.wire.pages import OPEN_TO_ALL
from durable_streams.wire.replies import Reply
from tests.http.lanes import TEXT, applied, idle

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.access.door import Credentials
    from durable_streams.http.decided import Admitted
    from durable_streams.model.commands import Command
    from durable_streams.model.paths import StreamPath
    from tests.http.conftest import RunningServer

STREAM: Final[Any] = SimpleNamespace(id="id", path=("a",), content_type="text/plain", is_json=False)
DONE: Final = Appended(Offset(0, 4), False, True)


class Held:
    """What a chunk of a file holds."""

    def __init__(self) -> None:
        self.is_released = False

    def release(self) -> None:
        self.is_released = True


class Ticket:
    """A write on its way, until it is told how it ends."""

    def __init__(self, outcome: Appended | Exception | None = None) -> None:
        self.ended = outcome
        self._callbacks: list[Callable[[], None]] = []

    @property
    def pending(self) -> bool:
        return self.ended is None

    def when_settled(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def settle(self, outcome: Appended | Exception) -> None:
        self.ended = outcome
        for callback in self._callbacks:
            callback()

    def outcome(self) -> Appended:
        assert self.ended is not None
        if isinstance(self.ended, Exception):
            raise self.ended
        return self.ended


class Store:
    """A store of one stream, which does now what it is told to."""

    def __init__(self, *, ticket: Ticket | None = None, chunk: Chunk | None = None) -> None:
        self.ticket = ticket
        self.chunk = chunk

    def append_now(self, _command: Append, _body: bytes) -> Ticket | None:
        return self.ticket

    def open_now(self, path: StreamPath) -> Any:
        if path != STREAM.path:
            raise StreamNotFound(path_text(path))
        return STREAM

    def read_now(self, _stream: object, _start: object) -> Chunk | None:
        return self.chunk

    def left_s(self, _stream: object) -> None:
        return None


def exchange_with(store: Any) -> Exchange:
    settings = HttpSettings()
    live = LiveReads(store, settings, Turns(), clock=lambda: 0.0, random=Random(1))
    return Exchange(store, settings, live, OPEN_TO_ALL)


def chunk_of(*parts: bytes | FileSlice, held: Held | None = None) -> Chunk:
    end = Offset(0, 9)
    chunk = Chunk(STREAM, ZERO, end, b"chain", parts, 9, at_tail=True, closed=False)
    if held is not None:
        chunk.hold(held)
    return chunk


def test_a_write_that_is_stored_is_answered_at_once_and_one_on_its_way_when_it_is() -> None:
    append = Append(("a",), "text/plain")
    assert exchange_with(Store()).decide(append, EVERYBODY) is None
    answer = exchange_with(Store(ticket=Ticket(DONE))).decide(append, EVERYBODY)
    assert isinstance(answer, Reply)
    ticket = Ticket()
    pending = exchange_with(Store(ticket=ticket)).decide(append, EVERYBODY)
    assert isinstance(pending, Pending)
    ticket.settle(DONE)
    assert pending.reply() == answer


def test_what_a_write_on_its_way_fails_with_is_its_outcome() -> None:
    ticket = Ticket()
    pending = exchange_with(Store(ticket=ticket)).decide(Append(("a",), "text/plain"), EVERYBODY)
    assert isinstance(pending, Pending)
    ticket.settle(DiskFull("full"))
    with pytest.raises(DiskFull):
        pending.reply()


async def test_carrying_out_waits_for_a_write_on_its_way() -> None:

    ticket = Ticket()
    carrying_out = asyncio.create_task(
        exchange_with(Store(ticket=ticket)).carry_out(
            Append(("a",), "text/plain"), EVERYBODY, b"", "", nullcontext
        )
    )
    await asyncio.sleep(0)
    assert not carrying_out.done()
    ticket.settle(DONE)
    answer = await carrying_out
    assert isinstance(answer, Reply)
    assert answer.status == 204


def test_a_body_in_memory_is_in_the_answer() -> None:
    store = Store(chunk=chunk_of(b"first", b"more"))
    answer = exchange_with(store).decide(Read(("a",), Start.BEGINNING), EVERYBODY)
    assert isinstance(answer, Reply)
    assert (answer.status, answer.body) == (200, b"firstmore")
    assert exchange_with(Store()).decide(Read(("a",), Start.BEGINNING), EVERYBODY) is None
    with pytest.raises(StreamNotFound):
        exchange_with(store).decide(Read(("none",), Start.BEGINNING), EVERYBODY)


def test_files_are_held_until_they_are_sent() -> None:
    file: Any = object()
    held = Held()
    store = Store(chunk=chunk_of(FileSlice(file, 0, 9), held=held))
    answer = exchange_with(store).decide(Read(("a",), Start.BEGINNING), EVERYBODY)
    assert isinstance(answer, FromFiles)
    with answer:
        assert answer.plan.parts == (FileSlice(file, 0, 9),)
        assert not held.is_released
    assert held.is_released


def test_files_that_are_not_to_be_sent_are_not_held() -> None:
    file: Any = object()
    for store_fails in (False, True):
        held = Held()
        store: Any = Store(chunk=chunk_of(FileSlice(file, 0, 9), held=held))
        exchange = exchange_with(store)
        if store_fails:
            store.chunk.at_tail = False
            store.left_s = None  # whoever asks meets a bug
            with pytest.raises(TypeError):
                exchange.decide(Read(("a",), Start.BEGINNING), EVERYBODY)
        else:
            read = Read(("a",), Start.BEGINNING, if_none_match="*")
            answer = exchange.decide(read, EVERYBODY)
            assert isinstance(answer, Reply)
            assert answer.status == 304
        assert held.is_released


def test_what_takes_a_wait_is_not_decided_now() -> None:
    exchange = exchange_with(Store())
    for command in (
        Head(("a",)),
        Delete(("a",)),
        Read(("a",), Start.NOW, Live.LONG_POLL),
        Read(("a",), Start.NOW, Live.SSE),
    ):
        assert exchange.decide(command, EVERYBODY) is None
    assert isinstance(exchange.decide(Preflight(), EVERYBODY), Reply)


REQUESTS: Final = [
    ("PUT", "new", b"x", Create),
    ("POST", "a", b"x", Append),
    ("POST", "none", b"x", Append),
    ("GET", "a", None, Read),
    ("GET", "none", None, Read),
    ("GET", "a?offset=-1&live=long-poll", None, Read),
    ("GET", "a?offset=-1&live=sse", None, Read),
    ("HEAD", "a", None, Head),
    ("DELETE", "a", None, Delete),
    ("OPTIONS", "a", None, Preflight),
]


def admit_by(
    server: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    admit: Callable[..., Admitted],
) -> None:
    monkeypatch.setattr(server.handler.exchange, "admit", admit)


async def test_whoever_may_not_is_refused_whatever_exists(
    either: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: Command, *_: object) -> Admitted:
        raise InvalidRequest(f"no {type(command).__name__}")

    await either.create("a", "text/plain", b"first")
    client = await either.connect()
    await idle(client)
    admit_by(either, monkeypatch, refuse)
    for method, target, body, command in REQUESTS:
        answer = await client.request(method, target, body, TEXT)
        assert answer.status == 400, (method, target)
        assert method == "HEAD" or answer.body == f"no {command.__name__}\n".encode()
    client.send(
        b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    assert (await client.answer()).status == 400  # before the body
    monkeypatch.undo()
    other = await either.connect()
    assert (await other.request("GET", "a")).body == b"first"
    assert (await other.request("HEAD", "new")).status == 404


async def test_each_request_is_asked_for_with_its_own_credentials(
    either: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[type[Command], str]] = []

    def note(command: Command, credentials: Credentials, *_: object) -> Admitted:
        asked.append((type(command), credentials.authorization or ""))
        return EVERYBODY

    await either.create("a", "text/plain", b"first")
    await applied(either, "a")
    client = await either.connect()
    await idle(client)
    admit_by(either, monkeypatch, note)
    for credentials in ("Bearer one", "Bearer two", ""):
        headers = TEXT | ({"Authorization": credentials} if credentials else {})
        for method, target, body, command in REQUESTS:
            if method not in {"DELETE", "PUT"} and "sse" not in target:
                await client.request(method, target, body, headers)
                assert asked == [(command, credentials)]
                asked.clear()


async def test_two_credentials_are_neither_of_the_two(
    either: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def note(_: Command, credentials: Credentials, *__: object) -> Admitted:
        asked.append(credentials.is_several)
        return EVERYBODY

    await either.create("a", "text/plain", b"first")
    client = await either.connect()
    await idle(client)
    admit_by(either, monkeypatch, note)
    client.send(
        b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n"
        b"Authorization: Bearer one\r\nAuthorization: Bearer two\r\n\r\n"
    )
    assert (await client.answer()).body == b"first"
    assert asked == [True]
