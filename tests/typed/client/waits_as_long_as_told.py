"""A job that gives up soon, and one that never does."""

from __future__ import annotations

import durable_streams
from durable_streams import Retries

SOON = Retries(first_s=0.05, longest_s=1, give_up_s=5, repeats=3, factor=3)
# by mistake: `NEVER = Retries(max_retries=10)`
NEVER = Retries(give_up_s=3600, unsure=True)


async def copy(here: str, there: str) -> int:
    copied = 0
    async with (
        durable_streams.connect(here, retries=SOON, answer_bytes=2**30) as source,
        durable_streams.connect(there, retries=NEVER, connect_s=3) as target,
    ):
        async for message in source.tail("a", live=False):
            done = await target.append("a", message.data, content_type="text/plain")
            # by mistake: `copied += done.next_offset`
            copied += not done.duplicate
    return copied
