"""What ``serve`` is told by flags and by the environment: each setting by both, a flag first."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.process import options
from durable_streams.process.options import StartError
from durable_streams.settings import (
    AccessSettings,
    Durability,
    HttpSettings,
    ProcessSettings,
    Settings,
)
from durable_streams.wire.caching import kept_s

if TYPE_CHECKING:
    from durable_streams.model.setting import Setting

ALL = [pytest.param(setting, id=setting.name) for setting in options.known()]
FLAGS = [pytest.param(setting, id=setting.name) for setting in options.known() if setting.has_flag]

JWTS = {"jwt_audience": "us", "jwt_issuer": "them"}
BESIDE: dict[str, dict[str, str]] = {
    "signing_keys": {"tokens": "tokens.toml"},
    "jwt_secret": JWTS,
    "jwt_public_key": JWTS,
    "jwt_jwks": JWTS,
}
"""What a setting needs beside it."""


def parsed(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    options.add_flags(parser)
    return vars(parser.parse_args(arguments))


def value_of(kinds: options.Given, setting: Setting) -> Any:
    (found,) = [getattr(kind, setting.name) for kind in kinds if hasattr(kind, setting.name)]
    return found


def other_than_default(setting: Setting) -> tuple[str, Any]:
    """A text that will do, and its value, which is not the default."""
    if setting.name == "prefix":
        return "/other/", "/other"
    if setting.name == "metrics_listen":
        return "127.0.0.1:9464", "127.0.0.1:9464"
    if setting.name == "max_streams":
        return "one=1, =2", ("one=1", "=2")
    if setting.kind is tuple:
        return "one, other", ("one", "other")
    if setting.kind is bool:
        return str(not setting.default).lower(), not setting.default
    if setting.texts:
        return setting.texts[1], setting.kind(setting.texts[1])
    if setting.kind is float:
        more = setting.default + 0.5
        other = more if setting.is_within(more) else setting.default - 0.5
        return f"{other}", other
    if setting.name == "immutable_max_age_s":  # more of it takes more of another
        return f"{setting.default - 1}", setting.default - 1
    if setting.kind is int:
        return f"{setting.default + 1}", setting.default + 1
    return "other", "other"


def test_what_nobody_gives_is_the_default() -> None:
    assert parsed() == {}
    assert options.settings({}, {"PATH": "/bin"}) == (
        ProcessSettings(),
        Settings(),
        HttpSettings(),
        AccessSettings(),
    )


@pytest.mark.parametrize("setting", ALL)
def test_each_setting_is_taken_from_the_environment(setting: Setting) -> None:
    text, value = other_than_default(setting)
    kinds = options.settings(BESIDE.get(setting.name, {}), {setting.variable: text})
    assert value_of(kinds, setting) == value


@pytest.mark.parametrize("setting", [one for one in FLAGS if one.id != "host"])
def test_a_flag_wins_over_the_environment(setting: Setting) -> None:
    text, value = other_than_default(setting)
    if setting.kind is bool:
        default = setting.flag if setting.default else setting.flag.replace("--", "--no-", 1)
        flags = parsed(default)
    else:
        flags = parsed(setting.flag, setting.default_text.partition(",")[0])
    assert value_of(options.settings(flags, {}), setting) == setting.default
    environment = {setting.variable: text}
    beside = BESIDE.get(setting.name, {})
    assert value_of(options.settings(beside, environment), setting) == value
    assert value_of(options.settings(beside | flags, environment), setting) == setting.default


def test_help_says_defaults_only_of_settings_that_have_one() -> None:
    parser = argparse.ArgumentParser()
    options.add_flags(parser)
    helped = {action.dest: str(action.help) for action in parser._actions}
    for setting in options.known():
        if setting.has_flag:
            told = f"(default: {setting.default_text})"
            assert (told in helped[setting.name]) == bool(setting.default_text), setting.name
            assert "(default: )" not in helped[setting.name]


def test_hosts_of_flags_replace_those_of_the_environment_and_an_empty_one_is_refused() -> None:
    environment = {"DURABLE_STREAMS_HOST": "127.0.0.1,::1"}
    assert options.settings({}, environment).process.host == ("127.0.0.1", "::1")
    flags = parsed("--host", "127.0.0.2", "--host=::1")
    assert options.settings(flags, environment).process.host == ("127.0.0.2", "::1")
    for text in ("", " , "):
        with pytest.raises(StartError, match="names no host: give an address of this machine"):
            options.settings({}, {"DURABLE_STREAMS_HOST": text or ","})
        with pytest.raises(argparse.ArgumentError, match="names no host"):
            parsed("--host", text)


@pytest.mark.parametrize("setting", FLAGS)
def test_a_flag_is_read_as_the_environment_is(setting: Setting) -> None:
    text, value = other_than_default(setting)
    if setting.kind is bool:
        flag = setting.flag if value else setting.flag.replace("--", "--no-", 1)
        flags = parsed(flag)
    else:
        flags = parsed(f"{setting.flag}={text}")
    # One that may come again is a list so far.
    assert flags == {setting.name: list(value) if setting.kind is tuple else value}


def may_be_any_text(setting: Setting) -> bool:
    free = setting.kind in (str, tuple) and not setting.texts
    return free and setting.name != "prefix"


BOUNDED = [
    pytest.param(setting, id=setting.name)
    for setting in options.known()
    if not may_be_any_text(setting)
]


@pytest.mark.parametrize("setting", BOUNDED)
def test_a_value_that_cannot_be_is_refused_by_its_name_in_the_environment(setting: Setting) -> None:
    texts = ["1k", "-1", "TRUE", "nan"]
    if not setting.infinite:
        texts.append("inf")
    for text in texts:
        with pytest.raises(StartError, match=f"^{setting.variable}: {text!r} .*: give "):
            options.settings({}, {setting.variable: text})


@pytest.mark.parametrize("setting", ALL)
def test_an_empty_variable_is_refused_by_its_name(setting: Setting) -> None:
    with pytest.raises(StartError, match=f"^{setting.variable} is empty"):
        options.settings({}, {setting.variable: ""})


def test_a_value_that_cannot_be_is_refused_although_a_flag_says_another() -> None:
    with pytest.raises(StartError, match=r"^DURABLE_STREAMS_PORT: 'x' is not a port"):
        options.settings(parsed("--port", "1"), {"DURABLE_STREAMS_PORT": "x"})


def test_a_write_may_be_held_up_for_ever() -> None:
    settings = options.settings({}, {"DURABLE_STREAMS_HELD_UP_S": "inf"}).store
    assert settings.held_up_s == math.inf


def test_journal_files_have_room_for_the_largest_append_unless_their_size_is_given() -> None:
    large = {"DURABLE_STREAMS_MAX_APPEND_BYTES": str(100 << 20)}
    settings = options.settings({}, large).store
    assert settings.journal_file_bytes == 201 << 20
    small = {"DURABLE_STREAMS_MAX_APPEND_BYTES": "1"}
    assert options.settings({}, small).store.journal_file_bytes == Settings().journal_file_bytes
    with pytest.raises(StartError, match=r"^journal_file_bytes: "):
        options.settings({}, large | {"DURABLE_STREAMS_JOURNAL_FILE_BYTES": str(64 << 20)})


def test_what_kubernetes_says_of_a_service_of_our_name_is_passed_over() -> None:
    said = {
        "DURABLE_STREAMS_PORT": "tcp://10.0.0.7:4437",
        "DURABLE_STREAMS_PORT_4437_TCP": "tcp://10.0.0.7:4437",
        "DURABLE_STREAMS_PORT_4437_TCP_ADDR": "10.0.0.7",
        "DURABLE_STREAMS_PORT_4437_TCP_PORT": "4437",
        "DURABLE_STREAMS_PORT_4437_TCP_PROTO": "tcp",
        "DURABLE_STREAMS_SERVICE_HOST": "10.0.0.7",
        "DURABLE_STREAMS_SERVICE_PORT": "4437",
        "DURABLE_STREAMS_SERVICE_PORT_HTTP": "4437",
    }
    assert options.settings({}, said).process.port == ProcessSettings().port
    (told,) = options.unknown_in(said)
    assert told.startswith(f"{', '.join(sorted(said))}: passed over")
    assert "Kubernetes" in told
    assert "enableServiceLinks" in told
    assert len(options.unknown_in(said | {"DURABLE_STREAMS_PORTS_4437_TCP": ""})) == 2


def test_caches_are_promised_no_more_than_is_remembered() -> None:
    said = {"DURABLE_STREAMS_IMMUTABLE_MAX_AGE_S": "3600"}
    least_s = kept_s(3600)
    with pytest.raises(StartError, match=f"REMEMBER_REMOVED_S has to be at least {least_s}, not"):
        options.settings({}, said)
    enough = said | {"DURABLE_STREAMS_REMEMBER_REMOVED_S": str(least_s)}
    settings = options.settings({}, enough).store
    assert settings.remember_removed_s == least_s


def test_names_of_no_setting_are_told_with_the_one_that_is_near() -> None:
    environment = {
        "DURABLE_STREAMS_PROT": "1",
        "DURABLE_STREAMS_SSE_LIFETIME": "1",
        "DURABLE_STREAMS_PORT": "1",
        "DURABLE_STREAM_PORT": "1",
        "PORT": "1",
    }
    first, second = options.unknown_in(environment)
    assert first.startswith("DURABLE_STREAMS_PROT in the environment is no setting")
    assert "is it DURABLE_STREAMS_PORT that" in first
    assert "is it DURABLE_STREAMS_SSE_LIFETIME_S that" in second


def test_the_environment_makes_a_mode_of_its_text() -> None:
    settings = options.settings({}, {"DURABLE_STREAMS_DURABILITY": "none"}).store
    assert settings.durability is Durability.NONE
