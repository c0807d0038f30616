"""Key sets from a URL: what is believed of a server that is slow, gone, or not to be trusted."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from durable_streams.access.jwks import MAX_KEYS, MAX_SET_BYTES, RETRY_AFTER_S, Jwks
from durable_streams.access.jwt_keys import jwk_key
from durable_streams.access.jwts import Jwts
from durable_streams.model.errors import Unauthenticated, Unavailable
from tests.access.issuer import (
    AUDIENCE,
    ISSUER,
    Clock,
    jwk,
    key_server,
    private_key,
    public_pem,
    text64,
    token,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.access.issuer import KeyServer

ALGORITHMS = ["RS256", "ES256", "EdDSA"]


class Changes:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def jwts_of(source: Jwks) -> Jwts:
    return Jwts(source, audience=AUDIENCE, issuer=ISSUER, clock=Clock())


def source_of(server: KeyServer, **more: Any) -> Jwks:
    return Jwks(server.url, **{"clock": Clock(), **more})


async def refresh(source: Jwks) -> int:
    """Fetch once; how often it was told that keys are gone."""
    changes = Changes()
    await source._refresh(changes)
    return changes.times


def answering(
    body: bytes, status: int = 200, **headers: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=named)

    return answer


# -------------------------------------------------------------------------------- keys of a key set


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_a_key_of_the_set_is_admitted(algorithm: str) -> None:
    async with key_server(*(jwk(name, f"key-{name}") for name in ALGORITHMS)) as server:
        source = source_of(server)
        await refresh(source)
        assert source.failure is None
        jwts = jwts_of(source)
        principal = jwts.principal(token(algorithm=algorithm, kid=f"key-{algorithm}"))
        assert principal is not None
        assert principal.vouched_by == jwk_key(jwk(algorithm, None)).id
        with pytest.raises(Unauthenticated):
            jwts.principal(token(algorithm=algorithm))
        other = next(name for name in ALGORITHMS if name != algorithm)
        with pytest.raises(Unauthenticated):
            jwts.principal(token(algorithm=algorithm, kid=f"key-{other}"))


async def test_keys_that_do_not_do_are_passed_over_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    oct_key = {"kty": "oct", "k": text64(public_pem(private_key("RS256"))), "kid": "oct"}
    secret = jwk("EdDSA", "private", d="c2VjcmV0LXBhcnQ")
    again = jwk("RS256", "good")
    async with key_server(oct_key, secret, jwk("ES256", "good"), again, {"kty": "?"}) as server:
        source = source_of(server)
        await refresh(source)
        await refresh(source)
        assert source.failure is None
        lines = [record.getMessage() for record in caplog.records if "passed over" in record.msg]
        assert [line.split(": ", 1)[1].split(":")[0] for line in lines] == [
            "key 1",
            "key 2",
            "key 4",
            "key 5",
        ]
        assert "c2VjcmV0" not in caplog.text
        jwts = jwts_of(source)
        assert jwts.principal(token(algorithm="ES256", kid="good")) is not None
        assert jwts.principal(token(algorithm="ES256")) is not None  # the only one
        with pytest.raises(Unauthenticated):
            jwts.principal(token(algorithm="RS256", kid="good"))


# ---------------------------------------------------------------------------- what servers may send


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"<html>", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no list"),
        (b'{"keys":{}}', "no list"),
        (b'{"keys":[],"keys":[]}', "twice"),
        (b'{"keys":' + b"[" * 100_000, "deeper"),
        (json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(), "more than 64 keys"),
        (b" " * (MAX_SET_BYTES + 1), "more than 262144 bytes"),
    ],
)
async def test_what_is_no_key_set_is_a_problem_and_changes_nothing(body: bytes, why: str) -> None:
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server)
        await refresh(source)
        good = source.keys()
        server.answer = answering(body)
        assert await refresh(source) == 0
        assert source.failure is not None
        assert why in source.failure
        assert source.keys() is good


async def test_a_key_set_may_be_as_large_as_it_may(caplog: pytest.LogCaptureFixture) -> None:
    keys = [jwk("ES256", str(number)) for number in range(MAX_KEYS)]
    body = json.dumps({"keys": keys}).encode()
    async with key_server() as server:
        server.answer = answering(body + b" " * (MAX_SET_BYTES - len(body)))
        source = source_of(server)
        await refresh(source)
        assert source.failure is None
        assert source.keys().find("63") is not None


async def test_a_body_that_never_ends_is_cut_off() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b" " * 65_536)
        return response

    async with key_server() as server:
        server.answer = endless
        source = source_of(server)
        await refresh(source)
        assert "more than" in (source.failure or "")


async def test_a_compressed_body_is_not_unpacked() -> None:
    async with key_server() as server:
        server.answer = answering(gzip.compress(b" " * 10_000_000), Content_Encoding="gzip")
        source = source_of(server)
        await refresh(source)
        assert "no JSON" in (source.failure or "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nobody_is_redirected(status: int) -> None:
    async with key_server(jwk("ES256", "a")) as other, key_server() as server:
        server.answer = answering(b"", status, Location=other.url)
        source = source_of(server)
        await refresh(source)
        assert other.times == 0
        assert source.failure is not None
        assert f"{status}, and redirects are not followed" in source.failure
        with pytest.raises(Unavailable):
            source.keys()


@pytest.mark.parametrize("status", [201, 204, 401, 404, 500, 503])
async def test_another_status_is_a_problem(status: int) -> None:
    async with key_server() as server:
        server.answer = answering(b"", status)
        source = source_of(server)
        await refresh(source)
        assert str(status) in (source.failure or "")


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    never = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with key_server() as server:
        server.answer = silent
        source = source_of(server, timeout_s=0.05)
        await refresh(source)
        assert "too long" in (source.failure or "")
        never.set()


async def test_a_server_that_drips_is_given_up_too() -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0)
        return response

    async with key_server() as server:
        server.answer = dripping
        source = source_of(server, timeout_s=0.05)
        await refresh(source)
        assert "too long" in (source.failure or "")


async def test_a_problem_is_logged_when_it_is_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server)
        good = server.answer
        for answer in (
            *[answering(b"", 500)] * 3,
            *[answering(b"", 404)] * 2,
            *[good] * 3,
            *[answering(b"", 404)] * 2,
        ):
            server.answer = answer
            await refresh(source)
    lines = [record.getMessage().rpartition(" ")[2] for record in caplog.records if record.args]
    lines = [line for line in lines if line in ("500", "404")]
    assert lines == ["500", "404", "404"]
    assert caplog.text.count("was fetched") == 1


# ------------------------------------------------------------------------------ keys come and go


async def test_before_the_first_keys_jwts_are_unavailable() -> None:
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server)
        jwts = jwts_of(source)
        with pytest.raises(Unavailable) as caught:
            jwts.principal(token(algorithm="ES256", kid="a"))
        assert caught.value.retry_after_s == RETRY_AFTER_S
        assert jwts.problem == "the key set has not been fetched yet"
        assert jwts.principal("no-jwt") is None


async def test_keys_that_are_gone_end_their_holders_and_that_is_told() -> None:
    old, new = jwk("ES256", "old"), jwk("EdDSA", "new")
    async with key_server(old) as server:
        source = source_of(server)
        jwts = jwts_of(source)
        assert await refresh(source) == 0
        bearer = token(algorithm="ES256", kid="old")
        principal = jwts.principal(bearer)
        assert principal is not None

        server.keys = [old, new]
        assert await refresh(source) == 0
        assert jwts.as_now(principal) == principal

        server.keys = [new]
        assert await refresh(source) == 1
        assert jwts.as_now(principal) is None
        with pytest.raises(Unauthenticated):
            jwts.principal(bearer)

        # Nothing is left: the issuer has withdrawn all, and that counts.
        server.keys = []
        assert await refresh(source) == 1
        assert "no key" in (jwts.problem or "")
        with pytest.raises(Unauthenticated):
            jwts.principal(token(algorithm="EdDSA", kid="new"))


async def test_another_key_by_the_same_name_is_another() -> None:
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server)
        jwts = jwts_of(source)
        await refresh(source)
        bearer = token(algorithm="ES256", kid="a")
        assert jwts.principal(bearer) is not None
        server.keys = [jwk("ES256", "a", private_key("ES256", 1))]
        assert await refresh(source) == 1
        with pytest.raises(Unauthenticated):
            jwts.principal(bearer)


async def test_the_last_keys_are_believed_for_a_day() -> None:
    clock = Clock(0.0)
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server, clock=clock)
        jwts = jwts_of(source)
        await refresh(source)
        bearer = token(algorithm="ES256", kid="a")
        principal = jwts.principal(bearer)
        assert principal is not None
        server.answer = answering(b"", 500)
        clock.now_s = 24 * 3600 - 1
        assert await refresh(source) == 0
        assert jwts.principal(bearer) == principal
        assert source.failure is not None
        assert [jwts.problem] == [None]

        clock.now_s = 24 * 3600
        with pytest.raises(Unavailable):
            jwts.principal(bearer)
        assert jwts.as_now(principal) is None
        assert jwts.problem == source.failure
        assert await refresh(source) == 1  # live reads end, which is told once
        assert await refresh(source) == 0

        server.answer = server._set
        await refresh(source)
        assert jwts.principal(bearer) == principal


async def test_keys_too_old_are_a_problem_though_no_fetch_failed() -> None:
    clock = Clock(0.0)
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server, clock=clock)
        await refresh(source)
        clock.now_s = 24 * 3600
        assert [source.failure] == [None]
        assert "too old" in (source.problem or "")


async def test_keys_are_fetched_again_and_again_while_it_runs() -> None:
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server, interval_s=0.001)
        async with source.running(Changes()):
            await server.asked(3)
            assert source.keys().find("a") is not None
        assert source.failure is None


async def test_what_failed_is_tried_again_later_and_later() -> None:
    async with key_server(jwk("ES256", "a")) as server:
        server.answer = answering(b"", 500)
        source = source_of(server)
        waits = []
        for _ in range(8):
            await refresh(source)
            waits.append(source._wait_s())
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
        server.answer = server._set
        await refresh(source)
        assert source._wait_s() == 600
        server.answer = answering(b"", 500)
        await refresh(source)
        assert source._wait_s() == 1


async def test_a_failure_is_not_waited_for_as_long_as_the_next_time() -> None:
    async with key_server(jwk("ES256", "a")) as server:
        server.answer = answering(b"", 500)
        source = source_of(server, interval_s=3600, first_retry_s=0.001)
        async with source.running(Changes()):
            await server.asked(4)


async def test_a_change_is_told_while_it_runs() -> None:
    told = asyncio.Event()
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server, interval_s=0.001)
        async with source.running(told.set):
            await server.asked(2)
            server.keys = [jwk("ES256", "b", private_key("ES256", 1))]
            await told.wait()
        assert source.keys().find("b") is not None


async def test_an_unknown_kid_has_keys_fetched_once_a_minute() -> None:
    clock = Clock(0.0)
    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server, interval_s=3600, clock=clock)
        jwts = jwts_of(source)
        async with source.running(Changes()):
            await server.asked(1)
            await until(lambda: source.failure is None)
            server.keys = [jwk("ES256", "a"), jwk("EdDSA", "b")]
            bearer = token(algorithm="EdDSA", kid="b")
            with pytest.raises(Unauthenticated):  # at once: nobody waits for the issuer
                jwts.principal(bearer)
            await server.asked(2)
            await until(lambda: source.keys().find("b") is not None)
            assert jwts.principal(bearer) is not None

            clock.now_s = 59.0
            for number in range(1000):
                with pytest.raises(Unauthenticated):
                    jwts.principal(token(algorithm="ES256", kid=f"unknown-{number}"))
            assert not source._asked.is_set()
            clock.now_s = 60.0
            with pytest.raises(Unauthenticated):
                jwts.principal(token(algorithm="ES256", kid="unknown"))
            await server.asked(3)
        assert server.times == 3


async def test_who_fails_to_be_told_is_logged_and_keys_are_followed_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing() -> None:
        raise RuntimeError("a fault")

    async with key_server(jwk("ES256", "a")) as server:
        source = source_of(server, interval_s=0.001)
        async with source.running(failing):
            await server.asked(2)
            server.keys = [jwk("ES256", "b", private_key("ES256", 1))]
            await server.asked(server.times + 4)
        assert source.keys().find("b") is not None
    assert "telling that keys are gone went wrong" in caplog.text


async def test_a_fault_of_ours_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Jwks):
        async def _fetched(self) -> bytes:
            raise AssertionError("a fault")

    source = Faulty("https://issuer.example/")
    await refresh(source)
    assert "AssertionError" in (source.failure or "")
    assert "a fault" in caplog.text
