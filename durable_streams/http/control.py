"""What is below ``__ds``: tokens and signed URLs, for whoever may grant them.

==================================  ================================================================
``GET __ds/tokens``                 the tokens that one may see, as JSON; never their texts
``POST __ds/tokens``                grants a token, and tells its text, once
``DELETE __ds/tokens/<id>``         revokes a token
``POST __ds/signed-urls``           signs a URL of a stream, or of all below a prefix
==================================  ================================================================

Nobody grants more than they have themselves, or for longer.  Who asks is decided before anything
else; answers are kept by no cache, and are for pages of welcome origins only (``Pages``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_streams.access.door import Credentials
from durable_streams.access.grants import Kind, Pattern
from durable_streams.access.needs import Asked, authorize_somewhere
from durable_streams.access.strict_json import load_object
from durable_streams.access.token_file import as_json
from durable_streams.access.tokens import MAX_WANTED_BYTES, parse_instant, parse_wanted
from durable_streams.model.errors import InvalidRequest, MethodNotAllowed, StreamNotFound
from durable_streams.model.paths import RESERVED_SEGMENT
from durable_streams.wire import replies
from durable_streams.wire.replies import Reply
from durable_streams.wire.urls import split_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.access.principals import Principal
    from durable_streams.access.signed_urls import SignedUrls
    from durable_streams.access.tokens import Tokens
    from durable_streams.http.bodies import BodyBudget
    from durable_streams.http.incoming import Incoming
    from durable_streams.model.paths import StreamPath

_JSON: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class Control:
    """Answers what is below ``__ds``; ``urls``: None if none are signed here."""

    def __init__(self, tokens: Tokens, urls: SignedUrls | None) -> None:
        self._tokens = tokens
        self._urls = urls

    async def answer(
        self,
        request: Incoming,
        raw_path: str,
        bodies: BodyBudget,
        timeout_s: float,
        *,
        identify: Callable[[Credentials], Principal],
        url_of: Callable[[StreamPath], str],
    ) -> Reply:
        """Answer a request for ``raw_path``, which begins with the reserved segment.

        ``bodies`` and ``timeout_s``: what its body may take.  ``identify``: says who asks, or
        raises.  ``url_of``: the URL of a stream.  Raises what the exchange describes.
        """
        method = request.method
        if method == "OPTIONS":
            return replies.preflight()
        query = split_target(request.target)[1]
        principal = identify(Credentials.of(request.headers, query))
        _, _, what = raw_path.partition("/")
        name, _, identity = what.partition("/")
        if name == "tokens" and identity:
            _allow(method, "DELETE")
            return await self._revoke(principal, identity)
        if name == "tokens":
            _allow(method, "GET", "HEAD", "POST")
            if method == "POST":
                authorize_somewhere(principal, Asked.NEW_TOKEN)  # before its body is read
                return await self._grant(principal, await _body(request, bodies, timeout_s))
            return await self._list(principal)
        if what == "signed-urls" and self._urls is not None:
            _allow(method, "POST")
            authorize_somewhere(principal, Asked.SIGN)
            body = await _body(request, bodies, timeout_s)
            return self._sign(self._urls, principal, body, url_of)
        raise StreamNotFound(f"{RESERVED_SEGMENT}/{what}")

    async def _list(self, principal: Principal) -> Reply:
        found = await self._tokens.list_for(principal)
        return _answer(200, {"tokens": [as_json(token) for token in found]})

    async def _grant(self, principal: Principal, body: bytes) -> Reply:
        token, text = await self._tokens.add(principal, parse_wanted(body))
        return _answer(201, {**as_json(token), "token": text})

    async def _revoke(self, principal: Principal, identity: str) -> Reply:
        if not await self._tokens.remove(principal, identity):
            raise StreamNotFound(f"{RESERVED_SEGMENT}/tokens/{identity[:64]}")
        return replies.deleted()

    def _sign(
        self,
        urls: SignedUrls,
        principal: Principal,
        body: bytes,
        url_of: Callable[[StreamPath], str],
    ) -> Reply:
        pattern, expires = _parse_signing(body)
        signed = urls.sign(principal, pattern, expires.timestamp())
        url = f"{url_of(pattern.segments)}?signed={signed}"
        at = expires.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return _answer(201, {"url": url, "signed": signed, "expires": at})


class _SigningJson(msgspec.Struct, forbid_unknown_fields=True):
    expires: str
    path: str | None = None
    prefix: str | None = None


def _parse_signing(body: bytes) -> tuple[Pattern, datetime]:
    """Read the JSON with which a URL is asked for: what it is for, and until when."""
    try:
        asked = msgspec.convert(load_object(body), _SigningJson)
    except ValueError as error:  # those of msgspec too
        raise InvalidRequest(f"the body is not what asks for a signed URL: {error}") from None
    if (asked.path is None) == (asked.prefix is None):
        raise InvalidRequest("a signed URL is for a path or for a prefix: give one of both")
    if asked.path is not None:
        return Pattern.parse(Kind.PATH, asked.path), parse_instant(asked.expires)
    return Pattern.parse(Kind.PREFIX, asked.prefix or ""), parse_instant(asked.expires)


def _allow(method: str, *methods: str) -> None:
    if method not in methods:
        raise MethodNotAllowed(f"this takes {' and '.join(methods)}, not {method[:32]!r}")


async def _body(request: Incoming, bodies: BodyBudget, timeout_s: float) -> bytes:
    with bodies.share() as share:
        return await request.body(MAX_WANTED_BYTES, timeout_s, share)


def _answer(status: int, said: dict[str, Any]) -> Reply:
    return Reply(status, _JSON, f"{json.dumps(said)}\n".encode())
