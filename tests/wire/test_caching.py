from __future__ import annotations

import pytest

from durable_streams.model.offsets import ZERO, Offset
from durable_streams.model.results import Chunk
from durable_streams.wire.caching import cache_control, etag, matches
from tests.wire.test_replies import Stream

END = Offset(0, 5)


def tag(
    stream_id: str = "id",
    start: Offset = ZERO,
    end: Offset = END,
    chain: bytes = b"12345678",
    *,
    closed: bool = False,
) -> str:
    stream = Stream(id=stream_id)
    return etag(Chunk(stream, start, end, chain, (), 5, at_tail=True, closed=closed))


TAG = tag()


def test_an_etag_names_incarnation_range_content_and_closed_state() -> None:
    positions = "0000000000000000_0000000000000000:0000000000000000_0000000000000005"
    assert f'"id:{positions}:3132333435363738"' == TAG
    others = {
        tag(closed=True),
        tag("other"),
        tag(start=Offset(0, 1)),
        tag(end=Offset(0, 6)),
        tag(chain=b"12345679"),
    }
    assert len(others | {TAG}) == 6


@pytest.mark.parametrize(
    "header",
    [TAG, f"W/{TAG}", "*", " * ", f'"x", {TAG}', f'"a,b" ,W/{TAG}, "c"', f'"x",{TAG}', f" {TAG} "],
)
def test_if_none_match_finds_the_tag_in_every_form(header: str) -> None:
    assert matches(header, TAG)


@pytest.mark.parametrize("header", ["", '"x"', TAG[1:-1], f'"x{TAG[1:]}', '"*"', 'W/"x", "y"', ","])
def test_if_none_match_finds_nothing_else(header: str) -> None:
    assert not matches(header, TAG)


def test_an_answer_before_the_tail_is_kept() -> None:
    assert (
        cache_control(sealed=True, from_now=False)
        == "public, max-age=60, stale-while-revalidate=300"
    )
    assert (
        cache_control(sealed=True, from_now=False, max_age_s=86_400, private=True)
        == "private, max-age=86400, stale-while-revalidate=300"
    )


@pytest.mark.parametrize(
    ("left_s", "value"),
    [
        (None, "public, max-age=60, stale-while-revalidate=300"),
        (362, "public, max-age=60, stale-while-revalidate=300"),
        (361, "public, max-age=60, stale-while-revalidate=299"),
        (63, "public, max-age=60, stale-while-revalidate=1"),
        (62, "public, max-age=60, stale-while-revalidate=0"),
        (61, "public, max-age=59, stale-while-revalidate=0"),
        (3, "public, max-age=1, stale-while-revalidate=0"),
        (2, "no-cache"),
        (1, "no-cache"),
        (0, "no-cache"),
    ],
)
def test_no_cache_keeps_an_answer_for_longer_than_the_stream_lives(
    left_s: int | None, value: str
) -> None:
    assert cache_control(sealed=True, from_now=False, left_s=left_s) == value


def test_nothing_is_kept_for_no_time() -> None:
    assert cache_control(sealed=True, from_now=False, max_age_s=0) == "no-cache"
    assert cache_control(sealed=True, from_now=False, left_s=1, private=True) == "private, no-cache"


def test_an_answer_at_the_tail_is_revalidated() -> None:
    assert cache_control(sealed=False, from_now=False) == "no-cache"
    assert cache_control(sealed=False, from_now=False, private=True) == "private, no-cache"


def test_where_the_tail_is_now_is_not_stored() -> None:
    assert cache_control(sealed=False, from_now=True) == "no-store"
