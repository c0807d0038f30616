"""Servers that ask who asks, in this process: tokens, JWTs and signed URLs of a test's making."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from aiohttp import web

import durable_streams
from durable_streams.access.door import Credentials, Door
from durable_streams.access.grants import Grant, Kind, Pattern, Scope
from durable_streams.access.jwt_keys import KeySet, secret_key
from durable_streams.access.jwts import Jwts, StaticKeys
from durable_streams.access.signed_urls import SignedUrls, signed_text
from durable_streams.access.tokens import Tokens
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.store import FileStore
from durable_streams.http.control import Control
from durable_streams.http.handler import StreamsHandler
from durable_streams.http.server import HttpServer, pages_of
from durable_streams.library import Streams
from durable_streams.model.errors import Unauthenticated
from durable_streams.settings import HttpSettings, Settings
from tests.access.issuer import AUDIENCE, ISSUER, NOW_S, SECRET, Clock, claims, token
from tests.http.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from durable_streams.access.principals import Principal

PREFIX: Final = "/v1/stream"
LATER_S: Final = int(NOW_S) + 600

_KEY: Final = "c2lnbmluZyBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyBhbmQgbW9yZQ"


class Held(NamedTuple):
    """A token of the file: its id, what it is for, and until when."""

    id: str
    grants: tuple[Grant, ...]
    expires: str = ""

    @property
    def text(self) -> str:
        """What is sent behind ``Bearer``."""
        return f"the-text-of-the-token-{self.id}"

    @property
    def bearer(self) -> str:
        return f"Bearer {self.text}"

    def jwt(self) -> str:
        """A JWT with the same rights."""
        grants = [
            {
                "scopes": sorted(scope.value for scope in grant.scopes),
                grant.pattern.kind.value: grant.pattern.text,
            }
            for grant in self.grants
        ]
        return token(claims(sub=self.id, durable_streams=grants))


def on(place: str, *scopes: Scope) -> Grant:
    """Scopes, or all of them, below a prefix."""
    return Grant.on_prefix(place, scopes or Scope)


def file_text(tokens: Iterable[Held]) -> str:
    """A file of tokens, as people write it."""
    lines: list[str] = []
    for held in tokens:
        digest = hashlib.sha256(held.text.encode()).hexdigest()
        lines += ["[[token]]", f'id = "{held.id}"', f'sha256 = "{digest}"']
        lines += [f"expires = {held.expires}"] if held.expires else []
        for grant in held.grants:
            scopes = json.dumps(sorted(scope.value for scope in grant.scopes))
            pattern = json.dumps(grant.pattern.text)
            lines += ["[[token.grant]]", f"scopes = {scopes}"]
            lines += [f"{grant.pattern.kind.value} = {pattern}"]
    return "\n".join((*lines, ""))


class Guarded:
    """One server; ``mount``: in an application, which goes by the same tokens."""

    def __init__(self, store: FileStore, tokens: Tokens, urls: SignedUrls, clock: Clock) -> None:
        self.store = store
        self.tokens = tokens
        self.urls = urls
        self.clock = clock
        self.port = 0
        self.through_aiohttp = 0
        self.asked: list[str] = []
        self.handler: StreamsHandler | None = None
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = await Client.connect(self.port)
        self._clients.append(client)
        return client

    async def close_clients(self) -> None:
        while self._clients:
            await self._clients.pop().close()

    async def create(self, path: str, body: bytes = b"data") -> None:
        """Make a stream, without asking anybody."""
        await Streams(self.store).create(path, content_type="text/plain", data=body)

    def sign(self, held: Held, kind: Kind, path: str, expires_s: int = LATER_S) -> str:
        """The parameter ``signed`` for a path, in the name of a token."""
        digest = hashlib.sha256(held.text.encode()).hexdigest()
        key = self.urls.files[0].value.keys[0]
        return signed_text(key, held.id, digest, Pattern.parse(kind, path), expires_s)

    def count(self, handler: StreamsHandler) -> None:
        """Count what goes through aiohttp, and not through the lane."""
        handle = handler.handle

        async def counted(
            request: web.BaseRequest, prefix: str, raw_path: str, raw_query: str
        ) -> web.StreamResponse:
            self.through_aiohttp += 1
            return await handle(request, prefix, raw_path, raw_query)

        handler.handle = counted  # type: ignore[method-assign]
        self.handler = handler


@asynccontextmanager
async def guarded(
    directory: Path,
    tokens: Sequence[Held],
    way: str = "lane",
    *,
    conceal: bool = False,
    settings: HttpSettings | None = None,
    disk: Disk | None = None,
) -> AsyncIterator[Guarded]:
    """Run a server with these tokens; ``way`` is lane, aiohttp or mount."""
    clock = Clock()
    file, keys = directory / "tokens.toml", directory / "keys.toml"
    await asyncio.to_thread(file.write_text, file_text(tokens))
    await asyncio.to_thread(keys.write_text, f'[[key]]\nid = "k1"\nsecret = "{_KEY}"\n')
    known = await asyncio.to_thread(lambda: Tokens(file, clock=clock))
    urls = await asyncio.to_thread(lambda: SignedUrls(keys, known, clock=clock))
    secret = KeySet([secret_key(SECRET)], is_named=False)
    jwts = Jwts(StaticKeys(secret), audience=AUDIENCE, issuer=ISSUER, clock=clock)
    door = Door([known, jwts], urls, conceal=conceal, clock=clock)
    store = await FileStore.at(directory / "data", Settings(), disk or Disk())
    server = Guarded(store, known, urls, clock)
    run = _mounted if way == "mount" else _served
    settings = settings or HttpSettings(fast_lane=way == "lane", console="full")
    try:
        async with door.running(), run(server, door, settings):
            yield server
            await server.close_clients()
    finally:
        await store.close()


@asynccontextmanager
async def _served(server: Guarded, door: Door, settings: HttpSettings) -> AsyncIterator[None]:
    handler = StreamsHandler(
        server.store,
        settings,
        pages_of(settings, is_open=False),
        door,
        control=Control(server.tokens, server.urls),
        clock=server.clock,
    )
    server.count(handler)
    http = HttpServer(server.store, settings, handler)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server.port = listening.getsockname()[1]
    await http.start([listening])
    try:
        yield
    finally:
        await server.close_clients()
        await http.stop()


@asynccontextmanager
async def _mounted(server: Guarded, door: Door, settings: HttpSettings) -> AsyncIterator[None]:
    def authorize(request: web.BaseRequest) -> Principal | None:
        server.asked.append(request.method)
        try:
            found = door.identify(Credentials.of(request.headers, ""), None)
            return msgspec.structs.replace(found, expires_at_s=math.inf)  # by the test's clock
        except Unauthenticated:
            return None

    app = web.Application()
    mounted = durable_streams.mount(
        app, streams=Streams(server.store), http_settings=settings, authorize=authorize
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    server.handler = mounted._handler
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = site.port
    try:
        yield
    finally:
        await server.close_clients()
        await runner.cleanup()


def ask(
    client: Client,
    method: str,
    target: str,
    lines: Iterable[str] = (),
    body: bytes | None = None,
) -> None:
    """Send a request of any lines; one that goes by a token may have several of them."""
    head = [f"{method} {target} HTTP/1.1", "Host: example.test", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    client.send("\r\n".join((*head, "", "")).encode("utf-8", "surrogateescape") + (body or b""))
