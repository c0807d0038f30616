"""Live reads end with the rights of their readers; the clock and what changes are the tests'."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.access.door import Credentials, Door, Seen
from durable_streams.access.grants import Kind, Scope
from durable_streams.access.principals import ANYBODY, Principal
from durable_streams.access.tokens import Tokens
from durable_streams.library import Streams
from durable_streams.model.errors import Unauthenticated
from durable_streams.settings import HttpSettings
from tests.access.guarded import PREFIX, Held, ask, file_text, guarded, on
from tests.access.issuer import NOW_S, Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.model.results import Chunk
    from tests.access.guarded import Guarded
    from tests.http.client import Client

ADMIN: Final = Held("admin", (on(""),))
READER: Final = Held("reader", (on("room", Scope.READ),), expires="2027-01-15T08:10:00Z")
TOKENS: Final = [ADMIN, READER]
POLL: Final = f"{PREFIX}/room/there?offset=now&live=long-poll"
EVENTS: Final = f"{PREFIX}/room/there?offset=now&live=sse"
CREDENTIALS: Final = ("token", "jwt", "signed")
WAYS: Final = ("lane", "aiohttp")
PATIENCE_S: Final = 30
"""After which a read that was to wait was refused."""


async def waiting(server: Guarded, target: str, by: str) -> Client:
    """A client whose live read has begun to wait."""
    assert server.handler is not None
    live = server.handler.live
    before = len(live._polls) + len(live._readers)
    client = await server.client()
    lines = []
    match by:
        case "token":
            lines = [f"Authorization: {READER.bearer}"]
        case "jwt":
            lines = [f"Authorization: Bearer {READER.jwt()}"]
        case _:
            target += f"&signed={server.sign(READER, Kind.PATH, 'room/there')}"
    ask(client, "GET", target, lines)
    async with asyncio.timeout(PATIENCE_S):
        while len(live._polls) + len(live._readers) == before:
            await asyncio.sleep(0)
    return client


async def revoke(server: Guarded, who: Held) -> None:
    client = await server.client()
    ask(client, "DELETE", f"{PREFIX}/__ds/tokens/{who.id}", [f"Authorization: {ADMIN.bearer}"])
    assert (await client.answer()).status == 204


@asynccontextmanager
async def there(tmp_path: Path, way: str) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path, TOKENS, way) as server:
        await server.create("room/there")
        yield server


@pytest.mark.parametrize("by", ["token", "signed"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_long_poll_of_a_token_that_is_revoked_is_answered_401(
    way: str, by: str, tmp_path: Path
) -> None:
    async with there(tmp_path, way) as server:
        client = await waiting(server, POLL, by)
        await revoke(server, READER)
        answer = await client.answer()
        assert (answer.status, answer.body) == (
            401,
            b"the credentials have expired, or were revoked\n",
        )
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("by", ["token", "signed"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_event_stream_of_a_token_that_is_revoked_ends(
    way: str, by: str, tmp_path: Path
) -> None:
    async with there(tmp_path, way) as server:
        client = await waiting(server, EVENTS, by)
        assert (await client.head()).status == 200
        await client.events_until(b"upToDate")
        await revoke(server, READER)
        assert await client.chunk() == b""
        await Streams(server.store).append("room/there", b"secret", content_type="text/plain")
        assert server.handler is not None
        assert not server.handler.live._readers


@pytest.mark.parametrize("by", CREDENTIALS)
@pytest.mark.parametrize("way", WAYS)
async def test_live_reads_end_when_the_credentials_do(way: str, by: str, tmp_path: Path) -> None:
    async with there(tmp_path, way) as server:
        poll = await waiting(server, POLL, by)
        events = await waiting(server, EVENTS, by)
        await events.head()
        await events.events_until(b"upToDate")
        assert server.handler is not None
        server.clock.now_s += 629  # of a JWT there is a leeway of 30 s
        server.handler.live.recheck()
        if by == "jwt":
            assert len(server.handler.live._readers) == 1
        server.clock.now_s += 1
        server.handler.live.recheck()
        assert (await poll.answer()).status == 401
        assert await events.chunk() == b""


@pytest.mark.parametrize("way", WAYS)
async def test_news_that_comes_with_the_end_of_the_rights_is_not_told(
    way: str, tmp_path: Path
) -> None:
    """Nobody has said that anything changed: it is the clock alone."""
    async with there(tmp_path, way) as server:
        client = await waiting(server, POLL, "token")
        server.clock.now_s += 600
        await Streams(server.store).append("room/there", b"secret", content_type="text/plain")
        answer = await client.answer()
        assert (answer.status, b"secret" in answer.body) == (401, False)


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_still_may_goes_on_when_others_are_revoked(way: str, tmp_path: Path) -> None:
    other = Held("other", (on("room"),))
    async with guarded(tmp_path, [*TOKENS, other], way) as server:
        await server.create("room/there")
        clients = [await waiting(server, POLL, by) for by in CREDENTIALS]
        await revoke(server, other)
        await Streams(server.store).append("room/there", b"news", content_type="text/plain")
        for client in clients:
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"news")


async def test_a_token_that_loses_the_stream_in_the_file_loses_its_live_reads(
    tmp_path: Path,
) -> None:
    async with there(tmp_path, "lane") as server:
        client = await waiting(server, POLL, "token")
        lesser = READER._replace(grants=(on("elsewhere"),))
        text = file_text([ADMIN, lesser])
        await asyncio.to_thread((tmp_path / "tokens.toml").write_text, text)
        for _ in range(2):
            await server.tokens.file.look()
        assert (await client.answer()).status == 401


@pytest.mark.parametrize("by", ["token", "signed"])
async def test_events_end_with_credentials_that_were_made_to_end_sooner(
    by: str, tmp_path: Path
) -> None:
    settings = HttpSettings(sse_lifetime_s=3600)
    async with guarded(tmp_path, TOKENS, settings=settings) as server:
        await server.create("room/there")
        client = await waiting(server, EVENTS, by)
        await client.head()
        await client.events_until(b"upToDate")
        sooner = READER._replace(expires="2027-01-15T08:00:00.001Z")  # a millisecond from now
        text = file_text([ADMIN, sooner])
        await asyncio.to_thread((tmp_path / "tokens.toml").write_text, text)
        for _ in range(2):
            await server.tokens.file.look()
        async with asyncio.timeout(PATIENCE_S):
            assert await client.chunk() == b""


async def test_what_is_read_while_the_rights_end_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with there(tmp_path, "lane") as server:
        client = await waiting(server, EVENTS, "token")
        await client.head()
        await client.events_until(b"upToDate")
        admin, read = server.tokens.principal(ADMIN.text), server.store.read
        assert admin is not None
        assert server.handler is not None
        (reader,) = server.handler.live._readers

        async def read_late(*arguments: Any, **named: Any) -> Chunk:
            assert await server.tokens.remove(admin, READER.id)
            await Streams(server.store).append("room/there", b"secret", content_type="text/plain")
            return await read(*arguments, **named)

        monkeypatch.setattr(server.store, "read", read_late)
        reader.overtaken()
        assert await client.chunk() == b""


# -- the door ------------------------------------------------------------------------------


async def door_of(tmp_path: Path, clock: Clock) -> tuple[Door, Tokens]:
    file = tmp_path / "tokens.toml"
    await asyncio.to_thread(file.write_text, file_text(TOKENS))
    tokens = await asyncio.to_thread(lambda: Tokens(file, clock=clock))
    return Door([tokens], clock=clock), tokens


async def test_a_principal_is_as_its_own_kind_knows_it(tmp_path: Path) -> None:
    clock = Clock()
    door, tokens = await door_of(tmp_path, clock)
    reader = tokens.principal(READER.text)
    assert reader is not None
    room = ("room", "there")
    assert door.may_read(reader, room)
    assert not door.may_read(reader, ("rooms",))
    assert door.left_s(reader) == 600
    forged = Principal("token:reader", (on(""),), vouched_by="of another")
    assert not door.may_read(forged, room)
    assert door.as_now(Principal("app:somebody", (on("room"),))) is not None
    assert door.may_read(ANYBODY, room)
    clock.now_s += 599.5
    assert door.may_read(reader, room)
    clock.now_s += 0.5
    assert not door.may_read(reader, room)
    assert door.as_now(reader) is None
    with pytest.raises(Unauthenticated):
        tokens.principal(READER.text)


async def test_whoever_has_expired_is_not_admitted_whatever_the_authenticator_says() -> None:
    class Careless:
        kind = "careless"
        problem = None
        tells = False

        def principal(self, bearer: str) -> Principal | None:
            return Principal(f"careless:{bearer}", (on(""),), float(bearer))

        def as_now(self, principal: Principal) -> Principal | None:
            return principal

        @asynccontextmanager
        async def running(self, changed: object) -> AsyncIterator[None]:
            yield

    door = Door([Careless()], clock=Clock())
    with pytest.raises(Unauthenticated):
        door.identify(Credentials(f"Bearer {NOW_S}"), ("a",))
    found = door.identify(Credentials(f"Bearer {NOW_S + 1}"), ("a",))
    assert door.may_read(found, ("a",))
    assert not door.may_read(Principal("careless:x", (on(""),), NOW_S), ("a",))
    assert door.left_s(Principal("careless:x", ())) == math.inf


@pytest.mark.parametrize("ending", ["revoked", "over"])
async def test_the_same_request_again_is_refused_when_the_rights_have_ended(
    ending: str, tmp_path: Path
) -> None:
    """What became of the first one is kept with it."""
    async with there(tmp_path, "lane") as server:
        client = await server.client()

        async def status() -> int:
            ask(client, "GET", f"{PREFIX}/room/there", [f"Authorization: {READER.bearer}"])
            return (await client.answer()).status

        assert [await status() for _ in range(3)] == [200] * 3
        if ending == "revoked":
            await revoke(server, READER)
        else:
            server.clock.now_s += 10 * 366 * 86_400
        assert await status() == 401


class Knows:
    kind = "known"
    problem = None

    def __init__(self, *, tells: bool) -> None:
        self.tells = tells

    def principal(self, bearer: str) -> Principal | None:
        return Principal(f"known:{bearer}", (on(""),))

    def as_now(self, principal: Principal) -> Principal | None:
        return principal

    @asynccontextmanager
    async def running(self, changed: object) -> AsyncIterator[None]:
        yield


def is_kept(door: Door) -> bool:
    seen = Seen()
    door.keep(seen, door.identify(Credentials("Bearer x"), ("a",)), "admitted")
    return door.still(seen)


@pytest.mark.parametrize("tells", [True, False])
async def test_an_admission_is_kept_while_somebody_would_tell_that_it_does_not_hold(
    tells: bool,
) -> None:
    door = Door([Knows(tells=tells)])
    assert not is_kept(door)
    async with door.running():
        assert is_kept(door) == tells
        seen = Seen()
        door.keep(seen, door.identify(Credentials("Bearer x"), ("a",)), "admitted")
    assert not is_kept(door)
    assert not door.still(seen)
