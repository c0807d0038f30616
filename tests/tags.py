"""Which ETag names which bytes: what caches build on."""

from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import parse_path_text
from durable_streams.store import Store
from durable_streams.wire.caching import etag


async def tags(engine: Store, path: str) -> dict[str, bytes]:
    """The ETag and the bytes of every answer on the way through a stream to its tail."""
    stream = await engine.open(parse_path_text(path))
    found: dict[str, bytes] = {}
    start: Offset | Start = Start.BEGINNING
    while True:
        chunk = await engine.read(stream, start)
        tag = etag(chunk)
        found[tag] = b"".join([piece async for piece in engine.pieces(chunk, 4096)])
        if chunk.at_tail:
            return found
        start = chunk.end


def assert_agree(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """What has the same tag has the same bytes."""
    assert {tag: before[tag] for tag in before if tag in after} == {
        tag: after[tag] for tag in after if tag in before
    }
