"""Reading a segment file piece by piece, to compare its bytes with the checksums of appends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from durable_streams.filestore.format.checksum import crc32

if TYPE_CHECKING:
    from durable_streams.filestore.files.disk import Disk, StrPath
    from durable_streams.filestore.format.index_lines import Appended

_PIECE: Final = 1 << 20  # bytes read at a time


class SegmentReader:
    """An open segment file; as good as empty if it is missing."""

    def __init__(self, disk: Disk, file: StrPath) -> None:
        self._file = file
        self._disk = disk
        self._fd: int | None = None
        self.size = 0

    def __enter__(self) -> Self:
        try:
            self._fd = self._disk.open_read(self._file)
        except FileNotFoundError:
            return self
        self.size = self._disk.file_status(self._fd).size_bytes
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            self._disk.close(self._fd)

    def has_bytes_of(self, found: Appended) -> bool:
        """Whether the bytes of an append, which are all there, are those its line is of."""
        return f"{self._checksum(found.begin, found.line.end):08x}" == found.line.crc32

    def bytes_of(self, found: Appended) -> bytes:
        """The bytes of an append, as many of them as are there."""
        if self._fd is None:
            return b""
        return self._disk.pread(self._fd, found.line.end - found.begin, found.begin)

    def _checksum(self, begin: int, end: int) -> int:
        crc = 0
        while begin < end:
            assert self._fd is not None
            piece = self._disk.pread(self._fd, min(_PIECE, end - begin), begin)
            if not piece:
                break
            crc = crc32(piece, crc)
            begin += len(piece)
        return crc
