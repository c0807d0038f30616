"""A file to send slices of, as the file store has them, but of any file."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.reading.read_ahead import ReadAhead

if TYPE_CHECKING:
    from concurrent.futures import Executor


class Readable:
    """An open file, whose slices may be sent."""

    def __init__(self, file: IO[bytes], executor: Executor | None = None) -> None:
        self.fileno = file.fileno
        self._ahead = ReadAhead(Disk(), executor)

    def read(self, size: int, position: int) -> bytes:
        return os.pread(self.fileno(), size, position)

    async def warm(self, size: int, position: int) -> None:
        await self._ahead.warm(self.fileno(), size, position)
