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

LONGEST_LINE_BYTES: Final = 16 * 1024 * 1024 - len("[]")
"""Of JSON, which cannot be cut; as much as a server takes at once by default."""

PART_OF_A_LINE: Final = b"\0"
"""In place of the beginning of a line that is left out: what follows it is no JSON either."""

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


class Cutter:
    """Finds where appends end, and what is sent of them."""

    def __init__(self, how: Input, batch_bytes: int) -> None:
        self._how = how
        self.batch_bytes = batch_bytes
        self.longest_bytes = LONGEST_LINE_BYTES
        """Of a line of JSON."""
        self.bad = 0
        """How many lines were no JSON, or too long, and are left out."""
        self.is_in_line = False
        """Whether the last bytes are of a line that is left out, and has not ended yet."""
        self._is_short = False

    def look_at(self, uncut_bytes: int) -> int:
        """How much of what is there has to be looked at."""
        if self._how is Input.JSONL:
            return min(uncut_bytes, self.longest_bytes + 1)
        return min(uncut_bytes, self.batch_bytes)

    def wants(self, uncut_bytes: int) -> bool:
        """Whether so much is less than an append, so that more has to come before anything else."""
        return self._is_short and self.look_at(uncut_bytes + 1) > uncut_bytes

    def cut(self, data: bytes, *, is_last: bool) -> tuple[int, bytes]:
        """How many bytes are the next append, and what is sent of them, which may be nothing.

        0 if more has to come first.  ``is_last``: nothing more comes.
        """
        if self._how is Input.JSONL and (self.is_in_line or self._is_too_long(data)):
            return self._passed_over(data), b""
        end = self._end(data, is_last=is_last)
        self._is_short = not end
        return end, self.body(data[:end])

    def _is_too_long(self, data: bytes) -> bool:
        """Whether a line begins that is longer than any may be."""
        longest = self.longest_bytes
        return len(data) > longest and data.find(b"\n", 0, longest + 1) < 0

    def _passed_over(self, data: bytes) -> int:
        """How many bytes are of a line that is too long."""
        if not self.is_in_line:
            self._leave_out(data, f"it is longer than {self.longest_bytes} bytes")
        end = data.find(b"\n") + 1
        self.is_in_line = not end
        return end or len(data)

    def _end(self, data: bytes, *, is_last: bool) -> int:
        if self._how is Input.RAW or (is_last and len(data) <= self.batch_bytes):
            return len(data)
        end = data.rfind(b"\n", 0, self.batch_bytes) + 1
        if end:
            return end
        if self._how is Input.LINES and len(data) >= self.batch_bytes:
            return _behind_a_character(data)
        if self._how is Input.JSONL:
            return data.find(b"\n") + 1 or (len(data) if is_last else 0)
        return 0

    def body(self, data: bytes) -> bytes:
        """What is sent of the bytes of one append; nothing if there is nothing in them."""
        if self._how is not Input.JSONL:
            return data
        lines = [line for line in data.split(b"\n") if line and not line.isspace()]
        good = [line.strip() for line in lines if self._is_json(line)]
        return b"[%b]" % b",".join(good) if good else b""

    def _is_json(self, line: bytes) -> bool:
        if self._is_too_long(line):
            self._leave_out(line, f"it is longer than {self.longest_bytes} bytes")
            return False
        try:
            to_wire(b"[%b]" % line, allow_empty=False)
            msgspec.json.decode(line, type=msgspec.Raw)
        except (InvalidJson, msgspec.DecodeError) as error:
            self._leave_out(line, f"it is no JSON ({error})")
            return False
        return True

    def _leave_out(self, line: bytes, why: str) -> None:
        """Count a line, and tell why nobody will see it."""
        self.bad += 1
        shown = harmless(line[:_SHOWN].decode(errors="replace").strip())
        sys.stderr.write(f"{PROGRAM}: a line is left out, as {why}: {shown}\n")


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
