"""What one stream holds, told to whoever may know: see ``wire/inspections``."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from durable_streams.access.grants import Scope
from durable_streams.model.commands import Details, Records
from durable_streams.wire import inspections

if TYPE_CHECKING:
    from durable_streams.access.principals import Principal
    from durable_streams.model.commands import Inspection
    from durable_streams.store import Store
    from durable_streams.wire.replies import Reply


_RECORDS_AT_ONCE: Final = 100  # made to JSON in one turn of the loop


async def inspect(store: Store, command: Inspection, principal: Principal) -> Reply:
    """Answer what was admitted; raises what the exchange describes.

    ``principal``: who asks, and is told of forks that they may see in a list.
    """
    match command:
        case Records():
            page = await store.records(command.path, command.place, command.limit)
            told: list[object] = []
            for begin in range(0, len(page.records), _RECORDS_AT_ONCE):
                some = page.records[begin : begin + _RECORDS_AT_ONCE]
                told += map(inspections.record_as_json, some)
                await asyncio.sleep(0)
            return inspections.records(command, page, told)
        case Details():
            found = await store.details(command.path)
            return inspections.details(found, partial(principal.may, Scope.LIST))
        case _:
            assert_never(command)
