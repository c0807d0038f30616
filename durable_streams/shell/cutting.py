"""What goes into one append: whole lines, messages of JSON, or bytes as they come.

The same bytes always make the same body, so that what is sent again is what was sent before.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import Final

import msgspec

from durable_streams.model.errors import InvalidJson
from durable_streams.program import PROGRAM
from durable_streams.rules.json_mode import to_wire
from durable_streams.shell.formats import Content, harmless

LONGEST_LINE_BYTES: Final = 64 * 1024 * 1024
"""Of JSON, which cannot be cut; as much as a server takes at once by default."""

_SHOWN: Final = 60


class Input(Enum):
    """How what is read is cut."""

    AUTO = "auto"
    LINES = "lines"
    JSONL = "jsonl"
    RAW = "raw"

    def for_content(self, content: Content) -> Input:
        """What it is for a stream, unless it was said."""
        if self is not Input.AUTO:
            return self
        return {Content.JSON: Input.JSONL, Content.TEXT: Input.LINES}.get(content, Input.RAW)


class TooLong(Exception):
    """A line of JSON is longer than any append may be."""


class Cutter:
    """Finds where appends end, and what is sent of them."""

    def __init__(self, how: Input, batch_bytes: int) -> None:
        self._how = how
        self.batch_bytes = batch_bytes
        self.bad = 0
        """How many lines were no JSON, and are left out."""

    def look_at(self, uncut_bytes: int) -> int:
        """How much of what is there has to be looked at."""
        if self._how is Input.JSONL:
            return min(uncut_bytes, LONGEST_LINE_BYTES + 1)
        return min(uncut_bytes, self.batch_bytes)

    def end(self, data: bytes, *, is_last: bool) -> int:
        """Up to where ``data`` is one append; 0 if more has to come first.

        ``is_last``: nothing more comes.
        """
        if self._how is Input.RAW or (is_last and len(data) <= self.batch_bytes):
            return len(data)
        end = data.rfind(b"\n", 0, self.batch_bytes) + 1
        if end:
            return end
        if self._how is Input.LINES and len(data) >= self.batch_bytes:
            return _behind_a_character(data)
        if self._how is Input.JSONL:
            end = data.find(b"\n") + 1
            if not end and len(data) > LONGEST_LINE_BYTES:
                raise TooLong(f"a line of JSON is longer than {LONGEST_LINE_BYTES} bytes")
            return end or (len(data) if is_last else 0)
        return 0

    def body(self, data: bytes) -> bytes:
        """What is sent of the bytes of one append; nothing if there is nothing in them."""
        if self._how is not Input.JSONL:
            return data
        lines = [line for line in map(bytes.strip, data.split(b"\n")) if line]
        good = [line for line in lines if self._is_json(line)]
        return b"[%b]" % b",".join(good) if good else b""

    def _is_json(self, line: bytes) -> bool:
        try:
            to_wire(b"[%b]" % line, allow_empty=False)
            msgspec.json.decode(line, type=msgspec.Raw)
        except (InvalidJson, msgspec.DecodeError) as error:
            self.bad += 1
            shown = harmless(line[:_SHOWN].decode(errors="replace"))
            sys.stderr.write(
                f"{PROGRAM}: a line is left out, as it is no JSON: {shown} ({error})\n"
            )
            return False
        return True


def _behind_a_character(data: bytes) -> int:
    """The end of the last whole character of UTF-8, so that readers of text get it whole."""
    end = len(data)
    for back in range(1, min(4, end)):
        byte = data[end - back]
        if byte < 0x80:
            return end
        if byte >= 0xC0:
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end if back >= needs else end - back
    return end
