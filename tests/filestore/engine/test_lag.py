"""How far the files are behind the journal."""

from __future__ import annotations

import asyncio

from durable_streams.filestore.pipeline.lag import Lag


async def test_it_is_what_is_durable_and_not_in_files() -> None:
    lag = Lag(asyncio.get_running_loop(), last=3)
    assert (bool(lag), lag.bytes, lag.applied, lag.last, lag.since) == (False, 0, 3, 0, None)
    lag.begins(4, 100)
    since = lag.since
    lag.begins(5, 20)
    lag.begins(6, 3)
    assert (bool(lag), lag.bytes, lag.applied, lag.last, lag.since) == (True, 123, 3, 6, since)
    lag.ends(5)
    assert (bool(lag), lag.bytes, lag.applied, lag.last) == (True, 3, 5, 6)
    lag.ends(6)
    assert (bool(lag), lag.bytes, lag.applied, lag.last, lag.since) == (False, 0, 6, 0, None)
