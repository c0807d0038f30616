"""Settings: each is stated once; what is of another type, or cannot work, is refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from durable_streams import AccessSettings, Durability, HttpSettings, Settings
from durable_streams.model.setting import Setting, settings_of
from durable_streams.settings import ProcessSettings

Kind = type[Settings | HttpSettings | AccessSettings | ProcessSettings]
KINDS: tuple[Kind, ...] = (Settings, HttpSettings, AccessSettings, ProcessSettings)
ALL = [
    pytest.param(kind, setting, id=setting.name) for kind in KINDS for setting in settings_of(kind)
]
WRONG: dict[type, list[Any]] = {
    int: ["1", 1.5, None, True, b"1"],
    float: ["1", None, True, 1j],
    bool: [0, 1, "false", None],
    str: [b"/a", None, 1],
    Durability: [1, None, b"fsync", True],
    tuple: ["a", None, ("a", 1), 1, {"a"}],
}


@pytest.mark.parametrize(("kind", "setting"), ALL)
def test_a_setting_of_another_type_is_refused_by_name(kind: Kind, setting: Setting) -> None:
    for value in WRONG[setting.kind]:
        with pytest.raises(TypeError, match=setting.name):
            kind(**{setting.name: value})


@pytest.mark.parametrize(("kind", "setting"), ALL)
def test_a_number_out_of_its_bounds_is_refused_by_name(kind: Kind, setting: Setting) -> None:
    impossible: dict[type, list[Any]] = {
        int: [setting.least - 1, -(10**30)],
        float: [-1.0, -1, math.nan, -math.inf],
    }
    values = impossible.get(setting.kind, [])
    if setting.above is not None:
        values.append(setting.above)
    if setting.most is not None:
        values.append(setting.most + 1)
    if setting.kind is float and not setting.infinite:
        values.append(math.inf)
    for value in values:
        with pytest.raises(ValueError, match=rf"{setting.name} must be .* not "):
            kind(**{setting.name: value})


@pytest.mark.parametrize(("kind", "setting"), ALL)
def test_the_default_and_what_is_at_a_bound_will_do(kind: Kind, setting: Setting) -> None:
    values = [setting.default]
    if setting.kind is int and setting.name != "journal_file_bytes":  # which others bound as well
        values.append(setting.least)
    if setting.most is not None:
        values.append(setting.most)
    for value in values:
        assert getattr(kind(**{setting.name: value}), setting.name) == value


def test_names_are_those_of_one_setting_and_say_the_unit() -> None:
    every = [setting for kind in KINDS for setting in settings_of(kind)]
    assert len({setting.name for setting in every}) == len(every)
    assert len({setting.flag for setting in every}) == len(every)
    times = [setting for setting in every if setting.kind is float and setting.most != 1]
    assert all(setting.name.endswith("_s") for setting in times)
    assert all(setting.kind is int for setting in every if setting.name.endswith("_bytes"))


@pytest.mark.parametrize(("kind", "setting"), ALL)
def test_what_is_said_of_a_setting_can_stand_in_help_and_in_the_documentation(
    kind: Kind, setting: Setting
) -> None:
    assert setting.help
    assert not setting.help.endswith(".")
    assert not setting.help[0].isupper() or setting.help.startswith("URL"), kind
    assert not setting.more or setting.more.endswith(".")


@pytest.mark.parametrize("mode", Durability)
def test_the_text_of_a_mode_is_the_mode(mode: Durability) -> None:
    assert Settings(durability=mode.value).durability is mode  # type: ignore[arg-type]


def test_an_unknown_mode_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'fsync', 'interval', 'none', not 'FSYNC'"):
        Settings(durability="FSYNC")  # type: ignore[arg-type]


def test_an_unknown_event_loop_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"loop must be one of 'auto', 'uvloop', 'asyncio'"):
        ProcessSettings(loop="trio")


def test_a_journal_file_holds_the_largest_append_twice() -> None:
    with pytest.raises(ValueError, match="journal_file_bytes"):
        Settings(max_append_bytes=100, journal_file_bytes=1 << 20)
    least = (1 << 20) + 200
    assert Settings(max_append_bytes=100, journal_file_bytes=least).journal_file_bytes == least


def test_writes_may_be_held_up_for_as_long_as_it_takes() -> None:
    assert Settings(held_up_s=math.inf).held_up_s == math.inf


def test_whole_seconds_are_seconds() -> None:
    assert Settings(max_lag_s=1).max_lag_s == 1


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"signing_keys": "k"}, "needs tokens"),
        ({"jwt_secret": "s"}, "jwt_audience"),
        ({"jwt_jwks": "https://a", "jwt_audience": "us"}, "jwt_issuer"),
        ({"jwt_secret": "s", "jwt_jwks": "https://a", "jwt_audience": "us"}, "give one of"),
    ],
)
def test_access_that_is_half_said_is_refused(given: dict[str, str], missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        AccessSettings(**given)  # type: ignore[arg-type] # all are texts


def test_without_any_credentials_nobody_has_to_say_who_they_are() -> None:
    assert not AccessSettings().is_on
    assert AccessSettings(tokens="t").is_on
    assert AccessSettings(jwt_secret="s", jwt_audience="us").is_on
