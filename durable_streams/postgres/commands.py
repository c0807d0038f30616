"""The command line's verbs ``store init``, ``check``, ``migrate`` and ``restored``.

They take the URL of a database, or what ``DURABLE_STREAMS_STORE`` says.  A password in an argument
would be in every list of processes, and is refused: PGPASSWORD and PGPASSFILE are read, and the
variable may have one.  Exit status: 0 when it was done, or nothing is wrong; 1 if ``check`` found
something wrong; 2 with one line on stderr if the database cannot be had.

Imports nothing that needs the driver: the command line is complete without it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.model.setting import ENVIRONMENT
from durable_streams.postgres.urls import NoDatabaseUrl, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from durable_streams.postgres.token_rows import Fetch
    from durable_streams.postgres.urls import DatabaseUrl

_T = TypeVar("_T")

EXIT_WRONG: Final = 1
EXIT_NOTHING: Final = 2

VARIABLE: Final = f"{ENVIRONMENT}STORE"
INSTALL: Final = "a store on PostgreSQL needs pip install 'durable-streams-server[postgres]'"


class DatabaseProblem(Exception):
    """What was asked for cannot be; the text is one line for the user."""


def add_to(
    add_parser: Callable[..., argparse.ArgumentParser],
) -> Callable[..., argparse.ArgumentParser]:
    """Add the verb; each below it sets ``run`` to a function from options to exit status.

    Returns what adds another one below it.
    """
    store = add_parser("store", help="set up and check a PostgreSQL database of streams")
    verbs = store.add_subparsers(dest="verb", required=True, metavar="VERB")

    command = verbs.add_parser("init", help="make the tables, in a database that is there")
    _add_url(command)
    command.set_defaults(run=partial(_told, _init))

    command = verbs.add_parser(
        "check", help="say what would lose what was acknowledged, or keep nodes from serving"
    )
    _add_url(command)
    command.add_argument(
        "--store-allow-unreplicated",
        action="store_true",
        help="no standby has to acknowledge commits: storage below is replicated, say",
    )
    command.set_defaults(run=partial(_told, _check))

    command = verbs.add_parser("migrate", help="bring the tables to the version of this program")
    _add_url(command)
    command.set_defaults(run=partial(_told, _migrate))

    command = verbs.add_parser(
        "restored", help="have no offset lead anywhere that was told before a restore"
    )
    _add_url(command)
    command.set_defaults(run=partial(_told, _restored))
    return verbs.add_parser


def _add_url(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="postgresql://user@host1,host2/database, with all hosts and without a password: that "
        f"is taken from PGPASSWORD or the file PGPASSFILE (default: what {VARIABLE} says)",
    )


def _told(
    verb: Callable[[argparse.Namespace, DatabaseUrl], Awaitable[int]], options: argparse.Namespace
) -> int:
    """Run a verb; what is wrong is one line."""
    try:
        return with_url(options.url, partial(verb, options))
    except DatabaseProblem as error:
        sys.stderr.write(f"durable-streams: error: {' '.join(str(error).split())}\n")
        return EXIT_NOTHING


def with_database(given: str | None, work: Callable[[Fetch], Awaitable[_T]]) -> _T:
    """Work with the tokens of a database: :class:`DatabaseProblem` if that cannot be."""

    async def alone(url: DatabaseUrl) -> _T:
        from durable_streams.postgres.token_changes import change_alone  # noqa: PLC0415 - see above

        return await change_alone(url, work)

    return with_url(given, alone)


def with_url(given: str | None, work: Callable[[DatabaseUrl], Awaitable[_T]]) -> _T:
    """Do something with a database; :class:`DatabaseProblem`."""
    # Ctrl-C ends the program at once.  Otherwise asyncio would cancel what is under way, and the
    # driver a commit that waits for a standby: then it is seen by all, and no standby has it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        url = _url(given)
        if find_spec("asyncpg") is None:
            raise DatabaseProblem(INSTALL)
        from durable_streams.postgres.connecting import NoDatabase  # noqa: PLC0415 - see above

        try:
            return asyncio.run(_awaited(work(url)))
        except NoDatabase as error:
            raise DatabaseProblem(f"{error}") from None
    except NoDatabaseUrl as error:
        raise DatabaseProblem(f"{error}") from None


async def _awaited(work: Awaitable[_T]) -> _T:
    return await work


def _url(given: str | None) -> DatabaseUrl:
    if given is not None:
        return without_secret(given)
    variable = os.environ.get(VARIABLE)
    if not variable:
        raise DatabaseProblem(f"which database? give its URL, or set {VARIABLE}")
    return parse(variable)


def without_secret(given: str) -> DatabaseUrl:
    """The database that an argument names; :class:`DatabaseProblem` if that has a password."""
    url = parse(given)
    if url.has_password:
        raise DatabaseProblem(
            "the URL has a password, which all users of this machine can see in the list of "
            "processes: change it, and give it by PGPASSWORD, or in the file that PGPASSFILE names"
        )
    return url


async def _init(_: argparse.Namespace, url: DatabaseUrl) -> int:
    from durable_streams.postgres import facts, versions  # noqa: PLC0415 - see above

    await facts.need_acknowledgements(url)
    if await versions.initialise(url):
        sys.stdout.write(f"{url} has its tables now\n")
    else:
        sys.stdout.write(f"{url} has its tables already: nothing was changed\n")
    return 0


async def _check(options: argparse.Namespace, url: DatabaseUrl) -> int:
    from durable_streams.postgres import checks, facts  # noqa: PLC0415 - see above

    found = checks.check(
        await facts.gather(url), allow_unreplicated=options.store_allow_unreplicated
    )
    for finding in found:
        sys.stdout.write(f"{finding}\n")
    is_wrong = any(finding.level is checks.Level.WRONG for finding in found)
    return EXIT_WRONG if is_wrong else 0


async def _migrate(_: argparse.Namespace, url: DatabaseUrl) -> int:
    from durable_streams.postgres import facts, versions  # noqa: PLC0415 - see above

    await facts.need_acknowledgements(url)

    def tell(number: int) -> None:
        sys.stdout.write(f"{url} is at version {number} now\n")
        sys.stdout.flush()

    def stopping(oldest: int) -> None:
        sys.stdout.write(
            f"{url}: nodes that know no version from {oldest} on stop serving now; the tables are "
            f"changed in {versions.OUT_S:g} s\n"
        )
        sys.stdout.flush()

    version = await versions.migrate(url, tell, stopping=stopping)
    sys.stdout.write(f"{url} is at version {version.number}, which is that of this program\n")
    return 0


async def _restored(_: argparse.Namespace, url: DatabaseUrl) -> int:
    from durable_streams.postgres import restored  # noqa: PLC0415 - see above

    count = await restored.renumber(url)
    begin = "1 stream begins" if count == 1 else f"{count} streams begin"
    sys.stdout.write(f"{url}: {begin} higher now: offsets told before lead nowhere\n")
    return 0
