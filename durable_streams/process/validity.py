"""From when to when a certificate is good: what its bytes say, by RFC 5280, section 4.1.

``ssl`` tells that of nobody's certificate but a peer's, so the few fields before it are passed over
here.  No more than that is looked at: whether the certificate will do is ``ssl``'s to say.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18

_SHORT_LENGTH: Final = 0x80  # one byte says a length below it, or of how many bytes the length is
_CENTURY: Final = 50
"""Two digits from there on are years of the last century."""


class Validity(NamedTuple):
    """Seconds since 1970: good from ``begin_s`` to ``end_s``."""

    begin_s: float
    end_s: float


def validity_of(certificate: bytes) -> Validity:
    """That of a certificate in DER; ``ValueError`` if it is none."""
    fields = _Fields(_Fields(_Fields(certificate).take(_SEQUENCE)).take(_SEQUENCE))
    if fields.next_tag() == _VERSION:
        fields.take()
    for _ in ("serial number", "algorithm", "issuer"):
        fields.take()
    dates = _Fields(fields.take(_SEQUENCE))
    return Validity(dates.take_time(), dates.take_time())


class _Fields:
    """The values that stand in some bytes, one behind the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def next_tag(self) -> int:
        """What kind of value the next one is."""
        if self._at >= len(self._data):
            raise ValueError("a certificate ends too early")
        return self._data[self._at]

    def take(self, tag: int | None = None) -> bytes:
        """The next value, which is of that kind."""
        if tag not in (None, self.next_tag()):
            raise ValueError("a certificate has another field where that should be")
        size_at = self._at + 1
        begin = size_at + 1
        size = self._data[size_at] if size_at < len(self._data) else 0
        if size >= _SHORT_LENGTH:
            begin += size - _SHORT_LENGTH
            size = int.from_bytes(self._data[size_at + 1 : begin], "big")
        self._at = begin + size
        if self._at > len(self._data):
            raise ValueError("a certificate ends too early")
        return self._data[begin : self._at]

    def take_time(self) -> float:
        """The next value, which is a time: ``YYMMDDHHMMSSZ``, or with the whole year."""
        tag = self.next_tag()
        text = self.take().decode("ascii")
        if tag == _UTC_TIME:
            text = f"{'19' if int(text[:2]) >= _CENTURY else '20'}{text}"
        elif tag != _GENERALIZED_TIME:
            raise ValueError("a certificate has no time where one should be")
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
