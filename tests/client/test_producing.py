"""A producer's state, against the rules of servers, over a network that loses and reorders."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams import (
    InvalidJson,
    InvalidRequest,
    Limits,
    ProducerClaim,
    ProducerGap,
    Retries,
    StaleEpoch,
    StreamClosed,
    Unreachable,
)
from durable_streams.client.address import Address
from durable_streams.client.producing import Producing
from durable_streams.client.steps import Answer, Disconnected
from durable_streams.client.verbs import Verbs
from durable_streams.model import errors
from durable_streams.rules.producers import Accept, ProducerState, decide

if TYPE_CHECKING:
    from durable_streams.client.producing import Batch
    from durable_streams.client.steps import Call

ADDRESS: Final = Address.parse("http://server/v1/stream")
OFFSET: Final = {"stream-next-offset": "0000000000000000_0000000000000000"}


class Server:
    """The rules for producers, and what was stored."""

    def __init__(self) -> None:
        self.state: ProducerState | None = None
        self.stored: list[bytes] = []
        self.closed: ProducerClaim | None = None

    def take(self, call: Call) -> Answer:
        headers = call.request.headers
        claim = ProducerClaim(
            headers["Producer-Id"], int(headers["Producer-Epoch"]), int(headers["Producer-Seq"])
        )
        if self.closed is not None:
            return Answer(204 if claim == self.closed else 409, {**OFFSET, "stream-closed": "true"})
        try:
            decision = decide(self.state, claim)
        except StaleEpoch as error:
            return Answer(403, {"producer-epoch": str(error.current)})
        except ProducerGap as error:
            return Answer(
                409,
                {
                    "producer-expected-seq": str(error.expected),
                    "producer-received-seq": str(error.received),
                },
            )
        if not isinstance(decision, Accept):
            return Answer(204, OFFSET)
        self.state = ProducerState(claim.epoch, claim.seq)
        self.closed = claim if headers.get("Stream-Closed") == "true" else None
        if call.request.body:
            self.stored.append(call.request.body)
        return Answer(200 if call.request.body else 204, OFFSET)


class Time:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def producing(
    time: Time,
    limits: Limits = Limits(linger_s=0.0),  # noqa: B008 - frozen
    *,
    claim: ProducerClaim = ProducerClaim("p", 1, 0),  # noqa: B008
    content_type: str = "text/plain",
    numbered: bool = False,
    take_over: bool = False,
) -> Producing:
    verbs = Verbs(ADDRESS, Retries(), time, lambda: 0.5)
    return Producing(
        verbs, ("s",), content_type, claim, limits, numbered=numbered, take_over=take_over
    )


def deliver(state: Producing, server: Server, time: Time) -> None:
    """Carry everything there and back, in order."""
    while (batch := state.due(time())) is not None:
        state.answered(batch, server.take(state.call(batch)))


@given(st.data())
def test_each_is_stored_once_and_in_order_whatever_the_network_does(  # noqa: C901 - its cases
    data: st.DataObject,
) -> None:
    numbered = data.draw(st.booleans())
    time, server = Time(), Server()
    limits = Limits(
        linger_s=data.draw(st.sampled_from([0.0, 0.5])),
        batch_bytes=data.draw(st.sampled_from([1, 12, 1000])),
        in_flight=data.draw(st.integers(1, 4)),
    )
    state = producing(time, limits, numbered=numbered)
    flying: list[tuple[Batch, Call]] = []
    count = 0
    for _ in range(data.draw(st.integers(0, 60))):
        match data.draw(st.sampled_from(["append", "send", "arrive", "lose", "time", "busy"])):
            case "append":
                state.append(b"%05d," % count)
                count += 1
            case "send":
                if batch := state.due(time()):
                    flying.append((batch, state.call(batch)))
            case "time":
                time.s += 0.3
            case what if flying:
                batch, call = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
                if what == "busy":
                    state.answered(batch, Answer(503, {"retry-after": "0"}))
                    continue
                if what == "arrive" or data.draw(st.booleans()):
                    answer = server.take(call)
                    if what == "arrive":
                        state.answered(batch, answer)
                        continue
                state.lost(batch, Disconnected("lost"))
    state.close(b"end")
    for batch, call in flying:
        state.answered(batch, server.take(call))
    while not state.is_all_acknowledged:
        state.check()
        deliver(state, server, time)
        time.s += 1
    assert b"".join(server.stored) == b"".join(b"%05d," % n for n in range(count)) + b"end"
    assert server.closed
    assert state.acknowledged == state.appended == count + 1
    assert state.waiting_bytes == 0
    if numbered:
        assert len(server.stored) == count + 1


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 4))
def test_a_run_that_begins_where_the_one_before_was_known_to_be_repeats_nothing(
    stored: int, known: int, in_flight: int
) -> None:
    known = min(known, stored)
    time, server = Time(), Server()
    limits = Limits(in_flight=in_flight)
    before = producing(time, limits, numbered=True)
    for number in range(stored):
        before.append(b"%d," % number)
    deliver(before, server, time)
    claim = ProducerClaim("p", 1, known)
    run = producing(time, limits, claim=claim, numbered=True)
    for number in range(known, 30):
        run.append(b"%d," % number)
    deliver(run, server, time)
    assert run.acknowledged == 30
    assert b"".join(server.stored) == b"".join(b"%d," % number for number in range(30))


@pytest.mark.parametrize("at_once", [True, False])
def test_a_run_may_close_what_the_one_before_has_closed(*, at_once: bool) -> None:
    time, server = Time(), Server()
    run = producing(time, Limits(linger_s=0), numbered=True)
    run.append(b"x")
    if not at_once:
        deliver(run, server, time)
    run.close(b"")
    deliver(run, server, time)
    again = producing(time, claim=ProducerClaim("p", 1, 1), numbered=True)
    again.close(b"")
    deliver(again, server, time)
    again.check()
    assert run.is_all_acknowledged
    assert again.is_all_acknowledged
    assert server.stored == [b"x"]


@pytest.mark.parametrize("numbered", [True, False])
def test_who_closes_what_somebody_else_has_closed_is_told(*, numbered: bool) -> None:
    time, server = Time(), Server()
    first = producing(time, numbered=True)
    first.append(b"x")
    first.close(b"")
    deliver(first, server, time)
    other = producing(time, claim=ProducerClaim("q", 1, 0), numbered=numbered)
    other.close(b"")
    deliver(other, server, time)
    with pytest.raises(StreamClosed):
        other.check()


def test_appends_are_gathered_until_they_are_many_or_old() -> None:
    time, server = Time(), Server()
    state = producing(time, Limits(linger_s=1, batch_bytes=10, batch_appends=3))
    state.append(b"a")
    assert state.due(0.5) is None
    assert state.wake_at() == 1
    time.s = 1
    deliver(state, server, time)
    for piece in (b"b", b"c", b"d", b"e", b"too large for it", b"f"):
        state.append(piece)
    deliver(state, server, time)
    assert server.stored == [b"a", b"bcd", b"e", b"too large for it"]
    state.flush()
    deliver(state, server, time)
    assert server.stored[4:] == [b"f"]
    assert state.wake_at() == math.inf


def test_json_is_put_together_as_messages() -> None:
    time, server = Time(), Server()
    state = producing(time, Limits(linger_s=1), content_type="application/json")
    for body in (b'{"a": 1}', b"[1, [2]]", b" 3 "):
        state.append(body)
    for body in (b"{", b"[]", b""):
        with pytest.raises(InvalidRequest):
            state.append(body)
    with pytest.raises(InvalidJson):
        state.append(b"\xff")
    state.flush()
    deliver(state, server, time)
    assert server.stored == [b'[{"a": 1},1,[2],3]']
    assert state.acknowledged == 3


def test_what_is_beyond_the_room_has_to_wait() -> None:
    time, server = Time(), Server()
    state = producing(time, Limits(linger_s=0, waiting_bytes=3))
    room = [state.has_room]
    state.append(b"four")
    room.append(state.has_room)
    deliver(state, server, time)
    assert [*room, state.has_room] == [True, False, True]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(400, {}), errors.InvalidRequest),
        (Answer(403, {"producer-epoch": "7"}), StaleEpoch),
        (Answer(403, {}), errors.Forbidden),
        (Answer(404, {}), errors.StreamNotFound),
        (Answer(409, {"stream-closed": "true", **OFFSET}), StreamClosed),
        (Answer(413, {}), errors.PayloadTooLarge),
        (Answer(507, {}), errors.DiskFull),
        (Answer(200, {}), errors.UnexpectedAnswer),
        (Answer(301, {"location": "https://there/"}), errors.UnexpectedAnswer),
        (
            Answer(409, {"producer-expected-seq": "0", "producer-received-seq": "1"}),
            ProducerGap,
        ),
    ],
)
def test_what_does_not_pass_ends_it_and_is_told(answer: Answer, error: type[Exception]) -> None:
    time, server = Time(), Server()
    state = producing(time)
    state.append(b"x")
    deliver(state, server, time)
    state.append(b"y")
    batch = state.due(0)
    assert batch is not None
    state.answered(batch, answer)
    for use in (state.check, lambda: state.append(b"z")):
        with pytest.raises(error):
            use()
    assert state.due(0) is None
    assert state.wake_at() == math.inf
    assert state.acknowledged == 1


def test_it_gives_up_a_server_that_is_away_for_too_long() -> None:
    time = Time()
    state = producing(time)
    state.append(b"x")
    while state.error is None:
        time.s = max(time.s, state.wake_at())
        batch = state.due(time())
        assert batch is not None
        state.lost(batch, Disconnected("refused"))
    assert isinstance(state.error, Unreachable)
    assert 50 <= time.s <= 60


def test_a_token_is_renewed_once() -> None:
    state = producing(Time())
    state.append(b"x")
    for renew in (False, True):
        batch = state.due(0)
        assert batch is not None
        assert state.call(batch).renew == renew
        state.answered(batch, Answer(401, {}))
    assert isinstance(state.error, errors.Unauthenticated)


def test_a_stale_epoch_is_taken_over_if_it_was_asked_for() -> None:
    time, server = Time(), Server()
    server.state = ProducerState(5, 9)
    for take_over in (False, True):
        state = producing(time, take_over=take_over)
        state.append(b"x")
        deliver(state, server, time)
        assert isinstance(state.error, StaleEpoch) != take_over
    assert server.state == ProducerState(6, 0)
    assert server.stored == [b"x"]


def test_a_run_with_the_epoch_of_another_is_told_instead_of_losing_what_it_sends() -> None:
    time, server = Time(), Server()
    server.state = ProducerState(1, 3)
    state = producing(time)
    state.append(b"x")
    deliver(state, server, time)
    assert isinstance(state.error, StaleEpoch)
