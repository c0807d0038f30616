"""Settings of authentication."""

from __future__ import annotations

from dataclasses import dataclass

from durable_streams.model.setting import check, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Settings of authentication; without any of its files nobody has to say who they are.

    A value out of the bounds named here raises ``ValueError``, one of another type ``TypeError``.
    """

    tokens: str = setting(
        "",
        help="file with the tokens that are known, in TOML",
        more="``durable-streams token new`` makes it.  What is changed in it counts within 2 s.",
        flag=True,
        path=True,
    )
    store_tokens: bool = setting(
        False,
        help="with a database as the store: know the tokens that are kept in it, for all nodes",
        more="``durable-streams token new --store URL`` makes them.  It takes the place of "
        "``tokens``; what is changed counts within 2 s on all nodes.  So it is with the keys of "
        "signed URLs, unless ``signing_keys`` names a file.",
        flag=True,
    )
    signing_keys: str = setting(
        "",
        help="file with the keys of signed URLs, in TOML and outside of the data directory",
        more="The first one signs, all of them are taken.  It needs ``tokens``.",
        flag=True,
        path=True,
    )
    jwt_secret: str = setting(
        "",
        help="file with the secret of JWTs by HS256, of 32 bytes at least",
        flag=True,
        path=True,
    )
    jwt_public_key: str = setting(
        "",
        help="file with the public key of JWTs, in PEM: of RSA for RS256, of P-256 for ES256, of "
        "Ed25519 for EdDSA",
        flag=True,
        path=True,
    )
    jwt_jwks: str = setting(
        "",
        help="URL of the key set of JWTs (JWKS): https, or http on loopback",
        flag=True,
    )
    jwt_audience: str = setting(
        "",
        help="what the claim ``aud`` of a JWT has to name; needed for JWTs",
        flag=True,
    )
    jwt_issuer: str = setting(
        "",
        help="what the claim ``iss`` of a JWT has to be; needed for ``jwt_jwks``",
        flag=True,
    )
    jwt_leeway_s: float = setting(
        30.0,
        most=300,
        help="how far the clocks of issuer and server may be apart",
    )
    jwt_claim: str = setting(
        "durable_streams",
        help="claim of a JWT that has its grants",
    )
    conceal: bool = setting(
        False,
        help="answer 404 instead of 403 to whoever has no scope at all on a stream",
        flag=True,
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        check(self)
        if self.tokens and self.store_tokens:
            raise ValueError("give one of tokens and store_tokens: a file, or the database")
        if self.signing_keys and not (self.tokens or self.store_tokens):
            raise ValueError("signing_keys needs tokens: a signed URL has the rights of a token")
        keys = [self.jwt_secret, self.jwt_public_key, self.jwt_jwks]
        if sum(map(bool, keys)) > 1:
            raise ValueError("give one of jwt_secret, jwt_public_key and jwt_jwks")
        if any(keys) and not self.jwt_audience:
            raise ValueError("JWTs need jwt_audience: else those made for others would do here")
        if self.jwt_jwks and not self.jwt_issuer:
            raise ValueError("jwt_jwks needs jwt_issuer: a key set may be that of several issuers")

    @property
    def is_on(self) -> bool:
        """Whether whoever asks has to say who they are."""
        keys = self.jwt_secret or self.jwt_public_key or self.jwt_jwks
        return bool(self.tokens or self.store_tokens or keys)
