"""Measure lists of very many streams, and what writers notice of them (`scripts/prove-listing`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from durable_streams.model.paths import path_text, quote_stream_path
from durable_streams.settings import MIB
from tools.proofs.make_streams import IN_ONE_NAMESPACE, make_streams, path_of
from tools.proofs.prove_start import forget_cached_files
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

PAGE_BOUND_MS: Final = 50.0
WRITERS_BOUND: Final = 1.2
ROUNDS: Final = 5
_WRITERS: Final = 8
_BODY: Final = b"x" * 100


class Client:
    """One connection that sends requests as text and reads answers of a stated length."""

    def __init__(
        self, server: ServerProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._prefix = server.prefix
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, server: ServerProcess) -> AsyncIterator[Client]:
        """Be connected while the block runs."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            yield cls(server, reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def request(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The body of an answer of success."""
        head = (
            f"{method} {self._prefix}/{target} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        assert answer[9:10] == b"2", answer
        lines = answer.lower().split(b"\r\n")
        sizes = [line[16:] for line in lines if line.startswith(b"content-length: ")]
        return await self._reader.readexactly(int(sizes[0])) if sizes else b""

    async def page(self, after: str = "") -> tuple[list[str], str | None, float]:
        """Paths, what comes next, and how long it took, in milliseconds."""
        begin = time.perf_counter()
        body = await self.request("GET", f"__ds/streams?after={after}")
        took_ms = (time.perf_counter() - begin) * 1000
        found = json.loads(body)
        return [row["path"] for row in found["streams"]], found["next"], took_ms


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took, many times over, in milliseconds."""

    number: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, times_ms: Iterable[float]) -> Times:
        """Of each of these times."""
        found = sorted(times_ms)
        return cls(len(found), found[len(found) // 2], found[len(found) * 99 // 100], found[-1])

    def __str__(self) -> str:
        return (
            f"p50 {self.p50:.2f} ms, p99 {self.p99:.2f} ms, longest {self.longest:.1f} ms"
            f" ({self.number} times)"
        )


async def write_for(server: ServerProcess, seconds: float) -> Times:
    """Appends of several writers, each as soon as the one before it is answered."""
    end = time.perf_counter() + seconds
    times_ms: list[float] = []

    async def write(number: int) -> None:
        async with Client.connected(server) as client:
            await client.request("PUT", f"writers/{number}")
            while (begin := time.perf_counter()) < end:
                await client.request("POST", f"writers/{number}", _BODY)
                times_ms.append((time.perf_counter() - begin) * 1000)

    await asyncio.gather(*map(write, range(_WRITERS)))
    return Times.of(times_ms)


async def list_all(server: ServerProcess, pause_s: float) -> None:
    """Ask for one page after the other, for ever."""
    after = ""
    async with Client.connected(server) as client:
        while True:
            _, following, _ = await client.page(after)
            after = following or ""
            await asyncio.sleep(pause_s)


async def pages_anywhere(server: ServerProcess, count: int, together: int, pages: int) -> Times:
    """Pages that begin anywhere, as nobody has asked for them before."""
    random, times_ms = Random(1), []
    async with Client.connected(server) as client:
        for _ in range(pages):
            path = path_of(random.randrange(count), together)
            times_ms.append((await client.page(quote_stream_path(path)))[2])
    return Times.of(times_ms)


async def keep_up(server: ServerProcess, count: int, together: int, rounds: int) -> Times:
    """Create and delete streams anywhere: each counts in the page that is asked for next.

    How long those pages took.
    """
    random, times_ms = Random(2), []
    async with Client.connected(server) as client:
        for _ in range(rounds):
            before = path_of(random.randrange(count), together)
            new = quote_stream_path((*before, "new"))
            for method, is_there in (("PUT", True), ("DELETE", False)):
                await client.request(method, new)
                found, _, took_ms = await client.page(quote_stream_path(before))
                assert (path_text((*before, "new")) in found) is is_there, (method, before)
                times_ms.append(took_ms)
    return Times.of(times_ms)


async def check(server: ServerProcess, count: int, together: int) -> None:
    """Each stream comes once, in order, page by page."""
    expected = iter(range(count))
    following: str | None = ""
    async with Client.connected(server) as client:
        while following is not None:
            found, following, _ = await client.page(following)
            for path in found:
                if path.startswith("rooms/"):
                    assert path == path_text(path_of(next(expected), together))
    assert next(expected, None) is None


@dataclass(slots=True)
class Beside:
    """Appends alone and beside lists, in turns."""

    alone: list[Times]
    beside: list[Times]

    @property
    def ratio(self) -> float:
        """How much longer one in a hundred takes, in the middle round."""
        return statistics.median(
            beside.p99 / alone.p99 for alone, beside in zip(self.alone, self.beside, strict=True)
        )


async def compare(server: ServerProcess, pause_s: float, rounds: int, seconds: float) -> Beside:
    """Appends alone, then with somebody who lists all streams, and so on."""
    found = Beside([], [])
    for _ in range(rounds):
        found.alone.append(await write_for(server, seconds))
        listing = asyncio.create_task(list_all(server, pause_s))
        found.beside.append(await write_for(server, seconds))
        listing.cancel()
        with suppress(asyncio.CancelledError):
            await listing
    return found


async def prove(server: ServerProcess, options: argparse.Namespace) -> bool:
    """Print what was measured; whether it is within the bounds."""
    count, together = options.streams, options.together
    await write_for(server, options.seconds / 2)  # and what it takes from the beginning is there
    before = await asyncio.to_thread(server.rss_bytes)
    writing = asyncio.create_task(write_for(server, options.seconds))
    async with Client.connected(server) as client:
        _, _, first_ms = await client.page()
    print(f"first page, for which all streams are found: {first_ms / 1000:.2f} s")
    print(f"appends in the first {options.seconds:.0f} s of that: {await writing}")
    grown = (await asyncio.to_thread(server.rss_bytes) - before) / MIB
    print(f"resident memory grew by {grown:.1f} MiB, {grown * MIB / count:.0f} bytes a stream")
    cold = await pages_anywhere(server, count, together, options.pages)
    print(f"pages of 100 from anywhere, the first time: {cold}")
    warm = await pages_anywhere(server, count, together, options.pages)
    print(f"the same once more: {warm}")
    behind = await keep_up(server, count, together, options.pages)
    print(f"what was created or deleted was in the next page, always: nothing is stale; {behind}")
    await check(server, count, together)
    print(f"page by page, all {count} came once and in order")
    is_good = warm.p99 < PAGE_BOUND_MS
    for pause_s, said in ((0.1, "10 pages a second"), (0.0, "page after page")):
        beside = await compare(server, pause_s, options.rounds, options.seconds)
        for alone, with_lists in zip(beside.alone, beside.beside, strict=True):
            print(f"appends alone: {alone}\n  beside {said}: {with_lists}")
        print(f"p99 of appends beside {said}: {beside.ratio:.2f} times that without")
        is_good = is_good and beside.ratio < WRITERS_BOUND
    return is_good


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-listing", description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000_000, help="how many are there")
    parser.add_argument("--together", type=int, default=IN_ONE_NAMESPACE, help="in a namespace")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round of appends")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="without and with lists each")
    parser.add_argument("--pages", type=int, default=300, help="that begin anywhere")
    parser.add_argument("--keep", type=Path, help="where to have the streams, also afterwards")
    parser.add_argument("--cold", action="store_true", help="with the system's caches emptied")
    options = parser.parse_args()
    above = Path(tempfile.mkdtemp(prefix="prove-listing-"))
    data_dir = options.keep or above / "data"
    try:
        begin = time.perf_counter()
        make_streams(data_dir, options.streams, options.together)
        print(f"{options.streams} streams are there after {time.perf_counter() - begin:.1f} s")
        if options.cold:
            print(
                "with cold caches" if forget_cached_files() else "caches are emptied by root only"
            )
        server = ServerProcess(data_dir)
        server.start()
        is_good = asyncio.run(prove(server, options))
        server.finish()
    finally:
        shutil.rmtree(above)
    print(f"bounds: a page within {PAGE_BOUND_MS:.0f} ms, p99 of appends {WRITERS_BOUND} times")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
