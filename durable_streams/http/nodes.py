"""``GET __ds/nodes``: the servers that serve the same streams, for whoever may see the metrics."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import MethodNotAllowed
from durable_streams.model.paths import RESERVED_SEGMENT
from durable_streams.wire import replies
from durable_streams.wire.replies import Reply

if TYPE_CHECKING:
    from durable_streams.store import Store

PATH: Final = f"{RESERVED_SEGMENT}/nodes"

_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


async def answer(store: Store, method: str) -> Reply:
    """Answer a request of whoever may see them."""
    if method == "OPTIONS":
        return replies.preflight()
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowed("nodes are read by GET or HEAD")
    told = [
        {
            "name": node.name,
            "version": node.version,
            "began": _text(node.began_ms),
            "seen": _text(node.seen_ms),
            "this": node.is_this,
        }
        for node in await store.nodes()
    ]
    return Reply(200, _HEADERS, msgspec.json.encode({"nodes": told}))


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
