"""The verb ``serve``: a server as a process of its own, from its start to its end.

Starting: read flags and environment, bind the port, open the data directory, accept connections.
What fails before the data directory is opened leaves it as it was, and so does a directory that is
in use or is not one of ours.  What fails later may have made directories and recovered streams from
the journal, as the next start does again.  Stopping, on SIGTERM or SIGINT: see
:mod:`durable_streams.http.server`; then the engine writes its checkpoint.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import socket
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.databases import is_database, open_database
from durable_streams.descriptors import LEAST, divide, soft_limit
from durable_streams.filestore.store import FileStore
from durable_streams.http import logs
from durable_streams.http.console import MODES, PATH
from durable_streams.http.handler import StreamsHandler
from durable_streams.http.metrics import PATH_AT_ROOT
from durable_streams.http.metrics_server import MetricsServer
from durable_streams.http.server import HttpServer
from durable_streams.namesake import namesake_problem
from durable_streams.postgres.urls import NoDatabaseUrl, parse
from durable_streams.process import addresses, entrance, listening, options, standard_streams
from durable_streams.process.certificates import Certificates, families_of
from durable_streams.process.notifying import ServiceManager
from durable_streams.process.options import StartError
from durable_streams.process.reloading import Reloading
from durable_streams.process.signals import StopSignals
from durable_streams.program import PROGRAM, version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine, Iterable

    from durable_streams.http.guards import Guard
    from durable_streams.postgres.store import PostgresStore
    from durable_streams.process.options import Given
    from durable_streams.settings import HttpSettings, ProcessSettings, Settings

    Engine = FileStore | PostgresStore

EXIT_FAULT: Final = 1

_ALLOWED_DESCRIPTORS: Final = (65_536, 10_240)
"""Tried where the system allows less than it says: macOS has no limit, by its own account."""

_GC_THRESHOLDS: Final = (50_000, 20, 20)
"""Most objects of a request die by reference count; looking for cycles less often is 3-20 %."""

logger = logging.getLogger("durable_streams")


def run(flags: argparse.Namespace) -> int:
    """Serve until a signal asks for a stop; the exit status."""
    given = options.settings(vars(flags), os.environ)
    if getattr(flags, "store", None):
        _check_no_password(flags.store)
    signals = StopSignals()
    try:
        standard_streams.queue_output(logs.tell_dropped)
    except RuntimeError as error:
        raise StartError(
            f"cannot start the threads that write the log: {error}; allow the user or container "
            "more of them (ulimit -u, TasksMax, pids.max), or stop others"
        ) from error
    throttle = logs.Throttle(logs.AT_ONCE)
    log = logs.configure(given.process.log_format, throttle=throttle)
    for problem in (*options.unknown_in(os.environ), namesake_problem()):
        if problem is not None:
            logger.warning("%s", problem)
    gc.set_threshold(*_GC_THRESHOLDS)
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=loop_factory(given.process.loop)) as runner:
        read = partial(options.settings, vars(flags), os.environ)
        manager = ServiceManager.take(os.environ)
        reloading = Reloading(read, given, signals.hung_up, log, manager)
        serving = _serve(given, signals, reloading, manager)
        return runner.run(logs.with_rest_told(throttle, serving))


def _check_no_password(url: str) -> None:
    """Refuse a flag that every user of the machine could read a password in."""
    with suppress(NoDatabaseUrl):  # which says so when it is opened
        if parse(url).has_password:
            raise StartError(
                "--store has a password, which all users of this machine can see in the list of "
                "processes: change it, and give it by PGPASSWORD, or in the file that PGPASSFILE "
                "names"
            )


def raise_descriptor_limit() -> None:
    """Take as many descriptors as the process may have: connections and open files need them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, *_ALLOWED_DESCRIPTORS):
        if most <= soft and most != resource.RLIM_INFINITY:
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop of a name; :class:`StartError` if that is not installed."""
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


async def _serve(
    given: Given, signals: StopSignals, reloading: Reloading, manager: ServiceManager
) -> int:
    process, settings = given.process, given.store
    with (
        listening.bound_sockets(process, os.environ) as sockets,
        listening.metrics_sockets(process) as for_metrics,
    ):
        is_on_loopback = addresses.are_on_loopback(sockets)
        if not (given.access.is_on or is_on_loopback or process.insecure):
            raise StartError(refusal(map(addresses.name_of, sockets)))
        guard = entrance.guard(given, is_on_loopback=is_on_loopback)
        reloading.files = guard.files
        certificates = Certificates.of(process)
        if certificates is not None and all(one.family == socket.AF_UNIX for one in sockets):
            logger.warning("tls_cert is of no use: there are unix sockets only, which stay plain")
        stop = signals.attach()
        http_settings = _with_descriptors_for_all(given.http, settings)
        if http_settings.console == "auto":
            http_settings = replace(http_settings, console="full" if is_on_loopback else "off")
        engine = await _opened_unless(stop, _open(process, settings))
        if engine is None:
            return 0
        try:
            if not stop.is_set():
                await entrance.begin(guard, engine)
                async with guard.door.running():
                    await _serve_engine(
                        engine,
                        http_settings,
                        guard,
                        sockets,
                        stop,
                        for_metrics=for_metrics,
                        reloading=reloading,
                        manager=manager,
                        certificates=certificates,
                    )
        finally:
            await engine.close()
    return 0 if engine.fault is None else EXIT_FAULT


def refusal(names: Iterable[str]) -> str:
    """Why the server does not start where anybody could do everything."""
    return (
        f"whoever reaches {', '.join(names)} could read, write and delete everything: "
        f"give --tokens FILE ({PROGRAM} token new makes one), or listen on 127.0.0.1, or say "
        "--insecure"
    )


def _with_descriptors_for_all(http_settings: HttpSettings, settings: Settings) -> HttpSettings:
    """The settings with no more connections than there are descriptors for."""
    limit = soft_limit()
    if limit < LEAST:
        raise StartError(
            f"the limit of open files is {limit}: raise it to {LEAST} at least "
            "(ulimit -Hn, or LimitNOFILE of systemd)"
        )
    connections = divide(limit, settings.max_open_files).connections
    if connections >= http_settings.max_connections:
        return http_settings
    logger.warning(
        "at most %d connections: the limit of open files (ulimit -Hn) is %d", connections, limit
    )
    return replace(http_settings, max_connections=connections)


async def _opened_unless(
    stop: asyncio.Event, opening: Coroutine[None, None, Engine]
) -> Engine | None:
    """What is opened; None if the server is to end before that, while it waits for its turn."""
    opened, stopped = asyncio.create_task(opening), asyncio.create_task(stop.wait())
    await asyncio.wait([opened, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not opened.done():
        opened.cancel()  # recovery goes on to its end, and nothing stays open
        await asyncio.wait([opened])
    return None if opened.cancelled() else await opened


async def _open(process: ProcessSettings, settings: Settings) -> Engine:
    if process.store:
        if not is_database(process.store):
            raise StartError("--store takes a URL such as postgresql://ds@db1,db2/streams")
        try:
            return await open_database(process.store, settings)
        except ImportError as error:
            raise StartError(str(error)) from error
    try:
        return await FileStore.at(Path(process.data_dir), settings)
    except OSError as error:  # such as: the current directory, which the path begins at, is gone
        raise StartError(f"cannot open the data directory: {error}") from error


async def _serve_engine(
    engine: Engine,
    settings: HttpSettings,
    guard: Guard,
    sockets: list[socket.socket],
    stop: asyncio.Event,
    *,
    for_metrics: list[socket.socket],
    reloading: Reloading,
    manager: ServiceManager,
    certificates: Certificates | None,
) -> None:
    handler = StreamsHandler(engine, settings, guard.pages, guard.door, control=guard.control)
    of_certificates = families_of if certificates is None else certificates.families
    handler.metrics.sources.append(of_certificates)
    server = HttpServer(engine, settings, handler)
    watched = MetricsServer(handler, is_on_loopback=addresses.are_on_loopback(for_metrics))
    try:
        await server.start(sockets, None if certificates is None else certificates.context)
        await watched.start(for_metrics)
    except OSError as error:  # somebody else began to listen there while we opened the directory
        where = ", ".join(map(addresses.name_of, [*sockets, *for_metrics]))
        raise StartError(
            f"cannot listen on {where}: {error.strerror}: stop what listens there, "
            "or give another --port"
        ) from error
    for bound in for_metrics:
        logger.info("metrics are at http://%s%s", addresses.name_of(bound), PATH_AT_ROOT)
    scheme = "http" if certificates is None else "https"
    manager.ready(_announce(engine, scheme, settings, sockets))
    gc.collect()
    gc.freeze()

    def use(given: Given) -> None:
        server.use(_with_descriptors_for_all(given.http, given.store))

    is_expiring = nullcontext() if certificates is None else certificates.watched()
    async with reloading.watched(use, certificates), is_expiring:
        await stop.wait()
    manager.stopping()
    await server.stop()
    await watched.stop()


def _announce(
    engine: Engine, scheme: str, settings: HttpSettings, sockets: list[socket.socket]
) -> str:
    """Say in one line on stdout where the server is, what it found and what it promises."""
    urls = [_url(bound, scheme, settings.prefix) for bound in sockets]
    told = f"listening on {' and '.join(urls)}, {engine.recovery}"
    told += f", durability {engine.settings.durability.value}"
    if settings.console in MODES and urls[0].startswith(scheme):
        told += f", console at {urls[0].rstrip('/')}/{PATH}/"
    sys.stdout.write(f"{PROGRAM} {version()}: {told}\n")
    return told


def _url(bound: socket.socket, scheme: str, prefix: str) -> str:
    """Where a socket's streams are; no URL has the path of a unix socket, so that stands alone."""
    name = addresses.name_of(bound)
    return name if bound.family == socket.AF_UNIX else f"{scheme}://{name}{prefix}"
