"""``@durable-streams/state`` with TanStack DB: what was confirmed is everywhere, over a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.compatibility.programs import lead, stored

if TYPE_CHECKING:
    from tests.conftest import StartServer

COUNT: Final = 60
EDITED: Final = range(10)
REMOVED: Final = range(10, 12)


def message(number: int) -> dict[str, str]:
    text = f"edited {number}" if number in EDITED else f"text {number}"
    return {"id": f"m{number}", "room": "lobby" if number % 2 else "hall", "text": text}


def by_id(rows: list[dict[str, Any]]) -> dict[str, Any]:
    table = {row["id"]: row for row in rows}
    assert len(table) == len(rows)
    return table


@pytest.mark.node
@pytest.mark.parametrize("live", ["long-poll", "sse"])
async def test_every_confirmed_row_is_in_every_table_over_a_kill(
    live: str, start_server: StartServer
) -> None:
    server = start_server()
    outcome = lead(server, "node", "state.mjs", server.url("chat"), live)
    table = {f"m{n}": message(n) for n in range(COUNT) if n not in REMOVED}

    assert by_id(outcome["writer"]) == by_id(outcome["late"]) == table
    lobby = {key: row for key, row in table.items() if row["room"] == "lobby"}
    assert by_id(outcome["lobby"]) == lobby

    events, _ = await stored(server, "chat")
    done = [
        *(["insert", f"m{n}"] for n in range(COUNT)),
        *(["update", f"m{n}"] for n in EDITED),
        *(["delete", f"m{n}"] for n in REMOVED),
    ]
    assert [[event["headers"]["operation"], event["key"]] for event in events] == done
    assert len({event["headers"]["txid"] for event in events}) == len(done)
    assert len(outcome["confirmed"]) == len(done)
