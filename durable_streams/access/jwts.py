"""JSON Web Tokens as credentials (RFC 7519, and what RFC 8725 says to look at).

A token is admitted if its key signed it, by the key's own algorithm, and its claims are good::

    exp                 required: not past, at most ``leeway_s`` ago
    nbf, iat            if they are there: not to come, at most ``leeway_s`` from now
    aud                 required: the audience, or a list that has it
    iss                 the issuer, if there is one to compare with
    sub                 required: 1 to 256 printable characters
    the claim of the    required: a list of at most 64 grants, each an object of "scopes" and
    setting jwt_claim   one of "path", "prefix" and "glob"

All of it is bounded before it is read, and nothing of a token is in an error or a log.  What was
verified is remembered by the digest of the token, as checking a signature costs up to a tenth of a
millisecond, for as long as it is good and its key is known; failures are not remembered.

Everything here runs on the event loop and waits for nothing; where keys come from is a
:class:`KeySource`.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from durable_streams.access.door import INVALID
from durable_streams.access.grants import Grant, Kind, Scope
from durable_streams.access.principals import Principal
from durable_streams.access.strict_json import load_object
from durable_streams.model.errors import InvalidRequest, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from durable_streams.access.jwt_keys import Key, KeySet
    from durable_streams.settings import AccessSettings

KIND: Final = "jwt"

MAX_TOKEN_CHARACTERS: Final = 8 * 1024
"""As much as aiohttp takes of one header; tokens have 1 to 2 KiB."""

MAX_SUBJECT_CHARACTERS: Final = 256

MAX_GRANTS: Final = 64
"""Each request looks through them."""

MAX_REMEMBERED: Final = 4_096

LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: a later time is a mistake, such as one in microseconds."""

_BASE64URL: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

_REFUSED_HEADERS: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit"})
"""They bring a key along, or ask for what nobody here does."""

_ISSUERS_ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
"""Of keys that are in key sets: a token of another cannot be one whose key we have yet to get."""

_KINDS: Final = {kind.value: kind for kind in Kind}
_SCOPES: Final = {scope.value: scope for scope in Scope}


class KeySource(Protocol):
    """Has the keys of JWTs."""

    @property
    def problem(self) -> str | None:
        """Why no JWT can be admitted now; None if there is nothing."""

    def keys(self) -> KeySet:
        """The keys that are good now; raises :class:`Unavailable` if that cannot be told."""

    def missing(self) -> None:
        """Somebody showed a token of a key that is not there, and that looked like one."""

    def running(self, changed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Follow the keys while the block runs; ``changed`` is called when some are gone."""


class StaticKeys:
    """Keys that stay as they are."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    @property
    def problem(self) -> str | None:
        """Nothing."""
        return None

    def keys(self) -> KeySet:
        """The keys."""
        return self._keys

    def missing(self) -> None:
        """There are no others."""

    @asynccontextmanager
    async def running(self, changed: Callable[[], None]) -> AsyncIterator[None]:  # noqa: ARG002
        """Nothing changes."""
        yield


class _Parts(NamedTuple):
    """The parts of a token, decoded, and what is signed."""

    header: bytes
    claims: bytes
    signature: bytes
    signed: bytes


class Jwts:
    """Knows whom an issuer has given tokens: an ``Authenticator``.

    ``issuer``: empty if any will do, as who has the key is the issuer.  ``clock`` is in seconds
    since 1970.  ``ValueError`` without an audience.
    """

    kind = KIND
    tells = False  # keys get too old as well

    def __init__(
        self,
        source: KeySource,
        *,
        audience: str,
        issuer: str = "",
        leeway_s: float = 30.0,
        claim: str = "durable_streams",
        max_remembered: int = MAX_REMEMBERED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not audience:
            raise ValueError("JWTs need an audience: else those made for others would do here")
        self._source = source
        self._audience = audience
        self._issuer = issuer
        self._leeway_s = leeway_s
        self._claim = claim
        self._clock = clock
        self._max_remembered = max_remembered
        self._remembered: OrderedDict[bytes, Principal] = OrderedDict()

    @property
    def problem(self) -> str | None:
        """Why none can be admitted now, in words for who runs the server; None: nothing."""
        return self._source.problem

    def principal(self, bearer: str) -> Principal | None:
        """Who shows a token; None if it is no JWT at all.

        Raises :class:`Unauthenticated` with what is wrong with it, and :class:`Unavailable` if
        the keys are not known now.
        """
        if len(bearer) > MAX_TOKEN_CHARACTERS:
            raise _bad(f"has more than {MAX_TOKEN_CHARACTERS} characters")
        if not bearer.isascii():
            return None
        digest = sha256(bearer.encode()).digest()
        found = self._recall(digest)
        if found is not None:
            return found
        parts = _parts(bearer)
        if parts is None:
            return None
        key = self._verified(parts)
        found = self._admitted(_claims(parts.claims), key)
        self._remembered[digest] = found
        if len(self._remembered) > self._max_remembered:
            self._remembered.popitem(last=False)
        return found

    def as_now(self, principal: Principal) -> Principal | None:
        """A holder as it is now; None if the token has expired or its key is not known."""
        if principal.expires_at_s <= self._clock():
            return None
        try:
            known = self._source.keys().ids
        except Unavailable:
            return None
        return principal if principal.vouched_by in known else None

    def running(self, changed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Follow the keys while the block runs."""
        return self._source.running(changed)

    def _recall(self, digest: bytes) -> Principal | None:
        found = self._remembered.get(digest)
        if found is None:
            return None
        if found.expires_at_s > self._clock() and found.vouched_by in self._source.keys().ids:
            self._remembered.move_to_end(digest)
            return found
        del self._remembered[digest]
        return None

    def _verified(self, parts: _Parts) -> Key:
        """The key that signed a token."""
        header = _header(parts.header)
        kid = header.get("kid")
        if not isinstance(kid, str) and "kid" in header:
            raise _bad("has a kid that is no text")
        algorithm = header["alg"]
        key = self._source.keys().find(kid)
        if key is None:
            if kid is None:
                raise _bad("has no kid, and there is not exactly one key: the issuer has to say it")
            if algorithm in _ISSUERS_ALGORITHMS and parts.signature:
                self._source.missing()
            raise _bad("has a kid that none of the issuer's keys has now")
        if algorithm != key.algorithm.value:
            raise _bad(f"has an alg that is not that of its key, {key.algorithm.value}")
        if not key.signed(parts.signed, parts.signature):
            raise _bad("is not signed by its key")
        return key

    def _admitted(self, claims: dict[str, Any], key: Key) -> Principal:
        """Whose these claims are, which are the issuer's."""
        expires_at_s = self._check_times(claims)
        audience = claims.get("aud")
        if audience != self._audience and not (
            isinstance(audience, list)
            and all(isinstance(one, str) for one in audience)
            and self._audience in audience
        ):
            raise _bad("has an aud without the server's audience (the setting jwt_audience)")
        if self._issuer and claims.get("iss") != self._issuer:
            raise _bad("has an iss that is not the server's issuer (the setting jwt_issuer)")
        subject = claims.get("sub")
        if not (
            isinstance(subject, str)
            and 0 < len(subject) <= MAX_SUBJECT_CHARACTERS
            and subject.isprintable()
        ):
            raise _bad(f"needs a sub: 1 to {MAX_SUBJECT_CHARACTERS} printable characters")
        return Principal(f"{KIND}:{subject}", self._grants(claims), expires_at_s, key.id)

    def _check_times(self, claims: dict[str, Any]) -> float:
        """When a token expires, with the leeway."""
        now_s = self._clock()
        if "exp" not in claims:
            raise _bad("has no exp: the issuer has to say when it expires")
        expires_at_s = _time(claims, "exp") + self._leeway_s
        if expires_at_s <= now_s:
            raise _bad("has expired")
        if "nbf" in claims and _time(claims, "nbf") > now_s + self._leeway_s:
            raise _bad("is not good yet (nbf)")
        if "iat" in claims and _time(claims, "iat") > now_s + self._leeway_s:
            raise _bad("was issued in the future (iat): a clock is wrong")
        return expires_at_s

    def _grants(self, claims: dict[str, Any]) -> tuple[Grant, ...]:
        listed = claims.get(self._claim)
        if not isinstance(listed, list):
            raise _bad(f"needs a claim {self._claim!r}: a list of grants")
        if len(listed) > MAX_GRANTS:
            raise _bad(f"has more than {MAX_GRANTS} grants in {self._claim!r}")
        grants = []
        for number, one in enumerate(listed, start=1):
            try:
                grants.append(_grant(one))
            except _NoGrant as error:
                raise _bad(f"has in {self._claim!r} as grant {number} one that {error}") from None
        return tuple(grants)


def open_jwts(settings: AccessSettings, *, clock: Callable[[], float] = time.time) -> Jwts | None:
    """What the settings say of JWTs; None if nothing.  Blocking: reads a file.

    Raises ``ValueError`` for a key that does not do, or if PyJWT is missing, and ``OSError`` for a
    file that cannot be read.
    """
    if not (settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks):
        return None
    try:
        from durable_streams.access import jwks, jwt_keys  # noqa: PLC0415 - they need an extra
    except ImportError:
        raise ValueError(
            "JWTs need PyJWT and cryptography: pip install 'durable-streams-server[jwt]'"
        ) from None
    source: KeySource
    if settings.jwt_jwks:
        source = jwks.Jwks(settings.jwt_jwks)
    else:
        is_secret = bool(settings.jwt_secret)
        read = jwt_keys.secret_key if is_secret else jwt_keys.pem_key
        file = Path(settings.jwt_secret or settings.jwt_public_key)
        try:
            key = read(_key_file(file, jwt_keys.MAX_KEY_FILE_BYTES))
        except ValueError as error:
            setting = "jwt_secret" if is_secret else "jwt_public_key"
            raise ValueError(f"{setting}: {file}: {error}") from None
        source = StaticKeys(jwt_keys.KeySet([key], is_named=False))
    return Jwts(
        source,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway_s=settings.jwt_leeway_s,
        claim=settings.jwt_claim,
        clock=clock,
    )


def _key_file(file: Path, most_bytes: int) -> bytes:
    with file.open("rb") as opened:
        text = opened.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes, which no key has")
    return text


def _bad(what: str) -> Unauthenticated:
    return Unauthenticated(f"the JWT {what}", INVALID)


def _parts(bearer: str) -> _Parts | None:
    """Take a token apart; None if it is none."""
    texts = bearer.split(".", 3)
    if len(texts) != 3 or not (texts[0] and texts[1]) or not _BASE64URL.issuperset("".join(texts)):
        return None
    header, claims, signature = map(_decoded, texts)
    if header is None or claims is None or signature is None:
        return None
    return _Parts(header, claims, signature, bearer.rpartition(".")[0].encode())


def _decoded(text: str) -> bytes | None:
    """The bytes of base64url, without the bits that are left over (RFC 4648, section 3.5)."""
    padded = text + "=" * (-len(text) % 4)
    try:
        found = urlsafe_b64decode(padded)
    except ValueError:
        return None
    return found if urlsafe_b64encode(found).decode() == padded else None


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = load_object(text)
    except ValueError as error:
        raise _bad(f"has a header that is not good: {error}") from None
    refused = sorted(_REFUSED_HEADERS & header.keys())
    if refused:
        raise _bad(f"has {refused[0]} in its header, which is not taken here")
    if not isinstance(header.get("alg"), str):
        raise _bad("has no alg in its header")
    return header


def _claims(text: bytes) -> dict[str, Any]:
    try:
        return load_object(text)
    except ValueError as error:
        raise _bad(f"has claims that are not good: {error}") from None


def _time(claims: dict[str, Any], name: str) -> float:
    """A claim's time, in seconds since 1970, which may have a fraction (RFC 7519, section 2)."""
    found = claims[name]
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not is_number or not 0 <= found <= LAST_SECOND:
        raise _bad(f"has a claim {name} that is no time in seconds since 1970")
    return float(found)


class _NoGrant(ValueError):
    """What does not grant anything; its text goes on after "one that"."""


def _grant(one: object) -> Grant:
    if not isinstance(one, dict):
        raise _NoGrant('is no object, such as {"scopes": ["read"], "prefix": "chat"}')
    kinds = one.keys() - {"scopes"}
    if len(kinds) != 1 or not kinds <= _KINDS.keys():
        raise _NoGrant('has not "scopes" and exactly one of "path", "prefix" and "glob"')
    scopes = one.get("scopes")
    if not isinstance(scopes, list) or not scopes:
        raise _NoGrant('has no list of "scopes", of one at least')
    if not all(isinstance(scope, str) and scope in _SCOPES for scope in scopes):
        raise _NoGrant(f"has a scope that is none of {', '.join(_SCOPES)}")
    kind = kinds.pop()
    text = one[kind]
    if not isinstance(text, str):
        raise _NoGrant(f"has a {kind} that is no text")
    on = {Kind.PATH: Grant.on_path, Kind.PREFIX: Grant.on_prefix, Kind.GLOB: Grant.on_glob}
    try:
        return on[_KINDS[kind]](text, scopes)
    except InvalidRequest:
        raise _NoGrant(f"has a {kind} that is no path of streams") from None
