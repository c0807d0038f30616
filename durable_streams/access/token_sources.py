"""Where tokens are kept: in a file of the machine, or in a table that all nodes of a store share.

What is changed counts within 2 s, and what is changed here at once.  Where they cannot be read,
those that were last good go on counting, and ``problem`` says why.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from durable_streams.access import token_file
from durable_streams.access.followed_file import INTERVAL_S, FollowedFile
from durable_streams.access.stored import Stored
from durable_streams.access.token_file import (
    MAX_FILE_BYTES,
    NoSuchToken,
    TokenExists,
    TokenList,
    TokenRecord,
)
from durable_streams.postgres.token_rows import TokenRow, added, removed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Allow = Callable[[TokenList], None]

NO_TOKENS: Final = TokenList((), {}, {})


class TokenSource(Protocol):
    """``value``: the tokens that count now."""

    @property
    def value(self) -> TokenList:
        """The tokens that count now."""

    @property
    def problem(self) -> str | None:
        """Why they may be out of date; None if they are not."""

    def running(self, changed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Follow them while the block runs; ``changed`` is called when others count."""

    async def add(self, token: TokenRecord, allow: Allow, done: Callable[[], None]) -> None:
        """Add one: durable, and it counts, when this returns.

        ``allow`` is called with those there are and may raise, ``done`` when it is durable, though
        the caller be cancelled.  :class:`TokenExists`; another :class:`FileProblem` or
        :class:`StreamError` if it cannot be.
        """

    async def remove(self, identity: str, allow: Allow, done: Callable[[], None]) -> None:
        """Remove one, likewise; :class:`NoSuchToken`."""


class FileTokens:
    """Those of a file, see ``token_file``; it blocks while it is made."""

    def __init__(self, path: Path, *, interval_s: float = INTERVAL_S) -> None:
        self._path = path
        self.file = FollowedFile(
            "token file",
            path,
            token_file.parse_tokens,
            max_bytes=MAX_FILE_BYTES,
            interval_s=interval_s,
        )

    @property
    def value(self) -> TokenList:
        """The tokens that count now."""
        return self.file.value

    @property
    def problem(self) -> str | None:
        """Why the file cannot be used as it is now, so that it counts as it was."""
        return self.file.problem

    @asynccontextmanager
    async def running(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        """Follow the file while the block runs."""
        async with self.file.running(changed):
            yield

    async def add(self, token: TokenRecord, allow: Allow, done: Callable[[], None]) -> None:
        """Add one to the file."""

        def work() -> Any:  # noqa: ANN401 - what edit takes
            edited = token_file.add_token(self._path, token, allow)
            done()
            return edited

        await self.file.edit(work)

    async def remove(self, identity: str, allow: Allow, done: Callable[[], None]) -> None:
        """Remove one from the file."""

        def work() -> Any:  # noqa: ANN401 - what edit takes
            edited = token_file.remove_token(self._path, identity, allow)
            done()
            return edited

        await self.file.edit(work)


class StoredTokens(Stored[TokenRow, TokenList]):
    """Those of a database."""

    def __init__(self, *, interval_s: float = INTERVAL_S) -> None:
        super().__init__("tokens", NO_TOKENS, list_of, interval_s=interval_s)

    async def add(self, token: TokenRecord, allow: Allow, done: Callable[[], None]) -> None:
        """Add one to the table."""
        await self.change(lambda fetch: added(fetch, *add_checked(token, allow)), done)

    async def remove(self, identity: str, allow: Allow, done: Callable[[], None]) -> None:
        """Remove one from the table."""
        look = remove_checked(identity, allow)
        await self.change(lambda fetch: removed(fetch, identity, look), done)


def list_of(rows: Sequence[TokenRow]) -> TokenList:
    """What rows mean; :class:`TokenFileError`."""
    return token_file.tokens_of((row.digest, row.record) for row in rows)


def add_checked(
    token: TokenRecord, allow: Allow = lambda _: None
) -> tuple[TokenRow, Callable[[Sequence[TokenRow]], None]]:
    """A row of a token, and what looks at the others before it is added."""

    def look(rows: Sequence[TokenRow]) -> None:
        tokens = list_of(rows)
        allow(tokens)
        if token.id in tokens.by_id:
            raise TokenExists(f"there is a token {token.id!r}: use another id")
        list_of([*rows, row])

    row = TokenRow(token.id, token.digest, json.dumps(token_file.as_json(token)))
    return row, look


def remove_checked(
    identity: str, allow: Allow = lambda _: None
) -> Callable[[Sequence[TokenRow]], None]:
    """What looks at all tokens before one is removed."""

    def look(rows: Sequence[TokenRow]) -> None:
        tokens = list_of(rows)
        allow(tokens)
        if identity not in tokens.by_id:
            raise NoSuchToken(f"there is no token {identity[:64]!r}")

    return look
