"""Heads of answers that ``http.client`` takes for whole though they are cut off, or reads for ever.

To it the end of the connection is the end of the head.  What is missing then would be believed:
that the stream is closed, where to read on, how long the body is.  And it reads any number of
interim answers and of lines behind the last chunk, as slowly as they come.
"""

from __future__ import annotations

import math
from http.client import HTTPException, HTTPResponse, IncompleteRead
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from io import BufferedReader
    from socket import socket

_ENDS_A_HEAD: Final = frozenset({b"\r\n", b"\n"})

_MOST_LINES: Final = 512
"""In a row, with nothing else between them: of a head with its interim answers, or of trailers.
``http.client`` takes 100 of one head."""


class _Lines:
    """A file, and the line that was read of it last; lines in a row are bounded, and their time.

    ``silence_s``: how long nothing may come; twice that is for a row of lines.
    """

    def __init__(self, file: BufferedReader, silence_s: float | None) -> None:
        self._file = file
        self._row_s = math.inf if silence_s is None else 2 * silence_s
        self._row = 0
        self._began_s = 0.0
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        if not self._row:
            self._began_s = monotonic()
        self._row += 1
        if self._row > _MOST_LINES:
            raise HTTPException(f"the answer has more than {_MOST_LINES} lines in a row")
        self.last = self._line(limit)
        return self.last

    def _line(self, limit: int) -> bytes:
        """A line, whose bytes may come one by one, but not for ever."""
        line = b""
        while there := self._file.peek(1):  # waits for one byte at most
            end = there.find(b"\n") + 1 or len(there)
            line += self._file.read(end if limit < 0 else min(end, limit - len(line)))
            if monotonic() - self._began_s > self._row_s:
                raise TimeoutError("the head of the answer came too slowly")
            if line[-1:] == b"\n" or len(line) == limit:
                break
        return line

    def read1(self, size: int = -1) -> bytes:
        self._row = 0
        return self._file.read1(size)

    def read(self, size: int | None = -1) -> bytes:
        self._row = 0
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the file
        return getattr(self._file, name)


class WholeHead(HTTPResponse):
    """An answer whose head ended with an empty line; else ``IncompleteRead``, as for a body."""

    def __init__(self, sock: socket, *args: Any, **named: Any) -> None:  # noqa: ANN401 - as it has them
        super().__init__(sock, *args, **named)
        self._lines = _Lines(self.fp, sock.gettimeout())
        self.fp: Any = self._lines

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        if self._lines.last not in _ENDS_A_HEAD:
            self.close()
            raise IncompleteRead(b"")
