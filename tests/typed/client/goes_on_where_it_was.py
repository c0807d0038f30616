"""A worker that keeps the offset of what it has done, and claims what it appends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams import JsonResult, MessagesResult, ProducerClaim

if TYPE_CHECKING:
    from durable_streams import RemoteStreams


async def work(streams: RemoteStreams, offset: str, done: int) -> tuple[str, int]:
    found: JsonResult = await streams.read_json("jobs", offset, live=True, timeout_s=20)
    for value in found.values:
        claim = ProducerClaim("worker", 0, done)
        await streams.append_json("results", value * 2, producer=claim)
        done += 1
    return found.next_offset, done


async def offsets(streams: RemoteStreams) -> list[str]:
    found: MessagesResult = await streams.read_messages("jobs")
    # by mistake: `found_here = found.values`
    found_here = found.messages
    return [message.offset for message in found_here]
