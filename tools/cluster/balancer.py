"""``python -m tools.cluster.balancer HOST:PORT NODE…``: passes connections on to nodes in turn.

Each node is asked ``/readyz`` twice a second.  One that answers 200 gets its turn; while none does,
all get theirs that answer, whose ``503`` tells clients when to come back.  One that does not answer
loses its connections, so that nobody waits for a machine that is gone, and so does one that is not
ready while another is.  One that refuses a connection is passed over.  Bytes go through as they
are: each connection stays with its node.
"""

from __future__ import annotations

import asyncio
import sys
import urllib.parse
from contextlib import suppress
from typing import Final

_EVERY_S: Final = 0.5
_ANSWER_S: Final = 1.0
_CONNECT_S: Final = 1.0
_PIECE_BYTES: Final = 65_536
_PROBE: Final = b"GET /readyz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Node:
    """One to pass connections to; ``status``: what it answered last, 0 for nothing."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._host, _, port = place.rpartition(":")
        self._port = int(port)
        self.status = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def connect(self) -> Streams:
        async with asyncio.timeout(_CONNECT_S):
            return await asyncio.open_connection(self._host, self._port)

    async def watch(self, nodes: list[Node]) -> None:
        """Ask it for ever; ``nodes``: all there are."""
        while True:
            before, self.status = self.status, await self._ask()
            if before != self.status:
                print(f"{self.place}: {self.status or 'no answer'}", flush=True)
            others_are_ready = self.status != 200 and any(node.status == 200 for node in nodes)
            if not self.status or others_are_ready:
                for writer in list(self.writers):
                    writer.transport.abort()
            await asyncio.sleep(_EVERY_S)

    async def _ask(self) -> int:
        writer = None
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                writer.write(_PROBE)
                return int((await reader.readline()).split()[1])
        except (OSError, TimeoutError, ValueError, IndexError):
            return 0
        finally:
            if writer is not None:
                writer.transport.abort()


class Balancer:
    """Chooses, and passes on."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._turn = 0

    def in_order(self) -> list[Node]:
        """Whom to try, one after the other."""
        self._turn += 1
        turned = [self._nodes[(self._turn + n) % len(self._nodes)] for n in range(len(self._nodes))]
        return sorted(turned, key=lambda node: (node.status != 200, not node.status))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for node in self.in_order():
            try:
                far_reader, far_writer = await node.connect()
            except (OSError, TimeoutError):
                continue
            pair = {writer, far_writer}
            node.writers |= pair
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass_on(reader, far_writer))
                    group.create_task(_pass_on(far_reader, writer))
            finally:
                node.writers -= pair
                for one in pair:
                    one.transport.abort() if one.transport.is_closing() else one.close()
            return
        writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; a reset goes on to the other."""
    try:
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
    except OSError:
        writer.transport.abort()


async def main(listen: str, places: list[str]) -> None:
    nodes = [Node(place) for place in places]
    balancer = Balancer(nodes)
    where = urllib.parse.urlsplit(f"//{listen}")
    server = await asyncio.start_server(balancer.serve, where.hostname, where.port, backlog=1024)
    print(f"balancer: listening on http://{listen}", flush=True)
    async with server, asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(node.watch(nodes))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
