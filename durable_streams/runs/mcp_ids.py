"""The ids of MCP events: session, part, stream and offset, and no more than that.

    NAME.PART.STREAM.OFFSET      behind an event that is in this part of the session's stream
    NAME.PARTr.STREAM.OFFSET     behind an item of the run that answers this request; which one that
                                 is, the part says

Nobody trusts one: who asks has to be who the session of that name belongs to.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

_NAME: Final = re.compile("[0-9a-f]{32}")
_SCOPED: Final = re.compile("32:[0-9a-f]{32}:(.+)", re.DOTALL)
_PART: Final = re.compile("([0-9]{1,9})(r?)")


class EventId(NamedTuple):
    """Where an event is: ``offset`` behind it, in the session's stream or in a run's."""

    name: str
    part: int
    stream: str
    offset: str
    is_of_run: bool = False

    @property
    def text(self) -> str:
        """As the client keeps it."""
        stream = quote(self.stream, safe="").replace(".", "%2E")
        return f"{self.name}.{self.part}{'r' if self.is_of_run else ''}.{stream}.{self.offset}"


def parsed(text: str) -> EventId | None:
    """The id in a text; None if it is none."""
    parts = text.split(".")
    if len(parts) != 4:
        return None
    name, part, stream, offset = parts
    found = _PART.fullmatch(part)
    if found is None or not _NAME.fullmatch(name):
        return None
    return EventId(name, int(found[1]), unquote(stream), offset, bool(found[2]))


def unscoped(stream: str) -> str:
    """The SDK's name of a stream: ``fastmcp`` puts another name of the session before it.

    So a stream is found by its request, in any process.
    """
    found = _SCOPED.fullmatch(stream)
    return found[1] if found else stream
