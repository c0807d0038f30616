"""Cancellations at chosen suspensions of all verbs, while others write: nothing is lost or held."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import durable_streams
from durable_streams import ProducerClaim, Settings, StreamError, Streams
from durable_streams.maintenance.verify import verify
from durable_streams.settings import KIB
from tools.cancelling import When, cut_off, nothing_held, our_threads, tasks
from tools.descriptors import open_now
from tools.engines import file_store

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from durable_streams.maintenance.findings import Finding

SETTINGS: Final = Settings(max_open_streams=4, segment_bytes=64 * KIB, max_read_bytes=32 * KIB)
"""So that streams are opened and read from files all the time."""

SHARED: Final = 8  # streams that all write to
WRITERS: Final = 4
AT_ONCE: Final = 8
LIFE: Final = 500
"""Cancellations in one opening of the directory, whose closing is cancelled too."""

LATEST: Final = 6  # suspension at which one comes
TEXT: Final = "text/plain"


@dataclass
class Cancelled:
    """What happened, and what was not as it should be."""

    by_verb: Counter[str] = field(default_factory=Counter)
    by_suspension: Counter[int] = field(default_factory=Counter)
    lives: int = 0
    acknowledged: int = 0
    stored_all_the_same: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.by_verb.total()} cancellations in {self.lives} openings,"
            f" {self.acknowledged} writes acknowledged,"
            f" {self.stored_all_the_same} cancelled ones stored all the same,"
            f" {len(self.faults)} faults\n  of: "
            + ", ".join(f"{verb} {count}" for verb, count in sorted(self.by_verb.items()))
            + "\n  at suspension: "
            + ", ".join(f"{at}: {count}" for at, count in sorted(self.by_suspension.items()))
        )


class Run:
    """Cancels in a data directory; ``seed`` chooses what, and where."""

    def __init__(self, data_dir: Path, seed: int) -> None:
        self.seen = Cancelled()
        self._data_dir = data_dir
        self._chance = random.Random(f"cancellations {seed}")
        self._number = 0
        self._acknowledged: dict[str, list[bytes]] = {f"s{n}": [] for n in range(SHARED)}
        self._cancelled: set[bytes] = set()

    async def run(self, count: int) -> Cancelled:
        """Cancel so often."""
        gc.collect()
        files, before = len(open_now()), tasks()
        while self.seen.by_verb.total() < count:
            await self._live(min(count, self.seen.by_verb.total() + LIFE))
            gc.collect()
            while our_threads() or tasks() - before:  # those of an executor end by themselves
                await asyncio.sleep(0)
            if len(open_now()) > files:
                self.seen.faults.append(f"descriptors left: {sorted(open_now())}")
        await self._compare()
        return self.seen

    async def _live(self, until: int) -> None:
        """Open the directory, which is free at once, and cancel until so many were."""
        self.seen.lives += 1
        opening = durable_streams.open(self._data_dir, SETTINGS)
        cut_at, streams = await cut_off(opening.__aenter__(), 1, self._chance.choice(list(When)))
        self._note("open", cut_at)
        if streams is None:
            opening = durable_streams.open(self._data_dir, SETTINGS)
            streams = await opening.__aenter__()
        for path in self._acknowledged:
            await streams.create(path, content_type=TEXT)
        before = tasks()
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write(streams, ending))
            victims = [group.create_task(self._cancel(streams, until)) for _ in range(AT_ONCE)]
            await asyncio.wait(victims)
            ending.set()
        await nothing_held(file_store(streams), before)
        at, when = self._chance.randrange(1, LATEST), self._chance.choice(list(When))
        self._note("close", (await cut_off(opening.__aexit__(None, None, None), at, when))[0])

    async def _write(self, streams: Streams, ending: asyncio.Event) -> None:
        """Somebody whom nobody cancels."""
        while not ending.is_set():
            path, token = self._token()
            await streams.append(path, token)
            self._acknowledge(path, token)

    async def _cancel(self, streams: Streams, until: int) -> None:
        while self.seen.by_verb.total() < until:
            verb = self._chance.choice(VERBS)
            await getattr(self, f"_{verb}")(streams, verb)

    async def _cut(self, verb: str, work: Coroutine[Any, Any, Any]) -> bool:
        """Do something that is cancelled somewhere, perhaps; whether it was done."""
        at, when = self._chance.randrange(1, LATEST), self._chance.choice(list(When))
        cut_at, _ = await cut_off(work, at, when)
        self._note(verb, cut_at)
        return not cut_at

    def _note(self, verb: str, at: int) -> None:
        if at:
            self.seen.by_verb[verb] += 1
            self.seen.by_suspension[at] += 1

    def _token(self) -> tuple[str, bytes]:
        self._number += 1
        size = self._chance.choice((10, 10, 10, 1000, 80_000 if self._number % 50 == 0 else 10))
        token = b"%d" % self._number + b"." * size + b";"
        return f"s{self._chance.randrange(SHARED)}", token

    def _acknowledge(self, path: str, token: bytes) -> None:
        self.seen.acknowledged += 1
        self._acknowledged[path].append(token)

    # -- the verbs -------------------------------------------------------------------------

    async def _append(self, streams: Streams, verb: str) -> None:
        path, token = self._token()
        if await self._cut(verb, streams.append(path, token)):
            self._acknowledge(path, token)
        else:
            self._cancelled.add(token)

    async def _producer(self, streams: Streams, verb: str) -> None:
        """Repeated until it is acknowledged: it is there once."""
        path, token = self._token()
        claim = ProducerClaim(f"p{self._number}", 0, 0)
        for _ in range(3):
            if await self._cut(verb, streams.append(path, token, producer=claim)):
                break
        await streams.append(path, token, producer=claim)
        self._acknowledge(path, token)

    async def _create(self, streams: Streams, verb: str) -> None:
        path = f"new/{self._number}/{self._chance.random()}"
        done = await self._cut(verb, streams.create(path, data=b"x" * 1000))
        made = await streams.create(path, data=b"x" * 1000)
        if done and made.created:
            self.seen.faults.append(f"{path} was made and is not there")
        await self._end(streams, path)

    async def _fork(self, streams: Streams, verb: str) -> None:
        path = f"fork/{self._number}/{self._chance.random()}"
        await streams.create(path, data=b"x" * 1000)
        done = await self._cut(verb, streams.fork(f"{path}/fork", path))
        made = await streams.fork(f"{path}/fork", path)
        if done and made.created:
            self.seen.faults.append(f"{path}/fork was made and is not there")
        await self._end(streams, f"{path}/fork")
        await self._end(streams, path)

    async def _close(self, streams: Streams, verb: str) -> None:
        path = f"closed/{self._number}/{self._chance.random()}"
        await streams.create(path, data=b"x")
        done = await self._cut(verb, streams.close(path, b"y"))
        if done and not (await streams.get_metadata(path)).closed:
            self.seen.faults.append(f"{path} was closed and is open")
        await self._end(streams, path)

    async def _end(self, streams: Streams, path: str) -> None:
        done = await self._cut("delete", streams.delete(path))
        try:
            await streams.delete(path)
            if done:
                self.seen.faults.append(f"{path} was deleted and is there")
        except StreamError:
            pass

    async def _read(self, streams: Streams, verb: str) -> None:
        await self._cut(verb, streams.read(f"s{self._chance.randrange(SHARED)}"))

    async def _read_messages(self, streams: Streams, verb: str) -> None:
        await self._cut(verb, streams.read_messages(f"s{self._chance.randrange(SHARED)}"))

    async def _live_read(self, streams: Streams, verb: str) -> None:
        path = f"s{self._chance.randrange(SHARED)}"
        await self._cut(verb, streams.read(path, "now", live=True))

    async def _get_metadata(self, streams: Streams, verb: str) -> None:
        await self._cut(verb, streams.get_metadata(f"s{self._chance.randrange(SHARED)}"))

    async def _tail(self, streams: Streams, verb: str) -> None:
        """What its steps give in spite of cancellations is what is there."""
        path, got = f"s{self._chance.randrange(SHARED)}", []
        tail = streams.tail(path)
        for _ in range(10):
            cut_at, message = await cut_off(
                tail.__anext__(), self._chance.randrange(1, 3), self._chance.choice(list(When))
            )
            self._note(verb, cut_at)
            got += [message] if message is not None else []
            if not self._acknowledged[path] and not got:
                break
        again = streams.tail(path)
        if got != [await anext(again) for _ in got]:
            self.seen.faults.append(f"a tail of {path} gave something else")
        await tail.aclose()

    # -- at the end ------------------------------------------------------------------------

    async def _compare(self) -> None:
        findings: list[Finding] = []
        await asyncio.to_thread(verify, self._data_dir, findings.append)
        self.seen.faults += map(str, findings)
        async with durable_streams.open(self._data_dir) as streams:
            for path, acknowledged in self._acknowledged.items():
                await streams.close(path)
                found = Counter([m.data async for m in streams.tail(path)])
                lost = [t[:20] for t in acknowledged if found[t] != 1]
                others = found.keys() - set(acknowledged)
                self.seen.stored_all_the_same += len(others)
                if lost or not others <= self._cancelled or found.total() != len(found):
                    self.seen.faults.append(f"{path}: lost or doubled {lost[:5]}")


VERBS: Final = (
    *("append", "append", "append", "producer", "create", "fork", "close"),
    *("read", "read_messages", "live_read", "get_metadata", "tail"),
)
