"""A client that sends any bytes and reads what comes back, answer by answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

PREFIX = "/v1/stream/"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, its header names in lower case."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls,
        port: int,
        *,
        receive_buffer_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Client:
        """Connect; with a small receive buffer the server feels it when nothing is read."""
        raw = socket.socket()
        raw.setblocking(False)
        if receive_buffer_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        except OSError:
            raw.close()
            raise
        # A small limit, so that the bytes stay in the kernel until somebody reads them.
        reader, writer = await asyncio.open_connection(
            sock=raw, limit=64 * 1024, ssl=tls, server_hostname="localhost" if tls else None
        )
        return cls(reader, writer)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        version: str = "1.1",
    ) -> None:
        """Send a request; a path without a slash in front is that of a stream."""
        target = path if path.startswith("/") else PREFIX + path
        lines = [f"{method} {target} HTTP/{version}", "Host: example.test"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join((*lines, "", "")).encode() + (body or b""))

    async def request_from_here(self, path: str) -> Answer:
        """Ask as somebody on the server's machine does, who knows it by its name there."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return await self.answer()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        version: str = "1.1",
    ) -> Answer:
        self.ask(method, path, body, headers, version=version)
        return await self.answer(method)

    async def head(self) -> Answer:
        """Read the head of an answer, and no body."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        pairs = [line.split(": ", 1) for line in lines[1:-2]]
        headers = {name.lower(): value for name, value in pairs}
        varying = [value for name, value in pairs if name.lower() == "vary"]
        if len(varying) > 1:  # it is a list: two lines are the same as one (RFC 9110 §5.3)
            headers["vary"] = ", ".join(varying)
        repeated = max(0, len(varying) - 1)
        assert len(headers) == len(pairs) - repeated, f"a header came twice: {pairs}"
        return Answer(version, int(status), headers, b"")

    async def answer(self, method: str = "GET") -> Answer:
        """Read one whole answer, framed as RFC 9112 §6.3 says."""
        head = await self.head()
        if method == "HEAD" or head.status in {100, 204, 304}:
            return head
        if head.headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self.chunks()])
        elif "content-length" in head.headers:
            body = await self.reader.readexactly(int(head.headers["content-length"]))
        else:
            body = await self.reader.read(-1)
        return Answer(head.version, head.status, head.headers, body)

    async def chunk(self) -> bytes:
        """Read one chunk; the last one is empty."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readline() == b"\r\n"
        return data

    async def chunks(self) -> AsyncIterator[bytes]:
        while data := await self.chunk():
            yield data

    async def events_until(self, text: bytes) -> bytes:
        """Read chunks of an event stream until ``text`` has come."""
        seen = b""
        while text not in seen:
            chunk = await self.chunk()
            assert chunk, f"the stream ended before {text!r}: {seen!r}"
            seen += chunk
        return seen

    async def ended(self) -> bool:
        """Wait for the server to close the connection; whether it sent nothing more."""
        try:
            return not await self.reader.read(1)
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
