"""Rows of the model of the database, how transactions lock them, and what becomes of commits.

What is committed is seen by all once a standby has it, which takes a while; until then its locks
are held.  When the server crashes, commits that waited are there afterwards or are not, the first
before the others.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from durable_streams.postgres.sessions import Refused

if TYPE_CHECKING:
    from random import Random

    Key = tuple[Any, ...]
    Row = dict[str, Any]
    Rows = list[Row]

_SYNC_S: Final = (0.0005, 0.02)
_LOCK_TIMEOUT_S: Final = 2.0


class Mode(Enum):
    """How a row is locked: what it keeps others from."""

    KEY_SHARE = "for key share"
    NO_KEY_UPDATE = "for no key update"
    UPDATE = "for update"

    def bars(self, other: Mode) -> bool:
        """Whether both at once cannot be."""
        modes = {self, other}
        return Mode.UPDATE in modes or modes == {Mode.NO_KEY_UPDATE}


class Transaction:
    """What was changed and locked, and is not committed."""

    def __init__(self) -> None:
        self.changed: dict[Key, Row | None] = {}
        self.locked: set[Key] = set()
        self.is_over = False


class LockedRows:
    """All rows, by table and key; ``started``: which server it is, another one after each crash."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.started = 0
        self.rows: dict[Key, Row] = {}
        self._locks: dict[Key, dict[Transaction, Mode]] = {}
        self._freed = asyncio.Event()
        self._syncing: list[tuple[Transaction, asyncio.Future[bool]]] = []

    async def commit(self, transaction: Transaction) -> bool:
        """Commit, and wait for a standby; False if the server crashed, whatever became of it."""
        if not transaction.changed:
            self.end(transaction)
            return True
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._syncing.append((transaction, done))
        asyncio.get_running_loop().call_later(
            self._random.uniform(*_SYNC_S), self._synced, transaction, done
        )
        return await done

    def _synced(self, transaction: Transaction, done: asyncio.Future[bool]) -> None:
        if (transaction, done) in self._syncing:
            self._syncing.remove((transaction, done))
            self._apply(transaction)
            if not done.done():
                done.set_result(True)

    def _apply(self, transaction: Transaction) -> None:
        for key, row in transaction.changed.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        self.end(transaction)

    def end(self, transaction: Transaction) -> None:
        """Roll back what is not committed, and let go of all locks."""
        transaction.is_over = True
        transaction.changed = {}
        for key in transaction.locked:
            self._locks[key].pop(transaction, None)
            if not self._locks[key]:
                del self._locks[key]
        transaction.locked = set()
        self._freed.set()
        self._freed = asyncio.Event()

    def crash(self) -> None:
        """End the server and start another one on its disk, or a standby's."""
        waiting, self._syncing = self._syncing, []
        kept = self._random.randint(0, len(waiting))
        for number, (transaction, done) in enumerate(waiting):
            if number < kept:
                self._apply(transaction)
            self.end(transaction)
            if not done.done():
                done.set_result(False)
        locked = dict.fromkeys([each for holders in self._locks.values() for each in holders])
        for transaction in locked:
            self.end(transaction)
        self.started += 1

    # -- rows ------------------------------------------------------------------------------

    def _row(self, transaction: Transaction, key: Key) -> Row | None:
        if key in transaction.changed:
            return transaction.changed[key]
        return self.rows.get(key)

    def _all(self, transaction: Transaction, table: str) -> Rows:
        merged = {**self.rows, **transaction.changed}
        return [row for key, row in merged.items() if key[0] == table and row is not None]

    async def _lock(
        self,
        transaction: Transaction,
        key: Key,
        mode: Mode = Mode.NO_KEY_UPDATE,
        *,
        is_patient: bool = True,
    ) -> Row | None:
        """The row, which others do not lock in modes that this one bars until the end."""
        try:
            async with asyncio.timeout(None if is_patient else _LOCK_TIMEOUT_S):
                while self._is_barred(transaction, key, mode):
                    await self._freed.wait()
        except TimeoutError:
            raise Refused("55P03", "canceling statement due to lock timeout") from None
        if transaction.is_over:
            raise Refused("57P01", "the server has ended")
        self._take(transaction, key, mode)
        return self._row(transaction, key)

    def _is_barred(self, transaction: Transaction, key: Key, mode: Mode) -> bool:
        holders = self._locks.get(key, {})
        return any(mode.bars(held) for other, held in holders.items() if other is not transaction)

    def _take(self, transaction: Transaction, key: Key, mode: Mode) -> None:
        holders = self._locks.setdefault(key, {})
        before = holders.get(transaction, mode)
        modes = [*Mode]
        holders[transaction] = max(before, mode, key=modes.index)
        transaction.locked.add(key)
