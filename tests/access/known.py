"""Tokens for tests: in a file, as records, and at a time that is told."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from durable_streams.access import token_file, tokens
from durable_streams.access.grants import Grant
from durable_streams.access.tokens import Tokens, Wanted

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.access.principals import Principal
    from durable_streams.access.token_file import TokenRecord

DIGEST = hashlib.sha256(b"the text").hexdigest()
OTHER = hashlib.sha256(b"another text").hexdigest()
GRANT = '[[token.grant]]\nscopes = ["read"]\nprefix = "chat"\n'
NOW_S = 1_800_000_000.0
NOW = datetime.fromtimestamp(NOW_S, UTC)
READ_CHAT = Grant.on_prefix("chat", ["read"])
ALL_OF_CHAT = Grant.on_prefix("chat", ["read", "append", "admin"])


def no_tokens(directory: Path) -> Path:
    """A file that knows nobody."""
    path = directory / "tokens.toml"
    path.write_text("# none yet\n")
    return path


class Clock:
    """Shows what it is told to."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


class Changes:
    """Counts what it is told, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self.told = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self.told.set()


def token(
    more: str = "", *, identity: str = "web", digest: str = DIGEST, grant: str = GRANT
) -> str:
    return f'[[token]]\nid = "{identity}"\nsha256 = "{digest}"\n{more}\n{grant}'


def record(identity: str, note: str = "") -> TokenRecord:
    wanted = tokens.Wanted((Grant.on_prefix("chat", ["read"]),), identity, None, note)
    return tokens.made(wanted)[0]


def new(path: Path, identity: str, *grants: Grant, expires: datetime | None = None) -> str:
    """Put a token in the file, as the command line does; its text."""
    token, text = tokens.made(Wanted(grants, identity, expires))
    token_file.add_token(path, token)
    return text


def shown(known: Tokens, text: str) -> Principal:
    principal = known.principal(text)
    assert principal is not None
    return principal


async def settled(known: Tokens) -> None:
    """What is in the file counts now."""
    await known.file.look()
    await known.file.look()
