"""The limit of open files: how it is divided, and what happens where it is reached all the same."""

from __future__ import annotations

import asyncio
import threading

import pytest

from durable_streams.descriptors import (
    LEAST,
    MAX_ARRIVING,
    MAX_REFUSED,
    RESERVED,
    divide,
    on_loop,
    spare_for,
)

DEFAULT_FILES = 8192


@pytest.mark.parametrize("limit", [LEAST, 256, 1024, 4096, 20_000, 65_536, 1_048_576])
@pytest.mark.parametrize("max_files", [DEFAULT_FILES, 64])
def test_all_parts_together_are_within_the_limit(limit: int, max_files: int) -> None:
    parts = divide(limit, max_files)
    spare = spare_for(parts.connections, MAX_ARRIVING) + spare_for(parts.connections, MAX_REFUSED)
    total = RESERVED + parts.files + 2 * parts.answers + parts.connections + spare
    assert limit * 0.9 < total <= limit
    assert parts.files <= max_files
    assert min(parts) > 0


@pytest.mark.parametrize("limit", [0, 3, RESERVED, LEAST - 1])
def test_a_tiny_limit_leaves_a_few_files_and_maybe_no_connection(limit: int) -> None:
    parts = divide(limit, DEFAULT_FILES)
    assert parts.files >= 8
    assert parts.answers >= 4
    assert 0 <= parts.connections < limit or limit == 0


def test_usual_limits_allow_what_is_set() -> None:
    assert divide(20_000, DEFAULT_FILES).connections >= 12_000
    assert divide(65_536, DEFAULT_FILES).files == DEFAULT_FILES


async def test_what_is_the_loops_is_given_back_from_any_thread() -> None:
    loop = asyncio.get_running_loop()
    callers = []

    def give_back() -> bool:
        callers.append(threading.get_ident())
        return True

    assert on_loop(loop, give_back)
    assert await asyncio.to_thread(on_loop, loop, give_back)
    assert set(callers) == {threading.get_ident()}


def test_nothing_is_given_back_by_a_loop_that_has_ended() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert not on_loop(loop, lambda: True)
