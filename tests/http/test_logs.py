"""Log lines, for people and for machines."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from durable_streams.http import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Undo what configuring does to the process."""
    root, ours = logging.getLogger(), logging.getLogger("durable_streams")
    handlers, level = root.handlers[:], ours.level
    yield io.StringIO()
    root.handlers[:] = handlers
    ours.setLevel(level)


def test_a_text_line_has_time_level_message_and_fields(logged: io.StringIO) -> None:
    logs.configure("text", stream=logged)
    logging.getLogger("durable_streams").warning(
        "slow %s", "disk", extra={"path": "/a b", "limit": 3, "empty": ""}
    )
    (line,) = logged.getvalue().splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == "WARNING slow disk path='/a b' limit=3 empty=''"


def test_nothing_a_client_sends_can_begin_a_line_of_its_own(logged: io.StringIO) -> None:
    logs.configure("text", stream=logged)
    logging.getLogger("durable_streams").warning("bad\nline", extra={"path": "/a\n2026 ERROR x"})
    assert len(logged.getvalue().splitlines()) == 1


def test_what_a_terminal_would_obey_is_escaped(logged: io.StringIO) -> None:
    logs.configure("text", stream=logged)
    logging.getLogger("x").warning("stream a\x1b[2J\nb")
    assert "stream a\\x1b[2J b" in logged.getvalue()


def test_a_json_line_is_one_object_with_the_same_and_the_traceback(logged: io.StringIO) -> None:
    logs.configure("json", stream=logged)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("durable_streams").exception("bug", extra={"path": "/a\nb"})
    (line,) = logged.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["message"], entry["path"]) == ("ERROR", "bug", "/a\nb")
    assert "ValueError: boom" in entry["traceback"]


def test_lines_that_were_dropped_are_a_line(logged: io.StringIO) -> None:
    logs.configure("json", stream=logged)
    logs.tell_dropped("stderr", 7)
    entry = json.loads(logged.getvalue())
    assert (entry["level"], entry["dropped"]) == ("WARNING", 7)
    assert entry["message"] == "dropped 7 lines of stderr: it was not read, or full"


def test_a_problem_is_let_through_once_in_a_while() -> None:
    now_s = 100.0
    throttle = logs.Throttle(lambda: now_s)
    assert throttle.allows("a")
    assert throttle.allows("b")
    assert not throttle.allows("a")
    now_s += logs.THROTTLE_S
    assert throttle.allows("a")
