"""What a request is called: as it says, if that will do in a log and in an answer."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from durable_streams.wire.replies import FOR_ALL
from durable_streams.wire.request_ids import MAX_ID_CHARACTERS, request_id

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE}-00f067aa0ba902b7-01"
UUID: Final = "0b7c3f6e-9d0a-4b2f-8a53-1d2f3a4b5c6d"
HARMLESS: Final = re.compile(r"[!-~]{1,128}")

HOSTILE: Final = [
    "",
    " ",
    "a b",
    "a\r\nSet-Cookie: x=1",
    "a\nb",
    "a\x00",
    "a\x1b[2J",
    "a\x85b",
    "a\u2028b",
    "ä",
    "\udcff",
    "{{7*7}}",
    "${jndi:ldap://evil}",
    "<script>",
    '"',
    "'",
    "a;b",
    "a,b",
    "%0a",
    "a\\nb",
    "x" * (MAX_ID_CHARACTERS + 1),
]


def called(*headers: tuple[str, str]) -> str:
    return request_id(CIMultiDict(headers), lambda: "made")


@pytest.mark.parametrize(
    "said", [UUID, "a", "x" * MAX_ID_CHARACTERS, "Root=1-67891233-abcdef", "a.b_c~d:e/f+g=h@i"]
)
def test_it_is_called_as_it_says(said: str) -> None:
    assert called(("x-request-id", said)) == said


@pytest.mark.parametrize("said", HOSTILE)
def test_what_will_not_do_is_replaced(said: str) -> None:
    assert called(("X-Request-Id", said)) == "made"
    assert called(("traceparent", said)) == "made"
    assert called(("X-Request-Id", said), ("traceparent", PARENT)) == TRACE


@pytest.mark.parametrize(
    ("parent", "is_good"),
    [
        (PARENT, True),
        (f"01-{TRACE}-00f067aa0ba902b7-01", True),
        (f"01-{TRACE}-00f067aa0ba902b7-01-what-comes-later", True),
        (f"{PARENT}-what-comes-later", False),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (f" {PARENT}", False),
    ],
)
def test_the_trace_is_that_of_trace_context(parent: str, is_good: bool) -> None:
    assert called(("traceparent", parent)) == (TRACE if is_good else "made")


def test_what_comes_twice_is_neither() -> None:
    assert called(("X-Request-Id", "a"), ("x-request-id", "a")) == "made"
    assert called(("traceparent", PARENT), ("traceparent", PARENT)) == "made"


def test_a_request_that_says_nothing_is_called_nothing() -> None:
    assert called(("X-Request", "a"), ("tracestate", "b=c")) == ""
    assert FOR_ALL.with_id("") is FOR_ALL


def test_the_answer_says_it_as_well() -> None:
    common = FOR_ALL.with_id("a")
    assert common.headers == (*FOR_ALL.headers, ("X-Request-Id", "a"))
    assert common.lines == FOR_ALL.lines + "X-Request-Id: a\r\n"


@given(st.text(max_size=200), st.text(max_size=80))
def test_whatever_is_said_it_is_harmless(said: str, parent: str) -> None:
    assert HARMLESS.fullmatch(called(("X-Request-Id", said), ("traceparent", parent)))
