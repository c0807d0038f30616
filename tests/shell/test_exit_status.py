"""The table of exit statuses: one for each error, and the documentation has them all."""

from __future__ import annotations

import re

from durable_streams.model import errors
from durable_streams.model.offsets import ZERO
from durable_streams.shell.exit_status import Status, status_of
from tools.server_process import ROOT


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "command-line.rst").read_text()
    rows = re.findall(r"^   \* - (\d+)\n     - (.+)$", page, re.MULTILINE)
    assert rows == [(str(status.value), status.meaning) for status in Status]


def test_what_is_found_out_has_a_status_of_its_own() -> None:
    found = {
        Status.NOT_FOUND: errors.StreamNotFound("a"),
        Status.GONE: errors.SourceGone("a"),
        Status.CLOSED: errors.StreamClosed(ZERO),
        Status.CONFLICT: errors.StreamExists("a", "type"),
        Status.NOT_ALLOWED: errors.Forbidden("no"),
        Status.UNREACHABLE: errors.Unreachable("http://a", "gone"),
        Status.BUSY: errors.TooManyRequests("no"),
        Status.USAGE: errors.InvalidOffset("no"),
        Status.REFUSED: errors.DiskFull(),
    }
    assert {status: status_of(error) for status, error in found.items()} == {
        status: status for status in found
    }
