"""A server that shuts down says so on each session, and closes it afterwards: maybe much later."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.postgres.connecting import Hosts
from durable_streams.postgres.sessions import Session, Unknown
from durable_streams.postgres.urls import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.postgres.conftest import Database

_FIELDS: Final = b"SNOTICE\0VNOTICE\0C00000\0Mthat was all\0\0"
NOTICE: Final = b"N" + struct.pack("!i", 4 + len(_FIELDS)) + _FIELDS


@asynccontextmanager
async def a_way_that_hides_the_end(port: int) -> AsyncIterator[int]:
    """The port of one that passes on what comes, and, in the place of the end, a notice."""

    serving: list[asyncio.Task[None] | None] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                writer.write(piece)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        there = asyncio.create_task(pass_on(reader, to_server))
        await pass_on(from_server, writer)
        writer.write(NOTICE)
        await there
        for one in (to_server, writer):
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*filter(None, serving))


USES: Final[dict[str, Callable[[Session], Awaitable[object]]]] = {
    "a statement": lambda session: session.fetch("select 1"),
    "several": lambda session: session.run("select 1; select 2"),
    "a statement that is prepared": lambda session: session.prepare(["select 3"]),
    "listening": lambda session: session.listen("a_channel", print),
}


@pytest.mark.parametrize("use", USES)
async def test_a_session_that_was_told_of_the_end_is_lost_before_it_ends(
    database: Database, use: str
) -> None:
    async with a_way_that_hides_the_end(database.cluster.primary.port) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{database.name}"
        session = await Session.open(Hosts(parse(url)))
        heard = asyncio.Event()
        session._connection.add_log_listener(lambda *_: heard.set())
        (row,) = await session.fetch("select pg_backend_pid() as pid")
        other = await database.connect()
        await other.execute(f"select pg_terminate_backend({row['pid']})")
        other.terminate()
        await heard.wait()
        with pytest.raises(Unknown):
            await USES[use](session)
        session.terminate()


async def test_an_error_of_a_connection_says_nothing_of_what_was_sent(database: Database) -> None:
    """As a pooler says it that has lost the server meanwhile."""
    session = await Session.open(Hosts(parse(database.url)))
    try:
        with pytest.raises(Unknown, match="lost"):
            await session.run("do $$ begin raise 'lost' using errcode = '08006'; end $$")
    finally:
        session.terminate()
