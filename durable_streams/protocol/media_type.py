"""Content types: one canonical spelling for each, so that comparing is ``==`` (RFC 9110 §8.3).

Type, subtype and parameter names are case-insensitive and lower-cased; so is the value of
``charset``.  Parameters are sorted, quotes dropped where a token needs none.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

DEFAULT: Final = "application/octet-stream"
JSON: Final = "application/json"

MAX_LENGTH: Final = 256
"""Longer ones are junk; real content types stay below a hundred characters."""

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"((?:[\t\x20\x21\x23-\x5b\x5d-\x7e]|\\[\t\x20-\x7e])*)"'
_ESSENCE: Final = re.compile(rf"({_NAME}/{_NAME})[ \t]*")
_PARAMETER: Final = re.compile(rf";[ \t]*(?:({_NAME})=(?:({_NAME})|{_QUOTED})[ \t]*)?")
_IS_TOKEN: Final = re.compile(_NAME)
_ESCAPED: Final = re.compile(r"\\(.)")


@lru_cache(maxsize=256)
def normalise(text: str | None) -> str | None:
    """Return the canonical form ``type/subtype;name=value``, or None if missing or junk.

    Junk is what RFC 9110 does not allow, a parameter given twice, and what is longer than
    ``MAX_LENGTH``.  The result is cached: a server sees the same few values all the time.
    """
    if text is None or len(text) > MAX_LENGTH or not text.isascii():
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
    return "".join(
        [essence, *(f";{name}={_quote(parameters[name])}" for name in sorted(parameters))]
    )


def is_json(content_type: str) -> bool:
    """Whether a canonical content type means JSON mode (protocol §9.1; ``+json`` does not)."""
    return content_type.partition(";")[0] == JSON


def is_text(content_type: str) -> bool:
    """Whether SSE sends a canonical content type as text, not as base64 (protocol §5.8)."""
    return content_type.startswith("text/") or is_json(content_type)


def _quote(value: str) -> str:
    if _IS_TOKEN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
