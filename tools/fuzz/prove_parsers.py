"""Coverage-guided fuzzing of everything that reads bytes from strangers: ``scripts/fuzz``.

Each target runs in a process of its own for a share of ``--seconds``; the first input that raises
anything but a documented error is kept in the corpus directory and fails the run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS: Final = ("GET", "PUT", "POST", "HEAD", "DELETE", "OPTIONS", "X")
_HEADERS: Final = (
    "Content-Type",
    "Content-Encoding",
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
)
_CHAIN: Final = b"\1" * 8


def _requests(atheris: Any) -> Callable[[bytes], None]:
    from multidict import CIMultiDict

    from durable_streams.model.errors import StreamError
    from durable_streams.wire.requests import parse_command

    def parse(data: bytes) -> None:
        take = atheris.FuzzedDataProvider(data)
        method = take.PickValueInList(list(_METHODS))
        path, query = take.ConsumeUnicodeNoSurrogates(60), take.ConsumeUnicodeNoSurrogates(60)
        headers = CIMultiDict(
            (take.PickValueInList(list(_HEADERS)), take.ConsumeUnicodeNoSurrogates(40))
            for _ in range(take.ConsumeIntInRange(0, 4))
        )
        with suppress(StreamError):
            parse_command(method, path, query, headers, "/v1/stream")

    return parse


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _messages(_atheris: Any) -> Callable[[bytes], None]:
    from durable_streams.model.errors import InvalidJson
    from durable_streams.rules.json_mode import to_wire

    def split(data: bytes) -> None:
        try:
            found = json.loads(b"[%b]" % to_wire(data)[0][:-1])
        except InvalidJson:
            return
        except RecursionError:
            return  # of the json module's, on what ours took
        wanted = json.loads(data.decode(), parse_constant=_no_constant)
        assert found == (wanted if isinstance(wanted, list) else [wanted])

    return split


def _files(_atheris: Any) -> Callable[[bytes], None]:
    from durable_streams.filestore.format import index, sidecar

    def read(data: bytes) -> None:
        with suppress(sidecar.BadSidecar):
            sidecar.unpack(data)
        with suppress(index.BadLine):
            index.unpack_opening(data)
        with suppress(index.BadLine):
            index.unpack_line(data, _CHAIN)
        index.chain_at_end(data)

    return read


def _journal(_atheris: Any) -> Callable[[bytes], None]:
    from durable_streams.filestore.format import journal as fmt

    header = fmt.FileHeader(1, 1, 1)

    def read(data: bytes) -> None:
        fmt.unpack_header(data)
        fmt.unpack_batch(memoryview(data), 0, header)
        whole = b"".join(fmt.pack_batch(header, 1, 0, 0, [data]))
        batch = fmt.unpack_batch(memoryview(whole), 0, header)
        assert batch is not None
        assert batch.payload == data
        try:
            records = fmt.unpack_records(data)
        except ValueError:
            return
        assert fmt.unpack_records(b"".join(fmt.pack_records(records))) == records

    return read


def _events(atheris: Any) -> Callable[[bytes], None]:
    from durable_streams.model.offsets import Offset
    from durable_streams.wire import sse
    from tools.fuzz.event_streams import events, normalised

    def encode(data: bytes) -> None:
        take = atheris.FuzzedDataProvider(data)
        held, position, wire, text = sse.NOTHING_HELD, 0, b"", b""
        for left in range(take.ConsumeIntInRange(1, 4), -1, -1):
            piece = take.ConsumeBytes(20)
            start = Offset(0, position)
            position += len(piece)
            text += piece
            end = Offset(0, position)
            encoded, held, _ = sse.encode_batch(
                sse.Encoding.TEXT,
                held,
                start,
                piece,
                end,
                closed=not left,
                cursor=1,
                up_to_date=True,
            )
            wire += encoded
        found = "".join(data for kind, data in events(wire) if kind == "data")
        assert found == normalised(text)

    return encode


TARGETS: Final[dict[str, Callable[[Any], Callable[[bytes], None]]]] = {
    "requests": _requests,
    "messages": _messages,
    "files": _files,
    "journal": _journal,
    "events": _events,
}


def _fuzz(name: str, arguments: list[str]) -> None:
    """Run one target; never returns."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with atheris.instrument_imports(include=["durable_streams"]):
        target = TARGETS[name](atheris)
    atheris.Setup([name, *arguments], target)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """Run the targets one after the other; 1 if one of them found something."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="where inputs are kept")
    parser.add_argument("--only", choices=TARGETS, help="this target")
    parser.add_argument("--run", choices=TARGETS, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(arguments)
    if options.run:
        _fuzz(options.run, rest)
    names = [options.only] if options.only else list(TARGETS)
    seconds = max(1, options.seconds // len(names))
    failed = []
    for name in names:
        corpus = options.corpus / name
        corpus.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tools.fuzz.prove_parsers", "--run", name]
        command += [f"-max_total_time={seconds}", f"-artifact_prefix={corpus}-", "-verbosity=0"]
        command += ["-print_final_stats=1", str(corpus)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        ran = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name}: {ran[0].split()[-1] if ran else 'no'} inputs, exit {done.returncode}")
        if done.returncode:
            failed.append(name)
            print(done.stdout[-4000:], done.stderr[-4000:], sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
