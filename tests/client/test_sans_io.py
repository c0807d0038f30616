"""The parts of the core: URLs, offsets, refusals, pauses, following, what importing it brings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams import InvalidOffset, Retries, UnexpectedAnswer
from durable_streams.client.address import Address, split_url
from durable_streams.client.following import Following, LiveMode, Over, Receive
from durable_streams.client.pieces import Place, json_messages, proved_start
from durable_streams.client.reading import piece_of
from durable_streams.client.refusals import Asked, refusal
from durable_streams.client.retries import Backoff, retry_after_s
from durable_streams.client.steps import Answer, Call, Disconnected, Pause
from durable_streams.client.verbs import Verbs
from durable_streams.model import errors as e
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import parse_path_text
from durable_streams.wire.replies import errors as replied
from tests.error_samples import every_error, sample
from tests.test_root import run

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWERS: Final = [
    kind
    for kind in every_error()
    if issubclass(kind, e.StreamError) and kind not in {e.UnexpectedAnswer, e.Unreachable}
]
"""The others are of the client, or no request's."""
SERVER: Final = Address.parse("http://host:1/v1/stream/")


def at(position: int, segment: int = 0) -> str:
    return Offset(segment, position).token


def test_urls_have_what_was_given_and_their_parameters_in_order() -> None:
    address = Address.parse("https://host/a%2Fb/c?signed=x%2By&z=1")
    path = parse_path_text("ä/b%2Fc ?")
    assert address.stream(path, offset="-1", live="sse", cursor=None) == (
        "https://host/a%2Fb/c/%C3%A4/b%2Fc%20%3F?live=sse&offset=-1&signed=x%2By&z=1"
    )
    assert SERVER.stream(("s",)) == "http://host:1/v1/stream/s"
    assert SERVER.control("streams", (), {"prefix": "a b&c"}) == (
        "http://host:1/v1/stream/__ds/streams?prefix=a+b%26c"
    )
    assert Address.parse("http://host").stream(("s",)) == "http://host/s"


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3))
def test_a_url_of_a_stream_is_split_into_where_it_came_from(segments: list[str]) -> None:
    text = "/".join(segments)
    try:
        path = parse_path_text(text)
    except e.InvalidRequest:
        return
    server, named = split_url(SERVER.stream(path))
    assert server == "http://host:1/v1/stream"
    assert parse_path_text(named) == path


def test_each_message_has_an_offset_of_its_own_where_positions_are_proved() -> None:
    body = b'[1,"two",{"three":3}]'
    found = json_messages(body, Place(at(5)), at(25), at(5))
    assert [message.offset for message in found] == [at(7), at(13), at(25)]
    found = json_messages(b"[1,2]", Place(at(99, 3)), at(4, 4), at(99, 3))
    assert [message.offset for message in found] == [at(2, 4), at(4, 4)]


@pytest.mark.parametrize("start", [None, at(6), "opaque"])
def test_elsewhere_messages_are_counted_from_the_offset_before(start: str | None) -> None:
    body = b'[1,"two",{"three":3}]'
    found = json_messages(body, Place("abc"), "xyz", start)
    assert [message.offset for message in found] == ["abc,1", "abc,2", "xyz"]
    again = json_messages(body, Place.parse("abc,2"), "xyz", start)
    assert again == found[2:]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1", b"[1,]", b"\xff", b"[1]x"])
def test_what_is_no_array_is_refused(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        json_messages(body, Place("-1"), "x", None)


def test_messages_keep_their_bytes() -> None:
    body = b'[ {"a" : 1e2,\n"b":"\\ud800"} ,\t"\xc3\xa4" ]'
    found = json_messages(body, Place("-1"), "x", None)
    assert [message.data for message in found] == [b'{"a" : 1e2,\n"b":"\\ud800"}', b'"\xc3\xa4"']


@pytest.mark.parametrize("skip", [0, 1, 3, 4])
def test_the_values_of_a_piece_are_those_of_its_messages(skip: int) -> None:
    head = {"content-type": "application/json", "stream-next-offset": "x"}
    piece = piece_of(Answer(200, head, b' [1, {"a":[2]}, "\\u00e4"] '), Place("-1", skip))
    assert piece.values() == [message.json() for message in piece.messages()]
    assert piece.values() == [1, {"a": [2]}, "ä"][skip:]


@pytest.mark.parametrize("body", [b"{}", b"[", b"[1]]", b"[" + b"9" * 5000 + b"]"])
def test_what_has_no_values_is_told_as_of_messages(body: bytes) -> None:
    head = {"content-type": "application/json", "stream-next-offset": "x"}
    with pytest.raises((UnexpectedAnswer, e.InvalidJson)):
        piece_of(Answer(200, head, body), Place("-1")).values()


@pytest.mark.parametrize("token", ["", " ", "a b", "a,b", "a,-1", "now,1", ",1", "a&b", "x" * 300])
def test_what_nobody_gave_out_is_no_offset(token: str) -> None:
    with pytest.raises(InvalidOffset):
        Place.parse(token)


def test_entity_tags_of_others_prove_nothing() -> None:
    def proved(tag: str, end: str) -> str | None:
        return proved_start(Answer(200, {"etag": tag, "stream-next-offset": end}))

    assert proved(f'"7702:{at(0)}:{at(9)}:12a6"', at(9)) == at(0)
    assert proved(f'W/"7702:{at(0)}:{at(9)}:12a6:c"', at(9)) == at(0)
    assert proved(f'"7702:{at(0)}:{at(9)}"', at(9)) is None
    assert proved(f'"7702:{at(0)}:{at(9)}:12a6"', at(8)) is None


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_what_our_server_refuses_with_is_raised_as_it_is_or_as_what_it_derives_from(
    kind: type[e.StreamError],
) -> None:
    error = sample(kind)
    reply = replied(error)
    answer = Answer(reply.status, {n.lower(): v for n, v in reply.headers}, reply.body)
    put = issubclass(kind, e.StreamExists | e.SourceGone)
    asked = Asked("PUT" if put else "POST", "text", offset="x" if kind is e.OffsetGone else None)
    found = refusal(asked, answer)
    assert found.__class__ in kind.__mro__ or reply.status in {400, 409, 410, 403}
    assert str(found)


def test_pauses_double_and_end() -> None:
    now = [0.0]
    backoff = Backoff(Retries(first_s=1, longest_s=4, give_up_s=20), lambda: now[0], lambda: 1.0)
    pauses = []
    while (pause_s := backoff.pause_s()) is not None:
        pauses.append(pause_s)
        now[0] += pause_s
    assert pauses == [1, 2, 4, 4, 4, 4]
    backoff.reset()
    backoff.patient()
    assert backoff.pause_s() == 1
    assert backoff.pause_s(Answer(503, {"retry-after": "7"})) == 8
    assert backoff.pause_s(Answer(503, {"retry-after": "999999999"})) == 301


def test_pauses_grow_by_their_factor_and_end_after_so_many() -> None:
    policy = Retries(first_s=1, longest_s=100, give_up_s=math.inf, repeats=3, factor=3)
    backoff = Backoff(policy, lambda: 0.0, lambda: 1.0)
    assert [backoff.pause_s() for _ in range(5)] == [1, 3, 9, None, None]
    backoff.reset()
    assert backoff.pause_s() == 1
    backoff.patient()  # who follows goes on for as long as ``follow_s`` says
    assert None not in [backoff.pause_s() for _ in range(20)]
    assert Backoff(Retries(repeats=0), lambda: 0.0, lambda: 1.0).pause_s() is None


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 50, "\u0661"]
)
def test_what_is_no_number_of_seconds_is_not_waited_for(text: str) -> None:
    assert retry_after_s(Answer(503, {"retry-after": text})) is None


# Following


def following(mode: LiveMode = LiveMode.AUTO, now: Callable[[], float] = lambda: 0.0) -> Following:
    return Following(Verbs(SERVER, Retries(), now, lambda: 0.0), ("s",), Place("-1"), mode)


def caught_up(content_type: str = "application/json", **more: str) -> Answer:
    headers = {"content-type": content_type, "stream-next-offset": at(2), **more}
    return Answer(200, {"stream-up-to-date": "true", **headers}, b"[1]")


EVENTS: Final = Answer(200, {"content-type": "text/event-stream"})


def url_of(state: Following) -> str:
    step = state.step()
    assert isinstance(step, Call)
    return step.request.url


def test_it_catches_up_and_waits_as_the_content_type_lets_it() -> None:
    for content_type, live in (("text/plain; x=1", "long-poll"), ("application/json", "sse")):
        state = following()
        assert url_of(state).endswith("?offset=-1")
        state.answered(caught_up(content_type, **{"stream-cursor": "7"}))
        assert url_of(state).endswith(f"?cursor=7&live={live}&offset={at(2)}")


def test_data_counts_only_once_its_control_event_has_come() -> None:
    state = following()
    state.answered(caught_up())
    state.ready.clear()
    for _ in range(2):
        assert isinstance(state.step(), Call)
        state.answered(EVENTS)
        assert state.step() == Receive()
        state.received(b"event: data\ndata: [2]\n\nevent: control\ndata: {")
        assert not state.ready
        state.received(b"")
        assert url_of(following()) != ""
        while isinstance(state.step(), Pause):
            state._until_s = None
        assert url_of(state).endswith(at(2))
    state.answered(EVENTS)
    end = b'{"streamNextOffset":"%b","streamClosed":true}' % at(4).encode()
    state.received(b"event: data\ndata: [2]\n\nevent: control\ndata: " + end + b"\n\n")
    assert [message.data for message in state.ready] == [b"2"]
    assert state.step() == Over()


def test_events_that_do_not_come_through_are_given_up() -> None:
    state = following()
    state.answered(caught_up())
    for _ in range(3):
        assert "live=sse" in url_of(state)
        state.answered(EVENTS)
        state.lost(Disconnected("cut"))
        state._until_s = None
    assert "live=long-poll" in url_of(state)
    state = following(LiveMode.SSE)
    state.answered(caught_up())
    assert "live=sse" in url_of(state)
    state.answered(caught_up(**{"stream-next-offset": at(4)}))
    assert "live=long-poll" in url_of(state)


def test_whoever_answers_at_once_and_brings_nothing_is_not_asked_without_a_pause() -> None:
    now = [0.0]
    nothing = Answer(204, {"stream-next-offset": at(2), "stream-up-to-date": "true"})
    state = following(LiveMode.LONG_POLL, lambda: now[0])
    state.answered(caught_up())
    state.ready.clear()
    for took_s, pauses in ((30, False), (0, True), (0, True), (30, False)):
        assert "live=long-poll" in url_of(state)
        now[0] += took_s
        state.answered(nothing)
        step = state.step()
        assert isinstance(step, Pause) == pauses
        now[0] += step.seconds if isinstance(step, Pause) else 0

    control = b'event: control\ndata: {"streamNextOffset":"%b"}\n\n' % at(2).encode()
    state = following(LiveMode.SSE, lambda: now[0])
    state.answered(caught_up())
    for live in ("sse", "sse", "sse", "long-poll"):
        assert f"live={live}" in url_of(state)
        if live == "sse":
            state.answered(EVENTS)
            state.received(control)
            state.received(b"")
            now[0] += step.seconds if isinstance(step := state.step(), Pause) else 0


def test_several_data_events_may_come_before_one_that_says_where_they_end() -> None:
    end = b'{"streamNextOffset":"%b"}' % at(9).encode()
    for content_type, encoding, first, second, whole in (
        ("application/json", "", b"[1]", b"[2, 3]", [b"1", b"2", b"3"]),
        ("application/json", "", b"[]", b"[2]", [b"2"]),
        ("application/x", "base64", b"YQ==", b"YmM=", [b"abc"]),
    ):
        state = following(LiveMode.SSE)
        state.answered(caught_up(content_type))
        state.ready.clear()
        state.step()
        headers = {"content-type": "text/event-stream", "stream-sse-data-encoding": encoding}
        state.answered(Answer(200, headers))
        data = b"".join(b"event: data\ndata: %b\n\n" % one for one in (first, second))
        state.received(data + b"event: control\ndata: " + end + b"\n\n")
        assert [message.data for message in state.ready] == whole


def test_events_that_are_held_back_are_given_up_and_quiet_ones_are_not() -> None:
    now = [0.0]
    control = b'event: control\ndata: {"streamNextOffset":"%b"}\n\n' % at(2).encode()
    for is_quiet, live in ((True, "sse"), (False, "long-poll")):
        state = following(LiveMode.SSE, lambda: now[0])
        state.answered(caught_up())
        for _ in range(4):
            step = state.step()
            if isinstance(step, Pause):
                now[0] += step.seconds
                step = state.step()
            assert isinstance(step, Call)
            if not step.is_stream:
                break
            state.answered(EVENTS)
            if is_quiet:
                state.received(control)
            now[0] += 600
            state.lost(Disconnected("cut by a proxy"))
        now[0] += 10
        assert f"live={live}" in url_of(state)


@pytest.mark.parametrize(
    "events",
    [
        b"event: control\ndata: {\n\n",
        b"event: control\ndata:\n\n",
        b"event: control\ndata: []\n\n",
        b'event: data\ndata: 1\n\nevent: control\ndata: {"streamNextOffset":"x"}\n\n',
    ],
)
def test_events_that_make_no_sense_are_told_and_asked_for_again(events: bytes) -> None:
    state = following()
    state.answered(caught_up())
    state.step()
    state.answered(EVENTS)
    with pytest.raises(UnexpectedAnswer):
        state.received(events)
    assert url_of(state).endswith(at(2))


def test_it_gives_up_before_its_first_answer_and_never_after_it() -> None:
    now = [0.0]
    state = following(now=lambda: now[0])

    def lose_for(seconds: float) -> None:
        until = now[0] + seconds
        while now[0] < until:
            step = state.step()
            if isinstance(step, Pause):
                now[0] += step.seconds
            else:
                state.lost(Disconnected("refused"))

    with pytest.raises(e.Unreachable):
        lose_for(math.inf)
    assert 50 < now[0] < 65
    state.answered(caught_up())
    lose_for(100_000)


def test_importing_the_client_brings_nothing_of_the_server_or_of_one_system() -> None:
    loaded = run("import durable_streams.client.aio, sys\nprint(*sys.modules)")
    assert not loaded & {"durable_streams.library", "durable_streams.http", "urllib3"}
    ours = {name.split(".")[1] for name in loaded if name.startswith("durable_streams.")}
    assert not ours & {"filestore", "postgres", "http", "process", "access", "streams", "library"}
    loaded = run("import durable_streams.client.sync_remote, sys\nprint(*sys.modules)")
    assert "urllib3" in loaded
    assert "aiohttp" not in loaded


def test_the_client_is_importable_where_there_is_no_fcntl() -> None:
    refused = "for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios'): sys.modules[name] = None"
    for name in ("aio", "sync_remote"):
        code = f"import sys\n{refused}\nimport durable_streams.client.{name}\nprint('there')"
        assert run(code) == {"there"}
