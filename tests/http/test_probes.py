"""Health checks: what they say, and of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_streams.access.door import Door
from durable_streams.filestore.pipeline.room import Room
from durable_streams.filestore.tuning import Tuning
from durable_streams.http import probes
from tests.http.lanes import TEXT

if TYPE_CHECKING:
    import pytest

    from tests.http.conftest import RunningServer, Serve


async def test_a_part_that_ended_by_a_bug_is_told_by_the_health_check_and_reads_go_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(tuning=Tuning(tick_s=0.0))
    await server.create("a", "text/plain", b"hello")
    client = await server.connect()

    async def buggy(_: Room) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Room, "look", buggy)
    while (health := await client.request("GET", "/healthz")).status == 200:
        """The next tick meets it."""
    assert health.status == 503
    assert b"(ticks)" in health.body
    assert b"restarted" in health.body
    assert (await client.request("GET", "/readyz")).status == 503
    refused = await client.request("POST", "a", b"x", TEXT)
    assert (refused.status, refused.headers["retry-after"]) == (503, "60")
    assert (await client.request("GET", "a")).body == b"hello"


async def test_readiness_tells_why_writes_are_refused(server: RunningServer) -> None:
    client = await server.connect()
    assert (await client.request("GET", "/readyz")).status == 200
    server.engine.drain()
    not_ready = await client.request("GET", "/readyz")
    assert not_ready.status == 503
    assert b"shutting down" in not_ready.body
    assert (await client.request("GET", "/healthz")).body == b"ok\n"
    refused = await client.request("POST", "/healthz", b"")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_credentials_that_are_out_of_date_are_told_and_the_server_is_ready(
    server: RunningServer,
) -> None:
    class OutOfDate:
        kind = "token"
        problem = "tokens.toml is no TOML"
        tells = False

    door: Any = Door((OutOfDate(),))  # type: ignore[arg-type] # it is asked for its problem only
    reply = probes.answer("GET", "/readyz", server.engine, door)
    assert reply.status == 200
    assert b"credentials of the kind token is out of date" in reply.body
    assert b"tokens.toml" not in reply.body
