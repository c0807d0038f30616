"""Limits of streams, as settings say them."""

from __future__ import annotations

import pytest

from durable_streams.model.stream_limits import StreamLimit, parse_limits
from durable_streams.settings import Settings


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("chat=1000", StreamLimit(("chat",), 1000)),
        ("chat/room=1", StreamLimit(("chat", "room"), 1)),
        ("=100000", StreamLimit((), 100_000)),
        ("a=b=2", StreamLimit(("a=b",), 2)),
        ("a%2Fb/c%252F=3", StreamLimit(("a/b", "c%2F"), 3)),
        (f"x={10**17}", StreamLimit(("x",), 10**17)),
    ],
)
def test_a_limit_is_a_path_in_text_and_a_number(text: str, limit: StreamLimit) -> None:
    assert parse_limits([text]) == (limit,)
    assert Settings(max_streams=(text,)).max_streams == (text,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("chat", "'chat' is no PREFIX=N: give chat=1000"),
        ("1000", "'1000' is no PREFIX=N"),
        ("chat=", "'' is no number"),
        ("chat=many", "'many' is no number"),
        ("chat=-1", "'-1' is no number"),
        ("chat= 1", "' 1' is no number"),
        ("chat=1_000", "'1_000' is no number"),
        ("chat=\u0661", "is no number"),
        ("chat=" + "1" * 19, "is no number"),
        ("chat=0", "allows no stream"),
        ("chat/=1", "for no path: a stream path has no empty"),
        ("/chat=1", "for no path: a stream path has no empty"),
        ("..=1", "for no path"),
        ("__ds/x=1", "for no path: .* reserved"),
        ("x" * 256 + "=1", "for no path: .* longer than 255 bytes"),
    ],
)
def test_what_is_no_limit_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_limits([text])
    with pytest.raises(ValueError, match=f"^max_streams: .*{reason}"):
        Settings(max_streams=("other=5", text))


def test_two_limits_for_one_prefix_are_refused() -> None:
    with pytest.raises(ValueError, match="two limits for 'chat'"):
        parse_limits(["chat=5", "=5", "chat=6"])
    with pytest.raises(ValueError, match="two limits for ''"):
        parse_limits(["=5", "=5"])
    assert len(parse_limits(["a=5", "a/b=5", "=5"])) == 3


def test_who_is_refused_is_told_prefix_and_limit_and_what_to_do() -> None:
    told = StreamLimit(("a/b", "c"), 7).refusal
    assert "7 streams at and below 'a%2Fb/c'" in told
    assert "delete some" in told
    assert "7 streams, and there are" in StreamLimit((), 7).refusal
