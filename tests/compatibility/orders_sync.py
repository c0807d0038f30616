# mypy: ignore-errors
"""PyPI's ``durable-streams``, sync: a producer, readers of each kind, and one that goes on later.

The server is killed and started while they are at it.  Prints what each reader saw.

    python orders_sync.py URL COUNT
"""

import sys
import threading

import httpx
from numbered import Numbered
from outages import finish, order

import durable_streams
from durable_streams import DurableStream, stream

url, count = sys.argv[1], int(sys.argv[2])
END = "end"
READ_TIMEOUT_S = 60
acknowledged = threading.Semaphore(0)


def produce() -> None:
    producer = Numbered(url, "orders")
    for number in range(count):
        producer.append(number)
        acknowledged.release()
    producer.append(END)


def follow(live: str, offset: str, seen: list[object]) -> None:
    """Read to the end, asking again behind what was read whenever that ends before."""
    while END not in seen:
        try:
            with stream(url, offset=offset, live=live, timeout=READ_TIMEOUT_S) as response:
                for event in response.iter_events(mode="json"):
                    seen += event.data
                    offset = event.next_offset
                    if END in seen:
                        return
        except httpx.TransportError:
            pass


def asks_for_ever(times: int = 3) -> bool:
    """Whether a reader of the closed stream, at its end, asks that often and is not done."""
    requests = []

    def count_request(request: httpx.Request) -> None:
        requests.append(request)
        if len(requests) == times:
            raise StopAsking

    with httpx.Client(event_hooks={"request": [count_request]}) as client:
        try:
            for _ in stream(url, offset="now", live="long-poll", client=client).iter_json():
                pass
        except StopAsking:
            return True
    return False


class StopAsking(Exception):
    pass


DurableStream.create(url, content_type="application/json")
seen = {"long-poll": [], "sse": [], "auto": []}
threads = [threading.Thread(target=follow, args=(live, "-1", seen[live])) for live in seen]
threads.append(threading.Thread(target=produce))
for thread in threads:
    thread.start()
for _ in range(count // 3):
    acknowledged.acquire()
order("kill")
order("start")
for thread in threads:
    thread.join()

with stream(url, live=False) as response:
    response.read_json()
    kept = response.offset
later = DurableStream.connect(url)
later.append("later")
with stream(url, offset=kept, live=False) as response:
    resumed = response.read_json()
httpx.post(url, headers={"Stream-Closed": "true"}).raise_for_status()
finish(
    {
        "version": durable_streams.__version__,
        "seen": seen,
        "resumed": resumed,
        "asks for ever": asks_for_ever(),
    }
)
