"""How what is read is printed: as it is, as text, or as a line of JSON for each message.

=========  ===============================  ==================================================
format     of a stream of JSON              of any other
=========  ===============================  ==================================================
raw        each message on a line           its bytes, and nothing else
text       each message on one line         its bytes; on a terminal control characters as escapes
jsonl      each message on one line         each line as a string; of what is no text, base64
envelope   :mod:`.envelopes`
=========  ===============================  ==================================================

Unless one is asked for: text on a terminal; else jsonl of JSON, and raw of all else.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from codecs import getincrementaldecoder
from enum import Enum
from typing import TYPE_CHECKING, Final

from durable_streams.rules.media_type import is_json, normalise

if TYPE_CHECKING:
    from durable_streams.messages import Message
    from durable_streams.shell.output import Output


class Format(Enum):
    """What is printed of a message."""

    AUTO = "auto"
    RAW = "raw"
    TEXT = "text"
    JSONL = "jsonl"
    ENVELOPE = "envelope"


class Content(Enum):
    """What a stream consists of."""

    JSON = "messages"
    TEXT = "lines"
    BYTES = "appends"

    @classmethod
    def of(cls, content_type: str) -> Content:
        """What a content type says."""
        normal = normalise(content_type) or ""
        if is_json(normal):
            return cls.JSON
        return cls.TEXT if normal.startswith("text/") else cls.BYTES


_CONTROL: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in {9, 10}
}
"""What a terminal would do something for, but for tabulators and line feeds."""

_TOKEN: Final = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<word>true|false|null)',
    re.DOTALL,
)
_COLOURS: Final = {"key": "34", "text": "32", "number": "36", "word": "35"}


def one_line(message: bytes) -> bytes:
    """The JSON of a message without line breaks, which are never within its strings."""
    if b"\n" in message or b"\r" in message:
        return message.replace(b"\r", b" ").replace(b"\n", b" ")
    return message


def harmless(text: str) -> str:
    """A text that a terminal shows, and does nothing else for."""
    return text.translate(_CONTROL)


def coloured(text: str) -> str:
    """JSON, with the colours of a terminal."""
    pieces: list[str] = []
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            pieces.append(text[place])
            place += 1
            continue
        place = found.end()
        is_key = found.lastgroup == "text" and text.startswith((":", " :"), place)
        pieces.append(f"\x1b[{_COLOURS['key' if is_key else found.lastgroup]}m{found[0]}\x1b[0m")
    return "".join(pieces)


class Printer:
    """Prints messages of one stream in a format."""

    def __init__(self, output: Output, form: Format, content: Content) -> None:
        """``form``: any but ``ENVELOPE``."""
        if form is Format.AUTO and output.is_terminal:
            form = Format.TEXT
        elif form is Format.AUTO:
            form = Format.JSONL if content is Content.JSON else Format.RAW
        self._output = output
        self._form = form
        self._content = content
        self._is_shown = output.is_terminal and form is Format.TEXT
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._ends_with_line = True

    async def put(self, message: Message) -> None:
        """Print a message, or a piece."""
        data = message.data
        if self._content is Content.JSON:
            await self._put_json(data)
        elif self._form is Format.JSONL and self._content is Content.TEXT:
            await self._put_lines(self._decoder.decode(data))
        elif self._form is Format.JSONL:
            await self._output.json({"base64": b64encode(data).decode()})
        elif self._is_shown:
            text = self._decoder.decode(data)
            self._ends_with_line = text.endswith("\n")
            await self._output.put(harmless(text).encode())
        else:
            await self._output.put(data)

    async def end(self) -> None:
        """Nothing follows."""
        rest = self._decoder.decode(b"", final=True)
        if self._form is Format.JSONL and self._content is Content.TEXT:
            await self._put_lines(rest)
            if self._rest:
                await self._output.json(self._rest)
        elif not self._ends_with_line:
            await self._output.put(b"\n")
        await self._output.flush()

    async def _put_json(self, data: bytes) -> None:
        if self._form is not Format.RAW:
            data = one_line(data)
        if self._is_shown:
            text = harmless(data.decode(errors="replace"))
            data = (coloured(text) if self._output.has_colours else text).encode()
        await self._output.put(data + b"\n")

    async def _put_lines(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            await self._output.put(json.dumps(line, ensure_ascii=False).encode() + b"\n")
