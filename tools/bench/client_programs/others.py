# mypy: ignore-errors
"""PyPI's ``durable-streams``, async: ``python others.py URL MANY FEW``; prints messages a second.

Its appends in the background are batched by the client as well; they are repeated by nobody.
"""

import asyncio
import json
import sys
import time

from durable_streams import AsyncDurableStream, astream

url, many, few = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
AT_ONCE = 5000
JSON = "application/json"


async def main() -> None:
    for path in ("few", "many"):
        await (await AsyncDurableStream.create(f"{url}/{path}", content_type=JSON)).aclose()
    async with AsyncDurableStream(f"{url}/few", content_type=JSON, batching=False) as handle:
        begin = time.perf_counter()
        for number in range(few):
            await handle.append({"number": number, "text": "0123456789"})
        one_by_one = few / (time.perf_counter() - begin)

    async with AsyncDurableStream(f"{url}/many", content_type=JSON) as handle:
        begin = time.perf_counter()
        for first in range(0, many, AT_ONCE):
            numbers = range(first, min(many, first + AT_ONCE))
            rows = [{"number": number, "text": "0123456789"} for number in numbers]
            await asyncio.gather(*[handle.append(row) for row in rows])
        background = many / (time.perf_counter() - begin)

    begin = time.perf_counter()
    seen = 0
    async with astream(f"{url}/many", offset="-1", live=False) as response:
        async for event in response.iter_events(mode="json"):
            seen += sum(message["number"] >= 0 for message in event.data)
    read = seen / (time.perf_counter() - begin)
    assert seen == many
    print(json.dumps({"one_by_one": one_by_one, "many": background, "read": read}))


asyncio.run(main())
