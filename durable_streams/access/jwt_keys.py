"""The keys of JWTs: each with the one algorithm that it is for, and no part that has to be secret.

==========================  =========  =====================================================
key                         algorithm  from
==========================  =========  =====================================================
secret, 32 bytes at least   HS256      a file of its bytes; one newline at the end is cut
RSA, 2048 bits at least     RS256      PEM, or JWK
EC on P-256                 ES256      PEM, or JWK
Ed25519                     EdDSA      PEM, or JWK
==========================  =========  =====================================================

What a token says of its algorithm is compared with the key's and never believed.  Only the
algorithms are PyJWT's; without it this cannot be imported.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MIN_SECRET_BYTES: Final = 32
"""RFC 7518, section 3.2: as long as the hash at least."""

MAX_KEY_FILE_BYTES: Final = 16 * 1024

MIN_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3."""

MAX_RSA_BITS: Final = 8192
"""A check costs more with each bit, and whoever sends a token makes us do one."""

_MAX_RSA_EXPONENT_BITS: Final = 32
"""Everybody has 65537; a long one makes a check as slow as a signature."""

MAX_KID_CHARACTERS: Final = 256

_PRIVATE_PARTS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_Public = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class Algorithm(Enum):
    """What a key signs with; the value is the header's ``alg``."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


class Key:
    """A key that tells whether a signature is its own.

    ``id`` is the same for the same key wherever it came from; ``kid`` is what the issuer calls it,
    or None.  Not a record: nothing of it but these is ever shown.
    """

    __slots__ = ("_verify", "algorithm", "id", "kid", "signature_bytes")

    def __init__(
        self,
        key_id: str,
        algorithm: Algorithm,
        verify: Callable[[bytes, bytes], bool],
        *,
        kid: str | None = None,
        signature_bytes: int,
    ) -> None:
        self.id = key_id
        self.kid = kid
        self.algorithm = algorithm
        self.signature_bytes = signature_bytes
        self._verify = verify

    def __repr__(self) -> str:
        return f"<Key {self.algorithm.value}>"

    def signed(self, text: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is that of ``text`` by this key."""
        return len(signature) == self.signature_bytes and self._verify(text, signature)


class KeySet:
    """Keys that are good at the same time; ``ids`` are theirs.

    ``is_named``: a ``kid`` has to be that of its key.
    """

    __slots__ = ("_by_kid", "_only", "ids", "is_named")

    def __init__(self, keys: Iterable[Key], *, is_named: bool) -> None:
        known = tuple(keys)
        self.ids = frozenset(key.id for key in known)
        self.is_named = is_named
        self._only = known[0] if len(known) == 1 else None
        self._by_kid = {key.kid: key for key in known if key.kid is not None}

    def find(self, kid: str | None) -> Key | None:
        """The key of a token; None if there is no such, or one of several is not named."""
        if kid is None or not self.is_named:
            return self._only
        return self._by_kid.get(kid)


def secret_key(text: bytes) -> Key:
    """The key of a secret; ``ValueError`` if it is short, or a key of another kind."""
    secret = text.removesuffix(b"\r\n" if text.endswith(b"\r\n") else b"\n")
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(
            f"the secret has {len(secret)} bytes, without the newline at its end, and needs "
            f"{MIN_SECRET_BYTES} at least"
        )
    hmac = HMACAlgorithm(HMACAlgorithm.SHA256)
    try:
        prepared = hmac.prepare_key(secret)
    except InvalidKeyError:
        raise ValueError(
            "that is no secret: a PEM or SSH key, whose public half others know, belongs in "
            "jwt_public_key"
        ) from None
    # There is one, and it stays: its id need not tell it from others, and says nothing of it.
    return Key(
        "secret",
        Algorithm.HS256,
        lambda signed, signature: hmac.verify(signed, prepared, signature),
        signature_bytes=32,
    )


def pem_key(text: bytes) -> Key:
    """The public key of a PEM file; ``ValueError`` if it is none that does, or is a private one."""
    if b"PRIVATE KEY" in text:
        raise ValueError(
            "that is a private key, which stays with the issuer: give the public one, such as "
            "from: openssl pkey -in private.pem -pubout"
        )
    if b"BEGIN CERTIFICATE" in text:
        raise ValueError(
            "that is a certificate: give its public key, such as from: "
            "openssl x509 -in certificate.pem -noout -pubkey"
        )
    if text.count(b"-----BEGIN ") != 1:
        raise ValueError("it has to be one public key in PEM: -----BEGIN PUBLIC KEY-----")
    try:
        public = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("its PEM cannot be read as a public key") from None
    return _public_key(public, kid=None)


def jwk_key(jwk: object) -> Key:
    """The key of a JWK; ``ValueError`` says why it is none that JWTs may be signed with."""
    if not isinstance(jwk, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - of a value, not of an argument
    if not _PRIVATE_PARTS.isdisjoint(jwk):
        raise ValueError("it has private parts, which a set that all can read must not have")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it is not for checking signatures")
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARACTERS):
        raise ValueError("its kid is no short text")
    key = _public_key(_public(jwk), kid=kid)
    if jwk.get("alg", key.algorithm.value) != key.algorithm.value:
        raise ValueError(f"its alg is not {key.algorithm.value}")
    return key


def _public(jwk: dict[str, Any]) -> object:
    try:
        match jwk.get("kty"):
            case "RSA":
                return RSAAlgorithm.from_jwk(jwk)
            case "EC":
                return ECAlgorithm.from_jwk(jwk)
            case "OKP":
                return OKPAlgorithm.from_jwk(jwk)
    except (InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError):
        raise ValueError("its numbers are no public key") from None
    raise ValueError("its kty is none of RSA, EC and OKP")


def _public_key(public: object, *, kid: str | None) -> Key:
    if isinstance(public, RSAPublicKey):
        if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
            raise ValueError(
                f"an RSA key of {public.key_size} bits: it takes {MIN_RSA_BITS} to {MAX_RSA_BITS}"
            )
        if public.public_numbers().e.bit_length() > _MAX_RSA_EXPONENT_BITS:
            raise ValueError("the exponent of its RSA key is unusually long")
        rsa = RSAAlgorithm(RSAAlgorithm.SHA256)
        return Key(
            _id(public),
            Algorithm.RS256,
            lambda signed, signature: rsa.verify(signed, public, signature),
            kid=kid,
            signature_bytes=(public.key_size + 7) // 8,
        )
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        ec = ECAlgorithm(ECAlgorithm.SHA256)
        return Key(
            _id(public),
            Algorithm.ES256,
            lambda signed, signature: ec.verify(signed, public, signature),
            kid=kid,
            signature_bytes=64,
        )
    if isinstance(public, Ed25519PublicKey):
        okp = OKPAlgorithm()
        return Key(
            _id(public),
            Algorithm.EDDSA,
            lambda signed, signature: okp.verify(signed, public, signature),
            kid=kid,
            signature_bytes=64,
        )
    raise ValueError("it takes a key of RSA, of EC on P-256, or of Ed25519")


def _id(public: _Public) -> str:
    written = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(written).hexdigest()
