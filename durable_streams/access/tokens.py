"""Tokens: who shows one, and how they are granted and revoked while the server runs.

They are kept in a file or a database (``token_sources``), which is followed: what is changed in it,
by whomever, counts within 2 s, and what is changed here at once.  A token is known again by its
digest, so one that is made with the id of a revoked one is another principal.

Who has the scope ``admin`` may hand on what they have themselves, and see and revoke what they
could have granted: :func:`may_give`.  Whether that is so is looked at again in the file itself, or
the table, while it is locked, so that nobody grants anything after they were revoked.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from durable_streams.access import token_file
from durable_streams.access.door import INVALID
from durable_streams.access.followed_file import INTERVAL_S, in_thread
from durable_streams.access.grants import Grant, Kind, Scope, cover
from durable_streams.access.needs import Asked, authorize_somewhere
from durable_streams.access.small_files import FileProblem
from durable_streams.access.strict_json import load_object
from durable_streams.access.token_file import (
    MAX_GRANTS,
    MAX_NOTE_CHARACTERS,
    TOKEN_KIND,
    NoSuchToken,
    TokenExists,
    TokenList,
    TokenRecord,
)
from durable_streams.access.token_sources import FileTokens
from durable_streams.model.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    Unauthenticated,
    WriteFailed,
)
from durable_streams.rules.lifetime import parse_expires_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from durable_streams.access.followed_file import FollowedFile
    from durable_streams.access.principals import Principal
    from durable_streams.access.token_file import Random
    from durable_streams.access.token_sources import TokenSource

MAX_BEARER_BYTES: Final = 4096
"""Of a token's text; longer ones are no tokens, and not worth a look."""

MAX_WANTED_BYTES: Final = 128 * 1024
"""Of what a token is asked for with: 64 grants of a glob of 1024 bytes."""

_ID_BYTES: Final = 6
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

logger = logging.getLogger("durable_streams")


class Wanted(NamedTuple):
    """A token that somebody asks for; without an ``id`` one is made up."""

    grants: tuple[Grant, ...]
    id: str | None = None
    expires: datetime | None = None
    note: str = ""


class Tokens:
    """The authenticator of tokens; it blocks while it is made of a file.

    ``kept``: that file, or where else they are.  ``clock`` is in seconds since 1970.  A file that
    is missing or no good is a :class:`FileProblem`, mostly a :class:`TokenFileError`.
    """

    kind: str = TOKEN_KIND
    tells: bool = True

    def __init__(
        self,
        kept: Path | TokenSource,
        *,
        clock: Callable[[], float] = time.time,
        interval_s: float = INTERVAL_S,
        random: Random = secrets.token_bytes,
    ) -> None:
        self._clock = clock
        self._random = random
        self._source: TokenSource
        if isinstance(kept, Path):
            of_file = self._source = FileTokens(kept, interval_s=interval_s)
            self.files: tuple[FollowedFile[TokenList], ...] = (of_file.file,)
        else:
            self._source, self.files = kept, ()

    @property
    def file(self) -> FollowedFile[TokenList]:
        """The file that they are kept in."""
        (file,) = self.files
        return file

    @property
    def problem(self) -> str | None:
        """Why they cannot be read as they are now, so that they count as they were."""
        return self._source.problem

    def principal(self, bearer: str) -> Principal | None:
        """Who shows a token; None if it is none, :class:`Unauthenticated` if it has expired."""
        try:
            shown = bearer.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return None
        if len(shown) > MAX_BEARER_BYTES:
            return None
        digest = token_file.digest_of(shown)
        token = self._source.value.by_digest.get(digest)
        if token is None or not hmac.compare_digest(token.digest, digest):
            return None
        if self._has_expired(token):
            raise Unauthenticated("the token has expired", INVALID)
        return token.principal

    def as_now(self, principal: Principal) -> Principal | None:
        """The holder of a token as it is now; None if it is not there, or another of that id."""
        token = self._token_of(principal, self._source.value)
        return None if token is None else token.principal

    def known(self, identity: str) -> TokenRecord | None:
        """The token of an id if there is one that has not expired."""
        token = self._source.value.by_id.get(identity)
        return None if token is None or self._has_expired(token) else token

    @asynccontextmanager
    async def running(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        """Follow them while the block runs; ``changed`` is called when others count."""
        async with self._source.running(changed):
            yield

    # -- control ---------------------------------------------------------------------------

    async def list_for(self, principal: Principal) -> list[TokenRecord]:
        """The tokens that they may see and revoke; :class:`Forbidden` without ``admin``."""
        authorize_somewhere(principal, Asked.LIST_TOKENS)
        tokens = self._source.value.tokens
        return await in_thread(lambda: [one for one in tokens if may_see(principal, one)])

    async def add(self, principal: Principal, wanted: Wanted) -> tuple[TokenRecord, str]:
        """Grant a token; returns it and its text, which is kept nowhere.

        It is durable and counts when this returns.  Raises :class:`Forbidden` for what they may not
        grant, :class:`InvalidRequest` for what cannot be, :class:`Conflict` if there is a token of
        that id, :class:`WriteFailed` if what they are kept in cannot be changed.
        """
        authorize_somewhere(principal, Asked.NEW_TOKEN)
        token, text = made(wanted, self._random)
        if self._has_expired(token):
            raise InvalidRequest("expires is over already")

        def allow(tokens: TokenList) -> None:
            may_give(self._in(principal, tokens), token)

        try:
            await self._source.add(
                token, allow, lambda: _audit("a token was granted", principal, token)
            )
        except TokenExists:
            raise Conflict(f"there is a token {token.id!r}: use another id") from None
        except FileProblem as error:
            raise _refused(error) from None
        return token, text

    async def remove(self, principal: Principal, identity: str) -> bool:
        """Revoke a token, durably and at once; whether there was one that they may see.

        Raises :class:`Forbidden` without ``admin``, and :class:`WriteFailed` as :meth:`add`.
        """
        authorize_somewhere(principal, Asked.REVOKE_TOKEN)
        removed: list[TokenRecord] = []

        def allow(tokens: TokenList) -> None:
            token = tokens.by_id.get(identity)
            if token is None or not may_see(self._in(principal, tokens), token):
                raise NoSuchToken(identity)
            removed.append(token)

        try:
            await self._source.remove(
                identity, allow, lambda: _audit("a token was revoked", principal, removed[-1])
            )
        except NoSuchToken:
            return False
        except FileProblem as error:
            raise _refused(error) from None
        return True

    def _in(self, principal: Principal, tokens: TokenList) -> Principal:
        """A principal as they are kept at this moment, if it is by a token of those."""
        if principal.name.partition(":")[0] != self.kind:
            return principal
        token = self._token_of(principal, tokens)
        if token is None:
            raise Unauthenticated("the token is not known here any more", INVALID)
        authorize_somewhere(token.principal, Asked.NEW_TOKEN)
        return token.principal

    def _token_of(self, principal: Principal, tokens: TokenList) -> TokenRecord | None:
        token = tokens.by_digest.get(principal.vouched_by)
        return None if token is None or self._has_expired(token) else token

    def _has_expired(self, token: TokenRecord) -> bool:
        return token.expires_at_s <= self._clock()


def made(wanted: Wanted, random: Random = secrets.token_bytes) -> tuple[TokenRecord, str]:
    """A new token and its text; ``random`` makes so many bytes that nobody can guess."""
    identity = wanted.id or random(_ID_BYTES).hex()
    text = token_file.new_text(identity, random)
    digest = token_file.digest_of(text.encode())
    return TokenRecord(identity, digest, wanted.grants, wanted.expires, wanted.note), text


def may_give(principal: Principal, token: TokenRecord) -> None:
    """Return if a principal may grant a token: no more than they have, and for no longer.

    :class:`Forbidden` says what is too much.
    """
    for grant in token.grants:
        if not cover(principal.grants, administered(grant)):
            raise Forbidden(
                f"{principal.name} cannot grant what it has not itself: "
                f"{token_file.grants_text([grant])}"
            )
    if token.expires_at_s > principal.expires_at_s:
        raise Forbidden(
            f"{principal.name} ends at {_rfc3339(principal.expires_at_s)}: what it grants has to "
            "have an expires that is not later"
        )


def may_see(principal: Principal, token: TokenRecord) -> bool:
    """Whether a principal may see and revoke a token: if they could grant all that it is for."""
    return all(cover(principal.grants, administered(grant)) for grant in token.grants)


def administered(grant: Grant) -> Grant:
    """What one has to have to give a grant: all of it, and ``admin`` at the same place."""
    return Grant(grant.scopes | {Scope.ADMIN}, grant.pattern)


def _rfc3339(at_s: float) -> str:
    return (_EPOCH + timedelta(seconds=at_s)).isoformat()


def _audit(what: str, principal: Principal, token: TokenRecord) -> None:
    expires = None if token.expires is None else token.expires.isoformat()
    logger.info(
        "%s",
        what,
        extra={
            "by": principal.name,
            "token": token.id,
            "grants": token_file.grants_text(token.grants),
            "expires": expires,
        },
    )


def _refused(error: FileProblem) -> WriteFailed:
    """What a client is told: where the server has its files is none of its business."""
    logger.error("the tokens could not be changed: %s", error)
    return WriteFailed("the tokens could not be changed: see the server's log")


# -- what is asked for ---------------------------------------------------------------------


class _GrantJson(msgspec.Struct, forbid_unknown_fields=True):
    scopes: list[str]
    path: str | None = None
    prefix: str | None = None
    glob: str | None = None


class _WantedJson(msgspec.Struct, forbid_unknown_fields=True):
    grants: list[_GrantJson]
    id: str | None = None
    note: str | None = None
    expires: str | None = None


def parse_wanted(body: bytes) -> Wanted:
    """Read the JSON with which a token is asked for; :class:`InvalidRequest` says what is wrong.

    ``{"id": "…", "note": "…", "expires": "2027-01-31T00:00:00Z", "grants": [{"scopes": ["read"],
    "prefix": "chat"}]}``: all but ``grants`` may be left out, or null; each grant has one of
    ``path``, ``prefix`` and ``glob``.
    """
    if len(body) > MAX_WANTED_BYTES:
        raise InvalidRequest(f"the body is larger than {MAX_WANTED_BYTES} bytes")
    try:
        asked = msgspec.convert(load_object(body), _WantedJson)
    except ValueError as error:  # those of msgspec too
        raise InvalidRequest(f"the body is not what asks for a token: {error}") from None
    if not 1 <= len(asked.grants) <= MAX_GRANTS:
        raise InvalidRequest(f"a token has 1 to {MAX_GRANTS} grants")
    grants = tuple(map(_grant, asked.grants))
    expires = None if asked.expires is None else parse_instant(asked.expires)
    return Wanted(grants, check_id(asked.id), expires, check_note(asked.note or ""))


def _grant(asked: _GrantJson) -> Grant:
    texts = {Kind.PATH: asked.path, Kind.PREFIX: asked.prefix, Kind.GLOB: asked.glob}
    patterns = {kind: text for kind, text in texts.items() if text is not None}
    return token_file.grant_of(asked.scopes, patterns)


def check_id(identity: str | None) -> str | None:
    """The id of a token that somebody chose; :class:`InvalidRequest` if it can be none."""
    if identity is not None and not token_file.is_id(identity):
        raise InvalidRequest("the id of a token is 1 to 64 letters, digits and '-'")
    return identity


def check_note(note: str) -> str:
    """The note of a token; :class:`InvalidRequest` if it can be none."""
    if not token_file.is_note(note):
        raise InvalidRequest(f"a note is a text of at most {MAX_NOTE_CHARACTERS} characters")
    return note


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 timestamp; :class:`InvalidRequest` if it is none."""
    try:
        return _EPOCH + timedelta(milliseconds=parse_expires_at(text))
    except (InvalidRequest, OverflowError):
        raise InvalidRequest(
            f"expires must be an RFC 3339 timestamp such as 2027-01-31T00:00:00Z, not {text[:64]!r}"
        ) from None
