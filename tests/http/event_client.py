"""Clients of event streams, and how they read them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.http.client import Client

TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
CLOSE = {"Stream-Closed": "true"}


async def append(client: Client, path: str, body: bytes, headers: dict[str, str] = TEXT) -> None:
    answer = await client.request("POST", path, body, headers)
    assert answer.status in {200, 204}, answer


async def open_events(
    client: Client, target: str, headers: dict[str, str] | None = None, *, version: str = "1.1"
) -> dict[str, str]:
    client.ask("GET", target, headers=headers, version=version)
    head = await client.head()
    assert head.status == 200, head
    assert head.headers["content-type"] == "text/event-stream"
    return head.headers


def events(wire: bytes) -> list[tuple[str, bytes]]:
    """Parse an event stream as a client does: (event, lines joined by LF)."""
    found: list[tuple[str, bytes]] = []
    for block in wire.split(b"\n\n"):
        lines = [line.partition(b":")[::2] for line in block.split(b"\n")]
        names = [value.strip().decode() for field, value in lines if field == b"event"]
        data = [value.removeprefix(b" ") for field, value in lines if field == b"data"]
        if names:
            found.append((names[0], b"\n".join(data)))
    return found


def data_of(wire: bytes) -> bytes:
    return b"".join(data for name, data in events(wire) if name == "data")


def last_control(wire: bytes) -> dict[str, object]:
    control: dict[str, object] = json.loads(
        [data for name, data in events(wire) if name == "control"][-1]
    )
    return control


def ids(wire: bytes) -> list[str]:
    """The id of each event."""
    return [found.decode() for found in re.findall(rb"^id: (.*)$", wire, re.MULTILINE)]
