"""The tokens of a database as a node has them: what is told of them is on a quorum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.postgres.token_rows import STATE, TokenRow, every

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.postgres.readers import Readers
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.standbys import Standbys
    from durable_streams.postgres.token_rows import Fetch
    from durable_streams.postgres.transactions import Transaction, Transactions

_T = TypeVar("_T")

_PLACE: Final = ("tokens",)
"""Of all changes, so that those of a node follow each other."""


class SharedTokens:
    """Those that a node has seen, and changes through it."""

    def __init__(self, readers: Readers, standbys: Standbys, transactions: Transactions) -> None:
        self._readers = readers
        self._standbys = standbys
        self._transactions = transactions

    async def read(self, known: object) -> tuple[object, list[TokenRow]] | None:
        """All tokens, with what to call their state; None if that is the one ``known``."""

        async def work(session: Session) -> tuple[object, list[TokenRow]] | None:
            ((number, state),) = await session.fetch(STATE)
            if (number, state) == known:
                return None
            rows = await every(session.fetch)
            await self._standbys.barrier(session)
            return (number, state), rows

        return await self._readers.do(work)

    async def change(
        self, work: Callable[[Fetch], Awaitable[_T]], done: Callable[[_T], None]
    ) -> _T:
        """Do :func:`added` or :func:`removed`, and ``done`` at once when that is durable."""

        async def alone(transaction: Transaction) -> _T:
            return await work(transaction.fetch)

        return await self._transactions.run(_PLACE, alone, done)
