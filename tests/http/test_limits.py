"""Limits that name somebody: how much one who asks may have, and who that is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.access.principals import ANYBODY, Principal
from durable_streams.http.limits import MAX_PAYERS, Limits, network, payer_of
from durable_streams.library import Streams
from durable_streams.model.errors import TooManyRequests
from durable_streams.settings import HttpSettings, Settings
from tests.http.lanes import TEXT, applied, idle

if TYPE_CHECKING:
    from tests.http.conftest import Serve

POLL: Final = "a?offset=now&live=long-poll"
EVENTS: Final = "a?offset=-1&live=sse"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def refused(limits: Limits, payer: str) -> int:
    """After how many seconds one is told to try again; 0: it was not refused."""
    try:
        limits.take(payer)
    except TooManyRequests as error:
        return error.retry_after_s
    return 0


def test_so_many_requests_may_come_at_once_and_then_at_the_rate() -> None:
    clock = Clock()
    limits = Limits(HttpSettings(requests_per_s=2.0, burst_s=3.0), clock)
    taken = 0
    while not refused(limits, "a"):
        taken += 1
    assert taken == 7  # what three seconds have, and the one that comes first
    assert refused(limits, "a") == 1
    clock.now_s += 0.5
    assert not refused(limits, "a")
    assert refused(limits, "a")
    assert not refused(limits, "b")


def test_a_rate_of_next_to_nothing_refuses_for_a_day() -> None:
    limits = Limits(HttpSettings(requests_per_s=1e-320), Clock())
    assert not refused(limits, "a")
    assert refused(limits, "a") == 86_400


def test_what_is_refused_costs_nothing() -> None:
    clock = Clock()
    limits = Limits(HttpSettings(requests_per_s=1.0, burst_s=0.0), clock)
    assert not refused(limits, "a")
    for _ in range(100):
        assert refused(limits, "a") == 1
    clock.now_s += 1.0
    assert not refused(limits, "a")


def test_bytes_are_paid_for_afterwards() -> None:
    clock = Clock()
    limits = Limits(HttpSettings(bytes_per_s=100.0, burst_s=1.0), clock)
    assert not refused(limits, "a")
    limits.charge("a", 1_000)
    assert refused(limits, "a") == 9
    clock.now_s += 9.0
    assert not refused(limits, "a")


def test_one_may_have_so_many_live_reads_at_a_time() -> None:
    limits = Limits(HttpSettings(max_live_readers=1), Clock())
    with limits.live_read("a"):
        with pytest.raises(TooManyRequests), limits.live_read("a"):
            raise AssertionError
        with limits.live_read("b"):
            pass
    with limits.live_read("a"):
        pass


def test_without_limits_nothing_is_counted() -> None:
    limits = Limits(HttpSettings(), Clock())
    assert not limits.is_on
    with limits.live_read(""), limits.live_read(""):
        assert not limits._accounts


def test_a_rate_that_was_too_low_refuses_nobody_after_it_was_raised() -> None:
    clock = Clock()
    low = HttpSettings(requests_per_s=100.0, bytes_per_s=1.0, max_live_readers=1)
    limits = Limits(low, clock)
    with limits.live_read("a"):
        limits.charge("a", 10_000)
        limits.use(replace(low, burst_s=20.0))
        assert refused(limits, "a") == 10_000 - 20
        limits.use(replace(low, bytes_per_s=2.0))
        assert not refused(limits, "a")
        with pytest.raises(TooManyRequests), limits.live_read("a"):
            raise AssertionError
    with limits.live_read("a"):
        pass


def test_limits_that_are_left_out_refuse_nobody_and_count_those_who_are_there() -> None:
    settings = HttpSettings(max_live_readers=1)
    limits = Limits(settings, Clock())
    with limits.live_read("a"):
        limits.use(HttpSettings())
        assert not limits.is_on
        limits.use(settings)
        with pytest.raises(TooManyRequests), limits.live_read("a"):
            raise AssertionError


def test_of_too_many_the_longest_idle_are_forgotten_but_nobody_who_reads() -> None:
    clock = Clock()
    limits = Limits(HttpSettings(requests_per_s=1.0, burst_s=0.0, max_live_readers=1), clock)
    with limits.live_read("reader"):
        limits.take("first")
        for number in range(MAX_PAYERS):
            limits.take(f"{number}")
        assert len(limits._accounts) == MAX_PAYERS
        assert not refused(limits, "first")
        with pytest.raises(TooManyRequests), limits.live_read("reader"):
            raise AssertionError


@pytest.mark.parametrize(
    ("principal", "payer"),
    [
        (ANYBODY, "192.0.2.1"),
        (Principal("signed:web", ()), "192.0.2.1"),
        (Principal("token:web", ()), "token:web"),
        (Principal("alice", ()), "alice"),
    ],
)
def test_who_is_known_pays_by_name_and_all_others_by_address(
    principal: Principal, payer: str
) -> None:
    assert payer_of(principal, "192.0.2.1") == payer


def test_a_customer_of_ipv6_has_one_network() -> None:
    assert network("2001:db8:1:2:3::4") == network("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::4") != network("2001:db8:1:2::4")
    assert network("unix") == "unix"


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "aiohttp"])
async def test_what_is_beyond_a_rate_is_answered_429(serve: Serve, *, fast_lane: bool) -> None:
    settings = HttpSettings(requests_per_s=0.001, burst_s=2_000.0, fast_lane=fast_lane)
    server = await serve(settings)
    client = await server.connect()
    assert (await client.request("PUT", "a", b"x", TEXT)).status == 201
    for _ in range(2):
        assert (await client.request("POST", "a", b"x", TEXT)).status == 204
    for method, body in (("POST", b"x"), ("GET", None), ("PUT", b"x"), ("HEAD", None)):
        answer = await client.request(method, "a", body, TEXT)
        assert answer.status == 429
        assert 900 < int(answer.headers["retry-after"]) <= 1000
    assert (await client.request("OPTIONS", "a")).status == 204
    assert (await client.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "aiohttp"])
async def test_each_request_counts_once_whichever_way_it_is_answered(
    serve: Serve, *, fast_lane: bool
) -> None:
    settings = HttpSettings(requests_per_s=0.001, burst_s=5_000.0, fast_lane=fast_lane)
    server = await serve(settings)
    client = await server.connect()
    assert (await client.request("PUT", "a", b"x" * 200_000, TEXT)).status == 201
    await idle(client)
    for _ in range(5):  # too large for memory alone: the lane begins them, and aiohttp ends them
        assert len((await client.request("GET", "a")).body) == 200_000
    assert (await client.request("GET", "a")).status == 429


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "aiohttp"])
async def test_bytes_that_were_sent_and_received_count(serve: Serve, *, fast_lane: bool) -> None:
    settings = HttpSettings(bytes_per_s=1.0, burst_s=100.0, fast_lane=fast_lane)
    server = await serve(settings)
    client = await server.connect()
    assert (await client.request("PUT", "a", b"x" * 60, TEXT)).status == 201
    assert (await client.request("GET", "a")).status == 200
    assert (await client.request("GET", "a")).status == 429


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "aiohttp"])
@pytest.mark.parametrize("target", ["a?offset=-1", "a?offset=-1&live=long-poll", EVENTS])
async def test_bytes_of_files_count_once_whoever_sends_them(
    serve: Serve, target: str, *, fast_lane: bool
) -> None:
    settings = HttpSettings(bytes_per_s=1.0, burst_s=250_000.0, fast_lane=fast_lane)
    server = await serve(settings)
    await Streams(server.engine).create(
        "a", content_type="text/plain", data=b"x" * 200_000, closed=True
    )
    await applied(server, "a")
    client, other = await server.connect(), await server.connect()
    await idle(client)
    client.ask("GET", target)
    if target == EVENTS:
        await client.head()
        await client.events_until(b"streamClosed")
    else:
        assert len((await client.answer()).body) == 200_000
    assert (await other.request("HEAD", "a")).status == 200
    assert (await other.request("GET", "a")).status == 200
    assert (await other.request("HEAD", "a")).status == 429


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "aiohttp"])
async def test_what_a_client_has_already_is_not_sent_and_does_not_count(
    serve: Serve, *, fast_lane: bool
) -> None:
    server = await serve(HttpSettings(bytes_per_s=1.0, burst_s=100.0, fast_lane=fast_lane))
    await Streams(server.engine).create("a", content_type="text/plain", data=b"x" * 60)
    client = await server.connect()
    await idle(client)
    tag = (await client.request("GET", "a")).headers["etag"]
    for _ in range(3):
        assert (await client.request("GET", "a", None, {"If-None-Match": tag})).status == 304


async def test_bytes_of_a_body_that_was_refused_count(serve: Serve) -> None:
    server = await serve(
        HttpSettings(bytes_per_s=1.0, burst_s=100.0), Settings(max_append_bytes=1000)
    )
    await Streams(server.engine).create("a", content_type="text/plain")
    client, other = await server.connect(), await server.connect()
    client.ask("POST", "a", None, {**TEXT, "Transfer-Encoding": "chunked"})
    client.send(b"7d0\r\n%b\r\n0\r\n\r\n" % (b"x" * 2000))
    assert (await client.answer()).status == 413
    assert (await other.request("HEAD", "a")).status == 429


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "aiohttp"])
async def test_live_reads_count_while_they_last(serve: Serve, *, fast_lane: bool) -> None:
    server = await serve(HttpSettings(max_live_readers=1, fast_lane=fast_lane))
    await server.create("a", "text/plain", b"x")
    polling, other = await server.connect(), await server.connect()
    await idle(polling)
    events = await server.connect()
    events.ask("GET", EVENTS)
    assert (await events.head()).status == 200
    for target in (POLL, EVENTS):
        answer = await other.request("GET", target)
        assert answer.status == 429
        assert answer.headers["retry-after"] == "1"
    assert (await other.request("GET", "a")).body == b"x"
