"""A data directory that format 1 wrote, as a killed process left it: every version must read it.

Made once and never again; a new format gets a directory of its own beside this one.
"""

import shutil
from pathlib import Path

import pytest

from durable_streams.library import open_streams
from durable_streams.protocol.commands import ProducerClaim

GOLDEN = Path(__file__).parent / "golden" / "format-1"
BYTES = b"first.second.third, in a segment of its own."


@pytest.fixture(params=["with its journal", "without its journal"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(GOLDEN, copy)
    if request.param == "without its journal":
        shutil.rmtree(copy / "journal")
    return copy


async def test_the_directory_of_format_1_is_read(data: Path) -> None:
    async with open_streams(data) as streams:
        messages = [message.data async for message in streams.tail("Json/room 1")]
        assert messages == [b'{"a": 1}', b"2", b'"last"']
        metadata = await streams.get_metadata("Json/room 1")
        assert (metadata.closed, metadata.ttl_s) == (True, 3_000_000_000)
        for path, content in (("bytes", BYTES), ("fork", BYTES + b"own.")):
            parts, offset, more = [], "-1", True
            while more:
                result = await streams.read(path, offset)
                parts.append(result.data)
                offset, more = result.next_offset, result.has_more
            assert b"".join(parts) == content


async def test_its_producers_are_known(data: Path) -> None:
    async with open_streams(data) as streams:
        again = await streams.append("bytes", b"a retry", producer=ProducerClaim("p", 0, 1))
        assert again.duplicate
