"""The command line: ``durable-streams serve``, and ``verify``, ``repair``, ``dump``.

Exit status of ``serve``: 0 after a clean stop; 1 if the disk failed while serving; 2 if the server
could not start (bad flag, taken port, data directory in use or unreadable), with one line on stderr
that says why; 128 + n when a second signal n cuts a stop short.  The other verbs are in
:mod:`durable_streams.maintenance.commands`.  Of all but a server that runs, which waits for no
stdout: 74 if it cannot be written, 141 if nobody reads it any more.  Of all: 70 after a bug, with
its traceback: what else a status says was found out.

Starting: read the flags, bind the port, open the data directory, accept connections.  What fails
before the data directory is opened leaves it as it was, and so does a directory that is in use or
is not one of ours.  What fails later may have made directories and recovered streams from the
journal, as the next start does again.  Stopping, on SIGTERM or SIGINT: see
:mod:`durable_streams.http.server`; then the engine writes its checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import signal
import sys
import traceback
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from durable_streams import descriptors
from durable_streams.filestore.store import FileStore
from durable_streams.http import logs
from durable_streams.http.server import HttpServer
from durable_streams.maintenance import commands as maintenance
from durable_streams.model.errors import DataDirectoryError
from durable_streams.process import addresses, standard_streams
from durable_streams.process.addresses import CannotListen
from durable_streams.process.signals import StopSignals
from durable_streams.process.standard_streams import OutputFailed
from durable_streams.settings import Durability, HttpSettings, Settings, least_journal_file_bytes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

DEFAULT_PORT: Final = 4437
"""Assigned by the protocol (§13.1)."""

PROGRAM: Final = "durable-streams"
"""What messages call us, however we were started."""

MAX_PORT: Final = 65_535
MAX_DIGITS: Final = 18
"""Of a number on the command line: beyond every size there is, and not worth reading."""

EXIT_FAULT: Final = 1
EXIT_NO_START: Final = 2
EXIT_BUG: Final = 70
EXIT_OUTPUT: Final = 74
"""As ``sysexits.h`` has them, apart from what the verbs found out."""

_ALLOWED_DESCRIPTORS: Final = (65_536, 10_240)
"""Tried where the system allows less than it says: macOS has no limit, by its own account."""

_GC_THRESHOLDS: Final = (50_000, 20, 20)
"""Most objects of a request die by reference count; looking for cycles less often is 3-20 %."""

_PREFIX_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
)

logger = logging.getLogger("durable_streams")


class StartError(Exception):
    """The server cannot start; the text is one line for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    standard_streams.prepare()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is still written
        return 128 + signal.SIGINT
    except OutputFailed as error:
        if error.nobody_reads:
            return 128 + signal.SIGPIPE
        _say(error)
        return EXIT_OUTPUT
    return status


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
    except SystemExit as end:  # argparse has said what there was to say
        return end.code if isinstance(end.code, int) else 0
    except (StartError, CannotListen, DataDirectoryError) as error:
        _say(error)
        return EXIT_NO_START
    except OutputFailed:
        raise
    except Exception:  # noqa: BLE001 - a status of 1 would say something else
        traceback.print_exc()
        return EXIT_BUG
    return status


def _say(error: Exception) -> None:
    sys.stderr.write(f"{PROGRAM}: error: {' '.join(str(error).split())}\n")


def _run_server(options: argparse.Namespace) -> int:
    signals = StopSignals()
    try:
        standard_streams.queue_output(logs.tell_dropped)
    except RuntimeError as error:
        raise StartError(
            f"cannot start the threads that write the log: {error}; allow the user or container "
            "more of them (ulimit -u, TasksMax, pids.max), or stop others"
        ) from error
    logs.configure(options.log_format)
    gc.set_threshold(*_GC_THRESHOLDS)
    _raise_descriptor_limit()
    with asyncio.Runner(loop_factory=_loop_factory(options.loop)) as runner:
        return runner.run(_serve(options, signals))


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the process may have: connections and open files need them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, *_ALLOWED_DESCRIPTORS):
        if most <= soft and most != resource.RLIM_INFINITY:
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return


async def _serve(options: argparse.Namespace, signals: StopSignals) -> int:
    sockets = addresses.bind(options.host, options.port)
    try:
        stop = signals.attach()
        settings, http_settings = _settings(options)
        engine = await _open(options.data_dir, settings)
        try:
            if not stop.is_set():
                await _serve_engine(engine, http_settings, sockets, stop)
        finally:
            await engine.close()
    finally:
        for bound in sockets:
            bound.close()
    return 0 if engine.fault is None else EXIT_FAULT


async def _open(data_dir: Path, settings: Settings) -> FileStore:
    try:
        return await FileStore.at(data_dir, settings)
    except OSError as error:  # such as: the current directory, which the path begins at, is gone
        raise StartError(f"cannot open the data directory: {error}") from error


async def _serve_engine(
    engine: FileStore, settings: HttpSettings, sockets: list[socket.socket], stop: asyncio.Event
) -> None:
    server = HttpServer(engine, settings)
    try:
        await server.start(sockets)
    except OSError as error:  # somebody else began to listen there while we opened the directory
        where = ", ".join(addresses.authority(*bound.getsockname()[:2]) for bound in sockets)
        raise StartError(
            f"cannot listen on {where}: {error.strerror}: stop what listens there, "
            "or give another --port"
        ) from error
    _announce(engine, settings, sockets)
    gc.collect()
    gc.freeze()
    await stop.wait()
    await server.stop()


def _announce(engine: FileStore, settings: HttpSettings, sockets: list[socket.socket]) -> None:
    """Say in one line on stdout where the server is, what it found and what it promises."""
    where = [addresses.authority(*bound.getsockname()[:2]) for bound in sockets]
    urls = " and ".join(f"http://{authority}{settings.prefix}" for authority in where)
    sys.stdout.write(
        f"{PROGRAM} {_version()}: listening on {urls}, "
        f"{engine.recovery}, durability {engine.settings.durability.value}\n"
    )


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: PLC0415 - it need not be there
    except ImportError:
        if name == "uvloop":
            raise StartError(
                "uvloop is not installed: install it (pip install uvloop) or leave out --loop"
            ) from None
        logger.info("uvloop is not installed; going on with asyncio's event loop, which is slower")
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _settings(options: argparse.Namespace) -> tuple[Settings, HttpSettings]:
    settings = Settings(
        durability=Durability(options.durability),
        max_append_bytes=options.max_append_bytes,
        segment_bytes=options.segment_bytes,
        reserve_bytes=options.reserve_bytes,
        journal_file_bytes=max(
            Settings().journal_file_bytes, least_journal_file_bytes(options.max_append_bytes)
        ),
    )
    limit = descriptors.soft_limit()
    connections = min(options.max_connections, _most_connections(limit, settings))
    if connections < options.max_connections:
        logger.warning(
            "at most %d connections: the limit of open files (ulimit -Hn) is %d", connections, limit
        )
    http_settings = HttpSettings(
        prefix=options.prefix,
        long_poll_timeout_s=options.long_poll_timeout,
        sse_lifetime_s=options.sse_lifetime,
        keepalive_timeout_s=options.keepalive_timeout,
        max_connections=connections,
        max_bodies_bytes=options.max_bodies_bytes,
        private_caching=options.private_caching,
        access_log=options.access_log,
        fast_lane=not options.no_fast_lane,
    )
    return settings, http_settings


def _most_connections(limit: int, settings: Settings) -> int:
    """How many connections there are descriptors for."""
    if limit < descriptors.LEAST:
        raise StartError(
            f"the limit of open files is {limit}: raise it to {descriptors.LEAST} at least "
            "(ulimit -Hn, or LimitNOFILE of systemd)"
        )
    return descriptors.divide(limit, settings.max_open_files).connections


def _version() -> str:
    try:
        return metadata.version("durable-streams-server")
    except metadata.PackageNotFoundError:
        return "(not installed)"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse repeats the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_NO_START, f"{PROGRAM}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="A Durable Streams server.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    maintenance.add_to(commands.add_parser)
    serve = commands.add_parser(
        "serve",
        help="serve the streams of a data directory over HTTP",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    serve.set_defaults(run=_run_server)
    _add_options(serve)
    _add_process_options(serve)
    return parser


def _add_options(serve: argparse.ArgumentParser) -> None:
    """The flags of ``serve``; what they mean for users is in docs/operations.rst."""
    http, engine = HttpSettings(), Settings()
    add = serve.add_argument
    add("--version", action="version", version=f"{PROGRAM} {_version()}")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=_port, default=DEFAULT_PORT, help="0: any free port")
    add("--data-dir", type=Path, default=Path("data"), metavar="PATH", help="where streams live")
    add("--prefix", type=_prefix, default=http.prefix, help="URL path of the stream space")
    add(
        "--durability",
        choices=[mode.value for mode in Durability],
        default=engine.durability.value,
        help="what an acknowledgement means",
    )
    add(
        "--long-poll-timeout",
        type=_seconds,
        default=http.long_poll_timeout_s,
        metavar="SECONDS",
        help="how long a long-poll waits for data",
    )
    add(
        "--sse-lifetime",
        type=_seconds,
        default=http.sse_lifetime_s,
        metavar="SECONDS",
        help="after which an event stream is ended, to be reopened",
    )
    add(
        "--max-append-bytes",
        type=_count,
        default=engine.max_append_bytes,
        metavar="BYTES",
        help="largest request body",
    )
    add(
        "--max-bodies-bytes",
        type=_count,
        default=http.max_bodies_bytes,
        metavar="BYTES",
        help="request bodies in memory at a time, at least one; more are answered 503",
    )
    add(
        "--segment-bytes",
        type=_count,
        default=engine.segment_bytes,
        metavar="BYTES",
        help="size at which a stream begins its next segment file",
    )
    add(
        "--reserve-bytes",
        type=_count,
        default=engine.reserve_bytes,
        metavar="BYTES",
        help="room on the disk below which only deletions are taken; at most 1/16 of the volume",
    )
    add(
        "--max-connections",
        type=_count,
        default=http.max_connections,
        metavar="N",
        help="connections served at a time; more are answered 503",
    )
    add("--private-caching", action="store_true", help="keep streams out of shared caches")


def _add_process_options(serve: argparse.ArgumentParser) -> None:
    """The flags that change how it runs, not what it answers."""
    add = serve.add_argument
    add(
        "--loop",
        choices=["auto", "uvloop", "asyncio"],
        default="auto",
        help="event loop; auto: uvloop if it is installed",
    )
    add(
        "--keepalive-timeout",
        type=_seconds,
        default=HttpSettings().keepalive_timeout_s,
        metavar="SECONDS",
        help="how long a connection may be idle; a proxy in front has to close its own sooner",
    )
    add("--log-format", choices=["text", "json"], default="text", help="of the lines on stderr")
    add("--access-log", action="store_true", help="log a line for every request")
    add(
        "--no-fast-lane",
        action="store_true",
        help="let aiohttp answer small appends and reads as well",
    )


def _port(text: str) -> int:
    port = _whole_number(text)
    if port is None or port > MAX_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port: give a whole number from 0 (any free port) to {MAX_PORT}"
        )
    return port


def _count(text: str) -> int:
    count = _whole_number(text)
    if not count:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a count: give a whole number from 1 on, in digits only"
        )
    return count


def _whole_number(text: str) -> int | None:
    """Read digits; None if there is anything else, or more of them than any limit has."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    return int(text) if is_number else None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: give seconds greater than 0, such as 30 or 0.5"
        )
    return value


def _prefix(text: str) -> str:
    prefix = text.rstrip("/")
    segments = prefix.split("/")[1:]
    if (
        not prefix.startswith("/")
        or not _PREFIX_CHARACTERS.issuperset(prefix)
        or not {"", ".", ".."}.isdisjoint(segments)
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a prefix: give a URL path such as /v1/stream"
        )
    return prefix
