"""An event stream as its reader understands it, written from the specification alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from durable_streams.model.tokens import parse_offset

if TYPE_CHECKING:
    from collections.abc import Iterator


def events(wire: bytes) -> Iterator[tuple[str, str]]:
    """Parse an event stream as WHATWG HTML §9.2.6 says: type and data of each event."""
    text = wire.decode("utf-8", "replace").removeprefix("\ufeff")
    kind = ""
    data: list[str] = []
    lines = re.split("\r\n|\r|\n", text)
    assert lines.pop() == "", "the last line has no end"
    for line in lines:
        if not line:
            if data:
                yield kind or "message", "\n".join(data)
            kind, data = "", []
            continue
        name, colon, value = line.partition(":")
        if not name:
            continue  # a comment
        assert colon, line
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            assert data, "an id before its event's data"
            parse_offset(value)
        else:
            raise AssertionError(f"an unknown field: {line!r}")


def normalised(text: bytes) -> str:
    """What a text stream is to a reader of events: UTF-8, with one kind of line break."""
    return re.sub("\r\n|\r", "\n", text.decode("utf-8", "replace"))
