"""Signed URLs: whoever has one may read, without a token, until it expires.

The query parameter ``signed`` has, with dots between them::

    1 . key id . token id . x or p and N . expiry . MAC

``x``: for exactly this path; ``p2``: for every path that begins with the first two segments of this
one.  The expiry is in whole seconds since 1970.  The MAC is the HMAC-SHA256 (RFC 2104), in
base64url without padding, under the key, of an array in JSON: a fixed text, the version, key id,
token id, the token's digest, ``x`` or ``p``, the decoded segments that are signed, and the expiry;
without spaces, and in ASCII.  No two things to sign have the same JSON.

A URL has the rights of the token in whose name it was signed, and less: it ends when that token is
revoked, expires, or may not read there any more, and when the key is removed.  The digest is what
makes a token that is later made with the same id another one, which opens no URL of the old one.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from durable_streams.access import signing_keys
from durable_streams.access.door import INVALID
from durable_streams.access.followed_file import INTERVAL_S, FollowedFile
from durable_streams.access.grants import Grant, Kind, Pattern, Scope, cover
from durable_streams.access.principals import Principal
from durable_streams.access.signing_keys import StoredKeys
from durable_streams.access.token_file import TokenRecord, digest_of, id_in, is_id
from durable_streams.model.errors import Forbidden, InvalidRequest, Unauthenticated
from durable_streams.model.paths import parse_stream_path
from durable_streams.wire.signed_query import PARAMETER, signed_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime
    from pathlib import Path

    from durable_streams.access.signing_keys import SigningKey, SigningKeys
    from durable_streams.access.tokens import Tokens
    from durable_streams.model.paths import StreamPath

VERSION: Final = 1

MAX_SIGNED_CHARACTERS: Final = 256
"""Of the parameter; two ids of 64, a number of segments, a time and the MAC are 195."""

MAX_EXPIRY_S: Final = 10**12 - 1
"""In seconds since 1970: 12 digits, which is the year 33658."""

_DOMAIN: Final = "durable-streams signed URL"
_SIGNED: Final = re.compile(
    r"1\.([A-Za-z0-9-]{1,64})\.([A-Za-z0-9-]{1,64})\.(?:(x)|p([1-9][0-9]{0,3}))"
    r"\.([1-9][0-9]{0,11})\.([A-Za-z0-9_-]{43})",
    re.ASCII,
)


class Signature(NamedTuple):
    """What the parameter says; ``segments``: how many of the path's are signed, None: all."""

    key_id: str
    token_id: str
    segments: int | None
    expires_s: int
    mac: str


def parse_signed(text: str) -> Signature | None:
    """Read the parameter; None if it is none."""
    match = _SIGNED.fullmatch(text) if len(text) <= MAX_SIGNED_CHARACTERS else None
    if match is None:
        return None
    key_id, token_id, _, count, expires, mac = match.groups()
    return Signature(key_id, token_id, int(count) if count else None, int(expires), mac)


def signed_text(
    key: SigningKey, token_id: str, token_digest: str, pattern: Pattern, expires_s: int
) -> str:
    """The parameter for the URL of a stream, or of all below a prefix."""
    is_prefix = pattern.kind is Kind.PREFIX
    assert is_prefix or pattern.kind is Kind.PATH
    assert pattern.segments
    signed = [_DOMAIN, VERSION, key.id, token_id, token_digest, "p" if is_prefix else "x"]
    message = json.dumps([*signed, pattern.segments, expires_s], separators=(",", ":"))
    mac = base64.urlsafe_b64encode(hmac.digest(key.secret, message.encode(), "sha256"))
    what = f"p{len(pattern.segments)}" if is_prefix else "x"
    return f"{VERSION}.{key.id}.{token_id}.{what}.{expires_s}.{mac.rstrip(b'=').decode()}"


def is_good(signed: str, key: SigningKey, token_digest: str, pattern: Pattern) -> bool:
    """Whether a parameter is what the key makes of all that it says."""
    signature = parse_signed(signed)
    if signature is None:
        return False
    made = signed_text(key, signature.token_id, token_digest, pattern, signature.expires_s)
    return hmac.compare_digest(made, signed)


class SignedUrls:
    """The authenticator of signed URLs; it blocks while it is made.

    ``keys``: the file of them, or those of a database.  ``tokens``: those in whose name they are
    signed, which somebody else follows.  ``clock`` is in seconds since 1970.  A file of keys that
    is missing or no good is a :class:`FileProblem`, mostly a :class:`SigningKeysError`.
    """

    kind: str = "signed"
    tells: bool = False  # a signature is looked at each time

    def __init__(
        self,
        keys: Path | StoredKeys,
        tokens: Tokens,
        *,
        clock: Callable[[], float] = time.time,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self.files: tuple[FollowedFile[SigningKeys], ...] = ()
        self._keys: FollowedFile[SigningKeys] | StoredKeys
        if isinstance(keys, StoredKeys):
            self._keys = keys
            return
        self._keys = FollowedFile(
            "file of signing keys",
            keys,
            signing_keys.parse_keys,
            max_bytes=signing_keys.MAX_FILE_BYTES,
            interval_s=interval_s,
        )
        self.files = (self._keys,)

    @property
    def problem(self) -> str | None:
        """Why the keys cannot be read as they are now, so that they count as they were."""
        return self._keys.problem

    def holder(self, signed: str, path: StreamPath) -> Principal:
        """Who holds a URL of ``path`` with this signature; raises :class:`Unauthenticated`."""
        signature = parse_signed(signed)
        if signature is None or not path:
            raise _refused()
        if signature.segments is None:
            return self._holder(signed, signature, Pattern(Kind.PATH, path))
        return self._holder(signed, signature, Pattern(Kind.PREFIX, path[: signature.segments]))

    def as_now(self, principal: Principal) -> Principal | None:
        """A holder as it is now; None if the URL would not be taken any more."""
        path = principal.grants[0].pattern.segments if principal.grants else ()
        try:
            return self.holder(principal.vouched_by, path)
        except Unauthenticated:
            return None

    @asynccontextmanager
    async def running(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        """Follow the keys while the block runs; ``changed`` is called when others count."""
        async with self._keys.running(changed):
            yield

    def sign(self, issuer: Principal, pattern: Pattern, expires_at_s: float) -> str:
        """Sign for the holder of a token: the parameter ``signed`` for URLs of a path or prefix.

        Raises :class:`Forbidden` for whoever has no token of the file or may not read all of that,
        :class:`InvalidRequest` if it is not over in time.
        """
        now = self._tokens.as_now(issuer)
        token = None if now is None else self._tokens.known(now.name.partition(":")[2])
        if token is None:
            raise Forbidden("URLs are signed for the holders of tokens of the server's file only")
        keys = self._keys.value.keys
        if not keys:
            raise Forbidden("the server has no key to sign URLs with")
        return signed_for(keys[0], token, pattern, expires_at_s, self._clock())

    def _holder(self, signed: str, signature: Signature, pattern: Pattern) -> Principal:
        key = self._keys.value.by_id.get(signature.key_id)
        token = self._tokens.known(signature.token_id)
        if key is None or token is None or not is_good(signed, key, token.digest, pattern):
            raise _refused()
        expires_s = min(signature.expires_s, token.expires_at_s)
        if expires_s <= self._clock():
            raise Unauthenticated("the signed URL has expired", INVALID)
        grant = Grant(frozenset({Scope.READ}), pattern)
        if not cover(token.grants, grant):
            raise _refused()
        return Principal(f"{self.kind}:{token.id}", (grant,), expires_s, signed)


def signed_for(
    key: SigningKey, token: TokenRecord, pattern: Pattern, expires_at_s: float, now_s: float
) -> str:
    """Sign in the name of a token, no more than it may itself; see :meth:`SignedUrls.sign`."""
    if pattern.kind is Kind.GLOB or not pattern.segments:
        raise InvalidRequest("URLs are signed for one stream, or for a prefix that is not empty")
    if not cover(token.grants, Grant(frozenset({Scope.READ}), pattern)):
        raise Forbidden(
            f"the token {token.id} may not read all of {pattern.kind.value} {pattern.text!r}",
            Scope.READ.value,
        )
    if not now_s < expires_at_s <= min(MAX_EXPIRY_S, token.expires_at_s):
        raise InvalidRequest("expires has to be later than now, and not later than the token's")
    expires_s = int(expires_at_s)
    return signed_text(key, token.id, token.digest, pattern, expires_s)


def sign_url(
    url: str,
    *,
    token: str,
    key_id: str,
    secret: str,
    expires_at: datetime,
    below: bool = False,
    token_id: str = "",
    url_prefix: str = "/v1/stream",
) -> str:
    """The URL with a signature: whoever has it may read that stream, until ``expires_at``.

    ``url`` is that of a stream, below ``url_prefix``.  ``below``: the signature does for all
    streams whose paths begin with that one's as well; take it (the parameter ``signed``) over into
    theirs.  ``token`` is in whose name it is signed, which has to be allowed to read all of that;
    ``token_id`` is needed if its text was not made by ``durable-streams token new``.  ``key_id``
    and ``secret`` are as in the file of signing keys.  Nothing is asked of the server, so what it
    would refuse is noticed when the URL is used.

    ``ValueError``, or :class:`InvalidRequest` for the path, if something can be none of these.
    """
    identity = token_id or id_in(token) or ""
    if not is_id(identity) or not is_id(key_id):
        raise ValueError("token_id and key_id are 1 to 64 letters, digits and '-'")
    if expires_at.utcoffset() is None:
        raise ValueError("expires_at needs a time zone, as in datetime.now(UTC)")
    key = signing_keys.SigningKey(key_id, signing_keys.decode_secret(secret))
    pattern = Pattern(Kind.PREFIX if below else Kind.PATH, path_of(url, url_prefix))
    expires_s = int(expires_at.timestamp())
    if not 0 < expires_s <= MAX_EXPIRY_S:
        raise ValueError("expires_at lies too far away")
    return with_signed(
        url, signed_text(key, identity, digest_of(token.encode()), pattern, expires_s)
    )


def path_of(url: str, url_prefix: str) -> StreamPath:
    """The path of the stream that a URL is of; ``ValueError`` if it is of none."""
    parts = urlsplit(url)
    prefix = f"{url_prefix.rstrip('/')}/"
    if not parts.path.startswith(prefix):
        raise ValueError(f"the path of the URL does not begin with {prefix}")
    if parts.fragment or signed_in(parts.query)[0] is not None:
        raise ValueError("the URL has a fragment, or a signature already: leave it out")
    return parse_stream_path(parts.path.removeprefix(prefix))


def with_signed(url: str, signed: str) -> str:
    """A URL with the parameter behind those that it has."""
    parts = urlsplit(url)
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}{PARAMETER}={signed}"))


def _refused() -> Unauthenticated:
    return Unauthenticated("the signature of the URL is not good here, or not any more", INVALID)
