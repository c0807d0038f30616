"""A file of tokens, one of keys, and who knows signed URLs by them."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

from durable_streams.access import signing_keys, token_file, tokens
from durable_streams.access.grants import Grant, Kind, Pattern
from durable_streams.access.signed_urls import (
    SignedUrls,
)
from durable_streams.access.tokens import Tokens, Wanted
from durable_streams.model.errors import Unauthenticated
from tests.access.known import NOW_S, Clock

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from durable_streams.access.principals import Principal


ROOM = Pattern.parse(Kind.PATH, "chat/1")


class Place:
    """A file of tokens, one of keys, and who knows them."""

    def __init__(self, directory: Path) -> None:
        self.token_path = directory / "tokens.toml"
        self.key_path = directory / "keys.toml"
        self.clock = Clock()
        self.web = self.new_token("web", Grant.on_prefix("chat", ["read", "append"]))
        self.key_id = signing_keys.new_key(self.key_path)
        self.tokens = Tokens(self.token_path, clock=self.clock)
        self.urls = SignedUrls(self.key_path, self.tokens, clock=self.clock)

    def new_token(self, identity: str, *grants: Grant, expires: datetime | None = None) -> str:
        token, text = tokens.made(Wanted(grants, identity, expires))
        token_file.add_token(self.token_path, token)
        return text

    def read_again(self) -> None:
        async def look() -> None:
            for look in (self.tokens.file.look, *[file.look for file in self.urls.files]):
                await look()
                await look()

        asyncio.run(look())

    def issuer(self, text: str | None = None) -> Principal:
        principal = self.tokens.principal(text or self.web)
        assert principal is not None
        return principal

    def sign(self, pattern: Pattern = ROOM, *, for_s: float = 60) -> str:
        return self.urls.sign(self.issuer(), pattern, NOW_S + for_s)

    def is_taken(self, signed: str, *path: str) -> bool:
        try:
            self.urls.holder(signed, path or ROOM.segments)
        except Unauthenticated as error:
            assert error.error == "invalid_token"
            return False
        return True

    @property
    def secret(self) -> str:
        """The key that signs, as the file has it."""
        return base64.urlsafe_b64encode(self.urls.files[0].value.keys[0].secret).decode()
