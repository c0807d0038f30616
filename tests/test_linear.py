"""Nothing that a client sends is worked on for longer than in proportion to its length."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
from collections import defaultdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from multidict import CIMultiDict

import durable_streams
from durable_streams.http.heads import Heads
from durable_streams.http.server import _PARSER_LIMITS
from durable_streams.model.errors import StreamError
from durable_streams.rules import media_type
from durable_streams.wire import caching
from durable_streams.wire.pages import OPEN_TO_ALL
from durable_streams.wire.requests import parse_command
from durable_streams.wire.urls import Address, split_target, stream_url
from tests.linear import NotLinear, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

AT_ONE_PLACE: Final = frozenset({"match", "fullmatch"})
OLD_FORWARDED: Final = r'\s*([a-z-]+)=(?:"([^"\\]*)"|([^\s;,"]*))\s*(?:[;]|$)'


def modules() -> Iterator[str]:
    yield "durable_streams"
    for module in pkgutil.walk_packages(durable_streams.__path__, "durable_streams."):
        if not module.name.endswith("__main__"):
            yield module.name


def calls_of_patterns(tree: ast.AST) -> dict[str, set[str]]:
    """The methods that a module calls of each name."""
    calls: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            for name in ast.walk(node.value):
                if isinstance(name, ast.Name):
                    calls[name.id].add(node.attr)
    return calls


@cache
def patterns() -> dict[str, tuple[re.Pattern[Any], bool]]:
    """All patterns of the package, and whether they are searched for."""
    found = {}
    for name in modules():
        module = importlib.import_module(name)
        calls = calls_of_patterns(ast.parse(Path(module.__file__ or "").read_text("utf-8")))
        for attribute, value in vars(module).items():
            if isinstance(value, re.Pattern):
                assert calls[attribute], f"{name}.{attribute}: nobody tells how it is used"
                found[f"{name}.{attribute}"] = value, not calls[attribute] <= AT_ONE_PLACE
    return found


OF_OUR_OWN_LINES: Final = {
    # It goes back from the end of a line to the one place in it where "chain": can be, as quotes in
    # a client's text are escaped; and no line that it begins with is longer than such texts, 3 KiB.
    "durable_streams.filestore.format.index_lines._STATED",
}
"""Patterns that read what the server itself wrote, and why these are linear all the same."""


def test_all_patterns_of_the_package_take_linear_time() -> None:
    found = {}
    for name, (pattern, is_searched) in patterns().items():
        try:
            check(pattern, is_searched=is_searched)
        except NotLinear as error:
            found[name] = str(error)
    assert set(found) == OF_OUR_OWN_LINES, found  # or it need not be listed


def test_all_patterns_of_the_package_are_constants_of_modules() -> None:
    made = 0
    for path in Path(durable_streams.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id == "re" and node.attr.islower():
                is_of_the_kernel = path.name == "system_calls.py" and node.attr == "match"
                assert node.attr == "compile" or is_of_the_kernel, path
                made += node.attr == "compile"
    assert made == len(patterns()) > 20


@pytest.mark.parametrize(
    ("pattern", "is_searched"),
    [
        (OLD_FORWARDED, True),
        (r"(a+)+b", False),
        (r"(?:ab|ac?b)*d", False),
        (r"a*a*b", False),
        (r"a*b?a*c", False),
        (r"(?:a*b?)*c", False),
        (r"(?:x[ab]*y|x[bc]*z)", False),
        (r"(?:[a-z]{2,200}b)*c", False),
        (r"(a)*\1", False),
        (r"\s*x", True),
        (r"a[ab]*c", True),
        (r"[a-z]+=", True),
        (r"[a-z]{0,200}[a-z]", True),
        (r"s+\u017fx", False),
        (r"k*K", False),
    ],
)
def test_patterns_that_are_not_linear_are_found_out(pattern: str, is_searched: bool) -> None:
    with pytest.raises(NotLinear):
        check(re.compile(pattern, re.IGNORECASE), is_searched=is_searched)


@pytest.mark.parametrize(
    ("pattern", "is_searched"),
    [
        (r"a*b*c", False),
        (r'"[^"]*"', True),
        (r"\s*x", False),
        (r"(?:a|bc)*d", False),
        (r"[a-z]{0,200}[a-z]", False),
        (r"(?:GET|POST|PUT) /[a-z]*", False),
        (r"=[ ]*[a-z]*;", True),
    ],
)
def test_patterns_that_are_linear_pass(pattern: str, is_searched: bool) -> None:
    check(re.compile(pattern), is_searched=is_searched)


# What is written in Python: its steps are counted.


def steps(work: Callable[[], object]) -> int:
    """How many instructions of Python's machine this takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except StreamError:
        pass
    finally:
        sys.settrace(before)
    return count


def headers(name: str, value: str) -> CIMultiDict[str]:
    return CIMultiDict({"Host": "a", "Content-Type": "text/plain", name: value})


def located(target: str, sent: CIMultiDict[str]) -> object:
    own = Address("http", "127.0.0.1:80")
    return stream_url(target, sent, own, "/v1/stream", ("a",), is_forwarded=True)


HOSTILE: Final = (*' ,;"=%&/\\', "a", "%41", "a=b;", '";', "x y", "W/")
NAMES: Final = (
    "Forwarded",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "Content-Type",
    "If-None-Match",
    "Stream-TTL",
    "Stream-Expires-At",
    "Stream-Forked-From",
    "Producer-Id",
    "Stream-Seq",
    "Content-Encoding",
    "Transfer-Encoding",
    "Host",
)


def works(text: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Everything of ours that reads what a client sends in a head."""
    for name in NAMES:
        sent = headers(name, text)
        for method in ("PUT", "POST", "GET"):
            yield f"{method} {name}", partial(parse_command, method, "a", "", sent, "/v1/stream")
        yield f"Location, {name}", partial(located, "/", sent)
    plain = headers("X", "x")
    yield "path", lambda: parse_command("GET", text, "", plain, "/v1/stream")
    yield "query", lambda: parse_command("GET", "a", text, plain, "/v1/stream")
    yield "offset", lambda: parse_command("GET", "a", f"offset={text}", plain, "/v1/stream")
    yield "cursor", lambda: parse_command("GET", "a", f"cursor={text}", plain, "/v1/stream")
    yield "target", lambda: split_target(text)
    yield "whole target", lambda: located(f"http://{text}", plain)
    yield "tags", lambda: caching.matches(text, '"tag"')
    yield "type", lambda: media_type.normalise(text)


@pytest.mark.parametrize("unit", HOSTILE)
def test_twice_as_much_takes_no_more_than_twice_the_steps(unit: str) -> None:
    size = 500
    once, twice = (dict(works(unit * count + "x")) for count in (size, 2 * size))
    for name, work in works(f"{unit}x"):
        steps(work)  # what is made once is made
        assert steps(twice[name]) <= 2 * steps(once[name]) + size, name


async def test_a_head_is_found_in_steps_that_do_not_grow_with_what_it_holds() -> None:
    def read(count: int) -> Callable[[], object]:
        lines = b"Producer-Seq: 1\r\nX: \r\n" * count
        head = b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"
        heads = Heads("/v1/stream", 1 << 20, _PARSER_LIMITS, OPEN_TO_ALL)
        return lambda: heads.read(head)

    assert steps(read(2_000)) <= 2 * steps(read(1_000)) + 500
