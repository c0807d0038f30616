"""How long streams live: sliding TTLs and fixed expiry times (protocol §5.1).

A TTL counts from the last use: every read, write, close and live request renews it, at its
start; HEAD and refused writes do not.  An expiry time is an instant and nothing moves it.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from durable_streams.model.commands import FOREVER, Lifetime
from durable_streams.model.errors import InvalidRequest

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that every JavaScript client can hold exactly."""

_MAX_DIGITS: Final = len(str(MAX_INTEGER))
_MAX_TIMESTAMP_LENGTH: Final = 64
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86_400
_TIMESTAMP: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]"
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def parse_count(name: str, text: str, least: int = 0, most: int = MAX_INTEGER) -> int:
    """Read an integer within bounds in the protocol's strict notation, without leading zeros."""
    if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
        value = int(text)
        if least <= value <= most and (text[0] != "0" or text == "0"):
            return value
    raise InvalidRequest(
        f"{name} must be an integer from {least} to {most} without leading zeros, not {text[:64]!r}"
    )


def parse_ttl(text: str) -> int:
    """Read ``Stream-TTL``, in seconds."""
    return parse_count("Stream-TTL", text)


def parse_expires_at(text: str) -> int:
    """Read ``Stream-Expires-At``: see :func:`parse_instant`."""
    return parse_instant("Stream-Expires-At", text)


def parse_instant(name: str, text: str) -> int:
    """Read an RFC 3339 timestamp; return milliseconds since 1970.

    Digits beyond milliseconds are cut off.  A leap second is the first instant after it, and is
    accepted only where one can be: at the end of a month in UTC.
    """
    match = _TIMESTAMP.fullmatch(text) if len(text) <= _MAX_TIMESTAMP_LENGTH else None
    if match is None:
        raise _not_a_timestamp(name, text)
    year, month, day, hours, minutes, seconds, fraction, sign, zone_h, zone_min = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        raise _not_a_timestamp(name, text) from None
    total_s = days * _DAY_S + int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    if sign:
        zone_s = int(zone_h) * 3600 + int(zone_min) * 60
        total_s += zone_s if sign == "-" else -zone_s
    if seconds == "60":
        if not _begins_a_month(total_s):
            raise _not_a_timestamp(name, text)
        fraction = None
    return total_s * 1000 + int(f"{fraction or ''}000"[:3])


def instant_text(time_ms: int) -> str:
    """A time in milliseconds since 1970 as RFC 3339 has it, in UTC; its last is in the year 9999.

    ``OverflowError`` for one that it has no way to say.
    """
    at = _EPOCH + timedelta(milliseconds=time_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_lifetime(ttl: str | None, expires_at: str | None) -> Lifetime:
    """Read both headers; giving both is an error (§5.1)."""
    if ttl is None and expires_at is None:
        return FOREVER
    if ttl is None:
        assert expires_at is not None
        return Lifetime(expires_at=expires_at, expires_at_ms=parse_expires_at(expires_at))
    if expires_at is not None:
        raise InvalidRequest("give Stream-TTL or Stream-Expires-At, not both")
    return Lifetime(ttl_s=parse_ttl(ttl))


def deadline_ms(lifetime: Lifetime, last_use_ms: int) -> int | None:
    """Return when a stream last used at ``last_use_ms`` ends; None: never."""
    if lifetime.ttl_s is not None:
        return last_use_ms + lifetime.ttl_s * 1000
    return lifetime.expires_at_ms


def is_expired(lifetime: Lifetime, last_use_ms: int, now_ms: int) -> bool:
    """Whether the stream has ended; from its deadline on, that very millisecond included."""
    deadline = deadline_ms(lifetime, last_use_ms)
    return deadline is not None and now_ms >= deadline


def _begins_a_month(total_s: int) -> bool:
    days, rest_s = divmod(total_s, _DAY_S)
    try:
        return rest_s == 0 and date.fromordinal(days + _EPOCH_DAY).day == 1
    except (ValueError, OverflowError):
        return False


def _not_a_timestamp(name: str, text: str) -> InvalidRequest:
    return InvalidRequest(f"{name} must be an RFC 3339 timestamp, not {text[:64]!r}")
