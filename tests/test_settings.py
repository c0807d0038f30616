"""Settings: what is of another type, or cannot work, is refused by name."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from durable_streams import Durability, HttpSettings, Settings

BOTH = (Settings, HttpSettings)
ALL = [(kind, field.name) for kind in BOTH for field in fields(kind)]
WRONG: dict[type, list[Any]] = {
    int: ["1", 1.5, None, True, b"1"],
    float: ["1", None, True, 1j],
    bool: [0, 1, "false", None],
    str: [b"/a", None, 1],
    Durability: [1, None, b"fsync", True],
}


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_setting_of_another_type_is_refused_by_name(
    kind: type[Settings | HttpSettings], name: str
) -> None:
    for value in WRONG[type(getattr(kind(), name))]:
        with pytest.raises(TypeError, match=name):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_number_that_cannot_be_is_refused_by_name(
    kind: type[Settings | HttpSettings], name: str
) -> None:
    default = getattr(kind(), name)
    impossible: dict[type, list[Any]] = {int: [-1], float: [-1.0, -1, math.nan, math.inf]}
    for value in impossible.get(type(default), []):
        if (name, value) == ("held_up_s", math.inf):
            continue
        with pytest.raises(ValueError, match=r"must"):
            kind(**{name: value})


@pytest.mark.parametrize("mode", Durability)
def test_the_text_of_a_mode_is_the_mode(mode: Durability) -> None:
    assert Settings(durability=mode.value).durability is mode  # type: ignore[arg-type]


def test_an_unknown_mode_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'fsync', 'interval', 'none', not 'FSYNC'"):
        Settings(durability="FSYNC")  # type: ignore[arg-type]


def test_writes_may_be_held_up_for_as_long_as_it_takes() -> None:
    assert Settings(held_up_s=math.inf).held_up_s == math.inf


def test_whole_seconds_are_seconds() -> None:
    assert Settings(max_lag_s=1).max_lag_s == 1
