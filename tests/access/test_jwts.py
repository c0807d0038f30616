"""JWTs as credentials: whom they admit, and every way to get around that."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from durable_streams.access.door import INVALID, Credentials, Door
from durable_streams.access.grants import Grant, Scope
from durable_streams.access.jwt_keys import Key, KeySet, pem_key, secret_key
from durable_streams.access.jwts import (
    MAX_GRANTS,
    MAX_TOKEN_CHARACTERS,
    Jwts,
    StaticKeys,
    open_jwts,
)
from durable_streams.access.principals import Principal
from durable_streams.model.errors import Unauthenticated, Unavailable
from durable_streams.settings import AccessSettings
from tests.access.issuer import (
    AUDIENCE,
    GRANTS,
    ISSUER,
    NOW_S,
    SECRET,
    Clock,
    claims,
    crafted,
    private_key,
    private_pem,
    public_pem,
    text64,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD_HEADER = {"alg": "HS256", "typ": "JWT"}


class ChangingKeys(StaticKeys):
    """Keys that a test changes; counts what is asked for."""

    def __init__(self, keys: KeySet | None) -> None:
        self.problem = None
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


# ------------------------------------------------------------------------------- who is admitted


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
def test_a_token_of_each_algorithm_is_admitted(algorithm: str) -> None:
    private = private_key(algorithm)
    key = secret_key(SECRET) if algorithm == "HS256" else pem_key(public_pem(private))
    jwts = knowing(key)
    principal = Principal(
        "jwt:alice", (Grant.on_prefix("chat", ["read", "append"]),), NOW_S + 630, key.id
    )
    assert jwts.principal(token(algorithm=algorithm)) == principal
    assert jwts.principal(token(algorithm=algorithm)) == principal
    assert jwts.as_now(principal) == principal


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_another_key_of_the_same_kind_is_refused(algorithm: str) -> None:
    jwts = knowing(pem_key(public_pem(private_key(algorithm))))
    other = private_key(algorithm, 1)
    assert "not signed by its key" in refused(token(algorithm=algorithm, key=other), jwts)


def test_any_kid_does_for_a_key_that_has_no_name() -> None:
    assert knowing().principal(token(kid="whatever")) is not None


def test_typ_and_what_else_is_in_a_header_is_ignored() -> None:
    header = {"alg": "HS256", "typ": "at+jwt", "x5t": "abc", "more": [1, 2]}
    assert knowing().principal(crafted(header, claims())) is not None


@pytest.mark.parametrize(
    ("kind", "make"),
    [("path", Grant.on_path), ("prefix", Grant.on_prefix), ("glob", Grant.on_glob)],
)
def test_the_claim_has_grants_of_each_kind(kind: str, make: Callable[..., Grant]) -> None:
    granted = [{"scopes": ["read", "admin"], kind: "a/b"}]
    principal = knowing().principal(token(claims(durable_streams=granted)))
    assert principal is not None
    assert principal.grants == (make("a/b", [Scope.READ, Scope.ADMIN]),)


def test_the_claim_may_have_another_name() -> None:
    name = "https://streams.example/grants"
    jwts = knowing(claim=name)
    assert jwts.principal(token(claims(**{name: GRANTS}))) is not None
    assert name in refused(token(), jwts)


def test_without_an_issuer_to_compare_with_any_will_do() -> None:
    jwts = knowing(issuer="")
    assert jwts.principal(token(claims(iss=None))) is not None
    assert jwts.principal(crafted(GOOD_HEADER, claims(iss=17))) is not None


@pytest.mark.parametrize(
    "bearer",
    [
        "",
        "dst_web_abcdef",
        "a.b",
        "a.b.c.d",
        "..",
        "YWJj..YWJj",
        ".YWJj.YWJj",
        "YW+j.YWJj.YWJj",
        "YW/j.YWJj.YWJj",
        "YWI=.YWJj.YWJj",
        "Y.YWJj.YWJj",  # no number of bytes
        "YWJ.YWJj.YWJj",  # bits are left over
        "YWJj.YWJj.YW Jj",
        "YWJj.YWJj.YWJ\n",
        "YWJj.YWJj.YWJ\u0661",
        "YWJj.YWJj.YWJ\udc80",
    ],
)
def test_what_is_no_jwt_is_left_to_others(bearer: str) -> None:
    assert knowing().principal(bearer) is None


def test_a_token_is_bounded_before_it_is_looked_at() -> None:
    longest = token(claims(x="x" * 5_000))
    more = (MAX_TOKEN_CHARACTERS - len(longest)) * 3 // 4
    longest = token(claims(x="x" * (5_000 + more)))
    assert MAX_TOKEN_CHARACTERS - 4 < len(longest) <= MAX_TOKEN_CHARACTERS
    assert knowing().principal(longest) is not None
    assert "characters" in refused("a" * (MAX_TOKEN_CHARACTERS + 1))


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


@pytest.mark.parametrize("kid", [1, ["one"], {"one": 1}, True])
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
    assert source.misses == 0


def test_the_one_key_of_a_set_needs_no_kid_and_takes_its_own_only() -> None:
    one = counted(pem_key(public_pem(private_key("ES256"))), [0], kid="one")
    jwts = Jwts(StaticKeys(KeySet([one], is_named=True)), audience=AUDIENCE, clock=Clock())
    assert jwts.principal(token(algorithm="ES256")) is not None
    assert "kid" in refused(token(algorithm="ES256", kid="two"), jwts)


# ---------------------------------------------------------------------------------------- claims


@pytest.mark.parametrize(
    "written",
    [
        '"1800000600"',
        "1" + 18 * "0",
        "9" * 4500,
        "-1",
        "true",
        "[1]",
        "1e999",
        "253402300800",
        "{}",
    ],
)
def test_a_time_that_is_none_is_refused(written: str) -> None:
    payload = json.dumps(claims(exp=0)).replace('"exp": 0', f'"exp": {written}')
    assert "exp that is no time" in refused(crafted(GOOD_HEADER, payload.encode()))


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_of_json_is_refused(written: str) -> None:
    payload = json.dumps(claims(exp=0)).replace('"exp": 0', f'"exp": {written}')
    assert "a number that JSON has not" in refused(crafted(GOOD_HEADER, payload.encode()))


def test_a_token_without_an_end_is_refused() -> None:
    assert "has no exp" in refused(token(claims(exp=None)))
    assert "exp" in refused(crafted(GOOD_HEADER, {**claims(), "exp": None}))


def test_a_token_is_good_until_its_end_and_the_leeway_are_over() -> None:
    clock = Clock()
    jwts = knowing(clock=clock)
    payload = claims(exp=NOW_S + 0.5)
    clock.now_s = NOW_S + 30.25
    principal = jwts.principal(token(payload))
    assert principal is not None
    assert principal.expires_at_s == NOW_S + 30.5
    clock.now_s = NOW_S + 30.5
    assert "expired" in refused(token(payload), jwts)  # what is remembered too
    assert "expired" in refused(token(payload), knowing(clock=clock))
    assert jwts.as_now(principal) is None


@pytest.mark.parametrize(("name", "why"), [("nbf", "not good yet"), ("iat", "in the future")])
def test_a_token_of_the_future_is_refused_beyond_the_leeway(name: str, why: str) -> None:
    assert knowing().principal(token(claims(**{name: NOW_S + 30}))) is not None
    assert why in refused(token(claims(**{name: NOW_S + 30.5})))
    assert "no time" in refused(crafted(GOOD_HEADER, claims(**{name: "soon"})))
    assert "no time" in refused(crafted(GOOD_HEADER, {**claims(), name: None}))


def test_the_audience_is_one_or_in_a_list() -> None:
    assert knowing().principal(token(claims(aud=["other", AUDIENCE]))) is not None


@pytest.mark.parametrize(
    "aud",
    [
        None,
        "",
        "other",
        AUDIENCE + "/",
        [],
        ["other"],
        [AUDIENCE, 1],
        [[AUDIENCE]],
        {AUDIENCE: 1},
        1,
    ],
)
def test_a_token_for_others_is_refused(aud: Any) -> None:
    assert "jwt_audience" in refused(crafted(GOOD_HEADER, claims(aud=aud)))


@pytest.mark.parametrize("iss", [None, "", "https://issuer.example", [ISSUER], 1])
def test_a_token_of_another_issuer_is_refused(iss: Any) -> None:
    assert "jwt_issuer" in refused(crafted(GOOD_HEADER, claims(iss=iss)))


def test_a_subject_is_a_short_printable_text() -> None:
    assert knowing().principal(token(claims(sub="ü" * 256))) is not None


@pytest.mark.parametrize("sub", [None, "", "x" * 257, "a\nb", "a\x7f", "\ud800", 1, ["alice"]])
def test_a_subject_that_is_none_is_refused(sub: Any) -> None:
    assert "needs a sub" in refused(crafted(GOOD_HEADER, claims(sub=sub)))


@pytest.mark.parametrize(
    "granted",
    [
        None,
        {},
        "read",
        [1],
        [[]],
        [{}],
        [{"scopes": ["read"]}],
        [{"prefix": "a"}],
        [{"scopes": [], "prefix": "a"}],
        [{"scopes": "read", "prefix": "a"}],
        [{"scopes": ["READ"], "prefix": "a"}],
        [{"scopes": ["read", "root-of-all"], "prefix": "a"}],
        [{"scopes": [1], "prefix": "a"}],
        [{"scopes": [["read"]], "prefix": "a"}],
        [{"scopes": ["read"], "prefix": "a", "path": "a"}],
        [{"scopes": ["read"], "prefix": "a", "until": 1}],
        [{"scopes": ["read"], "regex": "secret-path"}],
        [{"scopes": ["read"], "prefix": None}],
        [{"scopes": ["read"], "prefix": ["a"]}],
        [{"scopes": ["read"], "path": ""}],
        [{"scopes": ["read"], "path": "secret-path/../b"}],
        [{"scopes": ["read"], "glob": "secret-path\ud800"}],
        [GRANTS[0], {"scopes": ["read"], "prefix": "a", "until": 1}],
    ],
)
def test_grants_that_are_not_exactly_that_are_refused(granted: Any) -> None:
    reason = refused(crafted(GOOD_HEADER, claims(durable_streams=granted)))
    assert "'durable_streams'" in reason
    assert "secret-path" not in reason
    assert "root-of-all" not in reason


def test_grants_are_at_most_so_many() -> None:
    one = {"scopes": ["read"], "path": "a"}
    principal = knowing().principal(token(claims(durable_streams=[one] * MAX_GRANTS)))
    assert principal is not None
    assert len(principal.grants) == MAX_GRANTS
    assert "more than 64" in refused(token(claims(durable_streams=[one] * (MAX_GRANTS + 1))))


def test_who_has_no_grants_is_known_and_may_nothing() -> None:
    principal = knowing().principal(token(claims(durable_streams=[])))
    assert principal is not None
    assert principal.grants == ()


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


# ----------------------------------------------------------------------------- what is remembered


def test_a_token_is_verified_once_and_a_bad_one_each_time() -> None:
    times = [0]
    jwts = knowing(counted(secret_key(SECRET), times))
    for _ in range(3):
        assert jwts.principal(token()) is not None
    assert times == [1]
    bad = token(key=b"x" * 32)
    for _ in range(3):
        refused(bad, jwts)
    assert times == [4]
    assert len(jwts._remembered) == 1
    assert not any(part.encode() in repr(vars(jwts)).encode() for part in token().split("."))


def test_those_used_last_are_remembered_and_no_more_than_there_is_room_for() -> None:
    times = [0]
    jwts = knowing(counted(secret_key(SECRET), times), max_remembered=2)
    one, two, three = (token(claims(sub=name)) for name in ("one", "two", "three"))
    for bearer in (one, two, one, three, one):
        jwts.principal(bearer)
    assert times == [3]
    jwts.principal(two)
    assert times == [4]
    assert len(jwts._remembered) == 2


def test_what_is_remembered_ends_with_its_key() -> None:
    kept = counted(pem_key(public_pem(private_key("ES256"))), [0], kid="one")
    times = [0]
    gone = counted(pem_key(public_pem(private_key("EdDSA"))), times, kid="two")
    source = ChangingKeys(KeySet([kept, gone], is_named=True))
    jwts = Jwts(source, audience=AUDIENCE, issuer=ISSUER, clock=Clock())
    one, two = token(algorithm="ES256", kid="one"), token(algorithm="EdDSA", kid="two")
    principals = [jwts.principal(one), jwts.principal(two)]

    # Another key that has taken the name of the one that is gone is another key all the same.
    other = counted(pem_key(public_pem(private_key("EdDSA", 1))), [0], kid="two")
    source.now = KeySet([kept, other], is_named=True)
    assert jwts.principal(one) == principals[0]
    assert "not signed" in refused(two, jwts)
    assert [who and jwts.as_now(who) for who in principals] == [principals[0], None]

    source.now = None
    for bearer in (one, two):
        with pytest.raises(Unavailable):
            jwts.principal(bearer)
    assert principals[0] is not None
    assert jwts.as_now(principals[0]) is None


def test_the_door_admits_them_and_ends_with_them() -> None:
    clock = Clock()
    door = Door([knowing(clock=clock)], clock=clock)
    principal = door.identify(Credentials(f"Bearer {token()}"), ("chat", "1"))
    assert principal.name == "jwt:alice"
    assert door.may_read(principal, ("chat", "1"))
    assert not door.may_read(principal, ("chats",))
    clock.now_s += 630
    assert not door.may_read(principal, ("chat", "1"))


# ------------------------------------------------------------------------------------- the settings


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
    from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

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
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    with pytest.raises(ValueError, match="exponent"):
        pem_key(slow.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    huge = rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key()
    with pytest.raises(ValueError, match="8193 bits"):
        pem_key(huge.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


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


def test_nothing_of_a_secret_or_a_token_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = secret_key(SECRET)
    jwts = knowing(key)
    principal = jwts.principal(token())
    refused(token(key=b"x" * 32), jwts)
    shown = f"{key!r} {vars(jwts)!r} {principal!r} {caplog.text} {jwts!r}"
    assert SECRET.decode() not in shown
    assert repr(SECRET) not in shown
    for part in token().split("."):
        assert part not in shown
