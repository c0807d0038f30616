"""Paths whose streams were removed a moment ago: ``REMOVED.json``, one JSON object, indented.

::

    {"format": 1, "floor": 0, "paths": {"chat/room-1": 6}, "checksum": "<16 hex>"}

``paths``     by path (see ``stored_path``), the number that the first segment of a stream made
              there has at least: it is above those of the stream that was there
``floor``     the same of all other paths
``checksum``  the seal of the other fields (``checksum``)

It has no times: whoever reads it remembers all of it for as long as what was removed just now, by a
clock that nobody sets.  So it may say too much, which harms nobody, and never forgets too early.

The file is only ever replaced whole, by a rename, and before the journal forgets deletions that it
has not.  No copy needs it: it matters for minutes.  A newer format keeps ``format`` first.
"""

from __future__ import annotations

from typing import Final

import msgspec

from durable_streams.filestore.format.checksum import is_sealed, seal

FORMAT: Final = 1


class Removed(msgspec.Struct):
    """What the file says."""

    floor: int = 0
    paths: dict[str, int] = msgspec.field(default_factory=dict)

    def note(self, path: str, first: int) -> None:
        """A stream at a path begins at this segment at least."""
        self.paths[path] = max(first, self.paths.get(path, 0))

    def merge(self, other: Removed) -> None:
        """Have what both say."""
        self.floor = max(self.floor, other.floor)
        for path, first in other.paths.items():
            self.note(path, first)


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    floor: int
    paths: dict[str, int]
    checksum: str = ""


class BadRemoved(ValueError):
    """The file is not intact, or of a format that this version does not know."""


_decoder: Final = msgspec.json.Decoder(_Stored)
_NO_CHECKSUM: Final = b',"checksum":""}'


def pack(removed: Removed) -> bytes:
    """The bytes of ``REMOVED.json``."""
    stored = _Stored(FORMAT, removed.floor, removed.paths)
    text = msgspec.json.encode(stored).removesuffix(_NO_CHECKSUM) + b"}"
    return msgspec.json.format(seal(text), indent=2) + b"\n"


def unpack(data: bytes) -> Removed:
    """Read ``REMOVED.json``; :class:`BadRemoved` says what is wrong with it."""
    try:
        stored = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRemoved(f"unreadable: {error}") from None
    if stored.format != FORMAT:
        raise BadRemoved(f"format {stored.format} is unknown to this version")
    if not is_sealed(msgspec.json.format(data, indent=-1)):
        raise BadRemoved("its checksum does not match")
    return Removed(stored.floor, stored.paths)
