"""Requests that are cancelled at every point where they wait, as when a client goes away."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.model.commands import Append
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import KIB, HttpSettings, Settings
from tools.cancelling import Cut, When, nothing_held, tasks
from tools.descriptors import open_now, sockets
from tools.inside import loaded

if TYPE_CHECKING:
    from tests.http.conftest import RunningServer, Serve

SETTINGS: Final = Settings(max_open_streams=1, segment_bytes=512 * KIB)
TEXT: Final = {"Content-Type": "text/plain"}
LARGE: Final = b"x" * (300 * KIB)
NEVER: Final = sys.maxsize

REQUESTS: Final[dict[str, tuple[str, str, bytes | None]]] = {
    "create": ("PUT", "{}/new", b"first"),
    "create large": ("PUT", "{}/new", LARGE),
    "append": ("POST", "{}", b"more"),
    "append large": ("POST", "{}", LARGE),
    "delete": ("DELETE", "{}", None),
    "head": ("HEAD", "{}", None),
    "read": ("GET", "{}", None),
    "poll": ("GET", "{}?offset=now&live=long-poll", None),
    "poll of something": ("GET", "{}?offset=-1&live=long-poll", None),
    "events": ("GET", "{}?offset=-1&live=sse", None),
    "events from now": ("GET", "{}?offset=now&live=sse", None),
}


class Cutting:
    """Cuts off what a server does for a request; ``suspensions``: how many there were of it."""

    def __init__(self, server: RunningServer, when: When) -> None:
        self.at, self.suspensions = NEVER, 0
        self._when = when
        server.handler.handle = self._wrap(server.handler.handle)  # type: ignore[method-assign]
        lane = server._server._server.lane
        if lane is not None:
            lane.poll = self._wrap(lane.poll)  # type: ignore[method-assign]

    def _wrap(self, method: Any) -> Any:
        async def cut(*arguments: object) -> object:
            work = Cut(method(*arguments), self.at, self._when)
            try:
                return await work
            finally:
                self.suspensions = max(self.suspensions, work.suspensions)

        return cut


async def send_news(server: RunningServer, path: str, answer: asyncio.Task[bytes]) -> None:
    """To whoever waits for some."""
    while not answer.done():
        stream = loaded(server.engine, path)
        if stream is not None and stream.audience:
            await server.engine.append(
                Append(parse_path_text(path), "text/plain", close=True), b"news"
            )
            return
        await asyncio.sleep(0)


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "aiohttp"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_is_cancelled_holds_nothing(
    serve: Serve, name: str, fast_lane: bool, when: When, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(HttpSettings(fast_lane=fast_lane), SETTINGS)
    method, target, body = REQUESTS[name]
    cutting = Cutting(server, when)
    await server.create("other", "text/plain")
    for at in range(1, 40):
        cutting.at, path = NEVER, f"s{at}"
        await server.create(path, "text/plain", LARGE)
        cutting.at, cutting.suspensions = at, 0
        before, open_sockets = tasks(), sockets(open_now())
        client = await server.connect()
        client.ask(method, target.format(path), body, TEXT | {"Connection": "close"})
        answer = asyncio.create_task(client.reader.read(-1))
        await send_news(server, path, answer)
        await answer
        await client.close()
        cutting.at = NEVER
        await nothing_held(server.engine, before)
        while sockets(open_now()) > open_sockets:
            await asyncio.sleep(0)
        assert not server.handler.active
        assert not server.handler.bodies.used_bytes
        assert not server.handler.live.polls
        assert not server.handler.live.readers
        await server.create(f"{path}/after", "text/plain", b"works")
        if cutting.suspensions < at:
            break
    else:
        raise AssertionError("it never ends")
    assert [r.getMessage() for r in caplog.records if r.levelname in {"ERROR", "CRITICAL"}] == []
