"""Fixtures for all tests: temporary data directories, real servers, a loop that nobody blocks."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import hypothesis
import pytest
from blockbuster import BlockBuster, BlockBusterFunction

from durable_streams.filestore.files import child_processes
from durable_streams.filestore.tuning import Tuning
from tests.long import FIRST, LONG, LONGEST
from tests.programs import CLIENTS_PYTHON, TESTED_WITH, find_program
from tools.node import node_problem, running_in_ci
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE: Final = Path(__file__).resolve().parent

_MORE_BLOCKING_CALLS: Final = (
    "os.fdatasync",
    "os.fsync",
    "os.ftruncate",
    "os.pwrite",
    "os.pwritev",
    "os.sync",
)
"""What blockbuster does not watch by itself and must never run on the event loop."""

_NONBLOCKING_BY_DESIGN: Final = (
    "os.sendfile",  # at most 1 MiB into a socket that does not block, from files just touched
    "os.path.abspath",  # computes a string
)

_MAY_BLOCK: Final = (
    # It looks at the process while it is imported, which reads files as every import does.
    ("io.BufferedReader.read", "prometheus_client/process_collector.py", "<module>"),
    ("os.listdir", "prometheus_client/process_collector.py", "<module>"),
    # The driver looks for a password file and certificates whenever it connects: a few small files.
    ("os.stat", "asyncpg/connect_utils.py", "_parse_connect_dsn_and_args"),
    ("os.readlink", "asyncpg/connect_utils.py", "_parse_connect_dsn_and_args"),
)
"""(watched call, file, function): the listed few that may block; say why beside each."""


_QUICK: Final = frozenset(
    {
        "access",
        "filestore",
        "http",
        "maintenance",
        "model",
        "postgres",
        "rules",
        "store_contract",
        "wire",
    }
)
"""Folders whose tests drive modules of this process."""

_PATIENT: Final = frozenset(
    {"asgi", "browser", "caches", "compatibility", "conformance", "postgres", "yjs"}
)
"""Folders whose tests mostly wait for others' programs, and may run beside others."""

_PROCESSES: Final = frozenset({"start_server", "postgres_cluster", "own_cluster"})
"""Fixtures that start servers, ours and others'."""

_ON_DISK: Final = frozenset(
    {
        "http/test_fast_lane.py::test_a_client_that_takes_no_answers_is_dropped",
        "http/test_fast_lane.py::test_plain_requests_do_not_go_through_aiohttp",
    }
)
"""Tests that read files without waiting (``RWF_NOWAIT``), which those in memory do not offer."""


def _is_quick(item: pytest.Item) -> bool:
    """The one rule: whether a test is run by ``scripts/test --quick``.

    What is in another folder, starts a server, needs what others made, is ``slow`` or listed in
    ``LONG`` or ``_ON_DISK`` is left to the whole.  So a new test is in one of both, and a new
    folder in the whole.
    """
    folder, *others = item.path.relative_to(_HERE).parts
    file = "/".join([folder, *others])
    test = f"{file}::{getattr(item, 'originalname', item.name)}"
    return (
        (not others or folder in _QUICK)
        and not {file, test} & (LONG | _ON_DISK)
        and not _PROCESSES & set(getattr(item, "fixturenames", ()))
        and not any(item.get_closest_marker(name) for name in ("slow", "node", "needs"))
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing of the folders that are left to the whole: that costs as many tests."""
    is_folder = collection_path.parent == _HERE and collection_path.is_dir()
    is_left_out = is_folder and collection_path.name not in _QUICK
    return True if is_left_out and config.option.markexpr == "not whole" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the quick tier leaves out, and what of it may run beside others.

    What takes a minute by itself begins first, so that the others run beside it; and the shortest
    files come last, so that no process has a long one left when the others have nothing.
    """
    turns = {file: turn for turn, file in enumerate((*sorted(FIRST), *LONGEST))}
    items.sort(key=lambda item: turns.get(item.path.relative_to(_HERE).as_posix(), len(turns)))
    for item in items:
        if not _is_quick(item):
            item.add_marker(pytest.mark.whole)
        if item.path.relative_to(_HERE).parts[0] in _PATIENT:
            item.add_marker(pytest.mark.patient)


def pytest_collection_finish() -> None:
    """Who looks for garbage leaves out what is there before the first test.

    Ten thousand tests are a million objects, and looking through them takes a tenth of a second:
    there are tests that do it after every step.
    """
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """What tests start can be interrupted, even where a shell runs them in the background.

    And no example fails for how long it takes, which the machine and what else it does decide.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("whatever it takes", deadline=None)
    hypothesis.settings.load_profile("whatever it takes")


class StartServer(Protocol):
    """Start a server with these options, on the test's data directory unless told otherwise."""

    def __call__(
        self, *options: str, data_dir: Path | None = None, open_files: int | None = None
    ) -> ServerProcess: ...


@pytest.fixture
def tuning() -> Tuning:
    """How the engines of a module's fixture are tuned; a test may have a parameter instead."""
    return Tuning()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Where a test's streams live; the server makes it."""
    return tmp_path / "data"


@pytest.fixture
def served_by() -> Path | None:
    """Where the programs are that servers are started with; None: this checkout's."""
    return None


@pytest.fixture
def start_server(data_dir: Path, served_by: Path | None, tmp_path: Path) -> Iterator[StartServer]:
    """Start real servers; each is stopped at the end and its stderr looked through.

    That is not kept beside the data directory, which may be on a disk that a test fills.
    """
    servers: list[ServerProcess] = []

    directory = data_dir

    def start(
        *options: str, data_dir: Path | None = None, open_files: int | None = None
    ) -> ServerProcess:
        place = data_dir or directory
        server = ServerProcess(
            place, *options, open_files=open_files, programs=served_by, log_dir=tmp_path
        )
        servers.append(server)
        server.start()
        return server

    try:
        yield start
    except BaseException:
        for server in servers:
            if server.running:
                server.kill()
        raise
    for server in servers:
        server.finish()


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """Start a real server with its default options."""
    return start_server()


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which the package makes a blocking call on the event loop."""
    blockbuster = BlockBuster(scanned_modules=["durable_streams"])
    watched = blockbuster.functions
    for name in _MORE_BLOCKING_CALLS:
        watched[name] = BlockBusterFunction(None, name, scanned_modules=["durable_streams"])
    for name in _NONBLOCKING_BY_DESIGN:
        del watched[name]
    for name, file, function in _MAY_BLOCK:
        watched[name].can_block_in(file, function)
    blockbuster.activate()
    try:
        yield
    finally:
        blockbuster.deactivate()


@pytest.fixture(autouse=True)
def what_is_kept_from_children_is_open() -> Iterator[None]:
    """Fail a test after which a child would lose a descriptor that is not ours any more."""
    yield
    for number in sorted(child_processes._numbers):
        os.fstat(number)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what needs Node or a program that is missing; in CI that is a failure."""
    problem = node_problem() if item.get_closest_marker("node") else None
    for marker in item.iter_markers("needs"):
        missing = [program for program in marker.args if find_program(program) is None]
        if missing:
            problem = f"{' and '.join(missing)} not found: run scripts/setup programs"
    if problem is None:
        return
    if running_in_ci():
        pytest.fail(problem, pytrace=False)
    pytest.skip(problem)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so at the end of a run that could not do everything."""
    if terminalreporter.config.option.markexpr == "not whole":
        return  # they need nothing
    problem = node_problem()
    missing = []
    if problem is not None:
        missing += [
            problem,
            "The official conformance suite, the JavaScript clients and Yjs did not run.",
        ]
    if not CLIENTS_PYTHON.exists():
        missing.append("PyPI's durable-streams was not tested. Run scripts/setup clients.")
    missing += [
        f"{program} is missing: {tested} not tested. Run scripts/setup programs."
        for program, tested in TESTED_WITH.items()
        if find_program(program) is None
    ]
    if missing:
        terminalreporter.section("NOT EVERYTHING WAS TESTED", sep="!", red=True, bold=True)
    for line in missing:
        terminalreporter.line(line)
