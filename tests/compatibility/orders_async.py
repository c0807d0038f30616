# mypy: ignore-errors
"""PyPI's ``durable-streams``, async: producers side by side, readers of each kind, batches.

The server is killed and started while they are at it.  Prints what each reader saw.

    python orders_async.py URL COUNT
"""

import asyncio
import sys

import httpx
from outages import finish, order

import durable_streams
from durable_streams import AsyncDurableStream, astream

url, count = sys.argv[1], int(sys.argv[2])
PRODUCERS = ("left", "right")
READ_TIMEOUT_S = 60


async def produce(name: str, acknowledged: asyncio.Semaphore) -> None:
    """The same as ``numbered.py``, without threads."""
    number = 0
    producer = {
        "Producer-Id": name,
        "Producer-Epoch": "0",
        "Producer-Seq": lambda: str(number),
    }
    json = "application/json"
    async with AsyncDurableStream(
        url, content_type=json, headers=producer, batching=False
    ) as handle:
        while number < count:
            try:
                await handle.append([name, number])
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                number += 1
                acknowledged.release()


async def follow(live: str, seen: list[object]) -> None:
    """Read until all producers are done, asking again whenever a reading ends before."""
    offset = "-1"
    while len(seen) < len(PRODUCERS) * count:
        try:
            async with astream(url, offset=offset, live=live, timeout=READ_TIMEOUT_S) as response:
                async for event in response.iter_events(mode="json"):
                    seen += event.data
                    offset = event.next_offset
                    if len(seen) >= len(PRODUCERS) * count:
                        break
        except httpx.TransportError:
            await asyncio.sleep(0.05)


async def strike(acknowledged: asyncio.Semaphore) -> None:
    for _ in range(count // 3):
        await acknowledged.acquire()
    for word in ("kill", "start"):
        await asyncio.to_thread(order, word)


async def main() -> None:
    handle = await AsyncDurableStream.create(url, content_type="application/json")
    acknowledged = asyncio.Semaphore(0)
    seen = {"long-poll": [], "sse": []}
    async with asyncio.TaskGroup() as tasks:
        for name in PRODUCERS:
            tasks.create_task(produce(name, acknowledged))
        for live, messages in seen.items():
            tasks.create_task(follow(live, messages))
        tasks.create_task(strike(acknowledged))
    end = (await handle.head()).offset
    await asyncio.gather(*(handle.append(["batch", number]) for number in range(count)))
    async with handle.stream(offset=end, live=False) as response:
        batch = await response.read_json()
    await handle.aclose()
    finish({"version": durable_streams.__version__, "seen": seen, "batch": batch})


asyncio.run(main())
