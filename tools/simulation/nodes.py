"""Two nodes on one database, whoever writes and reads there, and what must be true of it.

What was acknowledged is there, once, where it was said to be, and what was refused is not; nobody
sees less than was there when they asked, on any node; a stream that was deleted stays so.  Of a
request whose node was killed nobody knows what became of it, until it is repeated.  ``lives`` has
those who use streams with a TTL, and forks.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from durable_streams.model.commands import Append, Create, Lifetime, ProducerClaim
from durable_streams.model.errors import StreamError, StreamNotFound, Unavailable
from durable_streams.model.offsets import Start
from durable_streams.postgres.counted import Counted
from durable_streams.postgres.heartbeat import Heartbeat
from durable_streams.postgres.parts import Parts
from durable_streams.postgres.standbys import Standbys
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.tasks import Tasks
from durable_streams.settings import MIB, Settings
from tools.simulation.connections import ModelDatabase, Network
from tools.simulation.database import Tables
from tools.simulation.lives import LATE_S, TEXT, Family, Idler, Killed
from tools.simulation.scheduler import Scheduler, SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from durable_streams.model.paths import StreamPath

SHARED: tuple[StreamPath, ...] = (("hot",), ("warm",))
STEPS = 12
"""What each of those who write does."""

_SETTINGS = Settings(reclaim_delay_s=4.0, reclaim_interval_s=2.0)
"""What has expired is looked for, though the clock is believed soon after each crash."""

_MOST_S = 1000.0
_ANSWERED_S = 60.0

_NODES = 2
_WRITERS = 5


class Node:
    """A node, until it is killed."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.asked: dict[asyncio.Future[Any], None] = {}
        self.is_killed = False

    @classmethod
    async def begin(cls, network: Network, now_ms: Any) -> Node:
        """One more, as soon as the database is there."""
        while True:
            database = ModelDatabase(network, Counted(), now_ms)
            tasks = Tasks()
            standbys = Standbys(database, tasks, allow_unreplicated=False)
            beats = Heartbeat(database, standbys)
            try:
                await standbys.look()
                await beats.start(tasks)
            except Exception:  # noqa: BLE001 - it is tried again
                await tasks.stop()
                await asyncio.sleep(0.05)
                continue
            parts = Parts(database, beats, standbys, tasks, settings=_SETTINGS, producers_bytes=MIB)
            return cls(PostgresStore(parts))

    async def ask(self, work: Awaitable[Any]) -> Any:
        """What it answers; :class:`Killed`."""
        asked = asyncio.ensure_future(work)
        if self.is_killed:
            asked.cancel()
        self.asked[asked] = None
        try:
            await asyncio.wait({asked}, timeout=_ANSWERED_S)
            assert asked.done(), "nobody is answered"
        finally:
            self.asked.pop(asked, None)
        if asked.cancelled():
            raise Killed
        return asked.result()

    async def kill(self) -> None:
        """End it as SIGKILL does: its connections close, and nobody is answered."""
        self.is_killed = True
        for asked in [*self.asked]:
            asked.cancel()
        for session in [*self.store._database._sessions]:
            session.terminate()
        await self.store._tasks.stop()


class Seen:
    """What is known of a stream that many write to.

    ``ends``: of each append that was acknowledged; ``refused``; ``content``: the longest that
    anybody saw.
    """

    def __init__(self) -> None:
        self.ends: dict[bytes, int] = {}
        self.refused: set[bytes] = set()
        self.content = b""
        self.floor = 0

    def acknowledged(self, token: bytes, end: int) -> None:
        """An append is stored, and ends there."""
        assert self.ends.get(token, end) == end, f"{token!r} ends at {end} and {self.ends[token]}"
        self.ends[token] = end
        self.floor = max(self.floor, end)

    def saw(self, content: bytes, floor: int) -> None:
        """A reader who asked when ``floor`` bytes were there got all of it."""
        assert len(content) >= floor, f"{len(content)} bytes, and there were {floor}"
        shorter = min(len(content), len(self.content))
        assert content[:shorter] == self.content[:shorter], "what was seen is other now"
        if len(content) > len(self.content):
            self.content = content
        self.floor = max(self.floor, len(content))

    def check(self) -> int:
        """Compare all that is known with what is there in the end."""
        for token, end in self.ends.items():
            assert self.content[:end].endswith(token), f"{token!r} is not at {end}"
            assert self.content.count(token) == 1, f"{token!r} is there twice"
        for token in self.refused - self.ends.keys():
            assert token not in self.content, f"{token!r} was refused, and is there"
        tokens = self.content.split(b";")[:-1]
        assert len(set(tokens)) == len(tokens), "something is there twice"
        return len(self.ends)


class World:
    """All of one seed."""

    def __init__(self, seed: int, steps: int) -> None:
        self.random = Random(seed)
        self.steps = steps
        self.scheduler = Scheduler(self.random)
        self.seen: dict[StreamPath, Seen] = {path: Seen() for path in SHARED}
        self.nodes: list[Node] = []
        self.may_kill = self.random.random() < 0.5
        self.is_calm = self.random.random() < 0.2
        self.checks = 0

    def now_ms(self) -> int:
        """What time it is, for everybody."""
        return self.scheduler.now_ms()

    async def live(self) -> int:
        """Everything, from the first node to the last look; how much was compared."""
        self.tables = Tables(self.random, self.now_ms)
        self.network = Network(self.tables, self.random, 0.0)
        self.nodes = [await Node.begin(self.network, self.now_ms) for _ in range(_NODES)]
        for path in SHARED:
            await self.nodes[0].store.create(Create(path, TEXT, Lifetime(), closed=False), b"")
        self.network.trouble = 0.0 if self.is_calm else self.random.choice([0.0, 0.01, 0.05, 0.15])
        trouble = asyncio.ensure_future(self._trouble())
        async with asyncio.timeout(_MOST_S):  # nobody waits for ever
            await asyncio.gather(
                *[self._write(number) for number in range(_WRITERS)],
                *[self._come_and_go(("own", f"{number}")) for number in range(2)],
                *[self._read(path) for path in SHARED],
                *[Idler(self, ("idle", f"{number}")).live(self.steps) for number in range(2)],
                *[Family(self, f"{number}").live(self.steps // 4) for number in range(2)],
            )
        assert not trouble.done(), trouble.exception()
        trouble.cancel()
        await asyncio.wait({trouble})
        self.network.trouble, self.network.is_down = 0.0, False
        for at, node in enumerate(self.nodes):
            if node.is_killed:  # and the next one was not there yet
                self.nodes[at] = await Node.begin(self.network, self.now_ms)
        for path, seen in self.seen.items():
            for node in self.nodes:
                seen.saw(await self.until_done(node, path), seen.floor)
            self.checks += seen.check()
        for node in self.nodes:
            assert node.store.bug is None, node.store.bug
            await node.store.close()
        await asyncio.sleep(LATE_S)
        return self.checks

    async def _trouble(self) -> None:
        """Nodes and the database come to an end, and begin again."""
        while True:
            await asyncio.sleep(self.random.uniform(0.05, 1.5))
            if self.is_calm:
                continue
            if self.random.random() < 0.5:
                self.network.crash()
                self.network.is_down = True
                await asyncio.sleep(self.random.uniform(0.01, 0.5))
                self.network.is_down = False
            elif self.may_kill:
                at = self.random.randrange(_NODES)
                await self.nodes[at].kill()
                self.nodes[at] = await Node.begin(self.network, self.now_ms)

    @property
    def node(self) -> Node:
        """Any of them."""
        return self.random.choice(self.nodes)

    # -- those who use it ------------------------------------------------------------------

    async def _write(self, number: int) -> None:
        """A producer that repeats until it is told, or somebody who does not care."""
        cares, path = number % 3 > 0, SHARED[number % 2]
        seen = self.seen[path]
        for seq in range(self.steps):
            claim = ProducerClaim(f"{number}", 0, seq) if cares else None
            token = b"%d.%d;" % (number, seq)
            while True:
                await asyncio.sleep(self.random.uniform(0, 0.05))
                try:
                    done = await self._append(path, token, claim)
                except Killed:
                    if cares:
                        continue
                    break
                except Unavailable:
                    if not cares:
                        seen.refused.add(token)
                        break
                    continue
                if not done.duplicate:
                    seen.acknowledged(token, done.tail.position)
                elif token not in seen.ends:
                    seen.ends[token] = await self._found(path, token, done.tail.position)
                break

    async def _append(self, path: StreamPath, data: bytes, claim: ProducerClaim | None) -> Any:
        node = self.node
        command = Append(path, TEXT, close=False, producer=claim)
        return await node.ask(node.store.append(command, data))

    async def _found(self, path: StreamPath, token: bytes, floor: int) -> int:
        """Where an append ends that was stored when nobody was told."""
        content = await self.until_done(None, path)
        self.seen[path].saw(content, floor)
        assert token in content, f"{token!r} is a duplicate, and is not there"
        return content.index(token) + len(token)

    async def _read(self, path: StreamPath) -> None:
        for _ in range(self.steps):
            await asyncio.sleep(self.random.uniform(0, 0.2))
            floor = self.seen[path].floor
            with suppress(Killed, Unavailable):
                self.seen[path].saw(await self.content(self.node, path), floor)
                self.checks += 1

    async def content(self, node: Node, path: StreamPath) -> bytes:
        async def read() -> bytes:
            stream = await node.store.open(path)
            with await node.store.read(stream, Start.BEGINNING, max_bytes=MIB) as chunk:
                return await node.store.bytes_of(chunk)

        return bytes(await node.ask(read()))

    async def until_done(self, node: Node | None, path: StreamPath) -> bytes:
        while True:
            try:
                return await self.content(node or self.node, path)
            except (Killed, Unavailable):
                await asyncio.sleep(0.05)

    async def _come_and_go(self, path: StreamPath) -> None:
        """Somebody who alone makes and ends a stream: what is refused was not done."""
        is_there: bool | None = False  # None: its node was killed, nobody knows
        for _ in range(self.steps):
            await asyncio.sleep(self.random.uniform(0, 0.1))
            wants = self.random.choice([True, False])
            node = self.node
            try:
                if wants:
                    command = Create(path, TEXT, Lifetime(), closed=False)
                    done = await node.ask(node.store.create(command, b"born"))
                    assert is_there is None or done.created is not is_there
                else:
                    await node.ask(node.store.delete(path))
                    assert is_there is not False, "there was nothing to delete"
            except StreamNotFound:
                assert not wants
                assert not is_there, "it was there"
            except Unavailable:
                continue
            except Killed:  # what it sent may still arrive
                is_there = None
                await asyncio.sleep(LATE_S)
                continue
            is_there = wants
            await self._look(path, is_there=is_there)

    async def _look(self, path: StreamPath, *, is_there: bool) -> None:
        node = self.node
        try:
            await node.ask(node.store.head(path))
        except StreamNotFound:
            assert not is_there, "it was made, and is not there"
        except (Killed, StreamError):
            return
        else:
            assert is_there, "it was deleted, and is there"
        self.checks += 1


def run(seed: int, steps: int = STEPS) -> int:
    """Run a seed; how much was compared."""
    world = World(seed, steps)
    loop = SimulatedLoop(world.scheduler)
    try:
        return loop.run_until_complete(world.live())
    finally:
        loop.close()
