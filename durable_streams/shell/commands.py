"""The verbs on streams, added to the command line; each is run in an event loop of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from durable_streams.model.errors import DataDirectoryError, StreamError
from durable_streams.program import PROGRAM, shown
from durable_streams.shell import appending, benching, changing, looking, naming, reading
from durable_streams.shell.contexts import ContextProblem
from durable_streams.shell.exit_status import Status, status_of
from durable_streams.shell.spool import NoSpool
from durable_streams.shell.targets import Unusable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs; each sets ``run`` to a function from options to exit status."""

    def added(name: str, **about: str) -> argparse.ArgumentParser:
        command = add_parser(name, **about)
        command.set_defaults(run=run)
        return command

    for verbs in (looking, changing, appending, reading, naming, benching):
        verbs.add_to(added)


def run(options: argparse.Namespace) -> int:
    """Run a verb; what is refused is one line."""
    try:
        status: int = asyncio.run(options.run_async(options))
    except (StreamError, DataDirectoryError, OSError) as error:
        return _told(error, status_of(error))
    except (Unusable, NoSpool, ContextProblem) as error:
        return _told(error, Status.USAGE)
    return status


def _told(error: Exception, status: Status) -> int:
    sys.stderr.write(f"{PROGRAM}: error: {shown(' '.join(str(error).split()))}\n")
    return status
