"""Every way to get around the signature of a JWT, or around what its texts mean."""

from __future__ import annotations

import json

import jwt
import pytest

from durable_streams.access.jwt_keys import Key, KeySet, pem_key
from durable_streams.access.jwts import (
    Jwts,
    StaticKeys,
)
from durable_streams.model.errors import Unauthenticated
from tests.access.issuer import (
    AUDIENCE,
    GOOD_HEADER,
    ISSUER,
    ChangingKeys,
    Clock,
    claims,
    counted,
    crafted,
    knowing,
    private_key,
    public_pem,
    refused,
    text64,
    token,
)

# --------------------------------------------------------------------------- keys and algorithms


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret_to_sign_with(algorithm: str) -> None:
    pem = public_pem(private_key(algorithm))
    jwts = knowing(pem_key(pem))
    for secret in (pem, pem.strip(), pem.replace(b"\n", b"")):
        signed = (
            f"{text64(json.dumps(GOOD_HEADER).encode())}.{text64(json.dumps(claims()).encode())}"
        )
        hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        forged = f"{signed}.{text64(hmac.sign(signed.encode(), secret))}"
        assert "alg that is not that of its key" in refused(forged, jwts)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS512", "RS256", "hs256"])
def test_an_algorithm_that_is_not_the_key_s_is_refused(name: str) -> None:
    assert "alg" in refused(crafted({"alg": name}, claims()))


@pytest.mark.parametrize("name", [None, 1, ["HS256"], {"HS256": 1}, True])
def test_an_algorithm_that_is_no_text_is_refused(name: object) -> None:
    assert "has no alg" in refused(crafted({"alg": name}, claims()))
    assert "has no alg" in refused(crafted({}, claims()))


def test_an_unsigned_token_is_refused() -> None:
    unsigned = jwt.encode(claims(), "", algorithm="none")
    assert unsigned.endswith(".")
    assert "alg" in refused(unsigned)
    assert "signed" in refused(token().rpartition(".")[0] + ".")


@pytest.mark.parametrize("size_bytes", [0, 1, 63, 65, 4096])
def test_a_signature_of_another_length_is_not_looked_into(size_bytes: int) -> None:
    times = [0]
    key = pem_key(public_pem(private_key("ES256")))
    looking = Key(key.id, key.algorithm, counted(key, times)._verify, signature_bytes=64)
    bearer = token(algorithm="ES256").rpartition(".")[0] + "." + text64(b"s" * size_bytes)
    assert "not signed" in refused(bearer, knowing(looking))
    assert times == [0]


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c", "crit"])
def test_a_header_that_brings_a_key_or_asks_for_more_is_refused(name: str) -> None:
    values: list[object] = ["https://evil.example/", [], None, {"kty": "oct", "k": "YQ"}]
    for value in values:
        assert f"has {name} in its header" in refused(
            crafted({**GOOD_HEADER, name: value}, claims())
        )


def named_keys() -> tuple[Jwts, ChangingKeys]:
    one = counted(pem_key(public_pem(private_key("ES256"))), [0], kid="one")
    two = counted(pem_key(public_pem(private_key("EdDSA"))), [0], kid="two")
    source = ChangingKeys(KeySet([one, two], is_named=True))
    return Jwts(source, audience=AUDIENCE, issuer=ISSUER, clock=Clock()), source


def test_of_several_keys_the_kid_says_which() -> None:
    jwts, source = named_keys()
    assert jwts.principal(token(algorithm="ES256", kid="one")) is not None
    assert jwts.principal(token(algorithm="EdDSA", kid="two")) is not None
    assert source.misses == 0
    assert "alg that is not that of its key" in refused(token(algorithm="ES256", kid="two"), jwts)
    assert "no kid" in refused(token(algorithm="ES256"), jwts)


@pytest.mark.parametrize(
    "kid",
    [
        "../../../dev/null",
        "' OR '1'='1",
        "one\x00",
        "ONE",
        "",
        "x" * 5000,
        "https://evil.example/k",
    ],
)
def test_a_kid_is_compared_and_nothing_else(kid: str) -> None:
    jwts, source = named_keys()
    reason = refused(token(algorithm="ES256", kid=kid), jwts)
    assert "kid" in reason
    assert not kid or kid not in reason
    assert source.misses == 1


@pytest.mark.parametrize("kid", [None, 1, ["one"], {"one": 1}, True])
def test_a_kid_that_is_no_text_is_refused(kid: object) -> None:
    jwts, source = named_keys()
    assert "kid that is no text" in refused(crafted({"alg": "ES256", "kid": kid}, claims()), jwts)
    assert source.misses == 0


def test_only_what_looks_like_the_issuer_s_has_keys_fetched() -> None:
    jwts, source = named_keys()
    for header in ({"alg": "none", "kid": "x"}, {"alg": "HS256", "kid": "x"}, {"kid": "x"}):
        refused(crafted(header, claims()), jwts)
    unsigned = token(algorithm="ES256", kid="x").rpartition(".")[0] + "."
    refused(unsigned, jwts)
    refused(token(algorithm="ES256"), jwts)
    assert source.misses == 0


def test_the_one_key_of_a_set_needs_no_kid_and_takes_its_own_only() -> None:
    one = counted(pem_key(public_pem(private_key("ES256"))), [0], kid="one")
    jwts = Jwts(StaticKeys(KeySet([one], is_named=True)), audience=AUDIENCE, clock=Clock())
    assert jwts.principal(token(algorithm="ES256")) is not None
    assert "kid" in refused(token(algorithm="ES256", kid="two"), jwts)


# ------------------------------------------------------------------- texts that are made to confuse


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"alg":"none","alg":"HS256"}', "twice"),
        (b'{"alg":"HS256","x":{"a":1,"a":1}}', "twice"),
        (b'{"alg":"HS256","x":' + b"[" * 1000 + b"]" * 1000 + b"}", "deeper"),
        (b'{"alg":"HS256","x":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}", "deeper"),
        (b'{"alg":"HS256","x":"\xff"}', "no JSON"),
        (b'\xef\xbb\xbf{"alg":"HS256"}', "no JSON"),
        ('{"alg":"HS256"}'.encode("utf-16"), "no JSON"),
        (b'{"alg":"HS256"', "no JSON"),
        (b'{"alg":"HS256"} x', "no JSON"),
        (b'{"alg":NaN}', "JSON has not"),
        (b'"HS256"', "no JSON object"),
        (b'[{"alg":"HS256"}]', "no JSON object"),
        (b"[" * 3000, "deeper"),
    ],
)
def test_a_header_that_may_mean_two_things_is_refused(text: bytes, why: str) -> None:
    assert why in refused(crafted(text, claims()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"sub":"alice","sub":"bob"}', "twice"),
        (b'{"sub":{"a":1,"\\u0061":2}}', "twice"),
        (b'{"sub":' + b"[" * 1000 + b"]" * 1000 + b"}", "deeper"),
        (b'{"sub":"\xc3"}', "no JSON"),
        (b'{"exp":' + b"9" * 4500 + b',"a":1,}', "no JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"x", "no JSON"),
    ],
)
def test_claims_that_may_mean_two_things_are_refused(text: bytes, why: str) -> None:
    assert why in refused(crafted(GOOD_HEADER, text))


def test_each_character_of_a_token_counts() -> None:
    whole = token()
    for at, character in enumerate(whole):
        if character == ".":
            continue
        changed = whole[:at] + ("A" if character != "A" else "B") + whole[at + 1 :]
        try:
            assert knowing().principal(changed) is None
        except Unauthenticated:
            continue
