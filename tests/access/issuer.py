"""An issuer of JWTs: its keys, what it signs, a real server of its key set; and who judges it."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import get_default_algorithms

from durable_streams.access.door import INVALID
from durable_streams.access.jwt_keys import Key, KeySet, secret_key
from durable_streams.access.jwts import Jwts, StaticKeys
from durable_streams.model.errors import Unauthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

NOW_S: Final = 1_800_000_000.0
AUDIENCE: Final = "https://streams.example"
ISSUER: Final = "https://issuer.example/"
SECRET: Final = b"a secret of thirty-two bytes, or a few more"

GOOD_HEADER: Final = {"alg": "HS256", "typ": "JWT"}

GRANTS: Final = [{"scopes": ["read", "append"], "prefix": "chat"}]


class Clock:
    """Says what a test has set."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@cache
def private_key(algorithm: str, number: int = 0, bits: int = 2048) -> Any:
    """A key that signs, the same whenever it is asked for."""
    if algorithm == "HS256":
        return SECRET
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, bits)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_pem(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def private_pem(private: Any) -> bytes:
    pem: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def jwk(algorithm: str, kid: str | None, private: Any = None, **more: object) -> dict[str, Any]:
    """The public JWK of a key, as issuers write them."""
    public = (private or private_key(algorithm)).public_key()
    found = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    named = {} if kid is None else {"kid": kid}
    return {**{name: found[name] for name in found if name != "key_ops"}, **named, **more}


def claims(**changes: object) -> dict[str, Any]:
    """Good claims, with changes; what is changed to None is left out."""
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": int(NOW_S) + 600,
        "iat": int(NOW_S),
        "durable_streams": GRANTS,
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def token(
    payload: dict[str, Any] | None = None,
    algorithm: str = "HS256",
    *,
    key: Any = None,
    kid: str | None = None,
) -> str:
    """A token as PyJWT signs it."""
    return jwt.encode(
        claims() if payload is None else payload,
        private_key(algorithm) if key is None else key,
        algorithm,
        headers=None if kid is None else {"kid": kid},
    )


def text64(text: bytes) -> str:
    return urlsafe_b64encode(text).decode().rstrip("=")


def crafted(header: bytes | dict[str, Any], payload: bytes | dict[str, Any]) -> str:
    """A token of any texts, signed by the secret whatever they say."""
    texts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)
    ]
    signed = ".".join(map(text64, texts))
    signature = get_default_algorithms()["HS256"].sign(signed.encode(), SECRET)
    return f"{signed}.{text64(signature)}"


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


class KeyServer:
    """Answers for a URL what a test has set, and tells of each time it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._set
        self.keys: list[Any] = []
        self.url = ""
        self.times = 0
        self._was_asked = asyncio.Condition()

    async def asked(self, times: int) -> None:
        """Wait until the keys were asked for so many times in all."""
        async with self._was_asked:
            await self._was_asked.wait_for(lambda: self.times >= times)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with self._was_asked:
            self.times += 1
            self._was_asked.notify_all()
        return await self.answer(request)

    async def _set(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": self.keys})


@asynccontextmanager
async def key_server(*keys: dict[str, Any]) -> AsyncIterator[KeyServer]:
    """A real server of a key set, on loopback."""
    served = KeyServer()
    served.keys = list(keys)
    application = web.Application()
    application.router.add_get("/{tail:.*}", served.handle)
    async with TestServer(application, host="127.0.0.1") as server:
        served.url = str(server.make_url("/jwks.json"))
        yield served


class ChangingKeys(StaticKeys):
    """Keys that a test changes; counts what is asked for."""

    def __init__(self, keys: KeySet | None) -> None:
        self.now = keys
        self.misses = 0

    def keys(self) -> KeySet:
        if self.now is None:
            raise Unavailable("no keys", 5)
        return self.now

    def missing(self) -> None:
        self.misses += 1


def counted(key: Key, times: list[int], kid: str | None = None) -> Key:
    """The same key, which counts what it checks."""

    def verify(text: bytes, signature: bytes) -> bool:
        times[0] += 1
        return key.signed(text, signature)

    return Key(key.id, key.algorithm, verify, kid=kid, signature_bytes=key.signature_bytes)


def knowing(*keys: Key, clock: Clock | None = None, **more: Any) -> Jwts:
    source = StaticKeys(KeySet(keys or (secret_key(SECRET),), is_named=False))
    given = {"audience": AUDIENCE, "issuer": ISSUER, "clock": clock or Clock(), **more}
    return Jwts(source, **given)


def refused(bearer: str, jwts: Jwts | None = None) -> str:
    """Why a token is refused; nothing of it is in that."""
    with pytest.raises(Unauthenticated) as caught:
        (jwts or knowing()).principal(bearer)
    assert caught.value.error == INVALID
    reason = str(caught.value)
    for part in bearer.split("."):
        assert len(part) < 8 or part not in reason
    return reason
