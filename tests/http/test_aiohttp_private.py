"""The private attributes of aiohttp that we use: all of them, named here, and still there.

aiohttp may rename them in any minor version, so pyproject.toml holds it to one; this is the list to
go through before the next.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Final

from aiohttp import base_protocol, web, web_protocol
from aiohttp.base_protocol import BaseProtocol

from durable_streams import http
from durable_streams.http.bounded_parser import BoundedParser, HeadTooLong
from durable_streams.http.fast_lane import LaneConnection
from durable_streams.http.handler import _Nothing
from durable_streams.http.logs import AccessLog
from durable_streams.http.presence import BodyCutOff, PresenceConnection
from durable_streams.http.sending import Answer
from durable_streams.http.server import _Connection, _Server

INHERITED: Final = {
    HeadTooLong: set(),
    BodyCutOff: set(),
    PresenceConnection: {
        "_buffer_paused",
        "_close",
        "_loop",
        "_messages",
        "_parser",
        "_pause_transport_reading",
        "_reading_paused",
        "_resume_transport_reading",
        "_task_handler",
        "_waiter",
    },
    LaneConnection: {
        "_close",
        "_force_close",
        "_keepalive_timeout",
        "_loop",
        "_messages",
        "_next_keepalive_close_time",
        "_request_in_progress",
        "_waiter",
    },
    _Connection: {
        "_current_request",
        "_force_close",
        "_loop",
        "_max_msg_queue_size",
        "_messages",
        "_msg_queue_resume_size",
        "_parser",
        "_read_bufsize",
    },
    _Server: {"_connections", "_kwargs", "_loop"},
    _Nothing: set(),
    AccessLog: set(),
    Answer: {
        "_body_length",
        "_eof_sent",
        "_headers",
        "_keep_alive",
        "_payload_writer",
        "_req",
    },
}
"""Private attributes of aiohttp's classes, by the class of ours that derives from one."""

FOREIGN: Final = {
    "fast_lane.py": {"_process_keepalive"},
    "presence.py": {"_cancel", "_manager"},
    "sending.py": {"_prepare_hook"},
    "server.py": {"_process_keepalive"},
}
"""Private attributes of other objects: of a request, of its protocol, and of ``super()``."""

THEIRS: Final = (BaseProtocol, web.BaseRequest, web.RequestHandler, web.Server, web.StreamResponse)


def private_attributes(code: ast.AST, *, of_self: bool) -> set[str]:
    return {
        node.attr
        for node in ast.walk(code)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}) == of_self
    }


def of_class(cls: type) -> set[str]:
    return private_attributes(ast.parse(inspect.getsource(cls)), of_self=True) | set(vars(cls))


def test_every_class_that_derives_from_one_of_aiohttp_s_is_listed() -> None:
    derived = {
        item
        for module in pkgutil.iter_modules(http.__path__, f"{http.__name__}.")
        for item in vars(importlib.import_module(module.name)).values()
        if isinstance(item, type) and item.__module__.startswith(http.__name__)
        if any(base.__module__.startswith("aiohttp.") for base in item.__mro__)
    }
    assert derived == set(INHERITED)


def test_what_we_inherit_is_listed_and_there() -> None:
    for ours, listed in INHERITED.items():
        bases = [base for base in ours.__mro__ if base.__module__.startswith("aiohttp.")]
        there = set().union(*(of_class(base) for base in bases))
        used = private_attributes(ast.parse(inspect.getsource(ours)), of_self=True)
        assert used & there == listed, ours


def test_what_we_use_of_other_objects_is_listed_and_there() -> None:
    used = {
        path.name: private_attributes(ast.parse(path.read_text("utf-8")), of_self=False)
        for path in sorted(Path(http.__file__).parent.glob("*.py"))
    }
    assert {name: attributes for name, attributes in used.items() if attributes} == FOREIGN
    there = set().union(*map(of_class, THEIRS))
    assert set().union(*FOREIGN.values()) <= there


def test_our_parser_has_all_that_aiohttp_uses_of_its_own() -> None:
    """``feed_eof`` is for clients, whose answers may end with the connection."""
    used = {
        node.attr
        for module in (web_protocol, base_protocol)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "_parser"
    }
    assert used == {"feed_data", "message_consumed", "pause_reading", "set_upgraded"}
    assert used <= set(vars(BoundedParser))
