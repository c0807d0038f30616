from __future__ import annotations

import msgspec
import pytest

from durable_streams.model.commands import FOREVER, Create, ForkRequest, Lifetime
from durable_streams.model.errors import StreamExists
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.rules.creates import Identity, fork_lifetime, matches
from durable_streams.rules.media_type import DEFAULT

TTL = Lifetime(ttl_s=60)
MIDNIGHT = Lifetime(expires_at="2030-01-01T00:00:00Z", expires_at_ms=1_893_456_000_000)
MIDNIGHT_ELSEWHERE = Lifetime(
    expires_at="2030-01-01T01:00:00+01:00", expires_at_ms=1_893_456_000_000
)
LATER = Lifetime(expires_at="2031-01-01T00:00:00Z", expires_at_ms=1_924_992_000_000)

PLAIN = Identity(DEFAULT, FOREVER, closed=False, fork=None)
FORK = Identity("text/plain", FOREVER, closed=False, fork=ForkRequest(("source",), Offset(0, 9), 3))
FORK_AT_TAIL = msgspec.structs.replace(FORK, fork=ForkRequest(("source",)))


@pytest.mark.parametrize(
    ("existing", "command"),
    [
        (PLAIN, Create(("s",))),
        (PLAIN, Create(("s",), DEFAULT)),
        (msgspec.structs.replace(PLAIN, closed=True), Create(("s",), closed=True)),
        (msgspec.structs.replace(PLAIN, requested_lifetime=TTL), Create(("s",), lifetime=TTL)),
        (
            msgspec.structs.replace(PLAIN, requested_lifetime=MIDNIGHT),
            Create(("s",), lifetime=MIDNIGHT_ELSEWHERE),
        ),
        (FORK, Create(("s",), fork=FORK.fork)),
        (FORK, Create(("s",), "text/plain", fork=FORK.fork)),
        (FORK, Create(("s",), fork=ForkRequest(("source",), None, 3))),
        (FORK_AT_TAIL, Create(("s",), fork=ForkRequest(("source",)))),
    ],
)
def test_the_same_request_finds_the_same_stream(existing: Identity, command: Create) -> None:
    matches(existing, command)


@pytest.mark.parametrize(
    ("existing", "command", "difference"),
    [
        (
            PLAIN,
            Create(("s",), "text/plain"),
            "content type is 'application/octet-stream', not 'text",
        ),
        (FORK, Create(("s",), "image/png", fork=FORK.fork), "content type is 'text/plain'"),
        (
            msgspec.structs.replace(FORK, fork=None),
            Create(("s",)),
            "not 'application/octet-stream'",
        ),
        (PLAIN, Create(("s",), lifetime=TTL), "no TTL or expiry, not Stream-TTL 60"),
        (
            msgspec.structs.replace(PLAIN, requested_lifetime=TTL),
            Create(("s",)),
            "with Stream-TTL 60",
        ),
        (
            msgspec.structs.replace(PLAIN, requested_lifetime=MIDNIGHT),
            Create(("s",), lifetime=LATER),
            "not Stream-Expires-At '2031-01-01T00:00:00Z'",
        ),
        (PLAIN, Create(("s",), closed=True), "it is open"),
        (msgspec.structs.replace(PLAIN, closed=True), Create(("s",)), "it is closed"),
        (PLAIN, Create(("s",), fork=ForkRequest(("source",))), "it is no fork"),
        (FORK, Create(("s",), "text/plain"), "it is a fork of 'source'"),
        (FORK, Create(("s",), fork=ForkRequest(("other",), Offset(0, 9), 3)), "not of 'other'"),
        (FORK, Create(("s",), fork=ForkRequest(("source",), ZERO, 3)), "it was forked at 0000"),
        (
            FORK,
            Create(("s",), fork=ForkRequest(("source",), Offset(0, 9), 2)),
            "sub-offset is 3, not 2",
        ),
        (FORK, Create(("s",), fork=ForkRequest(("source",))), "sub-offset is 3, not 0"),
        (FORK_AT_TAIL, Create(("s",), fork=ForkRequest(("source",), ZERO)), "forked at the tail"),
    ],
)
def test_another_configuration_is_a_conflict_that_says_where(
    existing: Identity, command: Create, difference: str
) -> None:
    with pytest.raises(StreamExists) as caught:
        matches(existing, command)
    assert caught.value.path == "s"
    assert difference in caught.value.difference


@pytest.mark.parametrize("source", [FOREVER, TTL, MIDNIGHT])
def test_a_fork_inherits_its_lifetime_unless_it_asks_for_one(source: Lifetime) -> None:
    assert fork_lifetime(source, FOREVER) == source
    for requested in (Lifetime(ttl_s=0), Lifetime(ttl_s=9), LATER):
        assert fork_lifetime(source, requested) == requested
