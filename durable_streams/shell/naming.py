"""``context``: names for servers and data directories, so that one need not say where each time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from durable_streams.databases import is_database, without_password
from durable_streams.program import shown
from durable_streams.shell import contexts, targets
from durable_streams.shell.contexts import Context
from durable_streams.shell.exit_status import Status
from durable_streams.shell.output import Output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from durable_streams.shell.contexts import Contexts


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb, and its own."""
    command = add_parser("context", help="name servers and data directories, and use one of them")
    verbs = command.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="name one, or change it; the first one is in use")
    add.add_argument("name", metavar="NAME")
    where = add.add_mutually_exclusive_group(required=True)
    where.add_argument("-u", "--url", metavar="URL", help="of a server's streams")
    where.add_argument("-d", "--data-dir", metavar="PATH", help="a data directory")
    add.add_argument(
        "--auth", metavar="TOKEN", help="what is sent there, or @FILE (@/dev/stdin reads it there)"
    )
    add.set_defaults(run_async=_add)
    listing = verbs.add_parser("list", help="show them, but for their tokens")
    listing.add_argument("--json", action="store_true", help="one line of JSON for each")
    listing.set_defaults(run_async=_list)
    use = verbs.add_parser("use", help="say which one counts from now on")
    use.add_argument("name", metavar="NAME")
    use.set_defaults(run_async=_use)
    remove = verbs.add_parser("rm", help="forget one, and its token")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run_async=_remove)


async def _add(options: argparse.Namespace) -> int:
    name = contexts.check_name(options.name)
    place = _place(options)
    auth = None if options.auth is None else targets.read_auth(options.auth)

    def change(all_of_them: Contexts) -> None:
        all_of_them.by_name[name] = Context(place, auth)
        all_of_them.use = all_of_them.use or name

    contexts.change(change)
    return Status.DONE


def _place(options: argparse.Namespace) -> str:
    """What stays right wherever it is used."""
    if options.data_dir and not is_database(options.data_dir):
        return str(Path(options.data_dir).resolve())
    return targets.completed(options.data_dir or options.url)


async def _list(options: argparse.Namespace) -> int:
    found = contexts.known()
    output = Output()
    for name, context in sorted(found.by_name.items()):
        streams = without_password(context.streams)
        if options.json:
            await output.json(
                {
                    "name": name,
                    "streams": streams,
                    "has_token": context.auth is not None,
                    "in_use": name == found.use,
                }
            )
        else:
            mark = "*" if name == found.use else " "
            token = ", with a token" if context.auth is not None else ""
            await output.line(f"{mark} {name}: {shown(streams)}{token}")
    await output.flush()
    return Status.DONE


async def _use(options: argparse.Namespace) -> int:
    def change(all_of_them: Contexts) -> None:
        all_of_them.get(options.name)
        all_of_them.use = options.name

    contexts.change(change)
    return Status.DONE


async def _remove(options: argparse.Namespace) -> int:
    def change(all_of_them: Contexts) -> None:
        all_of_them.get(options.name)
        del all_of_them.by_name[options.name]
        if all_of_them.use == options.name:
            all_of_them.use = None

    contexts.change(change)
    return Status.DONE
