"""Log lines, for people and for machines."""

from __future__ import annotations

import copy
import io
import json
import logging
import threading
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


class Clock:
    """A clock that is set by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_problem_is_let_through_now_and_then_with_how_many_lines_were_left_out() -> None:
    clock = Clock()
    throttle = logs.Throttle(2, clock)
    assert [throttle.passes("a") for _ in range(5)] == [0, 0, None, None, None]
    assert throttle.passes("b") == 0
    clock.now_s += logs.THROTTLE_S
    assert [throttle.passes("a") for _ in range(3)] == [3, 0, None]
    clock.now_s += 100 * logs.THROTTLE_S
    assert [throttle.passes("a"), throttle.passes("b")] == [1, 0]


def test_what_was_left_out_is_told_once_when_nothing_follows() -> None:
    clock = Clock()
    throttle = logs.Throttle(1, clock)
    for message in ("one", "two", "three"):
        throttle.passes("a", message)
    assert throttle.rest() == []
    clock.now_s += logs.THROTTLE_S
    assert throttle.rest() == [(2, "three")]
    assert throttle.rest(is_last=True) == []
    throttle.passes("a", "four")
    throttle.passes("a", "five")
    assert throttle.rest() == []
    assert throttle.rest(is_last=True) == [(1, "five")]


def problem(number: int, error: str = "") -> None:
    """A line of one place in the code, about any stream."""
    extra = {"error": error} if error else {}
    logging.getLogger("durable_streams.filestore").error("stream %d is lost", number, extra=extra)


def test_a_place_that_logs_again_and_again_has_few_lines_whatever_they_are_about(
    logged: io.StringIO,
) -> None:
    clock = Clock()
    logs.configure("text", stream=logged, throttle=logs.Throttle(3, clock))
    for number in range(10):
        problem(number)
    problem(10, "DiskFull")  # another kind of error
    logging.getLogger("durable_streams").error("another place")
    clock.now_s += logs.THROTTLE_S
    problem(11)
    said = [line.split(" ", 2)[2] for line in logged.getvalue().splitlines()]
    assert said == [
        "stream 0 is lost",
        "stream 1 is lost",
        "stream 2 is lost",
        "stream 10 is lost error=DiskFull",
        "another place",
        "stream 11 is lost left_out=7",
    ]


def test_what_is_no_problem_is_never_left_out(logged: io.StringIO) -> None:
    logs.configure("text", stream=logged, throttle=logs.Throttle(1, Clock()))
    for _ in range(10):
        logging.getLogger("durable_streams").info("news")
    assert len(logged.getvalue().splitlines()) == 10


async def test_what_was_left_out_is_told_at_the_end(logged: io.StringIO) -> None:
    throttle = logs.Throttle(2, Clock())
    logs.configure("text", stream=logged, throttle=throttle)

    async def serving() -> int:
        for number in range(5):
            problem(number)
        return 7

    assert await logs.with_rest_told(throttle, serving()) == 7
    last = logged.getvalue().splitlines()[-1]
    assert last.endswith("INFO left out lines such as: stream 4 is lost left_out=3")


def test_threads_may_log_at_a_time() -> None:
    throttle = logs.Throttle(5, Clock())
    passed: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: passed.extend(throttle.passes("a") for _ in range(500)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(count is not None for count in passed) == 5
    assert throttle.rest(is_last=True) == [(1995, "")]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_lean_record_has_the_fields_of_any_other_one(log_format: str) -> None:
    logger, extra = logging.getLogger("durable_streams.access"), {"status": 204, "path": "/a b"}
    formatter = logs.JsonFormatter() if log_format == "json" else logs.TextFormatter()
    lean = logs.LeanRecord(logger.name, "request", extra)
    other = logger.makeRecord(logger.name, logging.INFO, __file__, 1, "request", (), None)
    for name, value in extra.items():
        setattr(other, name, value)
    other.created = lean.created
    assert vars(lean).keys() == vars(other).keys()
    assert formatter.format(lean) == formatter.format(other)
    assert vars(logging.makeLogRecord(vars(lean))) == vars(lean)
    assert formatter.format(copy.copy(lean)) == formatter.format(lean)
