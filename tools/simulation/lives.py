"""Those who use streams with a TTL, and families of forks, on nodes that share a database.

Each of them is alone with its paths, so it knows what must be there, what may be, and what must
not: a TTL counts from some moment between when a use was sent and when it was answered, and of what
was not answered nobody knows before nothing can arrive any more.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from durable_streams.model.commands import FOREVER, Append, Create, ForkRequest, Lifetime
from durable_streams.model.errors import (
    SourceGone,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.model.paths import StreamPath
    from tools.simulation.nodes import World

    _Act = Callable[[], Awaitable[Any]]

TEXT = "text/plain"

LATE_S = 10.0
"""After which nothing arrives any more."""

_HOLD_MS = 5000
"""For which a stream may be held by a node that does not say that its reader has left."""


class Killed(Exception):
    """The node that was asked is no more."""


class _Life:
    """A stream with a TTL: ``surely_ms`` until when it is there, ``maybe_ms`` when no more.

    ``stored``: what was acknowledged; ``maybe``: what nobody knows about; ``is_known``: it is the
    one that is meant.
    """

    def __init__(self, ttl_s: int) -> None:
        self.ttl_ms = ttl_s * 1000
        self.surely_ms = 0
        self.maybe_ms = 0
        self.stored: list[bytes] = []
        self.maybe: set[bytes] = set()
        self.is_known = True

    def used(self, sent_ms: int, told_ms: int) -> None:
        """A use was acknowledged; one soon after another need not be written down."""
        unwritten_ms = min(1000, self.ttl_ms // 10)
        self.surely_ms = max(self.surely_ms, sent_ms + self.ttl_ms - unwritten_ms)
        self.may_be_used(told_ms)

    def may_be_used(self, at_ms: float) -> None:
        """It may have been used then."""
        self.maybe_ms = max(self.maybe_ms, round(at_ms) + self.ttl_ms)

    def check(self, content: bytes) -> None:
        """Compare what is read with what is known."""
        tokens = [token + b";" for token in content.split(b";")[:-1]]
        known = [token for token in tokens if token not in self.maybe]
        assert known == self.stored, f"{known} is there, and {self.stored} was acknowledged"
        assert len({*tokens}) == len(tokens), "something is there twice"


class Idler:
    """Uses a stream now and then, with pauses that are longer than its TTL or shorter."""

    def __init__(self, world: World, path: StreamPath) -> None:
        self._world = world
        self._path = path
        self._life = _Life(world.random.randint(1, 4))
        self._numbers = 0

    async def live(self, steps: int) -> None:
        """So many uses."""
        random = self._world.random
        for _ in range(steps):
            pause_s = random.choice([0.05, 1.0, 3.0])
            await asyncio.sleep(random.uniform(0, pause_s))
            use = random.choice([self._make, self._append, self._append, self._read, self._follow])
            sent_ms = self._world.now_ms()
            life = self._life
            try:
                await use()
            except (StreamNotFound, StreamGone) as error:
                assert isinstance(error, StreamNotFound), "gone, and it has no forks"
                now_ms = self._world.now_ms()
                assert life.surely_ms <= now_ms, f"used {life.ttl_ms} ms before its end: {error}"
                life.surely_ms = 0
            except (Unavailable, Killed):
                life.may_be_used(self._world.now_ms() + LATE_S * 1000 + _HOLD_MS)
            else:
                self._world.checks += 1
                if self._life is life:
                    assert sent_ms < life.maybe_ms, "its time was over, and it is there"
                    life.used(sent_ms, self._world.now_ms())

    def _token(self) -> bytes:
        self._numbers += 1
        return b"%d;" % self._numbers

    async def _make(self) -> None:
        before, node = self._life, self._world.node
        ttl_s = before.ttl_ms // 1000
        made = _Life(ttl_s)
        sent_ms = self._world.now_ms()
        command = Create(self._path, TEXT, Lifetime(ttl_s), closed=False)
        try:
            done = await node.ask(node.store.create(command, token := self._token()))
        except Killed:
            before.is_known = False  # from now on it may be another one
            raise
        now_ms = self._world.now_ms()
        if not done.created:
            assert sent_ms < before.maybe_ms, "its time was over, and it is there"
            raise Unavailable("it may have been used by nobody since")
        assert before.surely_ms <= now_ms, "it was there, and another one was made"
        made.stored.append(token)
        made.used(sent_ms, now_ms)
        self._life = made

    async def _append(self) -> None:
        node, token, life = self._world.node, self._token(), self._life
        command = Append(self._path, TEXT, close=False)
        try:
            await node.ask(node.store.append(command, token))
        except Killed:
            life.maybe.add(token)
            raise
        life.stored.append(token)

    async def _read(self) -> None:
        content = await self._world.content(self._world.node, self._path)
        if self._life.is_known:
            self._life.check(content)

    async def _follow(self) -> None:
        """Stay for longer than the TTL; while nothing is lost nobody sees it end."""
        node, life = self._world.node, self._life
        stream = await node.ask(node.store.open(self._path))
        with node.store.following(stream):
            other = self._world.node
            await other.ask(other.store.open(self._path))  # so it is known that it is held
            await asyncio.sleep(self._world.random.uniform(0, life.ttl_ms / 500 + _HOLD_MS / 1000))
            other = self._world.node
            try:
                await other.ask(other.store.head(self._path))
            except StreamNotFound:
                assert not self._world.is_calm, "somebody follows it, and it has ended"
                raise
            finally:
                life.may_be_used(self._world.now_ms() + LATE_S * 1000 + _HOLD_MS)
        if self._world.is_calm:  # its time begins when the reader has left
            life.used(self._world.now_ms(), self._world.now_ms())


class Family:
    """Makes a stream and forks of it, and ends them, all at once: nothing may be left of them."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._at: dict[str, StreamPath] = {
            each: ("family", name, each) for each in ("root", "one", "two", "grandchild")
        }
        self._was_killed = False

    async def live(self, rounds: int) -> None:
        """One family after the other, at the same paths."""
        for number in range(rounds):
            await self._once(b"%d;" % number)
            self._world.checks += 1

    async def _once(self, token: bytes) -> None:
        random = self._world.random
        is_mortal = random.random() < 0.3
        lifetime = Lifetime(1) if is_mortal else FOREVER
        await self._sure(partial(self._create, "root", None, lifetime, token))
        if is_mortal and random.random() < 0.5:
            await asyncio.sleep(1.5)  # of which forks nothing is left
        acts: dict[str, _Act] = {
            "one": partial(self._create, "one", "root"),
            "two": partial(self._create, "two", "root"),
            "grandchild": partial(self._create, "grandchild", "one"),
            "end root": partial(self._delete, "root"),
            "end one": partial(self._delete, "one"),
        }
        chosen = random.sample(sorted(acts), random.randint(2, len(acts)))
        outcomes = await asyncio.gather(*[self._soon(acts[name]) for name in chosen])
        done = dict(zip(chosen, outcomes, strict=True))
        await self._settled()
        for name in ("one", "two", "grandchild"):
            if done.get(name) and (name != "one" or "end one" not in chosen):
                content = await self._world.until_done(None, self._at[name])
                assert content == token, f"{name} has {content!r}, and its source had {token!r}"
        if not is_mortal and done.get("end root"):
            await self._check_root(is_needed=bool(done.get("two")))
        await self._end()

    async def _check_root(self, *, is_needed: bool) -> None:
        """What was deleted is gone, for as long as a fork needs it or for good."""
        outcome = await self._sure(partial(self._head, "root"))
        assert outcome is not None, "it was deleted, and is there"
        assert not is_needed or outcome is StreamGone, "a fork needs it, and it is not there"

    async def _end(self) -> None:
        """End all of them at once; nothing is left, and the paths are free."""
        names = [*self._at]
        self._world.random.shuffle(names)
        await asyncio.gather(*[self._soon(partial(self._delete, name)) for name in names])
        await self._settled()
        for name in names:  # of those that were refused as they were not there yet
            await self._sure(partial(self._delete, name))
        await self._settled()
        for name in names:
            outcome = await self._sure(partial(self._head, name))
            assert outcome is StreamNotFound, f"{name} has no forks, and {outcome}"

    async def _settled(self) -> None:
        """Return when nothing of those can arrive any more who were killed."""
        if self._was_killed:
            self._was_killed = False
            await asyncio.sleep(LATE_S)

    async def _soon(self, act: _Act) -> bool:
        """Do it in a moment; whether it was done."""
        await asyncio.sleep(self._world.random.uniform(0, 0.03))
        return await self._sure(act) is None

    async def _sure(self, act: _Act) -> type[StreamError] | None:
        """Do it until somebody says what became of it: why it was refused; None if it was not."""
        while True:
            try:
                await act()
            except Killed:
                self._was_killed = True
            except Unavailable:
                await asyncio.sleep(self._world.random.uniform(0, 0.1))
            except (StreamNotFound, StreamGone, SourceGone, StreamExists) as error:
                return type(error)
            else:
                return None

    # -- acts ------------------------------------------------------------------------------

    def _create(
        self, name: str, source: str | None, lifetime: Lifetime = FOREVER, body: bytes = b""
    ) -> Awaitable[Any]:
        node = self._world.node
        fork = None if source is None else ForkRequest(self._at[source])
        if source is not None:
            lifetime = Lifetime(3600)
        content_type = TEXT if source is None else None
        command = Create(self._at[name], content_type, lifetime, closed=False, fork=fork)
        return node.ask(node.store.create(command, body))

    def _delete(self, name: str) -> Awaitable[Any]:
        node = self._world.node
        return node.ask(node.store.delete(self._at[name]))

    def _head(self, name: str) -> Awaitable[Any]:
        node = self._world.node
        return node.ask(node.store.head(self._at[name]))
