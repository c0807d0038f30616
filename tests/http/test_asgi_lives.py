"""When the streams of an ASGI application open and close, and what is said when they are not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

import durable_streams
from durable_streams import (
    AccessSettings,
    Conflict,
    DataDirectoryInUse,
    Forbidden,
    Grant,
    HttpSettings,
    Principal,
    Scope,
    Settings,
    Unauthenticated,
)
from durable_streams.http.asgi.signals import STOPPING
from tests.http.asgi_driving import Heard, Lifespan, ask, scope_of
from tests.programs import run_verb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TEXT = [(b"content-type", b"text/plain")]


async def has_readers(app: Any) -> None:
    """Return when a live read is under way."""
    live = app._handler.live
    while not (live.readers or live.polls):
        await asyncio.sleep(0)


async def test_alone_it_lives_as_long_as_its_server_says(data_dir: Path) -> None:
    app = durable_streams.asgi(data_dir)
    for expected in (201, 200):
        life = Lifespan(app)
        assert await life.tell("startup") == {"type": "lifespan.startup.complete"}
        assert (await ask(app, "PUT", "/a", b"x", headers=TEXT)).status == expected
        assert await life.tell("shutdown") == {"type": "lifespan.shutdown.complete"}
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("a")).data == b"x"


async def test_before_and_behind_that_it_is_said_what_to_write(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = durable_streams.asgi(data_dir)
    too_early = await ask(app, "PUT", "/a", b"x")
    assert too_early.status == 503
    assert b"lifespan=streams.lifespan" in too_early.body
    assert b"streams.around(application, prefix)" in too_early.body
    assert "the streams are not open" in caplog.text
    assert not data_dir.exists()
    with pytest.raises(RuntimeError, match="not open"):
        _ = app.streams
    async with app.lifespan():
        assert (await ask(app, "PUT", "/a", b"x")).status == 201
        await app.streams.append("a", b"y")
        assert app.store is app.streams.engine
    assert (await ask(app, "GET", "/a")).status == 503
    with pytest.raises(RuntimeError, match="not open"):
        _ = app.streams


async def test_an_application_that_mounts_it_runs_its_lifespan(data_dir: Path) -> None:
    app = durable_streams.asgi(data_dir)
    outer = FastAPI(lifespan=app.lifespan)
    outer.mount("/streams", app)
    life = Lifespan(outer)
    assert (await life.tell("startup"))["type"] == "lifespan.startup.complete"
    assert (await ask(outer, "PUT", "/streams/a", b"x")).status == 201
    assert (await life.tell("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert (await ask(outer, "GET", "/streams/a")).status == 503


async def test_who_comes_second_is_told_the_ways_out(data_dir: Path) -> None:
    app, other = durable_streams.asgi(data_dir), durable_streams.asgi(data_dir)
    async with app.lifespan():
        with pytest.raises(RuntimeError, match="have a lifespan already"):
            async with app.lifespan():
                pass
        with pytest.raises(DataDirectoryInUse) as raised:
            async with other.lifespan():
                pass
        assert raised.value.pid == os.getpid()
        for way in ("--workers 1", "durable-streams serve", "PostgreSQL"):
            assert way in str(raised.value)
        said = await Lifespan(other).tell("startup")
        assert said == {"type": "lifespan.startup.failed", "message": str(raised.value)}
        assert (await ask(app, "PUT", "/a", b"x")).status == 201


async def test_what_goes_wrong_otherwise_is_told_with_a_traceback(data_dir: Path) -> None:
    # No caches could be told apart: a mistake in the program, which the handler finds.
    app = durable_streams.asgi(data_dir, settings=Settings(remember_removed_s=1))
    said = await Lifespan(app).tell("startup")
    assert said["type"] == "lifespan.startup.failed"
    assert "ValueError: caches may keep pieces" in said["message"]
    async with durable_streams.open(data_dir):
        """It was closed again."""


async def test_open_streams_are_shared_by_several(data_dir: Path) -> None:
    async with durable_streams.open(data_dir) as streams:
        one, other = durable_streams.asgi(streams=streams), durable_streams.asgi(streams=streams)
        assert (await ask(one, "PUT", "/a", b"x", headers=TEXT)).status == 201
        async with other.lifespan():
            assert (await ask(other, "GET", "/a")).body == b"x"
            assert other.streams is streams
        assert (await ask(one, "POST", "/a", b"y", headers=TEXT)).status == 204
        assert (await streams.read("a")).data == b"xy"
    closed = await ask(one, "GET", "/a")
    assert closed.status == 503
    assert b"closed" in closed.body
    never_begun = durable_streams.asgi(streams=streams)
    assert (await ask(never_begun, "GET", "/a")).status == 503


async def knows_no_lifespan(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise ValueError("Django can only handle ASGI/HTTP connections")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


async def test_around_an_application_without_one_it_has_its_own(data_dir: Path) -> None:
    app = durable_streams.asgi(data_dir)
    outer = app.around(knows_no_lifespan, "/api/streams/")
    life = Lifespan(outer)
    assert (await life.tell("startup"))["type"] == "lifespan.startup.complete"
    assert (await ask(outer, "PUT", "/api/streams/a", b"x")).status == 201
    assert (await ask(outer, "GET", "/api/streams")).body == b"/api/streams"
    assert (await ask(outer, "GET", "/other/a")).body == b"/other/a"
    assert (await life.tell("shutdown"))["type"] == "lifespan.shutdown.complete"


async def test_around_an_application_with_one_both_are_lived(data_dir: Path) -> None:
    steps = []
    app = durable_streams.asgi(data_dir)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await app.streams.create("a")
        steps.append("begun")
        yield
        await app.streams.append("a", b"the end")
        steps.append("ended")

    outer = app.around(Starlette(lifespan=lifespan))
    life = Lifespan(outer)
    assert (await life.tell("startup"))["type"] == "lifespan.startup.complete"
    assert steps == ["begun"]
    assert (await ask(outer, "GET", "/v1/stream/a")).status == 200
    assert (await life.tell("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert steps == ["begun", "ended"]


async def test_around_one_that_does_not_start_it_does_not_either(data_dir: Path) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await asyncio.wait_for(asyncio.sleep(0), 0)
        yield

    outer = durable_streams.asgi(data_dir).around(Starlette(lifespan=lifespan))
    said = await Lifespan(outer).tell("startup")
    assert said["type"] == "lifespan.startup.failed"
    assert "TimeoutError" in said["message"]
    async with durable_streams.open(data_dir):
        """It was closed again."""


@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_what_is_under_way_at_the_end_is_ended_cleanly(data_dir: Path, live: str) -> None:
    app = durable_streams.asgi(data_dir)
    async with app.lifespan():
        await app.streams.create("a", data=b"x")
        following = asyncio.create_task(ask(app, "GET", f"/a?offset=now&live={live}"))
        await has_readers(app)
    assert (await following).is_whole


async def test_a_signal_ends_live_reads_before_the_server_says_that_it_ends(
    data_dir: Path,
) -> None:
    told = []
    before = [signal.signal(number, lambda number, _: told.append(number)) for number in STOPPING]
    try:
        ours = [signal.getsignal(number) for number in STOPPING]
        app = durable_streams.asgi(data_dir, drain_on_signals=True)
        async with app.lifespan():
            await app.streams.create("a", data=b"x", content_type="text/plain")
            following = asyncio.create_task(ask(app, "GET", "/a?offset=-1&live=sse"))
            await has_readers(app)
            signal.raise_signal(signal.SIGTERM)
            assert (await following).is_whole
            assert told == [signal.SIGTERM]
            refused = await ask(app, "POST", "/a", b"y", headers=TEXT)
            assert refused.status == 503
            assert (await ask(app, "GET", "/a")).body == b"x"
        assert [signal.getsignal(number) for number in STOPPING] == ours
    finally:
        for number, handler in zip(STOPPING, before, strict=True):
            signal.signal(number, handler)


async def test_a_signal_that_nobody_handles_is_left_alone(data_dir: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        async with durable_streams.asgi(data_dir, drain_on_signals=True).lifespan():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def known(scope: Any) -> Principal | None:
    match HTTPConnection(scope).headers.get("x-user"):
        case "ann":
            return Principal("user:ann", (Grant.on_prefix("ann", {Scope.READ, Scope.CREATE}),))
        case "fastapi":
            raise HTTPException(403, "not you")
        case "ours":
            raise Unauthenticated("log in first")
        case "forbidden":
            raise Forbidden("not even you")
        case "bug":
            raise Conflict("of its own")
    return None


def as_user(name: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-user", name.encode())]


@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_an_application_says_who_asks(data_dir: Path, *, is_coroutine: bool) -> None:
    async def known_later(scope: Any) -> Principal | None:
        await asyncio.sleep(0)
        return known(scope)

    app = durable_streams.asgi(data_dir, authorize=known_later if is_coroutine else known)
    async with app.lifespan():
        assert (await ask(app, "PUT", "/ann/a", headers=as_user("ann"))).status == 201
        read = await ask(app, "GET", "/ann/a", headers=as_user("ann"))
        assert read.status == 200
        assert "private" in read.headers["cache-control"] or read.headers["vary"]
        assert (await ask(app, "PUT", "/bob/a", headers=as_user("ann"))).status == 403
        assert (await ask(app, "GET", "/ann/a")).status == 401
        told = await ask(app, "GET", "/ann/a", headers=as_user("fastapi"))
        assert (told.status, told.body) == (403, b"not you\n")
        told = await ask(app, "GET", "/ann/a", headers=as_user("ours"))
        assert (told.status, told.body) == (401, b"log in first\n")
        assert (await ask(app, "GET", "/ann/a", headers=as_user("forbidden"))).status == 403
        assert (await ask(app, "GET", "/ann/a", headers=as_user("bug"))).status == 409
        page = [*as_user("ann"), (b"origin", b"https://evil.example")]
        assert (await ask(app, "GET", "/ann/a", headers=page)).status == 403
        assert (await ask(app, "GET", "/__ds/metrics", headers=as_user("ann"))).status == 403


async def test_tokens_say_who_asks_and_may_be_granted_and_revoked(
    data_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.toml"
    wanted = ("--scope", ",".join(scope.value for scope in Scope), "--prefix", "")
    token = await asyncio.to_thread(run_verb, "token", "new", "--tokens", str(file), *wanted)
    app = durable_streams.asgi(data_dir, access=AccessSettings(tokens=str(file)))
    async with app.lifespan():
        ours = [(b"authorization", f"Bearer {token}".encode()), *TEXT]
        assert (await ask(app, "PUT", "/a", b"x")).status == 401
        assert (await ask(app, "PUT", "/a", b"x", headers=ours)).status == 201
        asked = b'{"grants": [{"scopes": ["read"], "path": "a"}]}'
        granted = await ask(app, "POST", "/__ds/tokens", asked, headers=ours)
        assert granted.status == 201
        made = json.loads(granted.body)
        theirs = [(b"authorization", f"Bearer {made['token']}".encode())]
        following = asyncio.create_task(ask(app, "GET", "/a?offset=-1&live=sse", headers=theirs))
        await has_readers(app)
        assert (await ask(app, "POST", "/a", b"y", headers=[*theirs, *TEXT])).status == 403
        revoked = await ask(app, "DELETE", f"/__ds/tokens/{made['id']}", headers=ours)
        assert revoked.status == 204
        assert (await following).is_whole
        assert (await ask(app, "GET", "/a", headers=theirs)).status == 401


async def test_without_its_file_of_tokens_it_does_not_open(data_dir: Path, tmp_path: Path) -> None:
    missing = AccessSettings(tokens=str(tmp_path / "none"))
    said = await Lifespan(durable_streams.asgi(data_dir, access=missing)).tell("startup")
    assert said["type"] == "lifespan.startup.failed"
    assert "none" in said["message"]
    assert "Traceback" not in said["message"]
    async with durable_streams.open(data_dir) as streams:
        guarded = durable_streams.asgi(streams=streams, access=missing)
        assert (await ask(guarded, "GET", "/a")).status == 503  # nobody is let in unasked


async def test_what_is_below_ds_is_there(data_dir: Path) -> None:
    everything = Principal("user:root", (Grant.on_prefix("", set(Scope)),))
    app = durable_streams.asgi(data_dir, authorize=lambda _: everything)
    async with app.lifespan():
        await ask(app, "PUT", "/a", b"x", headers=TEXT)
        listed = await ask(app, "GET", "/__ds/streams")
        assert b'"path":"a"' in listed.body.replace(b" ", b"")
        assert (await ask(app, "GET", "/__ds/streams/a")).status == 200
        metrics = await ask(app, "GET", "/__ds/metrics")
        assert b'http_requests_total{method="PUT",status="2xx"} 1' in metrics.body
    nobody_says = durable_streams.asgi(data_dir)
    async with nobody_says.lifespan():
        assert (await ask(nobody_says, "GET", "/__ds/streams")).status == 400
        here: dict[str, Any] = {"client": ("127.0.0.1", 1), "headers": [(b"host", b"localhost")]}
        metrics = await ask(nobody_says, "GET", "/__ds/metrics", **here)
        assert metrics.status in {200, 403}


async def test_requests_are_logged_and_limited(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = HttpSettings(access_log=True, requests_per_s=0.01, burst_s=100)
    app = durable_streams.asgi(data_dir, http_settings=settings)
    caplog.set_level("INFO", "durable_streams.access")
    async with app.lifespan():
        assert (await ask(app, "PUT", "/a%20b", b"xyz", headers=TEXT)).status == 201
        statuses = [(await ask(app, "GET", "/a%20b?x=1")).status for _ in range(3)]
        assert statuses[-1] == 429
    lines = [record for record in caplog.records if record.name == "durable_streams.access"]
    first: Any = lines[0]
    assert (first.client, first.path, first.status) == ("10.0.0.7", "/a%20b", 201)
    assert (first.kind, first.received_bytes) == ("create", 3)


async def test_other_kinds_of_connections_are_refused(data_dir: Path) -> None:
    app = durable_streams.asgi(data_dir)
    heard = Heard()

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await app({"type": "websocket"}, receive, heard.send)
    assert heard.messages == [{"type": "websocket.close"}]
    with pytest.raises(ValueError, match="HTTP"):
        await app({"type": "mqtt"}, receive, heard.send)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "either data_dir or streams"),
        ({"data_dir": 7}, "data_dir must be"),
        ({"data_dir": "a", "authorize": "b"}, "authorize must be a function"),
        ({"data_dir": "a", "drain_on_signals": "yes"}, "drain_on_signals must be a bool"),
        ({"data_dir": "a", "http_settings": Settings()}, "http_settings must be"),
        (
            {"data_dir": "a", "access": AccessSettings(tokens="t"), "authorize": known},
            "either access or authorize",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        durable_streams.asgi(**arguments)


def test_what_is_put_around_something_needs_an_application_and_a_prefix() -> None:
    app = durable_streams.asgi("a")
    with pytest.raises(TypeError, match="application must be one of ASGI"):
        app.around("text", "/a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not a prefix"):
        app.around(app, "no slash")


def test_mount_says_what_to_call_for_other_applications() -> None:
    for other in (FastAPI(), Starlette()):
        with pytest.raises(TypeError, match=r"durable_streams\.asgi\(data_dir\)"):
            durable_streams.mount(other, data_dir="a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="of the class Application"):
        durable_streams.mount(object(), data_dir="a")  # type: ignore[arg-type]


async def test_a_client_that_leaves_ends_its_live_read(data_dir: Path) -> None:
    app = durable_streams.asgi(data_dir)
    async with app.lifespan():
        await app.streams.create("a", data=b"x", content_type="text/plain")
        for live in ("sse", "long-poll"):
            messages = asyncio.Queue[dict[str, Any]]()
            messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
            heard = Heard()
            scope = scope_of("GET", f"/a?offset=now&live={live}")
            reading = asyncio.create_task(app(scope, messages.get, heard.send))
            await has_readers(app)
            messages.put_nowait({"type": "http.disconnect"})
            await reading
            assert not heard.messages or not heard.is_whole
