from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.model.commands import FOREVER, Lifetime
from durable_streams.model.errors import InvalidRequest
from durable_streams.rules.lifetime import (
    MAX_INTEGER,
    deadline_ms,
    is_expired,
    parse_expires_at,
    parse_lifetime,
    parse_ttl,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("1", 1), ("3600", 3600)])
def test_a_ttl_is_a_plain_number_of_seconds(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "+1", "-1", "01", "00", "1.0", "1e3", "abc", "0x1", "1_0", "٣", "²"]
)
def test_any_other_notation_of_a_ttl_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_ttl(text)


def test_a_ttl_is_limited_to_what_javascript_can_count() -> None:
    assert parse_ttl(str(MAX_INTEGER)) == MAX_INTEGER
    for text in (str(MAX_INTEGER + 1), "9" * 5000):
        with pytest.raises(InvalidRequest):
            parse_ttl(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T18:00:00-06:00", 0),
        ("1970-01-01T00:00:00.5Z", 500),
        ("1970-01-01T00:00:00.1239999Z", 123),
        ("2024-02-29T12:00:00Z", 1_709_208_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2016-12-31T23:59:60.9Z", 1_483_228_800_000),
        ("2016-12-31T18:59:60-05:00", 1_483_228_800_000),
        ("0001-01-01T00:00:00+23:59", -62_135_596_800_000 - 86_340_000),
        ("9999-12-31T23:59:59-23:59", 253_402_300_799_000 + 86_340_000),
    ],
)
def test_a_timestamp_of_rfc_3339_is_an_instant(text: str, ms: int) -> None:
    assert parse_expires_at(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "", "tomorrow", "2024-01-01", "2024-01-01T00:00:00", "2024-01-01 00:00:00Z",
        "2024-1-1T00:00:00Z", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z",
        "2023-02-29T00:00:00Z", "2024-01-32T00:00:00Z", "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z", "2024-01-01T00:00:61Z", "2024-01-01T00:00Z",
        "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+0100", "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00,5Z", "2024-01-01T00:00:00ZZ", "2024-01-01T00:00:00Z\n",
        "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "٢024-01-01T00:00:00Z",
        "2016-12-30T23:59:60Z", "2016-12-31T12:00:60Z", "2016-12-31T23:59:60+01:00",
        "9999-12-31T23:59:60Z", "2024-01-01T00:00:00." + "0" * 64 + "Z",
    ],
)  # fmt: skip
def test_anything_else_is_no_timestamp(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_expires_at(text)


@given(
    st.integers(-60_000_000_000, 250_000_000_000),
    st.integers(0, 999_999),
    st.integers(-1439, 1439),
)
def test_timestamps_mean_what_the_standard_library_says(
    seconds: int, microseconds: int, zone_min: int
) -> None:
    since_epoch = timedelta(seconds=seconds, microseconds=microseconds)
    moment = (EPOCH + since_epoch).astimezone(timezone(timedelta(minutes=zone_min)))
    assert parse_expires_at(moment.isoformat()) == since_epoch // timedelta(milliseconds=1)


def test_a_lifetime_is_a_ttl_or_an_instant_or_nothing() -> None:
    assert parse_lifetime(None, None) == FOREVER
    assert parse_lifetime("60", None) == Lifetime(ttl_s=60)
    text = "1970-01-01T00:00:01Z"
    assert parse_lifetime(None, text) == Lifetime(expires_at=text, expires_at_ms=1000)
    with pytest.raises(InvalidRequest):
        parse_lifetime("60", text)


def test_a_ttl_ends_so_long_after_the_last_use() -> None:
    lifetime = Lifetime(ttl_s=2)
    assert deadline_ms(lifetime, 1000) == 3000
    assert not is_expired(lifetime, 1000, 2999)
    assert is_expired(lifetime, 1000, 3000)
    assert is_expired(Lifetime(ttl_s=0), 1000, 1000)


def test_an_expiry_time_is_not_moved_by_use() -> None:
    lifetime = Lifetime(expires_at="1970-01-01T00:00:01Z", expires_at_ms=1000)
    assert not is_expired(lifetime, 5000, 999)
    assert is_expired(lifetime, 5000, 1000)


def test_a_stream_without_lifetime_never_ends() -> None:
    assert deadline_ms(FOREVER, 0) is None
    assert not is_expired(FOREVER, 0, 10**15)
