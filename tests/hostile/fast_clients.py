"""Clients that behave, among those that do not: they finish, and tell how long it took."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tools.server_process import ServerProcess

FAST_CLIENTS: Final = 4
FAST_REQUESTS: Final = 200  # appends of each client, and as many reads


def fast_client(server: ServerProcess, name: str, took: list[float]) -> None:
    """Append and read back, one after the other; every answer has to be right."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    offset = "-1"
    client.request("PUT", f"/v1/stream/{name}", headers={"Content-Type": "text/plain"})
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (201, b""), name
    for number in range(FAST_REQUESTS):
        body = b"%s-%06d" % (name.encode(), number)
        began = time.perf_counter()
        client.request("POST", f"/v1/stream/{name}", body, {"Content-Type": "text/plain"})
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (204, b""), name
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
        client.request("GET", f"/v1/stream/{name}?offset={offset}")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, body), name
        took.append(time.perf_counter() - began)
        offset = answer.headers["Stream-Next-Offset"]
    client.close()


def run_fast_clients(server: ServerProcess, label: str) -> None:
    """All of them at once; prints how long their requests took."""
    took: list[float] = []
    with ThreadPoolExecutor(FAST_CLIENTS) as pool:
        names = [f"{label}-{n}" for n in range(FAST_CLIENTS)]
        list(pool.map(lambda name: fast_client(server, name, took), names))
    assert len(took) == FAST_CLIENTS * FAST_REQUESTS * 2
    cuts = quantiles(took, n=1000)
    shown = ", ".join(f"p{p / 10:g} {cuts[p - 1] * 1000:.2f} ms" for p in (500, 990, 999))
    print(f"\nfast clients {label}: {shown}, worst {max(took) * 1000:.1f} ms")
