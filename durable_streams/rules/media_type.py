"""Content types: one canonical spelling for each, and which of them are the same (RFC 9110 §8.3).

Type, subtype and parameter names are case-insensitive and lower-cased; so is the value of
``charset``.  Parameters are sorted, quotes dropped where a token needs none.

Clients add parameters on their own account, so these do not make another type (as in the reference
servers), with one exception: where a stream's bytes are text, another charset means other bytes.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Final

from durable_streams.model.errors import InvalidRequest

DEFAULT: Final = "application/octet-stream"
JSON: Final = "application/json"

MAX_LENGTH: Final = 256
"""Longer ones are junk; real content types stay below a hundred characters."""

MOST_SHARED: Final = 1024
"""Content types of which all streams share one text, far more than a server has."""

_KNOWN: Final = 256
"""Spellings of which is remembered what they mean."""

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"((?:[\t\x20\x21\x23-\x5b\x5d-\x7e]|\\[\t\x20-\x7e])*)"'
_ESSENCE: Final = re.compile(rf"({_NAME}/{_NAME})[ \t]*")
_PARAMETER: Final = re.compile(rf";[ \t]*(?:({_NAME})=(?:({_NAME})|{_QUOTED})[ \t]*)?")
_IS_TOKEN: Final = re.compile(_NAME)
_ESCAPED: Final = re.compile(r"\\(.)")
_UTF_8: Final = frozenset({"utf-8", "utf8", "ascii", "us-ascii"})
"""Names of what every text is by default, and of the part of it that is spelled the same."""


def parse(text: str | None) -> str | None:
    """Read a ``Content-Type``: its canonical form, None if it is absent or empty.

    :class:`InvalidRequest` if it is malformed, see :func:`normalise`.
    """
    if text is None or not text.strip(" \t"):
        return None
    normal = normalise(text)
    if normal is None:
        raise InvalidRequest(f"{text[:64]!r} is no Content-Type: write it as text/plain")
    return normal


def normalise(text: str | None) -> str | None:
    """Return the canonical form ``type/subtype;name=value``, or None if missing or junk.

    Junk is what RFC 9110 does not allow, a parameter given twice, and what is longer than
    ``MAX_LENGTH``.  Other results are cached: a server sees the same few values all the time.
    """
    return None if text is None or len(text) > MAX_LENGTH else _canonical(text)


@lru_cache(maxsize=_KNOWN)
def _canonical(text: str) -> str | None:
    taken_apart = _take_apart(text)
    if taken_apart is None:
        return None
    essence, parameters = taken_apart
    return "".join(
        [essence, *(f";{name}={_quote(parameters[name])}" for name in sorted(parameters))]
    )


def _take_apart(text: str) -> tuple[str, dict[str, str]] | None:
    """Return the essence and the parameters, None if the text is junk."""
    if len(text) > MAX_LENGTH or not text.isascii():
        return None
    match = _ESSENCE.match(text)
    if match is None:
        return None
    essence, position = match[1].lower(), match.end()
    parameters: dict[str, str] = {}
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            return None
        position = match.end()
        if match[1] is None:
            continue  # an empty parameter, as in a trailing semicolon
        name = match[1].lower()
        if name in parameters:
            return None
        value = match[2] if match[2] is not None else _ESCAPED.sub(r"\1", match[3])
        parameters[name] = value.lower() if name == "charset" else value
    return essence, parameters


@lru_cache(maxsize=MOST_SHARED)
def shared(content_type: str) -> str:
    """The same text, one object for all streams that have the type, as most have one of a few.

    What :func:`sys.intern` is given stays for ever from Python 3.12.1 on, and clients invent types.
    """
    return content_type


def same(one: str, other: str) -> bool:
    """Whether two canonical content types mean the same bytes, whatever their parameters."""
    return one == other or _identity(one) == _identity(other)


@lru_cache(maxsize=_KNOWN)
def _identity(content_type: str) -> tuple[str, str | None]:
    """What a canonical content type is compared by: its essence, of text the charset as well."""
    taken_apart = _take_apart(content_type)
    if taken_apart is None:  # one that is stored, as an older version took it
        return content_type, None
    essence, parameters = taken_apart
    charset = parameters.get("charset") if is_text(essence) else None
    return essence, None if charset in _UTF_8 else charset


def is_json(content_type: str) -> bool:
    """Whether a canonical content type means JSON mode (protocol §9.1; ``+json`` does not)."""
    return content_type.partition(";")[0] == JSON


def is_text(content_type: str) -> bool:
    """Whether SSE sends a canonical content type as text, not as base64 (protocol §5.8)."""
    return content_type.startswith("text/") or is_json(content_type)


_PROGRAM: Final = re.compile(
    r"(text|application)/(x-)?(javascript|ecmascript|jscript|livescript)[0-9.]*"
    r"|(text|application)/(xml|xsl|xslt\+xml)|text/css|application/wasm"
)


@lru_cache(maxsize=_KNOWN)
def is_program(content_type: str) -> bool:
    """Whether a page of a browser can run what is of a canonical content type, or be styled by it.

    What is named so is no matter of taste: browsers refuse to run anything else that says nosniff.
    """
    return _PROGRAM.fullmatch(content_type.partition(";")[0]) is not None


class Unit(Enum):
    """What of a stream a read can begin with.

    Any byte of text, a message of JSON, and of anything else what was appended at once.
    """

    BYTE = "byte"
    MESSAGE = "message"
    APPEND = "append"


def unit(content_type: str) -> Unit:
    """Return the unit of a stream of a canonical content type."""
    if is_json(content_type):
        return Unit.MESSAGE
    return Unit.BYTE if is_text(content_type) else Unit.APPEND


def _quote(value: str) -> str:
    if _IS_TOKEN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
