"""What ``serve`` is told: by its flags, and what they leave open by the environment.

Both are made from what is known of each setting (``model/setting``).  A value that cannot be is
refused by the name under which it was given, before anything is opened.
"""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from durable_streams.model.setting import ENVIRONMENT, settings_of
from durable_streams.settings import (
    MAX_PORT,
    AccessSettings,
    HttpSettings,
    ProcessSettings,
    Settings,
    least_journal_file_bytes,
)
from durable_streams.wire.caching import kept_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from durable_streams.model.setting import Setting

_Kind = TypeVar("_Kind", ProcessSettings, Settings, HttpSettings, AccessSettings)

MAX_DIGITS: Final = 18
"""Of a number in text: beyond every size there is, and not worth reading."""

_ABOUT_THE_ENVIRONMENT: Final = (
    f"All of this can be said in the environment as well: {ENVIRONMENT} and the flag's name in "
    f"capitals, with _S behind a time, as in {ENVIRONMENT}PORT=8080 and "
    f"{ENVIRONMENT}SSE_LIFETIME_S=60.  A flag wins.  docs/operations.rst has all settings, also "
    "those without a flag."
)

_PREFIX_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
)

_GROUPS: Final = {
    "server": ProcessSettings,
    "HTTP": HttpSettings,
    "access": AccessSettings,
    "storage": Settings,
}
"""The settings of ``serve``, as ``--help`` has them in order."""


class StartError(Exception):
    """The server cannot start; the text is one line for the user."""


def known() -> Iterator[Setting]:
    """All settings of ``serve``."""
    for kind in _GROUPS.values():
        yield from settings_of(kind)


# -- flags ---------------------------------------------------------------------------------


def add_flags(serve: argparse.ArgumentParser) -> None:
    """Give ``serve`` its flags; those that are not used leave no attribute behind."""
    serve.epilog = _ABOUT_THE_ENVIRONMENT
    for title, kind in _GROUPS.items():
        group = serve.add_argument_group(title)
        for setting in settings_of(kind):
            if setting.has_flag:
                _add_flag(group, setting)


def _add_flag(group: argparse._ArgumentGroup, setting: Setting) -> None:
    told: dict[str, Any] = {
        "dest": setting.name,
        "default": argparse.SUPPRESS,
        "help": f"{_plain(setting.help)} (default: {setting.default_text})",
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
        return "N" if setting.is_rate else "SECONDS"
    return "BYTES" if setting.name.endswith("_bytes") else "N"


_METAVARS: Final = {
    "host": "HOST",
    "port": "PORT",
    "unix_socket": "PATH",
    "data_dir": "PATH",
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
        what, wanted = ("rate", "a number") if setting.is_rate else ("time", "seconds")
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a {what}: give {wanted} {setting.bounds}, such as 30 or 0.5"
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


# -- the environment -----------------------------------------------------------------------


def in_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the environment has, by name; :class:`StartError` if one cannot be."""
    found: dict[str, Any] = {}
    for setting in known():
        text = environment.get(setting.variable)
        if text is None:
            continue
        if not text:
            raise StartError(f"{setting.variable} is empty: give it a value, or unset it")
        if _is_of_a_service(setting, text):
            continue
        try:
            found[setting.name] = _reader(setting)(text)
        except argparse.ArgumentTypeError as error:
            raise StartError(f"{setting.variable}: {error}") from error
    return found


def _is_of_a_service(setting: Setting, text: str) -> bool:
    """Whether Kubernetes has set a variable, for a service that is called as we are."""
    return setting.most == MAX_PORT and text.startswith("tcp://")


def unknown_in(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with names that look like ours and are those of no setting."""
    names = {setting.variable for setting in known()}
    told = [
        f"{setting.variable} is passed over: it is what Kubernetes says of a service of that name "
        "(enableServiceLinks: false leaves it out)"
        for setting in known()
        if _is_of_a_service(setting, environment.get(setting.variable, ""))
    ]
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT) and name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f": is it {near[0]} that was meant?" if near else ""
            told.append(f"{name} in the environment is no setting, and is passed over{meant}")
    return told


# -- both ----------------------------------------------------------------------------------


class Given(NamedTuple):
    """All settings of ``serve``."""

    process: ProcessSettings
    store: Settings
    http: HttpSettings
    access: AccessSettings


def settings(flags: Mapping[str, object], environment: Mapping[str, str]) -> Given:
    """What flags say, or else the environment, or else the defaults.

    Journal files have room for the largest append unless their size is given.
    """
    names = {setting.name for setting in known()}
    given = in_environment(environment)
    given |= {name: value for name, value in flags.items() if name in names}
    most = given.get("max_append_bytes", Settings().max_append_bytes)
    least = max(Settings().journal_file_bytes, least_journal_file_bytes(most))
    given.setdefault("journal_file_bytes", least)
    try:
        made = Given(
            _made(ProcessSettings, given),
            _made(Settings, given),
            _made(HttpSettings, given),
            _made(AccessSettings, given),
        )
    except ValueError as error:
        raise StartError(str(error)) from error
    least_s = kept_s(made.http.immutable_max_age_s)
    if made.store.remember_removed_s < least_s:
        raise StartError(
            f"{ENVIRONMENT}REMEMBER_REMOVED_S has to be at least {least_s}, not "
            f"{made.store.remember_removed_s:g}: so long caches may keep pieces of streams, as "
            f"{ENVIRONMENT}IMMUTABLE_MAX_AGE_S is {made.http.immutable_max_age_s}"
        )
    return made


def _made(kind: type[_Kind], given: Mapping[str, Any]) -> _Kind:
    names = {setting.name for setting in settings_of(kind)}
    return kind(**{name: value for name, value in given.items() if name in names})
