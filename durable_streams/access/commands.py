"""The command line's verbs ``token``, ``signing-key`` and ``sign-url``.

They work on files, beside a server or without one: what they change counts there within 2 s.  The
files are named by a flag, or else in the environment by the same names as for ``serve``; tokens and
keys may be those in the database of a store instead, which is named in the same ways.  Exit status:
0 when it was done; 2 with one line on stderr if it was not.  What is secret is on stdout alone, so
that ``TOKEN=$(durable-streams token new …)`` has it, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.access import signing_keys, token_file
from durable_streams.access.grants import Kind, Pattern, Scope
from durable_streams.access.signed_urls import path_of, signed_for, with_signed
from durable_streams.access.small_files import FileProblem
from durable_streams.access.token_sources import add_checked, list_of, remove_checked
from durable_streams.access.tokens import Wanted, check_id, check_note, made, parse_instant
from durable_streams.model.errors import StreamError
from durable_streams.model.setting import ENVIRONMENT
from durable_streams.postgres import key_rows
from durable_streams.postgres.commands import DatabaseProblem, with_database
from durable_streams.postgres.token_rows import added, every, removed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from durable_streams.access.signing_keys import SigningKeys
    from durable_streams.access.token_file import TokenList, TokenRecord

EXIT_NOTHING: Final = 2

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_HOW_LONG: Final = "such as 90s, 30m, 12h or 30d from now, or a time such as 2027-01-31T00:00:00Z"

_NEW: Final = """\
Make a token and print it; it is kept nowhere else. Who sends it (Authorization: Bearer and the
token) may do what the scopes say on the streams that are named."""

_SIGN: Final = """\
Print the URL with a signature: whoever has it may read that stream, as long as the token may, and
needs no token. It ends early when the token is revoked, or the key removed."""


class _Problem(Exception):
    """What was asked for cannot be; the text is one line for the user."""


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs; each sets ``run`` to a function from options to exit status."""
    token = add_parser("token", help="make, list and revoke the tokens of a file or database")
    verbs = token.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_new(verbs.add_parser)

    command = verbs.add_parser("list", help="show what there is, but for the tokens themselves")
    _add_file(command, "tokens")
    _add_store(command)
    command.add_argument("--json", action="store_true", help="one line of JSON for each token")
    command.set_defaults(run=partial(_told, _list))

    command = verbs.add_parser("revoke", help="remove a token")
    command.add_argument("id", metavar="ID", help="its id, as list shows it")
    _add_file(command, "tokens")
    _add_store(command)
    command.set_defaults(run=partial(_told, _revoke))

    _add_keys(add_parser)
    _add_sign_url(add_parser)


def _add_keys(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    keys = add_parser("signing-key", help="make, list and remove keys of signed URLs")
    verbs = keys.add_subparsers(dest="verb", required=True, metavar="VERB")
    command = verbs.add_parser(
        "new", help="put a new key in front of the others, which signs from then on; print its id"
    )
    _add_file(command, "signing-keys")
    _add_store(command)
    command.set_defaults(run=partial(_told, _new_key))

    command = verbs.add_parser(
        "list", help="show the ids of all keys, that of the signing one first"
    )
    _add_file(command, "signing-keys")
    _add_store(command)
    command.set_defaults(run=partial(_told, _list_keys))

    command = verbs.add_parser("remove", help="remove a key, and so all URLs that it has signed")
    command.add_argument("id", metavar="ID", help="its id, as list shows it")
    _add_file(command, "signing-keys")
    _add_store(command)
    command.set_defaults(run=partial(_told, _remove_key))


def _add_new(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    command = add_parser(
        "new", help="make a token and print it", description=_NEW.replace("\n", " ")
    )
    _add_file(command, "tokens", "made if it is missing")
    _add_store(command)
    scopes = ", ".join(scope.value for scope in Scope)
    command.add_argument(
        "--scope",
        action="append",
        required=True,
        metavar="SCOPES",
        help=f"what it may do, with commas between: {scopes}; may be given again",
    )
    patterns = {
        Kind.PATH: "one stream, such as chat/room-1",
        Kind.PREFIX: 'a stream and all below it, such as chat; "" is every stream',
        Kind.GLOB: "streams such as chat/*/log or chat/**; quote it for the shell",
    }
    for kind, text in patterns.items():
        command.add_argument(
            f"--{kind.value}",
            action="append",
            default=[],
            metavar=kind.value.upper(),
            help=f"where: {text}; may be given again",
        )
    command.add_argument("--id", help="what it is called in lists and logs (default: made up)")
    command.add_argument("--note", default="", metavar="TEXT", help="what it is for")
    command.add_argument(
        "--expires", metavar="WHEN", help=f"when it ends: {_HOW_LONG} (default: never)"
    )
    command.set_defaults(run=partial(_told, _new))


def _add_sign_url(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    command = add_parser(
        "sign-url",
        help="print a URL by which anybody may read a stream for some time",
        description=_SIGN.replace("\n", " "),
    )
    command.add_argument("url", metavar="URL", help="that of a stream, as clients use it")
    _add_file(command, "tokens")
    _add_file(command, "signing-keys")
    _add_store(command)
    command.add_argument(
        "--token", required=True, metavar="ID", help="the id of the token in whose name it is"
    )
    command.add_argument(
        "--expires", required=True, metavar="WHEN", help=f"when it ends: {_HOW_LONG}"
    )
    command.add_argument(
        "--prefix", action="store_true", help="it does for all streams below that one as well"
    )
    command.add_argument(
        "--url-prefix",
        default="/v1/stream",
        metavar="PATH",
        help="URL path below which the streams are (default: /v1/stream)",
    )
    command.set_defaults(run=partial(_told, _sign_url))


def _add_file(command: argparse.ArgumentParser, name: str, more: str = "") -> None:
    variable = _variable(name)
    what = {"tokens": "TOML file with the tokens", "signing-keys": "TOML file with the keys"}[name]
    command.add_argument(
        f"--{name}",
        metavar="FILE",
        help=f"{what}{more and ', '}{more} (default: what {variable} says)",
    )


def _add_store(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--store",
        metavar="URL",
        help="the database with them, postgresql://user@host1,host2/database, in place "
        f"of a file (default: what {_variable('store')} says, if no file is named)",
    )


def _variable(name: str) -> str:
    return f"{ENVIRONMENT}{name.upper().replace('-', '_')}"


def _told(verb: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Run a verb; what is wrong is one line."""
    try:
        verb(options)
    except (_Problem, FileProblem, StreamError, DatabaseProblem) as error:
        sys.stderr.write(f"durable-streams: error: {' '.join(str(error).split())}\n")
        return EXIT_NOTHING
    return 0


def _file(options: argparse.Namespace, name: str) -> Path:
    given = getattr(options, name.replace("-", "_")) or os.environ.get(_variable(name))
    if not given:
        raise _Problem(f"which file? give --{name} FILE, or set {_variable(name)}")
    if "\0" in given:
        raise _Problem(f"--{name} holds a NUL")
    return Path(given)


# -- tokens --------------------------------------------------------------------------------


def _new(options: argparse.Namespace) -> None:
    scopes = [one.strip() for text in options.scope for one in text.split(",") if one.strip()]
    patterns = [(kind, text) for kind in Kind for text in getattr(options, kind.value)]
    if not patterns:
        raise _Problem('on which streams? give --path, --prefix or --glob; --prefix "" is all')
    if len(patterns) > token_file.MAX_GRANTS:
        raise _Problem(f"a token has at most {token_file.MAX_GRANTS} grants")
    grants = tuple(token_file.grant_of(scopes, {kind: text}) for kind, text in patterns)
    expires = None if options.expires is None else _instant(options.expires, time.time())
    wanted = Wanted(grants, check_id(options.id), expires, check_note(options.note))
    token, text = made(wanted)
    if _is_stored(options):
        row, look = add_checked(token)
        with_database(options.store, lambda fetch: added(fetch, row, look))
    else:
        token_file.add_token(_file(options, "tokens"), token)
    sys.stderr.write(f"token {token.id}: {_about(token)}; it is shown this once\n")
    sys.stdout.write(f"{text}\n")


def _about(token: TokenRecord) -> str:
    until = "does not expire" if token.expires is None else f"until {token.expires.isoformat()}"
    return f"{token_file.grants_text(token.grants)}; {until}"


def _list(options: argparse.Namespace) -> None:
    tokens = _tokens(options).tokens
    if options.json:
        for token in tokens:
            sys.stdout.write(f"{json.dumps(token_file.as_json(token))}\n")
        return
    rows = [("ID", "EXPIRES", "MAY", "NOTE")]
    for token in tokens:
        expires = "never" if token.expires is None else token.expires.isoformat()
        is_over = token.expires_at_s <= time.time()
        rows.append(
            (
                token.id,
                f"{expires} (over)" if is_over else expires,
                token_file.grants_text(token.grants),
                token.note if token.note.isprintable() else ascii(token.note),
            )
        )
    for line in _aligned(rows):
        sys.stdout.write(f"{line}\n")


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _revoke(options: argparse.Namespace) -> None:
    if _is_stored(options):
        look = remove_checked(options.id)
        with_database(options.store, lambda fetch: removed(fetch, options.id, look))
    else:
        token_file.remove_token(_file(options, "tokens"), options.id)


def _is_stored(options: argparse.Namespace, name: str = "tokens") -> bool:
    """Whether the tokens, or keys, of a database are meant."""
    file = getattr(options, name.replace("-", "_"))
    takes_both = hasattr(options, "token")  # sign-url: one may be in a file, one in a database
    if file is not None and options.store is not None and not takes_both:
        raise _Problem(f"give one of --{name} and --store: a file, or a database")
    if file is not None or options.store is not None:
        return file is None
    return not os.environ.get(_variable(name)) and bool(os.environ.get(_variable("store")))


def _tokens(options: argparse.Namespace) -> TokenList:
    if _is_stored(options):
        return list_of(with_database(options.store, every))
    return token_file.read_tokens(_file(options, "tokens"))


# -- signed URLs ---------------------------------------------------------------------------


def _new_key(options: argparse.Namespace) -> None:
    if _is_stored(options, "signing-keys"):
        row = signing_keys.made()
        look = signing_keys.add_checked
        with_database(options.store, lambda fetch: key_rows.added(fetch, row, look))
        identity = row.id
    else:
        identity = signing_keys.new_key(_file(options, "signing-keys"))
    sys.stdout.write(f"{identity}\n")


def _list_keys(options: argparse.Namespace) -> None:
    for key in _keys(options).keys:
        sys.stdout.write(f"{key.id}\n")


def _remove_key(options: argparse.Namespace) -> None:
    if _is_stored(options, "signing-keys"):
        look = signing_keys.remove_checked(options.id)
        with_database(options.store, lambda fetch: key_rows.removed(fetch, options.id, look))
    else:
        signing_keys.remove_key(_file(options, "signing-keys"), options.id)


def _keys(options: argparse.Namespace) -> SigningKeys:
    if _is_stored(options, "signing-keys"):
        return signing_keys.keys_of(with_database(options.store, key_rows.every))
    return signing_keys.read_keys(_file(options, "signing-keys"))


def _sign_url(options: argparse.Namespace) -> None:
    tokens, keys = _tokens(options), _keys(options)
    if not keys.keys:
        raise _Problem("there is no key: make one by durable-streams signing-key new --store URL")
    token = tokens.by_id.get(options.token)
    if token is None:
        raise _Problem(
            f"there is no token {options.token[:64]!r}: token list shows those there are"
        )
    try:
        path = path_of(options.url, options.url_prefix)
    except ValueError as error:
        raise _Problem(f"{error}") from None
    now_s = time.time()
    expires = _instant(options.expires, now_s)
    pattern = Pattern(Kind.PREFIX if options.prefix else Kind.PATH, path)
    signed = signed_for(keys.keys[0], token, pattern, expires.timestamp(), now_s)
    sys.stdout.write(f"{with_signed(options.url, signed)}\n")


def _instant(text: str, now_s: float) -> datetime:
    """When something ends that people say by a span of time, or by RFC 3339."""
    match = _SPAN.fullmatch(text)
    try:
        if match is not None:
            span = timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
            instant = datetime.fromtimestamp(int(now_s), UTC) + span
        else:
            instant = parse_instant(text)
    except (OverflowError, StreamError):
        raise _Problem(f"--expires {text[:64]!r} will not do: give one {_HOW_LONG}") from None
    if instant.timestamp() <= now_s:
        raise _Problem(f"--expires {text[:64]!r} is over already")
    return instant
