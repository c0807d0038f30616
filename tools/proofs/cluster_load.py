"""Producers and readers of a cluster, who come in by its balancer and go on whatever happens.

A producer sends one append after the other, each again until it is answered, as long as that takes:
its number makes that safe.  A reader asks again from where it was.  Both come back when
``Retry-After`` says, or soon if nothing was answered at all.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp

from tools.node import COMPATIBILITY
from tools.proofs.clients import AGAIN, Reader
from tools.proofs.cluster_book import (
    BYTES,
    JSON,
    Book,
    Faults,
    Following,
    Tails,
    digest,
    faults_of,
    record_of,
)
from tools.proofs.cluster_lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

_PREFIX: Final = "/v1/stream"
_AGAIN_S: Final = 0.1
_LONGEST_RETRY_S: Final = 5
_PATIENCE_S: Final = 15.0
"""How long a producer waits for an answer before it sends again, as clients with a timeout do."""

_LOOK_S: Final = 1.0
_TROUBLE: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many; ``pause_s`` is the mean time between two appends of a producer."""

    producers: int = 64
    readers: int = 200
    javascript: int = 8
    """So many of the readers are the official client's, on streams of JSON."""
    streams: int = 16
    pause_s: float = 0.5
    ttl_s: int = 600
    """Of every fourth stream, and of those that are used in one way alone; it is never over."""


@dataclass(slots=True)
class Waits:
    """Who waits for an answer, since when, and the longest that anybody did since :meth:`begin`.

    ``silence_s``: the longest time in which nothing of anybody was acknowledged; ``behind_s``: the
    longest that a reader had not got something that was.  ``repeated``: how many appends in all
    were stored already when they were sent again.
    """

    acknowledged: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    silence_s: float = 0.0
    behind_s: float = 0.0
    repeated: int = 0
    waiting: dict[str, float] = field(default_factory=dict)
    _began_s: float = 0.0
    _last_s: float = 0.0

    def begin(self) -> None:
        """Count from now on."""
        self.longest_s = self.silence_s = self.behind_s = 0.0
        self.answers.clear()
        self._last_s = self._began_s = time.monotonic()

    def sent(self, producer: str) -> None:
        self.waiting[producer] = time.monotonic()

    def missed(self, since_s: float) -> None:
        """A reader has not got what was acknowledged then; infinity: everybody has everything."""
        self.behind_s = max(self.behind_s, time.monotonic() - max(since_s, self._began_s))

    def answered(self, producer: str) -> None:
        now = time.monotonic()
        since = max(self.waiting.pop(producer), self._began_s)
        self.longest_s = max(self.longest_s, now - since)
        self.silence_s = max(self.silence_s, now - self._last_s)
        self._last_s = now
        self.acknowledged += 1


class Persistent:
    """Asks again whatever happens; in the place of ``Outages`` for a ``Reader``."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()

    async def get_over(self, attempt: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await attempt()
            except aiohttp.ClientResponseError as error:
                self.answers[str(error.status)] += 1
                await asyncio.sleep(pause_s(error.headers))
            except _TROUBLE as error:
                self.answers[type(error).__name__] += 1
                await asyncio.sleep(_AGAIN_S)


def pause_s(headers: Mapping[str, str] | None) -> float:
    """What ``Retry-After`` says, or a moment."""
    told = (headers or {}).get("Retry-After")
    return min(int(told), _LONGEST_RETRY_S) if told else _AGAIN_S


class Load:
    """All of them, on streams that are new; ``url`` is the balancer's, ``nodes`` those behind.

    ``directory``: where programs work that it starts; whoever removes that ends them.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        nodes: Sequence[tuple[str, str]],
        plan: Plan,
        directory: Path,
    ) -> None:
        self._session = session
        self._directory = directory
        self._url = url
        self._nodes = nodes
        self._plan = plan
        self.faults = Faults()
        self.tails = Tails(self.faults)
        self.waits = Waits()
        self.persistent = Persistent()
        self.watched: Counter[str] = Counter()
        run = random.SystemRandom().randrange(10**9)
        kinds = [JSON, BYTES, BYTES, BYTES]
        self.books = [
            Book(f"prove/{run}/{n}", kinds[n % 4], self.faults) for n in range(plan.streams)
        ]
        self.lasting = Lasting(session, self.persistent, self.url_of, f"prove/{run}", self.faults)
        self.acknowledged: dict[str, dict[str, int]] = {book.path: {} for book in self.books}
        self.following: list[Following] = []
        self.ending = asyncio.Event()
        self.lost = self.doubled = self.disordered = 0
        self.is_compared = False
        self.javascript: list[tuple[Book, dict[str, object]]] = []

    def url_of(self, path: str) -> str:
        return f"{self._url}{_PREFIX}/{path}"

    async def create(self) -> None:
        await self.lasting.create(self._plan.ttl_s)
        for n, book in enumerate(self.books):
            headers = {"Content-Type": book.content_type}
            if n % 4 == 1:
                headers["Stream-TTL"] = str(self._plan.ttl_s)

            async def attempt(book: Book = book, headers: dict[str, str] = headers) -> None:
                url = self.url_of(book.path)
                async with self._session.put(url, headers=headers) as answer:
                    answer.raise_for_status()

            await self.persistent.get_over(attempt)

    async def run(self) -> None:
        """Until ``ending`` is set; then everything is closed, and read to its end."""
        async with asyncio.TaskGroup() as readers:
            self._begin_readers(readers)
            watching = [readers.create_task(one) for one in (self._watch(), self.lasting.use())]
            async with asyncio.TaskGroup() as producers:
                for n in range(self._plan.producers):
                    book = self.books[n % len(self.books)]
                    producers.create_task(self._produce(f"p{n}", book))
            for one in watching:
                one.cancel()
            for book in self.books:
                await self._append(book, {"Stream-Closed": "true"}, b"")

    # -- producers -----------------------------------------------------------------------------

    async def _produce(self, name: str, book: Book) -> None:
        chance = random.Random(name)
        number = 0
        while not self.ending.is_set():
            claim = {
                "Content-Type": book.content_type,
                "Producer-Id": name,
                "Producer-Epoch": "0",
                "Producer-Seq": str(number),
            }
            self.waits.sent(name)
            offset = await self._append(book, claim, book.body_of(record_of(name, number)))
            self.waits.answered(name)
            number += 1
            self.acknowledged[book.path][name] = number
            if offset:
                self.tails.told(book.path, offset)
            await asyncio.sleep(chance.expovariate(1) * self._plan.pause_s)

    async def _append(self, book: Book, headers: dict[str, str], body: bytes) -> str | None:
        """Until it is answered; where it ends, or what the stream's tail was found to be."""
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        url = self.url_of(book.path)
        while True:
            try:
                async with self._session.post(
                    url, data=body, headers=headers, timeout=timeout
                ) as answer:
                    text = await answer.text()
            except _TROUBLE as error:
                self.waits.answers[type(error).__name__] += 1
                await asyncio.sleep(_AGAIN_S)
                continue
            self.waits.answers[str(answer.status)] += 1
            if answer.status in {200, 204}:
                self.waits.repeated += answer.status == 204 and "Producer-Seq" in headers
                return answer.headers.get("Stream-Next-Offset")
            if answer.status not in AGAIN:
                self.faults.add(f"{headers} to {book.path}: {answer.status} {text[:200]}")
                if answer.status < 500:
                    return None
            await asyncio.sleep(pause_s(answer.headers))

    # -- readers -------------------------------------------------------------------------------

    def _begin_readers(self, group: asyncio.TaskGroup) -> None:
        javascript = self._plan.javascript
        for n in range(self._plan.readers - javascript):
            book = self.books[n % len(self.books)]
            following = Following(book, f"reader {n}")
            self.following.append(following)
            reader = Reader(self._session, self.persistent, self.url_of(book.path), following)
            group.create_task(reader.sse() if n // len(self.books) % 4 else reader.long_poll())
        if javascript:
            group.create_task(self._follow_by_javascript(javascript))

    async def _follow_by_javascript(self, count: int) -> None:
        """Readers of the official client, half of them by SSE, in one process."""
        books = [book for book in self.books if book.content_type == JSON]
        urls = [self.url_of(books[n % len(books)].path) for n in range(count)]
        process = await asyncio.create_subprocess_exec(
            *("node", str(COMPATIBILITY / "follow_all.mjs"), *urls),
            cwd=self._directory,
            stdout=subprocess.PIPE,
        )
        try:
            printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            self.faults.add(f"the JavaScript client ended with {process.returncode}")
            return
        seen = json.loads(printed.splitlines()[-1])
        self.javascript = [(books[n % len(books)], one) for n, one in enumerate(seen)]

    def furthest_behind(self) -> tuple[float, str]:
        """Since when a reader has not got something acknowledged, and who; infinity for nobody."""
        return min(
            (
                (self.tails.missing_since(one.book.path, one.offset), one.who)
                for one in self.following
            ),
            default=(math.inf, ""),
        )

    async def _watch(self) -> None:
        """Ask each node for each tail, and look how far readers are behind, for ever."""
        asking = [self._watch_node(name, url) for name, url in self._nodes]
        await asyncio.gather(self._watch_readers(), *asking)

    async def _watch_readers(self) -> None:
        while True:
            since_s, _ = self.furthest_behind()
            self.waits.missed(since_s)
            await asyncio.sleep(_LOOK_S / 4)

    async def _watch_node(self, name: str, url: str) -> None:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        while True:
            for book in self.books:
                sent_s = time.monotonic()
                try:
                    async with self._session.head(
                        f"{url}{_PREFIX}/{book.path}", timeout=timeout
                    ) as answer:
                        self.watched[str(answer.status)] += 1
                        if answer.status == 200:
                            offset = answer.headers["Stream-Next-Offset"]
                            self.tails.see(name, book.path, offset, sent_s)
                        elif answer.status not in AGAIN:
                            self.faults.add(f"{name}: HEAD {book.path}: {answer.status}")
                except _TROUBLE as error:
                    self.watched[type(error).__name__] += 1
                await asyncio.sleep(_LOOK_S / len(self.books))

    # -- in the end ----------------------------------------------------------------------------

    async def compare(self) -> None:
        """Read all of it from each node; what is lost, doubled, out of order is counted."""
        for book in self.books:
            for name, url in self._nodes:
                following = Following(book, f"{name} in the end")
                at = f"{url}{_PREFIX}/{book.path}"
                reader = Reader(self._session, self.persistent, at, following)
                await reader.long_poll()
                if following.count != len(book.records):
                    self.faults.add(f"{name}: {following.count} of {len(book.records)} records")
            lost, doubled, disordered = faults_of(book, self.acknowledged[book.path])
            self.lost += lost
            self.doubled += doubled
            self.disordered += disordered
        for book, seen in self.javascript:
            if seen != {"count": len(book.records), "sha256": digest(book.records)}:
                self.faults.add(f"a JavaScript reader of {book.path} saw {seen}")
        for following in self.following:
            if following.count != len(following.book.records):
                self.faults.add(f"{following.who} read {following.count} records")
        self.is_compared = True
