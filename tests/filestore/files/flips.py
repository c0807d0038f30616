"""Damage as it happens to bytes at rest: one flipped bit at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def every_flip(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each bit of ``data`` flipped alone, with the number of the byte it is in."""
    for bit in range(8 * len(data)):
        yield bit // 8, flipped(data, bit)
