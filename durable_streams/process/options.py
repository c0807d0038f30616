"""What ``serve`` is told: by flags, what they leave open by the environment, and then by its file.

All are made from what is known of each setting (``model/setting``).  A value that cannot be is
refused by the name under which it was given, before anything is opened, and also if it does not
count as another one wins.
"""

from __future__ import annotations

import argparse
import difflib
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from durable_streams.model.setting import ENVIRONMENT, settings_of
from durable_streams.process.config_file import read_config
from durable_streams.settings import (
    MAX_PORT,
    AccessSettings,
    HttpSettings,
    ProcessSettings,
    Settings,
    least_journal_file_bytes,
)
from durable_streams.wire.caching import kept_s
from durable_streams.wire.url_prefix import checked_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from durable_streams.model.setting import Setting

_Kind = TypeVar("_Kind", ProcessSettings, Settings, HttpSettings, AccessSettings)

MAX_DIGITS: Final = 18
"""Of a number in text: beyond every size there is, and not worth reading."""

_ABOUT_THE_ENVIRONMENT: Final = (
    f"All of this can be said in the environment as well: {ENVIRONMENT} and the flag's name in "
    f"capitals, with _S behind a time, as in {ENVIRONMENT}PORT=8080 and "
    f"{ENVIRONMENT}SSE_LIFETIME_S=60, and in a file (--config).  A flag wins over the "
    "environment, and that over the file.  docs/configuration.rst has all settings, "
    "also those without a flag."
)

_GROUPS: Final = {
    "server": ProcessSettings,
    "HTTP": HttpSettings,
    "access": AccessSettings,
    "storage": Settings,
}
"""The settings of ``serve``, as ``--help`` has them in order.  In a file each is a table, which is
called so in small letters."""

CONFIG: Final = f"{ENVIRONMENT}CONFIG"
"""What names the file in the environment."""


class StartError(Exception):
    """The server cannot start; the text is one line for the user."""


def known() -> Iterator[Setting]:
    """All settings of ``serve``."""
    for kind in _GROUPS.values():
        yield from settings_of(kind)


def tables() -> dict[str, dict[str, Setting]]:
    """The settings by their names, in the tables of a file, in order."""
    return {
        title.lower(): {setting.name: setting for setting in settings_of(kind)}
        for title, kind in _GROUPS.items()
    }


# -- flags ---------------------------------------------------------------------------------


def add_flags(serve: argparse.ArgumentParser) -> None:
    """Give ``serve`` its flags; those that are not used leave no attribute behind."""
    serve.epilog = _ABOUT_THE_ENVIRONMENT
    serve.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"file with settings, in TOML; in the environment {CONFIG}",
    )
    for title, kind in _GROUPS.items():
        group = serve.add_argument_group(title)
        for setting in settings_of(kind):
            if setting.has_flag:
                _add_flag(group, setting)


def _add_flag(group: argparse._ArgumentGroup, setting: Setting) -> None:
    default = f" (default: {setting.default_text})" if setting.default_text else ""
    told: dict[str, Any] = {
        "dest": setting.name,
        "default": argparse.SUPPRESS,
        "help": f"{_plain(setting.help)}{default}",
    }
    if setting.kind is bool:
        told["action"] = argparse.BooleanOptionalAction
    elif setting.kind is tuple:
        told["action"] = "extend"
        told["type"] = _reader(setting)
        told["metavar"] = _metavar(setting)
    else:
        told["type"] = _reader(setting)
        told["metavar"] = _metavar(setting)
    group.add_argument(setting.flag, **told)


def _plain(text: str) -> str:
    """A text of the documentation for a terminal, and for argparse, which formats it."""
    return text.replace("``", "").replace("%", "%%")


def _metavar(setting: Setting) -> str:
    if setting.name in _METAVARS:
        return _METAVARS[setting.name]
    if setting.texts:
        return "{" + ",".join(setting.texts) + "}"
    if setting.kind is float:
        return "SECONDS" if setting.is_time else "N"
    return "BYTES" if setting.name.endswith("_bytes") else "N"


_METAVARS: Final = {
    "host": "HOST",
    "port": "PORT",
    "unix_socket": "PATH",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "metrics_listen": "HOST:PORT",
    "data_dir": "PATH",
    "store": "URL",
    "prefix": "PATH",
    "cors_origin": "ORIGIN",
    "allowed_host": "HOST",
    "trusted_proxy": "NETWORK",
    "tokens": "FILE",
    "signing_keys": "FILE",
    "jwt_secret": "FILE",
    "jwt_public_key": "FILE",
    "jwt_jwks": "URL",
    "jwt_audience": "TEXT",
    "jwt_issuer": "TEXT",
    "max_streams": "PREFIX=N",
}


# -- texts ---------------------------------------------------------------------------------


def _reader(setting: Setting) -> Callable[[str], Any]:
    """What makes a value of a setting of its text; raises ``ArgumentTypeError``."""

    def read(text: str) -> Any:  # noqa: ANN401 - as the setting has it
        if setting.name == "prefix":
            return _prefix(text)
        if setting.texts:
            return _one_of(setting, text)
        if setting.kind is tuple:
            return _texts(setting, text)
        if setting.kind is float:
            return _seconds(setting, text)
        return _count(setting, text) if setting.kind is int else text

    return read


def _one_of(setting: Setting, text: str) -> Any:  # noqa: ANN401 - as the setting has it
    if text not in setting.texts:
        raise argparse.ArgumentTypeError(f"{text!r} will not do: give {setting.bounds}")
    if setting.kind is bool:
        return text == "true"
    return setting.kind(text)


def _texts(setting: Setting, text: str) -> tuple[str, ...]:
    texts = tuple(one.strip() for one in text.split(",") if one.strip())
    if setting.name == "host" and not texts:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no host: give an address of this machine, such as 127.0.0.1"
        )
    return texts


def _count(setting: Setting, text: str) -> int:
    """Read digits, and refuse anything else, also more of them than any limit has."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if is_number and setting.is_within(int(text)):
        return int(text)
    if setting.most == MAX_PORT:
        what, wanted = "port", f"a whole number from 0 (any free port) to {MAX_PORT}"
    else:
        what, wanted = "count", f"a whole number {setting.bounds}, in digits only"
    raise argparse.ArgumentTypeError(f"{text!r} is not a {what}: give {wanted}")


def _seconds(setting: Setting, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not setting.is_within(value):
        what, wanted = ("time", "seconds") if setting.is_time else ("rate", "a number")
        such = "30 or 0.5" if setting.most is None else "0.5"
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a {what}: give {wanted} {setting.bounds}, such as {such}"
        )
    return value


def _prefix(text: str) -> str:
    try:
        return checked_prefix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}") from None


# -- the environment -----------------------------------------------------------------------


def in_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that the environment has, by name, and what is wrong with others."""
    found: dict[str, Any] = {}
    problems: list[str] = []
    for setting in known():
        text = environment.get(setting.variable)
        if text is None:
            continue
        if not text:
            problems.append(f"{setting.variable} {_IS_EMPTY}")
            continue
        if _is_of_a_service(setting, text):
            continue
        try:
            found[setting.name] = _reader(setting)(text)
        except argparse.ArgumentTypeError as error:
            problems.append(f"{setting.variable}: {error}")
    return found, problems


_OF_A_SERVICE: Final = re.compile(
    rf"{ENVIRONMENT}(?:SERVICE_(?:HOST|PORT(?:_\w+)?)"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:P(?:ROTO|ORT)|ADDR))?)",
    re.ASCII,
)
"""What Kubernetes sets besides, for a service that is called ``durable-streams``."""

_IS_EMPTY: Final = "is empty: give it a value, or unset it"


def _is_of_a_service(setting: Setting, text: str) -> bool:
    """Whether Kubernetes has set a variable, for a service that is called as we are."""
    return setting.most == MAX_PORT and text.startswith("tcp://")


def unknown_in(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with names that look like ours and are those of no setting."""
    names = {CONFIG} | {setting.variable for setting in known()}
    of_services = {
        setting.variable
        for setting in known()
        if _is_of_a_service(setting, environment.get(setting.variable, ""))
    }
    unknown = [name for name in environment if name.startswith(ENVIRONMENT) and name not in names]
    of_services.update(name for name in unknown if _OF_A_SERVICE.fullmatch(name))
    told = []
    if of_services:
        told.append(
            f"{', '.join(sorted(of_services))}: passed over, as that is what Kubernetes says of a "
            "service of that name (enableServiceLinks: false leaves it out)"
        )
    for name in sorted(set(unknown) - of_services):
        near = difflib.get_close_matches(name, names, n=1)
        meant = f": is it {near[0]} that was meant?" if near else ""
        told.append(f"{name} in the environment is no setting, and is passed over{meant}")
    return told


# -- all together --------------------------------------------------------------------------


class Source(Enum):
    """Where a value is from; each wins over those before it."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Origin(NamedTuple):
    """Where a value is from, and how it is called there: the path of the file, for one."""

    source: Source
    name: str = ""


class Told(NamedTuple):
    """The values that somebody gave, by the settings' names, and what is wrong with others."""

    values: dict[str, Any]
    origins: dict[str, Origin]
    problems: list[str]


class Given(NamedTuple):
    """All settings of ``serve``."""

    process: ProcessSettings
    store: Settings
    http: HttpSettings
    access: AccessSettings


def settings(flags: Mapping[str, object], environment: Mapping[str, str]) -> Given:
    """What flags say, or else the environment, or else its file, or else the defaults.

    :class:`StartError` with the first problem if there is one.  Blocking code, as there is a file.
    """
    said = told(flags, environment)
    made, problems = made_of(said)
    problems = said.problems + problems
    if made is None or problems:
        more = len(problems) - 1
        all_of_them = f" (and {more} more, which config check tells)" if more else ""
        raise StartError(f"{problems[0]}{all_of_them}")
    return made


def told(flags: Mapping[str, object], environment: Mapping[str, str]) -> Told:
    """All that is given, wherever that is; blocking code."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    problems: list[str] = []
    file = str(flags.get("config", environment.get(CONFIG, "")))
    if file:
        values, problems = read_config(Path(file), tables())
        origins = dict.fromkeys(values, Origin(Source.FILE, file))
    elif "config" in flags or CONFIG in environment:
        problems.append(f"{'--config' if 'config' in flags else CONFIG} {_IS_EMPTY}")
    by_variables, wrong = in_environment(environment)
    for setting in known():
        if setting.name in by_variables:
            values[setting.name] = by_variables[setting.name]
            origins[setting.name] = Origin(Source.ENVIRONMENT, setting.variable)
        if setting.name in flags:
            values[setting.name] = flags[setting.name]
            origins[setting.name] = Origin(Source.FLAG, setting.flag)
    return Told(values, origins, problems + wrong)


def made_of(said: Told) -> tuple[Given | None, list[str]]:
    """The settings with all that is said, or None, and what is wrong with it as a whole.

    Journal files have room for the largest append unless their size is given.
    """
    given = dict(said.values)
    most = given.get("max_append_bytes", Settings().max_append_bytes)
    least = max(Settings().journal_file_bytes, least_journal_file_bytes(most))
    given.setdefault("journal_file_bytes", least)
    problems: list[str] = []

    def made(kind: type[_Kind]) -> _Kind | None:
        names = {setting.name for setting in settings_of(kind)}
        try:
            return kind(**{name: value for name, value in given.items() if name in names})
        except ValueError as error:
            problems.append(f"{error}{_from_file(f'{error}', said)}")
            return None

    process, store = made(ProcessSettings), made(Settings)
    http, access = made(HttpSettings), made(AccessSettings)
    if http is not None and store is not None:
        least_s = kept_s(http.immutable_max_age_s)
        if store.remember_removed_s < least_s:
            problems.append(
                f"{ENVIRONMENT}REMEMBER_REMOVED_S has to be at least {least_s}, not "
                f"{store.remember_removed_s:g}: so long caches may keep pieces of streams, as "
                f"{ENVIRONMENT}IMMUTABLE_MAX_AGE_S is {http.immutable_max_age_s}"
            )
    if process is None or store is None or http is None or access is None or problems:
        return None, problems
    return Given(process, store, http, access), problems


def _from_file(problem: str, said: Told) -> str:
    """Where in the file the settings stand that a problem names."""
    words = {word.strip(",.:;()'") for word in problem.split()}
    return "".join(
        f" ({origin.name}: [{title}] {name})"
        for title, settings in tables().items()
        for name in settings
        if name in words
        and (origin := said.origins.get(name)) is not None
        and origin.source is Source.FILE
    )
