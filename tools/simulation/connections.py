"""Sessions of nodes with the model of the database: what gets lost between them, and when.

A connection may be lost before a statement arrives, while it is on its way, so that it arrives late
or not at all, and when it is done, before its answer is heard.  Nobody tells the node which it was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.database import Clock, Database
from durable_streams.postgres.sessions import Refused, Session, Unknown
from durable_streams.postgres.urls import parse
from tools.simulation.locked_rows import Transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from random import Random

    from tools.simulation.database import Tables

_NOBODY = "postgresql://nobody@nowhere/simulated"


class Network:
    """What may happen on the way.

    ``trouble``: how likely a statement meets any.  ``is_down``: the server takes no sessions.
    """

    def __init__(self, tables: Tables, random: Random, trouble: float) -> None:
        self.tables = tables
        self.random = random
        self.trouble = trouble
        self.is_down = False
        self.met = 0
        self.sessions: dict[ModelSession, None] = {}

    async def passes(self, most_s: float = 0.003) -> None:
        """It takes its time."""
        await asyncio.sleep(self.random.uniform(0, most_s))

    def crash(self) -> None:
        """End the server; nobody hears any more of what was under way."""
        for session in [*self.sessions]:
            session.lose(at_once=True)
        self.tables.crash()


class ModelDatabase(Database):
    """The database as a node of the simulation has it."""

    def __init__(self, network: Network, counted: Any, now_ms: Callable[[], int]) -> None:
        super().__init__(parse(_NOBODY), Clock(now_ms), counted)
        self._network = network

    async def leave(self, server: object) -> None:
        """There is no other server."""

    async def _open(self, lock_timeout: str) -> Session:
        await self._network.passes()
        if self._network.is_down or self._network.random.random() < self._network.trouble / 2:
            self.problem = "it is not there"
            raise NoDatabase(self.problem)
        self.problem = ""
        session = ModelSession(self._network, is_patient=lock_timeout == "0")
        self._sessions.add(session)
        return session


class ModelSession(Session):
    """A connection; the statements of a transaction go on from one another."""

    def __init__(self, network: Network, *, is_patient: bool) -> None:
        self._network = network
        self._tables = network.tables
        self.server = network.tables.started
        self._is_patient = is_patient
        self._transaction: Transaction | None = None
        self._under_way: dict[asyncio.Task[Any], None] = {}
        self._lost = asyncio.Event()
        network.sessions[self] = None

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Run a statement, if it arrives."""
        found: list[Any] = await self._sent(lambda: self._fetch(sql, arguments))
        return found

    async def run(self, script: str) -> str:
        """Run the script that begins a transaction."""

        async def begun() -> str:
            self._transaction = Transaction()
            return await self._tables.advance(self._transaction, script)

        told: str = await self._sent(begun)
        return told

    async def prepare(self, statements: Iterable[str]) -> None:
        """It knows them all."""

    async def listen(self, _: str, heard: Callable[[str], None]) -> None:
        """Be told of what is said."""
        if self._lost.is_set():
            raise OSError("the connection is lost")
        self._tables.heard.append(heard)

    async def is_lost(self) -> None:
        """Return when there is no connection any more."""
        await self._lost.wait()

    def terminate(self) -> None:
        """Close the socket."""
        self.lose()

    def lose(self, *, at_once: bool = False) -> None:
        """There is no connection any more; ``at_once``: and no server at the other end of it."""
        self._lost.set()
        self._network.sessions.pop(self, None)
        if at_once:
            for task in [*self._under_way]:
                task.cancel()
        if not self._under_way or at_once:
            self._roll_back()

    def _roll_back(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None and not transaction.is_over:
            self._tables.end(transaction)

    async def _sent(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Send something; ``Unknown`` if the connection is lost before its answer is here."""
        if self._lost.is_set():
            raise Unknown("the connection is lost")
        random = self._network.random
        fate = ""
        if random.random() < self._network.trouble:
            fate = random.choice(["never", "late", "unheard"])
            self._network.met += 1
        if fate == "never":
            self.lose()
            raise Unknown("the connection was lost")
        late_s = random.uniform(0, 4) if fate == "late" else 0.0
        task = asyncio.get_running_loop().create_task(self._served(work, late_s))
        self._under_way[task] = None
        task.add_done_callback(self._served_one)
        if fate == "late":
            self.lose()
            raise Unknown("the connection was lost")
        lost = asyncio.ensure_future(self._lost.wait())
        await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        if fate == "unheard":
            self.lose()
        if self._lost.is_set() or not task.done() or task.cancelled():
            raise Unknown("the connection was lost")
        return task.result()

    def _served_one(self, task: asyncio.Task[Any]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled():
            task.exception()
        if self._lost.is_set() and not self._under_way:
            self._roll_back()

    async def _served(self, work: Callable[[], Awaitable[Any]], late_s: float) -> Any:
        await asyncio.sleep(late_s)
        await self._network.passes()
        result = await work()
        await self._network.passes()
        return result

    async def _fetch(self, sql: str, arguments: tuple[Any, ...]) -> list[Any]:
        match sql:
            case "begin":
                self._transaction = Transaction()
                return []
            case "commit":
                return await self._commit()
            case "rollback":
                self._roll_back()
                return []
        if self._transaction is not None:
            return await self._tables.do(self._transaction, sql, arguments)
        alone = Transaction()
        try:
            found = await self._tables.do(alone, sql, arguments)
        except BaseException:
            self._tables.end(alone)
            raise
        if not await self._tables.commit(alone):
            raise asyncio.CancelledError
        return found

    async def _commit(self) -> list[Any]:
        transaction, self._transaction = self._transaction, None
        assert transaction is not None
        if transaction.is_over:
            raise Refused("25P02", "the transaction has ended")
        if not await self._tables.commit(transaction):
            raise asyncio.CancelledError
        return []
