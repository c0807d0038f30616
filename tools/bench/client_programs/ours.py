"""Our client: ``python ours.py URL MANY FEW``; prints messages a second."""

import asyncio
import json
import sys
import time

import durable_streams

url, many, few = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


async def main() -> None:
    async with durable_streams.connect(url) as streams:
        for path in ("few", "many"):
            await streams.create(path, content_type="application/json")
        begin = time.perf_counter()
        for number in range(few):
            await streams.append_json("few", {"number": number, "text": "0123456789"})
        one_by_one = few / (time.perf_counter() - begin)

        begin = time.perf_counter()
        async with streams.producer("many", "bench") as producer:
            for number in range(many):
                await producer.append_json({"number": number, "text": "0123456789"})
        background = many / (time.perf_counter() - begin)

        begin = time.perf_counter()
        seen, offset, is_over = 0, "-1", False
        while not is_over:
            piece = await streams.read_json("many", offset)
            seen += sum(value["number"] >= 0 for value in piece.values)
            offset, is_over = piece.next_offset, piece.up_to_date
        read = seen / (time.perf_counter() - begin)
    assert seen == many
    print(json.dumps({"one_by_one": one_by_one, "many": background, "read": read}))


asyncio.run(main())
