"""Keys of JWTs: which are taken, from which files and sets, and what the settings say."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from durable_streams.access.jwt_keys import jwk_key, pem_key, secret_key
from durable_streams.access.jwts import (
    open_jwts,
)
from durable_streams.settings import AccessSettings
from tests.access.issuer import (
    AUDIENCE,
    GRANTS,
    ISSUER,
    NOW_S,
    SECRET,
    Clock,
    claims,
    jwk,
    knowing,
    private_key,
    private_pem,
    public_pem,
    refused,
    text64,
    token,
)

if TYPE_CHECKING:
    from pathlib import Path


def settings(**more: Any) -> AccessSettings:
    return AccessSettings(jwt_audience=AUDIENCE, **more)


def test_without_a_key_there_are_no_jwts() -> None:
    assert open_jwts(AccessSettings()) is None


def test_a_secret_is_a_file_of_32_bytes_without_its_newline(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for ending in (b"", b"\n", b"\r\n"):
        file.write_bytes(SECRET + ending)
        jwts = open_jwts(settings(jwt_secret=str(file)), clock=Clock())
        assert jwts is not None
        assert jwts.problem is None
        assert jwts.principal(token(claims(iss=None))) is not None
    file.write_bytes(b"s" * 32)
    assert open_jwts(settings(jwt_secret=str(file))) is not None
    file.write_bytes(b"s" * 31 + b"\n")
    with pytest.raises(ValueError, match=r"jwt_secret: .*31 bytes") as caught:
        open_jwts(settings(jwt_secret=str(file)))
    assert "sss" not in str(caught.value)
    file.write_bytes(b"s" * 16_385)
    with pytest.raises(ValueError, match=r"jwt_secret: .*16384"):
        open_jwts(settings(jwt_secret=str(file)))
    with pytest.raises(FileNotFoundError):
        open_jwts(settings(jwt_secret=str(tmp_path / "missing")))


def test_a_secret_that_ends_in_a_carriage_return_keeps_it() -> None:
    key = secret_key(b"s" * 31 + b"\r")
    assert knowing(key).principal(token(key=b"s" * 31 + b"\r")) is not None


def test_a_public_key_is_no_secret() -> None:
    with pytest.raises(ValueError, match="jwt_public_key"):
        secret_key(public_pem(private_key("RS256")))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_a_pem_file(tmp_path: Path, algorithm: str) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(public_pem(private_key(algorithm)))
    jwts = open_jwts(settings(jwt_public_key=str(file)), clock=Clock())
    assert jwts is not None
    assert jwts.principal(token(algorithm=algorithm)) is not None


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_private_key_is_refused_and_not_shown(tmp_path: Path, algorithm: str) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(private_pem(private_key(algorithm)))
    with pytest.raises(ValueError, match="private key, which stays with the issuer") as caught:
        open_jwts(settings(jwt_public_key=str(file)))
    body = file.read_text().splitlines()[1]
    assert body not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "one public key"),
        (b"ssh-ed25519 AAAA", "one public key"),
        (b"-----BEGIN CERTIFICATE-----\n", "certificate"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
    ],
)
def test_a_pem_that_has_no_public_key_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pem_key(text)


def test_keys_that_are_weak_or_for_something_else_are_refused() -> None:
    pem = public_pem(private_key("ES256"))
    with pytest.raises(ValueError, match="one public key"):
        pem_key(pem + pem)
    with pytest.raises(ValueError, match="1024 bits"):
        pem_key(public_pem(private_key("RS256", bits=1024)))
    with pytest.raises(ValueError, match="takes a key"):
        pem_key(public_pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(ValueError, match="takes a key"):
        pem_key(public_pem(x25519.X25519PrivateKey.generate()))
    numbers = private_key("RS256").public_key().public_numbers()
    slow = rsa.RSAPublicNumbers((1 << 40) + 1, numbers.n).public_key()
    with pytest.raises(ValueError, match="exponent"):
        pem_key(slow.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    huge = rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key()
    with pytest.raises(ValueError, match="8193 bits"):
        pem_key(huge.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_without_an_audience_there_are_no_jwts() -> None:
    with pytest.raises(ValueError, match="audience"):
        knowing(audience="")


def test_the_settings_reach_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    given = settings(jwt_secret=str(file), jwt_issuer=ISSUER, jwt_claim="may", jwt_leeway_s=0.0)
    jwts = open_jwts(given, clock=Clock())
    assert jwts is not None
    assert jwts.principal(token(claims(may=GRANTS, exp=NOW_S + 1))) is not None
    assert "expired" in refused(token(claims(may=GRANTS, exp=NOW_S)), jwts)
    assert "jwt_issuer" in refused(token(claims(may=GRANTS, iss="x")), jwts)
    assert "jwt_audience" in refused(token(claims(may=GRANTS, aud="x")), jwts)
    assert "'may'" in refused(token(), jwts)
    url = dataclasses.replace(given, jwt_secret="", jwt_jwks="https://issuer.example/jwks.json")
    from_url = open_jwts(url)
    assert from_url is not None
    assert from_url.problem is not None


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_extra_a_start_names_it(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from durable_streams.access.jwts import open_jwts\n"
        "from durable_streams.settings import AccessSettings\n"
        "assert open_jwts(AccessSettings()) is None\n"
        "try:\n"
        f"    open_jwts(AccessSettings(jwt_secret={str(file)!r}, jwt_audience='a'))\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'durable-streams-server[jwt]'" in ran.stdout


@pytest.mark.parametrize("more", [{"use": "sig"}, {"key_ops": ["verify"]}, {"alg": "ES256"}, {}])
def test_a_key_may_say_what_it_is_for(more: dict[str, Any]) -> None:
    found = {name: value for name, value in jwk("ES256", "a").items() if name not in ("use", "alg")}
    assert jwk_key({**found, **more}).kid == "a"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({**jwk("ES256", "a"), "use": "enc"}, "not for signatures"),
        ({**jwk("ES256", "a"), "use": None}, "not for signatures"),
        ({**jwk("ES256", "a"), "key_ops": ["encrypt"]}, "not for checking"),
        ({**jwk("ES256", "a"), "key_ops": "verify"}, "not for checking"),
        ({**jwk("ES256", "a"), "d": "AAAA"}, "private parts"),
        ({**jwk("ES256", "a"), "alg": "RS256"}, "alg is not ES256"),
        ({**jwk("ES256", "a"), "alg": None}, "alg is not ES256"),
        ({**jwk("RS256", "a"), "alg": "HS256"}, "alg is not RS256"),
        ({**jwk("RS256", "a"), "alg": "PS256"}, "alg is not RS256"),
        ({**jwk("RS256", "a"), "kty": "EC"}, "no public key"),
        ({**jwk("RS256", "a"), "n": 5}, "no public key"),
        ({**jwk("RS256", "a"), "n": "AQAB"}, "no public key|bits"),
        ({**jwk("RS256", "a"), "e": "AA"}, "no public key"),
        ({**jwk("ES256", "a"), "crv": "P-384"}, "no public key"),
        ({**jwk("ES256", "a"), "crv": "secp256k1"}, "no public key|takes a key"),
        ({**jwk("ES256", "a"), "x": "AAAA"}, "no public key"),
        ({**jwk("ES256", "a"), "x": jwk("ES256", "a")["y"]}, "no public key"),  # not on the curve
        ({**jwk("EdDSA", "a"), "crv": "X25519"}, "no public key|takes a key"),
        ({**jwk("EdDSA", "a"), "crv": "Ed448"}, "no public key|takes a key"),
        ({**jwk("EdDSA", "a"), "x": []}, "no public key"),
        ({**jwk("EdDSA", "a"), "kid": 1}, "kid"),
        ({**jwk("EdDSA", "a"), "kid": ""}, "kid"),
        ({**jwk("EdDSA", "a"), "kid": "x" * 257}, "kid"),
        ({"kty": "oct", "k": text64(b"s" * 32), "kid": "a"}, "private parts"),
        ({"kty": "oct", "kid": "a"}, "kty"),
        ({"kty": ["RSA"]}, "kty"),
        ({}, "kty"),
        ([], "no object"),
        ("RSA", "no object"),
        (None, "no object"),
    ],
)
def test_a_key_that_is_not_for_jwts_is_none(found: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        jwk_key(found)


def test_a_weak_rsa_key_of_a_set_is_none() -> None:
    with pytest.raises(ValueError, match="1024 bits"):
        jwk_key(jwk("RS256", "a", private_key("RS256", bits=1024)))
