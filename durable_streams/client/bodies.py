"""The body of an answer as it arrives, bounded: a server cannot fill the memory of its clients.

It may come compressed, by gzip, which proxies do; what comes out of it is bounded as what arrives
is.  Of an answer that refuses, only what people might read of its text is taken.  And it has to
arrive: a body that trickles counts as lost, as a silent one does.  No I/O, and no clock of its own.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Final

from durable_streams.client.steps import Answer, Disconnected
from durable_streams.model.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_BYTES: Final = 256 * 1024 * 1024
"""Of one answer, or event: sixteen times what one append to our server can be, which it never cuts
in two, and not all memory.  Servers that answer with a whole stream at once may need more."""

REFUSAL_BYTES: Final = 64 * 1024
"""Of an answer that refuses: its text is for people, and its headers say all that counts."""

SLOWEST_BYTES_PER_S: Final = 1024
"""Less, for longer than the server may be silent, is no network that somebody reads by."""

ACCEPTED: Final = "gzip"
"""What is sent as ``Accept-Encoding``."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_AS_IT_IS: Final = frozenset({"", "identity"})


def coding_of(head: Answer) -> str:
    """How a body is coded, in lower case; "" if it is not."""
    coding = head.header("content-encoding").strip().lower()
    return "" if coding in _AS_IT_IS else coding


class Body:
    """What has come of one body.

    ``limit_bytes``: of an answer that is no refusal.  ``silence_s``: how long the server may be
    silent; ``now``: seconds of any clock that goes on.
    """

    def __init__(
        self, head: Answer, limit_bytes: int, silence_s: float, now: Callable[[], float]
    ) -> None:
        self._head = head
        self._is_refusal = not 200 <= head.status < 300
        self._limit = min(REFUSAL_BYTES, limit_bytes) if self._is_refusal else limit_bytes
        self._silence_s = silence_s
        self._now = now
        self._began_s = now()
        self._coding = coding_of(head)
        self._unpacking = zlib.decompressobj(_GZIP)
        self._taken = BytesIO()  # as pieces may be of a byte each
        self._size = self._arrived = 0

    def take(self, piece: bytes) -> bool:
        """Take the next bytes; False: no more is wanted.  Raises :class:`Disconnected`.

        ``UnexpectedAnswer`` for more than there may be, and for what cannot be unpacked.
        """
        self._arrived += len(piece)
        may_take_s = 2 * self._silence_s + self._arrived / SLOWEST_BYTES_PER_S
        if self._now() - self._began_s > may_take_s:
            raise Disconnected(f"only {self._arrived} bytes of the answer came")
        if self._coding and not self._is_refusal:
            piece = self._unpacked(piece)
        self._taken.write(piece)
        self._size += len(piece)
        if max(self._size, self._arrived) <= self._limit:
            return True
        if self._is_refusal:
            return False
        raise UnexpectedAnswer(
            f"the answer has more than {self._limit} bytes: if that may be, give the client more "
            "(answer_bytes); else see what the URL is of"
        )

    def _unpacked(self, piece: bytes) -> bytes:
        """What is in the next bytes, one byte more than may be at most."""
        if self._coding != ACCEPTED:
            raise UnexpectedAnswer(
                f"the answer is coded as {self._coding[:32]!r}, which was not asked for: see what "
                "is between this program and the server"
            )
        try:
            unpacked = self._unpacking.decompress(piece, self._limit + 1 - self._size)
        except zlib.error as error:
            raise UnexpectedAnswer(f"the answer cannot be unpacked: {error}") from None
        if self._unpacking.unused_data:  # a second member, say: nothing is cut off unheard
            raise UnexpectedAnswer("the answer cannot be unpacked: something is behind its end")
        return unpacked

    def whole(self) -> Answer:
        """The answer with its body; :class:`Disconnected` if that was cut off."""
        head = self._head
        if self._coding and self._is_refusal:
            return head
        if self._coding and self._arrived and not self._unpacking.eof:
            raise Disconnected("the answer was cut off")
        return Answer(head.status, head.headers, self._taken.getvalue())
