"""An ASGI server in a few lines: what applications are given, and what they say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Message = dict[str, Any]


@dataclass
class Heard:
    """What an application has sent."""

    messages: list[Message] = field(default_factory=list)

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def is_whole(self) -> bool:
        return not self.messages[-1].get("more_body", True)


def scope_of(method: str, path: str, **more: Any) -> Message:
    path, _, query = path.partition("?")
    headers = [(b"host", b"example.test"), *more.pop("headers", [])]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("10.0.0.7", 4000),
        "server": ("10.0.0.1", 80),
        **more,
    }


async def ask(app: Any, method: str, path: str, body: bytes = b"", **more: Any) -> Heard:
    """One request, whose client stays."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    heard = Heard()
    await app(scope_of(method, path, **more), receive, heard.send)
    return heard


class Lifespan:
    """The lifespan of an application, as a server leads it."""

    def __init__(self, app: Any) -> None:
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.create_task(app(scope, self._told.get, self._said.put))

    async def tell(self, step: str) -> Message:
        self._told.put_nowait({"type": f"lifespan.{step}"})
        said = await self._said.get()
        if said["type"] != "lifespan.startup.complete":
            await self._task
        return said
