"""The command line's verbs ``config check`` and ``config show``: what ``serve`` would be told.

They take the flags of ``serve``, and read the same environment and file.  ``check`` looks at all
that ``serve`` would refuse about its settings, and at what they name: files of tokens and keys,
hosts, the place of a unix socket, the data directory.  It says all that is wrong at once, makes and
binds nothing, and minds no server that runs there with the same settings.  ``show`` prints every
setting with where it is from: TOML that would do as a file, or JSON.  Exit status: 0, or 2 if the
settings will not do, with a line on stderr for each reason.
"""

from __future__ import annotations

import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from durable_streams.access.tables_in_toml import quoted, quoted_list
from durable_streams.databases import is_database, without_password
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.format_file import check_format
from durable_streams.model.errors import DataDirectoryError
from durable_streams.process import (
    addresses,
    entrance,
    listening,
    options,
    serving,
    unix_socket,
)
from durable_streams.process.addresses import CannotListen
from durable_streams.process.certificates import Certificates
from durable_streams.process.options import Origin, Source, StartError
from durable_streams.program import PROGRAM
from durable_streams.settings import parse_address
from durable_streams.wire.signed_query import redacted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from durable_streams.model.setting import Setting
    from durable_streams.process.options import Given, Told

EXIT_WRONG: Final = 2

_MAY_HOLD_SECRETS: Final = frozenset({"store", "jwt_jwks"})
"""Settings that are URLs, or should be: some have a user with a password, though they may not."""

_IS_DEFAULT: Final = Origin(Source.DEFAULT)


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb; each below it sets ``run`` to a function from options to exit status."""
    config = add_parser("config", help="check or show the settings that serve would have")
    verbs = config.add_subparsers(dest="verb", required=True, metavar="VERB")
    command = verbs.add_parser("check", help="say all that is wrong with them")
    options.add_flags(command)
    command.set_defaults(run=_check)
    command = verbs.add_parser("show", help="print each with where it is from, as TOML")
    command.add_argument("--json", action="store_true", help="a line of JSON for each setting")
    options.add_flags(command)
    command.set_defaults(run=_show)


def _check(flags: argparse.Namespace) -> int:
    said, given, problems = _read(flags)
    if given is not None and not said.problems:
        for refuses in (
            _refuse_loop,
            _refuse_place,
            _refuse_metrics,
            _refuse_access,
            _refuse_tls,
            _refuse_data,
        ):
            try:
                refuses(given)
            except StartError as error:
                problems.append(f"{error}")
    for problem in options.unknown_in(os.environ):
        _say("warning", problem)
    if _are_wrong(problems):
        return EXIT_WRONG
    files = sorted({one.name for one in said.origins.values() if one.source is Source.FILE})
    of_files = "".join(f", with those of {file}" for file in files)
    sys.stdout.write(f"the settings will do{of_files}\n")
    return 0


def _refuse_loop(given: Given) -> None:
    serving.loop_factory(given.process.loop)


def _refuse_place(given: Given) -> None:
    process = given.process
    try:
        if process.unix_socket:
            unix_socket.check(process.unix_socket)
        meant = addresses.meant(listening.hosts_of(process), process.port)
    except CannotListen as error:
        raise StartError(f"{error}") from error
    if not (given.access.is_on or process.insecure or all(map(addresses.is_of_loopback, meant))):
        raise StartError(serving.refusal(addresses.authority(one, process.port) for one in meant))


def _refuse_access(given: Given) -> None:
    entrance.guard(given, is_on_loopback=True)


def _refuse_metrics(given: Given) -> None:
    if given.process.metrics_listen:
        host, port = parse_address(given.process.metrics_listen)
        try:
            addresses.meant((host,), port)
        except CannotListen as error:
            raise StartError(f"metrics_listen: {error}") from error


def _refuse_tls(given: Given) -> None:
    Certificates.of(given.process)


def _refuse_data(given: Given) -> None:
    """Refuse a directory that is none of ours, or in which nothing could be written."""
    place = Path(given.process.data_dir).absolute()
    try:
        check_format(Disk(), place)
        while not place.exists():
            place = place.parent
        if not (place.is_dir() and os.access(place, os.R_OK | os.W_OK | os.X_OK)):
            raise StartError(f"cannot open the data directory: {place} cannot be written by us")
    except (OSError, DataDirectoryError) as error:
        raise StartError(f"{error}") from error


def _show(flags: argparse.Namespace) -> int:
    said, given, problems = _read(flags)
    if _are_wrong(problems) or given is None:
        return EXIT_WRONG
    for title, table in options.tables().items():
        if not flags.json:
            sys.stdout.write(f"[{title}]\n")
        for setting in table.values():
            value = _value(given, setting)
            origin = said.origins.get(setting.name, _IS_DEFAULT)
            write = _json if flags.json else _toml
            sys.stdout.write(f"{write(title, setting.name, value, origin)}\n")
        if not flags.json:
            sys.stdout.write("\n")
    return 0


def _read(flags: argparse.Namespace) -> tuple[Told, Given | None, list[str]]:
    said = options.told(vars(flags), os.environ)
    given, problems = options.made_of(said)
    return said, given, said.problems + problems


def _are_wrong(problems: list[str]) -> bool:
    for problem in problems:
        _say("error", problem)
    return bool(problems)


def _say(what: str, text: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {what}: {' '.join(text.split())}\n")


def _value(given: Given, setting: Setting) -> Any:  # noqa: ANN401 - as the setting has it
    (value,) = (getattr(part, setting.name) for part in given if hasattr(part, setting.name))
    if setting.name == "store" and is_database(value):
        return without_password(value)
    if setting.name in _MAY_HOLD_SECRETS:
        return redacted(value)
    return value.value if isinstance(value, Enum) else value


def _toml(_title: str, name: str, value: object, origin: Origin) -> str:
    match value:
        case bool():
            text = "true" if value else "false"
        case tuple():
            text = quoted_list(map(_unicode, value))
        case str():
            text = quoted(_unicode(value))
        case _:
            text = str(value)
    where = origin.name if origin.name.isprintable() else ascii(origin.name)
    return f"{name} = {text}  # {origin.source.value} {where}".rstrip()


def _unicode(text: str) -> str:
    """A text, such as a path, with a sign instead of what is no UTF-8: TOML cannot say that."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _json(title: str, name: str, value: object, origin: Origin) -> str:
    """A line; what JSON has no number for, ``inf``, is a text."""
    shown = str(value) if isinstance(value, float) and value == float("inf") else value
    entry = {"table": title, "name": name, "value": shown, "source": origin.source.value}
    return json.dumps(entry | ({"from": origin.name} if origin.name else {}))
