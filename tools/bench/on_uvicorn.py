"""Our streams as an ASGI application in uvicorn, for ``scripts/bench --asgi``.

``python -m tools.bench.on_uvicorn PORT DATA_DIR DURABILITY``: below the prefix that all contenders
have, and without the log of each request that uvicorn writes otherwise, as no other server does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import uvicorn

import durable_streams
from durable_streams import Durability, Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]


async def nothing(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """An application that has nothing."""
    if scope["type"] != "http":
        raise ValueError("there is no lifespan here")
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    port, data_dir, durability = sys.argv[1:]
    settings = Settings(durability=Durability(durability))
    streams = durable_streams.asgi(data_dir, settings=settings, drain_on_signals=True)
    uvicorn.run(
        streams.around(nothing),
        port=int(port),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        backlog=4096,
    )
