"""Answers whose head is cut off, which ``http.client`` takes for whole.

To it the end of the connection is the end of the head.  What is missing then would be believed:
that the stream is closed, where to read on, how long the body is.
"""

from __future__ import annotations

from http.client import HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from io import BufferedIOBase

_ENDS_A_HEAD: Final = frozenset({b"\r\n", b"\n"})


class _Lines:
    """A file, and the line that was read of it last."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the file
        return getattr(self._file, name)


class WholeHead(HTTPResponse):
    """An answer whose head ended with an empty line; else ``IncompleteRead``, as for a body."""

    def begin(self) -> None:
        """Read the head."""
        file: Any = self.fp
        lines: Any = _Lines(file)
        self.fp = lines
        try:
            super().begin()
        finally:
            if self.fp is lines:
                self.fp = file
        if lines.last not in _ENDS_A_HEAD:
            self.close()
            raise IncompleteRead(b"")
