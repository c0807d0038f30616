"""Arguments of the library and of ``mount``: what cannot be is refused by name, changing nothing.

One table has what is wrong for each argument.  The functions and their arguments are found by their
signatures, so an argument that the table does not have fails.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web

import durable_streams
from durable_streams import (
    AccessSettings,
    Durability,
    HttpSettings,
    InvalidRequest,
    Limits,
    Offset,
    ProducerClaim,
    Retries,
    Settings,
    Streams,
    connect,
    connect_sync,
    mount,
    open_streams,
)
from durable_streams.filestore.streams.stream import own
from durable_streams.model.paths import parse_path_text
from tools.engines import file_store
from tools.inside import paths_loaded
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

HUGE: Final = 10**5000  # too long to be printed
SURROGATE: Final = "caf\udce9"  # what os.listdir makes of a name that is not UTF-8


class BytesPath:
    """Names a directory by bytes."""

    def __fspath__(self) -> bytes:
        return b"data"


def released() -> memoryview:
    view = memoryview(b"data")
    view.release()
    return view


NO_TEXT: Final[list[Any]] = [None, 5, 0, True, 1.5, b"text", ["text"], {}, PurePosixPath("text")]
NO_FLAG: Final[list[Any]] = [None, 0, 1, "", "false", "true", b"", []]
NO_INTEGER: Final[list[Any]] = [None, "1", "", b"1", 1.0, True, False, Decimal(1), [1]]

WRONG_TYPES: Final[dict[str, list[Any]]] = {
    "path": NO_TEXT,
    "source": NO_TEXT,
    "offset": [*NO_TEXT, Offset(0, 0)],
    "content_type": NO_TEXT,
    "stream_seq": NO_TEXT,
    "prefix": NO_TEXT,
    "closed": NO_FLAG,
    "close": NO_FLAG,
    "live": NO_FLAG,
    "since": [0, 1.5, True, b"2100-01-01T00:00:00Z", date(2100, 1, 1), timedelta(1)],
    "last": NO_INTEGER,
    "limit": NO_INTEGER,
    "page_size": NO_INTEGER,
    "after": NO_TEXT,
    "ttl_s": [*NO_INTEGER, timedelta(1)],
    "sub_offset": NO_INTEGER,
    "timeout_s": [None, "1", b"1", True, 1j, Decimal(1), timedelta(1)],
    "data": [None, "text", {"a": 1}, [1], 5, 1.5, True, object()],
    "expires_at": [0, 1.5, True, b"2100-01-01T00:00:00Z", date(2100, 1, 1), timedelta(1)],
    "producer": [
        "p",
        ("p", 0, 0),
        {"id": "p", "epoch": 0, "seq": 0},
        *(ProducerClaim(wrong, 0, 0) for wrong in NO_TEXT),
        *(ProducerClaim("p", wrong, 0) for wrong in NO_INTEGER),
        *(ProducerClaim("p", 0, wrong) for wrong in NO_INTEGER),
    ],
    "data_dir": [5, True, b"data", ["data"], BytesPath(), {}],
    "settings": ["", {}, 5, Settings, HttpSettings()],
    "http_settings": ["", {}, 5, HttpSettings, Settings()],
    "streams": ["", 5, {}, Streams],
    "app": [None, 5, web.Application],
    "engine": [None, "data", Path("data")],
    "authorize": [5, "name", True, {}],
}
WRONG_VALUES: Final[dict[str, list[Any]]] = {
    "path": [SURROGATE, "\ud800", "", "/", "a//b", "../a", "a\0b", "x" * 256, "__ds/a"],
    "source": [SURROGATE, "", "..", "a\0b"],
    "offset": [SURROGATE, "", "0", "-2", "0" * 16 + "_" + "\u0660" * 16, "x" * 10_000],
    "content_type": [SURROGATE, "no type", "é/é", "a/b\r\nX: y", f"a/{'b' * 300}"],
    "stream_seq": [SURROGATE, "", "a\nb", "x" * 257],
    "prefix": ["", "a", "/{a}", "/a?b", "/a#b", "/\ud800", "/a\n"],
    "since": [SURROGATE, "", "yesterday", "2100-01-01T00:00:00", datetime(2100, 1, 1)],  # noqa: DTZ001
    "last": [-1, 0, 1001, 2**53, HUGE],
    "limit": [-1, 0, 1001, 2**53, HUGE],
    "page_size": [-1, 0, 1001, 2**53, HUGE],
    "after": [SURROGATE, "\ud800", "/", "a//b", "../a", "a\0b", "x" * 256, "__ds/a"],
    "ttl_s": [-1, 2**53, HUGE, -HUGE],
    "sub_offset": [-1, 1, 2**53, HUGE],  # 1: without an offset
    "timeout_s": [-1, -0.1, math.nan, -math.inf, -HUGE],
    "data": [released()],
    "expires_at": [SURROGATE, "", "tomorrow", "2100-01-01T00:00:00", datetime(2100, 1, 1)],  # noqa: DTZ001
    "producer": [
        *(ProducerClaim(wrong, 0, 0) for wrong in (SURROGATE, "", "x" * 257)),
        *(ProducerClaim("p", wrong, 0) for wrong in (-1, 2**53, HUGE)),
        *(ProducerClaim("p", 0, wrong) for wrong in (-1, 2**53, HUGE)),
    ],
    "data_dir": ["", "a\0b", "\ud800", Path("a\0b")],
    **{name: [] for name in ("closed", "close", "live", "settings", "http_settings")},
    **{name: [] for name in ("streams", "app", "engine", "authorize")},
}
NEEDED: Final[dict[str, Any]] = {"path": "new", "source": "there", "data": b"more"}

Arguments = dict[str, Any]


GIVEN_OUT: Final = {
    durable_streams.AppendResult,
    durable_streams.Details,
    durable_streams.ListPage,
    durable_streams.ListedStream,
    durable_streams.JsonResult,
    durable_streams.Grant,  # made by its class methods; tests/access/test_grants
    durable_streams.Message,
    durable_streams.MessagesResult,
    durable_streams.Metadata,
    durable_streams.Principal,  # refused when it is used
    durable_streams.ProducerSeen,
    durable_streams.ReadResult,
    durable_streams.Record,
    durable_streams.RecordsResult,
    durable_streams.RemoteProducer,
    durable_streams.RemoteStreams,
    durable_streams.RemoteTail,
    durable_streams.Scope,
    durable_streams.SyncIterator,
    durable_streams.SyncRemoteProducer,
    durable_streams.SyncRemoteStreams,
    durable_streams.SyncRemoteTail,
    durable_streams.SyncStreams,
    durable_streams.Tail,
}
"""Classes that nobody has to make, or whose arguments are somewhere else."""
ELSEWHERE: Final = {
    "sign_url": "tests/access/test_signed_urls.py",
    "asgi": "tests/http/test_asgi_lives.py",
    "open_sync": "tests/test_blocking_verbs.py",
}
"""Functions whose arguments are tested there."""
SETTINGS: Final = {Settings, HttpSettings, AccessSettings}
"""Their arguments are in ``test_settings``."""


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    found = inspect.signature(function).parameters.values()
    values = inspect.Parameter.VAR_POSITIONAL  # of append_json: test_json_values
    return [one for one in found if one.name != "self" and one.kind is not values]


METHODS: Final = [
    name
    for name, method in vars(Streams).items()
    if not name.startswith("_") and inspect.isfunction(method)
]
OF_METHODS: Final = [
    (name, parameter) for name in METHODS for parameter in parameters_of(getattr(Streams, name))
]


def wrong_for(parameter: inspect.Parameter) -> list[tuple[Any, type[Exception]]]:
    """What an argument cannot be, and how that is refused in a request."""
    name = parameter.name
    if name == "prefix" and parameter.default == "":  # of paths, not of URLs
        name = "after"
    types = [
        (value, TypeError)
        for value in WRONG_TYPES[name]
        if not (value is None and parameter.default is None)
    ]
    return [*types, *((value, InvalidRequest) for value in WRONG_VALUES[name])]


def naming(parameter: inspect.Parameter) -> str:
    return rf"\b{parameter.name}\b"


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data") as opened:
        yield opened


async def is_waited_for(streams: Streams, path: str) -> bool:
    return bool(own(await file_store(streams).open(parse_path_text(path))).audience.waiters)


async def call(streams: Streams, method: str, arguments: Arguments) -> Any:
    called = getattr(streams, method)(**arguments)
    return await (anext(called) if isinstance(called, AsyncIterator) else called)


def test_the_arguments_of_all_that_is_called_are_known() -> None:
    functions = [getattr(durable_streams, name) for name in durable_streams.__all__]
    called = {function.__name__ for function in functions if inspect.isfunction(function)}
    # Whoever adds one adds its tests, here or beside those of what it does.
    assert called == {"open_streams", "mount", "connect", "connect_sync", *ELSEWHERE}
    classes = {kind for kind in functions if inspect.isclass(kind)}
    classes -= {kind for kind in classes if issubclass(kind, Exception)}
    made = {Streams, ProducerClaim, Offset, Durability, Limits, Retries}
    assert classes - GIVEN_OUT == {*made, *SETTINGS}
    assert len(METHODS) >= 9
    assert set(WRONG_TYPES) == set(WRONG_VALUES)


@pytest.mark.parametrize("file", sorted(set(ELSEWHERE.values())))
def test_what_is_tested_elsewhere_is(file: str) -> None:
    text = (ROOT / file).read_text()
    for name in (name for name, other in ELSEWHERE.items() if other == file):
        assert re.search(rf"\b{name}\(", text), name
    assert re.search(r"raises\((?:TypeError|ValueError|InvalidRequest)", text)


@pytest.mark.parametrize("client", [connect, connect_sync])
@pytest.mark.parametrize(
    ("url", "kind"), [(5, TypeError), (b"http://h", TypeError), ("", ValueError), ("h", ValueError)]
)
def test_what_is_no_url_is_refused_by_name(
    client: Callable[..., object], url: object, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"url|URL"):
        client(url)


@pytest.mark.parametrize(
    ("make", "wrong", "named"),
    [
        (Limits, {"linger_s": -1.0}, "linger_s"),
        (Limits, {"linger_s": math.nan}, "linger_s"),
        (Limits, {"batch_bytes": 0}, "batch_bytes"),
        (Limits, {"batch_appends": 0}, "batch_appends"),
        (Limits, {"in_flight": 0}, "in_flight"),
        (Limits, {"waiting_bytes": 0}, "waiting_bytes"),
        (Retries, {"first_s": 0.0}, "first_s"),
        (Retries, {"first_s": 2.0, "longest_s": 1.0}, "longest_s"),
        (Retries, {"give_up_s": -1.0}, "give_up_s"),
        (Retries, {"follow_s": math.nan}, "follow_s"),
        (Retries, {"repeats": -1}, "repeats"),
        (Retries, {"factor": 0.99}, "factor"),
        (Retries, {"factor": math.inf}, "factor"),
    ],
)
def test_what_a_client_cannot_be_told_is_refused_by_name(
    make: Callable[..., object], wrong: dict[str, float], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make(**wrong)


@pytest.mark.parametrize(
    ("method", "parameter"), OF_METHODS, ids=lambda value: getattr(value, "name", value)
)
async def test_what_an_argument_cannot_be_is_refused_by_name_and_changes_nothing(
    streams: Streams, method: str, parameter: inspect.Parameter
) -> None:
    await streams.create("there", data=b"data", content_type="text/plain")
    before = await streams.get_metadata("there")
    needed = {
        other.name: NEEDED[other.name]
        for other in parameters_of(getattr(Streams, method))
        if other.default is other.empty
    }
    cases = wrong_for(parameter)
    assert cases
    for value, kind in cases:
        with pytest.raises(kind, match=naming(parameter)):
            await call(streams, method, needed | {parameter.name: value})
    assert await streams.get_metadata("there") == before
    assert paths_loaded(file_store(streams)) == ["there"]


@pytest.mark.parametrize("parameter", parameters_of(open_streams), ids=lambda each: each.name)
async def test_what_cannot_be_opened_is_refused_by_name_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameter: inspect.Parameter
) -> None:
    monkeypatch.chdir(tmp_path)
    for value, kind in wrong_for(parameter):
        opening: AbstractAsyncContextManager[Streams] = open_streams(
            **({"data_dir": "data"} | {parameter.name: value})
        )
        with pytest.raises(ValueError if kind is InvalidRequest else kind, match=naming(parameter)):
            await opening.__aenter__()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("parameter", parameters_of(mount), ids=lambda each: each.name)
def test_what_cannot_be_mounted_is_refused_by_name_and_leaves_the_application(
    parameter: inspect.Parameter,
) -> None:
    app = web.Application()
    needed: Arguments = {"app": app} | ({} if parameter.name == "streams" else {"data_dir": "data"})
    for value, kind in wrong_for(parameter):
        with pytest.raises(ValueError if kind is InvalidRequest else kind, match=naming(parameter)):
            mount(**(needed | {parameter.name: value}))
    assert not list(app.router.routes())
    assert not app.cleanup_ctx


@pytest.mark.parametrize("parameter", parameters_of(Streams), ids=lambda each: each.name)
async def test_streams_are_made_of_an_engine(parameter: inspect.Parameter) -> None:
    for value, kind in wrong_for(parameter):
        with pytest.raises(kind, match=naming(parameter)):
            Streams(**{parameter.name: value})


# What does


class Text(str):
    """As ``markupsafe`` and others have."""

    __slots__ = ()


class Index:
    """An integer of a library for numbers."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Moment(datetime):
    """As a library for tests has."""


async def test_what_is_a_kind_of_text_or_number_does(streams: Streams) -> None:
    number: Any = Index(0)
    made = await streams.create(Text("a"), content_type=Text("text/plain"), ttl_s=Index(60))  # type: ignore[arg-type]
    claim = ProducerClaim(Text("p"), number, number)
    await streams.append(Text("a"), b"one", producer=claim, stream_seq=Text("5"))
    again = await streams.append("a", b"one", producer=ProducerClaim("p", 0, 0))
    await streams.fork("b", Text("a"), offset=Text(made.next_offset), sub_offset=Index(1))  # type: ignore[arg-type]
    await streams.create("c", expires_at=Text("2100-01-01T00:00:00Z"))
    await streams.create("d", expires_at=Moment(2100, 1, 1, tzinfo=UTC))
    assert (made.path, made.ttl_s, again.duplicate) == ("a", 60, True)
    assert type(made.path) is str
    assert (await streams.read(Text("b"), Text("-1"))).data == b"o"
    assert (await streams.get_metadata("d")).expires_at == "2100-01-01T00:00:00+00:00"


@pytest.mark.parametrize("timeout_s", [math.inf, 1e300, pytest.param(HUGE, id="huge")])
async def test_any_other_time_can_be_waited(streams: Streams, timeout_s: float) -> None:
    await streams.create("s")
    waiting = asyncio.create_task(streams.read("s", "now", live=True, timeout_s=timeout_s))
    while not waiting.done() and not await is_waited_for(streams, "s"):
        await asyncio.sleep(0)
    await streams.append("s", b"there")
    assert (await waiting).data == b"there"


@pytest.mark.parametrize("value", [{"a": 1}, [1], None, 5, True])
async def test_an_object_for_a_json_stream_is_told_how_to_be_text(
    streams: Streams, value: Any
) -> None:
    await streams.create("j", content_type="application/json")
    with pytest.raises(TypeError, match=r"data must be bytes, .*json\.dumps\(data\)\.encode\(\)"):
        await streams.append("j", value)
    with pytest.raises(TypeError, match=r"data must be bytes, not str; .*data\.encode\(\)"):
        await streams.append("j", "{}")  # type: ignore[arg-type]
