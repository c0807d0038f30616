"""A reader that follows for ever, and goes on where it was."""

from __future__ import annotations

from contextlib import aclosing

import durable_streams
from durable_streams import Message, RemoteTail


async def follow(since: str) -> str:
    url = "http://localhost:4437/v1/stream"
    async with durable_streams.connect(url, live="sse", silence_s=120.0) as streams:
        tail: RemoteTail = streams.tail("chat/1", since)
        async with aclosing(tail) as messages:
            async for message in messages:
                show(message)
                since = message.offset
    return since if tail.closed else tail.offset


def show(message: Message) -> None:
    # by mistake: `print(message.text)`
    print(message.json()["text"], len(message.data))
