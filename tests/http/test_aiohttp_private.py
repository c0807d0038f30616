"""What is used of aiohttp's own: all of it is in one module, is there, and does what we rely on.

A test that fails here after an update says what aiohttp has changed; what it is for is told by
``http/aiohttp_private.py``.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import pkgutil
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import base_protocol, http, http_parser, web, web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import StreamReader

from durable_streams import http as our_http
from durable_streams.http import aiohttp_private
from durable_streams.http.aiohttp_private import (
    Internals,
    called_when_gone,
    is_of_too_many_headers,
    prepare_hook,
)
from durable_streams.http.bounded_parser import BoundedParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

THEIRS: Final = {"web.RequestHandler": web.RequestHandler, "web.BaseRequest": web.BaseRequest}
REQUEST: Final = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE_S: Final = 30


def listed() -> dict[str, set[str]]:
    """The private names in the table of the module, by the class that has them."""
    found: dict[str, set[str]] = {}
    assert aiohttp_private.__doc__ is not None
    for line in aiohttp_private.__doc__.splitlines():
        if heading := re.match(r"of ``(web\.\w+)``$", line):
            found[heading[1]] = set()
        elif row := re.match(r"``(_\w+)``  ", line):
            found[list(found)[-1]].add(row[1])
    return found


def private_attributes(code: ast.AST) -> set[str]:
    return {
        node.attr
        for node in ast.walk(code)
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)
    }


def private_names_of(cls: type) -> set[str]:
    """What a class of aiohttp's and its bases have, by their source and at run time."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("aiohttp.")]
    names: set[str] = set()
    for base in bases:
        names |= private_attributes(ast.parse(inspect.getsource(base))) | set(vars(base))
    return {name for name in names if re.match("_[^_]", name)} - {"_abc_impl"}


def our_modules() -> dict[str, ast.Module]:
    files = sorted(Path(our_http.__file__).parent.glob("*.py"))
    return {path.stem: ast.parse(path.read_text("utf-8")) for path in files}


# Where it is used


def test_what_the_table_lists_is_what_the_module_uses() -> None:
    used = private_attributes(our_modules()["aiohttp_private"]) | {"_process_keepalive", "_cancel"}
    assert set().union(*listed().values()) == used


def test_nothing_else_uses_what_is_aiohttp_s_own() -> None:
    """Neither of ``self``, where a class derives from one of aiohttp's, nor of anything else."""
    derived = {
        item
        for module in pkgutil.iter_modules(our_http.__path__, f"{our_http.__name__}.")
        for item in vars(importlib.import_module(module.name)).values()
        if isinstance(item, type) and item.__module__.startswith(our_http.__name__)
        if any(base.__module__.startswith("aiohttp.") for base in item.__mro__)
    }
    assert len(derived) >= 5
    for cls in derived - {Internals}:
        source = ast.parse(inspect.getsource(cls))
        used = private_attributes(source) | {name for name in vars(cls) if re.match("_[^_]", name)}
        assert used & private_names_of(cls) == set(), f"{cls} uses what is aiohttp's own"
    for name, module in our_modules().items():
        foreign = {
            node.attr
            for node in ast.walk(module)
            if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)
            if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        }
        assert name == "aiohttp_private" or foreign == set(), f"{name} uses {foreign}"


def test_the_text_of_one_error_of_aiohttp_is_compared() -> None:
    """In ``is_of_too_many_headers``: nothing else tells of it."""
    for name, module in our_modules().items():
        if name == "aiohttp_private":
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.Compare | ast.Call):
                code = ast.unparse(node)
                assert not re.search(r"\b(reason|message|str\(\w+\))\.startswith", code), name
                assert not re.search(r"(==|\bin) (reason|message|str\(error\))$", code), name


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in listed().items() for name in sorted(names)]
)
def test_it_is_there(kind: str, name: str) -> None:
    assert name in private_names_of(THEIRS[kind]), (
        f"aiohttp's {kind} has no {name} any more: http/aiohttp_private.py says what it was for"
    )


def test_our_parser_has_all_that_aiohttp_uses_of_its_own() -> None:
    """``feed_eof`` is for clients, whose answers may end with the connection."""
    used = {
        node.attr
        for module in (web_protocol, base_protocol)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "_parser"
    }
    assert used == {"feed_data", "message_consumed", "pause_reading", "set_upgraded"}
    assert used <= set(vars(BoundedParser))


def test_nothing_but_these_methods_ends_a_connection_for_requests() -> None:
    """``is_closing`` stands for two flags of aiohttp's, and is set where they are."""
    setters = {
        function.name
        for kind in (web.RequestHandler, BaseProtocol)
        for function in ast.walk(ast.parse(inspect.getsource(kind)))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) in {"self._close", "self._force_close"}
        and ast.unparse(node.value) == "True"
    }
    assert setters == {"close", "force_close", "shutdown"}


# What it does


class Watched(Internals):
    """A connection that notes what aiohttp asks."""

    __slots__ = ("asked", "busy", "ended")

    def __init__(self, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.asked = 0
        self.busy = False
        self.ended = self.loop.create_future()

    def is_busy(self) -> bool:
        self.asked += 1
        return self.busy

    async def start(self) -> None:
        await super().start()
        self.ended.set_result(None)


class WatchedServer(web.Server):
    """Makes one connection, which a test can look at."""

    connection: Watched
    told: list[str]
    keepalive_s = 3600.0

    def __call__(self) -> web.RequestHandler:
        self.told = []
        self.connection = Watched(
            self, loop=asyncio.get_running_loop(), keepalive_timeout=self.keepalive_s
        )
        return self.connection

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.told.append("made")

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self.told.append("lost")


Streams = tuple[WatchedServer, asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], keepalive_s: float = 3600
) -> AsyncIterator[Streams]:
    server = WatchedServer(handler)
    server.keepalive_s = keepalive_s
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield server, reader, writer
    finally:
        writer.close()
        listening.close()
        await server.shutdown(1)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def empty(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


async def test_a_connection_awaits_a_request_only_when_nothing_is_under_way() -> None:
    seen = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request.protocol, Watched)
        seen.append((request.protocol.awaits_request(), request.protocol.is_between()))
        return web.Response()

    async with serving(handler) as (server, reader, writer):
        await until(lambda: hasattr(server, "connection") and server.connection.awaits_request())
        assert not server.connection.is_between()
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        await until(server.connection.awaits_request)
        assert seen == [(False, True)]
        server.connection.data_received(REQUEST)
        assert not server.connection.awaits_request()  # it was woken, and has yet to run


async def test_a_server_makes_its_connections_and_is_told_of_their_beginning_and_end() -> None:
    async with serving(empty) as (server, _reader, writer):
        await until(lambda: hasattr(server, "told") and server.told == ["made"])
        assert server.connection.connected
        writer.close()
        await until(lambda: server.told == ["made", "lost"])
        assert not server.connection.connected


async def test_aiohttp_parses_with_what_it_is_given_and_reads_no_more_than_may_wait() -> None:
    gate = asyncio.Event()

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    async with serving(handler) as (server, reader, writer):
        await until(lambda: hasattr(server, "connection") and server.connection.connected)
        connection = server.connection
        theirs = http.HttpRequestParser(
            connection, connection.loop, 65_536, max_msg_queue_size=2, max_headers=100
        )
        connection.parse_with(BoundedParser(theirs), most_ahead=2)
        bounded, transport = connection.bounded, connection.transport
        assert bounded is not None
        assert transport is not None
        writer.write(REQUEST * 4)
        await until(lambda: bounded.waiting == 2)
        await until(lambda: not transport.is_reading())
        gate.set()
        for _ in range(4):
            await reader.readuntil(b"\r\n\r\n")
        assert bounded.waiting == 0
        assert transport.is_reading()


async def test_a_connection_that_never_sends_a_request_is_closed_unless_it_is_busy() -> None:
    async with serving(empty, keepalive_s=0.01) as (server, reader, _writer):
        await until(lambda: hasattr(server, "connection"))
        server.connection.busy = True
        await until(lambda: server.connection.asked >= 3)
        assert server.connection.connected
        server.connection.busy = False
        assert await reader.read() == b""


async def test_a_connection_takes_nothing_more_and_ends_behind_the_answer_when_closed() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        request.protocol.close()
        return web.Response()

    async with serving(handler) as (server, reader, writer):
        writer.write(REQUEST)
        assert (await reader.read()).count(b"HTTP/1.1 200") == 1
        await server.connection.ended
        assert server.connection.is_closing


async def test_the_leave_of_a_client_is_told_without_handler_cancellation() -> None:
    gone = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        with called_when_gone(request, gone.set):
            writer.close()
            await gone.wait()
        return web.Response()

    async with serving(handler) as (_server, _reader, writer):
        writer.write(REQUEST)
        await gone.wait()


async def test_the_hook_of_an_application_is_called_with_the_answer() -> None:
    prepared = []

    async def hook(_request: web.Request, response: web.StreamResponse) -> None:
        prepared.append(response)

    answer = web.StreamResponse()

    async def handler(request: web.Request) -> web.StreamResponse:
        await prepare_hook(request, answer)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    app.on_response_prepare.append(hook)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    assert prepared[0] is answer
    writer.close()
    await runner.cleanup()


async def test_that_an_answer_is_out_shows_in_the_size_of_its_output() -> None:
    sizes = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        sizes.append(request.writer.output_size)
        answer = web.StreamResponse(headers={"Content-Length": "1"})
        await answer.prepare(request)
        await answer.write(b"x")
        sizes.append(request.writer.output_size)
        return answer

    async with serving(handler) as (_server, reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(1)
        assert sizes[0] == 0 < sizes[1]


async def test_a_body_counts_its_bytes_and_ends_with_an_error() -> None:
    body = StreamReader(web.RequestHandler(web.Server(empty), loop=asyncio.get_running_loop()), 9)
    body.feed_data(b"four")
    assert (body.total_bytes, body.is_eof()) == (4, False)
    body.set_exception(web.RequestPayloadError("cut off"))
    body.feed_eof()
    assert body.is_eof()
    with pytest.raises(web.RequestPayloadError):
        await body.read()


@pytest.mark.parametrize(
    "parser",
    [http_parser.HttpRequestParser, http_parser.HttpRequestParserPy],
    ids=["compiled", "Python"],
)
@pytest.mark.parametrize(
    ("head", "limit"),
    [
        (b"GET /" + b"a" * 500 + b" HTTP/1.1\r\n\r\n", 300),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 500 + b"\r\n\r\n", 400),
    ],
    ids=["target", "header"],
)
async def test_a_parser_tells_by_the_limit_which_line_is_too_long(
    parser: Callable[..., Any], head: bytes, limit: int
) -> None:
    loop = asyncio.get_running_loop()
    theirs = parser(
        BaseProtocol(loop), loop, 65_536, max_line_size=300, max_field_size=400, max_headers=100
    )
    with pytest.raises(LineTooLong) as caught:
        theirs.feed_data(head)
    assert caught.value.args[1] == limit


@pytest.mark.parametrize(
    "parser",
    [http_parser.HttpRequestParser, http_parser.HttpRequestParserPy],
    ids=["compiled", "Python"],
)
async def test_a_parser_tells_by_its_text_that_there_are_too_many_headers(
    parser: Callable[..., Any],
) -> None:
    loop = asyncio.get_running_loop()
    theirs = parser(
        BaseProtocol(loop), loop, 65_536, max_line_size=300, max_field_size=400, max_headers=10
    )
    with pytest.raises(BadHttpMessage) as caught:
        theirs.feed_data(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20 + b"\r\n")
    assert is_of_too_many_headers(caught.value)
