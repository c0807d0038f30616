"""What a verb prints: gathered, and written when there is enough or nothing more to come soon."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from durable_streams.process.standard_streams import OutputFailed
from durable_streams.shell.waiting import write_all

_ENOUGH_BYTES: Final = 64 * 1024


class Output:
    """stdout; :class:`.OutputFailed` if it cannot be written."""

    def __init__(self) -> None:
        self._gathered = bytearray()
        sys.stdout.flush()
        self._fd = sys.stdout.fileno()
        self.is_terminal = sys.stdout.isatty()
        self.has_colours = self.is_terminal and not os.environ.get("NO_COLOR")

    async def put(self, data: bytes) -> None:
        """Have bytes printed."""
        self._gathered += data
        if len(self._gathered) >= _ENOUGH_BYTES:
            await self.flush()

    async def line(self, text: str) -> None:
        """Have a line printed; what the encoding of stdout does not have as an escape."""
        encoding = sys.stdout.encoding or "utf-8"
        await self.put(f"{text}\n".encode(encoding, "backslashreplace"))

    async def json(self, value: Any) -> None:  # noqa: ANN401 - whatever has JSON
        """Have a value printed as a line of JSON."""
        await self.put(json.dumps(value, ensure_ascii=False).encode(errors="replace") + b"\n")

    async def flush(self) -> None:
        """Write what was gathered."""
        data = bytes(self._gathered)
        self._gathered.clear()
        try:
            await write_all(self._fd, data)
        except OSError as error:
            raise OutputFailed(error) from error
