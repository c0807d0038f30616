"""Arbitrary and mutated input: only the documented errors, and a server that lives on."""

from __future__ import annotations

import json
import random
import socket
import unicodedata
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from durable_streams.filestore.files import names
from durable_streams.filestore.format import index, sidecar
from durable_streams.model.errors import InvalidJson, StreamError
from durable_streams.rules.json_mode import to_wire
from durable_streams.wire.requests import parse_command

if TYPE_CHECKING:
    from tests.conftest import StartServer

HEADERS: Final = st.sampled_from(
    [
        "Content-Type",
        "Stream-TTL",
        "Stream-Expires-At",
        "Stream-Closed",
        "Stream-Seq",
        "Producer-Id",
        "Producer-Epoch",
        "Producer-Seq",
        "Stream-Forked-From",
        "Stream-Fork-Offset",
        "Stream-Fork-Sub-Offset",
        "If-None-Match",
        "Content-Encoding",
    ]
)
VALUES: Final = st.text() | st.sampled_from(["0", "-1", "true", "9" * 30, "/v1/stream/a", "a/b;c"])
SEGMENT: Final = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40
)


@given(
    st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE", "OPTIONS", "X"]),
    st.text() | st.sampled_from(["a", "a/b", "%2e%2e", "%ff"]),
    st.text() | st.sampled_from(["offset=-1&live=sse", "offset=now", "offset=%00", "cursor=1"]),
    st.lists(st.tuples(HEADERS, VALUES), max_size=4),
)
def test_a_request_is_parsed_or_refused_by_a_documented_error(
    method: str, path: str, query: str, headers: list[tuple[str, str]]
) -> None:
    try:
        parse_command(method, path, query, CIMultiDict(headers), "/v1/stream")
    except StreamError:
        return


@given(st.binary(max_size=300))
@example(b'{"chain":"\xed":"\xed\xed,"chain":""}\n')  # found by scripts/fuzz
def test_arbitrary_bytes_are_no_file_of_ours(data: bytes) -> None:
    for read in (
        lambda: sidecar.unpack(data),
        lambda: index.unpack_opening(data),
        lambda: index.unpack_line(data, b"\0" * 8),
    ):
        try:
            read()
        except (sidecar.BadSidecar, index.BadLine):
            continue
        raise AssertionError("arbitrary bytes were taken for a file of ours")
    index.chain_at_end(data)


@given(st.binary(max_size=40), st.integers(0, 300), st.integers(0, 40))
def test_a_mutated_line_is_told_from_the_one_written(fresh: bytes, at: int, drop: int) -> None:
    chain = b"\1" * 8
    line = index.pack_line(chain, 5, messages=1, crc=7, time_ms=9, stream_seq="é")[0][:-1]
    mutated = line[:at] + fresh + line[at + drop :]
    try:
        index.unpack_line(mutated, chain)
    except index.BadLine:
        assert mutated != line
    else:
        assert mutated == line


@given(st.lists(SEGMENT, min_size=1, max_size=4), st.lists(SEGMENT, min_size=1, max_size=4))
def test_no_two_paths_share_a_directory_whatever_the_file_system_folds(
    one: list[str], two: list[str]
) -> None:
    paths = [tuple(one), tuple(two)]
    directories = [names.directory_of(path) for path in paths]
    assert [names.path_of(directory) for directory in directories] == paths
    folded = {unicodedata.normalize("NFC", directory).casefold() for directory in directories}
    assert len(folded) == len(set(paths))


JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


@given(JSON, st.booleans(), st.binary(max_size=3), st.integers(0, 30), st.integers(0, 3))
def test_json_is_split_as_the_json_module_reads_it(
    value: object, ascii_only: bool, fresh: bytes, at: int, drop: int
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode("utf-8", "replace")
    text = text[:at] + fresh + text[at + drop :]
    try:
        wanted = json.loads(text.decode(), parse_constant=no_constant)
    except ValueError:
        wanted = None
        valid = False
    else:
        valid = True
    try:
        messages = json.loads(b"[%b]" % to_wire(text)[0][:-1])
    except InvalidJson:
        assert not valid, text
    else:
        assert valid, text
        assert messages == (wanted if isinstance(wanted, list) else [wanted])


_HOST: Final = b" HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
_PRODUCER: Final = b"Producer-Id: p\r\nProducer-Epoch: 0\r\nProducer-Seq: 0\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
_FORK: Final = b"Stream-Forked-From: /v1/stream/a\r\nContent-Length: 0\r\n\r\n"
SEEDS: Final = (
    b"PUT /v1/stream/a" + _HOST + b"Content-Length: 3\r\n\r\nabc",
    b"POST /v1/stream/a" + _HOST + _PRODUCER + _CHUNKED,
    b"GET /v1/stream/a?offset=-1" + _HOST + b"If-None-Match: x\r\n\r\n",
    b"PUT /v1/stream/f" + _HOST + _FORK,
)


def mutate(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        fresh = rng.choice([rng.randbytes(rng.randint(0, 3)), b"\r\n", b"\0", b"%", b"9" * 20])
        data = data[:at] + fresh + data[at + rng.randint(0, 3) :]
    return data


def test_mutated_requests_are_answered_or_dropped_and_never_a_fault(
    start_server: StartServer,
) -> None:
    server = start_server()
    rng = random.Random(7)

    def answer_to(sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(sent + b"x" * 1000 + b"\r\n\r\n")
            client.settimeout(5)
            try:
                return client.recv(65_536)
            except (ConnectionResetError, TimeoutError):
                return b""  # dropped, or it waits for a longer body

    requests = [mutate(rng, rng.choice(SEEDS)) for _ in range(400)]
    with ThreadPoolExecutor(len(requests)) as pool:  # some wait to the end of their time
        answers = list(pool.map(answer_to, requests))
    for sent, answer in zip(requests, answers, strict=True):
        assert not answer.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")), (sent, answer)
    assert sum(answer.startswith(b"HTTP/1.") for answer in answers) > 300
    with urllib.request.urlopen(f"{server.base_url}/readyz") as response:
        assert response.status == 200
    assert "bug" not in server.stderr
