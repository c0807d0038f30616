"""Who may come in, made of settings: a door that knows credentials, and what grants them.

All files are read once here, before anything is served, which it is not if one of them is no good.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from durable_streams.access import signing_keys
from durable_streams.access.door import OPEN, Door
from durable_streams.access.jwts import open_jwts
from durable_streams.access.signed_urls import SignedUrls
from durable_streams.access.signing_keys import StoredKeys
from durable_streams.access.token_sources import StoredTokens
from durable_streams.access.tokens import Tokens
from durable_streams.http.control import Control

if TYPE_CHECKING:
    from durable_streams.access.door import Authenticator
    from durable_streams.access.followed_file import FollowedFile
    from durable_streams.settings import AccessSettings
    from durable_streams.wire.pages import Pages

logger = logging.getLogger("durable_streams")


class Guard(NamedTuple):
    """What is asked about each request; ``files``: those that are followed for that.

    ``stored``, ``stored_keys``: tokens, and keys of signed URLs, that are kept in the store, which
    is to be opened before.
    """

    pages: Pages
    door: Door
    control: Control | None
    files: tuple[FollowedFile[Any], ...] = ()
    stored: StoredTokens | None = None
    stored_keys: StoredKeys | None = None

    async def begin(self, store: object) -> None:
        """Read the tokens and keys that a store keeps, if they are those.

        Raises ``ValueError`` if it keeps none, :class:`StreamError` or :class:`FileProblem`.
        """
        if self.stored is None:
            return
        rows = getattr(store, "tokens", None)
        if rows is None:
            raise ValueError("store_tokens needs a database as the store: give --store URL")
        await self.stored.begin(rows)
        if self.stored_keys is not None:
            await self.stored_keys.begin(getattr(store, "signing_keys"))  # noqa: B009 - of a database


def guard_of(access: AccessSettings, data_dir: Path | None, pages: Pages) -> Guard:
    """Made of settings, and of the files that they name; blocks.

    ``data_dir``: which must not hold the keys of signed URLs; None if there is none.  Raises
    ``ValueError``, ``OSError`` or :class:`FileProblem` if something is no good.
    """
    if not access.is_on:
        return Guard(pages, OPEN, None)
    known: list[Authenticator] = []
    stored = StoredTokens() if access.store_tokens else None
    tokens = None
    if stored is not None or access.tokens:
        tokens = Tokens(Path(access.tokens) if stored is None else stored)
    if tokens is not None:
        known.append(tokens)
    jwts = open_jwts(access)
    if jwts is not None:
        known.append(jwts)
    urls, stored_keys = None, None
    if access.signing_keys:
        assert tokens is not None
        urls = _signed_urls(Path(access.signing_keys), tokens, data_dir)
    elif stored is not None and tokens is not None:
        stored_keys = StoredKeys()
        urls = SignedUrls(stored_keys, tokens)
    door = Door(known, urls, conceal=access.conceal)
    control = None if tokens is None else Control(tokens, urls)
    files: tuple[FollowedFile[Any], ...] = () if tokens is None else tokens.files
    if urls is not None:
        files = (*files, *urls.files)
    return Guard(pages, door, control, files, stored, stored_keys)


def _signed_urls(path: Path, tokens: Tokens, data_dir: Path | None) -> SignedUrls:
    if data_dir is not None:
        signing_keys.refuse_inside(path, data_dir)
    warning = signing_keys.warning(path)
    if warning is not None:
        logger.warning("%s", warning)
    return SignedUrls(path, tokens)
