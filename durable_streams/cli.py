"""The command line: ``durable-streams serve``, and all other verbs.

Exit status of ``serve``: 0 after a clean stop; 1 if the disk failed while serving; 2 if the server
could not start (bad flag, taken port, data directory in use or unreadable), with one line on stderr
that says why; 128 + n when a second signal n cuts a stop short.  The other verbs are in
:mod:`durable_streams.shell.commands` (those on streams: ``ls``, ``append``, ``tail`` …), in
:mod:`durable_streams.maintenance.commands` (``verify``, ``repair``, ``dump``), in
:mod:`durable_streams.importing.commands` (``import``), in
:mod:`durable_streams.access.commands` (``token``, ``signing-key``, ``sign-url``), in
:mod:`durable_streams.postgres.commands` (``store``), with :mod:`durable_streams.shell.moving`
(``store copy``), and in :mod:`durable_streams.process.config_commands` (``config``).  Of all but a
server that runs, which waits for no stdout: 141 if nobody reads it any more.  Of all: 2 where it
cannot run at all, or stdout cannot be written; 70 after a bug, with its traceback: what else a
status says was found out.

The verbs are imported when it is known that they can be: see ``platforms``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

from durable_streams.model.errors import DataDirectoryError
from durable_streams.platforms import CannotRunHere, check
from durable_streams.process import options, standard_streams
from durable_streams.process.addresses import CannotListen
from durable_streams.process.options import StartError
from durable_streams.process.standard_streams import OutputFailed
from durable_streams.program import PROGRAM, version
from durable_streams.shell import VERBS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_NO_START: Final = 2
EXIT_BUG: Final = 70
"""As ``sysexits.h`` has them, apart from what the verbs found out."""

_OTHERS: Final = {
    "durable_streams.shell.commands": VERBS,
    "durable_streams.maintenance.commands": ("verify", "repair", "dump"),
    "durable_streams.importing.commands": ("import",),
    "durable_streams.access.commands": ("token", "signing-key", "sign-url"),
    "durable_streams.process.config_commands": ("config",),
}
"""The verbs beside ``serve`` and ``store``, by the modules that they are imported from."""


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
        return EXIT_NO_START
    return status


def _run(arguments: Sequence[str] | None) -> int:
    try:
        check()
        given = _parser_for(sys.argv[1:] if arguments is None else arguments).parse_args(arguments)
        status: int = given.run(given)
    except SystemExit as end:  # argparse has said what there was to say
        return end.code if isinstance(end.code, int) else 0
    except (CannotRunHere, StartError, CannotListen, DataDirectoryError) as error:
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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse repeats the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_NO_START, f"{PROGRAM}: error: {message}\n")


def _parser_for(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of one verb alone, which imports no other's modules; of all if it is none."""
    verb = arguments[0] if arguments else ""
    modules = [module for module, verbs in _OTHERS.items() if verb in verbs]
    parser, add_parser = _empty_parser()
    if verb == "serve":
        _add_serve_to(add_parser)
    elif verb == "store":
        _add_store_to(add_parser)
    elif modules:
        import_module(modules[0]).add_to(add_parser)
    else:
        return make_parser()
    return parser


def _empty_parser() -> tuple[argparse.ArgumentParser, Callable[..., argparse.ArgumentParser]]:
    """A parser without verbs, and what adds one."""
    parser = _Parser(prog=PROGRAM, description="A Durable Streams server.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    return parser, commands.add_parser


def _add_serve_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    from durable_streams.process import serving  # noqa: PLC0415 - see above

    serve = add_parser("serve", help="serve the streams of a data directory over HTTP")
    serve.add_argument("--version", action="version", version=f"{PROGRAM} {version()}")
    serve.set_defaults(run=serving.run)
    options.add_flags(serve)


def _add_store_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    from durable_streams.postgres import commands as postgres  # noqa: PLC0415 - see above
    from durable_streams.shell import moving  # noqa: PLC0415

    moving.add_to(postgres.add_to(add_parser))


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs: each sets ``run`` to what it does."""
    parser, add_parser = _empty_parser()
    _add_serve_to(add_parser)
    for module in _OTHERS:
        import_module(module).add_to(add_parser)
    _add_store_to(add_parser)
    return parser
