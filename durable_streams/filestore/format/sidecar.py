"""The sidecar of a stream: ``meta.json``, one JSON object, indented for people.

Fields are those of :class:`Sidecar`, in that order, and last ``checksum``, the seal of the others
(``checksum``).  The file is only ever replaced whole, by a rename, and only by a higher
``version``.

``format`` is 1, and 2 where there is the field ``first``, which is left out where it is 0.

A version that needs another field raises ``format`` and keeps ``format`` first and ``checksum``
last, so that this one tells a newer sidecar from a damaged one: it neither reads nor replaces it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from durable_streams.filestore.format.checksum import is_sealed, seal
from durable_streams.filestore.format.stored_path import unpack_path
from durable_streams.model.commands import FOREVER, ForkRequest, Lifetime
from durable_streams.model.tokens import parse_offset
from durable_streams.rules import media_type

FORMAT: Final = 2
READ_FORMATS: Final = (1, FORMAT)


class ForkOrigin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a fork comes from: as requested (``offset`` null: the tail) and as resolved.

    ``point``: the fork's own offset up to which it has its source's content.
    """

    source: str
    source_id: str
    offset: str | None
    sub_offset: int
    point: str

    def request(self) -> ForkRequest:
        """The fork headers of the PUT that made it."""
        offset = None if self.offset is None else parse_offset(self.offset)
        return ForkRequest(unpack_path(self.source), offset, self.sub_offset)


class Requested(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The lifetime as the PUT asked for it (a fork may inherit another); repeats must match it."""

    ttl_s: int | None = None
    expires_at: str | None = None
    expires_at_ms: int | None = None

    def lifetime(self) -> Lifetime:
        """The requested lifetime as the protocol's type."""
        return Lifetime(self.ttl_s, self.expires_at, self.expires_at_ms)


NOTHING_REQUESTED: Final = Requested()
NO_FORKS: Final[dict[str, str]] = {}
"""What most sidecars hold, once for all of them; so is a content type (``media_type.shared``)."""


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Identity and configuration of a stream.

    ``cuts``: how often bytes were lost, as 0.1 counted it for its ETags; kept as it is.
    ``root``: the chain its first index continues.  ``last_use_ms``: for the sliding TTL.
    ``first``: the number of its first segment, above those of a stream that was there before.
    ``forks``: id and path of forks that version 0.1 made; see ``fork_marks`` for others.  Paths are
    as ``stored_path`` has them.
    """

    format: int = 1
    version: int = 1
    id: str
    path: str
    content_type: str
    ttl_s: int | None = None
    expires_at: str | None = None
    expires_at_ms: int | None = None
    created_ms: int
    last_use_ms: int
    root: str
    requested: Requested
    fork: ForkOrigin | None = None
    forks: dict[str, str] = NO_FORKS
    soft_deleted: bool = False
    cuts: int = 0
    first: int = 0

    def may_say(self, segment: int, number: int) -> bool:
        """Whether the index of a segment may say that it is of another number.

        It says the number that it was written for.  The files of a fork are its source's, and may
        have a higher one here.
        """
        return number == segment or (self.fork is not None and number < segment and self.first > 0)

    def lifetime(self) -> Lifetime:
        """The lifetime in force as the protocol's type."""
        if self.ttl_s is None and self.expires_at_ms is None:
            return FOREVER
        return Lifetime(self.ttl_s, self.expires_at, self.expires_at_ms)


class _Stored(Sidecar, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    checksum: str


def requested(lifetime: Lifetime) -> Requested:
    """The lifetime that a PUT asked for, as sidecars hold it."""
    if lifetime == FOREVER:
        return NOTHING_REQUESTED
    return Requested(lifetime.ttl_s, lifetime.expires_at, lifetime.expires_at_ms)


class BadSidecar(ValueError):
    """The file is no intact sidecar of a known format."""


class NewerSidecar(BadSidecar):
    """It was written by a newer version of this program, which knows what is in it."""


class _Head(msgspec.Struct, frozen=True):
    """What sidecars of every format have."""

    format: int


_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(_Stored)
_head_decoder: Final = msgspec.json.Decoder(_Head)
_NO_FIRST: Final = b',"first":0}'


def pack(sidecar: Sidecar) -> bytes:
    """The bytes of ``meta.json``."""
    if sidecar.first:
        text = _encode(msgspec.structs.replace(sidecar, format=FORMAT))
    else:
        text = _encode(sidecar).removesuffix(_NO_FIRST) + b"}"
    return msgspec.json.format(seal(text), indent=2) + b"\n"


def unpack(data: bytes) -> Sidecar:
    """Read ``meta.json``; :class:`BadSidecar` says what is wrong with it."""
    try:
        stored = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _refuse_newer(data)
        raise BadSidecar(f"unreadable: {error}") from None
    if stored.format not in READ_FORMATS:
        _refuse_newer(data)
        raise BadSidecar(f"format {stored.format} is unknown to this version")
    if not is_sealed(msgspec.json.format(data, indent=-1)):
        raise BadSidecar("its checksum does not match")
    fields = {name: getattr(stored, name) for name in Sidecar.__struct_fields__}
    fields["format"] = 1  # :func:`pack` tells by what is in it
    fields["content_type"] = media_type.shared(stored.content_type)
    fields["requested"] = requested(stored.requested.lifetime())
    fields["forks"] = stored.forks or NO_FORKS
    return Sidecar(**fields)


def _refuse_newer(data: bytes) -> None:
    """Raise :class:`NewerSidecar` unless it is one of this format, or none, that was damaged."""
    try:
        number = _head_decoder.decode(data).format
        compact = msgspec.json.format(data, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    if number in READ_FORMATS and is_sealed(compact):
        raise NewerSidecar("it has fields unknown to this version: written by a newer version")
    ours = [
        compact.replace(b'"format":%d' % number, b'"format":%d' % known, 1)
        for known in READ_FORMATS
    ]
    if number > FORMAT and not any(map(is_sealed, ours)):  # else only the number was damaged
        raise NewerSidecar(
            f"format {number} is unknown to this version: written by a newer version"
        )
