"""What was read and is not sent yet, in memory: of files and arguments, which stay where they are.

The same verbs as :class:`.Spool`.
"""

from __future__ import annotations

import os
from itertools import repeat
from typing import TYPE_CHECKING, Protocol

from durable_streams.shell.spool import Batch
from durable_streams.shell.waiting import READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.model.commands import ProducerClaim
    from durable_streams.shell.cutting import Cutter


class Buffer(Protocol):
    """Between what is read and what is sent."""

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""

    @property
    def uncut(self) -> int:
        """How many bytes are in no append yet."""

    @property
    def is_ready(self) -> bool:
        """Whether there is an append that waits for nothing."""

    def take(self, fd: int) -> int:
        """Read what there is; 0 at its end."""

    def next(self, *, is_last: bool) -> Batch | None:
        """The next append; None if more has to be read first."""

    def done(self, batch: Batch) -> None:
        """An append is stored."""

    def finish(self) -> None:
        """All of it is stored, and nothing more is read."""


class Memory:
    """A buffer that is gone with the program."""

    def __init__(self, cutter: Cutter, claims: Iterator[ProducerClaim] | None, data: bytes) -> None:
        """``claims``: of the appends; None: nobody's.  ``data``: what is there to begin with."""
        self._cutter = cutter
        self._claims: Iterator[ProducerClaim | None] = repeat(None) if claims is None else claims
        self._data = bytearray(data)

    @property
    def has_room(self) -> bool:
        """See :class:`Buffer`."""
        uncut = self.uncut
        return uncut < 2 * self._cutter.batch_bytes or self._cutter.wants(uncut)

    @property
    def uncut(self) -> int:
        """See :class:`Buffer`."""
        return len(self._data)

    @property
    def is_ready(self) -> bool:
        """See :class:`Buffer`."""
        return False

    def take(self, fd: int) -> int:
        """See :class:`Buffer`."""
        data = os.read(fd, READ_BYTES)
        self._data += data
        return len(data)

    def next(self, *, is_last: bool) -> Batch | None:
        """See :class:`Buffer`."""
        while self._data:
            data = bytes(self._data[: self._cutter.look_at(len(self._data))])
            is_rest = is_last and len(data) == len(self._data)
            end, body = self._cutter.cut(data, is_last=is_rest)
            if not end:
                return None
            del self._data[:end]
            if body:
                return Batch(next(self._claims), body)
        return None

    def done(self, batch: Batch) -> None:
        """See :class:`Buffer`."""

    def finish(self) -> None:
        """See :class:`Buffer`."""
