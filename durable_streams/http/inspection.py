"""What one stream holds, told to whoever may know: see ``wire/inspections``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.wire import inspections

if TYPE_CHECKING:
    from durable_streams.model.commands import Inspection
    from durable_streams.store import Store
    from durable_streams.wire.replies import Reply


async def inspect(store: Store, command: Inspection) -> Reply:
    """Answer what was admitted; raises what the exchange describes."""
    page = await store.records(command.path, command.place, command.limit)
    return inspections.records(command, page)
