"""The URL path below which the streams are, as people write it."""

from __future__ import annotations

from typing import Final

_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
)


def checked_prefix(text: str) -> str:
    """The prefix, without slashes at its end; ``ValueError`` if it is none."""
    prefix = text.rstrip("/")
    segments = prefix.split("/")[1:]
    if (
        not prefix.startswith("/")
        or not _CHARACTERS.issuperset(prefix)
        or not {"", ".", ".."}.isdisjoint(segments)
    ):
        raise ValueError(f"{text[:64]!r} is not a prefix: give a URL path such as /v1/stream")
    return prefix
