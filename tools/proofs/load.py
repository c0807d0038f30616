"""Writers that keep a ledger: many streams, all ways to write, and no answer taken on trust.

A *lasting* stream is written by several writers at once until the end, and then closed.  A
*changing* one has an owner, who creates, writes, forks, closes, deletes and creates it again.
With an ``Outages`` the writers go on over killed servers as real clients do: what a producer or a
``Stream-Seq`` makes safe is sent again, a plain append that got no answer stays in doubt.
"""

from __future__ import annotations

import asyncio
import enum
import random
import string
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp

from tools.proofs.clients import NO_ANSWER
from tools.proofs.ledger import (
    BYTES,
    JSON,
    TEXT,
    Claim,
    Damaged,
    Life,
    body_of,
    lines_in,
    lines_of,
    tokens_in,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tools.proofs.clients import Outages
    from tools.server_process import ServerProcess

RETRY_S: Final = 0.1
_FILLER: Final = "".join(random.Random(0).choices(string.ascii_letters, k=40_000))


class Answer(NamedTuple):
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Style(enum.Enum):
    """How a writer makes sure that an append is there."""

    PLAIN = "plain"
    SEQUENCE = "sequence"
    PRODUCER = "producer"


_TOGETHER: Final = (
    (Style.PLAIN,),
    (Style.SEQUENCE,),
    (Style.PRODUCER, Style.PLAIN),
    (Style.PRODUCER, Style.PRODUCER),
)
"""Who writes to one stream at once; ``Stream-Seq`` belongs to the stream, so it goes alone."""


@dataclass(slots=True)
class Counters:
    """What the load did."""

    acknowledged: int = 0
    unanswered: int = 0
    refused: int = 0
    lives: int = 0
    forks: int = 0
    deletes: int = 0


class Client:
    """Requests that either get an answer or are known to have got none."""

    def __init__(
        self, session: aiohttp.ClientSession, server: ServerProcess, outages: Outages | None = None
    ) -> None:
        self._session = session
        self._server = server
        self._outages = outages
        self.counters = Counters()

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Return the answer; None if an outage took it.  A refused request is made again."""
        url = self._server.url(path)
        while True:
            outages = self._outages.count if self._outages else 0
            was_down = self._outages is not None and self._outages.under_way
            try:
                async with self._session.request(method, url, data=body, headers=headers) as reply:
                    if reply.status in NO_ANSWER:
                        reply.raise_for_status()
                    answer = Answer(reply.status, reply.headers, await reply.read())
            except (aiohttp.ClientError, ConnectionError):
                if self._outages is None or not (was_down or self._outages.count > outages):
                    raise
                self.counters.unanswered += 1
                await asyncio.sleep(RETRY_S)
                return None
            if answer.status != 503:
                return answer
            self.counters.refused += 1
            await asyncio.sleep(RETRY_S)

    async def insist(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[Answer, bool]:
        """Ask until there is an answer; also tell whether it took more than one request."""
        repeated = False
        while True:
            answer = await self.ask(method, path, body or None, headers)
            if answer is not None:
                return answer, repeated
            repeated = True

    async def pieces(self, path: str) -> AsyncIterator[Answer]:
        """Read a stream to its tail; nothing comes if there is no stream."""
        answer, _ = await self.insist("GET", path)
        while answer.status not in {404, 410}:
            expect(answer, 200)
            yield answer
            if "Stream-Up-To-Date" in answer.headers:
                return
            offset = answer.headers["Stream-Next-Offset"]
            answer, _ = await self.insist("GET", f"{path}?offset={offset}")

    async def read(self, path: str) -> tuple[list[str], bool] | None:
        """All lines of a stream and whether it is closed; None if there is no stream."""
        lines: list[str] = []
        closed = None
        async for piece in self.pieces(path):
            lines += lines_in(piece.body, piece.headers["Content-Type"].partition(";")[0])
            closed = piece.headers.get("Stream-Closed") == "true"
        return None if closed is None else (lines, closed)


def expect(answer: Answer, *statuses: int) -> None:
    """Fail unless the answer has one of these statuses."""
    if answer.status not in statuses:
        raise Damaged(f"{answer.status} instead of {statuses}: {answer.body[:300]!r}")


class Writer:
    """Appends to one stream, one request at a time."""

    def __init__(
        self, client: Client, life: Life, name: str, style: Style, chance: random.Random
    ) -> None:
        self.life = life
        self._client = client
        self._name = name
        self._style = style
        self._chance = chance
        self._epoch = 0
        self._seq = 0

    async def append(self, *, close: bool = False) -> None:
        """Send one append and note what became of it; ``close``: it is the last."""
        headers = {"Content-Type": self.life.content_type} | self._proof()
        if close:
            headers["Stream-Closed"] = "true"
            self.life.close_sent_s = time.monotonic()
        claim = Claim(self._name, self._epoch, self._seq)
        producer = self._style is Style.PRODUCER
        append = self.life.begin(self._name, claim if producer else None)
        size = self._chance.choice((10, 100, 300, 600, 600, 3_000))
        begin = self._chance.randrange(len(_FILLER) - size)
        count = self._chance.choice((1, 1, 1, 2, 5))
        lines = lines_of(append.token, count, _FILLER[begin : begin + size])
        body = body_of(lines, self.life.content_type)
        if self._style is Style.PLAIN and not close:
            answer, repeated = await self._client.ask("POST", self.life.path, body, headers), False
        else:
            answer, repeated = await self._client.insist("POST", self.life.path, headers, body)
        if answer is None:
            return
        append.acknowledge(self._offset(answer, repeated=repeated, close=close))
        self._client.counters.acknowledged += 1
        self._advance()
        if close:
            self.life.closed_s = time.monotonic()

    def _proof(self) -> dict[str, str]:
        match self._style:
            case Style.PLAIN:
                return {}
            case Style.SEQUENCE:
                return {"Stream-Seq": f"{self._seq:012d}"}
            case Style.PRODUCER:
                return {
                    "Producer-Id": self._name,
                    "Producer-Epoch": str(self._epoch),
                    "Producer-Seq": str(self._seq),
                }

    def _advance(self) -> None:
        self._seq += 1
        if self._style is Style.PRODUCER and self._chance.random() < 0.01:
            self._epoch, self._seq = self._epoch + 1, 0

    def _offset(self, answer: Answer, *, repeated: bool, close: bool) -> str | None:
        """Where the append ends; None if the answer is to its repetition."""
        if close and repeated and answer.headers.get("Stream-Closed") == "true":
            return None
        match self._style, answer.status:
            case (Style.PRODUCER, 200) | (Style.PLAIN | Style.SEQUENCE, 204):
                return answer.headers["Stream-Next-Offset"]
            case (Style.PRODUCER, 204) if repeated:
                return None
            case (Style.SEQUENCE, 409) if repeated and b"sequence" in answer.body:
                return None
            case _, status:
                raise Damaged(f"{self.life.name}: {status} to {self._style}: {answer.body!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much load.  ``pause_s``: mean time between two appends of a writer.

    ``appends``: at least and at most so many to a stream that changes.  ``under``: the first
    segment of all paths.
    """

    lasting: int
    changing: int
    pause_s: float
    appends: tuple[int, int] = (20, 300)
    seed: int = 0
    under: str = "proof"


@dataclass(slots=True)
class Load:
    """The writers and their ledger, ``lives``: of each path, in order."""

    client: Client
    plan: Plan
    lives: dict[str, list[Life]] = field(default_factory=dict)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lasting_paths(self) -> list[str]:
        """The streams that many write to and that are closed at the end."""
        return [f"{self.plan.under}/lasting/{number}" for number in range(self.plan.lasting)]

    async def create_lasting(self) -> None:
        """Create the streams that last, so that readers find them."""
        for number, path in enumerate(self.lasting_paths):
            await self._create(path, (BYTES, JSON, TEXT)[number % 3])

    async def run(self) -> None:
        """Write until ``ending`` is set, and close what lasts."""
        async with asyncio.TaskGroup() as group:
            for number, path in enumerate(self.lasting_paths):
                group.create_task(self._write_together(self.lives[path][0], self._chance(number)))
            for number in range(self.plan.changing):
                chance = self._chance(-1 - number)
                group.create_task(self._change(f"{self.plan.under}/Changing-{number}", chance))

    def _chance(self, number: int) -> random.Random:
        return random.Random(f"{self.plan.seed}/{number}")

    async def _pause(self, chance: random.Random) -> None:
        await asyncio.sleep(chance.expovariate(1) * self.plan.pause_s)

    async def _write_together(self, life: Life, chance: random.Random) -> None:
        """Two producers and a plain writer at once, or one with ``Stream-Seq``."""
        styles = [Style.PRODUCER, Style.PLAIN, Style.PRODUCER]
        if chance.random() < 0.25:
            styles = [Style.SEQUENCE]
        writers = [
            Writer(self.client, life, f"{style.value}-{number}", style, chance)
            for number, style in enumerate(styles)
        ]

        async def write(writer: Writer) -> None:
            while not self.ending.is_set():
                await writer.append()
                await self._pause(chance)

        await asyncio.gather(*map(write, writers))
        await writers[0].append(close=True)

    async def _change(self, path: str, chance: random.Random) -> None:
        await self._pause(chance)
        while not self.ending.is_set():
            life = await self._create(path, chance.choice((BYTES, JSON, TEXT)))
            lives = [life]
            writers = [
                Writer(self.client, life, f"{style.value}-{number}", style, chance)
                for number, style in enumerate(chance.choice(_TOGETHER))
            ]
            appends = chance.randint(*self.plan.appends)
            fork_at = chance.randrange(2 * appends)
            for number in range(appends):
                await asyncio.gather(*(writer.append() for writer in writers))
                await self._pause(chance)
                if self.ending.is_set():
                    return
                if number == fork_at:
                    fork = await self._fork(life, f"{path}/fork")
                    lives += [fork]
                    writers.append(Writer(self.client, fork, "forks-own", Style.PRODUCER, chance))
            if chance.random() < 0.5:
                await self._close(writers[-1], chance)
            await self._pause(chance)
            for each in chance.sample(lives, len(lives)):
                await self._delete(each)

    def _begin(self, path: str, content_type: str, inherited: list[str]) -> Life:
        lives = self.lives.setdefault(path, [])
        life = Life(path, len(lives), content_type, inherited)
        lives.append(life)
        self.client.counters.lives += 1
        return life

    async def _create(self, path: str, content_type: str) -> Life:
        life = self._begin(path, content_type, [])
        headers = {"Content-Type": content_type}
        body = b""
        first = life.begin("creator") if life.number % 2 else None
        if first is not None:
            body = body_of(lines_of(first.token, 2, "first"), content_type)
        answer, repeated = await self.client.insist("PUT", path, headers, body)
        expect(answer, 201, *([200] if repeated else []))
        life.created_s = time.monotonic()
        if first is not None:
            first.acknowledge(None)
        return life

    async def _fork(self, source: Life, path: str) -> Life:
        """Fork at the last append whose end is known."""
        headers = {"Stream-Forked-From": f"/v1/stream/{source.path}"}
        ends = [append for append in source.appends if append.offset is not None]
        read = await self.client.read(source.path)
        if read is None:
            raise Damaged(f"{source.name} is not there")
        inherited: list[str] = []
        offset = "0" * 16 + "_" + "0" * 16
        if ends:
            tokens = tokens_in(read[0])
            inherited = tokens[: tokens.index(ends[-1].token) + 1]
            offset = ends[-1].offset or offset
        fork = self._begin(path, source.content_type, inherited)
        headers["Stream-Fork-Offset"] = offset
        answer, repeated = await self.client.insist("PUT", path, headers)
        expect(answer, 201, *([200] if repeated else []))
        fork.created_s = time.monotonic()
        self.client.counters.forks += 1
        return fork

    async def _close(self, writer: Writer, chance: random.Random) -> None:
        """Close, with or without last bytes, and see that nothing can be appended any more."""
        life = writer.life
        if chance.random() < 0.5:
            await writer.append(close=True)
        else:
            life.close_sent_s = time.monotonic()
            answer, _ = await self.client.insist("POST", life.path, {"Stream-Closed": "true"})
            expect(answer, 204)
            life.closed_s = time.monotonic()
        headers = {"Content-Type": life.content_type}
        answer, _ = await self.client.insist("POST", life.path, headers, b'"too late"')
        expect(answer, 409)
        if answer.headers.get("Stream-Closed") != "true":
            raise Damaged(f"{life.name} was closed and refuses with {answer.body!r}")

    async def _delete(self, life: Life) -> None:
        life.delete_sent_s = time.monotonic()
        answer, repeated = await self.client.insist("DELETE", life.path)
        expect(answer, 204, *([404, 410] if repeated else []))
        life.deleted_s = time.monotonic()
        self.client.counters.deletes += 1
        answer, _ = await self.client.insist("GET", life.path)
        expect(answer, 404, 410)


@asynccontextmanager
async def under_load(server: ServerProcess, plan: Plan, appends: int) -> AsyncIterator[Load]:
    """Write to a server, from when so many appends were acknowledged until the block ends."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, skip_auto_headers=["Content-Type"]) as session,
        asyncio.TaskGroup() as group,
    ):
        load = Load(Client(session, server), plan)
        await load.create_lasting()
        group.create_task(load.run())
        while load.client.counters.acknowledged < appends:
            await asyncio.sleep(0.05)
        yield load
        load.ending.set()
