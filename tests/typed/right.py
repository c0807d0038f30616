"""A program as people write them, which strict checkers have nothing to say about."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

import durable_streams
from durable_streams import (
    AccessSettings,
    AppendResult,
    Details,
    Grant,
    HttpSettings,
    JsonResult,
    ListedStream,
    Message,
    MessagesResult,
    Metadata,
    Principal,
    ProducerClaim,
    ReadResult,
    Record,
    Scope,
    Settings,
    Streams,
    SyncIterator,
    SyncStreams,
    Tail,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SETTINGS = Settings(durability=durable_streams.Durability.INTERVAL, lock_wait_s=20, held_up_s=60.0)
STREAMS = web.AppKey("STREAMS", Streams)


async def write(streams: Streams) -> AppendResult:
    made: Metadata = await streams.create("a", content_type="application/json", ttl_s=60)
    ends = datetime.now(UTC) + timedelta(days=1)
    await streams.create("b", data=bytearray(b"b"), expires_at=ends, closed=False)
    await streams.fork("c", "a", offset=made.next_offset, sub_offset=0)
    for data in (b"1", bytearray(b"2"), memoryview(b"3")):
        await streams.append("a", data, producer=ProducerClaim("p", 0, 0), stream_seq="1")
    rows: list[dict[str, int]] = [{"id": 1}, {"id": 2}]
    await streams.append_json("a", *rows, {"at": "now"}, None, 1.5, ["list"], ("tuple",))
    await streams.close("b", b"last")
    await streams.delete("c")
    return await streams.append_json("a", 1, close=True)


async def read(streams: Streams) -> bytes:
    piece: ReadResult = await streams.read("a", durable_streams.BEGINNING, live=True, timeout_s=1)
    messages: MessagesResult = await streams.read_messages("a", piece.next_offset)
    values: JsonResult = await streams.read_json("a", durable_streams.NOW)
    more: bool = piece.has_more or messages.has_more or values.has_more
    first: dict[str, int] = values.values[0]
    texts = [message.data.decode() for message in messages.messages]
    return piece.data if more else f"{first['id']}{texts}".encode()


async def follow(streams: Streams) -> Message | None:
    tail: Tail = streams.tail("a", live=False)
    async for message in tail:
        print(message.data.upper(), message.offset.upper(), message.json())
    async with aclosing(streams.tail("a", "now")) as messages:
        async for message in messages:
            return message
    return await asyncio.wait_for(anext(streams.tail("a")), 1)


async def look(streams: Streams) -> list[str]:
    details: Details = await streams.details("a")
    found = await streams.records("a", since=datetime.now(UTC), limit=10)
    records: list[Record] = found.records
    page = await streams.list_page("", limit=10)
    names = [stream.path async for stream in streams.list("prefix", after=page.next or "")]
    last: list[ListedStream] = [details.stream, *page.streams]
    return [*names, *(one.path for one in last), *(record.offset for record in records)]


async def errors(streams: Streams) -> int:
    try:
        await streams.append("a", b"1")
    except durable_streams.StreamNotFound as error:
        return len(error.path)
    except durable_streams.OffsetGone as error:
        return len(error.begin.token)
    except (durable_streams.StreamClosed, durable_streams.ContentTypeMismatch):
        return 0
    except durable_streams.ProducerGap as error:
        return error.expected
    except durable_streams.Unavailable as error:
        return error.retry_after_s
    return 1


async def main(directory: Path) -> None:
    try:
        async with durable_streams.open(directory / "data", SETTINGS) as streams:
            await write(streams)
            print(await read(streams), await follow(streams), await look(streams))
    except durable_streams.DataDirectoryInUse as error:
        print(error.pid)


async def visit(request: web.Request) -> web.Response:
    result = await request.app[STREAMS].append_json("visits", {"page": request.path})
    return web.Response(text=result.next_offset)


def who(request: web.Request) -> Principal | None:
    name = request.headers.get("X-User")
    return (
        None if name is None else Principal(name, (Grant.on_prefix(f"users/{name}", [Scope.READ]),))
    )


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", visit)
    http_settings = HttpSettings(cors_origin=("https://app.example",))
    mounted = durable_streams.mount(
        app, "/streams", data_dir="data", http_settings=http_settings, authorize=who
    )

    async def begin(app: web.Application) -> AsyncIterator[None]:
        app[STREAMS] = mounted.streams
        await mounted.streams.create("visits", content_type="application/json")
        yield

    app.cleanup_ctx.append(begin)
    return app


def blocking(streams: SyncStreams) -> Iterator[bytes]:
    made: Metadata = streams.create("a", content_type="application/json")
    result: AppendResult = streams.append_json("a", {"id": 1}, close=made.created)
    streams.append("a", b"1", producer=ProducerClaim("p", 0, 0))
    values: JsonResult = streams.read_json("a", result.next_offset, live=True, timeout_s=1)
    print(values.values, streams.read_messages("a").messages[0].data)
    with streams.tail("a") as tail:
        stopping = threading.Timer(1, tail.close)
        stopping.start()
        for message in tail:
            yield message.data
    listing: SyncIterator[ListedStream] = streams.list("a")
    yield next(listing).path.encode()


def blocking_main() -> None:
    with durable_streams.open_sync("postgresql://db/streams", SETTINGS) as streams:
        print(list(blocking(streams)))


application = durable_streams.asgi("data", settings=SETTINGS)

if __name__ == "__main__":
    AccessSettings(tokens="tokens.toml")
    asyncio.run(main(Path()))
