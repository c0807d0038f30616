"""Nodes of the server, one or two, under the load of ``tools/bench/load``, every answer checked."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tools.bench.client import Client, arguments, group
from tools.bench.servers import Contender, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tools.bench.client import Report
    from tools.bench.database.drivers import Load

_CREATING: Final = 16


@contextmanager
def nodes(count: int, url: str, directory: Path) -> Iterator[list[RunningServer]]:
    """So many of them on a database; or one on files, if that is the path of a directory."""
    where = ("--store", url) if "://" in url else ("--data-dir", "{data_dir}")
    command = (sys.executable, "-m", "durable_streams", "serve", "--port", "{port}", *where)
    servers = []
    for number in range(count):
        own = directory / f"node-{number}"
        own.mkdir(parents=True)
        servers.append(RunningServer(Contender("a node", command), own, None))
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


class Clients:
    """A load client for each node, at the same time; ``errors``: what they found wrong."""

    def __init__(self, program: Path, servers: Sequence[RunningServer]) -> None:
        self._clients = [Client(program, server.port) for server in servers]
        self.errors: list[str] = []

    def append(self, load: Load, seconds: float, run: int) -> list[Report]:
        """Append as ``load`` says, the connections and the streams shared out among the nodes."""
        count = len(self._clients)
        names = [f"{load.name}-{run}-{number}" for number in range(count)]
        streams = max(1, load.streams // count)
        self._run([group("fill", name=name, streams=streams, connections=_CREATING)
                   for name in names])  # fmt: skip
        words = [
            group(
                "append",
                name=name,
                streams=streams,
                connections=max(1, load.writers // count),
                producers=load.producers,
            )
            for name in names
        ]
        return self._run(words, seconds)

    def read_small(self, connections: int, seconds: float, run: int) -> Report:
        """Read streams of one short append."""
        both = arguments(name=f"short-{run}", streams=connections, records=1)
        self._run([[*group("fill", connections=_CREATING), *both]])
        return self._run([[*group("read", connections=connections), *both]], seconds)[0]

    def _run(self, groups: Sequence[list[str]], seconds: float = 0.0) -> list[Report]:
        options = {"seconds": seconds, "warmup": min(seconds / 5, 1.0)} if seconds else {}
        with ThreadPoolExecutor(len(groups)) as pool:
            found = [
                pool.submit(client.run, words, **options)
                for client, words in zip(self._clients, groups, strict=True)
            ]
        reports = [each.result()[0] for each in found]
        for report in reports:
            self.errors += report.first_errors
        return reports
