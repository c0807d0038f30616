from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.wire.cursor import EPOCH_S, MAX_JITTER_S, next_cursor


def test_intervals_are_counted_from_the_epoch_of_the_protocol() -> None:
    assert datetime(2024, 10, 9, tzinfo=UTC).timestamp() == EPOCH_S


@pytest.mark.parametrize(
    ("after_s", "cursor"), [(0.0, 0), (19.999, 0), (20.0, 1), (86_400.0, 4320), (-1.0, 0)]
)
def test_a_cursor_is_the_number_of_the_interval(after_s: float, cursor: int) -> None:
    assert next_cursor(None, EPOCH_S + after_s, 1) == cursor


def test_a_client_that_is_behind_gets_the_current_interval() -> None:
    assert next_cursor(99, EPOCH_S + 2000.0, MAX_JITTER_S) == 100


@pytest.mark.parametrize(
    ("client", "jitter_s", "cursor"),
    [(100, 1, 101), (100, 20, 101), (100, 21, 102), (100, 3600, 280), (5000, 1, 5001)],
)
def test_a_client_that_caught_up_gets_a_greater_one(
    client: int, jitter_s: int, cursor: int
) -> None:
    assert next_cursor(client, EPOCH_S + 2000.0, jitter_s) == cursor


@given(st.integers(0, 10**64), st.floats(0, EPOCH_S * 2), st.integers(1, MAX_JITTER_S))
def test_cursors_never_go_back_nor_stand_still(client: int, now_s: float, jitter_s: int) -> None:
    assert next_cursor(client, now_s, jitter_s) > client
