"""JWTs as credentials: whom they admit, for how long, and what is remembered of them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.access.door import Credentials, Door
from durable_streams.access.grants import Grant, Scope
from durable_streams.access.jwt_keys import KeySet, pem_key, secret_key
from durable_streams.access.jwts import (
    MAX_GRANTS,
    MAX_TOKEN_CHARACTERS,
    Jwts,
)
from durable_streams.access.principals import Principal
from durable_streams.model.errors import Unavailable
from tests.access.issuer import (
    AUDIENCE,
    GOOD_HEADER,
    GRANTS,
    ISSUER,
    NOW_S,
    SECRET,
    ChangingKeys,
    Clock,
    claims,
    counted,
    crafted,
    knowing,
    private_key,
    public_pem,
    refused,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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
        [{"scopes": {"read": 1}, "prefix": "a"}],
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
