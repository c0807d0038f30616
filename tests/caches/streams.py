"""What the tests do with streams, directly or through a cache."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.http.client import Answer, Client

MIB: Final = 1024 * 1024
BYTES: Final = {"Content-Type": "application/octet-stream"}
TEXT: Final = {"Content-Type": "text/plain"}
CLOSE: Final = {"Stream-Closed": "true"}
APPENDS: Final = 6
"""Of 1 MiB each: a read ends before the tail of them."""


def appends() -> Iterator[bytes]:
    """So many bodies that one read does not return them all."""
    random = Random("appends")
    return (random.randbytes(MIB) for _ in range(APPENDS))


async def create(
    client: Client, path: str, body: bytes = b"", headers: Mapping[str, str] = TEXT
) -> None:
    answer = await client.request("PUT", path, body, headers)
    assert answer.status == 201, answer


async def append(client: Client, path: str, body: bytes, headers: Mapping[str, str] = TEXT) -> None:
    answer = await client.request("POST", path, body, headers)
    assert answer.status == 204, answer


async def create_long(client: Client, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Create a stream that no single read returns whole; its content."""
    bodies = list(appends())
    await create(client, path, headers=BYTES | dict(headers or {}))
    for body in bodies:
        await append(client, path, body, BYTES)
    return b"".join(bodies)


async def read(
    client: Client, path: str, offset: str = "-1", headers: Mapping[str, str] | None = None
) -> Answer:
    return await client.request("GET", f"{path}?offset={offset}", headers=headers)


async def read_piece(
    client: Client, path: str, offset: str = "-1", headers: Mapping[str, str] | None = None
) -> Answer:
    """Read what must end before the tail."""
    answer = await read(client, path, offset, headers)
    assert answer.status == 200, answer
    assert "stream-up-to-date" not in answer.headers
    return answer


def is_hit(answer: Answer) -> bool:
    """Whether the cache says that it had the answer."""
    return answer.headers["x-cache"] in {"HIT", "STALE", "UPDATING"}
