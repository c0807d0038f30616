"""Calls that fail: what a disk, a full file system or a busy machine may answer at any moment."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

    from durable_streams.filestore.files.disk import StrPath

_GROWING: Final = ("write", "create", "make_directory", "rename", "link")
_CHANGING: Final = (*_GROWING, "truncate", "unlink", "remove_directory")
_OPENING: Final = ("open", "create")
_SYNCING: Final = ("sync", "sync_directory", "sync_file_system")

_NO_ROOM: Final = "no-room"
_PLENTY: Final = (1 << 40, 1 << 30)
_LOOKS_EVERY_MS: Final = 1100  # the engine looks twice a second, and acts on it at once

_KINDS: Final = {  # name: which calls, on paths with what in them, the error, how many in a row
    "journal-full": (("write",), "journal", errno.ENOSPC, 1),
    "full": (_GROWING, "", errno.ENOSPC, 20),
    "descriptors": (_OPENING, "", errno.EMFILE, 10),
    "failed-write": (_CHANGING, "", errno.EIO, 1),
    "failed-read": (("read", "open"), "", errno.EIO, 3),
    "failed-sync": (_SYNCING, "", errno.EIO, 1),
}


class Faults:
    """The faults of one generation; ``kind`` is empty if there are none.

    ``armed``: whether calls fail now.  ``sync_failed``: whether a sync did.  The kind
    ``no-room`` fails nothing: now and then the disk says that it is nearly full.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._short_at_ms: int | None = None
        self._is_short = False
        self.kind = random.choice(("",) * 6 + (*_KINDS, _NO_ROOM))
        self._rate = random.choice((0.002, 0.01, 0.05))
        self._short = random.random() < 0.3
        self._left = 0
        self.armed = False
        self.sync_failed = False

    def strike(self, call: str, path: StrPath) -> None:
        """Raise, if this call is to fail."""
        if not self.fails or not self.armed:
            return
        calls, where, number, in_a_row = _KINDS[self.kind]
        if call not in calls or where not in str(path):
            return
        if self._left:
            self._left -= 1
        elif self._random.random() < self._rate:
            self._left = self._random.randrange(in_a_row)
        else:
            return
        self.sync_failed = self.sync_failed or call in _SYNCING
        raise OSError(number, os.strerror(number), str(path))

    def short(self, size: int) -> int:
        """How many of so many bytes a write takes."""
        if not self._short or not self.armed or size < 2 or self._random.random() < 0.8:
            return size
        return self._random.randrange(1, size)

    @property
    def fails(self) -> bool:
        """Whether calls fail."""
        return self.kind not in ("", _NO_ROOM)

    def room(self, now_ms: int) -> tuple[int, int]:
        """Free bytes and inodes: now and then nearly none, for a while."""
        if self.kind == _NO_ROOM and self.armed and self._random.random() < 0.2:
            self._is_short = not self._is_short
        if not self._is_short:
            return _PLENTY
        self._short_at_ms = now_ms
        return self._random.choice(((1 << 20, _PLENTY[1]), (_PLENTY[0], 5), (0, 0)))

    def explain_full(self, now_ms: int) -> bool:
        """Whether a write may be refused for want of room."""
        if self.kind == _NO_ROOM:
            since = None if self._short_at_ms is None else now_ms - self._short_at_ms
            return since is not None and since <= _LOOKS_EVERY_MS
        return self.kind in ("journal-full", "full")
