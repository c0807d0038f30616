"""What the official suite for clients talks to, in small; the suite itself is run by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tools.server_process import ROOT

if TYPE_CHECKING:
    from tests.conftest import StartServer

JSON = "application/json"
DONE = {"success": True}


@pytest.mark.parametrize("which", ["async", "sync"])
def test_each_client_answers_the_commands_of_the_suite(
    start_server: StartServer, which: str
) -> None:
    server = start_server()
    produced = {"path": "/s", "producerId": "p", "epoch": 0, "autoClaim": False}
    commands: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"type": "init", "serverUrl": f"{server.base_url}{server.prefix}"}, DONE),
        ({"type": "create", "path": "/s", "contentType": JSON, "data": "[1]"}, {"status": 201}),
        ({"type": "append", "path": "/s", "data": "2", "seq": 7}, {"status": 200}),
        (
            {"type": "append", "path": "/s", "data": "2", "seq": 6},
            {"errorCode": "SEQUENCE_CONFLICT"},
        ),
        ({"type": "append", "path": "/t", "data": "2"}, {"errorCode": "NOT_FOUND"}),
        ({"type": "idempotent-append-batch", "items": ["3", "[4]"], **produced}, DONE),
        ({"type": "idempotent-append", "data": "5", **produced}, DONE),
        ({"type": "close", "path": "/s"}, DONE),
        ({"type": "head", "path": "/s"}, {"streamClosed": True, "contentType": JSON}),
        ({"type": "read", "path": "/s", "live": False}, {"streamClosed": True, "upToDate": True}),
        ({"type": "read", "path": "/s", "live": "sse"}, {"streamClosed": True}),
        ({"type": "validate", "target": {"target": "retry-options", "maxRetries": 3}}, DONE),
        (
            {"type": "validate", "target": {"target": "retry-options", "maxRetries": -1}},
            {"errorCode": "INVALID_ARGUMENT"},
        ),
        ({"type": "shutdown"}, DONE),
    ]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tools.client_conformance.adapter", which],
        cwd=ROOT,
        input="".join(json.dumps(command) + "\n" for command, _ in commands),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    for (command, expected), answer in zip(commands, told, strict=True):
        assert {**answer, **expected} == answer, command
    assert [chunk["data"] for chunk in told[-5]["chunks"]] == ["[1,2,3,[4],5]"]
    assert [chunk["data"] for chunk in told[-4]["chunks"]] == ["1", "2", "3", "[4]", "5"]
