"""Writers at full speed in a process of their own: ``python -m tools.proofs.pressure_clients``.

Prints, as JSON, how often each status was answered, and up to ten answers that were not 2xx.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import time


class Writers:
    """Connections that send one append after the other, each to a stream of its own."""

    def __init__(self, port: int, seconds: float, body: bytes) -> None:
        self._port = port
        self._until_s = time.monotonic() + seconds
        self._body = body
        self.statuses: collections.Counter[int] = collections.Counter()
        self.refusals: list[str] = []
        self.longest_s = 0.0

    async def write(self, number: int) -> None:
        """Create a stream and append to it until the time is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._ask(reader, writer, self._request("PUT", number, b""))
        append = self._request("POST", number, self._body)
        while time.monotonic() < self._until_s:
            began_s = time.monotonic()
            await self._ask(reader, writer, append)
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)
        writer.close()

    @staticmethod
    def _request(method: str, number: int, body: bytes) -> bytes:
        head = (
            f"{method} /v1/stream/pressure/{number} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> None:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ", 2)[1])
        self.statuses[status] += 1
        if not 200 <= status < 300:
            size = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
            text = (await reader.readexactly(size)).decode()
            if len(self.refusals) < 10:
                self.refusals.append(text.strip())
        elif status == 201:
            await reader.readexactly(0)


async def main(port: int, connections: int, seconds: float, body_bytes: int) -> None:
    writers = Writers(port, seconds, b"x" * body_bytes)
    await asyncio.gather(*(writers.write(number) for number in range(connections)))
    told = {"statuses": writers.statuses, "refusals": writers.refusals}
    print(json.dumps({**told, "longest_s": writers.longest_s}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
