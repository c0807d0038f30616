"""``GET __ds/streams``: which streams there are, told to whoever may know that.

Who asks sees the streams on which they have the scope ``list``, page by page.  The walk goes by
their grants, so that it takes no time for what they may not see, but for globs: where those fit
nothing for long, the page ends there, with a cursor.  That must not tell the name of a stream which
they may not see, so it is a word of chance that is remembered here.

Answers are kept by no cache, and are for pages of welcome origins only (``Pages``).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.access.grants import Scope
from durable_streams.access.listable import ranges
from durable_streams.access.needs import Asked, authorize_somewhere
from durable_streams.access.principals import ANYBODY
from durable_streams.model.errors import InvalidRequest
from durable_streams.model.paths import path_text
from durable_streams.rules.list_pages import MOST_LOOKED_AT
from durable_streams.wire.lists import parse_after, row_as_json
from durable_streams.wire.replies import Reply

if TYPE_CHECKING:
    from durable_streams.access.listable import Range
    from durable_streams.access.principals import Principal
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRow, UnusableRow
    from durable_streams.store import Store
    from durable_streams.wire.lists import ListRequest

MOST_CURSORS: Final = 1000
"""Remembered at once; whoever comes with one that was forgotten has to begin anew."""

_CURSOR: Final = "//"  # no path begins so
_CURSOR_BYTES: Final = 12
_ROWS_AT_ONCE: Final = 100  # made to JSON in one turn of the loop
_JSON: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class Lists:
    """Answers lists of one store."""

    def __init__(self, store: Store, most_looked_at: int = MOST_LOOKED_AT) -> None:
        """``most_looked_at``: paths that a request compares with grants."""
        self._store = store
        self._most = most_looked_at
        self._cursors: OrderedDict[str, StreamPath] = OrderedDict()

    async def answer(self, principal: Principal, asked: ListRequest) -> Reply:
        """A page, for somebody; raises what the exchange describes."""
        authorize_somewhere(principal, Asked.LIST)
        after = self._behind(asked.after)
        page = _Page(self._store, principal, asked.limit, self._most)
        end = await page.fill(asked.prefix, after)
        may_see = partial(principal.may, Scope.LIST)
        streams: list[object] = []
        for begin in range(0, len(page.rows), _ROWS_AT_ONCE):
            some = page.rows[begin : begin + _ROWS_AT_ONCE]
            streams += [row_as_json(row, may_see) for row in some]
            await asyncio.sleep(0)
        said = {"streams": streams, "next": end and self._cursor(principal, end)}
        return Reply(200, _JSON, msgspec.json.encode(said) + b"\n")

    def _behind(self, text: str) -> StreamPath:
        if not text.startswith(_CURSOR):
            return parse_after(text)
        if text not in self._cursors:
            raise InvalidRequest("after: this cursor is not known any more: begin without one")
        self._cursors.move_to_end(text)
        return self._cursors[text]

    def _cursor(self, principal: Principal, path: StreamPath) -> str:
        """What goes on behind a path: the path itself, unless it must not be told."""
        if principal.may(Scope.LIST, path):
            return path_text(path)
        cursor = _CURSOR + secrets.token_urlsafe(_CURSOR_BYTES)
        self._cursors[cursor] = path
        if len(self._cursors) > MOST_CURSORS:
            self._cursors.popitem(last=False)
        return cursor


class _Page:
    """A page on its way: what was found in one range of paths after the other."""

    def __init__(self, store: Store, principal: Principal, limit: int, most: int) -> None:
        self.rows: list[StreamRow | UnusableRow] = []
        self._store = store
        self._principal = principal
        self._limit = limit
        self._most = most  # paths that may be looked at yet

    async def fill(self, prefix: StreamPath, after: StreamPath) -> StreamPath | None:
        """Take the first streams below a prefix and behind a path; where to go on, if anywhere."""
        last: StreamPath = after
        for part in ranges(self._principal, prefix, after):
            left = self._limit - len(self.rows)
            if not left or not self._most:
                return last
            end = await self._take(part, after, left)
            if end is not None:
                return end
            last = part.prefix if part.is_one else self.rows[-1].path if self.rows else last
        return None

    async def _take(self, part: Range, after: StreamPath, limit: int) -> StreamPath | None:
        """Take the first streams of a range; where to go on, if there are more in it."""
        asked = self._store.list_streams
        if part.is_one:
            self._most -= 1
            page = await asked(part.prefix, after, 1, may=part.prefix.__eq__, most=1)
        elif self._principal is ANYBODY:
            page = await asked(part.prefix, after, limit)
        else:
            page = await asked(part.prefix, after, limit, may=self._may, most=self._most)
        self.rows += page.rows
        return None if part.is_one else page.next

    def _may(self, path: StreamPath) -> bool:
        self._most -= 1
        return self._principal.may(Scope.LIST, path)
