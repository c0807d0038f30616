"""Slices of files as bytes, for fronts and connections that know no ``sendfile``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.http.turns import Turns
    from durable_streams.model.results import FileSlice


async def pieces_of(part: FileSlice, size: int, turns: Turns) -> AsyncIterator[bytes]:
    """The bytes of a slice, up to ``size`` at a time, each read when it is asked for.

    No read waits for the disk: what is not in memory yet is read by others before.
    :class:`EOFError` if the file is shorter.
    """
    position, end = part.position, part.position + part.size
    while position < end:
        wanted = min(end - position, size)
        await part.file.warm(wanted, position)
        await turns.take()
        data = part.file.read(wanted, position)
        if not data:
            raise EOFError(f"a file ends at {position}, before the slice to be sent does")
        position += len(data)
        yield data
