"""A set of stream paths in their order, in little memory: some 20 bytes beside the text of a path.

A path is kept as a *key*, its segments in UTF-8 with a NUL between: no segment has a NUL, so that
keys compare as paths do (``model/paths``).  Keys lie in blocks, each one ``bytes`` object of keys
in order, with a byte behind each that UTF-8 does not have.  What adds or removes a key makes one
block anew, and takes a few microseconds, whatever the number of paths.

Whoever has it is alone with it: there are no locks.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath

_END: Final = b"\xff"  # behind each key
_BLOCK_BYTES: Final = 8192  # a block that gets longer is split: 4096 take as long, 32768 twice


class PathSet:
    """The set."""

    __slots__ = ("_blocks", "_firsts", "_size", "block_bytes")

    def __init__(self, block_bytes: int = _BLOCK_BYTES) -> None:
        self.block_bytes = block_bytes
        self._blocks: list[bytes] = []
        self._firsts: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, path: StreamPath) -> None:
        """Put a path in, if it is not there."""
        key = _key(path)
        if not self._blocks:
            self._blocks, self._firsts, self._size = [key + _END], [key], 1
            return
        number = max(0, bisect_right(self._firsts, key) - 1)
        block = self._blocks[number]
        at = _place(block, key)
        if block.startswith(key + _END, at):
            return
        self._size += 1
        self._put(number, block[:at] + key + _END + block[at:])

    def remove(self, path: StreamPath) -> None:
        """Take a path out, if it is there."""
        key = _key(path)
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return
        block = self._blocks[number]
        at = _place(block, key)
        if block.startswith(key + _END, at):
            self._size -= 1
            self._put(number, block[:at] + block[at + len(key) + 1 :])

    def behind(self, after: StreamPath, prefix: StreamPath, most: int) -> list[StreamPath]:
        """The first so many paths at and below a prefix that come behind another path.

        ``()`` comes before all paths, and is the prefix of all.
        """
        begin, base = _key(after), _key(prefix)
        below = base + b"\0" if base else b""
        found: list[StreamPath] = []
        number = max(0, bisect_right(self._firsts, max(begin, base)) - 1)
        while number < len(self._blocks):
            block = self._blocks[number]
            for key in block[_place(block, max(begin, base)) : -1].split(_END):
                if key <= begin or not key:
                    continue
                if key != base and not key.startswith(below):
                    return found
                found.append(tuple(key.decode().split("\0")))
                if len(found) == most:
                    return found
            number += 1
        return found

    def _put(self, number: int, block: bytes) -> None:
        """Have a block in the place of one, in two halves if it is too long."""
        if not block:
            del self._blocks[number], self._firsts[number]
            return
        half = block.find(_END, len(block) // 2) + 1 if len(block) > self.block_bytes else 0
        parts = [block[:half], block[half:]] if 0 < half < len(block) else [block]
        self._blocks[number : number + 1] = parts
        self._firsts[number : number + 1] = [part[: part.index(_END)] for part in parts]


def _key(path: StreamPath) -> bytes:
    return "\0".join(path).encode()


def _place(block: bytes, key: bytes) -> int:
    """Where in a block the first key begins that is not below a key; its end if none is."""
    low, high = 0, len(block)
    while low < high:
        middle = (low + high) // 2
        begin = block.rfind(_END, low, middle) + 1 or low
        end = block.index(_END, middle)
        if block[begin:end] < key:
            low = end + 1
        else:
            high = begin
    return low
