"""Tables that all nodes know, as one of them has them: what is told of them is on a quorum."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from durable_streams.postgres import key_rows, token_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.postgres.heartbeat import Heartbeat
    from durable_streams.postgres.key_rows import KeyRow
    from durable_streams.postgres.readers import Readers
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.standbys import Standbys
    from durable_streams.postgres.token_rows import Fetch, TokenRow
    from durable_streams.postgres.transactions import Transaction, Transactions

_Row = TypeVar("_Row")
_T = TypeVar("_T")

Read: TypeAlias = "Callable[[object], Awaitable[tuple[object, list[_Row]] | None]]"
"""What :meth:`SharedRows.read` is."""

_PLACE: Final = ("tokens",)
"""Of all changes, so that those of a node follow each other."""


class SharedRows(Generic[_Row]):
    """Rows of a table that a node has seen, and changes through it."""

    def __init__(
        self,
        state: str,
        every: Callable[[Any], Awaitable[list[_Row]]],
        readers: Readers,
        *,
        heartbeat: Heartbeat,
        standbys: Standbys,
        transactions: Transactions,
    ) -> None:
        """``state``: asks for what is another one whenever a row is; ``every`` reads all."""
        self._state = state
        self._every = every
        self._readers = readers
        self._heartbeat = heartbeat
        self._standbys = standbys
        self._transactions = transactions

    async def read(self, known: object) -> tuple[object, list[_Row]] | None:
        """All rows, with what to call their state; None if that is the one ``known``."""
        return await self._readers.do(partial(self._read, known))

    def look_first(self, look: Callable[[Read[_Row]], Awaitable[None]]) -> None:
        """Have that done, by its own ``read``, before a node that was cut off shows anything."""

        async def looked(session: Session) -> None:
            await look(lambda known: self._read(known, session))

        self._heartbeat.first_looks.append(looked)

    async def _read(self, known: object, session: Session) -> tuple[object, list[_Row]] | None:
        ((number, state),) = await session.fetch(self._state)
        if (number, state) == known:
            return None
        rows = await self._every(session.fetch)
        await self._standbys.barrier(session)
        return (number, state), rows

    async def change(
        self, work: Callable[[Fetch], Awaitable[_T]], done: Callable[[_T], None]
    ) -> _T:
        """Do ``added`` or ``removed``, and ``done`` at once when that is durable."""

        async def alone(transaction: Transaction) -> _T:
            return await work(transaction.fetch)

        return await self._transactions.run(_PLACE, alone, done)


def shared_tokens(
    readers: Readers, heartbeat: Heartbeat, standbys: Standbys, transactions: Transactions
) -> SharedRows[TokenRow]:
    """The tokens."""
    return SharedRows(
        token_rows.STATE,
        token_rows.every,
        readers,
        heartbeat=heartbeat,
        standbys=standbys,
        transactions=transactions,
    )


def shared_keys(
    readers: Readers, heartbeat: Heartbeat, standbys: Standbys, transactions: Transactions
) -> SharedRows[KeyRow]:
    """The keys of signed URLs."""
    return SharedRows(
        key_rows.STATE,
        key_rows.every,
        readers,
        heartbeat=heartbeat,
        standbys=standbys,
        transactions=transactions,
    )
